"""Folders in the ALF convention of the International Brain Laboratory: spikes, clusters, trials.

A file is called ``object.attribute.extension``, perhaps with a name space before the object
(``_ibl_trials``) and more parts before the extension (a hash). The reader takes ``spikes.times``
and ``spikes.clusters``; properties of clusters from ``clusters.*``; ``trials.*``, also from the
folders above (``alf/`` above ``alf/probe00/``); and, for ``behaviour``, any attribute with
timestamps, such as ``wheel.position``. Times are in seconds.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import sizes
from lfads_lightning.recordings.npy_files import (
    PythonObjectsError,
    map_array,
    map_vector,
    warn_of_objects,
    whole_numbers,
)
from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.records import Recording, Signal, Spikes, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_rows import by_unit
from lfads_lightning.recordings.tables import read_table

_NAME = re.compile(
    r"(?:_[^\W_]+_)?(?P<object>[^\W_][^\W_]*)\.(?P<attribute>\w+)(?:\.[\w-]+)*\.(?P<kind>npy|pqt|csv|tsv)"
)
_ANNOTATIONS = np.array(["noise", "mua", "good", "unsorted"])  # of clusters._phy_annotation
GOOD, NOT_GOOD = "good", "not good"
TIMESTAMPS = ("timestamps", "times")  # the latter for cameras
NOT_SAMPLED = ("spikes", "clusters", "trials")  # objects with times that are not behaviour


class _Folder(NamedTuple):
    """The files of a folder by object and attribute."""

    path: Path
    files: dict[tuple[str, str], Path]

    def of(self, name: str) -> dict[str, Path]:
        """Return the files of an object, by attribute."""
        return {attribute: path for (own, attribute), path in self.files.items() if own == name}


def _look(folder: Path) -> _Folder:
    files: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match is not None and path.is_file():
            # with times on several clocks (times_ephysClock), the plain name is used
            files.setdefault((match["object"], match["attribute"]), path)
    return _Folder(folder, files)


def _has_spikes(folder: Path) -> bool:
    spikes = _look(folder).of("spikes")
    return "times" in spikes or "clusters" in spikes


def _probes(folder: Path) -> list[Path]:
    """Return the folders of spikes at or below a folder: itself, or alf/probe00/pykilosort."""
    if _has_spikes(folder):
        return [folder]
    found, level = [], [folder]
    for _ in range(4):  # a session, alf, a probe, its sorter, a revision
        level = [d for one in level for d in sorted(one.iterdir())
                 if d.is_dir() and not d.is_symlink() and not d.name.startswith(".")]  # fmt: skip
        found += [d for d in level if _has_spikes(d)]
        level = [d for d in level if d not in found][:200]
    return found


def is_alf_folder(folder: Path) -> bool:
    """Return whether spikes in the ALF convention lie in a folder or below it."""
    try:
        return not (folder / "spike_times.npy").is_file() and bool(_probes(folder))
    except OSError:
        return False


@reader(is_folder=is_alf_folder, folder="a folder in the ALF convention (spikes.times.npy)")
def read(path: Path, settings: Settings) -> Recording:
    """Read the spikes of every cluster, the tables of clusters and of trials.

    Raises:
        LFADSError: a file is missing or damaged, arrays do not fit each other, or the folder holds
            several probes.
    """
    probes = _probes(path)
    if len(probes) > 1:
        parts = [probe.relative_to(path).parts for probe in probes]
        # up to where they differ: alf/probe00, not its sorter's folder
        longest = range(1, max(map(len, parts)) + 1)
        n = next(k for k in longest if len({own[:k] for own in parts}) == len(parts))
        below = [str(Path(*own[:n])) for own in parts]
        raise LFADSError(
            f"{path}: holds the spikes of {len(probes)} probes ({listed(below, 20)}); expected "
            f"one; give a folder of these: {path / below[0]}"
        )
    folder = _look(probes[0])
    spikes = folder.of("spikes")
    for attribute in ("times", "clusters"):
        if attribute not in spikes:
            raise LFADSError(
                f"{folder.path}: has no spikes.{attribute}.npy; expected the time of each spike, "
                "and its cluster; download or export the folder again"
            )
    times = map_vector(spikes["times"], "spike")
    clusters = whole_numbers(map_vector(spikes["clusters"], "spike"), spikes["clusters"])
    if times.dtype.kind not in "iuf" or not np.isfinite(times).all():
        raise LFADSError(f"{spikes['times']}: holds what is no time; expected seconds throughout")
    if len(times) != len(clusters):
        raise LFADSError(
            f"{folder.path}: spikes.times has {len(times)} entries, spikes.clusters has "
            f"{len(clusters)}; expected one cluster for each spike; export both again"
        )
    ids, cluster = np.unique(clusters, return_inverse=True)
    if len(ids) and ids[0] < 0:
        raise LFADSError(f"{spikes['clusters']}: holds cluster {ids[0]}; expected 0 or more")
    columns = _of_clusters(folder, ids)
    quality = _quality(columns)
    around = [folder, *map(_look, _parents(folder.path, path))]
    recording = Recording(
        str(path),
        Units(ids, columns, quality, () if quality is None else (GOOD,)),
        Spikes([times[own] for own in by_unit(cluster.ravel(), len(ids))], key="spikes.times"),
    )
    recording.trials = next((found for one in around if (found := _of_trials(one))), None)
    if settings.behaviour_file is None:
        recording.signals = [_signal(around, name) for name in settings.behaviour]
    return recording


def _parents(probe: Path, given: Path) -> list[Path]:
    """Return the folders above a probe, up to the one given or to the session's alf."""
    probe = probe.resolve()
    found = list(probe.parents)[:3]
    names = [parent.name for parent in found]
    top = names.index("alf") if "alf" in names else -1
    if given.resolve() in found:
        top = max(top, found.index(given.resolve()))
    return found[: top + 1]


