"""The data sets of the Neural Latents Benchmark: what is published of each (Pei et al. 2021).

Events, windows and lags are those of the benchmark's own package, nlb_tools. Bins of 5 ms (or
20 ms) lie on one grid for the whole recording, which begins at 0 s; a window begins with the first
bin at or after its first moment. The 200 ms behind it are forward bins, which are predicted only.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


FORWARD_S = 0.2
SUFFIXES = {0.005: "", 0.02: "_20"}  # of the groups of a submission, by the width of its bins


class DataSet(NamedTuple):
    """A data set of the benchmark.

    Attributes:
        align_to: the event, a column of the trials.
        window_s: what is encoded, from the event; the forward bins follow.
        condition: columns of the trials that make a condition together.
        behaviour: the time series that is decoded, or none.
        behaviour_lag_s: how long after the rates the behaviour is that they are to predict.
    """

    align_to: str
    window_s: tuple[float, float]
    condition: tuple[str, ...] = ()
    behaviour: tuple[str, ...] = ("hand_vel",)
    behaviour_lag_s: float = 0.0


_MAZE = DataSet(
    "move_onset_time", (-0.25, 0.45), ("trial_type", "trial_version"), behaviour_lag_s=0.08
)
DATA_SETS = {
    "mc_maze": _MAZE,
    "mc_rtt": DataSet(
        "start_time", (0.0, 0.6), behaviour=("finger_vel",), behaviour_lag_s=0.12
    ),
    "area2_bump": DataSet(
        "move_onset_time", (-0.1, 0.5), ("cond_dir", "ctr_hold_bump"), behaviour_lag_s=-0.04
    ),
    "dmfc_rsg": DataSet(
        "go_time", (-1.5, 0.0), ("is_eye", "theta", "is_short", "ts"), behaviour=()
    ),
    "mc_maze_large": _MAZE,
    "mc_maze_medium": _MAZE,
    "mc_maze_small": _MAZE,
}  # fmt: skip


def options(name: str) -> dict[str, object]:
    """Return the options of ``lfads prepare`` that a data set stands for.

    >>> options("mc_maze")["window_s"]
    (-0.25, 0.65)
    """
    found = DATA_SETS[name]
    first, last = found.window_s
    return found._asdict() | {
        "window_s": (first, round(last + FORWARD_S, 9)),
        "bin_width_s": 0.005,
        "held_out": "heldout",
        "split_column": "split",
        "min_rate_hz": 0.0,  # a submission has all neurons
    }


def on_grid(times_s: "np.ndarray", bin_width_s: float, tolerance: float) -> "np.ndarray":
    """Return the first edge of the grid of bins at or after each time; NaN stays.

    >>> import numpy as np
    >>> on_grid(np.array([0.0101, 0.015]), 0.005, 1e-6).round(6).tolist()
    [0.015, 0.015]
    """
    import numpy as np  # the settings, which --help reads, do without

    return np.ceil(times_s / bin_width_s - tolerance) * bin_width_s
