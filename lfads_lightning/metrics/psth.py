"""Averages over the trials of each condition, and how well rates match them."""

from typing import NamedTuple

import numpy as np

from lfads_lightning.metrics.missing import mean_of
from lfads_lightning.metrics.regression import r2


class Psth(NamedTuple):
    """Peri-stimulus time histograms: means over the trials of each condition."""

    conditions: np.ndarray  # (C,), labels
    means: np.ndarray  # (C, T, D); NaN bins are not scored


SD_S = 0.05  # the Neural Latents Benchmark uses 40 to 70 ms, depending on the recording


def psth_sd(bin_width_s: float | None, n_bins: int) -> float:
    """Return the width (sd, bins) that PSTHs are smoothed with: 50 ms, or a 20th of a trial.

    Args:
        bin_width_s: seconds; None if unknown.
        n_bins: T, bins per trial.
    """
    return n_bins / 20 if bin_width_s is None else SD_S / bin_width_s


def psth(activity: np.ndarray, condition: np.ndarray) -> Psth:
    """Average trials by condition.

    Args:
        activity: (E, T, D), smoothed counts or rates; NaN entries are left out.
        condition: (E,) labels.
    """
    labels = np.unique(condition)
    return Psth(
        labels,
        np.stack([mean_of(activity[condition == label], 0, empty=np.nan) for label in labels]),
    )


def psth_r2(rates: np.ndarray, condition: np.ndarray, target: Psth) -> float:
    """Return R^2 of condition-averaged rates against the PSTH, mean over neurons.

    Conditions and bins are pooled for each neuron; conditions without a trial, and bins in which
    the PSTH of the first neuron is NaN, are left out (Pei et al. 2021, section 4).

    Args:
        rates: (E, T, D).
        condition: (E,) labels.
        target: PSTHs of the smoothed counts.
    """
    truth, guess = [], []
    for label, mean in zip(target.conditions, target.means, strict=True):
        trials = condition == label
        if trials.any():
            known = ~np.isnan(mean[:, 0])
            truth.append(mean[known])
            guess.append(mean_of(rates[trials], 0, empty=np.nan)[known])
    each = r2(np.concatenate(truth), np.concatenate(guess))
    return float(mean_of(each, 0))
