"""Scores against the true rates, states and inputs of simulated data."""

import math
from typing import NamedTuple

import numpy as np

from lfads_lightning.metrics.missing import complete_rows
from lfads_lightning.metrics.regression import affine_r2


class StateR2(NamedTuple):
    """R^2 between factors and a true state, by affine maps in both directions."""

    states: np.ndarray  # (K,), each dimension of the state, from the factors
    factors: np.ndarray  # (F,), each factor, from the state; low for invented dimensions


class PulseTiming(NamedTuple):
    """When inferred inputs respond to true pulses."""

    n_pulses: int
    share_found: float  # share of the true pulses that have a response
    offset_bins: float  # median of (response - pulse), over the pulses with a response
    spread_bins: float  # standard deviation of (response - pulse)


def rate_r2(rates: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return R^2 of rates against true rates: mean over neurons, and pooled over all bins.

    R^2 = 1 - sum (truth - rates)^2 / sum (truth - its mean)^2. Neurons with constant true rates
    have no R^2 and are left out of the mean.

    Args:
        rates: (E, T, D).
        truth: (E, T, D), in the same units; bins in which either array has NaN are left out.
    """
    rates, truth = complete_rows(np.asarray(rates), np.asarray(truth))
    truth = np.asarray(truth, dtype=np.float64)
    residual = np.square(truth - rates)
    spread = np.square(truth - truth.mean((0, 1))).sum((0, 1))
    moves = spread > 1e-12
    each = 1 - residual.sum((0, 1))[moves] / spread[moves]
    pooled = 1 - residual.sum() / np.square(truth - truth.mean()).sum()
    return float(each.mean()), float(pooled)


def state_r2(
    factors: np.ndarray,
    states: np.ndarray,
    train_factors: np.ndarray | None = None,
    train_states: np.ndarray | None = None,
) -> StateR2:
    """Compare factors with the true state of a simulation, up to an affine map, both ways.

    The map from factors to state shows whether the state was found; the map from state to factors,
    whether the model invented anything else (Versteeg et al. 2023, "Expressive dynamics models
    ...").

    Args:
        factors: (E, T, F).
        states: (E, T, K).
        train_factors: (E', T, F), to fit the maps on; None to fit them on the scored trials.
        train_states: (E', T, K).
    """
    return StateR2(
        affine_r2(factors, states, train_factors, train_states),
        affine_r2(states, factors, train_states, train_factors),
    )


def input_r2(
    inferred: np.ndarray,
    truth: np.ndarray,
    train_inferred: np.ndarray | None = None,
    train_truth: np.ndarray | None = None,
) -> np.ndarray:
    """Return R^2 of each true input, predicted from the inferred ones by an affine map.

    Sign, scale and order of inferred inputs are arbitrary (Sussillo et al. 2016, section 3).

    Args:
        inferred: (E, T, U).
        truth: (E, T, K).
        train_inferred: (E', T, U), to fit the map on; None to fit it on the scored trials.
        train_truth: (E', T, K).
    """
    return affine_r2(inferred, truth, train_inferred, train_truth)


def pulse_timing(
    inferred: np.ndarray, truth: np.ndarray, window_bins: int = 5, threshold_sd: float = 2.0
) -> PulseTiming:
    """Find the response of the inferred inputs to each true pulse.

    A pulse begins where ``|truth|``, the largest over inputs, first exceeds half its maximum.
    Activity is the root mean square over the inferred inputs, each as the distance from its mean in
    standard deviations. The response is the peak of the activity within ``window_bins`` of the
    pulse, if it exceeds ``threshold_sd``.

    Args:
        inferred: (E, T, U).
        truth: (E, T, K).
        window_bins: bins to search on either side of the pulse.
        threshold_sd: activity that a response must exceed.
    """
    size = np.abs(np.asarray(truth, dtype=np.float64)).max(2)
    high = size > size.max() / 2
    starts = np.argwhere(high & ~np.pad(high, ((0, 0), (1, 0)))[:, :-1])
    inferred = np.asarray(inferred, dtype=np.float64)
    sd = inferred.std((0, 1))
    scaled = (inferred - inferred.mean((0, 1))) / np.where(sd > 0, sd, 1)
    activity = np.sqrt(np.square(scaled).mean(2))
    offsets = []
    for trial, t in starts:
        first = max(t - window_bins, 0)
        near = activity[trial, first : t + window_bins + 1]
        if near.max() > threshold_sd:
            offsets.append(first + int(near.argmax()) - t)
    if not offsets:
        return PulseTiming(len(starts), 0.0 if len(starts) else math.nan, math.nan, math.nan)
    return PulseTiming(
        len(starts),
        len(offsets) / len(starts),
        float(np.median(offsets)),
        float(np.std(offsets)),
    )
