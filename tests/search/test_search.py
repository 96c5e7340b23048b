"""Population-based training: the space, the tournament, the journal, the engines."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, slowly
from tensorboard_server import hparams, serving

import lfads_lightning as lfads
from lfads_lightning.api import train_sessions
from lfads_lightning.config import LFADSError
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.report import search_report
from lfads_lightning.runs.files import presets_dir
from lfads_lightning.runs.run import Run, Search, run_of_best
from lfads_lightning.search import engines, members
from lfads_lightning.search.space import Range, read_space
from lfads_lightning.training.optimizer import TFAdam

SPACE = {
    "optim.learning_rate_init": {"min": 1e-4, "max": 0.05, "perturb": 0.8},
    "model.keep_prob": {"min": 0.4, "max": 1, "draw": "uniform", "complement": True},
}
SETTINGS = {
    "algorithm": "pbt",
    "population": 3,
    "generation_epochs": 2,
    "burn_in_epochs": 3,
    "max_generations": 4,
    "num_workers": 1,
    "stop_gain": 0.0,
    "coordinated_dropout_rate": 0.2,
    "criterion": "recon_smoothed",
    "learning_rate_decay_factor": 1.0,
    "learning_rate_stop": 0.0,
}


def write_space(path, space=SPACE):
    path.write_text(yaml.safe_dump(space))
    return str(path)


@pytest.fixture(scope="module")
def sessions(counts):
    return sessions_from_arrays(
        {"a": counts}, {"a": counts[:6]}, output_dist="poisson", ext_input_dim=0, factors_dim=3
    )


@pytest.fixture
def search(new_config, sessions, tmp_path, monkeypatch):
    """Run a search of three tiny members; keywords are flat parameter names."""

    def run(folder="search", **parameters):
        space = parameters.pop("space", SPACE)
        config = new_config(
            space=write_space(tmp_path / "space.yaml", space), **SETTINGS | parameters
        )
        return train_sessions(config, sessions, tmp_path / folder), tmp_path / folder

    return run


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


# --- the space ---


def test_perturbation_is_unbiased_in_the_logarithm_and_bounded():
    """Keshtkaran et al. 2022: the factor is exp(+-U[log(1 + .002 w), log(1 + w)])."""
    r, rng = Range("kl_ic_weight", 1e-9, 1e9, (1, 1), True, 0.8, False), np.random.default_rng(0)
    logs = np.log([r.perturbed(1.0, rng) for _ in range(4000)])
    assert abs(logs.mean()) < 4 * logs.std() / np.sqrt(4000)
    assert np.abs(logs).max() == pytest.approx(np.log(1.8), rel=0.01)
    assert np.abs(logs).min() >= np.log(1 + 0.002 * 0.8) * 0.999
    assert np.abs(logs).mean() == pytest.approx(np.log(1.8) / 2, rel=0.03)


def test_values_stay_inside_the_bounds(tmp_path):
    ranges = read_space(Path(write_space(tmp_path / "s.yaml")))
    rng = np.random.default_rng(0)
    for r in ranges:
        value = r.draw(rng)
        for _ in range(500):
            assert r.low <= value <= r.high
            value = r.perturbed(value, rng)


def test_complement_moves_the_distance_from_one():
    r = Range("keep_prob", 0.4, 1.0, (0.9, 0.9), False, 0.3, True)
    rng = np.random.default_rng(0)
    moved = [1 - r.perturbed(0.9, rng) for _ in range(300)]
    assert 0.1 / 1.3 - 1e-9 <= min(moved) < 0.08
    assert 0.12 < max(moved) <= 0.1 * 1.3 + 1e-9
    assert r.perturbed(1.0, rng) == 1.0  # no factor changes 0


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.ko_dim": {"min": 1, "max": 2}}, r"no parameter is named 'model.ko_dim'; did you"),
        (
            {"model.co_dim": {"min": 1, "max": 2}},
            r"model.co_dim cannot be searched .* expected",
        ),
        (
            {"optim.learning_rate_init": {"min": 0.1, "max": 0.01}},
            r"learning_rate_init: min 0.1 is not below max 0.01; swap them",
        ),
        ({"model.keep_prob": {"min": 0.4, "max": 1.5}}, r"keep_prob is 1.5; expected a number > 0"),
        ({"model.keep_prob": {"min": 0.4}}, r"expected {min: ..., max: ...}"),
        ({"model.keep_prob": 3}, r"expected {min: ..., max: ...}"),
        ({"loss.kl_ic_weight": {"min": 0.1, "max": 1, "init": 2}}, r"not inside the bounds 0.1 to"),
        ({"loss.kl_ic_weight": {"min": 0, "max": 1}}, r"starts at 0, which has no logarithm"),
        ({"model.keep_prob": {"min": 0.4, "max": 1, "complement": True}}, r"starts at 0, which"),
        ({"loss.kl_ic_weight": {"min": 0.1, "max": 1, "draw": "x"}}, r"expected log or uniform"),
        ({"loss.kl_ic_weight": {"min": 0.1, "max": 1, "perturb": 0}}, r"expected a number > 0"),
        ({"loss.kl_ic_weight": {"min": "a", "max": 1}}, r"min is 'a'; expected a number"),
        ({"loss.kl_ic_weight": {"min": 0.1, "max": 1, "best": 1}}, r"expected {min: ..., max: "),
        (
            {
                "loss.kl_ic_weight": {"min": 0.1, "max": 1},
                "kl_ic_weight": {"min": 0.1, "max": 1},
            },
            r"kl_ic_weight is given twice",
        ),
        ({}, r"expected one 'group.name: {min: ..., max: ...}' per line"),
        ([1, 2], r"expected one 'group.name"),
    ],
)
def test_a_wrong_space_is_one_clear_error(tmp_path, space, message):
    path = tmp_path / "space.yaml"
    with pytest.raises(LFADSError, match=message) as error:
        read_space(Path(write_space(path, space)))
    assert str(error.value).startswith(str(path))


def test_a_space_that_is_not_there_is_an_error(search, tmp_path, new_config, sessions):
    with pytest.raises(LFADSError, match="space.yaml cannot be read"):
        read_space(tmp_path / "no" / "space.yaml")
    with pytest.raises(LFADSError, match=r"search.space=autolfad: no such preset \(there are auto"):
        train_sessions(new_config(**SETTINGS | {"space": "autolfad"}), sessions, tmp_path / "s")


def first_settings(new_config, sessions, folder, **parameters):
    """Return what each member of the first generation starts with."""
    config = new_config(**SETTINGS | {"max_generations": 1, "generation_epochs": 1} | parameters)
    train_sessions(config, sessions, folder)
    return json.loads(Search(folder).journal.read_text())["generations"][0]["settings"]


def test_a_population_starts_with_the_recipe_and_around_it(new_config, sessions, tmp_path):
    own = {"learning_rate_init": 0.004, "keep_prob": 0.9, "kl_ic_weight": 0.3, "l2_gen_scale": 0.5}
    given = {"recipe": "auto", "space": "recipe", "kl_co_weight": 0.1} | own
    first, *others = first_settings(new_config, sessions, tmp_path / "a", **given)
    assert first["l2_gen_scale"] == 1.0  # the nearest inside the bounds
    assert {n: v for n, v in first.items() if n in own} == own | {"l2_gen_scale": 1.0}
    for r in read_space(presets_dir() / "space" / "recipe.yaml"):
        a, *near = (r._moved(member[r.name]) for member in (first, *others))
        for b in near:
            assert a != b
            assert 1 / (1 + r.perturb) <= b / a <= (1 + r.perturb) * 1.0001
    # a user's own start stands, and the original draws from the bounds as it did
    space = {"optim.learning_rate_init": {"min": 1e-4, "max": 0.05, "init": [0.02, 0.03]}}
    file = write_space(tmp_path / "s.yaml", space)
    for member in first_settings(new_config, sessions, tmp_path / "b", **given | {"space": file}):
        assert 0.02 <= member["learning_rate_init"] <= 0.03
    drawn = first_settings(new_config, sessions, tmp_path / "c", recipe="original", space="recipe")
    assert max(m["learning_rate_init"] for m in drawn) / 0.004 not in (1.0, 1.3)
    assert len({m["keep_prob"] for m in drawn}) == 3


def test_published_space_is_read():
    names = {r.name for r in read_space(presets_dir() / "space" / "autolfads.yaml")}
    assert {"learning_rate_init", "keep_prob", "coordinated_dropout_rate"} < names


# --- the tournament ---


def test_losers_take_over_and_perturb_and_winners_stay(search):
    _, folder = search()
    rows = {(int(r["generation"]), int(r["member"])): r for r in history(folder)}
    assert len(rows) == 4 * 3
    names = list(SPACE)
    exploited = 0
    for (g, m), row in rows.items():
        donor = rows.get((g - 1, int(row["donor"])))
        if donor is None:
            assert row["donor"] == m
            continue
        same = [row[n] == donor[n] for n in names]
        if row["donor"] == m:
            assert all(same)
        else:
            exploited += 1
            assert donor["score"] < rows[g - 1, m]["score"]
            assert not any(same)
            for n in names:
                assert SPACE[n]["min"] <= row[n] <= SPACE[n]["max"]
    assert exploited >= 2


def test_takeover_brings_weights_and_optimiser_and_its_own_learning_rate(search, monkeypatch):
    """The rate must be the member's from the next update on, not that of its donor."""
    seen, tasks = {}, {}
    original, step = members.train_member, TFAdam.step

    def noted_step(self, *args, **kwargs):
        task = seen.get("task")
        if task is not None and task not in tasks:
            weights = [p.detach().clone() for p in self.param_groups[0]["params"]]
            state = [dict(self.state.get(p, {})) for p in self.param_groups[0]["params"]]
            moments = [s["m"].clone() if "m" in s else None for s in state]
            tasks[task] = self.param_groups[0]["lr"], weights, moments
        return step(self, *args, **kwargs)

    def noted(config, sessions, folder, task):
        saved = None if task.start is None else torch.load(task.start, weights_only=True)
        seen["task"] = (task.generation, task.member)
        starts[seen["task"]] = task, saved
        return original(config, sessions, folder, task)

    starts = {}
    monkeypatch.setattr(TFAdam, "step", noted_step)
    monkeypatch.setattr(engines, "train_member", noted)
    search()
    taken_over = 0
    for key, (rate, weights, moments) in tasks.items():
        task, saved = starts[key]
        assert rate == task.settings["learning_rate_init"]
        if saved is None:
            continue
        own = Search(Path("x")).checkpoint_of(task.member, task.generation - 1).name
        taken_over += f"/{task.member:02d}/" not in str(task.start) and own == task.start.name
        named = [v for k, v in saved["state_dict"].items()]
        shapes = {tuple(w.shape) for w in named}
        assert {tuple(w.shape) for w in weights} == shapes
        for w in weights:
            assert any(w.shape == v.shape and torch.equal(w, v) for v in named)
        assert any(moment is not None for moment in moments)
        state = saved["optimizer_states"][0]["state"]
        for i, moment in enumerate(moments):
            if moment is not None:
                assert torch.equal(moment, state[i]["m"])
    assert taken_over >= 2


