"""What the encoders see of the data, and the weight of each entry in the loss.

Four things decide it:

- Held-out neurons are predicted from the others (co-smoothing, Pei et al. 2021, section 4), the
  last ``forward_steps`` bins from those before them (the same). Encoders are built without them:
  :class:`Encoded` cuts them off. They are scored like the rest.
- Coordinated dropout (Keshtkaran & Pandarinath 2019) shows each entry or scores it, never both: a
  model that sees a spike and is scored on it lowers its loss by passing the spike on.
- Sample validation (the same) keeps a fixed share of entries from both, as a meter.
- Missing entries are neither shown nor scored, nor are bins beyond a trial's end.

The last three are a :class:`Visibility` each; :meth:`Visibility.also` joins them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lfads_lightning.config import SessionSpec
from lfads_lightning.model.layers import inside, session_key


class Visibility(NamedTuple):
    """How one pass looks at its batch; None: all is shown as it is, all has the weight 1."""

    shown: Tensor | None = None  # (B, T, D), multiplies what the encoders see; 0 hides
    weight: Tensor | None = None  # (B, T, D) of each entry in the loss; 0: not scored
    scale: float = 1.0  # of all weights, so that costs are per whole trial
    lengths: Tensor | None = None  # (B,) bins of each trial; all T

    def also(self, other: "Visibility") -> "Visibility":
        """Narrow by another one: shown is what both show, scored what both score."""
        shown, weight = _product(self.shown, other.shown), _product(self.weight, other.weight)
        lengths = other.lengths if self.lengths is None else self.lengths
        return Visibility(shown, weight, self.scale * other.scale, lengths)

    def dropped_out(self, mask: Tensor | None) -> "Visibility":
        """Show (B, T, D) through a dropout mask; what is scored stays."""
        return self._replace(shown=_product(self.shown, mask))


def _product(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a * b


WHOLE = Visibility()


def coordinated(kept: Tensor, rate: float, unseen: Tensor | None = None) -> Visibility:
    """Show or score each entry, by coordinated dropout.

    Args:
        kept: (B, T, D), a dropout mask: 0 hides and scores, 1 / (1 - rate) shows.
        rate: share hidden.
        unseen: (T, D) bool, of :meth:`Encoded.unseen`: these cannot be copied, and are scored
            whether hidden or not.
    """
    weight = (kept == 0).to(kept.dtype)
    if unseen is not None:
        weight = weight.masked_fill_(unseen, rate)  # 1 once it is scaled
    return Visibility(kept, weight, 1 / rate)


def sample_validation(
    never_shown: Tensor | None, rate: float, like: Tensor
) -> tuple[Visibility, Visibility]:
    """Leave out the entries never shown; and second, score only these.

    Args:
        never_shown: (B, T, D) bool, or None, where both are the whole.
        rate: their share.
        like: of the type and device of the model.
    """
    if never_shown is None:
        return WHOLE, WHOLE
    others = (~never_shown).to(like.dtype)
    shown = others / (1 - rate)
    never = Visibility(shown, never_shown.to(like.dtype), 1 / rate)
    return Visibility(shown, others, 1 / (1 - rate)), never


MOST_MADE_UP = 5.0  # entries that stand for one that is there


def missing(
    present: Tensor, like: Tensor, lengths: Tensor | None = None, held_in: Tensor | None = None
) -> Visibility:
    """Neither show nor score entries that were not recorded; costs are those of the others.

    What is shown of a bin is weighed up by the share of its neurons that are there, up to
    fivefold.

    >>> there = torch.tensor([[[True, False], [True, True]]])
    >>> seen = missing(there, torch.zeros(()))
    >>> seen.shown.tolist(), seen.weight.tolist()
    ([[[2.0, 0.0], [1.0, 1.0]]], [[[1.0, 0.0], [1.0, 1.0]]])

    Args:
        present: (B, T, D) bool; the data may hold any finite number elsewhere.
        like: of the type and device of the model.
        lengths: (B,) bins of each trial, or None: all T.
        held_in: channels that are encoded, or None: all.
    """
    there = present.to(like.dtype)
    encoded = there if held_in is None else there[..., held_in]
    share = encoded.mean(2, keepdim=True)
    return Visibility(there / share.clamp(min=1 / MOST_MADE_UP), there, lengths=lengths)


class Encoded(nn.Module):
    """The part of each session's data that encoders are built for; has no weights.

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

    def lengths(self, lengths: Tensor | None) -> Tensor | None:
        """Return the bins of each trial (B,) that are encoded, of all its bins."""
        return None if lengths is None else lengths - self.forward_steps

    def missing(
        self, session: str, present: Tensor | None, lengths: Tensor | None, like: Tensor
    ) -> Visibility:
        """Return the visibility of trials of a session; see :func:`missing`."""
        if present is None:
            return WHOLE
        return missing(present, like, lengths, getattr(self, session_key(session)))

    def unseen(
        self,
        session: str,
        n_bins: int,
        device: torch.device | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor | None:
        """Return which entries are never encoded; None where all are.

        Args:
            session: whose held-out neurons.
            n_bins: T.
            device: of the result.
            lengths: (B,) bins of each trial, whose last ones are the forward bins; None: all T.

        Returns:
            (T, D) bool; of trials of unequal length with forward bins (B, T, D).
        """
        channels = getattr(self, session_key(session))
        if channels is None and self.forward_steps == 0:
            return None
        channels = slice(None) if channels is None else channels
        if lengths is not None and self.forward_steps:
            seen_bins = inside(lengths - self.forward_steps, n_bins).to(device)
            unseen = torch.ones(*seen_bins.shape, self.data_dims[session], dtype=torch.bool)
            unseen = unseen.to(device)
            unseen[..., channels] = ~seen_bins[..., None]
            return unseen
        unseen = torch.ones(n_bins, self.data_dims[session], dtype=torch.bool, device=device)
        unseen[: n_bins - self.forward_steps, channels] = False
        return unseen


def held_in(session: SessionSpec) -> list[int]:
    """Return the channels of a session that are encoded."""
    held_out = set(session.held_out)
    return [c for c in range(session.data_dim) if c not in held_out]
