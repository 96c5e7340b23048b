"""What a session can contain: one row for each key of a session file.

The rows are the fields of :class:`Split` and :class:`Session` that are annotated with a
:class:`Field`. They determine everything else: what is read from a file (`session_files`), what
`write_session` and `lfads_lightning.fit` accept (`keywords`), the checks, and the table in the
documentation.

Letters in shapes: E trials, T bins, D neurons, I external inputs, F factors; any other letter is an
axis of any length (K variables, H channels), and a digit is an axis of that length.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import as_array, refuse_value, sizes
from lfads_lightning.data.kinds import (
    DATA,
    NAMES,
    ONE_POSITIVE_NUMBER,
    ONE_TEXT,
    REAL,
    SECONDS,
    WHOLE_NUMBERS,
    ZERO_OR_ONE,
    Kind,
)
from lfads_lightning.data.missing import inside, of_one_length, settled, unpacked
from lfads_lightning.notebook import cards

PER = {"E": "trial", "T": "bin", "D": "neuron"}


@dataclass(frozen=True)
class Field:
    """A row of the table.

    Attributes:
        axes: Shape, a letter for each axis; empty for one value.
        kind: Kind of its values.
        doc: One line for the documentation; Markdown.
        hint: Addition to messages about a single value: its unit, or an example.
        check: Refuses wrong values that shape and kind allow. Its arguments are the name of the
            value for messages, the value, and the lengths of the axes E, T and D.
        fits_model: Whether its shape depends on the model's sizes; it is then checked where these
            are known (`check_alignment` and `check_ext_input` in `sessions`).
    """

    axes: str
    kind: Kind
    doc: str
    hint: str = ""
    check: Callable[[str, Any, Mapping[str, int]], None] | None = None
    fits_model: bool = False


def _finite(where: str, behaviour: np.ndarray, lengths: Mapping[str, int]) -> None:
    if not np.isfinite(behaviour).all():
        refuse_value(
            where,
            behaviour,
            ~np.isfinite(behaviour),
            "behaviour must be finite; fill the gap (interpolate), or leave the trial out",
        )


def _two_moments(where: str, window_s: np.ndarray, lengths: Mapping[str, int]) -> None:
    if window_s.size != 2 or not window_s[0] < window_s[1]:
        raise LFADSError(
            f"{where} is {window_s.tolist()}; expected two times, the start and the end of a "
            "trial, in seconds from its event"
        )


def _some_channels(where: str, channels: np.ndarray, lengths: Mapping[str, int]) -> None:
    n, n_neurons = len(channels), lengths["D"]
    if n and channels.max() >= n_neurons:
        raise LFADSError(
            f"{where} names channel {channels.max()} of {n_neurons}; expected channels of "
            f"train_data, counted from 0 (0 to {n_neurons - 1})"
        )
    if len(np.unique(channels)) < n:
        raise LFADSError(f"{where} names a channel twice; give each once")
    if n == n_neurons:
        raise LFADSError(f"{where} names all {n} neurons; leave some for the encoders")


# --- the table ------------------------------------------------------------------------------------


class Split(NamedTuple):
    """The trials of one split of a session, of training or of validation.

    In a file, and as keywords, its keys begin with ``train_`` or ``valid_``.
    """

    data: Annotated[
        np.ndarray,
        Field(
            "ETD",
            DATA,
            "spike counts per bin, or real values with `model.output_dist=gaussian`; without "
            "`valid_data` the best epoch is not chosen",
        ),
    ]
    ext_input: Annotated[
        np.ndarray | None,
        Field("ETI", REAL, "external inputs, used if `data.ext_input_dim` > 0", fits_model=True),
    ] = None
    truth: Annotated[
        np.ndarray | None,
        Field("ETD", REAL, "true rates, in units of `conversion_factor`; for scores and figures"),
    ] = None
    inds: Annotated[
        np.ndarray | None,
        Field("E", WHOLE_NUMBERS, "which trials of the recording these are, counted from 0"),
    ] = None
    condition: Annotated[
        np.ndarray | None,
        Field("E", NAMES, "condition of each trial; negative or empty: none"),
    ] = None
    behaviour: Annotated[
        np.ndarray | None,
        Field("ETK", REAL, "behaviour in each bin", check=_finite),
    ] = None
    event_times_s: Annotated[
        np.ndarray | None,
        Field(
            "E",
            SECONDS,
            "time of the event that each trial is aligned to, on the recording's clock",
        ),
    ] = None
    lengths: Annotated[
        np.ndarray | None,
        Field("E", WHOLE_NUMBERS, "number of bins of each trial, if trials differ in length"),
    ] = None
    mask: Annotated[
        np.ndarray | None,
        Field("ETD", ZERO_OR_ONE, "1 where an entry of the data is present, 0 where it is missing"),
    ] = None

    def rows(self, which: np.ndarray | slice) -> "Split":
        """Return some of the trials.

        >>> Split(np.arange(6).reshape(3, 2, 1)).rows(slice(1, 2)).data.ravel().tolist()
        [2, 3]
        """
        held = {name: array for name, array in self._asdict().items() if array is not None}
        return self._replace(**{name: array[which] for name, array in held.items()})

    @property
    def inside(self) -> np.ndarray | None:
        """Which bins belong to each trial, (E, T) bool; None if trials are equally long."""
        return None if self.lengths is None else inside(self.lengths, self.data.shape[1])

    @property
    def present(self) -> np.ndarray | None:
        """Which entries are present, (E, T, D) bool; None if all are."""
        if self.mask is not None or self.lengths is None:
            return self.mask
        return np.broadcast_to(inside(self.lengths, self.data.shape[1])[..., None], self.data.shape)

    @property
    def known(self) -> np.ndarray:
        """The data (E, T, D); if entries are missing, as real numbers with NaN in their place."""
        there = self.present
        if there is None:
            return self.data
        return np.where(there, self.data, np.float32(np.nan))

    def trimmed(self, n_bins: int) -> "Split":
        """Return the first bins of all trials; no trial may be longer."""
        if n_bins == self.data.shape[1]:
            return self
        held = {name: array for name, array in self._asdict().items() if np.ndim(array) == 3}
        cut = self._replace(**{name: array[:, :n_bins] for name, array in held.items()})
        if cut.lengths is not None and cut.mask is None and (cut.lengths == n_bins).all():
            cut = cut._replace(lengths=None)
        return cut

    def __repr__(self) -> str:
        """Return the split's sizes and keys."""
        shape = sizes(np.shape(self.data))
        more = [name for name, value in self._asdict().items() if value is not None][1:]
        return f"Split({shape}{''.join(f', {name}' for name in more)})"


