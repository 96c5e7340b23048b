"""Zero-inflated gamma: values that are 0 or above, often 0, such as deconvolved calcium."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lfads_lightning.model.observations.gamma import BOUND, log_density, log_shape
from lfads_lightning.model.observations.noise_model import (
    SMALLEST_RATE,
    Moments,
    NoiseModel,
    total,
)
from lfads_lightning.model.observations.spread import new_spread


class ZeroInflatedGamma(NoiseModel):
    """Values that are 0 with probability 1 - q, else gamma with mean m / q and shape k.

    For deconvolved calcium (Wei et al. 2019; Zhu et al. 2022, Methods; without their shift by the
    smallest event)::

        p(0) = 1 - q
        p(y) = q (k / mu)^k y^(k - 1) exp(-k y / mu) / Gamma(k)    for y > 0, mu = m / q

    The mean of the data is m = exp(x). Besides it, the size s of a single event is trained::

        q = m / (m + s),    mu = m + s

    Every pair q, mu corresponds to a pair m, s. In this form zeros are as informative about the
    mean as values above 0. If events are rare, m changes how often they occur, else how large they
    are.
    """

    name = "zero_inflated_gamma"
    parameters = ("mean", "probability", "shape")
    units = (
        "means, in the unit of the data, then probabilities q of a value above 0, then shapes k of "
        "these values: mean m / q, variance (m / q)^2 / k"
    )
    extras = ("log_size", "log_shape")

    def new_readout(
        self, extra: str, factors_dim: int, data_dim: int, per_bin: bool = True
    ) -> nn.Module:
        """Return the read-out of a log-size or a log-shape, which start at 0."""
        return new_spread(factors_dim, data_dim, 0.0, per_bin)

    def start_extras(self, moments: Moments) -> tuple[Tensor, ...]:
        """Start at the shares of values above 0 and at the shapes of these values."""
        q = moments.filled.clamp(min=1e-3)
        mu = moments.mean / q
        variance = (moments.variance + moments.mean.square()) / q - mu.square()
        # for a channel without zeros s is small, not 0
        log_size = (mu * (1 - q).clamp(min=1e-3)).clamp(min=SMALLEST_RATE).log()
        silent = moments.mean == 0
        return log_size.masked_fill(silent, 0.0), log_shape(mu, variance)

    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return means, probabilities and shapes (B, T, 3 D)."""
        log_m, log_s = x.clamp(-clip, clip), extras[0].clamp(-clip, clip)
        shape = extras[1].clamp(-BOUND, BOUND).exp()
        return torch.cat([log_m.exp(), torch.sigmoid(log_m - log_s), shape.expand_as(x)], dim=2)

    def nll(
        self,
        x: Tensor,
        extras: tuple[Tensor, ...],
        data: Tensor,
        clip: float,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return -log p(data) of each trial."""
        log_m, log_s = x.clamp(-clip, clip), extras[0].clamp(-clip, clip)
        log_k, y = extras[1].clamp(-BOUND, BOUND), data.to(x.dtype)
        logit = log_m - log_s
        events = logsigmoid(logit) + log_density(torch.logaddexp(log_m, log_s), log_k, _above(y))
        return -total(torch.where(y > 0, events, logsigmoid(-logit)), weight)

    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial."""
        (means, q, shapes), y = params.chunk(3, dim=2), data.to(params.dtype)
        log_q, log_rest = q.clamp(min=SMALLEST_RATE).log(), torch.log1p(-q).clamp(min=-80)
        log_mu = means.clamp(min=SMALLEST_RATE).log() - log_q
        events = log_q + log_density(log_mu, shapes.log(), _above(y))
        return -total(torch.where(y > 0, events, log_rest), weight)


def _above(values: Tensor) -> Tensor:
    """Return values with 1 in place of 0, so that the branch not taken has finite gradients."""
    return torch.where(values > 0, values, 1.0)


NOISE_MODEL = ZeroInflatedGamma()
