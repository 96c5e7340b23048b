"""Arrays by name, as in .npz and .mat files: counts or spike times, and what goes with them."""

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lfads_lightning.commands import listed, shown
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import check_dtype, sizes
from lfads_lightning.data.orientation import AXES, likely_axes, question
from lfads_lightning.data.session_files import check_declared
from lfads_lightning.recordings import names
from lfads_lightning.recordings.records import Counts, Recording, Signal, Spikes, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_rows import spikes_from_rows
from lfads_lightning.recordings.units import flags

# the likelier first, used if labels do not decide
ORDERS = (
    ("trials", "neurons", "bins"),
    ("neurons", "bins", "trials"),
    ("bins", "trials", "neurons"),
    ("bins", "neurons", "trials"),
    ("neurons", "trials", "bins"),
    ("neurons", "bins"),
)
MOST_DEPTH = 8  # nested structures
Arrays = Mapping[str, Any]


class Cells(NamedTuple):
    """A cell array: its shape in MATLAB, and its contents in C order."""

    shape: tuple[int, ...]
    items: list[Any]


class Unreadable(NamedTuple):
    """A variable without data; it is an error only if it is asked for."""

    what: str


class Trials(NamedTuple):
    """Counts as they came, with trials first where they came one by one.

    Attributes:
        values: an array with 2 or 3 axes.
        axes: their order, if the trials' shapes show it; None: the option ``axes``, or the usual.
        lengths: (E,), bins of each trial, if they differ.
    """

    values: np.ndarray
    axes: tuple[str, ...] | None = None
    lengths: np.ndarray | None = None


def recording_from_arrays(arrays: Arrays, source: str, settings: Settings) -> Recording:
    """Find out what arrays hold, and make a recording from them.

    Raises:
        LFADSError: there are neither counts nor spike times, or something in them is wrong.
    """
    arrays = _without_structures(arrays)
    if settings.counts_key is None:
        cells = _cells_of_times(arrays, settings)
        if cells is not None:
            return _from_cells(arrays, cells, source, settings)
        times = settings.time_column or names.find(arrays, names.TIMES[:-1])
        units = settings.unit_column or names.find(arrays, names.UNITS)
        if times is not None and units is not None:
            return _from_rows(arrays, source, settings)
        if _fields(arrays, names.COUNTS, _is_counts) == [] and (times or units):
            _refuse_rows(arrays, times, units, source)
    return _counts(arrays, source, settings)


def _without_structures(arrays: Arrays) -> dict[str, Any]:
    """Convert cells of structures, such as ``R(3).unit(2).spikeTimes``, to cells per field.

    A field of a structure in each trial becomes cells ``R.unit.spikeTimes``: one per trial, or
    units × trials if each trial has a row of such structures.
    """
    found, waiting = {}, [(key, value, 0) for key, value in reversed(list(arrays.items()))]
    while waiting:
        key, value, depth = waiting.pop()
        if depth == 0 and isinstance(value, Cells):
            value = _flat(key, value, arrays)
        items = value.items if isinstance(value, Cells) else []
        if not items or not all(isinstance(item, dict) for item in items):
            if not any(isinstance(item, dict) for item in items):
                found[key] = value
            continue
        if depth < MOST_DEPTH:
            shared = [n for n in items[0] if all(n in item for item in items)]
            for name in reversed(shared):
                inner = _turned([item[name] for item in items])
                waiting.append((f"{key}.{name}", inner, depth + 1))
    return found


def _flat(key: str, cells: Cells, arrays: Arrays) -> Any:
    """Join cells in cells, as ``R(3).spikeTimes{2}`` is stored: units × trials.

    The outer ones are trials where they are a field of a structure array, whose fields all have one
    shape; else, as ``spikes{2}{3}``, units.
    """
    items = cells.items
    if not items or not all(isinstance(item, Cells) for item in items):
        return cells
    structure = key.rpartition(".")[0]
    if structure:
        of_trials = any(
            other.startswith(structure + ".") and other != key and isinstance(value, Cells)
            and value.shape == cells.shape
            for other, value in arrays.items()
        )  # fmt: skip
        return _turned(items) if of_trials else cells
    n = {len(item.items) for item in items}
    if len(n) > 1:
        return cells
    return Cells((len(items), n.pop()), [inner for item in items for inner in item.items])


