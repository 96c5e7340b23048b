"""What a program of the Triton kernels does in one bin: tiles, products, one step of a GRU.

Every function works on the R rows (trials) of one program, N columns at a time, summing over M
inner ones, and ends with a barrier if the next function reads what it stored. All is float32: TF32
would round the recurrent products to 10 bits, and the error grows with the number of bins.
"""

import triton
import triton.language as tl


@triton.jit
def tile(p, rows, columns, stride, ok):
    """Load p[rows, columns], 0 where not ``ok``."""
    return tl.load(p + rows[:, None] * stride + columns[None, :], mask=ok, other=0.0)


@triton.jit
def put(p, rows, columns, stride, ok, value):
    """Store p[rows, columns]."""
    tl.store(p + rows[:, None] * stride + columns[None, :], value, mask=ok)


@triton.jit
def dot(
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
    M: tl.constexpr,
):
    """Return a[rows, :n_in] W[:, columns]; W has the strides w_row and w_column.

    It uses products and sums rather than ``tl.dot``: a program has few rows and is limited by
    loading the weights, and this way all loads are in flight at once.
    """
    total = tl.zeros((R, N), tl.float32)
    row = tl.arange(0, R)
    first_row = tl.program_id(0) * R
    for first in range(0, n_in, M):
        inner = first + tl.arange(0, M)
        there = inner < n_in
        right = tl.load(
            w + inner[:, None] * w_row + columns[None, :] * w_column,
            mask=there[:, None] & (columns < n_out)[None, :],
            other=0.0,
        )
        for r in tl.static_range(R):
            ok = there & (first_row + r < n_rows)
            left = tl.load(a + (first_row + r) * a_stride + inner, mask=ok, other=0.0)
            part = tl.sum(left[:, None] * right, axis=0)
            total += tl.where(row[:, None] == r, part[None, :], 0.0)
    return total


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def step(
    g,
    h,
    w_gates,
    w_candidate,
    clip,
    rh,
    h_new,
    rows,
    n_rows,
    n,
    R: tl.constexpr,
    N: tl.constexpr,
    M: tl.constexpr,
):
    """Advance a GRU by one bin; g (B, 3n) holds projected inputs, then activations."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        reset = tile(g, rows, j, 3 * n, ok)
        reset += dot(h, n, rows, n_rows, w_gates, 2 * n, 1, j, n, n, R, N, M)
        reset = tl.sigmoid(reset)
        update = tile(g + n, rows, j, 3 * n, ok)
        update += dot(h, n, rows, n_rows, w_gates + n, 2 * n, 1, j, n, n, R, N, M)
        put(g, rows, j, 3 * n, ok, reset)
        put(g + n, rows, j, 3 * n, ok, tl.sigmoid(update))
        put(rh, rows, j, n, ok, reset * tile(h, rows, j, n, ok))
    tl.debug_barrier()
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        candidate = tile(g + 2 * n, rows, j, 3 * n, ok)
        candidate += dot(rh, n, rows, n_rows, w_candidate, n, 1, j, n, n, R, N, M)
        candidate = _tanh(candidate)
        put(g + 2 * n, rows, j, 3 * n, ok, candidate)
        state = candidate + tile(g + n, rows, j, 3 * n, ok) * (tile(h, rows, j, n, ok) - candidate)
        put(h_new, rows, j, n, ok, tl.minimum(tl.maximum(state, -clip), clip))
    tl.debug_barrier()


@triton.jit
def step_back(
    g,
    h,
    w_gates,
    w_candidate,
    clip,
    d,
    rows,
    n_rows,
    n,
    R: tl.constexpr,
    N: tl.constexpr,
    M: tl.constexpr,
):
    """Go back one bin; d (B, n) is the gradient of the new state, then that of the old one."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        update, candidate = tile(g + n, rows, j, 3 * n, ok), tile(g + 2 * n, rows, j, 3 * n, ok)
        old = tile(h, rows, j, n, ok)
        state = candidate + update * (old - candidate)
        gradient = tl.where(tl.abs(state) > clip, 0.0, tile(d, rows, j, n, ok))
        put(g + 2 * n, rows, j, 3 * n, ok, gradient * (1 - update) * (1 - candidate * candidate))
        put(g + n, rows, j, 3 * n, ok, gradient * (old - candidate) * update * (1 - update))
        put(d, rows, j, n, ok, gradient * update)
    tl.debug_barrier()
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        d_rh = dot(g + 2 * n, 3 * n, rows, n_rows, w_candidate, 1, n, j, n, n, R, N, M)
        reset = tile(g, rows, j, 3 * n, ok)
        put(d, rows, j, n, ok, tile(d, rows, j, n, ok) + d_rh * reset)
        put(g, rows, j, 3 * n, ok, d_rh * tile(h, rows, j, n, ok) * reset * (1 - reset))
    tl.debug_barrier()
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        through = dot(g, 3 * n, rows, n_rows, w_gates, 1, 2 * n, j, 2 * n, n, R, N, M)
        put(d, rows, j, n, ok, tile(d, rows, j, n, ok) + through)
    tl.debug_barrier()


@triton.jit
def add_product(
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
    M: tl.constexpr,
):
    """into[rows, :n_out] (+)= a[rows, :n_in] W."""
    for first in range(0, n_out, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n_out)[None, :]
        value = dot(a, a_stride, rows, n_rows, w, w_row, w_column, j, n_in, n_out, R, N, M)
        if adds:
            value += tile(into, rows, j, into_stride, ok)
        put(into, rows, j, into_stride, ok, value)
    tl.debug_barrier()


@triton.jit
def multiply(out, a, b, rows, n_rows, n, has_b: tl.constexpr, N: tl.constexpr):
    """out[rows] = a[rows] b[rows], or a[rows] without b."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        value = tile(a, rows, j, n, ok)
        if has_b:
            value *= tile(b, rows, j, n, ok)
        put(out, rows, j, n, ok, value)
    tl.debug_barrier()


@triton.jit
def accumulate(out, a, b, rows, n_rows, n, has_b: tl.constexpr, N: tl.constexpr):
    """out[rows] += a[rows] b[rows], or a[rows] without b."""
    for first in range(0, n, N):
        j = first + tl.arange(0, N)
        ok = (rows < n_rows)[:, None] & (j < n)[None, :]
        value = tile(a, rows, j, n, ok)
        if has_b:
            value *= tile(b, rows, j, n, ok)
        put(out, rows, j, n, ok, tile(out, rows, j, n, ok) + value)
    tl.debug_barrier()
