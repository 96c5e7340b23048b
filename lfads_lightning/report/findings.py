"""What a user should know of a run before trusting it, and what to try; from plain numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.commands import program
from lfads_lightning.config import Config
from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.posterior import Posterior
from lfads_lightning.report.curves import Columns
from lfads_lightning.training.watch import LEAST_SHARE, REMEDY

ALIKE = 0.05  # rates that vary less over trials, as a share of their mean, are those of one trial
FEW_BITS = 0.005  # bits/spike of a model that learned nothing
LEAST_OF_TRUTH = 0.2  # share of the true rates' bits/spike
IDLE_NATS = 0.5  # per trial; an input that says less says nothing
OF_DATA = ("silent", "few_trials", "few_valid", "underfit", "unused_inputs", "saturated")
FEW_TRIALS, FEW_VALID = 50, 10
SATURATED = 0.01  # share of states at the clamp
AT_CLAMP = 0.999


class Finding(NamedTuple):
    """One thing to know.

    Attributes:
        key: a short name that stays the same.
        title: what is the matter.
        text: how it shows, in numbers.
        remedy: what to try.
    """

    key: str
    title: str
    text: str
    remedy: str


def of_run(
    config: Config,
    scores: Mapping[str, Any],
    columns: Columns,
) -> list[Finding]:
    """Return what the numbers of a run say, its data apart.

    Args:
        config: all parameters.
        scores: of scores.json.
        columns: of metrics.csv.
    """
    found = [
        _copying(scores),
        _not_finite(columns),
        _rate_stopped(config, columns),
        _still_falling(config, columns),
        _overfitted(columns),
    ]
    return [f for f in found if f is not None]


def of_data(sessions: Sequence[Session]) -> list[Finding]:
    """Return what the data say: silent neurons, few trials."""
    found = []
    for s in sessions:
        silent = np.flatnonzero(~s.train.data.any(axis=(0, 1)))
        if len(silent):
            some = ", ".join(map(str, silent[:8])) + (" …" if len(silent) > 8 else "")
            found.append(
                Finding(
                    "silent",
                    f"Silent neurons in {s.name}",
                    f"{len(silent)} of {s.data_dim} neurons have no spike in the training trials "
                    f"({some}, counted from 0).",
                    "Leave them out: they teach the model nothing, and count in averages over "
                    "neurons.",
                )
            )
    n_train = sum(len(s.train.data) for s in sessions)
    n_valid = sum(0 if s.valid is None else len(s.valid.data) for s in sessions)
    if n_train < FEW_TRIALS:
        found.append(
            Finding(
                "few_trials",
                "Few trials",
                f"There are {n_train} training trials in all.",
                "Cut a continuous recording into more, overlapping or shorter trials; stitch "
                "sessions; use a smaller network (model=small), more dropout (model.keep_prob) and "
                "data.coordinated_dropout_rate.",
            )
        )
    if 0 < n_valid < FEW_VALID:
        found.append(
            Finding(
                "few_valid",
                "Few validation trials",
                f"Validation scores are means over {n_valid} trials, and will be noisy.",
                "Hold out more trials, a fifth of all say; compare settings over several seeds.",
            )
        )
    return found


def of_posterior(
    config: Config,
    scores: Mapping[str, Any],
    posteriors: Mapping[str, Posterior],
    columns: Columns,
    input_sd: np.ndarray | None,
) -> list[Finding]:
    """Return what the inferred quantities say.

    Args:
        config: all parameters.
        scores: of scores.json.
        posteriors: of the scored trials, by session; posterior means pushed through.
        columns: of metrics.csv.
        input_sd: (n, T, U) standard deviations of inferred inputs over posterior samples, or None.
    """
    found = [
        _underfit(config, scores, posteriors, columns),
        *_unused(config, posteriors, columns, input_sd),
        _saturated(config, posteriors),
    ]
    return [f for f in found if f is not None]


def copying(message: str) -> Finding:
    """Return what the check on hidden entries found, as a finding."""
    text = message.removeprefix("the model copies the spikes it sees: ")
    text = text.removesuffix(f"; {REMEDY}").rstrip(".")
    return Finding(
        "copying",
        "The model copies the spikes it sees",
        f"{text[:1].upper()}{text[1:]}. The rates follow single spikes: trust neither them nor the "
        "validation cost.",
        f"{REMEDY[0].upper()}{REMEDY[1:]}.",
    )


def _copying(scores: Mapping[str, Any]) -> Finding | None:
    """Find copying in the scores alone, without error bars: only where it is plain."""
    seen, hidden = (_score(scores, f"{part}_bits_per_spike") for part in ("seen", "hidden"))
    if not seen > 0.02 or not hidden < 0.5 * LEAST_SHARE * seen:
        return None
    return copying(
        f"the model explains {seen:.3f} bits/spike of the entries it was shown, {hidden:.3f} of "
        "those hidden from it"
    )


def _underfit(
    config: Config,
    scores: Mapping[str, Any],
    posteriors: Mapping[str, Posterior],
    columns: Columns,
) -> Finding | None:
    moved = np.concatenate([variation(p.rates) for p in posteriors.values()])
    share = float(np.median(moved)) if len(moved) else math.nan
    bits = _score(scores, "bits_per_spike")
    truth = _score(scores, "truth_bits_per_spike")
    alike = share < ALIKE and config.model.output_dist.name == "poisson"
    poor = bits < max(FEW_BITS, LEAST_OF_TRUTH * truth if math.isfinite(truth) else 0.0)
    if not alike and not poor:
        return None
    parts = [f"Over trials the rates vary by {100 * share:.1f} % of their mean (median neuron)"]
    if math.isfinite(bits):
        known = f", the true rates {truth:.3f}" if math.isfinite(truth) else ""
        parts.append(f"they explain {bits:.3f} bits/spike more than constant rates{known}")
    kl = _last(columns, "kl_ic") + _last(columns, "kl_co")
    if math.isfinite(kl):
        parts.append(f"the KL terms stand at {kl:.3g} nats per trial")
    loss = config.loss
    return Finding(
        "underfit",
        "The model is underfit: it says nearly the same of every trial"
        if alike
        else "The model is underfit: it explains little of the spikes",
        "; ".join(parts) + ".",
        f"Weaker KL: loss.kl_ic_weight (now {loss.kl_ic_weight:g}) and loss.kl_co_weight (now "
        f"{loss.kl_co_weight:g}) of 1 or less, longer ramps (loss.kl_increase_steps); less L2; "
        "more epochs; check that the learning rate is not too small.",
    )


def variation(rates: np.ndarray) -> np.ndarray:
    """Return each neuron's standard deviation over trials as a share of its mean rate, (D,).

    The deviation is taken within each bin, and its square averaged over bins; neurons without rate
    are left out.

    Args:
        rates: (E, T, D).
    """
    rates = rates.astype(np.float64)
    mean = rates.mean((0, 1))
    sd = np.sqrt(rates.var(0).mean(0))
    moves = mean > 1e-9
    return sd[moves] / mean[moves]


def _unused(
    config: Config,
    posteriors: Mapping[str, Posterior],
    columns: Columns,
    input_sd: np.ndarray | None,
) -> list[Finding]:
    found = []
    inputs = [p.controller_outputs for p in posteriors.values() if p.controller_outputs is not None]
    if inputs and input_sd is not None:
        used = used_share(np.concatenate(inputs), input_sd)
        # independent bins that each explain this share would say as much, and others less
        nats = -0.5 * input_sd.shape[1] * np.log1p(-np.minimum(used, 1 - 1e-12))
        idle = np.flatnonzero(nats < IDLE_NATS)
        if len(idle):
            all_of_them = len(idle) == config.model.co_dim
            fewer = config.model.co_dim - len(idle)
            found.append(
                Finding(
                    "unused_inputs",
                    f"{len(idle)} of {config.model.co_dim} inferred inputs carry nothing",
                    f"The posterior of input {', '.join(map(str, idle))} has collapsed to the "
                    f"prior: {100 * used[idle].max():.1g} % of its variance at most comes from "
                    "the data.",
                    f"If no input is expected, set model.co_dim={fewer}"
                    + (
                        "; else a smaller loss.kl_co_weight, or a longer ramp."
                        if all_of_them
                        else ": the others do the work."
                    ),
                )
            )
    weight = config.loss.kl_ic_weight
    kl_ic = _last(columns, "kl_ic") / weight if weight > 0 else math.nan
    if config.model.ic_dim > 0 and kl_ic < 0.01:
        found.append(
            Finding(
                "unused_ic",
                "The initial conditions carry nothing",
                f"Their divergence from the prior is {kl_ic:.2g} nats per trial: all trials start "
                "from the same state.",
                "A smaller loss.kl_ic_weight or a longer ramp; where trials do start alike and "
                "inputs make the difference, model.ic_dim=0 says so.",
            )
        )
    return found


def used_share(means: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return the share of each inferred input's variance that lies in its posterior means, (U,).

    var(mean) / (var(mean) + mean of sd^2): 0 where the posterior is always the same.

    Args:
        means: (E, T, U) posterior means.
        sd: (n, T, U) posterior standard deviations.
    """
    explained = means.astype(np.float64).var((0, 1))
    rest = np.square(sd.astype(np.float64)).mean((0, 1))
    return explained / np.maximum(explained + rest, 1e-300)


