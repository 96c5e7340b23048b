"""recipe=auto: what the rule says, what it fills, and what it leaves alone."""

import re

import h5py
import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning import params
from lfads_lightning.cli import check as check_command
from lfads_lightning.config import Config, LFADSError, OutputDist, Recipe
from lfads_lightning.data import session_files
from lfads_lightning.data.recipe import (
    CANDIDATES,
    Facts,
    chosen_in,
    facts_of,
    filled,
    settings_for,
)
from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.params import from_flat
from lfads_lightning.report.about import read_record
from lfads_lightning.runs.run import Run

RNG = np.random.default_rng(3)
COUNTS = RNG.poisson(0.7, (30, 9, 8))
# training that takes a moment, whatever the recipe says
QUICK = {"max_steps": 3, "gen_dim": 6, "ic_enc_dim": 7, "ci_enc_dim": 8, "con_dim": 9,
         "device": "cpu:0", "report": False, "num_score_samples": 0, "refine_steps": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(3, 3, 20, 1, 0.5), {"batch_size": 8, "factors_dim": 1, "max_steps": 1200}),
        (Facts(40, 40, 46, 18, 0.05), {"batch_size": 8, "factors_dim": 9, "max_steps": 1200}),
        (Facts(169, 169, 35, 24, 0.35), {"batch_size": 32, "factors_dim": 12, "keep_prob": 0.9}),
        (Facts(50, 90, 35, 24, 0.35, sessions=2), {"l2_readout_scale": 2.0}),
        (Facts(50, 50, 35, 24, 0.35),
         {"refine_steps": 20, "candidate_learning_rates": [0.004, 0.016]}),
        (Facts(246, 246, 160, 15, 0.1), {"batch_size": 32, "factors_dim": 7, "co_dim": 1}),
        (Facts(640, 640, 100, 60, 0.02), {"batch_size": 128, "factors_dim": 16}),
        (Facts(640, 640, 100, 60, 0.02, minutes=1.0), {"batch_size": 32}),
        (Facts(20_000, 20_000, 50, 500, 1), {"batch_size": 128, "max_steps": 6000}),
        (Facts(9, 40, 100, 160, 0.1, sessions=4), {"batch_size": 8, "max_steps": 2400}),
        (Facts(50, 50, 9, 20, 0, is_counts=False), {"output_dist": "gaussian"}),
        (Facts(50, 50, 9, 20, 0, is_counts=False, of_reals="gamma"), {"output_dist": "gamma"}),
        (Facts(90, 90, 100, 60, 0.02, minutes=1.0), {"gen_dim": 64, "encoder_bin_size": 5}),
        (Facts(90, 90, 25, 60, 0.02, minutes=9.0), {"gen_dim": 100, "encoder_bin_size": 2}),
        (Facts(50, 50, 9, 20, 1, ext_inputs=2),
         {"ext_input_dim": 2, "inject_ext_input_to_gen": True}),
        (Facts(50, 50, 9, 20, 1, aligned_factors=5), {"factors_dim": 5}),
        (Facts(50, 50, 9, 20, 1, updates=90),
         {"max_steps": 90, "kl_increase_steps": 30, "l2_increase_steps": 30, "warmup_steps": 9}),
    ],
)  # fmt: skip
def test_rule(facts, expected):
    settings = settings_for(facts)
    assert {name: settings[name] for name in expected} == expected
    params.check(from_flat(settings))


def test_what_the_rule_leaves_out():
    alone = settings_for(Facts(3, 3, 20, 1, 0.5, has_valid=False))
    assert "criterion" not in alone  # nothing to choose by
    assert "do_start_at_mean_rates" not in alone  # nor a read-out
    assert "ext_input_dim" not in alone
    assert "l2_readout_scale" not in settings_for(Facts(50, 50, 9, 20, 0, is_counts=False))
    of_reals = settings_for(Facts(50, 50, 9, 20, 0, is_counts=False))
    assert not {"refine_steps", "candidate_learning_rates"} & set(of_reals)
    of_51 = settings_for(Facts(50, 51, 9, 20, 1.0, sessions=2))
    assert not {"refine_steps", "candidate_learning_rates"} & set(of_51)
    assert "candidate_learning_rates" not in settings_for(Facts(50, 50, 9, 20, 1.0, minutes=5.0))
    assert "candidate_learning_rates" not in settings_for(Facts(50, 50, 9, 20, 1.0, updates=90))


