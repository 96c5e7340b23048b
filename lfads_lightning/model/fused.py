"""Recurrences whose backward pass is written by hand: autograd around kernels.

The kernels (native.py, triton_passes.py) run over all bins; this file has what they share. Arrays
are time-major, (T, B, n). A GRU's buffer (T, B, 3n) holds [reset | update | candidate]:
activations after the forward pass, gradients of the projected inputs after the backward pass. Cases
that the kernels do not cover are computed by cells.py.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lfads_lightning.model import cells
from lfads_lightning.model.cells import ControllerInputs, DecoderStates, EncoderRun, GRUWeights
from lfads_lightning.model.layout import product

_FIRST_ORDER = (
    "this recurrence has no second-order gradients; trainer.recurrence=reference has them"
)
_SPENT = (
    "this recurrence overwrites what it saved: a second backward pass needs a new forward "
    "pass, or trainer.recurrence=reference"
)


Tensors = dict[str, Any]  # a Tensor, or None for a part that the model does not have


class DecoderSizes(NamedTuple):
    """Sizes and switches of the decoder's pass."""

    T: int
    B: int
    N: int  # trials that are encoded; fewer than B if samples share the encodings
    K: int
    U: int
    G: int
    F: int
    C: int  # width of the encodings
    I: int  # noqa: E741 (the house's letter for external inputs)
    use_means: int
    feed: int
    keep: int  # keep what the backward pass needs


class GRURun(NamedTuple):
    """A GRU over all bins, and the array for its states."""

    x: Tensor | None  # (T, B, m)
    matrix: Tensor | None  # (m, 3n)
    start: Tensor  # (B, n)
    gates: Tensor  # (n, 2n)
    candidate: Tensor  # (n, n)
    bias: Tensor | None  # (3n,); a backward pass does not need it
    h: Tensor  # (T, B, n)
    clip: float
    reverse: bool


