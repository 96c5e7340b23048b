"""The benchmarks run, and their rows hold what the documentation says."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

from benchmarks import bf16, crash, demo_seconds, endurance, noise_models, stitching_aplysia

ROOT = Path(__file__).parent.parent


def rows(tmp_path, *words):
    """Run a benchmark as a user does, and read what it wrote."""
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", *words, "--threads", "1", "--json", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


@pytest.mark.slow
def test_step_measures_the_named_bodies_at_the_named_sizes(tmp_path):
    made = rows(
        tmp_path, "benchmarks.step", "--sizes", "S", "--bodies", "reference", "--rounds", "2"
    )
    assert [(r["size"], r["body"], r["threads"]) for r in made] == [("S", "reference", 1)]
    assert made[0]["ratio_to_reference"] == 1
    assert 0 < made[0]["gflops"] < made[0]["sgemm_gflops"]
    assert made[0]["step_ms"] > 0
    assert made[0]["load"] >= 0


@pytest.mark.slow
def test_killed_runs_continue_bit_for_bit(tmp_path):
    """A kill in each of the four places; `make test-crash` makes 52."""
    made = crash.crash(4, seed=1, folder=tmp_path)
    assert made["kills"] == dict.fromkeys(crash.PLACES, 1)
    assert (made["lost"], made["different"]) == ([], [])


def test_crash_harness_sees_what_is_lost_and_what_differs():
    before = {"checkpoint": 20, "scores.json": 1}
    assert crash.lost(before, before | {"checkpoint": 30}) == []
    assert crash.lost(before, before | {"checkpoint": 10}) == ["checkpoint"]
    assert crash.lost(before, {"checkpoint": 20}) == ["scores.json"]
    tree = {"w": torch.zeros(2), "n": [1, math.nan], "log": "a"}
    assert crash.different(tree, tree) == []
    assert crash.different(tree, tree | {"w": torch.tensor([0.0, 1e-45])}) == ["/w"]
    assert crash.different(tree, tree | {"n": [1, 2.0]}) == ["/n"]
    assert crash.different(tree, tree | {"log": "b"}) == ["/log"]
    assert crash.different(tree, {"w": torch.zeros(2)}) != []


@pytest.mark.slow
def test_short_endurance_run_is_bounded(tmp_path):
    made = endurance.endure(600, tmp_path)
    assert made["checkpoints"] <= endurance.KEPT
    assert made["checkpoints_lve"] <= endurance.KEPT_LVE
    assert made["most_memory_mb_later"] > 0


@pytest.mark.slow
def test_stitching_scores_both_ways_on_the_same_trials():
    words = ["--seeds", "0", "--set", "max_steps=40"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stitching", *words],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert 0.5 < run["alignment_components_r2"] < 1
    for name, n_sessions, n_models in (("stitched", 5, 1), ("single", 5, 5), ("added", 1, 1)):
        assert len(run[name]["rate_r2_by_session"]) == n_sessions
        assert len(run[name]["updates_of_chosen"]) == n_models
        assert run[name]["rate_r2"] < 1
    assert run["added"]["updates_of_chosen"][0] > 40


def test_aplysia_pieces_that_are_scored_are_for_nothing_else():
    recordings = {name: np.zeros((12, 3, 50)) for name in ("a", "b", "c")}
    scored = {name: [] for name in recordings}
    for seed in (0, 1, 2):
        held_out, bouts = stitching_aplysia.split(recordings, seed, 6)
        assert len(set(held_out)) == stitching_aplysia.N_HELD_OUT
        for name, b in bouts.items():
            assert sorted([*b.train, *b.choose, *b.score]) == list(range(12))
            assert (len(b.train), len(b.choose)) == (6, 2)
            scored[name] += b.score.tolist()
        assert len({tuple(b.score) for b in bouts.values()}) == 3
    assert all(sorted(pieces) == list(range(12)) for pieces in scored.values())
    few = stitching_aplysia.split(recordings, 2, 2)[1]
    assert all(set(few[n].train) < set(bouts[n].train) for n in recordings)


@pytest.mark.slow
def test_stitching_aplysia_scores_models_and_baselines(tmp_path):
    """On made-up bouts whose neurons share one rhythm, which all ways must find."""
    rng, t = np.random.default_rng(0), np.arange(100)
    weights = rng.normal(size=60)
    for i in (1, 2, 3):
        phase = rng.uniform(0, 2 * np.pi, (12, 1))
        rates = 0.5 * np.exp(np.sin(2 * np.pi * t / 20 + phase)[..., None] * weights)
        np.savez(tmp_path / f"aplysia_bout{i}_100ms.npz", counts=rng.poisson(rates).astype("u1"))
    words = ["--seeds", "0", "--pieces", "4", "--set", "max_steps=200"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stitching_aplysia", str(tmp_path), *words],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (rows,) = json.loads(done.stdout)["rows"].values()
    assert [name for name in rows if " " not in name] == ["stitched", "single", "pooled"]
    assert len(rows) == 7
    for name, row in rows.items():
        assert len(row["by_bout"]) == 3
        assert row["co_bps"] > 0.1, name


@pytest.mark.slow
def test_sampling_beats_the_loop_of_forward_passes(tmp_path):
    made = rows(tmp_path, "benchmarks.sampling", *"--sizes S --samples 20 --rounds 2".split())
    ratios = {r["work"]: r["ratio_to_loop"] for r in made}
    assert ratios["loop"] == 1
    assert ratios["native"] > 1.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", noise_models.SIMULATED)
def test_the_right_noise_model_beats_the_wrong_ones(name, seed):
    """On hidden entries, by the probability of the data and by the true rates."""
    recording = noise_models.simulated(name, seed)
    right, *wrong = noise_models.compare(name, recording, seed, max_steps=400)
    assert right["model"] == name
    for score in ("nats", "rate_r2"):
        assert right[score] > max(row[score] for row in wrong), (right, wrong)


def test_bf16_trains_in_both_precisions(bf16_unit):
    counts = np.random.default_rng(0).poisson(1.0, (24, 12, 6)).astype("u1")
    settings = {"recipe": "original", "max_epochs": 2, "kl_increase_steps": 0}
    row = bf16.measure("noise", counts, 0, settings | {"l2_increase_steps": 0})
    assert row["criterion float32"] != row["criterion bf16"]
    assert row["criterion float32"] == pytest.approx(row["criterion bf16"], rel=0.1)
    assert row["seconds bf16"] > 0


def test_every_phase_of_the_demo_is_the_work_of_a_file_that_exists():
    installed = Path(lightning.__file__).parents[1]
    files = [p.as_posix() for p in (ROOT / "lfads_lightning").rglob("*.py")]
    files += [p.as_posix() for p in (installed / "lightning/pytorch/loops").glob("*.py")]
    files += [f"{installed}/hydra/", f"{installed}/omegaconf/", "<frozen importlib._bootstrap>"]
    for places in (*demo_seconds.PHASES.values(), demo_seconds.WITHIN_OTHERS):
        for place in places:
            assert any(place.split(".py:")[0] in file for file in files), place


@pytest.mark.slow
def test_demo_seconds_add_up_to_all_of_them(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made, about = demo_seconds.measure(["trainer.max_epochs=2"])
    seconds = {r["phase"]: r["wall_s"] for r in made}
    assert {"imports", "updates", "simple methods", "report and figures"} <= set(seconds)
    assert sum(seconds.values()) == pytest.approx(about["total_s"], rel=0.02)
    assert 0 < about["first_update_s"] < about["total_s"]
    assert seconds[demo_seconds.REST] < 0.1 * about["total_s"]
