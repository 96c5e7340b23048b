"""Text files of anybody's making: settings in YAML or JSON, a run's own records, tables."""

import csv
import json
from pathlib import Path
from typing import Any

from lfads_lightning.config import LFADSError

MAX_BYTES = 2**16  # of ours none has half


def read_document(content: bytes, where: str) -> Any:
    """Return what a YAML or JSON text holds: mappings, lists, numbers and texts.

    Args:
        content: the whole file.
        where: names it in errors.

    Raises:
        LFADSError: neither YAML nor JSON, too large, nested too deeply, with tags of classes or
            with aliases, of which a few lines can make billions of values.
    """
    import yaml

    if len(content) > MAX_BYTES:
        raise LFADSError(
            f"{where}: has more than {MAX_BYTES} bytes, too many for a file of settings; give the "
            "right file"
        )
    try:
        text = content.decode("utf-8-sig")
        # JSON first: YAML 1.1 reads 1e-05 as a text
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
        LFADSError: it is not JSON, or nested deeper than Python goes.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LFADSError(f"{where}: is not JSON ({' '.join(str(error).split())[:200]})") from error


def as_cell(value: Any) -> Any:
    """Return what a CSV table has in a cell: a text that a spreadsheet would compute stays a text.

    ``=HYPERLINK(…)`` gets an apostrophe before it; numbers stay as they are.
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
    """Return the rows of a CSV table by column, as far as they can be read; none without a file."""
    rows: list[dict[str, str]] = []
    try:
        with path.open(newline="", errors="replace") as file:
            for row in csv.DictReader(file):
                rows.append({k: v or "" for k, v in row.items() if k is not None})
    except (OSError, csv.Error):
        pass  # what stands before the damage counts
    return rows
