"""Forward bins, which no encoder sees: the generator runs on, with inputs from their prior.

Forward prediction (Pei et al. 2021, section 4).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lfads_lightning.model.cells import ControllerInputs, DecoderStates
from lfads_lightning.model.distributions import AutoregressivePrior
from lfads_lightning.model.layers import at_bin
from lfads_lightning.model.layout import time_major


def foresee(
    run: Callable[..., DecoderStates],
    prior: AutoregressivePrior,
    gen_ics: Tensor,
    controller: ControllerInputs,
    noise: Tensor,
    ext: Tensor | None,
    mask: Tensor | None,
    n_later: int,
    lengths: Tensor | None = None,
) -> DecoderStates:
    """Run the encoded bins, then continue the generator with inputs from their prior.

    Args:
        run: the model's decoder: (start, controller, bins, inputs, mask) -> states.
        prior: over the inferred inputs.
        gen_ics: (B, G).
        controller: the controller's inputs in the encoded bins.
        noise: (B, T, U), standard normal.
        ext: (B, T, I) injected into the generator, or None.
        mask: (B, T, G) dropout, or None.
        n_later: forward bins, at least one.
        lengths: (B,) encoded bins of each trial, followed by its forward bins; None: all equal.
            Values after a trial's forward bins have no meaning.
    """
    n = noise.shape[1] - n_later
    before = (None if x is None else x[:, :n] for x in (ext, mask))
    states = whole = run(gen_ics, controller, n, *before)
    if lengths is None:
        noise = noise[:, n:]
        ext, mask = (None if x is None else x[:, n:] for x in (ext, mask))
    else:
        t = lengths[:, None] + torch.arange(n_later, device=lengths.device)
        noise = at_bin(noise, t)
        ext, mask = (None if x is None else time_major(at_bin(x, t)) for x in (ext, mask))
        last = (None if x is None else at_bin(x, lengths[:, None] - 1) for x in states)
        states = DecoderStates(*last)  # type: ignore[arg-type]
    means, logvars, samples = forecast(prior, states, noise)
    u = means if controller.drive_with_means else samples
    inputs = u if ext is None else time_major(torch.cat([u, ext], dim=2))
    later = run(states.gen_states[:, -1], None, n_later, inputs, mask)
    later = later._replace(co_means=means, co_logvars=logvars, co_samples=samples)
    together = joined(whole, later)
    if lengths is None:
        return together
    t = torch.arange(n + n_later, device=lengths.device)
    later_bin = n + (t - lengths[:, None]).clamp(0, n_later - 1)
    source = torch.where(t < lengths[:, None], t, later_bin)
    # the controller has no states in forward bins
    moved = {
        name: time_major(at_bin(x, source))
        for name, x in together._asdict().items()
        if x is not None and x.shape[1] == n + n_later
    }
    return together._replace(**moved)


def forecast(
    prior: AutoregressivePrior, states: DecoderStates, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Continue the inferred inputs by their prior, into bins without a posterior.

    u_t = phi u_{t-1} + e_t, as in :class:`AutoregressivePrior`. Samples continue the last sample;
    the mean and the variance are those of u_t given the last bin's posterior::

        mean_t = phi mean_{t-1}        var_t = phi^2 var_{t-1} + s2_e

    Args:
        prior: prior of the inferred inputs.
        states: states in the encoded bins.
        noise: (B, k, U), standard normal.

    Returns:
        Means, log-variances and samples, each (B, k, U).
    """
    assert states.co_means is not None
    assert states.co_logvars is not None
    assert states.co_samples is not None
    phi, innovation = prior.phi(), prior.log_innovation_var.exp()
    mean, u = states.co_means[:, -1], states.co_samples[:, -1]
    var = states.co_logvars[:, -1].exp()
    means, logvars, samples = [], [], []
    for e in noise.unbind(1):
        mean, var, u = (
            phi * mean,
            phi.square() * var + innovation,
            phi * u + innovation.sqrt() * e,
        )
        means.append(mean)
        logvars.append(var.log())
        samples.append(u)
    mean, logvar, u = (torch.stack(x).transpose(0, 1) for x in (means, logvars, samples))
    return mean, logvar, u


def joined(first: DecoderStates, then: DecoderStates) -> DecoderStates:
    """Join the states of consecutive bins; the controller has none in the later bins."""
    together = {
        name: torch.cat([a.transpose(0, 1), b.transpose(0, 1)]).transpose(0, 1)
        for name, a, b in zip(DecoderStates._fields, first, then, strict=True)
        if a is not None and b is not None
    }
    return first._replace(**together)
