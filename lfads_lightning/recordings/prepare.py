"""Converts a recording to a session file: read, cut into trials, select, split, write."""

from __future__ import annotations

import dataclasses
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml
from tqdm import tqdm

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import MAX_COUNT
from lfads_lightning.data.fields import OF_SPLIT
from lfads_lightning.data.keywords import shows
from lfads_lightning.data.missing import inside
from lfads_lightning.data.oddities import rate_notes, scale_notes
from lfads_lightning.data.session_writer import Blocks, write_session
from lfads_lightning.data.values import half_counts, mark_of_missing, step_between
from lfads_lightning.notebook.interactive import warns_in_short
from lfads_lightning.recordings import names, nlb
from lfads_lightning.recordings.binning import block_size
from lfads_lightning.recordings.in_memory import (
    add_trials,
    is_in_memory,
    read_memory,
    table_in_memory,
)
from lfads_lightning.recordings.readers import read_file
from lfads_lightning.recordings.records import Counts, Cut, Recording
from lfads_lightning.recordings.settings import (
    Settings,
    option_keywords,
    session_name,
    settings_from,
)
from lfads_lightning.recordings.splitting import n_labelled, split_by_column, split_trials
from lfads_lightning.recordings.trials import cut_trials
from lfads_lightning.recordings.units import choose_units, selected, unselected
from lfads_lightning.runs.remote import is_url, local_copies, within

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lfads_lightning.notebook.typed_keywords import PrepareKeywords


class Prepared(NamedTuple):
    """A session that was written."""

    path: str | Path
    summary: str
    notes: list[str]  # what was left out
    behaviour: str  # a note on the behaviour in the file and its use; empty if there is none


@shows(option_keywords(), "Options", closed=True)
@warns_in_short
def prepare(
    recording: Any,
    out: str | Path,
    *,
    name: str | None = None,
    **options: Unpack[PrepareKeywords],
) -> str | Path:
    """Make a session file from a recording.

    Args:
        recording: a file or folder in a format that `lfads prepare` reads, or its address in a
            bucket (``s3://…``); or an object in memory: an array, a list of trials, {name: array}
            as in a .npz file, a data frame with one row per spike, a pynapple ``TsGroup``, a list
            of Neo spike trains, an ``NWBFile``, or an xarray with named axes.
        out: folder for ``NAME.h5``, or its address in a bucket.
        name: name of the session; by default that of the file or folder, without extension.
        **options: the options of `lfads prepare`, with underscores (``bin_width_s=0.02``), as
            below. ``trials`` can also be a pynapple ``IntervalSet``, a data frame, or
            {column: values}.

    Returns:
        The path of the session file.

    Raises:
        LFADSError: the recording or the options cannot be used; the message says why.
    """
    given: dict[str, Any] = dict(options)
    trials = given.get("trials")
    if trials is None or isinstance(trials, str | os.PathLike):
        if trials is not None:
            given["trials"] = str(trials)
        return prepare_recording(recording, out, name, settings_from(given)).path
    settings = settings_from(given | {"trials": None})
    return prepare_recording(recording, out, name, settings, trials).path


def prepare_recording(
    recording: Any, out: str | Path, name: str | None, settings: Settings, trials: Any = None
) -> Prepared:
    """Make a session file and summarise it; see :func:`prepare`."""
    if name is None and settings.nlb is None and is_in_memory(recording):
        raise LFADSError("prepare: give a name for the session (name=...) of data in memory")
    name = name or settings.nlb or session_name(recording)
    source = f"recording '{name}'" if is_in_memory(recording) else str(recording)
    about = {"source": source, "settings": yaml.safe_dump(_plain(settings), sort_keys=False)}
    target = within(out, f"{name}.h5")
    with local_copies() as copies:
        tables: dict[str, Any] = {}
        for key in ("trials", "behaviour_file"):
            if (given := getattr(settings, key)) is not None:
                given = given.replace("{name}", name)
                tables[key] = str(copies.get(given)) if is_url(given) else given
        settings = dataclasses.replace(settings, **tables)
        if is_in_memory(recording):
            read = partial(read_memory, recording, source, settings)
        else:
            path = copies.get(recording)
            if settings.nlb is not None:
                path = _of_benchmark(path, settings.nlb)
            read = partial(read_file, path, settings)
        if trials is not None:
            read = partial(_with_trials, read, trials, source)
        made = _prepare(read, copies.output(target), name, settings, about)
        copies.send()
    return made._replace(path=target, summary=f"{target}: {made.summary}")