def test_best_member_is_an_ordinary_run(search, counts):
    trained, folder = search()
    best = folder / "best"
    rows = history(folder)
    lowest = min(r["score"] for r in rows)
    assert trained.scores["criterion"] == pytest.approx(lowest)
    config = Run(best).read_config()
    assert config.search.algorithm.name == "none"
    (row,) = [r for r in rows if r["score"] == lowest]
    assert config.optim.learning_rate_init == row["optim.learning_rate_init"]
    for index in ("checkpoint", "checkpoint_lve"):
        loaded = lfads.load(best, index)
        rates = loaded.posterior_push_mean(counts).rates
        np.testing.assert_allclose(rates, trained.posterior_push_mean(counts).rates, rtol=1e-6)
    assert json.loads((best / "scores.json").read_text())["criterion"] == pytest.approx(lowest)
    assert run_of_best(Run(folder)).folder == best
    assert run_of_best(Run(best)).folder == best


@pytest.mark.slow
def test_a_finished_search_goes_on_with_more_generations(search):
    _, folder = search()
    before = history(folder)
    search(max_generations=5)
    after = history(folder)
    assert after[:12] == before
    assert len(after) == 15


# --- engines, interruptions ---


@pytest.mark.slow
def test_processes_give_what_one_process_gives(search):
    _, one = search("one")
    _, two = search("two", num_workers=2)
    assert history(one) == history(two)


