"""Arithmetic that leaves missing entries (NaN) out; without NaN it gives what NumPy gives."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def has_missing(x: np.ndarray) -> bool:
    """Return whether any entry is NaN."""
    # the minimum is then NaN: this needs no mask as large as the array
    return x.dtype.kind == "f" and x.size > 0 and bool(np.isnan(x.min()))


def mean_of(
    x: np.ndarray, axis: int | tuple[int, ...], dtype: Any = None, empty: float = 0.0
) -> np.ndarray:
    """Return the mean over axes of the entries that are not NaN; ``empty`` where all are NaN.

    >>> mean_of(np.array([[1.0, np.nan], [3.0, np.nan]]), 0).tolist()
    [2.0, 0.0]
    """
    if not has_missing(x):
        return np.asarray(x.mean(axis, dtype=dtype))
    n = (~np.isnan(x)).sum(axis)
    return np.where(n > 0, np.nansum(x, axis, dtype=np.float64) / np.maximum(n, 1), empty)


def varies(x: np.ndarray) -> np.ndarray:
    """Return which channels (D,) of x (E, T, D) are not constant; NaN entries are left out.

    >>> varies(np.array([[[1.0, 2.0, np.nan], [1.0, np.nan, np.nan], [1.0, 3.0, np.nan]]])).tolist()
    [False, True, False]
    """
    # fmin and fmax ignore NaN, without a copy
    return np.asarray(np.fmin.reduce(x, (0, 1)) < np.fmax.reduce(x, (0, 1)))


def complete_rows(*arrays: np.ndarray) -> Sequence[np.ndarray]:
    """Return arrays (E, T, n) without the bins in which any of them has NaN, as (1, rows, n).

    Arrays without NaN are returned unchanged.
    """
    if not any(map(has_missing, arrays)):
        return arrays
    known = ~np.logical_or.reduce([np.isnan(a).any(2) for a in arrays])
    return [a[known][None] for a in arrays]
