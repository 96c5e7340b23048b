"""Averages of the weights over the updates (``optim.average_weights``), validated and saved."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lfads_lightning.model.lfads import LFADS

# The average spans about a tenth of the updates so far, and at most 50 of them: the best epoch may
# be an early one, in which the learning rate is high and the weights of single updates scatter.
LONGEST = 0.98


class Averages:
    """Moving averages of a model's weights; they can be swapped with the weights.

    Args:
        model: the model whose weights are averaged from now on.
    """

    def __init__(self, model: LFADS) -> None:
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.are_in = False  # True while the model holds the averages, and this the weights

    def take_up(self, weights: Mapping[str, Tensor]) -> None:
        """Continue with averages from a checkpoint."""
        for name, average in self.weights.items():
            average.copy_(weights[name])

    @torch.no_grad()
    def add(self, model: LFADS, n_updates: int) -> None:
        """Add the weights after the update with number ``n_updates``."""
        new = 1 - min(LONGEST, (1 + n_updates) / (10 + n_updates))
        now = [p.detach() for _, p in model.named_parameters()]
        torch._foreach_lerp_(list(self.weights.values()), now, new)

    @torch.no_grad()
    def swap(self, model: LFADS) -> None:
        """Swap the averages with the model's weights."""
        for name, p in model.named_parameters():
            other = self.weights[name].clone()
            self.weights[name].copy_(p)
            p.copy_(other)
        self.are_in = not self.are_in