def _of_benchmark(path: Path, name: str) -> Path:
    """Return the file of a benchmark data set; if a folder is given, find the file in it."""
    if path.is_dir():
        return nlb.training_file(path, name)
    if (said := nlb.said_by(path)) not in (name, None):
        warnings.warn(
            f"{path}: judging by its name, this is {said}; it is prepared as {name} nevertheless",
            stacklevel=2,
        )
    return path


def _with_trials(read: Callable[[], Recording], trials: Any, source: str) -> Recording:
    recording = read()
    add_trials(recording, table_in_memory(trials, source))
    return recording


def _prepare(
    read: Callable[[], Recording],
    path: Path,
    name: str,
    settings: Settings,
    about: dict[str, Any],
) -> Prepared:
    made = read()  # read here, so that no caller keeps it in memory
    told = isinstance(made.activity, Counts) and _check_values(made.source, made.activity, settings)
    made, notes = choose_units(made, settings)
    keep = selected(made, settings)
    all_labels = (made.trials or {}).get(settings.split_column or "")
    cut = cut_trials(made, settings)
    del made
    cut.notes[:0] = notes
    _take_behaviour(cut, settings)
    seen = _survey(cut, name)
    neurons = _choose_neurons(cut, seen, keep, settings)
    _leave_out_bare_trials(cut, neurons)
    if not told:
        _warn_of_values(cut, seen, neurons)
    condition = _condition(cut, settings)
    everyone = np.arange(len(cut.numbers)) if cut.usable is None else np.flatnonzero(cut.usable)
    if settings.split_column is None:
        label = None if condition is None else condition[everyone]
        splits = split_trials(len(everyone), label, settings, cut)
    else:
        labels = _column(cut, settings.split_column, "split_column")
        splits = split_by_column(labels[everyone], cut, settings.split_column)
        if settings.nlb is not None:
            _warn_of_lost(cut, all_labels, sum(map(len, splits.values())), settings)
    splits = {split: everyone[chosen] for split, chosen in splits.items()}
    stored = _stored(cut, condition, neurons, splits) | about
    for split, chosen in splits.items():
        stored[f"{split}_data"] = _blocks(cut, chosen, neurons, seen.dtype, f"{name}: {split}")
    write_session(path, **stored)
    summary = _summary(cut, splits, neurons, seen, settings)
    return Prepared(path, summary, cut.notes, _behaviour_note(cut, stored, settings))


def _check_values(source: str, counts: Counts, settings: Settings) -> bool:
    """Refuse values that cannot be counts; warn of spikes per second, and return if it did."""
    where = f"{source}: {counts.key}"
    if (mark := mark_of_missing(counts.values)) is not None:
        raise LFADSError(
            f"{where} holds {mark}; expected counts; write NaN instead, which means missing, or "
            "crop all trials with window_s"
        )
    width = settings.source_bin_width_s or counts.bin_width_s
    if (step := step_between(counts.values, width)) is not None:
        warnings.warn(
            f"{where}: all values are multiples of {step:.6g}, so they look like spikes per second "
            f"(counts divided by a bin width of {1 / step:.6g} s) or scaled counts; expected "
            f"spikes per bin; divide the values by {step:.6g}",
            stacklevel=2,
        )
        return True
    if (half := half_counts(counts.values)) is not None:
        raise LFADSError(f"{where} is {half}; expected counts, or real values throughout")
    return False


def _warn_of_lost(cut: Cut, labels: np.ndarray | None, n_kept: int, settings: Settings) -> None:
    """Warn that a submission to the benchmark would lack trials."""
    n = 0 if labels is None else n_labelled(labels)
    if n_kept < n:
        warnings.warn(
            f"{cut.source}: {n - n_kept} of the {n} training, validation and test trials are left "
            f"out ({'; '.join(cut.notes)}), but a submission to {settings.nlb} needs all of them",
            stacklevel=2,
        )


