"""Trials: windows around events, whole trials, or chops of a continuous recording.

Spike times are cut in seconds and counted; counts given in bins are cut and joined in bins.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import sizes
from lfads_lightning.data.missing import inside
from lfads_lightning.recordings import coverage, names, nlb
from lfads_lightning.recordings.binning import (
    MOST_BINS,
    TOLERANCE,
    average_signal,
    count_spikes,
    holds_real_values,
    join_bins,
    whole_bins,
)
from lfads_lightning.recordings.chops import Chops, plan_chops
from lfads_lightning.recordings.clocks import check_events, check_overlap
from lfads_lightning.recordings.records import Counts, Cut, Recording, Spikes, Timeline
from lfads_lightning.recordings.selection import chosen
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.timeline import timeline, trials_of_counts
from lfads_lightning.recordings.units import held_out

RUN_CHOPS = 10  # neighbouring chops that share a split, if chops overlap
MOST_TRIAL_BYTES = 2**30


class Places(NamedTuple):
    """Where trials lie, in seconds or in the bins of the file.

    Attributes:
        starts: (E,), start of each trial.
        n_bins: T, before bins are joined.
        numbers: (E,), numbers of these trials (or chops) in the source.
        per_trial: arrays (E, ...) that are stored for each split.
        constants: values that are stored once.
        notes: what was left out, and why.
        n_together: neighbouring trials that go into one split.
        lengths: (E,), the bins of each trial, before bins are joined; None: all have T.
    """

    starts: np.ndarray
    n_bins: int
    numbers: np.ndarray
    per_trial: dict[str, np.ndarray]
    constants: dict[str, Any]
    notes: list[str]
    n_together: int = 1
    lengths: np.ndarray | None = None


class Binned(NamedTuple):
    """Counts that are given in bins, and how they are cut.

    Attributes:
        recording: the recording; for trials, with the columns of a separate table.
        counts: its counts.
        table: for a continuous recording, columns of the trials to cut out of it; None: none.
        n_joined: number of bins of the file that are joined into one.
        own_s: width of the file's bins in seconds; None: not known.
        width: width of the joined bins.
        where: name of the counts in error messages.
    """

    recording: Recording
    counts: Counts
    table: dict[str, np.ndarray] | None
    n_joined: int
    own_s: float | None
    width: float | None
    where: str


def cut_trials(recording: Recording, settings: Settings) -> Cut:
    """Cut a recording into trials.

    Raises:
        LFADSError: the bin width is missing or fits neither the bins of the file nor a trial, times
            look wrong, a continuous recording comes without ``chop_bins`` or trials come with it,
            or no trial is left.
    """
    activity = recording.activity
    if isinstance(activity, Spikes):
        return _of_spikes(recording, activity, settings)
    return _of_counts(recording, activity, settings)


# ---- spike times


def _of_spikes(recording: Recording, spikes: Spikes, settings: Settings) -> Cut:
    width = settings.bin_width_s
    if width is None:
        raise LFADSError(
            f"{recording.source}: contains spike times; give bin_width_s, the bin width in seconds"
        )
    line = timeline(recording, spikes, settings)
    find = _windows_of_spikes if settings.chop_bins is None else _chops_of_spikes
    places = find(line, settings, width)
    starts, n_bins = places.starts, places.n_bins
    n_bytes = 4 * n_bins * len(line.neuron_ids)  # of count_spikes
    if n_bytes > MOST_TRIAL_BYTES:
        raise LFADSError(
            f"{line.source}: a trial of {n_bins:.6g} bins of {width:.6g} s and "
            f"{len(line.neuron_ids)} neurons takes {n_bytes / 2**30:.3g} GiB; expected at most "
            f"{MOST_TRIAL_BYTES / 2**30:g}; check units and ends of trials, or cut shorter ones"
        )
    if line.signals:
        begins = starts + settings.behaviour_lag_s
        sampled = [average_signal(s.times, s.values, begins, n_bins, width) for s in line.signals]
        places.per_trial["behaviour"] = _ended(np.concatenate(sampled, axis=2), places.lengths)
        places.per_trial["behaviour_names"] = np.array([n for s in line.signals for n in s.names])

    def count(trials: np.ndarray) -> np.ndarray:
        lengths = None if places.lengths is None else places.lengths[trials]
        return _ended(count_spikes(line.times_s, starts[trials], n_bins, width), lengths)

    return _cut(recording, settings, places, n_bins, width, count)


def _ended(values: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Write 0 after the end of each trial of (n, T, ...)."""
    if lengths is not None:
        values[np.arange(values.shape[1]) >= lengths[:, None]] = 0
    return values


