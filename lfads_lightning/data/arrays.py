"""Arrays as users give them: checks of type and values, with messages that name the array."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.config import LFADSError, OutputDist
from lfads_lightning.data.values import mark_of_missing, step_between

MAX_COUNT = 2**32 - 1


# beginnings of the names of the axes: trials, bins, neurons
NAMED_AXES = (
    ("trial", "epoch"),
    ("time", "bin", "frame"),
    ("neuron", "unit", "channel", "cell", "electrode", "roi", "cluster"),
)


class Blocks(NamedTuple):
    """An array that is made while it is written, so that it is never in memory as a whole.

    Attributes:
        shape: shape of the whole array.
        dtype: its type.
        make: yields its rows in order, in blocks.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], Iterable[np.ndarray]]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


def as_array(source: str, key: str, value: ArrayLike | Blocks) -> np.ndarray:
    """View anything array-like as an array.

    Raises:
        LFADSError: it is not an array, or it would lose its mask.
    """
    if isinstance(value, Blocks):
        return value  # type: ignore[return-value]  # has what is asked of one: shape, ndim, dtype
    where = f"{source}: {key}"
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        n = int(np.ma.getmaskarray(value).sum())
        raise LFADSError(
            f"{where} is a masked array, with {n} of {value.size} entries masked; masks are not "
            "supported here; leave out these trials or neurons, or give x.filled(0) if 0 is meant"
        )
    value = _plain(value)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        lengths = _lengths(value)
        if len(lengths) > 1:
            raise LFADSError(
                f"{where} is not an array of numbers: its trials differ in length (from "
                f"{lengths[0]} to {lengths[-1]} bins); expected E×T×D; cut them alike: "
                f"[x[:{lengths[0]}] for x in trials]"
            ) from error
        widths = _widths(value)
        if len(widths) > 1:
            raise LFADSError(
                f"{where} is not an array of numbers: its trials have {widths[0]} to {widths[-1]} "
                "columns; expected bins × neurons; if they are neurons × bins, give [x.T for x in "
                "trials]"
            ) from error
        if hasattr(value, "detach"):
            raise LFADSError(
                f"{where} is a tensor that NumPy cannot view; give x.detach().cpu().numpy()"
            ) from error
        raise LFADSError(f"{where} is not an array of numbers ({error})") from error


def _plain(value: Any) -> Any:
    """Make a sparse matrix dense, put named axes in our order, detach a tensor from its graph."""
    for fill_in in ("toarray", "todense"):
        if hasattr(value, fill_in):
            return getattr(value, fill_in)()
    if (axes := _axes_of(value)) is not None:
        return value.transpose(*axes)
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        return value.detach().cpu()
    return value


def _lengths(value: object) -> list[int]:
    """Return the sorted lengths of the items of a list; empty if it is not a list of arrays."""
    if not isinstance(value, list | tuple):
        return []
    return sorted({len(item) for item in value if hasattr(item, "__len__")})


def _widths(value: object) -> list[int]:
    """Return the sorted numbers of columns of the items of a list of matrices."""
    items = value if isinstance(value, list | tuple) else []
    return sorted({x.shape[1] for x in items if len(getattr(x, "shape", ())) == 2})


def _axes_of(value: object) -> list[str] | None:
    """Return the names of an array's axes in our order, if all are named and the order differs."""
    dims = getattr(value, "dims", None)
    if not isinstance(dims, tuple) or len(dims) not in (2, 3) or not hasattr(value, "transpose"):
        return None
    found = [
        [d for d in dims if str(d).lower().startswith(words)]
        for words in NAMED_AXES[3 - len(dims) :]
    ]
    if not all(len(names) == 1 for names in found):
        return None
    wanted = [str(names[0]) for names in found]
    return None if wanted == [str(d) for d in dims] else wanted


def sizes(shape: tuple[int, ...]) -> str:
    """Write a shape as 40×50×30."""
    return "×".join(map(str, shape)) or "a scalar"