def outer_product(a: Tensor, b: Tensor) -> Tensor:
    """Sum aᵀ b over bins and trials: (T, B, m), (T, B, n) -> (m, n)."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """Return a bᵀ: (T, B, n), (m, n) -> (T, B, m)."""
    return (a.flatten(0, 1) @ b.T).view(*a.shape[:2], -1)


class Kernels(NamedTuple):
    """The kernels of an implementation.

    Tensors of the decoder, by name: encodings (T, N, C), w_enc (C, 3K), ext (T, B, I) and w_ext
    (I, 3G) or None; con_g (T, B, 3K), c0 (B, K), con_gates (K, 2K), con_candidate (K, K), con_b
    (3K), w_feed (F, 3K), w_post (K, 2U), b_post (2U), noise (T, B, U); gen_g (T, B, 3G), g0 (B, G),
    gen_gates (G, 2G), gen_candidate (G, G), gen_b (3G), w_u (U, 3G), w_fac (G, F); feed_mask
    (T, B, F) and gen_mask (T, B, G) or None; con_h (T, B, K), post (T, B, 2U), u (T, B, U), gen_h,
    read (T, B, G), fac, fed (T, B, F), fac0 (B, F), the factors before bin 0; gradients, d_..., in
    the shapes of their tensors. Without ``keep`` con_g, gen_g, fed and read have one bin. Kernels
    may add arrays of their own.
    """

    covers: Callable[[Tensor], bool]  # whether the kernels support such a tensor
    # GRUs of the same trials, and whether to keep what the backward pass needs -> for each the
    # buffer, and what else that pass needs; fills h
    gru_forward: Callable[[Sequence[GRURun], bool], list[tuple[Tensor, ...]]]
    # the GRUs, what the forward pass returned, (d_h or None, d_start) -> for each the gradients of
    # gates, candidate and bias; d_start holds the gradient of the last state on entry, and that of
    # the start on return
    gru_backward: Callable[..., list[tuple[Tensor, Tensor, Tensor]]]
    # sizes, clip, tensors -> fills them
    decoder_forward: Callable[[DecoderSizes, float, Tensors], None]
    # likewise; fills the gradients of gates, candidates and biases, and d_c0, d_g0, d_fac0; d_post
    # and d_fac become totals, con_g and gen_g the gradients of their projections
    decoder_backward: Callable[[DecoderSizes, float, Tensors], None]
    # products over all bins, for gradients of weights and of inputs
    outer_product: Callable[[Tensor, Tensor], Tensor] = outer_product
    times_transposed: Callable[[Tensor, Tensor], Tensor] = times_transposed


def spend(ctx: Any) -> None:
    """Allow a single backward pass, of first order."""
    if torch.is_grad_enabled():  # a backward pass with create_graph
        raise RuntimeError(_FIRST_ORDER)
    if ctx.spent:
        raise RuntimeError(_SPENT)
    ctx.spent = True


def _input_gradient(ctx: Any, which: int, grads: Tensor, matrix: Tensor | None) -> Tensor | None:
    """Return the gradient of an input, if needed: that of its projection times the matrix."""
    if matrix is None or not ctx.needs_input_grad[which]:
        return None
    return ctx.kernels.times_transposed(grads, matrix)


class _GRUPasses(torch.autograd.Function):
    """GRUs over all bins of their x (T, B, m), if any: states (T, B, n), and the last state, each.

    Tensors of each: x, matrix, start, gates, candidate, bias.
    """

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        plans: Sequence[tuple[int, float, bool]],  # bins, clip and direction of each
        keep: bool,
        *tensors: Any,
    ) -> tuple[Tensor, ...]:
        runs = []
        for i, (n_bins, clip, reverse) in enumerate(plans):
            x, matrix, start, *weights = tensors[_N_TENSORS * i : _N_TENSORS * (i + 1)]
            h = start.new_empty(n_bins, *start.shape)
            arrays = x, matrix, start.contiguous(), *weights, h
            runs.append(GRURun(*arrays, clip, reverse))  # type: ignore[call-arg]
        ctx.held = kernels.gru_forward(runs, keep)
        ctx.kernels, ctx.plans, ctx.spent = kernels, plans, False
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(x for r in runs for x in (*r[:5], r.h)))
        outputs = tuple(x for r in runs for x in (r.h, r.h[0 if r.reverse else -1].clone()))
        frozen = [i for i in range(len(runs)) if not _GRUPasses._is_trained(ctx, i)]
        ctx.mark_non_differentiable(*(x for i in frozen for x in outputs[2 * i : 2 * i + 2]))
        return outputs

    @staticmethod
    def _is_trained(ctx: Any, i: int) -> bool:
        first = _N_FIRST + _N_TENSORS * i
        return any(ctx.needs_input_grad[first : first + _N_TENSORS])

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        spend(ctx)
        saved, (held, ctx.held) = ctx.saved_tensors, (ctx.held, None)
        runs, d_states, wanted = [], [], []
        for i, (_, clip, reverse) in enumerate(ctx.plans):
            x, matrix, start, gates, candidate, h = saved[_N_TENSORS * i : _N_TENSORS * (i + 1)]
            d_h, d_last = d_outputs[2 * i : 2 * i + 2]
            runs.append(GRURun(x, matrix, start, gates, candidate, None, h, clip, reverse))
            # kernels read it as it lies in memory, and write the gradient of the start over it
            d_start = torch.zeros_like(start)
            if d_last is not None:
                d_start.copy_(d_last)
            d_states.append((None if d_h is None else d_h.contiguous(), d_start))
            has_gradient = d_h is not None or d_last is not None
            wanted.append(has_gradient and _GRUPasses._is_trained(ctx, i))
        results: list[Tensor | None] = [None] * _N_FIRST
        which = [i for i, is_wanted in enumerate(wanted) if is_wanted]
        d_weights: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        if which:
            of_these = ([a[i] for i in which] for a in (runs, held, d_states))
            d_weights = dict(zip(which, ctx.kernels.gru_backward(*of_these), strict=True))
        for i, run in enumerate(runs):
            if i not in d_weights:
                results += [None] * _N_TENSORS
                continue
            grads = held[i][0]
            results += [
                _input_gradient(ctx, _N_FIRST + _N_TENSORS * i, grads, run.matrix),
                None if run.x is None else ctx.kernels.outer_product(run.x, grads),
                d_states[i][1],
                *d_weights[i],
            ]
        return tuple(results)


_N_FIRST = 3  # arguments before those of the first GRU
_N_TENSORS = 6  # of a GRU: what goes in, and what is saved


def _input_matrix(weights: GRUWeights, rows: slice) -> Tensor:
    return torch.cat([weights.input_gates[rows], weights.input_candidate[rows]], dim=1)


def _bias(weights: GRUWeights) -> Tensor:
    return torch.cat([cells.gates_bias(weights), weights.candidate_bias])


def by_bin(x: Tensor) -> Tensor:
    """Return (B, T, n) as a contiguous (T, B, n)."""
    return x.transpose(0, 1).contiguous()


_RESULTS = ("gen_h", "fac", "con_h", "post", "u")  # of the decoder's pass


def _gru_passes(
    kernels: Kernels, runs: Sequence[tuple[Tensor | None, Tensor, GRUWeights, int, float, bool]]
) -> list[tuple[Tensor, Tensor]]:
    """Run GRUs, each given as x, start, weights, number of bins, clip, reverse."""
    tensors: list[Tensor | None] = []
    for x, start, weights, *_ in runs:
        tensors += [
            None if x is None else by_bin(x),
            None if x is None else _input_matrix(weights, slice(None)),
            start,
            weights.gates,
            weights.candidate,
            _bias(weights),
        ]
    plans = [run[3:] for run in runs]
    found = _GRUPasses.apply(kernels, plans, torch.is_grad_enabled(), *tensors)
    return [(h.transpose(0, 1), last) for h, last in zip(found[::2], found[1::2], strict=True)]


class _DecoderPass(torch.autograd.Function):
    """Controller and generator over all bins."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, flags: tuple, masks: tuple, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        names = (
            "encodings w_enc c0 con_gates con_candidate con_b w_feed w_post b_post noise "
            "ext w_ext g0 gen_gates gen_candidate gen_b w_u w_fac"
        ).split()
        t = {
            name: None if tensor is None else tensor.contiguous()
            for name, tensor in zip(names, tensors, strict=True)
        }
        n_bins, n_trials, co_dim = t["noise"].shape
        k, g, f = t["c0"].shape[1], t["g0"].shape[1], t["w_fac"].shape[1]
        use_means, feed, keep, clip = flags
        t["feed_mask"], t["gen_mask"] = masks
        new = t["c0"].new_empty
        results = {"con_h": k, "post": 2 * co_dim, "u": co_dim, "gen_h": g, "fac": f}
        for_backward = {
            "fed": f if feed else 0,
            "read": g if masks[1] is not None else 0,
            "con_g": 3 * k,
            "gen_g": 3 * g,
        }
        for name, width in results.items():
            t[name] = new(n_bins, n_trials, width)
        for name, width in for_backward.items():
            t[name] = new(n_bins if keep else 1, n_trials, width)
        t["fac0"] = new(n_trials, f)
        n_ext = 0 if t["ext"] is None else t["ext"].shape[2]
        widths = (k, co_dim, g, f, t["encodings"].shape[2], n_ext)
        n = t["encodings"].shape[1]
        ctx.sizes = DecoderSizes(n_bins, n_trials, n, *widths, use_means, feed, keep)
        kernels.decoder_forward(ctx.sizes, clip, t)
        ctx.kernels, ctx.clip = kernels, clip
        ctx.spent, ctx.t = False, t
        outputs = tuple(t[name] for name in _RESULTS)
        # holding the outputs directly would be a reference cycle
        ctx.save_for_backward(*outputs)
        for name in _RESULTS:
            del t[name]
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        spend(ctx)
        t, ctx.t = ctx.t, None
        t |= dict(zip(_RESULTS, ctx.saved_tensors, strict=True))
        # copies, because the kernels add to d_post and d_fac
        for name, d in zip(_RESULTS, d_outputs, strict=True):
            t[f"d_{name}"] = d.clone() if name in ("fac", "post") else d.contiguous()
            t[f"d_{name}"] = t[f"d_{name}"].contiguous()
        for name in ("c0", "g0", "fac0"):
            t[f"d_{name}"] = torch.empty_like(t[name])
        ctx.kernels.decoder_backward(ctx.sizes, ctx.clip, t)
        feed = ctx.sizes.feed
        con, gen = t["con_g"], t["gen_g"]  # now gradients
        drive = t["post"][..., : ctx.sizes.U] if ctx.sizes.use_means else t["u"]
        outer = ctx.kernels.outer_product
        d_fac = outer(t["gen_h"] if t["gen_mask"] is None else t["read"], t["d_fac"])
        if feed:
            d_fac = d_fac + outer(t["g0"][None], t["d_fac0"][None])
        return (
            *(None, None, None),
            _input_gradient(ctx, 3, con, t["w_enc"]),
            outer(t["encodings"], con),
            t["d_c0"],
            t["d_con_gates"],
            t["d_con_candidate"],
            t["d_con_b"],
            outer(t["fed"], con) if feed else torch.zeros_like(t["w_feed"]),
            outer(t["con_h"], t["d_post"]),
            t["d_post"].sum((0, 1)),
            None,
            _input_gradient(ctx, 13, gen, t["w_ext"]),
            None if t["ext"] is None else outer(t["ext"], gen),
            t["d_g0"],
            t["d_gen_gates"],
            t["d_gen_candidate"],
            t["d_gen_b"],
            outer(drive, gen),
            d_fac,
        )


