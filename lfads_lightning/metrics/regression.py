"""Affine read-outs: R^2, ridge regression with cross-validation, behaviour from rates."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

NLB_ALPHAS = np.logspace(-4, 0, 9)  # penalties that the Neural Latents Benchmark (2021) tries
N_FOLDS = 5


class Decoding(NamedTuple):
    """How well behaviour can be decoded from activity."""

    r2: float  # mean over variables
    r2_by_variable: np.ndarray  # (K,)
    alpha: float  # the ridge penalty that cross-validation chose


def r2(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Return 1 - sum (truth - guess)^2 / sum (truth - its mean)^2 of each column.

    A constant column scores 1 if it is matched exactly, else 0.

    Args:
        truth: (..., K).
        guess: the same shape.
    """
    truth, guess = _rows(truth), _rows(guess)
    residual = np.square(truth - guess).sum(0)
    spread = np.square(truth - truth.mean(0)).sum(0)
    constant = spread == 0
    return np.where(constant, residual == 0, 1 - residual / np.where(constant, 1, spread))


def mean_r2(guess: np.ndarray, data: np.ndarray) -> float:
    """Return R^2 of values, mean over channels; NaN entries of ``data`` are left out.

    For each channel, 1 - sum (data - guess)^2 / sum (data - its mean)^2; channels that are constant
    or have no entries are left out.

    Args:
        guess: (E, T, D).
        data: (E, T, D).
    """
    known = ~np.isnan(data)
    values, guess = np.where(known, data, 0).astype(np.float64), np.where(known, guess, 0)
    mean = values.sum((0, 1)) / np.maximum(known.sum((0, 1)), 1)
    residual = np.square(values - guess).sum((0, 1))
    spread = (np.square(values - mean) * known).sum((0, 1))
    moves = spread > 0
    return float((1 - residual[moves] / spread[moves]).mean()) if moves.any() else math.nan


def velocity_r2(
    train_rates: np.ndarray,
    train_velocity: np.ndarray,
    test_rates: np.ndarray,
    test_velocity: np.ndarray,
    lag_bins: int = 0,
    alphas: np.ndarray = NLB_ALPHAS,
) -> Decoding:
    """Decode behaviour, such as hand velocity, from activity, and score it on other trials.

    Ridge regression min ``|y - x w - b|^2 + alpha |w|^2``; alpha is chosen by five-fold
    cross-validation on the training bins, in their order (Pei et al. 2021, section 4). Bins with
    NaN behaviour or activity are left out.

    Args:
        train_rates: (E, T, n) rates, factors or any other predictor.
        train_velocity: (E, T, K).
        test_rates: (E', T, n).
        test_velocity: (E', T, K).
        lag_bins: behaviour of bin t + lag is decoded from activity of bin t; may be negative.
        alphas: penalties to choose from.
    """
    ridge, alpha = _ridge_read_out(*_lagged(train_rates, train_velocity, lag_bins), alphas)
    test_x, test_y = _lagged(test_rates, test_velocity, lag_bins)
    each = r2(test_y, ridge.predict(test_x))
    return Decoding(float(each.mean()), each, alpha)


def decode(
    train_rates: np.ndarray,
    train_velocity: np.ndarray,
    test_rates: np.ndarray,
    alphas: np.ndarray = NLB_ALPHAS,
) -> np.ndarray:
    """Return the decoded behaviour (E', T, K) that :func:`velocity_r2` scores, for lag 0.

    It is NaN in bins with NaN activity. The arguments are those of :func:`velocity_r2`.
    """
    ridge, _ = _ridge_read_out(*_lagged(train_rates, train_velocity, 0), alphas)
    read = ridge.predict(_rows(test_rates))
    return read.reshape(*test_rates.shape[:2], -1)


