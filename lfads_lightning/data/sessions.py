"""What a session may hold: its arrays in memory, and every check on them.

A session is one recording: trials of equal length from one set of neurons. Its arrays go by the
documented keys, in memory as in a file (`lfads_lightning.data.session_files`):

    train_data, valid_data            (E, T, D)  counts per bin, or real values (output_dist)
    train_ext_input, valid_ext_input  (E, T, I)  external inputs, used if `ext_input_dim` > 0
    train_truth, valid_truth          (E, T, D)  true rates, for figures and scores only
    alignment_matrix_cxf              (D, F)     start of the read-in
    alignment_bias_c                  (D,)       start of the read-in's and the read-out's bias
    conversion_factor                 scalar     units of the truth per (count/bin), 1 if absent
    train_inds, valid_inds            (E,)       which trials of the recording these are
    train_condition, valid_condition  (E,)       whole numbers or texts; negative or empty: none
    train_behaviour, valid_behaviour  (E, T, K)  what the animal did, bin by bin
    neuron_ids                        (D,)       whole numbers or texts
    held_out_neurons                  (n,)       channels, counted from 0
    bin_width_s                       scalar     seconds
    train_event_times_s, valid_…      (E,)       what trials are aligned to, on the source's clock
    window_s                          (2,)       first and last moment of a trial, from the event
    event                             text       its name, for figures

Only `train_data` must be there; other keys of a file are ignored.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.config import LFADSError, OutputDist
from lfads_lightning.data.arrays import (
    as_array,
    listed,
    nearest,
    sizes,
    to_counts,
    to_float,
)
from lfads_lightning.data.labels import check_labels, tidy, warn_of_labels
from lfads_lightning.data.oddities import axes_note, notes_on
from lfads_lightning.files import check_name

_OF_A_SPLIT = ("data", "ext_input", "truth", "inds", "condition", "behaviour", "event_times_s")
SPLIT_KEYS = {name: tuple(f"{name}_{what}" for what in _OF_A_SPLIT) for name in ("train", "valid")}
ALIGNMENT_KEYS = ("alignment_matrix_cxf", "alignment_bias_c")
LABEL_KEYS = ("neuron_ids", "held_out_neurons", "bin_width_s", "window_s", "event")
KEYS = (
    *SPLIT_KEYS["train"],
    *SPLIT_KEYS["valid"],
    *ALIGNMENT_KEYS,
    "conversion_factor",
    *LABEL_KEYS,
)


class Split(NamedTuple):
    """The trials of one split of a session.

    Attributes:
        data: Counts per bin or real values, (E, T, D).
        ext_input: External inputs, (E, T, I), or None.
        truth: True rates, (E, T, D), in units of `Session.conversion_factor`, or None.
        inds: Which trials of the recording these are, (E,) whole numbers, or None.
        condition: Labels (E,), whole numbers or texts, or None; see `lfads_lightning.data.labels`.
        behaviour: What the animal did, (E, T, K), or None.
        event_times_s: What the trials are aligned to, (E,) on the source's clock, or None.
    """

    data: np.ndarray
    ext_input: np.ndarray | None = None
    truth: np.ndarray | None = None
    inds: np.ndarray | None = None
    condition: np.ndarray | None = None
    behaviour: np.ndarray | None = None
    event_times_s: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Session:
    """One recording; the shapes of its data and truth are checked when it is made.

    Attributes:
        name: Names the session in the model, in logs and in output files.
        train: Trials to train on.
        valid: Held-out trials, or None.
        alignment_matrix_cxf: Start of the read-in, (D, F), or None.
        alignment_bias_c: What the read-in subtracts, (D,), or None.
        conversion_factor: Units of the truth per (count/bin).
        source: Where it comes from, `file` or `file:group`; error messages begin with it.
        bin_width_s: Seconds, or None where it is not known.
        neuron_ids: (D,) whole numbers or texts, or None.
        held_out_neurons: Channels, counted from 0, or None.
        window_s: First and last moment of a trial, (2,) seconds from its event, or None.
        event: What its trials are aligned to, or None.
    """

    name: str
    train: Split
    valid: Split | None = None
    alignment_matrix_cxf: np.ndarray | None = None
    alignment_bias_c: np.ndarray | None = None
    conversion_factor: float = 1.0
    source: str = ""
    bin_width_s: float | None = None
    neuron_ids: np.ndarray | None = None
    held_out_neurons: np.ndarray | None = None
    window_s: np.ndarray | None = None
    event: str | None = None

    def __post_init__(self) -> None:
        """Check the shapes; a session without a source is called by its name in errors."""
        if not self.source:
            object.__setattr__(self, "source", f"session '{self.name}'")
        _check_shapes(self)
        shapes = {name: split.data.shape for name, split in self.splits.items()}
        labels = {name: split._asdict() for name, split in self.splits.items()}
        check_labels(self.source, shapes, labels, self.neuron_ids, self.held_out_neurons)

    @property
    def n_bins(self) -> int:
        """T, the time bins of each trial."""
        return self.train.data.shape[1]

    @property
    def data_dim(self) -> int:
        """D, the data channels (neurons)."""
        return self.train.data.shape[2]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that are there, under 'train' and 'valid'."""
        return {"train": self.train} | ({} if self.valid is None else {"valid": self.valid})