def _rows_of(path: Path, attribute: str) -> dict[str, np.ndarray]:
    """Read an attribute: a table's columns, or an array under the attribute's name."""
    if path.suffix != ".npy":
        return read_table(path)
    array = map_array(path)
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim == 2 and array.shape[1] == 2 and attribute == "intervals":
        return {"intervals_0": array[:, 0], "intervals_1": array[:, 1]}
    if array.ndim == 2:
        return {f"{attribute}_{k}": array[:, k] for k in range(min(array.shape[1], 10))}
    return {attribute: array}


def _plain_columns(files: dict[str, Path]) -> dict[str, np.ndarray]:
    """Read all attributes of an object; one with Python objects is left out with a warning."""
    columns: dict[str, np.ndarray] = {}
    for attribute, path in files.items():
        try:
            found = _rows_of(path, attribute)
        except PythonObjectsError:
            warn_of_objects(path)
            continue
        for name, column in found.items():
            if column.ndim == 1 and column.dtype.kind in "biufU":
                columns.setdefault(name, column)
    return columns


def _of_clusters(folder: _Folder, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return the properties of these clusters; NaN or an empty text if there are none.

    Row n of an array belongs to cluster n; a table may name the cluster of each row.
    """
    columns: dict[str, np.ndarray] = {}
    for attribute, path in folder.of("clusters").items():
        found = _plain_columns({attribute: path})
        own = found.pop("cluster_id", None)
        for name, column in found.items():
            numbers = np.arange(len(column)) if own is None else own
            place = {number: row for row, number in enumerate(numbers.tolist())}
            rows = np.array([place.get(i, -1) for i in ids.tolist()], dtype=np.int64)
            if len(column) == 0 or (rows < 0).all():
                continue
            if name == "uuids" or name in columns:
                continue
            missing = "" if column.dtype.kind == "U" else np.nan
            values = column[rows]
            columns[name] = values if (rows >= 0).all() else np.where(rows < 0, missing, values)
    return columns


def _quality(columns: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return the label of each cluster: by its metrics, by a person in Phy, else by Kilosort."""
    label = columns.get("label")
    if label is not None and label.dtype.kind in "iuf":  # the share of the tests that it passed
        return np.where(label >= 1, GOOD, NOT_GOOD)
    said = columns.get("_phy_annotation")
    if said is not None and said.dtype.kind in "iuf" and np.isin(said, (0, 1, 2, 3)).all():
        return _ANNOTATIONS[said.astype(int)]
    labels = columns.get("ks2_label")
    return labels if labels is not None and labels.dtype.kind == "U" else None


def _of_trials(folder: _Folder) -> dict[str, np.ndarray]:
    """Return the columns of the trials; intervals are their start and stop."""
    files = folder.of("trials")
    if not files:
        return {}
    columns = _plain_columns(files)
    lengths = {name: len(column) for name, column in columns.items()}
    first = columns.get("intervals_0")
    n = len(first) if first is not None else max(lengths.values(), default=0)
    other = next((name for name, length in lengths.items() if length != n), None)
    if other is not None:
        raise LFADSError(
            f"{folder.path}: trials.{other} has {lengths[other]} entries, there are {n} trials; "
            "expected one for each; export trials.* again"
        )
    ours = {"intervals_0": "start_time", "intervals_1": "stop_time"}
    return {ours.get(name, name): column for name, column in columns.items()}


def _signal(around: list[_Folder], name: str) -> Signal:
    """Read a behaviour, ``object.attribute``, and its timestamps."""
    known: dict[str, tuple[Path, Path]] = {}  # files of the values and of the times
    for folder in reversed(around):
        for (of, attribute), path in folder.files.items():
            clock = next((c for c in TIMESTAMPS if (of, c) in folder.files), None)
            if clock is not None and attribute not in TIMESTAMPS and of not in NOT_SAMPLED:
                known[f"{of}.{attribute}"] = path, folder.files[of, clock]
    if name not in known:
        expected = f"one of {listed(known, 20)}" if known else "object.attribute with timestamps"
        raise LFADSError(
            f"{around[0].path}: has no behaviour {name}{nearest(name, known)}; expected {expected}"
        )
    path, times_path = known[name]
    names = None
    if path.suffix == ".npy":
        values = map_array(path)
    else:  # points tracked by a camera
        columns = {k: c for k, c in read_table(path).items() if c.dtype.kind in "biuf"}
        names, values = list(columns), np.stack([*columns.values()] or [np.zeros(0)], axis=1)
    times = map_array(times_path)
    if values.ndim not in (1, 2) or values.dtype.kind not in "biuf" or 0 in values.shape:
        raise LFADSError(f"{path} is {sizes(values.shape)}; expected samples × values")
    table = values.reshape(len(values), -1).astype(np.float64)
    if times.dtype.kind not in "iuf" or times.ndim not in (1, 2):
        raise LFADSError(f"{times_path}: expected the time of each sample of {name}, in seconds")
    times = times.astype(np.float64)
    if times.ndim == 2 and times.shape[1] == 2 and len(times) > 1:  # samples, and their times
        times = np.interp(np.arange(len(table)), times[:, 0], times[:, 1])
    times = times.reshape(-1)
    if len(times) != len(table):
        raise LFADSError(
            f"{path}: has {len(table)} samples, {times_path.name} has {len(times)} times; expected "
            "one for each"
        )
    if names is not None:
        return Signal(name, times, table, names)
    n = table.shape[1]
    return Signal(name, times, table, [name] if n == 1 else [f"{name}_{k}" for k in range(n)])