class Seen(NamedTuple):
    """Statistics of all counts, from a first pass."""

    totals: np.ndarray  # (D,)
    squares: np.ndarray  # (D,), sums of squares
    varies: np.ndarray  # (D,), False where all values are the same
    n_events: np.ndarray  # (D,), numbers of bins that are not 0
    per_trial: np.ndarray  # (E,)
    dtype: np.dtype  # smallest type for the counts; float32 for real values

    @property
    def is_counts(self) -> bool:
        """Whether the data are counts, not real values."""
        return self.dtype.kind == "u"


def _survey(cut: Cut, name: str) -> Seen:
    totals, squares, events, lowest, highest = np.zeros((5, len(cut.neuron_ids)))
    lowest[:], highest[:] = np.inf, -np.inf
    per_trial = np.zeros(len(cut.numbers))
    whole, at = True, 0
    every = np.arange(len(cut.numbers))
    for block in _in_blocks(cut, every, f"{name}: checking"):
        totals += block.sum((0, 1), dtype=np.float64)
        if block.dtype.kind == "f":
            squares += np.square(block, dtype=np.float64).sum((0, 1))
        events += np.count_nonzero(block, axis=(0, 1))
        there = _present(cut, every[at : at + len(block)])
        if there is not None:
            low = np.where(there, block, np.inf).min((0, 1))
            high = np.where(there, block, -np.inf).max((0, 1))
        else:
            low, high = block.min((0, 1)), block.max((0, 1))
        lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
        per_trial[at : at + len(block)] = block.sum((1, 2), dtype=np.float64)
        if block.dtype.kind == "f":
            whole = whole and bool((block == np.floor(block)).all())
        at += len(block)
    recorded = lowest <= highest
    low, high = lowest.min(where=recorded, initial=np.inf), highest.max(
        where=recorded, initial=-np.inf)  # fmt: skip
    if not np.isfinite([low, high]).all():
        raise LFADSError(f"{cut.source}: counts contain infinity; expected finite values; fix them")
    is_counts = whole and low >= 0 and high <= MAX_COUNT
    dtype = np.min_scalar_type(int(high)) if is_counts else np.dtype(np.float32)
    return Seen(totals, squares, highest > lowest, events, per_trial, dtype)


def _present(cut: Cut, trials: np.ndarray) -> np.ndarray | None:
    """Return which entries of these trials were recorded, (n, T, D) or (n, T, 1); None: all."""
    if cut.present is not None:
        return cut.present[trials]
    return None if cut.lengths is None else inside(cut.lengths[trials], cut.n_bins)[:, :, None]


def _warn_of_values(cut: Cut, seen: Seen, neurons: np.ndarray) -> None:
    """Warn about suspicious rates or scales of the chosen neurons."""
    n = cut.n_entries[neurons]
    means = seen.totals[neurons] / n
    if seen.is_counts:
        notes = rate_notes(means, cut.bin_width_s)
    else:
        sds = np.sqrt(np.maximum(seen.squares[neurons] / n - means**2, 0))
        notes = scale_notes(sds, seen.varies[neurons], cut.neuron_ids[neurons])
    for note in notes:
        warnings.warn(f"{cut.source}: {note}", stacklevel=2)


def _in_blocks(cut: Cut, trials: np.ndarray, what: str) -> Iterator[np.ndarray]:
    size = block_size(cut.n_bins, len(cut.neuron_ids))
    # a bar only in a terminal, and only if it takes long enough
    quiet = None if len(trials) > 4 * size else True
    with tqdm(total=len(trials), desc=what, unit="trial", leave=False, disable=quiet) as bar:
        for i in range(0, len(trials), size):
            block = cut.counts(trials[i : i + size])
            yield block
            bar.update(len(block))


def _blocks(
    cut: Cut, trials: np.ndarray, neurons: np.ndarray, dtype: np.dtype, what: str
) -> Blocks:
    def make() -> Iterator[np.ndarray]:
        for block in _in_blocks(cut, trials, what):
            yield block[:, :, neurons].astype(dtype)

    return Blocks((len(trials), cut.n_bins, len(neurons)), dtype, make)


