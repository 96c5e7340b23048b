"""Folders of SpikeInterface: sortings as ``sorting.save(folder=...)`` writes them, and analyzers.

The reader takes ``spikes.npy`` with ``numpysorting_info.json`` (before version 0.99:
``sorting_cached.npz``), the properties of units, and the quality and template metrics of an
analyzer. SpikeInterface itself is not needed.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lfads_lightning.commands import shown
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import sizes
from lfads_lightning.recordings import sorters
from lfads_lightning.recordings.npy_files import PythonObjectsError, map_array, warn_of_objects
from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.readers.npz import read_npz
from lfads_lightning.recordings.records import Recording, Spikes, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_rows import by_unit
from lfads_lightning.recordings.tables import read_table
from lfads_lightning.runs.documents import read_json

INFO, SPIKES, OLD = "numpysorting_info.json", "spikes.npy", "sorting_cached.npz"
# subfolders of an analyzer, and of run_sorter for the sorters that are part of SpikeInterface
BELOW = ("", "sorting", "sorter_output/sorting", "in_container_sorting")
ZARR = (".zgroup", "zarr.json")
# without "group", which means the group of electrodes here
QUALITIES = ("quality", "kslabel", "ks_label", "ks2_label")
GOOD = "good"
MOST_VALUES = 10  # most values per unit of a property that get a column each


class _Saved(NamedTuple):
    """A sorting as it was saved."""

    file: Path  # of the spikes
    rate: object  # samples per second, as stated
    ids: object  # of the units, as stated
    samples: np.ndarray  # (S,)
    units: np.ndarray  # (S,), the position of each spike's unit in ids
    n_segments: object


def _sorting(folder: Path) -> Path | None:
    places = [folder / below for below in BELOW]
    return next((p for p in places if any((p / name).is_file() for name in (INFO, OLD))), None)


def is_sorting_folder(folder: Path) -> bool:
    """Return whether a folder is one of SpikeInterface, or a zarr folder, which is refused."""
    return _sorting(folder) is not None or any((folder / name).is_file() for name in ZARR)


@reader(is_folder=is_sorting_folder, folder="a folder that SpikeInterface saved")
def read(path: Path, settings: Settings) -> Recording:
    """Read the spikes of every unit, and the units' properties.

    Raises:
        LFADSError: a file is missing or damaged, arrays do not fit each other, or the sorting has
            several segments.
    """
    folder = _sorting(path)
    if folder is None:
        raise LFADSError(
            f"{path}: is a zarr folder, which is not read; expected a folder of NumPy files; in "
            "SpikeInterface, sorting.save(folder='sorting') writes one"
        )
    saved = _saved(folder) if (folder / INFO).is_file() else _saved_before_0_99(folder)
    if saved.n_segments != 1:
        raise LFADSError(
            f"{folder}: has {shown(saved.n_segments)} segments, each with a clock of its own; "
            "expected one; in SpikeInterface, "
            "sorting.select_segments([0]).save(folder='segment0') saves one by itself"
        )
    ids = _ids(saved.ids, folder)
    strange = np.flatnonzero((saved.units < 0) | (saved.units >= len(ids)))
    if len(strange):
        raise LFADSError(
            f"{saved.file}: spike {strange[0]} is of unit number {saved.units[strange[0]]}; "
            f"expected 0 to {len(ids) - 1}, as there are {len(ids)} units; save the sorting again"
        )
    rate = _rate(saved.rate, settings, folder)
    columns = _properties(folder, len(ids))
    for name, column in _metrics(path, len(ids)).items():
        columns.setdefault(name, column)
    quality = sorters.quality(columns, QUALITIES)
    # labels other than good have no fixed meaning
    has_good = quality is not None and (np.char.lower(quality) == GOOD).any()
    return Recording(
        str(path),
        Units(ids, columns, quality, (GOOD,) if has_good else ()),
        Spikes(
            [saved.samples[own] for own in by_unit(saved.units, len(ids))],
            seconds_per_unit=1 / rate,
            key=saved.file.name,
        ),
    )


def _saved(folder: Path) -> _Saved:
    file = folder / SPIKES
    if not file.is_file():
        raise LFADSError(f"{folder}: has no {SPIKES}; expected the spikes; save the sorting again")
    spikes, info = map_array(file), _json(folder / INFO)
    fields = ("sample_index", "unit_index", "segment_index")
    names = spikes.dtype.names or ()
    if spikes.ndim != 1 or any(
        name not in names or spikes.dtype[name].kind not in "iu" or spikes.dtype[name].shape
        for name in fields
    ):
        raise LFADSError(
            f"{file} is {sizes(spikes.shape)} of type {shown(spikes.dtype)}; expected one row for "
            f"each spike, with whole numbers {', '.join(fields)}; save the sorting again"
        )
    segments = spikes["segment_index"]
    n = info.get("num_segments")
    if n == 1 and segments.any():
        n = int(segments.max()) + 1
    return _Saved(
        file,
        info.get("sampling_frequency"),
        info.get("unit_ids"),
        spikes["sample_index"],
        spikes["unit_index"].astype(np.int64),
        n,
    )


def _saved_before_0_99(folder: Path) -> _Saved:
    file = folder / OLD
    arrays = read_npz(file)
    one = {
        name: arrays[name].ravel()[0] if name in arrays and arrays[name].size == 1 else None
        for name in ("sampling_frequency", "num_segment")
    }
    ids, samples, labels = (
        arrays.get(name, np.zeros(0))
        for name in ("unit_ids", "spike_indexes_seg0", "spike_labels_seg0")
    )
    if samples.ndim != 1 or samples.dtype.kind not in "iu" or samples.shape != labels.shape:
        raise LFADSError(
            f"{file}: expected spike_indexes_seg0 and spike_labels_seg0, the sample of each spike "
            f"and its unit; found {sizes(samples.shape)} values of type {samples.dtype} and "
            f"{sizes(labels.shape)}; save the sorting again"
        )
    place = {unit: k for k, unit in enumerate(ids.ravel().tolist())}
    units = np.array([place.get(unit, -1) for unit in labels.tolist()], dtype=np.int64)
    return _Saved(file, one["sampling_frequency"], ids.tolist(), samples, units, one["num_segment"])


def _json(path: Path) -> dict[str, object]:
    info = read_json(path)
    if not isinstance(info, dict):
        raise LFADSError(f"{path}: expected sampling_frequency, unit_ids and num_segments")
    return info


def _ids(found: object, folder: Path) -> np.ndarray:
    """Return the units' ids (D,), numbers or texts."""
    ids = found if isinstance(found, list) else []
    kinds = {type(each) for each in ids}
    if kinds not in ({int}, {str}) or len(set(ids)) < len(ids):
        raise LFADSError(
            f"{folder}: unit_ids are {shown(found)}; expected numbers or texts, each once; save "
            "the sorting again"
        )
    if kinds == {int} and not all(abs(each) < 2**63 for each in ids):
        raise LFADSError(f"{folder}: unit_ids hold {shown(max(ids, key=abs))}, no number of a unit")
    return np.array(ids)


