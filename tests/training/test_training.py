"""A training run: what it changes, what it saves and logs, and how it is continued."""

import csv
import json
import math
import re
import stat

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lfads_lightning as lfads
from lfads_lightning.config import LFADSError
from lfads_lightning.data.datamodule import LFADSDataModule
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.runs.files import whole_file
from lfads_lightning.training.checkpoint_files import read_index, write_index
from lfads_lightning.training.fit import fit
from lfads_lightning.training.logs import fitlog_line
from lfads_lightning.training.module import LFADSModule
from lfads_lightning.training.optimizer import TFAdam

# two updates per epoch on twelve trials; ramps complete from the start
SHORT = {
    "batch_size": 6,
    "max_epochs": 2,
    "kl_increase_steps": 0,
    "l2_increase_steps": 0,
    "l2_gen_scale": 10.0,
}
TERMS = ("total", "recon", "kl_ic", "kl_co", "l2", "corr")


@pytest.fixture
def data(counts):
    """Make sessions of the tiny counts; ``neurons`` maps names to numbers of neurons."""

    def make(neurons=None, *, valid=True, **parameters):
        neurons = neurons or {"a": 5}
        # trials in another order in each session
        train = {n: np.roll(counts[..., :d], i, 0) for i, (n, d) in enumerate(neurons.items())}
        return sessions_from_arrays(
            train,
            {name: array[:5] for name, array in train.items()} if valid else None,
            output_dist=parameters.get("output_dist", "poisson"),
            ext_input_dim=0,
            factors_dim=parameters.get("factors_dim", 3),
            warn=False,
        )

    return make


@pytest.fixture
def train(data, new_config, tmp_path):
    """Train in a folder of this name, or go on there; keywords are flat parameter names."""

    def run(folder="run", neurons=None, *, valid=True, **parameters):
        sessions = data(neurons, valid=valid, **parameters)
        return fit(new_config(**SHORT | parameters), sessions, tmp_path / folder)

    return run


