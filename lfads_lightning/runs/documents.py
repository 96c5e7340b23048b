"""Text files from any source: settings in YAML or JSON, a run's own records, tables."""

import csv
import json
from pathlib import Path
from typing import Any

from lfads_lightning.config import LFADSError

MAX_BYTES = 2**16  # none of our own files reaches half of this


def read_document(content: bytes, where: str) -> Any:
    """Return what a YAML or JSON text holds: mappings, lists, numbers and strings.

    Args:
        content: the whole file.
        where: the file's name in error messages.

    Raises:
        LFADSError: the text is neither YAML nor JSON, too large or nested too deeply, or has class
            tags or aliases (a few lines of aliases can expand to billions of values).
    """
    import yaml

    if len(content) > MAX_BYTES:
        raise LFADSError(
            f"{where}: has more than {MAX_BYTES} bytes, too many for a file of settings; give the "
            "right file"
        )
    try:
        text = content.decode("utf-8-sig")
        # JSON first: YAML 1.1 reads 1e-05 as a string
        if text.lstrip().startswith("{"):
            return json.loads(text)
        if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise LFADSError(
                f"{where}: is neither YAML nor JSON of plain values: it holds aliases (*name); "
                "write the values out"
            )
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        if isinstance(error, LFADSError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise LFADSError(f"{where}: is neither YAML nor JSON ({reason})") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file of a run's folder holds.

    Raises:
        FileNotFoundError: there is none.
        LFADSError: it cannot be read, or is not JSON.
    """
    try:
        return parsed_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LFADSError(f"{path}: cannot be read ({error.strerror})") from error


def parsed_json(content: bytes, where: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        LFADSError: it is not JSON, or nested too deeply for Python.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LFADSError(f"{where}: is not JSON ({' '.join(str(error).split())[:200]})") from error


def as_cell(value: Any) -> Any:
    """Return a value as a CSV cell, so that spreadsheets do not take a string for a formula.

    ``=HYPERLINK(…)`` is prefixed with an apostrophe; numbers stay as they are.
    """
    text = "" if value is None else str(value)
    if isinstance(value, int | float) or not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(text)
        return value
    except ValueError:
        return f"'{text}"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the readable rows of a CSV table, each by column name; empty if there is no file."""
    rows: list[dict[str, str]] = []
    try:
        with path.open(newline="", errors="replace") as file:
            for row in csv.DictReader(file):
                rows.append({k: v or "" for k, v in row.items() if k is not None})
    except (OSError, csv.Error):
        pass  # keep the rows before the damage
    return rows
