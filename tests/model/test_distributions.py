"""Densities, divergences and priors, each against a second source: torch, SciPy, samples."""

import numpy as np
import pytest
import scipy.stats
import torch

from lfads_lightning.model.distributions import (
    AutoregressivePrior,
    InitialConditionPrior,
    gaussian_kl,
    gaussian_log_density,
)
from lfads_lightning.model.observations.poisson import poisson_log_likelihood

TAUS, INNOVATION_VAR = (0.5, 3.0, 10.0), 0.1


def ar_prior(taus=TAUS, innovation_vars=(0.3, 0.1, 0.05)):
    """Make an AR(1) prior in double precision with another process for each input."""
    prior = AutoregressivePrior(len(taus), 10.0, INNOVATION_VAR, True, True).double()
    with torch.no_grad():
        prior.log_tau.copy_(torch.tensor(taus, dtype=torch.float64).log())
        prior.log_innovation_var.copy_(torch.tensor(innovation_vars, dtype=torch.float64).log())
    return prior


def covariance(tau, innovation_var, n_bins):
    """Write out the covariance of a stationary AR(1) process: phi^|s-t| var / (1 - phi^2)."""
    phi = np.exp(-1 / tau)
    apart = np.abs(np.subtract.outer(np.arange(n_bins), np.arange(n_bins)))
    return phi**apart * innovation_var / (1 - phi**2)


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# --- Gaussian ---


def test_gaussian_log_density_equals_torch():
    x, mean, logvar = normal(3, 50)
    theirs = torch.distributions.Normal(mean, (0.5 * logvar).exp()).log_prob(x)
    torch.testing.assert_close(gaussian_log_density(x, mean, logvar), theirs)


def test_gaussian_kl_equals_torch():
    mean_q, logvar_q, mean_p, logvar_p = normal(4, 50)
    q = torch.distributions.Normal(mean_q, (0.5 * logvar_q).exp())
    p = torch.distributions.Normal(mean_p, (0.5 * logvar_p).exp())
    theirs = torch.distributions.kl_divergence(q, p)
    torch.testing.assert_close(gaussian_kl(mean_q, logvar_q, mean_p, logvar_p), theirs)


def test_gaussian_kl_of_equal_distributions_is_zero():
    mean, logvar = normal(2, 50)
    torch.testing.assert_close(gaussian_kl(mean, logvar, mean, logvar), torch.zeros_like(mean))


# --- Poisson ---


@pytest.mark.parametrize("rate", [1e-6, 0.03, 1.0, 7.5, 300.0])
def test_poisson_log_likelihood_equals_scipy(rate):
    counts = torch.arange(40.0, dtype=torch.float64)
    log_rates = torch.full_like(counts, rate).log()
    ours = poisson_log_likelihood(log_rates, counts, 80.0)
    np.testing.assert_allclose(ours, scipy.stats.poisson.logpmf(counts, rate), rtol=1e-10)


@pytest.mark.parametrize("log_rate", [81.0, 1e4, 1e30])
def test_clamp_keeps_the_loss_finite(log_rate):
    log_rates = torch.tensor([log_rate], requires_grad=True)
    log_p = poisson_log_likelihood(log_rates, torch.tensor([3.0]), 80.0)
    log_p.backward()
    assert log_p.isfinite().all()
    assert log_rates.grad.isfinite().all()
    assert log_p < -1e34  # exp(80) = 5.5e34


def test_clamp_has_no_lower_side():
    log_p = poisson_log_likelihood(torch.tensor([-200.0]), torch.tensor([1.0]), 80.0)
    assert log_p.item() == -200.0


def test_clamp_changes_nothing_below_it():
    log_rates, counts = torch.linspace(-90, 79.9, 50, dtype=torch.float64), torch.ones(50)
    at_80 = poisson_log_likelihood(log_rates, counts, 80.0)
    torch.testing.assert_close(at_80, poisson_log_likelihood(log_rates, counts, 700.0))


# --- the AR(1) prior over inferred inputs ---


def test_ar_log_density_equals_the_joint_gaussian():
    prior, n_bins = ar_prior(), 12
    u = normal(6, n_bins, 3)
    theirs = sum(
        scipy.stats.multivariate_normal(cov=covariance(tau, var, n_bins)).logpdf(u[:, :, k])
        for k, (tau, var) in enumerate(zip(TAUS, (0.3, 0.1, 0.05), strict=True))
    )
    np.testing.assert_allclose(prior.log_density(u).detach(), theirs, rtol=1e-9)


def test_ar_log_density_of_one_bin_is_the_stationary_density():
    u = normal(6, 1, 1)
    prior = ar_prior((10.0,), (0.1,))
    sd = np.sqrt(0.1 / (1 - np.exp(-0.2)))
    theirs = scipy.stats.norm.logpdf(u[:, 0, 0], scale=sd)
    np.testing.assert_allclose(prior.log_density(u).detach(), theirs, rtol=1e-9)


def test_ar_defaults_give_the_documented_process():
    prior = AutoregressivePrior(1, 10.0, 0.1, True, True).double()
    assert prior.phi().item() == pytest.approx(0.9048, abs=5e-5)
    assert prior.process_logvar().exp().item() == pytest.approx(0.552, abs=5e-4)


