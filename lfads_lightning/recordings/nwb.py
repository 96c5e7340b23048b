"""NWB files: units, trials, behaviour (needs the extra [nwb])."""

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import listed, nearest
from lfads_lightning.data.session_files import (
    check_declared,
    check_filled,
    damage_explained,
    opened,
)
from lfads_lightning.recordings import names
from lfads_lightning.recordings.clocks import check_intervals, rising
from lfads_lightning.recordings.probe import try_out
from lfads_lightning.recordings.records import Signal, Spikes
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_tables import checked_signal, flags


def read_nwb(path: Path, settings: Settings) -> Spikes:
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
        warnings.simplefilter("ignore")  # of old versions of the format
        with damage_explained(str(path), Exception):  # hdmf has errors of its own beside these
            io = NWBHDF5IO(str(path), "r")
        with io:
            with damage_explained(str(path), Exception):
                nwb = io.read()
            spikes = _read(path, nwb, settings)
    spikes.times_s = rising(spikes.times_s, spikes.neuron_ids, str(path))
    return spikes


def check_nwb(path: Path) -> None:
    """Refuse what is no NWB file, crashes its reader, leads out of itself or goes in circles.

    Raises:
        LFADSError: it is such a file.
    """
    if not h5py.is_hdf5(path):
        raise LFADSError(
            f"{path}: is not an NWB file (it is no HDF5 inside); copy or write it again"
        )
    try_out(path)
    _look_at(path)


def _look_at(path: Path) -> None:
    """Refuse what leads out of the file or in circles, or declares more than any recording has."""
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


def _read(path: Path, nwb: Any, settings: Settings) -> Spikes:
    units = nwb.units
    if units is None or "spike_times" not in units.colnames:
        raise LFADSError(
            f"{path}: /units has no spike_times; expected the spike times of sorted units; store "
            "them with NWBFile.add_unit"
        )
    scale = settings.seconds_per_unit
    ids = np.asarray(units.id[:])
    times = [np.asarray(units["spike_times"][i], np.float64) * scale for i in range(len(ids))]
    spikes = Spikes(str(path), times, ids, _trials(path, nwb, settings))
    if spikes.trials is not None:
        spikes.trial_ids = spikes.trials.pop("id")
    if "obs_intervals" in units.colnames:
        spikes.observed_s = [
            np.asarray(units["obs_intervals"][i], np.float64).reshape(-1, 2) * scale
            for i in range(len(ids))
        ]
        for unit, pairs in zip(ids, spikes.observed_s, strict=True):
            check_intervals(pairs, f"{path}: /units/obs_intervals of unit {unit}")
    if nwb.invalid_times is not None and len(nwb.invalid_times):
        bounds = [nwb.invalid_times[name][:] for name in ("start_time", "stop_time")]
        spikes.invalid_s = np.stack(bounds, axis=1) * scale
        check_intervals(spikes.invalid_s, f"{path}: /intervals/invalid_times")
    columns = {name: units[name] for name in units.colnames}
    held_out = settings.held_out or names.find(columns, names.HELD_OUT)
    if held_out is not None:
        names.require(columns, held_out, (), str(path), "held_out", "a column of /units")
        spikes.held_out = flags(columns[held_out][:], ids, f"{path}: /units/{held_out}")
    if settings.behaviour_file is None:
        spikes.signals = [_signal(path, nwb, name, scale) for name in settings.behaviour]
    return spikes


def _trials(path: Path, nwb: Any, settings: Settings) -> dict[str, np.ndarray] | None:
    """Read the interval table: numbers and texts, one per trial; times in seconds."""
    tables = dict(nwb.intervals or {})
    if nwb.trials is not None:
        tables["trials"] = nwb.trials
    if nwb.epochs is not None:
        tables["epochs"] = nwb.epochs
    name = settings.trials or "trials"
    if name not in tables:
        if settings.trials is None:
            return None
        raise LFADSError(
            f"{path}: has no interval table {name}{nearest(name, tables)}; expected one of "
            f"{listed(tables, 20)}"
        )
    table, columns = tables[name], {}
    for column in table.colnames:
        values = table[column]
        values = values[:] if isinstance(getattr(values, "data", None), h5py.Dataset | list
                                         | np.ndarray) else values  # fmt: skip
        array = np.asarray(values) if not hasattr(values, "target") else None
        if array is not None and array.ndim == 1 and array.dtype.kind == "O":
            is_text = all(isinstance(v, str) for v in array)
            array = np.array(array.tolist(), dtype=str) if is_text else None
        if array is not None and array.ndim == 1 and array.dtype.kind in "biufU":
            columns[column] = array
    return columns | {"id": np.asarray(table.id[:])}


def _signal(path: Path, nwb: Any, name: str, scale: float) -> Signal:
    """Read a time series, wherever it lies in the file."""
    from pynwb import TimeSeries

    series = {o.name: o for o in nwb.objects.values() if isinstance(o, TimeSeries)}
    if name not in series:
        raise LFADSError(
            f"{path}: has no time series {name}{nearest(name, series)}; expected one of "
            f"{listed(series, 20)}"
        )
    found = series[name]
    shape = np.shape(found.data)
    check_declared(f"{path}: {name}", shape, 8)
    if len(shape) not in (1, 2):
        raise LFADSError(f"{path}: {name} is of shape {shape}; expected samples × values")
    values = np.asarray(found.data[:], np.float64) * found.conversion
    values = values.reshape(len(values), -1) + getattr(found, "offset", 0.0)
    if found.timestamps is not None:
        times = np.asarray(found.timestamps[:], np.float64)
    else:
        times = (found.starting_time or 0.0) + np.arange(len(values)) / found.rate
    n = values.shape[1]
    columns = [name] if n == 1 else [f"{name}_{k}" for k in range(n)]
    return checked_signal(Signal(name, times * scale, values, columns), str(path))
