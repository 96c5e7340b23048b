"""Writing session files: completely or not at all, counts as small integers, block by block."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import Blocks, as_counts, check_finite
from lfads_lightning.data.fields import KEYS
from lfads_lightning.data.keywords import keywords_of, shows
from lfads_lightning.data.missing import of_one_length, unpacked
from lfads_lightning.data.oddities import axes_note, notes_on
from lfads_lightning.data.sessions import assemble, check_alignment, check_ext_input
from lfads_lightning.runs.files import whole_hdf5
from lfads_lightning.runs.remote import local_copies, path_or_address

CHUNK_BYTES = 2**19  # approximately; larger only if a single trial is


@shows(keywords_of(KEYS), "Keys of a session")
def write_session(
    path: str | Path, *, train_data: ArrayLike | Blocks, **keys_and_extra: Any
) -> str | Path:
    """Write a session file; counts are stored in the smallest integer type.

    Args:
        path: Path of the file, or its address in a bucket. Its folder is created; an older file is
            replaced once the new one is complete.
        train_data: Spike counts (E, T, D). Large data can be given block by block, as
            :class:`~lfads_lightning.data.arrays.Blocks`; the same holds for ``valid_data``.
        **keys_and_extra: The keys of a session, listed below; None leaves one out. Arrays, strings
            or scalars under other names are stored unchanged.

    Returns:
        The path.

    Raises:
        LFADSError: The session could not be trained on, or the file cannot be written.

    >>> import tempfile
    >>> import numpy as np
    >>> import lfads_lightning as lfads
    >>> counts = np.random.default_rng(0).poisson(0.3, (20, 50, 7))
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = lfads.write_session(
    ...     f"{folder.name}/day1.h5", train_data=counts[:16], valid_data=counts[16:],
    ...     bin_width_s=0.02, event="go_cue", window_s=(-0.4, 0.6), monkey="J",
    ... )
    >>> session = lfads.read_session(path)
    >>> session.name, session.train.data.shape, session.event, session.window_s.tolist()
    ('day1', (16, 50, 7), 'go_cue', [-0.4, 0.6])
    >>> folder.cleanup()
    """
    extra = dict(keys_and_extra)
    given = {key: train_data if key == "train_data" else extra.pop(key, None) for key in KEYS}
    with local_copies() as copies:
        _write(copies.output(path), given, extra)
        copies.send()
    return path_or_address(path)


def _write(path: Path, given: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    arrays = unpacked(str(path), {k: v for k, v in given.items() if v is not None})
    of_one_length(arrays)
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


def _check_before_writing(path: Path, arrays: dict[str, Any]) -> None:
    """Refuse data that no configuration could read; write 0 for missing entries."""
    session = assemble(path.stem, str(path), arrays)
    for name, split in session.splits.items():
        if split.lengths is not None or split.mask is not None:
            held = {f"{name}_{what}": a for what, a in split._asdict().items()}
            arrays |= {key: array for key, array in held.items() if array is not None}
    check_alignment(session)
    ext_inputs = [s.ext_input for s in session.splits.values() if s.ext_input is not None]
    if ext_inputs:
        check_ext_input(session, (ext_inputs[0].shape or (0,))[-1])
    train = session.train.data
    if not isinstance(train, Blocks) and session.equal_trials:
        is_counts = as_counts(train) is not None
        for note in axes_note("train_data", train) + notes_on(
            train, session.bin_width_s, is_counts, session.neuron_ids
        ):
            warnings.warn(f"{path}: {note}", stacklevel=4)
    for key, array in arrays.items():
        if isinstance(array, Blocks) or not array.size:
            continue
        if array.dtype.kind in "biuf" and not KEYS[key].kind.may_be_text:
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
