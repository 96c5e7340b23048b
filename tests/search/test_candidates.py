"""Structures and learning rates that are tried: which goes on, and that nothing else changes."""

import json
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

import lfads_lightning as lfads
from lfads_lightning import api
from lfads_lightning.config import CANDIDATE_NAMES, LFADSError, LossConfig
from lfads_lightning.data.recipe import CANDIDATES, MEANINGS
from lfads_lightning.params import from_flat
from lfads_lightning.runs.run import Run
from lfads_lightning.runs.signals import Interrupted
from lfads_lightning.search import candidates
from lfads_lightning.training.budget import AtRung
from lfads_lightning.training.logs import Progress

COUNTS = np.random.default_rng(4).poisson(0.8, (25, 9, 6))
SMALL = {
    "ic_dim": 3, "factors_dim": 3, "ic_enc_dim": 4, "gen_dim": 5, "ci_enc_dim": 4, "con_dim": 4,
    "device": "cpu:0", "recipe": "original", "report": False, "batch_size": 5,
    "plot_every_n_epochs": 0, "num_score_samples": 0, "optimizer": "adamw", "schedule": "cosine",
    "criterion": "hidden_recon", "max_steps": 40, "learning_rate_init": 0.02,
}  # fmt: skip
NAMES = ["no_inputs", "fast_inputs"]


def fit(folder, **more):
    return lfads.fit(COUNTS, lfads_save_dir=folder, **SMALL | {"candidates": NAMES} | more)


def test_the_lowest_goes_on_as_if_it_had_been_alone(tmp_path, capfd):
    trained = fit(tmp_path / "run")
    run = Run(tmp_path / "run")
    rows = candidates.read_tried(run.folder)
    assert [r["name"] for r in rows] == NAMES
    best = min(rows, key=lambda r: r["criterion"])
    assert [r["name"] for r in rows if r["is_chosen"]] == [best["name"]]
    assert all(r["updates"] == 8 for r in rows)  # an epoch is 4; 15 % of 40 are 6
    assert trained.config.model.co_dim == best["settings"]["co_dim"]
    assert run.read_config().model.co_dim == best["settings"]["co_dim"]
    told = capfd.readouterr().err
    assert "Candidate 1 of 2: no_inputs (no inferred inputs)" in told
    assert f"Candidates, by hidden_recon: {best['name']}" in told
    for name in NAMES:  # each left its curve
        assert run.candidate(name).metrics.read_text().count("\n") == 3
    steps = [line.split(",")[1] for line in run.metrics.read_text().split()[1:]]
    assert steps == [str(n) for n in range(4, 41, 4)]
    alone = fit(tmp_path / "alone", candidates=None, **best["settings"])
    weights, same = last_weights(run.folder), last_weights(alone.folder)
    assert all(torch.equal(value, same[name]) for name, value in weights.items())


def last_weights(folder):
    path = folder / "checkpoints/lfads_vae-00000040.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("rates", [[0.02, 1e-6], [1e-6, 0.02]])
def test_the_learning_rate_that_ends_lowest_is_the_runs(tmp_path, rates, capfd):
    best = 0.02  # 1e-6 does not move
    started = min(rates[0], 0.01)  # structures are compared at another rate than the best
    given = {"candidate_learning_rates": rates, "learning_rate_init": started}
    trained = fit(tmp_path / "run", **given)
    run = Run(tmp_path / "run")
    rows = candidates.read_tried(run.folder)
    assert [r["name"] for r in rows] == [*NAMES, *(f"rate_{rate}" for rate in rates)]
    structure, rate = (r for r in rows if r["is_chosen"])
    assert rate["settings"] == {"learning_rate_init": best}
    assert rate["updates"] == 40
    assert f"Learning rates, by hidden_recon: rate_{best}" in capfd.readouterr().err
    assert trained.config.optim.learning_rate_init == best
    assert run.read_config().optim.learning_rate_init == best
    assert trained.scores["seconds"] >= rate["seconds"] > 0
    assert trained.scores["valid/hidden_recon"] == rate["criterion"]
    steps = [line.split(",")[1] for line in run.metrics.read_text().split()[1:]]
    assert steps == [str(n) for n in range(4, 41, 4)]
    assert not list(run.folder.glob("tried/*/checkpoints"))
    settings = structure["settings"] | {"learning_rate_init": best}
    alone = fit(tmp_path / "alone", candidates=None, **settings)
    weights, same = last_weights(run.folder), last_weights(alone.folder)
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    more = fit(run.folder, max_steps=44, **given)
    assert more.config.optim.learning_rate_init == best
    assert len(candidates.read_tried(run.folder)) == 4