def sessions_from_arrays(
    train: Mapping[str, ArrayLike],
    valid: Mapping[str, ArrayLike] | None = None,
    *,
    output_dist: str,
    ext_input_dim: int,
    factors_dim: int,
    warn: bool = True,
    **others: Mapping[str, ArrayLike] | None,
) -> list[Session]:
    """Make sessions from arrays in memory, with the checks that files go through.

    An array that already has the type to be held is shared with the caller, not copied.

    Args:
        train: Session name -> `train_data`, (E, T, D).
        valid: Session name -> `valid_data`, (E, T, D); a session may be left out.
        output_dist: Name of the noise model; it says whether data must be counts.
        ext_input_dim: I, external inputs.
        factors_dim: F, columns of an alignment matrix.
        warn: Warn of missing validation data and of silent neurons, as training wants.
        **others: Any other documented key, each as session name -> array.

    Returns:
        The checked sessions, in the order of `train`.
    """
    offered = {"train_data": train, "valid_data": valid, **others}
    given = {key: arrays for key, arrays in offered.items() if arrays is not None}
    for key, arrays in given.items():
        if key not in KEYS:
            raise LFADSError(f"{key}: no such key{nearest(key, KEYS)}; expected {listed(KEYS)}")
        if not isinstance(arrays, Mapping) or not train:
            raise LFADSError(f"{key}: expected {{session name: array}} with at least one session")
        for name in arrays:
            if name not in train:
                raise LFADSError(f"{key}: session '{name}' has no train_data{nearest(name, train)}")
    check = partial(check_session, output_dist=output_dist, ext_input_dim=ext_input_dim, warn=warn)
    sessions = []
    for name in train:
        source = f"session '{name}'"
        mine = {k: as_array(source, k, v[name]) for k, v in given.items() if name in v}
        sessions.append(check(assemble(name, source, mine), factors_dim=factors_dim))
    return check_together(sessions)


def assemble(name: str, source: str, arrays: Mapping[str, np.ndarray]) -> Session:
    """Make a session of the arrays under documented keys, in the types they come in."""
    check_name(name, source)
    arrays = tidy(source, arrays)
    if "train_data" not in arrays:
        raise LFADSError(f"{source}: train_data is an empty array; expected E×T×D")
    train, valid = (Split(*map(arrays.get, keys)) for keys in SPLIT_KEYS.values())  # type: ignore[arg-type]
    matrix, bias = map(arrays.get, ALIGNMENT_KEYS)
    if bias is not None and bias.ndim == 2 and 1 in bias.shape:
        bias = bias.ravel()
    factor = arrays.get("conversion_factor", np.ones(()))
    if factor.size != 1 or not 0 < factor.item() < math.inf:
        found = factor.item() if factor.size == 1 else f"an array of {sizes(factor.shape)}"
        raise LFADSError(
            f"{source}: conversion_factor is {found}; expected one positive number, the units of "
            "the truth per (count/bin)"
        )
    held_out = None if valid.data is None else valid
    labels = {key: arrays.get(key) for key in LABEL_KEYS}
    return Session(name, train, held_out, matrix, bias, float(factor.item()), source, **labels)


