"""Gaussian: real values whose mean and variance are read out of the factors."""

import torch
from torch import Tensor, nn

from lfads_lightning.model.distributions import gaussian_log_density
from lfads_lightning.model.observations.noise_model import (
    Moments,
    NoiseModel,
    total,
)
from lfads_lightning.model.observations.spread import new_spread


class Gaussian(NoiseModel):
    """Real values, y ~ N(x, exp(logvar))."""

    name = "gaussian"
    parameters = ("mean", "variance")
    units = "means, then variances, of the data in their own units"
    variable = "means"
    extras = ("logvar",)

    def new_readout(
        self, extra: str, factors_dim: int, data_dim: int, per_bin: bool = True
    ) -> nn.Module:
        """Return the read-out of the log-variance, which starts at 1 everywhere."""
        return new_spread(factors_dim, data_dim, 1.0, per_bin)

    def start_extras(self, moments: Moments) -> tuple[Tensor, ...]:
        """Start at the variances; for a constant channel, at the smallest of the others."""
        varies = moments.variance > 0
        least = moments.variance[varies].min() if varies.any() else torch.ones(())
        return (moments.variance.clamp(min=least).log(),)

    def start_bias(self, means: Tensor, do_log: bool) -> Tensor:
        """Start at the means."""
        return means

    def rates(self, x: Tensor, clip: float) -> Tensor:
        """Return x: means are unbounded."""
        return x

    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return means and variances (B, T, 2 D)."""
        return torch.cat([x, extras[0].clamp(-clip, clip).exp().expand_as(x)], dim=2)

    def nll(
        self,
        x: Tensor,
        extras: tuple[Tensor, ...],
        data: Tensor,
        clip: float,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return -log p(data) of each trial; variances have only a lower bound, exp(-clip)."""
        return -total(gaussian_log_density(data.to(x.dtype), x, extras[0].clamp(-clip)), weight)

    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial."""
        means, variances = params.chunk(2, dim=2)
        return -total(gaussian_log_density(data.to(params.dtype), means, variances.log()), weight)


NOISE_MODEL = Gaussian()
