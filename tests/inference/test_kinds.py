"""The kinds other than train, as methods of a trained model, and as files; models in and out."""

import json
import math
import re

import h5py
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from scipy.special import gammaln

from lfads_lightning import interop, params
from lfads_lightning.cli.kinds import run_kind
from lfads_lightning.config import LFADSError
from lfads_lightning.data.session_files import write_session
from lfads_lightning.inference import posterior as posterior_module
from lfads_lightning.inference.outputs import write_model_params
from lfads_lightning.inference.posterior import Posterior, Prior
from lfads_lightning.inference.trained import TrainedModel, load
from lfads_lightning.runs.run import Run

PARITY = ROOT / "tests/model/parity"
PUSH_MEAN_CASES = sorted(PARITY.glob("*__posterior_push_mean.npz"))
TRAIN_CASES = sorted(PARITY.glob("*__train.npz"))
# what depends on the samples that were drawn, in posterior_push_mean too
SAMPLED = {"costs", "nll_bound_vaes", "nll_bound_iwaes", "nll_bound_iwaes_true"}
STRUCTURES = {
    "controller and code": {},
    "no controller": {"co_dim": 0},
    "no code": {"ic_dim": 0},
    "neither": {"ic_dim": 0, "co_dim": 0},
    "Gaussian": {"output_dist": "gaussian"},
}


@pytest.fixture
def new_trained(new_model, new_config):
    """Make a model as if trained for seven updates; arguments as those of ``new_model``."""

    def make(neurons=None, *, n_bins=8, aligned=False, **parameters):
        model = new_model(neurons, aligned=aligned, **parameters)
        return TrainedModel(model, new_config(**parameters), n_bins, step=7)

    return make


def given(result):
    """Return the arrays of a result by name, without the parts that the model has not."""
    return {name: array for name, array in result._asdict().items() if array is not None}


def assert_equal(ours, theirs, names=None, **tolerance):
    ours, theirs = given(ours), given(theirs)
    assert ours.keys() == theirs.keys()
    for name in names or ours.keys():
        np.testing.assert_allclose(ours[name], theirs[name], err_msg=name, **tolerance)


# --- posterior_push_mean ---------------------------------------------------------------------


@pytest.mark.parametrize("parameters", STRUCTURES.values(), ids=STRUCTURES)
def test_push_mean_is_deterministic(new_trained, counts, parameters):
    trained = new_trained(**parameters)
    assert_equal(trained.posterior_push_mean(counts), trained.posterior_push_mean(counts), rtol=0)


def test_push_mean_does_not_depend_on_the_seed(new_trained, counts):
    trained = new_trained()
    first = trained.posterior_push_mean(counts)
    trained.config.seed = 1
    second = trained.posterior_push_mean(counts)
    assert_equal(first, second, given(first).keys() - SAMPLED, rtol=0)
    assert not np.array_equal(first.costs, second.costs)  # the input KL is at one sample


@pytest.mark.parametrize("parameters", STRUCTURES.values(), ids=STRUCTURES)
def test_push_mean_of_a_trial_does_not_depend_on_the_others(new_trained, counts, parameters):
    trained = new_trained(**parameters)
    together = trained.posterior_push_mean(counts[:5])
    names = given(together).keys() - (SAMPLED if trained.config.model.co_dim else set())
    for i in range(5):
        alone = trained.posterior_push_mean(counts[i : i + 1])
        row = Posterior(*(None if a is None else a[i : i + 1] for a in together))
        assert_equal(alone, row, names, rtol=2e-5, atol=1e-6)


def test_push_mean_does_not_depend_on_the_rows_at_once(new_trained, counts, monkeypatch):
    trained = new_trained(co_dim=0)
    whole = trained.posterior_push_mean(counts)
    monkeypatch.setattr(posterior_module, "_rows_at_once", lambda *_: 5)
    assert_equal(trained.posterior_push_mean(counts), whole, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("path", PUSH_MEAN_CASES, ids=lambda p: p.stem)
def test_push_mean_equals_the_original(path):
    arrays = dict(np.load(path))
    hps = json.loads(str(arrays["hps"]))
    variables = {k[3:]: v for k, v in arrays.items() if k.startswith("w0/")}
    trained = interop.from_original(variables, hps)
    names = hps["dataset_names"]
    ext = {n: arrays[f"train_ext_input/{n}"][:4] for n in names if f"train_ext_input/{n}" in arrays}
    results = trained.posterior_push_mean(
        {n: arrays[f"data/{n}"][:4] for n in names}, ext_input=ext or None
    )
    theirs_of = {
        "gen_ics": "gen_ics",
        "gen_states": "gen_states",
        "factors": "factors",
        "output_dist_params": "output_dist_params",
        "controller_outputs": "u",
        "post_g0_mean": "g0_mean",
        "post_g0_logvar": "g0_logvar",
        "prior_g0_mean": "g0_prior_mean",
        "prior_g0_logvar": "g0_prior_logvar",
    }
    for session in names:
        ours = given(results[session])
        theirs = {n: arrays.get(f"fwd/{session}/{t}") for n, t in theirs_of.items()}
        assert set(theirs_of) & ours.keys() == {n for n, a in theirs.items() if a is not None}
        for name in set(theirs_of) & ours.keys():
            scale = max(1, np.abs(theirs[name]).max())
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5 * scale)
        # the original gives each trial the mean of its batch; without inputs no sample enters
        if hps["co_dim"] == 0:
            bound = ours["nll_bound_vaes"].mean()
            np.testing.assert_allclose(bound, arrays[f"fwd/{session}/nll_vae"], rtol=1e-5)


