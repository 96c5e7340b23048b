"""``trainer.precision=bf16``: the loop with rounded factors, and nothing else is rounded."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lfads_lightning.config import LFADSError, Precision, Recurrence
from lfads_lightning.model import cells, fused, native, recurrences
from lfads_lightning.model.cells import GRU, EncoderRun

PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


@pytest.fixture
def bf16(bf16_unit):
    """The native kernels with products in bf16."""
    return recurrences.NATIVE_BF16


def rounded(x):
    return x.bfloat16().to(x.dtype)


class RoundedFactors(TorchDispatchMode):
    """Rounds the factors of products, in both passes."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in PRODUCTS:
            args = (*args[:-2], *map(rounded, args[-2:]))
        return func(*args, **(kwargs or {}))


def numbers(passes, sizes, *, rounds=False, gradients=True, dtype=torch.float32):
    """Return states, factors and gradients of passes that have every part, by name."""
    n_trials, n_bins, m, k, u, g, f, n_ext = sizes
    torch.manual_seed(0)
    encoder = GRU.encoder(m, k, 1.0)
    controller, generator = GRU.decoder(k + f, k, 1.0, 1.0), GRU.decoder(u + n_ext, g, 1.0, 1.0)
    shapes = {
        "x": (n_trials, n_bins, m),
        "encoder_start": (k,),
        "con_start": (k,),
        "gen_ic": (n_trials, g),
        "factor_weight": (g, f),
        "posterior": (k, 2 * u),
        "ext": (n_trials, n_bins, n_ext),
    }
    leaves = {name: (0.4 * torch.randn(shape)).to(dtype) for name, shape in shapes.items()}
    noise, *masks = (torch.randn(n_trials, n_bins, n).to(dtype) for n in (u, f, g))
    for name, module in zip("ecg", (encoder, controller, generator), strict=True):
        leaves |= {f"{name}.{n}": p for n, p in module.to(dtype).named_parameters()}
    for leaf in leaves.values():
        leaf.requires_grad_()
    runs = [
        EncoderRun(leaves["x"], leaves["encoder_start"], encoder.weights, 5.0, reverse)
        for reverse in (False, True)
    ]
    inputs = {"posterior_bias": torch.zeros(2 * u, dtype=dtype), "noise": noise}
    switches = {"drive_with_means": False, "do_feed": True, "feedback_rates": None}

    def both_passes():
        (ahead, _), (back, last) = passes.encoder_passes(runs)
        states = passes.decoder_pass(
            leaves["gen_ic"] + last.mean(),
            generator.weights,
            leaves["factor_weight"],
            cells.ControllerInputs(
                weights=controller.weights,
                initial_state=leaves["con_start"],
                encodings=ahead + back,
                posterior_weight=leaves["posterior"],
                feedback_mask=masks[0],
                **inputs,
                **switches,
            ),
            n_bins=n_bins,
            clip=5.0,
            ext_input=leaves["ext"] if n_ext else None,
            gen_mask=masks[1],
        )
        if not gradients:
            return dict(zip(states._fields, states, strict=True))
        loss = sum(s.square().mean() for s in states)
        used = {name: leaf for name, leaf in leaves.items() if leaf.numel()}
        grads = torch.autograd.grad(loss, list(used.values()), allow_unused=True)
        found = dict(zip(states._fields, states, strict=True))
        return found | {f"d {n}": d for n, d in zip(used, grads, strict=True) if d is not None}

    if not rounds:
        found = both_passes()
    else:
        with RoundedFactors():
            found = both_passes()
    return {name: x.detach().double() for name, x in found.items()}


def rms(x):
    return float(x.square().mean().sqrt())


# sizes, and how far ours may be from the loop: where the order of a sum decides how a state is
# rounded, the two part by a fraction of what rounding does
SIZES = {
    "odd": ((13, 7, 5, 9, 3, 11, 7, 0), 0.05),
    "ones": ((1, 3, 1, 1, 1, 1, 1, 1), 0.05),
    "a vector": ((12, 4, 16, 16, 1, 32, 16, 2), 0.05),
    "panels": ((37, 5, 33, 49, 2, 70, 20, 3), 0.25),
    "many trials": ((150, 4, 8, 20, 2, 24, 6, 0), 0.05),
}


