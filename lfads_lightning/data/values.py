"""Clues in values: marks for missing entries, spikes per second, counts with fractions."""

import math
from collections.abc import Mapping

import numpy as np

# values that programs write for missing entries
MARKS = (-1, -9, -99, -999, -9999, -99999, 9999, 99999, 999999, 255, 65535, 2**32 - 1, -128, -32768)
MOST_ENTRIES = 2_000_000  # entries examined for a step between values


def mark_of_missing(values: np.ndarray) -> str | None:
    """Say which value seems to stand for entries that were not measured; None if there is none.

    It is a common mark (-1, -9999, 255), occurs more than once, and lies far from all other values.

    Args:
        values: any shape.
    """
    if not values.size or values.dtype.kind not in "iuf":
        return None
    finite = np.isfinite([values.min(), values.max()]).all()
    known = values if finite else values[np.isfinite(values)]
    if not known.size:
        return None
    for mark in (known.min(), known.max()):
        if mark not in MARKS:
            continue
        marked = values == mark
        n = int(marked.sum())
        if n < 2 or n == known.size:
            continue
        others = known[known != mark]
        low, high = float(others.min()), float(others.max())
        is_count = low >= 0 and not (others != np.floor(others)).any()
        if (
            is_count
            and (mark < 0 or (n < known.size / 2 and mark > 2 * high))
            or (not is_count and abs(mark) >= 99 and abs(mark) > 5 * max(abs(low), abs(high)))
        ):
            first = ", ".join(map(str, np.unravel_index(int(np.argmax(marked)), values.shape)))
            return (
                f"{mark:g} in {n} of {values.size} entries, first at [{first}]: it seems to mark "
                "missing entries (padding)"
            )
    return None


def step_between(values: np.ndarray, bin_width_s: float | None = None) -> float | None:
    """Return the step that all values are multiples of, if it shows that they are not counts.

    Counts divided by the bin width are multiples of 1 / width.

    Args:
        values: (E, T, D).
        bin_width_s: seconds; None: not known.
    """
    some = values[:: max(math.ceil(values.size / MOST_ENTRIES), 1)]
    filled = some[some > 0] if values.size and values.dtype.kind in "iuf" else np.zeros(0)
    if filled.size < 20 or (some < 0).any() or not np.isfinite(filled.max()):
        return None
    levels = np.unique(filled)
    step = float(levels[0])
    multiples = levels / step
    if len(levels) < 2 and bin_width_s is None:
        return None
    # numbers rounded to .01 are multiples of it as well, but have many more levels
    if len(levels) > 100 or np.abs(multiples - np.rint(multiples)).max() > 1e-3 or step == 1:
        return None
    if bin_width_s is not None and math.isclose(step * bin_width_s, 1, rel_tol=1e-3):
        return step
    return step if step > 1.5 and len(levels) > 2 else None


def half_counts(values: np.ndarray) -> str | None:
    """Name the first value with a fraction, if nearly all are whole numbers of 0 or more."""
    if values.dtype.kind != "f":
        return None
    n = n_odd = 0
    where, near = "", True
    for i, row in enumerate(values):  # row by row, without a mask as large as the array
        filled = row[np.isfinite(row) & (row != 0)]
        odd = filled[filled != np.floor(filled)]
        if filled.size and filled.min() < 0:
            return None
        n, n_odd = n + filled.size, n_odd + odd.size
        if odd.size:
            near = near and bool(np.abs(odd - np.rint(odd)).max() < 1e-3)
            if not where:
                at = np.argwhere(row == odd[0])[0].tolist()
                where = f"{float(odd[0])!r} at [{', '.join(map(str, [i, *at]))}]"
    if not n_odd or (not near and n_odd > 0.2 * n):
        return None
    if near:
        return f"{where}: whole numbers but for rounding errors; round them (numpy.rint)"
    return f"{where}: {n - n_odd} of {n} values are whole numbers, as counts are; fix the others"


def is_constant(data: np.ndarray) -> np.ndarray:
    """Return which channels (D,) of (E, T, D) never change."""
    constant = np.ones(data.shape[2], bool)
    for trial in data:
        constant &= (trial == data[0, 0]).all(0)
    return constant


def could_be_real(data: Mapping[str, np.ndarray]) -> bool:
    """Return whether values are real (calcium, LFP) and not damaged counts: few are whole numbers.

    Args:
        data: arrays of at least one axis, by any name.
    """
    for array in data.values():
        if array.dtype.kind != "f":
            return bool(array.min() < 0) and mark_of_missing(array) is None
        for trial in array[:100]:
            filled = trial[np.isfinite(trial) & (trial != 0)]
            if filled.size and (filled != np.floor(filled)).mean() > 0.5:
                return True
    return False
