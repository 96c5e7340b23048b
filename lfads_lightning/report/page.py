"""A report as a single HTML file: headings, tables, figures and findings; it loads nothing else."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from lfads_lightning.report.findings import Finding
from lfads_lightning.report.style import Picture
from lfads_lightning.runs.files import whole_file

_SEPARATOR, _PART = r"[/\\]", r"[^\s/\\'\",;:]+"


class Link(NamedTuple):
    """A table cell with a link.

    Attributes:
        text: the text of the link.
        href: target, relative to the page; the link breaks if the page alone is sent to somebody.
    """

    text: str
    href: str


class Table(NamedTuple):
    """A table; the first cell of each row is its heading.

    Attributes:
        caption: the caption.
        header: column headings.
        rows: rows of texts and links.
        prose: whether the last column contains sentences.
        folded: whether only the caption is visible until the table is opened.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    prose: bool = False
    folded: bool = False


def without_folders(text: str) -> str:
    """Return a text without the folders of absolute paths, because pages are sent to others.

    >>> without_folders("data.data_dir=/home/jane/data, s3://lab/a, 1/s")
    'data.data_dir=…/data, s3://lab/a, 1/s'
    >>> without_folders("/home/jane doe/data")
    '…/data'
    """
    if re.match(r"([A-Za-z]:)?[/\\]\S", text) and "\n" not in text:
        return f"…/{re.split(_SEPARATOR, text.rstrip('/'))[-1]}"
    return re.sub(rf"(?<![\w./:\\])(?:[A-Za-z]:)?{_SEPARATOR}(?:{_PART}{_SEPARATOR})+", "…/", text)


class Section(NamedTuple):
    """A part of a report.

    Attributes:
        key: the anchor of the section in the page.
        title: the heading.
        paragraphs: paragraphs of plain text.
        findings: the warnings; None except in the section of warnings.
        tables: the tables, in order.
        pictures: the figures, in order.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    findings: Sequence[Finding] | None = None
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


class Tile(NamedTuple):
    """A number at the top of the page."""

    value: str
    meaning: str


def _cleaned(section: Section) -> Section:
    """Return a section without folders of this machine, except in the targets of links."""
    findings = section.findings
    return section._replace(
        paragraphs=[without_folders(text) for text in section.paragraphs],
        findings=findings and [Finding(*map(without_folders, f)) for f in findings],
        tables=[
            table._replace(
                caption=without_folders(table.caption),
                rows=[
                    [
                        cell._replace(text=without_folders(cell.text))
                        if isinstance(cell, Link)
                        else without_folders(cell)
                        for cell in row
                    ]
                    for row in table.rows
                ],
            )
            for table in section.tables
        ],
    )


def write_page(
    path: Path,
    title: str,
    lead: Sequence[str],
    tiles: Sequence[Tile],
    sections: Sequence[Section],
) -> None:
    """Write a report.

    Args:
        path: path of the file.
        title: heading of the page.
        lead: paragraphs below the heading.
        tiles: numbers below the paragraphs.
        sections: the rest of the page.
    """
    clean = [_cleaned(s) for s in sections]
    # every text is escaped: names of sessions and folders are the user's
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        title=without_folders(title),
        lead=[without_folders(text) for text in lead if text],
        tiles=tiles,
        sections=[s for s in clean if s.paragraphs or s.tables or s.pictures or s.findings],
        has_links=any(
            isinstance(cell, Link) for s in sections for t in s.tables for r in t.rows for cell in r
        ),
        data=lambda png: base64.b64encode(png).decode(),
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
