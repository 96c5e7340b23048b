"""Tables: CSV files, parquet files, and data frames in memory, as columns by name."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lfads_lightning.config import LFADSError


def read_table(path: Path, columns: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read a table's columns: numbers as float64, all else as text.

    Args:
        path: a CSV or parquet file.
        columns: names of the columns, for a CSV file without a header.

    Raises:
        LFADSError: the file is missing, or is not a table with a header.
    """
    if not path.is_file():
        raise LFADSError(f"{path}: no such file; expected a table with named columns")
    if path.suffix.lower() in (".parquet", ".pq", ".pqt"):
        if columns:
            raise LFADSError(f"{path}: names its columns itself; leave out the option columns")
        return _read_parquet(path)
    return _read_csv(path, columns)


def _read_csv(path: Path, named: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            if not first.strip():
                raise LFADSError(f"{path}: is empty; expected a header and rows")
            marks = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
            mark = max(marks, key=first.count)
            names = [n.strip() for n in next(csv.reader([first.strip("\r\n")], delimiter=mark))]
    except (OSError, UnicodeDecodeError) as error:
        raise LFADSError(f"{path}: cannot be read ({error}); expected a text table") from error
    if named:
        names = _as_named(path, names, named)
    elif len(set(names)) < len(names) or any(_is_number(name) for name in names):
        shown = tuple(f"column{k + 1}" for k in range(len(names)))
        likely = {2: ("unit", "time"), 3: ("trial", "unit", "time")}.get(len(names), shown)
        found = ", ".join(names) if len(names) <= 20 else ", ".join(names[:20]) + ", ..."
        example = f"columns={likely[:20]}"
        raise LFADSError(
            f"{path}: its first row is {found}; expected the names of the columns, each once, such "
            f"as unit,time; if it has none, name them with {example}"
        )
    skipped = 0 if named else 1
    columns = {}
    for i, name in enumerate(names):
        try:
            columns[name] = _column(path, mark, i, float, skipped)
        except ValueError:
            columns[name] = _truth_values(_text_column(path, mark, i, name, skipped))
    return {name: c for name, c in columns.items() if not _numbers_rows(name, c)}


def _truth_values(texts: np.ndarray) -> np.ndarray:
    """Read true and false as pandas and R write them; empty fields are NaN. Others stay texts."""
    lower = np.char.lower(np.char.strip(texts))
    is_true, is_false, is_empty = lower == "true", lower == "false", lower == ""
    if not (is_true | is_false | is_empty).all() or is_empty.all():
        return texts
    return np.where(is_empty, np.nan, is_true) if is_empty.any() else is_true


def _numbers_rows(name: str, column: np.ndarray) -> bool:
    """Return whether a column without a name holds the row numbers that pandas and R write."""
    if name and not name.startswith("Unnamed: "):
        return False
    return column.dtype.kind == "f" and bool((np.diff(column) == 1).all())


def _as_named(path: Path, first: list[str], named: Sequence[str]) -> list[str]:
    """Return the names given to the columns of a table without a header."""
    words = [word.strip() for text in named for word in text.split(",") if word.strip()]
    if len(set(words)) < len(words) or len(words) != len(first):
        raise LFADSError(
            f"{path}: its rows have {len(first)} columns, the option columns gives {len(words)} "
            f"names ({', '.join(words)}); expected one for each, each once"
        )
    if not any(_is_number(value) for value in first):
        raise LFADSError(
            f"{path}: its first row holds no number, but names ({', '.join(first)}); leave out the "
            "option columns, or take that row out"
        )
    return words


def _column(path: Path, mark: str, index: int, kind: type, skipped: int) -> np.ndarray:
    # one column at a time, so that no texts are held for columns of numbers; empty is NaN
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "loadtxt: input contained no data")
        return np.loadtxt(
            path,
            dtype=kind,
            delimiter=mark,
            skiprows=skipped,
            usecols=index,
            comments=None,
            quotechar='"',
            encoding="utf-8",
            ndmin=1,
            converters=_number_or_nan if kind is float else None,
        )


def _number_or_nan(text: str) -> float:
    return float(text) if text.strip() else np.nan


def _text_column(path: Path, mark: str, index: int, name: str, skipped: int) -> np.ndarray:
    try:
        return _column(path, mark, index, str, skipped)
    except ValueError as error:
        raise LFADSError(
            f"{path}: {name}: cannot be read ({error}); expected rows as long as the header"
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise LFADSError(
            f'{path}: reading parquet needs pyarrow; pip install "lfads-lightning[parquet]"'
        ) from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise LFADSError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); expected a parquet "
            "table; copy or write it again"
        ) from error
    return {n: _as_column(table[n].to_numpy(), f"{path}: {n}") for n in table.column_names}


def columns_of_frame(frame: Any, source: str) -> dict[str, np.ndarray]:
    """Return the columns of a data frame (pandas, polars), and named levels of its index."""
    if any(name is not None for name in getattr(getattr(frame, "index", None), "names", ())):
        frame = frame.reset_index()
    return {str(n): _as_column(np.asarray(frame[n]), f"{source}: {n}") for n in frame.columns}


def _as_column(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind in "biuf":
        return values
    if all(isinstance(v, str) for v in values):
        return np.array(values.tolist(), dtype=str)
    try:
        return values.astype(float)  # None is NaN
    except (TypeError, ValueError) as error:
        raise LFADSError(
            f"{where} holds neither numbers nor texts; expected a plain column"
        ) from error


def plain_ids(ids: np.ndarray) -> np.ndarray:
    """Show whole numbers without a decimal point: a CSV file's numbers are floats."""
    whole = ids.dtype.kind == "f" and np.array_equal(ids, np.floor(ids))
    return ids.astype(np.int64) if whole else ids


def no_number(values: np.ndarray) -> str:
    """Say which value of a column is not a finite number."""
    if values.dtype.kind in "iuf":
        row = int(np.flatnonzero(~np.isfinite(values))[0])
    else:
        row = next((i for i, v in enumerate(values.tolist()) if not _is_finite(v)), 0)
    return f"is not a number in every row, first in row {row + 1}: {str(values[row])!r}"


def _is_finite(text: Any) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except (TypeError, ValueError):
        return False
