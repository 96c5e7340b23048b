"""What the encoders see of the data, and the weight of each entry in the loss.

Four things decide it:

- Held-out neurons are predicted from the others (co-smoothing, Pei et al. 2021, section 4), the
  last ``forward_steps`` bins from those before them (the same). Encoders are built without them:
  :class:`Encoded` cuts them off. They are scored like the rest.
- Coordinated dropout (Keshtkaran & Pandarinath 2019) shows each entry or scores it, never both: a
  model that sees a spike and is scored on it lowers its loss by passing the spike on.
- Sample validation (the same) keeps a fixed share of entries from both, as a meter.
- Missing entries are neither shown nor scored.

The last three are a :class:`Visibility` each; :meth:`Visibility.also` joins them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lfads_lightning.config import SessionSpec
from lfads_lightning.model.layers import session_key


class Visibility(NamedTuple):
    """How one pass looks at its batch; None: all is shown as it is, all has the weight 1."""

    shown: Tensor | None = None  # (B, T, D), multiplies what the encoders see; 0 hides
    weight: Tensor | None = None  # (B, T, D) of each entry in the loss; 0: not scored
    scale: float = 1.0  # of all weights, so that costs are per whole trial

    def also(self, other: "Visibility") -> "Visibility":
        """Narrow by another one: shown is what both show, scored what both score."""
        shown, weight = _product(self.shown, other.shown), _product(self.weight, other.weight)
        return Visibility(shown, weight, self.scale * other.scale)

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


def missing(entries: Tensor, like: Tensor) -> Visibility:
    """Neither show nor score entries that were not recorded; costs are those of the others.

    >>> gone = torch.tensor([[[True, False], [False, False]]])
    >>> missing(gone, torch.zeros(())).weight.tolist()
    [[[0.0, 1.0], [1.0, 1.0]]]

    Args:
        entries: (B, T, D) bool; the data may hold any finite number there.
        like: of the type and device of the model.
    """
    there = (~entries).to(like.dtype)
    return Visibility(there, there)


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

    def unseen(
        self, session: str, n_bins: int, device: torch.device | None = None
    ) -> Tensor | None:
        """Return which entries are never encoded, (T, D) bool; None where all are."""
        channels = getattr(self, session_key(session))
        if channels is None and self.forward_steps == 0:
            return None
        unseen = torch.ones(n_bins, self.data_dims[session], dtype=torch.bool, device=device)
        unseen[: n_bins - self.forward_steps, slice(None) if channels is None else channels] = False
        return unseen


def held_in(session: SessionSpec) -> list[int]:
    """Return the channels of a session that are encoded."""
    held_out = set(session.held_out)
    return [c for c in range(session.data_dim) if c not in held_out]
