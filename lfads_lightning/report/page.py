"""A report as one HTML file: headings, tables, figures and findings, nothing from elsewhere."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from lfads_lightning.report.findings import Finding
from lfads_lightning.report.style import Picture
from lfads_lightning.runs.files import whole_file


class Link(NamedTuple):
    """A cell that leads somewhere.

    Attributes:
        text: to be read.
        href: relative to the page.
    """

    text: str
    href: str


class Table(NamedTuple):
    """A table; the first cell of each row is its heading.

    Attributes:
        caption: what it says.
        header: of the columns.
        rows: of texts and links.
        prose: the last column holds sentences.
        folded: its caption alone is seen until it is opened.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    prose: bool = False
    folded: bool = False


class Section(NamedTuple):
    """A part of a report.

    Attributes:
        key: its address in the page.
        title: a heading.
        paragraphs: of plain text.
        findings: what to know, or None where it is not the section that says so.
        tables: in order.
        pictures: in order.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    findings: Sequence[Finding] | None = None
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


class Tile(NamedTuple):
    """A number that is seen first."""

    value: str
    meaning: str


def write_page(
    path: Path, title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[Section]
) -> None:
    """Write a report.

    Args:
        path: of the file.
        title: its heading.
        lead: one sentence below it.
        tiles: numbers below that.
        sections: all else.
    """
    # every text is escaped: names of sessions and folders are the user's
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        title=title,
        lead=lead,
        tiles=tiles,
        sections=[s for s in sections if s.paragraphs or s.tables or s.pictures or s.findings],
        data=lambda png: base64.b64encode(png).decode(),
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
