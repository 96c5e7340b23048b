"""What the encoders see of the data and what of them is scored: the masks against copying.

A model that sees a spike and is scored on it can lower its loss by passing the spike on.
Coordinated dropout (Keshtkaran & Pandarinath 2019) shows each entry or scores it, never both;
sample validation (the same) keeps a fixed share of entries from both, as a meter.
"""

from typing import NamedTuple

from torch import Tensor


class View(NamedTuple):
    """How one pass looks at its batch; None: everything is shown, everything is scored."""

    shown: Tensor | None = None  # (B, T, D): 0 hides; else what keeps the expected input the same
    scored: Tensor | None = None  # (B, T, D) bool
    weight: float = 1.0  # of a scored entry: 1 / their share, so that costs are per whole trial
    also: "View | None" = None  # other entries that are scored, with a weight of their own


WHOLE = View()


def coordinated(view: View, kept: Tensor, rate: float, never: Tensor | None = None) -> View:
    """Narrow a view by coordinated dropout: what it shows is shown or scored.

    Args:
        view: of sample validation, or the whole.
        kept: (B, T, D), a dropout mask: 0 hides and scores, 1 / (1 - rate) shows.
        rate: share hidden.
        never: (T, D) bool, entries that are never encoded: these cannot be copied, and are scored
            whether hidden or not.
    """
    hidden, also = kept == 0, None
    shown = kept if view.shown is None else kept * view.shown
    if never is not None:
        hidden = hidden & ~never
        also = View(None, never if view.scored is None else never & view.scored, view.weight)
    scored = hidden if view.scored is None else hidden & view.scored
    return View(shown, scored, view.weight / rate, also)


def sample_validation(never_shown: Tensor | None, rate: float, like: Tensor) -> tuple[View, View]:
    """Return the view that leaves out the entries never shown, and the one that scores only these.

    Args:
        never_shown: (B, T, D) bool, or None, where both are the whole.
        rate: their share.
        like: of the type and device of the model.
    """
    if never_shown is None:
        return WHOLE, WHOLE
    others = ~never_shown
    shown = others.to(like.dtype) / (1 - rate)
    return View(shown, others, 1 / (1 - rate)), View(shown, never_shown, 1 / rate)
