"""A run that is cut off anywhere continues as if it had not been: weights, optimiser, logs."""

import os
import random
import signal
import sys
import threading
import time
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra

import lfads_lightning as lfads
from benchmarks.crash import child, contents, contents_of_search, different, ended
from lfads_lightning import api
from lfads_lightning.cli import kinds as runs
from lfads_lightning.cli.train import main as train_main
from lfads_lightning.config import LFADSError
from lfads_lightning.data.datamodule import TrainingBatches
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.runs import signals
from lfads_lightning.training import hidden
from lfads_lightning.training.checkpoint_files import (
    damage,
    find_checkpoint,
    load_checkpoint,
    read_index,
    write_index,
)
from lfads_lightning.training.fit import fit

# six batches of two sessions per epoch, and everything on that a continued run could get wrong
RUN = {
    "batch_size": 4,
    "max_epochs": 3,
    "kl_increase_steps": 9,
    "l2_increase_steps": 7,
    "l2_gen_scale": 10.0,
    "temporal_spike_jitter_width": 2,
    "coordinated_dropout_rate": 0.3,
    "sample_validation_rate": 0.1,
    "learning_rate_n_to_compare": 1,
    "learning_rate_decay_factor": 0.5,
    "co_mean_corr_scale": 0.1,
}


class SignalAt(pl.Callback):
    """Send this process a signal before the (n + 1)th training or validation batch."""

    def __init__(self, number, hook, n):
        self.number, self.left = number, n
        setattr(self, hook, self._count)

    def _count(self, *args):
        self.left -= 1
        if self.left == -1:
            signal.raise_signal(self.number)


@pytest.fixture
def train(counts, new_config, tmp_path):
    """Train on two sessions in a folder of this name, or go on there."""

    def run(folder, *callbacks, valid=True, n_bins=None, **parameters):
        data = {"a": counts[:, :n_bins], "b": counts[::-1, :n_bins, :4].copy()}
        sessions = sessions_from_arrays(
            data,
            {name: array[:5] for name, array in data.items()} if valid else None,
            output_dist="poisson",
            ext_input_dim=0,
            factors_dim=3,
            warn=False,
        )
        fit(new_config(**RUN | parameters), sessions, tmp_path / folder, callbacks)
        # what the last lines of a run hold beside
        (tmp_path / folder / "scores.json").write_text("{}")
        return tmp_path / folder

    return run


def stopped(train, folder, number, hook, n, **parameters):
    """Train until a signal comes; return what was raised."""
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        train(folder, SignalAt(number, hook, n), **parameters)
    return caught.value


POSITIONS = [
    ("on_train_batch_start", 0),
    ("on_train_batch_start", 1),
    ("on_train_batch_start", 5),  # the last of the epoch
    ("on_train_batch_start", 6),  # the first of the next one
    ("on_train_batch_start", 16),
    ("on_validation_batch_start", 0),
    ("on_validation_batch_start", 3),
    ("on_validation_batch_start", 10),
    ("on_train_epoch_end", 1),
]


@pytest.mark.parametrize(("hook", "n"), POSITIONS)
def test_continues_bit_for_bit_from_anywhere(train, hook, n):
    whole = train("whole")
    stopped(train, "cut", signal.SIGTERM, hook, n)
    assert different(contents(train("cut")), contents(whole)) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_steps": 8},
        {"batch_size": 12},
        {"precision": "float64"},
        {"precision": "bf16"},
        {"optimizer": "adamw", "schedule": "cosine", "warmup_steps": 5, "max_steps": 16},
        {"valid": False, "sample_validation_rate": 0.0},
        {"early_stopping_epochs": 1, "kl_increase_steps": 0, "l2_increase_steps": 0},
    ],
    ids=str,
)
def test_continues_bit_for_bit_with_other_settings(train, parameters, request):
    if parameters.get("precision") == "bf16":
        request.getfixturevalue("bf16_unit")
    whole = train("whole", **parameters)
    n = 3 if "batch_size" in parameters else 7
    stopped(train, "cut", signal.SIGTERM, "on_train_batch_start", n, **parameters)
    assert different(contents(train("cut", **parameters)), contents(whole)) == []


