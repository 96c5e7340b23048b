"""Densities, divergences and priors of the model."""

import math

import torch
from torch import Tensor, nn

LOG_2PI = math.log(2 * math.pi)


def gaussian_log_density(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Return log N(x; mean, exp(logvar)), elementwise."""
    return -0.5 * (logvar + LOG_2PI + (x - mean).square() * (-logvar).exp())


def gaussian_kl(mean_q: Tensor, logvar_q: Tensor, mean_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Return KL(N(mean_q, exp logvar_q) || N(mean_p, exp logvar_p)), elementwise.

    Kingma & Welling 2014, appendix B, for a prior with free mean and variance.
    """
    scaled = ((mean_q - mean_p).square() + logvar_q.exp()) * (-logvar_p).exp()
    return 0.5 * (logvar_p - logvar_q + scaled - 1)


def over_bins(x: Tensor, within: Tensor | None) -> Tensor:
    """Sum x (B, T, n) over bins and dimensions, (B,); only over the bins ``within``, if given."""
    return (x if within is None else x.masked_fill(~within[..., None], 0)).sum((1, 2))


class InitialConditionPrior(nn.Module):
    """Diagonal Gaussian over the initial-condition code z (Z,), with a trained mean.

    The variance is fixed if ``var_max`` equals ``var_min``; else it is trained inside these bounds,
    var = var_min + (var_max - var_min) * sigmoid(p), and starts at ``var_scale``.

    Args:
        ic_dim: Z.
        var_min: lower bound of the variance.
        var_scale: its starting value.
        var_max: its upper bound.
        legacy: use sigmoid(exp(p)) instead of sigmoid(p), with p = log(var_scale) at the start.
            This is the original's form, which cannot fall below the middle of the bounds; it is
            kept for models trained by the original.
    """

    def __init__(
        self, ic_dim: int, var_min: float, var_scale: float, var_max: float, legacy: bool
    ) -> None:
        super().__init__()
        self.var_min, self.var_range, self.legacy = var_min, var_max - var_min, legacy
        self.trains_variance = var_max > var_min
        if self.trains_variance and not legacy:
            # at a bound itself, p would be infinite
            share = min(max((var_scale - var_min) / self.var_range, 1e-3), 1 - 1e-3)
            start = math.log(share / (1 - share))
        else:
            start = math.log(var_scale)
        self.mean = nn.Parameter(torch.zeros(ic_dim))
        self.raw_logvar = nn.Parameter(
            torch.full((ic_dim,), start), requires_grad=self.trains_variance
        )

    def logvar(self) -> Tensor:
        """Return the log-variance (Z,)."""
        if not self.trains_variance:
            return self.raw_logvar
        p = self.raw_logvar.exp() if self.legacy else self.raw_logvar
        return (self.var_min + self.var_range * p.sigmoid()).log()


class AutoregressivePrior(nn.Module):
    """AR(1) process with zero mean over each inferred input, started stationary.

    Sussillo et al. 2016, section 2.2 and appendix: u_t = phi u_{t-1} + e_t, phi = exp(-1/tau),
    e_t ~ N(0, s2_e), u_0 ~ N(0, s2_e / (1 - phi^2)).

    Args:
        co_dim: U.
        tau: starting time constant, bins.
        innovation_var: starting s2_e.
        do_train_tau: train tau; else it is fixed.
        do_train_var: train s2_e; else it is fixed.
    """

    def __init__(
        self, co_dim: int, tau: float, innovation_var: float, do_train_tau: bool, do_train_var: bool
    ) -> None:
        super().__init__()
        self.log_tau = nn.Parameter(torch.full((co_dim,), math.log(tau)), do_train_tau)
        self.log_innovation_var = nn.Parameter(
            torch.full((co_dim,), math.log(innovation_var)), do_train_var
        )

    def phi(self) -> Tensor:
        """Return the coefficient (U,)."""
        return (-(-self.log_tau).exp()).exp()

    def process_logvar(self) -> Tensor:
        """Return the log of the stationary variance (U,)."""
        phi = self.phi()
        return self.log_innovation_var - torch.log1p(-phi) - torch.log1p(phi)

    def log_density(self, u: Tensor, within: Tensor | None = None) -> Tensor:
        """Return log p(u), summed over bins and inputs: (B, T, U) -> (B,).

        ``within`` (B, T) bool gives the bins of each trial, for trials of unequal length; every
        trial has the first bin.
        """
        first = gaussian_log_density(u[:, 0], torch.zeros_like(u[:, 0]), self.process_logvar())
        rest = gaussian_log_density(u[:, 1:], self.phi() * u[:, :-1], self.log_innovation_var)
        return first.sum(1) + over_bins(rest, None if within is None else within[:, 1:])

    def expected_log_density(
        self, mean: Tensor, logvar: Tensor, within: Tensor | None = None
    ) -> Tensor:
        """Return E_q log p(u) for q = N(mean, exp logvar), independent over bins.

        The expectation of each quadratic form adds its variance: that of u_t - phi u_{t-1} is
        var_t + phi^2 var_{t-1}.

        Args:
            mean: (B, T, U).
            logvar: (B, T, U).
            within: as in :meth:`log_density`.

        Returns:
            (B,).
        """
        var, phi = logvar.exp(), self.phi()
        at_mean = self.log_density(mean, within)
        first = var[:, 0] * (-self.process_logvar()).exp()
        rest = (var[:, 1:] + phi.square() * var[:, :-1]) * (-self.log_innovation_var).exp()
        within = None if within is None else within[:, 1:]
        return at_mean - 0.5 * (first.sum(1) + over_bins(rest, within))

    def sample(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise (B, T, U) into paths of the process (B, T, U)."""
        phi, scale = self.phi(), (0.5 * self.log_innovation_var).exp()
        u = noise[:, 0] * (0.5 * self.process_logvar()).exp()
        path = [u]
        for e in noise[:, 1:].unbind(1):
            u = phi * u + scale * e
            path.append(u)
        return torch.stack(path, dim=1)
