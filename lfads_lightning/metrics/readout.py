"""Poisson regression of many neurons on the same latents, fitted together."""

import math
from typing import NamedTuple

import numpy as np

from lfads_lightning.metrics.missing import has_missing

MOST_ROWS = 20_000  # bins that a regression is fitted on; more would change little
MOST_ENTRIES = 2**23  # bins x neurons of a fit: with thousands of neurons, fewer bins
FEWEST_ROWS = 2000  # bins, however many neurons there are
MOST_COMPONENTS = 256  # principal components of the latents; later ones are dropped
BLOCK_ENTRIES = 2**21  # bins x neurons in memory at once
TOLERANCE = 1e-7  # for the largest gradient
MOST_STEPS, MOST_DIRECTIONS = 50, 40  # steps of Newton's method; conjugate gradients in each step
LARGEST_LOG_RATE = 30.0  # a step that exceeds it is shortened


class Readout(NamedTuple):
    """Rates exp(x w + b) of N neurons from n latents.

    Attributes:
        weights: (n, N).
        intercepts: (N,).
        most: (N,), upper bound of the log-rates, set by the data.
    """

    weights: np.ndarray
    intercepts: np.ndarray
    most: np.ndarray

    def rates(self, x: np.ndarray) -> np.ndarray:
        """Return the rates (E, T, N), in counts per bin, for latents (E, T, n)."""
        return np.exp(np.minimum(x @ self.weights + self.intercepts, self.most))


def every_nth(n_rows: int, n_neurons: int, effort: float, fewest: int = 0) -> int:
    """Return n, so that a method is fitted on every nth bin.

    Args:
        n_rows: number of bins.
        n_neurons: neurons fitted together; with thousands of them, fewer bins are taken.
        effort: share of the usual bound; 1 or less.
        fewest: number of bins needed.
    """
    most = max(min(MOST_ROWS, MOST_ENTRIES // max(n_neurons, 1)) * effort, fewest, FEWEST_ROWS)
    return math.ceil(n_rows / most)


class Design:
    """Latents, prepared once, to fit read-outs of many neurons with several penalties.

    Latents are scaled to unit variance and rotated to their principal components. The rotation
    leaves the penalty as it is, and the components are uncorrelated, so that conjugate gradients
    with a diagonal preconditioner solve Newton's equations in a few directions.

    Args:
        x: (E, T, n) latents; bins in which they are NaN are left out.
        n_neurons: number of neurons to fit together.
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

        Minimises mean of (r - y log r) + alpha / 2 |w|^2 for each neuron (scikit-learn's
        PoissonRegressor). A neuron that never fires is given half a spike in total. NaN counts are
        left out.
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
    """Return intercepts and weights (1 + n, N) for uncorrelated latents x (rows, n).

    Newton's method; each neuron's step is halved until its cost falls. Missing entries, 0 in
    ``there`` (rows, N), get rate 0, so they add nothing to the gradient and the curvature.
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
            # near the optimum a step changes the cost by less than rounding
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

    Stops when all residuals are small enough for Newton's method to converge faster than linearly;
    single precision resolves far smaller ones.
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
    """Return each neuron's cost (infinite if one of its rates overflows) and the rates."""
    rates = np.exp(np.minimum(log_rates, LARGEST_LOG_RATE))
    if there is not None:
        rates *= there
    explained = np.einsum("rn,rn->n", y, log_rates) / len(y)
    cost = rates.mean(0) - explained + 0.5 * (penalty * np.square(weights)).sum(0)
    return np.where(log_rates.max(0) > LARGEST_LOG_RATE, np.inf, cost), rates
