"""Spike times given as rows: a time, its neuron, perhaps its trial."""

from collections.abc import Mapping

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.recordings import names
from lfads_lightning.recordings.records import Recording, Spikes, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.tables import no_number, plain_ids


def spikes_from_rows(
    columns: Mapping[str, np.ndarray], source: str, settings: Settings
) -> Recording:
    """Make a recording from columns with one row per spike.

    Args:
        columns: (S,) each: times, neurons, and trials if spikes are given by trial; times then
            count from the start of each trial.
        source: name of the recording in error messages.
        settings: names of the columns.

    Raises:
        LFADSError: a column is missing, or times are not numbers.
    """
    unit = names.require(
        columns, settings.unit_column, names.UNITS, source, "unit_column", "the neuron of a spike"
    )
    time = names.require(
        columns, settings.time_column, names.TIMES, source, "time_column", "the time of a spike"
    )
    trial = settings.trial_column
    if trial is not None or names.find(columns, names.TRIALS) is not None:
        trial = names.require(
            columns, trial, names.TRIALS, source, "trial_column", "the trial of a spike"
        )
    times = columns[time]
    if times.dtype.kind not in "iuf" or not np.isfinite(times).all():
        raise LFADSError(f"{source}: {time} {no_number(times)}; expected seconds, as 12.345")
    ids, neuron = np.unique(columns[unit], return_inverse=True)
    rows = by_unit(neuron.ravel(), len(ids))
    spikes = Spikes([times[own] for own in rows])
    if trial is not None:
        spikes.trials = [columns[trial][own] for own in rows]
    about = {n: c for n, c in columns.items() if n not in (unit, time, trial)}
    of_units = {n: c for n, column in about.items() if (c := _of_units(column, rows)) is not None}
    quality = names.find(of_units, names.QUALITIES)
    is_text = quality is not None and of_units[quality].dtype.kind == "U"
    labels = of_units[quality] if quality is not None and is_text else None
    return Recording(source, Units(plain_ids(ids), of_units, labels), spikes)


def _of_units(column: np.ndarray, rows: list[np.ndarray]) -> np.ndarray | None:
    """Return a value that all spikes of a unit share, (D,), such as a region; else None."""
    if column.dtype.kind not in "biufU" or not all(len(own) for own in rows):
        return None
    if not all((column[own] == column[own[0]]).all() for own in rows):
        return None
    return np.array([column[own[0]] for own in rows])


def by_unit(unit: np.ndarray, n: int) -> list[np.ndarray]:
    """Return the rows of each of ``n`` units, in order; ``unit`` (S,) is the unit of each row."""
    order = np.argsort(unit, kind="stable")
    ends = np.cumsum(np.bincount(unit, minlength=n))
    return np.split(order, ends[:-1]) if n else []