@pytest.mark.ray
def test_ray_gives_what_one_process_gives(search):
    pytest.importorskip("ray", reason="needs the extra [ray]")
    _, one = search("one")
    _, two = search("two", engine="ray", num_workers=2)
    assert history(one) == history(two)


@pytest.mark.slow
def test_search_that_is_cut_off_comes_to_the_same_end(search, monkeypatch):
    """Stop after every member once, as a crash would: nothing is lost, nothing done twice."""
    _, whole = search("whole")
    original = engines.train_member
    left = [0]

    def sometimes(config, sessions, folder, task):
        if left[0] == 0:
            raise RuntimeError("crash")
        was_done = members.score_of(folder, task) is not None
        left[0] -= not was_done
        done.append((task.generation, task.member)) if not was_done else None
        return original(config, sessions, folder, task)

    done = []
    monkeypatch.setattr(engines, "train_member", sometimes)
    for _ in range(12):
        left[0] = 1
        with pytest.raises(RuntimeError, match="crash"):
            search("cut")
            raise RuntimeError("crash")  # the last one comes to its end
    left[0] = -1
    _, cut = search("cut")
    assert history(cut) == history(whole)
    assert sorted(done) == sorted(set(done))
    assert len(done) == 12
    ours = lfads.load(cut / "best").model.state_dict()
    for name, weight in lfads.load(whole / "best").model.state_dict().items():
        assert torch.equal(ours[name], weight)


