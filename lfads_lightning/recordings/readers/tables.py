"""Tables with a row per spike: CSV, and parquet (needs the extra [parquet])."""

from pathlib import Path

from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.records import Recording
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_rows import spikes_from_rows
from lfads_lightning.recordings.tables import read_table


@reader(".csv", ".tsv", ".txt", ".parquet", ".pq")
def read(path: Path, settings: Settings) -> Recording:
    """Read spike times with their neurons, and perhaps their trials."""
    return spikes_from_rows(read_table(path), str(path), settings)
