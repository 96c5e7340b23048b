"""Gaussian smoothing of counts over time."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from lfads_lightning.metrics.missing import has_missing, mean_of
from lfads_lightning.metrics.truth import rate_r2

LEAST_WEIGHT = 1e-6  # of what is near
MOST_BINS_OF_MATRIX = 512  # for longer trials, the filter itself takes less arithmetic


def smooth(counts: np.ndarray, sd: float) -> np.ndarray:
    """Smooth counts (E, T, D) over time with a Gaussian of ``sd`` bins, reflected at the ends.

    Entries that are NaN do not count; where nothing near is known, the neuron's mean is taken.
    """
    if has_missing(counts):
        known = ~np.isnan(counts)
        return smooth_shown(np.where(known, counts, 0), known, sd, mean_of(counts, (0, 1)))
    counts = counts.astype(np.float64)
    if counts.shape[1] > MOST_BINS_OF_MATRIX:
        return gaussian_filter1d(counts, sd, axis=1, mode="reflect")
    return kernel(counts.shape[1], sd) @ counts


def smooth_shown(x: np.ndarray, shown: np.ndarray, sd: float, mean: np.ndarray) -> np.ndarray:
    """Smooth what is shown of x (E, T, D) over time; where nothing near is shown, the mean (D,)."""
    weight = smooth(shown.astype(np.float64), sd)
    return np.where(weight > LEAST_WEIGHT, smooth(x * shown, sd) / np.maximum(weight, LEAST_WEIGHT),
                    mean)  # fmt: skip


def kernel(n_bins: int, sd: float) -> np.ndarray:
    """Return the matrix (T, T) by which :func:`smooth` multiplies each trial."""
    return gaussian_filter1d(np.eye(n_bins), sd, axis=0, mode="reflect")


def widths(n_bins: int) -> np.ndarray:
    """Return the widths (sd, bins) that are tried for trials of T bins."""
    return np.unique(np.geomspace(1, max(n_bins / 3, 2), 16).round(1))


def best_smoothing(counts: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return the best that Gaussian smoothing does: R^2 (mean over neurons), pooled R^2, width.

    The width (sd, bins; that of the best pooled R^2) is chosen for each score on the very trials
    that are scored, which flatters smoothing.

    Args:
        counts: (E, T, D).
        truth: (E, T, D), counts per bin.
    """
    tried = widths(counts.shape[1])
    scores = np.array([rate_r2(smooth(counts, sd), truth) for sd in tried])
    mean, pooled = scores.max(0)
    return float(mean), float(pooled), float(tried[scores[:, 1].argmax()])
