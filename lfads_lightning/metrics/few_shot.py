"""Few-shot co-smoothing: held-out neurons from a read-out that is fitted on a few trials."""

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

    Superfluous dimensions of the latents, which co-bps ignores, lower this score: a read-out from
    them cannot be learned from a few trials (Dabholkar & Barak 2024). The score is the mean over
    random draws of the trials; the null model is that of :func:`bits_per_spike`. Latents of a model
    that was trained to predict the held-out neurons have been shaped by them.

    Args:
        train_latents: (E, T, F), factors of training trials.
        train_counts: (E, T, N), held-out neurons.
        test_latents: (E', T, F).
        test_counts: (E', T, N).
        n_trials: k, number of training trials in a draw.
        n_draws: number of draws.
        alpha: penalty of the read-out, see :class:`~lfads_lightning.metrics.readout.Design`.
        seed: seed of the draws.
    """
    rng, scores = np.random.default_rng(seed), []
    for _ in range(n_draws):
        few = rng.choice(len(train_latents), n_trials, replace=False)
        counts = train_counts[few]
        readout = Design(train_latents[few], counts.shape[-1]).fit(counts, alpha)
        scores.append(bits_per_spike(readout.rates(test_latents), test_counts))
    return float(np.mean(scores))
