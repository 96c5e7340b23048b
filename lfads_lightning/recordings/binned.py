"""Counts that came in bins: joining bins, cropping, chopping."""

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import listed, nearest, sizes
from lfads_lightning.recordings.binning import holds_real_values, join_bins, whole_bins
from lfads_lightning.recordings.chops import plan_chops
from lfads_lightning.recordings.records import Binned, Cut
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.trials import chop_constants, chops_together


def cut_binned(binned: Binned, settings: Settings) -> Cut:
    """Make trials of counts that are binned already.

    Raises:
        LFADSError: the bin width is no multiple of the source's or does not divide a trial, a
            continuous recording without ``chop_bins``, or no trial is left.
    """
    where = f"{binned.source}: {binned.key}"
    n_joined, width = _joined(binned, settings, where)
    if binned.is_continuous != (settings.chop_bins is not None):
        if binned.is_continuous:
            raise LFADSError(
                f"{where} is one continuous recording of {binned.values.shape[1]} bins; cut it "
                "into pieces with chop_bins"
            )
        raise LFADSError(
            f"{where} is cut into trials already ({sizes(binned.values.shape)}); chop_bins is for "
            "a continuous recording; leave it out"
        )
    if binned.is_continuous:
        return _chopped(binned, settings, n_joined, width, where)
    return _trials(binned, settings, n_joined, width, where)


def _joined(binned: Binned, settings: Settings, where: str) -> tuple[int, float | None]:
    """Return how many of the source's bins make one, and how wide that is."""
    own = settings.source_bin_width_s or binned.bin_width_s
    wanted = settings.bin_width_s
    if wanted is None:
        return 1, own
    if own is None:
        raise LFADSError(
            f"{binned.source}: does not say the width of its bins; give source_bin_width_s beside "
            "bin_width_s"
        )
    n = round(wanted / own)
    if n < 1 or abs(wanted / own - n) > 1e-6 * n:
        raise LFADSError(
            f"{where} has bins of {own:.9g} s, bin_width_s={wanted:.9g} is {wanted / own:.6g} of "
            f"them; expected a whole multiple, such as {max(n, 1) * own:.9g}"
        )
    return n, n * own


def _trials(
    binned: Binned, settings: Settings, n_joined: int, width: float | None, where: str
) -> Cut:
    n_trials, length, _ = binned.values.shape
    firsts, n_bins, keep = np.zeros(n_trials, int), length, np.arange(n_trials)
    constants: dict = {}
    notes, per_trial = [], dict(binned.per_trial)
    if settings.window_s is not None or settings.align_to is not None:
        own = settings.source_bin_width_s or binned.bin_width_s
        events = _events(binned, settings)
        if own is None or settings.window_s is None:
            lacking = "window_s" if settings.window_s is None else "source_bin_width_s"
            raise LFADSError(f"{where}: a window around an event needs {lacking}, in seconds")
        first, last = settings.window_s
        n_bins = whole_bins(last - first, own, f"{binned.source}: a window")
        with np.errstate(invalid="ignore"):
            begins = np.round((events + first) / own)
            keep = np.flatnonzero((begins >= 0) & (begins + n_bins <= length))
        if len(keep) == 0:
            raise LFADSError(
                f"{where}: in every trial the window reaches outside of its {length} bins "
                f"({length * own:.6g} s); move window_s"
            )
        if len(keep) < n_trials:
            notes.append(f"{n_trials - len(keep)} trials whose window reaches outside of them")
        firsts = np.where(np.isin(np.arange(n_trials), keep), begins, 0).astype(int)
        constants = {"event": settings.align_to or "first bin", "window_s": [first, last]}
        per_trial["event_times_s"] = events
    if n_bins % n_joined:
        assert width is not None
        shorter = n_bins // n_joined * width
        raise LFADSError(
            f"{where}: trials of {n_bins} bins are no whole number of bins of {width:.9g} s; "
            f"crop them, for instance with window_s={(0, float(f'{shorter:.9g}'))}"
        )
    holed = _with_gaps(binned, firsts, n_bins, keep)
    if holed.any():
        notes.append(f"{holed.sum()} trials with gaps (NaN counts)")
        keep = keep[~holed]
    if len(keep) == 0:
        raise LFADSError(f"{where}: no trial is left ({'; '.join(notes)}); expected some without "
                         "NaN counts; leave out the neurons that were not recorded, or mend the "
                         "counts")  # fmt: skip

    def cropped(array: np.ndarray, trials: np.ndarray) -> np.ndarray:
        first = firsts[trials]
        if n_bins == length:
            return array[trials]
        return np.stack([array[i, f : f + n_bins] for i, f in zip(trials, first, strict=True)])

    average = n_joined > 1 and holds_real_values(binned.values)
    made = {}
    for name, array in per_trial.items():
        if array.ndim >= 2 and array.shape[1] == length:
            whole = cropped(array, keep)
            made[name] = join_bins(whole, n_joined, average=True)
        else:
            made[name] = array[keep]
    return Cut(
        binned.source,
        n_bins // n_joined,
        width,
        binned.neuron_ids,
        keep,
        lambda at: join_bins(cropped(binned.values, keep[at]), n_joined, average),
        made,
        constants,
        binned.held_out,
        notes=notes,
    )


