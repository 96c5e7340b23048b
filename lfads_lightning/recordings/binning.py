"""From times to bins: counting spikes, averaging behaviour, joining bins."""

import numpy as np

from lfads_lightning.config import LFADSError

# Bins. Times in seconds carry rounding errors: 0.1 + 0.2 lies above 0.3. A spike this close before
# an edge counts as on it; for 1 ms bins that is a nanosecond, far below any sampling period.
TOLERANCE = 1e-6
MOST_BINS = 10**8  # per recording; at 1 ms, more than a day
BLOCK_BYTES = 16 * 2**20


def whole_bins(duration_s: float, bin_width_s: float, what: str) -> int:
    """Return how many bins fit into a stretch of time.

    Args:
        duration_s: length of the stretch in seconds.
        bin_width_s: seconds.
        what: name of the stretch in the error message.

    Raises:
        LFADSError: the bin width does not divide it, or it is implausibly long.
    """
    if not abs(duration_s / bin_width_s) <= MOST_BINS:
        raise LFADSError(
            f"{what} of {duration_s:.9g} s is {duration_s / bin_width_s:.6g} bins of "
            f"{bin_width_s:.9g} s; expected at most {MOST_BINS:.0e}; check the unit of time"
        )
    n = round(duration_s / bin_width_s)
    if n < 1 or abs(duration_s / bin_width_s - n) > 1e-6 * max(n, 1):
        n = max(n, 1)
        raise LFADSError(
            f"{what} of {duration_s:.9g} s is {duration_s / bin_width_s:.6g} bins of "
            f"{bin_width_s:.9g} s; expected a whole number: make it {n * bin_width_s:.9g} s, or "
            f"bin_width_s={duration_s / n:.9g}"
        )
    return n


def bin_indices(times_s: np.ndarray, start_s: float | np.ndarray, bin_width_s: float) -> np.ndarray:
    """Return the bin of each time; bin k holds start + k w <= t < start + (k + 1) w."""
    bins = (times_s - start_s) / bin_width_s
    return np.floor(bins + TOLERANCE).astype(np.int64)


def count_spikes(
    times_s: list[np.ndarray], starts_s: np.ndarray, n_bins: int, bin_width_s: float
) -> np.ndarray:
    """Count the spikes of windows, which may overlap.

    Args:
        times_s: D neurons' spike times, sorted.
        starts_s: (n,), where each window begins.
        n_bins: T.
        bin_width_s: seconds.

    Returns:
        (n, T, D) uint32.
    """
    counts = np.zeros((len(starts_s), n_bins, len(times_s)), np.uint32)
    margin = bin_width_s / 2
    first = starts_s - margin
    last = starts_s + n_bins * bin_width_s + margin
    for d, times in enumerate(times_s):
        low, high = np.searchsorted(times, first), np.searchsorted(times, last)
        n = high - low
        window = np.repeat(np.arange(len(n)), n)
        at = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(low, n)
        bins = bin_indices(times[at], starts_s[window], bin_width_s)
        inside = (bins >= 0) & (bins < n_bins)
        flat = np.bincount((window * n_bins + bins)[inside], minlength=len(n) * n_bins)
        counts[:, :, d] = flat.reshape(len(n), n_bins)
    return counts


def join_bins(values: np.ndarray, n: int, average: bool = False) -> np.ndarray:
    """Sum or average every ``n`` bins of (E, T, ...); n must divide T."""
    if n == 1:
        return values
    grouped = values.reshape(len(values), values.shape[1] // n, n, *values.shape[2:])
    if average:
        return grouped.mean(2, dtype=np.float64).astype(np.float32)
    return grouped.sum(2, dtype=np.float64 if values.dtype.kind == "f" else np.int64)


def holds_real_values(values: np.ndarray) -> bool:
    """Return whether (E, ...) holds anything but whole numbers and NaN."""
    if values.dtype.kind != "f":
        return False
    return any((v != np.floor(v))[np.isfinite(v)].any() for v in values)


def average_signal(
    times_s: np.ndarray, values: np.ndarray, starts_s: np.ndarray, n_bins: int, bin_width_s: float
) -> np.ndarray:
    """Average a sampled signal within the bins of windows.

    A bin without a sample is interpolated between its neighbours, if these are no farther apart
    than one and a half sampling intervals; else it is NaN.

    Args:
        times_s: (S,), rising.
        values: (S, K).
        starts_s: (n,), where each window begins.
        n_bins: T.
        bin_width_s: seconds.

    Returns:
        (n, T, K) float32.
    """
    out = np.full((len(starts_s), n_bins, values.shape[1]), np.nan, np.float32)
    if len(times_s) == 0:
        return out
    interval = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    centres = (np.arange(n_bins) + 0.5) * bin_width_s
    for i, start in enumerate(starts_s):
        low, high = np.searchsorted(
            times_s, [start - bin_width_s, start + (n_bins + 1) * bin_width_s]
        )
        bins = bin_indices(times_s[low:high], start, bin_width_s)
        inside = (bins >= 0) & (bins < n_bins)
        n = np.bincount(bins[inside], minlength=n_bins)
        with np.errstate(invalid="ignore"):
            for k in range(values.shape[1]):
                sums = np.bincount(bins[inside], values[low:high, k][inside], n_bins)
                out[i, :, k] = np.where(n > 0, sums / np.maximum(n, 1), np.nan)
        for t in np.flatnonzero(n == 0):
            out[i, t] = _between(times_s, values, start + centres[t], 1.5 * interval)
    return out


def _between(times_s: np.ndarray, values: np.ndarray, at: float, widest: float) -> np.ndarray:
    after = int(np.searchsorted(times_s, at))
    if not 0 < after < len(times_s) or times_s[after] - times_s[after - 1] > widest:
        return np.full(values.shape[1], np.nan)
    share = (at - times_s[after - 1]) / (times_s[after] - times_s[after - 1])
    return values[after - 1] + share * (values[after] - values[after - 1])


def block_size(n_bins: int, n_neurons: int) -> int:
    """Return how many trials are binned at once."""
    return max(BLOCK_BYTES // max(4 * n_bins * n_neurons, 1), 1)