def _turned(items: list[Any]) -> Any:
    """Return the cells of one field: one per trial, or units × trials."""
    if not all(isinstance(item, Cells) for item in items):
        return Cells((len(items),), items)
    n = {len(item.items) for item in items}
    if len(n) > 1:
        return Unreadable(f"of another number of units in each trial (from {min(n)} to {max(n)})")
    n_units = n.pop()
    return Cells((n_units, len(items)), [c.items[k] for k in range(n_units) for c in items])


def _fields(arrays: Arrays, usual: Collection[str], is_such: Callable[[Any], bool]) -> list[str]:
    """Return the key with a usual name, else fields of structures with such a name that fit."""
    if (key := names.find(arrays, usual)) is not None:
        return [key]
    inner = [k for k in arrays if "." in k and k.rpartition(".")[2].lower() in usual]
    return [key for key in inner if is_such(arrays[key])]


def _is_counts(value: Any) -> bool:
    """Return whether a value can be counts: an array or cells of arrays, with two axes or more."""
    items = value.items if isinstance(value, Cells) else [value]
    are_tables = all(
        isinstance(i, np.ndarray) and i.dtype.kind in "biuf" and i.ndim > 1 for i in items
    )
    return are_tables and any(i.size for i in items)


def _refuse_rows(arrays: Arrays, times: str | None, units: str | None, source: str) -> NoReturn:
    """Refuse spikes without neurons or times, and say which array may hold them."""
    found = times or units
    option, what = ("unit_column", "neuron") if times else ("time_column", "time")
    n = _length(arrays[found]) if found is not None and found in arrays else None
    others = [k for k, v in arrays.items() if k != found and n is not None and _length(v) == n]
    hint = f"; perhaps {option}={others[0]}" if others else ""
    raise LFADSError(
        f"{source}: {found} seems to hold the {'times' if times else 'neurons'} of spikes; found "
        f"{listed(arrays, 20)}; expected the {what} of each spike as well; name its array with "
        f"{option}{hint}"
    )