# --- posterior_sample_and_average ------------------------------------------------------------


@pytest.mark.parametrize("parameters", STRUCTURES.values(), ids=STRUCTURES)
def test_one_sample_of_one_trial_is_a_direct_call(new_trained, counts, parameters):
    trained = new_trained(seed=3, **parameters)
    post = trained.posterior_sample_and_average(counts[:1], num_samples=1)
    noise = trained.model.draw_noise(1, 8, torch.Generator().manual_seed(3))
    with torch.no_grad():
        direct = trained.model(torch.tensor(counts[:1]), "a", noise=noise)
    expected = {
        "output_dist_params": direct.output_dist_params,
        "factors": direct.states.factors,
        "gen_states": direct.states.gen_states,
        "gen_ics": direct.gen_ics,
        "controller_outputs": direct.states.co_samples,
        "post_g0_mean": direct.encoding.ic_mean,
        "post_g0_logvar": direct.encoding.ic_logvar,
    }
    for name, theirs in expected.items():
        ours = getattr(post, name)
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            theirs = theirs.detach()
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=name)


def direct_samples(trained, data, n):
    """Return n posterior samples of each trial, {name: (n, E, ...)}, from the model itself."""
    repeated = torch.tensor(data).repeat(n, 1, 1)
    noise = trained.model.draw_noise(*repeated.shape[:2], torch.Generator().manual_seed(99))
    with torch.no_grad():
        out = trained.model(repeated, "a", noise=noise)
    draws = {
        "output_dist_params": out.output_dist_params,
        "factors": out.states.factors,
        "gen_states": out.states.gen_states,
        "gen_ics": out.gen_ics,
        "controller_outputs": out.states.co_samples,
    }
    return {k: v.unflatten(0, (n, len(data))).numpy() for k, v in draws.items()}


@pytest.mark.parametrize("rows_at_once", [512, 70, 1], ids="{} rows at once".format)
def test_averages_converge_to_the_posterior_mean(new_trained, counts, monkeypatch, rows_at_once):
    """Within Monte Carlo error of an independent average, whatever the seed and the passes."""
    monkeypatch.setattr(posterior_module, "_rows_at_once", lambda *_: rows_at_once)
    n = 100 if rows_at_once == 1 else 600
    trained, data = new_trained(seed=rows_at_once), counts[:2]
    post = trained.posterior_sample_and_average(data, num_samples=n)
    for name, draws in direct_samples(trained, data, 300).items():
        error = draws.std(0) * math.sqrt(1 / n + 1 / len(draws))
        z = (getattr(post, name) - draws.mean(0)) / error
        assert np.abs(z).max() < 5, name
        assert 0.3 < z.std() < 2, name  # the same average, with other samples


def test_averages_and_spread_are_those_of_the_samples_drawn(new_trained, counts, monkeypatch):
    """In passes of other sizes; the samples themselves are caught on their way."""
    trained, drawn = new_trained(), []
    monkeypatch.setattr(posterior_module, "_rows_at_once", lambda *_: 3 * 4)
    decode = trained.model.decode
    monkeypatch.setattr(
        trained.model, "decode", lambda *a, **k: drawn.append(decode(*a, **k)) or drawn[-1]
    )
    post = trained.posterior_sample_and_average(counts[:4], num_samples=8)
    assert [len(out.gen_ics) for out in drawn] == [12, 12, 8]
    rates = torch.cat([out.output_dist_params.unflatten(0, (-1, 4)) for out in drawn]).numpy()
    inputs = torch.cat([out.states.co_samples.unflatten(0, (-1, 4)) for out in drawn]).numpy()
    np.testing.assert_allclose(post.rates, rates.mean(0), rtol=1e-5)
    np.testing.assert_allclose(post.output_dist_params_sd, rates.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(post.controller_outputs_sd, inputs.std(0, ddof=1), rtol=1e-4)


def test_spread_of_one_sample_is_not_a_number(new_trained, counts):
    post = new_trained().posterior_sample_and_average(counts, num_samples=1)
    assert np.isnan(post.factors_sd).all()
    assert new_trained().posterior_push_mean(counts).factors_sd is None


def test_two_seeds_give_means_within_monte_carlo_error(new_trained, counts):
    trained, n = new_trained(), 800
    first = trained.posterior_sample_and_average(counts[:3], num_samples=n)
    trained.config.seed = 1
    second = trained.posterior_sample_and_average(counts[:3], num_samples=n)
    for name, draws in direct_samples(trained, counts[:3], 100).items():
        ours, theirs = getattr(first, name), getattr(second, name)
        assert not np.array_equal(ours, theirs)
        assert (np.abs(ours - theirs) < 6 * draws.std(0) * math.sqrt(2 / n)).all(), name


def test_same_seed_gives_the_same_samples(new_trained, counts):
    trained = new_trained()
    first, second = (trained.posterior_sample_and_average(counts, num_samples=3) for _ in "ab")
    assert_equal(first, second, rtol=0)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, 12), ({"batch_size": 4}, 4), ({"batch_size": 4, "num_posterior_samples": 2}, 2)],
)
def test_number_of_samples_is_batch_size_unless_given(new_trained, counts, parameters, expected):
    trained = new_trained(**parameters)
    default = trained.posterior_sample_and_average(counts)
    named = trained.posterior_sample_and_average(counts, num_samples=expected)
    other = trained.posterior_sample_and_average(counts, num_samples=expected + 1)
    assert_equal(default, named, rtol=0)
    assert not np.array_equal(default.rates, other.rates)


