"""Spike times to trials: windows around events, gaps, chops."""

import warnings

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import check_dtype, listed, nearest
from lfads_lightning.recordings.binning import (
    MOST_BINS,
    TOLERANCE,
    average_signal,
    count_spikes,
    whole_bins,
)
from lfads_lightning.recordings.chops import plan_chops
from lfads_lightning.recordings.clocks import warn_of_order
from lfads_lightning.recordings.records import Cut, Spikes
from lfads_lightning.recordings.settings import Settings

RUN_CHOPS = 10  # neighbouring chops that share a split, where chops overlap
DAY_S = 86400
MOST_TRIAL_BYTES = 2**30


def cut_spikes(spikes: Spikes, settings: Settings) -> Cut:
    """Cut a recording of spike times into trials of equal length.

    Raises:
        LFADSError: times look wrong, an event or the bin width is missing, trials are of unequal
            length, or none of them is left.
    """
    if settings.bin_width_s is None:
        raise LFADSError(
            f"{spikes.source}: holds spike times; give bin_width_s, the bin width in seconds"
        )
    for name in ("start_time", "stop_time"):
        if spikes.trials is not None and name in spikes.trials:
            check_dtype(f"{spikes.source}: {name}", spikes.trials[name].dtype)
    check_times(spikes, settings)
    if settings.chop_bins is not None:
        return _chopped(spikes, settings, settings.bin_width_s, settings.chop_bins)
    return _windowed(spikes, settings, settings.bin_width_s)


def check_times(spikes: Spikes, settings: Settings) -> None:
    """Refuse times that can hardly be seconds, unless their unit was given."""
    filled = [t for t in spikes.times_s if len(t)]
    if not filled:
        raise LFADSError(f"{spikes.source}: no unit has any spike; expected spike times in seconds")
    for i, times in zip(spikes.neuron_ids, spikes.times_s, strict=True):
        if len(times) and not np.isfinite(times[[0, -1]]).all():  # NaN is sorted last
            raise LFADSError(f"{spikes.source}: unit {i} has a spike time that is not finite; "
                             "mend or remove it")  # fmt: skip
    if settings.time_unit is not None:
        return
    n = sum(map(len, filled))
    last = max(t[-1] for t in filled)
    first = min(t[0] for t in filled)
    remedy = "set time_unit to ms, us or samples (or to s, if seconds they are)"
    if n >= 20 and last > 20 and all((t == np.floor(t)).all() for t in filled):
        raise LFADSError(
            f"{spikes.source}: all {n} spike times are whole numbers, up to {last:.9g}; expected "
            f"seconds; {remedy}"
        )
    rate = n / len(filled) / max(last - first, 1e-9)
    if last - first > DAY_S and rate < 0.02:
        raise LFADSError(
            f"{spikes.source}: spikes last for {last - first:.9g} s, {rate:.2g} per second and "
            f"neuron; expected seconds, this looks like a smaller unit; {remedy}"
        )
    stops = {} if spikes.trials is None or spikes.zeros_s is not None else spikes.trials
    ends = np.asarray(stops.get("stop_time", ()), np.float64)
    end = np.fmax.reduce(ends, initial=-np.inf)  # NaN aside
    if 0 < end < last / 50:
        raise LFADSError(
            f"{spikes.source}: the last spike is at {last:.9g}, the last trial ends at {end:.9g}; "
            f"expected both in seconds, spikes look like a smaller unit; {remedy}"
        )


