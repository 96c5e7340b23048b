"""Numbers that say how good inferred rates are; plain functions on arrays."""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import gammaln

BLOCK_ENTRIES = 2**17
SMALLEST_RATE = 1e-9  # counts per bin; as the Neural Latents Benchmark (2021)


def poisson_nll(rates: np.ndarray, counts: np.ndarray) -> float:
    """Return -log p(counts; rates), summed: sum of r - n log r + log n!.

    Args:
        rates: expected counts per bin; raised to 1e-9.
        counts: same shape, or one that ``rates`` broadcasts to.
    """
    rates, counts = np.broadcast_arrays(np.atleast_1d(rates), np.atleast_1d(counts))
    # some rows at a time: in double precision all of them may take more memory than the recording
    n = max(BLOCK_ENTRIES * len(counts) // max(counts.size, 1), 1)
    blocks = ((rates[i : i + n], counts[i : i + n]) for i in range(0, len(counts), n))
    return sum((_nll(*block) for block in blocks), 0.0)


def _nll(rates: np.ndarray, counts: np.ndarray) -> float:
    rates = np.maximum(rates.astype(np.float64), SMALLEST_RATE)
    counts = counts.astype(np.float64)
    return float((rates - counts * np.log(rates) + gammaln(counts + 1)).sum())


def bits_per_spike(rates: np.ndarray, counts: np.ndarray) -> float:
    """Return (NLL_null - NLL_model) / spikes / ln 2; NaN without spikes.

    The null model is each neuron's mean over these very counts (Pei et al. 2021, section 4).

    Args:
        rates: (E, T, D), expected counts per bin.
        counts: (E, T, D).
    """
    n_spikes = counts.sum(dtype=np.float64)
    if n_spikes == 0:
        return float("nan")
    null = counts.mean((0, 1), keepdims=True)
    gain = poisson_nll(np.broadcast_to(null, counts.shape), counts) - poisson_nll(rates, counts)
    return float(gain / n_spikes / np.log(2))


def rate_r2(rates: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return R^2 of rates against true rates: mean over neurons, and pooled over all bins.

    R^2 = 1 - sum (truth - rates)^2 / sum (truth - its mean)^2. Neurons whose truth is constant have
    none and are left out of the mean.

    Args:
        rates: (E, T, D).
        truth: (E, T, D), in the same units.
    """
    truth = np.asarray(truth, dtype=np.float64)
    residual = np.square(truth - rates)
    spread = np.square(truth - truth.mean((0, 1))).sum((0, 1))
    moves = spread > 1e-12
    each = 1 - residual.sum((0, 1))[moves] / spread[moves]
    pooled = 1 - residual.sum() / np.square(truth - truth.mean()).sum()
    return float(each.mean()), float(pooled)


def smooth(counts: np.ndarray, sd: float) -> np.ndarray:
    """Smooth counts (E, T, D) over time with a Gaussian of ``sd`` bins, reflected at the ends."""
    return gaussian_filter1d(counts.astype(np.float64), sd, axis=1, mode="reflect")


def best_smoothing(counts: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return the best that Gaussian smoothing does: R^2 (mean over neurons), pooled R^2, width.

    The width (sd, bins; that of the best pooled R^2) is chosen for each score on the very trials
    that are scored, which flatters smoothing.

    Args:
        counts: (E, T, D).
        truth: (E, T, D), counts per bin.
    """
    widths = np.unique(np.geomspace(1, max(counts.shape[1] / 3, 2), 16).round(1))
    scores = np.array([rate_r2(smooth(counts, sd), truth) for sd in widths])
    mean, pooled = scores.max(0)
    return float(mean), float(pooled), float(widths[scores[:, 1].argmax()])
