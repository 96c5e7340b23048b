"""The memory layout of tensors over time.

Their shape is (B, T, n) everywhere, but in memory they are time-major, (T, B, n). So each bin is
one block for the recurrences, and nothing is copied before or after them.
"""

from torch import Tensor


def time_major(x: Tensor) -> Tensor:
    """Return x (B, T, n), time-major in memory."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W + b for x (B, m) or (B, T, m); one matrix product, time-major if x is so."""
    if x.ndim == 2:
        return x @ weight if bias is None else bias.addmm(x, weight)
    by_bin = x.transpose(0, 1)
    flat = by_bin.reshape(-1, x.shape[2])
    y = flat @ weight if bias is None else bias.addmm(flat, weight)
    return y.view(*by_bin.shape[:2], -1).transpose(0, 1)