class FusedPasses:
    """The encoder's and the decoder's pass, computed by kernels."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels

    def encoder_passes(self, runs: Sequence[EncoderRun]) -> list[tuple[Tensor, Tensor]]:
        """Run GRUs; see :func:`lfads_lightning.model.cells.encoder_passes`.

        They are one node of autograd: a loss that uses some of them leaves nothing for a second
        loss that uses the others.
        """
        if not runs or not all(self.kernels.covers(run.x) for run in runs):
            return cells.encoder_passes(runs)
        return _gru_passes(
            self.kernels,
            [
                (x, start.expand(x.shape[0], -1), weights, x.shape[1], clip, reverse)
                for x, start, weights, clip, reverse in runs
            ],
        )

    def decoder_pass(
        self,
        gen_ic: Tensor,
        generator: GRUWeights,
        factor_weight: Tensor,
        controller: ControllerInputs | None,
        *,
        n_bins: int,
        clip: float,
        ext_input: Tensor | None = None,
        gen_mask: Tensor | None = None,
    ) -> DecoderStates:
        """Run controller and generator; see :func:`lfads_lightning.model.cells.decoder_pass`."""
        con = controller
        feeds_rates = con is not None and con.do_feed and con.feedback_rates is not None
        if not self.kernels.covers(gen_ic) or n_bins == 0 or feeds_rates:
            return cells.decoder_pass(
                gen_ic,
                generator,
                factor_weight,
                con,
                n_bins=n_bins,
                clip=clip,
                ext_input=ext_input,
                gen_mask=gen_mask,
            )
        if con is None:
            run = ext_input, gen_ic, generator, n_bins, clip, False
            ((h, _),) = _gru_passes(self.kernels, [run])
            read = h if gen_mask is None else h * gen_mask
            return DecoderStates(h, product(read, factor_weight))
        co_dim, n_enc = con.noise.shape[2], con.encodings.shape[2]
        masks = tuple(
            None if mask is None else by_bin(mask)
            for mask in (con.feedback_mask if con.do_feed else None, gen_mask)
        )
        weights, encodings = con.weights, con.encodings
        if torch.is_grad_enabled():  # the backward pass does not support shared encodings
            encodings = encodings.repeat(len(con.noise) // len(encodings), 1, 1)
        outputs = _DecoderPass.apply(
            self.kernels,
            (int(con.drive_with_means), int(con.do_feed), int(torch.is_grad_enabled()), clip),
            masks,
            by_bin(encodings),
            _input_matrix(weights, slice(n_enc)),
            con.initial_state.expand(gen_ic.shape[0], -1),
            weights.gates,
            weights.candidate,
            _bias(weights),
            _input_matrix(weights, slice(n_enc, None)),
            con.posterior_weight,
            con.posterior_bias,
            con.noise.transpose(0, 1),
            None if ext_input is None else by_bin(ext_input),
            None if ext_input is None else _input_matrix(generator, slice(co_dim, None)),
            gen_ic,
            generator.gates,
            generator.candidate,
            _bias(generator),
            _input_matrix(generator, slice(co_dim)),
            factor_weight,
        )
        gen_states, factors, con_states, post, u = (o.transpose(0, 1) for o in outputs)
        means, logvars = post[..., :co_dim], post[..., co_dim:]
        return DecoderStates(gen_states, factors, con_states, means, logvars, u)
