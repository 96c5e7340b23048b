"""Trials of unequal length, and entries that were not recorded.

They may be given as lists of trials, NaN, masked arrays, `train_lengths` or `train_mask`. A
:class:`~lfads_lightning.data.fields.Split` always holds them in the same form: padded arrays with 0
where nothing was recorded, ``lengths`` and ``mask``; both are None if nothing is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import Blocks, as_array, refuse_value, sizes

PREFIXES = ("train_", "valid_")
_SAY_WHAT = {f"{prefix}{what}" for prefix in PREFIXES for what in ("lengths", "mask")}


def unpacked(source: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays by key, with separate keys for lengths and masks of lists, NaN, masked arrays.

    Args:
        source: Names the session in messages.
        arrays: Anything array-like, by key.

    >>> found = unpacked("a", {"train_data": [np.ones((2, 1)), np.ones((3, 1))]})
    >>> found["train_data"].shape, found["train_lengths"].tolist()
    ((2, 3, 1), [2, 3])
    """
    found: dict[str, Any] = {}
    for key, value in arrays.items():
        split = next((prefix for prefix in PREFIXES if key.startswith(prefix)), None)
        is_data = split is not None and key == f"{split}data"
        present = None
        if is_data and _is_masked(value):
            present = ~np.ma.getmaskarray(value)
            value = np.asarray(np.ma.filled(value, 0))
        trials = None if split is None else _ragged(value)
        if trials is None:
            array = as_array(source, key, value)
        else:
            masked = [np.ma.getmaskarray(x) for x in trials]
            if is_data and any(mask.any() for mask in masked):
                present = padded([~mask for mask in masked], False)
                trials = [np.asarray(np.ma.filled(x, 0)) for x in trials]
            trials = [as_array(source, key, x) for x in trials]
            # only data have keys for lengths and masks
            is_settled = is_data or key == f"{split}mask"
            array = padded(trials, 0 if is_settled else np.nan)
            if is_data:
                lengths = np.array([len(x) for x in trials])
                _add_lengths(source, found, arrays, f"{split}lengths", lengths)
        if is_data and not isinstance(array, Blocks) and array.dtype.kind == "f" and array.size:
            if np.isnan(array.min()):
                gone = np.isnan(array)
                present = ~gone if present is None else present & ~gone
                array = np.where(gone, 0, array)
        if present is not None:
            mask = f"{split}mask"
            other = found.get(mask, present)
            found[mask] = joined_masks(source, mask, present, other)
        if key.endswith("_mask") and key in found:
            found[key] = joined_masks(source, key, found[key], array)
        elif not (key.endswith("_lengths") and key in found):
            found[key] = array
    return found


def _is_masked(value: Any) -> bool:
    return np.ma.isMaskedArray(value) and bool(np.ma.getmaskarray(value).any())


def _ragged(value: Any) -> list[Any] | None:
    """Return the trials of a list of arrays (T, n) of unequal T; None if it is not such a list."""
    if not isinstance(value, list | tuple) or len(value) == 0:
        return None
    if not all(hasattr(x, "shape") or isinstance(x, list | tuple) for x in value):
        return None
    try:
        trials = [x if hasattr(x, "shape") else np.asarray(x) for x in value]
    except ValueError:
        return None
    if not all(len(x.shape) == 2 and x.shape[0] > 0 for x in trials):
        return None
    widths = {x.shape[1] for x in trials}
    is_one = len({x.shape[0] for x in trials}) == 1 and not any(map(_is_masked, trials))
    return None if is_one or len(widths) > 1 else trials


def padded(trials: list[np.ndarray], fill: float) -> np.ndarray:
    """Return trials (T, n) as one array (E, longest T, n)."""
    dtype = np.result_type(*trials)
    if np.isnan(fill):
        dtype = np.result_type(dtype, np.float32)
    whole = np.full((len(trials), max(map(len, trials)), trials[0].shape[1]), fill, dtype)
    for row, trial in zip(whole, trials, strict=True):
        row[: len(trial)] = trial
    return whole


