"""The recurrences in Triton, for CUDA: the kernels of native.cpp, a program for a block of trials.

A program takes BLOCK trials through all bins, so that nothing is launched per bin. Weights are read
tile by tile and stay in the L2 cache. States that meet weights go through global memory: a program
reads only rows that it wrote itself, with a barrier between. float32, products in full precision:
TF32, Triton's default, rounds the recurrent products to 10 bits, and the error grows with the bins.

The kernels are imported only where they are used; Triton comes with torch's CUDA builds on Linux.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lfads_lightning.model.fused import (
    DecoderSizes,
    FusedPasses,
    Kernels,
    Tensors,
    outer_product,
)

BLOCK = 16  # trials of a program; the least that tl.dot takes
TILE = 32  # columns computed, and inner products summed, at a time
WARPS = 8  # with 4, the decoder's kernels spill registers
INTERPRETED = triton.knobs.runtime.interpret


@triton.jit
def _tile(p, rows, columns, stride, ok):
    """Load p[rows, columns], 0 where not ``ok``."""
    return tl.load(p + rows[:, None] * stride + columns[None, :], mask=ok, other=0.0)


@triton.jit
def _put(p, rows, columns, stride, ok, value):
    """Store p[rows, columns]."""
    tl.store(p + rows[:, None] * stride + columns[None, :], value, mask=ok)


@triton.jit
def _dot(
    a,
    a_stride,
    rows,
    n_rows,
    w,
    w_row,
    w_column,
    columns,
    n_in,
    n_out,
    R: tl.constexpr,
    N: tl.constexpr,
):
    """Return a[rows, :n_in] W[:, columns]; W lies with strides w_row and w_column."""
    total = tl.zeros((R, N), tl.float32)
    for first in range(0, n_in, N):
        inner = first + tl.arange(0, N)
        a_ok = (rows < n_rows)[:, None] & (inner < n_in)[None, :]
        w_ok = (inner < n_in)[:, None] & (columns < n_out)[None, :]
        left = _tile(a, rows, inner, a_stride, a_ok)
        right = tl.load(
            w + inner[:, None] * w_row + columns[None, :] * w_column, mask=w_ok, other=0.0
        )
        total += tl.dot(left, right, input_precision="ieee")
    return total


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _step(
    g, h, w_gates, w_candidate, clip, rh, h_new, rows, n_rows, n, R: tl.constexpr, N: tl.constexpr
):
    """Advance a GRU by one bin; g (B, 3n) holds projected inputs, then activations."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        reset = _tile(g, rows, j, 3 * n, ok)
        reset += _dot(h, n, rows, n_rows, w_gates, 2 * n, 1, j, n, n, R, N)
        reset = tl.sigmoid(reset)
        update = _tile(g + n, rows, j, 3 * n, ok)
        update += _dot(h, n, rows, n_rows, w_gates + n, 2 * n, 1, j, n, n, R, N)
        _put(g, rows, j, 3 * n, ok, reset)
        _put(g + n, rows, j, 3 * n, ok, tl.sigmoid(update))
        _put(rh, rows, j, n, ok, reset * _tile(h, rows, j, n, ok))
    tl.debug_barrier()
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        candidate = _tile(g + 2 * n, rows, j, 3 * n, ok)
        candidate += _dot(rh, n, rows, n_rows, w_candidate, n, 1, j, n, n, R, N)
        candidate = _tanh(candidate)
        _put(g + 2 * n, rows, j, 3 * n, ok, candidate)
        state = candidate + _tile(g + n, rows, j, 3 * n, ok) * (
            _tile(h, rows, j, n, ok) - candidate
        )
        _put(h_new, rows, j, n, ok, tl.minimum(tl.maximum(state, -clip), clip))
    tl.debug_barrier()