def _counts(arrays: Arrays, source: str, settings: Settings) -> Recording:
    fields = [] if settings.counts_key else _fields(arrays, names.COUNTS, _is_counts)
    if len(fields) > 1:
        raise LFADSError(
            f"{source}: {listed(fields, 20)} may hold the counts; expected one; name it with "
            f"counts_key={fields[0]}"
        )
    key = names.require(
        arrays, settings.counts_key or next(iter(fields), None), names.COUNTS, source, "counts_key",
        "counts (trials × bins × neurons) or spike times with their units",
    )  # fmt: skip
    where = f"{source}: {key}"
    if _length(arrays[key]) == 0:
        raise LFADSError(f"{where} is empty; expected counts")
    values, told, lengths = _as_trials(arrays[key], where, settings, is_field="." in key)
    check_dtype(where, values.dtype)
    axes = told or settings.axes or (AXES if values.ndim == 3 else AXES[1:])
    if values.ndim not in (2, 3) or sorted(axes) != sorted(AXES[3 - values.ndim :]):
        raise LFADSError(
            f"{where} is {sizes(values.shape)}; expected "
            f"{'trials × bins × neurons, or bins × neurons' if settings.axes is None else ''}"
            f"{'' if settings.axes is None else 'axes ' + ' × '.join(axes)}"
        )
    if 0 in values.shape:
        raise LFADSError(f"{where} is empty ({sizes(values.shape)}); expected counts")
    if settings.axes is None and told is None:
        _check_orientation(arrays, key, values, where)
    values = values.transpose([axes.index(a) for a in AXES if a in axes])
    is_continuous = values.ndim == 2
    if is_continuous:
        values = values[None]
    ids_key = names.find(arrays, names.NEURON_IDS)
    ids = np.arange(values.shape[2])
    if ids_key is not None:
        ids = as_vector(arrays[ids_key], f"{source}: {ids_key}")
        if len(ids) != values.shape[2]:
            raise LFADSError(
                f"{where} has {values.shape[2]} neurons, {ids_key} names {len(ids)}; expected one "
                "for each; give the order of its axes (axes=...), or fix the names"
            )
    width_key = names.find(arrays, names.BIN_WIDTHS)
    width = None
    if width_key is not None:
        widths = as_vector(arrays[width_key], f"{source}: {width_key}")
        if len(widths) != 1 or widths.dtype.kind not in "iuf" or not 1e-9 < widths[0] < 1e9:
            raise LFADSError(
                f"{source}: {width_key} is {shown(widths.tolist())}; expected the width of a bin, "
                "one positive number"
            )
        width = widths.item() * names.BIN_WIDTHS[width_key.lower()]
    taken = {key, ids_key, width_key}
    columns = {n: c for n, c in _of_units(arrays, len(ids)).items() if n not in taken}
    quality = names.find(columns, names.QUALITIES)
    is_text = quality is not None and columns[quality].dtype.kind == "U"
    trials = _per_trial(arrays, taken, values.shape, lengths)
    other_columns = {}
    if is_continuous:
        other_columns = {
            name: as_vector(value, name)
            for name, value in arrays.items()
            if name not in taken and _length(value) not in (None, 1) and _is_vector(value)
            and _length(value) != values.shape[1]
        }  # fmt: skip
    return Recording(
        source,
        Units(
            ids,
            columns,
            columns[quality] if quality is not None and is_text else None,
            held_out=_held_out(arrays, ids, source, settings),
        ),
        Counts(key, values, width, is_continuous, lengths),
        trials={_without_prefix(name, key): column for name, column in trials.items()},
        other_columns=other_columns,
    )


def _as_trials(value: Any, where: str, settings: Settings, is_field: bool) -> Trials:
    """Return counts as an array; a cell (or list) of trials is stacked, the shorter ones filled.

    Args:
        value: the value with the name of the counts.
        where: its name in error messages.
        settings: the order of the axes, if given.
        is_field: whether it is a field of a structure array. GPFA, DataHigh and R-structs keep
            neurons × bins there, which is assumed unless the values show otherwise.
    """
    if isinstance(value, Unreadable):
        raise LFADSError(f"{where} is {value.what}")
    if not isinstance(value, Cells):
        return Trials(np.asarray(value))
    items = value.items
    if not items or not all(isinstance(i, np.ndarray) and i.ndim == 2 for i in items):
        raise LFADSError(
            f"{where} is a cell array of other things than bins × neurons; expected counts"
        )
    for item in items:
        check_dtype(where, item.dtype)
    recorded = [item for item in items if item.size]  # [] is a trial without anything
    if not recorded:
        raise LFADSError(f"{where} is empty in each of {len(items)} trials; expected counts")
    shapes = np.array([item.shape for item in recorded])
    alike = (shapes == shapes[0]).all(0)
    if alike.all() and len(recorded) == len(items):
        values = np.stack(items)
        if settings.axes is not None or not is_field:
            return Trials(values)
        return Trials(values, _axes_of_field(values, where))
    given = settings.axes[1:] if settings.axes and settings.axes[0] == "trials" else settings.axes
    if given is not None and sorted(given) != ["bins", "neurons"]:
        raise LFADSError(
            f"{where} comes trial by trial; expected axes={AXES}, or the last two in turn"
        )
    if given is None and alike.all():
        given = (_axes_of_field(np.stack(recorded), where) if is_field else AXES)[1:]
    of_time = given.index("bins") if given is not None else 1 if alike[0] else 0
    if not alike[1 - of_time]:
        n = np.unique(shapes[:, 1 - of_time])
        raise LFADSError(
            f"{where}: its trials have from {n[0]} to {n[-1]} neurons (the first is "
            f"{sizes(recorded[0].shape)}); expected bins × neurons, or neurons × bins, of the same "
            "neurons in each trial"
        )
    lengths = np.array([item.shape[of_time] if item.size else 0 for item in items], np.int64)
    return Trials(_filled(items, of_time, where), AXES, lengths)