@pytest.mark.parametrize("n", [-1, 0, 1.5, True])
def test_number_of_samples_is_positive(new_trained, counts, n):
    with pytest.raises(LFADSError, match="num_samples"):
        new_trained().posterior_sample_and_average(counts, num_samples=n)


@pytest.mark.parametrize("parameters", STRUCTURES.values(), ids=STRUCTURES)
def test_shapes_and_missing_parts(new_trained, counts, parameters):
    trained = new_trained(**parameters)
    gaussian = "output_dist" in parameters
    sizes = {"co_dim": 2, "ic_dim": 4} | parameters
    expected = {
        "rates": (12, 8, 5),
        "output_dist_params": (12, 8, 10 if gaussian else 5),
        "factors": (12, 8, 3),
        "gen_states": (12, 8, 6),
        "gen_ics": (12, 6),
        "controller_outputs": (12, 8, 2) if sizes["co_dim"] else None,
    }
    expected |= dict.fromkeys(
        ("post_g0_mean", "post_g0_logvar", "prior_g0_mean", "prior_g0_logvar"),
        (12, 4) if sizes["ic_dim"] else None,
    )
    expected |= dict.fromkeys((*SAMPLED, "train_steps"), (12,))
    spread = ("output_dist_params", "factors", "controller_outputs")
    for post, has_spread in (
        (trained.posterior_push_mean(counts), False),
        (trained.posterior_sample_and_average(counts, num_samples=2), True),
    ):
        expected |= {f"{name}_sd": expected[name] if has_spread else None for name in spread}
        # of its posterior, where there are no samples
        expected["controller_outputs_sd"] = expected["controller_outputs"]
        assert {n: None if a is None else a.shape for n, a in post._asdict().items()} == expected
        assert (post.train_steps == 7).all()
        np.testing.assert_array_equal(post.rates, post.output_dist_params[..., :5])


def test_push_mean_has_no_importance_weighted_bound(new_trained, counts):
    post = new_trained().posterior_push_mean(counts)
    assert np.isnan(post.nll_bound_iwaes).all()
    assert np.isnan(post.nll_bound_iwaes_true).all()


# --- bounds ----------------------------------------------------------------------------------


def test_importance_weighted_bounds_are_below_the_vae_bound(new_trained, counts):
    post = new_trained().posterior_sample_and_average(counts, num_samples=300)
    # the original's differs by Jensen's inequality alone, in every trial
    assert (post.nll_bound_iwaes < post.nll_bound_vaes).all()
    assert post.nll_bound_iwaes_true.mean() < post.nll_bound_vaes.mean()


def test_true_bound_tightens_with_samples(new_trained, counts):
    trained = new_trained()
    means = [
        trained.posterior_sample_and_average(counts, num_samples=n).nll_bound_iwaes_true.mean()
        for n in (1, 10, 400)
    ]
    assert means[0] > means[1] > means[2]


def test_bounds_are_equal_for_one_sample(new_trained, counts):
    """Without a code both KL terms are those of the sample, so nothing is left to average."""
    post = new_trained(ic_dim=0).posterior_sample_and_average(counts, num_samples=1)
    np.testing.assert_allclose(post.nll_bound_iwaes, post.nll_bound_vaes, rtol=1e-6)
    np.testing.assert_allclose(post.nll_bound_iwaes_true, post.nll_bound_vaes, rtol=1e-5)


def test_true_bound_is_the_likelihood_where_nothing_reaches_the_rates(new_trained, counts):
    """If z and u do nothing, log p(x) is known; the VAE bound stays above it by the KL."""
    trained = new_trained()
    model = trained.model
    with torch.no_grad():
        model.ic_to_gen.weight.zero_()
        model.generator.input_gates.zero_()
        model.generator.input_candidate.zero_()
        model.co_prior.log_tau.fill_(-2.0)  # no memory between bins: p(u) factorises
        # q is p, moved by a fraction of its sd: the weights of the samples are even
        z_logvar, u_logvar = model.ic_prior.logvar(), model.co_prior.process_logvar()
        for mean, logvar in ((model.ic_mean, model.ic_logvar), (model.co_mean, model.co_logvar)):
            mean.weight.zero_()
            logvar.weight.zero_()
        model.ic_mean.bias.copy_(model.ic_prior.mean + 0.3 * (0.5 * z_logvar).exp())
        model.ic_logvar.bias.copy_((z_logvar.exp() - model.config.ic_post_var_min).log())
        model.co_mean.bias.copy_(0.2 * (0.5 * u_logvar).exp())
        model.co_logvar.bias.copy_(u_logvar)
    data = counts[:4]
    post = trained.posterior_sample_and_average(data, num_samples=4000)
    rates = post.rates.astype(np.float64)
    exact = (rates - data * np.log(rates) + gammaln(data + 1)).sum((1, 2))
    kl = (4 * 0.3**2 + 8 * 2 * 0.2**2) / 2
    np.testing.assert_allclose(post.nll_bound_iwaes_true, exact, rtol=0, atol=0.1)
    np.testing.assert_allclose(post.nll_bound_vaes, exact + kl, rtol=0, atol=0.1)


