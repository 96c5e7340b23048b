"""Spike times to counts, sampled behaviour to bins: edges, rounding, conservation."""

from decimal import Decimal

import numpy as np
import pytest

from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.binning import (
    average_signal,
    count_spikes,
    holds_real_values,
    join_bins,
    whole_bins,
)


def exact_counts(ticks, starts, n_bins, width, unit):
    """Count in integers: times, starts and width are whole numbers of ``unit`` seconds."""
    counts = np.zeros((len(starts), n_bins), int)
    for i, start in enumerate(starts):
        bins = (ticks - start) // width
        inside = (bins >= 0) & (bins < n_bins)
        np.add.at(counts[i], bins[inside], 1)
    return counts


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width_ticks", [1, 7, 10, 30, 333])
def test_spikes_on_edges_belong_to_the_later_bin(seed, width_ticks):
    """Times are sums of floats, as clocks make them; integers say where each spike belongs."""
    rng = np.random.default_rng(seed)
    unit = float(rng.choice([1e-3, 1e-4, 1 / 30000]))
    n_bins, n_trials = 20, 30
    starts = rng.integers(0, 10**7, n_trials)
    edges = starts[:, None] + np.arange(-1, n_bins + 2) * width_ticks
    ticks = np.sort(np.concatenate([edges.ravel(), rng.integers(0, 10**7, 1000)]))
    # three ways to the same moment, with three roundings
    times = [ticks * unit, ticks / (1 / unit), (ticks - 5) * unit + 5 * unit]
    expected = exact_counts(ticks, starts, n_bins, width_ticks, unit)
    counts = count_spikes([np.sort(t) for t in times], starts * unit, n_bins, width_ticks * unit)
    for d in range(3):
        np.testing.assert_array_equal(counts[:, :, d], expected)


def test_a_tenth_and_two_tenths_lose_no_spike():
    edges = np.cumsum(np.full(50, 0.1))  # 0.1, 0.2, 0.30000000000000004, ...
    counts = count_spikes([edges], np.array([0.0]), 51, 0.1)
    np.testing.assert_array_equal(counts[0, :, 0], [0] + [1] * 50)


@pytest.mark.parametrize("seed", range(3))
def test_neighbouring_windows_share_no_spike_and_lose_none(seed):
    rng = np.random.default_rng(seed)
    width, n_bins, n_windows = float(rng.choice([0.001, 0.01, 0.03, 0.1])), 10, 200
    starts = 1234.5 + np.arange(n_windows) * n_bins * width
    end = 1234.5 + n_windows * n_bins * width
    inside = [np.sort(rng.uniform(1234.5 + 1e-4, end - 1e-4, 5000)) for _ in range(3)]
    inside[0] = np.sort(np.concatenate([inside[0], starts[1:]]))
    counts = count_spikes(inside, starts, n_bins, width)
    assert counts.sum((0, 1)).tolist() == [len(t) for t in inside]


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_a_histogram(seed):
    """Windows may overlap; away from edges NumPy counts the same."""
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, 20, rng.integers(0, 3000))) for _ in range(4)]
    starts = rng.uniform(0, 18, 25)
    counts = count_spikes(times, starts, 40, 0.025)
    for i, start in enumerate(starts):
        for d in range(4):
            expected, _ = np.histogram(times[d], start + np.arange(41) * 0.025)
            np.testing.assert_array_equal(counts[i, :, d], expected)


@pytest.mark.parametrize(
    ("duration", "width", "n"), [(0.7, 0.02, 35), (0.3, 0.1, 3), (1.2, 0.4, 3), (1, 1 / 3, 3)]
)
def test_whole_bins_despite_rounding(duration, width, n):
    assert Decimal(duration) % Decimal(width) != 0 or duration == 1.2
    assert whole_bins(duration, width, "a trial") == n


@pytest.mark.parametrize(("duration", "width"), [(0.7, 0.03), (0.001, 0.01), (1.0001, 0.01)])
def test_width_that_does_not_divide(duration, width):
    with pytest.raises(
        LFADSError, match=r"a trial of .* expected a whole number: make it .* s, or"
    ):
        whole_bins(duration, width, "a trial")


def test_joined_bins_keep_every_spike():
    counts = np.random.default_rng(0).integers(0, 255, (3, 12, 4)).astype(np.uint8)
    joined = join_bins(counts, 3)
    np.testing.assert_array_equal(joined.sum(1), counts.sum(1, dtype=int))
    np.testing.assert_array_equal(joined[1, 2], counts[1, 6:9].sum(0, dtype=int))
    np.testing.assert_allclose(join_bins(counts, 4, average=True)[:, 0], counts[:, :4].mean(1))
    assert join_bins(counts, 1) is counts


def test_real_values_are_told_from_counts_and_gaps():
    counts = np.array([[1.0, np.nan], [3.0, 0.0]])
    assert not holds_real_values(counts)
    assert holds_real_values(counts + np.array([[0], [0.5]]))
    assert not holds_real_values(counts[1].astype(int))


def test_behaviour_is_averaged_within_bins():
    times = np.arange(1000) * 0.001 + 5.0
    values = np.stack([times, np.sin(times)], axis=1)
    made = average_signal(times, values, np.array([5.1, 5.5]), 10, 0.02)
    assert made.shape == (2, 10, 2)
    for i, first in enumerate((100, 500)):
        expected = values[first : first + 200].reshape(10, 20, 2).mean(1)
        np.testing.assert_allclose(made[i], expected, rtol=1e-6)


def test_slow_behaviour_is_interpolated_and_gaps_stay_gaps():
    times = np.arange(0, 2, 0.05)
    values = 3 * times[:, None]
    made = average_signal(times, values, np.array([0.5]), 40, 0.01)[0, :, 0]
    centres = 0.5 + (np.arange(40) + 0.5) * 0.01
    has_sample = np.isclose(np.arange(40) % 5, 0)
    np.testing.assert_allclose(made[~has_sample], 3 * centres[~has_sample], rtol=1e-5)
    np.testing.assert_allclose(made[has_sample], 3 * (centres[has_sample] - 0.005), rtol=1e-5)
    hole = (times < 0.6) | (times > 0.75)
    made = average_signal(times[hole], values[hole], np.array([0.5]), 40, 0.01)[0, :, 0]
    assert np.isnan(made[11:29]).all()
    assert np.isfinite(made[:5]).all()
    assert np.isnan(average_signal(times, values, np.array([1.8]), 40, 0.01)).any()