def test_facts_are_those_of_the_data():
    ext = np.zeros((30, 9, 2))
    one = {"train_data": COUNTS, "valid_data": COUNTS[:4], "train_ext_input": ext}
    mean = pytest.approx(COUNTS.mean())
    assert facts_of([one]) == Facts(30, 30, 9, 8, mean, ext_inputs=2)
    other = {"train_data": COUNTS[:7, :, :3], "alignment_matrix_cxf": np.ones((3, 4))}
    found = facts_of([one, other])
    assert found[:2] == (7, 37)
    assert (found.neurons, found.sessions, found.ext_inputs) == (8, 2, 0)
    assert found.aligned_factors == 4
    assert not facts_of([{"train_data": RNG.normal(size=(5, 4, 3))}]).is_counts
    skewed = RNG.gamma(1.0, 3.0, size=(30, 9, 8))
    rare = np.where(RNG.random(skewed.shape) < 0.5, 0, skewed)
    assert facts_of([{"train_data": skewed}]).of_reals == "gamma"
    # one model for all sessions
    assert (
        facts_of([{"train_data": skewed}, {"train_data": rare}]).of_reals == "zero_inflated_gamma"
    )
    assert facts_of([{"train_data": rare}, {"train_data": rare - 1}]).of_reals == "gaussian"
    marked = np.where(COUNTS == 0, -1, COUNTS)  # counts that went wrong are not real values
    assert facts_of([{"train_data": marked}]).is_counts
    assert facts_of([{"train_data": COUNTS[0]}]) is None
    assert facts_of([{"train_data": np.array([[["a"]]])}]) is None


@pytest.mark.parametrize("given", [{}, {"gen_dim": 37, "max_epochs": 99}, {"max_minutes": 9.0}])
def test_what_was_chosen_is_told_by_the_config_and_the_sessions(given):
    """As the line says that the recipe prints; report.json keeps it."""
    arrays = {"train_data": COUNTS, "valid_data": COUNTS}
    config = filled(from_flat(given | {"recipe": "auto"}), set(given), [arrays])
    session = Session("a", Split(COUNTS), Split(COUNTS))
    facts, settings = chosen_in(config, [session])
    assert facts == str(facts_of([arrays]))
    differ = params.settings_of(config)
    for name, value in settings.items():
        held = params.flat_value(config, name)
        assert getattr(held, "name", held) == value
    assert set(differ) - set(given) - {"recipe"} <= set(settings)
    assert "gen_dim" not in given or "gen_dim" not in settings
    assert chosen_in(Config(recipe=Recipe.original), [session]) is None


def test_the_noise_model_of_real_values_counts_as_chosen():
    values = RNG.gamma(1.0, 3.0, size=(30, 9, 8))
    config = filled(from_flat({}), set(), [{"train_data": values}])
    _, settings = chosen_in(config, [Session("a", Split(values))])
    assert settings["output_dist"] == "gamma"


def test_what_was_chosen_is_kept_for_the_report(tmp_path):
    given = QUICK | {"report": True, "lfads_save_dir": str(tmp_path / "run")}
    trained = lfads.fit(COUNTS, **given)
    chosen = read_record(tmp_path / "run").chosen
    assert chosen.facts.startswith("24 training trials x 9 bins x 8 neurons")
    assert chosen.settings["factors_dim"] == trained.config.model.factors_dim == 4
    assert "gen_dim" not in chosen.settings


