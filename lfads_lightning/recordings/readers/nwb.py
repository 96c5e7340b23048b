"""NWB files: units, trials, behaviour (needs the extra [nwb])."""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.session_files import (
    check_declared,
    check_filled,
    damage_explained,
    opened,
)
from lfads_lightning.recordings import names
from lfads_lightning.recordings.clocks import check_intervals
from lfads_lightning.recordings.own_process import run_apart
from lfads_lightning.recordings.readers import TABLES, reader
from lfads_lightning.recordings.records import Recording, Signal, Spikes, Units
from lfads_lightning.recordings.settings import Settings

_LIMITS = {"seconds_per_gb": 100, "bytes_per_byte": 10}


@reader(".nwb")
def read(path: Path, settings: Settings) -> Recording:
    """Read an NWB file's units table, trials and behaviour.

    Raises:
        LFADSError: pynwb is not installed, the file is damaged or links to others, or lacks
            something.
    """
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise LFADSError(
            f'{path}: reading NWB needs pynwb; pip install "lfads-lightning[nwb]"'
        ) from error
    check_nwb(path)
    # reading a column raises these too on broken files
    damage = (AttributeError, IndexError, AssertionError, MemoryError)
    with warnings.catch_warnings(), damage_explained(str(path), *damage):
        warnings.simplefilter("ignore")  # about old versions of the format
        with damage_explained(str(path), Exception):  # hdmf also has its own errors
            io = NWBHDF5IO(str(path), "r")
        with io:
            with damage_explained(str(path), Exception):
                nwb = io.read()
            return recording_of(nwb, str(path), settings)


def check_nwb(path: Path) -> None:
    """Refuse a file that is not NWB, crashes its reader, or has links that lead out or in circles.

    Raises:
        LFADSError: it is such a file.
    """
    if not h5py.is_hdf5(path):
        raise LFADSError(
            f"{path}: is not an NWB file (it is no HDF5 inside); copy or write it again"
        )
    try:
        run_apart(f"{__name__}:touch", path, library="the HDF5 library", **_LIMITS)
    except ValueError as error:
        raise LFADSError(f"{path}: {error}; the file is damaged; copy or write it again") from error
    _look_at(path)


def touch(path: str) -> None:
    """Read every attribute and every short text, to see whether the library survives it.

    Values that are merely wrong are left to the code that uses them.
    """

    def read(item: Any) -> None:
        with suppress(Exception):
            for key in item.attrs:
                with suppress(Exception):
                    item.attrs[key]
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "O" and item.size < 10**5:
                item[()]

    with suppress(Exception), h5py.File(path, "r") as file:
        read(file)
        file.visititems(lambda _, item: read(item))


def _look_at(path: Path) -> None:
    """Refuse links out of the file or in circles, and arrays larger than any recording."""
    with opened(path) as file, damage_explained(str(path)):
        waiting, seen = [(file, "")], {h5py.h5o.get_info(file.id).addr}
        while waiting:
            group, where = waiting.pop()
            for name in group:
                link, here = group.get(name, getlink=True), f"{path}: {where}/{name}"
                if isinstance(link, h5py.ExternalLink):
                    raise LFADSError(
                        f"{here} is an external link to {link.filename}; links to other files are "
                        "not followed; export the file as one (pynwb: NWBHDF5IO.export)"
                    )
                if not isinstance(link, h5py.HardLink):
                    continue
                item = group[name]
                if isinstance(item, h5py.Group):
                    address = h5py.h5o.get_info(item.id).addr
                    if address in seen:  # read as a tree it could have any size
                        raise LFADSError(
                            f"{here} is a group that lies elsewhere too; store it once"
                        )
                    seen.add(address)
                    waiting.append((item, f"{where}/{name}"))
                elif isinstance(item, h5py.Dataset):
                    _look_at_array(item, here, is_read_whole=where == "/units")


def _look_at_array(item: h5py.Dataset, here: str, *, is_read_whole: bool) -> None:
    if item.external or item.is_virtual:
        raise LFADSError(f"{here} keeps its values in another file; store the array itself")
    if is_read_whole and item.shape is not None:
        check_declared(here, item.shape, item.dtype.itemsize)
    check_filled(here, item)


