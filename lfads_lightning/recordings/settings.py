"""The options of `lfads prepare`: name, default, meaning. The command line is made from them."""

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
    """How recordings are converted to sessions; all times are in seconds."""

    bin_width_s: float | None = option(
        None, "bin width; for binned counts, a multiple of the file's (default: the file's)"
    )
    source_bin_width_s: float | None = option(
        None, "bin width of the counts in the file, if the file does not say"
    )
    counts_key: str | None = option(
        None,
        "array of a .npz or .mat file that holds the counts; for a field of a structure, write "
        "D.data",
    )
    axes: tuple[str, ...] | None = option(
        None,
        "order of the axes of the counts in the file (default: trials bins neurons, or bins "
        "neurons for one continuous recording)",
        choices=("trials", "bins", "neurons"),
    )
    rows: str | None = option(
        None,
        "what a row of a table is: one spike, or one bin with a column per neuron (default: a "
        "spike, if there is a column of neurons)",
        choices=("spikes", "bins"),
    )
    columns: tuple[str, ...] = option(
        (), "column names for a table without a header, in order, such as unit time"
    )
    unit_column: str | None = option(None, "column (or key) with the neuron of each spike")
    time_column: str | None = option(None, "column (or key) with the time of each spike")
    trial_column: str | None = option(None, "column (or key) with the trial of each spike")
    time_unit: str | None = option(
        None,
        "unit of all times in the file (default: s; times that look like another unit are "
        "refused); for sorters' folders, whose spikes are in samples: of the other tables",
        choices=("s", "ms", "us", "samples"),
    )
    sampling_rate_hz: float | None = option(
        None, "samples per second, for --time-unit samples and sorters' folders"
    )
    trials: str | None = option(
        None,
        "trial table: a CSV or parquet file ({name} is replaced by the recording's name), or the "
        "name of an NWB interval table (default: trials)",
    )
    align_to: str | None = option(
        None, "event (column of the trial table) to which trials are aligned"
    )
    window_s: tuple[float, float] | None = option(
        None, "start and end of each trial, relative to the event"
    )
    recording_s: tuple[float, float] | None = option(None, "start and end of the recording")
    chop_bins: int | None = option(
        None, "cut a continuous recording into chops (pieces) of this length"
    )
    overlap_bins: int = option(0, "overlap of neighbouring chops")
    min_rate_hz: float | None = option(
        None,
        "leave out neurons below this rate; for real values that are 0 between events, the rate "
        "is that of bins other than 0. Constant neurons are left out too. 0 keeps silent neurons "
        "(default: they are an error)",
    )
    leave_out: tuple[str, ...] = option((), "ids of neurons to leave out")
    unit_quality: tuple[str, ...] = option(
        (),
        "units to use, by the label that a sorter or a person gave them: good, or good,mua, or all "
        "(default: good for sorters' folders and ALF, all for others)",
    )
    units: str | None = option(
        None,
        "units to use, as a condition on their columns, such as \"quality == 'good' and depth < "
        '500"; id is the number or name of a unit',
    )
    where: str | None = option(
        None,
        'trials to use, as a condition on their columns, such as "success and rt < 600"; it can '
        "contain comparisons, and, or, not, in ['a', 'b'], parentheses",
    )
    held_out: str | None = option(
        None,
        "column (or key) that marks held-out neurons (default: held_out or heldout, if present)",
    )
    condition: tuple[str, ...] = option(
        (),
        "column (or key) with the condition of each trial (default: condition, if present); if "
        "several are given, each combination is a condition",
    )
    behaviour: tuple[str, ...] = option(
        (), "behaviour: NWB time series, or keys, or columns of the behaviour file"
    )
    behaviour_file: str | None = option(
        None,
        "CSV or parquet file with a column time ({name} is replaced by the recording's name)",
    )
    behaviour_lag_s: float = option(
        0.0,
        "lag of the behaviour: each bin of spikes gets the behaviour of so many seconds later "
        "(below 0: earlier); only for spike times",
    )
    drop_nan_behaviour: bool = option(
        False, "drop trials with gaps in their behaviour, instead of stopping with an error"
    )
    valid_fraction: float = option(0.2, "fraction of the trials of each condition for validation")
    test_fraction: float = option(0.0, "fraction of the trials of each condition for a test split")
    split_column: str | None = option(
        None,
        "column with the split of each trial: train, val (valid, validation) or test; trials with "
        "other labels are left out",
    )
    split: str = option(
        "even",
        "how validation and test trials are chosen: evenly spaced in time, or at random",
        choices=("even", "random"),
    )
    seed: int = option(0, "seed of the random split")
    nlb: str | None = option(
        None,
        "the data set of the Neural Latents Benchmark that this NWB file is from. Sets the event, "
        "the window with 200 ms of forward bins, bin width, behaviour, lag, conditions, held-out "
        "neurons and splits of the benchmark; other options that you give override these",
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
                raise LFADSError(f"{name} is {pair}; expected two times, the earlier one first")
        if self.chop_bins is not None and not 0 <= self.overlap_bins < self.chop_bins:
            raise LFADSError(
                f"overlap_bins is {self.overlap_bins}; expected 0 <= overlap_bins < chop_bins = "
                f"{self.chop_bins}"
            )
        if self.chop_bins is None and self.overlap_bins:
            raise LFADSError("overlap_bins is given without chop_bins, the length of a chop")
        if self.chop_bins is not None and (self.align_to or self.window_s):
            raise LFADSError(
                "chop_bins cuts a continuous recording into pieces, align_to and window_s cut it "
                "into trials; give only one of the two"
            )
        fractions = (self.valid_fraction, self.test_fraction)
        if not all(0 <= f < 1 for f in fractions) or sum(fractions) >= 1:
            raise LFADSError(
                f"valid_fraction and test_fraction are {fractions[0]} and {fractions[1]}; expected "
                "fractions of 0 or more that leave some trials for training"
            )
        if self.split_column is not None and (self.valid_fraction, self.test_fraction) != (0.2, 0):
            raise LFADSError(
                "split_column says which trials are for training and validation; leave out "
                "valid_fraction and test_fraction"
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
        """The factor that converts times of the file to seconds."""
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
    # imports NumPy, which --help does not need
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
    """Make settings from keyword arguments.

    Raises:
        LFADSError: an option is unknown, or a value is wrong.
    """
    names = [f.name for f in dataclasses.fields(Settings)]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise LFADSError(
                f"prepare: no option is named {name}{hint}; the options are {', '.join(names)}"
            )
    return Settings(**options)


def session_name(path: str | Path) -> str:
    """Name a session after its recording: a file without its extension, or a folder."""
    path = Path(name_in(str(path)) if is_web(path) else path)
    return path.resolve().name if path.is_dir() else path.stem
