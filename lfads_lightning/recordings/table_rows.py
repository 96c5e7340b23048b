"""Tables with a spike in each row, or a bin with the counts of all neurons."""

from collections.abc import Mapping

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.data.session_files import check_declared
from lfads_lightning.recordings import names
from lfads_lightning.recordings.records import Counts, Recording, Units
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.spike_rows import spikes_from_rows
from lfads_lightning.recordings.tables import plain_ids

Columns = Mapping[str, np.ndarray]
BINS = ("bin", "bins", "bin_index", "time_bin", "frame", "frames")
LEAST_NEURONS = 3  # fewest neurons of a table that is taken for bins without being told


def recording_from_table(columns: Columns, source: str, settings: Settings) -> Recording:
    """Make a recording from a table's columns.

    Args:
        columns: (S,) each.
        source: name of the recording in error messages.
        settings: names of the columns, and what a row is.

    Raises:
        LFADSError: a column is missing, or its values are wrong.
    """
    if settings.rows == "bins" or (settings.rows is None and _looks_like_bins(columns, settings)):
        return _counts(columns, source, settings)
    try:
        return spikes_from_rows(columns, source, settings)
    except LFADSError as error:
        if settings.rows is not None or settings.unit_column is not None:
            raise
        if names.find(columns, names.UNITS) is not None:
            raise
        raise LFADSError(
            f"{error}; or, if a row is a bin and has a column for each neuron, give rows=bins"
        ) from error


def _times_of_bins(columns: Columns, settings: Settings) -> str | None:
    return settings.time_column or names.find(columns, names.TIMES[:-1])


def _other_columns(columns: Columns, settings: Settings) -> set[str]:
    """Return the columns of a table of bins that are not neurons."""
    usual = (names.TRIALS, BINS, names.CONDITIONS, names.STARTS, names.STOPS)
    found = {names.find(columns, row) for row in usual}
    asked = (settings.trial_column, settings.align_to, settings.split_column)
    found |= {*asked, *settings.condition, *settings.behaviour, _times_of_bins(columns, settings)}
    texts = {name for name, column in columns.items() if column.dtype.kind not in "biuf"}
    return {name for name in found if name is not None} | texts


def _looks_like_bins(columns: Columns, settings: Settings) -> bool:
    """Return whether a table holds counts: no column of neurons, and columns of whole numbers."""
    if settings.unit_column is not None or names.find(columns, names.UNITS) is not None:
        return False
    neurons = [c for n, c in columns.items() if n not in _other_columns(columns, settings)]
    return len(neurons) >= LEAST_NEURONS and all(
        len(c) > 1 and bool(np.all(np.isnan(c) | ((c == np.floor(c)) & (c >= 0)))) for c in neurons
    )


def _counts(columns: Columns, source: str, settings: Settings) -> Recording:
    others = _other_columns(columns, settings)
    ids = [name for name in columns if name not in others]
    if not ids or len(columns[ids[0]]) == 0:
        raise LFADSError(
            f"{source}: found {listed(columns, 20)}; expected a column of numbers for each neuron, "
            "and a row for each bin"
        )
    check_declared(source, (len(columns[ids[0]]), len(ids)), 8)
    values = np.stack([columns[name] for name in ids], axis=1)
    trial = settings.trial_column or names.find(columns, names.TRIALS)
    if trial is not None:
        names.require(columns, trial, (), source, "trial_column", "the trial of a bin")
    rows = _rows_of_trials(columns, trial)
    width = _width(columns, rows, source, settings)
    lengths = np.array([len(own) for own in rows])
    shape = (len(rows), int(lengths.max()), len(ids))
    check_declared(source, shape, values.dtype.itemsize)

    def by_trial(array: np.ndarray) -> np.ndarray:
        filled = np.zeros((*shape[:2], *array.shape[1:]), array.dtype)
        for trial, own in zip(filled, rows, strict=True):
            trial[: len(own)] = array[own]
        return filled

    labels = {}
    for name in others & set(columns):
        column = columns[name]
        if name in (trial, _times_of_bins(columns, settings)):
            continue
        if name in settings.behaviour:
            labels[name] = by_trial(column[:, None])
        elif trial is not None and all((column[own] == column[own[0]]).all() for own in rows):
            labels[name] = np.array([column[own[0]] for own in rows])
    if trial is not None:
        labels["trial"] = plain_ids(np.array([columns[trial][own[0]] for own in rows]))
    is_whole = values.dtype.kind != "f" or bool((values == np.floor(values)).all())  # NaN is not
    return Recording(
        source,
        Units(np.array(ids)),
        Counts(
            "its table",
            by_trial(values.astype(np.int64) if is_whole and _fits(values) else values),
            width,
            trial is None,
            None if (lengths == lengths[0]).all() else lengths,
            _start(columns, trial, settings),
        ),
        trials=labels,
    )


def _start(columns: Columns, trial: str | None, settings: Settings) -> float:
    """Return the time of the first bin of a continuous recording."""
    name = _times_of_bins(columns, settings)
    return 0.0 if trial is not None or name is None else float(columns[name][0])


def _fits(values: np.ndarray) -> bool:
    return bool(np.abs(values).max() < 2**53)


def _rows_of_trials(columns: Columns, trial: str | None) -> list[np.ndarray]:
    """Return the rows of each trial, in the order in which they come."""
    if trial is None:
        return [np.arange(len(next(iter(columns.values()))))]
    _, first, which = np.unique(columns[trial], return_index=True, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(which.ravel()))[:-1])
    return [rows[k] for k in np.argsort(first)]


def _width(
    columns: Columns, rows: list[np.ndarray], source: str, settings: Settings
) -> float | None:
    """Return the bin width by the times of the rows; None without times."""
    name = _times_of_bins(columns, settings)
    if name is None:
        return None
    names.require(columns, name, (), source, "time_column", "the time of a bin")
    times = columns[name]
    if times.dtype.kind not in "iuf" or not np.isfinite(times).all():
        raise LFADSError(f"{source}: {name} is not a number in every row; expected seconds")
    steps = np.concatenate([np.diff(times[own]) for own in rows])
    if len(steps) == 0:
        return None
    width = float(np.median(steps))
    odd = np.flatnonzero(~(np.abs(steps - width) <= 0.01 * abs(width)))
    if not width > 0 or len(odd):
        raise LFADSError(
            f"{source}: {name} rises by {steps.min():.6g} to {steps.max():.6g} from row to row; "
            "expected a row for each bin, and bins of one width; put in what is missing (counts "
            "of 0, or an empty field where nothing was recorded)"
        )
    return float(f"{width * settings.seconds_per_unit:.6g}")
