"""What can go wrong while a run trains: numbers that are not finite, disks, folders, neighbours."""

import contextlib
import csv
import json
import math
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import h5py
import lightning.pytorch as pl
import numpy as np
import pytest
import torch

import lfads_lightning as lfads
from benchmarks.crash import child, ended
from lfads_lightning.config import LFADSError
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.runs import lock
from lfads_lightning.runs.files import remove_leftovers, whole_file, whole_hdf5
from lfads_lightning.runs.lock import HOLDER, run_lock
from lfads_lightning.runs.run import Search
from lfads_lightning.search import members
from lfads_lightning.training import module
from lfads_lightning.training.checkpoint_files import damage, find_checkpoint, load_checkpoint
from lfads_lightning.training.faults import SKIPS_IN_A_ROW, Diverged
from lfads_lightning.training.fit import fit

# two updates per epoch
RUN = {"batch_size": 6, "max_epochs": 4, "kl_increase_steps": 0, "l2_increase_steps": 0,
       "learning_rate_decay_factor": 1.0, "l2_gen_scale": 10.0}  # fmt: skip


@pytest.fixture
def sessions(counts):
    return sessions_from_arrays(
        {"monkey": counts}, {"monkey": counts[:6]}, output_dist="poisson", ext_input_dim=0,
        factors_dim=3,
    )  # fmt: skip


@pytest.fixture
def train(sessions, new_config, tmp_path):
    """Train in a folder, or go on there."""

    def run(folder="run", *callbacks, **parameters):
        return fit(new_config(**RUN | parameters), sessions, tmp_path / folder, callbacks)

    return run


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


# --- losses and gradients that are not finite ---


@pytest.fixture
def spoil(monkeypatch):
    """Make a loss term, or the gradient alone, NaN at these updates, counted over all tries."""

    def at(updates, term="recon"):
        original, n = module.compute_loss, [0]

        def spoilt(model, output, *args):
            terms = original(model, output, *args)
            if not torch.is_grad_enabled():
                return terms
            n[0] += 1
            if n[0] - 1 not in updates:
                return terms
            if term == "gradient":
                # sqrt at 0 is finite, its slope is not
                return terms._replace(total=terms.total + (model.factor_weight * 0).sum().sqrt())
            nan = terms.total * float("nan")
            return terms._replace(**{term: nan.detach(), "total": nan})

        monkeypatch.setattr(module, "compute_loss", spoilt)

    return at


@pytest.mark.parametrize("term", ["recon", "kl_ic", "kl_co", "l2"])
def test_a_single_bad_update_is_left_out_and_named(train, spoil, tmp_path, term):
    spoil({2}, term)
    with pytest.warns(UserWarning, match=r"is skipped") as warned:
        result = train()
    (message,) = [str(w.message) for w in warned]
    assert message.startswith("epoch 1, update 2, batch 0: session 'monkey', trials ")
    assert f"the loss is not finite (its term {term})" in message
    # as many trials as a batch has, by their numbers in the file
    shown = message.split("trials ")[1].split(":")[0].split(", ")
    assert len(shown) == 6
    assert set(shown) <= {str(k) for k in range(12)}
    assert result.updates == 8
    table = rows(tmp_path / "run")
    assert len(table) == 4
    assert all(math.isfinite(value) for row in table for value in row.values())


def test_a_bad_gradient_of_a_finite_loss_names_its_parameter(train, spoil):
    spoil({3}, "gradient")
    with pytest.warns(UserWarning, match=r"the gradient is not finite \(of factor_weight\)"):
        train()


def test_left_out_update_changes_neither_weights_nor_moments(train, spoil):
    states = []

    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            moments = trainer.optimizers[0].state_dict()
            states.append(
                (
                    {k: v.clone() for k, v in pl_module.model.state_dict().items()},
                    [s["m"].clone() for s in moments["state"].values()],
                    moments["param_groups"][0]["t"],
                )
            )

    spoil({2})
    with pytest.warns(UserWarning, match="is skipped"):
        train("run", Keep())
    (weights, m, t), (weights_after, m_after, t_after), later = states[1], states[2], states[3]
    assert all(torch.equal(weights[k], weights_after[k]) for k in weights)
    assert all(torch.equal(a, b) for a, b in zip(m, m_after, strict=True))
    assert (t, t_after, later[2]) == (2, 2, 3)