@triton.jit
def _step_back(
    g, h, w_gates, w_candidate, clip, d, rows, n_rows, n, R: tl.constexpr, N: tl.constexpr
):
    """Go back one bin; d (B, n) is the gradient of the new state, then that of the old one."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        update, candidate = _tile(g + n, rows, j, 3 * n, ok), _tile(g + 2 * n, rows, j, 3 * n, ok)
        old = _tile(h, rows, j, n, ok)
        state = candidate + update * (old - candidate)
        gradient = tl.where(tl.abs(state) > clip, 0.0, _tile(d, rows, j, n, ok))
        _put(g + 2 * n, rows, j, 3 * n, ok, gradient * (1 - update) * (1 - candidate * candidate))
        _put(g + n, rows, j, 3 * n, ok, gradient * (old - candidate) * update * (1 - update))
        _put(d, rows, j, n, ok, gradient * update)
    tl.debug_barrier()
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        d_rh = _dot(g + 2 * n, 3 * n, rows, n_rows, w_candidate, 1, n, j, n, n, R, N)
        reset = _tile(g, rows, j, 3 * n, ok)
        _put(d, rows, j, n, ok, _tile(d, rows, j, n, ok) + d_rh * reset)
        _put(g, rows, j, 3 * n, ok, d_rh * _tile(h, rows, j, n, ok) * reset * (1 - reset))
    tl.debug_barrier()
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        through = _dot(g, 3 * n, rows, n_rows, w_gates, 1, 2 * n, j, 2 * n, n, R, N)
        _put(d, rows, j, n, ok, _tile(d, rows, j, n, ok) + through)
    tl.debug_barrier()


@triton.jit
def _add_product(
    into,
    into_stride,
    a,
    a_stride,
    w,
    w_row,
    w_column,
    rows,
    n_rows,
    n_in,
    n_out,
    adds: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
):
    """into[rows, :n_out] (+)= a[rows, :n_in] W."""
    for first in range(0, n_out, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n_out)[None, :]
        value = _dot(a, a_stride, rows, n_rows, w, w_row, w_column, j, n_in, n_out, R, N)
        if adds:
            value += _tile(into, rows, j, into_stride, ok)
        _put(into, rows, j, into_stride, ok, value)
    tl.debug_barrier()


@triton.jit
def _multiply(out, a, b, rows, n_rows, n, has_b: tl.constexpr, N: tl.constexpr):
    """out[rows] = a[rows] b[rows], or a[rows] where there is no b."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        value = _tile(a, rows, j, n, ok)
        if has_b:
            value *= _tile(b, rows, j, n, ok)
        _put(out, rows, j, n, ok, value)
    tl.debug_barrier()


