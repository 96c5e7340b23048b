"""Poisson: counts whose variance is their mean."""

import math

import torch
from torch import Tensor

from lfads_lightning.model.observations.noise_model import SMALLEST_RATE, NoiseModel, total


def poisson_log_likelihood(log_rates: Tensor, counts: Tensor, clip: float) -> Tensor:
    """Return log Poisson(counts; exp(log_rates)), elementwise.

    ``lgamma`` is explicit: ``torch.nn.functional.poisson_nll_loss(full=True)`` uses Stirling's
    formula instead, which shifts the reported numbers.

    Args:
        log_rates: log of expected counts per bin.
        counts: same shape.
        clip: the log-rate is clamped here inside the exponential, so that no loss is infinite.
    """
    return counts * log_rates - log_rates.clamp(max=clip).exp() - torch.lgamma(counts + 1)


class Poisson(NoiseModel):
    """Counts per bin, n ~ Poisson(exp(x))."""

    name = "poisson"
    parameters = ("rate",)
    units = "expected counts per bin"
    has_identity_readout = True
    nll_is_poisson = True

    def start_bias(self, means: Tensor, do_log: bool) -> Tensor:
        """Start at the mean rates, or, as the original, use the means themselves as log-rates."""
        return super().start_bias(means, do_log) if do_log else means

    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return the rates (B, T, D)."""
        return self.rates(x, clip)

    def nll(
        self,
        x: Tensor,
        extras: tuple[Tensor, ...],
        data: Tensor,
        clip: float,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return -log p(data) of each trial; the kernels compute this too."""
        return -total(poisson_log_likelihood(x, data.to(x.dtype), clip), weight)

    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial."""
        log_rates = params.clamp(min=SMALLEST_RATE).log()
        return -total(poisson_log_likelihood(log_rates, data.to(params.dtype), math.inf), weight)


NOISE_MODEL = Poisson()
