"""What a population's settings did: the figure that papers on such searches show."""

import csv
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lfads_lightning.files import whole_file

_COLUMNS = 3


def search_figure(path: Path, history: Path, criterion: str) -> None:
    """Draw criterion and settings over generations, a line from each donor to its heir.

    Lines are coloured by their rank within the generation; the ancestors of the best member are
    black.

    Args:
        path: of the PNG.
        history: the search's ``history.csv``.
        criterion: its name, for the axis.
    """
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    generations = np.array([int(r["generation"]) for r in rows])
    n = int((generations == 0).sum())
    donors = np.array([int(r["donor"]) for r in rows]).reshape(-1, n)
    names = ["score", *list(rows[0])[5:]]
    values = {k: np.array([float(r[k]) for r in rows]).reshape(-1, n) for k in names}
    ranks = values["score"].argsort(1).argsort(1) / max(n - 1, 1)
    best = _ancestors(donors, values["score"])
    height = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(3.6 * _COLUMNS, 2.4 * height), layout="constrained")
    FigureCanvasAgg(figure)
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
        axes.set_title(criterion if name == "score" else name, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if i >= len(names) - _COLUMNS:
            axes.set_xlabel("generation", fontsize=8)
    figure.suptitle("dark: best of its generation; black: ancestors of the best", fontsize=9)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _ancestors(donors: np.ndarray, scores: np.ndarray) -> list[int]:
    """Return, for each generation, the member from which the last generation's best descends."""
    line = [int(np.argmin(scores[-1]))]
    for g in range(len(donors) - 1, 0, -1):
        line.append(int(donors[g, line[-1]]))
    return line[::-1]
