"""Recordings in memory: arrays by name, data frames, and objects of other libraries.

Objects are recognised by their attributes, without importing their libraries: groups of spike times
(pynapple ``TsGroup``), Neo ``SpikeTrain`` lists and segments, ``NWBFile``, xarray with named axes.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import NAMED_AXES, as_array
from lfads_lightning.data.session_files import check_declared
from lfads_lightning.recordings import names
from lfads_lightning.recordings.named_arrays import Cells, recording_from_arrays
from lfads_lightning.recordings.records import Counts, Recording, Spikes, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.table_rows import recording_from_table
from lfads_lightning.recordings.tables import columns_of_frame
from lfads_lightning.recordings.timeline import standard_columns

Columns = dict[str, np.ndarray]
_KNOWN = {*names.COUNTS, *names.TIMES, *names.UNITS, *names.STARTS, *names.STOPS}


def is_in_memory(recording: Any) -> bool:
    """Return whether a recording is an object in memory, not a path."""
    return not isinstance(recording, str | os.PathLike)


def read_memory(recording: Any, source: str, settings: Settings) -> Recording:
    """Make a recording from an array, {name: array}, or an object of another library.

    Raises:
        LFADSError: it is none of these, or something in it is wrong.
    """
    if hasattr(recording, "time_support"):
        return _of_pynapple(recording, source, settings)
    if hasattr(recording, "units") and hasattr(recording, "session_start_time"):
        from lfads_lightning.recordings.readers.nwb import recording_of

        return recording_of(recording, source, settings)
    if hasattr(recording, "segments") or hasattr(recording, "events"):
        return _of_neo(getattr(recording, "segments", [recording]), source, settings)
    trains = getattr(recording, "spiketrains", recording)
    if _are_spike_trains(trains):
        return _of_spike_trains(list(trains), source)
    if hasattr(recording, "data_vars"):
        recording = _array_of_dataset(recording, source, settings)
    if hasattr(recording, "dims") and hasattr(recording, "coords") and hasattr(recording, "values"):
        return _of_named_axes(recording, source, settings)
    if hasattr(recording, "columns"):
        return recording_from_table(columns_of_frame(recording, source), source, settings)
    if (trains := _by_unit(recording, settings)) is not None:
        ids, times = trains
        return Recording(source, Units(ids), Spikes(times))
    if (cells := _by_trial(recording)) is not None and _is_ragged(cells):
        return recording_from_arrays({names.TIMES[1]: cells}, source, settings)
    if isinstance(recording, Mapping):
        arrays = {str(key): _read(source, str(key), value) for key, value in recording.items()}
        return recording_from_arrays(arrays, source, settings)
    if (
        isinstance(recording, list | tuple)
        or _is_array_like(recording)
        or hasattr(recording, "__array__")
    ):
        key = settings.counts_key or "counts"
        return recording_from_arrays({key: _read(source, key, recording)}, source, settings)
    raise LFADSError(
        f"{source} is of type {type(recording).__name__}; expected a path, an array, {{name: "
        "array}, {unit: spike times}, a data frame, a TsGroup, Neo spike trains, an NWBFile or an "
        "array of xarray"
    )


def table_in_memory(trials: Any, source: str) -> Columns:
    """Return the columns of trials given as an object: intervals, a data frame, {name: array}.

    Raises:
        LFADSError: it is none of these.
    """
    if hasattr(trials, "as_dataframe"):  # pynapple's IntervalSet
        columns = columns_of_frame(trials.as_dataframe(), f"{source}: trials")
        return standard_columns(columns | _metadata(trials, source, len(trials)))
    if hasattr(trials, "columns"):
        return standard_columns(columns_of_frame(trials, f"{source}: trials"))
    if isinstance(trials, Mapping):
        arrays = {str(key): as_array(source, f"trials.{key}", v) for key, v in trials.items()}
        lengths = {key: a.shape for key, a in arrays.items()}
        if len(set(lengths.values())) == 1 and all(a.ndim == 1 for a in arrays.values()):
            return standard_columns(arrays)
        raise LFADSError(f"{source}: trials has columns of shapes {lengths}; expected one length")
    raise LFADSError(
        f"{source}: trials is of type {type(trials).__name__}; expected a path, an "
        "IntervalSet, a data frame or {column: values}"
    )


def add_trials(recording: Recording, columns: Columns) -> None:
    """Add trials that were given separately to a recording."""
    if isinstance(recording.activity, Spikes) and recording.activity.trials is None:
        recording.trials, recording.trial_ids, recording.other_columns = columns, None, {}
    elif isinstance(recording.activity, Spikes) or recording.activity.is_continuous:
        recording.other_columns |= columns
    else:
        n = len(recording.activity.values)
        odd = next((name for name, column in columns.items() if len(column) != n), None)
        if odd is not None:
            raise LFADSError(
                f"{recording.source}: trials has {len(columns[odd])} rows, the counts have {n} "
                "trials; expected a row for each"
            )
        recording.trials = (recording.trials or {}) | columns


def _metadata(holder: Any, source: str, n: int) -> Columns:
    """Return the columns that describe the units of a TsGroup, or the rows of an IntervalSet."""
    table = getattr(holder, "metadata", None)
    if table is None or not hasattr(table, "columns"):
        return {}
    columns = columns_of_frame(table, f"{source}: metadata")
    return {name: column for name, column in columns.items() if len(column) == n}


def _of_pynapple(recording: Any, source: str, settings: Settings) -> Recording:
    if isinstance(recording, Mapping):  # a TsGroup
        ids = np.array([*recording.keys()])
        support: Any = getattr(recording, "time_support", None)
        trains = [np.asarray(recording[key].t, np.float64) for key in ids.tolist()]
        bounds = np.stack([np.asarray(support.start), np.asarray(support.end)], axis=1)
        spikes = Spikes(trains, seconds_per_unit=1.0, observed=[bounds] * len(ids))
        return Recording(source, Units(ids, _metadata(recording, source, len(ids))), spikes)
    values, times = getattr(recording, "values", None), getattr(recording, "t", None)
    if values is None or times is None or np.ndim(values) != 2 or len(times) < 2:
        raise LFADSError(
            f"{source} is a {type(recording).__name__}; expected a TsGroup of spike times, or a "
            "TsdFrame of counts, bins × neurons"
        )
    values, times = np.asarray(values), np.asarray(times, np.float64)
    width = float(f"{float(np.median(np.diff(times))):.6g}")
    arrays = {
        "counts": _on_grid(values, times, width),
        "bin_width_s": np.array(width),
        "neuron_ids": np.array(list(getattr(recording, "columns", range(values.shape[1])))),
    }
    found = recording_from_arrays(arrays, source, settings)
    assert isinstance(found.activity, Counts)
    found.activity.start = float(times[0])
    return found


def _on_grid(values: np.ndarray, times: np.ndarray, width: float) -> np.ndarray:
    """Put values sampled in pieces on a regular grid (T, D), with NaN in the gaps."""
    at = np.round((times - times[0]) / width).astype(np.int64)
    if len(at) == at[-1] + 1:
        return values
    check_declared("its bins", (int(at[-1]) + 1, values.shape[1]), 8)
    filled = np.full((at[-1] + 1, values.shape[1]), np.nan)
    filled[at] = values
    return filled


def _are_spike_trains(value: Any) -> bool:
    """Return whether a value is a list of Neo spike trains."""
    if isinstance(value, Mapping) or not hasattr(value, "__len__") or hasattr(value, "dtype"):
        return False
    return len(value) > 0 and all(hasattr(v, "rescale") and hasattr(v, "t_start") for v in value)


def _of_spike_trains(trains: list[Any], source: str) -> Recording:
    times = [np.asarray(train.rescale("s").magnitude, np.float64).ravel() for train in trains]
    named = [getattr(train, "name", None) for train in trains]
    has_names = all(named) and len(set(named)) == len(named)
    ids = np.array(named if has_names else range(len(trains)))
    bounds = [np.array([[float(t.t_start.rescale("s")), float(t.t_stop.rescale("s"))]])
              for t in trains]  # fmt: skip
    return Recording(source, Units(ids), Spikes(times, seconds_per_unit=1.0, observed=bounds))


def _of_neo(segments: Any, source: str, settings: Settings) -> Recording:
    """Read the segments of a Neo ``Block``, or a single one: units, events and epochs by name."""
    from lfads_lightning.recordings.readers.neo import recording_of

    def seconds(values: Any) -> np.ndarray:
        return np.asarray(values.rescale("s").magnitude, np.float64).ravel()

    segments = list(segments)
    units: dict[str, list[np.ndarray]] = {}
    events: dict[tuple[str, bool], list[Any]] = {}
    bounds = np.zeros((len(segments), 2))
    for k, segment in enumerate(segments):
        for number, train in enumerate(segment.spiketrains):
            empty = [np.zeros(0)] * len(segments)
            units.setdefault(str(train.name or number), empty)[k] = seconds(train)
        bounds[k] = float(segment.t_start.rescale("s")), float(segment.t_stop.rescale("s"))
        for channel in [*segment.events, *segment.epochs]:
            lasts = getattr(channel, "durations", None)
            none: list[Any] = [(np.zeros(0), np.zeros(0), [])] * len(segments)
            events.setdefault((str(channel.name), lasts is not None), none)[k] = (
                seconds(channel),
                np.zeros(len(channel)) if lasts is None else seconds(lasts),
                [str(label) for label in channel.labels] or [""] * len(channel),
            )
    of_events = [part for parts in events.values() for part in parts]
    found = {
        "unit_names": np.array(list(units), dtype=str),
        "spikes": np.concatenate([np.zeros(0), *(t for parts in units.values() for t in parts)]),
        "n_spikes": np.array([[len(t) for t in parts] for parts in units.values()]).reshape(
            len(units), len(segments)
        ),
        "event_names": np.array([name for name, _ in events], dtype=str),
        "is_epoch": np.array([is_epoch for _, is_epoch in events], bool),
        "events": np.concatenate([np.zeros(0), *(times for times, _, _ in of_events)]),
        "durations": np.concatenate([np.zeros(0), *(lasts for _, lasts, _ in of_events)]),
        "labels": np.array([label for _, _, labels in of_events for label in labels], dtype=str),
        "n_events": np.array([[len(p[0]) for p in parts] for parts in events.values()]).reshape(
            len(events), len(segments)
        ),
        "segments": bounds,
    }
    recording = recording_of(found, source, settings)
    if len(segments) == 1 and isinstance(recording.activity, Spikes):
        recording.activity.observed = [bounds] * len(recording.units.ids)
    return recording


def _by_unit(recording: Any, settings: Settings) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """Return ids and spike times of {unit: times} or a list of times; None if it is neither."""
    asked = (settings.counts_key, settings.time_column, settings.unit_column)
    if isinstance(recording, Mapping):
        if any(asked) or {str(key).lower() for key in recording} & _KNOWN:
            return None
        ids, values = list(recording), list(recording.values())
    elif isinstance(recording, list | tuple) or _is_objects(recording):
        ids, values = list(range(len(recording))), list(recording)
    else:
        return None
    times = [_vector(value) for value in values]
    found = [t for t in times if t is not None]
    # vectors of one length may be the rows of a matrix
    if len(found) < len(times) or len({len(t) for t in found}) < 2:
        return None
    if isinstance(recording, Mapping) and not all((np.diff(t) >= 0).all() for t in found):
        return None  # by names that nobody knows: units of spikes, conditions
    return np.array(ids if all(isinstance(i, int) for i in ids) else list(map(str, ids))), found


def _vector(value: Any) -> np.ndarray | None:
    """Return a row of numbers, also from a pynapple ``Ts``; None if it is not one."""
    value = getattr(value, "t", value) if hasattr(value, "time_support") else value
    if isinstance(value, str | Mapping):
        return None
    try:
        vector = np.asarray(value, np.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    return vector if vector.ndim == 1 else None


def _by_trial(value: Any) -> Cells | None:
    """Return spike times by neuron and trial; None if it is not such a list of lists."""
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(isinstance(row, list | tuple) or _is_objects(row) for row in value):
        return None
    n = {len(row) for row in value}
    items = [_vector(times) for row in value for times in row]
    found = [times for times in items if times is not None]
    if len(n) > 1 or not found or len(found) < len(items):
        return None
    return Cells((len(value), n.pop()), found)


def _is_ragged(cells: Cells) -> bool:
    return len({len(times) for times in cells.items[: cells.shape[1]]}) > 1


def _of_named_axes(recording: Any, source: str, settings: Settings) -> Recording:
    """Read an array of xarray; its coordinates are ids of neurons, columns of trials."""
    of_trials, of_bins, of_neurons = NAMED_AXES
    known = (*of_trials, *of_bins, *of_neurons)
    dims = [str(dim) for dim in recording.dims]
    if settings.axes is not None:
        values = np.asarray(recording.values)
    elif all(dim.lower().startswith(known) or dim.startswith("dim_") for dim in dims):
        values = as_array(source, "counts", recording)  # in our order, if the names tell it
    else:
        raise LFADSError(
            f"{source}: its axes are called {listed(dims)}; expected trial, time (or bin, frame) "
            "and neuron (or unit, channel, cell), in any order; rename them, or say which they are "
            "with axes"
        )
    arrays: dict[str, Any] = {settings.counts_key or "counts": values}
    start = 0.0
    for key, coordinate in recording.coords.items():
        array = np.asarray(coordinate.values)
        if array.ndim != 1 or array.dtype.kind not in "biufUm":
            continue
        along = str(coordinate.dims[0]).lower()
        is_index = str(key) == str(coordinate.dims[0])
        if along.startswith(of_neurons):
            arrays["neuron_ids" if is_index else str(key)] = array
        elif along.startswith(of_trials):
            arrays["trial" if is_index else str(key)] = array
        elif is_index and (clock := _clock(array, coordinate.attrs)) is not None:
            start, arrays["bin_width_s"] = clock[0], np.array(clock[1])
    found = recording_from_arrays(arrays, source, settings)
    if isinstance(found.activity, Counts):
        found.activity.start = start
    return found


def _clock(times: np.ndarray, said: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the first time and the bin width of a coordinate, in seconds.

    None if its values are numbers of bins, or not evenly spaced.
    """
    if times.dtype.kind == "m":
        times, unit = times / np.timedelta64(1, "s"), 1.0
    else:
        unit = {"ms": 1e-3, "milliseconds": 1e-3}.get(str(said.get("units", "s")), 1.0)
    steps = np.diff(times.astype(np.float64))
    if len(steps) == 0 or not steps[0] > 0 or np.ptp(steps) > 0.01 * steps[0]:
        return None
    if times.dtype.kind in "biu" and unit == 1:
        return None
    return float(times[0]) * unit, float(f"{np.median(steps) * unit:.6g}")


