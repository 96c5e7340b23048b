"""The end of a run: which weights, scores by samples, what a failure or an interrupt costs."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import remembered

import lfads_lightning as lfads
from lfads_lightning.cli import evaluate, report
from lfads_lightning.config import SessionSpec
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.evaluation.table import LFADS, MEANS
from lfads_lightning.inference.copying import parts_to_hide, predict_hidden
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.metrics import bits_per_spike
from lfads_lightning.model import lfads as network
from lfads_lightning.report import finish as finish_module
from lfads_lightning.report import training_figures
from lfads_lightning.report.finish import finish, scores_table
from lfads_lightning.report.trials import shown_trials
from lfads_lightning.training.checkpoint_files import load_checkpoint, read_index
from lfads_lightning.training.fit import Fitted

SMALL = {
    "ic_dim": 4,
    "factors_dim": 3,
    "ic_enc_dim": 7,
    "gen_dim": 6,
    "co_dim": 0,
    "batch_size": 64,
    "device": "cpu:0",
    "recipe": "original",
    "num_threads": 1,
}


def recording(n_trials=40, n_bins=46, n_neurons=18, seed=0, depth=0.6, mean=0.05):
    """Trials as a small recording has them: a slow rhythm of random phase, few spikes."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 4, n_bins) + rng.uniform(0, 2 * np.pi, (n_trials, 1))
    state = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    loadings = np.random.default_rng(99).standard_normal((2, n_neurons))
    return rng.poisson(mean * np.exp(depth * state @ loadings))


# --- which weights are scored ---


def small_run(folder, **changed):
    """One update an epoch; the learning rate ends training within the ramps."""
    ending = {"learning_rate_decay_factor": 0.7, "learning_rate_n_to_compare": 1}
    ending |= {"learning_rate_stop": 1e-3, "max_epochs": 60}
    counts = recording(n_trials=24, n_bins=12, n_neurons=6, mean=0.4)
    return lfads.fit(counts, lfads_save_dir=str(folder), **(SMALL | ending | changed))


def test_without_an_eligible_epoch_the_lowest_smoothed_reconstruction_is_kept(tmp_path, capsys):
    trained = small_run(tmp_path / "run")
    rows = np.genfromtxt(tmp_path / "run" / "metrics.csv", delimiter=",", names=True)
    assert rows["rampkl"].max() < 1
    smoothed = rows["validrecon_smoothed"]
    lowest = 1 + smoothed[1:].argmin()  # the first validation does not count
    assert trained.scores["chosen_by"] == "valid/recon_smoothed"
    assert trained.scores["checkpoint"] == "checkpoint_lve"
    assert trained.step == rows["step"][lowest]
    assert trained.scores["valid/recon"] == pytest.approx(rows["validrecon"][lowest])
    assert "No epoch was eligible" in capsys.readouterr().err
    # the same is what everyone loads
    assert lfads.load(tmp_path / "run", "checkpoint_lve").step == trained.step


def test_the_first_eligible_epoch_takes_the_place_of_all_before(tmp_path):
    trained = small_run(tmp_path / "run", kl_increase_steps=10, l2_increase_steps=10)
    rows = np.genfromtxt(tmp_path / "run" / "metrics.csv", delimiter=",", names=True)
    eligible = np.flatnonzero(rows["rampkl"] >= 1)
    assert trained.scores["chosen_by"] == "valid/total"
    assert trained.step == rows["step"][eligible[rows["validtotal"][eligible].argmin()]]


