"""The kinds of values in a session: how each is checked, and in which type it is held."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import check_dtype, refuse_value, sizes

NO_CONDITION = -1


class Kind(NamedTuple):
    """A kind of values.

    Attributes:
        name: Its name in the documentation.
        hold: Returns an array in the type it is held in, or refuses it; its arguments are the name
            of the array for messages, the array, and a hint of what is expected.
        annotation: Type of a keyword of this kind, for signatures.
        may_be_text: Whether a file may store it as text.
    """

    name: str
    hold: Callable[[str, np.ndarray, str], Any]
    annotation: str = "ArrayLike"
    may_be_text: bool = False


def has_condition(condition: np.ndarray) -> np.ndarray:
    """Return which trials (E,) belong to a condition."""
    return condition != "" if condition.dtype.kind == "U" else condition >= 0


def _as_stored(where: str, array: np.ndarray, hint: str) -> np.ndarray:
    check_dtype(where, array.dtype)
    return array


def _whole_numbers(where: str, array: np.ndarray, hint: str) -> np.ndarray:
    check_dtype(where, array.dtype)
    if array.ndim != 1 or array.dtype.kind == "b":
        found = "a mask" if array.dtype.kind == "b" else sizes(array.shape)
        raise LFADSError(f"{where} is {found}; expected a list of whole numbers, counted from 0")
    bad = ~(array >= 0) | (array != np.floor(array))
    if bad.any():
        refuse_value(where, array, bad, "expected whole numbers, counted from 0")
    return array.astype(np.int64)


def _zero_or_one(where: str, array: np.ndarray, hint: str) -> np.ndarray:
    check_dtype(where, array.dtype)
    if array.dtype.kind == "b":
        return array
    bad = (array != 0) & (array != 1)
    if bad.any():
        refuse_value(where, array, bad, "expected 1 where an entry is present, 0 where missing")
    return array.astype(bool)


def _names(where: str, array: np.ndarray, hint: str) -> np.ndarray:
    """Return numbers as int64, strings unchanged."""
    if array.dtype.kind == "O" and all(isinstance(x, str) or x is None for x in array.flat):
        array = np.array([x or "" for x in array.flat], dtype=str).reshape(array.shape)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind not in "iuf":
        raise LFADSError(
            f"{where} holds values of type {array.dtype}; expected whole numbers or text (convert "
            "a MATLAB cell array to numbers, with findgroups or grp2idx)"
        )
    numbers = np.where(np.isnan(array), NO_CONDITION, array) if array.dtype.kind == "f" else array
    bad = ~np.isfinite(numbers) | (numbers != np.floor(numbers))
    if bad.any():
        refuse_value(where, array, bad, "expected whole numbers or text; number the labels")
    return numbers.astype(np.int64)


def _seconds(where: str, array: np.ndarray, hint: str) -> np.ndarray:
    check_dtype(where, array.dtype)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise LFADSError(f"{where} is not a list of finite numbers; expected seconds")
    return array.astype(np.float64)


def _one_text(where: str, array: np.ndarray, hint: str) -> str:
    if array.size != 1 or not isinstance(text := array.item(), str | bytes):
        found = f"an array of {sizes(array.shape)}" if array.size != 1 else repr(array.item())
        raise LFADSError(f"{where} is {found}; {_expected('one text', hint)}")
    return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _one_positive_number(where: str, array: np.ndarray, hint: str) -> float:
    if array.dtype.kind not in "iuf" or array.size != 1 or not 0 < array.item() < math.inf:
        found = array.item() if array.size == 1 else f"an array of {sizes(array.shape)}"
        raise LFADSError(f"{where} is {found}; {_expected('one positive number', hint)}")
    return float(array.item())


def _expected(what: str, hint: str) -> str:
    return f"expected {what}" + (f", {hint}" if hint else "")


DATA = Kind("counts or real numbers", _as_stored)
REAL = Kind("real numbers", _as_stored)
WHOLE_NUMBERS = Kind("whole numbers", _whole_numbers)
ZERO_OR_ONE = Kind("0 or 1", _zero_or_one)
NAMES = Kind("whole numbers or text", _names, may_be_text=True)
SECONDS = Kind("seconds", _seconds)
ONE_TEXT = Kind("one text", _one_text, "str", may_be_text=True)
ONE_POSITIVE_NUMBER = Kind("one number", _one_positive_number, "float")
