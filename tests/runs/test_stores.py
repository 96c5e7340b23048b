"""Runs and recordings in a bucket: against an S3 server in a process of its own, on loopback."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
from small_runs import SMALL, TRAIN, counts_of

import lfads_lightning as lfads
from lfads_lightning.config import LFADSError
from lfads_lightning.runs import mirrors, remote
from lfads_lightning.runs.run import Run

pytest_plugins = ["s3_server"]


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0))


def put_session(fs, path, tmp_path, **arrays):
    local = tmp_path / "session.h5"
    with h5py.File(local, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    fs.put_file(str(local), path)


@pytest.fixture
def with_data(bucket, tmp_path):
    """The bucket, with two session files and a file that is none."""
    for seed in (0, 1):
        put_session(
            bucket,
            f"lab/data/toy_{seed}.h5",
            tmp_path,
            train_data=counts_of(seed=seed),
            valid_data=counts_of(n_trials=4, seed=seed + 10),
        )
    bucket.pipe_file("lab/data/notes.txt", b"day 1: good")
    return bucket


DATA = ["data.data_dir=s3://lab/data", "data.data_filename_stem=toy"]
RUN = "output.lfads_save_dir=s3://lab/runs/first"


@pytest.mark.slow
def test_data_parameters_and_results_live_in_a_bucket(with_data, call, reports):
    flat = {"ic_dim": 4, "factors_dim": 3, "gen_dim": 7, "csv_log": "from_the_bucket"}
    with_data.pipe_file("lab/mine.yaml", json.dumps(flat).encode())
    sizes = [word for word in SMALL if "factors_dim" not in word and "gen_dim" not in word]
    done = call(*DATA, *sizes, RUN, "params_file=s3://lab/mine.yaml")
    assert done.code == 0, done.err
    assert "Copied to: s3://lab/runs/first" in done.out
    there = {p.removeprefix("lab/runs/first/") for p in with_data.find("lab/runs/first")}
    here = Path("outputs/s3/lab/runs/first")
    assert {"config.yaml", "scores.json", "metrics.csv", "from_the_bucket.csv"} <= there
    assert "evaluation.json" in there
    visible = {p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file()}
    assert there - {mirrors.WRITER} == {n for n in visible if not n.startswith(".")}
    for name in there - {mirrors.WRITER}:
        assert with_data.cat_file(f"lab/runs/first/{name}") == (here / name).read_bytes(), name

    # another machine has no local folder: it works from the bucket alone
    shutil.rmtree("outputs")
    done = call("kind=posterior_push_mean", RUN)
    assert done.code == 0, done.err
    written = "lab/runs/first/model_runs_1_valid_posterior_push_mean.h5"
    with with_data.open(written) as remote, h5py.File(remote) as file:
        assert file["factors"].shape == (4, 8, 3)

    trained = lfads.load("s3://lab/runs/first")
    assert trained.config.model.gen_dim == 7
    assert set(trained.sessions) == {"0", "1"}


def test_run_goes_on_from_the_bucket_on_another_machine(with_data, call):
    short = [*DATA, *SMALL, RUN]
    assert call(*short).code == 0
    shutil.rmtree("outputs")
    done = call("resume=s3://lab/runs/first", "trainer.max_epochs=5")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(with_data.cat_file("lab/runs/first/metrics.csv").decode().split()))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3, 4]


def test_python_face_saves_to_a_bucket(bucket, counts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {
        "ic_dim": 4,
        "factors_dim": 3,
        "gen_dim": 6,
        "co_dim": 0,
        "device": "cpu:0",
        "recipe": "original",
    }
    trained = lfads.fit(
        counts, max_epochs=2, lfads_save_dir="s3://lab/runs/python", batch_size=4, **sizes
    )
    loaded = lfads.load("s3://lab/runs/python")
    a, b = trained.posterior_push_mean(counts), loaded.posterior_push_mean(counts)
    np.testing.assert_array_equal(a.rates, b.rates)


@pytest.mark.slow
def test_search_is_copied_to_the_bucket(with_data, call):
    done = call(
        *DATA, *SMALL, RUN, "search=pbt", "search.population=2", "search.max_generations=2",
        "search.generation_epochs=1", "search.burn_in_epochs=1", "search.num_workers=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    there = {p.removeprefix("lab/runs/first/") for p in with_data.find("lab/runs/first")}
    assert {"search.json", "history.csv", "best/config.yaml", "best/scores.json"} <= there


@pytest.mark.slow
def test_server_that_stops_in_the_middle_of_training(with_data, server, tmp_path):
    """The run ends with one line, keeps its local copy, and goes on when the server is back."""
    asked = [*DATA, *SMALL[:-1], RUN, "trainer.max_epochs=4000", "optim.learning_rate_stop=0"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HYDRA"))}
    environment["OMP_NUM_THREADS"] = "1"
    with subprocess.Popen(
        [sys.executable, str(TRAIN), *asked],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(1200):
            if with_data.exists("lab/runs/first/checkpoints/checkpoint.json"):
                break
            assert process.poll() is None
            time.sleep(0.1)
        server.stop()
        try:
            err = process.communicate(timeout=200)[1]
        finally:
            process.kill()
            server.start()
    assert process.returncode == 2
    assert "Traceback" not in err
    (line,) = [text for text in err.splitlines() if text.startswith("error: ")]
    assert "s3://lab/runs/first" in line
    assert "in 4 attempts" in line
    assert "Nothing is lost" in line
    here = tmp_path / "outputs/s3/lab/runs/first"
    with (here / "metrics.csv").open() as file:
        done = len(list(csv.DictReader(file)))
    assert done < 4000
    assert lfads.load(here).step > 0

    again = subprocess.run(
        [
            sys.executable,
            str(TRAIN),
            "resume=s3://lab/runs/first",
            f"trainer.max_epochs={done + 3}",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    rows = csv.DictReader(with_data.cat_file("lab/runs/first/metrics.csv").decode().split())
    assert [int(row["epoch"]) for row in rows] == list(range(done + 3))


def test_lost_connection_is_tried_again(bucket, hasty, tmp_path, monkeypatch, capsys):
    store = remote.Store("s3://lab/x")
    (tmp_path / "a.bin").write_bytes(b"abc")
    put, failures = store.fs.put_file, [OSError("connection reset"), TimeoutError("no answer")]

    def unsteady(*args, **kwargs):
        if failures:
            raise failures.pop()
        return put(*args, **kwargs)

    monkeypatch.setattr(store.fs, "put_file", unsteady)
    store.put(tmp_path / "a.bin", "a.bin")
    assert bucket.cat_file("lab/x/a.bin") == b"abc"
    assert "connection reset; retry" in capsys.readouterr().err


def test_lost_connection_while_reading_is_tried_again(bucket, hasty, tmp_path, monkeypatch, capsys):
    bucket.pipe_file("lab/x/a.bin", b"abc")
    store = remote.Store("s3://lab/x")
    get, failures = store.fs.get_file, [ConnectionResetError("connection reset")]

    def unsteady(*args, **kwargs):
        if failures:
            raise failures.pop()
        return get(*args, **kwargs)

    monkeypatch.setattr(store.fs, "get_file", unsteady)
    store.fetch("a.bin", 3, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"abc"
    assert "connection reset; retry" in capsys.readouterr().err


def test_copy_that_arrives_cut_short_is_no_copy(bucket, hasty, tmp_path, monkeypatch):
    bucket.pipe_file("lab/x/a.bin", b"abcdef")
    store = remote.Store("s3://lab/x")
    target = tmp_path / "a.bin"
    target.write_bytes(b"before")

    def cut(remote, local):
        with open(local, "wb") as file:
            file.write(b"abc")

    monkeypatch.setattr(store.fs, "get_file", cut)
    with pytest.raises(
        LFADSError, match=r"s3://lab/x: could not read .* in 3 attempts \(3 of 6 bytes arrived\)"
    ):
        store.fetch("a.bin", 6, target)
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.fixture
def mirror(bucket, tmp_path):
    mirror = mirrors.Mirror(tmp_path / "here", "s3://lab/run")
    mirror.pull()
    (mirror.folder / "checkpoints").mkdir()
    (mirror.folder / "checkpoints/a.ckpt").write_bytes(b"weights")
    (mirror.folder / "checkpoints/checkpoint.json").write_text('["a.ckpt"]')
    (mirror.folder / "config.yaml").write_text("seed: 0")
    (mirror.folder / ".unfinished").write_text("half")
    mirror.push()
    return mirror


def names(fs):
    return {p.removeprefix("lab/run/") for p in fs.find("lab/run")} - {mirrors.WRITER}


ALL = {"checkpoints/a.ckpt", "checkpoints/checkpoint.json", "config.yaml"}


def test_index_is_copied_after_the_files_it_names(mirror, bucket, hasty, monkeypatch):
    assert names(bucket) == ALL
    (mirror.folder / "checkpoints/a.ckpt").unlink()
    (mirror.folder / "checkpoints/b.ckpt").write_bytes(b"better")
    (mirror.folder / "checkpoints/checkpoint.json").write_text('["b.ckpt"]')
    put = mirror.store.fs.put_file

    def refuse_index(local, remote):
        if remote.endswith(".json"):
            raise ConnectionError("gone")
        put(local, remote)

    monkeypatch.setattr(mirror.store.fs, "put_file", refuse_index)
    with pytest.raises(LFADSError, match="gone"):
        mirror.push()
    # the old state is still whole there
    assert names(bucket) == ALL | {"checkpoints/b.ckpt"}
    assert bucket.cat_file("lab/run/checkpoints/checkpoint.json") == b'["a.ckpt"]'
    monkeypatch.undo()
    mirror.push()
    assert names(bucket) == {n.replace("a.ckpt", "b.ckpt") for n in ALL}


def test_only_what_has_changed_is_copied(mirror, monkeypatch):
    copied = []
    put = mirror.store.put
    monkeypatch.setattr(mirror.store, "put", lambda f, n: (copied.append(n), put(f, n)))
    mirror.push()
    (mirror.folder / "config.yaml").write_text("seed: 12")
    mirror.push()
    assert copied == ["config.yaml"]


def test_second_machine_takes_a_run_over_and_the_first_is_told(mirror, bucket, tmp_path):
    second = mirrors.Mirror(tmp_path / "there", "s3://lab/run")
    second.pull()
    assert (second.folder / "checkpoints/a.ckpt").read_bytes() == b"weights"
    (second.folder / "config.yaml").write_text("seed: 2")
    second.push()
    (mirror.folder / "config.yaml").write_text("seed: 1")
    with pytest.raises(LFADSError, match=f"{socket.gethostname()} has been writing this run since"):
        mirror.push()
    with pytest.raises(LFADSError, match="was written to from elsewhere"):
        mirrors.Mirror(mirror.folder).pull()
    assert (mirror.folder / "config.yaml").read_text() == "seed: 1"
    assert bucket.cat_file("lab/run/config.yaml") == b"seed: 2"


def test_first_machine_goes_on_from_what_the_second_wrote(mirror, tmp_path):
    second = mirrors.Mirror(tmp_path / "there", "s3://lab/run")
    second.pull()
    (second.folder / "config.yaml").write_text("seed: 2")
    (second.folder / "checkpoints/a.ckpt").unlink()
    second.push()
    back = mirrors.Mirror(mirror.folder)
    back.pull()
    assert (mirror.folder / "config.yaml").read_text() == "seed: 2"
    assert not (mirror.folder / "checkpoints/a.ckpt").exists()
    (mirror.folder / "config.yaml").write_text("seed: 3")
    back.push()


def test_store_that_was_emptied_takes_nothing_from_here(mirror, bucket):
    for path in bucket.find("lab/run"):
        bucket.rm_file(path)
    back = mirrors.Mirror(mirror.folder)
    back.pull()
    assert (mirror.folder / "checkpoints/a.ckpt").read_bytes() == b"weights"
    back.push()
    assert names(bucket) == ALL


def test_run_that_fails_is_copied_too(mirror, bucket):
    with pytest.raises(KeyboardInterrupt), mirrors.mirrored(mirror.folder):
        (mirror.folder / "log.csv").write_text("epoch")
        raise KeyboardInterrupt
    assert "log.csv" in names(bucket)


def test_store_that_a_folder_names_is_none(mirror, tmp_path):
    folder = tmp_path / "sent"
    folder.mkdir()
    state = {"url": "s3://lab/run", "id": "x", "before": None, "files": {}}
    (folder / ".store.json").write_text(json.dumps(state))
    assert mirrors.mirror_of(folder) is None
    shutil.copy(mirror.folder / ".run_id", folder)  # nor does a number that was given away
    assert mirrors.mirror_of(folder) is None
    assert mirrors.mirror_of(mirror.folder).store.url == "s3://lab/run"


def test_other_stores_follow(tmp_path, monkeypatch):
    """A store without whole-object writes gets a copy under another name first."""
    monkeypatch.setattr(remote, "NO_STORES", set())  # a folder in place of one
    mirror = mirrors.Mirror(tmp_path / "here", f"file://{tmp_path}/disk/run")
    mirror.pull()
    (mirror.folder / "figures").mkdir()
    (mirror.folder / "figures/a.png").write_bytes(b"png")
    mirror.push()
    disk = tmp_path / "disk/run"
    assert sorted(p.name for p in disk.rglob("*") if p.is_file()) == [mirrors.WRITER, "a.png"]
    second = mirrors.Mirror(tmp_path / "there", f"file://{tmp_path}/disk/run")
    second.pull()
    assert (second.folder / "figures/a.png").read_bytes() == b"png"


# ---- what a user can get wrong


def refused(result, *parts):
    assert result.code == 2
    assert "Traceback" not in result.err
    line = result.err.splitlines()[-1]
    assert line.startswith("error: "), result.err
    for part in parts:
        assert part in line
    return line


def test_no_such_bucket_or_stem(with_data, call, hasty):
    refused(call("data.data_dir=s3://nowhere/data", "data.data_filename_stem=toy"), "s3://nowhere")
    wrong = call("data.data_dir=s3://lab/data", "data.data_filename_stem=tox")
    refused(wrong, "s3://lab/data: no file matches", "toy_0.h5", "notes.txt")
    refused(call("params_file=s3://lab/none.yaml"), "s3://lab/none.yaml: no such file")


def test_errors_and_warnings_name_the_address(bucket, call, tmp_path):
    put_session(bucket, "lab/data/toy.h5", tmp_path, train_data=np.full((4, 5, 6), 0.5))
    refused(call(*DATA, "recipe=original"), "s3://lab/data/toy.h5: train_data")
    silent = counts_of()
    silent[:, :, 2] = 0
    put_session(bucket, "lab/data/toy.h5", tmp_path, train_data=silent)
    done = call(*DATA, *SMALL)
    assert "warning: s3://lab/data/toy.h5" in done.err


def test_kind_on_an_empty_prefix(bucket, call):
    refused(call("kind=prior_sample", "output.lfads_save_dir=s3://lab/runs/none"), "checkpoint")


def test_server_that_does_not_answer(call, monkeypatch, hasty):
    pytest.importorskip("s3fs", reason="needs the extra [s3]")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    line = refused(call("data.data_dir=s3://lab/data", "data.data_filename_stem=toy"), "3 attempts")
    assert "s3://lab/data" in line
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_missing_extra_and_unknown_protocol(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    refused(call("data.data_dir=s3://lab/data"), 'pip install "lfads-lightning[s3]"')
    refused(call("data.data_dir=nfs4://lab/data"), "nfs4:// is not known to fsspec")
    for url in ("file:///tmp/x", "zip://a/b", "memory://a", "simplecache://a/b"):
        refused(call(f"data.data_dir={url}"), "is not the address of a store")
    refused(call("data.data_dir=ftp://host/x"), "ftp:// needs more than an address (host)")
    refused(call("data.data_dir=s3://"), "expected s3://BUCKET/PREFIX")


def test_name_that_leads_out_of_the_folder_is_refused(bucket, tmp_path):
    bucket.pipe_file("lab/run/../../../evil.txt", b"x")
    with pytest.raises(LFADSError, match="remove or rename it"):
        mirrors.Mirror(tmp_path / "here", "s3://lab/run").pull()
    assert not list(tmp_path.rglob("evil.txt"))


def test_plain_paths_are_no_addresses():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not any(map(remote.is_url, ["a/b", "/a/b", "C:\\data", "C:/data", "~/x"]))
    assert Run.open("a/b").folder == Path("a/b")
    assert remote.local_run("s3://lab/runs/x/") == Path("outputs/s3/lab/runs/x")
