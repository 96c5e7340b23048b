"""The recurrences in C++ (native.cpp): the same functions as in cells.py, several times faster.

float32 on the CPU. The kernel is compiled on first use, in about two seconds, where a C++ compiler
is there, and kept in the user's cache. It calls the ``sgemm`` that torch itself links. What it does
not cover (other types and devices, fed-back rates) goes to cells.py.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lfads_lightning.model import cells, distributions
from lfads_lightning.model.cells import ControllerInputs, DecoderStates, GRUWeights
from lfads_lightning.model.layout import product

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = "-O3 -march=native -fno-math-errno -fno-trapping-math -fopenmp -shared -fPIC -std=c++17"
_FIRST_ORDER = (
    "the native recurrence has no second-order gradients; trainer.recurrence=reference has them"
)
_SPENT = (
    "the native recurrence overwrites what it saved: a second backward pass needs a new forward "
    "pass, or trainer.recurrence=reference"
)


class NativeUnavailable(Exception):
    """The kernel cannot be had here; says why."""


@cache
def library() -> ctypes.CDLL:
    """Return the compiled kernel, compiling it if need be.

    Raises:
        NativeUnavailable: no compiler, no BLAS to call, or the compilation failed.
    """
    sgemm = _torch_sgemm()
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise NativeUnavailable("no C++ compiler (c++ or g++) was found")
    # the processor is part of the key: -march=native builds are not portable
    key = "\n".join([SOURCE.read_text(), FLAGS, compiler, platform.machine(), _processor()])
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = cache_home / "lfads-lightning" / f"native-{digest}.so"
    try:
        if not path.exists():
            _compile(compiler, path)
        loaded = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise NativeUnavailable(f"it could not be compiled ({detail.strip()[:300]})") from error
    loaded.lfads_set_sgemm(sgemm)
    _keep_freed_memory()
    return loaded


def _keep_freed_memory() -> None:
    """Let the C library keep the large blocks that each pass frees, for the next one.

    By default glibc returns them to the system and gets them back page by page, which takes a
    virtual machine longer than the arithmetic in them. Elsewhere than in glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**26)


def _torch_sgemm() -> ctypes.c_void_p:
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            return ctypes.cast(ctypes.CDLL(str(folder / name)).sgemm_, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
    raise NativeUnavailable("this build of torch has no sgemm to call")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.processor())


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / "native.so"
        print(f"Building the native kernel, once, into {path.parent}", file=sys.stderr, flush=True)
        command = [compiler, *FLAGS.split(), str(SOURCE), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        built.replace(path)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None or tensor.numel() == 0 else tensor.data_ptr())


def _threads(n_trials: int) -> int:
    return max(1, min(torch.get_num_threads(), n_trials))


def _spend(ctx: Any) -> None:
    if torch.is_grad_enabled():  # so it is in a backward pass with create_graph
        raise RuntimeError(_FIRST_ORDER)
    if ctx.spent:
        raise RuntimeError(_SPENT)
    ctx.spent = True


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Sum aᵀ b over bins and trials: (T, B, m), (T, B, n) -> (m, n)."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def _shifted_product(start: Tensor, states: Tensor, grads: Tensor, reverse: bool = False) -> Tensor:
    """Sum (state before the bin)ᵀ grads over bins, without copying the states."""
    if reverse:
        return _product(states[1:], grads[:-1]) + start.T @ grads[-1]
    return _product(states[:-1], grads[1:]) + start.T @ grads[0]


def _input_gradient(ctx: Any, which: int, grads: Tensor, matrix: Tensor | None) -> Tensor | None:
    """Return the gradient of an input, if it is wanted: that of its projection, taken back."""
    if matrix is None or not ctx.needs_input_grad[which]:
        return None
    return (grads.flatten(0, 1) @ matrix.T).view(*grads.shape[:2], -1)


