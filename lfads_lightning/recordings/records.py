"""What a reader hands over, and what trials are: the records between the steps.

E trials, T bins, D neurons. A reader fills in a :class:`Recording`; all else is done with it
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
        quality: (D,) texts, what a sorter or a person calls each ("good"); None: nobody said.
        usual_quality: those taken unless ``unit_quality`` says otherwise; empty: all.
        held_out: (D,) booleans, where a reader finds them elsewhere than in ``columns``.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    quality: np.ndarray | None = None
    usual_quality: tuple[str, ...] = ()
    held_out: np.ndarray | None = None


@dataclass
class Spikes:
    """Spike times as the file has them: in its own unit, in its own order.

    Attributes:
        times: of each neuron.
        trials: of each neuron, the trial of each spike, where times count from the beginning of
            each trial; None: all are on one clock.
        trial_ids: (E,), the trials there are; None: those of the spikes.
        seconds_per_unit: of ``times``; None: as ``time_unit`` says.
        observed: of each neuron, (n, 2), when it was recorded; None: always.
        invalid: (n, 2), stretches to leave out.
        key: where in the file the times lie, for errors.
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
    """Counts (or real values) that came in bins.

    Attributes:
        key: the array's name in the file.
        values: (E, T, D); a continuous recording is one trial. NaN is what was not recorded.
        bin_width_s: None where the file does not say.
        is_continuous: the values are one recording, to be chopped.
        lengths: (E,), the bins of each trial; what lies behind them is 0. None: all have T, or NaN
            says where they end.
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
    """All that a reader finds; times are in the file's unit.

    Attributes:
        source: the file; error messages begin with it.
        units: the neurons.
        activity: their spike times or counts.
        trials: columns of the trial table, (E, ...) each; beside counts also (E, T, ...).
        trial_ids: (E,), the source's names of the trials.
        beside: other columns, (n,) each; those with an entry per trial describe trials.
        signals: the behaviours asked for.
        trials_are_named: ``trials`` is the table inside the file that the option ``trials`` named.
    """

    source: str
    units: Units
    activity: Spikes | Counts
    trials: dict[str, np.ndarray] | None = None
    trial_ids: np.ndarray | None = None
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    trials_are_named: bool = False


class Timeline(NamedTuple):
    """Spike times of all neurons on one clock, in seconds.

    Attributes:
        source: file that they came from; error messages begin with it.
        times_s: of each neuron, sorted.
        neuron_ids: (D,).
        trials: columns of the trial table, (E,) each, in the unit and on the clock of the file;
            None: there are no trials.
        trial_ids: (E,), or None.
        zeros_s: (E,), where each trial's own clock begins, if spikes came cut into trials.
        observed_s: of each neuron, (n, 2), when it was recorded; None: always.
        invalid_s: (n, 2), stretches to leave out.
        signals: behaviours, their times in seconds.
        unit_is_known: somebody said what the times of spikes are in.
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
        n_bins: T, of the longest.
        bin_width_s: None where nobody said.
        neuron_ids: (D,).
        numbers: (E,), trials (or chops) of the source, counted from 0.
        counts: gives the (n, T, D) counts of the trials at these n positions of ``numbers``; 0
            where nothing was recorded.
        per_trial: arrays (E, ...) that are stored for each split.
        constants: arrays and texts that are stored once.
        held_out: (D,) booleans, or None.
        n_together: neighbouring trials that go into one split: chops share bins.
        notes: what was left out, and why.
        usable: (E,), False for trials to leave out; None: all are used.
        lengths: (E,), the bins of each trial; counts behind them are 0. None: all have T.
        present: (E, T, D) booleans, what was recorded; None: all that lies within trials.
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
        """The bins, of all trials together, in which each neuron was recorded, (D,)."""
        if self.present is not None:
            return self.present.sum((0, 1))
        every = len(self.numbers) * self.n_bins
        n = every if self.lengths is None else int(self.lengths.sum())
        return np.full(len(self.neuron_ids), n)