def _windowed(spikes: Spikes, settings: Settings, width: float) -> Cut:
    if spikes.trials is None:
        raise LFADSError(
            f"{spikes.source}: has no trials; give a trial table with trials=..., or cut a "
            "continuous recording with chop_bins"
        )
    event, events = _events(spikes, settings)
    known = np.isfinite(events)
    if not known.any():
        raise LFADSError(
            f"{spikes.source}: none of its {len(known)} trials has a time of {event}; expected "
            "seconds, NaN where a trial lacks the event; name another event with align_to"
        )
    if settings.window_s is None:
        first, last = _whole_trials(spikes, settings, event, known, width)
    else:
        first, last = settings.window_s
    n_bins = whole_bins(last - first, width, f"{spikes.source}: a window")
    starts = events + first
    notes = []
    if not known.all():
        notes.append(f"{(~known).sum()} trials without the event {event}")
    _check_clock(spikes, settings, event, events, n_bins * width)
    inside = known.copy()
    for why, seen in _observed(spikes, settings, starts, n_bins * width).items():
        lost = inside & ~seen
        if lost.any():
            notes.append(f"{lost.sum()} trials {why}")
        inside &= seen
    if not inside.any():
        begin, end = extent(spikes, settings, width)
        raise LFADSError(
            f"{spikes.source}: every trial lies outside the recording or in a gap of it "
            f"({'; '.join(notes)}): {event} "
            f"is from {np.nanmin(events):.6g} to {np.nanmax(events):.6g} s, the recording from "
            f"{begin:.6g} to {end:.6g} s{_least_observed(spikes)}; check unit and clock of {event}"
        )
    keep = np.flatnonzero(inside)
    _check_overlap(spikes.source, event, starts[keep], n_bins * width, width)
    per_trial = {
        name: column[keep]
        for name, column in spikes.trials.items()
        if column.dtype.kind in "biufU" and name not in ("start_time", "stop_time")
    }
    zeros = 0 if spikes.zeros_s is None else spikes.zeros_s[keep]
    per_trial["event_times_s"] = events[keep] - zeros
    if spikes.trial_ids is not None:
        per_trial["trial_ids"] = spikes.trial_ids[keep]
    cut = _new_cut(spikes, width, starts[keep], n_bins, per_trial)
    cut.numbers, cut.notes = keep, notes
    cut.constants = {"event": event, "window_s": [first, last]}
    return cut


def _check_clock(
    spikes: Spikes, settings: Settings, event: str, events: np.ndarray, length: float
) -> None:
    """Refuse events that are hardly on the clock of the recording; warn of odd trials."""
    columns, scale = spikes.trials or {}, settings.seconds_per_unit
    if spikes.zeros_s is not None:  # each trial has a clock of its own
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
            f"{spikes.source}: {len(bad)} trials end before they begin, first trial {bad[0]} (from "
            f"{start[bad[0]]:.9g} to {stop[bad[0]]:.9g}); mend or leave out such trials",
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
            f"{spikes.source}: {event} lies outside its own trial in {outside.sum()} of "
            f"{known.sum()} trials, first trial {i} (at {events[i]:.6g} s, the trial from "
            f"{begin[i]:.6g} to {end[i]:.6g} s); expected both on one clock; if {event} is "
            "counted from the start of each trial, add start_time to it"
        )


def _check_overlap(
    source: str, event: str, starts: np.ndarray, length: float, width: float
) -> None:
    """Refuse trials that are one and the same stretch; warn of those that overlap."""
    ordered = np.sort(starts)
    n_same = int((np.diff(ordered) < width / 2).sum())
    if len(starts) > 2 and (n_same >= len(starts) / 2 or ordered[-1] - ordered[0] < length / 2):
        raise LFADSError(
            f"{source}: {n_same + 1} of {len(starts)} trials have their {event} at one time or "
            f"nearly so (all from {ordered[0]:.6g} to {ordered[-1]:.6g} s, where windows begin); "
            "expected events on the recording's clock; if times are counted from the start of each "
            "trial, spikes need a trial as well: a column trial, or neurons × trials cells"
        )
    gap = np.diff(ordered).min(initial=np.inf)
    if gap < length * (1 - TOLERANCE):
        warnings.warn(
            f"{source}: trials of {length:g} s begin {gap:.4g} s after each other, so that spikes "
            "of validation trials are in training trials too; take a shorter window_s",
            stacklevel=2,
        )


def _events(spikes: Spikes, settings: Settings) -> tuple[str, np.ndarray]:
    """Return the event's name, and its time in each trial; NaN where it did not happen."""
    assert spikes.trials is not None
    if settings.align_to is None and spikes.zeros_s is not None:
        return "the beginning of its clock", spikes.zeros_s
    name = settings.align_to or "start_time"
    times = spikes.trials.get(name)
    numbers = [k for k, v in spikes.trials.items() if v.dtype.kind in "iuf"]
    if times is None or times.dtype.kind not in "iuf":
        found = "is no column of numbers" if times is not None else "is no event of the trials"
        raise LFADSError(
            f"{spikes.source}: align_to={name} {found}{nearest(name, numbers)}; expected one of "
            f"{listed(numbers, 20)}"
        )
    zeros = 0 if spikes.zeros_s is None else spikes.zeros_s
    return name, times * settings.seconds_per_unit + zeros


