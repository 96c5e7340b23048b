"""A model beside simple methods: the table, the command, and what is said of missing things."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning import metrics, params
from lfads_lightning.cli import evaluate as command
from lfads_lightning.cli.kinds import run_kind
from lfads_lightning.config import LFADSError
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.evaluation import baselines
from lfads_lightning.evaluation.baselines import Given
from lfads_lightning.evaluation.scores import evaluate
from lfads_lightning.evaluation.table import (
    BEST_SMOOTHING,
    LFADS,
    MEANS,
    NOTES,
    TRUTH,
    EvaluationTable,
    Part,
    read_table,
)
from lfads_lightning.inference.copying import parts_to_hide
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.runs.run import Run

T, D, OUT, FORWARD = 20, 6, [1, 4], 4
SMALL = {"ic_dim": 4, "factors_dim": 3, "ic_enc_dim": 7, "gen_dim": 6, "co_dim": 0}
SMALL |= {
    "batch_size": 20,
    "device": "cpu:0",
    "recipe": "original",
    "max_epochs": 1,
    "report": False,
}


def recording(n=60, seed=0):
    """Trials of four conditions whose state, and what is read from it, the condition sets."""
    rng = np.random.default_rng(seed)
    condition = np.arange(n) % 4
    angle = np.linspace(0, 4, T)[None] + condition[:, None] * np.pi / 2
    angle = angle + 0.5 * rng.standard_normal((n, 1))
    state = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    loadings = np.random.default_rng(99).standard_normal((2, D))
    truth = np.exp(0.8 * state @ loadings - 0.3)
    return {
        "data": rng.poisson(truth),
        "truth": truth,
        "condition": condition,
        "behaviour": state @ [[1.0], [2.0]] + 0.2 * rng.standard_normal((n, T, 1)),
    }


def sessions_of(names=("a",), without=()):
    by_key = {"bin_width_s": dict.fromkeys(names, 0.02)}
    for split, n in (("train", 60), ("valid", 24)):
        for i, name in enumerate(names):
            for key, array in recording(n, seed=10 * i + n).items():
                if key not in without:
                    by_key.setdefault(f"{split}_{key}", {})[name] = array
    train, valid = by_key.pop("train_data"), by_key.pop("valid_data", None)
    return sessions_from_arrays(
        train, valid, output_dist="poisson", ext_input_dim=0, factors_dim=3, **by_key
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch on a file, with held-out neurons and forward bins."""
    folder = tmp_path_factory.mktemp("evaluation")
    arrays = {
        f"{split}_{key}": array
        for split, n in (("train", 60), ("valid", 24))
        for key, array in recording(n, seed=n).items()
    }
    lfads.write_session(folder / "data" / "toy.h5", **arrays, bin_width_s=0.02)
    config = params.from_flat(
        SMALL
        | {
            "data_dir": str(folder / "data"),
            "data_filename_stem": "toy",
            "held_out_neurons": OUT,
            "forward_steps": FORWARD,
            "lfads_save_dir": str(folder / "run"),
        }
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model copies")
        run_kind(config, Run(folder / "run"))
    return folder / "run"


# --- the table ---


def test_every_score_of_the_model_is_that_of_its_own_rates(run):
    """Each column from the posterior's arrays, put together by hand."""
    trained, (session,) = lfads.load(run), sessions_of()
    table = evaluate(trained, [session], lag_bins=1)
    (part,) = table.parts
    row, n = part.rows[LFADS], T - FORWARD
    posterior = {
        k: trained.posterior_sample_and_average(s.data, 16) for k, s in session.splits.items()
    }
    train, valid = posterior["train"], posterior["valid"]
    counts, held_in = session.valid.data, [0, 2, 3, 5]
    seen = valid.rates[:, :n]
    assert set(row) == set(NOTES) - {"hidden_r2", "hidden_nats"}  # these are of real values
    expected = {
        "co_bps": metrics.bits_per_spike(seen[..., OUT], counts[:, :n][..., OUT]),
        "fp_bps": metrics.bits_per_spike(valid.rates[:, n:], counts[:, n:]),
        "bits_per_spike": metrics.bits_per_spike(seen[..., held_in], counts[:, :n][..., held_in]),
        "behaviour_r2": metrics.velocity_r2(
            train.rates[:, :n],
            session.train.behaviour[:, :n],
            seen,
            session.valid.behaviour[:, :n],
            1,
        ).r2,
        "behaviour_r2_factors": metrics.velocity_r2(
            train.factors[:, :n],
            session.train.behaviour[:, :n],
            valid.factors[:, :n],
            session.valid.behaviour[:, :n],
            1,
        ).r2,
        "rate_r2": metrics.rate_r2(seen, session.valid.truth[:, :n])[0],
        "rate_r2_pooled": metrics.rate_r2(seen, session.valid.truth[:, :n])[1],
        "effective_dim": metrics.effective_dimensionality(valid.factors[:, :n]),
        "few_shot_co_bps": metrics.few_shot_co_bps(
            train.factors[:, :n],
            session.train.data[:, :n][..., OUT],
            valid.factors[:, :n],
            counts[:, :n][..., OUT],
            20,
        ),
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-6), name
    means = trained.posterior_push_mean(session.valid.data).rates[:, :n]
    expected = metrics.bits_per_spike(means[..., OUT], counts[:, :n][..., OUT])
    assert part.rows[MEANS]["co_bps"] == pytest.approx(expected, rel=1e-6)
    assert part.rows[TRUTH]["rate_r2"] == 1
    assert part.rows[TRUTH]["hidden_bits_per_spike"] > row["hidden_bits_per_spike"]
    assert part.data["n_held_out_spikes"] == counts[:, :n][..., OUT].sum()
    assert part.data["n_forward_spikes"] == counts[:, n:].sum()


def test_methods_learn_what_there_is_to_learn(run):
    """The PSTH is told the condition, smoothing sees the neurons; constants know nothing."""
    table = evaluate(lfads.load(run), sessions_of())
    rows = table.parts[0].rows
    methods = ["constant rate", "PSTH", "smoothing", "factor analysis"]
    assert list(rows) == [LFADS, MEANS, *methods, TRUTH, BEST_SMOOTHING]
    constant = rows["constant rate"]
    assert constant["rate_r2"] == pytest.approx(0, abs=0.02)
    assert -0.02 < constant["co_bps"] <= 0
    assert -0.02 < constant["fp_bps"] <= 0
    for name in ("PSTH", "smoothing", "factor analysis"):
        assert rows[name]["co_bps"] > 0.1
        assert rows[name]["behaviour_r2"] > 0.5
    assert rows["PSTH"]["fp_bps"] > 0.1
    assert rows["PSTH"]["psth_r2"] > 0.8
    assert "fp_bps" not in rows["smoothing"]  # which says nothing of bins that are not seen
    # a spike explains itself, where it is among what is smoothed
    assert rows["smoothing"]["bits_per_spike"] > rows["smoothing"]["hidden_bits_per_spike"] > 0


def test_methods_do_not_look_at_what_they_must_predict():
    """Held-out neurons and forward bins of the scored trials reach no rate."""
    train, test = recording(), recording(24, seed=1)
    other = test["data"].copy()
    other[:, :, OUT] += 3
    other[:, -FORWARD:] += 2
    for counts in zip(
        *(
            baselines.baselines(
                Given(
                    train["data"],
                    x,
                    OUT,
                    FORWARD,
                    train["condition"],
                    test["condition"],
                    3,
                    True,
                )
            )
            for x in (test["data"], other)
        ),
        strict=True,
    ):
        one, two = counts
        np.testing.assert_array_equal(one.test, two.test)
        np.testing.assert_array_equal(one.test_latents, two.test_latents)


def test_leaving_a_bin_out_of_its_own_mean():
    """By setting it to something else: nothing moves there."""
    x = np.random.default_rng(0).poisson(1.0, (2, 12, 3)).astype(float)
    without = baselines._without_own(x, 2.0)
    for t in (0, 5, 11):
        other = x.copy()
        other[:, t] = 50
        np.testing.assert_allclose(baselines._without_own(other, 2.0)[:, t], without[:, t])
    np.testing.assert_allclose(baselines._without_own(np.ones((1, 12, 1)), 2.0), 1)


def test_width_is_that_of_the_data():
    """Slow rates are smoothed widely, fast ones narrowly; noise is left at its mean."""
    rng, t = np.random.default_rng(0), np.arange(100)
    chosen = []
    for period in (200, 25):
        rates = 2 + 1.8 * np.sin(2 * np.pi * t / period + rng.uniform(0, 6, (40, 1)))[..., None]
        counts = rng.poisson(rates)
        given = Given(counts, counts, [], 0, None, None, 3, True)
        chosen.append(baselines.smoothing(given)[1])
    assert chosen[0] > 2 * chosen[1]
    noise = rng.poisson(1.0, (40, 100, 2))
    guess, _ = baselines.smoothing(Given(noise, noise, [], 0, None, None, 3, True))
    assert np.abs(guess.test - 1).max() < 0.3


def test_trials_of_no_condition_and_no_conditions_at_all():
    train, test = recording(), recording(24, seed=1)
    given = Given(train["data"], test["data"], [], 0, None, None, 3, True)
    guess = baselines.psth_rates(given)
    assert (guess.test == guess.test[0]).all()
    assert "no conditions" in guess.about
    labels = test["condition"].copy()
    labels[:2] = 77, -1  # not among the training trials; none
    guess = baselines.psth_rates(given._replace(train_condition=train["condition"],
                                                test_condition=labels))  # fmt: skip
    mean = np.broadcast_to(train["data"].mean((0, 1)), (2, T, D))
    np.testing.assert_allclose(guess.test[:2], mean, rtol=1e-6)
    assert np.ptp(guess.test[2:], axis=1).min() > 0


@pytest.mark.parametrize(
    "counts",
    [np.zeros((3, T, 1), int), np.ones((2, T, 2), int), np.eye(T, dtype=int)[None].repeat(4, 0)],
    ids=["silent", "constant", "sparse"],
)
def test_odd_data_are_no_accident(counts):
    for guess in baselines.baselines(Given(counts, counts, [], 0, None, None, 3, True)):
        assert np.isfinite(guess.test).all(), guess.name


def test_without_labels_the_columns_are_left_out(run):
    table = evaluate(lfads.load(run), sessions_of(without=("behaviour", "condition", "truth")))
    names = {name for row in table.parts[0].rows.values() for name in row}
    assert names == {"co_bps", "few_shot_co_bps", "fp_bps", "hidden_bits_per_spike",
                     "bits_per_spike", "effective_dim"}  # fmt: skip
    assert set(table.notes) >= names
    assert "behaviour_r2" not in table.notes


def test_samples_are_averaged_and_splits_chosen(run):
    trained, sessions = lfads.load(run), sessions_of()
    sampled = evaluate(trained, sessions, only=["co_bps"]).parts[0]
    trained.config.sampling.num_score_samples = 0
    means = evaluate(trained, sessions, only=["co_bps"]).parts[0]
    assert means.rows[LFADS] == sampled.rows[MEANS] != sampled.rows[LFADS]
    assert MEANS not in means.rows
    assert means.rows["smoothing"] == sampled.rows["smoothing"]
    assert set(means.rows[LFADS]) == {"co_bps"}
    train = evaluate(trained, sessions, only=["co_bps"], split="train").parts[0]
    assert (train.split, train.data["n_trials"]) == ("train", 60)


def test_gaussian_data_have_no_bits_per_spike(tmp_path):
    made = recording()
    values = np.random.default_rng(0).normal(np.log(made["truth"]), 0.3)
    trained = lfads.fit(
        values, output_dist="gaussian", behaviour=made["behaviour"], lfads_save_dir=str(tmp_path),
        **SMALL,
    )  # fmt: skip
    rows = json.loads((tmp_path / "evaluation.json").read_text())["session"]["valid"]
    assert list(rows) == [LFADS, MEANS, "constant rate", "PSTH", "smoothing"]
    assert rows["smoothing"]["behaviour_r2"] > 0.5
    assert rows["smoothing"]["hidden_r2"] > 0.3 > 0.05 > rows["constant rate"]["hidden_r2"]
    assert "hidden_r2" in rows[LFADS]
    # of a Gaussian of one variance the log-density is that of the residuals
    assert abs(rows["constant rate"]["hidden_nats"]) < 0.02
    assert rows["smoothing"]["hidden_nats"] > 0.15
    assert np.isfinite(rows[LFADS]["hidden_nats"])
    assert not any("bps" in name or "bits" in name for row in rows.values() for name in row)
    assert trained.scores["valid/behaviour_r2"] == rows[LFADS]["behaviour_r2"]


def test_scores_of_several_sessions_are_of_all_spikes_together():
    parts = [
        Part("a", "valid", {LFADS: {"co_bps": 0.1, "psth_r2": 0.2}}, {}, {"n_held_out_spikes": 10}),
        Part("b", "valid", {LFADS: {"co_bps": 0.4, "psth_r2": 0.4}}, {}, {"n_held_out_spikes": 30}),
    ]
    summary = EvaluationTable(parts).summary()
    assert summary == pytest.approx({"valid/co_bps": 0.325, "valid/psth_r2": 0.3})


def table_of(ours, others, metric="hidden_bits_per_spike"):
    rows = {LFADS: {metric: ours}, MEANS: {metric: 9.0}, TRUTH: {metric: 10.0}}
    rows |= {name: {metric: value} for name, value in others.items()}
    return EvaluationTable([Part("a", "valid", rows, {}, {})])


def test_verdict_is_on_what_no_method_has_seen():
    """The truth, and the model's own means, are no methods to be behind."""
    others = {"constant rate": -0.01, "smoothing": 0.2, "PSTH": 0.1}
    ahead = table_of(0.3, others).verdict("valid")
    assert (ahead.is_ahead, ahead.best, ahead.best_value) == (True, "smoothing", 0.2)
    assert "LFADS is ahead of the simple methods: 0.300 bits/spike of hidden" in str(ahead)
    behind = table_of(-0.3, others).verdict("valid")
    assert (behind.is_ahead, behind.is_below_constant) == (False, True)
    assert str(behind).startswith("A simple method is ahead: smoothing has 0.200")
    assert "worse than a constant rate (-0.010)" in str(behind)
    shown = table_of(0.15, others).in_short("valid").splitlines()
    order = [line.split("  ")[0] for line in shown[2:-1]]
    assert order == [TRUTH, MEANS, "smoothing", LFADS, "PSTH", "constant rate"]
    # held-out neurons come before hidden entries; a score that is not there compares nothing
    both = table_of(0.3, others).parts[0]
    both.rows[LFADS]["co_bps"], both.rows["PSTH"]["co_bps"] = 0.1, 0.2
    assert EvaluationTable([both]).verdict("valid").metric == "co_bps"
    assert table_of(float("nan"), others).verdict("valid") is None


def test_methods_do_not_see_the_entries_that_are_hidden():
    """Whatever stands in a hidden part of the scored trials, its prediction is the same."""
    train, test = recording(), recording(24, seed=1)
    parts = parts_to_hide(test["data"].shape)
    assert len(parts) == 5
    np.testing.assert_array_equal(sum(p.astype(int) for p in parts), 1)
    other = np.where(parts[0], test["data"] + 5, test["data"])
    labels = train["condition"], test["condition"]
    found = [
        list(baselines.baselines(Given(train["data"], x, [], 0, *labels, 3, True, parts[:1])))
        for x in (test["data"], other)
    ]
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.hidden, two.hidden)
        assert np.isfinite(one.hidden[parts[0]]).all(), one.name
        assert np.isnan(one.hidden[~parts[0]]).all()
        score = metrics.bits_per_spike(one.hidden, np.where(parts[0], test["data"], np.nan))
        assert one.name == "constant rate" or score > 0.1