def check_session(
    session: Session, *, output_dist: str, ext_input_dim: int, factors_dim: int, warn: bool = True
) -> Session:
    """Check all that depends on the configuration, and put the arrays in the types to be held.

    Args:
        session: A session as read.
        output_dist: Name of the noise model: data must be counts, or are any finite values.
        ext_input_dim: I, the columns that external inputs must have; 0 drops them.
        factors_dim: F, the columns that an alignment matrix must have.
        warn: Warn of what can be trained on but is seldom meant.

    Returns:
        The session with `data` as the smallest of uint8, uint16 and uint32 that holds the counts
        of both splits or, of real values, as float32, and the other arrays as float32; an
        alignment in double precision stays so.
    """
    if output_dist not in OutputDist.__members__:
        expected = listed(OutputDist.names(), len(OutputDist))
        raise LFADSError(f"output_dist is '{output_dist}'; expected one of {expected}")
    is_counts = OutputDist[output_dist].is_counts
    check_alignment(session, factors_dim)
    if ext_input_dim > 0:
        check_ext_input(session, ext_input_dim)
    convert = to_counts if is_counts else to_float
    splits = {}
    for name, split in session.splits.items():
        where = f"{session.source}: {name}"
        ext_input = split.ext_input if ext_input_dim > 0 else None
        splits[name] = split._replace(
            data=convert(f"{where}_data", split.data),
            ext_input=_if_any(f"{where}_ext_input", ext_input),
            truth=_if_any(f"{where}_truth", split.truth),
            behaviour=_if_any(f"{where}_behaviour", split.behaviour),
        )
    # one type for both splits, so that their batches are alike
    dtype = np.result_type(*(split.data.dtype for split in splits.values()))
    splits = {k: v._replace(data=v.data.astype(dtype, copy=False)) for k, v in splits.items()}
    alignment: dict[str, Any] = {}
    for key in ALIGNMENT_KEYS:
        if (array := getattr(session, key)) is not None:
            kept = np.float32 if array.dtype == np.float32 else np.float64
            alignment[key] = to_float(f"{session.source}: {key}", array, kept)
    checked = replace(session, train=splits["train"], valid=splits.get("valid"), **alignment)
    if is_counts and session.conversion_factor == 1:
        checked = replace(checked, conversion_factor=_truth_per_count(checked))
    if warn:
        _warn_of_oddities(checked)
        warn_of_labels(checked.source, checked.bin_width_s)
    return checked


