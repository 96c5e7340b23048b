"""The formats that can be read: a file each, which registers itself with :func:`reader`.

A reader takes a path and the options, and returns a ``Recording`` (`recordings/records.py`). No
other file names it: all files in this folder are imported when something is first read.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.records import Recording
from lfads_lightning.recordings.settings import Settings

Read = Callable[[Path, Settings], Recording]
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".pqt")
_HINTS = {  # for formats that cannot be read
    ".h5": "; HDF5 files with train_data need no preparation: lfads check looks at them",
    ".xlsx": "; save the table as CSV",
}


class Reader(NamedTuple):
    """How a format is recognised, and the function that reads it."""

    read: Read
    suffixes: tuple[str, ...]  # of files, in lower case
    is_folder: Callable[[Path], bool] | None  # whether a folder has this format
    folder: str  # what such a folder is called


_READERS: list[Reader] = []


def reader(
    *suffixes: str, is_folder: Callable[[Path], bool] | None = None, folder: str = ""
) -> Callable[[Read], Read]:
    """Register the function below it as the reader of a format.

    Args:
        *suffixes: suffixes of the format's files, in lower case: ``".nwb"``.
        is_folder: returns whether a folder has this format, by its contents.
        folder: description of such a folder in messages.
    """

    def register(read: Read) -> Read:
        _READERS.append(Reader(read, suffixes, is_folder, folder))
        return read

    return register


@cache
def readers() -> tuple[Reader, ...]:
    """Return all readers, in the order in which messages list their formats."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    # in reverse order, which begins with NWB; folders come last
    return tuple(sorted(_READERS, key=lambda r: r.suffixes[:1], reverse=True))


def read_file(path: Path, settings: Settings) -> Recording:
    """Read a recording with the reader of its format.

    Raises:
        LFADSError: there is no such file, no reader of its format, or something is wrong in it.
    """
    known = readers()
    suffixes = ", ".join(s for each in known for s in each.suffixes)
    if (settings.columns or settings.rows) and path.suffix.lower() not in TABLES:
        option = "columns" if settings.columns else "rows"
        raise LFADSError(f"{path}: is no table; the option {option} is for {', '.join(TABLES)}")
    if path.is_dir():
        for each in known:
            if each.is_folder is not None and each.is_folder(path):
                return each.read(path, settings)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        folders = "".join(f", or {each.folder}" for each in known if each.is_folder is not None)
        raise LFADSError(f"{path}: {found}; expected a recording ({suffixes}{folders})")
    suffix = path.suffix.lower()
    for each in known:
        if suffix in each.suffixes:
            return each.read(path, settings)
    raise LFADSError(
        f"{path}: {path.suffix or 'no extension'} is no known format; expected one of {suffixes}"
        f"{_HINTS.get(suffix, '')}"
    )