def _choose_neurons(cut: Cut, seen: Seen, chosen: np.ndarray, settings: Settings) -> np.ndarray:
    """Return the neurons to keep: ``chosen``, not in ``leave_out``, not below ``min_rate_hz``."""
    ids = [str(i) for i in cut.neuron_ids.tolist()]
    for named in settings.leave_out:
        if str(named) not in ids:
            raise LFADSError(
                f"{cut.source}: leave_out={named}: no such neuron{nearest(str(named), ids)}; "
                f"expected one of {listed(ids, 20)}"
            )
    keep = np.array([i not in {str(n) for n in settings.leave_out} for i in ids]) & chosen
    if not chosen.all():
        cut.notes.append(unselected(chosen, settings))
    unseen = keep & (cut.n_entries == 0)
    if unseen.any():
        cut.notes.append(
            f"{unseen.sum()} neurons that were never recorded (NaN counts): "
            f"{listed(cut.neuron_ids[unseen].tolist())}"
        )
        keep &= ~unseen
    seconds = np.maximum(cut.n_entries, 1) * (cut.bin_width_s or np.nan)
    if settings.min_rate_hz is None:
        silent = cut.neuron_ids[keep & ~seen.varies]
        if len(silent) and not seen.is_counts:
            raise LFADSError(
                f"{cut.source}: {len(silent)} channels are constant: "
                f"{listed(silent.tolist(), 20)}; expected values that vary; leave them out with "
                "min_rate_hz=0.1, which has no other effect on real values, or keep them with "
                "min_rate_hz=0"
            )
        silent = cut.neuron_ids[keep & (seen.totals == 0)]
        if len(silent) and seen.is_counts:
            raise LFADSError(
                f"{cut.source}: {len(silent)} units have no spikes in any trial: "
                f"{listed(silent.tolist(), 20)}; expected spikes of every unit; leave out units of "
                "low rate with min_rate_hz=0.1, or keep these with min_rate_hz=0"
            )
    elif settings.min_rate_hz > 0 and not seen.is_counts:
        constant = keep & ~seen.varies
        if constant.any():
            cut.notes.append(
                f"{constant.sum()} constant channels: {listed(cut.neuron_ids[constant].tolist())}"
            )
        keep &= ~constant
        keep &= ~_with_few_events(cut, seen, keep, settings.min_rate_hz)
    elif settings.min_rate_hz > 0:
        if cut.bin_width_s is None:
            raise LFADSError(f"{cut.source}: min_rate_hz needs source_bin_width_s, the bin width "
                             "of the file")  # fmt: skip
        low = keep & (seen.totals / seconds < settings.min_rate_hz)
        if low.any():
            cut.notes.append(
                f"{low.sum()} neurons below {settings.min_rate_hz:g} Hz: "
                f"{listed(cut.neuron_ids[low].tolist())}"
            )
        keep &= ~low
    if not keep.any() and not seen.is_counts:
        raise LFADSError(
            f"{cut.source}: no channel is left; expected at least one that varies and is not in "
            "leave_out"
        )
    if not keep.any():
        highest = (seen.totals / seconds).max()
        raise LFADSError(
            f"{cut.source}: no neuron is left; the highest rate is {highest:.4g} Hz; expected at "
            "least one above min_rate_hz and not in leave_out"
        )
    return np.flatnonzero(keep)


def _leave_out_bare_trials(cut: Cut, neurons: np.ndarray) -> None:
    """Mark trials in which none of the chosen neurons was recorded."""
    if cut.present is None:
        return
    bare = ~cut.present[:, :, neurons].any((1, 2))
    if bare.any():
        cut.notes.append(f"{bare.sum()} trials in which none of these neurons was recorded")
        usable = ~bare if cut.usable is None else cut.usable & ~bare
        cut.usable = np.asarray(usable)


def _with_few_events(cut: Cut, seen: Seen, keep: np.ndarray, least_hz: float) -> np.ndarray:
    """Return which channels have rare events and are 0 elsewhere, as deconvolved calcium does."""
    are_zero = cut.n_entries - seen.n_events
    sparse = keep & (are_zero > 0.1 * cut.n_entries)
    if not sparse.any():
        return sparse
    if cut.bin_width_s is None:
        raise LFADSError(
            f"{cut.source}: {sparse.sum()} channels are 0 between events, and min_rate_hz is the "
            "rate of these events; for this give source_bin_width_s, the bin width of the file"
        )
    seconds = np.maximum(cut.n_entries, 1) * cut.bin_width_s
    few = sparse & (seen.n_events / seconds < least_hz)
    if few.any():
        cut.notes.append(
            f"{few.sum()} channels with fewer than {least_hz:g} events per second: "
            f"{listed(cut.neuron_ids[few].tolist())}"
        )
    return few


