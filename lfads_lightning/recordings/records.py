"""The records that pass between the steps: what a reader returns, and what trials are.

E trials, T bins, D neurons. A reader fills in a :class:`Recording`; everything else is done
elsewhere, in the same way for every format.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Signal(NamedTuple):
    """A behaviour, sampled."""

    name: str
    times: np.ndarray  # (S,), rising, in the file's unit of time
    values: np.ndarray  # (S, K)
    names: list[str]  # of the K columns


@dataclass
class Units:
    """The neurons of a recording.

    Attributes:
        ids: (D,) numbers or texts, each once.
        columns: properties, (D,) each, by name: depth, channel, ...
        quality: (D,) texts, the label by a sorter or a person ("good"); None: there are none.
        usual_quality: labels of the units used unless ``unit_quality`` is given; empty: all.
        held_out: (D,) booleans, if a reader finds them outside ``columns``.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    quality: np.ndarray | None = None
    usual_quality: tuple[str, ...] = ()
    held_out: np.ndarray | None = None


@dataclass
class Spikes:
    """Spike times as in the file: in its own unit and order.

    Attributes:
        times: spike times of each neuron.
        trials: the trial of each spike, per neuron, if times count from the beginning of each
            trial; None: all are on one clock.
        trial_ids: (E,), all trials; None: those of the spikes.
        seconds_per_unit: time unit of ``times``; None: given by ``time_unit``.
        observed: (n, 2) intervals in which each neuron was recorded; None: always.
        invalid: (n, 2) intervals to leave out.
        key: where in the file the times lie, for error messages.
    """

    times: list[np.ndarray]
    trials: list[np.ndarray] | None = None
    trial_ids: np.ndarray | None = None
    seconds_per_unit: float | None = None
    observed: list[np.ndarray] | None = None
    invalid: np.ndarray | None = None
    key: str = ""


@dataclass
class Counts:
    """Counts (or real values) that are given in bins.

    Attributes:
        key: the array's name in the file.
        values: (E, T, D); a continuous recording is one trial. NaN marks missing entries.
        bin_width_s: None if the file does not say.
        is_continuous: whether the values are one recording, to be chopped.
        lengths: (E,), the bins of each trial, followed by 0. None: all have T, or NaN marks their
            ends.
        start: the time of the first bin of a continuous recording, in the file's unit.
    """

    key: str
    values: np.ndarray
    bin_width_s: float | None
    is_continuous: bool = False
    lengths: np.ndarray | None = None
    start: float = 0.0


@dataclass
class Recording:
    """Everything that a reader finds; times are in the file's unit.

    Attributes:
        source: the file; error messages begin with it.
        units: the neurons.
        activity: their spike times or counts.
        trials: columns of the trial table, (E, ...) each; with counts also (E, T, ...).
        trial_ids: (E,), the source's names of the trials.
        other_columns: columns (n,) outside the trial table; those with n = E describe trials.
        signals: the behaviours asked for.
        trials_are_named: whether ``trials`` is the table in the file that the option names.
    """

    source: str
    units: Units
    activity: Spikes | Counts
    trials: dict[str, np.ndarray] | None = None
    trial_ids: np.ndarray | None = None
    other_columns: dict[str, np.ndarray] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    trials_are_named: bool = False


class Timeline(NamedTuple):
    """Spike times of all neurons on one clock, in seconds.

    Attributes:
        source: file that they came from; error messages begin with it.
        times_s: spike times of each neuron, sorted.
        neuron_ids: (D,).
        trials: columns of the trial table, (E,) each, in the unit and on the clock of the file;
            None: there are no trials.
        trial_ids: (E,), or None.
        zeros_s: (E,), start of each trial's own clock, if spikes were given by trial.
        observed_s: (n, 2) intervals in which each neuron was recorded; None: always.
        invalid_s: (n, 2) intervals to leave out.
        signals: behaviours, with times in seconds.
        unit_is_known: whether the unit of the spike times was given.
    """

    source: str
    times_s: list[np.ndarray]
    neuron_ids: np.ndarray
    trials: dict[str, np.ndarray] | None
    trial_ids: np.ndarray | None
    zeros_s: np.ndarray | None
    observed_s: list[np.ndarray] | None
    invalid_s: np.ndarray | None
    signals: list[Signal]
    unit_is_known: bool


@dataclass
class Cut:
    """Trials, whose counts are made a few at a time.

    Attributes:
        source: file that they came from.
        n_bins: T, of the longest trial.
        bin_width_s: None if it is not known.
        neuron_ids: (D,).
        numbers: (E,), trials (or chops) of the source, counted from 0.
        counts: returns the counts (n, T, D) of the trials at n positions of ``numbers``; 0 where
            nothing was recorded.
        per_trial: arrays (E, ...) that are stored for each split.
        constants: arrays and texts that are stored once.
        held_out: (D,) booleans, or None.
        n_together: neighbouring trials that go into one split: chops share bins.
        notes: what was left out, and why.
        usable: (E,), False for trials to leave out; None: all are used.
        lengths: (E,), the bins of each trial; counts after them are 0. None: all have T.
        present: (E, T, D) booleans, the recorded entries; None: all entries within trials.
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
    lengths: np.ndarray | None = None
    present: np.ndarray | None = None

    @property
    def n_entries(self) -> np.ndarray:
        """The number of bins, over all trials, in which each neuron was recorded, (D,)."""
        if self.present is not None:
            return self.present.sum((0, 1))
        every = len(self.numbers) * self.n_bins
        n = every if self.lengths is None else int(self.lengths.sum())
        return np.full(len(self.neuron_ids), n)