def recording_of(nwb: Any, path: str, settings: Settings) -> Recording:
    """Read units, trials and behaviour of an ``NWBFile``; error messages name ``path``."""
    units = nwb.units
    if units is None or "spike_times" not in units.colnames:
        raise LFADSError(
            f"{path}: /units has no spike_times; expected the spike times of sorted units; store "
            "them with NWBFile.add_unit"
        )
    ids = np.asarray(units.id[:])
    spikes = Spikes([np.asarray(units["spike_times"][i], np.float64) for i in range(len(ids))])
    if "obs_intervals" in units.colnames:
        spikes.observed = [
            np.asarray(units["obs_intervals"][i], np.float64).reshape(-1, 2)
            for i in range(len(ids))
        ]
        for unit, pairs in zip(ids, spikes.observed, strict=True):
            check_intervals(pairs, f"{path}: /units/obs_intervals of unit {unit}")
    if nwb.invalid_times is not None and len(nwb.invalid_times):
        bounds = [nwb.invalid_times[name][:] for name in ("start_time", "stop_time")]
        spikes.invalid = np.stack(bounds, axis=1)
        check_intervals(spikes.invalid, f"{path}: /intervals/invalid_times")
    columns = _columns(units)
    quality = names.find(columns, names.QUALITIES)
    recording = Recording(
        path,
        Units(ids, columns, None if quality is None else columns[quality].astype(str)),
        spikes,
    )
    recording.trials, recording.trial_ids = _trials(path, nwb, settings)
    recording.trials_are_named = recording.trials is not None  # else it may be a separate table
    if settings.behaviour_file is None:
        recording.signals = [_signal(path, nwb, name) for name in settings.behaviour]
    return recording


def _trials(
    path: str, nwb: Any, settings: Settings
) -> tuple[dict[str, np.ndarray] | None, np.ndarray | None]:
    """Read the interval table, and the ids of its rows."""
    tables = dict(nwb.intervals or {})
    if nwb.trials is not None:
        tables["trials"] = nwb.trials
    if nwb.epochs is not None:
        tables["epochs"] = nwb.epochs
    name = settings.trials or "trials"
    if name not in tables:
        if settings.trials is None or _is_file(name):
            return None, None
        raise LFADSError(
            f"{path}: has no interval table {name}{nearest(name, tables)}; expected one of "
            f"{listed(tables, 20)}"
        )
    return _columns(tables[name]), np.asarray(tables[name].id[:])


def _is_file(name: str) -> bool:
    return Path(name).suffix.lower() in TABLES


def _columns(table: Any) -> dict[str, np.ndarray]:
    """Read the columns that hold one number or text in each row."""
    columns = {}
    for column in table.colnames:
        values = table[column]
        # rows of unequal length, or of another table
        if hasattr(values, "target") or hasattr(values, "table"):
            continue
        if isinstance(getattr(values, "data", None), h5py.Dataset | list | np.ndarray):
            if len(np.shape(values.data)) != 1:
                continue
            values = values[:]
        array = np.asarray(values)
        if array.ndim == 1 and array.dtype.kind == "O" and all(isinstance(v, str) for v in array):
            array = np.array(array.tolist(), dtype=str)
        if array.ndim == 1 and array.dtype.kind in "biufU":
            columns[column] = array
    return columns


def _signal(path: str, nwb: Any, name: str) -> Signal:
    """Read a time series from anywhere in the file."""
    from pynwb import TimeSeries

    series: dict[str, list[Any]] = {}
    for each in nwb.objects.values():
        if isinstance(each, TimeSeries):
            series.setdefault(each.name, []).append(each)
            around = getattr(each.parent, "name", None)
            series.setdefault(f"{around}/{each.name}", []).append(each)
    plain = [key for key in series if "/" not in key]
    if name not in series:
        raise LFADSError(
            f"{path}: has no time series {name}{nearest(name, plain)}; expected one of "
            f"{listed(plain, 20)}"
        )
    if len(series[name]) > 1:
        full = sorted(key for key in series if key.endswith(f"/{name}"))
        raise LFADSError(
            f"{path}: has {len(series[name])} time series {name}; expected one of "
            f"{listed(full, 20)}"
        )
    (found,) = series[name]
    shape = np.shape(found.data)
    check_declared(f"{path}: {name}", shape, 8)
    kind = getattr(getattr(found.data, "dtype", None), "kind", "f")  # a list has none
    if len(shape) not in (1, 2) or kind not in "biuf":
        raise LFADSError(
            f"{path}: {name} is of shape {shape}{'' if kind in 'biuf' else ' and holds no numbers'}"
            "; expected samples × values"
        )
    values = np.asarray(found.data[:], np.float64) * found.conversion
    values = values.reshape(len(values), -1) + getattr(found, "offset", 0.0)
    if found.timestamps is not None:
        times = np.asarray(found.timestamps[:], np.float64)
    else:
        times = (found.starting_time or 0.0) + np.arange(len(values)) / found.rate
    n = values.shape[1]
    columns = [name] if n == 1 else [f"{name}_{k}" for k in range(n)]
    return Signal(name, times, values, columns)