@pytest.fixture
def command(tmp_path, counts):
    """The command line of a search, in a process."""
    lfads.write_session(tmp_path / "data" / "a.h5", train_data=counts, valid_data=counts[:6])
    space = write_space(tmp_path / "space.yaml")
    words = [
        *(sys.executable, str(ROOT / "train.py"), "search=pbt"),
        *(f"data.data_dir={tmp_path / 'data'}", "data.data_filename_stem=a"),
        *(f"search.space={space}", "search.population=3", "search.generation_epochs=8"),
        *("search.burn_in_epochs=8", "search.max_generations=4", "search.num_workers=2"),
        *(
            "search.stop_gain=0",
            "trainer.device=cpu:0",
            "recipe=original",
            "model.gen_dim=6",
            "model.factors_dim=3",
        ),
        *("model.ic_enc_dim=7", "model.ic_dim=4", "model.co_dim=0", "data.batch_size=6"),
    ]

    def start(folder):
        return subprocess.Popen(
            [*words, f"output.lfads_save_dir={folder}"],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.slow
def test_killed_search_started_again_loses_and_repeats_nothing(command, tmp_path):
    whole = command(tmp_path / "whole")
    out, err = whole.communicate(timeout=240)
    assert whole.returncode == 0, err
    assert "Search: whole" in out
    cut = tmp_path / "cut"
    killed = command(cut)
    for _ in range(2400):  # in the middle of the second generation
        if list(cut.glob("members/*/generation-0001.json")) or killed.poll() is not None:
            break
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(json.loads((cut / "search.json").read_text())["generations"]) < 4
    time.sleep(1.5)  # the workers see that they are alone, and end
    again = command(cut)
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert history(cut) == history(tmp_path / "whole")
    assert (cut / "best" / "scores.json").is_file()
    for member in ("00", "01", "02"):
        with (cut / "members" / member / "metrics.csv").open() as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
        assert epochs == sorted(set(epochs))
    seen = shown(cut)
    assert seen == shown(tmp_path / "whole")
    last = [row for row in history(cut) if row["generation"] == 3]
    for row in last:
        settings, score = seen[f"members/{int(row['member']):02d}/tensorboard"]
        for name in SPACE:
            assert settings[name] == pytest.approx(row[name])
        assert score == pytest.approx(row["score"], rel=1e-5)
    assert len(last) == 3
    # of the best member of all generations, beside them
    lowest = min(row["score"] for row in history(cut))
    assert seen["best/tensorboard"][1] == pytest.approx(lowest, rel=1e-5)


def shown(folder):
    """What TensorBoard's HParams tab has of a search: settings and criterion, by run."""
    with serving(folder) as ask:
        found = hparams(ask, 4, "final/criterion")
    for settings, _ in found.values():
        settings.pop("final/seconds", None)  # no two runs take as long
    return found


# --- bad input ---


def test_search_needs_validation_data(new_config, counts, tmp_path):
    alone = sessions_from_arrays(
        {"a": counts}, output_dist="poisson", ext_input_dim=0, factors_dim=3, warn=False
    )
    config = new_config(space=write_space(tmp_path / "s.yaml"), **SETTINGS)
    with pytest.raises(
        LFADSError, match="has no valid_data, which the search compares its members on"
    ):
        train_sessions(config, alone, tmp_path / "search")


def test_another_space_or_population_in_the_same_folder_is_an_error(search):
    search(max_generations=1)
    with pytest.raises(LFADSError, match="holds a search with another population"):
        search(population=4)
    with pytest.raises(LFADSError, match="holds a search with another space"):
        search(space={"model.keep_prob": {"min": 0.4, "max": 0.9}})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"population": 1}, "search.population is 1; expected an integer >= 2"),
        ({"num_devices": 2}, "a search shares the machine among its members"),
        ({"max_steps": 9}, "a search ends by search.max_generations"),
    ],
)
def test_contradictions_are_errors(search, parameters, message):
    with pytest.raises(LFADSError, match=message):
        search(**parameters)