def _if_any(where: str, array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else to_float(where, array)


def _truth_per_count(session: Session) -> float:
    """Guess the unit of a truth that comes without one; 1 where it is counts per bin already.

    Rates in Hz lie a factor of (bins per second) above the counts.
    """
    truth, mean_count = session.train.truth, session.train.data.mean()
    if truth is None or mean_count == 0 or 2 / 3 < (ratio := truth.mean() / mean_count) < 1.5:
        return 1.0
    if ratio <= 0:
        return 1.0
    bin_width_ms = max(round(1000 / ratio), 1)
    factor = 1000 / bin_width_ms
    if abs(factor / ratio - 1) > 0.1:
        factor = float(ratio)
    warnings.warn(
        f"{session.source}: the truth is {ratio:.4g} times the counts on average, and no "
        f"conversion_factor says why: it is read as rates of which {factor:.4g} are one count per "
        "bin; put the right conversion_factor into the file to be sure",
        stacklevel=2,
    )
    return factor


def check_together(sessions: list[Session]) -> list[Session]:
    """Check what sessions trained together share: T, bin width, alignment or none, unlike names."""
    aligned = [s for s in sessions if s.alignment_matrix_cxf is not None]
    if 0 < len(aligned) < len(sessions):
        lacking = next(s for s in sessions if s.alignment_matrix_cxf is None)
        raise LFADSError(
            f"{lacking.source}: alignment_matrix_cxf is missing, {aligned[0].source} has one; "
            "give it for every session or for none"
        )
    timed = [s for s in sessions if s.bin_width_s is not None]
    for session in timed:
        if not math.isclose(session.bin_width_s, timed[0].bin_width_s, rel_tol=1e-6):  # type: ignore[arg-type]
            raise LFADSError(
                f"{session.source}: bin_width_s is {session.bin_width_s:g}, that of "
                f"{timed[0].source} is {timed[0].bin_width_s:g}; one model needs one bin width: "
                "bin the recordings alike"
            )
    first = sessions[0]
    names: dict[str, Session] = {}
    for session in sessions:
        if session.n_bins != first.n_bins:
            raise LFADSError(
                f"{session.source}: trials have {session.n_bins} bins, those of {first.source} "
                f"have {first.n_bins}; all sessions must have one T; cut or pad the trials"
            )
        other = names.setdefault(session.name, session)
        if other is not session:
            raise LFADSError(
                f"{session.source}: session '{session.name}' is also in {other.source}; "
                "the names must be unique; rename one"
            )
    return sessions


def _check_shapes(session: Session) -> None:
    """Check that data and truth are E×T×D, none of them 0, with one T and one D per session."""
    for name, split in session.splits.items():
        where, shape = f"{session.source}: {name}_data", split.data.shape
        if len(shape) != 3:
            raise LFADSError(
                f"{where} has {len(shape)} dimensions ({sizes(shape)}); expected 3, E×T×D "
                "(trials × time bins × neurons); cut a single long recording into trials"
            )
        if 0 in shape:
            raise LFADSError(f"{where} is empty ({sizes(shape)}); none of E×T×D may be 0")
        if split.truth is not None and split.truth.shape != shape:
            raise LFADSError(
                f"{session.source}: {name}_truth is {sizes(split.truth.shape)}, {name}_data is "
                f"{sizes(shape)}; both must have the same shape E×T×D"
            )
    train = session.train.data.shape
    valid = train if session.valid is None else session.valid.data.shape
    for axis, what, letter in ((2, "neurons", "D"), (1, "time bins", "T")):
        if valid[axis] != train[axis]:
            # the last axis alone differs: so do the trials of two splits written as D×T×E
            last = axis == 2 and valid[:2] == train[:2]
            hint = "; if the axes are D×T×E, transpose the arrays" if last else ""
            raise LFADSError(
                f"{session.source}: valid_data has {valid[axis]} {what}, train_data has "
                f"{train[axis]}; both must be E×T×D with one {letter} per session{hint}"
            )


def check_ext_input(session: Session, ext_input_dim: int) -> None:
    """Check that each split has external inputs of shape (E, T, I)."""
    for name, split in session.splits.items():
        wanted = (*split.data.shape[:2], ext_input_dim)
        found = "missing" if split.ext_input is None else sizes(split.ext_input.shape)
        if split.ext_input is None or split.ext_input.shape != wanted:
            raise LFADSError(
                f"{session.source}: {name}_ext_input is {found}; expected E×T×I = {sizes(wanted)} "
                f"for ext_input_dim={ext_input_dim}; mend the array or set data.ext_input_dim"
            )


def check_alignment(session: Session, factors_dim: int | None = None) -> None:
    """Check that the matrix is (D, F), with any F if `factors_dim` is None, and the bias (D,)."""
    matrix, bias, dim = session.alignment_matrix_cxf, session.alignment_bias_c, session.data_dim
    if bias is not None and bias.shape != (dim,):
        raise LFADSError(
            f"{session.source}: alignment_bias_c has shape {bias.shape}, train_data has {dim} "
            f"neurons; expected ({dim},), one number per neuron"
        )
    if matrix is None:
        return
    columns = matrix.shape[1:] if factors_dim is None else (factors_dim,)
    if matrix.ndim == 2 and matrix.shape == (dim, *columns):
        return
    if matrix.ndim == 2 and matrix.shape[0] != dim == matrix.shape[1]:
        remedy = "it seems to be F×D: transpose it"
    elif matrix.ndim == 2 and matrix.shape[0] == dim:
        remedy = f"make it anew or set model.factors_dim={matrix.shape[1]}"
    else:
        remedy = "one row per neuron of train_data, one column per factor"
    raise LFADSError(
        f"{session.source}: alignment_matrix_cxf is {sizes(matrix.shape)}; expected D×F = "
        f"{dim}×{'factors_dim' if factors_dim is None else factors_dim}; {remedy}"
    )


def _warn_of_oddities(session: Session) -> None:
    """Warn of what can be trained on but is seldom meant."""
    oddities = []
    if session.valid is None:
        oddities.append(
            "valid_data is missing; there will be no validation cost and no "
            "lowest-validation-error checkpoint"
        )
    data = session.train.data
    oddities += axes_note("train_data", data)
    oddities += notes_on(data, session.bin_width_s, data.dtype.kind == "u", session.neuron_ids)
    silent = np.flatnonzero(~data.any(axis=(0, 1))).tolist()
    if silent:
        oddities.append(
            f"{len(silent)} of {session.data_dim} neurons are 0 throughout train_data "
            f"({listed(silent)}, counted from 0); consider leaving them out"
        )
    for oddity in oddities:
        warnings.warn(f"{session.source}: {oddity}", stacklevel=3)
