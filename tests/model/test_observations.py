"""Noise models: what each must say of itself, and the negative binomial by other ways."""

import json

import h5py
import numpy as np
import pytest
import torch
from conftest import TINY

import lfads_lightning as lfads
from lfads_lightning.cli.kinds import run_kind
from lfads_lightning.config import Kind, LFADSError, OutputDist
from lfads_lightning.data.session_files import write_session
from lfads_lightning.inference.trained import load
from lfads_lightning.model.observations import from_name
from lfads_lightning.model.observations.negative_binomial import START, log_likelihood
from lfads_lightning.model.recurrences import REFERENCE
from lfads_lightning.params import check, from_flat
from lfads_lightning.runs.run import Run

D = 5
A = (0.05, 0.4, 1.0, 2.0, 4.0)


@pytest.mark.parametrize("name", OutputDist.names())
def test_every_noise_model_says_what_is_asked(name, new_model, spikes):
    noise = from_name(name)
    assert noise.name == name
    model = new_model({"a": D, "b": 4}, output_dist=name)
    assert list(model.extra_readouts) == list(noise.extras)
    output = model(spikes, "a")
    params, n = output.output_dist_params, len(noise.parameters)
    assert params.shape == (*spikes.shape,)[:2] + (n * D,)
    mean = noise.mean(params)
    torch.testing.assert_close(mean, noise.rates(output.log_rates, output.clip))
    np.testing.assert_array_equal(noise.mean(params.detach().numpy()), mean.detach())
    if noise.is_counts:  # bits per spike are of exp(log-rates)
        torch.testing.assert_close(mean, output.log_rates.exp())
    # the read-out can start at any mean
    start = noise.start_bias(torch.tensor([0.0, 0.2, 3.0]), do_log=True)
    least = 0.0 if noise.variable == "means" else 1e-3 if noise.is_counts else 3e-3
    torch.testing.assert_close(noise.rates(start, 80.0), torch.tensor([least, 0.2, 3.0]))
    # weights of entries: a sum over each, and every part of a trial counts
    nll = REFERENCE.nll(noise)
    given = output.log_rates, output.extras, spikes, output.clip
    weight = torch.rand(spikes.shape)
    parts = [weight * (torch.arange(D) == d) for d in range(D)]
    whole = nll(*given, weight)
    assert whole.shape == (len(spikes),)
    torch.testing.assert_close(sum(nll(*given, part) for part in parts), whole)
    torch.testing.assert_close(nll(*given), nll(*given, torch.ones_like(weight)))


def test_unknown_noise_model_is_told():
    with pytest.raises(LFADSError, match="output_dist is 'student'; expected one of poisson"):
        from_name("student")


# --- negative binomial ---


def torch_nb(log_mean, log_a, counts):
    """Return torch's own: r failures, logits log(m / r)."""
    r = torch.exp(-log_a)
    made = torch.distributions.NegativeBinomial(r, logits=log_mean + log_a)
    return made.log_prob(counts)


@pytest.mark.parametrize("dispersion", [1e-4, 0.02, 0.0999, 0.1001, 0.5, 3.0, 200.0])
def test_negative_binomial_equals_torch(dispersion):
    counts = torch.arange(60.0, dtype=torch.float64)[:, None]
    log_mean = torch.tensor([1e-4, 0.05, 1.0, 30.0, 1e3], dtype=torch.float64).log()
    log_a = torch.tensor(dispersion, dtype=torch.float64).log()
    ours = log_likelihood(log_mean, log_a, counts, 80.0)
    torch.testing.assert_close(ours, torch_nb(log_mean, log_a, counts), rtol=0, atol=1e-6)
    # and in single precision, where torch's own differences are lost
    single = log_likelihood(log_mean.float(), log_a.float(), counts.float(), 80.0)
    torch.testing.assert_close(single.double(), ours, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dispersion", [0.02, 0.5, 3.0])
def test_negative_binomial_gradients_equal_torch(dispersion):
    counts = torch.arange(20.0, dtype=torch.float64)[:, None]
    grads = []
    for function in (lambda *x: log_likelihood(*x, 80.0), torch_nb):
        log_mean = torch.tensor([0.05, 1.0, 9.0], dtype=torch.float64).log().requires_grad_()
        log_a = torch.tensor(dispersion, dtype=torch.float64).log().requires_grad_()
        function(log_mean, log_a, counts).sum().backward()
        grads.append((log_mean.grad, log_a.grad))
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-6)


def test_negative_binomial_of_no_dispersion_is_poisson():
    counts = torch.arange(30.0, dtype=torch.float64)
    log_rate, none = (torch.tensor(x, dtype=torch.float64) for x in (0.7, -12.0))
    theirs = torch.distributions.Poisson(log_rate.exp()).log_prob(counts)
    torch.testing.assert_close(
        log_likelihood(log_rate, none, counts, 80.0), theirs, rtol=0, atol=5e-3
    )