def _array_of_dataset(recording: Any, source: str, settings: Settings) -> Any:
    """Return the counts of an xarray ``Dataset``, with what describes neurons or trials."""
    arrays = {str(name): array for name, array in recording.data_vars.items()}
    named = [settings.counts_key or names.find(arrays, names.COUNTS)]
    if named == [None]:
        named = [name for name, array in arrays.items() if array.ndim > 1]
    if len(named) != 1 or named[0] not in arrays:
        raise LFADSError(
            f"{source}: holds {listed(arrays, 20)}; expected one of these as counts; name it with "
            "counts_key"
        )
    coordinates = {name: array for name, array in arrays.items() if array.ndim == 1}
    return arrays[named[0]].assign_coords(coordinates)


def _read(source: str, key: str, value: Any) -> Any:
    """Return an array, or cells for a list of lists, such as spike times by neuron."""
    value = _unmasked(value, f"{source}: {key}")
    is_times = key.lower() in names.TIMES[:-1]
    if is_times and (cells := _by_trial(value)) is not None:
        return cells
    items = list(value) if isinstance(value, list | tuple) or _is_objects(value) else []
    items = [
        as_array(source, key, i) if _is_array_like(i) else _unmasked(i, f"{source}: {key}")
        for i in items
    ]
    lengths = {_shape(item) if isinstance(item, list | tuple | np.ndarray) else None
               for item in items}  # fmt: skip
    if lengths and None not in lengths and (len(lengths) > 1 or _is_objects(value) or is_times):
        return Cells((len(items),), [as_array(source, key, item) for item in items])
    return as_array(source, key, items if items else value)


def _unmasked(value: Any, where: str) -> Any:
    """Return a masked array as numbers, with NaN for missing entries."""
    if not np.ma.isMaskedArray(value) or not (hidden := np.ma.getmaskarray(value)).any():
        return value
    warnings.warn(
        f"{where}: the {hidden.sum()} of {hidden.size} entries that the mask hides are missing in "
        "the session file too: they are neither encoded nor scored",
        stacklevel=2,
    )
    return np.ma.filled(value.astype(np.result_type(value.dtype, np.float32)), np.nan)


def _is_array_like(item: Any) -> bool:
    """Return whether a value other than a list gives an array: sparse matrices, tensors, xarray."""
    return not isinstance(item, list | tuple | np.ndarray | str) and (
        hasattr(item, "toarray") or (hasattr(item, "__array__") and np.ndim(item) > 0)
    )


def _shape(item: Any) -> tuple[int, ...]:
    return item.shape if isinstance(item, np.ndarray) else (len(item),)


def _is_objects(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim == 1
