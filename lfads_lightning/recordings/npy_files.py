"""Arrays of .npy files: mapped, not read, and never unpickled."""

import sys
import tokenize
import warnings
from pathlib import Path

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import sizes

# exceptions that the header of a damaged array raises
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, RuntimeError, MemoryError,
    OverflowError, tokenize.TokenError,
)  # fmt: skip


class PythonObjectsError(LFADSError):
    """An array holds Python objects: reading these could run code."""


def map_array(path: Path) -> np.ndarray:
    """Return the array of a file, whose values stay on disk until they are used.

    Raises:
        LFADSError: the file is damaged.
        PythonObjectsError: it holds Python objects.
    """
    try:
        return checked_text(np.asarray(np.lib.format.open_memmap(path, mode="r")))
    except _DAMAGE as error:
        said = " ".join(str(error).split())[:200]
        kind = PythonObjectsError if "Python objects" in said else LFADSError
        raise kind(
            f"{path}: cannot be read ({said}); expected a plain array as numpy.save writes it; "
            "copy or export it again"
        ) from error


def warn_of_objects(path: Path) -> None:
    """Warn that an array was left out because it holds Python objects."""
    warnings.warn(
        f"{path}: holds Python objects, which could run code when read; it is left out",
        stacklevel=3,
    )


def checked_text(values: np.ndarray) -> np.ndarray:
    """Return an array unchanged if its texts, if any, are valid Unicode.

    Raises:
        ValueError: they are not valid; NumPy would fail when they are first used.
    """
    if values.dtype.kind == "U" and values.size:
        codes = np.frombuffer(values.tobytes(), np.uint32)
        if values.dtype.byteorder == (">" if sys.byteorder == "little" else "<"):
            codes = codes.byteswap()
        if (codes > sys.maxunicode).any():
            raise ValueError("holds what are no letters")
    return values


def map_vector(path: Path, what: str) -> np.ndarray:
    """Return the array of a file as (n,); it may also be a row or a column.

    Raises:
        LFADSError: the file is damaged, or its array has several axes. ``what`` names the items
            that should have one value each.
    """
    values = map_array(path)
    if values.size != max(values.shape, default=0):
        raise LFADSError(f"{path} is {sizes(values.shape)}; expected one value for each {what}")
    return values.reshape(-1)


def whole_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    """Return samples, clusters and the like (n,) as integers.

    Raises:
        LFADSError: some are not whole numbers.
    """
    if values.dtype.kind not in "iuf":
        raise LFADSError(f"{path} holds values of type {values.dtype}; expected whole numbers")
    if values.dtype.kind != "f":
        return values
    bad = np.flatnonzero(~(np.abs(values) < 2**53) | (values != np.floor(values)))
    if len(bad):
        raise LFADSError(
            f"{path}: entry {bad[0]} is {values[bad[0]]:.9g}; expected whole numbers: samples and "
            "clusters; times in seconds go into a table or a .npz file"
        )
    return values.astype(np.int64)
