"""Ramps and learning rates over the course of training."""

import math

from lfads_lightning.config import Config


def ramp(step: int, start: int, increase: int) -> float:
    """Return a linear weight: 0 until ``start``, 1 from ``start + increase`` on.

    Args:
        step: optimiser updates already done; the first update uses 0.
        start: update at which the ramp leaves 0.
        increase: updates from 0 to 1; with 0 the weight is 1 from ``start`` on.
    """
    if increase == 0:
        return float(step >= start)
    return min(max(step - start, 0) / increase, 1.0)


def ramps(config: Config, step: int) -> tuple[float, float]:
    """Return the KL and the L2 ramp at an update."""
    loss = config.loss
    return (
        ramp(step, loss.kl_start_step, loss.kl_increase_steps),
        ramp(step, loss.l2_start_step, loss.l2_increase_steps),
    )


def cosine(step: int, warmup: int, total: int, end: float) -> float:
    """Return the factor by which a cosine schedule multiplies the highest learning rate.

    It rises from 0 over the first ``warmup`` updates, then falls by half a cosine to ``end``.

    >>> [round(cosine(step, 2, 6, 0.1), 2) for step in range(6)]
    [0.5, 1.0, 0.87, 0.55, 0.23, 0.1]

    Args:
        step: updates already done.
        warmup: number of updates of the rise.
        total: number of all updates, including the rise; after them the factor is ``end``.
        end: final factor, 0..1.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min((step + 1 - warmup) / max(total - warmup, 1), 1)
    return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2


class LearningRateRule:
    """Decay when the training cost of an epoch exceeds each of the last n.

    After a decay the list holds an infinite cost, so that decays are at least n + 1 epochs apart.

    Args:
        decay_factor: factor by which a decay multiplies the rate.
        n_to_compare: n, number of epochs.
    """

    def __init__(self, decay_factor: float, n_to_compare: int) -> None:
        self.decay_factor, self.n_to_compare = decay_factor, n_to_compare
        self.costs: list[float] = []

    def __call__(self, rate: float, cost: float) -> float:
        """Take an epoch's mean training cost; return the learning rate of the next epoch."""
        n = self.n_to_compare
        if len(self.costs) > n and cost > max(self.costs[-n:]):
            cost, rate = float("inf"), rate * self.decay_factor
        self.costs = [*self.costs, cost][-n - 1 :]  # older ones are never used
        return rate

    def epochs_until(self, rate: float, stop: float) -> float:
        """Return the smallest number of epochs after which ``rate`` can fall below ``stop``."""
        decays = 0
        if self.decay_factor == 1:
            return float("inf") if rate >= stop else 0
        while rate >= stop > 0:
            rate *= self.decay_factor
            decays += 1
        return decays * (self.n_to_compare + 1)