def test_parts_that_are_hidden_are_bounded():
    assert [len(p) for p in parts_to_hide((30, 4, 3))] == [30] * 5
    assert [len(p) for p in parts_to_hide((150, 4, 3))] == [150] * 2
    assert [len(p) for p in parts_to_hide((10_000, 4, 3))] == [400]
    assert [len(p) for p in parts_to_hide((30, 4, 3), most_trials=20)] == [20]


def test_a_table_comes_back_from_its_file(tmp_path):
    sizes = {"n_trials": 4, "n_bins": 5, "n_neurons": 6}
    parts = [
        Part("a", "valid", {LFADS: {"co_bps": 0.1}}, {}, {"n_held_out_spikes": 10} | sizes),
        Part("b", "valid", {LFADS: {"co_bps": 0.4}}, {}, {"n_held_out_spikes": 30} | sizes),
    ]
    table = EvaluationTable(parts)
    table.write(tmp_path)
    assert read_table(tmp_path) == table
    (tmp_path / "evaluation.json").write_text('{"a": {"valid": 3}}')
    assert read_table(tmp_path) is None
    assert read_table(tmp_path / "nothing") is None


# --- what a run leaves, and the command ---


def test_a_run_ends_with_its_table(run):
    saved = json.loads((run / "evaluation.json").read_text())
    scores = json.loads((run / "scores.json").read_text())
    row = saved["toy"]["valid"][LFADS]
    for name in ("co_bps", "fp_bps", "psth_r2", "behaviour_r2", "few_shot_co_bps"):
        assert scores[f"valid/{name}"] == pytest.approx(row[name])
        assert "null" in saved["notes"][name] or name not in ("co_bps", "fp_bps")
    assert "24 trials x 20 bins x 6 neurons" in saved["notes"]["toy, valid"]


