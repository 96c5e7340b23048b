"""How probable values are under a simple method's rates, with a noise model around them."""

import math

import numpy as np
import torch
from torch import Tensor

from lfads_lightning.metrics import varies
from lfads_lightning.model.observations import NoiseModel
from lfads_lightning.model.observations.noise_model import Moments

MOST_FITTED = 2**19  # entries that a spread is fitted to
STEPS = 40  # of L-BFGS
PRIOR_SD = 2.0  # of the fitted numbers around their start: one event does not determine a shape
_CLIP = 80.0


def log_density(noise: NoiseModel, rates: np.ndarray, data: np.ndarray) -> float:
    """Return the mean log-density of values around rates, in nats per entry.

    Each further parameter of the noise model (variance, shape, size of events) is one number per
    channel, fitted to the same values: a method that predicts only rates is not penalised for it.

    Args:
        noise: the noise model.
        rates: (E, T, D), means.
        data: (E, T, D); NaN entries and constant channels are left out.
    """
    channels = varies(data)
    if not channels.any():
        return math.nan
    y, given = (torch.as_tensor(a[..., channels], dtype=torch.float64) for a in (data, rates))
    known = ~y.isnan()
    # missing entries have weight 0
    y, given = y.where(known, torch.ones(())), given.where(known, torch.ones(()))
    x, weight = noise.start_bias(given, do_log=True), known.double()
    every = math.ceil(y.numel() / MOST_FITTED)
    extras = _fitted(noise, x[::every], y[::every], weight[::every])
    return -float(noise.nll(x, extras, y, _CLIP, weight).sum() / weight.sum())


def _fitted(noise: NoiseModel, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Return the further parameters (1, 1, D) that fit the values best."""
    n = weight.sum((0, 1)).clamp(min=1)
    mean = (y * weight).sum((0, 1)) / n
    variance = ((y - mean).square() * weight).sum((0, 1)) / n
    start = noise.start_extras(Moments(mean, variance, ((y != 0) * weight).sum((0, 1)) / n))
    extras = [s[None, None].clone().requires_grad_() for s in start]
    optimizer = torch.optim.LBFGS(extras, max_iter=STEPS, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        optimizer.zero_grad()
        pull = sum(((e - s) / PRIOR_SD).square().sum() for e, s in zip(extras, start, strict=True))
        value = noise.nll(x, tuple(extras), y, _CLIP, weight).sum() + 0.5 * pull
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(cost)
    return tuple(e.detach() for e in extras)
