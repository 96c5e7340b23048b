"""The loss and its schedules: each term by another way, ramps by a table, the rate by scripts."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from lfads_lightning.config import LossConfig
from lfads_lightning.model.distributions import gaussian_log_density
from lfads_lightning.model.loss import LossTerms, compute_loss, recurrent_l2, trial_terms
from lfads_lightning.training.schedules import LearningRateRule, ramp

EVERY_TERM = LossConfig(
    kl_ic_weight=0.7, kl_co_weight=1.3, l2_gen_scale=500, l2_con_scale=70, co_mean_corr_scale=0.2
)


@pytest.fixture(scope="module")
def passed(new_model, spikes):
    """A model with every term, and its pass over a batch."""
    model = new_model(ic_prior_var_min=0.05, ic_prior_var_max=0.4)
    torch.manual_seed(1)
    return model, model(spikes, "a")


# --- reconstruction ---


def test_poisson_reconstruction_equals_scipy(passed, spikes):
    model, output = passed
    terms = trial_terms(model, output, spikes, LossConfig(), 1.0, 1.0)
    rates = output.output_dist_params.detach().double().numpy()
    theirs = -scipy.stats.poisson.logpmf(spikes.numpy(), rates).sum((1, 2))
    np.testing.assert_allclose(terms.recon.detach(), theirs, rtol=1e-5)


def test_gaussian_reconstruction_equals_scipy(new_model):
    model, data = new_model(output_dist="gaussian"), torch.randn(4, 8, 5)
    output = model(data, "a")
    terms = trial_terms(model, output, data, LossConfig(), 1.0, 1.0)
    mean, variance = (
        output.output_dist_params.detach()
        .double()
        .numpy()
        .reshape(4, 8, 2, 5)
        .swapaxes(0, 2)
        .swapaxes(1, 2)
    )
    theirs = -scipy.stats.norm.logpdf(data.numpy(), mean, np.sqrt(variance)).sum((1, 2))
    np.testing.assert_allclose(terms.recon.detach(), theirs, rtol=1e-5)


@pytest.mark.parametrize(
    ("dist", "part", "bias"),
    [
        ("poisson", "readout", 1e4),
        ("gaussian", "readout_logvar", -1e4),
        ("negative_binomial", "readout", 1e4),
        ("negative_binomial", "readout_log_dispersion", 1e4),
        ("negative_binomial", "readout_log_dispersion", -1e4),
    ],
)
def test_loss_is_finite_where_the_readout_explodes(new_model, spikes, dist, part, bias):
    model = new_model(output_dist=dist)
    with torch.no_grad():
        getattr(model, part)["session_a"].bias.fill_(bias)
    terms = compute_loss(model, model(spikes, "a"), spikes, LossConfig(), 1.0, 1.0)
    terms.total.backward()
    assert terms.total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# --- the sum ---


@pytest.mark.parametrize(("ramp_kl", "ramp_l2"), [(0.0, 0.0), (0.3, 0.8), (1.0, 1.0)])
def test_total_is_the_ramped_sum_of_the_terms(passed, spikes, ramp_kl, ramp_l2):
    terms = compute_loss(*passed, spikes, EVERY_TERM, ramp_kl, ramp_l2)
    expected = (
        terms.recon + ramp_kl * (terms.kl_ic + terms.kl_co) + ramp_l2 * terms.l2 + 0.2 * terms.corr
    )
    torch.testing.assert_close(terms.total, expected)
    assert all(abs(t) > 1e-3 for t in terms)  # no term is missing


def test_terms_other_than_total_know_no_ramp(passed, spikes):
    without = compute_loss(*passed, spikes, EVERY_TERM, 0.0, 0.0)
    ramped = compute_loss(*passed, spikes, EVERY_TERM, 1.0, 1.0)
    assert without[1:] == ramped[1:]
    assert without.total < ramped.total


def test_batch_loss_is_the_mean_of_its_trials(passed, spikes):
    whole = compute_loss(*passed, spikes, EVERY_TERM, 0.3, 0.8)
    trials = trial_terms(*passed, spikes, EVERY_TERM, 0.3, 0.8)
    for name in LossTerms._fields:
        assert getattr(trials, name).shape == (4,)
        torch.testing.assert_close(getattr(whole, name), getattr(trials, name).mean())


def test_likelihood_is_a_sum_over_bins(new_model, spikes):
    model = new_model(co_dim=0, ic_dim=0)
    with torch.no_grad():
        model.factor_weight.zero_()  # the same rates in every bin
    once, twice = (
        compute_loss(model, model(x, "a"), x, LossConfig(), 1.0, 0.0)
        for x in (spikes, torch.cat([spikes, spikes], 1))
    )
    torch.testing.assert_close(twice.recon, 2 * once.recon)


# --- which weights a term moves ---

ENCODER = {"ic_encoder", "ic_mean", "ic_logvar"}
CONTROLLER = {"ci_encoder", "controller", "con_ic", "co_mean"}
REACHES = {
    "recon": {"readin", "readout", "generator", "ic_to_gen", "factor_weight", "co_logvar"}
    | ENCODER
    | CONTROLLER,
    "kl_ic": {"readin", "ic_prior"} | ENCODER,
    "kl_co": {"readin", "co_logvar", "co_prior"} | CONTROLLER,
    "l2": {"generator", "controller"},
    "corr": {"readin"} | CONTROLLER,
}


@pytest.mark.parametrize("term", REACHES)
def test_gradient_of_a_term_reaches_only_its_parameters(new_model, spikes, term):
    # with feedback the controller sees the generator, and kl_co and corr would reach that too
    model = new_model(
        {"a": 5, "b": 4},
        do_feed_factors_to_controller=False,
        ic_prior_var_min=0.05,
        ic_prior_var_max=0.4,
    )
    terms = compute_loss(model, model(spikes, "a"), spikes, EVERY_TERM, 1.0, 1.0)
    getattr(terms, term).backward()
    moved = {
        name.split(".")[0]
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    }
    assert moved == REACHES[term]


def test_feedback_lets_kl_co_reach_the_generator(new_model, spikes):
    model = new_model()
    terms = compute_loss(model, model(spikes, "a"), spikes, EVERY_TERM, 1.0, 1.0)
    terms.kl_co.backward()
    assert model.generator.gates.grad.abs().max() > 0
    assert model.readout["session_a"].weight.grad is None


# --- divergences ---


def test_kl_ic_equals_torch(passed, spikes):
    model, output = passed
    terms = trial_terms(model, output, spikes, LossConfig(), 1.0, 1.0)
    encoding, prior = output.encoding, model.ic_prior
    q = torch.distributions.Normal(encoding.ic_mean, (0.5 * encoding.ic_logvar).exp())
    p = torch.distributions.Normal(prior.mean, (0.5 * prior.logvar()).exp())
    torch.testing.assert_close(terms.kl_ic, torch.distributions.kl_divergence(q, p).sum(1))


def test_kl_co_is_the_log_ratio_at_the_sample_that_drove_the_generator(passed, spikes):
    model, output = passed
    terms = trial_terms(model, output, spikes, LossConfig(), 1.0, 1.0)
    states = output.states
    log_q = gaussian_log_density(states.co_samples, states.co_means, states.co_logvars)
    log_p = model.co_prior.log_density(states.co_samples)
    torch.testing.assert_close(terms.kl_co, log_q.sum((1, 2)) - log_p)


def test_analytic_kl_co_is_the_mean_of_single_samples(new_model, spikes):
    model, n = new_model(do_feed_factors_to_controller=False).double(), 20_000
    one = spikes[:1]
    encoding = model.encode(one, "a")
    repeated = encoding._replace(
        con_input=encoding.con_input.expand(n, -1, -1),
        ic_mean=encoding.ic_mean.expand(n, -1),
        ic_logvar=encoding.ic_logvar.expand(n, -1),
    )
    noise = model.draw_noise(n, 8, torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model.decode(repeated, 8, "a", noise)
        sampled = trial_terms(model, output, one.expand(n, -1, -1), LossConfig(), 1, 1).kl_co
        analytic = trial_terms(
            model, model(one, "a"), one, LossConfig(do_analytic_kl_co=True), 1, 1
        ).kl_co.item()
    standard_error = sampled.std().item() / math.sqrt(n)
    assert abs(sampled.mean().item() - analytic) < 6 * standard_error
    assert standard_error < 0.01 * analytic  # so that the line above says something


def test_analytic_kl_co_does_not_depend_on_the_sample(new_model, spikes):
    model = new_model(do_feed_factors_to_controller=False)
    weights = LossConfig(do_analytic_kl_co=True)
    values = []
    for seed in (0, 1):
        noise = model.draw_noise(4, 8, torch.Generator().manual_seed(seed))
        terms = compute_loss(model, model(spikes, "a", None, noise), spikes, weights, 1, 1)
        values.append(terms.kl_co.item())
    assert values[0] == values[1]


@pytest.mark.parametrize("analytic", [False, True])
def test_kl_co_of_the_prior_itself_is_zero(new_model, analytic):
    """With tau near 0 the prior is white: a posterior of that variance has no divergence."""
    model = new_model(
        prior_ar_atau=0.01, prior_ar_nvar=0.3, do_feed_factors_to_controller=False, fresh=True
    ).double()
    with torch.no_grad():
        for layer, value in ((model.co_mean, 0.0), (model.co_logvar, math.log(0.3))):
            layer.weight.zero_()
            layer.bias.fill_(value)
    data = torch.ones(5, 8, 5)
    terms = compute_loss(
        model, model(data, "a"), data, LossConfig(do_analytic_kl_co=analytic), 1.0, 1.0
    )
    # q = p at every sample, so the single-sample form is 0 too
    assert terms.kl_co.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("off", "term"), [("ic_dim", "kl_ic"), ("co_dim", "kl_co")])
def test_divergence_of_an_absent_part_is_zero(new_model, spikes, off, term):
    model = new_model(**{off: 0})
    terms = compute_loss(model, model(spikes, "a"), spikes, LossConfig(), 1.0, 1.0)
    assert getattr(terms, term).item() == 0
    assert terms.total.isfinite()


# --- correlation and L2 ---


def test_correlation_by_hand(new_model, spikes):
    model = new_model(co_dim=3)
    output = model(spikes, "a")
    weights = LossConfig(co_mean_corr_scale=1.0)
    ours = trial_terms(model, output, spikes, weights, 1.0, 1.0).corr
    means = output.states.co_means.detach().numpy()
    for b in range(4):
        pairs = [
            0.5 * sum(means[b, t, i] * means[b, t, j] for t in range(8)) ** 2
            for i, j in itertools.combinations(range(3), 2)
        ]
        assert ours[b].item() == pytest.approx(np.mean(pairs), rel=1e-5)


@pytest.mark.parametrize("co_dim", [0, 1])
def test_correlation_without_a_pair_is_zero(new_model, spikes, co_dim):
    model = new_model(co_dim=co_dim)
    weights = LossConfig(co_mean_corr_scale=1.0)
    terms = compute_loss(model, model(spikes, "a"), spikes, weights, 1.0, 1.0)
    assert terms.corr.item() == 0
    assert terms.total.isfinite()


def test_recurrent_l2_by_hand(new_model):
    model = new_model(gen_dim=2, con_dim=1)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(9.0)  # whatever is not listed below must not count
        gen, con = model.generator, model.controller
        gen.gates.copy_(torch.arange(8.0).view(2, 4))  # squares 140
        gen.gates_bias.copy_(torch.tensor([1.0, -1.0, 0.0, 2.0]))  # 6
        gen.candidate.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))  # 30
        gen.candidate_bias.copy_(torch.tensor([0.5, -0.5]))  # 0.5
        con.gates.copy_(torch.tensor([[1.0, 2.0]]))  # 5
        con.gates_bias.copy_(torch.tensor([3.0, 0.0]))  # 9
        con.candidate.fill_(2.0)  # 4
        con.candidate_bias.fill_(1.0)  # 1
    n_elements = 8 + 4 + 4 + 2 + 2 + 2 + 1 + 1
    gen_only = 0.5 * 10 * 176.5 / n_elements
    con_only = 0.5 * 7 * 19 / n_elements
    assert recurrent_l2(model, 10, 0).item() == pytest.approx(gen_only)
    assert recurrent_l2(model, 0, 7).item() == pytest.approx(con_only)
    assert recurrent_l2(model, 10, 7).item() == pytest.approx(gen_only + con_only)
    assert recurrent_l2(model, 0, 0).item() == 0


def test_recurrent_l2_without_controller_counts_the_generator_alone(new_model):
    model = new_model(co_dim=0, gen_dim=2)
    with torch.no_grad():
        for p in model.generator.recurrent_parameters():
            p.fill_(1.0)
    assert recurrent_l2(model, 10, 7).item() == pytest.approx(0.5 * 10)


def test_l2_is_not_divided_by_the_batch(new_model, spikes):
    model = new_model()
    one, four = (
        compute_loss(model, model(x, "a"), x, LossConfig(), 1.0, 1.0) for x in (spikes[:1], spikes)
    )
    torch.testing.assert_close(one.l2, four.l2)


# --- ramps ---


@pytest.mark.parametrize(
    ("step", "start", "increase", "weight"),
    [
        (0, 0, 2000, 0.0),
        (1, 0, 2000, 0.0005),
        (1000, 0, 2000, 0.5),
        (1999, 0, 2000, 0.9995),
        (2000, 0, 2000, 1.0),
        (9999, 0, 2000, 1.0),
        (0, 10, 4, 0.0),
        (10, 10, 4, 0.0),
        (11, 10, 4, 0.25),
        (13, 10, 4, 0.75),
        (14, 10, 4, 1.0),
        (0, 0, 1, 0.0),
        (1, 0, 1, 1.0),
        (0, 0, 0, 1.0),
        (9, 10, 0, 0.0),
        (10, 10, 0, 1.0),
        (11, 10, 0, 1.0),
    ],
)
def test_ramp_table(step, start, increase, weight):
    assert ramp(step, start, increase) == pytest.approx(weight, abs=1e-12)


# --- the learning-rate rule ---


def decays(costs, n, factor=0.5, rate=1.0):
    """Return the epoch indices after which the rate fell, and the last rate."""
    rule, fell = LearningRateRule(factor, n), []
    for epoch, cost in enumerate(costs):
        new = rule(rate, cost)
        if new < rate:
            fell.append(epoch)
            assert new == rate * factor
        else:
            assert new == rate
        rate = new
    return fell, rate


@pytest.mark.parametrize("n", [1, 2, 6])
def test_rising_cost_first_decays_after_epoch_index_n_plus_one(n):
    fell, _ = decays(range(50), n)
    assert fell[0] == n + 1


@pytest.mark.parametrize("n", [1, 2, 6])
def test_decays_of_a_rising_cost_are_n_plus_one_epochs_apart(n):
    fell, _ = decays(range(50), n)
    assert set(np.diff(fell)) == {n + 1}


@pytest.mark.parametrize("seed", range(5))
def test_decays_of_a_noisy_cost_are_at_least_n_plus_one_epochs_apart(seed):
    fell, rate = decays(np.random.default_rng(seed).normal(size=400), 3)
    assert np.diff(fell).min() >= 4
    assert fell[0] >= 4
    assert rate == 0.5 ** len(fell)


def test_falling_cost_never_decays():
    assert decays(range(100, 0, -1), 6) == ([], 1.0)


def test_equal_cost_never_decays():
    assert decays([3.0] * 100, 6) == ([], 1.0)


def test_cost_below_one_of_the_last_n_does_not_decay():
    # 5 exceeds the last two of (9, 1, 2, 3, 4), not the last five
    assert decays([0, 9, 1, 2, 3, 4, 5], n=5)[0] == []
    assert decays([0, 9, 1, 2, 3, 4, 5], n=2)[0] == [4]


def test_decay_looks_at_the_last_n_only():
    assert decays([99, 1, 1, 1, 2], n=3)[0] == [4]


def test_defaults_need_135_decays_and_946_epochs_to_stop():
    rule, rate, fell, epoch = LearningRateRule(0.95, 6), 0.01, [], 0
    while rate >= 1e-5:
        new = rule(rate, float(epoch))
        fell += [epoch] if new < rate else []
        rate, epoch = new, epoch + 1
    assert len(fell) == 135
    assert fell[:3] == [7, 14, 21]
    assert epoch == 946


def test_fewest_epochs_to_stop_is_never_more_than_it_takes():
    for n, factor in ((1, 0.5), (6, 0.95), (3, 0.9)):
        rule, rate, epoch = LearningRateRule(factor, n), 0.01, 0
        promised = rule.epochs_until(rate, 1e-4)
        while rate >= 1e-4:
            rate, epoch = rule(rate, float(epoch)), epoch + 1
        assert promised <= epoch <= promised + 1


def test_rate_that_does_not_decay_never_stops():
    assert LearningRateRule(1.0, 6).epochs_until(0.01, 1e-5) == math.inf
