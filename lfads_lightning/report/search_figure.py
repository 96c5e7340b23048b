"""Figures of the effect of settings: in a population over generations, and in many runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lfads_lightning.report.style import FAINT, OURS, SMOOTHED, Drawing, new_figure, styled

_COLUMNS = 3
_MOST_AXES = 8


@styled
def search_figure(rows: Sequence[Mapping[str, str]], criterion: str) -> Drawing:
    """Draw criterion and settings over generations, with a line from each donor to its heir.

    Lines are coloured by rank within the generation; the ancestors of the best member are black.

    Args:
        rows: rows of the search's ``history.csv``.
        criterion: name of the criterion, for the axis.
    """
    generations = np.array([int(r["generation"]) for r in rows])
    n = int((generations == 0).sum())
    donors = np.array([int(r["donor"]) for r in rows]).reshape(-1, n)
    names = ["score", *list(rows[0])[5:]]
    values = {k: np.array([float(r[k]) for r in rows]).reshape(-1, n) for k in names}
    ranks = values["score"].argsort(1).argsort(1) / max(n - 1, 1)
    best = _ancestors(donors, values["score"])
    height = -(-len(names) // _COLUMNS)
    figure = new_figure(10, 2.2 * height + 0.3)
    colours = colormaps["viridis"]
    for i, name in enumerate(names):
        axes = figure.add_subplot(height, _COLUMNS, i + 1)
        drawn = values[name]
        for g in range(len(drawn)):
            for m in range(n):
                before = drawn[g - 1, donors[g, m]] if g > 0 else drawn[g, m]
                colour = colours(0.9 * ranks[g, m])
                axes.plot(g, drawn[g, m], "o", color=colour, ms=2.5)
                axes.plot([max(g - 1, 0), g], [before, drawn[g, m]], color=colour, lw=0.8)
        axes.plot(range(len(drawn)), [drawn[g, m] for g, m in enumerate(best)], "k", lw=1.8)
        if name != "score" and drawn.min() > 0 and drawn.max() > 5 * drawn.min():
            axes.set_yscale("log")
        finite = drawn[np.isfinite(drawn)]
        if name == "score" and len(finite):
            axes.set_ylim(finite.min(), np.quantile(finite, 0.95) + 1e-9)
        axes.set_title(criterion if name == "score" else name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if i >= len(names) - _COLUMNS:
            axes.set_xlabel("generation")
    return Drawing(
        "search",
        "Settings over generations",
        figure,
        f"Over {len(values['score'])} generations of {n} members: {criterion} and "
        f"{', '.join(names[1:])}.",
        "Lines connect each member with the one that took over its weights. Dark: the best of each "
        "generation; black: the ancestors of the best member.",
    )


def _ancestors(donors: np.ndarray, scores: np.ndarray) -> list[int]:
    """Return, for each generation, the member from which the last generation's best descends."""
    line = [int(np.argmin(scores[-1]))]
    for g in range(len(donors) - 1, 0, -1):
        line.append(int(donors[g, line[-1]]))
    return line[::-1]


@styled
def parallel_coordinates(
    settings: Sequence[Mapping[str, Any]], scores: Sequence[float], criterion: str
) -> Drawing | None:
    """Draw each run as a line over its settings to its score.

    Args:
        settings: settings of each run, by name; those that are the same in all are left out.
        scores: score of each run, lower is better; infinite if there is none.
        criterion: name of the score.

    Returns:
        The figure; None if fewer than two runs have a score, or no setting differs.
    """
    finite = [i for i, score in enumerate(scores) if math.isfinite(score)]
    names = varied([settings[i] for i in finite])[:_MOST_AXES]
    if len(finite) < 2 or not names:
        return None
    columns = [[settings[i].get(name) for i in finite] for name in names]
    columns.append([scores[i] for i in finite])
    ranks = np.argsort(np.argsort([scores[i] for i in finite])) / (len(finite) - 1)
    figure = new_figure(10, 3.8)
    ax = figure.add_subplot()
    heights = []
    for x, column in enumerate(columns):
        places, ticks = _places(column)
        heights.append(places)
        ax.axvline(x, color=FAINT, lw=1, zorder=0)
        for place, text in _apart(ticks):
            ax.annotate(
                text,
                (x, place),
                (5, 0),
                textcoords="offset points",
                va="center",
                size=8,
                zorder=4,
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
            )
    lines = np.array(heights).T  # (runs, axes)
    for i in np.argsort(-ranks, kind="stable"):  # the best on top
        best = ranks[i] == 0
        ax.plot(
            lines[i],
            color=OURS if best else colormaps["cividis"](0.85 * ranks[i]),
            lw=2.6 if best else 1,
            alpha=1 if best else 0.75,
            zorder=3 if best else 2,
        )
    ax.set_xticks(range(len(columns)), [*(n.replace(".", ".\n") for n in names), criterion])
    ax.set_yticks([])
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set(xlim=(-0.15, len(columns) - 0.55), ylim=(-0.07, 1.07))
    return Drawing(
        "parallel_coordinates",
        "Settings and scores",
        figure,
        f"{len(finite)} runs as lines over {', '.join(names)} to {criterion}.",
        f"Each line is a run; lower {criterion} (right) is better. Thick: the best run; darker "
        "lines are better. Settings on which the best runs agree are important.",
    )


def varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that are not the same in all runs."""
    names = dict.fromkeys(name for s in settings for name in s)
    return [n for n in names if len({str(s.get(n)) for s in settings}) > 1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _places(column: Sequence[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return heights from 0 to 1 for values, and the labels with their heights."""
    if not all(_is_number(v) for v in column):
        kinds = sorted({str(v) for v in column})
        at = {kind: i / max(len(kinds) - 1, 1) for i, kind in enumerate(kinds)}
        return np.array([at[str(v)] for v in column]), [(p, kind) for kind, p in at.items()]
    values = np.array(column, dtype=np.float64)
    wide = values.min() > 0 and values.max() > 5 * values.min()
    moved = np.log(values) if wide else values
    span = max(np.ptp(moved), 1e-300)
    distinct = np.unique(values)
    if len(distinct) > 6:
        distinct = np.quantile(moved, (0, 0.5, 1))
        distinct = np.exp(distinct) if wide else distinct
    places = (np.log(distinct) if wide else distinct) - moved.min()
    labels = [(float(p / span), f"{v:.4g}") for p, v in zip(places, distinct, strict=True)]
    return (moved - moved.min()) / span, labels


def _apart(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Leave out labels that would overlap the one below."""
    kept: list[tuple[float, str]] = []
    for place, text in sorted(ticks):
        if not kept or place - kept[-1][0] > 0.05:
            kept.append((place, text))
    return kept


@styled
def against_settings(
    settings: Sequence[Mapping[str, Any]], scores: Sequence[float], criterion: str
) -> Drawing | None:
    """Draw the score over each setting that differs; see :func:`parallel_coordinates`."""
    finite = [i for i, score in enumerate(scores) if math.isfinite(score)]
    names = varied([settings[i] for i in finite])[: 2 * _COLUMNS]
    if len(finite) < 2 or not names:
        return None
    width = min(len(names), _COLUMNS)
    height = -(-len(names) // width)
    figure = new_figure(10, 2.4 * height + 0.2)
    axes = figure.subplots(height, width, squeeze=False, sharey=True).ravel()
    for ax, name in zip(axes, names, strict=False):
        _against(ax, [settings[i].get(name) for i in finite], [scores[i] for i in finite])
        ax.set_xlabel(name)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    for row in range(height):
        axes[row * width].set_ylabel(criterion)
    return Drawing(
        "against_settings",
        "Score against each setting",
        figure,
        f"{criterion} of {len(finite)} runs over {', '.join(names)}.",
        "Dots are runs, the line is their mean where several share a value. Lower is better.",
    )


def _against(ax: Axes, column: Sequence[Any], scores: Sequence[float]) -> None:
    if all(_is_number(v) for v in column):
        x = np.array(column, dtype=np.float64)
        if x.min() > 0 and x.max() > 5 * x.min():
            ax.set_xscale("log")
        if len(np.unique(x)) <= 6:
            ax.set_xticks(np.unique(x), [f"{v:g}" for v in np.unique(x)])
            ax.set_xticks([], minor=True)
    else:
        kinds = sorted({str(v) for v in column})
        x = np.array([kinds.index(str(v)) for v in column], dtype=np.float64)
        ax.set_xticks(range(len(kinds)), kinds)
    y = np.array(scores)
    ax.plot(x, y, "o", ms=4, color=SMOOTHED, alpha=0.8)
    values = np.unique(x)
    if 1 < len(values) < len(x):
        ax.plot(values, [y[x == v].mean() for v in values], color=OURS, lw=1.4)
