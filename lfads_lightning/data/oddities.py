"""Data that are probably wrong: swapped axes, a wrong bin width, channels of different scales.

None of it is certain: `lfads check` notes it, training and `write_session` warn about it.
"""

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.data.arrays import sizes
from lfads_lightning.data.orientation import AXES, likely_axes, question, transposition
from lfads_lightning.data.values import is_constant, mark_of_missing, step_between

HIGH_HZ, LOW_HZ = 500.0, 0.1  # of the median neuron, of the most active neuron
HIGH_COUNT = 50.0  # per bin, if the bin width is not known
SCALES = 100.0  # ratio of a channel's standard deviation to the typical one


def axes_note(key: str, data: np.ndarray) -> list[str]:
    """Return a note if an array (E, T, D) seems to have its axes in another order.

    Args:
        key: name of the array.
        data: an array with three axes.
    """
    axes = likely_axes(data)
    if axes is None:
        return []
    return [
        f"{key} is {sizes(data.shape)}, and {question(axes)}; expected {' × '.join(AXES)}; if it "
        f"is {' × '.join(axes)}, transpose it: numpy.transpose({key}, {transposition(axes)})"
    ]


def notes_on(
    data: np.ndarray, bin_width_s: float | None, is_counts: bool, ids: np.ndarray | None = None
) -> list[str]:
    """Return notes on values of a split that are probably mistakes.

    Args:
        data: (E, T, D).
        bin_width_s: seconds; None: not known.
        is_counts: whether the values are used as counts.
        ids: (D,), names of the neurons.
    """
    if not data.size or not np.isfinite([data.min(), data.max()]).all():
        return []
    notes = []
    if (mark := mark_of_missing(data)) is not None:
        notes.append(f"the data hold {mark}; write NaN instead, or crop all trials")
    step = step_between(data, bin_width_s)
    if step is not None:
        notes.append(
            f"all values are multiples of {step:.6g}, so they look like spikes per second (counts "
            f"divided by a bin width of {1 / step:.6g} s) or scaled counts; expected spikes per "
            f"bin; divide the values by {step:.6g}"
        )
    if is_counts:
        means = data.mean((0, 1), dtype=np.float64)
        notes += [] if step is not None else rate_notes(means, bin_width_s)
    else:
        ids = np.arange(data.shape[2]) if ids is None else ids
        notes += scale_notes(data.std((0, 1), dtype=np.float64), ~is_constant(data), ids)
    return notes


def rate_notes(means: np.ndarray, bin_width_s: float | None) -> list[str]:
    """Return a note if rates are implausible for neurons.

    Args:
        means: (D,), spikes per bin.
        bin_width_s: seconds; None: not known.
    """
    median, highest = float(np.median(means)), float(means.max())
    if bin_width_s is None:
        if median <= HIGH_COUNT:
            return []
        return [
            f"the median neuron has {median:.4g} spikes per bin; if these are not counts, but "
            "fluorescence or other real values, train with model.output_dist=gaussian"
        ]
    if median / bin_width_s > HIGH_HZ:
        return [
            f"the median rate is {median / bin_width_s:.4g} Hz, which is too high for neurons; "
            f"check the bin width ({bin_width_s:g} s), and whether these are counts at all"
        ]
    if 0 < highest / bin_width_s < LOW_HZ:
        return [
            f"the highest rate is only {highest / bin_width_s:.3g} Hz; check the bin width "
            f"({bin_width_s:g} s) and the unit of times: both are read as seconds"
        ]
    return []


def scale_notes(sds: np.ndarray, varies: np.ndarray, ids: np.ndarray) -> list[str]:
    """Return notes on channels of real values that are constant, or differ in scale.

    Args:
        sds: (D,), standard deviations.
        varies: (D,), False where a channel is constant.
        ids: (D,), names of the channels.
    """
    notes = []
    if not varies.all():
        notes.append(
            f"{(~varies).sum()} channels are constant ({listed(ids[~varies].tolist(), 10)}): leave "
            "them out"
        )
    sds, ids = sds[varies], ids[varies]
    if len(sds) < 2:
        return notes
    typical = float(np.median(sds))
    far = (sds > SCALES * typical) | (sds < typical / SCALES)
    if far.any() or sds.max() > 10 * SCALES * sds.min():
        odd = ids[far].tolist() or [ids[int(np.argmax(sds))]]
        notes.append(
            f"channels differ in scale: their standard deviations are {sds.min():.3g} to "
            f"{sds.max():.3g} (far from the others: {listed(odd, 10)}), so that one channel would "
            "outweigh all others; z-score each, or leave these out"
        )
    return notes
