"""Negative binomial: counts with more variance than Poisson, by a dispersion per neuron."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lfads_lightning.model.observations.noise_model import (
    SMALLEST_RATE,
    NoiseModel,
    PerChannel,
    total,
)

START = 0.1  # dispersion; nearly Poisson at the rates of neurons in bins of a few ms
BOUND = 12.0  # bound of its logarithm; 6e-6 is practically Poisson
_LARGE = 10.0  # from here on Stirling's series, to two terms, is exact to 1e-8


class NegativeBinomial(NoiseModel):
    """Counts per bin of mean m = exp(x) and variance m + a m^2.

    The dispersion a of each neuron is trained, the same in all bins; a -> 0 is Poisson. With
    r = 1/a (Pillow & Scott 2012, section 2)::

        p(n) = Gamma(n + r) / (Gamma(r) n!) (r / (r + m))^r (m / (r + m))^n
    """

    name = "negative_binomial"
    parameters = ("mean", "dispersion")
    units = (
        "means, expected counts per bin, then dispersions a of the neurons: variance m + a m^2 at "
        "mean m"
    )
    extras = ("log_dispersion",)

    def new_readout(
        self, extra: str, factors_dim: int, data_dim: int, per_bin: bool = True
    ) -> nn.Module:
        """Return the log-dispersions, one for each neuron."""
        return PerChannel(data_dim, math.log(START))

    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return means and dispersions (B, T, 2 D)."""
        dispersion = extras[0].clamp(-BOUND, BOUND).exp()
        return torch.cat([self.rates(x, clip), dispersion.expand_as(x)], dim=2)

    def nll(
        self,
        x: Tensor,
        extras: tuple[Tensor, ...],
        data: Tensor,
        clip: float,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return -log p(data) of each trial."""
        log_a = extras[0].clamp(-BOUND, BOUND)
        return -total(log_likelihood(x, log_a, data.to(x.dtype), clip), weight)

    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial."""
        means, dispersions = params.chunk(2, dim=2)
        log_means = means.clamp(min=SMALLEST_RATE).log()
        each = log_likelihood(log_means, dispersions.log(), data.to(params.dtype), math.inf)
        return -total(each, weight)


def log_likelihood(log_mean: Tensor, log_a: Tensor, counts: Tensor, clip: float) -> Tensor:
    """Return log p(counts), elementwise.

    With r = 1/a the terms of the class's formula are::

        [log Gamma(n + r) - log Gamma(r) - n log r] - log n! + n log m - (n + r) log(1 + a m)

    Each is small if a is small, so that float32 can represent their sum.

    Args:
        log_mean: log m.
        log_a: log of the dispersion.
        counts: n.
        clip: log m is clamped here in all terms that grow exponentially.
    """
    log_1p_am = -logsigmoid(-log_mean.clamp(max=clip) - log_a)
    fits = counts * log_mean - (counts + (-log_a).exp()) * log_1p_am
    return log_rising(counts, log_a) - torch.lgamma(counts + 1) + fits


def log_rising(n: Tensor, log_a: Tensor) -> Tensor:
    """Return log of (1 + a) (1 + 2 a) ... (1 + (n - 1) a), elementwise.

    That is log Gamma(n + r) - log Gamma(r) - n log r. For large r the difference is computed by
    Stirling's series, because its terms are far larger than the difference itself.
    """
    r = (-log_a).exp()
    small = torch.lgamma(n + r) - torch.lgamma(r) + n * log_a
    large = (n + r - 0.5) * torch.log1p(n / r) - n + _stirling(n + r) - _stirling(r)
    return torch.where(r < _LARGE, small, large)


def _stirling(z: Tensor) -> Tensor:
    """Return log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2, for large z."""
    return 1 / (12 * z) - 1 / (360 * z.pow(3))


NOISE_MODEL = NegativeBinomial()
