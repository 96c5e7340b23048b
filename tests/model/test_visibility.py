"""What is shown and what is scored: missing entries, weights of any size, and both together."""

import pytest
import torch

from lfads_lightning.config import LossConfig, OutputDist
from lfads_lightning.model.loss import compute_loss, reconstruction
from lfads_lightning.model.recurrences import NATIVE, REFERENCE
from lfads_lightning.model.visibility import (
    WHOLE,
    Visibility,
    coordinated,
    missing,
    sample_validation,
)

B, T, D = 4, 8, 5
DISTS = OutputDist.names()
BODIES = {"reference": REFERENCE, "native": NATIVE}


def some(share, seed=0):
    return torch.rand(B, T, D, generator=torch.Generator().manual_seed(seed)) < share


def noise_of(model):
    return model.draw_noise(B, T, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("dist", DISTS)
def test_missing_entries_have_no_part_in_the_loss(new_model, spikes, dist, body):
    """Whatever the data hold there: the same loss, the same gradients; none of their own rates."""
    model = new_model(output_dist=dist)
    model.passes, gone = BODIES[body], some(0.3)
    found = []
    for data in (spikes, torch.where(gone, spikes + 7, spikes)):
        model.zero_grad()
        visibility = missing(~gone, model.factor_weight)
        output = model(data, "a", None, noise_of(model), visibility=visibility)
        output.log_rates.retain_grad()
        loss = compute_loss(model, output, data, LossConfig(), 1.0, 1.0, visibility)
        loss.total.backward()
        assert (output.log_rates.grad[gone] == 0).all()
        assert (output.log_rates.grad[~gone] != 0).all()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((loss, grads))
    assert found[0][0] == found[1][0]
    for name, grad in found[0][1].items():
        assert torch.equal(grad, found[1][1][name]), name


@pytest.mark.parametrize("dist", DISTS)
def test_costs_of_what_is_there_and_of_what_is_missing_are_the_whole(new_model, spikes, dist):
    model, gone = new_model(output_dist=dist), some(0.3)
    output = model(spikes, "a", None, noise_of(model))
    parts = [
        reconstruction(model, output, spikes, missing(~which, model.factor_weight))
        for which in (gone, ~gone)
    ]
    torch.testing.assert_close(sum(parts), reconstruction(model, output, spikes))


def test_missing_joins_with_the_others():
    like = torch.zeros(())
    gone, never = some(0.2), some(0.2, seed=1)
    kept = some(0.5, seed=2) / 0.5
    unseen = torch.zeros(T, D, dtype=torch.bool)
    unseen[:, 1] = True
    others, only_never = sample_validation(never, 0.2, like)
    view = missing(~gone, like).also(others).also(coordinated(kept, 0.5, unseen))
    assert (view.shown[gone | never | (kept == 0)] == 0).all()
    share = (~gone).float().mean(2, keepdim=True).expand(B, T, D)
    is_shown = ~gone & ~never & (kept > 0)
    torch.testing.assert_close(view.shown[is_shown], (1 / 0.5 / 0.8 / share)[is_shown])
    scored = ~gone & ~never & ((kept == 0) | unseen)
    weight = torch.where(unseen, 1 / 0.8, 1 / 0.8 / 0.5) * scored
    torch.testing.assert_close(view.scale * view.weight, weight)
    meter = missing(~gone, like).also(only_never)
    torch.testing.assert_close(meter.scale * meter.weight, (never & ~gone) / 0.2)
    for same in (WHOLE.also(view), view.also(WHOLE)):
        assert torch.equal(same.shown, view.shown)
        assert torch.equal(same.weight, view.weight)
        assert same.scale == view.scale


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_native_likelihood_takes_weights(new_model, spikes, dtype):
    """Of every size, with 0s, counts above 1 among them; against the readable one."""
    model = new_model()
    data = (3 * spikes).to(dtype)
    weight = torch.rand(B, T, D, generator=torch.Generator().manual_seed(0)) * some(0.7)
    numbers = []
    for passes in (REFERENCE, NATIVE):
        model.passes = passes
        output = model(data, "a", None, noise_of(model))
        output.log_rates.retain_grad()
        nll = reconstruction(model, output, data, Visibility(weight=weight, scale=1.7))
        (nll * torch.arange(1.0, B + 1)).sum().backward()
        numbers.append((nll.detach(), output.log_rates.grad))
    torch.testing.assert_close(*numbers, rtol=1e-5, atol=1e-5)


def test_weights_of_0_and_1_are_masks_bit_by_bit(new_model, spikes):
    """No spike at a rate of exp(-clip) costs nothing: so entries were left out before."""
    model, scored = new_model(), some(0.5)
    for passes in (REFERENCE, NATIVE):
        nll = passes.nll(model.noise_model)
        log_rates = model(spikes, "a", None, noise_of(model)).log_rates.detach()
        found = []
        for masked in (True, False):
            x = log_rates.clone().requires_grad_()
            if masked:
                cost = nll(torch.where(scored, x, -80.0), (), spikes * scored, 80.0)
            else:
                cost = nll(x, (), spikes, 80.0, scored.float())
            (cost * torch.arange(1.0, B + 1)).sum().backward()
            found.append((cost, x.grad))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])