def test_the_rate_of_the_structures_goes_on_from_where_they_were_compared(tmp_path, monkeypatch):
    train, begun = candidates.training.fit, {}

    def watched(config, sessions, folder, *rest):
        begun[folder.name] = sorted(p.name for p in folder.glob("checkpoints/lfads_vae-*"))
        return train(config, sessions, folder, *rest)

    monkeypatch.setattr(candidates.training, "fit", watched)
    fit(tmp_path, candidate_learning_rates=[0.02, 0.01])
    assert begun["rate_0.02"][-1] == "lfads_vae-00000008.ckpt"
    assert begun["rate_0.01"] == []
    rows = {r["name"]: r for r in candidates.read_tried(tmp_path)}
    assert rows["rate_0.02"]["updates"] == rows["rate_0.01"]["updates"] == 40


def test_results_of_another_length_are_made_again(tmp_path, monkeypatch):
    train, rates = candidates.training.fit, {"candidate_learning_rates": [0.02, 0.01]}

    def cut_off(config, sessions, folder, *rest):
        if folder.name == "rate_0.01":
            raise KeyboardInterrupt
        return train(config, sessions, folder, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(candidates.training, "fit", cut_off)
        fit(tmp_path, **rates)
    fit(tmp_path, max_steps=44, **rates)
    rows = {r["name"]: r["updates"] for r in candidates.read_tried(tmp_path)}
    assert rows["rate_0.02"] == rows["rate_0.01"] == 44


def test_rates_of_a_number_of_epochs_warn_of_nothing(tmp_path, recwarn):
    fit(tmp_path, candidates=None, candidate_learning_rates=[0.02, 0.01], max_epochs=10)
    assert not [w for w in recwarn if "already been trained" in str(w.message)]


def test_the_time_left_of_a_candidate_is_its_own():
    progress = Progress(LossConfig(), 0.0)
    of_all = SimpleNamespace(max_epochs=-1, max_steps=41, num_training_batches=4, callbacks=[])
    of_one = SimpleNamespace(**vars(of_all) | {"callbacks": [AtRung()]})
    assert progress._epochs_in_all(of_all) == 11
    assert progress._epochs_in_all(of_one) == 2


def test_what_was_cut_off_goes_on_and_what_was_done_is_not_done_again(tmp_path, monkeypatch):
    train, done = candidates.training.fit, []

    def cut_off(config, sessions, folder, *rest):
        if len(done) == 1:
            done.append("cut off")
            raise KeyboardInterrupt
        done.append(folder.name)
        return train(config, sessions, folder, *rest)

    monkeypatch.setattr(candidates.training, "fit", cut_off)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run")
    trained = fit(tmp_path / "run")
    assert done == ["no_inputs", "cut off", "fast_inputs", "run"]
    again = fit(tmp_path / "run", max_steps=44)
    assert done[4:] == ["run"]  # nothing is tried a second time
    assert again.config.model.co_dim == trained.config.model.co_dim


class At20(pl.Callback):
    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == 20:
            raise Interrupted


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_an_interrupt_at_a_prompt_returns_the_best_candidate_so_far(tmp_path, monkeypatch, done):
    """None are done, one structure, both, and one learning rate; then it cuts off the next."""
    train, folders = candidates.training.fit, []

    def cut_off(config, sessions, folder, callbacks):
        folders.append(folder)
        if len(folders) <= done:
            return train(config, sessions, folder, callbacks)
        if done < 2:
            raise Interrupted
        return train(config, sessions, folder, [*callbacks, At20()])

    monkeypatch.setattr(candidates.training, "fit", cut_off)
    monkeypatch.setattr(api, "at_prompt", lambda: True)
    given = {"candidate_learning_rates": [0.02, 1e-6]}
    if done == 0:
        with pytest.raises(Interrupted):
            fit(tmp_path, **given)
        return
    so_far = fit(tmp_path, **given)
    # the first structure; the first rate, cut off; the first rate, which is done
    assert so_far.folder == folders[0 if done == 1 else 2]
    assert so_far.posterior_push_mean(COUNTS).rates.shape == COUNTS.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"criterion": "total"}, "set trainer.criterion=hidden_recon"),
        ({"max_steps": None, "max_epochs": 2, "schedule": "original"}, "give trainer.max_steps or"),
        ({"num_devices": 2}, "candidates train on one device"),
        (
            {"criterion": "total", "candidates": None, "candidate_learning_rates": [0.1, 0.2]},
            "search.candidate_learning_rates with trainer.criterion=total",
        ),
        ({"candidate_learning_rates": [0.1, 0.1]}, "expected a list of two or more different"),
        ({"candidate_learning_rates": [0.1, -1]}, "expected a list of two or more different"),
        (
            {"candidate_learning_rates": [0.1, True]},
            "expected a list of two or more different",
        ),
        ({"candidate_learning_rates": [0.1]}, "expected a list of two or more different"),
        ({"candidate_learning_rates": 0.1}, "expected a list of two or more different"),
        ({"candidates": ["no_inputs", "no_such"]}, "expected a list of two or more of one_input"),
        ({"candidates": ["one_input"] * 2}, "expected a list of two or more of one_input"),
        ({"candidates": ["no_inputs"]}, "expected a list of two or more of one_input"),
    ],
    ids=str,
)
def test_mistakes(tmp_path, change, message):
    with pytest.raises(LFADSError, match=message):
        fit(tmp_path / "run", **change)