def weights(model):
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def table(folder):
    """Return the rows of metrics.csv, numbers as numbers."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def fitlog(folder):
    """Return the lines of fitlog.csv, each as {name: values}."""
    rows = []
    for line in (folder / "fitlog.csv").read_text().splitlines():
        fields = [field.strip() for field in line.split(",")]
        row, name = {}, ""
        for field in fields:
            if re.fullmatch("[a-z0-9]*[a-z][a-z0-9]*", field):
                name, row[field] = field, []
            else:
                row[name].append(float(field))
        rows.append(row)
    return rows


def saved(folder, index="checkpoint"):
    """Return (file name, contents) of the newest checkpoint of an index."""
    name = read_index(folder / "checkpoints", index)[-1]
    return name, torch.load(folder / "checkpoints" / name, weights_only=True)


# --- what is trained -------------------------------------------------------------------------


@pytest.fixture
def starts(monkeypatch):
    """Collect the weights that each run starts with."""
    collected = []
    monkeypatch.setattr(
        LFADSModule,
        "on_train_start",
        lambda module: collected.append(weights(module.model)),
        raising=False,
    )
    return collected


TWO = {"a": 5, "b": 4}
IC_ENCODER = ("ic_encoder.", "ic_mean.", "ic_logvar.")


@pytest.mark.parametrize(
    ("parameters", "neurons", "trained"),
    [
        ({"do_train_io_only": True}, TWO, ("readin.", "readout.")),
        ({"do_train_io_only": True}, None, ("readout.",)),
        ({"do_train_io_only": True, "do_train_readin": False}, TWO, ("readout.",)),
        (
            {"do_train_io_only": True, "output_dist": "gaussian"},
            TWO,
            ("readin.", "readout.", "readout_logvar."),
        ),
        ({"do_train_encoder_only": True}, TWO, IC_ENCODER),
        ({"do_train_encoder_only": True, "co_dim": 0}, None, IC_ENCODER),
    ],
)
def test_restricted_training_changes_exactly_these(train, starts, parameters, neurons, trained):
    result = train("run", neurons, **parameters)
    after = weights(result.model)
    expected = {name for name in after if name.startswith(trained)}
    changed = {name for name in after if not torch.equal(after[name], starts[0][name])}
    assert changed == expected
    assert expected


@pytest.mark.parametrize(
    ("parameters", "held"),
    [
        ({}, {"ic_prior.raw_logvar"}),  # the variance has equal bounds
        ({"ic_prior_var_max": 0.5}, set()),
        (
            {"do_train_prior_ar_atau": False, "do_train_prior_ar_nvar": False},
            {"ic_prior.raw_logvar", "co_prior.log_tau", "co_prior.log_innovation_var"},
        ),
    ],
)
def test_whole_model_is_trained_by_default(train, starts, parameters, held):
    after = weights(train("run", TWO, **parameters).model)
    assert {name for name in after if torch.equal(after[name], starts[0][name])} == held


def test_nothing_left_to_train_is_an_error(train):
    with pytest.raises(LFADSError, match="do_train_io_only=true: this model has no such param"):
        train(do_train_io_only=True, factors_dim=5)


@pytest.mark.parametrize(
    ("first", "second", "trained"),
    [
        ({}, {"do_train_io_only": True}, ("readout.",)),
        ({"do_train_io_only": True}, {}, None),
        ({"do_train_encoder_only": True}, {"do_train_io_only": True}, ("readout.",)),
    ],
)
def test_what_is_trained_can_change_on_resume(train, starts, first, second, trained):
    last = {"kl_increase_steps": 10**6}  # no epoch counts as the best: the weights are the last
    train(**last, **first)
    after = weights(train(max_epochs=4, **last, **second).model)
    changed = {name for name in after if not torch.equal(after[name], starts[1][name])}
    every = {name for name in after if name != "ic_prior.raw_logvar"}
    assert changed == (every if trained is None else {n for n in every if n.startswith(trained)})


# --- seeds and precision ---------------------------------------------------------------------


def test_same_seed_gives_the_same_weights_and_another_others(train, tmp_path):
    first = weights(train("first").model)
    assert_same(weights(train("second").model), first)
    assert table(tmp_path / "first") == table(tmp_path / "second")
    other = weights(train("other", seed=1).model)
    equal = {name for name in first if torch.equal(first[name], other[name])}
    assert equal == {"ic_prior.raw_logvar"}


def test_double_precision_is_kept_throughout(train, tmp_path):
    result = train(precision="float64")
    assert {p.dtype for p in result.model.parameters()} == {torch.float64}
    _, checkpoint = saved(tmp_path / "run")
    assert {p.dtype for p in checkpoint["state_dict"].values()} == {torch.float64}
    moments = checkpoint["optimizer_states"][0]["state"].values()
    assert {m["v"].dtype for m in moments} == {torch.float64}
    loaded = lfads.load(tmp_path / "run")
    assert loaded.model.factor_weight.dtype is torch.float64
    again = train(precision="float64", max_epochs=4)
    assert {p.dtype for p in again.model.parameters()} == {torch.float64}


def test_both_precisions_agree_at_the_start(train, tmp_path):
    for name in ("float32", "float64"):
        train(name, precision=name, max_steps=1, keep_prob=1.0, co_dim=0, ic_dim=0)
    single, double = (table(tmp_path / name)[0] for name in ("float32", "float64"))
    assert single["train/recon"] != double["train/recon"]
    # weights are drawn in float32 in both
    assert single["train/recon"] == pytest.approx(double["train/recon"], rel=1e-5)


# --- sessions --------------------------------------------------------------------------------


def test_batch_holds_trials_of_one_session(data):
    sessions = data({"a": 5, "b": 4})
    rows = {s.name: {trial.tobytes() for trial in s.train.data} for s in sessions}
    module = LFADSDataModule(sessions, batch_size=5)
    loader = module.train_dataloader()
    batches = list(loader)
    # twelve trials, filled up to three batches of five in each session
    assert sorted(batch.session for batch in batches) == ["a"] * 3 + ["b"] * 3
    for batch in batches:
        assert batch.data.shape == (5, 8, {"a": 5, "b": 4}[batch.session])
        assert {trial.numpy().tobytes() for trial in batch.data} <= rows[batch.session]
    for name, all_rows in rows.items():
        seen = [t.numpy().tobytes() for b in batches if b.session == name for t in b.data]
        assert set(seen) == all_rows
        assert max(seen.count(row) for row in all_rows) == 2  # padding repeats no trial twice


def test_sessions_come_in_another_order_each_epoch(data):
    loader = LFADSDataModule(data({"a": 5, "b": 4}), batch_size=4).train_dataloader()
    orders = []
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)
        orders.append(tuple(batch.session for batch in loader))
    assert len(set(orders)) > 1
    loader.sampler.set_epoch(2)
    assert tuple(batch.session for batch in loader) == orders[2]


def test_update_leaves_the_other_sessions_weights_alone(train, starts):
    after = weights(train("run", TWO, max_steps=1).model)
    moved = {n for n in after if "session" in n and not torch.equal(after[n], starts[0][n])}
    sessions = {name.split(".")[1] for name in moved}
    assert len(sessions) == 1
    assert len(moved) == 4  # read-in and read-out, weight and bias


# --- checkpoints -----------------------------------------------------------------------------


def lve_steps_by_the_rule(rows, no_l2):
    """Return the steps at which the lowest validation error is written, from the table alone."""
    lowest, steps = math.inf, []
    for i, row in enumerate(rows):
        ramps_done = row["ramp/kl"] >= 1 and (row["ramp/l2"] >= 1 or no_l2)
        if i >= 1 and ramps_done and row["valid/total"] < lowest:
            lowest = row["valid/total"]
            steps.append(int(row["step"]))
    return steps, lowest


@pytest.mark.parametrize(
    ("parameters", "first_step"),
    [
        ({}, 4),  # the second validation, though the ramps are complete at the first
        ({"kl_increase_steps": 5}, 6),  # update 6 is the first with weight 5/5
        ({"kl_increase_steps": 6}, 8),
        ({"l2_increase_steps": 5}, 6),
        ({"l2_start_step": 5, "kl_increase_steps": 3}, 6),
        ({"l2_increase_steps": 5, "l2_gen_scale": 0.0}, 4),
        ({"l2_increase_steps": 5, "l2_gen_scale": 0.0, "l2_con_scale": 1.0}, 6),
    ],
)
def test_lowest_validation_cost_counts_once_the_ramps_are_complete(
    train, tmp_path, parameters, first_step
):
    result = train(max_epochs=5, max_ckpt_to_keep_lve=9, **parameters)
    rows = table(tmp_path / "run")
    no_l2 = parameters.get("l2_gen_scale") == 0 and "l2_con_scale" not in parameters
    steps, lowest = lve_steps_by_the_rule(rows, no_l2)
    assert steps[0] == first_step
    names = [f"lfads_vae_lve-{step:08d}.ckpt" for step in steps]
    assert read_index(tmp_path / "run" / "checkpoints", "checkpoint_lve") == names
    assert {p.name for p in (tmp_path / "run" / "checkpoints").glob("*_lve-*")} == set(names)
    assert (result.criterion, result.step, result.checkpoint) == (
        lowest,
        steps[-1],
        "checkpoint_lve",
    )


@pytest.fixture
def best_in_the_middle(monkeypatch):
    """Make the validation cost fall until epoch 3 and rise from there."""
    original = LFADSModule.on_validation_epoch_end

    def scripted(module):
        original(module)
        cost = 100.0 + abs(module.current_epoch - 3)
        module._valid_sum = torch.full_like(module._valid_sum, cost * module._n_valid)

    monkeypatch.setattr(LFADSModule, "on_validation_epoch_end", scripted)


def test_result_has_the_weights_of_the_lowest_validation_cost(train, tmp_path, best_in_the_middle):
    result = train(max_epochs=6)
    rows = table(tmp_path / "run")
    steps, _ = lve_steps_by_the_rule(rows, no_l2=False)
    assert steps[-1] < rows[-1]["step"]
    assert result.step == steps[-1]
    lowest = lfads.load(tmp_path / "run", "checkpoint_lve")
    assert_same(weights(result.model), weights(lowest.model))
    last = weights(lfads.load(tmp_path / "run").model)
    assert not torch.equal(last["factor_weight"], result.model.factor_weight)


def test_without_a_second_validation_the_last_weights_are_the_result(train, tmp_path):
    result = train(max_epochs=1)
    assert (result.checkpoint, result.chosen_by) == ("last", "")
    assert not (tmp_path / "run" / "checkpoints" / "checkpoint_lve.json").exists()
    assert_same(weights(result.model), weights(lfads.load(tmp_path / "run").model))
    assert result.criterion == table(tmp_path / "run")[-1]["valid/total"]


def test_lowest_cost_is_remembered_on_resume(train, tmp_path):
    first = train(max_epochs=3)
    folder = tmp_path / "run" / "checkpoints"
    before = read_index(folder, "checkpoint_lve")
    # every cost after this one is higher than the lowest so far
    second = train(max_epochs=5, kl_ic_weight=100.0)
    rows = table(tmp_path / "run")
    assert min(row["valid/total"] for row in rows[3:]) > first.criterion
    assert read_index(folder, "checkpoint_lve") == before
    assert (second.criterion, second.step) == (first.criterion, first.step)
    assert_same(weights(second.model), weights(first.model))


def test_validations_before_a_resume_count(train, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    train(max_epochs=1)
    assert read_index(folder, "checkpoint_lve") == []
    train(max_epochs=3)
    assert read_index(folder, "checkpoint_lve")[0] == "lfads_vae_lve-00000004.ckpt"


def test_periodic_checkpoints_are_of_every_tenth_epoch_and_the_last(train, tmp_path):
    train(max_epochs=13, batch_size=12, co_dim=0)
    names = [f"lfads_vae-{step:08d}.ckpt" for step in (1, 11, 13)]
    assert read_index(tmp_path / "run" / "checkpoints", "checkpoint") == names


def test_training_without_validation_data(train, tmp_path):
    result = train(valid=False, max_epochs=3)
    folder = tmp_path / "run"
    assert (result.criterion, result.checkpoint, result.step) == (None, "last", 6)
    assert not (folder / "checkpoints" / "checkpoint_lve.json").exists()
    assert not any(name.startswith("valid/") for name in table(folder)[0])
    assert [len(row["total"]) for row in fitlog(folder)] == [1, 1, 1]


def test_training_without_validation_data_warns_of_nothing_else(train):
    train(valid=False, max_steps=1)


# --- going on --------------------------------------------------------------------------------


CONTINUED = {
    "plain": {},
    "jittered": {"temporal_spike_jitter_width": 2},
    "two sessions": {"neurons": TWO},
    "padded batches": {"batch_size": 5},
    "without validation": {"valid": False},
    "falling rate": {
        "learning_rate_n_to_compare": 1,
        "learning_rate_decay_factor": 0.5,
        # a growing penalty and no divergence: every cost is higher than the one before
        "l2_gen_scale": 5000.0,
        "l2_increase_steps": 50,
        "kl_ic_weight": 0.0,
        "kl_co_weight": 0.0,
    },
    "decoder only": {"co_dim": 0, "ic_dim": 0},
}


@pytest.mark.parametrize("parameters", CONTINUED.values(), ids=CONTINUED)
def test_two_and_two_epochs_are_four(train, tmp_path, parameters):
    train("whole", max_epochs=4, **parameters)
    train("parts", max_epochs=2, **parameters)
    train("parts", max_epochs=4, **parameters)
    (_, whole), (_, parts) = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert whole["lfads"]["step"] == parts["lfads"]["step"]
    assert_same(parts["state_dict"], whole["state_dict"])
    assert table(tmp_path / "parts") == table(tmp_path / "whole")
    assert fitlog(tmp_path / "parts") == fitlog(tmp_path / "whole")
    lowest = [
        read_index(tmp_path / name / "checkpoints", "checkpoint_lve") for name in ("whole", "parts")
    ]
    assert lowest[0] == lowest[1]


def test_falling_rate_is_saved_and_restored(train, tmp_path):
    parameters = CONTINUED["falling rate"]
    train(max_epochs=3, **parameters)
    # the third cost exceeds the second: the ramp of the penalty raises it
    rates = [row["lr"] for row in table(tmp_path / "run")]
    assert rates == [0.01, 0.01, 0.01]
    _, checkpoint = saved(tmp_path / "run")
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.005
    assert checkpoint["lfads"]["costs"][-1] == math.inf
    train(max_epochs=5, **parameters)
    rates = [row["lr"] for row in table(tmp_path / "run")]
    assert rates == [0.01, 0.01, 0.01, 0.005, 0.005]
    assert saved(tmp_path / "run")[1]["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0025


def drop_newest(folder, index="checkpoint"):
    names = read_index(folder / "checkpoints", index)
    write_index(folder / "checkpoints", index, names[:-1])


def test_rows_after_the_checkpoint_are_written_anew(train, tmp_path):
    """As after a crash: the logs reach further than the newest checkpoint."""
    train("whole", max_epochs=4)
    train("crashed", max_epochs=3)
    drop_newest(tmp_path / "crashed")  # leaves that of epoch 0
    for log in ("metrics.csv", "fitlog.csv"):
        with (tmp_path / "crashed" / log).open("a") as file:
            file.write("3,8,1")  # cut off in the middle of a row
    train("crashed", max_epochs=4)
    assert [row["epoch"] for row in table(tmp_path / "crashed")] == [0, 1, 2, 3]
    assert [row["epoch"] for row in fitlog(tmp_path / "crashed")] == [[0], [1], [2], [3]]
    assert table(tmp_path / "crashed") == table(tmp_path / "whole")
    (_, ours), (_, theirs) = saved(tmp_path / "crashed"), saved(tmp_path / "whole")
    assert_same(ours["state_dict"], theirs["state_dict"])


def test_run_goes_on_from_its_lowest_validation_cost_if_asked(train, tmp_path, best_in_the_middle):
    train(max_epochs=6)
    steps, _ = lve_steps_by_the_rule(table(tmp_path / "run"), no_l2=False)
    before = table(tmp_path / "run")
    epoch = steps[-1] // 2 - 1
    assert epoch < 5
    train(max_epochs=epoch + 2, checkpoint_pb_load_name="checkpoint_lve")
    after = table(tmp_path / "run")
    assert [row["epoch"] for row in after] == list(range(epoch + 2))
    assert after == before[: epoch + 2]


@pytest.mark.filterwarnings("ignore:.*has already been trained:UserWarning")
def test_finished_run_is_left_as_it_is(train, tmp_path):
    first = train()
    before = table(tmp_path / "run")
    second = train()
    assert table(tmp_path / "run") == before
    assert_same(weights(second.model), weights(first.model))


def test_finished_run_is_said_to_be_finished(train):
    train()
    with pytest.warns(
        UserWarning, match=r"already been trained for 2 epochs; .* trainer\.max_epochs=2"
    ):
        train()


def test_fewer_epochs_than_a_run_has_had_are_refused(train):
    train()
    with pytest.raises(LFADSError, match=r"already been trained for 2 epochs"):
        train(max_epochs=1)


def test_run_goes_on_by_one_epoch_without_a_warning(train):
    train()
    assert train(max_epochs=3).epochs == 3


@pytest.mark.parametrize(
    ("neurons", "message"),
    [({"a": 4}, r"'a' \(5 neurons\), but .* 'a' \(4"), (TWO, r"'b' \(4"), ({"c": 5}, "'c'")],
)
def test_run_of_other_sessions_is_not_continued(train, neurons, message):
    train(max_steps=1)
    with pytest.raises(LFADSError, match=message):
        train("run", neurons)


def test_run_of_other_sizes_is_not_continued(train):
    train(max_steps=1)
    with pytest.raises(LFADSError, match=r"trained with model\.gen_dim=6 \(now 7\)"):
        train(gen_dim=7)


def test_saved_model_is_trained_on_from_its_step(train, new_model, new_config, starts, tmp_path):
    """Saved from Python, without optimiser state: weights and step are taken up, ramps go on."""
    parameters = {"kl_increase_steps": 20, "l2_increase_steps": 20}
    trained = TrainedModel(new_model(), new_config(**parameters), n_bins=8, step=10)
    before = weights(trained.model)
    trained.save(tmp_path / "run")
    result = train(**parameters)
    assert_same(starts[0], before)
    assert (result.step, result.updates) == (14, 14)
    rows = table(tmp_path / "run")
    assert [(r["epoch"], r["step"], r["ramp/kl"]) for r in rows] == [(0, 12, 0.55), (1, 14, 0.65)]
    assert saved(tmp_path / "run")[0] == "lfads_vae-00000014.ckpt"
    # and once more, now with optimiser state
    again = train(max_epochs=4, **parameters)
    assert again.updates == 18
    rows = table(tmp_path / "run")[2:]
    assert [(r["epoch"], r["step"], r["ramp/kl"]) for r in rows] == [(2, 16, 0.75), (3, 18, 0.85)]


# --- interrupts ------------------------------------------------------------------------------


@pytest.fixture
def interrupt(monkeypatch):
    """Press Ctrl-C in the (n + 1)th call of a method of the module; returns how to undo it."""

    def press(method, n):
        original, calls = getattr(LFADSModule, method), []

        def interrupted(module, batch):
            calls.append(0)
            if len(calls) == n + 1:
                raise KeyboardInterrupt
            return original(module, batch)

        monkeypatch.setattr(LFADSModule, method, interrupted)
        return lambda: monkeypatch.setattr(LFADSModule, method, original)

    return press


def interrupted(train, **parameters):
    """Train until the interrupt; Lightning ends the process."""
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        train(**parameters)
    return caught.value


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_interrupt_leaves_a_checkpoint_of_the_updates_done(train, interrupt, tmp_path, n):
    interrupt("training_step", n)
    interrupted(train)
    loaded = lfads.load(tmp_path / "run")
    assert loaded.step == n
    assert saved(tmp_path / "run")[1]["lfads"]["step"] == n


# a batch that comes again is no matter; Lightning says so where a loader cannot be wound on
@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before:UserWarning")
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_interrupted_run_can_be_continued_to_its_end(train, interrupt, tmp_path, n):
    undo = interrupt("training_step", n)
    interrupted(train, max_epochs=3)
    undo()
    result = train(max_epochs=3)
    assert result.updates == 6
    rows = table(tmp_path / "run")
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 2), (1, 4), (2, 6)]
    assert all(10 < row["train/total"] < 1000 for row in rows)


def test_run_interrupted_in_validation_is_continued_with_true_costs(train, interrupt, tmp_path):
    undo = interrupt("validation_step", 1)
    interrupted(train)
    undo()
    train()
    rows = table(tmp_path / "run")
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 2), (1, 4)]
    assert all(10 < row["train/total"] < 1000 for row in rows)


def test_interrupt_says_how_to_go_on(train, interrupt, tmp_path, capsys):
    interrupt("training_step", 3)
    interrupted(train)
    assert f"output.lfads_save_dir={tmp_path / 'run'}" in capsys.readouterr().err


def test_interrupt_in_python_is_a_keyboard_interrupt(train, interrupt):
    interrupt("training_step", 1)
    assert isinstance(interrupted(train), KeyboardInterrupt)


def test_failure_leaves_the_older_checkpoints_alone(train, monkeypatch, tmp_path):
    train()
    before = saved(tmp_path / "run")[0]

    def fail(module, batch):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(LFADSModule, "training_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(max_epochs=4)
    assert saved(tmp_path / "run")[0] == before
    assert lfads.load(tmp_path / "run").step == 4


# --- logs ------------------------------------------------------------------------------------

METRICS = {
    "train/total": 1234.567,
    "train/recon": 1200.0,
    "train/kl_ic": 10.126,
    "train/kl_co": 2.25,
    "train/l2": 3.1234567,
    "train/corr": 9.0,
    "ramp/kl": 0.25,
    "ramp/l2": 1.0,
    "lr": 0.01,
}
VALID = {"valid/total": 1300.005, "valid/recon": 1290.5, "valid/kl_ic": 9.0, "valid/kl_co": 1.0}


def test_fitlog_line_is_that_of_the_original():
    assert fitlog_line(3, 40, METRICS | VALID) == (
        "epoch,3, step,40, total,1234.57,1300.01, recon,1200.00,1290.50, kl,12.38,10.00, "
        "l2,3.12346, klweight,0.25, l2weight,1.00\n"
    )


def test_fitlog_line_without_validation_leaves_the_second_values_out():
    assert fitlog_line(0, 1, METRICS) == (
        "epoch,0, step,1, total,1234.57, recon,1200.00, kl,12.38, "
        "l2,3.12346, klweight,0.25, l2weight,1.00\n"
    )


def test_fitlog_holds_the_numbers_of_the_table(train, tmp_path):
    train(kl_increase_steps=3, co_mean_corr_scale=0.1)
    for line, row in zip(fitlog(tmp_path / "run"), table(tmp_path / "run"), strict=True):
        pairs = {term: [row[f"train/{term}"], row[f"valid/{term}"]] for term in ("total", "recon")}
        pairs["kl"] = [row[f"{s}/kl_ic"] + row[f"{s}/kl_co"] for s in ("train", "valid")]
        assert list(line) == "epoch step total recon kl l2 klweight l2weight".split()
        assert (line["epoch"], line["step"]) == ([row["epoch"]], [row["step"]])
        for name, expected in pairs.items():
            assert line[name] == pytest.approx(expected, abs=0.0051)
        assert line["l2"] == pytest.approx([row["train/l2"]], abs=0.0000051)
        assert line["klweight"] == pytest.approx([row["ramp/kl"]], abs=0.0051)
        assert line["l2weight"] == [row["ramp/l2"]]


def test_table_has_a_column_for_every_number(train, tmp_path):
    train()
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header == [
        "epoch",
        "step",
        *(f"{split}/{term}" for split in ("train", "valid") for term in TERMS),
        "valid/bits_per_spike",
        "valid/recon_smoothed",
        "ramp/kl",
        "ramp/l2",
        "lr",
        "grad_norm",
        *("prior/ar_tau_0", "prior/ar_tau_1", "prior/ar_var_0", "prior/ar_var_1"),
    ]


def test_totals_are_the_weighted_sum_of_their_terms(train, tmp_path):
    """Of an epoch's single update, whose ramps the table holds."""
    train(batch_size=12, kl_increase_steps=4, l2_increase_steps=3, co_mean_corr_scale=0.5)
    for row in table(tmp_path / "run"):
        kl = row["train/kl_ic"] + row["train/kl_co"]
        expected = row["train/recon"] + row["ramp/kl"] * kl + row["ramp/l2"] * row["train/l2"]
        assert row["train/total"] == pytest.approx(expected + 0.5 * row["train/corr"], rel=1e-5)
        assert row["train/corr"] > 0
    assert [row["ramp/kl"] for row in table(tmp_path / "run")] == [0, 0.25]


