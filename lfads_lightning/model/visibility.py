"""What the encoders see of the data, and the weight of each entry in the loss.

Four things decide it:

- Held-out neurons are predicted from the others (co-smoothing, Pei et al. 2021, section 4), and the
  last ``forward_steps`` bins from those before them (same section). Encoders are built without
  them: :class:`Encoded` removes them. They are scored like the rest.
- Coordinated dropout (Keshtkaran & Pandarinath 2019) shows or scores each entry, never both: a
  model that sees a spike and is scored on it can lower its loss by copying the spike.
- Sample validation (same paper) neither shows nor trains on a fixed share of entries, and uses them
  to measure overfitting.
- Missing entries are neither shown nor scored, nor are bins beyond a trial's end.

Each of the last three is a :class:`Visibility`; :meth:`Visibility.also` joins them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lfads_lightning.config import SessionSpec
from lfads_lightning.model.layers import inside, session_key


class Visibility(NamedTuple):
    """What one pass sees and scores of its batch; None: all is shown unchanged, with weight 1."""

    shown: Tensor | None = None  # (B, T, D), factors on what the encoders see; 0 hides
    weight: Tensor | None = None  # (B, T, D), weight of each entry in the loss; 0: not scored
    scale: float = 1.0  # factor on all weights, so that costs are per whole trial
    lengths: Tensor | None = None  # (B,) bins of each trial; None: all T

    def also(self, other: "Visibility") -> "Visibility":
        """Combine with another: entries are shown if both show them, scored if both score them."""
        shown, weight = _product(self.shown, other.shown), _product(self.weight, other.weight)
        lengths = other.lengths if self.lengths is None else self.lengths
        return Visibility(shown, weight, self.scale * other.scale, lengths)

    def dropped_out(self, mask: Tensor | None) -> "Visibility":
        """Apply a dropout mask (B, T, D) to what is shown; what is scored stays the same."""
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
        rate: share of hidden entries.
        unseen: (T, D) bool, from :meth:`Encoded.unseen`: these entries cannot be copied and are
            always scored.
    """
    weight = (kept == 0).to(kept.dtype)
    if unseen is not None:
        weight = weight.masked_fill_(unseen, rate)  # 1 after scaling
    return Visibility(kept, weight, 1 / rate)


def sample_validation(
    never_shown: Tensor | None, rate: float, like: Tensor
) -> tuple[Visibility, Visibility]:
    """Return two visibilities: one without the entries never shown, one that scores only these.

    Args:
        never_shown: (B, T, D) bool; if None, both show and score everything.
        rate: share of these entries.
        like: a tensor of the model's type and device.
    """
    if never_shown is None:
        return WHOLE, WHOLE
    others = (~never_shown).to(like.dtype)
    shown = others / (1 - rate)
    never = Visibility(shown, never_shown.to(like.dtype), 1 / rate)
    return Visibility(shown, others, 1 / (1 - rate)), never


MOST_MADE_UP = 5.0  # largest factor on an entry to make up for missing ones


def missing(
    present: Tensor, like: Tensor, lengths: Tensor | None = None, held_in: Tensor | None = None
) -> Visibility:
    """Neither show nor score entries that were not recorded.

    The recorded entries of a bin are scaled up to make up for its missing neurons, by at most a
    factor of five.

    >>> there = torch.tensor([[[True, False], [True, True]]])
    >>> seen = missing(there, torch.zeros(()))
    >>> seen.shown.tolist(), seen.weight.tolist()
    ([[[2.0, 0.0], [1.0, 1.0]]], [[[1.0, 0.0], [1.0, 1.0]]])

    Args:
        present: (B, T, D) bool; the data may hold any finite number elsewhere.
        like: a tensor of the model's type and device.
        lengths: (B,) bins of each trial; None: all T.
        held_in: channels that are encoded; None: all.
    """
    there = present.to(like.dtype)
    encoded = there if held_in is None else there[..., held_in]
    share = encoded.mean(2, keepdim=True)
    return Visibility(there / share.clamp(min=1 / MOST_MADE_UP), there, lengths=lengths)


class Encoded(nn.Module):
    """Selects the part of each session's data that is encoded; it has no weights.

    Args:
        sessions: the sessions; ``forward_steps`` is the same in all.
    """

    def __init__(self, sessions: Sequence[SessionSpec]) -> None:
        super().__init__()
        self.forward_steps = sessions[0].forward_steps
        self.data_dims = {s.name: s.data_dim for s in sessions}
        for s in sessions:
            index = torch.tensor(held_in(s)) if s.held_out else None
            self.register_buffer(session_key(s.name), index, persistent=False)

    def bins(self, x: Any) -> Any:
        """Return the encoded bins of x (B, T, n); None for None."""
        if x is None or self.forward_steps == 0:
            return x
        return x[:, : x.shape[1] - self.forward_steps]

    def part(self, x: Tensor, session: str) -> Tensor:
        """Return the encoded part of x (B, T, D): its first bins and held-in channels."""
        x, channels = self.bins(x), getattr(self, session_key(session))
        if channels is None:
            return x
        return x.transpose(0, 1).index_select(2, channels).transpose(0, 1)

    def lengths(self, lengths: Tensor | None) -> Tensor | None:
        """Return the number of encoded bins of each trial (B,), given its number of bins."""
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
        """Return which entries are never encoded; None if all are.

        Args:
            session: the session whose held-out neurons to use.
            n_bins: T.
            device: device of the result.
            lengths: (B,) bins of each trial, including its forward bins at the end; None: all T.

        Returns:
            (T, D) bool, or (B, T, D) for trials of unequal length with forward bins.
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
    """Return the encoded channels of a session."""
    held_out = set(session.held_out)
    return [c for c in range(session.data_dim) if c not in held_out]