def _cut(
    recording: Recording,
    settings: Settings,
    places: Places,
    n_bins: int,
    width: float | None,
    counts: Callable[[np.ndarray], np.ndarray],
) -> Cut:
    return Cut(
        recording.source,
        n_bins,
        width,
        recording.units.ids,
        places.numbers,
        counts,
        places.per_trial,
        places.constants,
        held_out(recording, settings),
        places.n_together,
        places.notes,
        lengths=places.lengths,
    )


def _windows_of_spikes(spikes: Timeline, settings: Settings, width: float) -> Places:
    if spikes.trials is None:
        raise LFADSError(
            f"{spikes.source}: contains no trials; give a trial table with trials=..., or cut the "
            "recording into pieces with chop_bins"
        )
    event, events = _events_of_spikes(spikes, settings)
    columns = spikes.trials
    if spikes.trial_ids is not None:
        columns = {"trial": spikes.trial_ids} | columns
    selected, notes = _selected(columns, len(events), settings, spikes.source)
    events = np.where(selected, events, np.nan)
    known = np.isfinite(events)
    if not known.any():
        raise LFADSError(
            f"{spikes.source}: none of the {selected.sum()} trials has a time for {event}; "
            "expected seconds, or NaN for a trial without the event; choose another event with "
            "align_to"
        )
    if not known[selected].all():
        notes.append(f"{(~known & selected).sum()} trials without the event {event}")
    if settings.window_s is None:
        first = 0.0
        known &= _ends_are_known(spikes.trials, selected, notes)
        lengths = _whole_trials(spikes.trials, settings, event, known, width, spikes.source)
        short = known & (lengths == 0)
        if short.any():
            notes.append(f"{short.sum()} trials shorter than a bin")
    else:
        first, last = settings.window_s
        n_bins = whole_bins(last - first, width, f"{spikes.source}: a window")
        lengths, short = np.full(len(events), n_bins), np.zeros(len(events), bool)
    forward_s = 0.0
    if settings.nlb is not None:
        events, forward_s = nlb.on_grid(events + first, width, TOLERANCE) - first, nlb.FORWARD_S
    starts, longest_s = events + first, lengths.max() * width
    check_events(spikes, settings, event, events, longest_s)
    inside = known & ~short
    for why, seen in coverage.recorded(spikes, settings, starts, lengths * width).items():
        lost = inside & ~seen
        if lost.any():
            notes.append(f"{lost.sum()} trials {why}")
        inside &= seen
    if not inside.any():
        begin, end = coverage.extent(spikes, settings, width)
        raise LFADSError(
            f"{spikes.source}: every trial is outside the recording or in a gap of it "
            f"({'; '.join(notes)}): {event} "
            f"is from {np.nanmin(events):.6g} to {np.nanmax(events):.6g} s, the recording from "
            f"{begin:.6g} to {end:.6g} s{coverage.least_observed(spikes)}; check unit and clock of "
            f"{event}"
        )
    keep = np.flatnonzero(inside)
    encoded_s = lengths[keep] * width - forward_s  # forward bins of one trial may lie in the next
    check_overlap(spikes.source, event, starts[keep], encoded_s, width)
    per_trial = {
        name: column[keep]
        for name, column in spikes.trials.items()
        if column.dtype.kind in "biufU" and name not in ("start_time", "stop_time")
    }
    zeros = 0 if spikes.zeros_s is None else spikes.zeros_s[keep]
    per_trial["event_times_s"] = events[keep] - zeros
    if spikes.trial_ids is not None:
        per_trial["trial_ids"] = spikes.trial_ids[keep]
    lengths, n_bins = lengths[keep], int(lengths[keep].max())
    constants: dict[str, Any] = {"event": event, "window_s": [first, first + n_bins * width]}
    if settings.window_s is not None:
        constants["window_s"] = list(settings.window_s)
    unequal = None if (lengths == n_bins).all() else lengths
    return Places(starts[keep], n_bins, keep, per_trial, constants, notes, lengths=unequal)


