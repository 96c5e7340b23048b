"""The Python interface: completion, config objects, reprs, figures, scores, scikit-learn."""

import inspect

import numpy as np
import pytest
from conftest import TINY
from matplotlib.figure import Figure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import lfads_lightning as lfads
from lfads_lightning.inference import frames
from lfads_lightning.interface import signatures
from lfads_lightning.notebook import interactive, typed_keywords
from lfads_lightning.notebook.cards import card, facts, lines
from lfads_lightning.params import dotted_names

HOSTILE = "<script>alert(1)</script>&\"'"
QUICK = {k: v for k, v in TINY.items() if k != "report"} | {
    "co_dim": 1,
    "max_epochs": 3,
    "kl_increase_steps": 0,
    "l2_increase_steps": 0,
}


# --- keywords ---


def test_package_offers_what_is_public():
    assert set(dir(lfads)) == {*lfads.__all__, "__version__"}
    assert {"fit", "load", "Trained", "Config", "Session", "Estimator", "metrics"} < set(dir(lfads))
    for name in dir(lfads):
        assert getattr(lfads, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        lfads.nothing_such  # noqa: B018


def test_signatures_have_every_parameter_and_option():
    fit = inspect.signature(lfads.fit).parameters
    assert set(dotted_names()) - set(fit) == set(signatures.NOT_OF_FIT)
    assert fit["co_dim"].default == lfads.Config().model.co_dim
    assert fit["output_dist"].annotation.startswith("Literal['poisson', ")
    assert {"condition", "train_condition", "valid_fraction", "config"} < set(fit)
    assert not any(p.kind is p.VAR_KEYWORD for p in fit.values())
    prepare = inspect.signature(lfads.prepare).parameters
    assert prepare["time_unit"].annotation == "Literal['s', 'ms', 'us', 'samples'] | None"
    assert not any(p.kind is p.VAR_KEYWORD for p in prepare.values())
    for function, names in ((lfads.fit, fit), (lfads.prepare, prepare)):
        for name in names:
            assert f" {name}" in function.__doc__
    assert "ridge" in inspect.signature(lfads.align).parameters


def test_editors_see_the_same_keywords():
    """Where this fails: python -m lfads_lightning.interface.signatures."""
    path = typed_keywords.__file__
    with open(path, encoding="utf-8") as file:
        assert file.read() == signatures.typed_keywords()
    fit = set(typed_keywords.FitKeywords.__annotations__)
    written = {"data", "config", "valid_fraction"}
    assert fit == set(inspect.signature(lfads.fit).parameters) - written
    estimator = set(typed_keywords.EstimatorKeywords.__annotations__)
    assert estimator == set(inspect.signature(lfads.Estimator).parameters)


def test_parameters_as_an_object_are_those_of_keywords(counts, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "lfads_lightning.api.train_sessions", lambda config, sessions, folder: seen.append(config)
    )
    config = lfads.Config()
    config.model.gen_dim, config.model.output_dist = 6, "negative_binomial"
    config.data.data_dir = "/nowhere"  # data are given
    where = str(tmp_path)
    lfads.fit(counts, config=config, factors_dim=3, gen_dim=7, lfads_save_dir=where, recipe="auto")
    lfads.fit(
        counts, factors_dim=3, gen_dim=7, output_dist="negative_binomial", lfads_save_dir=where,
        recipe="auto",
    )  # fmt: skip
    assert seen[0] == seen[1]
    assert (seen[0].model.gen_dim, seen[0].model.output_dist.name) == (7, "negative_binomial")
    assert config.model.gen_dim == 6
    with pytest.raises(lfads.LFADSError, match="config is a dict; expected a lfads_lightning"):
        lfads.fit(counts, config={"gen_dim": 6})
    config.model.gen_dim = -1
    with pytest.raises(lfads.LFADSError, match="fit: config: model.gen_dim is -1; expected"):
        lfads.fit(counts, config=config)


# --- results ---


@pytest.fixture(scope="module")
def trained(counts, tmp_path_factory):
    """A model that was trained for moments, on a session with a name that is no name."""
    session = lfads.Session(
        HOSTILE.replace("/", ""),
        lfads.Split(counts, condition=np.array([HOSTILE, "b"] * 6)),
        bin_width_s=0.02,
        event=HOSTILE,
        window_s=np.array([-0.06, 0.1]),
    )
    folder = tmp_path_factory.mktemp("face") / "run"
    return lfads.fit(session, lfads_save_dir=str(folder), report=False, **QUICK)


def test_objects_show_themselves_in_short_and_escape_what_is_the_users(trained, counts):
    posterior = trained.posterior_push_mean(counts)
    shown = {
        trained: "5 neurons, 3 factors, 6 generator units, 1 inferred input; 2 updates; hidden_b",
        trained.data[0]: "10 training and 2 validation trials × 8 bins of 20 ms × 5 neurons",
        lfads.Run(trained.folder): "3 updates",
    }
    for thing, words in shown.items():
        assert words in repr(thing)
        assert HOSTILE[:8] not in thing._repr_html_()
    assert "&lt;script&gt;" in trained.data[0]._repr_html_()
    assert (
        repr(posterior) == "Posterior(12 trials × 8 bins: 5 neurons, 3 factors, 1 inferred input)"
    )
    assert repr(trained.prior_sample(2)).startswith("Prior(2 trials × 8 bins: 5 neurons")
    assert repr(trained.data[0].train) == "Split(10×8×5, inds, condition)"
    page = posterior._repr_html_()
    assert "<polyline" in page
    assert "12 trials × 8 bins × 5 neurons" in page
    assert "expected counts per bin" in page
    assert "post_g0_mean" in page
    for thing in (posterior, *shown, trained.comparison, trained.prior_sample(2)):
        assert max(map(len, repr(thing).splitlines())) == len(repr(thing)) < 300  # one line
    page = trained._repr_html_()
    assert "data_filename_stem" not in page + lfads.Run(trained.folder)._repr_html_()
    for words in ("hidden bits per spike", "smoothing", "gen_dim=6", "<polyline", "updates"):
        assert words in page


def test_cards_escape_everything():
    page = card(HOSTILE, facts({HOSTILE: HOSTILE}), lines([[0.0, 1.0]], HOSTILE))
    assert "<script" not in page
    assert lines([[float("nan")] * 3], "") == lines([], "") == ""
    assert "nan" not in lines([[0.0, float("nan"), 1.0]], "x")


def test_history_and_scores_are_those_of_the_files(trained, monkeypatch):
    history = trained.history
    assert list(history["epoch"]) == [0, 1, 2]
    monkeypatch.setattr("lfads_lightning.inference.trained.find_spec", lambda name: None)
    columns = trained.history
    assert isinstance(columns, dict)
    assert columns["train/total"].tolist() == history["train/total"].tolist()
    index = "checkpoint_lve" if trained.scores["checkpoint"] == "checkpoint_lve" else "checkpoint"
    again = lfads.load(trained.folder, index)
    assert again.scores == pytest.approx(trained.scores, nan_ok=True)
    assert again.comparison.summary() == pytest.approx(trained.comparison.summary(), nan_ok=True)
    other = {"checkpoint": "checkpoint_lve", "checkpoint_lve": "checkpoint"}[index]
    assert lfads.load(trained.folder, other).scores == {}  # they are of other weights
    alone = lfads.Trained.of(again)
    alone.folder = None
    with pytest.raises(lfads.LFADSError, match="history: this model has no run folder"):
        alone.history  # noqa: B018


def test_figures_are_those_of_the_report(trained, monkeypatch):
    calls = []
    held = lfads.interface.trained
    inferred = held.shown_trials
    monkeypatch.setattr(
        lfads.interface.trained,
        "shown_trials",
        lambda *a, **k: calls.append(a) or inferred(*a, **k),
    )
    figures = {name: getattr(trained.plot, name)() for name in ("curves", "trial", "factors")}
    assert all(isinstance(figure, Figure) for figure in figures.values())
    assert len(calls) == 1  # inferred once
    assert figures["trial"]._repr_png_().startswith(b"\x89PNG")
    assert "trial 1" in trained.plot.trial(1)._suptitle.get_text()
    assert "train, trial 7" in trained.plot.trial(7, split="train")._suptitle.get_text()
    with pytest.raises(lfads.LFADSError, match="number is 2; .* has 2 valid trials"):
        trained.plot.trial(2)
    with pytest.raises(lfads.LFADSError, match="has no split 'test'; expected train, valid"):
        trained.plot.averages(split="test")
    with pytest.raises(lfads.LFADSError, match="the data have no session 'x'"):
        trained.plot.averages(session="x")
    listed = repr(trained.plot)
    assert all(f"{name}()" in listed for name in vars(type(trained.plot)) if name[0] != "_")


def test_loaded_model_draws_what_it_is_given(trained, counts):
    again = lfads.load(trained.folder)
    with pytest.raises(lfads.LFADSError, match="the data were given in Python, .* give them"):
        again.plot.trial()
    assert "trial 11" in again.plot.trial(11, counts)._suptitle.get_text()


def test_evaluate_is_what_the_command_computes(trained, counts):
    only = ["bits_per_spike"]
    table = trained.evaluate(metrics=only)
    assert table.summary() == pytest.approx(
        {k: v for k, v in trained.comparison.summary().items() if k.endswith("/bits_per_spike")}
    )
    assert lfads.evaluate(trained, metrics=only).to_dict() == table.to_dict()
    means = lfads.evaluate(str(trained.folder), counts, samples=0, metrics=only)
    assert "LFADS, posterior means" not in means.parts[0].rows
    assert trained.config.sampling.num_score_samples == 16
    with pytest.raises(lfads.LFADSError, match="samples is -1; expected a number >= 0"):
        trained.evaluate(samples=-1)
    with pytest.raises(lfads.LFADSError, match="checkpoint is for the folder of a run"):
        lfads.evaluate(trained, checkpoint="checkpoint")
    with pytest.raises(lfads.LFADSError, match="the data were given in Python"):
        lfads.evaluate(trained.folder)


def test_arrays_have_names_and_units(trained, counts, monkeypatch):
    posterior = trained.posterior_push_mean(counts)
    made = posterior.to_xarray(bin_width_s=0.02)
    assert made.rates.units == "expected counts per bin"
    assert (made.rates_hz.units, made.time_s.units, made.costs.units) == ("Hz", "s", "nats")
    for name, array in posterior._asdict().items():
        if array is not None:
            assert made[name].long_name
            assert name.removesuffix("_sd") in frames.ABOUT
    monkeypatch.setattr(frames, "import_module", _raises)
    with pytest.raises(lfads.LFADSError, match=r'pip install "lfads-lightning\[frames\]"'):
        posterior.to_xarray()


def _raises(name):
    raise ImportError(name)


def test_report_is_written_where_it_is_not_yet(trained, monkeypatch, reports):
    written = []

    def write(folder, *args):
        written.append(args)
        lfads.Run(folder).report.write_text(f"<h1>{HOSTILE}</h1>")

    monkeypatch.setattr(lfads.interface.trained, "write_run_report", write)
    shown = [trained.report(), trained.report()]
    assert len(written) == 1
    assert f"{shown[0].path}" in repr(shown[1])
    page = shown[0]._repr_html_()
    assert 'sandbox=""' in page
    assert "<script" not in page


# --- at a prompt ---


def test_warnings_are_one_line_and_said_once_at_a_prompt(monkeypatch, capsys, recwarn):
    import warnings

    @interactive.warns_in_short
    def work():
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("mind\nthis", stacklevel=1)
        return 3

    assert work() == 3
    assert len(recwarn) == 2  # a script is told as by Python
    monkeypatch.setattr(interactive.sys, "ps1", ">>> ", raising=False)
    assert work() == 3
    assert capsys.readouterr().err == "Warning: mind this\n"


# --- scikit-learn ---


@pytest.fixture(scope="module")
def estimator(counts):
    return lfads.Estimator(**QUICK).fit(counts)


CHECKS = (
    "no_attributes_set_in_init",
    "get_params_invariance",
    "set_params",
    "estimator_repr",
    "mixin_order",
    "parameters_default_constructible",
    "estimators_unfitted",
    "transformers_unfitted",
)


def test_estimator_follows_the_checks_that_apply_to_three_axes():
    """Scikit-learn runs few of its own where data have three axes; the others that need no data."""
    made = lfads.Estimator(co_dim=0)
    with pytest.warns(SkipTestWarning, match="which requires input"):
        estimator_checks.check_estimator(made)
    for name in CHECKS:
        getattr(estimator_checks, f"check_{name}")("Estimator", made)


def test_estimator_has_parameters_as_scikit_learn_wants_them():
    made = lfads.Estimator(co_dim=0, held_out_neurons=[0])
    assert clone(made).get_params() == made.get_params()
    assert set(made.get_params()) == set(signatures_of_estimator())
    assert made.set_params(gen_dim=9).gen_dim == 9
    assert repr(lfads.Estimator(co_dim=0, gen_dim=9)) == "Estimator(co_dim=0, gen_dim=9)"
    with pytest.raises(ValueError, match="Invalid parameter 'gen_dims'"):
        made.set_params(gen_dims=9)
    with pytest.raises(lfads.LFADSError, match="named gen_dims; did you mean gen_dim"):
        lfads.Estimator(gen_dims=9)
    with pytest.raises(
        lfads.LFADSError, match="for parameters of files and searches use lfads.fit"
    ):
        lfads.Estimator(lfads_save_dir="x")
    with pytest.raises(NotFittedError):
        made.transform(np.ones((2, 3, 4)))


def signatures_of_estimator():
    return inspect.signature(lfads.Estimator).parameters


def test_estimator_transforms_and_scores(estimator, counts, monkeypatch):
    factors = estimator.transform(counts)
    assert factors.shape == (12, 8, 3)
    assert estimator.rates(counts).shape == counts.shape
    whole = estimator.trained_.posterior_sample_and_average(counts, 16)
    assert np.allclose(factors, whole.factors, atol=1e-6)
    assert np.isfinite(estimator.score(counts))
    only = ["hidden_bits_per_spike"]
    monkeypatch.setattr(estimator.trained_.config.sampling, "num_score_samples", 0)  # no noise
    (score,) = estimator.trained_.evaluate(counts, metrics=only).summary().values()
    assert estimator.score(counts) == pytest.approx(score, abs=1e-6)
    assert list(estimator.history_["epoch"]) == [0, 1, 2]
    assert estimator.n_features_in_ == 5
    assert estimator.trained_.folder is None
    with pytest.raises(lfads.LFADSError, match="has 4 neurons, but the model's session .* has 5"):
        estimator.transform(counts[..., :4])


def test_estimator_goes_through_cross_validation_and_pipelines(counts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = lfads.Estimator(**QUICK | {"max_epochs": 1})
    scores = cross_val_score(quick, counts, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    search = GridSearchCV(quick, {"factors_dim": [2, 3]}, cv=2).fit(counts)
    assert (
        search.best_estimator_.trained_.config.model.factors_dim
        == search.best_params_["factors_dim"]
    )
    flat = FunctionTransformer(lambda x: x.reshape(len(x), -1))
    assert make_pipeline(quick, flat).fit_transform(counts).shape == (12, 24)
    assert list(tmp_path.iterdir()) == []  # nothing is left


def test_estimator_trains_as_fit_does(estimator, counts, tmp_path):
    alone = lfads.fit(counts, lfads_save_dir=str(tmp_path), plot_every_n_epochs=0, **QUICK)
    assert alone.step == estimator.trained_.step
    for name, value in alone.model.state_dict().items():
        assert (value == estimator.trained_.model.state_dict()[name]).all(), name


def test_scores_need_spikes(estimator):
    with pytest.raises(lfads.LFADSError, match="there are no spikes to score"):
        estimator.score(np.zeros((3, 8, 5), int))
