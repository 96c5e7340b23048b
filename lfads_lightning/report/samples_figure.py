"""Figure of the benefit of averaging posterior samples: scores against their number."""

from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.ticker import ScalarFormatter

from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.copying import parts_to_hide, shown
from lfads_lightning.inference.posterior import Evaluation, push_mean, sampled_rates
from lfads_lightning.metrics import bits_per_spike, rate_r2
from lfads_lightning.report.style import OURS, SMOOTHED, Drawing, new_figure, styled
from lfads_lightning.report.trials import Trials

NUMBERS = (1, 2, 4, 8, 16, 32)  # averaged samples; each number is twice the one before
MOST_TRIALS = 24


@styled
def samples_drawing(
    run: Evaluation, session: Session, split: str, trials: Trials
) -> Drawing | None:
    """Draw a score of averages against the number of averaged samples.

    The score is R² of the rates if the true rates are known; else bits per spike of held-out
    neurons; else bits per spike of a random fifth of the entries, hidden from the encoders.

    Args:
        run: model and constants, with random numbers of its own.
        session: the session of the trials.
        split: train or valid.
        trials: the trials of the figures; the first 24 are sampled.

    Returns:
        None if there are neither true rates nor spikes to score.
    """
    few = trials.numbers[:MOST_TRIALS]
    seen, hidden = session.splits[split].rows(few), None
    if trials.truth is not None:
        name, truth = "R² of rates, mean over neurons", trials.truth[: len(few)]
    elif not trials.is_counts:
        return None
    else:
        name, hidden, scored = _unseen(seen.known, run.model.sessions[session.name].held_out)
        if not np.nansum(scored):
            return None

    def score(rates: np.ndarray) -> float:
        if trials.truth is not None:
            return rate_r2(rates, truth)[0]
        return bits_per_spike(rates, scored)

    samples = sampled_rates(run, session.name, seen, NUMBERS[-1], hidden)
    found = _scores_of_averages(samples, score)
    figure = new_figure(6, 3.2)
    ax = figure.subplots()
    ax.plot(NUMBERS, found, "o-", ms=4, color=OURS, label="average of samples")
    mean = score(push_mean(run, session.name, seen, hidden).rates)
    ax.axhline(mean, color=SMOOTHED, ls="--", label="posterior means, one pass")
    ax.set_xscale("log", base=2)
    ax.set_xticks(NUMBERS)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel="posterior samples averaged per trial", ylabel=name)
    ax.legend(loc="best")
    return Drawing(
        "samples",
        "Scores against the number of samples",
        figure,
        f"{name} of {len(few)} trials of {trials.title} over the number of posterior samples that "
        f"are averaged, from {found[0]:.3f} with one to {found[-1]:.3f} with {NUMBERS[-1]}.",
        f"Computed on {len(few)} trials; for fewer than {NUMBERS[-1]} samples, the mean score over "
        f"all averages of so many of {NUMBERS[-1]} samples. Where the curve is flat, more samples "
        "(sampling.num_posterior_samples) do not help. The other scores on this page use "
        f"averages over {run.num_samples} samples (sampling.num_score_samples).",
    )


def _scores_of_averages(
    samples: Iterable[np.ndarray], score: Callable[[np.ndarray], float]
) -> list[float]:
    """Return the mean score of averages over 1, 2, 4 … samples, each sample drawn once.

    Two averages of n samples are merged into one of 2 n, like a carry in binary addition: at most
    one average of each size is in memory.
    """
    waiting: list[np.ndarray | None] = [None] * len(NUMBERS)
    scores: list[list[float]] = [[] for _ in NUMBERS]
    for average in samples:
        for i in range(len(NUMBERS)):
            scores[i].append(score(average))
            other, waiting[i] = waiting[i], None
            if other is None:
                waiting[i] = average
                break
            average = (other + average) / 2
    return [float(np.mean(each)) for each in scores]


def _unseen(
    counts: np.ndarray, held_out: tuple[int, ...]
) -> tuple[str, np.ndarray | None, np.ndarray]:
    """Return the score's name, factors that hide a part or None, and the data, NaN if unscored."""
    scored = np.full(counts.shape, np.nan, np.float32)
    if held_out:
        scored[..., held_out] = counts[..., held_out]
        return "bits / spike of held-out neurons", None, scored
    hidden = parts_to_hide(counts.shape)[0]
    scored[hidden] = counts[hidden]
    return "bits / spike of hidden entries", shown(hidden), scored
