"""Gaussian smoothing of counts over time."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from lfads_lightning.metrics.missing import has_missing, mean_of
from lfads_lightning.metrics.truth import rate_r2

LEAST_WEIGHT = 1e-6  # of the known bins nearby; below it there are none
MOST_BINS_OF_MATRIX = 512  # for longer trials, filtering takes less arithmetic


def smooth(counts: np.ndarray, sd: float) -> np.ndarray:
    """Smooth counts (E, T, D) over time with a Gaussian of ``sd`` bins, reflected at the ends.

    NaN entries are left out; where all bins nearby are NaN, the neuron's mean is used.
    """
    if has_missing(counts):
        known = ~np.isnan(counts)
        return smooth_shown(np.where(known, counts, 0), known, sd, mean_of(counts, (0, 1)))
    counts = counts.astype(np.float64)
    if counts.shape[1] > MOST_BINS_OF_MATRIX:
        return gaussian_filter1d(counts, sd, axis=1, mode="reflect")
    return kernel(counts.shape[1], sd) @ counts


def smooth_shown(x: np.ndarray, shown: np.ndarray, sd: float, mean: np.ndarray) -> np.ndarray:
    """Smooth the shown entries of x (E, T, D) over time; the mean (D,) where none is nearby."""
    weight = smooth(shown.astype(np.float64), sd)
    return np.where(weight > LEAST_WEIGHT, smooth(x * shown, sd) / np.maximum(weight, LEAST_WEIGHT),
                    mean)  # fmt: skip


def kernel(n_bins: int, sd: float) -> np.ndarray:
    """Return the matrix (T, T) that :func:`smooth` multiplies each trial with."""
    return gaussian_filter1d(np.eye(n_bins), sd, axis=0, mode="reflect")


def widths(n_bins: int) -> np.ndarray:
    """Return the widths (sd, bins) to try for trials of T bins."""
    return np.unique(np.geomspace(1, max(n_bins / 3, 2), 16).round(1))


def best_smoothing(counts: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return the best scores of Gaussian smoothing: R^2 (mean over neurons), pooled R^2, width.

    The width is chosen for each score on the scored trials themselves, which flatters smoothing.
    The width returned (sd, bins) is that of the best pooled R^2.

    Args:
        counts: (E, T, D).
        truth: (E, T, D), counts per bin.
    """
    tried = widths(counts.shape[1])
    scores = np.array([rate_r2(smooth(counts, sd), truth) for sd in tried])
    mean, pooled = scores.max(0)
    return float(mean), float(pooled), float(tried[scores[:, 1].argmax()])