@pytest.mark.filterwarnings("ignore:.*is skipped:UserWarning")
def test_several_bad_updates_go_back_to_the_checkpoint_with_half_the_rate(train, spoil, tmp_path):
    taken = []

    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            weights = {k: v.clone() for k, v in pl_module.model.state_dict().items()}
            taken.append((weights, trainer.optimizers[0].param_groups[0]["lr"]))

    spoil({3, 4, 5})
    with pytest.warns(
        UserWarning, match=r"back to the weights of lfads_vae-00000002.ckpt, at a le"
    ):
        train("run", Keep())
    first = tmp_path / "run" / "checkpoints" / "lfads_vae-00000002.ckpt"
    saved = load_checkpoint(first)["state_dict"]
    weights, rate = taken[5]
    assert all(torch.equal(saved[f"model.{k}"], v) for k, v in weights.items())
    assert [round(r, 6) for _, r in taken] == [0.01] * 5 + [0.005] * 3
    assert load_checkpoint(find_checkpoint(tmp_path / "run", "checkpoint"))["lfads"]["faults"] == {
        "in_a_row": 0,
        "n_skipped": 3,
        "n_recoveries": 1,
    }


@pytest.mark.filterwarnings("ignore:.*is skipped:UserWarning")
def test_without_a_checkpoint_it_goes_back_to_the_start(train, spoil):
    spoil({0, 1, 2})
    with pytest.warns(UserWarning, match="back to the weights of the start"):
        train(batch_size=2)


@pytest.mark.parametrize(("most", "n_back"), [(0, 0), (2, 2)])
@pytest.mark.filterwarnings("ignore:.*is skipped:UserWarning")
@pytest.mark.filterwarnings("ignore:.*back to the weights:UserWarning")
def test_recoveries_are_bounded_and_what_was_saved_stays(train, spoil, tmp_path, most, n_back):
    spoil(range(3, 100), "kl_co")
    with pytest.raises(
        Diverged, match=rf"kl_co\): 3 such updates in a row, after {n_back} returns"
    ):
        train(max_recoveries=most, max_epochs=30)
    assert damage(find_checkpoint(tmp_path / "run", "checkpoint")) is None
    n = 3 + SKIPS_IN_A_ROW * (most + 1)
    assert len(rows(tmp_path / "run")) == (n - 1) // 2


def test_diverging_member_of_a_search_loses_and_ends_no_search(
    sessions, new_config, spoil, tmp_path
):
    spoil(range(3, 100))
    config = new_config(**RUN | {"algorithm": "pbt", "max_recoveries": 0})
    task = members.Task(0, 0, 4, {}, None)
    with pytest.warns(UserWarning, match="3 such updates in a row|is skipped"):
        assert members.train_member(config, sessions, tmp_path, task) == float("inf")
    assert damage(Search(tmp_path).checkpoint_of(0, 0)) is None


# --- disks and folders ---


