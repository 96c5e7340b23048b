"""Make the arrays of tests/metrics/nlb/arrays.npz, and score them with nlb_tools (0.0.4).

    python tests/metrics/nlb/make.py                    # the arrays
    python tests/metrics/nlb/make.py --figures          # figures.json too: needs nlb_tools

``nlb_tools`` pins old versions of pandas; ``pip install --no-deps nlb_tools`` in an environment of
its own, beside numpy, scipy, scikit-learn and h5py, is enough for its evaluation. Counts, rates and
behaviour are made from a random walk in three dimensions; some rates are 0, some entries of counts,
behaviour and PSTHs are NaN, as in the benchmark's files.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def arrays() -> dict[str, np.ndarray]:
    """Return what is scored: 40 + 24 trials, 20 + 4 bins, 9 + 3 neurons, 4 conditions."""
    rng = np.random.default_rng(7)
    n_train, n_test, n_bins, n_neurons, forward, held_out = 40, 24, 24, 12, 4, 3
    condition = np.arange(n_train + n_test) % 4
    steps = 0.4 * rng.standard_normal((4, n_bins, 3))[condition]
    steps = steps + 0.15 * rng.standard_normal(steps.shape)
    state = np.cumsum(steps, axis=1)
    true = np.exp(0.4 * state @ rng.standard_normal((3, n_neurons)) - 1)
    counts = rng.poisson(true).astype(float)
    rates = true * np.exp(0.3 * rng.standard_normal(true.shape))
    rates[rng.random(rates.shape) < 0.002] = 0
    behaviour = state[:, :20] @ rng.standard_normal((3, 2)) + rng.standard_normal((64, 20, 2))
    behaviour[3, 5:9], behaviour[-1, :4] = np.nan, np.nan
    psth = np.stack([true[condition == c][:, :20].mean(0) for c in range(4)])
    psth[1, 17:] = np.nan  # a condition with shorter trials
    masked = counts[n_train:, :20, -held_out:].copy()
    masked[2, 15:] = np.nan
    masked[9, 12:] = np.nan
    return {
        "train_rates": rates[:n_train, :20],
        "test_rates": rates[n_train:, :20],
        "forward_rates": rates[n_train:, 20:],
        "held_out_counts": counts[n_train:, :20, -held_out:],
        "held_out_counts_with_gaps": masked,
        "forward_counts": counts[n_train:, -forward:],
        "train_behaviour": behaviour[:n_train],
        "test_behaviour": behaviour[n_train:],
        "test_condition": condition[n_train:],
        "psth": psth,
    }


def figures(a: dict[str, np.ndarray]) -> dict[str, float]:
    """Return what nlb_tools makes of them."""
    from nlb_tools import evaluation as nlb

    index = [np.flatnonzero(a["test_condition"] == c) for c in range(4)]

    def rates(key: str) -> np.ndarray:
        return a[key].copy()  # nlb_tools changes zeros in place

    found = {
        "nll": nlb.neg_log_likelihood(rates("forward_rates"), a["forward_counts"]),
        "co_bps": nlb.bits_per_spike(rates("test_rates")[..., -3:], a["held_out_counts"]),
        "co_bps_with_gaps": nlb.bits_per_spike(
            rates("test_rates")[..., -3:], a["held_out_counts_with_gaps"]
        ),
        "fp_bps": nlb.bits_per_spike(rates("forward_rates"), a["forward_counts"]),
        "velocity_r2": nlb.velocity_decoding(
            a["train_rates"],
            a["train_behaviour"],
            np.ones((40, 1), bool),
            a["test_rates"],
            a["test_behaviour"],
            np.ones((24, 1), bool),
        ),
        "psth_r2": nlb.eval_psth(a["psth"], a["test_rates"], index),
    }
    return {name: float(value) for name, value in found.items()}


if __name__ == "__main__":
    made = arrays()
    np.savez_compressed(HERE / "arrays.npz", **made)
    if "--figures" in sys.argv[1:]:
        text = json.dumps({"nlb_tools": "0.0.4"} | figures(made), indent=1)
        (HERE / "figures.json").write_text(text + "\n")
