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
from lfads_lightning.data.simulation import draw_gamma, draw_zero_inflated_gamma
from lfads_lightning.inference.trained import load
from lfads_lightning.model.observations import from_name
from lfads_lightning.model.observations.negative_binomial import START, log_likelihood
from lfads_lightning.model.observations.noise_model import Moments
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


def channels(*values):
    """Return (1, 1, D) in double precision."""
    return torch.tensor(values, dtype=torch.float64)[None, None]


SHAPES, SIZES = (0.05, 0.7, 3.0, 9.99, 10.01, 400.0), (0.01, 0.3, 1.0, 2.0, 9.0, 1e-4)
MEANS = (1e-3, 0.2, 1.0, 5.0, 40.0, 1e3)


def test_gamma_equals_torch():
    """Values from far below to far above the means; both precisions, and both forms."""
    noise, clip = from_name("gamma"), 80.0
    x, log_k, y = channels(*MEANS).log(), channels(*SHAPES).log(), channels(*MEANS)
    y = y * torch.tensor([1e-3, 0.3, 1.0, 1.7, 6.0], dtype=torch.float64)[:, None, None]
    made = torch.distributions.Gamma(log_k.exp(), (log_k - x).exp())
    theirs = -made.log_prob(y).sum((1, 2))
    torch.testing.assert_close(noise.nll(x, (log_k,), y, clip), theirs, rtol=1e-6, atol=1e-6)
    params = noise.params(x, (log_k,), clip)
    of_params = noise.nll_of_params(params.expand(5, 1, -1), y)
    torch.testing.assert_close(of_params, theirs, rtol=1e-6, atol=1e-6)
    single = noise.nll(x.float(), (log_k.float(),), y.float(), clip)
    torch.testing.assert_close(single.double(), theirs, rtol=1e-5, atol=1e-4)


def test_zero_inflated_gamma_equals_torch():
    noise, clip = from_name("zero_inflated_gamma"), 80.0
    x, log_s, log_k = (channels(*v).log() for v in (MEANS, SIZES, SHAPES))
    m, s = x.exp(), log_s.exp()
    y = (m + s) * torch.tensor([0.0, 1e-3, 0.3, 1.0, 6.0], dtype=torch.float64)[:, None, None]
    event = torch.distributions.Bernoulli(logits=x - log_s)
    size = torch.distributions.Gamma(log_k.exp(), log_k.exp() / (m + s))
    above = event.log_prob(torch.ones(())) + size.log_prob(torch.where(y > 0, y, 1.0))
    theirs = -torch.where(y > 0, above, event.log_prob(torch.zeros(()))).sum((1, 2))
    extras = log_s, log_k
    torch.testing.assert_close(noise.nll(x, extras, y, clip), theirs, rtol=1e-6, atol=1e-6)
    params = noise.params(x, extras, clip).expand(5, 1, -1)
    torch.testing.assert_close(noise.nll_of_params(params, y), theirs, rtol=1e-6, atol=1e-6)
    single = noise.nll(x.float(), tuple(e.float() for e in extras), y.float(), clip)
    torch.testing.assert_close(single.double(), theirs, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dist", ["gamma", "zero_inflated_gamma"])
def test_gradients_are_finite_far_away(dist):
    """Shapes on both sides of Stirling's series, zeros, values and read-outs out of all bounds."""
    noise = from_name(dist)
    for value in (0.0, 1e-30, 1.0, 1e30):
        x = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0])[None, None].requires_grad_()
        extras = [x.detach().clone().requires_grad_() for _ in noise.extras]
        noise.nll(x, tuple(extras), torch.full((1, 1, 5), value), 80.0).sum().backward()
        assert all(torch.isfinite(v.grad).all() for v in (x, *extras)), value


@pytest.mark.parametrize("dist", ["gaussian", "gamma", "zero_inflated_gamma"])
def test_draws_have_the_mean_and_moments_give_the_parameters_back(dist):
    rng, (m, s, k) = np.random.default_rng(0), (np.array([0.2, 1.0, 5.0]), 0.5, 3.0)
    m = np.broadcast_to(m, (200_000, 3))
    drawn, truth = {
        "gaussian": lambda: (rng.normal(m, 2.0), [np.log(4.0)]),
        "gamma": lambda: (draw_gamma(rng, m, k), [np.log(k)]),
        "zero_inflated_gamma": lambda: (
            draw_zero_inflated_gamma(rng, m, s, k), [np.log(s), np.log(k)]
        ),
    }[dist]()  # fmt: skip
    y, noise = torch.as_tensor(drawn, dtype=torch.float64), from_name(dist)
    moments = Moments(y.mean(0), y.var(0), (y != 0).double().mean(0))
    starts = noise.start_extras(moments)
    for start, true in zip(starts, truth, strict=True):
        torch.testing.assert_close(start, torch.full_like(start, true), rtol=0, atol=0.05)
    x = noise.start_bias(moments.mean, do_log=True)
    params = noise.params(x[None, None], starts, 80.0)
    torch.testing.assert_close(
        noise.mean(params)[0, 0], torch.as_tensor(m[0].copy()), rtol=0.02, atol=0.01
    )
    # the right parameters are the likeliest: the slope is 0 there
    x = x[None, None].requires_grad_()
    (slope,) = torch.autograd.grad(noise.nll(x, starts, y[None], 80.0).sum() / len(y), x)
    assert slope.abs().max() < 0.02


@pytest.mark.parametrize("dist", ["gaussian", "gamma", "zero_inflated_gamma"])
def test_a_spread_per_neuron_is_one_number_of_each(new_model, spikes, dist):
    model = new_model(output_dist=dist, spread_per="neuron")
    output = model(spikes, "a")
    for layers in model.extra_readouts.values():
        assert [tuple(p.shape) for p in layers.parameters()] == [(D,)]
    n = len(model.noise_model.parameters)
    last = output.output_dist_params.unflatten(2, (n, D))[:, :, -1]  # variances or shapes
    assert torch.equal(last, last[:1, :1].expand_as(last))


@pytest.mark.parametrize(
    ("dist", "value", "told"),
    [
        ("gamma", 0.0, "is 0.0; .*takes values above 0.*output_dist=zero_inflated_gamma"),
        ("gamma", -0.5, "is -0.5; .*takes values above 0.*below 0 set model.output_dist=gaussian"),
        ("zero_inflated_gamma", -0.5, "is -0.5; .*takes values of 0 or more.*=gaussian"),
    ],
)
def test_values_out_of_range_are_refused_at_the_door(tmp_path, dist, value, told):
    data = np.ones((6, 5, 4))
    data[2, 1, 3] = value
    with pytest.raises(LFADSError, match=rf"train_data\[2, 1, 3\] {told}"):
        lfads.fit(data, valid_fraction=0, output_dist=dist, lfads_save_dir=str(tmp_path), **TINY)


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


def trained_on_noise(folder, max_epochs):
    """Train on counts that are the same noise in every bin."""
    settings = TINY | {"co_dim": 0, "batch_size": 50, "max_epochs": max_epochs}
    return lfads.fit(
        overdispersed(), output_dist="negative_binomial", lfads_save_dir=str(folder), **settings
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few epochs."""
    return trained_on_noise(tmp_path_factory.mktemp("nb") / "run", 5)


@pytest.mark.slow
def test_training_moves_dispersions_to_the_truth(tmp_path):
    run = trained_on_noise(tmp_path / "run", 150)
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
