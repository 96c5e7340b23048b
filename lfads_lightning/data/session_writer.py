"""Writing session files: whole or not at all, counts as small integers, a block at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import as_array, as_counts, check_finite
from lfads_lightning.data.labels import takes_text
from lfads_lightning.data.oddities import axes_note, notes_on
from lfads_lightning.data.sessions import KEYS, assemble, check_alignment, check_ext_input
from lfads_lightning.runs.copies import local_copies
from lfads_lightning.runs.files import whole_hdf5
from lfads_lightning.runs.stores import path_or_address

CHUNK_BYTES = 2**19  # about; larger than this only where one trial is


class Blocks(NamedTuple):
    """An array that is made while it is written, so that it is never whole in memory.

    Attributes:
        shape: of the whole.
        dtype: of the whole.
        make: gives its rows in order, some at a time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], Iterable[np.ndarray]]


def write_session(
    path: str | Path,
    *,
    train_data: ArrayLike | Blocks,
    valid_data: ArrayLike | Blocks | None = None,
    train_ext_input: ArrayLike | None = None,
    valid_ext_input: ArrayLike | None = None,
    train_truth: ArrayLike | None = None,
    valid_truth: ArrayLike | None = None,
    alignment_matrix_cxf: ArrayLike | None = None,
    alignment_bias_c: ArrayLike | None = None,
    conversion_factor: float | None = None,
    train_inds: ArrayLike | None = None,
    valid_inds: ArrayLike | None = None,
    train_condition: ArrayLike | None = None,
    valid_condition: ArrayLike | None = None,
    train_behaviour: ArrayLike | None = None,
    valid_behaviour: ArrayLike | None = None,
    neuron_ids: ArrayLike | None = None,
    held_out_neurons: ArrayLike | None = None,
    bin_width_s: float | None = None,
    train_event_times_s: ArrayLike | None = None,
    valid_event_times_s: ArrayLike | None = None,
    window_s: ArrayLike | None = None,
    event: str | None = None,
    **extra: Any,
) -> str | Path:
    """Write one session file; counts go in as the smallest integer type.

    The arrays are those of the table in `lfads_lightning.data.sessions`; None leaves one out.

    Args:
        path: The file, or its address in a store; its folder is made, an older file is replaced
            once the new one is whole.
        train_data: (E, T, D); as :class:`Blocks` it is never whole in memory.
        valid_data: (E, T, D), likewise.
        train_ext_input: (E, T, I).
        valid_ext_input: (E, T, I).
        train_truth: (E, T, D).
        valid_truth: (E, T, D).
        alignment_matrix_cxf: (D, F).
        alignment_bias_c: (D,).
        conversion_factor: Units of the truth per (count/bin).
        train_inds: (E,), which trials of the recording these are.
        valid_inds: (E,).
        train_condition: (E,) whole numbers or texts; negative or empty: none.
        valid_condition: (E,).
        train_behaviour: (E, T, K).
        valid_behaviour: (E, T, K).
        neuron_ids: (D,) whole numbers or texts.
        held_out_neurons: channels, counted from 0.
        bin_width_s: seconds.
        train_event_times_s: (E,), what trials are aligned to, on the source's clock.
        valid_event_times_s: (E,).
        window_s: (2,), first and last moment of a trial, seconds from its event.
        event: its name, for figures.
        **extra: Arrays, strings or scalars to store beside them as they are.

    Returns:
        The path.
    """
    given = {
        "train_data": train_data,
        "valid_data": valid_data,
        "train_ext_input": train_ext_input,
        "valid_ext_input": valid_ext_input,
        "train_truth": train_truth,
        "valid_truth": valid_truth,
        "alignment_matrix_cxf": alignment_matrix_cxf,
        "alignment_bias_c": alignment_bias_c,
        "conversion_factor": conversion_factor,
        "train_inds": train_inds,
        "valid_inds": valid_inds,
        "train_condition": train_condition,
        "valid_condition": valid_condition,
        "train_behaviour": train_behaviour,
        "valid_behaviour": valid_behaviour,
        "neuron_ids": neuron_ids,
        "held_out_neurons": held_out_neurons,
        "bin_width_s": bin_width_s,
        "train_event_times_s": train_event_times_s,
        "valid_event_times_s": valid_event_times_s,
        "window_s": window_s,
        "event": event,
    }
    with local_copies() as copies:
        _write(copies.output(path), given, extra)
        copies.send()
    return path_or_address(path)


def _write(path: Path, given: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    arrays: dict[str, Any] = {
        k: v if isinstance(v, Blocks) else as_array(str(path), k, v)
        for k, v in given.items()
        if v is not None
    }
    _check_before_writing(path, arrays)
    for key in extra:
        if key.lower() in KEYS:
            raise LFADSError(f"{path}: {key} is spelled {key.lower()}; pass it under that name")
    for key in {"train_data", "valid_data"} & set(arrays):
        if not isinstance(arrays[key], Blocks):
            counts = as_counts(arrays[key])
            arrays[key] = arrays[key] if counts is None else counts
    stored = {**arrays, **{key: value for key, value in extra.items() if value is not None}}
    with whole_hdf5(path) as file:
        for key, value in stored.items():
            _write_array(file, key, value, f"{path}: {key}")


def _check_before_writing(path: Path, arrays: Mapping[str, Any]) -> None:
    """Refuse what no configuration could read."""
    session = assemble(path.stem, str(path), arrays)
    check_alignment(session)
    ext_inputs = [s.ext_input for s in session.splits.values() if s.ext_input is not None]
    if ext_inputs:
        check_ext_input(session, (ext_inputs[0].shape or (0,))[-1])
    train = session.train.data
    if not isinstance(train, Blocks):
        is_counts = as_counts(train) is not None
        for note in axes_note("train_data", train) + notes_on(
            train, session.bin_width_s, is_counts, session.neuron_ids
        ):
            warnings.warn(f"{path}: {note}", stacklevel=4)
    for key, array in arrays.items():
        if isinstance(array, Blocks) or not array.size:
            continue
        if array.dtype.kind in "biuf" and not takes_text(key):
            check_finite(f"{path}: {key}", array)


def _write_array(file: h5py.File, key: str, value: Any, where: str) -> None:
    """Store an array (compressed), a string or a scalar."""
    if isinstance(value, Blocks):
        _write_blocks(file, key, value, where)
        return
    array = np.asarray(value)
    if array.dtype.kind == "U":
        file.create_dataset(key, data=array.astype(object), dtype=h5py.string_dtype())
        return
    options = {"compression": "gzip", "shuffle": True} if array.ndim else {}
    try:
        file.create_dataset(key, data=array, **options)
    except (TypeError, ValueError) as error:
        raise LFADSError(
            f"{where} cannot be stored ({error}); pass an array, a string or a scalar"
        ) from error


def _write_blocks(file: h5py.File, key: str, blocks: Blocks, where: str) -> None:
    row_bytes = math.prod(blocks.shape[1:]) * blocks.dtype.itemsize
    rows = max(min(CHUNK_BYTES // max(row_bytes, 1), blocks.shape[0]), 1)
    dataset = file.create_dataset(
        key,
        blocks.shape,
        blocks.dtype,
        chunks=(rows, *blocks.shape[1:]),
        compression="gzip",
        shuffle=True,
    )
    at = 0
    for block in blocks.make():
        check_finite(where, block)
        dataset[at : at + len(block)] = block
        at += len(block)
    assert at == blocks.shape[0]