def test_command_prints_the_table_and_writes_it(run, capsys):
    before = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").unlink()
    command.main([str(run)])
    out = capsys.readouterr().out
    head = next(line for line in out.splitlines() if "co bps" in line)
    assert "behaviour r2" in head
    assert all(any(line.startswith(row) for line in out.splitlines()) for row in
               (LFADS, "constant rate", "PSTH", "smoothing", "factor analysis"))  # fmt: skip
    assert "null model: their mean rates in the scored trials" in out
    assert json.loads((run / "evaluation.json").read_text()) == before
    command.main([str(run), "--json", "--metrics", "co_bps", "behaviour_r2", "--lag-bins", "2",
                  "--samples", "3", "--split", "train", "--session", "toy"])  # fmt: skip
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["toy"]["train"][LFADS]) == {"co_bps", "behaviour_r2"}
    assert "2 bins of lag" in shown["notes"]["toy, train"]
    assert "mean of 3 posterior samples" in shown["notes"][f"{LFADS} (toy, train)"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "co_bsp"], "no metric is named 'co_bsp'; did you mean co_bps?"),
        (["--session", "monday"], "--session monday: no such session; expected one of toy"),
        (["--samples", "-1"], "--samples is -1; expected a number >= 0"),
        (["--lag-bins", "20"], "lag_bins=20 in trials of 20 bins"),
        (["--checkpoint", "newest"], "has no checkpoint named 'newest'"),
        (["--stem", "nothing"], "no file matches data_filename_stem='nothing'"),
    ],
)
def test_mistakes_end_with_one_line(run, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        command.main([str(run), *words])
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_folders_without_a_run_or_a_checkpoint(run, tmp_path, capsys):
    def said(folder):
        with pytest.raises(SystemExit, match="2"):
            command.main([str(folder)])
        return capsys.readouterr().err

    assert "no such folder; give the folder of a training run" in said(tmp_path / "nowhere")
    assert "contains no run (config.yaml is missing)" in said(tmp_path)
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert "has no checkpoint named 'checkpoint'" in said(tmp_path)


@pytest.mark.parametrize(
    ("without", "metric", "message"),
    [
        (
            ("behaviour",),
            "behaviour_r2",
            "needs train_behaviour and valid_behaviour in the session",
        ),
        (("condition",), "psth_r2", "needs train_condition and valid_condition"),
        (("truth",), "rate_r2", "needs true rates"),
    ],
)
def test_a_metric_that_was_asked_for_needs_its_data(run, without, metric, message):
    with pytest.raises(LFADSError, match=f"session 'a': {metric} {message}"):
        evaluate(lfads.load(run), sessions_of(without=without), only=[metric])


def test_held_out_scores_need_a_model_that_holds_out(new_model):
    model = new_model({"a": D})
    trained = TrainedModel(model, params.from_flat({}), T, 0)
    for metric, remedy in (("co_bps", "held_out_neurons=0.25"), ("fp_bps", "forward_steps=N")):
        with pytest.raises(LFADSError, match=f"{metric} needs .*{remedy}"):
            evaluate(trained, sessions_of(), only=[metric])


def test_help_needs_no_torch():
    code = (
        "import sys; from lfads_lightning.cli import evaluate; "
        "assert 'torch' not in sys.modules; evaluate.main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "co-smoothing: bits/spike of the held-out neurons" in done.stdout
