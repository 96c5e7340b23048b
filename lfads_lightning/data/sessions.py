"""Making sessions from arrays, and every check that depends on the model or on other sessions.

For what a session may hold see `lfads_lightning.data.fields`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError, OutputDist
from lfads_lightning.data.arrays import as_counts, check_range, sizes, to_counts, to_float
from lfads_lightning.data.fields import KEYS, OF_SESSION, OF_SPLIT, SPLIT_KEYS
from lfads_lightning.data.fields import Session as Session
from lfads_lightning.data.fields import Split as Split
from lfads_lightning.data.kinds import DATA, REAL
from lfads_lightning.data.missing import unpacked
from lfads_lightning.data.oddities import axes_note, notes_on
from lfads_lightning.runs.files import check_name

ALIGNMENT_KEYS = ("alignment_matrix_cxf", "alignment_bias_c")
LONG_BIN_S = 2.0


class Given(NamedTuple):
    """The data of one session, as they were given.

    Attributes:
        name: name of the session.
        source: its name in messages.
        arrays: its arrays, by key.
    """

    name: str
    source: str
    arrays: dict[str, Any]

    @classmethod
    def of_arrays(cls, name: str, arrays: Mapping[str, Any]) -> Given:
        """Make one from arrays in memory, by key."""
        source = f"session '{name}'"
        return cls(name, source, unpacked(source, arrays))


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
    """Make sessions from arrays in memory, with the same checks as for files.

    An array that already has the type it is held in is shared with the caller, not copied.

    Args:
        train: Session name -> `train_data`, (E, T, D).
        valid: Session name -> `valid_data`, (E, T, D); a session may be left out.
        output_dist: Name of the noise model; it says whether data must be counts.
        ext_input_dim: I, external inputs.
        factors_dim: F, columns of an alignment matrix.
        warn: Warn of missing validation data and of silent neurons, for training.
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
    return checked(
        [Given.of_arrays(n, {k: v[n] for k, v in given.items() if n in v}) for n in train],
        output_dist=output_dist,
        ext_input_dim=ext_input_dim,
        factors_dim=factors_dim,
        warn=warn,
    )


def checked(
    given: list[Given],
    *,
    output_dist: str,
    ext_input_dim: int,
    factors_dim: int,
    warn: bool = True,
) -> list[Session]:
    """Make checked sessions from the given data, one by one, releasing the arrays.

    Args:
        given: The sessions; the list is emptied.
        output_dist: See `check_session`, also for the other arguments.
        ext_input_dim: I.
        factors_dim: F.
        warn: Warn of data that are probably mistakes.
    """
    sessions = []
    while given:
        name, source, arrays = given.pop(0)
        session = assemble(name, source, arrays)
        del arrays
        sessions.append(
            check_session(
                session,
                output_dist=output_dist,
                ext_input_dim=ext_input_dim,
                factors_dim=factors_dim,
                warn=warn,
            )
        )
    return check_together(sessions)


def assemble(name: str, source: str, arrays: Mapping[str, Any]) -> Session:
    """Make a session from the arrays under documented keys, with their types unchanged."""
    check_name(name, source)
    if "train_data" not in arrays:
        raise LFADSError(f"{source}: train_data is an empty array; expected E×T×D")
    given: dict[str, Any] = {
        split: Split(**{name: arrays.get(f"{split}_{name}") for name in OF_SPLIT})  # type: ignore[arg-type]
        for split in SPLIT_KEYS
        if f"{split}_data" in arrays
    }
    given |= {key: arrays[key] for key in OF_SESSION if key in arrays}
    return Session(name, source=source, **given)


def compact(session: Session) -> Session:
    """Return a session as read with its counts in the smallest type that holds them."""
    splits = {
        name: split if (counts := as_counts(split.data)) is None else split._replace(data=counts)
        for name, split in session.splits.items()
        if split.data.dtype.kind in "biuf" and split.data.size
    }
    return replace(session, **splits)  # type: ignore[arg-type]


