"""Figure of what averaging posterior samples brings: scores against their number."""

import numpy as np
from matplotlib.ticker import ScalarFormatter

from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.posterior import Evaluation, sample_and_average
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
    """Draw R² of the rates, else bits per spike, of averages over more and more samples.

    Args:
        run: model and constants; the random numbers are its own.
        session: that of the trials.
        split: train or valid.
        trials: of the figures; the first 32 are sampled.

    Returns:
        None where there is neither truth nor spikes.
    """
    few = trials.numbers[:MOST_TRIALS]
    data, ext = session.splits[split].data[few], session.splits[split].ext_input
    truth = None if trials.truth is None else trials.truth[: len(few)]
    if truth is None and not (trials.is_poisson and data.any()):
        return None

    def score(rates: np.ndarray) -> float:
        return bits_per_spike(rates, data) if truth is None else rate_r2(rates, truth)[0]

    def average(n: int) -> float:
        return score(sample_and_average(run, session.name, data, ext, n).rates)

    ext = None if ext is None else ext[few]
    repeats = [min(REPEATS, NUMBERS[-1] // n) for n in NUMBERS]
    found = [
        float(np.mean([average(n) for _ in range(k)]))
        for n, k in zip(NUMBERS, repeats, strict=True)
    ]
    name = "bits / spike" if truth is None else "R² of rates, mean over neurons"
    figure = new_figure(6, 3.2)
    ax = figure.subplots()
    ax.plot(NUMBERS, found, "o-", ms=4, color=OURS, label="average of samples")
    mean = score(trials.posterior.rates[: len(few)])
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
        "more samples (sampling.num_samples) bring nothing; the scores elsewhere on this page are "
        "those of the posterior means.",
    )