def test_a_record_names_candidates_and_sets_nothing(tmp_path):
    run = Run(tmp_path)
    run.checkpoints.mkdir()
    row = {"name": "no_inputs", "settings": {"data_dir": "/elsewhere"}, "criterion": 1.0}
    row |= {"updates": 1, "seconds": 1.0, "is_chosen": True}
    for name, co_dim in (("no_inputs", 0), ("../../no_such", 3)):
        run.candidates_record.write_text(json.dumps([row | {"name": name}]))
        config = from_flat({"co_dim": 3})
        chosen, _ = candidates.with_best_candidate(config, [], tmp_path)
        assert (chosen.model.co_dim, chosen.data.data_dir) == (co_dim, None)


@pytest.mark.parametrize("reset", [False, True])
def test_a_continued_run_has_the_rate_that_was_chosen_unless_it_is_reset(tmp_path, reset):
    run = Run(tmp_path)
    run.checkpoints.mkdir()
    row = {"name": "rate_0.2", "settings": {"learning_rate_init": 9.0}, "criterion": 1.0}
    row |= {"updates": 1, "seconds": 1.0, "is_chosen": True}
    run.candidates_record.write_text(json.dumps([row, row | {"name": "rate_5"}]))
    given = {"candidate_learning_rates": [0.1, 0.2], "learning_rate_init": 0.1}
    config = from_flat(given | {"do_reset_learning_rate": reset})
    chosen, _ = candidates.with_best_candidate(config, [], tmp_path)
    assert chosen.optim.learning_rate_init == (0.1 if reset else 0.2)


@pytest.mark.parametrize("text", ["{", "[]", '{"criterion": "a"}', "3"])
def test_a_damaged_result_is_made_again(tmp_path, text):
    folder = Run(tmp_path).candidate("no_inputs").folder
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(text)
    fit(tmp_path, max_steps=8)
    assert json.loads((folder / "result.json").read_text())["updates"] == 4


def test_every_candidate_sets_what_any_sets():
    (names,) = {frozenset(settings) for settings in CANDIDATES.values()}
    assert "co_dim" in names
    assert set(MEANINGS) == set(CANDIDATES) == set(CANDIDATE_NAMES)


def test_a_record_that_is_damaged_is_none(tmp_path):
    for text in ("{", "3", '[{"name": "a"}]', json.dumps([1])):
        Run(tmp_path).candidates_record.write_text(text)
        assert candidates.read_tried(tmp_path) == []
