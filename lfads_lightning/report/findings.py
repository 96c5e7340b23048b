"""The warnings of a report: what to know about a run before trusting it, and what to try."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.commands import program
from lfads_lightning.config import Config, Schedule
from lfads_lightning.data.sessions import Session
from lfads_lightning.evaluation.table import LFADS, MEANS, EvaluationTable, Rows, Verdict
from lfads_lightning.inference.posterior import Posterior
from lfads_lightning.metrics import bits, null_nll
from lfads_lightning.model.observations import from_name
from lfads_lightning.report.curves import Columns
from lfads_lightning.training.checkpoint_files import WITHIN_RAMPS
from lfads_lightning.training.copying import LEAST_SHARE, REMEDY

ALIKE = 0.05  # variation over trials, as a share of the mean, below which all trials are alike
FEW_BITS = 0.005  # bits/spike; a model below it learned nothing
LEAST_OF_TRUTH = 0.2  # share of the true rates' bits/spike
IDLE_NATS = 0.5  # per trial; an input below it is not used
# findings that need the data; kept from an earlier report if the data cannot be read
OF_DATA = (
    "silent",
    "few_trials",
    "few_valid",
    "underfit",
    "unused_inputs",
    "saturated",
    "simple_ahead",
    "below_constant",
    "means_differ",
    "not_scored",
)
# findings that also apply to a constant rate, where they say less than that it is one
OF_STRUCTURE = (
    "simple_ahead",
    "below_constant",
    "means_differ",
    "overfitted",
    "underfit",
    "unused_inputs",
    "unused_ic",
)
BAD_BITS = 0.05  # bits/spike of training trials; a model that has not even learned these
FAR_APART = 0.1  # bits/spike by which training trials are explained better than validation trials
FEW_TRIALS, FEW_VALID = 50, 10
SATURATED = 0.01  # share of clamped states
AT_CLAMP = 0.999


class Finding(NamedTuple):
    """One warning.

    Attributes:
        key: a short name that does not change.
        title: the problem.
        text: the evidence, in numbers.
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
    sessions: Sequence[Session] = (),
) -> list[Finding]:
    """Return the findings from the numbers of a run.

    Args:
        config: all parameters.
        scores: content of scores.json.
        columns: columns of metrics.csv.
        sessions: the data, if they can be read: then costs are converted to bits per spike.
    """
    found = [
        _no_structure(scores),
        _copying(scores),
        _not_finite(columns),
        _rate_stopped(config, columns),
        _still_falling(config, columns),
        _overfitted(config, sessions, columns),
        _not_eligible(scores),
    ]
    return [f for f in found if f is not None]


def of_comparison(table: EvaluationTable, split: str) -> list[Finding]:
    """Return the findings from the comparison with simple methods.

    Args:
        table: table of the scores.
        split: train or valid.
    """
    found = [*_behind(table.verdict(split)), _means_differ(table.overall(split))]
    return [f for f in found if f is not None]


def _behind(verdict: Verdict | None) -> list[Finding]:
    if verdict is None or verdict.is_ahead:
        return []
    found = []
    remedy = (
        "Use the rates of the simple method until a model is better. Try recipe=auto without other "
        "settings, more trials, or several seeds, and see the other warnings."
    )
    if verdict.is_below_constant:
        found.append(
            Finding(
                "below_constant", "The model is worse than a constant rate", str(verdict), remedy
            )
        )
    return [*found, Finding("simple_ahead", "A simple method is better", str(verdict), remedy)]


