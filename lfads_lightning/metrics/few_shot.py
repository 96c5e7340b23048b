"""Held-out neurons read from latents by a read-out that saw a few trials."""

import numpy as np

from lfads_lightning.metrics.likelihood import bits_per_spike
from lfads_lightning.metrics.readout import Design


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
        alpha: penalty of the read-out, see :class:`~lfads_lightning.metrics.readout.Design`.
        seed: of the draws.
    """
    rng, scores = np.random.default_rng(seed), []
    for _ in range(n_draws):
        few = rng.choice(len(train_latents), n_trials, replace=False)
        counts = train_counts[few]
        readout = Design(train_latents[few], counts.shape[-1]).fit(counts, alpha)
        scores.append(bits_per_spike(readout.rates(test_latents), test_counts))
    return float(np.mean(scores))
