"""A small network for the command line, and its data."""

import numpy as np
from conftest import ROOT

TRAIN = ROOT / "train.py"
SIZES = {
    "recipe": "original",
    "model.ic_dim": 4,
    "model.factors_dim": 3,
    "model.ic_enc_dim": 6,
    "model.gen_dim": 6,
    "model.ci_enc_dim": 5,
    "model.con_dim": 6,
    "model.co_dim": 1,
    "data.batch_size": 6,
    "loss.kl_increase_steps": 0,
    "loss.l2_increase_steps": 0,
    "trainer.device": "cpu:0",
    "trainer.max_epochs": 3,
}
SMALL = [f"{name}={value}" for name, value in SIZES.items()]


def counts_of(n_trials=12, n_bins=8, n_neurons=5, seed=0):
    return np.random.default_rng(seed).poisson(1.0, (n_trials, n_bins, n_neurons))


def data_args(folder, stem="toy"):
    return [f"data.data_dir={folder}", f"data.data_filename_stem={stem}"]
