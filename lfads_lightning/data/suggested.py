"""Which noise model the values of a recording suggest."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lfads_lightning.config import OutputDist
from lfads_lightning.data.arrays import as_counts
from lfads_lightning.data.values import could_be_real
from lfads_lightning.metrics import varies

# Variance over mean between neighbouring bins, whose rates hardly differ; 1 for Poisson.
OVERDISPERSED = 1.5
FEW_ZEROS = 0.02  # a smaller share of zeros comes from clipping or rounding, not from absent events
SKEWED = 1.0  # skewness of values above 0; 0 for a Gaussian, 2 for an exponential distribution
FAR_FROM_ZERO = 3.0  # mean in standard deviations above which nothing is cut off at 0
MOST_TRIALS = 200  # trials examined


class ValueStatistics(NamedTuple):
    """Statistics that the noise model is chosen by.

    Attributes:
        is_counts: whether all values are whole numbers of 0 or more, or damaged counts.
        lowest: the lowest value.
        zeros: share of entries that are 0, in channels that are not silent.
        fano: for counts, the variance over mean between neighbouring bins (half the mean square of
            their difference, over the mean), median over channels.
        skew: skewness of values above 0, median over channels.
        mean_in_sds: mean over standard deviation, median over channels.
    """

    is_counts: bool
    lowest: float
    zeros: float
    fano: float = 1.0
    skew: float = 0.0
    mean_in_sds: float = 0.0


class Suggestion(NamedTuple):
    """A noise model and the reason for it."""

    output_dist: OutputDist
    why: str


def suggested(values: ValueStatistics) -> Suggestion:
    """Return the noise model that values suggest.

    >>> suggested(ValueStatistics(is_counts=False, lowest=0.0, zeros=0.9, skew=2.0))[0].name
    'zero_inflated_gamma'
    """
    if values.is_counts:
        if values.fano > OVERDISPERSED:
            why = f"the variance of the counts is {values.fano:.2g} times their mean"
            return Suggestion(OutputDist.negative_binomial, why)
        return Suggestion(OutputDist.poisson, "counts")
    if values.lowest < 0:
        return Suggestion(OutputDist.gaussian, "some values are below 0")
    if values.zeros > FEW_ZEROS:
        why = f"no values are below 0, and {100 * values.zeros:.0f} % are 0"
        return Suggestion(OutputDist.zero_inflated_gamma, why)
    if values.skew < SKEWED or values.mean_in_sds > FAR_FROM_ZERO:
        return Suggestion(OutputDist.gaussian, "the values are not skewed, or far from 0")
    why = f"the values are skewed ({values.skew:.2g}) and 0 or more"
    if values.zeros or values.lowest == 0:
        return Suggestion(OutputDist.zero_inflated_gamma, f"{why}, and a few are 0")
    return Suggestion(OutputDist.gamma, why.replace("0 or more", "above 0"))


def statistics_of(data: Mapping[str, np.ndarray]) -> ValueStatistics:
    """Return the statistics of the splits of a session, (E, T, D) each, by any name.

    Constant channels and NaN entries are left out. In long splits only evenly spaced trials are
    examined, except for the lowest value and the zeros.
    """
    data = {name: a for name, a in data.items() if not np.isnan(a).all()}
    there = {name: np.nan_to_num(a, nan=0.0) for name, a in data.items()}
    are_counts = all(as_counts(a) is not None for a in there.values())
    is_counts = are_counts or not could_be_real(there)
    lowest = min((float(np.nanmin(a)) for a in data.values()), default=0.0)
    some = np.concatenate([a[:: -(-len(a) // MOST_TRIALS)] for a in data.values()])
    moving = varies(some)
    if not moving.any():
        return ValueStatistics(is_counts, lowest, 0.0)
    some = some[..., moving]
    flat = some.reshape(-1, some.shape[2]).astype(np.float64)
    mean, sd = np.nanmean(flat, 0), np.nanstd(flat, 0)
    n_zeros = sum(int((a[..., moving] == 0).sum()) for a in data.values())
    zeros = n_zeros / sum(int((~np.isnan(a[..., moving])).sum()) for a in data.values())
    if is_counts:
        steps = np.square(np.diff(some.astype(np.float64), axis=1)) / 2
        fano = float(np.median(np.nanmean(steps, (0, 1)) / mean)) if some.shape[1] > 1 else 1.0
        return ValueStatistics(is_counts, lowest, zeros, fano)
    skews = [_skew(column[column > 0]) for column in flat.T]
    return ValueStatistics(
        is_counts,
        lowest,
        zeros,
        skew=float(np.median(skews)),
        mean_in_sds=float(np.median(mean / sd)),
    )


def _skew(values: np.ndarray) -> float:
    """Return the third standardised moment; 0 for few values, or if all are equal."""
    if len(values) < 3 or not values.std():
        return 0.0
    return float((((values - values.mean()) / values.std()) ** 3).mean())
