"""Times that are not on one clock, or not in seconds: an error if certain, else a warning."""

import warnings
from collections.abc import Sequence

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.binning import TOLERANCE
from lfads_lightning.recordings.records import Timeline
from lfads_lightning.recordings.settings import Settings

# share of backward steps: low if a clock was reset, about a half if the rows are in no order
SHUFFLED = 0.2
DAY_S = 86400


def rising(times: Sequence[np.ndarray], ids: np.ndarray, source: str) -> list[np.ndarray]:
    """Sort each neuron's times, which are given in the order of the file.

    Rows in no order at all are sorted without a warning.

    Raises:
        LFADSError: the times of most neurons run backwards occasionally: the clock was reset.
    """
    sorted_times, back = [], []
    for unit, own in zip(ids.tolist(), times, strict=True):
        own = np.asarray(own, np.float64)
        with np.errstate(invalid="ignore"):  # values that are not finite are refused later
            steps = np.diff(own)
        at = np.flatnonzero(steps < 0)
        if len(at) and len(at) <= max(SHUFFLED * len(steps), 1):
            back.append((unit, len(at), own[at[0]], own[at[0] + 1]))
        sorted_times.append(np.sort(own) if len(at) or np.isnan(own).any() else own)
    if back:
        unit, n, before, after = back[0]
        found = (
            f"{source}: the spike times of {len(back)} of {len(times)} units run backwards: unit "
            f"{unit} {n} times, first from {before:.9g} to {after:.9g}"
        )
        n_filled = sum(len(own) > 1 for own in times)
        if len(back) > n_filled / 2:
            raise LFADSError(
                f"{found}; expected one clock for the whole recording; if the clock was reset, add "
                "the start of each part to its times, or prepare the parts separately; if times "
                "count from the start of each trial, give the trial of each spike (a column "
                "trial; in MATLAB, cells of neurons × trials)"
            )
        warnings.warn(
            f"{found}; they are sorted, which is right if two units were merged, and wrong if the "
            f"clock was reset; check units {listed([b[0] for b in back])}",
            stacklevel=3,
        )
    return sorted_times


def warn_of_order(name: str, times: np.ndarray, source: str) -> None:
    """Warn of trials whose times run backwards occasionally.

    Args:
        name: name of their column.
        times: (E,); NaN is ignored.
        source: name of the recording in the warning.
    """
    known = np.flatnonzero(np.isfinite(times))
    steps = np.diff(times[known])
    at = np.flatnonzero(steps < 0)
    if len(at) and len(at) <= max(SHUFFLED * len(steps), 1):
        i = known[at[0] + 1]
        warnings.warn(
            f"{source}: {name} runs backwards {len(at)} times, first in trial {i} (from "
            f"{times[known[at[0]]]:.9g} to {times[i]:.9g}); expected one clock for all trials; if "
            "it was reset there, add the start of each part to its times, or prepare the parts "
            "separately",
            stacklevel=3,
        )


def check_intervals(pairs: np.ndarray, where: str) -> None:
    """Refuse intervals (n, 2) that end before they begin.

    Raises:
        LFADSError: one does.
    """
    bad = np.flatnonzero(pairs[:, 1] < pairs[:, 0])
    if len(bad):
        begin, end = pairs[bad[0]]
        raise LFADSError(
            f"{where}: interval {bad[0]} is from {begin:.9g} to {end:.9g}; expected it to end "
            "after its start; fix it"
        )


