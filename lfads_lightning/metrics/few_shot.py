"""Held-out neurons read from latents: Poisson regression, on many trials or on a few."""

import warnings

import numpy as np

from lfads_lightning.metrics.likelihood import bits_per_spike

MOST_ROWS = 20_000  # bins that a regression is fitted on; more change little


def poisson_readout(
    train_x: np.ndarray, train_counts: np.ndarray, test_x: np.ndarray, alpha: float
) -> np.ndarray:
    """Fit rates exp(x w + b) to counts by Poisson regression, and predict them.

    Of each neuron, mean of (r - n log r) + alpha / 2 |w|^2 is minimised (scikit-learn's
    PoissonRegressor), x scaled to unit variance.

    Args:
        train_x: (E, T, n).
        train_counts: (E, T, N).
        test_x: (E', T', n).
        alpha: penalty on the weights.

    Returns:
        Rates (E', T', N), counts per bin.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import PoissonRegressor

    x, y = (np.asarray(a, np.float64).reshape(-1, a.shape[-1]) for a in (train_x, train_counts))
    step = -(-len(x) // MOST_ROWS)
    x, y = x[::step], y[::step]
    mean, sd = x.mean(0), x.std(0)
    sd[sd == 0] = 1
    test = (np.asarray(test_x, np.float64).reshape(-1, test_x.shape[-1]) - mean) / sd
    rates = np.empty((len(test), y.shape[1]))
    regressor = PoissonRegressor(alpha=alpha, solver="newton-cholesky", max_iter=100)
    for i, counts in enumerate(y.T):
        if not counts.any():
            rates[:, i] = 0.5 / len(counts)  # never seen to fire: half a spike in all
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regressor.fit((x - mean) / sd, counts)
        # no further than the data go
        log_rates = test @ regressor.coef_ + regressor.intercept_
        rates[:, i] = np.exp(np.minimum(log_rates, np.log(max(2 * counts.max(), 1))))
    return rates.reshape(*test_x.shape[:2], -1)


def few_shot_co_bps(
    train_latents: np.ndarray,
    train_counts: np.ndarray,
    test_latents: np.ndarray,
    test_counts: np.ndarray,
    n_trials: int,
    n_draws: int = 5,
    alpha: float = 1e-3,
    seed: int = 0,
) -> float:
    """Return co-bps of a new read-out of held-out neurons, fitted on a few trials.

    Superfluous dimensions of the latents, which co-bps does not see, cost here: a read-out from
    them cannot be learned from a few trials (Dabholkar & Barak 2024). The mean over draws of the
    trials; null as in :func:`bits_per_spike`. Where the latents come from a model that was trained
    to predict these very neurons, they have been shaped by them.

    Args:
        train_latents: (E, T, F), factors of training trials.
        train_counts: (E, T, N), held-out neurons.
        test_latents: (E', T, F).
        test_counts: (E', T, N).
        n_trials: k, drawn from the training trials.
        n_draws: of k trials each.
        alpha: penalty of :func:`poisson_readout`.
        seed: of the draws.
    """
    rng, scores = np.random.default_rng(seed), []
    for _ in range(n_draws):
        few = rng.choice(len(train_latents), n_trials, replace=False)
        rates = poisson_readout(train_latents[few], train_counts[few], test_latents, alpha)
        scores.append(bits_per_spike(rates, test_counts))
    return float(np.mean(scores))
