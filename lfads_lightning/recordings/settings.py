"""Every option of `lfads prepare`: name, default, meaning. The command line is made from it."""

import dataclasses
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfads_lightning.commands import option, values_of
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings import nlb
from lfads_lightning.runs.web import is_web, name_in

if TYPE_CHECKING:
    from lfads_lightning.data.keywords import Keyword


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How recordings become sessions; all times are in seconds."""

    bin_width_s: float | None = option(
        None, "bin width; for counts: a multiple of the file's (default: the file's)"
    )
    source_bin_width_s: float | None = option(
        None, "bin width of counts in a file that does not say it"
    )
    counts_key: str | None = option(
        None,
        "which array of a .npz or .mat file holds the counts; a field of a structure is named "
        "with a point, as D.data",
    )
    axes: tuple[str, ...] | None = option(
        None,
        "order of the axes of the counts in the file (default: trials bins neurons, or bins "
        "neurons for one continuous recording)",
        choices=("trials", "bins", "neurons"),
    )
    rows: str | None = option(
        None,
        "what a row of a table is: a spike, or a bin with a column for each neuron (default: a "
        "spike, where there is a column of neurons)",
        choices=("spikes", "bins"),
    )
    columns: tuple[str, ...] = option(
        (), "names of the columns of a table that has none, in their order, such as unit time"
    )
    unit_column: str | None = option(None, "column (or key) of the neuron of each spike")
    time_column: str | None = option(None, "column (or key) of the time of each spike")
    trial_column: str | None = option(None, "column (or key) of the trial of each spike")
    time_unit: str | None = option(
        None,
        "unit of all times in the file (default: s, and times that look otherwise are refused); "
        "for sorters' folders: of the tables beside, as spikes are in samples",
        choices=("s", "ms", "us", "samples"),
    )
    sampling_rate_hz: float | None = option(
        None, "samples per second, for --time-unit samples and sorters' folders"
    )
    trials: str | None = option(
        None,
        "trial table: a CSV or parquet file ({name} stands for the recording's), or the name of "
        "an NWB interval table (default: trials)",
    )
    align_to: str | None = option(
        None, "event (column of the trial table) that trials are aligned to"
    )
    window_s: tuple[float, float] | None = option(
        None, "first and last moment of a trial, from the event"
    )
    recording_s: tuple[float, float] | None = option(None, "first and last moment of the recording")
    chop_bins: int | None = option(None, "cut a continuous recording into pieces of this length")
    overlap_bins: int = option(0, "bins that neighbouring pieces share")
    min_rate_hz: float | None = option(
        None,
        "leave out neurons below this rate; of real values, which are 0 between events, events "
        "count: bins that are not 0; constant ones are left out, too; 0 keeps silent ones "
        "(default: refuse these)",
    )
    leave_out: tuple[str, ...] = option((), "neurons to leave out, by their ids")
    unit_quality: tuple[str, ...] = option(
        (),
        "units to take, by what a sorter or a person calls them: good, or good,mua, or all "
        "(default: good of the folders of sorters and ALF, all of others)",
    )
    units: str | None = option(
        None,
        "units to take, by a condition on their columns, such as \"quality == 'good' and depth < "
        '500"; id is their number or name',
    )
    where: str | None = option(
        None,
        'trials to take, by a condition on their columns, such as "success and rt < 600": '
        "comparisons, and, or, not, in ['a', 'b'], parentheses",
    )
    held_out: str | None = option(
        None, "column (or key) that marks held-out neurons (default: held_out or heldout, if there)"
    )
    condition: tuple[str, ...] = option(
        (),
        "column (or key) of conditions (default: condition, if there is one); of several columns, "
        "each combination is a condition",
    )
    behaviour: tuple[str, ...] = option(
        (), "behaviour: NWB time series, or keys, or columns of the behaviour file"
    )
    behaviour_file: str | None = option(
        None, "CSV or parquet file with a column time ({name} stands for the recording's)"
    )
    behaviour_lag_s: float = option(
        0.0,
        "put behaviour beside the spikes of so many seconds earlier (below 0: later), where spikes "
        "come as times",
    )
    drop_nan_behaviour: bool = option(
        False, "drop trials whose behaviour has gaps, instead of refusing them"
    )
    valid_fraction: float = option(0.2, "share of the trials of each condition for validation")
    test_fraction: float = option(0.0, "share of the trials of each condition for a test split")
    split_column: str | None = option(
        None,
        "column that says train, val (valid, validation) or test; trials of other labels are left "
        "out",
    )
    split: str = option(
        "even",
        "how these are chosen: evenly spaced in time, or at random",
        choices=("even", "random"),
    )
    seed: int = option(0, "of the random split")
    nlb: str | None = option(
        None,
        "a data set of the Neural Latents Benchmark, whose NWB file this is: its event, its window "
        "and 200 ms of forward bins, bin width, behaviour, lag, conditions, held-out neurons and "
        "splits; options that are given beside overrule these",
        choices=tuple(nlb.DATA_SETS),
    )

    def __post_init__(self) -> None:
        """Check every value by itself."""
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if values_of(f)[1] and value is not None and not isinstance(value, tuple):
                value = (value,) if not isinstance(value, Iterable | str) else value
                value = (value,) if isinstance(value, str) else tuple(value)
                if f.name == "leave_out":  # ids are numbers or texts
                    value = tuple(str(v) for v in value)
                object.__setattr__(self, f.name, value)
            _check_type(f, value)
        if self.nlb is not None:
            defaults = {f.name: f.default for f in dataclasses.fields(self)}
            for name, value in nlb.options(self.nlb).items():
                if getattr(self, name) == defaults[name]:
                    object.__setattr__(self, name, value)
        if not abs(self.behaviour_lag_s) < float("inf"):
            raise LFADSError(f"behaviour_lag_s is {self.behaviour_lag_s}; expected seconds")
        for name in ("bin_width_s", "source_bin_width_s", "sampling_rate_hz"):
            if (given := getattr(self, name)) is not None and not 0 < given < float("inf"):
                raise LFADSError(f"{name} is {given}; expected a positive number")
        for name in ("window_s", "recording_s"):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and pair[0] < pair[1]):
                raise LFADSError(f"{name} is {pair}; expected two moments, the earlier one first")
        if self.chop_bins is not None and not 0 <= self.overlap_bins < self.chop_bins:
            raise LFADSError(
                f"overlap_bins is {self.overlap_bins}; expected 0 <= overlap_bins < chop_bins = "
                f"{self.chop_bins}"
            )
        if self.chop_bins is None and self.overlap_bins:
            raise LFADSError("overlap_bins is given without chop_bins, the length of a piece")
        if self.chop_bins is not None and (self.align_to or self.window_s):
            raise LFADSError(
                "chop_bins cuts a continuous recording, align_to and window_s cut trials; "
                "give the one or the others"
            )
        fractions = (self.valid_fraction, self.test_fraction)
        if not all(0 <= f < 1 for f in fractions) or sum(fractions) >= 1:
            raise LFADSError(
                f"valid_fraction and test_fraction are {fractions[0]} and {fractions[1]}; expected "
                "shares of 0 or more that leave some trials to train on"
            )
        if self.split_column is not None and (self.valid_fraction, self.test_fraction) != (0.2, 0):
            raise LFADSError(
                "split_column says which trials train and validate; leave out valid_fraction and "
                "test_fraction"
            )
        if self.time_unit == "samples" and self.sampling_rate_hz is None:
            raise LFADSError("time_unit=samples needs sampling_rate_hz, the samples per second")

    @property
    def qualities(self) -> tuple[str, ...]:
        """The labels of the units to take, one by one."""
        return tuple(
            label.strip()
            for text in self.unit_quality
            for label in text.split(",")
            if label.strip()
        )

    @property
    def seconds_per_unit(self) -> float:
        """What a time in the file is multiplied by."""
        if self.time_unit == "samples":
            assert self.sampling_rate_hz is not None
            return 1 / self.sampling_rate_hz
        return {"ms": 1e-3, "us": 1e-6}.get(self.time_unit or "s", 1.0)


def _check_type(f: dataclasses.Field, value: Any) -> None:
    choices, (kind, count) = f.metadata.get("choices"), values_of(f)
    if value is None and f.default is None:
        return
    numbers = (int, float) if kind is float else kind
    for one in value if count else (value,):
        wrong_bool = isinstance(one, bool) and kind is not bool
        if not isinstance(one, numbers) or wrong_bool:
            raise LFADSError(f"{f.name} is {value!r}; expected {kind.__name__}")
        if choices and one not in choices:
            raise LFADSError(f"{f.name} is {one!r}; expected one of {', '.join(choices)}")


def option_keywords() -> "list[Keyword]":
    """Return the options as keywords of `prepare`."""
    # NumPy comes with it; --help does without
    from lfads_lightning.data.keywords import Keyword

    keywords = []
    for f in dataclasses.fields(Settings):
        kind, count = values_of(f)
        choices = f.metadata.get("choices")
        one = f"Literal[{', '.join(map(repr, choices))}]" if choices else kind.__name__
        many = (
            f"tuple[{', '.join([one] * count)}]" if isinstance(count, int) else f"Sequence[{one}]"
        )
        annotation = (many if count else one) + (" | None" if f.default is None else "")
        # as they are typed in Python: --time-unit is time_unit
        doc = re.sub(r"--([a-z][a-z-]*)", lambda m: m[1].replace("-", "_"), f.metadata["doc"])
        keywords.append(Keyword(f.name, annotation, f"{doc[:1].upper()}{doc[1:]}.", f.default))
    return keywords


def settings_from(options: dict[str, Any]) -> Settings:
    """Make settings of keyword arguments.

    Raises:
        LFADSError: no such option, or a wrong value.
    """
    names = [f.name for f in dataclasses.fields(Settings)]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise LFADSError(f"prepare: no option {name}{hint}; they are {', '.join(names)}")
    return Settings(**options)


def session_name(path: str | Path) -> str:
    """Name a session after its recording: a file without its extension, or a folder."""
    path = Path(name_in(str(path)) if is_web(path) else path)
    return path.resolve().name if path.is_dir() else path.stem
