"""What stands at the end of training: scores, figures, the report."""

import json
import math
import warnings
from typing import NamedTuple

import numpy as np

from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.evaluation.scores import evaluate, hidden_gains
from lfads_lightning.evaluation.table import NOTES
from lfads_lightning.files import whole_file
from lfads_lightning.inference.copying import (
    Gains,
    better_than_truth_message,
    bits_of_hidden_entries,
    hidden_entries_message,
)
from lfads_lightning.inference.posterior import Posterior, push_mean
from lfads_lightning.inference.trained import Trained
from lfads_lightning.metrics import (
    best_smoothing,
    poisson_nll,
    rate_r2,
)
from lfads_lightning.report import about
from lfads_lightning.report.figures import one_trial
from lfads_lightning.report.findings import copying
from lfads_lightning.report.run_report import FIGURES, Inferred, write_run_report
from lfads_lightning.report.style import render, save
from lfads_lightning.report.trials import shown_trials
from lfads_lightning.training.fit import Fitted

Scores = dict[str, float | str]
_SCORES_OF_TRAINING = {"valid/total", "valid/recon", "valid/sample_recon"}


def finish(trained: Trained, sessions: list[Session], fitted: Fitted) -> Scores:
    """Score a trained model on held-out trials (else on its training trials), and report it.

    Writes scores.json, evaluation.json (the model beside simple methods), and report.html with its
    figures, to the run's folder; without ``output.report``, figures/summary.png alone. Rates are
    posterior means pushed through. Over several sessions, bits per spike are of all spikes
    together; R^2 of rates is the mean over all neurons, of behaviour and PSTHs over sessions.

    Returns:
        ``criterion`` (lowest eligible epoch's), ``valid/total`` and ``valid/recon`` of that epoch
        (nats per trial), ``valid/bits_per_spike``; with
        truth ``valid/rate_r2`` (mean over neurons), ``valid/rate_r2_pooled`` and the same of the
        best Gaussian smoothing, ``valid/smoothing_…``, with its ``smoothing_sd_bins``; what
        else of :data:`~lfads_lightning.evaluation.table.NOTES` the data allow; ``epochs``,
        ``updates``, ``seconds``, and which ``checkpoint`` was scored.
    """
    has_valid = any(s.valid is not None for s in sessions)
    name = "valid" if has_valid else "train"
    chosen = {s.name: s.valid if has_valid else s.train for s in sessions}
    splits = {name: split for name, split in chosen.items() if split is not None}
    results = {
        n: push_mean(trained.evaluation(), n, split.data, split.ext_input)
        for n, split in splits.items()
    }
    factor = {s.name: s.conversion_factor for s in sessions}
    pairs = [Scored(n, splits[n], results[n], factor[n]) for n in results]
    scores: Scores = {}
    message: str | None = None
    if fitted.criterion is not None:
        scores["criterion"] = fitted.criterion
    scores |= {k: v for k, v in fitted.valid.items() if k in _SCORES_OF_TRAINING}
    if trained.model.is_poisson:
        scores[f"{name}/bits_per_spike"] = _bits_per_spike(pairs)
    scores |= {f"{name}/{key}": value for key, value in _truth_scores(pairs).items()}
    gains: dict[str, Gains] = {}
    if trained.model.is_poisson:
        gains = {p.session: hidden_gains(trained, p.session, p.split) for p in pairs}
        more, message = _copying_scores(pairs, list(gains.values()))
        scores |= {f"{name}/{key}": value for key, value in more.items()}
    assert trained.folder is not None
    table = evaluate(trained, sessions, split=name, posteriors=results, gains=gains)
    table.write(trained.folder)
    scores |= {key: value for key, value in table.summary().items() if key not in scores}
    scores |= {
        "epochs": fitted.epochs,
        "updates": fitted.updates,
        "seconds": round(fitted.seconds, 1),
        "checkpoint": fitted.checkpoint,
    }
    with whole_file(trained.folder / "scores.json") as path:
        # JSON has no NaN
        plain = {
            k: None if isinstance(v, float) and math.isnan(v) else v for k, v in scores.items()
        }
        path.write_text(json.dumps(plain, indent=1))
    _report(trained, scores, Inferred(trained.evaluation(), sessions, name, results), message)
    return scores


