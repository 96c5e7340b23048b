"""What stands at the end of training: scores and the first figure."""

import json
import math

import numpy as np

from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.files import whole_file
from lfads_lightning.inference.metrics import (
    best_smoothing,
    poisson_nll,
    rate_r2,
)
from lfads_lightning.inference.posterior import Posterior, push_mean
from lfads_lightning.inference.trained import Trained
from lfads_lightning.report.figures import summary_figure
from lfads_lightning.training.fit import Fitted

Scores = dict[str, float | str]


def finish(trained: Trained, sessions: list[Session], fitted: Fitted) -> Scores:
    """Score a trained model on held-out trials (else on its training trials), and draw one trial.

    Writes scores.json and figures/summary.png to the run's folder. Rates are posterior means pushed
    through. Over several sessions, bits per spike are of all spikes together and R^2 is the mean
    over all neurons.

    Returns:
        ``valid/total`` (nats per trial, lowest eligible epoch's), ``valid/bits_per_spike``; with
        truth ``valid/rate_r2`` (mean over neurons), ``valid/rate_r2_pooled`` and the same of the
        best Gaussian smoothing, ``valid/smoothing_…``, with its ``smoothing_sd_bins``; ``epochs``,
        ``updates``, ``seconds``, and which ``checkpoint`` was scored.
    """
    has_valid = any(s.valid is not None for s in sessions)
    name = "valid" if has_valid else "train"
    splits = {s.name: s.valid if has_valid else s.train for s in sessions}
    results = {
        n: push_mean(trained.evaluation(), n, split.data, split.ext_input)
        for n, split in splits.items()
        if split is not None
    }
    factor = {s.name: s.conversion_factor for s in sessions}
    pairs = [(splits[n], results[n], factor[n]) for n in results]
    scores: Scores = {}
    if fitted.best_cost is not None:
        scores["valid/total"] = fitted.best_cost
    if trained.model.is_poisson:
        scores[f"{name}/bits_per_spike"] = _bits_per_spike(pairs)
    scores |= {f"{name}/{key}": value for key, value in _truth_scores(pairs).items()}
    scores |= {
        "epochs": fitted.epochs,
        "updates": fitted.updates,
        "seconds": round(fitted.seconds, 1),
        "checkpoint": fitted.checkpoint,
    }
    assert trained.folder is not None
    with whole_file(trained.folder / "scores.json") as path:
        # JSON has no NaN
        plain = {
            k: None if isinstance(v, float) and math.isnan(v) else v for k, v in scores.items()
        }
        path.write_text(json.dumps(plain, indent=1))
    first = next(iter(results))
    split, posterior, scale = pairs[0]
    assert split is not None
    truth = None if split.truth is None else split.truth / scale
    summary_figure(
        trained.folder / "figures" / "summary.png", split.data, posterior, truth, f"{first}, {name}"
    )
    return scores


def _bits_per_spike(pairs: list[tuple[Split | None, Posterior, float]]) -> float:
    gain = n_spikes = 0.0
    for split, posterior, _ in pairs:
        assert split is not None
        null = np.broadcast_to(split.data.mean((0, 1)), split.data.shape)
        gain += poisson_nll(null, split.data) - poisson_nll(posterior.rates, split.data)
        n_spikes += split.data.sum(dtype=np.float64)
    return float(gain / n_spikes / math.log(2)) if n_spikes else math.nan


def _truth_scores(pairs: list[tuple[Split | None, Posterior, float]]) -> Scores:
    known = [(s, p, s.truth / f) for s, p, f in pairs if s is not None and s.truth is not None]
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
    about = {
        "total": "validation cost, nats per trial",
        "bits_per_spike": "bits/spike, against each neuron's mean rate on the same trials",
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
