"""The Triton kernels behind the interface of ``fused``: buffers, launches, weight gradients.

Imported only when used; Triton comes with torch's CUDA builds for Linux.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from lfads_lightning.model.fused import (
    DecoderSizes,
    FusedPasses,
    GRURun,
    Kernels,
    Tensors,
    outer_product,
)
from lfads_lightning.model.triton_kernels import (
    decoder_backward_kernel,
    decoder_forward_kernel,
    gru_backward_kernel,
    gru_forward_kernel,
)

# most columns and most rows (summed over) of a tile of weights; with more, the kernels spill
# registers (benchmarks.gpu)
COLUMNS, INNER = 64, 128
MOST_TRIALS = 4  # per program
INTERPRETED = triton.knobs.runtime.interpret


def _covers(tensor: Tensor) -> bool:
    can_run = tensor.device.type == "cuda" or (INTERPRETED and tensor.device.type == "cpu")
    return can_run and tensor.dtype == torch.float32 and tensor.numel() > 0


def _trials(n_trials: int, device: torch.device) -> int:
    """Return how many trials a program takes: one, if all programs can then run at once."""
    n_units = 2  # so that the interpreter sees several trials in a program
    if device.type == "cuda":
        n_units = torch.cuda.get_device_properties(device).multi_processor_count
    return min(triton.next_power_of_2(triton.cdiv(n_trials, n_units)), MOST_TRIALS)


def _tiles(n: int) -> tuple[int, int]:
    """Return the columns and the rows (summed over) of a tile, for a width n."""
    whole = max(triton.next_power_of_2(n), 16)
    return min(whole, COLUMNS), min(whole, INNER)


def _warps(*widths: int) -> int:
    """Return the number of warps, of 32 threads each, that hold a tile of weights."""
    n_columns, n_inner = map(max, zip(*map(_tiles, widths), strict=True))
    return min(max(n_columns * n_inner // 1024, 4), 8)


def _project(into: Tensor, bias: Tensor, *parts: tuple[Tensor | None, Tensor | None]) -> None:
    """Fill a buffer (T, B, 3n) with the bias and the projections of inputs, all bins at once."""
    into.copy_(bias.expand_as(into))
    for x, matrix in parts:
        if x is not None and matrix is not None:
            into.view(-1, into.shape[2]).addmm_(x.flatten(0, 1), matrix)


def _gru_forward(runs: Sequence[GRURun], keep: bool) -> list[tuple[Tensor, ...]]:
    return [_forward(run) for run in runs]


def _forward(run: GRURun) -> tuple[Tensor, Tensor]:
    n_bins, n_trials, n = run.h.shape
    buffer, rh = run.h.new_empty(n_bins, n_trials, 3 * n), torch.empty_like(run.h)
    assert run.bias is not None
    _project(buffer, run.bias, (run.x, run.matrix))
    block = _trials(n_trials, run.h.device)
    gru_forward_kernel[(triton.cdiv(n_trials, block),)](
        *(buffer, run.start, run.gates.contiguous(), run.candidate.contiguous(), run.h, rh),
        *(run.clip, n_bins, n_trials, n, run.reverse, block, *_tiles(n)),
        num_warps=_warps(n),
    )
    return buffer, rh


def _gru_backward(
    runs: Sequence[GRURun],
    held: Sequence[tuple[Tensor, Tensor]],
    d_states: Sequence[tuple[Tensor | None, Tensor]],
) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [_backward(*each) for each in zip(runs, held, d_states, strict=True)]


def _backward(
    run: GRURun, held: tuple[Tensor, Tensor], d_states: tuple[Tensor | None, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    (buffer, rh), (n_bins, n_trials, n), (d_h, d_start) = held, run.h.shape, d_states
    block = _trials(n_trials, run.h.device)
    gru_backward_kernel[(triton.cdiv(n_trials, block),)](
        *(buffer, run.start, run.gates.contiguous(), run.candidate.contiguous(), run.h),
        *(d_start if d_h is None else d_h, d_start),
        *(run.clip, n_bins, n_trials, n, d_h is not None, run.reverse, block, *_tiles(n)),
        num_warps=_warps(n),
    )
    return _weight_gradients(run.start, run.h, rh, buffer, run.reverse)


def _weight_gradients(
    start: Tensor, states: Tensor, rh: Tensor, grads: Tensor, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of gates, candidate and bias: large products over all bins."""
    n = states.shape[2]
    gates, candidates = grads[..., : 2 * n], grads[..., 2 * n :]
    if reverse:
        d_gates = outer_product(states[1:], gates[:-1]) + start.T @ gates[-1]
    else:
        d_gates = outer_product(states[:-1], gates[1:]) + start.T @ gates[0]
    return d_gates, outer_product(rh, candidates), grads.sum((0, 1))


