"""Figures of single trials: the recording, and what the model infers from it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import SubFigure

from lfads_lightning.metrics import best_smoothing, smooth
from lfads_lightning.report.style import (
    OURS,
    PALETTE,
    PREDICTED,
    SMOOTHED,
    SPIKES,
    TRUE,
    Drawing,
    bare,
    mark_times,
    new_figure,
    styled,
)
from lfads_lightning.report.trials import Trials

N_NEURONS_SHOWN, N_FACTORS_SHOWN = 4, 12


@styled
def one_trial(trials: Trials, number: int | None = None) -> Drawing:
    """Draw a trial: true rates | spikes | inferred rates | factors (| inputs).

    Below them, the rates of a few neurons that vary much are drawn as lines.

    Args:
        trials: the trials.
        number: number of the trial to draw; None: the trial of median cost.
    """
    which = trials.median_trial if number is None else np.flatnonzero(trials.numbers == number)[0]
    trial = int(which)
    trials = trials.up_to_end(trial)
    number, posterior = trials.numbers[trial], trials.posterior
    rates = posterior.rates[trial].T * trials.per_unit  # (D, T)
    truth = None if trials.truth is None else trials.truth[trial].T * trials.per_unit
    order = np.argsort(rates.argmax(1), kind="stable")  # neurons by the time of their peak
    shown = rates if truth is None else np.concatenate([rates, truth], axis=1)
    # on a square-root scale bursts do not hide the rest
    norm = PowerNorm(0.5, *np.percentile(shown, [0.5, 99.8])) if trials.is_counts else None
    data = "spikes" if trials.is_counts else "data"
    images: list[tuple] = [(data, trials.counts[trial].T, "Greys", None)]
    if truth is not None:
        images.insert(0, ("true rates", truth, "viridis", norm))
    images.append(("inferred rates", rates, "viridis", norm))
    traces = [("factors", posterior.factors[trial])]
    if posterior.controller_outputs is not None:
        traces.append(("inferred inputs", posterior.controller_outputs[trial]))

    figure = new_figure(min(2.9 * (len(images) + len(traces)), 11.6), 6.0)
    figure.suptitle(f"{trials.title}, trial {number}", fontsize=10)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.25, 1])  # type: ignore[misc]
    axes = np.atleast_1d(top.subplots(1, len(images) + len(traces)))
    extent = (*trials.ends, len(order) - 0.5, -0.5)
    for ax, (name, values, colours, scale) in zip(axes, images, strict=False):
        image = ax.imshow(
            values[order],
            aspect="auto",
            interpolation="none",
            cmap=colours,
            norm=scale,
            extent=extent,
        )
        ax.set(title=name, xlabel=trials.narrow_time_label)
        ax.set_ylabel("neuron, by time of peak" if ax is axes[0] else "")
        if trials.held_out:
            _mark_rows(ax, np.flatnonzero(np.isin(order, trials.held_out)))
        if name == "inferred rates":
            bar = top.colorbar(image, ax=ax, shrink=0.8)
            bar.ax.set_title(trials.rate_label, fontsize=8)  # the factors are next to it
    for ax, (name, values) in zip(axes[len(images) :], traces, strict=True):
        _stack(ax, trials.time, values)
        ax.set(title=name, xlabel=trials.narrow_time_label)
    _neurons(bottom, trial, trials)
    for ax in axes:
        mark_times(ax, trials.event, trials.forward)
    parts = ", ".join([name for name, *_ in images] + [name for name, _ in traces])
    of_median = "The trial of median cost. " if trial == trials.median_trial else ""
    return Drawing(
        "summary",
        "One trial",
        figure,
        f"Trial {number} of {trials.title}: {parts}; below, the rates of a few neurons as lines.",
        f"{of_median}Top: {parts}; neurons are sorted by the time of their inferred peak. "
        f"Bottom: neurons that vary much.{trials.held_out_note}{trials.time_note}",
    )


def _mark_rows(ax: Axes, rows: np.ndarray) -> None:
    """Mark rows of an image with triangles on the right."""
    beside = ax.get_yaxis_transform()
    ax.plot(
        np.full(len(rows), 1.015), rows, "<", color=PREDICTED, ms=3, transform=beside, clip_on=False
    )


def _stack(ax: Axes, time: np.ndarray, values: np.ndarray) -> None:
    """Draw the most active columns of (T, n) as lines above one another, on one scale."""
    values = values[:, np.argsort(-values.std(0), kind="stable")[:N_FACTORS_SHOWN]]
    centred = values - values.mean(0)
    step = 1.1 * max(np.ptp(centred, axis=0).max(), 1e-6)
    for i, line in enumerate(centred.T):
        ax.plot(time, line - i * step, lw=1.1, color=PALETTE[i % len(PALETTE)])
    bare(ax)


def lively(rates: np.ndarray, n: int, held_out: Sequence[int] = ()) -> np.ndarray:
    """Choose n of the more active neurons of (T, D), with peaks spread over time.

    If neurons are held out, half of the chosen ones are held-out neurons.
    """
    if held_out:
        apart, rest = np.sort(held_out), np.setdiff1d(np.arange(rates.shape[1]), held_out)
        seen = lively(rates[:, rest], n - n // 2)
        return np.concatenate([rest[seen], apart[lively(rates[:, apart], n // 2)]])
    movers = np.argsort(-rates.std(0), kind="stable")[: max(rates.shape[1] // 2, n)]
    by_peak = movers[np.argsort(rates[:, movers].argmax(0), kind="stable")]
    return by_peak[np.unique(np.linspace(0, len(by_peak) - 1, n).round().astype(int))]


def _neurons(figure: SubFigure, trial: int, trials: Trials) -> None:
    counts, unit = trials.counts, trials.per_unit
    rates = trials.posterior.rates[trial]
    which = lively(rates, N_NEURONS_SHOWN, trials.held_out)
    axes = np.atleast_1d(figure.subplots(1, len(which)))
    if trials.truth is not None:
        sd = best_smoothing(counts, trials.truth)[2]
    else:
        sd = counts.shape[1] / 20
    smoothed = smooth(counts[trial : trial + 1], sd)[0]
    data = "spikes" if trials.is_counts else "data"
    for ax, n in zip(axes, which, strict=True):
        label = f"smoothed {data} (sd {sd:.1f} bins)"
        ax.plot(trials.time, unit * smoothed[:, n], color=SMOOTHED, lw=1, label=label)
        if trials.truth is not None:
            true = unit * trials.truth[trial, :, n]
            ax.plot(trials.time, true, color=TRUE, lw=1.6, label="true rate")
        ax.plot(trials.time, unit * rates[:, n], color=OURS, lw=1.6, label="LFADS")
        if trials.is_counts:
            spikes = trials.time[counts[trial, :, n] > 0]
            floor = np.full(len(spikes), ax.get_ylim()[0])
            ax.plot(spikes, floor, "|", color=SPIKES, ms=7, label="spikes")
        ax.set(title=trials.named(n), xlabel=trials.narrow_time_label)
        ax.set_ylabel(trials.rate_label if ax is axes[0] else "")
        mark_times(ax, trials.event, trials.forward)
        ax.margins(x=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
