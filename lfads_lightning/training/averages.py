"""Averages of the weights over the updates (``optim.average_weights``): what is judged and kept."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lfads_lightning.model.lfads import LFADS

# The average forgets within a tenth of the updates so far, and within 50 at most: what is kept may
# be of an early update, where the rate is high and single weights scatter.
LONGEST = 0.98


class Averages:
    """A moving average of each of a model's weights; it can change places with them.

    Args:
        model: whose weights are averaged from now on.
    """

    def __init__(self, model: LFADS) -> None:
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.are_in = False  # the model has the averages, and they are the trained weights

    def take_up(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with averages that were saved."""
        for name, average in self.weights.items():
            average.copy_(weights[name])

    @torch.no_grad()
    def add(self, model: LFADS, n_updates: int) -> None:
        """Take in the weights after an update, the ``n_updates``-th."""
        new = 1 - min(LONGEST, (1 + n_updates) / (10 + n_updates))
        now = [p.detach() for _, p in model.named_parameters()]
        torch._foreach_lerp_(list(self.weights.values()), now, new)

    @torch.no_grad()
    def swap(self, model: LFADS) -> None:
        """Let the averages and the model's weights change places."""
        for name, p in model.named_parameters():
            other = self.weights[name].clone()
            self.weights[name].copy_(p)
            p.copy_(other)
        self.are_in = not self.are_in