def _filled(items: list[np.ndarray], of_time: int, where: str) -> np.ndarray:
    """Join trials, with 0 after the end of shorter ones: (E, T, K).

    Args:
        items: an array with two axes for each trial; empty if nothing was recorded.
        of_time: the axis of time.
        where: their name in error messages.
    """
    turned = [item if of_time == 0 else item.T for item in items]
    n_values = next(item.shape[1] for item in turned if item.size)
    shape = (len(items), max(map(len, turned)), n_values)
    dtype = np.result_type(*items)
    check_declared(where, shape, dtype.itemsize)
    values = np.zeros(shape, dtype)
    for trial, item in zip(values, turned, strict=True):
        if item.size:
            trial[: len(item)] = item
    return values


def _axes_of_field(values: np.ndarray, where: str) -> tuple[str, ...]:
    """Tell neurons × bins from bins × neurons; what can be either is the former."""
    usual = ("trials", "neurons", "bins")
    if likely_axes(values) == usual:
        return usual
    if likely_axes(values.transpose(0, 2, 1)) == usual:
        return AXES
    _, n_neurons, n_bins = values.shape
    warnings.warn(
        f"{where} is read as neurons × bins ({n_neurons} × {n_bins}) in each trial, as structures "
        f"of trials mostly are; if it is bins × neurons, give axes={AXES}",
        stacklevel=2,
    )
    return usual


def _of_units(arrays: Arrays, n: int) -> dict[str, np.ndarray]:
    """Return the arrays with one number or text for each of ``n`` neurons."""
    return {
        key: as_vector(value, key)
        for key, value in arrays.items()
        if not isinstance(value, Unreadable) and _length(value) == n and _is_vector(value)
    }


def _check_orientation(arrays: Arrays, key: str, values: np.ndarray, where: str) -> None:
    """Refuse axes that are probably not trials × bins × neurons."""
    expected = AXES[3 - values.ndim :]
    if values.ndim == 2 and values.shape[0] < values.shape[1]:
        _refuse_axes(where, values, "it has fewer bins than neurons", ("neurons", "bins"))
    named = {}
    for what, keys in (("trials", names.CONDITIONS), ("neurons", names.NEURON_IDS)):
        label = names.find(arrays, keys)
        n = None if label is None else _length(arrays[label])
        if n is not None and what in expected:
            named[what] = label, n
    axes = likely_axes(values)
    for what, (label, n) in named.items():
        own = expected.index(what)
        if values.shape[own] != n:
            if n not in values.shape:
                raise LFADSError(
                    f"{where} is {sizes(values.shape)}, {label} has {n} entries; expected one for "
                    f"each of the {values.shape[own]} {what}"
                )
            found = axes if axes and _agree(axes, values.shape, named) else None
            guess = found or next(
                (a for a in ORDERS if len(a) == values.ndim and _agree(a, values.shape, named)),
                None,
            )
            _refuse_axes(where, values, f"{label} names {n} {what}", guess)
    if axes is not None and _agree(axes, values.shape, named):
        _refuse_axes(where, values, question(axes), axes)


def _agree(axes: tuple[str, ...], shape: tuple[int, ...], named: Mapping[str, Any]) -> bool:
    return all(shape[axes.index(what)] == n for what, (_, n) in named.items())