@pytest.mark.parametrize(("sizes", "allowed"), SIZES.values(), ids=SIZES)
def test_it_is_the_loop_with_rounded_factors(bf16, sizes, allowed):
    exact = numbers(recurrences.REFERENCE, sizes, dtype=torch.float64)
    loop = numbers(recurrences.REFERENCE, sizes, rounds=True)
    ours = numbers(bf16, sizes)
    assert ours.keys() == loop.keys() == exact.keys()
    for name, x in exact.items():
        rounding = rms(loop[name] - x)
        assert rounding > 1e-5 * rms(x), name
        assert rms(ours[name] - loop[name]) < allowed * rounding, name


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 32, 33, 48, 90])
def test_products_of_every_shape_are_those_of_rounded_factors(bf16, n):
    torch.manual_seed(n)
    for n_bins, n_trials, m in itertools.product((1, 3), (1, 25, 300), (1, 12, 13, 40)):
        a, b = torch.randn(n_bins, n_trials, m), torch.randn(n_bins, n_trials, n)
        exact = rounded(a).double().flatten(0, 1), rounded(b).double().flatten(0, 1)
        found = native.BF16_PASSES.kernels.outer_product(a, b)
        torch.testing.assert_close(found.double(), exact[0].T @ exact[1], rtol=1e-5, atol=1e-4)
        w = torch.randn(n, m)
        found = native.BF16_PASSES.kernels.times_transposed(a, w).double().flatten(0, 1)
        expected = exact[0] @ rounded(w).double().T
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_part_of_an_array_is_a_factor_too(bf16):
    both, b = torch.randn(4, 5, 6), torch.randn(4, 5, 3)
    product = native.BF16_PASSES.kernels.outer_product
    assert torch.equal(product(both[..., :2], b), product(both[..., :2].contiguous(), b))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_what_is_not_finite_stays_so(bf16, value):
    """An update that went wrong is to be seen."""
    a, b = torch.ones(1, 40, 8), torch.ones(1, 40, 5)
    a[0, 7, 3] = value
    found = native.BF16_PASSES.kernels.outer_product(a, b)
    assert found.isfinite().all(1).tolist() == [True] * 3 + [value == 3e38] + [True] * 4


def test_without_a_gradient_it_is_float32(bf16):
    """Controller and generator, and a GRU alone, too."""

    def states(passes):
        found = numbers(passes, SIZES["odd"][0], gradients=False)
        torch.manual_seed(0)
        gru, x = GRU.encoder(3, 6, 1.0), torch.randn(5, 7, 3)
        run = EncoderRun(x, torch.zeros(6), gru.weights, 5.0)
        return found | {"encoder": passes.encoder_passes([run])[0][0]}

    rounded_, exact = states(bf16), states(recurrences.NATIVE)
    assert not any(torch.equal(x, exact[name]) for name, x in rounded_.items())
    with torch.no_grad():
        ours, exact = states(bf16), states(recurrences.NATIVE)
    assert all(torch.equal(x, exact[name]) for name, x in ours.items())


@pytest.mark.parametrize("n_trials", [37, 150])
def test_threads_do_not_change_a_bit(bf16, monkeypatch, n_trials):
    sizes = (n_trials, *SIZES["panels"][0][1:])
    found = []
    for team in (1, 2, 3):
        monkeypatch.setattr(native, "team", team)
        found.append(numbers(bf16, sizes))
    for other in found[1:]:
        assert all(torch.equal(x, found[0][name]) for name, x in other.items())


def test_the_loop_is_never_taken(bf16, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("went to the loop")

    monkeypatch.setattr(fused.cells, "encoder_passes", fail)
    monkeypatch.setattr(fused.cells, "decoder_pass", fail)
    numbers(bf16, SIZES["odd"][0])


@pytest.mark.parametrize(
    ("device", "features", "message"),
    [
        ("cuda", "avx512_bf16", "the device is cuda; set trainer.precision=float32"),
        ("cpu", "avx avx2", "this processor has no avx512_bf16.*; set trainer.precision=float32"),
        ("cpu", "avx512_bf16", "built by a compiler older.*; set trainer.precision=float32"),
    ],
)
def test_it_is_refused_by_name_where_it_cannot_be(
    native_kernel, monkeypatch, device, features, message
):
    monkeypatch.setattr(native, "has_bf16", lambda: False)
    monkeypatch.setattr(native, "processor", lambda: features)
    with pytest.raises(LFADSError, match=rf"^trainer.precision=bf16: .*{message}$"):
        recurrences.choose(Recurrence.auto, device, Precision.bf16)


def test_it_is_refused_without_a_kernel(monkeypatch):
    def unavailable():
        raise native.NativeUnavailable("no compiler")

    monkeypatch.setattr(native, "library", unavailable)
    with pytest.raises(LFADSError, match=r"^trainer.precision=bf16: no compiler; set"):
        recurrences.choose(Recurrence.auto, "cpu", Precision.bf16)
