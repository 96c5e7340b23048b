"""Recordings that are in memory: a data frame of spikes, or arrays by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lfads_lightning.data.arrays import as_array
from lfads_lightning.recordings import names
from lfads_lightning.recordings.named_arrays import Cells, recording_from_arrays
from lfads_lightning.recordings.records import Recording
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.table_rows import recording_from_table
from lfads_lightning.recordings.tables import columns_of_frame


def is_in_memory(recording: Any) -> bool:
    """Tell a recording in memory from a path."""
    return hasattr(recording, "columns") or isinstance(recording, Mapping)


def read_memory(recording: Any, source: str, settings: Settings) -> Recording:
    """Make a recording of a data frame (pandas, polars), or of {name: array}.

    Raises:
        LFADSError: something in it is not as it must be.
    """
    if hasattr(recording, "columns"):
        return recording_from_table(columns_of_frame(recording, source), source, settings)
    arrays = {str(key): _read(source, str(key), value) for key, value in recording.items()}
    return recording_from_arrays(arrays, source, settings)


def _read(source: str, key: str, value: Any) -> Any:
    """Return an array; of a list of lists, such as spike times by neuron, cells."""
    items = list(value) if isinstance(value, list | tuple) or _is_objects(value) else []
    lengths = {_shape(item) if isinstance(item, list | tuple | np.ndarray) else None
               for item in items}  # fmt: skip
    is_times = key.lower() in names.TIMES[:-1]
    if lengths and None not in lengths and (len(lengths) > 1 or _is_objects(value) or is_times):
        return Cells((len(items),), [as_array(source, key, item) for item in items])
    return as_array(source, key, value)


def _shape(item: Any) -> tuple[int, ...]:
    return item.shape if isinstance(item, np.ndarray) else (len(item),)


def _is_objects(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim == 1
