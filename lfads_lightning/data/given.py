"""Data given to the Python functions: which forms are accepted, and how they become sessions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.fields import KEYS, OF_SPLIT, Session, Split, arrays_of
from lfads_lightning.data.missing import joined_masks, of_one_length, unpacked
from lfads_lightning.data.session_files import read_session, read_sessions
from lfads_lightning.data.sessions import Given

One: TypeAlias = ArrayLike | Session | Split | str | Path
Data: TypeAlias = One | Mapping[str, One]


def is_named(data: Data) -> bool:
    """Return whether data give names to their sessions."""
    return isinstance(data, str | os.PathLike | Session | Mapping)


def by_session(data: Data, where: str, unnamed: str = "session") -> list[Given]:
    """Return what ``data`` holds, session by session.

    Args:
        data: An array (E, T, D), a list of trials (T, D), a session, a split of one, the path or
            address of a session file, or any of these by session name.
        where: The function that was called, for messages.
        unnamed: The name of a session that is given as an array.

    Raises:
        LFADSError: It is none of these, or a file cannot be read.
    """
    if isinstance(data, str | os.PathLike):
        return [_of_session(session) for session in read_sessions(data)]
    if isinstance(data, Mapping):
        if not data:
            raise LFADSError("train_data: expected {session name: array} with at least one session")
        return [_of_one(one, str(name), where) for name, one in data.items()]
    if isinstance(data, list | tuple) and not isinstance(data, Split):
        if any(isinstance(item, Session | Split | str | os.PathLike) for item in data):
            raise LFADSError(
                f"{where}: data is a list of sessions; expected them by name: "
                "{session.name: session for session in sessions}"
            )
    return [_of_one(data, data.name if isinstance(data, Session) else unnamed, where)]


def _of_one(one: Any, name: str, where: str) -> Given:
    source = f"session '{name}'"
    if isinstance(one, Mapping):
        raise LFADSError(f"{where}: {source} is a mapping; expected an array, a session or a file")
    if isinstance(one, str | os.PathLike):
        one = read_session(Path(one) if isinstance(one, os.PathLike) else one)
    if isinstance(one, Session):
        return _of_session(one)._replace(name=name)
    if isinstance(one, Split):
        held = {f"train_{what}": a for what, a in one._asdict().items() if a is not None}
    else:
        held = {"train_data": one}
    return Given.of_arrays(name, held)


def _of_session(session: Session) -> Given:
    return Given(session.name, session.source, arrays_of(session))


def add_keys(given: list[Given], keys: Mapping[str, Any], where: str) -> None:
    """Add values given by key to the sessions.

    Args:
        given: The sessions.
        keys: Values by key; for several sessions as {session: value}, except for keys with a single
            value (`bin_width_s`), which all sessions may share. None is left out.
        where: The function that was called, for messages.

    Raises:
        LFADSError: There is no such session, or a session already has this key.
    """
    by_name = {one.name: one for one in given}
    for key, value in keys.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            values = dict(value)
        elif len(given) == 1:
            values = {given[0].name: value}
        elif not set(KEYS[key].axes) & set("ETD"):
            values = dict.fromkeys(by_name, value)
        else:
            raise LFADSError(
                f"{where}: {key} is one array for {len(given)} sessions; expected {{session name: "
                f"array}}, of {listed(list(by_name))}"
            )
        for name, array in values.items():
            if name not in by_name:
                raise LFADSError(
                    f"{key}: session '{name}' has no train_data{nearest(str(name), by_name)}"
                )
            one = by_name[name]
            added = unpacked(one.source, {key: array})
            if key.endswith("_mask") and key in one.arrays:  # a mask made from NaN; combine both
                one.arrays[key] = joined_masks(one.source, key, one.arrays[key], added[key])
                continue
            if key in one.arrays:
                raise LFADSError(
                    f"{one.source}: {key} is given, but the session already has it; leave it "
                    "out, or change it in the session"
                )
            one.arrays.update(added)


def hold_out(given: Iterable[Given], fraction: float, where: str) -> None:
    """Move evenly spaced trials of each session to validation, and record their numbers.

    Sessions that have validation trials are left as they are.

    Args:
        given: The sessions.
        fraction: Fraction of the trials.
        where: The function that was called, for messages.

    Raises:
        LFADSError: The fraction is not from 0 to 1.
    """
    if not 0 < fraction < 1:
        raise LFADSError(f"{where}: valid_fraction is {fraction}; expected 0 <= valid_fraction < 1")
    for _, _, arrays in given:
        data = arrays["train_data"]
        if "valid_data" in arrays or data.ndim == 0 or len(data) < 2:
            continue  # nothing to hold out; the checks report what is wrong
        arrays.setdefault("train_inds", np.arange(len(data)))
        for name in OF_SPLIT:
            whole = arrays.get(f"train_{name}")
            if whole is None or whole.ndim == 0 or len(whole) < 2:
                continue
            n = min(max(round(fraction * len(whole)), 1), len(whole) - 1)
            held = np.zeros(len(whole), bool)
            held[((np.arange(n) + 0.5) * len(whole) / n).astype(int)] = True
            arrays[f"train_{name}"], arrays[f"valid_{name}"] = whole[~held], whole[held]


def join_splits(given: Iterable[Given]) -> None:
    """Join the trials of each session into one split: the training trials, then the validation."""
    for _, _, arrays in given:
        of_one_length(arrays)
        whole = {s: arrays[f"{s}_data"] for s in ("train", "valid") if f"{s}_data" in arrays}
        for split, data in whole.items() if len(whole) == 2 else ():
            if any(f"{s}_lengths" in arrays for s in whole):
                arrays.setdefault(f"{split}_lengths", np.full(len(data), data.shape[1]))
            if any(f"{s}_mask" in arrays for s in whole):
                arrays.setdefault(f"{split}_mask", np.ones(data.shape, bool))
        for name in OF_SPLIT:
            valid = arrays.pop(f"valid_{name}", None)
            train = arrays.get(f"train_{name}")
            if train is not None and valid is not None:
                arrays[f"train_{name}"] = np.concatenate([train, valid])
