"""Hand-written backward passes against float64: finite differences, then autograd, then ours.

The kernels compute in float32, where finite differences say little. So ``gradcheck`` proves the
gradients of the readable loop in float64, and those prove the kernels'.
"""

import pytest
import torch

from lfads_lightning.config import Feedback, LossConfig, ModelConfig, OutputDist, SessionSpec
from lfads_lightning.model import recurrences
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import compute_loss
from lfads_lightning.model.records import Masks, Noise
from lfads_lightning.model.visibility import WHOLE

SIZES = {"ic_dim": 2, "factors_dim": 3, "ic_enc_dim": 4, "gen_dim": 5, "ci_enc_dim": 3,
         "con_dim": 4, "ic_prior_var_max": 0.5, "keep_prob": 0.8}  # fmt: skip
SWITCHES = {
    "controller": {"co_dim": 2},
    "no controller": {"co_dim": 0},
    "rates fed back, causal": {
        "co_dim": 1,
        "feedback_factors_or_rates": Feedback.rates,
        "do_causal_controller": True,
    },
    "gaussian, nothing fed back": {
        "co_dim": 1,
        "output_dist": OutputDist.gaussian,
        "do_feed_factors_to_controller": False,
        "inject_ext_input_to_gen": True,
    },
    "no initial condition": {"co_dim": 1, "ic_dim": 0},
}
LOSS = LossConfig(l2_gen_scale=3.0, l2_con_scale=2.0, co_mean_corr_scale=0.5)


def setting(switches):
    """Return a model in float64, and its loss as a function of weights and external inputs."""
    torch.manual_seed(0)
    model = LFADS(ModelConfig(**(SIZES | switches)), [SessionSpec("a", 6, 2)])
    with torch.no_grad():
        for p in model.parameters():  # away from 0
            p.add_(0.2 * torch.randn_like(p))
    rng = torch.Generator().manual_seed(1)
    data = torch.poisson(torch.full((3, 5, 6), 1.0), rng)
    ext = torch.randn(3, 5, 2, generator=rng)
    noise = model.draw_noise(3, 5, rng)
    shown, masks = model.draw_data_mask(3, 5, "a", rng), model.draw_masks(3, 5, rng)
    model.double()

    def loss(weights, ext, dtype=torch.float64):
        given = Noise(*(x.to(dtype) for x in noise))
        cut = Masks(*(None if m is None else m.to(dtype) for m in masks))
        seen = None if shown is None else shown.to(dtype)

        def forward(m):
            output = m(data, "a", ext, given, cut, WHOLE.dropped_out(seen))
            return compute_loss(m, output, data, LOSS, 0.7, 0.6).total

        with torch.nn.utils.stateless._reparametrize_module(model, weights):
            return forward(model)

    return model, loss, ext


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_loop_has_the_gradients_of_finite_differences(switches):
    model, loss, ext = setting(switches)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def of(ext, *weights):
        return loss(dict(zip(trained, weights, strict=True)), ext)

    inputs = (
        ext.double().requires_grad_(),
        *(p.detach().clone().requires_grad_() for p in trained.values()),
    )
    assert torch.autograd.gradcheck(of, inputs, fast_mode=True, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_kernels_have_the_gradients_of_the_loop_in_float64(native_kernel, switches):
    model, loss, ext = setting(switches)
    exact_ext = ext.double().requires_grad_()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    exact_loss = loss(trained, exact_ext)
    exact = torch.autograd.grad(exact_loss, [exact_ext, *trained.values()], allow_unused=True)
    model.float()
    model.passes = recurrences.NATIVE
    single = {n: p for n, p in model.named_parameters() if p.requires_grad}
    single_ext = ext.clone().requires_grad_()
    ours_loss = loss(single, single_ext, torch.float32)
    ours = torch.autograd.grad(ours_loss, [single_ext, *single.values()], allow_unused=True)
    assert float(ours_loss.detach()) == pytest.approx(float(exact_loss.detach()), rel=1e-5)
    for name, a, b in zip(["ext", *trained], ours, exact, strict=True):
        assert (a is None) == (b is None), name
        if b is not None:
            scale = float(b.abs().max())
            torch.testing.assert_close(a.double(), b, rtol=0, atol=3e-5 * scale + 1e-6, msg=name)