def _refuse_axes(
    where: str, values: np.ndarray, seen: str, axes: tuple[str, ...] | None
) -> NoReturn:
    expected = AXES[3 - values.ndim :]
    if axes is None:
        remedy = "fix them"
    else:
        remedy = f"if it is {' × '.join(axes)}, give axes={axes}, else axes={expected}"
    raise LFADSError(
        f"{where} is {sizes(values.shape)}, and {seen}; expected {' × '.join(expected)}; {remedy}"
    )


def _length(value: Any) -> int | None:
    """Return the length of a one-dimensional value; None for anything else."""
    if isinstance(value, Cells):
        return len(value.items)
    if isinstance(value, np.ndarray) and value.size == max(value.shape, default=1):
        return value.size
    return None


def _per_trial(
    arrays: Arrays,
    taken: set[str | None],
    shape: tuple[int, ...],
    lengths: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Collect arrays with one row per trial, or for a continuous recording, one per bin."""
    found = {}
    for key, value in arrays.items():
        if key in taken or isinstance(value, Unreadable):
            continue
        if _length(value) == shape[0] > 1:
            if _is_vector(value):
                found[key] = as_vector(value, key)
            elif isinstance(value, Cells):
                bins = np.full(shape[0], shape[1]) if lengths is None else lengths
                if (sampled := _bin_by_bin(value, bins, key)) is not None:
                    found[key] = sampled
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.ndim >= 1:
            if shape[0] > 1 and value.shape[0] == shape[0]:
                found[key] = value
            elif shape[0] == 1 and value.shape[0] == shape[1]:
                found[key] = value.reshape(1, shape[1], -1)
    return found


def _bin_by_bin(cells: Cells, lengths: np.ndarray, where: str) -> np.ndarray | None:
    """Return values in every bin of every trial, (E, T, K); None if they are something else."""
    items = cells.items
    if not all(isinstance(i, np.ndarray) and i.dtype.kind in "biuf" and i.ndim == 2 for i in items):
        return None
    recorded = np.array([item.size > 0 for item in items])
    if not recorded.any():
        return None
    shapes = np.array([item.shape for item in items])[recorded]
    for of_time in (1, 0):  # the order in structures of trials first
        others = shapes[:, 1 - of_time]
        if (shapes[:, of_time] == lengths[recorded]).all() and (others == others[0]).all():
            return _filled(items, of_time, where)
    return None


def _held_out(
    arrays: Arrays, ids: np.ndarray, source: str, settings: Settings
) -> np.ndarray | None:
    if settings.held_out is None and names.find(arrays, names.HELD_OUT) is None:
        return None
    key = names.require(
        arrays, settings.held_out, names.HELD_OUT, source, "held_out", "the held-out neurons"
    )
    return flags(as_vector(arrays[key], f"{source}: {key}"), ids, f"{source}: {key}")


def _from_rows(arrays: Arrays, source: str, settings: Settings) -> Recording:
    time = names.require(arrays, settings.time_column, names.TIMES, source, "time_column", "times")
    times = as_vector(arrays[time], f"{source}: {time}")
    rows = {
        k: as_vector(v, f"{source}: {k}") for k, v in arrays.items() if _length(v) == len(times)
    }
    unit = settings.unit_column or names.find(arrays, names.UNITS)
    if unit is not None and unit in arrays and unit not in rows:
        raise LFADSError(
            f"{source}: {unit} has {_length(arrays[unit])} entries, {time} has {len(times)}; "
            "expected one neuron for each spike"
        )
    recording = spikes_from_rows(rows, source, settings)
    return _with_other_arrays(recording, arrays, set(rows), settings)


def _cells_of_times(arrays: Arrays, settings: Settings) -> str | None:
    """Find spike times kept as one cell (or list) per neuron."""
    if settings.unit_column is not None:
        return None
    if (key := settings.time_column) is not None:
        return key if _are_times(arrays.get(key)) else None
    cells = {key: value for key, value in arrays.items() if _are_times(value)}
    has_counts = bool(_fields(arrays, names.COUNTS, _is_counts))
    for key, value in list(cells.items()):
        is_bare = key.rpartition(".")[2].lower() in names.BARE_TIMES
        if is_bare and (has_counts or _one_each(value) is not None):
            del cells[key]
    fields = _fields(cells, names.TIMES, _are_times)
    return fields[0] if len(fields) == 1 else None


def _are_times(value: Any) -> bool:
    return isinstance(value, Cells) and all(
        _length(item) is not None or _is_empty(item) for item in value.items
    )


def _is_empty(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.size == 0


def _from_cells(arrays: Arrays, key: str, source: str, settings: Settings) -> Recording:
    """Read cells of spike times: neurons, or neurons × trials."""
    cells = arrays[key]
    if not cells.items:
        raise LFADSError(f"{source}: {key} has no cells; expected the spike times of neurons")
    vectors = [
        np.zeros(0) if _is_empty(item) else as_vector(item, f"{source}: {key}{{{i}}}")
        for i, item in enumerate(cells.items)
    ]
    for i, vector in enumerate(vectors):
        if vector.dtype.kind not in "biuf" or not np.isfinite(vector.astype(float)).all():
            raise LFADSError(f"{source}: {key}{{{i + 1}}} holds no spike times; expected seconds")
    if len(cells.shape) > 2:
        raise LFADSError(
            f"{source}: {key} is {sizes(cells.shape)} cells; expected neurons, or neurons × trials"
        )
    is_row = len(cells.shape) < 2 or 1 in cells.shape
    n = len(vectors) if is_row else cells.shape[0]
    ids_key = names.find(arrays, names.NEURON_IDS)
    ids = np.arange(n) if ids_key is None else as_vector(arrays[ids_key], f"{source}: {ids_key}")
    if len(ids) != n:
        raise LFADSError(
            f"{source}: {key} is {sizes(cells.shape)} cells, {ids_key} names {len(ids)} neurons; "
            "expected neurons, or neurons × trials"
        )
    if is_row:
        spikes = Spikes(vectors, key=key)
    else:
        n_trials = cells.shape[1]
        lengths = np.array([len(v) for v in vectors]).reshape(n, n_trials)
        _check_cells(lengths, f"{source}: {key}", arrays)
        trials = np.arange(n_trials)
        spikes = Spikes(
            [np.concatenate(vectors[d * n_trials : (d + 1) * n_trials]) for d in range(n)],
            [np.repeat(trials, own) for own in lengths],
            trials,
            key=key,
        )
    recording = Recording(source, Units(ids), spikes)
    return _with_other_arrays(recording, arrays, {key}, settings)


def _check_cells(lengths: np.ndarray, where: str, arrays: Arrays) -> None:
    """Refuse cells that are trials × neurons, judged by numbers of spikes and by labels."""
    label = names.find(arrays, names.CONDITIONS)
    n_labels = None if label is None else _length(arrays[label])
    found = None
    if likely_axes(lengths.T) is not None:
        found = (
            "the numbers of spikes differ along its columns as those of neurons, along its rows "
            "hardly"
        )
    elif n_labels == len(lengths) != lengths.shape[1]:
        found = f"{label} has an entry for each row"
    if found is not None:
        raise LFADSError(
            f"{where} is {sizes(lengths.shape)} cells, and {found}; expected neurons × trials; if "
            "it is trials × neurons, turn it (in MATLAB: x.')"
        )


def _with_other_arrays(
    recording: Recording, arrays: Arrays, taken: set[str], settings: Settings
) -> Recording:
    """Add arrays given with the spikes that describe trials, behaviour and held-out neurons."""
    source = recording.source
    units = recording.units
    units.held_out = _held_out(arrays, units.ids, source, settings)
    of_units = _of_units(arrays, len(units.ids))
    spikes = recording.activity.key
    units.columns |= {
        _without_prefix(key, spikes): column for key, column in of_units.items() if key not in taken
    }
    quality = names.find(units.columns, names.QUALITIES)
    if quality is not None and units.columns[quality].dtype.kind == "U":
        units.quality = units.columns[quality]
    recording.other_columns = {
        _without_prefix(key, spikes): as_vector(value, f"{source}: {key}")
        for key, value in arrays.items()
        if key not in taken and _length(value) is not None and _is_vector(value)
    }
    if settings.behaviour_file is None:
        recording.signals = [_signal(arrays, key, source) for key in settings.behaviour]
    return recording


def _without_prefix(name: str, spikes: str) -> str:
    """Return the name of a field without the structure that it shares with the spikes.

    >>> [_without_prefix(name, "R.unit.times") for name in ("R.unit.area", "R.go", "info.day")]
    ['area', 'go', 'info.day']
    """
    for prefix in (spikes.rpartition(".")[0], spikes.partition(".")[0]):
        if prefix and "." in spikes and name.startswith(prefix + "."):
            return name.removeprefix(prefix + ".")
    return name


def _is_vector(value: Any) -> bool:
    return not isinstance(value, Cells) or _one_each(value) is not None


def _one_each(cells: Cells) -> np.ndarray | None:
    """Return cells of one number or text each as a row; an empty cell is NaN or an empty text."""
    items = [item if isinstance(item, np.ndarray) else np.zeros(2) for item in cells.items]
    kinds = {item.dtype.kind for item in items if item.size}
    if not items or not kinds or any(item.size > 1 for item in items):
        return None
    if kinds == {"U"}:
        return np.array([item.ravel()[0] if item.size else "" for item in items])
    if kinds <= set("biuf"):
        if all(item.size for item in items):
            return np.array([item.ravel()[0] for item in items])
        return np.array([float(item.ravel()[0]) if item.size else np.nan for item in items])
    return None


def _signal(arrays: Arrays, key: str, source: str) -> Signal:
    """Read a behaviour sampled at ``<key>_times`` (or ``behaviour_times``)."""
    values = arrays.get(key)
    times_key = names.find(arrays, (f"{key}_times".lower(), f"{key}_time".lower(),
                                    "behaviour_times", "behavior_times"))  # fmt: skip
    if not isinstance(values, np.ndarray) or times_key is None:
        raise LFADSError(
            f"{source}: behaviour={key} needs arrays {key} (samples × values) and {key}_times; "
            f"found {listed(arrays, 20)}"
        )
    times = as_vector(arrays[times_key], f"{source}: {times_key}")
    check_dtype(f"{source}: {times_key}", times.dtype)
    check_dtype(f"{source}: {key}", values.dtype)
    times = times.astype(np.float64)
    table = values.reshape(-1, 1) if values.size == len(times) else values
    if table.ndim != 2 or len(table) != len(times):
        raise LFADSError(
            f"{source}: {key} is {sizes(values.shape)}, {times_key} has {len(times)} times; "
            "expected samples × values"
        )
    columns = [key] if table.shape[1] == 1 else [f"{key}_{k}" for k in range(table.shape[1])]
    return Signal(key, times, table.astype(np.float64), columns)


def as_vector(value: Any, where: str) -> np.ndarray:
    """Return a row or column of numbers or texts as (n,).

    Raises:
        LFADSError: it is something else.
    """
    if isinstance(value, Unreadable):
        raise LFADSError(f"{where} is {value.what}")
    if isinstance(value, Cells):
        if (row := _one_each(value)) is not None:
            return row
        raise LFADSError(f"{where} is a cell array; expected a row of numbers or of texts")
    if not isinstance(value, np.ndarray) or value.size != max(value.shape, default=1):
        found = sizes(value.shape) if isinstance(value, np.ndarray) else type(value).__name__
        raise LFADSError(f"{where} is {found}; expected a row of numbers")
    return value.ravel()
