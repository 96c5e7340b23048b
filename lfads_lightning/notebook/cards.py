"""Display of objects in notebooks: small tables and curves as HTML, with every text escaped.

Colours are those of the notebook, so that dark pages are readable too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_LINE = "#d55e00"  # the colour of LFADS in the figures
_WIDTH, _HEIGHT, _MOST_LINES, _MOST_POINTS = 260, 64, 6, 260
_CELL = "text-align:left;padding:1px 10px 1px 0;background:none;font-weight:{};white-space:{}"


def card(title: str, *parts: str) -> str:
    """Return a box with a heading; the parts are HTML, the title is plain text."""
    inside = "".join(parts)
    return (
        '<div style="border:1px solid #8884;border-radius:4px;padding:6px 12px;margin:2px 0;'
        f'max-width:60em;overflow-x:auto"><b>{escape(title)}</b>{inside}</div>'
    )


def facts(pairs: Mapping[str, object]) -> str:
    """Return names and values as a table without a header; None is left out."""
    rows = [[name, str(value)] for name, value in pairs.items() if value is not None]
    return _table([], rows)


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain texts with a header."""
    return _table(header, rows)


def folded(summary: str, inside: str) -> str:
    """Return HTML that unfolds when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        style = _CELL.format("bold" if tag == "th" else "normal", "normal")
        return "".join(f'<{tag} style="{style}">{escape(str(text))}</{tag}>' for text in row)

    head = f"<tr>{cells(header, 'th')}</tr>" if header else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<table style="margin:4px 0;border-collapse:collapse">{head}{body}</table>'


def lines(values: Iterable[Iterable[float]], what: str) -> str:
    """Return curves on a common scale as a picture; '' if there is nothing finite to draw.

    Args:
        values: values of a few curves over time.
        what: what the curves are, for the caption.
    """
    curves = [[float(v) for v in curve] for _, curve in zip(range(_MOST_LINES), values)]  # noqa: B905
    finite = [v for curve in curves for v in curve if math.isfinite(v)]
    if not finite or max(map(len, curves)) < 2:
        return ""
    low, high = min(finite), max(finite)
    drawn = []
    for i, curve in enumerate(curves):
        step = max(len(curve) // _MOST_POINTS, 1)
        points = " ".join(
            f"{_WIDTH * j / max(len(curve) - 1, 1):.1f},"
            f"{2 + (_HEIGHT - 4) * (high - curve[j]) / ((high - low) or 1):.1f}"
            for j in range(0, len(curve), step)
            if math.isfinite(curve[j])
        )
        colour = _LINE if i == 0 else "#888"
        drawn.append(f'<polyline fill="none" stroke="{colour}" points="{points}"/>')
    return (
        f'<div><svg width="{_WIDTH}" height="{_HEIGHT}" role="img">'
        f"<title>{escape(what)}</title>{''.join(reversed(drawn))}</svg>"
        f'<div style="font-size:85%;opacity:.75">{escape(what)}</div></div>'
    )


def sizes(*pairs: tuple[int, str]) -> str:
    """Return counts with their nouns: ``4 factors, 1 neuron``.

    >>> sizes((4, "factor"), (1, "neuron"), (0, "inferred input"))
    '4 factors, 1 neuron, no inferred inputs'
    """
    return ", ".join(f"{n or 'no'} {what}{'' if n == 1 else 's'}" for n, what in pairs)
