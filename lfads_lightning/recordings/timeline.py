"""Spike times on one clock, in seconds: units of time, separate tables, trials."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import check_dtype
from lfads_lightning.recordings import names
from lfads_lightning.recordings.clocks import check_times, rising
from lfads_lightning.recordings.records import Counts, Recording, Signal, Spikes, Timeline
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.tables import plain_ids, read_table

Columns = dict[str, np.ndarray]


def timeline(recording: Recording, spikes: Spikes, settings: Settings) -> Timeline:
    """Put spikes, trials and behaviour on one clock.

    Raises:
        LFADSError: times are not finite, run backwards or look like another unit, or a separate
            table does not fit the recording.
    """
    source, ids = recording.source, recording.units.ids
    scale = settings.seconds_per_unit
    own = scale if spikes.seconds_per_unit is None else spikes.seconds_per_unit
    times = [np.asarray(t, np.float64) * own for t in spikes.times]
    trials, trial_ids = _trials(recording, spikes, settings)
    for name in ("start_time", "stop_time"):
        if trials is not None and name in trials:
            check_dtype(f"{source}: {name}", trials[name].dtype)
    zeros = None
    if spikes.trials is None:
        times = rising(times, ids, source + (f": {spikes.key}" if spikes.key else ""))
    else:
        assert trial_ids is not None
        times, zeros = _one_after_another(times, spikes.trials, trial_ids)
    made = Timeline(
        source,
        times,
        ids,
        trials,
        trial_ids,
        zeros,
        None if spikes.observed is None else [pairs * scale for pairs in spikes.observed],
        None if spikes.invalid is None else spikes.invalid * scale,
        [_checked(s._replace(times=s.times * scale), source) for s in recording.signals],
        settings.time_unit is not None or spikes.seconds_per_unit is not None,
    )
    check_times(made)
    if settings.behaviour_file is not None:
        return made._replace(signals=[_from_file(made, settings.behaviour_file, settings)])
    if settings.behaviour and not made.signals:
        raise LFADSError(
            f"{source}: holds no behaviour; behaviour={settings.behaviour[0]} needs a table with a "
            "column time: give it with behaviour_file"
        )
    return made


def _trials(
    recording: Recording, spikes: Spikes, settings: Settings
) -> tuple[Columns | None, np.ndarray | None]:
    """Return the columns of the trials, and the trials' names."""
    source, table, others = recording.source, None, recording.other_columns
    if settings.trials is not None and not recording.trials_are_named:
        table = standard_columns(read_table(Path(settings.trials)))
    if spikes.trials is not None:
        ids = _ids_of_trials(source, spikes, table)
        own = _columns_of(source, others, len(ids), None, settings)
        if spikes.trial_ids is not None and table is None:
            own |= {"trial": spikes.trial_ids}
        return own | (table or {}), ids
    if table is not None:
        return table, _table_ids(table)
    start = names.find(others, names.STARTS)
    if start is None and settings.align_to in others:  # events are enough to tell trials
        start = settings.align_to
    if start is not None:
        return _columns_of(source, others, len(others[start]), start, settings), None
    return recording.trials, recording.trial_ids


def trials_of_counts(recording: Recording, counts: Counts, settings: Settings) -> Columns | None:
    """Return the columns of a trial table given with counts; None if there is none.

    Args:
        recording: the recording; if it is continuous, ``other_columns`` may hold a table.
        counts: its counts: by trial, with a row of the table for each, or continuous.
        settings: the path of the table.
    """
    source = recording.source
    if settings.trials is not None:
        table = standard_columns(read_table(Path(settings.trials)))
        if settings.chop_bins is not None:
            raise LFADSError(
                f"{source}: trials and chop_bins cut the recording in two ways; leave one out"
            )
        n_rows, n_trials = len(_table_ids(table)), len(counts.values)
        if not counts.is_continuous and n_rows != n_trials:
            raise LFADSError(
                f"{settings.trials}: has {n_rows} rows, the counts have {n_trials} trials; "
                "expected a row for each"
            )
        return table
    if not counts.is_continuous:
        return None
    start = names.find(recording.other_columns, names.STARTS)
    if start is None and settings.align_to in recording.other_columns:
        start = settings.align_to
    if start is None:
        return None
    n = len(recording.other_columns[start])
    return _columns_of(source, recording.other_columns, n, start, settings)


def _columns_of(
    source: str, others: Columns, n: int, start: str | None, settings: Settings
) -> Columns:
    """Return arrays given with the spikes that have an entry for each of ``n`` trials."""
    event = settings.align_to
    if event is not None and event in others and len(others[event]) != n:
        told = "" if start is None else f" ({start})"
        raise LFADSError(
            f"{source}: {event} has {len(others[event])} entries, the trials are {n}{told}; "
            "expected one for each, NaN where it did not happen"
        )
    return standard_columns({key: column for key, column in others.items() if len(column) == n})


