"""Checks that new data have the bin width and neurons of a model; neurons are put in its order."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError, SessionSpec
from lfads_lightning.data.fields import OF_SESSION, OF_SPLIT, Field, Session, Split


class Identity(NamedTuple):
    """Bin width and neurons of a model's training data, as far as the data had them.

    Attributes:
        bin_width_s: bin width of all sessions; None if it is not known.
        neuron_ids: names of the neurons, for sessions that had them.
    """

    bin_width_s: float | None = None
    neuron_ids: Mapping[str, Sequence[int | str]] = {}

    def to_record(self) -> dict[str, Any]:
        """Return the identity in plain types, for a checkpoint."""
        ids = {name: list(values) for name, values in self.neuron_ids.items()}
        return {"bin_width_s": self.bin_width_s, "neuron_ids": ids}


def identity_of(sessions: Sequence[Session], before: Identity | None = None) -> Identity:
    """Return bin width and neurons of sessions.

    Args:
        sessions: the sessions.
        before: what a model already knows of other sessions.
    """
    before = before or Identity()
    widths = [s.bin_width_s for s in sessions if s.bin_width_s is not None]
    named = {s.name: s.neuron_ids.tolist() for s in sessions if s.neuron_ids is not None}
    width = float(widths[0]) if widths else before.bin_width_s
    return Identity(width, {**before.neuron_ids, **named})


def read_identity(record: Mapping[str, Any]) -> Identity:
    """Return the identity in a checkpoint's record; in older checkpoints it is empty."""
    return Identity(record.get("bin_width_s"), record.get("neuron_ids") or {})


def is_identity(record: Mapping[str, Any]) -> bool:
    """Return whether a record, which may come from anybody, has the right types."""
    width, ids = record.get("bin_width_s"), record.get("neuron_ids", {})
    if width is not None and not (type(width) in (int, float) and 0 < width < math.inf):
        return False
    return isinstance(ids, dict) and all(
        isinstance(name, str) and isinstance(row, list) and all(type(i) in (int, str) for i in row)
        for name, row in ids.items()
    )


def check_bin_width(session: Session, known: Identity) -> None:
    """Refuse data whose bin width is not the model's.

    Raises:
        LFADSError: it differs.
    """
    width, was = session.bin_width_s, known.bin_width_s
    if None in (width, was) or math.isclose(width, was, rel_tol=1e-3):  # type: ignore[arg-type]
        return
    raise LFADSError(
        f"{session.source}: bin_width_s is {width:g} ({1000 * width:g} ms), but the model was "  # type: ignore[operator]
        f"trained on bins of {was:g} s ({1000 * was:g} ms); expected the same bin width, since "  # type: ignore[operator]
        f"its rates and its dynamics are per bin; bin the recording likewise (lfads prepare "
        f"--bin-width-s {was:g})"
    )


def check_order(session: Session, known: Identity) -> None:
    """Refuse neurons that are not the model's, or are in a different order.

    Raises:
        LFADSError: they differ.
    """
    order = _order(session, known)
    if order is not None:
        raise LFADSError(
            f"{session.source}: neuron_ids are those of the model's session, but in another order "
            f"(here {listed(_ids(session), 3)}, there {listed(known.neuron_ids[session.name], 3)})"
            "; training can only be continued with the same order; write the neurons in that order"
        )


def in_order(session: Session, known: Identity) -> Session:
    """Return a session with its neurons in the model's order; warn if they were in another.

    Args:
        session: the session, under the name that it has in the model.
        known: the model's identity.

    Raises:
        LFADSError: the neurons are not those of the model.
    """
    order = _order(session, known)
    if order is None:
        return session
    warnings.warn(
        f"{session.source}: neuron_ids are not in the model's order; the neurons are reordered "
        f"({listed(known.neuron_ids[session.name], 3)}), in the results too",
        stacklevel=3,
    )
    splits = {
        name: split._replace(**_turned(split, OF_SPLIT, order))
        for name, split in session.splits.items()
    }
    held_out = session.held_out_neurons
    return replace(
        session,
        train=splits["train"],
        valid=splits.get("valid"),
        held_out_neurons=None if held_out is None else np.flatnonzero(np.isin(order, held_out)),
        **_turned(session, OF_SESSION, order),
    )


def _turned(
    holder: Split | Session, fields: Mapping[str, Field], order: np.ndarray
) -> dict[str, Any]:
    """Return every array that has an entry per neuron, with the neurons reordered."""
    arrays = {name: getattr(holder, name) for name, field in fields.items() if "D" in field.axes}
    return {
        name: array.take(order, fields[name].axes.index("D"))
        for name, array in arrays.items()
        if array is not None
    }


def _ids(session: Session) -> list[int | str]:
    return [] if session.neuron_ids is None else session.neuron_ids.tolist()


def _order(session: Session, known: Identity) -> np.ndarray | None:
    """Return the columns of a session in the model's order; None if that is their order already."""
    ids, wanted = [str(i) for i in _ids(session)], known.neuron_ids.get(session.name)
    if not ids or not wanted:
        return None
    theirs = [str(i) for i in wanted]
    if ids == theirs:
        return None
    missing, extra = ([i for i in a if i not in set(b)] for a, b in ((theirs, ids), (ids, theirs)))
    twice = len(set(ids)) < len(ids) or len(set(theirs)) < len(theirs)
    if missing or extra or twice:
        words = [f"without {listed(missing)}"] if missing else []
        words += [f"with {listed(extra)}, which the model does not know"] if extra else []
        words += ["with ids that occur twice"] if twice and not words else []
        raise LFADSError(
            f"{session.source}: neuron_ids differ from those of the model's session "
            f"{session.name!r}: {' and '.join(words)}; expected the {len(theirs)} neurons it was "
            "trained on; leave out or add neurons, or start training from this model with a "
            "session of another name (optim.start_from)"
        )
    place = {unit: k for k, unit in enumerate(ids)}
    return np.array([place[unit] for unit in theirs])


def describe(sessions: dict[str, SessionSpec]) -> str:
    """Return session names and sizes for a message."""
    shown = [
        f"{s.name!r} ({s.data_dim} neurons"
        + (f", {s.ext_input_dim} external inputs" if s.ext_input_dim else "")
        + (f", held out {listed(s.held_out)}" if s.held_out else "")
        + (f", {s.forward_steps} forward bins" if s.forward_steps else "")
        + (", aligned)" if s.aligned else ")")
        for s in list(sessions.values())[:4]
    ]
    return ", ".join(shown) + (f" and {len(sessions) - 4} more" if len(sessions) > 4 else "")