def _condition(cut: Cut, settings: Settings) -> np.ndarray | None:
    usual = names.find(cut.per_trial, names.CONDITIONS)
    keys = settings.condition or (() if usual is None else (usual,))
    if not keys:
        return None
    columns = [_as_labels(_column(cut, key, "condition")) for key in keys]
    for key in keys:
        cut.per_trial.pop(names.meant(cut.per_trial, key), None)
    if len(columns) == 1:
        return columns[0]
    texts = [np.array([_as_text(v) for v in column.tolist()]) for column in columns]
    missing = np.any([text == "" for text in texts], axis=0)
    joined = ["" if m else " ".join(row) for m, *row in zip(missing, *texts, strict=True)]
    return np.array(joined)


def _as_text(label: Any) -> str:
    """Return a label as text; a missing one is empty."""
    if isinstance(label, float):
        return f"{label:.9g}" if np.isfinite(label) else ""
    return str(label)


def _column(cut: Cut, key: str, option: str) -> np.ndarray:
    """Return a column of the trials, (E,)."""
    labels = cut.per_trial.get(names.meant(cut.per_trial, key))
    if labels is None or labels.ndim != 1:
        known = [k for k, v in cut.per_trial.items() if v.ndim == 1 and k != "behaviour_names"]
        raise LFADSError(
            f"{cut.source}: {option}={key}: trials have no such column{nearest(key, known)}; "
            f"expected one of {listed(known, 20)}"
        )
    return labels


def _as_labels(values: np.ndarray) -> np.ndarray:
    """Return labels as whole numbers or text, the types of session files."""
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype.kind == "f" and (values != np.floor(values))[np.isfinite(values)].any():
        return np.array([f"{v:.9g}" if np.isfinite(v) else "" for v in values])
    return values


def _take_behaviour(cut: Cut, settings: Settings) -> None:
    """Store behaviour under its key, and check it for gaps."""
    _gather_behaviour(cut, settings)
    behaviour = cut.per_trial.get("behaviour")
    if behaviour is None:
        return
    holed = ~np.isfinite(behaviour).all((1, 2))
    if not holed.any():
        return
    if settings.nlb is not None and not settings.drop_nan_behaviour:
        del cut.per_trial["behaviour"], cut.per_trial["behaviour_names"]
        cut.notes.append(
            f"the behaviour: it has gaps in {holed.sum()} trials, and a submission needs all trials"
        )
        return
    if not settings.drop_nan_behaviour:
        i, t, k = np.argwhere(~np.isfinite(behaviour))[0]
        raise LFADSError(
            f"{cut.source}: behaviour {cut.per_trial['behaviour_names'][k]} is NaN in "
            f"{holed.sum()} of {len(holed)} trials, first in bin {t} of trial {cut.numbers[i]}; "
            "expected a value in every bin; fill the gaps, or drop these trials with "
            "drop_nan_behaviour"
        )
    if holed.all():
        raise LFADSError(
            f"{cut.source}: behaviour has gaps in every trial; expected samples throughout the "
            "window; check its unit of time, or use a shorter window_s"
        )
    cut.notes.append(f"{holed.sum()} trials whose behaviour has gaps")
    cut.usable = ~holed


def _gather_behaviour(cut: Cut, settings: Settings) -> None:
    """Join the arrays that the option ``behaviour`` names into one (E, T, K)."""
    if "behaviour_names" in cut.per_trial:  # was sampled together with spike times
        return
    keys = settings.behaviour or [k for k in cut.per_trial if k.lower() in names.BEHAVIOUR]
    parts, columns = [], []
    for key in keys:
        key = names.meant(cut.per_trial, key)
        array = cut.per_trial.get(key)
        known = [k for k, v in cut.per_trial.items() if v.ndim >= 2]
        if array is None or not _is_in_bins(array, cut):
            raise LFADSError(
                f"{cut.source}: behaviour={key} is not an array of trials × bins × values"
                f"{nearest(key, known)}; expected one of {listed(known, 20)}"
            )
        parts.append(cut.per_trial.pop(key).reshape(len(array), cut.n_bins, -1))
        n = parts[-1].shape[2]
        columns += [key] if n == 1 else [f"{key}_{k}" for k in range(n)]
    if parts:
        cut.per_trial["behaviour"] = np.concatenate(parts, axis=2).astype(np.float32)
        cut.per_trial["behaviour_names"] = np.array(columns)


