"""The style of figures: colours that everyone can tell apart, sizes, axes; and saving them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatter, LogFormatterMathtext

from lfads_lightning.runs.files import whole_file

# embedding a font logs hundreds of lines at the level that Hydra shows
logging.getLogger("fontTools").setLevel(logging.WARNING)

# Okabe & Ito 2008: distinct with any kind of colour vision
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
TRUE, SPIKES, OURS, SMOOTHED = "#222222", "#888888", "#d55e00", "#0072b2"
FAINT, PREDICTED = "#bbbbbb", "#009e73"
DPI = 110
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.solid_capstyle": "round",
    "figure.autolayout": False,  # figures set their own layout
    "figure.constrained_layout.use": False,
    "pdf.fonttype": 42,  # text that can be edited
    "text.parse_math": False,  # a $ in a user's name must not begin a formula
}


class Drawing(NamedTuple):
    """A figure and its texts.

    Attributes:
        name: name of its files.
        title: heading.
        figure: the matplotlib figure.
        alt: description for readers who cannot see the figure.
        caption: how to read it.
    """

    name: str
    title: str
    figure: Figure
    alt: str
    caption: str


P = ParamSpec("P")
Drawn = TypeVar("Drawn", bound="Drawing | None")


def styled(draw: Callable[P, Drawn]) -> Callable[P, Drawn]:
    """Make a function draw in our style; decorates every function that makes a :class:`Drawing`."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Drawn:
        with rc_context(STYLE):  # type: ignore[arg-type]
            drawing = draw(*args, **kwargs)
            if drawing is not None:
                _write_numbers_plainly(drawing.figure)
        return drawing

    return drawn


def _write_numbers_plainly(figure: Figure) -> None:
    """Label logarithmic axes without formulas."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            for which in ("major", "minor"):
                if isinstance(getattr(axis, f"get_{which}_formatter")(), LogFormatterMathtext):
                    getattr(axis, f"set_{which}_formatter")(_Plain(labelOnlyBase=which == "major"))


class _Plain(LogFormatter):
    """Labels the same ticks with 0.001 instead of a power of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


class ShownFigure(Figure):
    """A figure that a notebook shows although pyplot does not manage it."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        with rc_context(STYLE):  # type: ignore[arg-type]  # ticks are made only now
            self.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (sizes in inches), drawn without a screen and without pyplot."""
    figure = ShownFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def colours_of(groups: np.ndarray) -> dict[Any, Any]:
    """Return a colour for each group: from the palette, or from a scale if there are many."""
    names = list(dict.fromkeys(groups.tolist()))
    if len(names) <= len(PALETTE):
        return dict(zip(names, PALETTE, strict=False))
    scale = colormaps["viridis"]
    return {name: scale(i / (len(names) - 1) * 0.92) for i, name in enumerate(sorted(names))}


def short(name: Any) -> str:
    """Return a condition's name, shortened to the room there is."""
    return text if len(text := str(name)) <= 20 else f"{text[:19]}…"


def condition_legend(figure: Figure | SubFigure, colours: Mapping[Any, Any]) -> None:
    """Add a legend of the conditions' colours below a figure."""
    names = [short(name) for name in colours]
    lines = [Line2D([], [], color=colour, lw=2) for colour in colours.values()]
    longest = max(map(len, names))
    columns = max(min(len(names), int(figure.bbox.width / figure.dpi * 11 / (longest + 5))), 1)
    figure.legend(lines, names, loc="outside lower center", ncols=columns, title="condition")


def bare(ax: Axes) -> None:
    """Prepare an axis for stacked lines: without ticks and without a frame at the sides."""
    ax.set_yticks([])
    ax.margins(x=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def mark_times(ax: Axes, event: float | None, forward: tuple[float, float] | None) -> None:
    """Draw a dashed line at the event, and a bar above the predicted bins; nothing for None.

    The line is drawn over images and below other lines.
    """
    if event is not None:  # dark colour maps would hide a dark line without an edge
        edge = [withStroke(linewidth=2.4, foreground="white")]
        ax.axvline(event, color=TRUE, lw=1.1, ls=(0, (4, 2)), zorder=1.5, path_effects=edge)
    if forward is not None:
        ax.axvspan(*forward, color=FAINT, alpha=0.25, lw=0, zorder=-1)  # an image covers it
        ax.axvspan(*forward, ymin=1, ymax=1.03, color=PREDICTED, lw=0, clip_on=False)


class Picture(NamedTuple):
    """A drawing as a PNG file's bytes, with its size in pixels."""

    drawing: Drawing
    png: bytes
    width: int
    height: int


def render(drawing: Drawing, dpi: int = DPI) -> Picture:
    """Draw a figure, once for all its uses."""
    buffer = BytesIO()
    with rc_context(STYLE):  # type: ignore[arg-type]  # ticks are made only now
        _lay_out(drawing.figure, dpi)
        drawing.figure.savefig(buffer, format="png", dpi=dpi)
    png = buffer.getvalue()
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))  # of the PNG header
    return Picture(drawing, png, width, height)


def _lay_out(figure: Figure, dpi: int) -> None:
    """Place axes and text, once: while there is a layout engine, savefig draws everything twice."""
    engine = figure.get_layout_engine()
    if engine is not None:
        own_dpi = figure.dpi
        figure.dpi = dpi  # the width of text depends on it
        engine.execute(figure)
        figure.dpi = own_dpi
        figure.set_layout_engine(None)


def save(pictures: Sequence[Picture], folder: Path, kinds: Sequence[str] = ("png", "pdf")) -> None:
    """Write each figure as PNG and PDF, or as one of them."""
    for picture in pictures:
        for kind in kinds:
            with whole_file(folder / f"{picture.drawing.name}.{kind}") as path:
                if kind == "png":
                    path.write_bytes(picture.png)
                else:  # no date in the file: the same run gives the same bytes
                    metadata = {"CreationDate": None}
                    with rc_context(STYLE):  # type: ignore[arg-type]
                        picture.drawing.figure.savefig(path, format=kind, metadata=metadata)
