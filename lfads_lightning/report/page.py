"""A report as one HTML file: headings, tables, figures and findings, nothing from elsewhere."""

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
    """A cell that leads somewhere.

    Attributes:
        text: to be read.
        href: relative to the page; it leads nowhere once the page was sent to somebody.
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


def without_folders(text: str) -> str:
    """Return a text with the folders of absolute paths left out: a page is sent to others.

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


def _cleaned(section: Section) -> Section:
    """Return it without folders of this machine, but in where links lead."""
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
        path: of the file.
        title: its heading.
        lead: paragraphs below it.
        tiles: numbers below that.
        sections: all else.
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