def _events(binned: Binned, settings: Settings) -> np.ndarray:
    """Return each trial's event, in seconds from its first bin."""
    if settings.align_to is None:
        return np.zeros(len(binned.values))
    events = binned.per_trial.get(settings.align_to)
    if events is None or events.ndim != 1 or events.dtype.kind not in "iuf":
        known = [k for k, v in binned.per_trial.items() if v.ndim == 1 and v.dtype.kind in "iuf"]
        raise LFADSError(
            f"{binned.source}: align_to={settings.align_to} is no array of one number per trial"
            f"{nearest(settings.align_to, known)}; expected one of {listed(known, 20)}"
        )
    return events.astype(np.float64)


def _with_gaps(binned: Binned, firsts: np.ndarray, n_bins: int, keep: np.ndarray) -> np.ndarray:
    if binned.values.dtype.kind != "f":
        return np.zeros(len(keep), bool)
    return np.array(
        [np.isnan(binned.values[i, firsts[i] : firsts[i] + n_bins]).any() for i in keep]
    )


def _chopped(
    binned: Binned, settings: Settings, n_joined: int, width: float | None, where: str
) -> Cut:
    assert settings.chop_bins is not None
    length, chop = binned.values.shape[1], settings.chop_bins
    usable = length // n_joined
    notes = [f"the last {length % n_joined} bins of the file"] if length % n_joined else []
    broken = np.zeros(usable, bool)
    if binned.values.dtype.kind == "f":
        gaps = np.isnan(binned.values[0]).any(1)[: usable * n_joined]
        broken = gaps.reshape(usable, n_joined).any(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], broken, [True]]).astype(int)))
    begins, ends = edges[::2], edges[1::2]
    if broken.any():
        notes.append(f"{broken.sum()} bins with gaps (NaN counts)")
    plan = plan_chops(ends - begins, chop, settings.overlap_bins)
    if len(plan.starts) == 0:
        longest = int((ends - begins).max()) if len(begins) else 0
        raise LFADSError(
            f"{where}: its longest unbroken piece has {longest} bins"
            f"{f' (left out: {notes[-1]})' if broken.any() else ''}; expected at least "
            f"chop_bins={chop}; take shorter chops"
        )
    if len(plan.kept) < len(begins):
        notes.append(f"{len(begins) - len(plan.kept)} pieces shorter than a chop")
    segment = np.searchsorted(plan.segment_starts, plan.starts, side="right") - 1
    firsts = begins[plan.kept][segment] + plan.starts - plan.segment_starts[segment]

    def pieces(array: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.stack([array[f * n_joined : (f + chop) * n_joined] for f in firsts[at]])

    average = n_joined > 1 and holds_real_values(binned.values)
    per_trial = {"chop_starts": plan.starts}
    every = np.arange(len(firsts))
    for name, array in binned.per_trial.items():
        if array.ndim >= 2 and array.shape[:2] == (1, length):
            per_trial[name] = join_bins(pieces(array[0], every), n_joined, average=True)
    constants = chop_constants(plan.segment_starts, plan.n_recording_bins, settings)
    constants["segment_starts_s"] = begins[plan.kept] * (width or np.nan)
    return Cut(
        binned.source,
        chop,
        width,
        binned.neuron_ids,
        every,
        lambda at: join_bins(pieces(binned.values[0], at), n_joined, average),
        per_trial,
        constants,
        binned.held_out,
        chops_together(len(firsts), settings),
        notes,
    )
