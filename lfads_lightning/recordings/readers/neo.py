"""Recording systems, through neo: Blackrock, Plexon, Neuralynx, TDT, Spike2, NeuroExplorer.

This needs the extra [neo]. It reads the spikes of sorted (or unsorted) units, events and epochs,
with all times in seconds.
"""

import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.own_process import run_apart
from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.readers.npz import read_npz
from lfads_lightning.recordings.records import Recording, Spikes, Units
from lfads_lightning.recordings.settings import Settings

_FILES = {
    ".nev": "Blackrock", ".plx": "Plexon", ".nex": "NeuroExplorer", ".smr": "Spike2",
    ".smrx": "Ced",
}  # fmt: skip
_IN_FOLDERS = {".nse": "Neuralynx", ".ntt": "Neuralynx", ".tsq": "Tdt"}
VALUES = "values.npz"
SORTED, UNSORTED, NOISE = "sorted", "unsorted", "noise"
MOST_LABELS = 50  # most labels of an event channel that get a column each


def kind_of_folder(folder: Path) -> str | None:
    """Return which system's files a folder holds, by their extensions."""
    suffixes = {path.suffix.lower() for path in folder.iterdir() if path.is_file()}
    return next((kind for suffix, kind in _IN_FOLDERS.items() if suffix in suffixes), None)


def is_system_folder(folder: Path) -> bool:
    """Return whether a folder is one of Neuralynx or TDT."""
    try:
        return kind_of_folder(folder) is not None
    except OSError:
        return False


@reader(*_FILES, is_folder=is_system_folder, folder="a folder of Neuralynx or TDT")
def read(path: Path, settings: Settings) -> Recording:
    """Read units, events and epochs.

    Events become columns by the names of their channels; where labels differ, also
    ``channel label``. An epoch channel that ``trials`` names, or the only one, gives the trials.

    Raises:
        LFADSError: neo is not installed, the file is damaged, or it holds no spikes.
    """
    if find_spec("neo") is None:
        raise LFADSError(f'{path}: reading it needs neo; pip install "lfads-lightning[neo]"')
    kind = kind_of_folder(path) if path.is_dir() else _FILES[path.suffix.lower()]
    assert kind is not None
    return recording_of(_unpacked(path, kind), str(path), settings)


def recording_of(found: dict[str, np.ndarray], source: str, settings: Settings) -> Recording:
    """Make a recording from the arrays of ``neo_files``; error messages name ``source``."""
    counts = found["n_spikes"].sum(1)
    if not counts.any():
        raise LFADSError(
            f"{source}: holds no spikes ({len(counts)} units are declared); expected sorted units "
            "or threshold crossings; of a sorter that wrote them elsewhere, give the folder or file"
        )
    times = np.split(found["spikes"], np.cumsum(found["n_spikes"].ravel())[:-1])
    bounds = found["segments"]
    n_segments = len(bounds)
    some = np.flatnonzero(counts)  # units that are declared but never fire are left out
    per_unit = [times[u * n_segments : (u + 1) * n_segments] for u in some]
    names = found["unit_names"][some]
    ids = _ids(names)
    quality = np.array([_quality(name) for name in names])
    spikes = Spikes([np.concatenate(parts) for parts in per_unit], seconds_per_unit=1.0)
    if n_segments > 1 and (bounds[1:, 0] < bounds[:-1, 1] - 1e-6).any():
        # each begins at its own zero: these are trials
        spikes.trials = [np.repeat(np.arange(n_segments), list(map(len, p))) for p in per_unit]
        spikes.trial_ids = np.arange(n_segments)
    elif n_segments > 1:
        spikes.invalid = np.stack([bounds[:-1, 1], np.maximum(bounds[1:, 0], bounds[:-1, 1])], 1)
    recording = Recording(
        source,
        Units(ids, {"name": names}, quality, (SORTED, UNSORTED)),
        spikes,
    )
    _add_events(recording, found, settings)
    return recording


def _unpacked(path: Path, kind: str) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory(prefix="lfads-") as folder:
        try:
            run_apart(
                "lfads_lightning.recordings.neo_files:unpack",
                path,
                kind,
                folder,
                library="neo",
                seconds_per_gb=200,
                bytes_per_byte=20,
            )
        except ValueError as error:
            said = " ".join(str(error).split())[:300]
            raise LFADSError(
                f"{path}: cannot be read by neo ({said}); expected a recording of {kind}; copy or "
                "export it again"
            ) from error
        return read_npz(Path(folder, VALUES))


def _ids(names: np.ndarray) -> np.ndarray:
    """Return unique names: those of the file, numbered if they repeat."""
    seen: dict[str, int] = {}
    ids = []
    for name in names.tolist():
        seen[name] = seen.get(name, 0) + 1
        ids.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return np.array(ids) if len(set(ids)) == len(ids) else np.arange(len(ids))


def _quality(name: str) -> str:
    """Return the quality that a unit's number means: 0 unsorted, 255 noise; ``ch3#1`` is unit 1."""
    number = re.search(r"#(\d+)$", name)
    return {"0": UNSORTED, "255": NOISE}.get(number[1], SORTED) if number else SORTED


def _add_events(recording: Recording, found: dict[str, np.ndarray], settings: Settings) -> None:
    ends = np.cumsum(found["n_events"].sum(1))
    epochs = {}
    for i, name in enumerate(found["event_names"].tolist()):
        own = slice(int(ends[i] - found["n_events"][i].sum()), int(ends[i]))
        times, labels = found["events"][own], found["labels"][own]
        if found["is_epoch"][i]:
            stops = times + found["durations"][own]
            columns = {"start_time": times, "stop_time": stops}
            if len(set(labels.tolist()) - {""}) > 0:
                columns["label"] = labels
            epochs[name] = columns
            continue
        recording.other_columns[name] = times
        kinds = sorted(set(labels.tolist()) - {""})
        if 1 < len(kinds) <= MOST_LABELS:
            recording.other_columns |= {
                f"{name} {label}": times[labels == label] for label in kinds
            }
    filled = [columns for columns in epochs.values() if len(columns["start_time"])]
    if settings.trials in epochs:
        recording.trials, recording.trials_are_named = epochs[settings.trials], True
    elif settings.trials is not None and not Path(settings.trials).suffix:
        expected = f"one of {listed(epochs, 20)}" if epochs else "a table, as it has no epochs"
        raise LFADSError(
            f"{recording.source}: has no epochs {settings.trials}; expected {expected}"
        )
    elif settings.align_to not in recording.other_columns and len(filled) == 1:
        recording.trials = filled[0]