class _GRUPass(torch.autograd.Function):
    """A GRU over all bins of x (T, B, m), if any: states (T, B, n), and the last one processed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor | None,
        matrix: Tensor | None,
        start: Tensor,
        gates: Tensor,
        candidate: Tensor,
        bias: Tensor,
        n_bins: int,
        clip: float,
        reverse: bool,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        n_trials, n = start.shape
        start = start.contiguous()
        h = start.new_empty(n_bins, n_trials, n)
        rh, buffer = (start.new_empty(n_bins if keep else 1, n_trials, k) for k in (n, 3 * n))
        ctx.sizes = (n_bins, n_trials, n, int(reverse), ctypes.c_float(clip), _threads(n_trials))
        library().lfads_gru_forward(
            *(*ctx.sizes, int(keep), 0 if x is None else x.shape[2]),
            *map(_pointer, (x, matrix, buffer, start, gates, candidate, bias, h, rh)),
        )
        ctx.spent, ctx.buffer, ctx.rh = False, buffer, rh
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, matrix, start, gates, candidate, h)
        return h, h[0 if reverse else -1].clone()

    @staticmethod
    def backward(ctx: Any, d_h: Tensor | None, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        _spend(ctx)
        x, matrix, start, gates, candidate, h = ctx.saved_tensors
        n, reverse, threads = h.shape[2], bool(ctx.sizes[3]), ctx.sizes[5]
        d_start = torch.zeros_like(start) if d_last is None else d_last.clone()
        d_bias = start.new_empty(threads, 3 * n)
        d_h, grads = None if d_h is None else d_h.contiguous(), ctx.buffer
        library().lfads_gru_backward(
            *ctx.sizes, *map(_pointer, (grads, start, gates, candidate, h, d_h, d_start, d_bias))
        )
        d_gates = _shifted_product(start, h, grads[..., : 2 * n], reverse)
        d_candidate = _product(ctx.rh, grads[..., 2 * n :])
        ctx.buffer = ctx.rh = None
        return (
            _input_gradient(ctx, 0, grads, matrix),
            None if x is None else _product(x, grads),
            d_start,
            d_gates,
            d_candidate,
            d_bias.sum(0),
            *(None, None, None, None),
        )


def _input_matrix(weights: GRUWeights, rows: slice) -> Tensor:
    return torch.cat([weights.input_gates[rows], weights.input_candidate[rows]], dim=1)


def _bias(weights: GRUWeights) -> Tensor:
    return torch.cat([cells.gates_bias(weights), weights.candidate_bias])


def _by_bin(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous()


def _covers(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0


def encoder_pass(
    x: Tensor, initial_state: Tensor, weights: GRUWeights, clip: float, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Run a GRU over all bins; see :func:`lfads_lightning.model.cells.encoder_pass`."""
    if not _covers(x):
        return cells.encoder_pass(x, initial_state, weights, clip, reverse)
    start = initial_state.expand(x.shape[0], -1)
    return _gru_pass(x, start, weights, x.shape[1], clip, reverse)


