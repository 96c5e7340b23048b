"""Arrays by name, as .npz and .mat files hold them: counts, or spike times, and what is beside."""

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import check_dtype, sizes
from lfads_lightning.data.orientation import AXES, likely_axes, question
from lfads_lightning.recordings import names
from lfads_lightning.recordings.records import Counts, Recording, Signal, Spikes, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_rows import spikes_from_rows
from lfads_lightning.recordings.units import flags
from lfads_lightning.runs.documents import shown

# the likelier first, where labels do not tell
ORDERS = (
    ("trials", "neurons", "bins"),
    ("neurons", "bins", "trials"),
    ("bins", "trials", "neurons"),
    ("bins", "neurons", "trials"),
    ("neurons", "trials", "bins"),
    ("neurons", "bins"),
)
Arrays = Mapping[str, Any]


class Cells(NamedTuple):
    """A cell array: its shape in MATLAB, and its contents in C order."""

    shape: tuple[int, ...]
    items: list[Any]


class Unreadable(NamedTuple):
    """A variable that is no data; an error only if it is asked for."""

    what: str


def recording_from_arrays(arrays: Arrays, source: str, settings: Settings) -> Recording:
    """Tell what arrays hold, and make a recording of it.

    Raises:
        LFADSError: neither counts nor spike times, or something in them is not as it must be.
    """
    if settings.counts_key is None:
        cells = _cells_of_times(arrays, settings)
        if cells is not None:
            return _from_cells(arrays, cells, source, settings)
        times = settings.time_column or names.find(arrays, names.TIMES[:-1])
        units = settings.unit_column or names.find(arrays, names.UNITS)
        if times is not None and units is not None:
            return _from_rows(arrays, source, settings)
        if names.find(arrays, names.COUNTS) is None and (times or units):
            _refuse_rows(arrays, times, units, source)
    return _counts(arrays, source, settings)


def _refuse_rows(arrays: Arrays, times: str | None, units: str | None, source: str) -> NoReturn:
    """Say that spikes lack their neurons or their times, and which array may hold these."""
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
    key = names.require(
        arrays, settings.counts_key, names.COUNTS, source, "counts_key",
        "counts (trials × bins × neurons) or spike times with their units",
    )  # fmt: skip
    where = f"{source}: {key}"
    values = _as_trials(arrays[key], where)
    check_dtype(where, values.dtype)
    axes = settings.axes or (AXES if values.ndim == 3 else AXES[1:])
    if values.ndim not in (2, 3) or sorted(axes) != sorted(AXES[3 - values.ndim :]):
        raise LFADSError(
            f"{where} is {sizes(values.shape)}; expected "
            f"{'trials × bins × neurons, or bins × neurons' if settings.axes is None else ''}"
            f"{'' if settings.axes is None else 'axes ' + ' × '.join(axes)}"
        )
    if 0 in values.shape:
        raise LFADSError(f"{where} is empty ({sizes(values.shape)}); expected counts")
    if settings.axes is None:
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
                "for each; give the order of its axes (axes=...), or mend the names"
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
    return Recording(
        source,
        Units(ids, held_out=_held_out(arrays, ids, source, settings)),
        Counts(key, values, width, is_continuous),
        trials=_per_trial(arrays, taken, values.shape),
    )


def _as_trials(value: Any, where: str) -> np.ndarray:
    """Return counts as an array; a cell (or list) of trials is stacked."""
    if isinstance(value, Unreadable):
        raise LFADSError(f"{where} is {value.what}")
    if isinstance(value, Cells):
        shapes = {item.shape if isinstance(item, np.ndarray) else None for item in value.items}
        if not shapes or None in shapes or not all(len(s) == 2 for s in shapes if s is not None):
            raise LFADSError(
                f"{where} is a cell array of other things than bins × neurons; expected counts"
            )
        if len(shapes) > 1:
            # what all trials share is the neurons
            alike = [len({s[k] for s in shapes if s is not None}) == 1 for k in (0, 1)]
            axis = 1 if alike == [True, False] else 0
            lengths = sorted({item.shape[axis] for item in value.items})
            raise LFADSError(
                f"{where} has trials of unequal length (from {lengths[0]} to {lengths[-1]} bins); "
                f"expected one length; cut each to {lengths[0]} bins, or give spike times with an "
                "event"
            )
        return np.stack(value.items)
    return np.asarray(value)