_FORWARD = (
    "con_g c0 con_gates con_candidate w_feed w_post b_post noise gen_g g0 gen_gates gen_candidate "
    "w_u w_fac feed_mask gen_mask con_h con_rh post u gen_h gen_rh fac fed read fac0"
).split()
_BACKWARD = (
    "con_g c0 con_gates con_candidate w_feed w_post noise gen_g g0 gen_gates gen_candidate w_u "
    "w_fac feed_mask gen_mask con_h post gen_h d_con_h d_post d_u d_gen_h d_fac d_c0 d_g0 d_fac0 "
    "d_read d_drive d_fed"
).split()


def _launch(kernel: Any, names: list[str], sizes: DecoderSizes, clip: float, t: Tensors) -> None:
    s, nothing = sizes, t["c0"]  # a kernel needs a pointer even if it reads nothing there
    block, widths = _trials(s.B, nothing.device), (s.K, s.U, s.G, s.F)
    kernel[(triton.cdiv(s.B, block),)](
        *(nothing if t.get(name) is None else t[name] for name in names),
        *(clip, s.T, s.B, s.K, s.U, s.G, s.F, bool(s.use_means), bool(s.feed)),
        *(t["feed_mask"] is not None, t["gen_mask"] is not None, block),
        *(number for n in widths for number in _tiles(n)),
        num_warps=_warps(*widths),
    )


def _decoder_forward(sizes: DecoderSizes, clip: float, t: Tensors) -> None:
    if not sizes.keep:
        for name in ("fed", "read", "con_g", "gen_g"):  # the kernel needs all bins of these
            t[name] = t[name].new_empty(sizes.T, *t[name].shape[1:])
    encodings = t["encodings"]
    if sizes.N < sizes.B:
        encodings = encodings.repeat(1, sizes.B // sizes.N, 1)
    t |= {"con_rh": torch.empty_like(t["con_h"]), "gen_rh": torch.empty_like(t["gen_h"])}
    _project(t["con_g"], t["con_b"], (encodings, t["w_enc"]))
    _project(t["gen_g"], t["gen_b"], (t["ext"], t["w_ext"]))
    torch.mm(t["g0"], t["w_fac"], out=t["fac0"])
    _launch(decoder_forward_kernel, _FORWARD, sizes, clip, t)


def _decoder_backward(sizes: DecoderSizes, clip: float, t: Tensors) -> None:
    for name in ("c0", "g0", "fac0"):
        t[f"d_{name}"].zero_()
    t |= {
        f"d_{name}": t["c0"].new_empty(sizes.B, n)
        for name, n in (("read", sizes.G), ("drive", sizes.U), ("fed", sizes.F))
    }
    _launch(decoder_backward_kernel, _BACKWARD, sizes, clip, t)
    for cell, start in (("con", "c0"), ("gen", "g0")):
        arrays = (t[start], t[f"{cell}_h"], t[f"{cell}_rh"], t[f"{cell}_g"])
        names = ("gates", "candidate", "b")
        parts = zip(names, _weight_gradients(*arrays), strict=True)
        t |= {f"d_{cell}_{name}": part for name, part in parts}


PASSES = FusedPasses(
    Kernels(_covers, _gru_forward, _gru_backward, _decoder_forward, _decoder_backward)
)
