"""Kernels against loop against float64, over configurations drawn at random; prints a tally."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch

from lfads_lightning.config import (
    Feedback,
    LossConfig,
    ModelConfig,
    OutputDist,
    SessionSpec,
)
from lfads_lightning.model import native, recurrences
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import compute_loss
from lfads_lightning.model.records import Masks, Noise
from lfads_lightning.model.visibility import Visibility

LOSS = LossConfig(l2_gen_scale=3.0, l2_con_scale=2.0, co_mean_corr_scale=0.1)
# of the largest value; float32 rounds to 6e-8, and products over bins and states leave 1e-6
TOLERANCE = 1e-5
# a bf16 has 8 bits; test_bf16.py compares with the loop's rounded products
TOLERANCE_BF16, MEDIAN_BF16 = 0.5, 1e-2
MOST = 40  # of any size


class Drawn:
    """A model, its data and its random numbers, by the number of a configuration."""

    def __init__(self, number):
        rng = self.rng = np.random.default_rng(number)
        size = lambda: int(rng.integers(1, MOST + 1))  # noqa: E731
        maybe = lambda: bool(rng.integers(2))  # noqa: E731
        self.n_trials, self.n_bins = size(), int(rng.integers(1, 9))
        self.threads = int(rng.integers(1, 4))
        self.use_means, self.is_weighed = maybe(), maybe()
        n_ext, data_dim = int(rng.integers(4)), size()
        self.switches = {
            "co_dim": int(rng.integers(6)),
            "keep_prob": float(rng.choice([0.5, 0.95, 1.0])),
            "cell_clip_value": float(rng.choice([0.3, 5.0])),
            "controller_input_lag": int(rng.integers(self.n_bins + 3)),
            "do_causal_controller": maybe(),
            "do_feed_factors_to_controller": maybe(),
            "feedback_factors_or_rates": Feedback.rates if rng.random() < 0.2 else Feedback.factors,
            "inject_ext_input_to_gen": maybe(),
            "output_dist": OutputDist.gaussian if rng.random() < 0.2 else OutputDist.poisson,
            "ic_dim": size() if rng.random() < 0.9 else 0,
            "num_steps_for_gen_ic": int(rng.integers(1, self.n_bins + 1)),
        }
        sizes = {
            k: size() for k in ("factors_dim", "ic_enc_dim", "gen_dim", "ci_enc_dim", "con_dim")
        }
        torch.manual_seed(number)
        config = ModelConfig(**(sizes | self.switches))
        self.model = LFADS(config, [SessionSpec("a", data_dim, n_ext)])
        self.data = torch.poisson(torch.full((self.n_trials, self.n_bins, data_dim), 0.7))
        self.ext = torch.randn(self.n_trials, self.n_bins, n_ext)
        shape = self.n_trials, self.n_bins
        self.noise, self.masks = self.model.draw_noise(*shape), self.model.draw_masks(*shape)
        shown = self.model.draw_data_mask(*shape, "a")
        weight = (torch.rand(self.data.shape) < 0.5).float() if self.is_weighed else None
        self.visibility = Visibility(shown, weight)

    def run(self, passes, dtype=torch.float32):
        """Return everything a pass computes and every gradient, in float64."""
        model = copy.deepcopy(self.model).to(dtype)
        model.passes = passes
        noise = Noise(*(x.to(dtype) for x in self.noise))
        masks = Masks(*(None if m is None else m.to(dtype) for m in self.masks))
        shown, weight = (None if x is None else x.to(dtype) for x in self.visibility[:2])
        visibility = self.visibility._replace(shown=shown, weight=weight)
        ext = self.ext.to(dtype)
        output = model(self.data, "a", ext, noise, masks, visibility, use_means=self.use_means)
        loss = compute_loss(model, output, self.data, LOSS, 0.7, 0.6, visibility).total
        loss.backward()
        found = {"loss": loss, "log_rates": output.log_rates}
        found |= {k: v for k, v in output.states._asdict().items() if v is not None}
        found |= {f"d {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
        return {name: x.detach().double() for name, x in found.items()}


def error(found, exact):
    """Return the largest error of any array, of its largest value (of gradients: of any's)."""
    assert found.keys() == exact.keys()
    steepest = max(
        float(x.abs().max()) for n, x in exact.items() if n.startswith("d ") and x.numel()
    )
    worst = 0.0
    for name, x in exact.items():
        if x.numel():
            scale = steepest if name.startswith("d ") else max(float(x.abs().max()), 1.0)
            worst = max(worst, float((found[name] - x).abs().max()) / scale)
    return worst


def survey(numbers):
    """Compare all; print how many had what, and how far they are from float64 at worst."""
    bodies = {"kernel": recurrences.NATIVE}
    if native.has_bf16():
        bodies["kernel, bf16"] = recurrences.NATIVE_BF16
    tally, errors = Counter(), {name: [] for name in ("loop", *bodies)}
    before = torch.get_num_threads()
    for number in numbers:
        drawn = Drawn(number)
        torch.set_num_threads(drawn.threads)
        try:
            exact = drawn.run(recurrences.REFERENCE, torch.float64)
            errors["loop"].append(error(drawn.run(recurrences.REFERENCE), exact))
            for name, passes in bodies.items():
                errors[name].append(error(drawn.run(passes), exact))
        finally:
            torch.set_num_threads(before)
        tally.update(f"{k}={getattr(v, 'name', v)}" for k, v in drawn.switches.items()
                     if not k.endswith(("lag", "ic_dim", "gen_ic")))  # fmt: skip
        tally.update([f"threads={drawn.threads}", f"use_means={drawn.use_means}"])
        # some configurations amplify rounding: there the loop is the measure
        allowed = max(TOLERANCE, 2 * errors["loop"][-1])
        assert errors["kernel"][-1] < allowed, f"configuration {number}: {drawn.switches}"
        if "kernel, bf16" in errors:
            worst = errors["kernel, bf16"][-1]
            assert worst < TOLERANCE_BF16, f"configuration {number}: {drawn.switches}"
    print(
        f"\n{len(numbers)} configurations:", ", ".join(f"{k} {n}" for k, n in sorted(tally.items()))
    )
    for body, found in errors.items():
        print(f"{body}: worst error {max(found):.1e}, median {np.median(found):.1e}")
    if "kernel, bf16" in errors:
        assert np.median(errors["kernel, bf16"]) < MEDIAN_BF16


def test_two_dozen_configurations(native_kernel):
    survey(range(24))


@pytest.mark.slow
def test_three_thousand_configurations(native_kernel):
    survey(range(24, 3024))