def _selected(
    columns: dict[str, np.ndarray], n: int, settings: Settings, source: str
) -> tuple[np.ndarray, list[str]]:
    """Return which trials ``where`` selects, (n,) booleans, and a note about the others."""
    if settings.where is None:
        return np.ones(n, bool), []
    labels = {k: v for k, v in columns.items() if v.ndim == 1 and v.dtype.kind in "biufU"}
    found = chosen(settings.where, labels, n, "where", source)
    if not found.any():
        raise LFADSError(
            f'{source}: where "{settings.where}" selects none of the {n} trials; check the values '
            "in these columns"
        )
    return found, [] if found.all() else [
        f"{(~found).sum()} trials that do not satisfy {settings.where}"
    ]


def _events_of_spikes(spikes: Timeline, settings: Settings) -> tuple[str, np.ndarray]:
    """Return the event's name, and its time in each trial; NaN where it did not happen."""
    assert spikes.trials is not None
    if settings.align_to is None and spikes.zeros_s is not None:
        return "the beginning of its clock", spikes.zeros_s
    name = names.meant(spikes.trials, settings.align_to or "start_time")
    times = spikes.trials.get(name)
    numbers = [k for k, v in spikes.trials.items() if v.dtype.kind in "iuf"]
    if times is None or times.dtype.kind not in "iuf":
        found = "is not numeric" if times is not None else "is not an event of the trials"
        raise LFADSError(
            f"{spikes.source}: align_to={name} {found}{nearest(name, numbers)}; expected one of "
            f"{listed(numbers, 20)}"
        )
    zeros = 0 if spikes.zeros_s is None else spikes.zeros_s
    return name, times * settings.seconds_per_unit + zeros


