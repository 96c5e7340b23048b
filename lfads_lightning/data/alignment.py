"""Stitching: matrices that map the neurons of several sessions to common components.

Principal-components regression (Pandarinath et al. 2018, Nature Methods 15, online methods). Per
session, condition averages X_s of training trials, smoothed; the sessions side by side, each
channel's mean b_s removed; Z, the first F principal components of the whole; and
W_s = argmin |X_s W - Z|^2. The read-in then starts at (x - b_s) W_s, the read-out at W_s^T.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from lfads_lightning.commands import listed
from lfads_lightning.config import SMOOTHING_BINS, LFADSError
from lfads_lightning.data.arrays import sizes
from lfads_lightning.data.kinds import has_condition
from lfads_lightning.data.sessions import Session
from lfads_lightning.metrics import has_missing, mean_of

RIDGES = (0.0, *np.geomspace(1e-4, 1e3, 8))  # the penalties that ridge="cv" compares
N_FOLDS = 5


class Regression(NamedTuple):
    """The result of :func:`components_regression`."""

    components: np.ndarray  # Z (n, F)
    variance: np.ndarray  # share of the stack's variance, of every component
    matrices: list[np.ndarray]  # W_s (D_s, F)
    biases: list[np.ndarray]  # b_s (D_s,)


class Alignment(NamedTuple):
    """An alignment, by session name; the first two fields can be passed to ``lfads.fit``."""

    alignment_matrix_cxf: dict[str, np.ndarray]  # W_s (D, F)
    alignment_bias_c: dict[str, np.ndarray]  # b_s (D,), counts per bin
    components: np.ndarray  # Z (C, T, F): the common components
    conditions: list[str]  # C labels; with same_neurons, the numbers of the trials
    variance: np.ndarray  # share of the variance that each component explains, for all of them
    projections: dict[str, np.ndarray]  # (X_s - b_s) W_s (C, T, F): Z as predicted by the session
    components_r2: dict[str, float]  # R2 of Z, predicted from the session's neurons
    averages_r2: dict[str, float]  # R2 of the session's averages, predicted from Z
    n_trials: dict[str, int]  # trials that were averaged
    same_neurons: bool = False  # made from smoothed single trials instead of averages


def align_sessions(
    sessions: Sequence[Session],
    factors_dim: int,
    *,
    smoothing_bins: float = SMOOTHING_BINS,
    ridge: float | str = 0.0,
    to: Sequence[Session] = (),
) -> Alignment:
    """Align sessions by their condition averages.

    Args:
        sessions: sessions with ``train_condition``; only their training trials are used.
        factors_dim: F.
        smoothing_bins: standard deviation of the Gaussian that smooths over time; 0: none.
        ridge: ridge penalty of the regression; 0: least squares; ``"cv"``: chosen by
            cross-validation over conditions.
        to: sessions that are aligned already, and are not changed: Z is the mean of their
            projections by their own matrices. Use it to add a session to a trained model.

    Raises:
        LFADSError: labels or shared conditions are missing, T differs, or F is too large.
    """
    _check_settings(factors_dim, smoothing_bins, ridge)
    everyone = [*to, *sessions]
    conditions = _shared_conditions(everyone)
    _check_bins(everyone)
    averages = {s.name: _averages(s, conditions, smoothing_bins) for s in everyone}
    shape = (len(conditions), sessions[0].n_bins, factors_dim)
    _check_size(everyone, shape)
    flat = [averages[s.name].reshape(-1, s.data_dim) for s in sessions]
    given = _mean_projection(to, averages, shape) if to else None
    if ridge == "cv":
        ridge = _chosen_ridge(flat, factors_dim, shape, given)
    found = components_regression(flat, factors_dim, float(ridge), given)
    labels = {s.name: _labels(s) for s in sessions}
    n_trials = {n: int(np.isin(own, conditions).sum()) for n, own in labels.items()}
    return _assembled(sessions, flat, found, conditions, shape, n_trials)


def carried_alignment(
    sessions: Sequence[Session], *, smoothing_bins: float = SMOOTHING_BINS
) -> Alignment:
    """Return how well the alignment matrices of sessions fit their averages.

    Args:
        sessions: sessions with ``train_condition`` and ``alignment_matrix_cxf``; Z is the mean of
            their projections.
        smoothing_bins: as above.

    Raises:
        LFADSError: labels, shared conditions or matrices are missing.
    """
    conditions = _shared_conditions(sessions)
    averages = {s.name: _averages(s, conditions, smoothing_bins) for s in sessions}
    first = sessions[0].alignment_matrix_cxf
    shape = (len(conditions), sessions[0].n_bins, 0 if first is None else first.shape[1])
    flat = [averages[s.name].reshape(-1, s.data_dim) for s in sessions]
    common = _mean_projection(sessions, averages, shape)
    found = components_regression(flat, shape[2], 0.0, common)
    matrices = [np.asarray(s.alignment_matrix_cxf, np.float64) for s in sessions]
    n_trials = {s.name: int(np.isin(_labels(s), conditions).sum()) for s in sessions}
    carried = found._replace(matrices=matrices)
    return _assembled(sessions, flat, carried, conditions, shape, n_trials)


def align_same_neurons(
    sessions: Sequence[Session], factors_dim: int, *, smoothing_bins: float = SMOOTHING_BINS
) -> Alignment:
    """Align sessions that have the same neurons: one matrix for all, no conditions needed.

    Its columns are the principal directions of the smoothed trials of all sessions, after the mean
    of each channel in each session is removed.

    Args:
        sessions: sessions with the same D and, if they have any, the same ``neuron_ids``.
        factors_dim: F.
        smoothing_bins: as above.

    Raises:
        LFADSError: the sessions differ in their neurons or bins, or F is too large.
    """
    _check_settings(factors_dim, smoothing_bins, 0.0)
    _check_bins(sessions)
    first = sessions[0]
    for s in sessions[1:]:
        named = s.neuron_ids is not None and first.neuron_ids is not None
        others = named and not np.array_equal(s.neuron_ids, first.neuron_ids)  # type: ignore[arg-type]
        if s.data_dim != first.data_dim or others:
            found = f"{s.data_dim} neurons" if s.data_dim != first.data_dim else "other neuron_ids"
            raise LFADSError(
                f"{s.source}: has {found}, {first.source} has {first.data_dim}; with same_neurons "
                "all sessions must have the same neurons in the same order"
            )
    smooth = [_smoothed(_filled(s), smoothing_bins).reshape(-1, s.data_dim) for s in sessions]
    biases = [x.mean(0) for x in smooth]
    stacked = np.concatenate([x - b for x, b in zip(smooth, biases, strict=True)])
    if factors_dim > min(stacked.shape):
        raise LFADSError(
            f"factors_dim={factors_dim} is more than the {min(stacked.shape)} dimensions of "
            f"{sizes(stacked.shape)} bins × neurons; choose a smaller one"
        )
    values, vectors = np.linalg.eigh(stacked.T @ stacked)
    matrix = vectors[:, ::-1][:, :factors_dim]
    projected = stacked @ matrix
    ends = np.cumsum([len(x) for x in smooth])[:-1]
    shares, parts = np.split(projected, ends), np.split(stacked, ends)
    names = [s.name for s in sessions]
    n_bins = first.n_bins
    return Alignment(
        {n: matrix.copy() for n in names},
        dict(zip(names, biases, strict=True)),
        projected.reshape(-1, n_bins, factors_dim),
        [str(i) for i in range(len(projected) // n_bins)],
        _share(values[::-1]),
        {n: x.reshape(-1, n_bins, factors_dim) for n, x in zip(names, shares, strict=True)},
        dict.fromkeys(names, 1.0),
        {n: _r2(p, x @ matrix.T) for n, p, x in zip(names, parts, shares, strict=True)},
        {s.name: len(s.train.data) for s in sessions},
        same_neurons=True,
    )


def components_regression(
    averages: Sequence[np.ndarray],
    factors_dim: int,
    ridge: float = 0.0,
    components: np.ndarray | None = None,
) -> Regression:
    """Regress the leading principal components of a stack of sessions on each of them.

    Args:
        averages: per session (n, D_s), rows alike in all.
        factors_dim: F.
        ridge: weight of |W|^2; 0: least squares.
        components: (n, F) to regress, instead of the principal ones.
    """
    biases = [x.mean(axis=0) for x in averages]
    centred = [x - b for x, b in zip(averages, biases, strict=True)]
    stacked = np.hstack(centred)
    n, dim = stacked.shape
    # eigenvalues ascend; of the two Gram matrices, the smaller has all that are not 0
    values, vectors = np.linalg.eigh(stacked.T @ stacked if dim <= n else stacked @ stacked.T)
    if components is None:
        leading = vectors[:, ::-1][:, :factors_dim]
        scale = np.sqrt(np.maximum(values[::-1][:factors_dim], 0))
        components = stacked @ leading if dim <= n else leading * scale
    matrices = [_regress(x, components, ridge) for x in centred]
    return Regression(components, _share(values[::-1]), matrices, biases)


def _regress(x: np.ndarray, z: np.ndarray, ridge: float) -> np.ndarray:
    if ridge == 0:
        return np.linalg.lstsq(x, z, rcond=None)[0]
    return np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ z)


def _share(values: np.ndarray) -> np.ndarray:
    values = np.maximum(values, 0)
    return values / max(values.sum(), np.finfo(float).tiny)


def _chosen_ridge(
    flat: list[np.ndarray], factors_dim: int, shape: tuple[int, ...], given: np.ndarray | None
) -> float:
    """Return the ridge that predicts the components best in conditions left out."""
    n_conditions, n_bins, _ = shape
    if n_conditions < 2:
        raise LFADSError(
            "ridge=cv needs two or more shared conditions, and the sessions share only one; give "
            "a number"
        )
    z = components_regression(flat, factors_dim, 0.0, given).components
    fold = np.repeat(np.arange(n_conditions) % min(N_FOLDS, n_conditions), n_bins)
    errors = np.zeros(len(RIDGES))
    for k in range(fold.max() + 1):
        kept = fold != k
        for x in flat:
            mean, z_mean = x[kept].mean(0), z[kept].mean(0)
            for i, ridge in enumerate(RIDGES):
                w = _regress(x[kept] - mean, z[kept] - z_mean, ridge)
                errors[i] += np.square((x[~kept] - mean) @ w + z_mean - z[~kept]).sum()
    return float(RIDGES[int(errors.argmin())])


def _mean_projection(
    to: Sequence[Session], averages: Mapping[str, np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    total = np.zeros((shape[0] * shape[1], shape[2]))
    for s in to:
        matrix = s.alignment_matrix_cxf
        if matrix is None or matrix.shape != (s.data_dim, shape[2]):
            found = "missing" if matrix is None else sizes(matrix.shape)
            raise LFADSError(
                f"{s.source}: alignment_matrix_cxf is {found}; a session that others are aligned "
                f"to needs its own, D×F = {s.data_dim}×{shape[2]}"
            )
        flat = averages[s.name].reshape(-1, s.data_dim)
        total += (flat - flat.mean(0)) @ matrix
    return total / len(to)


def _labels(session: Session) -> np.ndarray:
    """Return each training trial's condition as a text, empty for none."""
    condition = session.train.condition
    if condition is None:
        raise LFADSError(
            f"{session.source}: train_condition is missing; sessions are aligned by the averages "
            "of conditions that they share, so add a label for each trial. Sessions with the same "
            "neurons do not need it (same_neurons). You can also train without alignment; the "
            "read-ins then start at random"
        )
    return np.where(has_condition(condition), condition.astype(str), "")


