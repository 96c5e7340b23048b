"""Continuous recordings: cutting them into overlapping chops, and merging results of chops."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.config import LFADSError
from lfads_lightning.data.session_files import damage_explained, opened, own_dataset
from lfads_lightning.recordings.keys import SPLITS
from lfads_lightning.runs.remote import local_copies


class Chops(NamedTuple):
    """Starts of chops.

    ``starts`` and ``segment_starts`` are bins of the recording with its pieces concatenated;
    ``kept`` are the positions of the pieces that are long enough.
    """

    starts: np.ndarray
    segment_starts: np.ndarray
    n_recording_bins: int
    kept: np.ndarray


def plan_chops(segment_bins: np.ndarray, chop_bins: int, overlap_bins: int) -> Chops:
    """Cover unbroken pieces of a recording with chops.

    Chops follow each other at ``chop_bins - overlap_bins``; the last one of a piece ends with it,
    and overlaps more. Pieces shorter than a chop are left out.

    Args:
        segment_bins: bins of each piece.
        chop_bins: T.
        overlap_bins: bins that neighbours share.
    """
    kept = np.flatnonzero(segment_bins >= chop_bins)
    ends = np.cumsum(segment_bins[kept])
    begins = ends - segment_bins[kept]
    starts = []
    for begin, n in zip(begins, segment_bins[kept], strict=True):
        own = np.arange(0, n - chop_bins + 1, chop_bins - overlap_bins)
        if own[-1] + chop_bins < n:
            own = np.append(own, n - chop_bins)
        starts.append(begin + own)
    total = int(ends[-1]) if len(ends) else 0
    return Chops(np.concatenate([np.zeros(0, int), *starts]), begins, total, kept)


def merge(values: np.ndarray, starts: np.ndarray, n_bins: int, overlap_bins: int) -> np.ndarray:
    """Put chops back in their places; overlapping chops are averaged with weights.

    The weight of a bin rises linearly over the overlap at a chop's beginning and falls over that
    at its end, so that the chop with more context around a bin counts more. Where chops agree, the
    result equals them exactly. Bins that no chop covers are NaN.

    Args:
        values: (E, T, ...).
        starts: (E,), first bin of each chop.
        n_bins: bins of the whole recording.
        overlap_bins: bins that neighbours share.

    Returns:
        (n_bins, ...) in the type of ``values`` (whole numbers as float64).
    """
    dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    merged = np.full((n_bins, *values.shape[2:]), np.nan, dtype)
    weight = np.zeros(n_bins)
    length = values.shape[1]
    from_end = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    ramp = np.minimum(from_end / (overlap_bins + 1), 1.0)
    for i in np.argsort(starts, kind="stable"):
        where = slice(int(starts[i]), int(starts[i]) + length)
        before, new = weight[where], values[i].astype(dtype, copy=False)
        share = (ramp / (ramp + before)).reshape(-1, *[1] * (new.ndim - 1)).astype(dtype)
        old = np.where((before == 0).reshape(share.shape), new, merged[where])
        # in this form, equal values stay exactly the same
        merged[where] = old + share * (new - old)
        weight[where] += ramp
    return merged


def merge_chops(session: str | Path, **splits: ArrayLike) -> np.ndarray:
    """Merge a model's results for chops into one recording.

    Args:
        session: the session file that `lfads prepare --chop-bins` wrote; it has the places of the
            chops.
        **splits: ``train=``, ``valid=``, ``test=``: arrays (E, T, ...) for some or all splits of
            the file.

    Returns:
        (bins of the recording, ...): NaN where no chop given covers a bin.

    Raises:
        LFADSError: the file has no chops, or an array does not fit it.
    """
    path = session
    with local_copies() as copies:
        places = read_places(copies.get(session))
    given = {name: np.asarray(array) for name, array in splits.items()}
    starts = []
    for name, array in given.items():
        if name not in places.starts:
            raise LFADSError(
                f"{path}: has no split {name!r}; expected one of {', '.join(places.starts)}"
            )
        expected = (len(places.starts[name]), places.chop_bins)
        if array.shape[:2] != expected:
            raise LFADSError(
                f"{path}: {name} is of shape {array.shape}; expected {expected[0]} chops × "
                f"{expected[1]} bins as in the file: give the results of all of its trials"
            )
        starts.append(places.starts[name])
    if not given:
        raise LFADSError(f"{path}: merge_chops needs results: train=..., valid=...")
    if len({array.shape[2:] for array in given.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
        raise LFADSError(f"{path}: splits differ in more than their trials ({shapes})")
    return merge(
        np.concatenate(list(given.values())),
        np.concatenate(starts),
        places.n_recording_bins,
        places.overlap_bins,
    )


class Places(NamedTuple):
    """Where the chops of a session file lie."""

    starts: Mapping[str, np.ndarray]  # by split
    n_recording_bins: int
    overlap_bins: int
    chop_bins: int


def read_places(path: Path) -> Places:
    """Read where the chops of a session file lie.

    Raises:
        LFADSError: the file has no chops.
    """
    with opened(path) as file:
        keys = {name: f"{name}_chop_starts" for name in SPLITS}
        if "train_chop_starts" not in file or "n_recording_bins" not in file:
            raise LFADSError(
                f"{path}: train_chop_starts is missing: its trials are no chops of a continuous "
                "recording; expected a file written by lfads prepare --chop-bins"
            )

        def of(key: str) -> h5py.Dataset:
            return own_dataset(file, key, f"{path}: {key}")

        with damage_explained(str(path)):
            starts = {name: of(key)[()] for name, key in keys.items() if key in file}
            return Places(
                starts,
                int(of("n_recording_bins")[()]),
                int(of("chop_overlap_bins")[()]),
                int(of("train_data").shape[1]),
            )