# --- prior_sample ----------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", STRUCTURES.values(), ids=STRUCTURES)
def test_prior_shapes(new_trained, parameters):
    prior = new_trained(**parameters).prior_sample(10)
    sizes = {"co_dim": 2, "ic_dim": 4} | parameters
    code = (10, 4) if sizes["ic_dim"] else None
    assert {n: None if a is None else a.shape for n, a in prior._asdict().items()} == {
        "rates": (10, 8, 5),
        "output_dist_params": (10, 8, 10 if "output_dist" in parameters else 5),
        "factors": (10, 8, 3),
        "gen_states": (10, 8, 6),
        "gen_ics": (10, 6),
        "prior_zs_ar_con": (10, 8, 2) if sizes["co_dim"] else None,
        "prior_g0_mean": code,
        "prior_g0_logvar": code,
    }


def test_prior_trials_differ_where_something_is_random(new_trained):
    for parameters in ({}, {"co_dim": 0}, {"ic_dim": 0}):
        rates = new_trained(**parameters).prior_sample(4).rates
        assert np.ptp(rates, axis=0).max() > 1e-3
    assert np.ptp(new_trained(ic_dim=0, co_dim=0).prior_sample(4).rates, axis=0).max() == 0


def test_prior_draws_follow_the_seed(new_trained):
    trained = new_trained()
    first, second = trained.prior_sample(4), trained.prior_sample(4)
    assert_equal(first, second, rtol=0)
    trained.config.seed = 1
    assert not np.array_equal(trained.prior_sample(4).rates, first.rates)


@pytest.mark.parametrize(
    ("parameters", "n"),
    [({}, 12), ({"batch_size": 4}, 4), ({"batch_size": 4, "num_prior_samples": 3}, 3)],
)
def test_number_of_prior_trials_is_batch_size_unless_given(new_trained, parameters, n):
    assert new_trained(**parameters).prior_sample().rates.shape == (n, 8, 5)


def test_prior_takes_the_asked_number_of_bins(new_trained):
    trained = new_trained(n_bins=None)
    assert trained.prior_sample(2, n_bins=11).rates.shape == (2, 11, 5)
    with pytest.raises(LFADSError, match="n_bins"):
        trained.prior_sample(2)


def test_prior_uses_the_asked_session(new_trained):
    trained = new_trained({"b": 6, "a": 5, "c": 4})
    assert trained.prior_sample(2).rates.shape == (2, 8, 5)  # the first by name
    assert trained.prior_sample(2, session="c").rates.shape == (2, 8, 4)
    trained.config.sampling.session = "b"
    assert trained.prior_sample(2).rates.shape == (2, 8, 6)
    with pytest.raises(LFADSError, match=r"'d'.*trained on 'b' \(6 neurons\), 'a'"):
        trained.prior_sample(2, session="d")


def test_prior_paths_are_the_trained_process(new_trained):
    trained, n = new_trained(co_dim=2), 5000
    u = trained.prior_sample(n).prior_zs_ar_con.astype(np.float64)
    prior = trained.model.co_prior
    phi = prior.phi().detach().numpy()
    variance = prior.process_logvar().exp().detach().numpy()
    np.testing.assert_allclose(u.mean((0, 1)), 0, atol=5 * math.sqrt(variance.max() / n))
    # stationary from the first bin to the last
    np.testing.assert_allclose(u.var(0), np.broadcast_to(variance, (8, 2)), rtol=5 * (2 / n) ** 0.5)
    lagged = (u[:, 1:] * u[:, :-1]).mean((0, 1)) / variance
    np.testing.assert_allclose(lagged, phi, atol=5 / math.sqrt(n))
    between = np.corrcoef(u[:, 0].T)[0, 1]
    assert abs(between) < 5 / math.sqrt(n)


def test_prior_start_states_are_draws_from_the_code_prior(new_trained):
    n = 5000
    prior = new_trained(ic_dim=6).prior_sample(n)  # Z = G: the code itself is the start state
    mean, sd = prior.prior_g0_mean[0], np.exp(0.5 * prior.prior_g0_logvar[0])
    assert np.ptp(prior.prior_g0_mean, axis=0).max() == 0
    assert (np.abs(prior.gen_ics.mean(0) - mean) < 5 * sd / math.sqrt(n)).all()
    np.testing.assert_allclose(prior.gen_ics.std(0), sd, rtol=5 / math.sqrt(2 * n))


def test_prior_is_driven_by_its_paths_and_start_states(new_trained):
    """Run backwards, so to speak: the same states and inputs give the same trial again."""
    trained = new_trained(ic_dim=6)
    prior = trained.prior_sample(3)
    with torch.no_grad():
        z, u = torch.tensor(prior.gen_ics), torch.tensor(prior.prior_zs_ar_con)
        _, states, rates = trained.model.generate(z, u, "a", None, 8)
        still = trained.model.generate(z, 0 * u, "a", None, 8)[2]
    np.testing.assert_allclose(prior.gen_states, states.gen_states, rtol=1e-6)
    np.testing.assert_allclose(prior.rates, rates, rtol=1e-6)
    assert not np.allclose(prior.rates, still, rtol=1e-3)


def test_prior_takes_external_inputs_where_they_are_injected(new_trained):
    trained = new_trained(ext_input_dim=2, inject_ext_input_to_gen=True)
    ext = np.zeros((3, 8, 2))
    off = trained.prior_sample(3, ext_input=ext).rates
    ext[1, 4] = 5.0
    on = trained.prior_sample(3, ext_input=ext).rates
    changed = np.abs(on - off).max(2) > 1e-6
    assert changed[1, 4:].all()
    assert not changed[1, :4].any()
    assert not changed[[0, 2]].any()


