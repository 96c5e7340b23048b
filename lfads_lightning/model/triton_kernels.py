"""The recurrences in Triton, for CUDA: the kernels of native.cpp, one program per block of trials.

A program takes its R trials through all bins, so that nothing is launched per bin; R is the fewest
that keep the device busy. Weights are read in tiles of N columns by M rows, which are summed over
(``K_N``, ``K_M``, … in the decoder, by width), and stay in the L2 cache. States that are multiplied
with weights go through global memory: a program reads only rows that it wrote itself, after a
barrier.
"""

import triton
import triton.language as tl

from lfads_lightning.model.triton_steps import (
    accumulate,
    add_product,
    dot,
    multiply,
    put,
    step,
    step_back,
    tile,
)


@triton.jit
def gru_forward_kernel(
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
    M: tl.constexpr,
):
    """Take a GRU through all bins; g (T, B, 3n) holds projected inputs, then activations."""
    rows = tl.program_id(0) * R + tl.arange(0, R)
    old = h0
    for s in range(T):
        t = s
        if reverse:
            t = T - 1 - s
        now = (t * B).to(tl.int64)
        step(
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
            M,
        )
        old = h + now * n


@triton.jit
def gru_backward_kernel(
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
    M: tl.constexpr,
):
    """Go back through all bins; g becomes the gates' gradients, d the start's gradient (B, n)."""
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
            accumulate(d, d_h + now * n, d, rows, B, n, False, N)
        step_back(g + now * 3 * n, old, w_gates, w_candidate, clip, d, rows, B, n, R, N, M)


@triton.jit
def decoder_forward_kernel(
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
    K_N: tl.constexpr,
    K_M: tl.constexpr,
    U_N: tl.constexpr,
    U_M: tl.constexpr,
    G_N: tl.constexpr,
    G_M: tl.constexpr,
    F_N: tl.constexpr,
    F_M: tl.constexpr,
):
    """Run controller, sampling, generator, factors and feedback through all bins."""
    rows = tl.program_id(0) * R + tl.arange(0, R)
    c, g, factors = c0, g0, fac0
    for t in range(T):
        now = (t * B).to(tl.int64)
        if feed:
            multiply(fed + now * F, factors, feed_mask + now * F, rows, B, F, masks_feed, F_N)
            add_product(
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
                K_N,
                F_M,
            )
        step(
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
            K_N,
            K_M,
        )
        c = con_h + now * K
        for first in range(0, U, U_N):
            j = first + tl.arange(0, U_N)
            ok = (rows < B)[:, None] & (j < U)[None, :]
            mean = dot(c, K, rows, B, w_post, 2 * U, 1, j, K, U, R, U_N, K_M)
            mean += tl.load(b_post + j, mask=j < U, other=0.0)[None, :]
            logvar = dot(c, K, rows, B, w_post + U, 2 * U, 1, j, K, U, R, U_N, K_M)
            logvar += tl.load(b_post + U + j, mask=j < U, other=0.0)[None, :]
            put(post + now * 2 * U, rows, j, 2 * U, ok, mean)
            put(post + now * 2 * U + U, rows, j, 2 * U, ok, logvar)
            sample = mean + tl.exp(0.5 * logvar) * tile(noise + now * U, rows, j, U, ok)
            put(u + now * U, rows, j, U, ok, sample)
        tl.debug_barrier()
        if use_means:
            add_product(
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
                G_N,
                U_M,
            )
        else:
            add_product(
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
                G_N,
                U_M,
            )
        step(
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
            G_N,
            G_M,
        )
        g = gen_h + now * G
        factors = fac + now * F
        if masks_gen:
            multiply(read + now * G, g, gen_mask + now * G, rows, B, G, True, G_N)
            add_product(
                factors, F, read + now * G, G, w_fac, F, 1, rows, B, G, F, False, R, F_N, G_M
            )
        else:
            add_product(factors, F, g, G, w_fac, F, 1, rows, B, G, F, False, R, F_N, G_M)


@triton.jit
def decoder_backward_kernel(
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
    K_N: tl.constexpr,
    K_M: tl.constexpr,
    U_N: tl.constexpr,
    U_M: tl.constexpr,
    G_N: tl.constexpr,
    G_M: tl.constexpr,
    F_N: tl.constexpr,
    F_M: tl.constexpr,
):
    """Backward pass of ``decoder_forward_kernel``; gradients replace the activations."""
    rows = tl.program_id(0) * R + tl.arange(0, R)
    for s in range(T):
        t = T - 1 - s
        now, before = (t * B).to(tl.int64), ((t - 1) * B).to(tl.int64)
        g_old, c_old, d_fac_old = g0, c0, d_fac0
        if t > 0:
            g_old = gen_h + before * G
            c_old = con_h + before * K
            d_fac_old = d_fac + before * F
        add_product(d_read, G, d_fac + now * F, F, w_fac, 1, F, rows, B, F, G, False, R, G_N, F_M)
        accumulate(d_g, d_gen_h + now * G, d_g, rows, B, G, False, G_N)
        accumulate(d_g, d_read, gen_mask + now * G, rows, B, G, masks_gen, G_N)
        step_back(
            gen_g + now * 3 * G, g_old, gen_gates, gen_candidate, clip, d_g, rows, B, G, R, G_N, G_M
        )
        add_product(
            d_drive,
            U,
            gen_g + now * 3 * G,
            3 * G,
            w_u,
            1,
            3 * G,
            rows,
            B,
            3 * G,
            U,
            False,
            R,
            U_N,
            G_M,
        )
        for first in range(0, U, U_N):
            j = first + tl.arange(0, U_N)
            ok = (rows < B)[:, None] & (j < U)[None, :]
            drive = tile(d_drive, rows, j, U, ok)
            d_sample = tile(d_u + now * U, rows, j, U, ok)
            d_mean = tile(d_post + now * 2 * U, rows, j, 2 * U, ok)
            if use_means:
                d_mean += drive
            else:
                d_sample += drive
            logvar = tile(post + now * 2 * U + U, rows, j, 2 * U, ok)
            d_logvar = tile(d_post + now * 2 * U + U, rows, j, 2 * U, ok)
            spread = 0.5 * tl.exp(0.5 * logvar) * tile(noise + now * U, rows, j, U, ok)
            put(d_post + now * 2 * U, rows, j, 2 * U, ok, d_mean + d_sample)
            put(d_post + now * 2 * U + U, rows, j, 2 * U, ok, d_logvar + d_sample * spread)
        tl.debug_barrier()
        accumulate(d_c, d_con_h + now * K, d_c, rows, B, K, False, K_N)
        add_product(
            d_c,
            K,
            d_post + now * 2 * U,
            2 * U,
            w_post,
            1,
            2 * U,
            rows,
            B,
            2 * U,
            K,
            True,
            R,
            K_N,
            U_M,
        )
        step_back(
            con_g + now * 3 * K, c_old, con_gates, con_candidate, clip, d_c, rows, B, K, R, K_N, K_M
        )
        if feed:
            add_product(
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
                F_N,
                K_M,
            )
            accumulate(d_fac_old, d_fed, feed_mask + now * F, rows, B, F, masks_feed, F_N)
    if feed:
        add_product(d_g, G, d_fac0, F, w_fac, 1, F, rows, B, F, G, True, R, G_N, F_M)