def check_times(spikes: Timeline) -> None:
    """Refuse times that are probably not seconds, unless their unit was given."""
    filled = [t for t in spikes.times_s if len(t)]
    if not filled:
        raise LFADSError(f"{spikes.source}: no unit has any spike; expected spike times in seconds")
    for i, times in zip(spikes.neuron_ids, spikes.times_s, strict=True):
        if len(times) and not np.isfinite(times[[0, -1]]).all():  # NaN is sorted last
            raise LFADSError(f"{spikes.source}: unit {i} has a spike time that is not finite; "
                             "fix or remove it")  # fmt: skip
    if spikes.unit_is_known:
        return
    n = sum(map(len, filled))
    last = max(t[-1] for t in filled)
    first = min(t[0] for t in filled)
    remedy = "set time_unit to ms, us or samples (or to s, if they are seconds)"
    if n >= 20 and last > 20 and all((t == np.floor(t)).all() for t in filled):
        raise LFADSError(
            f"{spikes.source}: all {n} spike times are whole numbers, up to {last:.9g}; expected "
            f"seconds; {remedy}"
        )
    rate = n / len(filled) / max(last - first, 1e-9)
    if last - first > DAY_S and rate < 0.02:
        raise LFADSError(
            f"{spikes.source}: as seconds, spike times span {last - first:.9g} s with {rate:.2g} "
            f"spikes per second and neuron; they look like a smaller unit; {remedy}"
        )
    stops = {} if spikes.trials is None or spikes.zeros_s is not None else spikes.trials
    ends = np.asarray(stops.get("stop_time", ()), np.float64)
    end = np.fmax.reduce(ends, initial=-np.inf)  # ignores NaN
    if 0 < end < last / 50:
        raise LFADSError(
            f"{spikes.source}: the last spike is at {last:.9g}, the last trial ends at {end:.9g}; "
            f"expected both in seconds, but spikes look like a smaller unit; {remedy}"
        )


def check_events(
    spikes: Timeline, settings: Settings, event: str, events: np.ndarray, length: float
) -> None:
    """Refuse events that are probably not on the recording's clock; warn of odd trials."""
    columns, scale = spikes.trials or {}, settings.seconds_per_unit
    if spikes.zeros_s is not None:  # each trial has its own clock
        return
    start, stop = (columns.get(k) for k in ("start_time", "stop_time"))
    if start is not None:
        warn_of_order("start_time", start, spikes.source)
    if event != "start_time":
        warn_of_order(event, events, spikes.source)
    if start is None or stop is None:
        return
    bad = np.flatnonzero(stop < start)
    if len(bad):
        warnings.warn(
            f"{spikes.source}: {len(bad)} trials end before they start, first trial {bad[0]} (from "
            f"{start[bad[0]]:.9g} to {stop[bad[0]]:.9g}); fix or leave out such trials",
            stacklevel=3,
        )
    begin, end = start * scale, stop * scale
    hair = np.maximum(end - begin, 0) + length  # an event may lie a little outside
    with np.errstate(invalid="ignore"):
        known = np.isfinite(events) & np.isfinite(begin) & (end > begin)
        outside = known & ((events < begin - hair) | (events > end + hair))
    if known.any() and outside.sum() > known.sum() / 2:
        i = int(np.argmax(outside))
        raise LFADSError(
            f"{spikes.source}: {event} is outside its own trial in {outside.sum()} of "
            f"{known.sum()} trials, first trial {i} (at {events[i]:.6g} s, the trial is from "
            f"{begin[i]:.6g} to {end[i]:.6g} s); expected both on one clock; if {event} counts "
            "from the start of each trial, add start_time to it"
        )


def check_overlap(
    source: str, event: str, starts: np.ndarray, lengths: np.ndarray, width: float
) -> None:
    """Refuse trials that cover the same stretch of time; warn of trials that overlap."""
    order = np.argsort(starts, kind="stable")
    ordered, lengths = starts[order], lengths[order]
    n_same = int((np.diff(ordered) < width / 2).sum())
    if len(starts) > 2 and (
        n_same >= len(starts) / 2 or ordered[-1] - ordered[0] < lengths.max() / 2
    ):
        raise LFADSError(
            f"{source}: {n_same + 1} of {len(starts)} trials have their {event} at nearly the same "
            f"time (all windows start between {ordered[0]:.6g} and {ordered[-1]:.6g} s); expected "
            "events on the clock of the recording; if times count from the start of each trial, "
            "spikes need a trial as well: a column trial, or cells of neurons × trials"
        )
    gaps = np.diff(ordered)
    overlap = np.flatnonzero(gaps < lengths[:-1] * (1 - TOLERANCE))
    if len(overlap):
        first = overlap[np.argmin(gaps[overlap])]
        gap, length = gaps[first], lengths[first]
        warnings.warn(
            f"{source}: trials of {length:g} s begin {gap:.4g} s after each other, so training "
            "trials contain spikes of validation trials; use a shorter window_s",
            stacklevel=2,
        )