def _whole_trials(
    spikes: Spikes, settings: Settings, event: str, known: np.ndarray, width: float
) -> tuple[float, float]:
    """Return the window of trials that go from start to stop, if they are of one length."""
    assert spikes.trials is not None
    columns = spikes.trials
    if event != "start_time" or "start_time" not in columns or "stop_time" not in columns:
        raise LFADSError(
            f"{spikes.source}: trials are aligned to {event}: give window_s, their first and last "
            "moment in seconds from it (only trials with start_time and stop_time go without)"
        )
    lengths = (columns["stop_time"] - columns["start_time"])[known] * settings.seconds_per_unit
    shortest, longest = lengths.min(), lengths.max()
    if not 0 < shortest <= longest < MOST_BINS * width:
        raise LFADSError(
            f"{spikes.source}: trials last from {shortest:.6g} to {longest:.6g} s; expected a stop "
            f"after each start, within {MOST_BINS:.0e} bins; mend or leave out such trials"
        )
    if longest - shortest > width / 2:
        raise LFADSError(
            f"{spikes.source}: trials last from {shortest:.6g} to {longest:.6g} s; expected one "
            f"length; give window_s=(0, {shortest:.6g}), or an event to align to"
        )
    # trials that are equal but for a part of a bin are cut to the shortest
    if longest - shortest < TOLERANCE * width:
        return 0.0, whole_bins(shortest, width, f"{spikes.source}: a trial") * width
    return 0.0, max(int(shortest / width + TOLERANCE), 1) * width


def extent(spikes: Spikes, settings: Settings, width: float) -> tuple[float, float]:
    """Return when a recording begins and ends: as told, else as observed, else by its spikes."""
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


def _observed(
    spikes: Spikes, settings: Settings, starts: np.ndarray, length: float
) -> dict[str, np.ndarray]:
    """Tell which windows were recorded throughout, from every neuron: (E,), by what is else."""
    stops, hair = starts + length, TOLERANCE * length
    found = {}
    if spikes.zeros_s is None:
        begin, end = extent(spikes, settings, length)
        inside = (starts >= begin - hair) & (stops <= end + hair)
        found[f"outside the recording ({begin:.6g} to {end:.6g} s)"] = inside
    if spikes.observed_s is not None:
        inside = np.ones(len(starts), bool)
        for intervals in spikes.observed_s:
            inside &= _within(starts, stops, joined(intervals), hair)
        found["in which some unit was not observed (obs_intervals)"] = inside
    if spikes.invalid_s is not None:
        inside = np.ones(len(starts), bool)
        for begin, end in spikes.invalid_s:
            inside &= (stops <= begin + hair) | (starts >= end - hair)
        found["in a gap of the recording (invalid_times)"] = inside
    return found


def _within(
    starts: np.ndarray, stops: np.ndarray, intervals: np.ndarray, hair: float
) -> np.ndarray:
    if len(intervals) == 0:
        return np.zeros(len(starts), bool)
    which = np.searchsorted(intervals[:, 0], starts + hair, side="right") - 1
    return (which >= 0) & (stops <= intervals[np.maximum(which, 0), 1] + hair)


def joined(intervals: np.ndarray) -> np.ndarray:
    """Sort intervals (n, 2) and join those that touch."""
    out: list[list[float]] = []
    for begin, end in intervals[np.argsort(intervals[:, 0], kind="stable")]:
        if out and begin <= out[-1][1] + 1e-9:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([begin, end])
    return np.array(out).reshape(-1, 2)


def _least_observed(spikes: Spikes) -> str:
    """Name the neuron that was recorded for the shortest time."""
    if spikes.observed_s is None:
        return ""
    lengths = [float(np.diff(i, axis=1).sum()) for i in spikes.observed_s]
    k = int(np.argmin(lengths))
    return (
        f" (unit {spikes.neuron_ids[k]} was observed for {lengths[k]:.6g} s only; "
        f"leave_out={(str(spikes.neuron_ids[k]),)} drops it)"
    )