@pytest.mark.parametrize("n", [7, 13])
def test_continues_bit_for_bit_between_two_looks_at_hidden_entries(train, monkeypatch, n):
    monkeypatch.setattr(hidden, "LEAST_UPDATES", 8)
    monkeypatch.setattr(hidden, "UPDATES_PER_LOOK", 0)
    parameters = {"criterion": "hidden_recon", "max_epochs": 4}
    whole = train("whole", **parameters)
    stopped(train, "cut", signal.SIGTERM, "on_train_batch_start", n, **parameters)
    assert different(contents(train("cut", **parameters)), contents(whole)) == []


def test_stopped_three_times_and_continued(train):
    whole = train("whole")
    for n in (4, 3, 5):  # of each process
        stopped(train, "cut", signal.SIGUSR1, "on_train_batch_start", n)
    assert different(contents(train("cut")), contents(whole)) == []


def test_finished_run_keeps_its_numbers_when_it_is_started_again(train, counts):
    """As where a process is killed between the last update and the scores."""
    whole = train("whole")
    before = contents(whole)
    with pytest.warns(UserWarning, match="has already been trained"):
        train("whole")
    assert different(contents(whole), before) == []


def test_every_random_state_is_restored(train):
    """Ours draw from (seed, update); these are of whoever uses the global ones."""

    class Draw(pl.Callback):
        def __init__(self):
            self.drawn = []

        def on_train_batch_end(self, *args):
            self.drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))

    whole, first, second = Draw(), Draw(), Draw()
    train("whole", whole)
    with pytest.raises(SystemExit):
        train("cut", first, SignalAt(signal.SIGTERM, "on_train_batch_start", 8))
    train("cut", second)
    assert len(first.drawn) == 9  # the update under way is finished
    assert first.drawn + second.drawn == whole.drawn


def test_order_can_begin_in_the_middle_once():
    whole = TrainingBatches({"a": 12, "b": 9}, 4, seed=3)
    part = TrainingBatches({"a": 12, "b": 9}, 4, seed=3, first_batch=2)
    numbers = [[b.number for b in part] for _ in range(2)]
    assert numbers == [[2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    part = TrainingBatches({"a": 12, "b": 9}, 4, seed=3, first_batch=2)
    for ours, theirs in zip(part, list(whole)[2:], strict=True):
        np.testing.assert_array_equal(ours.trials, theirs.trials)


# --- what a process does that is told to stop ---


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGTERM, signals.Preempted),
        (signal.SIGUSR1, signals.Preempted),
        (signal.SIGINT, KeyboardInterrupt),
    ],
)
def test_signal_saves_the_update_under_way(train, number, error, tmp_path, capfd):
    raised = stopped(train, "cut", number, "on_train_batch_start", 1)
    assert isinstance(raised, error)
    path = find_checkpoint(tmp_path / "cut", "checkpoint")
    # the callback sends it after ours has looked: the update is done first
    assert load_checkpoint(path)["lfads"]["step"] == 2
    said = f"Interrupted and saved. To continue: lfads train output.lfads_save_dir={tmp_path}"
    assert said in capfd.readouterr().err


def test_second_ctrl_c_ends_at_once_and_saves_nothing(train, tmp_path, capfd):
    class Impatient(pl.Callback):
        def on_before_optimizer_step(self, *args):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("cut", Impatient())
    assert read_index(tmp_path / "cut" / "checkpoints", "checkpoint") == []
    assert "not saved" in capfd.readouterr().err


