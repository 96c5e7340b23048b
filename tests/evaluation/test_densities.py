"""The log-density of values under rates, the rest of the noise model fitted."""

import numpy as np
import pytest
from scipy import stats

from lfads_lightning.data.simulation import draw_gamma, draw_zero_inflated_gamma
from lfads_lightning.evaluation.densities import log_density
from lfads_lightning.model.observations import from_name

RNG = np.random.default_rng(0)
MEANS = np.exp(RNG.normal(0, 1, (40, 30, 3)))


def test_gaussian_is_that_of_the_residuals():
    data = RNG.normal(MEANS, [0.5, 1.0, 3.0])
    data[:7, :, 1] = np.nan
    sd = np.sqrt(np.nanmean((data - MEANS) ** 2, (0, 1)))
    theirs = np.nanmean(stats.norm(MEANS, sd).logpdf(data))
    assert log_density(from_name("gaussian"), MEANS, data) == pytest.approx(theirs, abs=2e-3)
    assert np.isnan(log_density(from_name("gaussian"), MEANS, np.ones_like(data)))


def test_what_is_fitted_is_as_good_as_the_truth():
    data = draw_gamma(RNG, MEANS, 2.0)
    theirs = stats.gamma(2.0, scale=MEANS / 2.0).logpdf(data).mean()
    found = log_density(from_name("gamma"), MEANS, data)
    assert theirs - 1e-4 < found < theirs + 5e-3

    data = draw_zero_inflated_gamma(RNG, MEANS, 0.5, 3.0)
    q, mu = MEANS / (MEANS + 0.5), MEANS + 0.5
    above = np.log(q) + stats.gamma(3.0, scale=mu / 3.0).logpdf(np.where(data > 0, data, 1))
    theirs = np.where(data > 0, above, np.log1p(-q)).mean()
    silent = np.zeros((40, 30, 1))  # a channel that never changes does not count
    found = log_density(
        from_name("zero_inflated_gamma"), *(np.concatenate([a, silent], 2) for a in (MEANS, data))
    )
    assert theirs - 1e-4 < found < theirs + 5e-3
    constant = np.broadcast_to(data.mean((0, 1)), data.shape)
    assert log_density(from_name("zero_inflated_gamma"), constant, data) < theirs - 0.05
