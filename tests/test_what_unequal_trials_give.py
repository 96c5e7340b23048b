"""What training on unequal trials and around missing entries gives, by the simulated truth."""

import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning import metrics
from lfads_lightning.data.simulation import lorenz_states

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

N_TRIALS, N_VALID = 100, 40
SIZES = {"ic_dim": 16, "factors_dim": 6, "ic_enc_dim": 32, "gen_dim": 40, "ci_enc_dim": 24,
         "con_dim": 24, "co_dim": 1, "batch_size": 20}  # fmt: skip
HOW = {"recipe": "original", "device": "cpu:0", "report": False, "max_steps": 900, "seed": 0,
       "kl_increase_steps": 300, "l2_increase_steps": 300, "learning_rate_init": 0.005,
       "optimizer": "adamw", "schedule": "cosine", "kl_ic_weight": 0.3, "kl_co_weight": 0.3,
       "do_standardise_input": True, "do_start_at_mean_rates": True}  # fmt: skip


def recording(n_bins, n_neurons, depth=0.6, log_rate=-1.0):
    """Return rates and counts (E, T, D) of neurons that follow a Lorenz system."""
    rng = np.random.default_rng(0)
    starts = rng.normal(0, 5, (N_TRIALS, 3)) + [0, 0, 20]
    states = lorenz_states(starts, n_bins, 3)
    states = (states - states.mean((0, 1))) / states.std((0, 1))
    log_rates = states @ rng.normal(0, depth, (3, n_neurons)) + rng.normal(log_rate, 0.3, n_neurons)
    rates = np.exp(log_rates)
    return rates, rng.poisson(rates)


def trained_on(train, valid, folder, **more):
    return lfads.fit(train, valid_data=valid, lfads_save_dir=folder, **SIZES | HOW | more)


def test_longer_trials_help_held_out_neurons(tmp_path):
    """Trials of 40 to 120 bins against the same trials cut to 40, on the first 40 bins."""
    rates, counts = recording(120, 30)
    lengths = np.random.default_rng(1).integers(40, 121, N_TRIALS)
    held_out = list(range(0, 30, 5))
    whole = [x[:n] for x, n in zip(counts, lengths, strict=True)]
    found = {}
    for name, data in (("unequal", whole), ("cut", counts[:, :40])):
        trained = trained_on(
            data[N_VALID:], data[:N_VALID], tmp_path / name, held_out_neurons=held_out
        )
        given, truth = counts[:N_VALID, :40], rates[:N_VALID, :40]
        guess = trained.posterior_sample_and_average(given, 32).rates
        found[name] = (
            metrics.co_bps(guess, given, held_out),
            metrics.rate_r2(guess[..., held_out], truth[..., held_out])[0],
            metrics.rate_r2(guess, truth)[0],
        )
    for unequal, cut in zip(found["unequal"], found["cut"], strict=True):
        assert unequal >= cut


def test_missing_channels_cost_little_and_zeros_much(tmp_path):
    """A tenth of the channels of each trial is missing: from training and from what is scored."""
    rates, counts = recording(50, 50, depth=0.3, log_rate=0.3)
    gone = np.random.default_rng(2).random((N_TRIALS, 1, 50)) < 0.1
    ways = {"whole": counts, "missing": np.where(gone, np.nan, counts), "zeros": counts * ~gone}
    found = {}
    for name, data in ways.items():
        trained = trained_on(data[N_VALID:], data[:N_VALID], tmp_path / name)
        post = trained.posterior_sample_and_average(data[:N_VALID], 32)
        found[name] = metrics.rate_r2(post.rates, rates[:N_VALID])[0]
    assert found["missing"] > found["whole"] - 0.03
    assert found["zeros"] < found["whole"] - 0.1