def check_session(
    session: Session, *, output_dist: str, ext_input_dim: int, factors_dim: int, warn: bool = True
) -> Session:
    """Check everything that depends on the configuration, and convert the arrays.

    Args:
        session: A session as read.
        output_dist: Name of the noise model: data must be counts, or finite values in its range.
        ext_input_dim: I, the columns that external inputs must have; 0 drops them.
        factors_dim: F, the columns that an alignment matrix must have.
        warn: Warn of data that can be trained on, but are probably mistakes.

    Returns:
        The session with `data` as the smallest of uint8, uint16 and uint32 that holds the counts
        of both splits, or as float32 for real values, and the other arrays as float32; an
        alignment in double precision keeps its type.
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
        if ext_input_dim == 0:
            split = split._replace(ext_input=None)
        held = {
            what: (convert if field.kind is DATA else to_float)(
                f"{session.source}: {name}_{what}", getattr(split, what)
            )
            for what, field in OF_SPLIT.items()
            if field.kind in (DATA, REAL) and getattr(split, what) is not None
        }
        splits[name] = split._replace(**held)
        known = splits[name].known
        check_range(f"{session.source}: {name}_data", known, OutputDist[output_dist])
    # one type for both splits, so that their batches have the same type
    dtype = np.result_type(*(split.data.dtype for split in splits.values()))
    splits = {k: v._replace(data=v.data.astype(dtype, copy=False)) for k, v in splits.items()}
    real: dict[str, Any] = {}
    for key, field in OF_SESSION.items():
        if field.kind is REAL and (array := getattr(session, key)) is not None:
            kept = np.float32 if array.dtype == np.float32 else np.float64
            real[key] = to_float(f"{session.source}: {key}", array, kept)
    checked = replace(session, train=splits["train"], valid=splits.get("valid"), **real)
    if is_counts and session.conversion_factor == 1:
        checked = replace(checked, conversion_factor=_truth_per_count(checked))
    if warn:
        _warn_of_oddities(checked)
    return checked


def _truth_per_count(session: Session) -> float:
    """Guess the unit of true rates if none is given; 1 if they are counts per bin already.

    Rates in Hz are larger than counts by a factor of (bins per second).
    """
    truth, there = session.train.truth, session.train.present
    if truth is None:
        return 1.0
    mean_count = session.train.data.mean() if there is None else session.train.data[there].mean()
    mean = truth.mean() if there is None else truth[there].mean()
    if mean_count == 0 or 2 / 3 < (ratio := mean / mean_count) < 1.5:
        return 1.0
    if ratio <= 0:
        return 1.0
    bin_width_ms = max(round(1000 / ratio), 1)
    factor = 1000 / bin_width_ms
    if abs(factor / ratio - 1) > 0.1:
        factor = float(ratio)
    warnings.warn(
        f"{session.source}: the true rates are {ratio:.4g} times the counts on average, and there "
        f"is no conversion_factor; {factor:.4g} is used. Store the right conversion_factor in the "
        "file to be sure",
        stacklevel=2,
    )
    return factor


def check_together(sessions: list[Session]) -> list[Session]:
    """Check that sessions can be trained together: same T, bin width, alignment; unique names."""
    aligned = [s for s in sessions if s.alignment_matrix_cxf is not None]
    if 0 < len(aligned) < len(sessions):
        lacking = next(s for s in sessions if s.alignment_matrix_cxf is None)
        raise LFADSError(
            f"{lacking.source}: alignment_matrix_cxf is missing, but {aligned[0].source} has one; "
            "give it for every session or for none"
        )
    timed = [s for s in sessions if s.bin_width_s is not None]
    for session in timed:
        if not math.isclose(session.bin_width_s, timed[0].bin_width_s, rel_tol=1e-6):  # type: ignore[arg-type]
            raise LFADSError(
                f"{session.source}: bin_width_s is {session.bin_width_s:g}, that of "
                f"{timed[0].source} is {timed[0].bin_width_s:g}; all sessions of a model must have "
                "the same bin width"
            )
    first = sessions[0]
    names: dict[str, Session] = {}
    for session in sessions:
        if session.n_bins != first.n_bins and session.equal_trials and first.equal_trials:
            raise LFADSError(
                f"{session.source}: trials have {session.n_bins} bins, those of {first.source} "
                f"have {first.n_bins}; all sessions must have the same T; cut the trials, or give "
                "their lengths (train_lengths)"
            )
        other = names.setdefault(session.name, session)
        if other is not session:
            raise LFADSError(
                f"{session.source}: session '{session.name}' is also in {other.source}; "
                "the names must be unique; rename one"
            )
    return sessions


def check_ext_input(session: Session, ext_input_dim: int) -> None:
    """Check that each split has external inputs of shape (E, T, I)."""
    for name, split in session.splits.items():
        wanted = (*split.data.shape[:2], ext_input_dim)
        found = "missing" if split.ext_input is None else sizes(split.ext_input.shape)
        if split.ext_input is None or split.ext_input.shape != wanted:
            raise LFADSError(
                f"{session.source}: {name}_ext_input is {found}; expected E×T×I = {sizes(wanted)} "
                f"for ext_input_dim={ext_input_dim}; fix the array or set data.ext_input_dim"
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
        remedy = f"compute it again, or set model.factors_dim={matrix.shape[1]}"
    else:
        remedy = "one row per neuron of train_data, one column per factor"
    raise LFADSError(
        f"{session.source}: alignment_matrix_cxf is {sizes(matrix.shape)}; expected D×F = "
        f"{dim}×{'factors_dim' if factors_dim is None else factors_dim}; {remedy}"
    )


def _warn_of_oddities(session: Session) -> None:
    """Warn about what can be trained on, but is probably a mistake."""
    oddities = []
    if session.valid is None:
        oddities.append(
            "valid_data is missing, so there will be no validation cost and no "
            "lowest-validation-error checkpoint"
        )
    data, is_counts = session.train.data, session.train.data.dtype.kind == "u"
    for name, split in session.splits.items():
        if split.mask is not None:
            within = split.data.shape[2] * int(split.lengths.sum())  # type: ignore[union-attr]
            oddities.append(
                f"{within - int(split.mask.sum())} of {within} entries of {name}_data are missing; "
                "they are neither encoded nor scored"
            )
    if session.equal_trials:  # else the session says itself which entries are missing
        oddities += axes_note("train_data", data)
        oddities += notes_on(data, session.bin_width_s, is_counts, session.neuron_ids)
    silent = np.flatnonzero(~data.any(axis=(0, 1))).tolist()
    if silent:
        oddities.append(
            f"{len(silent)} of {session.data_dim} neurons have no spikes in train_data "
            f"({listed(silent)}, counted from 0); consider leaving them out"
        )
    width = session.bin_width_s
    if width is not None and width >= LONG_BIN_S:
        oddities.append(
            f"bin_width_s is {width:g} seconds; if this is in milliseconds, divide by 1000, or "
            "all rates in Hz will be wrong"
        )
    for oddity in oddities:
        warnings.warn(f"{session.source}: {oddity}", stacklevel=3)