def _saturated(config: Config, posteriors: Mapping[str, Posterior]) -> Finding | None:
    clip = config.model.cell_clip_value
    shares = [float((np.abs(p.gen_states) >= AT_CLAMP * clip).mean()) for p in posteriors.values()]
    high = math.exp(min(AT_CLAMP * config.model._clip_value, 700))
    tops = [float(p.rates.max()) for p in posteriors.values()]
    if max(shares) > SATURATED:
        return Finding(
            "saturated",
            "The generator's states are clamped",
            f"{100 * max(shares):.1f} % of them stand at ±{clip:g} (model.cell_clip_value), where "
            "gradients end.",
            "More L2 on the generator (loss.l2_gen_scale), a smaller learning rate; a larger "
            "model.cell_clip_value only if the states are meant to be that large.",
        )
    if config.model.output_dist.name == "poisson" and max(tops) >= high:
        return Finding(
            "saturated",
            "Log-rates are clamped",
            f"Some reach +{config.model._clip_value:g} (model._clip_value).",
            "A smaller learning rate and more L2: such rates are no rates of neurons.",
        )
    return None


def _not_finite(columns: Columns) -> Finding | None:
    costs = columns.get("train/total", np.zeros(0))
    bad = np.flatnonzero(~np.isfinite(costs))
    if len(bad) == 0:
        return None
    return Finding(
        "not_finite",
        "The cost was not finite",
        f"In {len(bad)} of {len(costs)} epochs, first in epoch {columns['epoch'][bad[0]]:.0f}.",
        "A smaller optim.learning_rate_init and optim.max_grad_norm; look for outliers in the"
        " data.",
    )


