"""The commands around training on files in a bucket: fetched, worked on, sent back whole or not."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_runs import SMALL

import lfads_lightning as lfads
from lfads_lightning.cli import align, check, evaluate, export, merge, prepare
from lfads_lightning.config import LFADSError
from lfads_lightning.runs import remote

pytest_plugins = ["s3_server"]


def put(fs, path, **arrays):
    with fs.open(path, "wb") as file:
        np.savez(file, **arrays)


def recording(seed=0, n_neurons=6):
    """Twenty trials of two conditions, 8 bins of 20 ms."""
    rng = np.random.default_rng(seed)
    condition = np.arange(20) % 2
    rates = 0.5 + rng.random((2, 8, n_neurons))
    return {"counts": rng.poisson(rates[condition]), "condition": condition, "bin_s": 0.02}


@pytest.fixture
def raw(bucket):
    for day in (1, 2):
        put(bucket, f"lab/raw/ape_{day}.npz", **recording(day, 5 + day))
    bucket.pipe_file("lab/raw/notes.txt", b"all well")
    return bucket


def test_from_recordings_to_exported_results_without_a_local_file(raw, call, capsys):
    assert prepare.main(["s3://lab/raw/*.npz", "--out", "s3://lab/data"]) == 0
    out = capsys.readouterr().out
    assert "s3://lab/data/ape_1.h5: 16 train + 4 valid trials" in out
    assert set(raw.find("lab/data")) == {"lab/data/ape_1.h5", "lab/data/ape_2.h5"}
    with raw.open("lab/data/ape_1.h5") as remote, h5py.File(remote) as file:
        assert file["source"].asstr()[()] == "s3://lab/raw/ape_1.npz"

    assert check.main(["s3://lab/data/ape_*.h5"]) == 0
    out = capsys.readouterr().out
    assert "s3://lab/data/ape_2.h5" in out
    assert "data.data_dir=s3://lab/data data.data_filename_stem=ape_1" in out

    align.main(["s3://lab/data/ape_*.h5", "--factors-dim", "3"])
    out = capsys.readouterr().out
    assert "  s3://lab/data/ape_1.h5" in out
    assert "Figure: s3://lab/data/alignment.png" in out
    assert raw.cat_file("lab/data/alignment.png").startswith(b"\x89PNG")
    session = lfads.read_session("s3://lab/data/ape_2.h5")
    assert session.alignment_matrix_cxf.shape == (7, 3)
    assert session.source == "s3://lab/data/ape_2.h5"

    run = "output.lfads_save_dir=s3://lab/runs/a"
    done = call("data.data_dir=s3://lab/data", "data.data_filename_stem=ape", *SMALL, run)
    assert done.code == 0, done.err
    assert call("kind=posterior_push_mean", run).code == 0
    shutil.rmtree("outputs")  # another machine

    evaluate.main(["s3://lab/runs/a", "--metrics", "bits_per_spike"])
    assert raw.exists("lab/runs/a/evaluation.json")
    export.main(["s3://lab/runs/a", "--to", "npz"])
    there = "lab/runs/a/model_runs_1_valid_posterior_push_mean"
    with raw.open(f"{there}.npz") as file:
        assert np.load(file)["factors"].shape == (4, 8, 3)
    capsys.readouterr()
    export.main([f"s3://{there}.h5", "--to", "mat", "--out", "s3://lab/for_matlab"])
    made = "lab/for_matlab/model_runs_1_valid_posterior_push_mean.mat"
    assert capsys.readouterr().out.strip() == f"s3://{made}"
    assert raw.cat_file(made).startswith(b"MATLAB 5")
    assert not [p for p in raw.find("lab") if p.endswith(".part")]


@pytest.mark.slow
def test_merging_a_run_of_a_bucket(bucket, call, capsys):
    counts = np.random.default_rng(0).poisson(0.8, (200, 6))
    put(bucket, "lab/raw/long.npz", counts=counts, bin_s=0.02)
    words = ["s3://lab/raw/long.npz", "--out", "s3://lab/data"]
    assert prepare.main([*words, "--chop-bins", "20", "--overlap-bins", "5"]) == 0
    run = "output.lfads_save_dir=s3://lab/runs/a"
    done = call("data.data_dir=s3://lab/data", "data.data_filename_stem=long", *SMALL, run)
    assert done.code == 0, done.err
    assert call("kind=posterior_push_mean", run).code == 0
    merge.main(["s3://lab/runs/a"])
    (merged,) = [p for p in bucket.find("lab/runs/a") if "merged" in p]
    with bucket.open(merged) as remote, h5py.File(remote) as file:
        assert file["output_dist_params"].shape == (200, 6)
    back = lfads.merge_chops("s3://lab/data/long.h5", **_splits("s3://lab/data/long.h5"))
    np.testing.assert_array_equal(back, counts)


def _splits(path):
    session = lfads.read_session(path)
    return {"train": session.train.data, "valid": session.valid.data}


def test_tables_of_a_bucket(bucket, capsys):
    rows = [f"{unit},{0.1 + t}" for t in range(20) for unit in ("a", "b")]
    bucket.pipe_file("lab/raw/cells.csv", "\n".join(["unit,time", *rows]).encode())
    trials = "\n".join(["start_time,cue", *(f"{t},{t}" for t in range(20))])
    bucket.pipe_file("lab/raw/cells_trials.csv", trials.encode())
    words = ["s3://lab/raw/cells.csv", "--trials", "s3://lab/raw/{name}_trials.csv"]
    words += ["--align-to", "cue", "--window-s", "0", "0.5", "--bin-width-s", "0.05"]
    assert prepare.main([*words, "--out", "s3://lab/data"]) == 0
    session = lfads.read_session("s3://lab/data/cells.h5")
    assert session.train.data.sum() == 2 * len(session.train.data)
    with bucket.open("lab/data/cells.h5") as remote, h5py.File(remote) as file:
        assert "s3://lab/raw/{name}_trials.csv" in file["settings"].asstr()[()]


def test_new_session_is_aligned_to_old_ones(raw):
    prepare.main(["s3://lab/raw/*.npz", "--out", "s3://lab/data"])
    lfads.align(["s3://lab/data/ape_1.h5"], factors_dim=3)
    before = raw.cat_file("lab/data/ape_1.h5")
    found = lfads.align(
        "s3://lab/data/ape_2.h5", factors_dim=3, to="s3://lab/data/ape_1.h5", out="s3://lab/aligned"
    )
    assert list(found.alignment_bias_c) == ["ape_2"]
    assert raw.find("lab/aligned") == ["lab/aligned/ape_2.h5"]
    assert raw.cat_file("lab/data/ape_1.h5") == before


def test_python_face_writes_to_a_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = recording()["counts"]
    assert lfads.write_session("s3://lab/data/a.h5", train_data=counts) == "s3://lab/data/a.h5"
    session = lfads.read_session("s3://lab/data/a.h5")
    np.testing.assert_array_equal(session.train.data, counts)
    with pytest.raises(LFADSError, match=r"\As3://lab/data/b\.h5: train_data"):
        lfads.write_session("s3://lab/data/b.h5", train_data=counts[0])
    assert bucket.find("lab/data") == ["lab/data/a.h5"]
    sizes = {
        "ic_dim": 4,
        "factors_dim": 3,
        "gen_dim": 6,
        "co_dim": 0,
        "device": "cpu:0",
        "recipe": "original",
    }
    trained = lfads.fit(counts, max_epochs=1, batch_size=4, lfads_save_dir="run", **sizes)
    trained.save("s3://lab/models/a")
    shutil.rmtree("outputs")
    again = lfads.load("s3://lab/models/a")
    quick = trained.posterior_push_mean(counts), again.posterior_push_mean(counts)
    np.testing.assert_array_equal(*(q.rates for q in quick))


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0))


def test_aligned_files_arrive_all_or_none(raw, hasty, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    prepare.main(["s3://lab/raw/*.npz", "--out", "s3://lab/data"])
    before = {path: raw.cat_file(path) for path in raw.find("lab/data")}
    store_put = remote.Store.put

    def loses_the_second(self, file, name):
        if "ape_2" in name:
            raise remote.StoreError(f"{self.url}: no answer")
        store_put(self, file, name)

    monkeypatch.setattr(remote.Store, "put", loses_the_second)
    with pytest.raises(LFADSError, match=r"s3://lab/data: no answer.*are in outputs/s3/lab/data"):
        lfads.align("s3://lab/data/*.h5", factors_dim=3)
    assert {path: raw.cat_file(path) for path in raw.find("lab/data")} == before
    kept = lfads.read_session(Path("outputs/s3/lab/data/ape_2.h5"))
    assert kept.alignment_matrix_cxf.shape == (7, 3)


def test_server_that_is_gone_when_the_work_is_done(raw, server, hasty, monkeypatch, tmp_path):
    """What was prepared is kept on this machine, and one line says where."""
    monkeypatch.chdir(tmp_path)
    send = remote.Copies.send

    def stop_and_send(self):
        if self.outputs:
            server.stop()
        send(self)

    monkeypatch.setattr(remote.Copies, "send", stop_and_send)
    try:
        with pytest.raises(LFADSError, match=r"in 3 attempts .* are in outputs/s3/lab/data"):
            lfads.prepare("s3://lab/raw/ape_1.npz", "s3://lab/data")
    finally:
        server.start()
    assert lfads.read_session("outputs/s3/lab/data/ape_1.h5").data_dim == 6
    assert not raw.exists("lab/data/ape_1.h5")


# ---- what a user can get wrong


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["prepare", "s3://lab/raw/day3.npz", "--out", "x"], ["no such file", "ape_1.npz"]),
        (["prepare", "s3://lab/raw/*.nwb", "--out", "x"], ["no file matches", "notes.txt"]),
        (["prepare", "s3://lab/raw/notes.txt", "--out", "x"], ["s3://lab/raw/notes.txt", "unit"]),
        (["check", "s3://lab/raw/ape_1.npz"], ["s3://lab/raw/ape_1.npz"]),
        (["check", "s3://lab/none/*.h5"], ["s3://lab/none/*.h5", "no file matches"]),
        (["align", "s3://lab/raw/day7.h5", "--factors-dim", "3"], ["day7.h5: no such file"]),
        (["export", "s3://lab/none", "--to", "npz"], ["holds no results"]),
        (["evaluate", "s3://lab/none"], ["contains no run"]),
        (["merge", "s3://lab/none"], ["holds no model_runs"]),
    ],
    ids=lambda value: value[0] if len(value) > 1 else None,
)
def test_mistakes(raw, words, parts, tmp_path):
    verb, *rest = words
    code = f"import sys; from lfads_lightning.cli.{verb} import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *rest],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: "), done.stderr
    for part in parts:
        assert part in line
    assert "/lfads-" not in line  # the folder of the copies