def _segments(spikes: Spikes, settings: Settings, width: float) -> np.ndarray:
    """Return the stretches (n, 2) in which every neuron was recorded."""
    stretches = np.array([extent(spikes, settings, width)])
    for intervals in spikes.observed_s or []:
        pairs = [
            (max(a, c), min(b, d))
            for a, b in stretches
            for c, d in joined(intervals)
            if min(b, d) > max(a, c)
        ]
        stretches = np.array(pairs).reshape(-1, 2)
    for begin, end in [] if spikes.invalid_s is None else joined(spikes.invalid_s):
        pieces = [(a, min(b, begin)) for a, b in stretches] + [
            (max(a, end), b) for a, b in stretches
        ]
        stretches = joined(np.array([p for p in pieces if p[1] > p[0]]).reshape(-1, 2))
    return stretches


def _chopped(spikes: Spikes, settings: Settings, width: float, chop_bins: int) -> Cut:
    if spikes.zeros_s is not None:
        raise LFADSError(
            f"{spikes.source}: its spikes come cut into trials; chop_bins is for a continuous "
            "recording; give window_s instead"
        )
    stretches = _segments(spikes, settings, width)
    with np.errstate(over="ignore"):  # infinity is refused like other times that are too long
        lengths = np.diff(stretches, axis=1)[:, 0]
        total = lengths.sum()
    if not total <= MOST_BINS * width:
        raise LFADSError(
            f"{spikes.source}: the recording lasts {total:.6g} s; expected at most {MOST_BINS:.0e} "
            f"bins of {width:.6g} s; check its unit of time, where it begins and ends "
            "(recording_s), or take wider bins"
        )
    n_bins = np.floor(lengths / width + TOLERANCE).astype(int)
    plan = plan_chops(n_bins, chop_bins, settings.overlap_bins)
    if len(plan.starts) == 0:
        raise LFADSError(
            f"{spikes.source}: the longest unbroken piece of the recording has "
            f"{n_bins.max() if len(n_bins) else 0} bins of {width:.6g} s; expected at least "
            f"chop_bins={chop_bins}; take shorter chops"
        )
    begins_s = stretches[plan.kept, 0]
    segment = np.searchsorted(plan.segment_starts, plan.starts, side="right") - 1
    starts_s = begins_s[segment] + (plan.starts - plan.segment_starts[segment]) * width
    cut = _new_cut(spikes, width, starts_s, chop_bins, {"chop_starts": plan.starts})
    cut.per_trial["event_times_s"] = starts_s
    cut.constants = chop_constants(plan.segment_starts, plan.n_recording_bins, settings) | {
        "segment_starts_s": begins_s
    }
    cut.n_together = chops_together(len(plan.starts), settings)
    if len(plan.kept) < len(stretches):
        cut.notes = [f"{len(stretches) - len(plan.kept)} pieces shorter than a chop"]
    return cut


def chop_constants(segment_starts: np.ndarray, n_bins: int, settings: Settings) -> dict:
    """Return what merging needs to know, beside the chops' own starts."""
    return {
        "n_recording_bins": n_bins,
        "chop_overlap_bins": settings.overlap_bins,
        "segment_starts": segment_starts,
    }


def chops_together(n_chops: int, settings: Settings) -> int:
    """Return how many neighbours share a split: many, where they share bins, but ten groups."""
    return max(min(RUN_CHOPS, n_chops // 10), 1) if settings.overlap_bins else 1


def _new_cut(
    spikes: Spikes,
    width: float,
    starts_s: np.ndarray,
    n_bins: int,
    per_trial: dict[str, np.ndarray],
) -> Cut:
    n_bytes = 4 * n_bins * len(spikes.neuron_ids)  # of count_spikes
    if n_bytes > MOST_TRIAL_BYTES:
        raise LFADSError(
            f"{spikes.source}: a trial of {n_bins:.6g} bins of {width:.6g} s and "
            f"{len(spikes.neuron_ids)} neurons takes {n_bytes / 2**30:.3g} GiB; expected at most "
            f"{MOST_TRIAL_BYTES / 2**30:g}; check units and ends of trials, or cut shorter ones"
        )
    cut = Cut(
        spikes.source,
        n_bins,
        width,
        spikes.neuron_ids,
        np.arange(len(starts_s)),
        lambda trials: count_spikes(spikes.times_s, starts_s[trials], n_bins, width),
        per_trial,
        held_out=spikes.held_out,
    )
    if spikes.signals:
        cut.per_trial["behaviour"] = np.concatenate(
            [average_signal(s.times_s, s.values, starts_s, n_bins, width) for s in spikes.signals],
            axis=2,
        )
        cut.per_trial["behaviour_names"] = np.array([n for s in spikes.signals for n in s.names])
    return cut
