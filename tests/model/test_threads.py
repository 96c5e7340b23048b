"""Training gives the same on one and on two CPU threads, but for the rounding of sums.

And with num_threads=null, the same bits on any number of cores.
"""

import csv
import os
import subprocess
import sys

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from lfads_lightning.data.session_files import read_sessions, write_session
from lfads_lightning.model import native, threads
from lfads_lightning.params import from_flat
from lfads_lightning.training.checkpoint_files import find_checkpoint, load_checkpoint
from lfads_lightning.training.fit import fit

# float32 sums in another order differ by 1e-7 of their terms; six updates of Adam carry it on
COST_RTOL, WEIGHT_ATOL = 1e-5, 1e-4
# sizes at which torch does share its work out
PARAMETERS = {
    "factors_dim": 16, "gen_dim": 64, "ic_enc_dim": 64, "ci_enc_dim": 32, "con_dim": 32,
    "co_dim": 2, "batch_size": 64, "max_epochs": 6, "device": "cpu:0",
    "recipe": "original", "report": False,
    "keep_prob": 0.9,
}  # fmt: skip


class Look(pl.Callback):
    """Keeps how many threads torch had at each update."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, *args):
        self.seen.append(torch.get_num_threads())


@pytest.mark.filterwarnings("ignore:.*valid_data.*:UserWarning")
@pytest.mark.parametrize("recurrence", [pytest.param("reference", marks=pytest.mark.slow), "auto"])
def test_one_and_two_threads_agree_within_float_error(tmp_path, recurrence):
    path, before = tmp_path / "a.h5", torch.get_num_threads()
    counts = np.random.default_rng(0).poisson(1.0, (64, 12, 60))
    write_session(path, train_data=counts, valid_data=counts[:8])
    costs, weights = [], []
    for n in (1, 2):
        folder, look = tmp_path / f"run-{n}", Look()
        config = from_flat(PARAMETERS | {"num_threads": n, "recurrence": recurrence})
        fit(config, read_sessions(path), folder, [look])
        assert look.seen == [n] * PARAMETERS["max_epochs"]
        with (folder / "metrics.csv").open(newline="") as file:
            costs.append([float(row["train/total"]) for row in csv.DictReader(file)])
        weights.append(load_checkpoint(find_checkpoint(folder, "checkpoint"))["state_dict"])
    assert torch.get_num_threads() == before
    assert costs[0][-1] < costs[0][0]  # it does learn
    np.testing.assert_allclose(costs[1], costs[0], rtol=COST_RTOL)
    for name, one in weights[0].items():
        torch.testing.assert_close(weights[1][name], one, rtol=0, atol=WEIGHT_ATOL)


@pytest.mark.filterwarnings("ignore:.*valid_data.*:UserWarning")
def test_as_many_threads_as_cores_give_the_same_bits_as_any_other_number(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.h5", []
    counts = np.random.default_rng(0).poisson(1.0, (160, 12, 60))  # a batch of 128, and one of 32
    write_session(path, train_data=counts, valid_data=counts[:8])
    own = native._shared
    monkeypatch.setattr(native, "_shared", lambda n: (seen.append(own(n)[1]), own(n))[1])
    weights = []
    for cores in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(16), raising=False)
        monkeypatch.setattr(threads.os, "cpu_count", lambda: 16)
        monkeypatch.setattr(threads, "_QUOTA", tmp_path / "none")
        config = from_flat(PARAMETERS | {"num_threads": None, "batch_size": 128, "max_epochs": 2})
        fit(config, read_sessions(path), tmp_path / cores)
        assert set(seen) == {int(cores)}
        assert native.team == 0
        seen.clear()
        file = find_checkpoint(tmp_path / cores, "checkpoint")
        weights.append(load_checkpoint(file)["state_dict"])
    for name, one in weights[0].items():
        assert torch.equal(weights[1][name], one), name
        assert torch.equal(weights[2][name], one), name


@pytest.mark.parametrize(
    ("quota", "asked", "expected"),
    [
        ("max 100000", "", 16),
        ("250000 100000", "", 2),
        ("max 100000", "3", 3),
        ("50000 100000", "many", 1),
    ],
)
def test_cores_are_those_that_this_process_may_use(tmp_path, monkeypatch, quota, asked, expected):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(16), raising=False)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 16)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads.cores() == expected


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "10000"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_waiting_threads_give_up_their_core_unless_told_otherwise(given, expected):
    ours = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    env = {k: v for k, v in os.environ.items() if k not in ours} | given
    asked = "import os, lfads_lightning.cli; print(os.environ.get('GOMP_SPINCOUNT'))"
    seen = subprocess.run(
        [sys.executable, "-c", asked], env=env, capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == str(expected)