@contextlib.contextmanager
def mounted(folder, options):
    """Mount a small file system, if this machine lets us."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_full_disk_is_one_error_and_earlier_checkpoints_load(sessions, new_config, tmp_path):
    with mounted(tmp_path / "disk", "size=600k") as disk:
        with pytest.raises(LFADSError, match=r"cannot be written \(No space left on device\)"):
            fit(
                new_config(**RUN | {"max_epochs": 200, "max_ckpt_to_keep": 90}),
                sessions,
                disk / "run",
            )
        folder = disk / "run" / "checkpoints"
        assert [p.name for p in folder.iterdir() if p.name.endswith(".tmp")] == []
        for path in folder.glob("*.ckpt"):
            assert damage(path) is None
        assert lfads.load(disk / "run").step > 0
        json.loads((folder / "checkpoint.json").read_text())


def test_file_that_grows_too_large_is_one_error(train, tmp_path):
    """In a process of its own, as a quota would: no file larger than 20 kB."""

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            train()
        except LFADSError as error:
            (tmp_path / "said").write_text(str(error))

    assert ended(child(work, tmp_path / "log"), block=True) == 0, (tmp_path / "log").read_text()
    said = (tmp_path / "said").read_text()
    assert "00000002.ckpt: cannot be written (File too large)" in said
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_full_disk_in_the_middle_of_an_hdf5_file_is_one_error(tmp_path):
    """HDF5 itself fails a second time as it closes, and took the process down."""

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit in (0, 500, 3_000, 20_000, 60_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            with (
                pytest.raises(LFADSError, match=r"results.h5: cannot be written \(File too large"),
                whole_hdf5(tmp_path / "results.h5") as file,
            ):
                for i in range(8):
                    noise = np.random.default_rng(i).random((50, 10, 20))
                    file.create_dataset(f"x{i}", data=noise, compression="gzip")
                    file[f"x{i}"].attrs["units"] = "none"
            assert os.listdir(tmp_path) == ["log"]

    assert ended(child(work, tmp_path / "log"), block=True) == 0, (tmp_path / "log").read_text()
    with whole_hdf5(tmp_path / "results.h5") as file:
        file["x"] = np.arange(5)
    with h5py.File(tmp_path / "results.h5") as file:
        assert file["x"][()].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError), whole_hdf5(tmp_path / "results.h5") as file:
        file["x"] = 1 / 0
    with h5py.File(tmp_path / "results.h5") as file:
        assert len(file["x"]) == 5


@pytest.mark.parametrize("what", ["", "tensorboard"])
def test_folder_that_vanishes_while_it_trains_is_one_error(train, tmp_path, what):
    class Remove(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                trainer.logger.experiment.flush()
                shutil.rmtree(tmp_path / "run" / what)

    with pytest.raises(LFADSError, match=r"cannot be written \(No such file or directory"):
        train("run", Remove(), max_epochs=400)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_read_only_folder_is_one_error(call, tmp_path):
    with mounted(tmp_path / "disk", "size=1m,ro") as disk:
        result = call("experiment=lorenz", f"output.lfads_save_dir={disk / 'run'}")
        assert result.code == 2
        assert f"{disk} cannot be written" in result.err
        assert "Traceback" not in result.err


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_working_folder_that_is_read_only_or_gone_is_one_error(call, tmp_path, monkeypatch):
    with mounted(tmp_path / "disk", "size=1m,ro") as disk:
        monkeypatch.chdir(disk)
        result = call("experiment=lorenz")
        assert result.code == 2
        assert f"{disk} cannot be written" in result.err
        assert "Traceback" not in result.err
        monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = call("experiment=lorenz")
    monkeypatch.chdir(tmp_path)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "the working folder cannot be entered" in result.err


def test_file_in_place_of_the_folder_is_one_error(call, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in ("file", "file/run"):
        result = call("experiment=lorenz", f"output.lfads_save_dir={tmp_path / folder}")
        assert result.code == 2
        assert (
            f"error: output.lfads_save_dir={tmp_path / folder}: {tmp_path / 'file'} is a file"
            in (result.err)
        )
    assert (tmp_path / "file").read_text() == "mine"


def test_vanished_data_are_one_error_and_the_run_stays(call, counts, tmp_path):
    path = tmp_path / "data" / "a.h5"
    lfads.write_session(path, train_data=counts, valid_data=counts[:6])
    words = [f"data.data_dir={path.parent}", "data.data_filename_stem=a", "model.gen_dim=4",
             "model.ic_enc_dim=4", "model.factors_dim=2", "model.co_dim=0", "trainer.max_epochs=1",
             f"output.lfads_save_dir={tmp_path / 'run'}", "trainer.device=cpu:0",
             "recipe=original"]  # fmt: skip
    assert call(*words).code == 0
    path.unlink()
    result = call(f"resume={tmp_path / 'run'}", "trainer.max_epochs=2")
    assert result.code == 2
    assert result.err.count("error:") == 1
    assert str(path.parent) in result.err
    assert lfads.load(tmp_path / "run").step == 1
    assert not (tmp_path / "run" / HOLDER).exists()


# --- two processes ---


def at_work(folder, seconds):
    """Return the process that has a folder for so long, once it has it."""
    started = folder.with_name("started")

    def work():
        with run_lock(folder):
            started.touch()
            time.sleep(seconds)

    pid = child(work)
    while not started.exists():
        time.sleep(0.01)
    return pid


def test_second_process_is_refused_at_once_and_says_by_whom(tmp_path):
    pid = at_work(tmp_path / "run", 60)
    began = time.monotonic()
    with pytest.raises(
        LFADSError, match=rf"run: is in use by process {pid} on {socket.gethostname()}"
    ):
        with run_lock(tmp_path / "run"):
            raise AssertionError
    assert time.monotonic() - began < 1
    # a dead process holds nothing
    os.kill(pid, signal.SIGKILL)
    ended(pid, block=True)
    assert (tmp_path / "run" / HOLDER).exists()
    with run_lock(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / HOLDER).read_text())["pid"] == os.getpid()
    assert list((tmp_path / "run").iterdir()) == []


def test_waiting_process_gets_in_when_the_other_ends(tmp_path):
    pid = at_work(tmp_path / "run", 0.5)
    with run_lock(tmp_path / "run", wait_s=20):
        pass
    assert ended(pid, block=True) == 0


@pytest.mark.parametrize(
    ("silence_s", "refused"), [(5, True), (100, True), (130, False), (-86400, False)]
)
def test_process_of_another_host_counts_as_long_as_it_gives_signs(tmp_path, silence_s, refused):
    holder = tmp_path / HOLDER
    holder.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "2026-01-01 00:00:00"}))
    then = time.time() - silence_s
    os.utime(holder, (then, then))
    if refused:
        with pytest.raises(LFADSError, match=r"process 1 on elsewhere.*free 120 s after its last"):
            with run_lock(tmp_path):
                raise AssertionError
    else:
        with run_lock(tmp_path):
            pass


def test_signs_of_life_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_SIGNS", 0.02)
    with run_lock(tmp_path):
        os.utime(tmp_path / HOLDER, (1, 1))
        time.sleep(0.5)
        assert time.time() - (tmp_path / HOLDER).stat().st_mtime < 60
        (thread,) = [t for t in threading.enumerate() if t.name == lock.SIGNS]
    thread.join(20)
    assert not thread.is_alive()


def test_without_file_locks_the_process_itself_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_flock", lambda handle: None)
    sleeper = subprocess.Popen(["sleep", "60"])
    holder = {"host": socket.gethostname(), "pid": sleeper.pid, "since": "now"}
    (tmp_path / HOLDER).write_text(json.dumps(holder))
    with pytest.raises(LFADSError, match="is in use"), run_lock(tmp_path):
        raise AssertionError
    sleeper.kill()
    sleeper.wait()
    with run_lock(tmp_path):
        pass


def test_program_refuses_a_folder_in_use(call, tmp_path):
    """Single runs, searches, sweeps; the other kinds read, and need no lock."""
    for words in (
        ["experiment=lorenz", f"output.lfads_save_dir={tmp_path / 'run'}"],
        ["experiment=lorenz", "search=pbt", f"output.lfads_save_dir={tmp_path / 'run'}"],
        ["-m", "experiment=lorenz", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'run'}"],
    ):
        with run_lock(tmp_path / "run"):
            before = sorted(p.name for p in (tmp_path / "run").iterdir())
            result = call(*words)
            assert result.code == 2
            assert f"error: {tmp_path / 'run'}: is in use by process {os.getpid()}" in result.err
            assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before


def test_fit_refuses_a_folder_in_use(counts, tmp_path):
    with run_lock(tmp_path / "run"), pytest.raises(LFADSError, match="is in use by process"):
        lfads.fit(counts, lfads_save_dir=str(tmp_path / "run"), device="cpu:0", recipe="original")


# --- whole files ---


def test_whole_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda h: (done.append(os.readlink(f"/proc/self/fd/{h}")), fsync(h))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    with whole_file(tmp_path / "file") as path:
        path.write_text("all")
        temporary = str(path)
    assert done == [temporary, "replace", str(tmp_path)]


def test_leftovers_are_told_by_name(tmp_path):
    for name in (".a.csv.x1.tmp", ".b.csv.x2.tmp", "a.csv", ".hidden", "mine.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, ["a.csv"])
    assert {p.name for p in tmp_path.iterdir()} == {".b.csv.x2.tmp", "a.csv", ".hidden", "mine.tmp"}


def test_writing_a_file_removes_what_was_left_of_it_days_ago(tmp_path):
    """Of a kind that was killed while it wrote its results: no run comes back to tidy up."""
    old, young, other = (tmp_path / f".{n}.tmp" for n in ("a[1].h5.x", "a[1].h5.y", "b.h5.x"))
    for path in (old, young, other):
        path.touch()
        if path != young:
            os.utime(path, (time.time() - 2 * 86400,) * 2)
    with whole_file(tmp_path / "a[1].h5") as path:
        path.write_text("all")
    assert {p.name for p in tmp_path.iterdir()} == {"a[1].h5", young.name, other.name}


# --- deterministic algorithms ---


def test_deterministic_algorithms_are_asked_for_while_training_and_no_longer(train):
    def flags():
        cudnn = torch.backends.cudnn
        return (
            torch.are_deterministic_algorithms_enabled(),
            cudnn.deterministic,
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        )

    seen, before = [], flags()

    class Look(pl.Callback):
        def on_train_batch_start(self, *args):
            seen.append(flags())

    train("plain", Look(), max_epochs=1)
    assert set(seen) == {before}
    seen.clear()
    train("deterministic", Look(), max_epochs=1, deterministic=True)
    assert set(seen) == {(True, True, before[2] or ":4096:8")}
    assert flags() == before


def test_operation_without_a_deterministic_form_is_an_error(train):
    class Undetermined(pl.Callback):
        def on_train_batch_start(self, *args):
            torch.kthvalue(torch.ones(3), 1)
            torch.Tensor.put_(torch.ones(3), torch.tensor([0]), torch.ones(1))

    train("plain", Undetermined(), max_epochs=1)
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        train("deterministic", Undetermined(), max_epochs=1, deterministic=True)
