"""The data sets of the Neural Latents Benchmark and their published settings (Pei et al. 2021).

Events, windows and lags are those of the benchmark's own package, nlb_tools. Bins of 5 ms (or
20 ms) lie on one grid for the whole recording, which begins at 0 s; a window begins with the first
bin at or after its start. The 200 ms after the window are forward bins, which are only predicted.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError

if TYPE_CHECKING:
    import numpy as np


FORWARD_S = 0.2
SUFFIXES = {0.005: "", 0.02: "_20"}  # of the groups of a submission, by the width of its bins


_DEPTH = 3  # 000128/sub-Jenkins/sub-Jenkins_ses-full_desc-train_behavior+ecephys.nwb
# their names in the DANDI archive: number of the data set, subject and session
_IN_ARCHIVE = {
    "mc_maze": ("000128", "sub-Jenkins_ses-full"),
    "mc_rtt": ("000129", "sub-Indy"),
    "area2_bump": ("000127", "sub-Han"),
    "dmfc_rsg": ("000130", "sub-Haydn"),
    "mc_maze_large": ("000138", "sub-Jenkins_ses-large"),
    "mc_maze_medium": ("000139", "sub-Jenkins_ses-medium"),
    "mc_maze_small": ("000140", "sub-Jenkins_ses-small"),
}


class DataSet(NamedTuple):
    """A data set of the benchmark.

    Attributes:
        align_to: the event, a column of the trials.
        window_s: the encoded window, relative to the event; the forward bins follow.
        condition: columns of the trials whose combinations are the conditions.
        behaviour: the time series that is decoded, or none.
        behaviour_lag_s: lag of the behaviour after the rates that predict it.
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


def said_by(path: Path, folder: Path | None = None) -> str | None:
    """Return the data set that a file's name or its folders indicate; None if they do not.

    Args:
        path: the file.
        folder: only folders below this one count; None: only the file's name.

    >>> said_by(Path("sub-Jenkins_ses-large_desc-train_behavior+ecephys.nwb"))
    'mc_maze_large'
    >>> said_by(Path("mc_maze_train.nwb"))
    'mc_maze'
    """
    parts = path.relative_to(folder).parts if folder is not None else (path.name,)
    for part in reversed(parts):
        for name, (number, subject) in _IN_ARCHIVE.items():
            if part == number or re.match(rf"{subject}(?![^\W_])", part):
                return name
        spelled = [name for name in DATA_SETS if name in part.lower()]
        if spelled:
            return max(spelled, key=len)  # mc_maze_large is not mc_maze
    return None


def training_file(folder: Path, name: str) -> Path:
    """Return the file of a data set's training and validation trials in a folder, or below it.

    Raises:
        LFADSError: there is none, or more than one.
    """
    found = [
        path
        for path in sorted(folder.rglob("*.nwb"))
        if len(path.relative_to(folder).parts) <= _DEPTH and path.is_file()
    ]
    ours = [path for path in found if said_by(path, folder) == name]
    if not ours:  # a folder of the data set itself, or of one file with another name
        unsaid = [path for path in found if said_by(path, folder) is None]
        ours = unsaid if said_by(folder.resolve()) in (name, None) else []
    ours = [path for path in ours if not re.search(r"(?<![^\W_])test(?![^\W_])", path.name)]
    if len(ours) == 1:
        return ours[0]
    names = [str(path.relative_to(folder)) for path in (ours or found)]
    what = f"several files that may be {name}" if ours else f"no training file of {name}"
    raise LFADSError(
        f"{folder}: holds {what} ({listed(names, 20) if names else 'no .nwb at all'}); expected "
        "one; give the file itself"
    )


def on_grid(times_s: "np.ndarray", bin_width_s: float, tolerance: float) -> "np.ndarray":
    """Return the first edge of the grid of bins at or after each time; NaN stays.

    >>> import numpy as np
    >>> on_grid(np.array([0.0101, 0.015]), 0.005, 1e-6).round(6).tolist()
    [0.015, 0.015]
    """
    import numpy as np  # here, because --help reads this module and does not need NumPy

    return np.ceil(times_s / bin_width_s - tolerance) * bin_width_s
