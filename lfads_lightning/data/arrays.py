"""Arrays as users give them: their type, their values, and the words to name them in messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.config import LFADSError

MAX_COUNT = 2**32 - 1


def as_array(source: str, key: str, value: ArrayLike) -> np.ndarray:
    """View anything array-like as an array."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise LFADSError(f"{source}: {key} is no array of numbers ({error})") from error


def sizes(shape: tuple[int, ...]) -> str:
    """Write a shape as 40×50×30."""
    return "×".join(map(str, shape)) or "a scalar"


def listed(items: Collection[object], most: int = 5) -> str:
    """List the first few items and count the others."""
    shown = ", ".join(str(item) for item in list(items)[:most]) or "nothing"
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def nearest(word: str, known: Collection[str]) -> str:
    """Ask whether the nearest known word was meant."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def check_dtype(where: str, dtype: np.dtype) -> None:
    """Refuse all but booleans, integers and real numbers."""
    if dtype.kind not in "biuf":
        kinds = {"c": "complex numbers", "S": "text", "U": "text", "O": "text or objects"}
        found = kinds.get(dtype.kind, f"values of type {dtype}")
        raise LFADSError(f"{where} holds {found}; expected an array of real numbers")


def to_float(where: str, array: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Hold finite values as `dtype`, without a copy if they already are."""
    with np.errstate(over="ignore"):
        values = array.astype(dtype, order="C", copy=False)
    check_finite(where, values)
    return values


def check_finite(where: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity."""
    # the extremes carry both: no mask as large as the array is needed
    if not np.isfinite([array.min(), array.max()]).all():
        expected = f"all values must be finite in {array.dtype}; mend them or leave the trial out"
        refuse_value(where, array, ~np.isfinite(array), expected)


def to_counts(where: str, array: np.ndarray) -> np.ndarray:
    """Hold counts as the smallest unsigned integer type, without a copy if they already are."""
    counts = as_counts(array)
    if counts is not None:
        return counts
    gaussian = "for real values set model.output_dist=gaussian"
    faults: tuple[tuple[Callable[[np.ndarray], np.ndarray], str], ...] = (
        (lambda x: ~np.isfinite(x), "counts must be finite; mend them or leave the trial out"),
        (lambda x: x < 0, f"counts per bin cannot be negative; {gaussian}"),
        (lambda x: x > MAX_COUNT, f"counts go up to {MAX_COUNT}; {gaussian}"),
        (lambda x: x != np.floor(x), f"output_dist=poisson takes whole counts; {gaussian}"),
    )
    bad, expected = next((m, text) for fault, text in faults if (m := fault(array)).any())
    refuse_value(where, array, bad, expected)


def as_counts(array: np.ndarray) -> np.ndarray | None:
    """Cast to the smallest of uint8, uint16 and uint32, or return None if values would change."""
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= MAX_COUNT):  # so written, NaN fails too
        return None
    counts = array.astype(np.min_scalar_type(int(high)), order="C", copy=False)
    if array.dtype.kind != "f":
        return counts
    # row by row: no mask as large as the array is needed
    same = all(np.array_equal(a, b) for a, b in zip(counts, array, strict=True))
    return counts if same else None


def refuse_value(where: str, array: np.ndarray, bad: np.ndarray, expected: str) -> NoReturn:
    """Name the first of the bad values."""
    index = np.unravel_index(int(np.argmax(bad)), bad.shape)
    raise LFADSError(f"{where}[{', '.join(map(str, index))}] is {array[index]}; {expected}")
