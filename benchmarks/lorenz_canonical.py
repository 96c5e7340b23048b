"""Quality on the Lorenz set that several LFADS tutorials share (prints JSON).

    python train.py experiment=lorenz_canonical data.data_dir=../shared/data
    python -m benchmarks.lorenz_canonical RUN ../shared/data

Posterior averages of the validation trials: bits per spike, the same of the true rates, and R^2 of
the three-dimensional state, read from the factors by an affine map that is fitted on the training
trials. A published LFADS run (TensorFlow 2, coordinated dropout): .919, and .988 / .982 / .954.
"""

import argparse
import json
from pathlib import Path

import h5py
import numpy as np

import lfads_lightning as lfads
from lfads_lightning.metrics import bits_per_spike

BIN_WIDTH_S = 0.01


def affine(x: np.ndarray) -> np.ndarray:
    """Return (E, T, n) as rows of n values and a 1."""
    rows = x.reshape(-1, x.shape[-1])
    return np.column_stack([rows, np.ones(len(rows))])


def scores(run: str, file: Path, samples: int) -> dict[str, object]:
    """Score the lowest-validation-error checkpoint of a run."""
    trained = lfads.load(run, "checkpoint_lve")
    with h5py.File(file) as f:
        arrays = {name: f[name][()] for name in f}
    factors, rates = {}, {}
    for split in ("train", "valid"):
        counts = arrays[f"{split}_data"].astype(np.uint8)
        posterior = trained.posterior_sample_and_average(counts, num_samples=samples)
        factors[split], rates[split] = posterior.factors, posterior.rates
    x, y = affine(factors["train"]), arrays["train_lowd"].reshape(-1, 3)
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    state = arrays["valid_lowd"].reshape(-1, 3)
    residual = state - affine(factors["valid"]) @ weights
    r2 = 1 - np.square(residual).sum(0) / np.square(state - state.mean(0)).sum(0)
    return {
        "bits_per_spike": round(bits_per_spike(rates["valid"], arrays["valid_data"]), 4),
        "truth_bits_per_spike": round(
            bits_per_spike(arrays["valid_truth"] * BIN_WIDTH_S, arrays["valid_data"]), 4
        ),
        "state_r2": r2.round(4).tolist(),
        "samples": samples,
        "updates": trained.step,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("data", type=Path, help="folder of lorenz_canonical.h5")
    parser.add_argument("--samples", type=int, default=50)
    given = parser.parse_args()
    found = scores(given.run, given.data / "lorenz_canonical.h5", given.samples)
    print(json.dumps(found, indent=1))
