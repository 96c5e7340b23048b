"""The Triton kernels give the numbers of the reference loop: on CUDA, else in the interpreter."""

import os
import subprocess
import sys

import pytest
import test_native
import test_parity
import torch
from conftest import slowly

from lfads_lightning.config import LossConfig, ModelConfig, Recurrence, SessionSpec
from lfads_lightning.model import recurrences
from lfads_lightning.model.cells import GRU, EncoderRun
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import compute_loss

pytest.importorskip("triton", reason="Triton is not installed")
HAS_CUDA = torch.cuda.is_available()
DEVICE = "cuda" if HAS_CUDA else "cpu"
on_cuda = [pytest.mark.gpu, pytest.mark.skipif(not HAS_CUDA, reason="there is no CUDA device")]
SWITCHES = {
    name: test_native.SWITCHES[name]
    for name in (
        "controller",
        "no controller",
        "no feedback",
        "rates fed back",
        "causal, clamped",
        "injected inputs",
        "injected inputs alone",
        "no dropout",
    )
}
INTERPRETED = () if HAS_CUDA else pytest.mark.slow  # half a minute each without a device


@pytest.fixture(scope="module")
def triton_passes():
    """The Triton body; without CUDA its kernels are interpreted on the CPU."""
    return recurrences.choose(Recurrence.triton, DEVICE)


def assert_same(model, passes, **how):
    theirs, their_grads = test_native.run(model, recurrences.REFERENCE, device=DEVICE, **how)
    ours, our_grads = test_native.run(model, passes, device=DEVICE, **how)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(1.0, float(b.abs().max())))
    assert our_grads.keys() == their_grads.keys()
    for name, grad in their_grads.items():
        atol = 1e-5 * float(grad.abs().max()) + 1e-7
        torch.testing.assert_close(our_grads[name], grad, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "switches",
    [
        pytest.param(s, id=name, marks=() if name == "no controller" else INTERPRETED)
        for name, s in SWITCHES.items()
    ],
)
def test_triton_equals_reference(triton_passes, switches):
    torch.manual_seed(0)
    model = LFADS(ModelConfig(**(test_native.SIZES | switches)), [SessionSpec("a", 11, 2)])
    assert_same(model, triton_passes, n_trials=9, n_bins=3)  # three programs, the last part empty


@pytest.mark.slow
def test_means_drive_the_generator_if_asked(triton_passes):
    torch.manual_seed(0)
    model = LFADS(ModelConfig(**test_native.SIZES, co_dim=2), [SessionSpec("a", 11, 2)])
    assert_same(model, triton_passes, n_trials=3, n_bins=4, use_means=True)


@pytest.mark.parametrize("n", [pytest.param(n, marks=INTERPRETED) for n in (1, 33)])
def test_any_width_and_length(triton_passes, n):
    torch.manual_seed(0)
    names = ("ic_dim", "factors_dim", "ic_enc_dim", "gen_dim", "ci_enc_dim", "con_dim", "co_dim")
    model = LFADS(ModelConfig(**dict.fromkeys(names, n)), [SessionSpec("a", 11, 2)])
    assert_same(model, triton_passes, n_trials=1, n_bins=1)
    assert_same(model, triton_passes, n_trials=2, n_bins=3)


@torch.no_grad()
def test_samples_share_the_encodings_of_their_trial(triton_passes):
    torch.manual_seed(0)
    model = LFADS(ModelConfig(**test_native.SIZES, co_dim=2), [SessionSpec("a", 11)]).to(DEVICE)
    data = torch.poisson(torch.full((3, 4, 11), 0.5)).to(DEVICE)
    noise = model.draw_noise(6, 4)
    encoding = model.encode(data, "a")
    theirs = model.decode(encoding, 4, "a", noise).log_rates
    model.passes = triton_passes
    torch.testing.assert_close(model.decode(encoding, 4, "a", noise).log_rates, theirs)


