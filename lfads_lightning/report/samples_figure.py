"""Figure of what averaging posterior samples brings: scores against their number."""

import numpy as np
from matplotlib.ticker import ScalarFormatter

from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.copying import hide
from lfads_lightning.inference.posterior import Evaluation, push_mean, sample_and_average
from lfads_lightning.metrics import bits_per_spike, rate_r2
from lfads_lightning.report.style import OURS, SMOOTHED, Drawing, new_figure, styled
from lfads_lightning.report.trials import Trials

NUMBERS = (1, 2, 4, 8, 16, 32, 64)  # samples that are averaged
REPEATS = 8  # of averages over few samples, which scatter; at most 312 passes of each trial in all
MOST_TRIALS = 32


@styled
def samples_drawing(
    run: Evaluation, session: Session, split: str, trials: Trials
) -> Drawing | None:
    """Draw a score of averages over more and more samples.

    R² of the rates, where these are known; else bits per spike of held-out neurons; else of entries
    that are hidden from the encoders for it, a fifth at random.

    Args:
        run: model and constants; the random numbers are its own.
        session: that of the trials.
        split: train or valid.
        trials: of the figures; the first 32 are sampled.

    Returns:
        None where there is neither truth nor a spike to score.
    """
    few = trials.numbers[:MOST_TRIALS]
    encoded, ext = session.splits[split].data[few], session.splits[split].ext_input
    ext = None if ext is None else ext[few]
    if trials.truth is not None:
        name, truth = "R² of rates, mean over neurons", trials.truth[: len(few)]
    elif not trials.is_poisson:
        return None
    else:
        name, encoded, scored = _unseen(encoded, run.model.sessions[session.name].held_out)
        if not np.nansum(scored):
            return None

    def score(rates: np.ndarray) -> float:
        if trials.truth is not None:
            return rate_r2(rates, truth)[0]
        return bits_per_spike(rates, scored)

    def average(n: int) -> float:
        return score(sample_and_average(run, session.name, encoded, ext, n).rates)

    repeats = [min(REPEATS, NUMBERS[-1] // n) for n in NUMBERS]
    found = [
        float(np.mean([average(n) for _ in range(k)]))
        for n, k in zip(NUMBERS, repeats, strict=True)
    ]
    figure = new_figure(6, 3.2)
    ax = figure.subplots()
    ax.plot(NUMBERS, found, "o-", ms=4, color=OURS, label="average of samples")
    mean = score(push_mean(run, session.name, encoded, ext).rates)
    ax.axhline(mean, color=SMOOTHED, ls="--", label="posterior means, one pass")
    ax.set_xscale("log", base=2)
    ax.set_xticks(NUMBERS)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set(xlabel="posterior samples averaged per trial", ylabel=name)
    ax.legend(loc="lower right")
    return Drawing(
        "samples",
        "Scores against the number of samples",
        figure,
        f"{name} of {len(few)} trials of {trials.title} over the number of posterior samples that "
        f"are averaged, from {found[0]:.3f} with one to {found[-1]:.3f} with {NUMBERS[-1]}.",
        f"On {len(few)} trials; samples are drawn anew for each point, which is a mean over up to "
        f"{REPEATS} draws. Where the curve is flat, "
        "more samples (sampling.num_posterior_samples) bring nothing; the scores elsewhere on this "
        "page are those of the posterior means.",
    )


def _unseen(counts: np.ndarray, held_out: tuple[int, ...]) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the name of the score, what is encoded, and what is scored: the rest is NaN."""
    scored = np.full(counts.shape, np.nan, np.float32)
    if held_out:
        scored[..., held_out] = counts[..., held_out]
        return "bits / spike of held-out neurons", counts, scored
    hidden, shown = hide(counts.shape)
    scored[hidden] = counts[hidden]
    return "bits / spike of hidden entries", counts * shown, scored