def _gru_pass(
    x: Tensor | None,
    start: Tensor,
    weights: GRUWeights,
    n_bins: int,
    clip: float,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    h, last = _GRUPass.apply(
        None if x is None else _by_bin(x),
        None if x is None else _input_matrix(weights, slice(None)),
        start,
        weights.gates,
        weights.candidate,
        _bias(weights),
        *(n_bins, clip, reverse, torch.is_grad_enabled()),
    )
    return h.transpose(0, 1), last


_POINTERS = (
    "con_in encodings w_enc ext w_ext "
    "con_g c0 con_gates con_candidate con_b w_feed w_post b_post noise "
    "gen_g g0 gen_gates gen_candidate gen_b w_u w_fac feed_mask gen_mask "
    "con_h con_rh post u gen_h gen_rh fac fed read fac0 "
    "d_con_h d_post d_u d_gen_h d_fac d_c0 d_g0 d_fac0 d_con_b d_gen_b"
).split()


_RESULTS = ("gen_h", "fac", "con_h", "post", "u")  # of the decoder's pass


class _Decoder(ctypes.Structure):
    """``struct Decoder`` of native.cpp.

    encodings (T, B, C), w_enc (C, 3K), or con_in (T, N, 3K), their product, where N trials share
    them; ext (T, B, I), w_ext (I, 3G); con_g (T, B, 3K), c0 (B, K),
    con_gates (K, 2K), con_candidate (K, K), con_b (3K), w_feed (F, 3K), w_post (K, 2U), b_post
    (2U), noise (T, B, U); gen_g (T, B, 3G), g0 (B, G), gen_gates (G, 2G), gen_candidate (G, G),
    gen_b (3G), w_u (U, 3G), w_fac (G, F); feed_mask (T, B, F) and gen_mask (T, B, G) or null;
    con_h, con_rh (T, B, K), post (T, B, 2U), u (T, B, U), gen_h, gen_rh, read (T, B, G), fac, fed
    (T, B, F), fac0 (B, F); gradients as what they are of, those of biases by thread.
    """

    _fields_ = [
        *((name, ctypes.c_int) for name in "T B N K U G F C I use_means feed keep threads".split()),
        ("clip", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


class _DecoderPass(torch.autograd.Function):
    """Controller and generator over all bins."""

    @staticmethod
    def forward(ctx: Any, flags: tuple, masks: tuple, *tensors: Tensor) -> tuple[Tensor, ...]:
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
            "con_rh": k,
            "gen_rh": g,
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
        ctx.threads = _threads(n_trials)
        n = t["encodings"].shape[1]
        if n < n_trials:  # samples of n trials: project once
            t["con_in"] = (t["encodings"].flatten(0, 1) @ t["w_enc"]).view(n_bins, n, -1)
        n_ext = 0 if t["ext"] is None else t["ext"].shape[2]
        widths = (k, co_dim, g, f, t["encodings"].shape[2], n_ext)
        ctx.sizes = (n_bins, n_trials, n, *widths, use_means, feed, keep, ctx.threads, clip)
        library().lfads_decoder_forward(ctypes.byref(_filled(ctx.sizes, t)))
        ctx.spent, ctx.t = False, t
        outputs = tuple(t[name] for name in _RESULTS)
        # the outputs must not be held as they are: that would be a reference cycle
        ctx.save_for_backward(*outputs)
        for name in _RESULTS:
            del t[name]
        return outputs

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _spend(ctx)
        t, ctx.t = ctx.t, None
        t |= dict(zip(_RESULTS, ctx.saved_tensors, strict=True))
        # d_post and d_fac are added to: take copies
        for name, d in zip(_RESULTS, d_outputs, strict=True):
            t[f"d_{name}"] = d.clone() if name in ("fac", "post") else d.contiguous()
            t[f"d_{name}"] = t[f"d_{name}"].contiguous()
        for name in ("c0", "g0", "fac0"):
            t[f"d_{name}"] = torch.empty_like(t[name])
        for name in ("con_b", "gen_b"):
            t[f"d_{name}"] = t[name].new_empty(ctx.threads, len(t[name]))
        library().lfads_decoder_backward(ctypes.byref(_filled(ctx.sizes, t)))
        k, u, g = ctx.sizes[3:6]
        use_means, feed = ctx.sizes[9:11]
        con, gen = t["con_g"], t["gen_g"]  # now gradients
        drive = t["post"][..., :u] if use_means else t["u"]
        d_fac = _product(t["gen_h"] if t["gen_mask"] is None else t["read"], t["d_fac"])
        if feed:
            d_fac = d_fac + t["g0"].T @ t["d_fac0"]
        return (
            None,
            None,
            _input_gradient(ctx, 2, con, t["w_enc"]),
            _product(t["encodings"], con),
            t["d_c0"],
            _shifted_product(t["c0"], t["con_h"], con[..., : 2 * k]),
            _product(t["con_rh"], con[..., 2 * k :]),
            t["d_con_b"].sum(0),
            _product(t["fed"], con) if feed else torch.zeros_like(t["w_feed"]),
            _product(t["con_h"], t["d_post"]),
            t["d_post"].sum((0, 1)),
            None,
            _input_gradient(ctx, 12, gen, t["w_ext"]),
            None if t["ext"] is None else _product(t["ext"], gen),
            t["d_g0"],
            _shifted_product(t["g0"], t["gen_h"], gen[..., : 2 * g]),
            _product(t["gen_rh"], gen[..., 2 * g :]),
            t["d_gen_b"].sum(0),
            _product(drive, gen),
            d_fac,
        )


class _PoissonNLL(torch.autograd.Function):
    """Negative log-likelihood of counts per trial, with its gradient, in one pass over them."""

    @staticmethod
    def forward(ctx: Any, log_rates: Tensor, counts: Tensor, clip: float) -> Tensor:
        n_bins, n_trials, n_channels = log_rates.shape
        nll = log_rates.new_empty(n_trials, dtype=torch.float64)
        d = torch.empty_like(log_rates)
        library().lfads_poisson(
            *(n_bins, n_trials, n_channels, ctypes.c_float(clip), _threads(n_trials)),
            *(_pointer(log_rates), _pointer(counts), int(counts.dtype == torch.uint8)),
            *(_pointer(nll), _pointer(d)),
        )
        ctx.spent, ctx.d = False, d
        return nll.to(log_rates.dtype)

    @staticmethod
    def backward(ctx: Any, d_nll: Tensor) -> tuple[Tensor | None, ...]:
        _spend(ctx)
        d, ctx.d = ctx.d, None
        return d.mul_(d_nll[:, None]), None, None


def poisson_nll(log_rates: Tensor, counts: Tensor, clip: float) -> Tensor:
    """Sum over bins and channels; :func:`lfads_lightning.model.distributions.poisson_nll`."""
    if not _covers(log_rates):
        return distributions.poisson_nll(log_rates, counts, clip)
    if counts.dtype != torch.uint8:
        counts = counts.to(log_rates.dtype)
    return _PoissonNLL.apply(_by_bin(log_rates), _by_bin(counts), clip)


def _filled(sizes: tuple, tensors: Mapping[str, Tensor | None]) -> _Decoder:
    return _Decoder(*sizes, **{name: _pointer(tensors.get(name)) for name in _POINTERS})


def decoder_pass(
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
    if not _covers(gen_ic) or n_bins == 0 or feeds_rates:
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
        h, _ = _gru_pass(ext_input, gen_ic, generator, n_bins, clip)
        read = h if gen_mask is None else h * gen_mask
        return DecoderStates(h, product(read, factor_weight))
    co_dim, n_enc = con.noise.shape[2], con.encodings.shape[2]
    masks = tuple(
        None if mask is None else _by_bin(mask)
        for mask in (con.feedback_mask if con.do_feed else None, gen_mask)
    )
    weights, encodings = con.weights, con.encodings
    if torch.is_grad_enabled():  # the backward pass knows nothing of shared encodings
        encodings = encodings.repeat(len(con.noise) // len(encodings), 1, 1)
    outputs = _DecoderPass.apply(
        (int(con.drive_with_means), int(con.do_feed), int(torch.is_grad_enabled()), clip),
        masks,
        _by_bin(encodings),
        _input_matrix(weights, slice(n_enc)),
        con.initial_state.expand(gen_ic.shape[0], -1),
        weights.gates,
        weights.candidate,
        _bias(weights),
        _input_matrix(weights, slice(n_enc, None)),
        con.posterior_weight,
        con.posterior_bias,
        con.noise.transpose(0, 1),
        None if ext_input is None else _by_bin(ext_input),
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