@pytest.mark.parametrize(
    ("parameters", "ext_shape", "message"),
    [
        ({"ext_input_dim": 2, "inject_ext_input_to_gen": True}, None, "missing"),
        ({"ext_input_dim": 2, "inject_ext_input_to_gen": True}, (3, 8, 1), r"\(3, 8, 1\)"),
        ({"ext_input_dim": 2, "inject_ext_input_to_gen": True}, (2, 8, 2), r"\(2, 8, 2\)"),
        ({"ext_input_dim": 2}, (3, 8, 2), "do not reach"),
        ({}, (3, 8, 2), "do not reach"),
    ],
)
def test_prior_refuses_unfit_external_inputs(new_trained, parameters, ext_shape, message):
    ext = None if ext_shape is None else np.zeros(ext_shape)
    with pytest.raises(LFADSError, match=message):
        new_trained(**parameters).prior_sample(3, ext_input=ext)


# --- data in, results out --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["posterior_push_mean", "posterior_sample_and_average"])
def test_results_come_in_the_form_of_the_data(new_trained, counts, kind):
    method = getattr(new_trained(), kind)
    one, many = method(counts), method({"a": counts})
    assert isinstance(one, Posterior)
    assert list(many) == ["a"]
    assert_equal(one, many["a"], rtol=0)


def test_model_of_one_session_takes_data_of_any_name(new_trained, counts):
    trained = new_trained()
    result = trained.posterior_push_mean({"yesterday": counts})
    assert_equal(next(iter(result.values())), trained.posterior_push_mean(counts), rtol=0)


def test_result_comes_under_the_name_that_the_data_had(new_trained, counts):
    assert list(new_trained().posterior_push_mean({"yesterday": counts})) == ["yesterday"]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "uint16", "float32", "float64", "bool"])
def test_type_of_the_counts_does_not_matter(new_trained, counts, dtype):
    trained, spikes = new_trained(), np.minimum(counts, 1)
    ours = trained.posterior_push_mean(spikes.astype(dtype))
    assert_equal(ours, trained.posterior_push_mean(spikes), rtol=0)


def test_lists_are_arrays_too(new_trained, counts):
    trained = new_trained()
    ours = trained.posterior_push_mean(counts.tolist())
    assert_equal(ours, trained.posterior_push_mean(counts), rtol=0)


def test_two_sessions_are_told_apart(new_trained, counts):
    trained = new_trained({"a": 5, "b": 4})
    both = trained.posterior_push_mean({"b": counts[..., :4], "a": counts})
    assert {n: r.rates.shape for n, r in both.items()} == {"a": (12, 8, 5), "b": (12, 8, 4)}
    alone = trained.posterior_push_mean({"b": counts[:3, :, :4]})
    assert list(alone) == ["b"]
    np.testing.assert_allclose(alone["b"].rates, both["b"].rates[:3], rtol=1e-5)


def test_each_session_goes_through_its_own_read_in_and_read_out(new_trained, counts):
    trained = new_trained({"a": 5, "b": 5})
    both = trained.posterior_push_mean({"a": counts, "b": counts})
    assert not np.allclose(both["a"].factors, both["b"].factors, rtol=1e-3)
    assert not np.allclose(both["a"].rates, both["b"].rates, rtol=1e-3)


def test_external_inputs_come_in_the_form_of_the_data(new_trained, counts):
    trained = new_trained(ext_input_dim=2)
    ext = np.random.default_rng(1).normal(size=(12, 8, 2))
    one = trained.posterior_push_mean(counts, ext_input=ext)
    many = trained.posterior_push_mean({"a": counts}, ext_input={"a": ext})
    assert_equal(one, many["a"], rtol=0)
    assert not np.allclose(trained.posterior_push_mean(counts, ext_input=0 * ext).rates, one.rates)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((3, 8, 4)), "has 4 neurons, but the model's session 'a' has 5"),
        ({"b": np.ones((3, 8, 5))}, "has no session 'b'"),
        (np.ones((3, 8, 5)), "data is one array, .*'a' .*'c'"),
        (np.ones((3, 5)), "2 dimensions"),
        ({"a": np.full((3, 8, 5), 0.5)}, "whole counts"),
        ({"a": np.full((3, 8, 5), -1)}, "negative"),
        ({"a": np.full((3, 8, 5), np.nan)}, "all entries of trial 0"),
        ({"a": np.full((3, 8, 5), np.inf)}, "finite"),
        ({"a": np.ones((0, 8, 5))}, "empty"),
        ({}, "at least one session"),
    ],
)
@pytest.mark.parametrize("kind", ["posterior_push_mean", "posterior_sample_and_average"])
def test_unfit_data_are_refused(new_trained, kind, data, message):
    one_session = isinstance(data, np.ndarray) and data.shape != (3, 8, 5)
    trained = new_trained({"a": 5} if one_session else {"a": 5, "c": 6})
    with pytest.raises(LFADSError, match=message):
        getattr(trained, kind)(data)


@pytest.mark.parametrize("shape", [None, (12, 8, 3), (11, 8, 2)])
def test_unfit_external_inputs_are_refused(new_trained, counts, shape):
    ext = None if shape is None else np.zeros(shape)
    with pytest.raises(LFADSError, match=r"train_ext_input is .*12×8×2"):
        new_trained(ext_input_dim=2).posterior_push_mean(counts, ext_input=ext)