def _ends_are_known(
    columns: dict[str, np.ndarray], selected: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Return which trials have a stop, (E,) booleans; note selected trials without one."""
    stops = columns.get("stop_time")
    if stops is None or stops.dtype.kind != "f":
        return np.ones(len(selected), bool)
    found = np.isfinite(stops)
    if (lost := selected & ~found).any() and found[selected].any():
        notes.append(f"{lost.sum()} trials without a stop_time")
    return found


def _whole_trials(
    columns: dict[str, np.ndarray],
    settings: Settings,
    event: str,
    known: np.ndarray,
    width: float,
    source: str,
) -> np.ndarray:
    """Return the bins of trials from start to stop, (E,); 0 if there is no event."""
    if event != "start_time" or "start_time" not in columns or "stop_time" not in columns:
        raise LFADSError(
            f"{source}: trials are aligned to {event}: give window_s, their start and end in "
            "seconds relative to it (not needed if trials have start_time and stop_time)"
        )
    lengths = (columns["stop_time"] - columns["start_time"]) * settings.seconds_per_unit
    if not known.any():
        raise LFADSError(
            f"{source}: no trial has a stop_time; expected seconds; mend it, or give window_s"
        )
    shortest, longest = lengths[known].min(), lengths[known].max()
    if not 0 < shortest <= longest < MOST_BINS * width:
        raise LFADSError(
            f"{source}: trials last from {shortest:.6g} to {longest:.6g} s; expected each to stop "
            f"after its start, within {MOST_BINS:.0e} bins; fix or leave out the others"
        )
    # trials that differ by less than a bin are cut to the shortest
    if longest - shortest < TOLERANCE * width:
        n_bins = whole_bins(shortest, width, f"{source}: a trial")
    elif longest - shortest <= width / 2:
        n_bins = max(int(shortest / width + TOLERANCE), 1)
    else:
        whole = np.floor(np.where(known, lengths, 0) / width + TOLERANCE)
        return whole.astype(np.int64)
    return np.where(known, n_bins, 0)


def _chops_of_spikes(spikes: Timeline, settings: Settings, width: float) -> Places:
    if spikes.zeros_s is not None:
        raise LFADSError(
            f"{spikes.source}: its spikes are already cut into trials; chop_bins is for continuous "
            "recordings; give window_s instead"
        )
    _refuse_where(spikes.source, settings)
    stretches = coverage.pieces(spikes, settings, width)
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
    plan = _plan(n_bins, settings)
    if len(plan.starts) == 0:
        raise LFADSError(
            f"{spikes.source}: the longest unbroken piece of the recording has "
            f"{n_bins.max() if len(n_bins) else 0} bins of {width:.6g} s; expected at least "
            f"chop_bins={settings.chop_bins}; take shorter chops"
        )
    begins_s = stretches[plan.kept, 0]
    starts_s = _starts_of_chops(plan, begins_s, width)
    per_trial = {"chop_starts": plan.starts, "event_times_s": starts_s}
    return _chops(starts_s, plan, begins_s, per_trial, settings, [], len(stretches))


def _refuse_where(source: str, settings: Settings) -> None:
    if settings.where is not None:
        raise LFADSError(
            f"{source}: where selects trials by their columns, but chops have no columns; leave "
            "out where or chop_bins"
        )


# ---- counts


def _of_counts(recording: Recording, counts: Counts, settings: Settings) -> Cut:
    where = f"{recording.source}: {counts.key}"
    for option in ("nlb", "behaviour_lag_s", "behaviour_file", "recording_s"):
        if getattr(settings, option):
            raise LFADSError(
                f"{where} contains binned counts; {option} is for spike times; leave it out"
            )
    own_s = settings.source_bin_width_s or counts.bin_width_s
    n_joined, width = _joined(own_s, settings, where)
    if settings.chop_bins is not None and not counts.is_continuous:
        raise LFADSError(
            f"{where} is already cut into trials ({sizes(counts.values.shape)}); chop_bins is for "
            "continuous recordings; leave it out"
        )
    table = trials_of_counts(recording, counts, settings)
    if settings.chop_bins is not None:
        find = _chops_of_counts
    elif not counts.is_continuous:
        find = _windows_of_counts
        recording = replace(recording, trials=(recording.trials or {}) | (table or {}))
    elif table is None:
        raise LFADSError(
            f"{where} is one continuous recording of {counts.values.shape[1]} bins; cut it into "
            "pieces with chop_bins, or into trials with a trial table, trials=..."
        )
    else:
        find = _windows_of_continuous
    places = find(Binned(recording, counts, table, n_joined, own_s, width, where), settings)
    values, length = counts.values, counts.values.shape[1]
    trial = np.zeros(len(places.starts), int) if counts.is_continuous else places.numbers
    starts, n_bins = places.starts, places.n_bins
    if places.lengths is not None:
        places = places._replace(lengths=places.lengths // n_joined)

    def pieces(array: np.ndarray, at: np.ndarray) -> np.ndarray:
        if n_bins == length:
            return array[trial[at]]
        if places.lengths is not None and not counts.is_continuous:  # from their first bins on
            return array[trial[at], :n_bins]
        return np.stack([_window(array[trial[i]], starts[i], n_bins) for i in at])

    every = np.arange(len(starts))
    for name, array in (recording.trials or {}).items():
        if array.ndim >= 2 and array.shape[1] == length:
            joined = join_bins(pieces(array, every), n_joined, average=True)
            places.per_trial[name] = _ended(joined, places.lengths)
        elif not counts.is_continuous:
            places.per_trial[name] = array[places.numbers]
    average = n_joined > 1 and holds_real_values(values)

    def binned(at: np.ndarray) -> np.ndarray:
        lengths = None if places.lengths is None else places.lengths[at]
        return _ended(join_bins(pieces(values, at), n_joined, average), lengths)

    if not _has_gaps(values):
        return _cut(recording, settings, places, n_bins // n_joined, width, binned)

    def count(at: np.ndarray) -> np.ndarray:
        found = binned(at)
        found[np.isnan(found)] = 0
        return found

    cut = _cut(recording, settings, places, n_bins // n_joined, width, count)
    return _with_missing(cut, binned)


def _window(array: np.ndarray, start: int, n_bins: int) -> np.ndarray:
    """Return some rows, with 0 for rows after the end, up to the length of the longest trial."""
    rows = array[start : start + n_bins]
    if len(rows) == n_bins:
        return rows
    return np.pad(rows, [(0, n_bins - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def _has_gaps(values: np.ndarray) -> bool:
    return values.dtype.kind == "f" and bool(np.isnan(values.min()))


def _with_missing(cut: Cut, counts: Callable[[np.ndarray], np.ndarray]) -> Cut:
    """Mark missing entries, which are NaN in ``counts``."""
    present = np.ones((len(cut.numbers), cut.n_bins, len(cut.neuron_ids)), bool)
    if cut.lengths is not None:
        present &= inside(cut.lengths, cut.n_bins)[:, :, None]
    within = present.sum()
    for i in range(len(present)):
        present[i] &= ~np.isnan(counts(np.array([i]))[0])
    if present.sum() == within:
        return cut
    if cut.lengths is None:  # so that a trial does not end with its last entry
        cut.lengths = np.full(len(present), cut.n_bins)
    cut.present = present
    return cut


def _joined(own: float | None, settings: Settings, where: str) -> tuple[int, float | None]:
    """Return how many of the source's bins are joined into one, and the resulting width."""
    wanted = settings.bin_width_s
    if wanted is None:
        return 1, own
    if own is None:
        raise LFADSError(
            f"{where} does not say how wide its bins are; give source_bin_width_s as well as "
            "bin_width_s"
        )
    n = round(wanted / own)
    if n < 1 or abs(wanted / own - n) > 1e-6 * n:
        raise LFADSError(
            f"{where} has bins of {own:.9g} s, bin_width_s={wanted:.9g} is {wanted / own:.6g} of "
            f"them; expected a whole multiple, such as {max(n, 1) * own:.9g}"
        )
    return n, n * own


def _windows_of_counts(binned: Binned, settings: Settings) -> Places:
    recording, counts, _, n_joined, own, width, where = binned
    n_trials, length, _ = counts.values.shape
    firsts, keep = np.zeros(n_trials, int), np.arange(n_trials)
    ends = _ends(counts)
    constants: dict = {}
    columns = {"trial": keep} | (recording.trials or {})
    selected, notes = _selected(columns, n_trials, settings, recording.source)
    empty = selected & (ends == 0)
    if empty.any():
        notes.append(_in_which_nothing(empty))
        selected = selected & ~empty
    if not selected.any():
        raise LFADSError(f"{where}: no trial is left ({'; '.join(notes)}); expected some")
    per_trial, n_bins = {}, int(ends[selected].max())
    if settings.window_s is not None or settings.align_to is not None:
        events = _events_of_counts(recording, counts, settings)
        if own is None or settings.window_s is None:
            lacking = "window_s" if settings.window_s is None else "source_bin_width_s"
            raise LFADSError(f"{where}: a window around an event needs {lacking}, in seconds")
        first, last = settings.window_s
        n_bins = whole_bins(last - first, own, f"{recording.source}: a window")
        with np.errstate(invalid="ignore"):
            begins = np.round((events + first) / own)
            fits = (begins >= 0) & (begins + n_bins <= ends)
            keep = np.flatnonzero(selected & fits)
        if len(keep) == 0:
            raise LFADSError(
                f"{where}: in every trial the window extends beyond the {length} bins "
                f"({length * own:.6g} s) of the trial; change window_s"
            )
        if len(keep) < selected.sum():
            outside = selected.sum() - len(keep)
            notes.append(f"{outside} trials that do not cover the window")
        firsts = np.where(np.isin(np.arange(n_trials), keep), begins, 0).astype(int)
        constants = {"event": settings.align_to or "first bin", "window_s": [first, last]}
        per_trial["event_times_s"] = events
        ends = np.full(n_trials, n_bins)
    else:
        keep = keep[selected]
        if (ends[keep] != n_bins).any():  # unequal lengths: each up to its last whole bin
            short = ends[keep] < n_joined
            if short.any():
                notes.append(f"{short.sum()} trials shorter than a bin")
                keep = keep[~short]
            ends = ends // n_joined * n_joined
            n_bins = int(ends[keep].max(initial=0))
    if n_bins % n_joined:
        assert width is not None
        shorter = n_bins // n_joined * width
        raise LFADSError(
            f"{where}: trials of {n_bins} bins are not a whole number of bins of {width:.9g} s; "
            f"crop them, for instance with window_s={(0, float(f'{shorter:.9g}'))}"
        )
    keep = _recorded(counts, firsts, ends, keep, notes, where)
    per_trial = {name: column[keep] for name, column in per_trial.items()}
    unequal = None if (ends[keep] == n_bins).all() else ends[keep]
    return Places(firsts[keep], n_bins, keep, per_trial, constants, notes, lengths=unequal)


def _windows_of_continuous(binned: Binned, settings: Settings) -> Places:
    """Cut trials out of a continuous recording, by the times of a table."""
    recording, counts, table, n_joined, own, width, where = binned
    assert table is not None
    source, length = recording.source, counts.values.shape[1]
    if own is None or width is None:
        raise LFADSError(f"{where}: trials are cut by times; give source_bin_width_s, in seconds")
    name = names.meant(table, settings.align_to or "start_time")
    numbers = [k for k, v in table.items() if v.dtype.kind in "iuf"]
    if name not in numbers:
        raise LFADSError(
            f"{source}: align_to={name} is not an event of the trials{nearest(name, numbers)}; "
            f"expected one of {listed(numbers, 20)}"
        )
    events_s = table[name] * settings.seconds_per_unit
    n_trials = len(events_s)
    selected, notes = _selected(table, n_trials, settings, source)
    known = selected & np.isfinite(events_s)
    if not known.any():
        raise LFADSError(f"{source}: none of the {selected.sum()} trials has a time for {name}; "
                         "choose another event with align_to")  # fmt: skip
    if not known[selected].all():
        notes.append(f"{(~known & selected).sum()} trials without the event {name}")
    first = 0.0
    if settings.window_s is not None:
        first, last = settings.window_s
        # microscope frames do not divide windows evenly: use the nearest whole number of frames
        n_bins = max(round((last - first) / width), 1)
        n_bins = whole_bins(n_bins * width, width, f"{source}: a window")
        ends = np.full(n_trials, n_bins)
    else:
        known &= _ends_are_known(table, selected, notes)
        ends = _whole_trials(table, settings, name, known, width, source)
        if (short := known & (ends == 0)).any():
            notes.append(f"{short.sum()} trials shorter than a bin")
            known &= ~short
    ends = ends * n_joined
    offsets = np.where(known, events_s, 0) + first - counts.start * settings.seconds_per_unit
    firsts = np.round(offsets / own).astype(np.int64)
    inside_it = known & (firsts >= 0) & (firsts + ends <= length)
    if not inside_it.any():
        begin = counts.start * settings.seconds_per_unit
        raise LFADSError(
            f"{source}: every trial is outside the recording: {name} is from "
            f"{events_s[known].min():.6g} to {events_s[known].max():.6g} s, the recording from "
            f"{begin:.6g} to {begin + length * own:.6g} s; check unit and clock of {name}"
        )
    if (lost := known & ~inside_it).any():
        notes.append(f"{lost.sum()} trials outside the recording ({_extent(counts, own)})")
    keep = np.flatnonzero(inside_it)
    keep = _recorded(counts, firsts, ends, keep, notes, where)
    check_overlap(source, name, events_s[keep] + first, ends[keep] * own, width)
    per_trial = {k: v[keep] for k, v in table.items()
                 if v.dtype.kind in "biufU" and k not in ("start_time", "stop_time")}  # fmt: skip
    per_trial["event_times_s"] = events_s[keep]
    n_bins = int(ends[keep].max())
    constants = {"event": name, "window_s": [first, first + n_bins * own]}
    unequal = None if (ends[keep] == n_bins).all() else ends[keep]
    return Places(firsts[keep], n_bins, keep, per_trial, constants, notes, lengths=unequal)


def _extent(counts: Counts, own: float) -> str:
    """Say from when to when a continuous recording lasts."""
    return f"{counts.start:.6g} to {counts.start + counts.values.shape[1] * own:.6g} s"


def _events_of_counts(recording: Recording, counts: Counts, settings: Settings) -> np.ndarray:
    """Return each trial's event, in seconds from its first bin."""
    if settings.align_to is None:
        return np.zeros(len(counts.values))
    columns = recording.trials or {}
    events = columns.get(names.meant(columns, settings.align_to))
    if events is None or events.ndim != 1 or events.dtype.kind not in "iuf":
        known = [k for k, v in columns.items() if v.ndim == 1 and v.dtype.kind in "iuf"]
        raise LFADSError(
            f"{recording.source}: align_to={settings.align_to} is not one number per trial"
            f"{nearest(settings.align_to, known)}; expected one of {listed(known, 20)}"
        )
    return events.astype(np.float64)


def _ends(counts: Counts) -> np.ndarray:
    """Return the bins of each trial, (E,): from the reader, else up to the last count."""
    n_trials, length, _ = counts.values.shape
    if counts.lengths is not None:
        return counts.lengths
    if not _has_gaps(counts.values):
        return np.full(n_trials, length)
    filled = np.stack([~np.isnan(trial).all(1) for trial in counts.values])
    return np.where(filled.any(1), length - np.argmax(filled[:, ::-1], axis=1), 0)


def _in_which_nothing(trials: np.ndarray) -> str:
    return f"{trials.sum()} trials in which nothing was recorded (NaN counts)"


def _recorded(
    counts: Counts,
    firsts: np.ndarray,
    ends: np.ndarray,
    keep: np.ndarray,
    notes: list[str],
    where: str,
) -> np.ndarray:
    """Return which trials to keep: those with counts from their first bin on; note the others."""
    rows = np.zeros_like(keep) if counts.is_continuous else keep
    bare = np.array([_is_bare(counts.values[row, firsts[i] : firsts[i] + ends[i]])
                     for row, i in zip(rows, keep, strict=True)], bool)  # fmt: skip
    if bare.any():
        notes.append(_in_which_nothing(bare))
        keep = keep[~bare]
    if len(keep) == 0:
        raise LFADSError(f"{where}: no trial is left ({'; '.join(notes)}); expected some")
    return keep


def _is_bare(values: np.ndarray) -> bool:
    return values.dtype.kind == "f" and bool(np.isnan(values).all())


def _chops_of_counts(binned: Binned, settings: Settings) -> Places:
    recording, counts, _, n_joined, _, width, where = binned
    _refuse_where(recording.source, settings)
    length = counts.values.shape[1]
    usable = length // n_joined
    notes = [f"the last {length % n_joined} bins of the file"] if length % n_joined else []
    broken = np.zeros(usable, bool)
    if counts.values.dtype.kind == "f":
        gaps = np.isnan(counts.values[0]).all(1)[: usable * n_joined]
        broken = gaps.reshape(usable, n_joined).any(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], broken, [True]]).astype(int)))
    begins, ends = edges[::2], edges[1::2]
    if broken.any():
        notes.append(f"{broken.sum()} bins with gaps (NaN counts)")
    plan = _plan(ends - begins, settings)
    if len(plan.starts) == 0:
        longest = int((ends - begins).max()) if len(begins) else 0
        raise LFADSError(
            f"{where}: its longest unbroken piece has {longest} bins"
            f"{f' (left out: {notes[-1]})' if broken.any() else ''}; expected at least "
            f"chop_bins={settings.chop_bins}; take shorter chops"
        )
    firsts = _starts_of_chops(plan, begins[plan.kept], 1) * n_joined
    begins_s = begins[plan.kept] * (width or np.nan)
    places = _chops(
        firsts, plan, begins_s, {"chop_starts": plan.starts}, settings, notes, len(begins)
    )
    return places._replace(n_bins=places.n_bins * n_joined)