def _check_orientation(arrays: Arrays, key: str, values: np.ndarray, where: str) -> None:
    """Refuse axes that can hardly be trials × bins × neurons."""
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
        remedy = "mend them"
    else:
        remedy = f"if it is {' × '.join(axes)}, give axes={axes}, else axes={expected}"
    raise LFADSError(
        f"{where} is {sizes(values.shape)}, and {seen}; expected {' × '.join(expected)}; {remedy}"
    )


def _length(value: Any) -> int | None:
    """Return the length of a row of things; None for anything else."""
    if isinstance(value, Cells):
        return len(value.items)
    if isinstance(value, np.ndarray) and value.size == max(value.shape, default=1):
        return value.size
    return None


def _per_trial(
    arrays: Arrays, taken: set[str | None], shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Collect what has one row per trial; for a continuous recording, one per bin."""
    found = {}
    for key, value in arrays.items():
        if key in taken or isinstance(value, Unreadable):
            continue
        if _length(value) == shape[0] > 1:
            if not isinstance(value, Cells) or all(
                isinstance(i, np.ndarray) and i.dtype.kind == "U" for i in value.items
            ):
                found[key] = as_vector(value, key)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.ndim >= 1:
            if shape[0] > 1 and value.shape[0] == shape[0]:
                found[key] = value
            elif shape[0] == 1 and value.shape[0] == shape[1]:
                found[key] = value.reshape(1, shape[1], -1)
    return found


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
    return _with_what_is_beside(recording, arrays, set(rows), settings)


def _cells_of_times(arrays: Arrays, settings: Settings) -> str | None:
    """Find spike times kept as one cell (or list) per neuron."""
    if settings.unit_column is not None:
        return None
    key = settings.time_column or names.find(arrays, names.TIMES)
    value = arrays.get(key) if key else None
    if not isinstance(value, Cells):
        return None
    is_times = all(_length(item) is not None or _is_empty(item) for item in value.items)
    return key if is_times else None


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
        _check_cells(lengths, f"{source}: {key}")
        trials = np.arange(n_trials)
        spikes = Spikes(
            [np.concatenate(vectors[d * n_trials : (d + 1) * n_trials]) for d in range(n)],
            [np.repeat(trials, own) for own in lengths],
            trials,
            key=key,
        )
    recording = Recording(source, Units(ids), spikes)
    return _with_what_is_beside(recording, arrays, {key}, settings)


def _check_cells(lengths: np.ndarray, where: str) -> None:
    """Refuse cells whose columns differ as neurons do: the numbers of spikes tell."""
    if likely_axes(lengths.T) is not None:
        raise LFADSError(
            f"{where} is {sizes(lengths.shape)} cells, and the numbers of spikes differ along its "
            "columns as those of neurons, along its rows hardly; expected neurons × trials; if it "
            "is trials × neurons, turn it (in MATLAB: x.')"
        )


def _with_what_is_beside(
    recording: Recording, arrays: Arrays, taken: set[str], settings: Settings
) -> Recording:
    """Add what may describe trials, behaviour and held-out neurons that lie beside the spikes."""
    source = recording.source
    recording.units.held_out = _held_out(arrays, recording.units.ids, source, settings)
    recording.beside = {
        key: as_vector(value, f"{source}: {key}")
        for key, value in arrays.items()
        if key not in taken and _length(value) is not None and _is_vector(value)
    }
    if settings.behaviour_file is None:
        recording.signals = [_signal(arrays, key, source) for key in settings.behaviour]
    return recording


def _is_vector(value: Any) -> bool:
    return not isinstance(value, Cells) or all(map(_is_text, value.items))


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
        texts = [i.ravel()[0] for i in value.items if _is_text(i)]
        if len(texts) == len(value.items) and texts:
            return np.array(texts)
        raise LFADSError(f"{where} is a cell array; expected a row of numbers or of texts")
    if not isinstance(value, np.ndarray) or value.size != max(value.shape, default=1):
        found = sizes(value.shape) if isinstance(value, np.ndarray) else type(value).__name__
        raise LFADSError(f"{where} is {found}; expected a row of numbers")
    return value.ravel()


def _is_text(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype.kind == "U" and item.size == 1