def overdispersed(n_trials=200, n_bins=20, seed=0):
    """Draw counts of mean 2 and of variance m + a m^2, another a for each neuron."""
    rng, a = np.random.default_rng(seed), np.array(A)
    return rng.poisson(rng.gamma(1 / a, 2 * a, (n_trials, n_bins, D)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of all neurons seen, on counts that are the same noise in every bin."""
    folder = tmp_path_factory.mktemp("nb") / "run"
    settings = TINY | {"co_dim": 0, "batch_size": 50, "max_epochs": 150}
    return lfads.fit(
        overdispersed(), output_dist="negative_binomial", lfads_save_dir=str(folder), **settings
    )


def test_training_moves_dispersions_to_the_truth(run):
    found = run.model.readout_log_dispersion["session_session"].bias.detach().exp().numpy()
    near = np.abs(np.log(found / A)) < 0.5 * np.abs(np.log(START / np.array(A)))
    assert (near | (np.abs(np.log(found / A)) < 0.35)).all(), found
    assert (np.diff(found) > 0).all()


def test_rates_are_means_and_scores_are_those_of_counts(run):
    counts = overdispersed(20)
    for posterior in (run.posterior_push_mean(counts), run.posterior_sample_and_average(counts, 2)):
        assert posterior.rates.shape == counts.shape
        assert posterior.output_dist_params.shape == (20, 20, 2 * D)
        np.testing.assert_array_equal(posterior.rates, posterior.output_dist_params[..., :D])
        dispersion = posterior.output_dist_params[..., D:]
        np.testing.assert_allclose(dispersion, np.broadcast_to(dispersion[0, 0], counts.shape))
    assert run.prior_sample(3).rates.shape == (3, 20, D)
    assert {"valid/bits_per_spike", "valid/hidden_bits_per_spike"} <= run.scores.keys()
    data = np.asarray(posterior.rates)
    assert data.mean() == pytest.approx(2, abs=0.3)


def test_a_checkpoint_gives_the_same_and_has_the_dispersions(run):
    again = load(run.folder, "checkpoint_lve")
    weights = again.model_params()
    name = "LFADS/glm/fac_2_log_dispersions_session/b:0"
    assert weights[name].shape == (1, D)
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key


def test_parameters_of_counts_apply(tmp_path):
    settings = {"output_dist": "negative_binomial", "temporal_spike_jitter_width": 2}
    assert check(from_flat(settings | {"do_log_readout_bias": True})) == []
    with pytest.raises(LFADSError, match="expected whole counts"):
        lfads.fit(
            overdispersed(8) + 0.5,
            output_dist="negative_binomial",
            lfads_save_dir=str(tmp_path),
            max_epochs=1,
            **TINY,
        )


@pytest.mark.slow
def test_every_kind_and_the_report_know_it(tmp_path, reports):
    """Held-out neurons, forward bins, several sessions, a controller; both recurrences."""
    for name, d in (("a", D), ("b", 4)):
        counts = overdispersed(30, seed=d)[..., :d]
        write_session(tmp_path / f"nb_{name}.h5", train_data=counts[:20], valid_data=counts[20:])
    given = TINY | {
        "data_dir": str(tmp_path),
        "data_filename_stem": "nb",
        "output_dist": "negative_binomial",
        "held_out_neurons": 0.4,
        "forward_steps": 2,
        "coordinated_dropout_rate": 0.3,
        "sample_validation_rate": 0.1,
        "temporal_spike_jitter_width": 1,
        "num_posterior_samples": 3,
        "max_epochs": 2,
    }
    weights = []
    for recurrence, report in (("auto", True), ("reference", False)):
        folder = tmp_path / recurrence
        folder.mkdir()
        run_kind(from_flat(given | {"recurrence": recurrence, "report": report}), Run(folder))
        weights.append(load(folder).model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4)
    folder = tmp_path / "auto"
    scores = json.loads((folder / "scores.json").read_text())
    assert {"valid/co_bps", "valid/fp_bps", "valid/hidden_bits_per_spike"} <= scores.keys()
    page = (folder / "report.html").read_text()
    assert "mean rate" in page
    for kind in Kind:
        if kind is not Kind.train:
            run_kind(from_flat(given | {"kind": kind.name}), Run(folder))
    for kind in ("posterior_sample_and_average", "posterior_push_mean"):
        with h5py.File(folder / f"model_runs_a_valid_{kind}.h5") as file:
            dataset = file["output_dist_params"]
            assert dataset.shape == (10, 20, 2 * D)
            assert "then dispersions" in dataset.attrs["units"]
            assert "to_hz" not in dataset.attrs
    with h5py.File(folder / "model_runs_prior_sample.h5") as file:
        assert file["output_dist_params"].shape[1:] == (20, 2 * D)
    with h5py.File(folder / "model_params.h5") as file:
        assert file["LFADS_glm_fac_2_log_dispersions_b_b:0"].shape == (1, 4)