def test_what_was_lowest_survives_a_stop_within_the_ramps(tmp_path):
    whole = small_run(tmp_path / "whole")
    small_run(tmp_path / "cut", max_epochs=10)
    resumed = small_run(tmp_path / "cut")
    names = [
        read_index(tmp_path / d / "checkpoints", "checkpoint_lve")[-1] for d in ("whole", "cut")
    ]
    assert names[0] == names[1]
    assert resumed.scores["chosen_by"] == "valid/recon_smoothed"
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0)
    path = tmp_path / "cut" / "checkpoints" / names[1]
    assert load_checkpoint(path)["lfads"]["step"] == resumed.step


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model copies the spikes")
def test_a_small_recording_with_the_defaults_is_told_the_truth(tmp_path, reports):
    """40 trials, one update an epoch: the rate decays to its stop before the ramps end."""
    counts = recording()
    trained = lfads.fit(
        counts,
        held_out_neurons=0.25,
        lfads_save_dir=str(tmp_path),
        device="cpu:0",
        recipe="original",
        num_threads=1,
    )
    assert trained.scores["chosen_by"] == "valid/recon_smoothed"
    record = json.loads((tmp_path / "report.json").read_text())
    found = {f["key"] for f in record["findings"]}
    assert {"overfitted", "not_eligible"} <= found
    assert "underfit" not in found
    verdict = trained.comparison.verdict("valid")
    rows = trained.comparison.overall("valid")
    simple = [n for n in rows if n in ("smoothing", "PSTH", "factor analysis", "constant rate")]
    best = max(simple, key=lambda n: rows[n]["co_bps"])
    assert verdict.best == best
    assert verdict.is_ahead == (rows[LFADS]["co_bps"] > rows[best]["co_bps"])
    said = scores_table(trained.scores, trained.comparison)
    assert (f"A simple method is ahead: {best}" in said) == ("simple_ahead" in found)
    assert ("LFADS is ahead of the simple methods" in said) == ("simple_ahead" not in found)


# --- samples, not means ---


@pytest.fixture(scope="module")
def apart(tmp_path_factory, new_config):
    """A run whose rates at the posterior means are far from the mean of its rates.

    Its posterior is wide, whatever the data are; the data are drawn from the mean rates.
    """
    folder = tmp_path_factory.mktemp("apart")
    n_bins, out = 12, [1, 4]
    files = {"data_dir": str(folder / "data"), "data_filename_stem": "toy"}
    config = new_config(co_dim=0, held_out_neurons=out, report=True, **files)
    rng = np.random.default_rng(0)
    torch.manual_seed(1)
    model = network.LFADS(config.model, [SessionSpec("a", 5, held_out=tuple(out))])
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
        for p in model.ic_mean.parameters():
            p.zero_()
        for p in model.ic_logvar.parameters():
            p.zero_()
        model.ic_logvar.bias.fill_(2 * np.log(2.0))  # sd 2
        (readout,) = model.readout.values()
        readout.weight.mul_(3.0)
        readout.bias.fill_(-1.5)
    trained = TrainedModel(model, config, n_bins, 7, folder / "run")
    rates = trained.posterior_sample_and_average(np.zeros((2, n_bins, 5), int), 4000).rates[0]
    arrays = {f"{s}_data": rng.poisson(rates, (n, *rates.shape)) for s, n in
              (("train", 60), ("valid", 40))}  # fmt: skip
    lfads.write_session(folder / "data" / "toy_a.h5", **arrays, bin_width_s=0.01)
    remembered(trained.save(folder / "run"))
    counts = arrays["valid_data"]

    def score(rates):
        return bits_per_spike(rates[..., out], counts[..., out])

    by = SimpleNamespace(
        samples=score(trained.posterior_sample_and_average(counts, 16).rates),
        means=score(trained.posterior_push_mean(counts).rates),
    )
    (session,) = sessions_from_arrays(
        {"a": arrays["train_data"]}, {"a": counts}, output_dist="poisson", ext_input_dim=0,
        factors_dim=3, bin_width_s={"a": 0.01},
    )  # fmt: skip
    fitted = Fitted(model, 7, "checkpoint", "", 1.0, {}, 1, 7, 1.0)
    trained = lfads.load(folder / "run")
    trained.config.data = config.data
    return SimpleNamespace(
        trained=trained, session=session, fitted=fitted, by=by, run=folder / "run", counts=counts
    )