def _means_differ(rows: Rows) -> Finding | None:
    ours, means = rows.get(LFADS, {}), rows.get(MEANS, {})
    metric = next((m for m in ("co_bps", "fp_bps", "bits_per_spike") if m in means), None)
    if metric is None:
        return None
    apart = abs(ours[metric] - means[metric])
    if not apart > max(0.02, 0.1 * abs(ours[metric])):
        return None
    return Finding(
        "means_differ",
        "Posterior means and samples differ",
        f"{metric} is {means[metric]:.3f} for rates at the posterior means, but {ours[metric]:.3f} "
        "for rates averaged over posterior samples, because the generator is nonlinear.",
        "Analyse averages over samples (kind=posterior_sample_and_average), not "
        "posterior_push_mean. Scores and figures in this report are averages over samples.",
    )


def not_scored(session: str, why: str) -> Finding:
    """Return the finding that a session's scores could not be computed."""
    return Finding(
        "not_scored",
        f"Session {session} could not be scored",
        f"{why}.",
        "The model and the other scores are not affected. lfads evaluate RUN tries again.",
    )


def _no_structure(scores: Mapping[str, Any]) -> Finding | None:
    if not isinstance(text := scores.get("no_structure"), str):
        return None
    return Finding(
        "no_structure",
        "The model found no structure in the recording",
        f"{text}.",
        "Train again with more trials, with neurons of higher rate, or with wider bins.",
    )


def _not_eligible(scores: Mapping[str, Any]) -> Finding | None:
    if scores.get("chosen_by") != WITHIN_RAMPS:
        return None
    return Finding(
        "not_eligible",
        "No epoch was eligible",
        "Training ended before the KL and L2 ramps were complete. The weights are those of the "
        "epoch with the lowest smoothed validation reconstruction cost.",
        "Use shorter ramps (loss.kl_increase_steps, loss.l2_increase_steps; they count updates, "
        "and with few trials an epoch has few updates), or a slower decay of the learning rate "
        "(optim.learning_rate_decay_factor closer to 1).",
    )


def of_data(sessions: Sequence[Session]) -> list[Finding]:
    """Return the findings from the data: silent neurons, few trials."""
    found = []
    for s in sessions:
        silent = np.flatnonzero(~s.train.data.any(axis=(0, 1)))
        if len(silent):
            some = ", ".join(map(str, silent[:8])) + (" …" if len(silent) > 8 else "")
            found.append(
                Finding(
                    "silent",
                    f"Silent neurons in {s.name}",
                    f"{len(silent)} of {s.data_dim} neurons have no spikes in the training trials "
                    f"({some}, counted from 0).",
                    "Leave them out: the model learns nothing from them, but they count in "
                    "averages over neurons.",
                )
            )
    n_train = sum(len(s.train.data) for s in sessions)
    n_valid = sum(0 if s.valid is None else len(s.valid.data) for s in sessions)
    if n_train < FEW_TRIALS:
        found.append(
            Finding(
                "few_trials",
                "Few trials",
                f"There are {n_train} training trials in total.",
                "Cut a continuous recording into shorter or overlapping trials, stitch sessions, "
                "or use a smaller network (model=small), more dropout (model.keep_prob) and "
                "data.coordinated_dropout_rate.",
            )
        )
    if 0 < n_valid < FEW_VALID:
        found.append(
            Finding(
                "few_valid",
                "Few validation trials",
                f"Validation scores are averages over only {n_valid} trials, and are noisy.",
                "Hold out more trials, for example a fifth, and compare settings over several "
                "seeds.",
            )
        )
    return found


def of_posterior(
    config: Config,
    scores: Mapping[str, Any],
    posteriors: Mapping[str, Posterior],
    sessions: Sequence[Session],
    columns: Columns,
) -> list[Finding]:
    """Return the findings from the inferred quantities.

    Args:
        config: all parameters.
        scores: content of scores.json.
        posteriors: averages over posterior samples for the scored trials, by session.
        sessions: the data.
        columns: columns of metrics.csv.
    """
    found = [
        _underfit(config, scores, posteriors, sessions, columns),
        *_unused(config, posteriors, columns),
        _saturated(config, posteriors),
    ]
    return [f for f in found if f is not None]