def test_what_is_given_stays_and_the_rest_goes_with_it(capfd):
    sessions = [{"train_data": COUNTS, "valid_data": COUNTS}]

    def fill(**given):
        return filled(from_flat(given | {"recipe": "auto"}), set(given), sessions)

    config = fill(gen_dim=37, max_epochs=20)
    assert (config.model.gen_dim, config.model.con_dim) == (37, 64)
    assert config.trainer.max_steps == 20 * 4  # 30 trials in batches of 8
    assert fill(schedule="original").trainer.max_steps is None
    assert fill(max_minutes=1.0).trainer.max_steps is None
    assert fill(optimizer="original").optim.learning_rate_init == 0.01
    assert fill(output_dist="negative_binomial").model.output_dist is OutputDist.negative_binomial
    told = capfd.readouterr().err
    assert told.count("\n") == 5
    assert "for 30 training trials x 9 bins x 8 neurons" in told
    assert "batch_size 8" in told


def test_original_fills_nothing():
    config = Config(recipe=Recipe.original)
    assert filled(config, (), [{"train_data": COUNTS}]) == config


def test_runs_from_others_are_not_filled(capfd):
    given = {"start_from": "a"}
    for asked in ({}, {"recipe": "auto"}):
        config = filled(from_flat(given), set(given | asked), [{"train_data": COUNTS}])
        assert config == from_flat(given | {"recipe": "original"})
        assert ("fills nothing for a" in capfd.readouterr().err) is bool(asked)


def test_a_search_has_the_recipe_but_for_what_ends_a_single_run(tmp_path):
    sessions = [{"train_data": COUNTS, "valid_data": COUNTS}]
    given = {"algorithm": "pbt", "kl_ic_weight": 0.7}
    config = filled(from_flat(given), set(given), sessions)
    one = filled(from_flat({}), (), sessions)
    assert (config.search.space, config.search.candidates) == ("recipe", None)
    assert config.search.candidate_learning_rates is None
    assert config.trainer.criterion == one.trainer.criterion
    assert config.trainer.max_steps is None  # its generations are epochs
    assert config.optim.schedule.name == "original"
    assert config.optim.learning_rate_decay_factor == 1
    assert config.model.co_dim == CANDIDATES["fast_inputs"]["co_dim"]
    assert config.optim.learning_rate_init == one.optim.learning_rate_init
    assert config.loss.kl_ic_weight == 0.7
    theirs = filled(from_flat(given | {"space": "autolfads"}), {*given, "space"}, sessions)
    assert theirs.search.space == "autolfads"
    # one that began by the original's defaults goes on by these
    begun = from_flat({"algorithm": "pbt", "recipe": "original"})
    again = filled(from_flat({"algorithm": "pbt"}), {"algorithm"}, sessions, begun)
    assert again == begun


def test_the_command_line_reads_data_once(tmp_path, call, monkeypatch):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["train_data"], file["valid_data"] = COUNTS[:24].astype(float), COUNTS[24:]
    reads, original = [], session_files._read_group

    def counted(group, name, *rest):
        reads.append(name)
        return original(group, name, *rest)

    monkeypatch.setattr(session_files, "_read_group", counted)
    words = [f"{params.dotted_names()[name]}={value}" for name, value in QUICK.items()]
    data = (f"data.data_dir={tmp_path}", "data.data_filename_stem=mine")
    for n, recipe in enumerate(("auto", "original")):
        call(*data, f"recipe={recipe}", *words, f"output.lfads_save_dir={tmp_path / recipe}")
        assert reads == ["mine"] * (n + 1)
    both = (Run(tmp_path / r).read_config() for r in ("auto", "original"))
    assert [c.recipe.name for c in both] == ["auto", "original"]


def test_files_and_runs_that_do_not_say_are_original(tmp_path):
    assert from_flat({}).recipe is Recipe.auto
    assert params.from_dict({"model": {"gen_dim": 7}}).recipe is Recipe.original
    file = tmp_path / "theirs.yaml"
    for text, recipe in (("keep_prob: 0.7", "original"), ("recipe: auto", "auto")):
        file.write_text(text)
        trained = lfads.fit(COUNTS, params_file=file, lfads_save_dir=tmp_path / recipe, **QUICK)
        assert trained.config.recipe.name == recipe