def _is_in_bins(array: np.ndarray, cut: Cut) -> bool:
    """Return whether an array has values in every bin of every trial: (E, T) or (E, T, K)."""
    return array.ndim in (2, 3) and array.shape[1] == cut.n_bins


def _behaviour_note(cut: Cut, stored: Mapping[str, Any], settings: Settings) -> str:
    """Return a note on the session's behaviour and its use, or on behaviour it could have."""
    if (chosen := stored["behaviour_names"]) is not None:
        return (
            f"behaviour: {listed(chosen.tolist(), 10)}; it is decoded from the model's rates, to "
            "judge it (behaviour_r2); training does not see it"
        )
    could_be = [
        name
        for name, array in cut.per_trial.items()
        if _is_in_bins(array, cut) and array.dtype.kind in "iuf" and name not in OF_SPLIT
    ]
    if settings.behaviour or not could_be:
        return ""
    return (
        f"{listed(could_be, 10)}: values in every bin; with --behaviour "
        f"{shlex.quote(could_be[0])} they are decoded from the model's rates, to judge it"
    )


def _stored(
    cut: Cut,
    condition: np.ndarray | None,
    neurons: np.ndarray,
    splits: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Return everything that is stored besides the counts, by key (see ``keys.py``)."""
    stored: dict[str, Any] = {
        "bin_width_s": cut.bin_width_s,
        "neuron_ids": cut.neuron_ids[neurons],
        "behaviour_names": cut.per_trial.pop("behaviour_names", None),
        "left_out": np.array(cut.notes, dtype=str) if cut.notes else None,
        "version": version("lfads-lightning"),
        **cut.constants,
    }
    if cut.held_out is not None:
        stored["held_out_neurons"] = np.flatnonzero(cut.held_out[neurons])
    per_trial = cut.per_trial | {"inds": cut.numbers}
    if cut.lengths is not None:
        per_trial["lengths"] = cut.lengths
    if cut.present is not None:
        per_trial["mask"] = cut.present[:, :, neurons]
    if "truth" in per_trial:  # a rate for each neuron
        per_trial["truth"] = per_trial["truth"][..., neurons]
    if condition is not None:
        per_trial["condition"] = condition
    for split, chosen in splits.items():
        for key, array in per_trial.items():
            stored[f"{split}_{key.replace('/', '_')}"] = array[chosen]
    return stored


def _plain(settings: Settings) -> dict[str, Any]:
    given = dataclasses.asdict(settings)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in given.items()}


def _summary(
    cut: Cut,
    splits: Mapping[str, np.ndarray],
    neurons: np.ndarray,
    seen: Seen,
    settings: Settings,
) -> str:
    sizes = " + ".join(f"{len(chosen)} {split}" for split, chosen in splits.items())
    trials = np.concatenate(list(splits.values()))
    n_entries = cut.n_entries[neurons].sum()
    mean = seen.totals[neurons].sum() / n_entries
    shortest = cut.n_bins if cut.lengths is None else cut.lengths.min()
    n_bins = f"{cut.n_bins}" if shortest == cut.n_bins else f"{shortest} to {cut.n_bins}"
    width = "" if cut.bin_width_s is None else f" of {1000 * cut.bin_width_s:g} ms"
    if seen.dtype.kind == "f":
        rate = "real values: lfads check suggests a model.output_dist"
    else:
        rate = f"{mean:.3g} spikes per bin"
        if cut.bin_width_s is not None:
            rate += f", {mean / cut.bin_width_s:.3g} Hz"
        empty = int((seen.per_trial[trials] == 0).sum())
        rate += f"; {empty} trials without spikes" if empty else ""
    pieces = "chops" if "chop_starts" in cut.per_trial else "trials"
    if cut.present is not None:
        assert cut.lengths is not None
        missing = 1 - n_entries / (cut.lengths.sum() * len(neurons))
        rate += f"; {100 * missing:.2g} % of the entries are missing" if missing else ""
    made = f"{sizes} {pieces} x {n_bins} bins{width} x {len(neurons)} neurons ({rate})"
    if settings.nlb is not None and cut.bin_width_s is not None:
        n_forward = round(nlb.FORWARD_S / cut.bin_width_s)
        made += (
            f"; the last {n_forward} bins are forward bins: train with "
            f"data.forward_steps={n_forward}"
        )
    return made