# --- names of the original, and its models ---------------------------------------------------


@pytest.mark.parametrize("path", TRAIN_CASES, ids=lambda p: p.stem)
def test_model_params_are_named_and_shaped_as_the_originals(path):
    arrays = np.load(path)
    variables = {k[3:]: arrays[k] for k in arrays if k.startswith("w0/")}
    ours = interop.from_original(variables, str(arrays["hps"])).model_params()
    expected = {n for n in map(str, arrays["all_vars"]) if not re.search("Adam|beta._power", n)}
    assert set(ours) == expected - {"LFADS/global_step:0", "LFADS/learning_rate:0"}
    for name, array in ours.items():
        np.testing.assert_array_equal(array, variables[name], err_msg=name, strict=True)


@pytest.fixture
def original():
    """A model of the original, two sessions: variables, parameters, and its data."""
    arrays = dict(np.load(PARITY / "H_poisson_multisession_random__train.npz"))
    variables = {k[3:]: v for k, v in arrays.items() if k.startswith("w0/")}
    data = {k.removeprefix("data/"): v for k, v in arrays.items() if k.startswith("data/")}
    return variables, json.loads(str(arrays["hps"])), data


def with_slots(variables):
    """Add what a training graph holds besides: Adam's moments and powers."""
    slots = {}
    for name, array in variables.items():
        if name not in {"LFADS/global_step:0", "LFADS/learning_rate:0"}:
            slots[f"LFADS/{name[:-2]}/Adam:0"] = 0 * array
            slots[f"LFADS/{name[:-2]}/Adam_1:0"] = 0 * array
    return variables | slots | {"LFADS/beta1_power:0": 0.9, "LFADS/beta2_power:0": 0.999}


def underscored(variables):
    return {name.replace("/", "_"): array for name, array in variables.items()}


@pytest.mark.parametrize(
    "spelled",
    [underscored, with_slots, lambda v: underscored(with_slots(v))],
    ids=["underscores", "slashes and slots", "underscores and slots"],
)
def test_variables_are_taken_under_every_spelling(original, spelled):
    variables, hps, data = original
    expected = interop.from_original(variables, hps).posterior_push_mean(data)
    ours = interop.from_original(spelled(variables), hps).posterior_push_mean(data)
    for session in data:
        assert_equal(ours[session], expected[session], rtol=0)


