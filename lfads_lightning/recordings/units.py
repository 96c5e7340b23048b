"""Which units of a recording are taken, and which of these are held out."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings import names
from lfads_lightning.recordings.records import Recording, Spikes, Units
from lfads_lightning.recordings.selection import chosen, names_in
from lfads_lightning.recordings.settings import Settings


def choose_units(recording: Recording, settings: Settings) -> tuple[Recording, list[str]]:
    """Take the units of the quality asked for, or of the format's usual one, and by ``units``.

    Counts keep all their units, which :func:`selected` tells: they are not copied.

    Returns:
        The recording of these units, and what was left out.

    Raises:
        LFADSError: no unit is of this kind, or the file does not say.
    """
    recording, notes = _of_quality(recording, settings)
    if settings.units is not None and isinstance(recording.activity, Spikes):
        keep = selected(recording, settings)
        if not keep.all():
            notes.append(unselected(keep, settings))
            recording = _only(recording, recording.activity, np.flatnonzero(keep))
    return recording, notes


def selected(recording: Recording, settings: Settings) -> np.ndarray:
    """Return which units the condition ``units`` selects, (D,) booleans.

    Raises:
        LFADSError: it is no condition on their columns, or true of none.
    """
    units, n = recording.units, len(recording.units.ids)
    if settings.units is None:
        return np.ones(n, bool)
    columns = {"id": units.ids} | units.columns
    if units.quality is not None:
        columns.setdefault("quality", units.quality)
    keep = chosen(settings.units, columns, n, "units", recording.source)
    if not keep.any():
        raise LFADSError(
            f'{recording.source}: units "{settings.units}" selects none of the {n} units; check '
            "the values in these columns"
        )
    return keep


def unselected(keep: np.ndarray, settings: Settings) -> str:
    """Say how many units the condition leaves out."""
    return f"{(~keep).sum()} units that do not satisfy {settings.units}"


def _of_quality(recording: Recording, settings: Settings) -> tuple[Recording, list[str]]:
    units, spikes = recording.units, recording.activity
    asked = settings.qualities
    if not asked and not _speaks_of_quality(units, settings.units):
        asked = units.usual_quality
    if units.quality is None or not isinstance(spikes, Spikes):
        if settings.qualities:
            raise LFADSError(
                f"{recording.source}: does not say how good its units are; unit_quality is for "
                "units that a sorter or a person has labelled; leave it out, or name units in "
                "leave_out"
            )
        return recording, []
    if not asked or "all" in asked:
        return recording, []
    labels = np.char.lower(units.quality.astype(str))
    keep = np.isin(labels, [quality.lower() for quality in asked])
    found = Counter(units.quality.tolist()).most_common()
    if not keep.any():
        tallies = listed([f"{label} ({n})" for label, n in found], 20)
        remedy = found[0][0] if found else "all"
        raise LFADSError(
            f"{recording.source}: none of its {len(keep)} units is {' or '.join(asked)}; found "
            f"{tallies}; choose others with unit_quality={remedy}, or unit_quality=all"
        )
    if keep.all():
        return recording, []
    left = Counter(units.quality[~keep].tolist()).most_common()
    note = (
        f"{(~keep).sum()} units that are not {' or '.join(asked)}: "
        f"{listed([f'{n} {label}' for label, n in left])}"
    )
    return _only(recording, spikes, np.flatnonzero(keep)), [note]


def _speaks_of_quality(units: Units, condition: str | None) -> bool:
    """Tell whether a condition names the quality, so that the usual one does not rule."""
    if condition is None or units.quality is None:
        return False
    named = names_in(condition)
    return "quality" in named or any(
        name.lower() in named and column.dtype.kind == "U" and name.lower() in names.QUALITIES
        for name, column in units.columns.items()
    )


def _only(recording: Recording, spikes: Spikes, keep: np.ndarray) -> Recording:
    """Return a recording of some of its units."""

    def chosen(of_units: list[np.ndarray]) -> list[np.ndarray]:
        return [of_units[d] for d in keep]

    units = recording.units
    return replace(
        recording,
        units=replace(
            units,
            ids=units.ids[keep],
            columns={name: column[keep] for name, column in units.columns.items()},
            quality=None if units.quality is None else units.quality[keep],
            held_out=None if units.held_out is None else units.held_out[keep],
        ),
        activity=replace(
            spikes,
            times=chosen(spikes.times),
            trials=None if spikes.trials is None else chosen(spikes.trials),
            observed=None if spikes.observed is None else chosen(spikes.observed),
        ),
    )


def held_out(recording: Recording, settings: Settings) -> np.ndarray | None:
    """Return which units are held out, (D,) booleans: as the reader says, else by their columns.

    Raises:
        LFADSError: there is no such column, or it does not say which.
    """
    units = recording.units
    if units.held_out is not None:
        return units.held_out
    key = settings.held_out or names.find(units.columns, names.HELD_OUT)
    if key is None:
        return None
    names.require(units.columns, key, (), recording.source, "held_out", "a column of the units")
    return flags(units.columns[key], units.ids, f"{recording.source}: {key}")


def flags(values: Any, ids: np.ndarray, where: str) -> np.ndarray:
    """Read which neurons are held out: a flag for each, or the ids of those."""
    values = np.asarray(values).ravel()
    if values.dtype.kind == "b" and len(values) == len(ids):
        return values
    if values.dtype.kind in "iuf" and len(values) == len(ids) and np.isin(values, (0, 1)).all():
        return values.astype(bool)
    strangers = [v for v in values.tolist() if v not in ids.tolist()]
    if strangers:
        raise LFADSError(
            f"{where}: {strangers[0]} is no neuron; expected a flag for each of the {len(ids)} "
            "neurons, or the ids of those to hold out"
        )
    return np.isin(ids, values)
