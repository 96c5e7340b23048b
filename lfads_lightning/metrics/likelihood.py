"""How well rates explain counts: likelihood, and bits per spike above a null model."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammaln

from lfads_lightning.metrics.missing import mean_of

BLOCK_ENTRIES = 2**17
SMALLEST_RATE = 1e-9  # counts per bin; as in the Neural Latents Benchmark (2021)


def poisson_nll(rates: np.ndarray, counts: np.ndarray) -> float:
    """Return -log p(counts; rates), summed: sum of r - n log r + log n!.

    Args:
        rates: expected counts per bin; lower ones are raised to 1e-9.
        counts: same shape, or one that ``rates`` broadcasts to; NaN entries are left out.
    """
    return _summed(lambda r, n: r - n * np.log(r) + gammaln(n + 1), rates, counts)


def _summed(
    cost: Callable[[np.ndarray, np.ndarray], np.ndarray], rates: np.ndarray, counts: np.ndarray
) -> float:
    """Return a cost of rates and counts, summed over the entries whose counts are known."""
    rates, counts = np.broadcast_arrays(np.atleast_1d(rates), np.atleast_1d(counts))
    # block by block: all rows in double precision may take more memory than the recording
    n = max(BLOCK_ENTRIES * len(counts) // max(counts.size, 1), 1)
    total = 0.0
    for i in range(0, len(counts), n):
        some = counts[i : i + n].astype(np.float64)
        each = cost(np.maximum(rates[i : i + n].astype(np.float64), SMALLEST_RATE), some)
        if counts.dtype.kind == "f":
            each = np.where(np.isnan(some), 0.0, each)
        total += float(each.sum())
    return total


def null_nll(counts: np.ndarray) -> float:
    """Return -log p(counts), summed, under each neuron's mean rate over the same counts.

    Args:
        counts: (E, T, D); NaN entries are left out.
    """
    return poisson_nll(np.broadcast_to(mean_of(counts, (0, 1)), counts.shape), counts)


def bits(nats: float, spikes: float) -> float:
    """Convert a gain over a null model from nats to bits per spike; NaN without spikes.

    >>> bits(nats=3 * math.log(2), spikes=6)
    0.5
    """
    return nats / spikes / math.log(2) if spikes else math.nan


def bits_per_spike(rates: np.ndarray, counts: np.ndarray) -> float:
    """Return (NLL_null - NLL_model) / spikes / ln 2; NaN without spikes.

    The null model is each neuron's mean over the same counts (Pei et al. 2021, section 4).

    Args:
        rates: (E, T, D), expected counts per bin.
        counts: (E, T, D); NaN entries are left out.
    """
    counts = np.asarray(counts)
    n: int | np.ndarray = counts[..., 0].size
    total = np.nansum(counts, (0, 1), dtype=np.float64)
    if counts.dtype.kind == "f":
        missing = np.isnan(counts)
        n = np.maximum((~missing).sum((0, 1)), 1)
        rates = np.where(missing, 1.0, rates)  # any finite value
    if total.sum() == 0:
        return math.nan
    mean = np.maximum(total / n, SMALLEST_RATE)
    # log n! cancels
    of_null = float((n * mean - total * np.log(mean)).sum())
    gain = of_null - _summed(lambda r, n: r - n * np.log(r), rates, counts)
    return bits(gain, float(total.sum()))


def bits_of_neurons(rates: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return each neuron's bits per spike (D,), see :func:`bits_per_spike`; NaN if it is silent.

    Args:
        rates: (E, T, D), expected counts per bin.
        counts: (E, T, D); NaN entries are left out.
    """
    mean = np.maximum(mean_of(counts, (0, 1)), SMALLEST_RATE)
    rates = np.maximum(rates.astype(np.float64), SMALLEST_RATE)
    nats = np.nansum(counts * np.log(rates / mean) - rates + mean, (0, 1))
    spikes = np.nansum(counts, (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spikes > 0, nats / spikes / np.log(2), np.nan)


def co_bps(
    rates: np.ndarray, counts: np.ndarray, held_out: list[int], forward_steps: int = 0
) -> float:
    """Return bits per spike of neurons that the encoders never saw (co-smoothing).

    Scored in the bins in which the encoders saw the other neurons. The null model is that of
    :func:`bits_per_spike` (Pei et al. 2021, section 4; Macke et al. 2011).

    Args:
        rates: (E, T, D), expected counts per bin.
        counts: (E, T, D).
        held_out: columns of the held-out neurons.
        forward_steps: number of forward bins at the end of the trials; they are left out.
    """
    seen = slice(None, counts.shape[1] - forward_steps)
    return bits_per_spike(rates[:, seen][..., held_out], counts[:, seen][..., held_out])


def fp_bps(rates: np.ndarray, counts: np.ndarray, forward_steps: int) -> float:
    """Return bits per spike of all neurons in the last bins, which the encoders never saw.

    The null model is that of :func:`bits_per_spike` on these bins (Pei et al. 2021, section 4).

    Args:
        rates: (E, T, D), expected counts per bin.
        counts: (E, T, D).
        forward_steps: number of the last bins.
    """
    first = counts.shape[1] - forward_steps
    return bits_per_spike(rates[:, first:], counts[:, first:])