def test_every_place_shows_scores_of_samples(apart, reports, capsys):
    """Scores by means and by samples differ by more than .2 bits/spike of held-out neurons."""
    assert apart.by.samples - apart.by.means > 0.2
    trained, session = apart.trained, apart.session
    scores = finish(trained, [session], apart.fitted)
    shown = f"{apart.by.samples:.3f}"
    # the run's files
    assert scores["valid/co_bps"] == pytest.approx(apart.by.samples, rel=1e-6)
    saved = json.loads((apart.run / "scores.json").read_text())
    rows = json.loads((apart.run / "evaluation.json").read_text())["a"]["valid"]
    for name, value in rows[LFADS].items():
        assert saved[f"valid/{name}"] == pytest.approx(value, rel=1e-9), name
    assert rows[LFADS]["co_bps"] == pytest.approx(apart.by.samples, rel=1e-6)
    assert rows[MEANS]["co_bps"] == pytest.approx(apart.by.means, rel=1e-6)
    # the terminal, the report
    table = scores_table(scores, trained.comparison).splitlines()
    assert shown in next(line for line in table if line.startswith(f"{LFADS}  "))
    assert shown in next(line for line in table if line.startswith(("A simple", "LFADS is")))
    page = (apart.run / "report.html").read_text()
    assert f"<dd>{shown}</dd>" in page
    assert 'data-finding="means_differ"' in page
    # the commands
    report.main([str(apart.run)])
    assert f"<dd>{shown}</dd>" in (apart.run / "report.html").read_text()
    capsys.readouterr()
    evaluate.main([str(apart.run), "--json", "--metrics", "co_bps"])
    told = json.loads(capsys.readouterr().out)["a"]["valid"][LFADS]
    assert told["co_bps"] == pytest.approx(apart.by.samples, rel=1e-6)


def test_figures_and_the_meter_of_copying_use_samples(apart, monkeypatch):
    trained, session = apart.trained, apart.session
    sampled = trained.posterior_sample_and_average(apart.counts, 16).rates
    shown = shown_trials(trained.evaluation(), session, "valid").posterior.rates
    np.testing.assert_allclose(shown.mean((0, 1)), sampled.mean((0, 1)), rtol=0.2)
    means = trained.posterior_push_mean(apart.counts).rates
    assert (np.abs(shown - means) > 0.2 * means).mean() > 0.5
    # while training goes on
    drawn = []
    monkeypatch.setattr(training_figures, "add_pictures", lambda *args: None)
    monkeypatch.setattr(training_figures, "drawings_of", lambda trials: drawn.append(trials) or [])
    module = SimpleNamespace(
        model=trained.model, config=trained.config, ramps=lambda: (1.0, 1.0), step=7
    )
    training_figures.Figures([session], 1)._draw(module)
    assert {t.title for t in drawn} == {"a, valid", "a, train"}
    np.testing.assert_allclose(
        drawn[0].posterior.rates.mean((0, 1)), sampled.mean((0, 1)), rtol=0.2
    )
    parts = parts_to_hide(apart.counts.shape)
    rates = predict_hidden(trained.evaluation(), "a", session.splits["valid"], parts).rates
    seen = [0, 2, 3]  # every entry of these was hidden once
    np.testing.assert_allclose(
        rates[..., seen].mean((0, 1)), sampled[..., seen].mean((0, 1)), rtol=0.2
    )


def test_number_of_samples_is_a_parameter(apart, monkeypatch):
    trained = apart.trained
    monkeypatch.setattr(trained.config.sampling, "num_score_samples", 0)
    scores = finish(trained, [apart.session], apart.fitted)
    assert scores["valid/co_bps"] == pytest.approx(apart.by.means, rel=1e-6)
    assert MEANS not in trained.comparison.parts[0].rows


# --- what must not be lost ---


def two_sessions(**valid):
    data = {n: recording(n_trials=20, n_bins=12, n_neurons=6, seed=i, mean=0.4)
            for i, n in enumerate("ab")}  # fmt: skip
    kept = {n: recording(n_trials=8, n_bins=12, n_neurons=6, seed=9) for n in valid}
    return {"data": data, "valid_data": kept}


