"""Figures of a run, as PNG files."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from lfads_lightning.files import whole_file
from lfads_lightning.inference.posterior import Posterior
from lfads_lightning.metrics import best_smoothing, smooth

TRUE, SPIKES, OURS, SMOOTHED = "#222222", "#888888", "#c8442b", "#4a7fb0"
N_NEURONS_SHOWN, N_FACTORS_SHOWN = 4, 12


def summary_figure(
    path: Path, counts: np.ndarray, posterior: Posterior, truth: np.ndarray | None, title: str
) -> Path:
    """Draw one trial: true rates | spikes | inferred rates | factors (| inferred inputs).

    Below, a few lively neurons as lines. The trial is that of median cost.

    Args:
        path: of the PNG.
        counts: (E, T, D) data.
        posterior: of these trials.
        truth: (E, T, D) true rates, counts per bin, where known.
        title: names session and split.
    """
    trial = int(np.argsort(posterior.costs)[len(counts) // 2])
    rates = posterior.rates[trial].T  # (D, T)
    order = np.argsort(rates.argmax(1), kind="stable")  # neurons by the time of their peak
    shown = rates if truth is None else np.concatenate([rates, truth[trial].T], axis=1)
    # a square-root scale: bursts do not hide the rest
    norm = (
        PowerNorm(0.5, *np.percentile(shown, [0.5, 99.8])) if posterior.rates.min() >= 0 else None
    )
    images: list[tuple] = [("spikes", counts[trial].T, "Greys", None)]
    if truth is not None:
        images.insert(0, ("true rates", truth[trial].T, "viridis", norm))
    images.append(("inferred rates", rates, "viridis", norm))
    traces = [("factors", posterior.factors[trial])]
    if posterior.controller_outputs is not None:
        traces.append(("inferred inputs", posterior.controller_outputs[trial]))

    figure = Figure(figsize=(3.1 * (len(images) + len(traces)), 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}, trial {trial}", fontsize=11)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.25, 1])  # type: ignore[misc]
    axes = top.subplots(1, len(images) + len(traces))
    for ax, (name, values, colours, scale) in zip(axes, images, strict=False):
        image = ax.imshow(
            values[order], aspect="auto", interpolation="none", cmap=colours, norm=scale
        )
        ax.set(title=name, xlabel="bin", ylabel="neuron, by time of peak" if ax is axes[0] else "")
        if name == "inferred rates":
            top.colorbar(image, ax=ax, label="counts / bin", shrink=0.8)
    for ax, (name, values) in zip(axes[len(images) :], traces, strict=True):
        _stack(ax, values)
        ax.set(title=name, xlabel="bin")
    _neurons(bottom, trial, counts, posterior, truth)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    return path


def _stack(ax, values: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """Draw the most active columns of (T, n) as lines above one another, on one scale."""
    values = values[:, np.argsort(-values.std(0), kind="stable")[:N_FACTORS_SHOWN]]
    centred = values - values.mean(0)
    step = 1.1 * max(np.ptp(centred, axis=0).max(), 1e-6)
    for i, line in enumerate(centred.T):
        ax.plot(line - i * step, lw=1.1, color=f"C{i % 10}")
    ax.set_yticks([])
    ax.margins(x=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _different(rates: np.ndarray, n: int) -> np.ndarray:
    """Choose n of the livelier neurons of (T, D), spread over the times of their peaks."""
    lively = np.argsort(-rates.std(0), kind="stable")[: max(rates.shape[1] // 2, n)]
    by_peak = lively[np.argsort(rates[:, lively].argmax(0), kind="stable")]
    return by_peak[np.unique(np.linspace(0, len(by_peak) - 1, n).round().astype(int))]


def _neurons(  # type: ignore[no-untyped-def]
    figure, trial: int, counts: np.ndarray, posterior: Posterior, truth: np.ndarray | None
) -> None:
    chosen = _different(posterior.rates[trial], N_NEURONS_SHOWN)
    axes = np.atleast_1d(figure.subplots(1, len(chosen)))
    if truth is not None:
        sd = best_smoothing(counts, truth)[2]
    else:
        sd = counts.shape[1] / 20
    smoothed = smooth(counts[trial : trial + 1], sd)[0]
    for ax, n in zip(axes, chosen, strict=True):
        spikes = np.flatnonzero(counts[trial, :, n] > 0)
        ax.plot(smoothed[:, n], color=SMOOTHED, lw=1, label=f"smoothed spikes (sd {sd:.1f} bins)")
        if truth is not None:
            ax.plot(truth[trial, :, n], color=TRUE, lw=1.6, label="true rate")
        ax.plot(posterior.rates[trial, :, n], color=OURS, lw=1.6, label="LFADS")
        floor = ax.get_ylim()[0]
        ax.plot(spikes, np.full(len(spikes), floor), "|", color=SPIKES, ms=7, label="spikes")
        ax.set(title=f"neuron {n}", xlabel="bin", ylabel="counts / bin" if ax is axes[0] else "")
        ax.spines[["top", "right"]].set_visible(False)
        ax.margins(x=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
