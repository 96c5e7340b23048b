"""A new session in a trained model: dynamics untouched, old sessions kept, and each mistake."""

import csv
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from conftest import TINY
from small_runs import data_args

import lfads_lightning as lfads
from lfads_lightning.data.synthetic import generate

F = TINY["factors_dim"]
SIZES = TINY | {"co_dim": 0, "gen_dim": 16, "kl_increase_steps": 4, "l2_increase_steps": 4}


@pytest.fixture(scope="module")
def recordings():
    """Three sessions of one small network, 40 trials each, with labels."""
    made = generate(
        "chaotic_rnn_multisession",
        3,
        n_conditions=5,
        n_replicates=10,
        duration_s=0.3,
        n_neurons=24,
        n_observed=8,
        n_components=F,
    )
    return dict(zip("abc", made.values(), strict=True))


@pytest.fixture(scope="module")
def known(recordings, tmp_path_factory):
    """The files of a, b and c; a model trained on a and b, aligned."""
    folder = tmp_path_factory.mktemp("known")
    for name, arrays in recordings.items():
        keys = ("train_data", "valid_data", "train_condition", "valid_condition")
        lfads.write_session(folder / f"m_{name}.h5", **{key: arrays[key] for key in keys})
    old = [folder / "m_a.h5", folder / "m_b.h5"]
    lfads.align(old, factors_dim=F)
    lfads.align(folder / "m_c.h5", factors_dim=F, to=old)
    trained = lfads.fit(
        **arguments(folder, "ab"),
        **SIZES,
        max_epochs=15,
        l2_gen_scale=1.0,
        lfads_save_dir=str(folder / "run"),
    )
    return folder, trained


def arguments(folder, names):
    """Return the arguments of ``fit`` for some of the files, with their alignment."""
    found = {name: lfads.read_session(folder / f"m_{name}.h5") for name in names}
    return {
        "data": {name: s.train.data for name, s in found.items()},
        "valid_data": {name: s.valid.data for name, s in found.items()},
        "alignment_matrix_cxf": {name: s.alignment_matrix_cxf for name, s in found.items()},
        "alignment_bias_c": {name: s.alignment_bias_c for name, s in found.items()},
    }


def start(known, folder, names="c", **parameters):
    settings = {
        "batch_size": 12,
        "device": "cpu:0",
        "recipe": "original",
        "do_train_io_only": True,
        "start_from": str(known[0] / "run"),
    } | parameters
    return lfads.fit(
        **arguments(known[0], names),
        lfads_save_dir=str(folder),
        **settings,
    )


def test_new_session_trains_its_own_layers_alone(known, recordings, tmp_path):
    """Everything else is bit-equal, so old sessions give the numbers they gave."""
    before = known[1]
    still = start(known, tmp_path / "still", max_steps=1, learning_rate_init=1e-30)
    after = start(known, tmp_path / "after", max_epochs=20)
    old, new = before.model.state_dict(), after.model.state_dict()
    assert any(name.startswith("generator.") for name in old)
    for name, value in old.items():
        assert torch.equal(value, new[name]), name
    assert {n.split(".")[1] for n in new.keys() - old.keys()} == {"session_c"}
    assert list(after.sessions) == ["c", "a", "b"]
    counts = {"a": recordings["a"]["valid_data"]}
    np.testing.assert_array_equal(
        before.posterior_push_mean(counts)["a"].rates, after.posterior_push_mean(counts)["a"].rates
    )
    assert after.step > before.step  # the ramps are complete: its updates are counted on
    gain = "valid/bits_per_spike"
    assert after.scores[gain] > still.scores[gain] + 1


def test_the_start_is_the_alignment(known, tmp_path):
    """A session that the run does not know begins where its matrix says; a known one, trained."""
    still = start(known, tmp_path, names="bc", max_steps=1, learning_rate_init=1e-30)
    state = still.model.state_dict()
    given = lfads.read_session(known[0] / "m_c.h5").alignment_matrix_cxf
    np.testing.assert_allclose(state["readin.session_c.weight"], given, rtol=1e-6)
    trained = known[1].model.state_dict()["readin.session_b.weight"]
    assert torch.equal(state["readin.session_b.weight"], trained)