@dataclass(frozen=True, eq=False, repr=False)
class Session:
    """One recording: trials from one set of neurons.

    `read_session` reads one from a file. `lfads_lightning.fit` and the methods of a trained model
    accept one as data. When a session is made, its values are checked and converted.

    Attributes:
        name: Name of the session in the model, in logs and in output files.
        train: Training trials.
        valid: Validation trials, or None.
        source: Where it comes from, `file` or `file:group`; error messages begin with it.

    Raises:
        LFADSError: shapes do not match, or a value is not valid for its key.

    >>> import numpy as np
    >>> from lfads_lightning import Session, Split
    >>> counts = np.random.default_rng(0).poisson(0.3, (20, 50, 7))
    >>> session = Session("day1", Split(counts[:16]), Split(counts[16:]), bin_width_s=0.02)
    >>> session.n_bins, session.data_dim, list(session.splits)
    (50, 7, ['train', 'valid'])
    >>> Session("day1", Split(counts[0]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lfads_lightning.config.LFADSError: session 'day1': train_data has 2 dimensions (50×7); ...
    """

    name: str
    train: Split
    valid: Split | None = None
    alignment_matrix_cxf: Annotated[
        np.ndarray | None,
        Field("DF", REAL, "initial read-in weights, to stitch several sessions", fits_model=True),
    ] = None
    alignment_bias_c: Annotated[
        np.ndarray | None,
        Field(
            "D",
            REAL,
            "subtracted from the data by the initial read-in; also the initial read-out bias",
            fits_model=True,
        ),
    ] = None
    conversion_factor: Annotated[
        float,
        Field(
            "",
            ONE_POSITIVE_NUMBER,
            "units of the truth per (count/bin); 1 if absent",
            hint="the units of the truth per (count/bin)",
        ),
    ] = 1.0
    source: str = ""
    bin_width_s: Annotated[
        float | None,
        Field("", ONE_POSITIVE_NUMBER, "bin width, seconds", hint="in seconds"),
    ] = None
    neuron_ids: Annotated[
        np.ndarray | None,
        Field("D", NAMES, "names of the neurons"),
    ] = None
    held_out_neurons: Annotated[
        np.ndarray | None,
        Field(
            "H",
            WHOLE_NUMBERS,
            "channels that `data.held_out_neurons=file` holds out, counted from 0",
            check=_some_channels,
        ),
    ] = None
    window_s: Annotated[
        np.ndarray | None,
        Field(
            "2",
            SECONDS,
            "start and end of a trial, in seconds from its event",
            check=_two_moments,
        ),
    ] = None
    event: Annotated[
        str | None,
        Field(
            "",
            ONE_TEXT,
            "name of the event that trials are aligned to, for figures",
            hint="such as go_cue_time",
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check the session; without a source, errors name the session instead."""
        if not self.source:
            object.__setattr__(self, "source", f"session '{self.name}'")
        by_key = {
            f"{name}_{what}": value
            for name, split in self.splits.items()
            for what, value in split._asdict().items()
            if value is not None
        }
        by_key = unpacked(self.source, by_key)
        of_one_length(by_key)
        for name in self.splits:
            held = {what: by_key.get(f"{name}_{what}") for what in OF_SPLIT}
            split = Split(**held)  # type: ignore[arg-type]
            split = split._replace(**_tidy(self.source, split, f"{name}_"))
            object.__setattr__(self, name, split)
        for key, value in _tidy(self.source, self, "").items():
            object.__setattr__(self, key, value)
        _check_data(self)
        _check_shapes(self)
        for name, split in self.splits.items():
            object.__setattr__(self, name, settled(self.source, split, f"{name}_"))
        _check_values(self)

    @property
    def n_bins(self) -> int:
        """T, the time bins of the arrays, at least those of the longest trial."""
        return self.train.data.shape[1]

    @property
    def data_dim(self) -> int:
        """D, the number of data channels (neurons)."""
        return self.train.data.shape[2]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name, 'train' and, if there are validation trials, 'valid'."""
        return {"train": self.train} | ({} if self.valid is None else {"valid": self.valid})

    @property
    def shortest(self) -> int:
        """The bins of the shortest trial."""
        ends = [s.lengths.min() for s in self.splits.values() if s.lengths is not None]
        return int(min(ends, default=self.n_bins))

    @property
    def equal_trials(self) -> bool:
        """Whether all trials are equally long and no entry is missing."""
        return all(s.lengths is None and s.mask is None for s in self.splits.values())

    def trimmed(self) -> "Session":
        """Return the session without bins beyond its longest trial."""
        ends = [s.lengths.max() for s in self.splits.values() if s.lengths is not None]
        if len(ends) < len(self.splits) or max(ends) == self.n_bins:
            return self
        cut = {name: split.trimmed(int(max(ends))) for name, split in self.splits.items()}
        return replace(self, train=cut["train"], valid=cut.get("valid"))

    def __repr__(self) -> str:
        """Return the session's name and sizes."""
        return f"Session({self.name!r}, {self._sizes()})"

    def _sizes(self) -> str:
        n_valid = 0 if self.valid is None else len(self.valid.data)
        width = "" if self.bin_width_s is None else f" of {1000 * self.bin_width_s:g} ms"
        return (
            f"{len(self.train.data)} training and {n_valid or 'no'} validation trials × "
            f"{self.n_bins} bins{width} × {cards.sizes((self.data_dim, 'neuron'))}"
        )

    def _repr_html_(self) -> str:
        keys = [
            (key, sizes(np.shape(value)) if np.ndim(value) else str(value), field.doc)
            for key, field, value, _ in _held(self)
        ]
        mean = self.train.data.mean((0, 2), dtype=np.float64)
        return cards.card(
            f"Session {self.name}",
            cards.facts({"data": self._sizes(), "from": self.source}),
            cards.lines([mean], "mean of the training data over trials and neurons, along time"),
            cards.folded("keys", cards.grid(("key", "size", "meaning"), keys)),
        )


# --- what follows from it -------------------------------------------------------------------------


def _rows(holder: type) -> dict[str, Field]:
    hints = get_type_hints(holder, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: mark[0] for name, mark in marks.items() if mark}


OF_SPLIT, OF_SESSION = _rows(Split), _rows(Session)
SPLIT_KEYS = {split: tuple(f"{split}_{name}" for name in OF_SPLIT) for split in ("train", "valid")}
KEYS: dict[str, Field] = {
    **{f"{split}_{name}": field for split in SPLIT_KEYS for name, field in OF_SPLIT.items()},
    **OF_SESSION,
}


def arrays_of(session: Session) -> dict[str, Any]:
    """Return the contents of a session by key, as a file stores them; defaults are left out."""
    held = {
        f"{split}_{name}": value
        for split, trials in session.splits.items()
        for name, value in trials._asdict().items()
    }
    held = {key: value for key, value in held.items() if value is not None}
    for key in OF_SESSION:
        value, default = getattr(session, key), getattr(Session, key)
        if value is not None and (default is None or value != default):
            held[key] = value
    return held


def _held(session: Session) -> Iterator[tuple[str, Field, Any, dict[str, int]]]:
    """Yield each key that has a value: its row, its value, and the lengths of E, T and D."""
    for split_name, split in session.splits.items():
        lengths = dict(zip("ETD", split.data.shape, strict=True))
        for name, field in OF_SPLIT.items():
            if (value := getattr(split, name)) is not None:
                yield f"{split_name}_{name}", field, value, lengths
    lengths = {"T": session.n_bins, "D": session.data_dim}
    for key, field in OF_SESSION.items():
        if (value := getattr(session, key)) is not None:
            yield key, field, value, lengths


def _tidy(source: str, holder: Split | Session, prefix: str) -> dict[str, Any]:
    """Return the values of a split or a session, converted to the types they are held in."""
    tidy = {}
    for name, field in (OF_SPLIT if prefix else OF_SESSION).items():
        if (value := getattr(holder, name)) is not None:
            array = as_array(source, prefix + name, value)
            if len(field.axes) == 1 and array.ndim == 2 and 1 in array.shape:
                array = array.ravel()  # a row or a column
            tidy[name] = field.kind.hold(f"{source}: {prefix}{name}", array, field.hint)
    return tidy


def _check_data(session: Session) -> None:
    """Check that the data are E×T×D, none of them 0, with one T and one D per session."""
    for name, split in session.splits.items():
        where, shape = f"{session.source}: {name}_data", split.data.shape
        if len(shape) != 3:
            raise LFADSError(
                f"{where} has {len(shape)} dimensions ({sizes(shape)}); expected 3, E×T×D "
                "(trials × time bins × neurons); cut a single long recording into trials"
            )
        if 0 in shape:
            raise LFADSError(f"{where} is empty ({sizes(shape)}); none of E×T×D may be 0")
    train = session.train.data.shape
    valid = train if session.valid is None else session.valid.data.shape
    for axis, what, letter in ((2, "neurons", "D"), (1, "time bins", "T")):
        if valid[axis] != train[axis]:
            # if only the last axis differs, it may be the trials of splits written as D×T×E
            last = axis == 2 and valid[:2] == train[:2]
            hint = "; if the axes are D×T×E, transpose the arrays" if last else ""
            raise LFADSError(
                f"{session.source}: valid_data has {valid[axis]} {what}, train_data has "
                f"{train[axis]}; both must be E×T×D with the same {letter}{hint}"
            )


def _check_values(session: Session) -> None:
    """Check values that are given bin by bin, within the length of each trial."""
    for key, field, value, lengths in _held(session):
        if field.check is None or field.axes[:2] != "ET":
            continue
        if (within := session.splits[key.split("_")[0]].inside) is not None:
            value = np.where(within[..., None], value, 0)
        field.check(f"{session.source}: {key}", value, lengths)


def _check_shapes(session: Session) -> None:
    """Check shape and values of every key; both splits must agree on axes of any length."""
    free: dict[str, tuple[str, int]] = {}
    for key, field, value, lengths in _held(session):
        where = f"{session.source}: {key}"
        if field.check is not None and field.axes[:2] != "ET":
            field.check(where, value, lengths)
        if not field.axes or field.fits_model:
            continue
        shape = value.shape
        fixed = {**lengths, **{digit: int(digit) for digit in field.axes if digit.isdigit()}}
        fits = len(shape) == len(field.axes) and all(
            n == fixed.get(axis, n) for n, axis in zip(shape, field.axes, strict=True)
        )
        if not fits:
            raise LFADSError(f"{where} {_misfit(key, field, shape, fixed)}")
        name = key.removeprefix("train_").removeprefix("valid_")
        for axis, n in zip(field.axes, shape, strict=True):
            other, was = free.setdefault(f"{name} {axis}", (key, n))
            if axis not in fixed and n != was:
                raise LFADSError(
                    f"{session.source}: {other} has {was} variables, {key} has {n}; both must be "
                    f"{'×'.join(field.axes)} with the same {axis}"
                )


def _misfit(key: str, field: Field, shape: tuple[int, ...], lengths: Mapping[str, int]) -> str:
    """Say what is wrong with a shape."""
    letters, data = "×".join(field.axes), f"{key.split('_')[0]}_data"
    if field.axes in PER:
        n = lengths[field.axes]
        return f"is {sizes(shape)}; expected {n} labels, one per {PER[field.axes]}"
    if field.axes == "ETD":
        found = sizes(tuple(lengths[axis] for axis in "ETD"))
        return f"is {sizes(shape)}, {data} is {found}; both must have the same shape E×T×D"
    if field.axes[:2] == "ET" and len(field.axes) == 3:
        last = field.axes[2]
        return (
            f"is {sizes(shape)}, {data} has {lengths['E']} trials of {lengths['T']} bins; expected "
            f"{letters}, a row of {last} numbers for every bin (one variable: {last} = 1)"
        )
    wanted = "×".join(str(lengths.get(axis, axis)) for axis in field.axes)
    return f"is {sizes(shape)}; expected {letters} = {wanted}"
