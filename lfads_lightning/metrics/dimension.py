"""How many dimensions activity uses."""

import math

import numpy as np

from lfads_lightning.metrics.missing import complete_rows


def effective_dimensionality(activity: np.ndarray) -> float:
    """Return the participation ratio (sum l)^2 / sum l^2 of the covariance's eigenvalues l.

    Between 1 and n (Gao et al. 2017; Abbott et al. 2011); NaN if the activity is constant.

    Args:
        activity: (E, T, n), factors or rates; bins with NaN are left out.
    """
    (activity,) = complete_rows(activity)
    rows = np.asarray(activity, dtype=np.float64).reshape(-1, activity.shape[-1])
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred
    # trace(C)^2 / trace(C C): no eigenvalues are needed
    squared = np.square(covariance).sum()
    return float(np.trace(covariance) ** 2 / squared) if squared > 0 else math.nan
