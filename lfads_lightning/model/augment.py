"""Random changes to the data in training: dropout masks and spike jitter."""

import torch
from torch import Tensor


def dropout_mask(shape: tuple[int, ...], keep_prob: float, like: Tensor) -> Tensor:
    """Draw a mask that holds 1/keep_prob with probability keep_prob, else 0 (inverted dropout)."""
    mask = torch.empty(shape, dtype=like.dtype, device=like.device)
    return mask.bernoulli_(keep_prob).div_(keep_prob)


def jitter_spikes(counts: Tensor, width: int) -> Tensor:
    """Move every single spike in time, at random.

    A count of k is k spikes; each moves by an integer uniform on [-width, width-1], as in the
    original. Spikes that leave the trial are reflected once: -t, or 2(T-1) - t. Counts per trial
    and neuron are conserved.

    Args:
        counts: (B, T, D), any integer or floating type.
        width: bins; 0 returns the input. At most T - 1 is used, where one reflection is enough.

    Returns:
        (B, T, D), of the same type.
    """
    n_bins = counts.shape[1]
    width = min(width, n_bins - 1)
    if width <= 0:
        return counts
    where = counts.nonzero()
    copies = counts[tuple(where.T)].long()
    trial, t, channel = where.repeat_interleave(copies, dim=0).T
    t = (t + torch.randint(-width, width, t.shape, device=t.device)).abs()
    t = torch.where(t > n_bins - 1, 2 * (n_bins - 1) - t, t)
    jittered = torch.zeros(counts.shape, dtype=torch.int32, device=counts.device)
    one = torch.ones((), dtype=torch.int32, device=counts.device)
    jittered.index_put_((trial, t, channel), one, accumulate=True)
    return jittered.to(counts.dtype)
