"""The recurrences in C++ (native.cpp): the same functions as in cells.py, several times faster.

It computes in float32 on the CPU; with ``trainer.precision=bf16`` the products of updates have
factors rounded to bf16, on processors that are faster so. Wheels for Linux contain the compiled
kernel (builds.py). Elsewhere it is compiled on first use, in about two seconds, if there is a C++
compiler. It is kept in the user's cache, in a folder that nobody else can write to, and its name
contains its checksum, so that an incomplete file is rebuilt and not run. It calls the ``sgemm``
that torch itself links. Cases that it does not cover (other types and devices, fed-back rates) are
computed by cells.py.
"""

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lfads_lightning.model import builds
from lfads_lightning.model.fused import (
    DecoderSizes,
    FusedPasses,
    GRURun,
    Kernels,
    Tensors,
    by_bin,
    spend,
)
from lfads_lightning.model.observations import poisson
from lfads_lightning.runs.private import NotPrivate, others_may_write, private_folder

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = f"{builds.FLAGS} -march=native -shared"
CHOICE = "LFADS_KERNEL"  # a kind of build (builds.py), or compile

TRIALS_OF_A_PART, MOST_PARTS = 32, 8  # the parts are 1, 2, 4 or 8
# Threads that share the parts of a batch, and the directions of the encoders; the number of parts
# then depends only on the batch's trials. 0: a part for each of torch's threads. Set by threads.py.
team = 0


KERNELS = ("gru_forward", "gru_backward", "decoder_forward", "decoder_backward", "poisson")


class NativeUnavailable(Exception):
    """The kernel is not available here; the message says why."""


@cache
def library() -> ctypes.CDLL:
    """Return the compiled kernel: the wheel's, or else one compiled here.

    Raises:
        NativeUnavailable: there is no compiler or no BLAS to call, or compilation failed.
    """
    sgemm = _torch_sgemm()
    loaded = _carried() or _compiled()
    loaded.lfads_set_sgemm(sgemm)
    _keep_freed_memory()
    return loaded


def _carried() -> ctypes.CDLL | None:
    """Return the build for this processor that came with the wheel, or None."""
    asked = os.environ.get(CHOICE, "")
    path = builds.fitting(SOURCE, platform.machine(), processor().split(), asked)
    if path is None:
        if asked not in ("", "compile"):
            raise NativeUnavailable(f"{CHOICE}={asked}: no such build fits this processor")
        return None
    with suppress(OSError):  # such as a torch without OpenMP; compiling may still work
        return ctypes.CDLL(str(path))
    return None


def _compiled() -> ctypes.CDLL:
    """Return the kernel in the user's cache, compiling it if needed."""
    compiler = builds.compiler()
    if compiler is None:
        raise NativeUnavailable("no C++ compiler (c++ or g++) was found")
    # the processor is part of the key: -march=native builds are not portable
    key = "\n".join([SOURCE.read_text(), FLAGS, compiler, platform.machine(), processor()])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        folder = private_folder("XDG_CACHE_HOME", ".cache")
        return ctypes.CDLL(str(_kept(folder, digest) or _compile(compiler, folder, digest)))
    except (OSError, subprocess.SubprocessError, NotPrivate) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise NativeUnavailable(f"it could not be compiled ({detail.strip()[:300]})") from error


def product_seconds() -> float:
    """Return the seconds spent in matrix products since ``lfads_product_ns(1)``; stop counting."""
    function = library().lfads_product_ns
    function.restype = ctypes.c_longlong
    return 1e-9 * function(0)


def _keep_freed_memory() -> None:
    """Let the C library keep the large blocks that each pass frees, for the next pass.

    By default glibc returns them to the system and gets them back page by page, which can take a
    virtual machine longer than the arithmetic. With other C libraries this does nothing.
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


def processor() -> str:
    """Return the features of the processor, as /proc/cpuinfo lists them, or else its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.processor())


def _kept(folder: Path, digest: str) -> Path | None:
    """Return the kernel that was built before; None if there is none or it is damaged."""
    for path in sorted(folder.glob(f"native-{digest}-*.so")):
        with suppress(OSError):
            whole = path.name == _name(digest, path.read_bytes())
            if whole and others_may_write(path) is None:
                return path
            path.unlink()
    return None


def _name(digest: str, built: bytes) -> str:
    return f"native-{digest}-{hashlib.sha256(built).hexdigest()[:32]}.so"


def _compile(compiler: str, folder: Path, digest: str) -> Path:
    """Build the kernel; it gets its name once it is complete on disk."""
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        built = Path(unfinished) / "native.so"
        print(f"Building the native kernel, once, into {folder}", file=sys.stderr, flush=True)
        command = [compiler, *FLAGS.split(), str(SOURCE), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        built.chmod(0o700)  # whatever the umask
        with built.open("r+b") as file:
            path = folder / _name(digest, file.read())
            os.fsync(file.fileno())
        return built.replace(path)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None or tensor.numel() == 0 else tensor.data_ptr())


