"""A recording is prepared and trained in little more memory than its counts take as integers."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from lfads_lightning.data import scored
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.metrics import poisson_nll

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_recording_of_250_mb_stays_below_the_limit(tmp_path):
    """Of a smaller one, what every run holds would outweigh the counts; so would its scores."""
    words = f"--gb 0.25 --most-entries {2**20} --folder {tmp_path}"
    command = [sys.executable, "-m", "benchmarks.memory", *words.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["counts_mb"] == 250
    for what in ("prepare", "train"):
        assert 0 < result[what]["held_over_counts"] < result["limit"] == 1.5, result


def test_large_splits_are_scored_in_part(monkeypatch):
    monkeypatch.setattr(scored, "MOST_ENTRIES", 200)
    train, valid = np.arange(300).reshape(30, 5, 2) % 7, np.ones((20, 5, 2), int)
    condition = {"a": np.arange(30)}
    sessions = sessions_from_arrays(
        {"a": train}, {"a": valid}, output_dist="poisson", ext_input_dim=0, factors_dim=1,
        train_condition=condition,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="use 20 of 30 train, 20 of 20 valid trials"):
        (session,) = scored.scored_sessions(sessions)
    kept = session.train.condition
    assert kept[0] == 0
    assert kept[-1] == 29
    assert set(np.diff(kept)) == {1, 2}
    np.testing.assert_array_equal(session.train.data, train[kept])
    monkeypatch.setattr(scored, "MOST_ENTRIES", 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scored.scored_sessions(sessions) == sessions


def test_likelihood_in_blocks_is_that_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    rates, counts = rng.gamma(1, 1, (7, 11, 3)), rng.poisson(1.0, (7, 11, 3))
    whole = poisson_nll(rates, counts)
    for entries in (1, 33, 34, 10**6):
        monkeypatch.setattr("lfads_lightning.metrics.likelihood.BLOCK_ENTRIES", entries)
        assert poisson_nll(rates, counts) == pytest.approx(whole, rel=1e-12)
        assert poisson_nll(rates.mean((0, 1)), counts) == pytest.approx(
            sum(poisson_nll(rates.mean((0, 1)), c) for c in counts)
        )