def _ids_of_trials(source: str, spikes: Spikes, table: Columns | None) -> np.ndarray:
    assert spikes.trials is not None
    in_table = None if table is None else _table_ids(table)
    if in_table is not None and len(set(in_table.tolist())) < len(in_table):
        values, n = np.unique(in_table, return_counts=True)
        raise LFADSError(
            f"{source}: the trial table has {n.max()} rows of trial {values[n.argmax()]}; expected "
            "one of each, as spikes come by trial"
        )
    if (ids := spikes.trial_ids) is not None:
        if in_table is not None and len(in_table) != len(ids):
            raise LFADSError(
                f"{source}: has spikes of {len(ids)} trials, the trial table has {len(in_table)} "
                "rows; expected a row for each"
            )
        return ids
    ids = np.unique(np.concatenate(spikes.trials) if spikes.trials else ())
    if in_table is None:
        return ids
    strangers = np.setdiff1d(ids, in_table)
    if len(strangers):
        raise LFADSError(
            f"{source}: spikes of trial {strangers[0]}, which the trial table does not have; "
            f"expected one of {listed(in_table.tolist())}"
        )
    return in_table


def _one_after_another(
    times: list[np.ndarray], trials: list[np.ndarray], ids: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Put trials with their own clocks on one clock, far apart; also return their zeros."""
    place = {value: i for i, value in enumerate(ids.tolist())}
    filled = [t for t in times if len(t)]
    low = min((float(t.min()) for t in filled), default=0.0)
    high = max((float(t.max()) for t in filled), default=1.0)
    # windows that reach one length of a trial beyond the spikes meet none of the next trial's
    zeros = np.arange(len(ids)) * float(np.ceil(3 * (high - low) + 3))
    placed = []
    for own, which in zip(times, trials, strict=True):
        position = np.array([place[value] for value in which.tolist()], dtype=np.int64)
        placed.append(np.sort(own + zeros[position]))
    return placed, zeros


def _table_ids(table: Mapping[str, np.ndarray]) -> np.ndarray:
    key = names.find(table, (*names.TRIALS, "id"))
    length = len(next(iter(table.values()))) if table else 0
    return np.arange(length) if key is None else plain_ids(table[key])


def standard_columns(table: Mapping[str, np.ndarray]) -> Columns:
    """Rename the columns of start and end to our names."""
    ours = {
        names.find(table, names.STARTS): "start_time",
        names.find(table, names.STOPS): "stop_time",
    }
    return {ours.get(key, key): values for key, values in table.items()}


def _from_file(made: Timeline, file: str, settings: Settings) -> Signal:
    """Read sampled behaviour from a table with a column of times."""
    path = Path(file)
    table = read_table(path)
    time = names.require(
        table, settings.time_column if settings.time_column in table else None, names.TIMES,
        str(path), "time_column", "the time of a sample",
    )  # fmt: skip
    trial = names.find(table, names.TRIALS) if made.zeros_s is not None else None
    chosen = settings.behaviour or [k for k in table if k not in (time, trial)]
    for key in chosen:
        if key not in table or table[key].dtype.kind not in "biuf":
            raise LFADSError(
                f"{path}: behaviour {key} is no column of numbers{nearest(key, table)}; found "
                f"{listed(table, 20)}"
            )
    times = table[time] * settings.seconds_per_unit
    if made.zeros_s is not None:
        if trial is None:
            raise LFADSError(f"{path}: has no column trial, which the spikes have; add it")
        assert made.trial_ids is not None
        zeros = dict(zip(made.trial_ids.tolist(), made.zeros_s.tolist(), strict=True))
        times = times + np.array([zeros.get(t, np.nan) for t in plain_ids(table[trial]).tolist()])
    values = np.stack([table[key] for key in chosen], axis=1).astype(np.float64)
    if trial is not None:  # trials without spikes or table row are not used, and come in any order
        order = np.argsort(times, kind="stable")[: np.isfinite(times).sum()]
        times, values = times[order], values[order]
    return _checked(Signal(path.stem, times, values, list(chosen)), str(path))


def _checked(signal: Signal, source: str) -> Signal:
    """Refuse sample times that do not rise."""
    steps = np.diff(signal.times)
    if not np.isfinite(signal.times).all() or (steps <= 0).any():
        at = int(np.argmax(~(steps > 0))) + 1 if len(steps) else 0
        raise LFADSError(
            f"{source}: {signal.name}: sample {at} is no later than the one before it; expected "
            "rising times, in seconds"
        )
    return signal
