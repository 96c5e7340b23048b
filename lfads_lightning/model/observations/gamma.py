"""Gamma: values above 0 whose spread grows with their mean, such as rectified EMG."""

import math

import torch
from torch import Tensor, nn

from lfads_lightning.model.observations.noise_model import (
    SMALLEST_RATE,
    Moments,
    NoiseModel,
    total,
)
from lfads_lightning.model.observations.spread import new_spread

BOUND = 9.0  # bound of the log-shape; with a shape of 8000 the sd is a hundredth of the mean
_LARGE = 10.0  # from here on Stirling's series, to two terms, is exact to 1e-8


class Gamma(NoiseModel):
    """Values y > 0 of mean m = exp(x), shape k and variance m^2 / k.

    For rectified and smoothed EMG (Wimalasena et al. 2022, Methods), with the scale m / k::

        p(y) = (k / m)^k y^(k - 1) exp(-k y / m) / Gamma(k)
    """

    name = "gamma"
    parameters = ("mean", "shape")
    units = "means, in the unit of the data, then shapes k: variance m^2 / k at mean m"
    extras = ("log_shape",)

    def new_readout(
        self, extra: str, factors_dim: int, data_dim: int, per_bin: bool = True
    ) -> nn.Module:
        """Return the read-out of the log-shape, which starts at 0: an exponential distribution."""
        return new_spread(factors_dim, data_dim, 0.0, per_bin)

    def start_extras(self, moments: Moments) -> tuple[Tensor, ...]:
        """Start at the shapes that fit the moments."""
        return (log_shape(moments.mean, moments.variance),)

    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return means and shapes (B, T, 2 D)."""
        shape = extras[0].clamp(-BOUND, BOUND).exp()
        return torch.cat([self.rates(x, clip), shape.expand_as(x)], dim=2)

    def nll(
        self,
        x: Tensor,
        extras: tuple[Tensor, ...],
        data: Tensor,
        clip: float,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return -log p(data) of each trial."""
        log_k = extras[0].clamp(-BOUND, BOUND)
        return -total(log_density(x.clamp(-clip, clip), log_k, data.to(x.dtype), clip), weight)

    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial."""
        means, shapes = params.chunk(2, dim=2)
        log_means = means.clamp(min=SMALLEST_RATE).log()
        return -total(log_density(log_means, shapes.log(), data.to(params.dtype)), weight)


def log_density(log_mean: Tensor, log_k: Tensor, values: Tensor, clip: float = math.inf) -> Tensor:
    """Return log p(values) of gamma distributions, elementwise.

    With r = log y - log m the formula of the class is::

        [k log k - k - log Gamma(k)] + k (r - (e^r - 1)) - log y

    where the bracket, by Stirling's series, and all other terms stay moderate for large k too, so
    that float32 can represent their sum.

    Args:
        log_mean: log m.
        log_k: log of the shape.
        values: y; entries of 0 or less, which have no weight, are replaced by a tiny value.
        clip: r is clamped here.
    """
    log_y = values.clamp(min=torch.finfo(values.dtype).tiny).log()
    r, k = (log_y - log_mean).clamp(max=clip), log_k.exp()
    return _log_norm(k, log_k) + k * (r - torch.expm1(r)) - log_y


def log_shape(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the log-shape for given moments, within bounds; 0 (exponential) if both are 0."""
    k = torch.where(mean > 0, mean.square() / variance.clamp(min=1e-12 * mean.square()), 1.0)
    return k.nan_to_num(1.0).log().clamp(-BOUND, BOUND)


def _log_norm(k: Tensor, log_k: Tensor) -> Tensor:
    """Return k log k - k - log Gamma(k)."""
    stirling = 0.5 * (log_k - math.log(2 * math.pi)) - 1 / (12 * k) + 1 / (360 * k.pow(3))
    few = k.clamp(max=_LARGE)  # gradients flow through both branches
    return torch.where(k < _LARGE, few * few.log() - few - torch.lgamma(few), stirling)


NOISE_MODEL = Gamma()