def copying(message: str) -> Finding:
    """Return the warning from the check on hidden entries as a finding."""
    text = message.removeprefix("the model copies the spikes it sees: ")
    text = text.removesuffix(f"; {REMEDY}").rstrip(".")
    return Finding(
        "copying",
        "The model copies the spikes it sees",
        f"{text[:1].upper()}{text[1:]}. The rates follow single spikes: do not trust them, nor the "
        "validation cost.",
        f"{REMEDY[0].upper()}{REMEDY[1:]}.",
    )


def _copying(scores: Mapping[str, Any]) -> Finding | None:
    """Find copying from the scores alone; without error bars, only if it is obvious."""
    seen, hidden = (_score(scores, f"{part}_bits_per_spike") for part in ("seen", "hidden"))
    if not seen > 0.02 or not hidden < 0.5 * LEAST_SHARE * seen:
        return None
    return copying(
        f"the model explains {seen:.3f} bits/spike of the entries it was shown, but {hidden:.3f} "
        "of those hidden from it"
    )


def _underfit(
    config: Config,
    scores: Mapping[str, Any],
    posteriors: Mapping[str, Posterior],
    sessions: Sequence[Session],
    columns: Columns,
) -> Finding | None:
    moved = np.concatenate([variation(p.rates) for p in posteriors.values()])
    share = float(np.median(moved)) if len(moved) else math.nan
    bits = _score(scores, "bits_per_spike")
    truth = _score(scores, "truth_bits_per_spike")
    alike = share < ALIKE and config.model.output_dist.is_counts
    poor = bits < max(FEW_BITS, LEAST_OF_TRUTH * truth if math.isfinite(truth) else 0.0)
    # a model that explains the training trials well has learned too much of them, not too little
    trained = bits_of_training(config, sessions, columns)
    learned = trained >= max(BAD_BITS, LEAST_OF_TRUTH * truth if math.isfinite(truth) else 0.0)
    if learned or not (alike or poor):
        return None
    parts = [f"Across trials, rates vary by {100 * share:.1f} % of their mean (median neuron)"]
    if math.isfinite(bits):
        known = f", the true rates {truth:.3f}" if math.isfinite(truth) else ""
        parts.append(f"they gain {bits:.3f} bits/spike over constant rates{known}")
    kl = _last(columns, "kl_ic") + _last(columns, "kl_co")
    if math.isfinite(kl):
        parts.append(f"the KL terms are {kl:.3g} nats per trial")
    loss = config.loss
    return Finding(
        "underfit",
        "The model underfits: its rates are nearly the same in every trial"
        if alike
        else "The model underfits: it explains little of the spikes",
        "; ".join(parts) + ".",
        f"Reduce the KL terms: loss.kl_ic_weight (now {loss.kl_ic_weight:g}) and loss.kl_co_weight "
        f"(now {loss.kl_co_weight:g}) of 1 or less, longer ramps (loss.kl_increase_steps). Or use "
        "less L2 or more epochs, and check that the learning rate is not too small.",
    )