def test_handlers_are_as_before_when_training_is_over(train):
    def mine(number, frame):
        raise AssertionError

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(n) for n in numbers]
    try:
        for n in numbers:
            signal.signal(n, mine)
        train("run")
        assert [signal.getsignal(n) for n in numbers] == [mine] * 3
        stopped(train, "cut", signal.SIGTERM, "on_train_batch_start", 1)
        assert [signal.getsignal(n) for n in numbers] == [mine] * 3
    finally:
        for n, handler in zip(numbers, before, strict=True):
            signal.signal(n, handler)


def test_ignored_signals_stay_ignored(train):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train("run", SignalAt(signal.SIGINT, "on_train_batch_start", 1))
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_outside_the_main_thread_leaves_signals_alone(train, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    class Look(pl.Callback):
        def on_train_batch_start(self, *args):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=train, args=("run", Look()))
    thread.start()
    thread.join()
    assert set(seen) == {before}
    assert find_checkpoint(tmp_path / "run", "checkpoint") is not None


# --- from the command line ---

SLURM = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "lfads", "SLURM_JOB_ID": "7", "SLURM_LOCALID": "0",
         "SLURM_PROCID": "0", "SLURM_NODEID": "0"}  # fmt: skip
WORDS = ("data.data_dir=data", "data.data_filename_stem=a", "trainer.device=cpu:0",
"recipe=original",
         "model.gen_dim=6", "model.ic_enc_dim=6", "model.ci_enc_dim=6", "model.con_dim=6",
         "model.factors_dim=3", "loss.kl_increase_steps=100")  # fmt: skip


@pytest.fixture
def program(tmp_path, counts):
    """Start the program in a process, in ``tmp_path``; a fork of this one, without the imports."""
    many = np.tile(counts, (10, 1, 1))
    lfads.write_session(tmp_path / "data" / "a.h5", train_data=many, valid_data=counts)
    started = []

    def start(*words, **environment):
        log = tmp_path / f"log-{len(started)}"
        log.touch()

        def work():
            os.chdir(tmp_path)
            os.environ |= environment
            sys.argv = ["train.py", *words]
            GlobalHydra.instance().clear()
            warnings.simplefilter("always", UserWarning)
            train_main()

        started.append(Process(child(work, log), log))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


class Process:
    """A process that was forked; as subprocess.Popen."""

    def __init__(self, pid, log):
        self.pid, self.log, self.code = pid, log, None

    def poll(self):
        if self.code is None:
            self.code = ended(self.pid, block=False)
        return self.code

    def wait(self, timeout):
        until = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.01)
        return self.code


def wait_for(path, process, lines=1):
    """Wait until a file has this many lines."""
    until = time.monotonic() + 120
    while not (path.is_file() and len(path.read_text().splitlines()) >= lines):
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.slow
def test_terminated_program_ends_with_75_and_goes_on_bit_for_bit(program, tmp_path):
    """Inside a SLURM job, by its warning before preemption and by SIGTERM."""
    words = (*WORDS, "trainer.max_epochs=8", "data.batch_size=1")
    whole = program(*words, "output.lfads_save_dir=whole")
    assert whole.wait(120) == 0, whole.log.read_text()
    cut = program(*words, "output.lfads_save_dir=cut", **SLURM)
    for number, lines in ((signal.SIGUSR1, 2), (signal.SIGTERM, 4)):
        wait_for(tmp_path / "cut" / "metrics.csv", cut, lines)
        told = time.monotonic()
        os.kill(cut.pid, number)
        assert cut.wait(60) == signals.EXIT_RESUME == 75, cut.log.read_text()
        assert time.monotonic() - told < 30
        assert "Interrupted and saved" in cut.log.read_text()
        cut = program("resume=cut", **SLURM)
    assert cut.wait(120) == 0, cut.log.read_text()
    assert different(contents(tmp_path / "cut"), contents(tmp_path / "whole")) == []