def test_damaged_journal_and_scores_are_errors(search):
    _, folder = search(max_generations=1)
    (folder / "search.json").write_text("{")
    with pytest.raises(LFADSError, match="search.json: is not a search's journal"):
        search()
    task = members.Task(0, 0, 3, {}, None)
    Search(folder).checkpoint_of(0, 0).with_suffix(".json").write_text("[]")
    with pytest.raises(LFADSError, match="is not a member's score"):
        members.score_of(folder, task)


@pytest.mark.parametrize(
    "change",
    [
        {"generations": [3]},
        {"best": {}},
        *slowly({"generations": 3}, {"generations": [{}]}, {"generations": None}),
        *slowly({"best": 3}, {"seconds": "x"}),
    ],
)
def test_journal_of_other_types_is_one_error_and_its_report_does_without(
    search, change, monkeypatch
):
    _, folder = search(max_generations=1)
    state = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps(state | change))
    with pytest.raises(LFADSError, match="search.json: is damaged"):
        search(max_generations=2)
    monkeypatch.setattr(search_report, "save", lambda *args: None)  # figures take long
    search_report.write_search_report(folder)
    assert (folder / "report.html").is_file()


def test_plans_of_a_journal_are_checked(search):
    _, folder = search(max_generations=1)
    state = json.loads((folder / "search.json").read_text())
    for key, value in (("donors", [99, 0, 1]), ("settings", [{}] * 3), ("scores", ["a", "b", "c"])):
        spoilt = json.loads(json.dumps(state))
        spoilt["generations"][0][key] = value
        (folder / "search.json").write_text(json.dumps(spoilt))
        with pytest.raises(LFADSError, match="search.json: is damaged"):
            search(max_generations=2)


def test_unfinished_search_has_no_run(search):
    _, folder = search(max_generations=1)
    (folder / "best" / "config.yaml").unlink()
    with pytest.raises(LFADSError, match="is a search that has not ended"):
        run_of_best(Run(folder))
