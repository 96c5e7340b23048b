"""Which implementation runs the recurrences: the readable loop, or equivalent kernels."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from lfads_lightning.config import LFADSError, Precision, Recurrence
from lfads_lightning.model import cells, native
from lfads_lightning.model.observations import NoiseModel


class Passes(NamedTuple):
    """The functions that run over all bins; every implementation has the same signatures."""

    encoder_passes: Callable[[Sequence[cells.EncoderRun]], list[tuple[Tensor, Tensor]]]
    decoder_pass: Callable[..., cells.DecoderStates]
    # faster likelihoods, by name of the noise model
    likelihoods: tuple[tuple[str, Callable[..., Tensor]], ...] = ()

    def nll(self, noise_model: NoiseModel) -> Callable[..., Tensor]:
        """Return the function that computes :meth:`NoiseModel.nll`."""
        return dict(self.likelihoods).get(noise_model.name, noise_model.nll)


REFERENCE = Passes(cells.encoder_passes, cells.decoder_pass)
NATIVE, NATIVE_BF16 = (
    Passes(passes.encoder_passes, passes.decoder_pass, (("poisson", native.poisson_nll),))
    for passes in (native.PASSES, native.BF16_PASSES)
)


class Unavailable(Exception):
    """An implementation is not available here; the message says why."""


def choose(
    recurrence: Recurrence, device: str = "cpu", precision: Precision = Precision.float32
) -> Passes:
    """Return the implementation asked for; ``auto`` is the fastest that is available.

    Args:
        recurrence: the implementation.
        device: torch's device type: cpu, cuda or mps.
        precision: with bf16, the native kernels round the factors of products in passes that a
            backward pass follows.

    Raises:
        LFADSError: the implementation is not available; the message says why.
    """
    if precision is Precision.bf16:
        try:
            return _native_bf16(device)
        except Unavailable as error:
            raise LFADSError(
                f"trainer.precision=bf16: {error}; set trainer.precision=float32"
            ) from error
    try:
        if recurrence is Recurrence.triton:
            return _triton(device)
        if recurrence is Recurrence.native:
            return _native(device)
    except Unavailable as error:
        raise LFADSError(
            f"trainer.recurrence={recurrence.name}: {error}; trainer.recurrence=reference needs "
            "nothing"
        ) from error
    if recurrence is Recurrence.reference or device not in ("cpu", "cuda"):
        return REFERENCE
    try:
        return _native(device) if device == "cpu" else checked(_triton(device), device)
    except Unavailable as error:
        kernels = "the native kernel" if device == "cpu" else "the CUDA kernel"
        warnings.warn(
            f"{kernels}, several times faster, is not used: {error} (to do without it and without "
            "this warning, set trainer.recurrence=reference)",
            stacklevel=2,
        )
        return REFERENCE


def _native(device: str) -> Passes:
    if device != "cpu":
        raise Unavailable(f"it is for the CPU, but the device is {device}")
    try:
        native.library()
    except native.NativeUnavailable as error:
        raise Unavailable(str(error)) from error
    return NATIVE


def _native_bf16(device: str) -> Passes:
    _native(device)
    if not native.has_bf16():
        if "avx512_bf16" not in native.processor().split():
            raise Unavailable("this processor has no avx512_bf16, the unit for it")
        raise Unavailable("the native kernel was built by a compiler older than GCC 11 or Clang 14")
    return NATIVE_BF16


def _triton(device: str) -> Passes:
    try:
        from lfads_lightning.model import triton_passes
    except ImportError as error:
        raise Unavailable("Triton is not installed (pip install triton)") from error
    if device != "cuda" and not triton_passes.INTERPRETED:
        raise Unavailable(f"it is for CUDA, but the device is {device}; set trainer.device=gpu:0")
    passes = triton_passes.PASSES
    return Passes(passes.encoder_passes, passes.decoder_pass)


@cache
def checked(passes: Passes, device: str) -> Passes:
    """Return an implementation if it gives the loop's states and gradients on this device.

    Raises:
        Unavailable: it does not, or it fails.
    """
    try:
        ours, theirs = _numbers(passes, device), _numbers(REFERENCE, device)
    except Exception as error:  # whatever a compiler or a driver raises
        raise Unavailable(f"it fails here ({' '.join(str(error).split())[:200]})") from error
    for a, b in zip(ours, theirs, strict=True):
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())):
            raise Unavailable("it does not give the loop's numbers here")
    return passes


def _numbers(passes: Passes, device: str) -> list[Tensor]:
    """Run a small model that has every part; return factors and gradients."""
    n_trials, n_bins, k, u, g, f = 18, 5, 20, 2, 33, 7
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        encoder = cells.GRU.encoder(5, 20, 1.0)
        controller = cells.GRU.decoder(20 + f, k, 1.0, 1.0)
        generator = cells.GRU.decoder(u, g, 1.0, 1.0)
        free = [torch.randn(shape) for shape in ((20,), (k,), (n_trials, g), (g, f), (k, 2 * u))]
        fixed = [torch.randn(n_trials, n_bins, n) for n in (5, u, f, g)]
    encoder_start, con_start, gen_ic, factor_weight, posterior = (
        (0.3 * x).to(device).requires_grad_() for x in free
    )
    x, noise, feed_mask, gen_mask = (x.to(device) for x in fixed)
    modules = [m.to(device) for m in (encoder, controller, generator)]
    run = cells.EncoderRun(x, encoder_start, encoder.weights, 5.0, reverse=True)
    ((encodings, _),) = passes.encoder_passes([run])
    inputs = cells.ControllerInputs(
        weights=controller.weights,
        initial_state=con_start,
        encodings=encodings,
        posterior_weight=posterior,
        posterior_bias=torch.zeros(2 * u, device=device),
        noise=noise,
        drive_with_means=False,
        do_feed=True,
        feedback_mask=feed_mask,
        feedback_rates=None,
    )
    states = passes.decoder_pass(
        gen_ic,
        generator.weights,
        factor_weight,
        inputs,
        n_bins=n_bins,
        clip=5.0,
        gen_mask=gen_mask,
    )
    states.factors.square().mean().backward()
    leaves = [encoder_start, con_start, gen_ic, factor_weight, posterior]
    leaves += [p for module in modules for p in module.parameters()]
    return [states.factors.detach(), *(p.grad for p in leaves if p.grad is not None)]