def test_a_run_that_its_learning_rate_ended_is_only_scored_again(tmp_path):
    before = small_run(tmp_path)
    rows = (tmp_path / "metrics.csv").read_text()
    (tmp_path / "scores.json").unlink()
    with pytest.warns(UserWarning, match="training had ended: the learning rate"):
        after = small_run(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == rows
    assert {k: v for k, v in after.scores.items() if k != "seconds"} == {
        k: v for k, v in before.scores.items() if k != "seconds"
    }
    on = small_run(tmp_path, do_reset_learning_rate=True, max_epochs=22)
    assert on.scores["epochs"] == 22


@pytest.mark.filterwarnings("ignore:session 'b'. valid_data is missing")
def test_sessions_without_validation_trials_are_left_out_of_the_scores(tmp_path, capsys):
    given = two_sessions(a=True)
    trained = lfads.fit(**given, lfads_save_dir=str(tmp_path), max_epochs=2, **SMALL)
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(saved["a"]) == {"valid"}
    assert "b" not in saved
    assert trained.scores["valid/hidden_bits_per_spike"] == pytest.approx(
        saved["a"]["valid"][LFADS]["hidden_bits_per_spike"]
    )
    assert "Not scored, because they have no validation trials: b" in capsys.readouterr().err


def test_a_session_that_cannot_be_scored_costs_its_own_scores_alone(tmp_path, monkeypatch):
    """And a run that is resumed scores it alone."""
    given, real, scored = two_sessions(a=True, b=True), finish_module.score, []

    def fails_once(trained, session, *args, **kwargs):
        scored.append(session.name)
        if scored == ["a", "b"]:
            raise MemoryError("of this one there is too much")
        return real(trained, session, *args, **kwargs)

    monkeypatch.setattr(finish_module, "score", fails_once)
    with pytest.warns(UserWarning, match="session b could not be scored .*too much"):
        trained = lfads.fit(**given, lfads_save_dir=str(tmp_path), max_epochs=2, **SMALL)
    assert [p.session for p in trained.comparison.parts] == ["a"]
    before = json.loads((tmp_path / "evaluation.json").read_text())
    assert (tmp_path / "scores.json").is_file()
    with pytest.warns(UserWarning, match="has already been trained for 2 epochs"):
        trained = lfads.fit(**given, lfads_save_dir=str(tmp_path), max_epochs=2, **SMALL)
    assert scored == ["a", "b", "b"]
    assert {p.session for p in trained.comparison.parts} == {"a", "b"}
    after = json.loads((tmp_path / "evaluation.json").read_text())
    assert after["a"] == before["a"]
    assert not (tmp_path / "scoring.json").exists()


def test_an_interrupt_keeps_what_is_scored(tmp_path, monkeypatch, capsys):
    given, real, scored = two_sessions(a=True, b=True), finish_module.score, []

    def interrupted(trained, session, *args, **kwargs):
        scored.append(session.name)
        if scored == ["a", "b"]:
            raise KeyboardInterrupt
        return real(trained, session, *args, **kwargs)

    monkeypatch.setattr(finish_module, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lfads.fit(**given, lfads_save_dir=str(tmp_path), max_epochs=2, **SMALL)
    assert "all updates are saved" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="has already been trained for 2 epochs"):
        lfads.fit(**given, lfads_save_dir=str(tmp_path), max_epochs=2, **SMALL)
    assert scored == ["a", "b", "b"]
    # of other weights nothing is taken over
    lfads.fit(**given, lfads_save_dir=str(tmp_path), max_epochs=3, **SMALL)
    assert scored == ["a", "b", "b", "a", "b"]


@pytest.mark.slow
def test_a_figure_that_cannot_be_drawn_costs_itself_alone(apart, tmp_path, reports, monkeypatch):
    shutil.copytree(apart.run, tmp_path / "run")
    trained = lfads.load(tmp_path / "run")
    trained.config.data = apart.trained.config.data

    def broken(*args):
        raise ValueError("no such thing")

    monkeypatch.setattr("lfads_lightning.report.run_report.samples_drawing", broken)
    with pytest.warns(UserWarning, match="figure posterior samples could not be drawn"):
        finish(trained, [apart.session], apart.fitted)
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'id="figure-summary"' in page
    assert 'id="figure-samples"' not in page


def test_without_a_report_nothing_is_drawn(tmp_path, reports, monkeypatch):
    def drawn(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", drawn)
    counts = recording(n_trials=20, n_bins=12, n_neurons=6, mean=0.4)
    once = {"max_epochs": 1, "report": False, "plot_every_n_epochs": 0}
    lfads.fit(counts, lfads_save_dir=str(tmp_path), **SMALL, **once)
    assert not (tmp_path / "figures").exists()
    assert (tmp_path / "evaluation.json").is_file()


def test_the_end_of_a_run_says_what_it_does(tmp_path, capsys):
    small_run(tmp_path / "run", max_epochs=2)
    said = capsys.readouterr().err
    assert "Scoring the model and simple methods on 5 validation trials (averages of 16 " in said