def _shared_conditions(sessions: Sequence[Session]) -> list[str]:
    """Return the labels that all sessions have; say what is left out."""
    names = [s.name for s in sessions]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise LFADSError(f"two sessions are named '{twice}'; the names must be unique; rename one")
    labels = {s.name: _labels(s) for s in sessions}
    own = {name: set(x) - {""} for name, x in labels.items()}
    shared = set.intersection(*own.values())
    if not shared:
        shown = "; ".join(f"{name}: {listed(sorted(x))}" for name, x in list(own.items())[:4])
        raise LFADSError(
            f"the {len(sessions)} sessions share no condition ({shown}); use the same labels for "
            "the same conditions"
        )
    for s in sessions:
        without = int((labels[s.name] == "").sum())
        unshared = sorted(own[s.name] - shared, key=_natural)
        left_out = [f"{without} trials without condition"] if without else []
        if unshared:
            n = int(np.isin(labels[s.name], unshared).sum())
            left_out.append(
                f"{n} trials of conditions that some sessions lack ({listed(unshared)})"
            )
        if left_out:
            warnings.warn(
                f"{s.source}: {' and '.join(left_out)} are left out of the alignment", stacklevel=3
            )
    return sorted(shared, key=_natural)


def _natural(label: str) -> tuple[float, str]:
    return (float(label), label) if label.lstrip("-").isdigit() else (np.inf, label)