def _shared(n_trials: int) -> tuple[int, int]:
    """Return the number of parts that a batch is cut into, and the number of threads for them.

    Sums over trials are taken part by part, so their rounding depends on the parts. With fewer than
    32 trials per part, small products would cost more time than a second thread saves.
    """
    if team == 0:
        parts = max(1, min(torch.get_num_threads(), n_trials))
        return parts, parts
    parts = min(max(n_trials // TRIALS_OF_A_PART, 1), MOST_PARTS)
    parts = 2 ** (parts.bit_length() - 1)
    # where more than one part is shared, all kernels ask for the same number of threads: libgomp
    # would end some of them and make them anew, in every step
    return parts, team if parts == 1 else min(team, parts)


def _covers(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0


_GRU_ARRAYS = "x w_in g h0 gates candidate bias h rh d_h d_h0 sums".split()


class _Gru(ctypes.Structure):
    """``struct Gru`` of native.cpp."""

    _fields_ = [
        *((name, ctypes.c_int) for name in "T B n m reverse keep bf16".split()),
        ("clip", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in _GRU_ARRAYS),
    ]


def _gru(run: GRURun, keep: bool, bf16: bool, **arrays: Tensor | None) -> _Gru:
    arrays |= {"x": run.x, "w_in": run.matrix, "h0": run.start, "gates": run.gates}
    arrays |= {"candidate": run.candidate, "bias": run.bias, "h": run.h}
    m = 0 if run.x is None else run.x.shape[2]
    pointers = {name: _pointer(arrays.get(name)) for name in _GRU_ARRAYS}
    flags = int(run.reverse), int(keep), int(bf16)
    return _Gru(*run.h.shape, m, *flags, run.clip, **pointers)


def _gru_forward(bf16: bool, runs: Sequence[GRURun], keep: bool) -> list[tuple[Tensor, ...]]:
    made = []
    for run in runs:
        n_bins, n_trials, n = run.h.shape
        buffer = run.h.new_empty(n_bins if keep else 1, n_trials, 3 * n)
        made.append((buffer, torch.empty_like(run.start)))
    how = keep, bf16 and keep
    grus = [_gru(run, *how, g=g, rh=rh) for run, (g, rh) in zip(runs, made, strict=True)]
    library().lfads_gru_forward(
        (_Gru * len(grus))(*grus), len(grus), *_shared(runs[0].start.shape[0])
    )
    return [(buffer,) for buffer, _ in made]


def _gru_backward(
    bf16: bool,
    runs: Sequence[GRURun],
    held: Sequence[tuple[Tensor]],
    d_states: Sequence[tuple[Tensor | None, Tensor]],
) -> list[tuple[Tensor, Tensor, Tensor]]:
    parts, threads = _shared(runs[0].start.shape[0])
    sums = [_new_sums(run.h, parts, run.h.shape[2]) for run in runs]
    grus = [
        _gru(run, True, bf16, g=g, d_h=d_h, d_h0=d_start, sums=its)
        for run, (g,), (d_h, d_start), its in zip(runs, held, d_states, sums, strict=True)
    ]
    library().lfads_gru_backward((_Gru * len(grus))(*grus), len(grus), parts, threads)
    return [_summed(its, run.h.shape[2]) for run, its in zip(runs, sums, strict=True)]


def _new_sums(like: Tensor, parts: int, n: int) -> Tensor:
    """Allocate the gradients of gates (n, 2n), candidate (n, n) and bias (3n), for each part."""
    return like.new_empty(parts, 3 * n * n + 3 * n)


def _summed(sums: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    gates, candidate, bias = sums.sum(0).split([2 * n * n, n * n, 3 * n])
    return gates.view(n, 2 * n), candidate.view(n, n), bias


_NUMBERS = "T B N K U G F C I use_means feed keep parts threads bf16".split()
_POINTERS = (
    "con_in encodings w_enc ext w_ext "
    "con_g c0 con_gates con_candidate con_b w_feed w_post b_post noise "
    "gen_g g0 gen_gates gen_candidate gen_b w_u w_fac feed_mask gen_mask "
    "con_h con_rh post u gen_h gen_rh fac fed read fac0 "
    "d_con_h d_post d_u d_gen_h d_fac d_c0 d_g0 d_fac0 con_sums gen_sums"
).split()


class _Decoder(ctypes.Structure):
    """``struct Decoder`` of native.cpp: the tensors that :class:`Kernels` lists, and more.

    con_in (T, N, 3K) is the product of encodings and w_enc if samples share the encodings, else
    null; con_rh (B, K) and gen_rh (B, G) are scratch; con_sums and gen_sums are from
    :func:`_new_sums`.
    """

    _fields_ = [
        *((name, ctypes.c_int) for name in _NUMBERS),
        ("clip", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


def _filled(
    sizes: DecoderSizes, shared: tuple[int, int], bf16: bool, clip: float, t: Tensors
) -> _Decoder:
    arrays = {name: _pointer(t.get(name)) for name in _POINTERS}
    return _Decoder(*sizes, *shared, int(bf16), clip, **arrays)


def _decoder_forward(bf16: bool, sizes: DecoderSizes, clip: float, t: Tensors) -> None:
    if sizes.N < sizes.B:  # samples share the encodings: project once
        t["con_in"] = (t["encodings"].flatten(0, 1) @ t["w_enc"]).view(sizes.T, sizes.N, -1)
    t |= {"con_rh": torch.empty_like(t["c0"]), "gen_rh": torch.empty_like(t["g0"])}
    filled = _filled(sizes, _shared(sizes.B), bf16 and bool(sizes.keep), clip, t)
    library().lfads_decoder_forward(ctypes.byref(filled))


def _decoder_backward(bf16: bool, sizes: DecoderSizes, clip: float, t: Tensors) -> None:
    shared = _shared(sizes.B)
    t["con_sums"] = _new_sums(t["c0"], shared[0], sizes.K)
    t["gen_sums"] = _new_sums(t["g0"], shared[0], sizes.G)
    library().lfads_decoder_backward(ctypes.byref(_filled(sizes, shared, bf16, clip, t)))
    for cell, n in (("con", sizes.K), ("gen", sizes.G)):
        grads = _summed(t[f"{cell}_sums"], n)
        names = ("gates", "candidate", "b")
        t |= {f"d_{cell}_{name}": grad for name, grad in zip(names, grads, strict=True)}


def has_bf16() -> bool:
    """Return whether this processor multiplies bf16 faster, and the kernel is built for it.

    Raises:
        NativeUnavailable: there is no kernel.
    """
    return bool(library().lfads_has_bf16())


def _bf16_outer_product(a: Tensor, b: Tensor) -> Tensor:
    _, threads = _shared(a.shape[1])
    a, b = (x.reshape(-1, x.shape[-1]).contiguous() for x in (a, b))
    (n, k), m = a.shape, b.shape[1]
    c = a.new_empty(k, m)
    arrays = map(_pointer, (a, b, c))
    library().lfads_bf16_outer(ctypes.c_long(n), k, m, *arrays, threads)
    return c


def _bf16_times_transposed(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.contiguous(), b.contiguous()
    (n_bins, n_trials, m), n = a.shape, len(b)
    c = a.new_empty(n_bins, n_trials, n)
    rows, arrays = ctypes.c_long(n_bins * n_trials), map(_pointer, (a, b, c))
    library().lfads_bf16_product(rows, m, n, *arrays, _shared(n_trials)[1])
    return c


def _passes(bf16: bool) -> FusedPasses:
    kernels = Kernels(
        _covers,
        partial(_gru_forward, bf16),
        partial(_gru_backward, bf16),
        partial(_decoder_forward, bf16),
        partial(_decoder_backward, bf16),
    )
    if bf16:
        kernels = kernels._replace(
            outer_product=_bf16_outer_product, times_transposed=_bf16_times_transposed
        )
    return FusedPasses(kernels)


PASSES = _passes(bf16=False)
# products of what a backward pass follows have bf16 factors; others are in float32
BF16_PASSES = _passes(bf16=True)


class _PoissonNLL(torch.autograd.Function):
    """Negative log-likelihood of counts per trial, with its gradient, in one pass over them."""

    @staticmethod
    def forward(
        ctx: Any, log_rates: Tensor, counts: Tensor, weight: Tensor | None, clip: float
    ) -> Tensor:
        n_bins, n_trials, n_channels = log_rates.shape
        nll = log_rates.new_empty(n_trials, dtype=torch.float64)
        d = torch.empty_like(log_rates)
        library().lfads_poisson(
            *(n_bins, n_trials, n_channels, ctypes.c_float(clip), *_shared(n_trials)),
            *(_pointer(log_rates), _pointer(counts), int(counts.dtype == torch.uint8)),
            *map(_pointer, (weight, nll, d)),
        )
        ctx.spent, ctx.d = False, d
        return nll.to(log_rates.dtype)

    @staticmethod
    def backward(ctx: Any, d_nll: Tensor) -> tuple[Tensor | None, ...]:
        spend(ctx)
        d, ctx.d = ctx.d, None
        return d.mul_(d_nll[:, None]), None, None, None


def poisson_nll(
    log_rates: Tensor,
    extras: tuple[Tensor, ...],
    counts: Tensor,
    clip: float,
    weight: Tensor | None = None,
) -> Tensor:
    """:meth:`lfads_lightning.model.observations.poisson.Poisson.nll`, in one pass over them."""
    if not _covers(log_rates):
        return poisson.NOISE_MODEL.nll(log_rates, extras, counts, clip, weight)
    if counts.dtype != torch.uint8:
        counts = counts.to(log_rates.dtype)
    by_bins = (None if x is None else by_bin(x) for x in (log_rates, counts, weight))
    return _PoissonNLL.apply(*by_bins, clip)