def test_hyper_parameters_are_taken_as_json(original):
    variables, hps, data = original
    text = json.dumps({k: str(v).lower() if isinstance(v, bool) else v for k, v in hps.items()})
    trained = interop.from_original(variables, text)
    assert trained.config.model.gen_dim == hps["gen_dim"]
    assert trained.config.model.do_causal_controller is hps["do_causal_controller"]
    assert trained.n_bins == hps["num_steps"]
    assert trained.step == variables["LFADS/global_step:0"]
    expected = interop.from_original(variables, hps).posterior_push_mean(data)
    assert_equal(trained.posterior_push_mean(data)["s0"], expected["s0"], rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("LFADS/gen/gen_2_fac/W:0"), r"LFADS/gen/gen_2_fac/W:0 is missing"),
        (lambda v: v.pop("LFADS/x_2_infac_s1/b:0"), r"x_2_infac_s1/b:0 is missing"),
        (lambda v: v.update({"LFADS/new:0": np.ones(3)}), r"'new'.*have no place"),
        (lambda v: v.update({"LFADS/gen/gen_2_fac/W:0": np.ones((2, 3))}), r"\(2, 3\).*\(7, 3\)"),
    ],
    ids=["missing", "missing of a session", "extra", "misshapen"],
)
def test_variables_that_do_not_fit_are_refused(original, change, message):
    variables, hps, _ = original
    change(variables)
    with pytest.raises(LFADSError, match=message):
        interop.from_original(variables, hps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gen_dim": 8}, r"is \(.*requires? \("),
        ({"co_dim": 0}, "have no place"),
        ({"gen_dimm": 8}, "gen_dimm"),
        ({"dataset_names": ["s0", "s2"]}, "s2"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(original, change, message):
    variables, hps, _ = original
    with pytest.raises(LFADSError, match=message):
        interop.from_original(variables, hps | change)


def test_damaged_hyper_parameters_are_refused(original):
    with pytest.raises(LFADSError):
        interop.from_original(original[0], "{gen_dim: 7")


def read_back(path):
    """Make a model of a model_params file alone, by way of the names of the original."""
    with h5py.File(path) as file:
        arrays = {name: file[name][()] for name in file}
        config = params.from_dict(yaml.safe_load(file.attrs["config"]))
    flat = {n: params.flat_value(config, n) for n in params.dotted_names()}
    text = json.dumps({n: getattr(v, "name", v) for n, v in flat.items()})
    return interop.from_original(arrays, text)


@pytest.mark.parametrize("parameters", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("neurons", [{"a": 5}, {"day_1": 5, "b.2 W%": 5}], ids=["one", "two"])
def test_model_params_file_gives_the_same_model_again(
    new_trained, counts, tmp_path, neurons, parameters
):
    trained = new_trained(neurons, **parameters)
    path = write_model_params(trained, trained.config, tmp_path, {})
    again = read_back(path)
    assert path.name == "model_params.h5"
    assert again.step == trained.step
    assert set(again.sessions) == set(neurons)
    data = dict.fromkeys(neurons, counts)
    ours, theirs = again.posterior_push_mean(data), trained.posterior_push_mean(data)
    for session in neurons:
        assert_equal(ours[session], theirs[session], rtol=0)


@pytest.mark.parametrize("legacy", [True, False])
def test_model_params_file_keeps_a_trained_prior_variance(new_trained, tmp_path, legacy):
    trained = new_trained(ic_prior_var_max=0.7, do_legacy_ic_prior_var=legacy)
    again = read_back(write_model_params(trained, trained.config, tmp_path, {}))
    with torch.no_grad():
        ours, theirs = again.model.ic_prior.logvar(), trained.model.ic_prior.logvar()
    np.testing.assert_array_equal(ours, theirs)


# --- saving and loading ----------------------------------------------------------------------


@pytest.mark.parametrize("parameters", STRUCTURES.values(), ids=STRUCTURES)
def test_saved_model_is_loaded_as_it_was(new_trained, counts, tmp_path, parameters):
    trained = new_trained({"a.1": 5}, **parameters)
    assert trained.save(tmp_path / "run") == tmp_path / "run"
    again = load(tmp_path / "run")
    assert again.config == trained.config
    assert again.sessions == trained.sessions
    assert (again.step, again.n_bins, again.folder) == (7, 8, tmp_path / "run")
    assert_equal(again.posterior_push_mean(counts), trained.posterior_push_mean(counts), rtol=0)
    assert_equal(again.prior_sample(3), trained.prior_sample(3), rtol=0)


def test_double_precision_survives_saving(new_trained, counts, tmp_path):
    trained = new_trained(precision="float64")
    trained.model.double()
    again = load(trained.save(tmp_path / "run"))
    assert again.model.factor_weight.dtype is torch.float64
    assert again.posterior_push_mean(counts).rates.dtype == np.float64


def test_model_is_not_saved_over_a_run(new_trained, tmp_path):
    first, second = new_trained(), new_trained(gen_dim=7)
    first.save(tmp_path)
    with pytest.raises(LFADSError, match="already holds a run"):
        second.save(tmp_path)
    assert load(tmp_path).config.model.gen_dim == 6


def rewrite(path, change):
    """Change the record of a checkpoint."""
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


def widen(checkpoint):
    checkpoint["state_dict"]["model.factor_weight"] = torch.zeros(9, 3)


def forget(checkpoint):
    del checkpoint["lfads"]


def age(checkpoint):
    checkpoint["lfads"] |= {"format_version": 99, "version": "9.9"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:1000]), "damaged"),
        (lambda p: p.write_bytes(b""), "damaged"),
        (lambda p: p.unlink(), "is missing"),
        (lambda p: rewrite(p, forget), "not a checkpoint of lfads-lightning"),
        (lambda p: rewrite(p, age), "format 99, this version reads up to 1; use .* 9.9 or newer"),
        (lambda p: rewrite(p, widen), "do not match its parameters"),
        (lambda p: torch.save({"model": LFADSError}, p), "is damaged"),
        (lambda p: p.with_name("checkpoint.json").write_text("{"), "not a list of file names"),
        (lambda p: p.with_name("checkpoint.json").unlink(), "has no checkpoint"),
    ],
    ids=["cut", "empty", "gone", "foreign", "newer", "unfit", "code", "bad index", "no index"],
)
def test_damaged_run_is_refused(new_trained, tmp_path, damage, message):
    run = new_trained().save(tmp_path / "run")
    damage(next((run / "checkpoints").glob("*.ckpt")))
    with pytest.raises(LFADSError, match=message) as caught:
        load(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", ["checkpoint_lve", "chekpoint"])
def test_missing_index_is_answered_with_the_one_that_is_there(new_trained, tmp_path, index):
    run = new_trained().save(tmp_path / "run")
    with pytest.raises(LFADSError, match=f"'{index}'.*checkpoint_pb_load_name=checkpoint is there"):
        load(run, index)


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(LFADSError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(LFADSError, match="has no checkpoint"):
        load(tmp_path)


# --- output files ----------------------------------------------------------------------------


@pytest.fixture
def saved_run(new_trained, counts, tmp_path):
    """Save a model of two sessions, and data files for it; return it and a way to run a kind."""
    data, ext = tmp_path / "data", np.random.default_rng(2).normal(size=(12, 8, 2))

    def make(**parameters):
        trained = new_trained(
            {"one": 5, "two": 4},
            data_dir=str(data),
            data_filename_stem="toy",
            ext_input_dim=2,
            seed=3,
            **parameters,
        )
        for name, n_neurons, valid in (("one", 5, counts[:4]), ("two", 4, None)):
            write_session(
                data / f"toy_{name}.h5",
                train_data=counts[..., :n_neurons],
                valid_data=valid,
                train_ext_input=ext,
                valid_ext_input=None if valid is None else ext[:4],
            )
        folder = trained.save(tmp_path / "run")

        def run(kind, **changes):
            before = set(folder.rglob("*"))
            config = params.from_flat({"kind": kind, **changes}, base=trained.config)
            assert run_kind(config, Run(folder)) is None
            return config, {p.name: p for p in set(folder.rglob("*")) - before}

        return trained, run

    return make


def contents(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}, dict(file.attrs), {
            name: file[name].attrs.get("units") for name in file
        }  # fmt: skip


@pytest.mark.parametrize(
    "structure", [{}, {"co_dim": 0}, {"ic_dim": 0}, {"output_dist": "gaussian"}]
)
@pytest.mark.parametrize("kind", ["posterior_push_mean", "posterior_sample_and_average"])
def test_posterior_files_hold_what_the_method_returns(saved_run, counts, kind, structure):
    trained, run = saved_run(**structure)
    n = {"num_samples": 3} if kind.endswith("average") else {}
    config, files = run(kind, **({"num_posterior_samples": 3} if n else {}))
    assert set(files) == {
        f"model_runs_{name}_{kind}.h5" for name in ("one_train", "one_valid", "two_train")
    }
    ext = np.random.default_rng(2).normal(size=(12, 8, 2)).astype(np.float32)
    for split, rows in (("train", 12), ("valid", 4)):
        arrays, attributes, units = contents(files[f"model_runs_one_{split}_{kind}.h5"])
        data, inputs = {"one": counts[:rows]}, {"one": ext[:rows]}
        expected = given(getattr(trained, kind)(data, ext_input=inputs, **n)["one"])
        del expected["rates"]  # in output_dist_params
        assert arrays.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name, strict=True)
        assert all(isinstance(text, str) and len(text) > 3 for text in units.values())
        assert units["costs"] == "nats per trial"
        spelled = {"session": "one", "split": split, "kind": kind, "checkpoint": "checkpoint"}
        assert spelled.items() <= attributes.items()
        assert attributes["train_step"] == 7
        assert attributes["num_samples"] == n.get("num_samples", 0)
        assert params.from_dict(yaml.safe_load(attributes["config"])) == config


def test_units_say_counts_for_poisson_and_values_for_gaussian(saved_run):
    _, run = saved_run()
    files = run("posterior_push_mean")[1]
    units = contents(files["model_runs_two_train_posterior_push_mean.h5"])[2]
    assert units["output_dist_params"] == "expected counts per bin"


def test_gaussian_units_name_means_and_variances(saved_run):
    _, run = saved_run(output_dist="gaussian")
    files = run("posterior_push_mean")[1]
    units = contents(files["model_runs_two_train_posterior_push_mean.h5"])[2]
    assert "means, then variances" in units["output_dist_params"]


def test_only_the_first_trials_are_processed_if_asked(saved_run):
    _, run = saved_run()
    kind = "posterior_push_mean"
    files = run(kind, ps_nexamples_to_process=5)[1]
    shapes = {n: contents(p)[0]["factors"].shape for n, p in files.items()}
    assert shapes == {
        f"model_runs_one_train_{kind}.h5": (5, 8, 3),
        f"model_runs_one_valid_{kind}.h5": (4, 8, 3),
        f"model_runs_two_train_{kind}.h5": (5, 8, 3),
    }


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("posterior_push_mean", ["one_train", "one_valid", "two_train"]),
        ("prior_sample", None),
        ("write_model_params", None),
    ],
)
def test_stem_begins_the_file_names(saved_run, kind, names):
    _, run = saved_run()
    files = run(kind, output_filename_stem="mine")[1]
    single = {"prior_sample": "mine_prior_sample.h5", "write_model_params": "mine_model_params.h5"}
    expected = {f"mine_{n}_{kind}.h5" for n in names} if names else {single[kind]}
    assert set(files) == expected


