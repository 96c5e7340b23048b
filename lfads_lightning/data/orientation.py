"""Whether the axes of an array are trials × bins × neurons, judged from its values alone.

Each neuron has its own rate, and neighbouring neurons are no more alike than others. Mean rates of
successive bins are similar or change smoothly. Mean rates of trials hardly differ.
"""

from typing import NamedTuple

import numpy as np

AXES = ("trials", "bins", "neurons")
# smallest axes for a judgment, because a few neurons may be alike by chance
LEAST_BINS, LEAST_TRIALS = 8, 16
MOST_ENTRIES = 4_000_000  # entries compared with their neighbours in time
ORDINALS = ("first", "second", "last")


class _Axis(NamedTuple):
    """How the mean counts differ along an axis, corrected for chance."""

    n: int
    spread: float  # squared coefficient of variation
    typical: float  # median difference of the logarithms of neighbours
    chance: float  # expected value of this difference by chance
    disorder: float  # 0: neighbours are alike; 1: they differ as much as any two entries
    excess: float  # variance in units of that expected by chance


def likely_axes(values: np.ndarray) -> tuple[str, ...] | None:
    """Return the likely order of the axes, if it is hardly trials × bins × neurons.

    None if the order could be right, for example because all neurons fire alike. If trials and
    bins cannot be told apart, the likelier order is returned.

    Args:
        values: three axes, or the two of a continuous recording, bins × neurons; counts are judged
            by their rates, real values by the correlation of neighbouring entries.
    """
    if values.ndim == 2:
        found = likely_axes(values[None])
        return None if found is None or found[1] != "neurons" else ("neurons", "bins")
    if values.ndim != 3 or 0 in values.shape or values.shape[2] < LEAST_BINS:
        return None
    axis = _neurons_of_counts(values) if _are_counts(values) else _neurons_of_real(values)
    if axis is None:
        return None
    first, second = (k for k in range(3) if k != axis)
    lasts_first, lasts_second = abs(_lasting(values, first)), abs(_lasting(values, second))
    bins = second if axis == 1 else first  # the most common order
    if max(lasts_first, lasts_second) > 1.5 * min(lasts_first, lasts_second):
        bins = first if lasts_first > lasts_second else second
    named = ["trials"] * 3
    named[axis], named[bins] = "neurons", "bins"
    return named[0], named[1], named[2]


def question(axes: tuple[str, ...]) -> str:
    """Say why the axes of an array seem to be ``axes``."""
    at = axes.index("neurons") + 3 - len(axes)
    return f"it differs along its {ORDINALS[at] if len(axes) == 3 else 'first'} axis as neurons do"


def transposition(axes: tuple[str, ...]) -> tuple[int, ...]:
    """Return the argument of ``numpy.transpose`` that puts ``axes`` in our order."""
    return tuple(axes.index(name) for name in AXES if name in axes)


def _are_counts(values: np.ndarray) -> bool:
    if values.dtype.kind in "bu":
        return True
    low = values.min()
    if not low >= 0:  # NaN too
        return False
    if values.dtype.kind == "i":
        return True
    some = values[:: max(len(values) // 20, 1)]
    return bool((some == np.floor(some)).all())


def _neurons_of_counts(counts: np.ndarray) -> int | None:
    """Return the axis, not the last one, along which mean counts differ as those of neurons."""
    sheet = counts.sum(0, dtype=np.float64)  # (second, last)
    sums = counts.sum((1, 2), dtype=np.float64), sheet.sum(1), sheet.sum(0)
    if not np.isfinite(sums[0]).all() or not sums[0].any():
        return None
    first, second, last = map(_describe, sums)
    are_individuals = last.disorder > 0.5 and last.excess > 8 and last.spread > 0.01
    if last.typical > 0.25 or are_individuals:
        return None
    found = []
    # trials drift and differ too: require far more than that, or neurons sorted by rate
    is_sorted = first.spread > 0.6
    if first.n >= 4 and last.n >= LEAST_TRIALS and first.spread > max(0.1, 4 * last.spread):
        if is_sorted or _unlike(first, 0.25):
            found.append((first.spread, 0))
    if second.n >= 4 and second.spread > max(0.02, 4 * last.spread) and _unlike(second, 0.25):
        found.append((second.spread, 1))
    return max(found)[1] if found else None


def _unlike(axis: _Axis, least: float) -> bool:
    """Return whether most neighbours along an axis differ as much as any two entries."""
    return (
        axis.disorder > 0.4
        and axis.excess > 5
        and axis.typical > max(least, (1 + 4 / axis.n**0.5) * axis.chance)
    )


def _describe(sums: np.ndarray) -> _Axis:
    n, mean = len(sums), sums.mean()
    if n < 2:
        return _Axis(n, 0.0, 0.0, 0.0, 0.0, 0.0)
    variance = sums.var(ddof=1)
    left = variance - mean  # a Poisson count varies by its mean
    steps = np.square(np.diff(sums)).mean() / 2 - mean
    logs = np.abs(np.diff(np.log(sums + 0.5)))
    chance = 0.6745 * np.sqrt(2 / max(np.median(sums), 1))  # for Poisson counts
    typical = np.sqrt(max(np.median(logs) ** 2 - chance**2, 0))
    disorder = steps / left if left > 0 else 0.0
    return _Axis(
        n, left / mean**2, float(typical), float(chance), float(disorder), float(variance / mean)
    )


def _neurons_of_real(values: np.ndarray) -> int | None:
    """Return 1 if real values are smooth along the last axis, and not at all along the second."""
    if values.shape[1] < 4 or not np.isfinite([values.min(), values.max()]).all():
        return None
    last = _lasting(values, 2)
    return 1 if last > 0.2 and abs(_lasting(values, 1)) < 0.1 * last else None


def _lasting(values: np.ndarray, axis: int) -> float:
    """Return how much more alike neighbours along an axis are than any two entries: -1 to 1."""
    x = _some(values).astype(np.float64)
    x = x - x.mean()
    others = [k for k in range(3) if k != axis]
    for k in others:
        x -= x.mean(tuple(j for j in range(3) if j != k), keepdims=True)
    variance = np.square(x).mean()
    x = np.moveaxis(x, axis, 0)
    n = len(x)
    if n < 3 or not variance > 0:
        return 0.0
    any_two = (np.square(x.sum(0)) - np.square(x).sum(0)).mean() / (n * (n - 1))
    return float(((x[1:] * x[:-1]).mean() - any_two) / variance)


def _some(values: np.ndarray) -> np.ndarray:
    """Return the middle part of a large array, so that neighbours stay neighbours."""
    keep = list(values.shape)
    while np.prod(keep, dtype=float) > MOST_ENTRIES:
        longest = int(np.argmax(keep))
        keep[longest] = (keep[longest] + 1) // 2
    middle = (
        slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(values.shape, keep, strict=True)
    )
    return values[tuple(middle)]