def check_dtype(where: str, dtype: np.dtype) -> None:
    """Refuse all but booleans, integers and real numbers."""
    if dtype.kind not in "biuf":
        kinds = {"c": "complex numbers", "S": "text", "U": "text", "O": "text or objects"}
        found = kinds.get(dtype.kind, f"values of type {dtype}")
        raise LFADSError(f"{where} holds {found}; expected an array of real numbers")


def to_float(where: str, array: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Hold finite values as `dtype`, without a copy if they already are."""
    with np.errstate(over="ignore"):
        values = array.astype(dtype, order="C", copy=False)
    check_finite(where, values)
    return values


def check_finite(where: str, array: np.ndarray) -> None:
    """Refuse NaN and infinity."""
    # minimum and maximum show NaN and infinity, without a mask as large as the array
    if not np.isfinite([array.min(), array.max()]).all():
        expected = f"all values must be finite in {array.dtype}; fix them or leave the trial out"
        refuse_value(where, array, ~np.isfinite(array), expected)


def to_counts(where: str, array: np.ndarray) -> np.ndarray:
    """Hold counts as the smallest unsigned integer type, without a copy if they already are."""
    counts = as_counts(array)
    if counts is not None:
        return counts
    gaussian = "if these are real values, set model.output_dist=gaussian"
    faults: tuple[tuple[Callable[[np.ndarray], np.ndarray], str], ...] = (
        (lambda x: ~np.isfinite(x), "counts must be finite; fix them or leave the trial out"),
        (lambda x: x < 0, f"counts per bin cannot be negative; {gaussian}"),
        (lambda x: x > MAX_COUNT, f"counts cannot exceed {MAX_COUNT}; {gaussian}"),
        (
            lambda x: x != np.floor(x),
            f"expected whole counts; {gaussian}; remove rounding errors of counts with numpy.rint",
        ),
    )
    if np.isfinite([array.min(), array.max()]).all():
        if (mark := mark_of_missing(array)) is not None:
            raise LFADSError(f"{where} holds {mark}; write NaN instead, or crop all trials")
        if (step := step_between(array)) is not None:
            raise LFADSError(
                f"{where}: all values are multiples of {step:.6g}, as spikes per second are; "
                f"expected counts; multiply by the bin width in seconds ({1 / step:.6g}?), and "
                "round (numpy.rint)"
            )
    bad, expected = next((m, text) for fault, text in faults if (m := fault(array)).any())
    refuse_value(where, array, bad, expected)


def as_counts(array: np.ndarray) -> np.ndarray | None:
    """Cast to the smallest of uint8, uint16 and uint32, or return None if values would change."""
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= MAX_COUNT):  # in this form, NaN fails too
        return None
    counts = array.astype(np.min_scalar_type(int(high)), order="C", copy=False)
    if array.dtype.kind != "f":
        return counts
    # row by row, without a mask as large as the array
    same = all(np.array_equal(a, b) for a, b in zip(counts, array, strict=True))
    return counts if same else None


def check_range(where: str, array: np.ndarray, output_dist: OutputDist) -> None:
    """Refuse values of 0 or less for which a noise model has no density; NaN passes.

    Raises:
        LFADSError: there is such a value; the message names a noise model that allows it.
    """
    low = np.nanmin(array)
    if low < 0 and not output_dist.takes_negative:
        expected = f"model.output_dist={output_dist.name} takes {output_dist.value[1]}; for values "
        refuse_value(where, array, array < 0, f"{expected}below 0 set model.output_dist=gaussian")
    if low == 0 and not output_dist.takes_zero:
        refuse_value(
            where,
            array,
            array == 0,
            f"model.output_dist={output_dist.name} takes {output_dist.value[1]}; for values with "
            "zeros set model.output_dist=zero_inflated_gamma",
        )


def refuse_value(where: str, array: np.ndarray, bad: np.ndarray, expected: str) -> NoReturn:
    """Refuse bad values, and name the first."""
    index = np.unravel_index(int(np.argmax(bad)), bad.shape)
    raise LFADSError(f"{where}[{', '.join(map(str, index))}] is {array[index]}; {expected}")
