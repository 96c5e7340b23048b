"""Spikes, events and epochs of a recording that neo reads; used in a separate process.

Only neo's raw readers are used, and only those named here: none of them runs or unpickles anything.
Waveforms and continuous signals are not read.
"""

from pathlib import Path
from typing import Any

import neo.rawio  # here, so that its import counts before the limits of the process are set
import numpy as np

from lfads_lightning.recordings.readers.neo import VALUES

_MADE = {
    "Blackrock": lambda path: neo.rawio.BlackrockRawIO(filename=path),
    "Plexon": lambda path: neo.rawio.PlexonRawIO(filename=path, progress_bar=False),
    "NeuroExplorer": lambda path: neo.rawio.NeuroExplorerRawIO(filename=path),
    "Spike2": lambda path: neo.rawio.Spike2RawIO(filename=path),
    "Ced": lambda path: neo.rawio.CedRawIO(filename=path),
    "Neuralynx": lambda path: neo.rawio.NeuralynxRawIO(dirname=path),
    "Tdt": lambda path: neo.rawio.TdtRawIO(dirname=path),
}


def unpack(path: str, kind: str, folder: str) -> None:
    """Write the contents of a recording as plain arrays, for :func:`numpy.load`.

    For U units, S segments and V event channels these are: ``unit_names`` (U,); ``spikes``, all
    times, unit by unit, with ``n_spikes`` (U, S); ``event_names`` (V,), ``is_epoch`` (V,);
    ``events``, ``durations`` and ``labels`` with ``n_events`` (V, S); ``segments`` (S, 2), the
    start and end of each. Times are in seconds.
    """
    raw = _MADE[kind](path)
    raw.parse_header()
    header = raw.header
    if header["nb_block"] < 1 or header["nb_segment"][0] < 1:
        raise ValueError("it holds no recording")
    segments = range(header["nb_segment"][0])
    spikes = [
        [_times(raw, seg, unit) for seg in segments]
        for unit in range(len(header["spike_channels"]))
    ]
    events = [
        [_events(raw, seg, channel) for seg in segments]
        for channel in range(len(header["event_channels"]))
    ]
    bounds = [(raw.segment_t_start(0, s), raw.segment_t_stop(0, s)) for s in segments]
    every = [one for channel in events for one in channel]
    np.savez(
        Path(folder, VALUES),
        unit_names=_texts(header["spike_channels"]["name"]),
        spikes=_joined([times for unit in spikes for times in unit]),
        n_spikes=np.array([[len(times) for times in unit] for unit in spikes]).reshape(
            len(spikes), len(segments)
        ),
        event_names=_texts(header["event_channels"]["name"]),
        is_epoch=np.char.startswith(_texts(header["event_channels"]["type"].astype(str)), "epoch"),
        events=_joined([times for times, _, _ in every]),
        durations=_joined([durations for _, durations, _ in every]),
        labels=_texts([label for _, _, labels in every for label in labels]),
        n_events=np.array([[len(one[0]) for one in channel] for channel in events]).reshape(
            len(events), len(segments)
        ),
        segments=np.array(bounds, np.float64).reshape(-1, 2),
    )


def _times(raw: Any, segment: int, unit: int) -> np.ndarray:
    stamps = raw.get_spike_timestamps(
        block_index=0, seg_index=segment, spike_channel_index=unit, t_start=None, t_stop=None
    )
    return np.asarray(raw.rescale_spike_timestamp(np.asarray(stamps), dtype="float64"))


def _events(raw: Any, segment: int, channel: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    stamps, durations, labels = raw.get_event_timestamps(
        block_index=0, seg_index=segment, event_channel_index=channel, t_start=None, t_stop=None
    )
    times = raw.rescale_event_timestamp(
        np.asarray(stamps), dtype="float64", event_channel_index=channel
    )
    if durations is None:
        lasted = np.zeros(len(times))
    else:
        lasted = raw.rescale_epoch_duration(
            np.asarray(durations), dtype="float64", event_channel_index=channel
        )
    return np.asarray(times), np.asarray(lasted), [str(label) for label in labels]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _texts(values: Any) -> np.ndarray:
    return np.array([str(value) for value in values], dtype=str)