def test_candidates_where_nothing_stands_against_them():
    sessions = [{"train_data": COUNTS, "valid_data": COUNTS}]

    def tried(**given):
        return filled(from_flat(given), set(given), sessions).search

    assert tried().candidates == list(CANDIDATES)
    for given in ({"co_dim": 1}, {"prior_ar_atau": 5.0}, {"criterion": "total"}, {"num_devices": 2},
                  {"max_steps": 50}, {"candidates": None}):  # fmt: skip
        assert tried(**given).candidates is None
    assert tried().candidate_learning_rates == [0.004, 0.016]
    assert tried(co_dim=1).candidate_learning_rates == [0.004, 0.016]
    for given in ({"learning_rate_init": 0.1}, {"optimizer": "original"}, {"criterion": "total"},
                  {"num_devices": 2}, {"max_steps": 50},
                  {"candidate_learning_rates": None}):  # fmt: skip
        assert tried(**given).candidate_learning_rates is None


def test_fit_fills_trains_and_goes_on_with_what_it_began_with(tmp_path, capfd):
    folder = tmp_path / "run"
    trained = lfads.fit(COUNTS, recipe="auto", lfads_save_dir=folder, **QUICK)
    told = capfd.readouterr().err
    (line,) = re.findall("recipe=auto, for .*", told)
    assert "24 training trials x 9 bins x 8 neurons" in line
    assert "batch_size 8" in line
    assert "keep_prob" not in line
    assert re.search(r"and \d+ more, in config.yaml$", line)
    assert len(line) < 170
    first = Run(folder).read_config()
    assert first == trained.config
    assert (first.recipe, first.data.batch_size) == (Recipe.auto, 8)
    assert first.trainer.criterion.name == trained.scores["chosen_by"].removeprefix("valid/")
    # more trials are another rule, but the run has begun
    more = RNG.poisson(0.7, (90, 9, 8))
    with pytest.warns(UserWarning, match="other data"):
        lfads.fit(more, recipe="auto", lfads_save_dir=folder, **QUICK | {"max_steps": 5})
    assert Run(folder).read_config().data.batch_size == 8


def test_real_values_and_one_neuron_train(tmp_path):
    quick = QUICK | {"recipe": "auto"}
    real = lfads.fit(RNG.normal(size=(10, 6, 4)), lfads_save_dir=tmp_path / "a", **quick)
    assert real.config.model.output_dist is OutputDist.gaussian
    lfads.fit(COUNTS[:3, :, :1], lfads_save_dir=tmp_path / "b", **quick)
    ext = RNG.normal(size=(30, 9, 2))
    driven = lfads.fit(COUNTS, ext_input=ext, lfads_save_dir=tmp_path / "c", **quick)
    assert driven.config.data.ext_input_dim == 2


def test_bad_data_are_told_as_without_a_recipe():
    with pytest.raises(LFADSError, match="expected"):
        lfads.fit(COUNTS[0], recipe="auto")


def test_command_line_presets_and_check(tmp_path, call, capsys):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["train_data"], file["valid_data"] = COUNTS[:24], COUNTS[24:]
    data = (f"data.data_dir={tmp_path}", "data.data_filename_stem=mine")
    shown = call(*data, "recipe=auto", "model=small", "data.batch_size=5", "--cfg", "job")
    assert "batch_size: 5" in shown.out
    assert "gen_dim: 64" in shown.out  # the preset's
    assert "keep_prob: 0.9\n" in shown.out
    assert "factors_dim: 4" in call(*data, "recipe=auto", "--cfg", "job").out
    (line,) = [s for s in call(*data, "recipe=auto", "--cfg", "job").err.splitlines() if s]
    capsys.readouterr()
    check_command.main([str(tmp_path / "mine.h5")])
    told = " ".join(capsys.readouterr().out.split())  # wrapped there
    facts, settings = line.split(": ")
    assert f"{facts}: batch_size 8, " in told
    assert all(f" {word}, " in told for word in settings.split(" and ")[0].split(", "))
    assert " gen_dim 100, " in told  # what the line leaves out
