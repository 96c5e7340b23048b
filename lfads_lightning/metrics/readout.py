"""Poisson regression of many neurons on the same latents, fitted together."""

import math
from typing import NamedTuple

import numpy as np

from lfads_lightning.metrics.missing import has_missing

MOST_ROWS = 20_000  # bins that a regression is fitted on; more change little
MOST_ENTRIES = 2**23  # bins x neurons of a fit: with thousands of neurons, fewer bins
FEWEST_ROWS = 2000  # in any case
MOST_COMPONENTS = 256  # of the latents; beyond them, the first principal components are taken
BLOCK_ENTRIES = 2**21  # bins x neurons that are held at once
TOLERANCE = 1e-7  # of the largest gradient
MOST_STEPS, MOST_DIRECTIONS = 50, 40  # of Newton's method; of conjugate gradients in each
LARGEST_LOG_RATE = 30.0  # a step that goes beyond is cut


class Readout(NamedTuple):
    """Rates exp(x w + b) of N neurons from n latents.

    Attributes:
        weights: (n, N).
        intercepts: (N,).
        most: (N,), log-rates no further than the data go.
    """

    weights: np.ndarray
    intercepts: np.ndarray
    most: np.ndarray

    def rates(self, x: np.ndarray) -> np.ndarray:
        """Return the rates (E, T, N) that are read from latents (E, T, n), counts per bin."""
        return np.exp(np.minimum(x @ self.weights + self.intercepts, self.most))


