"""A constant rate is kept where a trained model is no better: what is kept, said, and continued."""

import json

import numpy as np
import pytest
import torch

import lfads_lightning as lfads
from lfads_lightning.config import Config
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.evaluation.table import CONSTANT, LFADS, EvaluationTable, Part
from lfads_lightning.params import from_flat
from lfads_lightning.report import about, run_report
from lfads_lightning.runs.run import Run
from lfads_lightning.training import constant_rate
from lfads_lightning.training.checkpoint_files import LOWEST, PERIODIC, load_checkpoint, read_index
from lfads_lightning.training.constant_rate import constant_model, is_better

RNG = np.random.default_rng(2)
NOISE = RNG.poisson(0.3, (15, 9, 8))
WAVE = np.sin(np.arange(9) / 2 + RNG.uniform(0, 6, (30, 1)))[..., None] * np.linspace(-2, 2, 8)
SMALL = {
    "ic_dim": 3, "factors_dim": 3, "ic_enc_dim": 4, "gen_dim": 8, "ci_enc_dim": 4, "con_dim": 4,
    "co_dim": 0, "device": "cpu:0", "recipe": "original", "report": False, "batch_size": 6,
    "plot_every_n_epochs": 0, "num_score_samples": 2, "optimizer": "adamw", "schedule": "cosine",
    "criterion": "hidden_recon", "max_steps": 40, "learning_rate_init": 0.03,
    "do_start_at_mean_rates": True, "held_out_neurons": 0.25, "kl_ic_weight": 0.0,
}  # fmt: skip


def fit(folder, data=NOISE, **more):
    return lfads.fit(data, lfads_save_dir=folder, **SMALL | more)


@pytest.fixture(scope="module")
def of_noise(tmp_path_factory):
    folder = tmp_path_factory.mktemp("constant") / "run"
    return fit(folder), folder


def test_where_there_is_no_structure_the_constant_rate_is_the_model(of_noise):
    trained, folder = of_noise
    rows = trained.comparison.overall("valid")
    assert rows[LFADS]["co_bps"] == pytest.approx(rows[CONSTANT]["co_bps"], abs=1e-3)
    assert not trained.comparison.verdict("valid").is_below_constant
    said = trained.scores["no_structure"]
    assert said.startswith("The model found no structure in the recording")
    assert f"Use {trained.scores['best_simple_method']}: " in said
    assert json.loads(Run(folder).scores.read_text())["no_structure"] == said
    again = lfads.load(folder, LOWEST)
    rates = again.posterior_push_mean(NOISE[:2]).rates
    train = trained.data[0].train.data
    np.testing.assert_allclose(rates[0], np.tile(train.mean((0, 1)), (9, 1)), atol=1e-3)
    assert (trained.step, again.step) == (0, 0)


def test_the_best_epoch_stays_and_a_run_goes_on_from_it(of_noise, capfd):
    _, folder = of_noise
    where = Run(folder).checkpoints
    *_, epoch, constant = read_index(where, LOWEST)
    assert constant == "lfads_vae_lve-00000000.ckpt"
    assert load_checkpoint(where / epoch)["lfads"]["step"] > 0
    trained = fit(folder, max_steps=44)  # more of the same
    assert "no structure" in capfd.readouterr().err
    assert load_checkpoint(where / read_index(where, PERIODIC)[-1])["lfads"]["step"] == 44
    assert "no_structure" in trained.scores
    same = fit(folder, max_steps=44)  # it has ended: it is scored again
    assert same.scores["no_structure"] == trained.scores["no_structure"]


def test_structure_is_kept(tmp_path):
    trained = fit(tmp_path / "run", RNG.poisson(np.exp(WAVE)), max_steps=200)
    assert "no_structure" not in trained.scores
    assert trained.step > 0


def test_models_that_do_not_start_at_the_mean_rates_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.delattr(constant_rate, "constant_model")
    trained = fit(tmp_path / "run", do_start_at_mean_rates=False)
    assert "no_structure" not in trained.scores


@pytest.mark.parametrize("values", ["gaussian", "zero_inflated_gamma", "negative_binomial"])
def test_a_constant_model_has_the_means_whatever_the_noise(values):
    data = NOISE if values == "negative_binomial" else NOISE * RNG.gamma(2, 1, NOISE.shape)
    config = from_flat(SMALL | {"output_dist": values, "held_out_neurons": "none"})
    sessions = sessions_from_arrays(
        {"a": data, "b": data[:, :, :5]}, output_dist=values, ext_input_dim=0, factors_dim=3,
        warn=False,
    )  # fmt: skip
    model = constant_model(config, sessions)
    for s in sessions:
        x = torch.as_tensor(s.train.data.astype(np.float32))
        params = model(x, s.name).output_dist_params.detach().numpy()
        mean = model.noise_model.mean(params)
        expected = np.broadcast_to(x.numpy().mean((0, 1)), mean.shape)
        np.testing.assert_allclose(mean, expected, atol=5e-3)


@pytest.mark.filterwarnings("ignore:.*do_start_at_mean_rates=true has no effect")
def test_a_model_without_read_out_has_no_constant_rate():
    sessions = sessions_from_arrays(
        {"a": NOISE}, output_dist="poisson", ext_input_dim=0, factors_dim=8, warn=False
    )
    config = from_flat(SMALL | {"factors_dim": 8, "held_out_neurons": "none"})
    assert constant_model(config, sessions) is None


def test_noise_is_what_trials_scatter_by():
    constant = torch.full((4,), 9.0)
    assert is_better(constant - torch.tensor([1.0, 2, 1, 2]), constant)
    assert not is_better(constant - torch.tensor([9.0, -3, 1, -5]), constant)
    assert not is_better(constant, constant)
    assert is_better(torch.tensor([1.0]), torch.tensor([2.0]))  # of one trial nothing is known


def test_the_finding_says_it_in_place_of_what_follows_from_it():
    rows = {LFADS: {"co_bps": -0.1}, CONSTANT: {"co_bps": -0.05}, "smoothing": {"co_bps": 0.2}}
    table = EvaluationTable([Part("a", "valid", rows, {}, {"n_held_out_spikes": 9})])
    scores = {"no_structure": "The model found no structure. Use smoothing"}
    none = about.Record({}, [])
    for given, keys in (
        (scores, ["no_structure"]),
        ({}, ["below_constant", "simple_ahead"]),
    ):
        found = run_report._findings(Config(), given, {}, "no data", table, none)
        assert [f.key for f in found] == keys