def affine_r2(
    x: np.ndarray,
    y: np.ndarray,
    train_x: np.ndarray | None = None,
    train_y: np.ndarray | None = None,
) -> np.ndarray:
    """Return R^2 of the best affine map x w + b for each column of y.

    Args:
        x: (E, T, n).
        y: (E, T, K).
        train_x: (E', T, n), to fit the map on; None to fit it on x and y themselves.
        train_y: (E', T, K).
    """
    fit_x, fit_y = (x, y) if train_x is None or train_y is None else (train_x, train_y)
    weights = np.linalg.lstsq(_with_one(fit_x), _rows(fit_y), rcond=None)[0]
    return r2(_rows(y), _with_one(x) @ weights)


def _rows(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    return array.reshape(-1, array.shape[-1])


def _with_one(array: np.ndarray) -> np.ndarray:
    rows = _rows(array)
    return np.column_stack([rows, np.ones(len(rows))])


def _lagged(x: np.ndarray, y: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    n_bins = x.shape[1]
    first, last = max(lag, 0), n_bins + min(lag, 0)
    x, y = _rows(x[:, first - lag : last - lag]), _rows(y[:, first:last])
    known = ~np.isnan(y).any(1) & ~np.isnan(x).any(1)
    return x[known], y[known]


class _Ridge(NamedTuple):
    """An affine map, fitted by ridge regression."""

    weights: np.ndarray  # (n, K)
    x_mean: np.ndarray
    y_mean: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the prediction (rows, K) from x (rows, n)."""
        return (x - self.x_mean) @ self.weights + self.y_mean


class _Moments(NamedTuple):
    """Sums over rows of x (n columns) and y (K columns): all that a ridge regression needs.

    The sums over the rows outside a fold are the sums over all rows minus those over the fold, so
    that the large product x'x is computed only once.
    """

    n_rows: int
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray

    def without(self, other: "_Moments") -> "_Moments":
        """Return the sums over the other rows."""
        return _Moments(
            self.n_rows - other.n_rows,
            self.x - other.x,
            self.y - other.y,
            self.xx - other.xx,
            self.xy - other.xy,
        )

    def fit(self, alphas: np.ndarray) -> Iterator[_Ridge]:
        """Yield the map for each penalty."""
        x_mean, y_mean = self.x / self.n_rows, self.y / self.n_rows
        square = self.xx - self.n_rows * np.outer(x_mean, x_mean)
        cross = self.xy - self.n_rows * np.outer(x_mean, y_mean)
        for alpha in alphas:
            yield _Ridge(_solved(square, cross, alpha), x_mean, y_mean)


def _moments(x: np.ndarray, y: np.ndarray) -> _Moments:
    return _Moments(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)


def _solved(square: np.ndarray, cross: np.ndarray, alpha: float) -> np.ndarray:
    """Return (square + alpha)^-1 cross."""
    penalised = square.copy()
    penalised.flat[:: len(square) + 1] += alpha
    try:
        return np.asarray(cho_solve(cho_factor(penalised, overwrite_a=True), cross))
    except np.linalg.LinAlgError:  # columns so large that alpha is within their rounding
        values, vectors = np.linalg.eigh(square)
        return np.asarray(vectors @ (vectors.T @ cross / (np.maximum(values, 0) + alpha)[:, None]))


def _ridge_read_out(x: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> tuple[_Ridge, float]:
    """Fit a map from rows x to rows y, with the penalty that five-fold cross-validation chooses.

    Folds are consecutive rows; the best penalty has the highest R^2, mean over folds and variables.
    """
    shift = x.mean(0)
    near = x - shift  # sums of squares of uncentred values would lose digits
    whole = _moments(near, y)
    scores = np.full((N_FOLDS, len(alphas)), math.nan)
    if len(x) >= 2 * N_FOLDS:
        for of_fold, rows in zip(scores, np.array_split(np.arange(len(x)), N_FOLDS), strict=True):
            fold = slice(rows[0], rows[-1] + 1)
            rest = whole.without(_moments(near[fold], y[fold]))
            of_fold[:] = [
                r2(y[fold], ridge.predict(near[fold])).mean() for ridge in rest.fit(alphas)
            ]
    alpha = float(alphas[np.argmax(scores.mean(0))])
    (ridge,) = whole.fit(np.array([alpha]))
    return ridge._replace(x_mean=ridge.x_mean + shift), alpha