# ---- chops of both


def _plan(piece_bins: np.ndarray, settings: Settings) -> Chops:
    assert settings.chop_bins is not None
    return plan_chops(piece_bins, settings.chop_bins, settings.overlap_bins)


def _starts_of_chops(plan: Chops, begins: np.ndarray, width: float) -> np.ndarray:
    """Return the start of each chop, in the unit of ``begins`` and of the bin width ``width``."""
    piece = np.searchsorted(plan.segment_starts, plan.starts, side="right") - 1
    return begins[piece] + (plan.starts - plan.segment_starts[piece]) * width


def _chops(
    starts: np.ndarray,
    plan: Chops,
    begins_s: np.ndarray,
    per_trial: dict[str, np.ndarray],
    settings: Settings,
    notes: list[str],
    n_pieces: int,
) -> Places:
    """Return chops, with the information that merging needs."""
    assert settings.chop_bins is not None
    if len(plan.kept) < n_pieces:
        notes.append(f"{n_pieces - len(plan.kept)} pieces shorter than a chop")
    n = len(plan.starts)
    constants = {
        "n_recording_bins": plan.n_recording_bins,
        "chop_overlap_bins": settings.overlap_bins,
        "segment_starts": plan.segment_starts,
        "segment_starts_s": begins_s,
    }
    # many neighbours share a split where they share bins, but there are ten groups
    n_together = max(min(RUN_CHOPS, n // 10), 1) if settings.overlap_bins else 1
    return Places(starts, settings.chop_bins, np.arange(n), per_trial, constants, notes, n_together)
