"""Which noise model values suggest: a table, and data that were drawn of each."""

import numpy as np
import pytest

from lfads_lightning.data.simulation import (
    draw_gamma,
    draw_negative_binomial,
    draw_zero_inflated_gamma,
)
from lfads_lightning.data.suggested import ValueStatistics, statistics_of, suggested


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (ValueStatistics(True, 0, 0.9), "poisson"),
        (ValueStatistics(True, 0, 0.9, fano=0.5), "poisson"),
        (ValueStatistics(True, 0, 0.1, fano=2.5), "negative_binomial"),
        (ValueStatistics(False, -0.1, 0.0), "gaussian"),
        (ValueStatistics(False, -0.1, 0.9, skew=3), "gaussian"),  # fluorescence, dF/F
        (ValueStatistics(False, 0.0, 0.9, skew=3), "zero_inflated_gamma"),
        (ValueStatistics(False, 0.0, 0.9), "zero_inflated_gamma"),  # events all alike
        (ValueStatistics(False, 0.0, 0.001, skew=2), "zero_inflated_gamma"),  # gamma has none
        (ValueStatistics(False, 0.01, 0.0, skew=2, mean_in_sds=1), "gamma"),
        (ValueStatistics(False, 0.01, 0.0, skew=0.2, mean_in_sds=1), "gaussian"),
        (ValueStatistics(False, 0.01, 0.0, skew=2, mean_in_sds=30), "gaussian"),
    ],
)
def test_rule(values, expected):
    found = suggested(values)
    assert found.output_dist.name == expected
    assert found.why


RNG = np.random.default_rng(0)
# means that move slowly, as rates do
MEANS = np.exp(0.8 * np.sin(np.linspace(0, 3, 50))[:, None] + RNG.normal(0, 0.5, (40, 1, 6)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RNG.poisson(MEANS), "poisson"),
        (RNG.poisson(MEANS).astype(float), "poisson"),
        (draw_negative_binomial(RNG, MEANS, 1.0), "negative_binomial"),
        (draw_gamma(RNG, MEANS, 0.7), "gamma"),
        (draw_zero_inflated_gamma(RNG, 0.1 * MEANS, 1.0, 2.0), "zero_inflated_gamma"),
        (RNG.normal(MEANS, 1.0), "gaussian"),
        (1000 + RNG.gamma(2.0, 1.0, MEANS.shape), "gaussian"),
        (np.pad(draw_gamma(RNG, MEANS, 0.7), ((0, 0), (0, 0), (0, 1)), constant_values=0.0),
         "zero_inflated_gamma"),  # a silent channel, but for which there are no zeros
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_data_of_each_noise_model_suggest_it(data, expected):
    statistics = statistics_of({"train": data[:30], "valid": data[30:]})
    assert suggested(statistics).output_dist.name == expected, statistics


def test_nothing_that_moves():
    assert suggested(statistics_of({"train": np.zeros((2, 3, 4))})).output_dist.name == "poisson"
    assert suggested(statistics_of({"train": np.full((2, 1, 4), 3)})).output_dist.name == "poisson"