def test_tensorboard_holds_the_table(train, tmp_path):
    train()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = table(tmp_path / "run")
    tags = set(rows[0]) - {"epoch", "step"}
    assert {f"{split}/{term}" for split in ("train", "valid") for term in TERMS} < tags
    assert tags <= set(events.Tags()["scalars"])
    for tag in tags:
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(row["step"], pytest.approx(row[tag], rel=1e-6)) for row in rows]


def test_log_can_be_renamed_or_left_out(train, tmp_path):
    train("renamed", csv_log="mine", max_steps=1)
    train("without", csv_log="", max_steps=1)
    assert {p.name for p in (tmp_path / "renamed").glob("*.csv")} == {"metrics.csv", "mine.csv"}
    assert {p.name for p in (tmp_path / "without").glob("*.csv")} == {"metrics.csv"}


@pytest.mark.parametrize("eligible", [True, False])
def test_scores_are_the_numbers_of_the_table(counts, tmp_path, monkeypatch, eligible):
    trained = lfads.fit(
        counts,
        valid_data=counts[:5],
        lfads_save_dir=str(tmp_path / "run"),
        device="cpu:0",
        recipe="original",
        gen_dim=6,
        factors_dim=3,
        ic_dim=4,
        co_dim=0,
        **SHORT | {"max_epochs": 4, "kl_increase_steps": 0 if eligible else 99},
    )
    rows = table(tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores == trained.scores
    assert (scores["epochs"], scores["updates"]) == (4, 8)
    lowest = lve_steps_by_the_rule(rows, no_l2=False)[1]
    within = min(rows[1:], key=lambda row: row["valid/recon_smoothed"])
    assert scores["valid/total"] == (lowest if eligible else within["valid/total"])
    assert scores["chosen_by"] == ("valid/total" if eligible else "valid/recon_smoothed")
    rates = trained.posterior_sample_and_average(counts[:5], 16).rates
    expected = lfads.load(tmp_path / "run", "checkpoint_lve")
    expected = expected.posterior_sample_and_average(counts[:5], 16)
    np.testing.assert_array_equal(rates, expected.rates)
    null = counts[:5].mean((0, 1))
    gain = (null - counts[:5] * np.log(null)) - (rates - counts[:5] * np.log(rates))
    bits = gain.sum(dtype=np.float64) / counts[:5].sum() / math.log(2)
    assert scores["valid/bits_per_spike"] == pytest.approx(bits, abs=1e-6)


# --- the optimiser ---------------------------------------------------------------------------


def test_adam_is_the_formula_with_epsilon_before_the_bias_correction():
    """Against NumPy; one parameter has no gradient in some steps, one never has."""
    rng = np.random.default_rng(0)
    steps, lr, beta1, beta2, eps = 12, 0.05, 0.8, 0.95, 0.1
    shapes = {"always": (3, 2), "sometimes": (4,), "never": (2,)}
    grads = {name: rng.normal(size=(steps, *shape)) for name, shape in shapes.items()}
    has = {
        "always": [True] * steps,
        "sometimes": [t in (2, 3, 7, 11) for t in range(steps)],
        "never": [False] * steps,
    }
    theirs = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    ours = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in theirs.items()}
    m = dict.fromkeys(shapes, 0.0)
    v = dict.fromkeys(shapes, 0.0)
    optimizer = TFAdam(ours.values(), lr, (beta1, beta2), eps)
    for t in range(steps):
        for name, p in ours.items():
            p.grad = torch.tensor(grads[name][t]) if has[name][t] else None
            if has[name][t]:
                g = grads[name][t]
                m[name] = beta1 * m[name] + (1 - beta1) * g
                v[name] = beta2 * v[name] + (1 - beta2) * g**2
                rate = lr * np.sqrt(1 - beta2 ** (t + 1)) / (1 - beta1 ** (t + 1))
                theirs[name] = theirs[name] - rate * m[name] / (np.sqrt(v[name]) + eps)
        optimizer.step()
        for name, p in ours.items():
            np.testing.assert_allclose(p.detach(), theirs[name], rtol=1e-12, err_msg=name)