def test_program_that_is_not_training_ends_at_once(program, tmp_path, monkeypatch):
    def load(*given):
        (tmp_path / "loading").write_text("1\n")
        time.sleep(60)

    monkeypatch.setattr(runs, "load_data", load)
    process = program(*WORDS, "output.lfads_save_dir=run")
    wait_for(tmp_path / "loading", process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(5) == 75


def test_further_signals_change_nothing_once_it_ends(program, tmp_path, monkeypatch):
    """SLURM sends SIGTERM to each process of a job, and a wrapper hands it on once more."""

    def load(*given):
        try:
            (tmp_path / "loading").write_text("1\n")
            time.sleep(60)
        finally:
            (tmp_path / "ending").write_text("1\n")
            for _ in range(20):
                time.sleep(0.01)
            (tmp_path / "tidy").touch()

    monkeypatch.setattr(runs, "load_data", load)
    process = program(*WORDS, "output.lfads_save_dir=run")
    wait_for(tmp_path / "loading", process)
    os.kill(process.pid, signal.SIGTERM)
    wait_for(tmp_path / "ending", process)
    while process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGUSR1)
        time.sleep(0.005)
    assert process.wait(5) == 75, process.log.read_text()
    assert (tmp_path / "tidy").exists()
    assert not (tmp_path / "run" / ".running.json").exists()