def test_prior_file_holds_what_the_method_returns(saved_run):
    trained, run = saved_run()
    config, files = run("prior_sample", num_prior_samples=6, session="two")
    assert list(files) == ["model_runs_prior_sample.h5"]
    arrays, attributes, units = contents(files["model_runs_prior_sample.h5"])
    expected = given(trained.prior_sample(6, session="two"))
    del expected["rates"]
    assert set(expected) < set(Prior._fields)
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    assert all(isinstance(text, str) and text for text in units.values())
    assert (attributes["session"], attributes["num_samples"]) == ("two", 6)
    assert params.from_dict(yaml.safe_load(attributes["config"])) == config


def test_prior_file_takes_external_inputs_from_the_data_over_and_over(saved_run):
    trained, run = saved_run(inject_ext_input_to_gen=True)
    files = run("prior_sample", num_prior_samples=15)[1]
    ext = np.random.default_rng(2).normal(size=(12, 8, 2)).astype(np.float32)
    expected = trained.prior_sample(15, ext_input=np.concatenate([ext, ext[:3]]))
    arrays = contents(files["model_runs_prior_sample.h5"])[0]
    np.testing.assert_array_equal(arrays["output_dist_params"], expected.output_dist_params)


@pytest.mark.parametrize(
    "kind",
    [
        "posterior_push_mean",
        "write_model_params",
        "prior_sample",
    ],
)
def test_missing_validation_data_are_no_matter_after_training(saved_run, kind):
    _, run = saved_run(inject_ext_input_to_gen=True)
    assert run(kind)[1]


def test_model_params_file_holds_what_the_method_returns(saved_run):
    trained, run = saved_run()
    files = run("write_model_params")[1]
    arrays, attributes, _ = contents(files["model_params.h5"])
    expected = {n.replace("/", "_"): a for n, a in trained.model_params().items()}
    assert arrays.pop("LFADS_global_step:0") == 7
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name, strict=True)
    assert "y = x W + b" in attributes["layout"]


def test_optimiser_state_of_a_saved_model_is_said_to_be_missing(saved_run):
    _, run = saved_run()
    with pytest.warns(UserWarning, match="holds no optimiser state; weights only"):
        run("write_model_params", include_optimizer=True)