def _averages(session: Session, conditions: Sequence[str], smoothing_bins: float) -> np.ndarray:
    """Return smoothed condition averages (C, T, D)."""
    labels, data = _labels(session), session.train.known
    means = np.stack([mean_of(data[labels == c], 0, np.float64, np.nan) for c in conditions])
    if has_missing(means):  # bins that no trial of a condition has
        means = np.where(np.isnan(means), mean_of(data, (0, 1)), means)
    return _smoothed(means, smoothing_bins)


def _filled(session: Session) -> np.ndarray:
    """Return training data (E, T, D), the neuron's mean where entries are missing."""
    data = session.train.known
    return np.where(np.isnan(data), mean_of(data, (0, 1)), data) if has_missing(data) else data


def _smoothed(data: np.ndarray, sd: float) -> np.ndarray:
    values = data.astype(np.float64)
    return gaussian_filter1d(values, sd, axis=1, mode="nearest") if sd > 0 else values


def _check_settings(factors_dim: int, smoothing_bins: float, ridge: float | str) -> None:
    if factors_dim < 1:
        raise LFADSError(f"factors_dim={factors_dim}; expected 1 or more")
    if not smoothing_bins >= 0:
        raise LFADSError(f"smoothing_bins={smoothing_bins}; expected bins, 0 or more")
    if ridge != "cv" and not (isinstance(ridge, int | float) and ridge >= 0):
        raise LFADSError(f"ridge={ridge!r}; expected a number of 0 or more, or 'cv'")