def variation(rates: np.ndarray) -> np.ndarray:
    """Return each neuron's standard deviation over trials as a share of its mean rate, (D,).

    The deviation is computed in each bin, and its square averaged over bins; neurons with rate 0
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
) -> list[Finding]:
    found = []
    inputs = [
        (p.controller_outputs, p.controller_outputs_sd)
        for p in posteriors.values()
        if p.controller_outputs is not None and p.controller_outputs_sd is not None
    ]
    if inputs:
        means, sd = (np.concatenate(arrays) for arrays in zip(*inputs, strict=True))
        used = used_share(means, sd, config.sampling.num_score_samples)
        # the KL that independent bins would have if each explained this share
        nats = -0.5 * sd.shape[1] * np.log1p(-np.minimum(used, 1 - 1e-12))
        idle = np.flatnonzero(nats < IDLE_NATS)
        if len(idle):
            all_of_them = len(idle) == config.model.co_dim
            fewer = config.model.co_dim - len(idle)
            found.append(
                Finding(
                    "unused_inputs",
                    f"{len(idle)} of {config.model.co_dim} inferred inputs are not used",
                    f"The posterior of input {', '.join(map(str, idle))} has collapsed to the "
                    f"prior: at most {100 * used[idle].max():.1g} % of its variance comes from "
                    "the data.",
                    f"If you expect no input, set model.co_dim={fewer}"
                    + (
                        "; if you do, use a smaller loss.kl_co_weight or a longer ramp."
                        if all_of_them
                        else "; the other inputs suffice."
                    ),
                )
            )
    weight = config.loss.kl_ic_weight
    kl_ic = _last(columns, "kl_ic") / weight if weight > 0 else math.nan
    if config.model.ic_dim > 0 and kl_ic < 0.01:
        found.append(
            Finding(
                "unused_ic",
                "The initial conditions are not used",
                f"Their divergence from the prior is {kl_ic:.2g} nats per trial: all trials start "
                "from the same state.",
                "Use a smaller loss.kl_ic_weight or a longer ramp. If all trials do start from the "
                "same state and differ by their inputs, set model.ic_dim=0.",
            )
        )
    return found


def used_share(means: np.ndarray, sd: np.ndarray, num_samples: int) -> np.ndarray:
    """Return the share of each inferred input's variance that is in its posterior means, (U,).

    var(mean) / (var(mean) + mean of sd^2): 0 if the posterior is always the same.

    Args:
        means: (E, T, U) posterior means, or averages over samples.
        sd: (E, T, U) posterior standard deviations.
        num_samples: number of averaged samples; 0 for posterior means. The variance sd^2 / n of the
            averages is subtracted.
    """
    explained = means.astype(np.float64).var((0, 1))
    rest = np.square(sd.astype(np.float64)).mean((0, 1))
    if num_samples:
        explained = np.maximum(explained - rest / num_samples, 0)
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
            f"{100 * max(shares):.1f} % of them are at ±{clip:g} (model.cell_clip_value), where "
            "the gradient is 0.",
            "Use more L2 on the generator (loss.l2_gen_scale) or a smaller learning rate; use a "
            "larger model.cell_clip_value only if you expect states that large.",
        )
    if config.model.output_dist.is_counts and max(tops) >= high:
        return Finding(
            "saturated",
            "Log-rates are clamped",
            f"Some reach +{config.model._clip_value:g} (model._clip_value).",
            "Use a smaller learning rate and more L2: neurons do not have such rates.",
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
        "Use a smaller optim.learning_rate_init and optim.max_grad_norm, and look for outliers in "
        "the data.",
    )


def _rate_stopped(config: Config, columns: Columns) -> Finding | None:
    """Find training that the learning rate ended within a ramp, or while it still improved."""
    if not len(columns.get("lr", ())):
        return None
    optim, rate = config.optim, columns["lr"][-1]
    if (
        optim.schedule is not Schedule.original
        or rate * optim.learning_rate_decay_factor >= optim.learning_rate_stop
    ):
        return None
    in_ramp = columns["ramp/kl"][-1] < 1
    if not in_ramp and not _improves(columns):
        return None
    when = "before the KL ramp was complete" if in_ramp else "while the cost still fell"
    return Finding(
        "rate_stopped",
        "Training ended early because the learning rate was low",
        f"It fell to {rate:.2g} after {len(columns['lr'])} epochs, {when}.",
        "Let it decay more slowly: optim.learning_rate_decay_factor closer to 1, a larger "
        "optim.learning_rate_n_to_compare. If the cost jumps, use a smaller "
        "optim.learning_rate_init.",
    )


def _still_falling(config: Config, columns: Columns) -> Finding | None:
    wanted = config.trainer.max_epochs
    if wanted is None or not len(columns.get("epoch", ())):
        return None
    loss = config.loss
    penalties = loss.l2_gen_scale, loss.l2_con_scale, loss.l2_readout_scale
    in_ramp = columns["ramp/kl"][-1] < 1 or (columns["ramp/l2"][-1] < 1 and max(penalties) > 0)
    if columns["epoch"][-1] + 1 < wanted or not (in_ramp or _improves(columns)):
        return None
    return Finding(
        "still_falling",
        "Training ended too soon",
        f"trainer.max_epochs={wanted} was reached "
        + ("before the ramps were complete." if in_ramp else "while the cost still fell."),
        f"Continue the run for more epochs: {program()} output.lfads_save_dir=RUN "
        "trainer.max_epochs=…"
        + (", or use shorter ramps (loss.kl_increase_steps)." if in_ramp else "."),  # fmt: skip
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


def bits_of_training(
    config: Config, sessions: Sequence[Session], columns: Columns, split: str = "train"
) -> float:
    """Convert the last epoch's reconstruction cost of a split to bits per spike.

    The null model is each neuron's mean. NaN if the cost is not a Poisson likelihood of counts, or
    nothing is logged.
    """
    recon = _last_of(columns, f"{split}/recon")
    splits = [s.splits[split] for s in sessions if split in s.splits]
    comparable = from_name(config.model.output_dist).nll_is_poisson
    if not comparable or not math.isfinite(recon) or not splits:
        return math.nan
    n_trials = sum(len(s.data) for s in splits)
    spikes = sum(float(s.data.sum(dtype=np.float64)) for s in splits)
    null = sum(null_nll(s.known) for s in splits)
    return bits(null / n_trials - recon, spikes / n_trials)


def _overfitted(config: Config, sessions: Sequence[Session], columns: Columns) -> Finding | None:
    """Find training that fitted only its own trials from some epoch on."""
    if "valid/recon" not in columns:
        return None
    known = np.isfinite(columns["valid/recon"])
    valid, epochs = columns["valid/recon"][known], columns["epoch"][known]
    if len(valid) < 20:
        return None
    smoothed = np.convolve(valid, np.full(5, 0.2), mode="valid")  # single epochs scatter
    lowest = int(smoothed.argmin())
    rise = smoothed[-1] - smoothed[lowest]
    train, unseen = (bits_of_training(config, sessions, columns, s) for s in ("train", "valid"))
    apart = train - unseen  # NaN for real values
    rose = lowest <= 0.7 * len(smoothed) and rise > 0.01 * abs(smoothed[lowest])
    if not rose and not apart > max(FAR_APART, 0.5 * abs(train)):
        return None
    text = (
        f"The validation reconstruction cost was lowest in epoch {epochs[lowest + 2]:.0f}, at "
        f"{smoothed[lowest]:.1f} nats per trial, and {smoothed[-1]:.1f} at the end"
    )
    if math.isfinite(apart):
        text += (
            f", when the model reached {train:.3f} bits/spike on training trials and {unseen:.3f} "
            "on validation trials"
        )
    return Finding(
        "overfitted",
        "The model overfits the training trials",
        f"{text}. The weights of the best epoch are used.",
        "Use fewer units (model=small), a smaller model.keep_prob, more L2, "
        "data.coordinated_dropout_rate=0.3, or fewer epochs.",
    )


def _score(scores: Mapping[str, Any], name: str) -> float:
    for split in ("valid", "train"):
        value = scores.get(f"{split}/{name}")
        if isinstance(value, int | float):
            return float(value)
    return math.nan


def _last(columns: Columns, term: str) -> float:
    each = (_last_of(columns, f"{split}/{term}") for split in ("valid", "train"))
    return next((value for value in each if math.isfinite(value)), math.nan)


def _last_of(columns: Columns, name: str) -> float:
    values = columns.get(name, np.zeros(0))
    return float(values[-1]) if len(values) else math.nan
