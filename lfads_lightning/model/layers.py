"""Layers and tensor helpers of the network."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lfads_lightning.model.cells import GRU, EncoderRun
from lfads_lightning.model.layout import product, time_major
from lfads_lightning.model.recurrences import Passes


class Affine(nn.Module):
    """y = x W + b (rows, as in the paper); W (in, out) starts at N(0, 1/sqrt(in)), b at 0."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_dim, out_dim).div_(math.sqrt(in_dim)))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in) to (B, out), or (B, T, in) to (B, T, out)."""
        return product(x, self.weight, self.bias)


class Encoded(NamedTuple):
    """States of an encoder.

    Beyond the end of a shorter trial, backward states are 0 and forward states have no meaning.
    """

    fwd: Tensor  # (B, T, n)
    rev: Tensor | None  # (B, T, n)
    last: Tensor  # (B, 2n or n), the last of each direction


class Bidirectional(nn.Module):
    """Two GRUs with their own weights and trained start states; the backward one is optional."""

    def __init__(self, input_dim: int, hidden_dim: int, gate_scale: float, clip: float, rev: bool):
        super().__init__()
        self.clip = clip
        self.fwd = GRU.encoder(input_dim, hidden_dim, gate_scale)
        self.fwd_start = nn.Parameter(torch.zeros(hidden_dim))
        self.rev = GRU.encoder(input_dim, hidden_dim, gate_scale) if rev else None
        self.rev_start = nn.Parameter(torch.zeros(hidden_dim)) if rev else None

    def runs(self, x: Tensor, lengths: Tensor | None = None) -> list[EncoderRun]:
        """Return the runs of both directions over x (B, T, m).

        Args:
            x: (B, T, m).
            lengths: (B,) bins of each trial; the backward GRU starts at a trial's own last bin.
                None: all have T bins.
        """
        runs = [EncoderRun(x, self.fwd_start, self.fwd.weights, self.clip)]
        if self.rev is not None and self.rev_start is not None:
            turned = x if lengths is None else time_major(flipped(x, lengths))
            rev = EncoderRun(turned, self.rev_start, self.rev.weights, self.clip, lengths is None)
            runs.append(rev)
        return runs

    @staticmethod
    def joined(found: Sequence[tuple[Tensor, Tensor]], lengths: Tensor | None) -> Encoded:
        """Put together what the :meth:`runs` gave."""
        (fwd, fwd_last), *other = found
        if lengths is not None:
            fwd_last = at_bin(fwd, lengths - 1)
        if not other:
            return Encoded(fwd, None, fwd_last)
        ((rev, rev_last),) = other
        if lengths is not None:
            rev_last, rev = at_bin(rev, lengths - 1), flipped(rev, lengths)
            rev = time_major(rev * inside(lengths, rev.shape[1])[..., None])
        return Encoded(fwd, rev, torch.cat([fwd_last, rev_last], dim=1))


def run_encoders(
    encoders: Sequence[tuple[Bidirectional, Tensor, Tensor | None]], passes: Passes
) -> list[Encoded]:
    """Run encoders over the same trials, all directions in one call: kernels run them at once.

    Args:
        encoders: each with its x (B, T, m) and the lengths (B,) of its trials, or None for T.
        passes: the implementation of the recurrences.
    """
    runs = [encoder.runs(x, lengths) for encoder, x, lengths in encoders]
    found = iter(passes.encoder_passes([run for both in runs for run in both]))
    return [
        Bidirectional.joined([next(found) for _ in both], lengths)
        for both, (_, _, lengths) in zip(runs, encoders, strict=True)
    ]