def _check_bins(sessions: Sequence[Session]) -> None:
    first = sessions[0]
    for s in sessions:
        if s.n_bins != first.n_bins:
            raise LFADSError(
                f"{s.source}: trials have {s.n_bins} bins, those of {first.source} have "
                f"{first.n_bins}; all sessions must have the same T; cut their trials alike"
            )


def _check_size(sessions: Sequence[Session], shape: tuple[int, ...]) -> None:
    n_conditions, n_bins, factors_dim = shape
    n_channels = sum(s.data_dim for s in sessions)
    rows = n_conditions * n_bins - 1  # one goes with the mean
    for n, what in (
        (n_channels, f"{n_channels} channels of all sessions together"),
        (rows, f"{rows} dimensions of {n_conditions} conditions × {n_bins} bins"),
    ):
        if factors_dim > n:
            raise LFADSError(
                f"factors_dim={factors_dim} is more than the {what}; choose a smaller one"
            )
    small = [s for s in sessions if s.data_dim < factors_dim]
    if small:
        warnings.warn(
            f"{listed([s.name for s in small])}: fewer neurons than factors_dim={factors_dim}, so "
            "they cannot represent all components",
            stacklevel=3,
        )


def _assembled(
    sessions: Sequence[Session],
    flat: list[np.ndarray],
    found: Regression,
    conditions: list[str],
    shape: tuple[int, ...],
    n_trials: dict[str, int],
) -> Alignment:
    z = found.components
    matrices, biases, projections, of_z, of_x = {}, {}, {}, {}, {}
    for s, x, w, b in zip(sessions, flat, found.matrices, found.biases, strict=True):
        matrices[s.name], biases[s.name] = w, b
        projected = (x - b) @ w
        projections[s.name] = projected.reshape(shape)
        of_z[s.name] = _r2(z, projected)
        of_x[s.name] = _r2(x - b, z @ np.linalg.lstsq(z, x - b, rcond=None)[0])
    return Alignment(
        matrices,
        biases,
        z.reshape(shape),
        conditions,
        found.variance,
        projections,
        of_z,
        of_x,
        n_trials,
    )


def _r2(truth: np.ndarray, guess: np.ndarray) -> float:
    """Return the share of the variance of ``truth`` that ``guess`` reproduces, pooled."""
    spread = np.square(truth - truth.mean(0)).sum()
    return float(1 - np.square(truth - guess).sum() / spread) if spread > 0 else float("nan")
