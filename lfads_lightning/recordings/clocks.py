"""Times that do not rise as a clock does: refused where a clock starts again, else told."""

import warnings
from collections.abc import Sequence

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import listed

# of the steps of a list of times: a clock that starts again steps back now and then, rows in no
# order every second time
SHUFFLED = 0.2


def rising(times: Sequence[np.ndarray], ids: np.ndarray, source: str) -> list[np.ndarray]:
    """Sort each neuron's times, in the order in which the file has them.

    Rows in no order at all are sorted without a word.

    Raises:
        LFADSError: the times of most neurons run back now and then: their clock started again.
    """
    sorted_times, back = [], []
    for unit, own in zip(ids.tolist(), times, strict=True):
        own = np.asarray(own, np.float64)
        with np.errstate(invalid="ignore"):  # what is not finite is refused later
            steps = np.diff(own)
        at = np.flatnonzero(steps < 0)
        if len(at) and len(at) <= max(SHUFFLED * len(steps), 1):
            back.append((unit, len(at), own[at[0]], own[at[0] + 1]))
        sorted_times.append(np.sort(own) if len(at) or np.isnan(own).any() else own)
    if back:
        unit, n, before, after = back[0]
        found = (
            f"{source}: the spike times of {len(back)} of {len(times)} units run backwards: unit "
            f"{unit} {n} times, first from {before:.9g} to {after:.9g}"
        )
        n_filled = sum(len(own) > 1 for own in times)
        if len(back) > n_filled / 2:
            raise LFADSError(
                f"{found}; expected one clock for the whole recording; if it started again, add "
                "to each part its start, or prepare the parts apart; if times are counted from "
                "the start of each trial, say whose they are (a column trial; in MATLAB neurons × "
                "trials cells)"
            )
        warnings.warn(
            f"{found}; they are sorted, which is right where two units were merged, and wrong "
            f"where a clock started again; look at units {listed([b[0] for b in back])}",
            stacklevel=3,
        )
    return sorted_times


def warn_of_order(name: str, times: np.ndarray, source: str) -> None:
    """Warn of trials whose times run backwards now and then.

    Args:
        name: of their column.
        times: (E,), NaN aside.
        source: named in the warning.
    """
    known = np.flatnonzero(np.isfinite(times))
    steps = np.diff(times[known])
    at = np.flatnonzero(steps < 0)
    if len(at) and len(at) <= max(SHUFFLED * len(steps), 1):
        i = known[at[0] + 1]
        warnings.warn(
            f"{source}: {name} runs backwards {len(at)} times, first in trial {i} (from "
            f"{times[known[at[0]]]:.9g} to {times[i]:.9g}); expected one clock for all trials; if "
            "it started again there, add to each part its start, or prepare the parts apart",
            stacklevel=3,
        )


def check_intervals(pairs: np.ndarray, where: str) -> None:
    """Refuse intervals (n, 2) that end before they begin.

    Raises:
        LFADSError: one does.
    """
    bad = np.flatnonzero(pairs[:, 1] < pairs[:, 0])
    if len(bad):
        begin, end = pairs[bad[0]]
        raise LFADSError(
            f"{where}: interval {bad[0]} is from {begin:.9g} to {end:.9g}; expected an end after "
            "each beginning; mend it"
        )