def _report(trained: Trained, scores: Scores, inferred: Inferred, message: str | None) -> None:
    assert trained.folder is not None
    if trained.config.output.report:
        record = about.Record(about.this_machine(trained.model.factor_weight.device), [])
        if message is not None:
            record.findings.append(copying(message))
        write_run_report(trained.folder, trained.config, scores, trained.step, inferred, record)
        return
    first, posterior = next(iter(inferred.posteriors.items()))
    session = next(s for s in inferred.sessions if s.name == first)
    drawing = one_trial(shown_trials(inferred.run, session, inferred.split, posterior))
    save([render(drawing)], trained.folder / FIGURES, kinds=("png",))


class Scored(NamedTuple):
    """A session's trials, and what the model makes of them."""

    session: str
    split: Split
    posterior: Posterior
    conversion_factor: float


def _copying_scores(pairs: list[Scored], gains: list[Gains]) -> tuple[Scores, str | None]:
    """Score entries hidden from the encoders, beside seen ones; warn of copying, and say so."""
    messages, scores = [], Scores()
    seen, hidden = bits_of_hidden_entries(gains)
    known = [(p, p.split.truth / p.conversion_factor) for p in pairs if p.split.truth is not None]
    if known:
        gain = sum(poisson_nll(_null(p.split), p.split.data) - poisson_nll(t, p.split.data)
                   for p, t in known)  # fmt: skip
        spikes = sum(p.split.data.sum(dtype=np.float64) for p, _ in known)
        scores["truth_bits_per_spike"] = float(gain / spikes / math.log(2)) if spikes else math.nan
        found = (better_than_truth_message(p.posterior.rates, t, p.split.data) for p, t in known)
        messages += [m for m in found if m is not None][:1]
    if not messages and (message := hidden_entries_message(gains)) is not None:
        messages.append(message)
    for message in messages:
        warnings.warn(message, stacklevel=2)
    scores |= {"seen_bits_per_spike": seen, "hidden_bits_per_spike": hidden}
    return scores, messages[0] if messages else None


def _null(split: Split) -> np.ndarray:
    return np.broadcast_to(split.data.mean((0, 1)), split.data.shape)


def _bits_per_spike(pairs: list[Scored]) -> float:
    gain = n_spikes = 0.0
    for _, split, posterior, _ in pairs:
        null = _null(split)
        gain += poisson_nll(null, split.data) - poisson_nll(posterior.rates, split.data)
        n_spikes += split.data.sum(dtype=np.float64)
    return float(gain / n_spikes / math.log(2)) if n_spikes else math.nan


def _truth_scores(pairs: list[Scored]) -> Scores:
    known = [(s, p, s.truth / f) for _, s, p, f in pairs if s.truth is not None]
    if not known:
        return {}
    weights = [truth.shape[2] for _, _, truth in known]
    ours = [rate_r2(posterior.rates, truth) for _, posterior, truth in known]
    smoothed = [best_smoothing(split.data, truth) for split, _, truth in known]
    mean = np.average(np.array(ours), axis=0, weights=weights)
    theirs = np.average(np.array(smoothed), axis=0, weights=weights)
    return {
        "rate_r2": float(mean[0]),
        "smoothing_rate_r2": float(theirs[0]),
        "rate_r2_pooled": float(mean[1]),
        "smoothing_rate_r2_pooled": float(theirs[1]),
        "smoothing_sd_bins": float(theirs[2]),
    }


def scores_table(scores: Scores) -> str:
    """Return scores as lines for the terminal, each with its unit and its comparison."""
    about = NOTES | {
        "criterion": "what the checkpoint was chosen by, lowest",
        "total": "validation cost, nats per trial",
        "recon": "its reconstruction term",
        "sample_recon": "the same of the entries never shown, weighed up to a trial",
        "bits_per_spike": "bits/spike, against each neuron's mean rate on the same trials",
        "truth_bits_per_spike": "the same of the true rates",
        "seen_bits_per_spike": "the same with a fifth of the entries hidden: of those seen",
        "hidden_bits_per_spike": "of those hidden; far lower means that spikes are copied",
        "rate_r2": "R2 of inferred against true rates, mean over neurons",
        "smoothing_rate_r2": "the same for the best Gaussian smoothing",
        "rate_r2_pooled": "R2 pooled over all neurons, trials and bins",
        "smoothing_rate_r2_pooled": "the same for the best Gaussian smoothing",
        "smoothing_sd_bins": "its width (sd), bins",
        "checkpoint": "weights that were scored",
    }
    shown = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in scores.items()}
    return "\n".join(
        f"  {k:<32}{v:>14}   {about.get(k.rsplit('/')[-1], '')}".rstrip() for k, v in shown.items()
    )
