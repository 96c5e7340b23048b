"""What a session says beside its counts: bin width, ids, conditions, behaviour.

All of it is optional, and none of it changes what a model learns: it is for alignment, scores and
results. A trial belongs to no condition where its label is negative, NaN or an empty text.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import check_dtype, refuse_value, sizes

NO_CONDITION = -1
_BY_TRIAL = ("inds", "condition", "event_times_s")
_NAMES = ("neuron_ids", "train_condition", "valid_condition")  # numbers or texts
LONG_BIN_S = 2.0


def takes_text(key: str) -> bool:
    """Return whether a key's array may hold texts."""
    return key in _NAMES or key == "event"


def tidy(source: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Bring labels into the types to be held, and leave every other array as it is.

    Args:
        source: where they come from, for messages.
        arrays: by documented key.

    Raises:
        LFADSError: a label is of another kind, or behaviour is not finite.
    """
    made: dict[str, Any] = {}
    for key, array in arrays.items():
        where = f"{source}: {key}"
        if key == "bin_width_s":
            made[key] = _bin_width(where, array)
        elif key in _NAMES:
            made[key] = _names(where, _flat(array))
        elif key == "event":
            made[key] = _text(where, array)
        elif key.endswith("_inds") or key == "held_out_neurons":
            made[key] = _indices(where, _flat(array))
        elif key.endswith("_event_times_s") or key == "window_s":
            made[key] = _seconds(where, _flat(array))
            if key == "window_s" and (made[key].size != 2 or not made[key][0] < made[key][1]):
                raise LFADSError(
                    f"{where} is {made[key].tolist()}; expected two moments, the first and the "
                    "last of a trial, in seconds from its event"
                )
        else:
            check_dtype(where, array.dtype)
            made[key] = array
        if key.endswith("_behaviour") and not np.isfinite(array).all():
            refuse_value(
                where,
                array,
                ~np.isfinite(array),
                "behaviour must be finite; fill the gap (interpolate), or leave the trial out",
            )
    return made


def check_labels(
    source: str,
    shapes: Mapping[str, tuple[int, ...]],
    by_split: Mapping[str, Mapping[str, Any]],
    neuron_ids: np.ndarray | None,
    held_out_neurons: np.ndarray | None,
) -> None:
    """Check that labels have one entry per trial or neuron.

    Args:
        source: where they come from, for messages.
        shapes: E×T×D of the data, by split.
        by_split: inds, condition, event_times_s and behaviour, by split; each may be None.
        neuron_ids: (D,) or None.
        held_out_neurons: channels, counted from 0, or None.
    """
    n_neurons = shapes["train"][2]
    for split, (n_trials, n_bins, _) in shapes.items():
        for what in _BY_TRIAL:
            _check_length(f"{source}: {split}_{what}", by_split[split][what], n_trials, "trial")
        behaviour = by_split[split]["behaviour"]
        if behaviour is not None and (
            behaviour.ndim != 3 or behaviour.shape[:2] != (n_trials, n_bins)
        ):
            raise LFADSError(
                f"{source}: {split}_behaviour is {sizes(behaviour.shape)}, {split}_data has "
                f"{n_trials} trials of {n_bins} bins; expected E×T×K, a row of K numbers for every "
                "bin (one variable: K = 1)"
            )
    widths = {split: each["behaviour"].shape[2] for split, each in by_split.items()
              if each["behaviour"] is not None}  # fmt: skip
    if len(set(widths.values())) > 1:
        raise LFADSError(
            f"{source}: train_behaviour has {widths['train']} variables, valid_behaviour "
            f"{widths['valid']}; both must be E×T×K with one K"
        )
    _check_length(f"{source}: neuron_ids", neuron_ids, n_neurons, "neuron")
    if held_out_neurons is None:
        return
    where, n = f"{source}: held_out_neurons", len(held_out_neurons)
    if n and held_out_neurons.max() >= n_neurons:
        raise LFADSError(
            f"{where} names channel {held_out_neurons.max()} of {n_neurons}; expected channels of "
            f"train_data, counted from 0 (0 to {n_neurons - 1})"
        )
    if len(np.unique(held_out_neurons)) < n:
        raise LFADSError(f"{where} names a channel twice; give each once")
    if n == n_neurons:
        raise LFADSError(f"{where} names all {n} neurons; the encoders need some to see")


def warn_of_labels(source: str, bin_width_s: float | None) -> None:
    """Warn of a bin width that is hardly in seconds."""
    if bin_width_s is not None and bin_width_s >= LONG_BIN_S:
        warnings.warn(
            f"{source}: bin_width_s is {bin_width_s:g} seconds; if these are milliseconds, divide "
            "by 1000, or every rate in Hz will be wrong",
            stacklevel=4,
        )


def has_condition(condition: np.ndarray) -> np.ndarray:
    """Return which trials (E,) belong to a condition."""
    return condition != "" if condition.dtype.kind == "U" else condition >= 0


def _flat(array: np.ndarray) -> np.ndarray:
    return array.ravel() if array.ndim == 2 and 1 in array.shape else array


def _check_length(where: str, labels: np.ndarray | None, n: int, what: str) -> None:
    if labels is not None and labels.shape != (n,):
        raise LFADSError(f"{where} is {sizes(labels.shape)}; expected {n} labels, one per {what}")


def _bin_width(where: str, array: np.ndarray) -> float:
    if array.dtype.kind not in "iuf" or array.size != 1 or not 0 < array.item() < math.inf:
        found = array.item() if array.size == 1 else f"an array of {sizes(array.shape)}"
        raise LFADSError(f"{where} is {found}; expected one positive number, in seconds")
    return float(array.item())


def _names(where: str, array: np.ndarray) -> np.ndarray:
    """Return numbers as int64, texts as such."""
    if array.dtype.kind == "O" and all(isinstance(x, str) or x is None for x in array.flat):
        array = np.array([x or "" for x in array.flat], dtype=str).reshape(array.shape)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind not in "iuf":
        raise LFADSError(
            f"{where} holds values of type {array.dtype}; expected whole numbers or texts (of a "
            "MATLAB cell array: its numbers, from findgroups or grp2idx)"
        )
    numbers = np.where(np.isnan(array), NO_CONDITION, array) if array.dtype.kind == "f" else array
    bad = ~np.isfinite(numbers) | (numbers != np.floor(numbers))
    if bad.any():
        refuse_value(where, array, bad, "expected whole numbers or texts; number the labels")
    return numbers.astype(np.int64)


def _text(where: str, array: np.ndarray) -> str:
    if array.size != 1 or not isinstance(text := array.item(), str | bytes):
        found = f"an array of {sizes(array.shape)}" if array.size != 1 else repr(array.item())
        raise LFADSError(f"{where} is {found}; expected one text, such as go_cue_time")
    return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _seconds(where: str, array: np.ndarray) -> np.ndarray:
    check_dtype(where, array.dtype)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise LFADSError(f"{where} is no list of finite numbers; expected seconds")
    return array.astype(np.float64)


def _indices(where: str, array: np.ndarray) -> np.ndarray:
    check_dtype(where, array.dtype)
    if array.ndim != 1 or array.dtype.kind == "b":
        found = "a mask" if array.dtype.kind == "b" else sizes(array.shape)
        raise LFADSError(f"{where} is {found}; expected a list of whole numbers, counted from 0")
    bad = ~(array >= 0) | (array != np.floor(array))
    if bad.any():
        refuse_value(where, array, bad, "expected whole numbers, counted from 0")
    return array.astype(np.int64)