def test_best_checkpoint_is_taken(known, tmp_path):
    """The run's lowest-validation-error weights, not its last; these where there are no others."""
    run = tmp_path / "run"
    shutil.copytree(known[0] / "run", run)
    (best,) = json.loads((run / "checkpoints" / "checkpoint_lve.json").read_text())[-1:]
    saved = torch.load(run / "checkpoints" / best, weights_only=True)
    saved["state_dict"]["model.factor_weight"] += 1
    torch.save(saved, run / "checkpoints" / best)
    settings = {"max_steps": 1, "learning_rate_init": 1e-30, "start_from": str(run)}
    new = start(known, tmp_path / "best", **settings)
    given = saved["state_dict"]["model.factor_weight"]
    assert torch.equal(new.model.state_dict()["factor_weight"], given)
    (run / "checkpoints" / "checkpoint_lve.json").unlink()
    new = start(known, tmp_path / "last", **settings)
    last = lfads.load(run).model.state_dict()["factor_weight"]
    assert torch.equal(new.model.state_dict()["factor_weight"], last)


def test_command_line_and_resume(known, call, tmp_path):
    """The model's parameters come from the run; a resumed run needs it no more."""
    data, run, new = tmp_path / "data", tmp_path / "start", tmp_path / "new"
    data.mkdir()
    shutil.copy(known[0] / "m_c.h5", data)
    shutil.copytree(known[0] / "run", run)
    words = [
        *data_args(data, "m"),
        f"optim.start_from={run}",
        "optim.do_train_io_only=true",
        "trainer.device=cpu:0",
        "recipe=original",
        "data.batch_size=12",
        f"output.lfads_save_dir={new}",
    ]
    done = call(*words, "trainer.max_epochs=3", "experiment=lorenz")
    assert done.code == 0, done.err
    trained = lfads.load(new)
    assert list(trained.sessions) == ["c", "a", "b"]
    assert trained.config.model == known[1].config.model
    assert trained.config.optim.start_from == str(run)
    shutil.rmtree(run)
    done = call(f"output.lfads_save_dir={new}", "trainer.max_epochs=5")
    assert done.code == 0, done.err
    with (new / "metrics.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 5
    again = lfads.load(new)
    assert list(again.sessions) == ["c", "a", "b"]
    assert again.step > trained.step
    old = known[1].model.state_dict()
    assert all(torch.equal(again.model.state_dict()[n], v) for n, v in old.items())
    done = call("kind=posterior_push_mean", f"output.lfads_save_dir={new}")
    assert done.code == 0, done.err
    assert (new / "model_runs_c_valid_posterior_push_mean.h5").is_file()
    done = call(
        f"output.lfads_save_dir={new}", "optim.start_from=elsewhere", "trainer.max_epochs=9"
    )
    assert done.code == 2
    assert "this run has already begun, from" in done.err


def test_a_session_that_was_read_out_by_the_identity(counts, tmp_path):
    """One aligned session with F = D: its factors were its log-rates, and go on to be."""
    settings = TINY | {"factors_dim": 5, "max_epochs": 2}
    matrix = np.random.default_rng(0).normal(size=(5, 5))
    with pytest.warns(UserWarning, match="the factors are the log-rates"):
        before = lfads.fit(
            {"a": counts},
            alignment_matrix_cxf={"a": matrix},
            lfads_save_dir=str(tmp_path / "a"),
            **settings,
        )
    assert not before.model.readout
    after = lfads.fit(
        {"b": counts[:, :, :4]},
        start_from=str(tmp_path / "a"),
        device="cpu:0",
        recipe="original",
        max_epochs=2,
        do_train_io_only=True,
        lfads_save_dir=str(tmp_path / "b"),
    )
    old, new = (x.posterior_push_mean({"a": counts}) for x in (before, after))
    np.testing.assert_allclose(old["a"].rates, new["a"].rates, rtol=1e-5)


def test_trained_dynamics_leave_old_sessions_behind(known, tmp_path):
    """That is said; with their data they go along, and nothing is said."""
    with pytest.warns(
        UserWarning, match="read-outs of a, b do not change and may no longer fit them"
    ):
        after = start(known, tmp_path / "c", do_train_io_only=False, max_epochs=1)
    before = known[1].model.state_dict()
    assert not torch.equal(after.model.state_dict()["factor_weight"], before["factor_weight"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="optim.start_from")
        start(known, tmp_path / "abc", names="abc", do_train_io_only=False, max_epochs=1)


def test_search_starts_from_a_run(known, tmp_path):
    """Each member does."""
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate_init: {min: 1.0e-5, max: 0.01}\n")
    best = start(
        known,
        tmp_path / "search",
        algorithm="pbt",
        population=2,
        max_generations=1,
        generation_epochs=1,
        burn_in_epochs=1,
        num_workers=1,
        space=str(space),
    )
    assert list(best.sessions) == ["c", "a", "b"]
    old = known[1].model.state_dict()
    assert torch.equal(best.model.state_dict()["factor_weight"], old["factor_weight"])
    again = start(known, tmp_path / "from_search", max_epochs=1)
    assert list(again.sessions) == ["c", "a", "b"]


def test_forward_bins_come_along_and_held_out_neurons_must_match(counts, tmp_path):
    """The bins are one for all sessions of a model; a known session's neurons are its own."""
    run = str(tmp_path / "run")
    settings = TINY | {"forward_steps": 2, "held_out_neurons": [1]}
    lfads.fit({"a": counts, "b": counts}, **settings, max_epochs=1, lfads_save_dir=run)
    new = {
        "do_train_io_only": True,
        "device": "cpu:0",
        "recipe": "original",
        "max_epochs": 1,
        "start_from": run,
    }
    after = lfads.fit({"c": counts}, **new, lfads_save_dir=str(tmp_path / "c"))
    assert after.sessions["c"].forward_steps == 2
    assert after.sessions["c"].held_out == ()
    assert after.sessions["a"].held_out == (1,)
    with pytest.raises(
        lfads.LFADSError, match="'a' has 2 forward bins and held-out neurons 1, but now 2 and"
    ):
        lfads.fit({"a": counts}, **new, lfads_save_dir=str(tmp_path / "x"))
    with pytest.raises(
        lfads.LFADSError, match="forward bins and held-out neurons 1, but now 0 and 1; set"
    ):
        lfads.fit({"a": counts}, **new, forward_steps=0, held_out_neurons=[1],
                  lfads_save_dir=str(tmp_path / "y"))  # fmt: skip


def test_mistakes(known, counts, tmp_path):
    folder = known[0]
    new = {
        "do_train_io_only": True,
        "device": "cpu:0",
        "recipe": "original",
        "max_epochs": 1,
        "batch_size": 12,
        "lfads_save_dir": str(tmp_path / "new"),
    }
    with pytest.raises(lfads.LFADSError, match=r"start_from=/none: no such folder; give the fold"):
        lfads.fit({"c": counts}, start_from="/none", **new)
    with pytest.raises(lfads.LFADSError, match=r"start_from=.*contains no run \(config.yaml\)"):
        lfads.fit({"c": counts}, start_from=str(tmp_path), **new)
    with pytest.raises(lfads.LFADSError, match="'a' has 8 neurons, but that of the data has 5"):
        lfads.fit({"a": counts}, start_from=str(folder / "run"), **new)
    with pytest.raises(lfads.LFADSError, match=r"do not fit model.gen_dim=9 \(there 16\); leave"):
        lfads.fit({"c": counts}, start_from=str(folder / "run"), gen_dim=9, **new)
    lfads.fit({"x": counts}, **TINY, max_epochs=1, lfads_save_dir=str(tmp_path / "plain"))
    with pytest.raises(lfads.LFADSError, match="was trained on one session without alignment"):
        lfads.fit({"c": counts}, start_from=str(tmp_path / "plain"), **new)