def _rate(found: object, settings: Settings, folder: Path) -> float:
    """Return the samples per second: as the option says, else as stated."""
    stated = float(found) if isinstance(found, int | float) else np.nan
    if (given := settings.sampling_rate_hz) is not None:
        sorters.warn_of_rate(stated, given, f"{folder}: states a sampling_frequency")
        return given
    if not 0 < stated < np.inf:
        raise LFADSError(
            f"{folder}: sampling_frequency is {shown(found)}; expected a positive number, the "
            "samples per second; give sampling_rate_hz=30000, or whatever it was"
        )
    return stated


def _properties(folder: Path, n: int) -> dict[str, np.ndarray]:
    """Read the properties of ``n`` units; several values per unit get a column each."""
    columns: dict[str, np.ndarray] = {}
    for file in sorted((folder / "properties").glob("*.npy")):
        try:
            values = map_array(file)
        except PythonObjectsError:
            warn_of_objects(file)
            continue
        if values.shape[:1] != (n,):
            raise LFADSError(
                f"{file} is {sizes(values.shape)}; expected a value for each of the {n} units; "
                "save the sorting again"
            )
        if values.dtype.kind not in "biufU" or values.ndim > 2:
            continue
        if values.ndim == 1:
            columns[file.stem] = np.array(values)
        for k in range(min(values.shape[1], MOST_VALUES) if values.ndim == 2 else 0):
            columns[f"{file.stem}_{k}"] = np.array(values[:, k])
    return columns


def _metrics(path: Path, n: int) -> dict[str, np.ndarray]:
    """Read the metrics of an analyzer: a row for each of ``n`` units, in their order."""
    columns: dict[str, np.ndarray] = {}
    for name in ("quality_metrics", "template_metrics"):
        file = path / "extensions" / name / "metrics.csv"
        if not file.is_file():
            continue
        table = read_table(file)
        table.pop("", None)  # the ids of the units
        if any(len(column) != n for column in table.values()):
            rows = len(next(iter(table.values())))
            raise LFADSError(
                f"{file}: has {rows} rows; expected one for each of the {n} units; compute the "
                f"{name} again"
            )
        columns = table | columns
    return columns