def small_loss(passes):
    gru, x = GRU.encoder(3, 4, 1.0).to(DEVICE), torch.randn(2, 3, 3, device=DEVICE)
    start = torch.zeros(4, device=DEVICE)
    ((states, _),) = passes.encoder_passes([EncoderRun(x, start, gru.weights, 5.0)])
    return states.square().sum(), gru.gates


def test_a_second_backward_pass_and_second_order_gradients_are_refused(triton_passes):
    loss, _ = small_loss(triton_passes)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        loss.backward()
    loss, gates = small_loss(triton_passes)
    with pytest.raises(RuntimeError, match="second-order"):
        torch.autograd.grad(loss, gates, create_graph=True)


@pytest.mark.slow
def test_auto_takes_kernels_only_if_they_give_the_loops_numbers(triton_passes):
    assert recurrences.checked(triton_passes, DEVICE) is triton_passes

    def wrong(runs):
        ((states, last),) = recurrences.REFERENCE.encoder_passes(runs)
        return [(states * 1.01, last)]

    def broken(*args, **kwargs):
        raise RuntimeError("no ptx for this device")

    for encoder_passes, message in ((wrong, "does not give"), (broken, "no ptx for this device")):
        passes = triton_passes._replace(encoder_passes=encoder_passes)
        with pytest.raises(recurrences.Unavailable, match=message):
            recurrences.checked(passes, DEVICE)


@pytest.mark.parametrize("kernel", slowly("gru_forward", "gru_backward", "decoder_forward"))
def test_kernel_compiles_for_a_gpu_that_is_not_here(kernel):
    """What the interpreter takes, the compiler must take too; it needs no device."""
    code = f"""
import triton
from triton.backends.compiler import GPUTarget
from lfads_lightning.model import triton_kernels, triton_passes as k
kernel, types, values = triton_kernels.{kernel}_kernel, {{}}, {{}}
for p in kernel.params:
    if p.is_constexpr:
        types[p.name] = "constexpr"
        tile = dict(zip("NM", k._tiles(200)))
        values[(p.num,)] = 1 if p.name == "R" else tile.get(p.name[-1], True)
    else:
        types[p.name] = {{"clip": "fp32"}}.get(p.name, "i32" if p.name in "TBKUGFn" else "*fp32")
source = triton.compiler.ASTSource(fn=kernel, signature=types, constexprs=values)
options = {{"num_warps": k._warps(200)}}
built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
assert "bar.sync" in built.asm["ptx"]
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_asking_for_it_without_cuda_is_an_error():
    code = """
from lfads_lightning.config import LFADSError, Recurrence
from lfads_lightning.model.recurrences import choose
try:
    choose(Recurrence.triton, "cpu")
except LFADSError as error:
    print(error)
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "is for CUDA, but the device is cpu; set trainer.device=gpu:0" in done.stdout


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=on_cuda, id=p.stem) for p in test_parity.TRAIN_CASES]
)
def test_gradients_of_the_original_on_cuda(triton_passes, path):
    case = test_parity.Case(path, Recurrence.reference)
    for session in case.sessions:
        case.model.cpu()
        _, data, _, ramps = case.run(f"fwd/{session}/", session, 0)
        grads = []
        for passes, device in ((recurrences.REFERENCE, "cpu"), (triton_passes, DEVICE)):
            model = case.model.to(device)
            model.passes = passes
            model.zero_grad()
            rng = torch.Generator().manual_seed(0)
            ext = torch.randn(*data.shape[:2], model.ext_input_dim, generator=rng).to(device)
            noise = model.cpu().draw_noise(*data.shape[:2], rng)
            noise = type(noise)(*(x.to(device) for x in noise))
            output = model.to(device)(data.to(device), session, ext, noise)
            compute_loss(model, output, data.to(device), LossConfig(), *ramps).total.backward()
            named = model.named_parameters()
            grads.append({n: p.grad.cpu().clone() for n, p in named if p.grad is not None})
        for name, grad in grads[0].items():
            atol = 1e-4 * float(grad.abs().max()) + 1e-6
            torch.testing.assert_close(grads[1][name], grad, rtol=0, atol=atol)
