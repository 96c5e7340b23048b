"""Folders of Kilosort and Phy: spikes in samples, their clusters, and tables of clusters.

The reader takes ``spike_times.npy``, ``spike_clusters.npy`` (before Phy: ``spike_templates.npy``),
the tables ``cluster_*.tsv``, and ``sample_rate`` in ``params.py``, read as text, never run.
"""

import re
import warnings
from pathlib import Path

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings import names, sorters
from lfads_lightning.recordings.npy_files import map_vector, whole_numbers
from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.records import Recording, Spikes, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_rows import by_unit
from lfads_lightning.recordings.tables import read_table

TIMES, CLUSTERS, TEMPLATES = "spike_times.npy", "spike_clusters.npy", "spike_templates.npy"
# earlier tables take precedence: what a person decided in Phy comes first
TABLES = ("cluster_group.tsv", "cluster_groups.csv", "cluster_info.tsv", "cluster_KSLabel.tsv")
MAX_TEXT = 100_000  # characters of params.py that are read


def _sorted(folder: Path) -> Path | None:
    """Find the sorter's files, perhaps not all: in a folder, or where SpikeInterface puts them."""
    known = (TIMES, CLUSTERS, TEMPLATES, *TABLES)
    places = (folder, folder / "sorter_output")
    return next((p for p in places if any((p / name).is_file() for name in known)), None)


def is_sorted_folder(folder: Path) -> bool:
    """Return whether a folder is one of Kilosort or Phy, even if files are missing."""
    return _sorted(folder) is not None


@reader(is_folder=is_sorted_folder, folder="a folder of Kilosort or Phy")
def read(path: Path, settings: Settings) -> Recording:
    """Read the spikes of every cluster, and the tables of clusters.

    Raises:
        LFADSError: a file is missing or damaged, the arrays do not fit each other, times run
            backwards, or nothing states the sampling rate.
    """
    path = _sorted(path) or path
    rate = _sample_rate(path, settings)
    file = path / (CLUSTERS if (path / CLUSTERS).is_file() else TEMPLATES)
    if not file.is_file():
        raise LFADSError(
            f"{path}: has no {CLUSTERS} (nor {TEMPLATES}); expected the cluster of each spike; "
            "export the folder again"
        )
    samples, clusters = _whole_numbers(path / TIMES), _whole_numbers(file)
    if len(samples) != len(clusters):
        raise LFADSError(
            f"{path}: {TIMES} has {len(samples)} entries, {file.name} has {len(clusters)}; "
            "expected one cluster for each spike; export both again"
        )
    back = np.flatnonzero(samples[1:] < samples[:-1])
    if len(back):
        i = back[0]
        raise LFADSError(
            f"{path / TIMES}: times run backwards {len(back)} times, first after spike {i} (from "
            f"sample {samples[i]} to {samples[i + 1]}); expected one clock for the whole "
            "recording; if recordings were joined, add to each part its first sample; else sort "
            "times and clusters together"
        )
    ids, cluster = np.unique(clusters, return_inverse=True)
    spikes = Spikes(
        [samples[own] for own in by_unit(cluster.ravel(), len(ids))], seconds_per_unit=1 / rate
    )
    columns = _columns(path, ids)
    quality = sorters.quality(columns, ("group", "kslabel"))
    if quality is None:
        warnings.warn(
            f"{path}: no table says which clusters are good ({', '.join(TABLES)}); all {len(ids)} "
            "are taken",
            stacklevel=2,
        )
    usual = ("good",) if quality is not None else ()
    return Recording(str(path), Units(ids, columns, quality, usual), spikes)


def _whole_numbers(path: Path) -> np.ndarray:
    """Map a vector of whole numbers."""
    if not path.is_file():
        raise LFADSError(
            f"{path.parent}: has no {path.name}; expected the time of each spike, in samples; "
            "export the folder again"
        )
    return whole_numbers(map_vector(path, "spike"), path)


def _sample_rate(path: Path, settings: Settings) -> float:
    """Return the samples per second: as the option says, else ``params.py``."""
    given, file = settings.sampling_rate_hz, path / "params.py"
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            text = opened.read(MAX_TEXT)
    except OSError:
        text = ""
    stated = re.findall(r"^sample_rate[ \t]*=[ \t]*([^#\n]*)", text, re.MULTILINE)
    try:
        rate = float(stated[-1]) if stated else None
    except ValueError:
        rate = np.nan
    if given is not None:
        sorters.warn_of_rate(rate, given, f"{file}: states a sample_rate")
        return given
    remedy = "give sampling_rate_hz=30000, or whatever it was"
    if rate is None:
        found = "states no sample_rate" if file.is_file() else "is missing; it states sample_rate"
        raise LFADSError(f"{file}: {found}, the samples per second; {remedy}")
    if not 0 < rate < np.inf:
        raise LFADSError(
            f"{file}: sample_rate is {stated[-1].strip()[:50]!r}; expected a positive number; "
            f"{remedy}"
        )
    return rate


def _columns(path: Path, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Read the tables' properties of these clusters; NaN or an empty text if there are none."""
    columns: dict[str, np.ndarray] = {}
    files = [path / name for name in TABLES]
    files += sorted(set(path.glob("cluster_*.tsv")) - set(files))
    for file in filter(Path.is_file, files):
        try:
            table = read_table(file)
        except LFADSError as error:
            if file.name in TABLES:
                raise
            warnings.warn(f"{error}; it is left out", stacklevel=3)  # notes, or a plugin's table
            continue
        key = names.find(table, ("cluster_id", "id"))
        if key is None:
            raise LFADSError(
                f"{file}: found {listed(table, 20)}; expected a column cluster_id, and what is "
                "said of these clusters"
            )
        place = {cluster: row for row, cluster in enumerate(table[key].tolist())}
        rows = np.array([place.get(cluster, -1) for cluster in ids.tolist()], dtype=np.int64)
        for name, column in table.items():
            if name == key or name in columns or len(column) == 0:
                continue
            missing = "" if column.dtype.kind == "U" else np.nan
            columns[name] = np.where(rows < 0, missing, column[rows])
    return columns