def _rate_stopped(config: Config, columns: Columns) -> Finding | None:
    """Find a training that its learning rate ended within a ramp, or while it improved."""
    if not len(columns.get("lr", ())):
        return None
    optim, rate = config.optim, columns["lr"][-1]
    if rate * optim.learning_rate_decay_factor >= optim.learning_rate_stop:
        return None
    in_ramp = columns["ramp/kl"][-1] < 1
    if not in_ramp and not _improves(columns):
        return None
    when = "before the KL ramp was complete" if in_ramp else "while the cost still fell"
    return Finding(
        "rate_stopped",
        "The learning rate ended training early",
        f"It fell to {rate:.2g} after {len(columns['lr'])} epochs, {when}.",
        "A slower decay: optim.learning_rate_decay_factor nearer to 1, a larger "
        "optim.learning_rate_n_to_compare; where the cost jumps, a smaller "
        "optim.learning_rate_init.",
    )


def _still_falling(config: Config, columns: Columns) -> Finding | None:
    wanted = config.trainer.max_epochs
    if wanted is None or not len(columns.get("epoch", ())):
        return None
    in_ramp = columns["ramp/kl"][-1] < 1 or (
        columns["ramp/l2"][-1] < 1 and max(config.loss.l2_gen_scale, config.loss.l2_con_scale) > 0
    )
    if columns["epoch"][-1] + 1 < wanted or not (in_ramp or _improves(columns)):
        return None
    return Finding(
        "still_falling",
        "Training ended too soon",
        f"trainer.max_epochs={wanted} was reached "
        + ("before the ramps were complete." if in_ramp else "while the cost still fell."),
        f"More epochs: {program()} output.lfads_save_dir=RUN trainer.max_epochs=… goes on with "
        "this run" + (", or shorter ramps (loss.kl_increase_steps)." if in_ramp else "."),
    )


def _improves(columns: Columns) -> bool:
    """Return whether the validation (else training) cost fell by 0.5 % in the last tenth."""
    name = "valid/recon" if "valid/recon" in columns else "train/recon"
    complete = columns["ramp/kl"] >= 1
    cost = columns[name][complete & np.isfinite(columns[name])]
    tenth = len(cost) // 10
    if tenth < 3:
        return False
    before, last = cost[-2 * tenth : -tenth].mean(), cost[-tenth:].mean()
    return bool(before - last > 0.005 * abs(before))


def _overfitted(columns: Columns) -> Finding | None:
    if "valid/total" not in columns:
        return None
    complete = (columns["ramp/kl"] >= 1) & (columns["ramp/l2"] >= 1)
    valid, epochs = columns["valid/total"][complete], columns["epoch"][complete]
    valid, epochs = valid[np.isfinite(valid)], epochs[np.isfinite(valid)]
    if len(valid) < 20:
        return None
    lowest = int(valid.argmin())
    rise = valid[-5:].mean() - valid[lowest]
    if lowest > 0.7 * len(valid) or rise < 0.01 * abs(valid[lowest]):
        return None
    return Finding(
        "overfitted",
        "The validation cost rose again",
        f"It was lowest in epoch {epochs[lowest]:.0f}, {valid[lowest]:.1f} nats per trial, and "
        f"{valid[-5:].mean():.1f} at the end. The weights of the lowest epoch are used.",
        "Less freedom: fewer units, a smaller model.keep_prob, more L2, "
        "data.coordinated_dropout_rate=0.3.",
    )


def _score(scores: Mapping[str, Any], name: str) -> float:
    for split in ("valid", "train"):
        value = scores.get(f"{split}/{name}")
        if isinstance(value, int | float):
            return float(value)
    return math.nan


def _last(columns: Columns, term: str) -> float:
    for split in ("valid", "train"):
        values = columns.get(f"{split}/{term}", np.zeros(0))
        if len(values) and math.isfinite(values[-1]):
            return float(values[-1])
    return math.nan