def test_signal_in_a_destructor_is_not_lost(program, tmp_path, monkeypatch):
    class Slow:
        def __del__(self):
            (tmp_path / "within").write_text("1\n")
            for _ in range(50):
                time.sleep(0.01)

    def load(*given):
        Slow()
        time.sleep(60)

    monkeypatch.setattr(runs, "load_data", load)
    process = program(*WORDS, "output.lfads_save_dir=run")
    wait_for(tmp_path / "within", process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(5) == 75
    assert "Traceback" not in process.log.read_text()


def test_signal_comes_before_hydra_is_there(program, tmp_path, monkeypatch):
    """Imports from a busy network drive take long."""

    def main():
        (tmp_path / "importing").write_text("1\n")
        time.sleep(60)

    monkeypatch.setattr("lfads_lightning.cli.hydra_run.main", main)
    process = program(*WORDS)
    wait_for(tmp_path / "importing", process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(5) == 75


def test_signal_while_scoring_says_how_to_go_on(program, tmp_path, monkeypatch):
    finish = api.finish

    def slow(*args):
        (tmp_path / "scoring").write_text("1\n")
        time.sleep(60)

    monkeypatch.setattr(api, "finish", slow)
    words = (*WORDS, "trainer.max_epochs=1", "output.lfads_save_dir=run")
    process = program(*words)
    wait_for(tmp_path / "scoring", process)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(5) == 75
    assert "all updates are saved" in process.log.read_text()
    monkeypatch.setattr(api, "finish", finish)
    again = program("resume=run")
    assert again.wait(120) == 0, again.log.read_text()
    assert (tmp_path / "run" / "scores.json").is_file()


@pytest.mark.slow
def test_terminated_sweep_stops_and_goes_on(program, tmp_path):
    words = (
        "-m",
        *WORDS,
        "seed=0,1,2",
        "data.batch_size=2",
        "trainer.max_epochs=4",
        "hydra.sweep.dir=sweep",
    )
    sweep = program(*words)
    wait_for(tmp_path / "sweep" / "1" / "metrics.csv", sweep, 2)
    os.kill(sweep.pid, signal.SIGTERM)
    assert sweep.wait(60) == 75, sweep.log.read_text()
    assert f"To continue it: python train.py resume={tmp_path}/sweep\n" in sweep.log.read_text()
    assert not (tmp_path / "sweep" / "2").exists()
    assert not (tmp_path / "sweep" / "1" / "error.txt").exists()
    again = program("resume=sweep")
    assert again.wait(120) == 0, again.log.read_text()
    for job in "012":
        rows = (tmp_path / "sweep" / job / "metrics.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2", "3"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_terminated_search_stops_its_members_and_goes_on_bit_for_bit(program, tmp_path, workers):
    space = {"optim.learning_rate_init": {"min": 1e-4, "max": 0.05}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    words = (*WORDS, "search=pbt", "data.batch_size=6", "search.space=space.yaml",
             "search.population=2",
             f"search.burn_in_epochs={3 if workers == 1 else 60}",
             "search.generation_epochs=3", "search.max_generations=2",
             "optim.learning_rate_n_to_compare=1", "search.stop_gain=0",
             f"search.num_workers={workers}")  # fmt: skip
    whole = program(*words, "output.lfads_save_dir=whole")
    assert whole.wait(200) == 0, whole.log.read_text()
    cut = program(*words, "output.lfads_save_dir=cut")
    wait_for(tmp_path / "cut" / "members" / "01" / "metrics.csv", cut, 2)
    told = time.monotonic()
    os.kill(cut.pid, signal.SIGTERM)
    assert cut.wait(60) == 75, cut.log.read_text()
    assert time.monotonic() - told < 30
    assert list((tmp_path / "cut" / "members").glob("*/generation-0000.cut"))
    again = program("resume=cut")
    assert again.wait(200) == 0, again.log.read_text()
    ours, theirs = (contents_of_search(tmp_path / name) for name in ("cut", "whole"))
    assert different(ours, theirs) == []
    assert not list((tmp_path / "cut" / "members").glob("*/*.cut"))


@pytest.mark.slow
def test_terminated_training_on_two_devices_goes_on(program, tmp_path):
    words = (*WORDS, "trainer.max_epochs=6", "trainer.num_devices=2", "data.batch_size=4")
    whole = program(*words, "output.lfads_save_dir=whole")
    assert whole.wait(240) == 0, whole.log.read_text()
    cut = program(*words, "output.lfads_save_dir=cut")
    wait_for(tmp_path / "cut" / "metrics.csv", cut, 3)
    os.kill(cut.pid, signal.SIGTERM)
    assert cut.wait(60) == 75, cut.log.read_text()
    again = program("resume=cut")
    assert again.wait(240) == 0, again.log.read_text()
    assert different(contents(tmp_path / "cut"), contents(tmp_path / "whole")) == []


# --- damaged checkpoints ---


@pytest.fixture
def run(train):
    """A run with three checkpoints."""
    return train("run", max_epochs=12, batch_size=12)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1000]), "is damaged"),
        (lambda p: p.write_bytes(b""), "is damaged"),
        (lambda p: p.unlink(), "is missing"),
        (
            lambda p: [flip(p, i) for i in range(p.stat().st_size // 2, p.stat().st_size, 97)],
            "is damaged",
        ),
    ],
    ids=["truncated", "empty", "missing", "altered"],
)
def test_damaged_newest_checkpoint_is_noticed_and_the_one_before_used(train, run, spoil, words):
    before = contents(run)
    names = read_index(run / "checkpoints", "checkpoint")
    assert len(names) == 3
    spoil(run / "checkpoints" / names[-1])
    with pytest.warns(UserWarning, match=rf"{names[-1]} .*{words}.*: using the older {names[-2]}"):
        assert find_checkpoint(run, "checkpoint").name == names[-2]
    with pytest.warns(UserWarning, match=words):
        train("run", max_epochs=12, batch_size=12)
    assert different(contents(run), before) == []


def test_no_intact_checkpoint_is_one_clear_error(run):
    for name in read_index(run / "checkpoints", "checkpoint"):
        (run / "checkpoints" / name).write_bytes(b"PK")
    with pytest.raises(
        LFADSError, match=r"no checkpoint of checkpoint.json can be used: .*restore"
    ):
        find_checkpoint(run, "checkpoint")


def flip(path, place, bit=3):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.slow
def test_every_altered_bit_is_noticed_or_without_effect(run, tmp_path):
    """Some bytes of a zip archive say nothing: padding, dates."""
    path = run / "checkpoints" / read_index(run / "checkpoints", "checkpoint")[-1]
    intact, rng, n_noticed = load_checkpoint(path), np.random.default_rng(0), 0
    for place in rng.integers(path.stat().st_size, size=200):
        copy = tmp_path / "copy.ckpt"
        copy.write_bytes(path.read_bytes())
        flip(copy, int(place), int(place) % 8)
        if damage(copy) is not None:
            n_noticed += 1
            continue
        assert different(load_checkpoint(copy), intact) == []
    assert n_noticed > 50


def test_leftovers_of_killed_writers_are_removed(train, run):
    folder = run / "checkpoints"
    (folder / ".lfads_vae-00000007.ckpt.abc.tmp").write_bytes(b"half")
    (folder / "lfads_vae-00000007.ckpt").write_bytes(b"no index names it")
    (folder / "mine.ckpt").write_bytes(b"not ours")
    train("run", max_epochs=13, batch_size=12)
    left = {p.name for p in folder.iterdir()}
    named = {n for i in ("checkpoint", "checkpoint_lve") for n in read_index(folder, i)}
    assert left == named | {"mine.ckpt", "checkpoint.json", "checkpoint_lve.json"}


def test_lost_future_does_not_count_as_the_best(train, run):
    """The index may name an epoch that the checkpoint of a resume does not know of."""
    folder = run / "checkpoints"
    names = read_index(folder, "checkpoint_lve")
    best = load_checkpoint(folder / read_index(folder, "checkpoint")[-1])
    assert best["callbacks"]["Checkpoints"]["best_name"] == names[-1]
    write_index(folder, "checkpoint_lve", [names[-1], *names[:-1]])
    train("run", max_epochs=13, batch_size=12, kl_ic_weight=1000.0)  # no epoch is better
    assert read_index(folder, "checkpoint_lve")[-1] == names[-1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.pop("loops"),
        lambda c: c.update(loops=3),
        lambda c: c.update(callbacks=[]),
        lambda c: c.update(optimizer_states=3),
        lambda c: c.pop("lr_schedulers"),
        lambda c: c.pop("pytorch-lightning_version"),
        lambda c: c.update(rng=[]),
        lambda c: c["lfads"].update(faults=-1),
        lambda c: c["lfads"].update(sums=-1),
    ],
)
def test_checkpoint_without_its_training_state_is_one_error(train, run, spoil):
    path = find_checkpoint(run, "checkpoint")
    checkpoint = torch.load(path, weights_only=True)
    spoil(checkpoint)
    torch.save(checkpoint, path)
    with pytest.raises(LFADSError, match="its weights can be read, but training cannot continue"):
        train(run.name, max_epochs=13)
    lfads.load(run)


@pytest.mark.parametrize("key", ["start_step", "n_updates", "n_batches", "costs"])
def test_counts_of_a_checkpoint_are_counts(run, key):
    path = find_checkpoint(run, "checkpoint")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["lfads"][key] = "x"
    torch.save(checkpoint, path)
    with pytest.raises(LFADSError, match="its training record is invalid"):
        lfads.load(run)


def test_weights_that_do_not_fit_their_own_parameters_are_called_so(train, run):
    path = find_checkpoint(run, "checkpoint")
    checkpoint = torch.load(path, weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][name] = torch.zeros(3, 3, 3)
    torch.save(checkpoint, path)
    with pytest.raises(LFADSError, match="its weights do not match its parameters"):
        train(run.name, max_epochs=13)


def test_other_length_of_trials_than_before_is_said(train, run, counts):
    n = counts.shape[1]
    with pytest.warns(UserWarning, match=f"on trials of {n} bins, now they have {n - 2};"):
        train(run.name, max_epochs=13, n_bins=n - 2)


def test_other_data_than_before_are_said(train, run):
    with pytest.warns(UserWarning, match=r"other data: a: 12 \+ 5, b: 12 \+ 5 .* now a: 12 \+ 0"):
        train(run.name, max_epochs=13, valid=False)
