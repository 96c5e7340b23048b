"""Gaussian: real values, mean and variance of each read out of the factors."""

import torch
from torch import Tensor, nn

from lfads_lightning.model.distributions import gaussian_log_density
from lfads_lightning.model.layers import Affine
from lfads_lightning.model.observations.noise_model import NoiseModel, total


class Gaussian(NoiseModel):
    """Real values, y ~ N(x, exp(logvar))."""

    name = "gaussian"
    parameters = ("mean", "variance")
    units = "means, then variances, of the data in their own units"
    variable = "means"
    extras = ("logvar",)

    def new_readout(self, extra: str, factors_dim: int, data_dim: int) -> nn.Module:
        """Return the read-out of the log-variance, which starts at 1 everywhere."""
        layer = Affine(factors_dim, data_dim)
        nn.init.zeros_(layer.weight)
        nn.init.ones_(layer.bias)
        return layer

    def start_bias(self, means: Tensor, do_log: bool) -> Tensor:
        """Start at the means."""
        return means

    def rates(self, x: Tensor, clip: float) -> Tensor:
        """Return x: means have no bounds."""
        return x

    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return means and variances (B, T, 2 D)."""
        return torch.cat([x, extras[0].clamp(-clip, clip).exp()], dim=2)

    def nll(
        self,
        x: Tensor,
        extras: tuple[Tensor, ...],
        data: Tensor,
        clip: float,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return -log p(data) of each trial; a variance has a lower bound, exp(-clip), alone."""
        return -total(gaussian_log_density(data.to(x.dtype), x, extras[0].clamp(-clip)), weight)

    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial."""
        means, variances = params.chunk(2, dim=2)
        return -total(gaussian_log_density(data.to(params.dtype), means, variances.log()), weight)


NOISE_MODEL = Gaussian()