class Standardise(nn.Module):
    """Subtract each channel's mean and divide by its standard deviation; nothing is trained."""

    mean: Tensor
    scale: Tensor

    def __init__(self, data_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(data_dim))
        self.register_buffer("scale", torch.ones(data_dim))

    def set(self, means: Tensor, variances: Tensor) -> None:
        """Set the statistics of each channel (D,); a constant channel is not rescaled."""
        self.mean.copy_(means)
        self.scale.copy_(torch.where(variances > 0, variances, 1.0).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return (x - self.mean) / self.scale


def coarser(x: Tensor, n_bins: int) -> Tensor:
    """Sum x (B, T, n) over groups of ``n_bins`` bins, divided by sqrt(n_bins) to keep the noise.

    The last group may have fewer bins.
    """
    if n_bins == 1:
        return x
    x = x.transpose(0, 1)  # (T, B, n)
    x = nn.functional.pad(x, (0, 0, 0, 0, 0, -len(x) % n_bins))
    return (x.unflatten(0, (-1, n_bins)).sum(1) / math.sqrt(n_bins)).transpose(0, 1)


def inside(lengths: Tensor, n_bins: int) -> Tensor:
    """Return which bins (B, T) lie within trials of these lengths (B,)."""
    return torch.arange(n_bins, device=lengths.device) < lengths[:, None]


def at_bin(x: Tensor, t: Tensor) -> Tensor:
    """Return x (B, T, n) at one bin per trial, t (B,), or at several, t (B, k)."""
    index = t if t.ndim == 2 else t[:, None]
    found = x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
    return found if t.ndim == 2 else found[:, 0]


def flipped(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse time within each trial of x (B, T, n); bins beyond its end stay in place.

    >>> flipped(torch.tensor([[[1], [2], [3]]]), torch.tensor([2])).ravel().tolist()
    [2, 1, 3]
    """
    t = torch.arange(x.shape[1], device=x.device)
    return at_bin(x, torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t))


def session_layer(layers: nn.ModuleDict, session: str) -> Affine | None:
    """Return a session's layer; None if the model has the identity instead."""
    key = session_key(session)
    return layers[key] if key in layers else None  # type: ignore[return-value]


def session_key(name: str) -> str:
    """Return the submodule name of a session (submodule names hold no dot)."""
    return "session_" + name.replace("%", "%25").replace(".", "%2E")


def dropout_mask(
    shape: tuple[int, ...],
    keep_prob: float,
    like: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a mask that holds 1/keep_prob with probability keep_prob, else 0 (inverted dropout).

    Args:
        shape: (B, n) or (B, T, n); the latter is time-major in memory.
        keep_prob: rounded to 1/65536 on the CPU.
        like: a tensor of the desired type and device.
        generator: generator of random numbers; by default torch's global one.
    """
    if like.device.type == "cpu":
        # bernoulli_ would take a tenth of a training step; here a 64-bit draw gives four entries
        n, below = math.prod(shape), max(round(keep_prob * 2**16), 1) - 2**15
        draws = torch.empty(-(-n // 4), dtype=torch.int64).random_(
            -(2**63), None, generator=generator
        )
        one = torch.ones((), dtype=like.dtype)
        mask = torch.mul(draws.view(torch.int16)[:n] < below, one / keep_prob)
    else:
        mask = torch.empty(math.prod(shape), dtype=like.dtype, device=like.device)
        mask.bernoulli_(keep_prob, generator=generator).div_(keep_prob)
    return mask.view(shape) if len(shape) == 2 else _by_bin(mask, *shape)


def _by_bin(flat: Tensor, n_trials: int, n_bins: int, n: int) -> Tensor:
    return flat.view(n_bins, n_trials, n).transpose(0, 1)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a dropout mask, if any."""
    return x if mask is None else x * mask


def lagged(fwd: Tensor, rev: Tensor | None, lag: int) -> Tensor:
    """Delay the forward encoding by ``lag`` bins and advance the backward one, zeros outside."""
    fwd = fwd.transpose(0, 1)  # (T, B, n)
    n_bins = len(fwd)
    lag = min(lag, n_bins)
    nothing = torch.zeros_like(fwd[:lag])
    shifted = [torch.cat([nothing, fwd[: n_bins - lag]])]
    if rev is not None:
        shifted.append(torch.cat([rev.transpose(0, 1)[lag:], nothing]))
    return torch.cat(shifted, dim=2).transpose(0, 1)