def test_adam_goes_on_from_its_state():
    def steps(optimizer, p, times):
        for k in times:
            p.grad = torch.tensor([math.sin(k), math.cos(3 * k)])
            optimizer.step()

    whole, parts = (torch.nn.Parameter(torch.ones(2)) for _ in "ab")
    steps(TFAdam([whole], 0.1), whole, range(6))
    first = TFAdam([parts], 0.1)
    steps(first, parts, range(3))
    second = TFAdam([parts], 0.7)
    second.load_state_dict(first.state_dict())
    steps(second, parts, range(3, 6))
    assert torch.equal(whole, parts)


def test_gradient_norm_is_clipped_and_logged_before_clipping(train, starts, tmp_path):
    """The first step is lr_1 m / (sqrt v + eps), m and v of the clipped gradient."""
    free = weights(train("free", max_steps=1, max_grad_norm=1e9).model)
    clipped = weights(train("clipped", max_steps=1, max_grad_norm=1e-3).model)
    norms = [table(tmp_path / name)[0]["grad_norm"] for name in ("free", "clipped")]
    assert norms[0] == norms[1] > 1
    moved = math.sqrt(sum((clipped[n] - starts[1][n]).square().sum() for n in clipped))
    # far below eps = 0.1 the step is linear in the gradient: sqrt(1 - b2) / (1 - b1) * (1 - b1)
    assert moved == pytest.approx(0.01 * math.sqrt(1 - 0.999) * 1e-3 / 0.1, rel=0.02)
    assert not torch.equal(free["factor_weight"], clipped["factor_weight"])


# --- whole files -----------------------------------------------------------------------------


def test_file_appears_whole_at_the_end(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # elsewhere, renaming would copy
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with whole_file(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_can_be_read_by_whom_others_can_be(tmp_path):
    with whole_file(tmp_path / "ours") as temporary:
        temporary.write_text("")
    (tmp_path / "plain").write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")}
    assert len(modes) == 1