def test_expected_log_density_equals_monte_carlo():
    prior, n_bins, n_samples = ar_prior(), 9, 40_000
    mean, logvar = normal(2, 1, n_bins, 3, seed=1)
    samples = mean + (0.5 * logvar).exp() * normal(n_samples, n_bins, 3, seed=2)
    log_p = prior.log_density(samples).detach().numpy()
    standard_error = log_p.std() / np.sqrt(n_samples)
    expected = prior.expected_log_density(mean, logvar).item()
    assert abs(log_p.mean() - expected) < 6 * standard_error
    assert standard_error < 0.002 * abs(expected)  # so that the line above says something


def test_expected_log_density_without_variance_is_the_density():
    prior, mean = ar_prior(), normal(4, 9, 3)
    at_mean = prior.expected_log_density(mean, torch.full_like(mean, -80.0))
    torch.testing.assert_close(at_mean, prior.log_density(mean))


def test_ar_samples_have_the_stationary_variance_in_every_bin():
    prior, n = ar_prior(), 20_000
    paths = prior.sample(normal(n, 6, 3)).detach()
    phi = np.exp(-1 / np.array(TAUS))
    expected = np.array([0.3, 0.1, 0.05]) / (1 - phi**2)
    # the sample variance of n Gaussians has relative standard error sqrt(2 / n)
    np.testing.assert_allclose(paths.var(0), np.tile(expected, (6, 1)), rtol=6 * np.sqrt(2 / n))


def test_ar_samples_have_the_lag_one_autocorrelation():
    prior, n = ar_prior(), 20_000
    paths = prior.sample(normal(n, 6, 3)).detach().numpy()
    for k, tau in enumerate(TAUS):
        phi = np.exp(-1 / tau)
        found = [np.corrcoef(paths[:, t, k], paths[:, t + 1, k])[0, 1] for t in range(5)]
        np.testing.assert_allclose(found, phi, atol=6 * (1 - phi**2) / np.sqrt(n))


def test_ar_sample_without_noise_is_zero():
    paths = ar_prior().sample(torch.zeros(2, 5, 3, dtype=torch.float64))
    assert paths.abs().max() == 0


@pytest.mark.parametrize("trained", ["tau", "var"])
def test_ar_parameters_are_held_separately(trained):
    prior = AutoregressivePrior(2, 10.0, 0.1, trained == "tau", trained == "var")
    assert prior.log_tau.requires_grad == (trained == "tau")
    assert prior.log_innovation_var.requires_grad == (trained == "var")


# --- the prior over initial conditions ---

BOUNDS = {"var_min": 0.05, "var_scale": 0.1, "var_max": 0.3}


def test_ic_prior_starts_at_scale():
    prior = InitialConditionPrior(4, **BOUNDS, legacy=False)
    torch.testing.assert_close(prior.logvar().exp(), torch.full((4,), 0.1))
    assert prior.mean.tolist() == [0.0] * 4


@pytest.mark.parametrize("p", [-1e6, -30.0, -1.0, 0.0, 1.0, 30.0, 1e6])
@pytest.mark.parametrize("legacy", [False, True])
def test_ic_prior_variance_stays_in_bounds(p, legacy):
    prior = InitialConditionPrior(4, **BOUNDS, legacy=legacy)
    with torch.no_grad():
        prior.raw_logvar.fill_(p)
    variance = prior.logvar().exp()
    assert (variance >= 0.05 * (1 - 1e-6)).all()
    assert (variance <= 0.3 * (1 + 1e-6)).all()


def test_ic_prior_variance_reaches_both_bounds():
    prior = InitialConditionPrior(2, **BOUNDS, legacy=False)
    with torch.no_grad():
        prior.raw_logvar.copy_(torch.tensor([-30.0, 30.0]))
    torch.testing.assert_close(prior.logvar().exp(), torch.tensor([0.05, 0.3]))


def test_legacy_ic_prior_starts_at_the_originals_value():
    prior = InitialConditionPrior(4, **BOUNDS, legacy=True)
    np.testing.assert_allclose(prior.logvar().exp().detach(), 0.1812, atol=5e-5)


def test_legacy_ic_prior_cannot_fall_below_the_middle():
    prior = InitialConditionPrior(1, **BOUNDS, legacy=True)
    with torch.no_grad():
        prior.raw_logvar.fill_(-100.0)
    assert prior.logvar().exp().item() == pytest.approx(0.175)


@pytest.mark.parametrize("legacy", [False, True])
def test_equal_bounds_hold_the_ic_prior_variance(legacy):
    prior = InitialConditionPrior(4, 0.1, 0.1, 0.1, legacy)
    torch.testing.assert_close(prior.logvar().exp(), torch.full((4,), 0.1))
    assert not prior.raw_logvar.requires_grad
    assert prior.mean.requires_grad


@pytest.mark.parametrize("legacy", [False, True])
def test_wider_bounds_train_the_ic_prior_variance(legacy):
    prior = InitialConditionPrior(4, **BOUNDS, legacy=legacy)
    prior.logvar().sum().backward()
    assert (prior.raw_logvar.grad > 0).all()


@pytest.mark.parametrize("scale", [0.05, 0.3])
def test_start_on_a_bound_is_finite_and_near(scale):
    prior = InitialConditionPrior(4, 0.05, scale, 0.3, legacy=False)
    np.testing.assert_allclose(prior.logvar().exp().detach(), scale, atol=0.0003)
    prior.logvar().sum().backward()
    assert (prior.raw_logvar.grad > 0).all()
