"""Spike times that come as rows: a time, its neuron, perhaps its trial."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import listed, nearest
from lfads_lightning.recordings import names
from lfads_lightning.recordings.clocks import rising
from lfads_lightning.recordings.records import Signal, Spikes
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.tables import read_table


def spikes_from_rows(
    columns: Mapping[str, np.ndarray], source: str, settings: Settings, name: str
) -> Spikes:
    """Make a recording of columns with one row per spike.

    Args:
        columns: (S,) each: times, neurons, and trials where spikes come cut into trials: times
            then count from each trial's own beginning.
        source: named in errors.
        settings: names of the columns, unit of time, trial table and behaviour file.
        name: of the recording, for ``{name}`` in the names of these files.
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
        raise LFADSError(f"{source}: {time} {_no_number(times)}; expected seconds, as 12.345")
    ids, neuron = np.unique(columns[unit], return_inverse=True)
    table = _table(settings.trials, name)
    times = times * settings.seconds_per_unit
    if trial is None:
        ids = _plain_ids(ids)
        own = [times[neuron == d] for d in range(len(ids))]
        spikes = Spikes(source, rising(own, ids, source), ids, table)
        if table is not None:
            spikes.trial_ids = _table_ids(table)
    else:
        which = columns[trial]
        spikes = cut_rows(source, times, neuron, _plain_ids(ids), which, table)
    return spikes


def by_neuron(times: np.ndarray, neuron: np.ndarray, n: int) -> list[np.ndarray]:
    """Sort spike times (S,) into one rising array for each of ``n`` neurons."""
    return [np.sort(times[neuron == d]).astype(np.float64) for d in range(n)]


def cut_rows(
    source: str,
    times: np.ndarray,
    neuron: np.ndarray,
    neuron_ids: np.ndarray,
    trial: np.ndarray,
    table: dict[str, np.ndarray] | None,
) -> Spikes:
    """Put spikes that come cut into trials on one clock, the trials far apart."""
    ids = np.unique(trial)
    in_table = None if table is None else _table_ids(table)
    if in_table is not None:
        strangers = np.setdiff1d(ids, in_table)
        if len(strangers):
            raise LFADSError(
                f"{source}: spikes of trial {strangers[0]}, which the trial table does not have; "
                f"expected one of {listed(in_table.tolist())}"
            )
        ids = in_table
    place = {value: i for i, value in enumerate(ids.tolist())}
    position = np.array([place[value] for value in trial.tolist()], dtype=np.int64)
    low, high = (float(times.min()), float(times.max())) if len(times) else (0.0, 1.0)
    # windows that reach one length of a trial beyond the spikes meet none of the next trial's
    spacing = float(np.ceil(3 * (high - low) + 3))
    zeros = np.arange(len(ids)) * spacing
    spikes = by_neuron(times + zeros[position], neuron, len(neuron_ids))
    return Spikes(source, spikes, neuron_ids, dict(table or {}), ids, zeros)


def _plain_ids(ids: np.ndarray) -> np.ndarray:
    """Show whole numbers without a decimal point: a CSV file's numbers are floats."""
    whole = ids.dtype.kind == "f" and np.array_equal(ids, np.floor(ids))
    return ids.astype(np.int64) if whole else ids


def _table_ids(table: Mapping[str, np.ndarray]) -> np.ndarray:
    key = names.find(table, (*names.TRIALS, "id"))
    length = len(next(iter(table.values()))) if table else 0
    return np.arange(length) if key is None else _plain_ids(table[key])


def _table(pattern: str | None, name: str) -> dict[str, np.ndarray] | None:
    """Read a trial table; its times are in the same unit as the spikes'."""
    if pattern is None:
        return None
    return standard(read_table(Path(pattern.replace("{name}", name))))


def standard(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Call the columns of begin and end by our names."""
    ours = {
        names.find(table, names.STARTS): "start_time",
        names.find(table, names.STOPS): "stop_time",
    }
    return {ours.get(key, key): values for key, values in table.items()}


def _no_number(times: np.ndarray) -> str:
    """Say which value of a column is no time."""
    if times.dtype.kind in "iuf":
        row = int(np.flatnonzero(~np.isfinite(times))[0])
    else:
        row = next((i for i, v in enumerate(times.tolist()) if not _is_finite(v)), 0)
    return f"is not a number in every row, first in row {row + 1}: {str(times[row])!r}"


def _is_finite(text: Any) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except (TypeError, ValueError):
        return False


def add_behaviour_file(spikes: Spikes, settings: Settings, name: str) -> Spikes:
    """Read sampled behaviour from a table with a column of times.

    Raises:
        LFADSError: no such column, or times do not rise.
    """
    if settings.behaviour_file is None:
        return spikes
    path = Path(settings.behaviour_file.replace("{name}", name))
    table = read_table(path)
    time = names.require(
        table, settings.time_column if settings.time_column in table else None, names.TIMES,
        str(path), "time_column", "the time of a sample",
    )  # fmt: skip
    trial = names.find(table, names.TRIALS) if spikes.zeros_s is not None else None
    chosen = settings.behaviour or [k for k in table if k not in (time, trial)]
    for key in chosen:
        if key not in table or table[key].dtype.kind not in "biuf":
            raise LFADSError(
                f"{path}: behaviour {key} is no column of numbers{nearest(key, table)}; found "
                f"{listed(table, 20)}"
            )
    times = table[time] * settings.seconds_per_unit
    if spikes.zeros_s is not None:
        if trial is None:
            raise LFADSError(f"{path}: has no column trial, which the spikes have; add it")
        assert spikes.trial_ids is not None
        zeros = dict(zip(spikes.trial_ids.tolist(), spikes.zeros_s.tolist(), strict=True))
        times = times + np.array([zeros.get(t, np.nan) for t in _plain_ids(table[trial]).tolist()])
    values = np.stack([table[key] for key in chosen], axis=1).astype(np.float64)
    if trial is not None:  # trials without spikes or table row are not used, and come in any order
        order = np.argsort(times, kind="stable")[: np.isfinite(times).sum()]
        times, values = times[order], values[order]
    signal = Signal(path.stem, times, values, list(chosen))
    return dataclasses.replace(spikes, signals=[checked_signal(signal, str(path))])


def checked_signal(signal: Signal, source: str) -> Signal:
    """Refuse sample times that do not rise."""
    steps = np.diff(signal.times_s)
    if not np.isfinite(signal.times_s).all() or (steps <= 0).any():
        at = int(np.argmax(~(steps > 0))) + 1 if len(steps) else 0
        raise LFADSError(
            f"{source}: {signal.name}: sample {at} is no later than the one before it; expected "
            "rising times, in seconds"
        )
    return signal


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
