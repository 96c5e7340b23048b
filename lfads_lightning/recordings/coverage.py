"""When a recording was on: its extent, when each neuron was observed, gaps, unbroken pieces."""

import numpy as np

from lfads_lightning.recordings.binning import TOLERANCE
from lfads_lightning.recordings.records import Timeline
from lfads_lightning.recordings.settings import Settings


def extent(spikes: Timeline, settings: Settings, width: float) -> tuple[float, float]:
    """Return begin and end of a recording: by its option, else as observed, else by its spikes."""
    if settings.recording_s is not None:
        return settings.recording_s
    if spikes.observed_s is not None:
        bounds = np.concatenate(spikes.observed_s)
        return float(bounds[:, 0].min()), float(bounds[:, 1].max())
    filled = [t for t in spikes.times_s if len(t)]
    first, last = min(t[0] for t in filled), max(t[-1] for t in filled)
    # from a whole bin to a whole bin, the last spike inside
    begin = np.floor(first / width + TOLERANCE) * width
    return float(begin), float((np.floor(last / width + TOLERANCE) + 1) * width)


def recorded(
    spikes: Timeline, settings: Settings, starts: np.ndarray, lengths: np.ndarray
) -> dict[str, np.ndarray]:
    """Return which windows (E,) have complete recordings of every neuron, per kind of failure."""
    stops, hair = starts + lengths, TOLERANCE * lengths
    found = {}
    if spikes.zeros_s is None:
        begin, end = extent(spikes, settings, float(lengths.max()))
        inside = (starts >= begin - hair) & (stops <= end + hair)
        found[f"outside the recording ({begin:.6g} to {end:.6g} s)"] = inside
    if spikes.observed_s is not None:
        inside = np.ones(len(starts), bool)
        for intervals in spikes.observed_s:
            inside &= _within(starts, stops, _joined(intervals), hair)
        found["in which some unit was not observed (obs_intervals)"] = inside
    if spikes.invalid_s is not None:
        inside = np.ones(len(starts), bool)
        for begin, end in spikes.invalid_s:
            inside &= (stops <= begin + hair) | (starts >= end - hair)
        found["in a gap of the recording (invalid_times)"] = inside
    return found


def _within(
    starts: np.ndarray, stops: np.ndarray, intervals: np.ndarray, hair: np.ndarray
) -> np.ndarray:
    if len(intervals) == 0:
        return np.zeros(len(starts), bool)
    which = np.searchsorted(intervals[:, 0], starts + hair, side="right") - 1
    return (which >= 0) & (stops <= intervals[np.maximum(which, 0), 1] + hair)


def _joined(intervals: np.ndarray) -> np.ndarray:
    """Sort intervals (n, 2) and join those that touch."""
    out: list[list[float]] = []
    for begin, end in intervals[np.argsort(intervals[:, 0], kind="stable")]:
        if out and begin <= out[-1][1] + 1e-9:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([begin, end])
    return np.array(out).reshape(-1, 2)


def least_observed(spikes: Timeline) -> str:
    """Name the neuron that was recorded for the shortest time."""
    if spikes.observed_s is None:
        return ""
    lengths = [float(np.diff(i, axis=1).sum()) for i in spikes.observed_s]
    k = int(np.argmin(lengths))
    return (
        f" (unit {spikes.neuron_ids[k]} was observed for {lengths[k]:.6g} s only; "
        f"leave_out={(str(spikes.neuron_ids[k]),)} drops it)"
    )


def pieces(spikes: Timeline, settings: Settings, width: float) -> np.ndarray:
    """Return the stretches (n, 2) in which every neuron was recorded."""
    stretches = np.array([extent(spikes, settings, width)])
    for intervals in spikes.observed_s or []:
        pairs = [
            (max(a, c), min(b, d))
            for a, b in stretches
            for c, d in _joined(intervals)
            if min(b, d) > max(a, c)
        ]
        stretches = np.array(pairs).reshape(-1, 2)
    for begin, end in [] if spikes.invalid_s is None else _joined(spikes.invalid_s):
        parts = [(a, min(b, begin)) for a, b in stretches] + [
            (max(a, end), b) for a, b in stretches
        ]
        stretches = _joined(np.array([p for p in parts if p[1] > p[0]]).reshape(-1, 2))
    return stretches