@triton.jit
def _accumulate(out, a, b, rows, n_rows, n, has_b: tl.constexpr, N: tl.constexpr):
    """out[rows] += a[rows] b[rows], or a[rows] where there is no b."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        value = _tile(a, rows, j, n, ok)
        if has_b:
            value *= _tile(b, rows, j, n, ok)
        _put(out, rows, j, n, ok, _tile(out, rows, j, n, ok) + value)
    tl.debug_barrier()


@triton.jit
def _gru_forward_kernel(
    g,
    h0,
    w_gates,
    w_candidate,
    h,
    rh,
    clip,
    T,
    B,
    n,
    reverse: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
):
    rows = tl.program_id(0) * R + tl.arange(0, R)
    old = h0
    for s in range(T):
        t = s
        if reverse:
            t = T - 1 - s
        now = (t * B).to(tl.int64)
        _step(
            g + now * 3 * n,
            old,
            w_gates,
            w_candidate,
            clip,
            rh + now * n,
            h + now * n,
            rows,
            B,
            n,
            R,
            N,
        )
        old = h + now * n


@triton.jit
def _gru_backward_kernel(
    g,
    h0,
    w_gates,
    w_candidate,
    h,
    d_h,
    d,
    clip,
    T,
    B,
    n,
    has_d: tl.constexpr,
    reverse: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
):
    rows = tl.program_id(0) * R + tl.arange(0, R)
    for s in range(T):
        t = T - 1 - s
        before = t - 1
        if reverse:
            t = s
            before = t + 1
        now = (t * B).to(tl.int64)
        old = h0
        if s < T - 1:
            old = h + (before * B).to(tl.int64) * n
        if has_d:
            _accumulate(d, d_h + now * n, d, rows, B, n, False, N)
        _step_back(g + now * 3 * n, old, w_gates, w_candidate, clip, d, rows, B, n, R, N)


@triton.jit
def _decoder_forward_kernel(
    con_g,
    c0,
    con_gates,
    con_candidate,
    w_feed,
    w_post,
    b_post,
    noise,
    gen_g,
    g0,
    gen_gates,
    gen_candidate,
    w_u,
    w_fac,
    feed_mask,
    gen_mask,
    con_h,
    con_rh,
    post,
    u,
    gen_h,
    gen_rh,
    fac,
    fed,
    read,
    fac0,
    clip,
    T,
    B,
    K,
    U,
    G,
    F,
    use_means: tl.constexpr,
    feed: tl.constexpr,
    masks_feed: tl.constexpr,
    masks_gen: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
):
    rows = tl.program_id(0) * R + tl.arange(0, R)
    c, g, factors = c0, g0, fac0
    for t in range(T):
        now = (t * B).to(tl.int64)
        if feed:
            _multiply(fed + now * F, factors, feed_mask + now * F, rows, B, F, masks_feed, N)
            _add_product(
                con_g + now * 3 * K,
                3 * K,
                fed + now * F,
                F,
                w_feed,
                3 * K,
                1,
                rows,
                B,
                F,
                3 * K,
                True,
                R,
                N,
            )
        _step(
            con_g + now * 3 * K,
            c,
            con_gates,
            con_candidate,
            clip,
            con_rh + now * K,
            con_h + now * K,
            rows,
            B,
            K,
            R,
            N,
        )
        c = con_h + now * K
        for first in range(0, U, N):
            j = first + tl.arange(0, N)
            ok = (rows < B)[:, None] & (j < U)[None, :]
            mean = _dot(c, K, rows, B, w_post, 2 * U, 1, j, K, U, R, N)
            mean += tl.load(b_post + j, mask=j < U, other=0.0)[None, :]
            logvar = _dot(c, K, rows, B, w_post + U, 2 * U, 1, j, K, U, R, N)
            logvar += tl.load(b_post + U + j, mask=j < U, other=0.0)[None, :]
            _put(post + now * 2 * U, rows, j, 2 * U, ok, mean)
            _put(post + now * 2 * U + U, rows, j, 2 * U, ok, logvar)
            sample = mean + tl.exp(0.5 * logvar) * _tile(noise + now * U, rows, j, U, ok)
            _put(u + now * U, rows, j, U, ok, sample)
        tl.debug_barrier()
        if use_means:
            _add_product(
                gen_g + now * 3 * G,
                3 * G,
                post + now * 2 * U,
                2 * U,
                w_u,
                3 * G,
                1,
                rows,
                B,
                U,
                3 * G,
                True,
                R,
                N,
            )
        else:
            _add_product(
                gen_g + now * 3 * G,
                3 * G,
                u + now * U,
                U,
                w_u,
                3 * G,
                1,
                rows,
                B,
                U,
                3 * G,
                True,
                R,
                N,
            )
        _step(
            gen_g + now * 3 * G,
            g,
            gen_gates,
            gen_candidate,
            clip,
            gen_rh + now * G,
            gen_h + now * G,
            rows,
            B,
            G,
            R,
            N,
        )
        g = gen_h + now * G
        factors = fac + now * F
        if masks_gen:
            _multiply(read + now * G, g, gen_mask + now * G, rows, B, G, True, N)
            _add_product(factors, F, read + now * G, G, w_fac, F, 1, rows, B, G, F, False, R, N)
        else:
            _add_product(factors, F, g, G, w_fac, F, 1, rows, B, G, F, False, R, N)


@triton.jit
def _decoder_backward_kernel(
    con_g,
    c0,
    con_gates,
    con_candidate,
    w_feed,
    w_post,
    noise,
    gen_g,
    g0,
    gen_gates,
    gen_candidate,
    w_u,
    w_fac,
    feed_mask,
    gen_mask,
    con_h,
    post,
    gen_h,
    d_con_h,
    d_post,
    d_u,
    d_gen_h,
    d_fac,
    d_c,
    d_g,
    d_fac0,
    d_read,
    d_drive,
    d_fed,
    clip,
    T,
    B,
    K,
    U,
    G,
    F,
    use_means: tl.constexpr,
    feed: tl.constexpr,
    masks_feed: tl.constexpr,
    masks_gen: tl.constexpr,
    R: tl.constexpr,
    N: tl.constexpr,
):
    rows = tl.program_id(0) * R + tl.arange(0, R)
    for s in range(T):
        t = T - 1 - s
        now, before = (t * B).to(tl.int64), ((t - 1) * B).to(tl.int64)
        g_old, c_old, d_fac_old = g0, c0, d_fac0
        if t > 0:
            g_old = gen_h + before * G
            c_old = con_h + before * K
            d_fac_old = d_fac + before * F
        _add_product(d_read, G, d_fac + now * F, F, w_fac, 1, F, rows, B, F, G, False, R, N)
        _accumulate(d_g, d_gen_h + now * G, d_g, rows, B, G, False, N)
        _accumulate(d_g, d_read, gen_mask + now * G, rows, B, G, masks_gen, N)
        _step_back(
            gen_g + now * 3 * G, g_old, gen_gates, gen_candidate, clip, d_g, rows, B, G, R, N
        )
        _add_product(
            d_drive, U, gen_g + now * 3 * G, 3 * G, w_u, 1, 3 * G, rows, B, 3 * G, U, False, R, N
        )
        for first in range(0, U, N):
            j = first + tl.arange(0, N)
            ok = (rows < B)[:, None] & (j < U)[None, :]
            drive = _tile(d_drive, rows, j, U, ok)
            d_sample = _tile(d_u + now * U, rows, j, U, ok)
            d_mean = _tile(d_post + now * 2 * U, rows, j, 2 * U, ok)
            if use_means:
                d_mean += drive
            else:
                d_sample += drive
            logvar = _tile(post + now * 2 * U + U, rows, j, 2 * U, ok)
            d_logvar = _tile(d_post + now * 2 * U + U, rows, j, 2 * U, ok)
            spread = 0.5 * tl.exp(0.5 * logvar) * _tile(noise + now * U, rows, j, U, ok)
            _put(d_post + now * 2 * U, rows, j, 2 * U, ok, d_mean + d_sample)
            _put(d_post + now * 2 * U + U, rows, j, 2 * U, ok, d_logvar + d_sample * spread)
        tl.debug_barrier()
        _accumulate(d_c, d_con_h + now * K, d_c, rows, B, K, False, N)
        _add_product(
            d_c, K, d_post + now * 2 * U, 2 * U, w_post, 1, 2 * U, rows, B, 2 * U, K, True, R, N
        )
        _step_back(
            con_g + now * 3 * K, c_old, con_gates, con_candidate, clip, d_c, rows, B, K, R, N
        )
        if feed:
            _add_product(
                d_fed,
                F,
                con_g + now * 3 * K,
                3 * K,
                w_feed,
                1,
                3 * K,
                rows,
                B,
                3 * K,
                F,
                False,
                R,
                N,
            )
            _accumulate(d_fac_old, d_fed, feed_mask + now * F, rows, B, F, masks_feed, N)
    if feed:
        _add_product(d_g, G, d_fac0, F, w_fac, 1, F, rows, B, F, G, True, R, N)


def _covers(tensor: Tensor) -> bool:
    can_run = tensor.device.type == "cuda" or (INTERPRETED and tensor.device.type == "cpu")
    return can_run and tensor.dtype == torch.float32 and tensor.numel() > 0


def _grid(n_trials: int) -> tuple[int]:
    return (triton.cdiv(n_trials, BLOCK),)


def _project(into: Tensor, bias: Tensor, *parts: tuple[Tensor | None, Tensor | None]) -> None:
    """Fill a buffer (T, B, 3n) with the bias and the projections of inputs, all bins at once."""
    into.copy_(bias.expand_as(into))
    for x, matrix in parts:
        if x is not None and matrix is not None:
            into.view(-1, into.shape[2]).addmm_(x.flatten(0, 1), matrix)


def _gru_forward(
    x: Tensor | None,
    matrix: Tensor | None,
    start: Tensor,
    gates: Tensor,
    candidate: Tensor,
    bias: Tensor,
    h: Tensor,
    clip: float,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, ...]:
    n_bins, n_trials, n = h.shape
    buffer, rh = h.new_empty(n_bins, n_trials, 3 * n), torch.empty_like(h)
    _project(buffer, bias, (x, matrix))
    _gru_forward_kernel[_grid(n_trials)](
        *(buffer, start, gates.contiguous(), candidate.contiguous(), h, rh),
        *(clip, n_bins, n_trials, n, reverse, BLOCK, TILE),
        num_warps=WARPS,
    )
    return buffer, rh


def _gru_backward(
    held: tuple[Tensor, Tensor],
    start: Tensor,
    gates: Tensor,
    candidate: Tensor,
    h: Tensor,
    d_h: Tensor | None,
    d_start: Tensor,
    clip: float,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    (buffer, rh), (n_bins, n_trials, n) = held, h.shape
    _gru_backward_kernel[_grid(n_trials)](
        *(buffer, start, gates.contiguous(), candidate.contiguous(), h),
        *(d_start if d_h is None else d_h, d_start),
        *(clip, n_bins, n_trials, n, d_h is not None, reverse, BLOCK, TILE),
        num_warps=WARPS,
    )
    return _weight_gradients(start, h, rh, buffer, reverse)


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
    s, nothing = sizes, t["c0"]  # a kernel wants a pointer where nothing is read
    kernel[_grid(s.B)](
        *(nothing if t.get(name) is None else t[name] for name in names),
        *(clip, s.T, s.B, s.K, s.U, s.G, s.F, bool(s.use_means), bool(s.feed)),
        *(t["feed_mask"] is not None, t["gen_mask"] is not None, BLOCK, TILE),
        num_warps=WARPS,
    )


def _decoder_forward(sizes: DecoderSizes, clip: float, t: Tensors) -> None:
    if not sizes.keep:
        for name in ("fed", "read", "con_g", "gen_g"):  # the kernel knows no shorter ones
            t[name] = t[name].new_empty(sizes.T, *t[name].shape[1:])
    encodings = t["encodings"]
    if sizes.N < sizes.B:
        encodings = encodings.repeat(1, sizes.B // sizes.N, 1)
    t |= {"con_rh": torch.empty_like(t["con_h"]), "gen_rh": torch.empty_like(t["gen_h"])}
    _project(t["con_g"], t["con_b"], (encodings, t["w_enc"]))
    _project(t["gen_g"], t["gen_b"], (t["ext"], t["w_ext"]))
    torch.mm(t["g0"], t["w_fac"], out=t["fac0"])
    _launch(_decoder_forward_kernel, _FORWARD, sizes, clip, t)


def _decoder_backward(sizes: DecoderSizes, clip: float, t: Tensors) -> None:
    for name in ("c0", "g0", "fac0"):
        t[f"d_{name}"].zero_()
    t |= {
        f"d_{name}": t["c0"].new_empty(sizes.B, n)
        for name, n in (("read", sizes.G), ("drive", sizes.U), ("fed", sizes.F))
    }
    _launch(_decoder_backward_kernel, _BACKWARD, sizes, clip, t)
    for cell, start in (("con", "c0"), ("gen", "g0")):
        arrays = (t[start], t[f"{cell}_h"], t[f"{cell}_rh"], t[f"{cell}_g"])
        names = ("gates", "candidate", "b")
        parts = zip(names, _weight_gradients(*arrays), strict=True)
        t |= {f"d_{cell}_{name}": part for name, part in parts}


PASSES = FusedPasses(
    Kernels(_covers, _gru_forward, _gru_backward, _decoder_forward, _decoder_backward)
)
