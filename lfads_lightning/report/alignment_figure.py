"""Figure of how well the sessions of an alignment reproduce the common components."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from lfads_lightning.data.alignment import Alignment
from lfads_lightning.report.style import (
    FAINT,
    OURS,
    PALETTE,
    SMOOTHED,
    SPIKES,
    TRUE,
    Drawing,
    new_figure,
    render,
    styled,
)
from lfads_lightning.runs.files import whole_file

COMMON, OF_Z, OF_X = TRUE, OURS, SMOOTHED
N_COMPONENTS_SHOWN, N_CONDITIONS_SHOWN, N_SESSIONS_SHOWN, MOST_BARS = 3, 4, 6, 40


def alignment_figure(path: Path, found: Alignment) -> Path:
    """Write the figure of an alignment as a PNG file; see :func:`alignment_drawing`."""
    with whole_file(path) as temporary:
        temporary.write_bytes(render(alignment_drawing(found)).png)
    return path


@styled
def alignment_drawing(found: Alignment) -> Drawing:
    """Draw the variance per component, R^2 per session, and each session's components.

    Args:
        found: the alignment.
    """
    figure = new_figure(10, 7.8)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.7])  # type: ignore[misc]
    dim = found.components.shape[2]
    what = "trials of the same neurons" if found.same_neurons else "shared conditions"
    top.suptitle(
        f"{len(found.n_trials)} sessions, {len(found.conditions)} {what}, {dim} factors",
        fontsize=11,
    )
    left, right = top.subplots(1, 2, width_ratios=[1, 1.6])
    _variance(left, found.variance, dim)
    _bars(right, found)
    _traces(bottom, found)
    return Drawing(
        "alignment",
        "Check of the alignment",
        figure,
        f"Variance of the components common to {len(found.n_trials)} sessions, how well each "
        "session reproduces them, and their time course in some conditions.",
        "The averages of each session, mapped to common components by its alignment matrix. The "
        "lines of the sessions should agree with the common ones (grey), and the bars be high.",
    )


def _variance(ax: Axes, share: np.ndarray, dim: int) -> None:
    n = min(len(share), max(3 * dim, 10))
    ax.bar(np.arange(1, n + 1), 100 * share[:n], color=[SPIKES] * dim + [FAINT] * (n - dim))
    ax.plot(np.arange(1, n + 1), 100 * share[:n].cumsum(), color=COMMON, marker=".", lw=1)
    kept = 100 * share[:dim].sum()
    ax.axvline(dim + 0.5, color=COMMON, lw=0.8, ls="--")
    ax.set(
        title=f"variance per component: the first {dim} explain {kept:.0f} %",
        xlabel="component of all sessions together",
        ylabel="% (line: cumulative)",
        ylim=(0, 102),
    )
    ax.spines[["top", "right"]].set_visible(False)


def _bars(ax: Axes, found: Alignment) -> None:
    names = list(found.n_trials)[:MOST_BARS]
    at = np.arange(len(names))
    what = "smoothed trials" if found.same_neurons else "averages"
    bars = [(found.averages_r2, OF_X, 0.2, f"the session's {what}, from the common components")]
    if not found.same_neurons:  # the same neurons have them by construction
        label = "common components, from the session's neurons"
        bars.insert(0, (found.components_r2, OF_Z, -0.2, label))
    for values, colour, shift, label in bars:
        ax.bar(at + shift, [values[n] for n in names], 0.38, color=colour, label=label)
    cut = "" if len(found.n_trials) <= MOST_BARS else f" (first {MOST_BARS})"
    # room for the legend above the bars
    ax.set(title=f"reproduced by session{cut}", ylabel="R²", ylim=(0, 1.3))
    ax.set_yticks(np.linspace(0, 1, 6).round(1))
    ax.set_xticks(at, names, rotation=30, ha="right", fontsize=8)
    ax.legend(fontsize=8, loc="upper right", frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _traces(figure: SubFigure, found: Alignment) -> None:
    """Draw leading components in some conditions: the common ones and those of each session."""
    together = not found.same_neurons
    n_conditions = min(N_CONDITIONS_SHOWN, len(found.conditions))
    chosen = np.unique(np.linspace(0, len(found.conditions) - 1, n_conditions).round().astype(int))
    n_components = min(N_COMPONENTS_SHOWN, found.components.shape[2])
    names = list(found.projections)[:N_SESSIONS_SHOWN]
    axes = figure.subplots(n_components, len(chosen), sharex=True, sharey="row", squeeze=False)
    for k, row in enumerate(axes):
        for ax, c in zip(row, chosen, strict=True):
            ax.plot(found.components[c, :, k], color=COMMON, lw=3, alpha=0.35, label="common")
            for i, name in enumerate(names if together else []):
                ax.plot(found.projections[name][c, :, k], color=PALETTE[i], lw=1, label=name)
            ax.spines[["top", "right"]].set_visible(False)
            if k == 0:
                kind = "condition" if together else "trial"
                ax.set_title(f"{kind} {found.conditions[c]}", fontsize=9)
            if k == n_components - 1:
                ax.set_xlabel("bin")
        row[0].set_ylabel(f"component {k + 1}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
