"""What the encoders see of the data: all but the held-out channels and the last bins.

Both are reconstructed and scored like the rest. Held-out channels are predicted from the others
(co-smoothing, Pei et al. 2021, section 4); the last ``forward_steps`` bins from those before them
(forward prediction, the same).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lfads_lightning.config import SessionSpec
from lfads_lightning.model.cells import ControllerInputs, DecoderStates
from lfads_lightning.model.distributions import AutoregressivePrior
from lfads_lightning.model.layers import session_key
from lfads_lightning.model.layout import time_major


class Seen(nn.Module):
    """Cut the data of each session to what is encoded of it; has no weights.

    Args:
        sessions: with one ``forward_steps`` for all.
    """

    def __init__(self, sessions: Sequence[SessionSpec]) -> None:
        super().__init__()
        self.forward_steps = sessions[0].forward_steps
        self.data_dims = {s.name: s.data_dim for s in sessions}
        for s in sessions:
            index = torch.tensor(held_in(s)) if s.held_out else None
            self.register_buffer(session_key(s.name), index, persistent=False)

    def bins(self, x: Any) -> Any:
        """Return the bins that are encoded of x (B, T, n), or None of None."""
        if x is None or self.forward_steps == 0:
            return x
        return x[:, : x.shape[1] - self.forward_steps]

    def part(self, x: Tensor, session: str) -> Tensor:
        """Return what is encoded of x (B, T, D): its first bins, its held-in channels."""
        x, channels = self.bins(x), getattr(self, session_key(session))
        if channels is None:
            return x
        return x.transpose(0, 1).index_select(2, channels).transpose(0, 1)

    def never(self, session: str, n_bins: int, device: torch.device | None = None) -> Tensor | None:
        """Return which entries are never encoded, (T, D) bool; None where all are."""
        channels = getattr(self, session_key(session))
        if channels is None and self.forward_steps == 0:
            return None
        never = torch.ones(n_bins, self.data_dims[session], dtype=torch.bool, device=device)
        never[: n_bins - self.forward_steps, slice(None) if channels is None else channels] = False
        return never

    def foresee(
        self,
        run: Callable[..., DecoderStates],
        prior: AutoregressivePrior,
        gen_ics: Tensor,
        controller: ControllerInputs,
        noise: Tensor,
        ext: Tensor | None,
        mask: Tensor | None,
    ) -> DecoderStates:
        """Run the bins that are encoded, then the generator on by itself: inputs by their prior.

        Args:
            run: the model's decoder: (start, controller, bins, inputs, mask) -> states.
            prior: over the inferred inputs.
            gen_ics: (B, G).
            controller: of the bins that are encoded.
            noise: (B, T, U), standard normal.
            ext: (B, T, I) injected into the generator, or None.
            mask: (B, T, G) dropout, or None.
        """
        n_later, n = self.forward_steps, noise.shape[1] - self.forward_steps
        states = run(gen_ics, controller, n, self.bins(ext), self.bins(mask))
        ext, mask = (None if x is None else x[:, n:] for x in (ext, mask))
        means, logvars, samples = forecast(prior, states, noise[:, n:])
        u = means if controller.drive_with_means else samples
        inputs = u if ext is None else time_major(torch.cat([u, ext], dim=2))
        later = run(states.gen_states[:, -1], None, n_later, inputs, mask)
        later = later._replace(co_means=means, co_logvars=logvars, co_samples=samples)
        return joined(states, later)


def held_in(session: SessionSpec) -> list[int]:
    """Return the channels of a session that are encoded."""
    held_out = set(session.held_out)
    return [c for c in range(session.data_dim) if c not in held_out]


def forecast(
    prior: AutoregressivePrior, states: DecoderStates, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Continue the inferred inputs by their prior, into bins that no posterior speaks of.

    u_t = phi u_{t-1} + e_t, as in :class:`AutoregressivePrior`. Samples go on from the last sample;
    the mean and the variance are those of u_t given the last bin's posterior::

        mean_t = phi mean_{t-1}        var_t = phi^2 var_{t-1} + s2_e

    Args:
        prior: over the inputs.
        states: of the bins that are encoded.
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
    """Put the states of consecutive bins together; the controller has none in the later ones."""
    together = {
        name: torch.cat([a.transpose(0, 1), b.transpose(0, 1)]).transpose(0, 1)
        for name, a, b in zip(DecoderStates._fields, first, then, strict=True)
        if a is not None and b is not None
    }
    return first._replace(**together)
