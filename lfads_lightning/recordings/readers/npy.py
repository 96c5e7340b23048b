"""A .npy file: one array of counts, or of real values."""

from pathlib import Path

from lfads_lightning.recordings.named_arrays import recording_from_arrays
from lfads_lightning.recordings.npy_files import map_array
from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.records import Recording
from lfads_lightning.recordings.settings import Settings


@reader(".npy")
def read(path: Path, settings: Settings) -> Recording:
    """Read trials × bins × neurons, or bins × neurons for a continuous recording."""
    return recording_from_arrays(
        {settings.counts_key or "counts": map_array(path)}, str(path), settings
    )