def _add_lengths(
    source: str, found: dict[str, Any], given: Mapping[str, Any], key: str, lengths: np.ndarray
) -> None:
    if (other := given.get(key)) is not None and not np.array_equal(np.ravel(other), lengths):
        raise LFADSError(
            f"{source}: {key} disagrees with the lengths of the trials in the list; leave it out"
        )
    found[key] = lengths


def joined_masks(source: str, key: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the entries that are present in both masks, (E, T, D) each.

    Raises:
        LFADSError: they differ in shape.
    """
    if first.shape != second.shape:
        raise LFADSError(
            f"{source}: {key} is {sizes(second.shape)}, the data are {sizes(first.shape)}; both "
            "must have the same shape E×T×D"
        )
    return (first != 0) & (second != 0)


def of_one_length(arrays: dict[str, Any]) -> None:
    """Pad the split with shorter trials to the length of the other, if one of them has lengths.

    Args:
        arrays: arrays of a session, by key; changed in place.
    """
    data = {p: arrays.get(f"{p}data") for p in PREFIXES}
    n_bins = {p: a.shape[1] for p, a in data.items() if a is not None and a.ndim == 3}
    if len(n_bins) < 2 or len(set(n_bins.values())) == 1 or not (_SAY_WHAT & arrays.keys()):
        return
    short = min(n_bins, key=n_bins.__getitem__)
    n, longest = n_bins[short], max(n_bins.values())
    if isinstance(data[short], Blocks):
        return
    arrays.setdefault(f"{short}lengths", np.full(len(data[short]), n))  # type: ignore[arg-type]
    for key, array in arrays.items():
        if key.startswith(short) and np.ndim(array) == 3 and array.shape[1] == n:
            more = [(0, 0)] * 3
            more[1] = (0, longest - n)
            arrays[key] = np.pad(array, more)


def settled(source: str, split: Any, prefix: str) -> Any:
    """Return a split in its final form: 0 where nothing was recorded, lengths and mask if needed.

    Without lengths, a trial ends with its last bin that has an entry.

    Args:
        source: name of the session in messages.
        split: the split, with arrays of the right shapes.
        prefix: ``train_`` or ``valid_``.

    Raises:
        LFADSError: a length is not valid, or all entries of a trial are missing.
    """
    lengths, mask, data = split.lengths, split.mask, split.data
    if lengths is None and mask is None:
        return split
    n_trials, n_bins, _ = data.shape
    if lengths is not None:
        bad = (lengths < 1) | (lengths > n_bins)
        if bad.any():
            refuse_value(f"{source}: {prefix}lengths", lengths, bad, f"expected 1 to {n_bins} bins")
    there = np.ones(data.shape, bool) if mask is None else mask.astype(bool)
    if lengths is not None:
        there &= inside(lengths, n_bins)[..., None]
    filled = np.asarray(there.any(2))  # (E, T)
    if not filled.any(1).all():
        k = int(np.argmin(filled.any(1)))
        raise LFADSError(
            f"{source}: all entries of trial {k} of {prefix}data are missing; leave the trial out"
        )
    last = n_bins - np.argmax(filled[:, ::-1], 1)
    ends = last if lengths is None else lengths.astype(np.int64)
    within = inside(ends, n_bins)
    is_whole = bool((there == within[..., None]).all())
    if is_whole and (ends == n_bins).all():
        return split._replace(lengths=None, mask=None)
    changed = {"lengths": ends, "mask": None if is_whole else there}
    if not isinstance(data, Blocks):
        changed["data"] = _with_0(data, there)
    if (ends < n_bins).any():
        for name in ("ext_input", "truth", "behaviour"):
            if (array := getattr(split, name)) is not None:
                changed[name] = _with_0(array, within[..., None])
    return split._replace(**changed)


def _with_0(array: np.ndarray, there: np.ndarray) -> np.ndarray:
    return array if not np.where(there, 0, array).any() else np.where(there, array, 0).astype(
        array.dtype)  # fmt: skip


def inside(lengths: np.ndarray, n_bins: int) -> np.ndarray:
    """Return which bins (E, T) lie within trials of these lengths.

    >>> inside(np.array([1, 3]), 3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    return np.arange(n_bins) < np.asarray(lengths)[:, None]
