"""Layers and tensor helpers of the network."""

import math

import torch
from torch import Tensor, nn

from lfads_lightning.model.cells import GRU
from lfads_lightning.model.recurrences import Passes


class Affine(nn.Module):
    """y = x W + b (rows, as in the paper); W (in, out) starts at N(0, 1/sqrt(in)), b at 0."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_dim, out_dim) / math.sqrt(in_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return x @ self.weight + self.bias


class Bidirectional(nn.Module):
    """Two GRUs with weights and trained start states of their own; backward one optional."""

    def __init__(self, input_dim: int, hidden_dim: int, gate_scale: float, clip: float, rev: bool):
        super().__init__()
        self.clip = clip
        self.fwd = GRU.encoder(input_dim, hidden_dim, gate_scale)
        self.fwd_start = nn.Parameter(torch.zeros(hidden_dim))
        self.rev = GRU.encoder(input_dim, hidden_dim, gate_scale) if rev else None
        self.rev_start = nn.Parameter(torch.zeros(hidden_dim)) if rev else None

    def forward(self, x: Tensor, passes: Passes) -> tuple[Tensor, Tensor | None]:
        """Map (B, T, m) to forward and backward states (B, T, n), by the body ``passes``."""
        run = passes.encoder_pass
        fwd = run(x, self.fwd_start, self.fwd.weights, self.clip)
        if self.rev is None or self.rev_start is None:
            return fwd, None
        return fwd, run(x, self.rev_start, self.rev.weights, self.clip, reverse=True)


def session_layer(layers: nn.ModuleDict, session: str) -> Affine | None:
    """Return a session's layer; None where the model has the identity in its place."""
    key = session_key(session)
    return layers[key] if key in layers else None  # type: ignore[return-value]


def session_key(name: str) -> str:
    """Return the submodule name of a session (submodule names hold no dot)."""
    return "session_" + name.replace("%", "%25").replace(".", "%2E")


def dropout_mask(shape: tuple[int, ...], keep_prob: float, like: Tensor) -> Tensor:
    """Draw a mask that holds 1/keep_prob with probability keep_prob, else 0 (inverted dropout)."""
    mask = torch.empty(shape, dtype=like.dtype, device=like.device)
    return mask.bernoulli_(keep_prob).div_(keep_prob)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a dropout mask, if any."""
    return x if mask is None else x * mask


def lagged(fwd: Tensor, rev: Tensor | None, lag: int) -> Tensor:
    """Delay the forward encoding by ``lag`` bins and advance the backward one, zeros outside."""
    n_bins = fwd.shape[1]
    lag = min(lag, n_bins)
    # pad takes (last axis, last axis, time, time)
    shifted = [nn.functional.pad(fwd[:, : n_bins - lag], (0, 0, lag, 0))]
    if rev is not None:
        shifted.append(nn.functional.pad(rev[:, lag:], (0, 0, 0, lag)))
    return torch.cat(shifted, dim=2)
