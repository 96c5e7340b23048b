"""What the readers hand over: spike times on one clock, or counts that are binned already."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Signal(NamedTuple):
    """A behaviour, sampled."""

    name: str
    times_s: np.ndarray  # (S,), rising
    values: np.ndarray  # (S, K)
    names: list[str]  # of the K columns


@dataclass
class Spikes:
    """Spike times of all neurons on one clock.

    Attributes:
        source: file that they came from; error messages begin with it.
        times_s: of each neuron, sorted.
        neuron_ids: (D,).
        trials: columns of the trial table, (E,) each, times in the unit and on the clock of the
            file; None: there are no trials.
        trial_ids: (E,), or None.
        zeros_s: (E,), where each trial's own clock begins, if spikes came cut into trials.
        observed_s: of each neuron, (n, 2), when it was recorded; None: always.
        invalid_s: (n, 2), stretches to leave out.
        signals: behaviours.
        held_out: (D,) booleans, or None.
    """

    source: str
    times_s: list[np.ndarray]
    neuron_ids: np.ndarray
    trials: dict[str, np.ndarray] | None = None
    trial_ids: np.ndarray | None = None
    zeros_s: np.ndarray | None = None
    observed_s: list[np.ndarray] | None = None
    invalid_s: np.ndarray | None = None
    signals: list[Signal] = field(default_factory=list)
    held_out: np.ndarray | None = None


@dataclass
class Binned:
    """Counts (or real values) that came in bins.

    Attributes:
        source: file that they came from.
        key: the array's name there.
        values: (E, T, D); a continuous recording is one trial.
        bin_width_s: None where the file does not say.
        neuron_ids: (D,).
        is_continuous: the values are one recording, to be chopped.
        per_trial: other arrays with one row per trial, (E, ...).
        held_out: (D,) booleans, or None.
    """

    source: str
    key: str
    values: np.ndarray
    bin_width_s: float | None
    neuron_ids: np.ndarray
    is_continuous: bool = False
    per_trial: dict[str, np.ndarray] = field(default_factory=dict)
    held_out: np.ndarray | None = None


@dataclass
class Cut:
    """Trials of equal length, whose counts are made a few trials at a time.

    Attributes:
        source: file that they came from.
        n_bins: T.
        bin_width_s: None where nobody said.
        neuron_ids: (D,).
        numbers: (E,), trials (or chops) of the source, counted from 0.
        counts: gives the (n, T, D) counts of the trials at these n positions of ``numbers``.
        per_trial: arrays (E, ...) that are stored for each split.
        constants: arrays and texts that are stored once.
        held_out: (D,) booleans, or None.
        n_together: neighbouring trials that go into one split: chops share bins.
        notes: what was left out, and why.
        usable: (E,), False for trials to leave out; None: all are used.
    """

    source: str
    n_bins: int
    bin_width_s: float | None
    neuron_ids: np.ndarray
    numbers: np.ndarray
    counts: Callable[[np.ndarray], np.ndarray]
    per_trial: dict[str, np.ndarray] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    held_out: np.ndarray | None = None
    n_together: int = 1
    notes: list[str] = field(default_factory=list)
    usable: np.ndarray | None = None
