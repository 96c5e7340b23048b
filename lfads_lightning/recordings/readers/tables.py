"""Tables with a row per spike, or per bin: CSV, and parquet (needs the extra [parquet])."""

from pathlib import Path

from lfads_lightning.recordings.readers import TABLES, reader
from lfads_lightning.recordings.records import Recording
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.table_rows import recording_from_table
from lfads_lightning.recordings.tables import read_table


@reader(*TABLES)
def read(path: Path, settings: Settings) -> Recording:
    """Read spike times with their neurons, or a bin's counts of all neurons, row by row."""
    return recording_from_table(read_table(path, settings.columns), str(path), settings)