def every_nth(n_rows: int, n_neurons: int, effort: float, fewest: int = 0) -> int:
    """Return which of so many bins a method is fitted on: every nth.

    Args:
        n_rows: bins.
        n_neurons: that are fitted together; with thousands of them, fewer bins are taken.
        effort: share of the usual bound; 1 or less.
        fewest: bins that are needed.
    """
    most = max(min(MOST_ROWS, MOST_ENTRIES // max(n_neurons, 1)) * effort, fewest, FEWEST_ROWS)
    return math.ceil(n_rows / most)


class Design:
    """Latents that read-outs are fitted on: many neurons, several penalties, prepared once.

    Latents are scaled to unit variance and turned into their principal components. The penalty is
    the same there, and the components are uncorrelated, so that conjugate gradients with a
    diagonal preconditioner solve Newton's equations in a few directions.

    Args:
        x: (E, T, n) latents; bins in which they are NaN are left out.
        n_neurons: that will be fitted together.
        effort: see :func:`every_nth`.
    """

    def __init__(self, x: np.ndarray, n_neurons: int, effort: float = 1.0) -> None:
        rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
        self.known = ~np.isnan(rows).any(1) if has_missing(rows) else slice(None)
        rows = rows[self.known]
        self.step = every_nth(len(rows), n_neurons, effort, 4 * x.shape[-1])
        rows = rows[:: self.step]
        self.mean, self.sd = rows.mean(0), rows.std(0)
        self.sd[self.sd == 0] = 1
        rows = (rows - self.mean) / self.sd
        values, axes = np.linalg.eigh(rows.T @ rows / len(rows))
        kept = slice(max(len(values) - MOST_COMPONENTS, 0), None)
        self.variances, self.axes = np.maximum(values[kept], 0), axes[:, kept]
        self.rows = rows @ self.axes

    def fit(self, counts: np.ndarray, alpha: float) -> Readout:
        """Fit a read-out to counts (E, T, N), with the penalty ``alpha`` on the weights.

        Of each neuron, mean of (r - y log r) + alpha / 2 |w|^2 is minimised (scikit-learn's
        PoissonRegressor). A neuron that never fires gets half a spike in all. Counts that are NaN
        do not enter.
        """
        y = counts.reshape(-1, counts.shape[-1])[self.known][:: self.step]
        there = None
        if has_missing(y):
            there = ~np.isnan(y)
            y = np.where(there, y, 0)
        weights = np.zeros((self.rows.shape[1] + 1, y.shape[1]))
        weights[0] = np.log(0.5 / len(y))
        fires = np.flatnonzero(y.any(0))
        n = max(BLOCK_ENTRIES // len(y), 1)
        for block in (fires[i : i + n] for i in range(0, len(fires), n)):
            there_too = None if there is None else there[:, block].astype(np.float64)
            weights[:, block] = _newton(self.rows, self.variances, y[:, block], alpha, there_too)
        w = (self.axes @ weights[1:]) / self.sd[:, None]
        most = np.log(np.maximum(2 * y.max(0).astype(np.float64), 1))
        return Readout(w, weights[0] - self.mean @ w, most)


def _newton(
    x: np.ndarray,
    variances: np.ndarray,
    y: np.ndarray,
    alpha: float,
    there: np.ndarray | None = None,
) -> np.ndarray:
    """Return intercepts and weights (1 + n, N) of uncorrelated latents x (rows, n).

    Newton's method; each neuron's step is halved until its cost falls. Entries that are not
    ``there``, (rows, N) of 0 and 1, have no rate, so that neither gradient nor curvature has them.
    """
    y = y.astype(np.float64)
    penalty = np.r_[0.0, np.full(x.shape[1], alpha)][:, None]
    spread = np.r_[1.0, variances][:, None]
    weights = np.zeros((x.shape[1] + 1, y.shape[1]))
    share = 1.0 if there is None else np.maximum(there.mean(0), 1 / len(y))
    weights[0] = np.log(y.mean(0) / share)
    log_rates = np.broadcast_to(weights[0], y.shape)
    costs, rates = _cost(log_rates, weights, y, penalty, there)
    active = np.arange(y.shape[1])
    for _ in range(MOST_STEPS):
        gradient = _back(x, rates - y[:, active]) + penalty * weights[:, active]
        moving = np.abs(gradient).max(0) > TOLERANCE
        if not moving.any():
            break
        active, rates = active[moving], rates[:, moving]
        gradient, log_rates = gradient[:, moving], log_rates[:, moving]
        step = _direction(x, rates, penalty, rates.mean(0) * spread + penalty, gradient)
        change, size = _forward(x, step), np.ones(len(active))
        old, old_costs = weights[:, active], costs[active]
        while True:
            new, new_log_rates = old - size * step, log_rates - size * change
            part = None if there is None else there[:, active]
            new_costs, rates = _cost(new_log_rates, new, y[:, active], penalty, part)
            # near the optimum a step changes the cost by less than its last digit
            worse = new_costs > old_costs + 1e-12 * np.abs(old_costs)
            if not worse.any() or size.min() < 1e-6:
                break
            size = np.where(worse, size / 2, size)
        weights[:, active], costs[active], log_rates = new, new_costs, new_log_rates
    return weights


def _direction(
    x: np.ndarray, rates: np.ndarray, penalty: np.ndarray, scale: np.ndarray, gradient: np.ndarray
) -> np.ndarray:
    """Solve H d = gradient for each neuron, by conjugate gradients (Hestenes & Stiefel 1952).

    Stops when all residuals have fallen far enough for Newton's method to converge faster than
    linearly; that is far from the last digit of single precision.
    """
    x, rates, penalty, scale, gradient = (
        a.astype(np.float32) for a in (x, rates, penalty, scale, gradient)
    )
    d, residual = np.zeros_like(gradient), gradient.copy()
    z = residual / scale
    p, rho = z.copy(), (residual * z).sum(0)
    first = np.sqrt(np.square(gradient).sum(0))
    enough = first * np.minimum(0.1, np.sqrt(first))
    for _ in range(min(MOST_DIRECTIONS, len(gradient) + 1)):
        curved = _back(x, rates * _forward(x, p)) + penalty * p
        bend = (p * curved).sum(0)
        step = np.divide(rho, bend, out=np.zeros_like(rho), where=bend > 0)
        d += step * p
        residual -= step * curved
        if (np.sqrt(np.square(residual).sum(0)) <= enough).all():
            break
        z = residual / scale
        rho, before = (residual * z).sum(0), rho
        p = z + np.divide(rho, before, out=np.zeros_like(rho), where=before > 0) * p
    return d


def _forward(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return x @ weights[1:] + weights[0]


def _back(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.concatenate([values.mean(0)[None], x.T @ values / len(x)])


def _cost(
    log_rates: np.ndarray,
    weights: np.ndarray,
    y: np.ndarray,
    penalty: np.ndarray,
    there: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each neuron's cost, infinite where a rate would be, and the rates."""
    rates = np.exp(np.minimum(log_rates, LARGEST_LOG_RATE))
    if there is not None:
        rates *= there
    explained = np.einsum("rn,rn->n", y, log_rates) / len(y)
    cost = rates.mean(0) - explained + 0.5 * (penalty * np.square(weights)).sum(0)
    return np.where(log_rates.max(0) > LARGEST_LOG_RATE, np.inf, cost), rates
