"""Every parameter has the effect that it is documented to have: one test for each name.

``@effect_of("co_dim")`` says which parameter a test is about; the last test sees that none is
missing. What a parameter does is taken from the description of the original.
"""

import contextlib
import csv
import functools
import json
import math
import shutil
import sys
import types
import warnings
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import scipy.stats
import torch
import yaml

import lfads_lightning as lfads
from lfads_lightning import api
from lfads_lightning.cli.kinds import run_kind
from lfads_lightning.cli.settings import settings_text
from lfads_lightning.cli.train import main as train_main
from lfads_lightning.config import Kind, LFADSError, LossConfig, OutputDist
from lfads_lightning.data import datamodule, loading
from lfads_lightning.data.datamodule import LFADSDataModule
from lfads_lightning.data.loading import load_data
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.inference import refine
from lfads_lightning.metrics import bits_per_spike
from lfads_lightning.model import device, native
from lfads_lightning.model.alignment import align
from lfads_lightning.model.device import resolve_device
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import compute_loss
from lfads_lightning.model.records import NO_DROPOUT
from lfads_lightning.model.recurrences import NATIVE, REFERENCE
from lfads_lightning.model.visibility import WHOLE
from lfads_lightning.params import check, documented_names, dotted_names, from_flat
from lfads_lightning.report import training_figures
from lfads_lightning.search import engines
from lfads_lightning.search.run import run_search
from lfads_lightning.search.space import drawn_settings
from lfads_lightning.training import clock, hidden, loop, module
from lfads_lightning.training.checkpoint_files import load_checkpoint, require_checkpoint
from lfads_lightning.training.fit import Fitted, fit
from lfads_lightning.training.format import state_of
from lfads_lightning.training.module import LFADSModule

B, T, D = 4, 8, 5
TESTED: list[str] = []


def effect_of(name):
    """Register the test below as the one of parameter ``name``."""

    def register(test):
        assert test.__name__.startswith("test_")
        TESTED.append(name)
        return test

    return register


class Run(NamedTuple):
    """A training run on twelve trials, by default in one batch: an update is an epoch."""

    fitted: Fitted
    folder: Any
    log: dict  # columns of metrics.csv

    @property
    def weights(self):
        return {k: v.clone() for k, v in self.fitted.model.state_dict().items()}


def columns(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


@pytest.fixture(scope="module")
def train(tmp_path_factory, new_config, counts):
    """Train on the shared counts; keywords are flat parameter names."""

    def run(sessions=None, folder=None, **parameters):
        config = new_config(**parameters)
        folder = folder or tmp_path_factory.mktemp("run")
        sessions = sessions or {"a": counts}
        arrays = sessions_from_arrays(
            sessions,
            {name: data[:6] for name, data in sessions.items()},
            output_dist=config.model.output_dist.name,
            ext_input_dim=0,
            factors_dim=config.model.factors_dim,
        )
        return Run(fit(config, arrays, folder), folder, columns(folder))

    return run


def changed(before, after, atol=1e-9):
    """Return the names of the weights that differ."""
    return {k for k in before if not torch.allclose(before[k], after[k], rtol=0, atol=atol)}


def distance(before, after):
    return torch.cat([(before[k] - after[k]).flatten() for k in before]).norm().item()


STILL = {"learning_rate_init": 1e-30, "max_steps": 1}  # a run that ends where it starts


def noise_of(model, seed=3):
    return model.draw_noise(B, T, torch.Generator().manual_seed(seed))


def moved_bins(before, after):
    return set(torch.nonzero((before - after).flatten(2).abs().amax((0, 2)) > 0).flatten().tolist())


def loss_of(model, spikes, ramps=(1.0, 1.0), **weights):
    weights = LossConfig(**{"l2_gen_scale": 100.0, "l2_con_scale": 50.0} | weights)
    return compute_loss(model, model(spikes, "a", None, noise_of(model)), spikes, weights, *ramps)


def spy(monkeypatch, owner, method, note):
    """Call ``note(self, *arguments)`` before a method."""
    original = getattr(owner, method)

    @functools.wraps(original)  # Lightning looks at the signature
    def noted(self, *args, **kwargs):
        note(self, *args, **kwargs)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, noted)


# --- sizes and switches of the network ---


@effect_of("output_dist")
def test_output_dist_selects_what_is_reported_and_its_likelihood(new_model, spikes):
    poisson, gaussian = (new_model(output_dist=name) for name in ("poisson", "gaussian"))
    rates = poisson(spikes, "a", None, noise_of(poisson))
    torch.testing.assert_close(rates.output_dist_params, rates.log_rates.exp())
    theirs = -scipy.stats.poisson.logpmf(spikes, rates.output_dist_params.detach()).sum((1, 2))
    assert loss_of(poisson, spikes).recon.item() == pytest.approx(theirs.mean(), rel=1e-5)
    params = gaussian(spikes, "a", None, noise_of(gaussian)).output_dist_params.detach().numpy()
    mean, variance = np.split(params, 2, axis=2)
    theirs = -scipy.stats.norm.logpdf(spikes, mean, np.sqrt(variance)).sum((1, 2))
    assert loss_of(gaussian, spikes).recon.item() == pytest.approx(theirs.mean(), rel=1e-5)


@effect_of("ic_dim")
def test_ic_dim_is_the_size_of_the_code_and_0_leaves_one_learned_start(new_model, spikes):
    with_code, without = new_model(ic_dim=3), new_model(ic_dim=0)
    assert with_code(spikes, "a").encoding.ic_mean.shape == (B, 3)
    assert with_code(spikes, "a").gen_ics.std(0).max() > 0
    starts = without(spikes, "a").gen_ics
    assert torch.equal(starts, without.gen_ic.expand(B, -1))
    assert without(spikes, "a").encoding.ic_mean is None
    assert loss_of(without, spikes).kl_ic == 0 < loss_of(with_code, spikes).kl_ic


@effect_of("factors_dim")
def test_factors_dim_is_the_number_of_factors_and_the_width_of_a_readin(new_model, spikes):
    model = new_model({"a": 5, "b": 4}, factors_dim=7)
    assert model(spikes, "a").states.factors.shape == (B, T, 7)
    assert model.readin["session_a"](spikes.float()).shape == (B, T, 7)
    assert model.encoder_input_dim == 7
    assert new_model(factors_dim=7).encoder_input_dim == D  # one session is read directly


@effect_of("ic_enc_dim")
def test_ic_enc_dim_is_the_units_per_direction(new_model, spikes):
    model = new_model(ic_enc_dim=11)
    encoding = model.encode(spikes, "a")
    assert encoding.ic_enc_fwd.shape == encoding.ic_enc_rev.shape == (B, T, 11)
    assert model.ic_mean.weight.shape == (22, 4)


@effect_of("gen_dim")
def test_gen_dim_is_the_units_of_the_generator(new_model, spikes):
    output = new_model(gen_dim=11)(spikes, "a")
    assert output.states.gen_states.shape == (B, T, 11)
    assert output.gen_ics.shape == (B, 11)


@effect_of("ci_enc_dim")
def test_ci_enc_dim_is_the_units_per_direction(new_model, spikes):
    encoding = new_model(ci_enc_dim=11).encode(spikes, "a")
    assert encoding.ci_enc_fwd.shape == encoding.ci_enc_rev.shape == (B, T, 11)
    assert encoding.con_input.shape == (B, T, 22)


@effect_of("con_dim")
def test_con_dim_is_the_units_of_the_controller(new_model, spikes):
    assert new_model(con_dim=11)(spikes, "a").states.con_states.shape == (B, T, 11)


@effect_of("co_dim")
def test_co_dim_is_the_number_of_inferred_inputs_and_0_leaves_the_generator_alone(
    new_model, spikes
):
    for u in (1, 3):
        model = new_model(co_dim=u)
        assert model(spikes, "a").states.co_samples.shape == (B, T, u)
        assert loss_of(model, spikes).kl_co != 0
    without = new_model(co_dim=0)
    assert without(spikes, "a").states.co_samples is None
    assert loss_of(without, spikes).kl_co == 0
    assert without.generator.input_gates.shape[0] == 0


@effect_of("keep_prob")
def test_keep_prob_is_the_share_of_values_kept_in_training_only(new_model, train, monkeypatch):
    for keep_prob in (0.5, 0.9):
        model = new_model(keep_prob=keep_prob)
        masks = model.draw_data_mask(40, 50, "a"), *model.draw_masks(40, 50)
        for mask in (m for m in masks if m is not None):
            kept = (mask > 0).float().mean().item()
            tolerance = 6 * np.sqrt(keep_prob * (1 - keep_prob) / mask.numel())
            assert kept == pytest.approx(keep_prob, abs=tolerance)
            assert mask.max().item() == pytest.approx(1 / keep_prob)
    seen = {"training": [], "validation": []}
    part = []
    for name in seen:
        spy(monkeypatch, LFADSModule, f"{name}_step", lambda *_, name=name: part.append(name))

    def note(model, data, session, ext, noise, masks=NO_DROPOUT, visibility=WHOLE):
        seen[part[-1]].append((masks.generator is not None, visibility.shown is not None))

    spy(monkeypatch, LFADS, "forward", note)
    train(keep_prob=0.5, max_epochs=1)
    assert seen == {"training": [(True, True)], "validation": [(False, False)]}


@effect_of("cell_clip_value")
def test_cell_clip_value_bounds_every_recurrent_state(new_model, spikes):
    def states(model):
        output = model(spikes, "a", None, noise_of(model))
        e, s = output.encoding, output.states
        encoders = (e.ic_enc_fwd, e.ic_enc_rev, e.ci_enc_fwd, e.ci_enc_rev)
        return output.gen_ics, [*encoders, s.gen_states, s.con_states]

    for clip in (0.3, 5.0):
        model = new_model(cell_clip_value=clip)
        with torch.no_grad():  # a state keeps between +-1 unless it starts outside
            model.ic_to_gen.bias.fill_(20.0)
        start, found = states(model)
        assert start.max() > 5  # the start itself is not clamped
        assert max(s.abs().max().item() for s in found) == pytest.approx(clip)
        if clip < 1:
            assert all(s.abs().max().item() == pytest.approx(clip) for s in found)


def ratios(new_model, name, value):
    """Return by how much each initial weight grows, against ``name`` = 1, same random draws."""
    one, other = (dict(new_model(fresh=True, **{name: v}).named_parameters()) for v in (1.0, value))
    pairs = {k: (one[k], other[k]) for k in one if one[k].abs().max() > 0}
    return {k: (b / a).mean().item() for k, (a, b) in pairs.items()}


@effect_of("cell_weight_scale")
def test_cell_weight_scale_scales_encoder_gates_and_all_controller_weights(new_model):
    scaled = {
        f"{encoder}.{way}.{part}"
        for encoder in ("ic_encoder", "ci_encoder")
        for way in ("fwd", "rev")
        for part in ("gates", "input_gates")
    } | {f"controller.{p}" for p in ("gates", "input_gates", "candidate", "input_candidate")}
    for name, ratio in ratios(new_model, "cell_weight_scale", 3.0).items():
        # not the encoders' candidates, nor anything of the generator
        assert ratio == pytest.approx(3.0 if name in scaled else 1.0), name


@effect_of("gen_cell_input_weight_scale")
def test_gen_cell_input_weight_scale_scales_the_generators_input_weights(new_model):
    scaled = {"generator.input_gates", "generator.input_candidate"}
    for name, ratio in ratios(new_model, "gen_cell_input_weight_scale", 3.0).items():
        assert ratio == pytest.approx(3.0 if name in scaled else 1.0), name


@effect_of("gen_cell_rec_weight_scale")
def test_gen_cell_rec_weight_scale_scales_the_generators_recurrent_weights(new_model):
    scaled = {"generator.gates", "generator.candidate"}
    for name, ratio in ratios(new_model, "gen_cell_rec_weight_scale", 3.0).items():
        assert ratio == pytest.approx(3.0 if name in scaled else 1.0), name


def ext_pair(n_inputs, t):
    """Return external inputs, and the same with another bin ``t``."""
    ext = torch.randn(B, T, n_inputs, generator=torch.Generator().manual_seed(5))
    other = ext.clone()
    other[:, t] += 1
    return ext, other


@effect_of("ext_input_dim")
def test_ext_input_dim_is_the_number_used_and_0_ignores_those_given(new_model, spikes, counts):
    given = np.random.default_rng(0).normal(size=(12, T, 2))

    def session(n):
        return sessions_from_arrays(
            {"a": counts},
            {"a": counts},
            train_ext_input={"a": given},
            valid_ext_input={"a": given},
            output_dist="poisson",
            ext_input_dim=n,
            factors_dim=3,
        )[0]

    assert session(0).train.ext_input is None
    assert session(2).train.ext_input.shape == (12, T, 2)
    with pytest.raises(LFADSError, match="ext_input_dim=3"):
        session(3)
    model = new_model(ext_input_dim=2)
    assert model.encoder_input_dim == D + 2
    a, b = (model(spikes, "a", e, noise_of(model)).output_dist_params for e in ext_pair(2, 3))
    assert (a - b).abs().max() > 0


@effect_of("inject_ext_input_to_gen")
def test_inject_ext_input_to_gen_moves_the_inputs_from_encoders_to_generator(new_model, spikes):
    ext, other = ext_pair(2, t=5)
    for injected in (False, True):
        model = new_model(
            ext_input_dim=2, inject_ext_input_to_gen=injected, do_feed_factors_to_controller=False
        )
        noise = noise_of(model)
        a, b = (model(spikes, "a", e, noise) for e in (ext, other))
        assert torch.equal(a.encoding.ic_mean, b.encoding.ic_mean) == injected
        assert torch.equal(a.encoding.con_input, b.encoding.con_input) == injected
        moved = moved_bins(a.states.gen_states, b.states.gen_states)
        assert moved == ({5, 6, 7} if injected else set(range(T)))


@effect_of("num_steps_for_gen_ic")
def test_num_steps_for_gen_ic_is_the_number_of_bins_that_the_ic_encoder_sees(new_model, spikes):
    for n in (1, 3, T, 10 * T):
        model = new_model(num_steps_for_gen_ic=n)
        before = model.encode(spikes, "a")
        for t in range(T):
            other = spikes.clone()
            other[:, t] += 3
            after = model.encode(other, "a")
            assert torch.equal(before.ic_mean, after.ic_mean) == (t >= n)
            assert not torch.equal(before.ci_enc_fwd, after.ci_enc_fwd)  # that one sees all


@effect_of("do_causal_controller")
def test_do_causal_controller_leaves_out_the_backward_encoder(new_model, spikes):
    other = spikes.clone()
    other[:, 5] += 3
    for causal in (False, True):
        model = new_model(do_causal_controller=causal)
        before, after = model.encode(spikes, "a"), model.encode(other, "a")
        assert (before.ci_enc_rev is None) == causal
        moved = moved_bins(before.con_input, after.con_input)
        assert moved == ({6, 7} if causal else {0, 1, 2, 3, 4, 6, 7})


@effect_of("controller_input_lag")
def test_controller_input_lag_moves_the_bins_that_the_controllers_view_reaches(new_model, spikes):
    other = spikes.clone()
    other[:, 4] += 3
    for lag, reached in ((0, range(T)), (1, {0, 1, 2, 3, 5, 6, 7}), (3, {0, 1, 7}), (8, set())):
        model = new_model(controller_input_lag=lag)
        a, b = (model.encode(x, "a").con_input for x in (spikes, other))
        # forward from bin 4 + lag on, backward up to bin 4 - lag
        assert moved_bins(a[:, :, :8], b[:, :, :8]) == set(range(4 + lag, T))
        assert moved_bins(a[:, :, 8:], b[:, :, 8:]) == set(range(max(4 - lag + 1, 0)))
        assert moved_bins(a, b) == set(reached)


@effect_of("do_feed_factors_to_controller")
def test_do_feed_factors_to_controller_lets_the_controller_see_the_generator(new_model, spikes):
    for feed in (True, False):
        model = new_model(do_feed_factors_to_controller=feed)
        noise = noise_of(model)
        other = noise._replace(co=noise.co.clone())
        other.co[:, 3] += 1
        a, b = (model(spikes, "a", None, n).states for n in (noise, other))
        assert moved_bins(a.gen_states, b.gen_states) == {3, 4, 5, 6, 7}
        assert moved_bins(a.con_states, b.con_states) == ({4, 5, 6, 7} if feed else set())


@effect_of("feedback_factors_or_rates")
def test_feedback_factors_or_rates_selects_what_the_controller_sees(new_model, spikes):
    for choice, width in (("factors", 3), ("rates", D)):
        model = new_model(feedback_factors_or_rates=choice)
        assert model.controller.input_gates.shape[0] == 2 * 8 + width
        noise = noise_of(model)
        before = model(spikes, "a", None, noise).states.con_states
        with torch.no_grad():
            model.readout["session_a"].bias.add_(1.0)  # rates know of it, factors do not
        after = model(spikes, "a", None, noise).states.con_states
        assert torch.equal(before, after) == (choice == "factors")


# --- priors and posteriors ---


def prior_variances(model):
    """Return the prior's variance at its start, and at either end of its parameter."""
    prior, found = model.ic_prior, [model.ic_prior.logvar().exp()[0].item()]
    for p in (-50.0, 50.0):
        with torch.no_grad():
            prior.raw_logvar.fill_(p)
        found.append(prior.logvar().exp()[0].item())
    return found


@effect_of("ic_prior_var_min")
def test_ic_prior_var_min_is_the_least_prior_variance(new_model):
    for low in (0.01, 0.07):
        model = new_model(ic_prior_var_min=low, ic_prior_var_max=0.3, fresh=True)
        assert prior_variances(model) == pytest.approx([0.1, low, 0.3], rel=1e-5)


@effect_of("ic_prior_var_scale")
def test_ic_prior_var_scale_is_the_variance_at_the_start_and_always_where_bounds_meet(new_model):
    for scale in (0.06, 0.2):
        model = new_model(
            ic_prior_var_min=0.05, ic_prior_var_scale=scale, ic_prior_var_max=0.3, fresh=True
        )
        assert prior_variances(model) == pytest.approx([scale, 0.05, 0.3], rel=1e-5)
        constant = dict.fromkeys(
            ("ic_prior_var_min", "ic_prior_var_scale", "ic_prior_var_max"), scale
        )
        model = new_model(**constant, fresh=True)
        assert model.ic_prior.logvar().exp()[0].item() == pytest.approx(scale)


@effect_of("ic_prior_var_max")
def test_ic_prior_var_max_is_the_largest_and_above_the_least_trains_the_variance(new_model):
    for high in (0.2, 0.9):
        model = new_model(ic_prior_var_min=0.05, ic_prior_var_max=high, fresh=True)
        assert prior_variances(model) == pytest.approx([0.1, 0.05, high], rel=1e-5)
        assert model.ic_prior.raw_logvar.requires_grad
    assert not new_model(ic_prior_var_max=0.1).ic_prior.raw_logvar.requires_grad


@effect_of("ic_post_var_min")
def test_ic_post_var_min_is_added_to_the_posterior_variance(new_model, spikes):
    variances = [
        new_model(ic_post_var_min=v).encode(spikes, "a").ic_logvar.exp() for v in (0, 0.02, 3)
    ]
    torch.testing.assert_close(variances[1] - variances[0], torch.full((B, 4), 0.02))
    torch.testing.assert_close(variances[2] - variances[0], torch.full((B, 4), 3.0))


@effect_of("co_prior_var_scale")
def test_co_prior_var_scale_changes_no_number_and_is_warned_of(train):
    plain = train(max_epochs=2)
    with pytest.warns(UserWarning, match="co_prior_var_scale has no effect"):
        other = train(max_epochs=2, co_prior_var_scale=0.7)
    assert plain.log == other.log
    assert all(torch.equal(plain.weights[k], other.weights[k]) for k in plain.weights)


@effect_of("prior_ar_atau")
def test_prior_ar_atau_is_the_time_constant_in_bins(new_model):
    for tau in (2.0, 10.0):
        prior = new_model(prior_ar_atau=tau, fresh=True).co_prior
        torch.testing.assert_close(prior.phi(), torch.full((2,), np.exp(-1 / tau)).float())


@effect_of("prior_ar_nvar")
def test_prior_ar_nvar_is_the_innovation_variance_not_that_of_the_process(new_model):
    for nvar in (0.1, 0.4):
        prior = new_model(prior_ar_nvar=nvar, fresh=True).co_prior
        # the density of two bins: the second's spread around phi times the first
        u = torch.tensor([[[0.7, 0.7], [0.2, 0.2]]])
        phi = np.exp(-1 / 10)
        first = scipy.stats.norm.logpdf(0.7, 0, np.sqrt(nvar / (1 - phi**2)))
        second = scipy.stats.norm.logpdf(0.2, phi * 0.7, np.sqrt(nvar))
        assert prior.log_density(u).item() == pytest.approx(2 * (first + second), rel=1e-5)


@pytest.fixture(scope="module")
def prior_runs(train):
    """Which of tau and nvar move in training, with one of them held."""

    def moved(**held):
        run = train(max_epochs=2, kl_increase_steps=0, **held)
        prior = run.fitted.model.co_prior
        tau, var = prior.log_tau.detach().exp(), prior.log_innovation_var.detach().exp()
        return (tau - 10).abs().min().item() > 1e-4, (var - 0.1).abs().min().item() > 1e-6

    return {
        "tau held": moved(do_train_prior_ar_atau=False),
        "nvar held": moved(do_train_prior_ar_nvar=False),
    }


@effect_of("do_train_prior_ar_atau")
def test_do_train_prior_ar_atau_trains_or_holds_the_time_constant(prior_runs):
    assert prior_runs == {"tau held": (False, True), "nvar held": (True, False)}


@effect_of("do_train_prior_ar_nvar")
def test_do_train_prior_ar_nvar_trains_or_holds_the_innovation_variance(prior_runs):
    held = {name: not nvar_moved for name, (_, nvar_moved) in prior_runs.items()}
    assert held == {"tau held": False, "nvar held": True}


@effect_of("do_legacy_ic_prior_var")
def test_do_legacy_ic_prior_var_gives_the_originals_start_and_bounds(new_model):
    bounds = {"ic_prior_var_min": 0.05, "ic_prior_var_max": 0.3, "fresh": True}
    ours = prior_variances(new_model(**bounds))
    legacy = prior_variances(new_model(**bounds, do_legacy_ic_prior_var=True))
    assert ours == pytest.approx([0.1, 0.05, 0.3], rel=1e-5)
    assert legacy == pytest.approx([0.1812, 0.175, 0.3], abs=5e-5)


@effect_of("_clip_value")
def test_clip_value_bounds_the_reported_log_rates_and_keeps_the_loss_finite(new_model, spikes):
    for clip in (2.0, 80.0):
        model = new_model(_clip_value=clip)
        for bias, limit in ((300.0, clip), (-300.0, -clip)):
            with torch.no_grad():
                model.readout["session_a"].bias.fill_(bias)
            rates = model(spikes, "a").output_dist_params
            torch.testing.assert_close(rates.log(), torch.full_like(rates, limit))
            assert loss_of(model, spikes).total.isfinite()


# --- terms of the loss ---


def loss_change(new_model, spikes, term, factor, **change):
    """See that ``change`` multiplies ``term`` by ``factor``, and no other term."""
    model = new_model()
    before, after = loss_of(model, spikes), loss_of(model, spikes, **change)
    for name in set(before._fields) - {"total"}:
        expected = getattr(before, name) * (factor if name == term else 1)
        torch.testing.assert_close(getattr(after, name), expected)
    gain = (factor - 1) * getattr(before, term)
    torch.testing.assert_close(after.total - before.total, gain, atol=1e-3, rtol=1e-3)
    assert abs(gain) > 0.01


@effect_of("kl_ic_weight")
def test_kl_ic_weight_multiplies_the_ic_divergence(new_model, spikes):
    loss_change(new_model, spikes, "kl_ic", 3, kl_ic_weight=3.0)


@effect_of("kl_co_weight")
def test_kl_co_weight_multiplies_the_input_divergence(new_model, spikes):
    loss_change(new_model, spikes, "kl_co", 3, kl_co_weight=3.0)


@effect_of("l2_gen_scale")
def test_l2_gen_scale_doubles_the_generators_share_of_l2(new_model, spikes):
    model = new_model()
    for con_scale in (0.0, 50.0):
        none, one, two = (
            loss_of(model, spikes, l2_gen_scale=s, l2_con_scale=con_scale).l2
            for s in (0.0, 100.0, 200.0)
        )
        torch.testing.assert_close(two - none, 2 * (one - none))
        assert one > none
    loss_change(new_model, spikes, "l2", 2, l2_gen_scale=200.0, l2_con_scale=100.0)


@effect_of("l2_con_scale")
def test_l2_con_scale_doubles_the_controllers_share_of_l2(new_model, spikes):
    model = new_model()
    none, one, two = (
        loss_of(model, spikes, l2_con_scale=s, l2_gen_scale=0.0).l2 for s in (0.0, 50.0, 100.0)
    )
    assert none == 0 < one
    torch.testing.assert_close(two, 2 * one)
    squares = sum(p.square().sum() for p in model.controller.recurrent_parameters())
    both = model.controller.recurrent_parameters() + model.generator.recurrent_parameters()
    torch.testing.assert_close(one, 0.5 * 50 * squares / sum(p.numel() for p in both))


@effect_of("l2_readout_scale")
def test_l2_readout_scale_adds_half_of_it_times_the_squares_of_the_read_outs_weights(
    new_model, spikes
):
    model = new_model()
    none, one = (loss_of(model, spikes, l2_readout_scale=s) for s in (0.0, 3.0))
    (readout,) = model.readout.values()
    torch.testing.assert_close(one.l2 - none.l2, 1.5 * readout.weight.square().sum())
    torch.testing.assert_close(one.total - none.total, one.l2 - none.l2, atol=1e-3, rtol=1e-3)


@effect_of("co_mean_corr_scale")
def test_co_mean_corr_scale_times_the_correlation_is_added_to_the_total(new_model, spikes):
    model = new_model()
    none, one, two = (loss_of(model, spikes, co_mean_corr_scale=s) for s in (0.0, 1.5, 3.0))
    means = model(spikes, "a", None, noise_of(model)).states.co_means
    by_hand = 0.5 * (means[:, :, 0] * means[:, :, 1]).sum(1).square().mean()
    torch.testing.assert_close(one.corr, by_hand)
    torch.testing.assert_close(one.total - none.total, 1.5 * by_hand, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(two.total - none.total, 3 * by_hand, atol=1e-3, rtol=1e-3)
    assert by_hand > 0.01


@effect_of("do_analytic_kl_co")
def test_do_analytic_kl_co_takes_the_sample_out_of_the_input_divergence(new_model, spikes):
    model = new_model(do_feed_factors_to_controller=False)

    def kl_co(seed, analytic):
        output = model(spikes, "a", None, noise_of(model, seed))
        weights = LossConfig(do_analytic_kl_co=analytic)
        return compute_loss(model, output, spikes, weights, 1.0, 1.0).kl_co.item()

    sampled = [kl_co(seed, False) for seed in range(100)]
    analytic = {kl_co(seed, True) for seed in range(5)}
    assert len(analytic) == 1
    standard_error = np.std(sampled) / np.sqrt(len(sampled))
    assert np.mean(sampled) == pytest.approx(analytic.pop(), abs=6 * standard_error)
    assert len(set(sampled)) == 100


@pytest.fixture(scope="module")
def ramped(train):
    """Runs of seven updates, one each epoch, with ramps that start late or are short."""
    names = ("kl_start_step", "kl_increase_steps", "l2_start_step", "l2_increase_steps")
    settings = {"plain": (0, 4, 0, 2), "late": (2, 4, 3, 2), "short": (0, 2, 0, 0)}
    return {
        name: train(max_epochs=7, co_mean_corr_scale=0.5, **dict(zip(names, values, strict=True)))
        for name, values in settings.items()
    }


def check_ramp(runs, which, expected):
    """See that update k was weighted as expected, in the log and in the costs."""
    for name, weights in expected.items():
        assert runs[name].log[f"ramp/{which}"] == pytest.approx(weights), name
    for run in runs.values():
        log = {k: np.array(v) for k, v in run.log.items()}
        ramps = {"train": (log["ramp/kl"], log["ramp/l2"])}
        # validation uses the step that training has reached: the next update's ramp
        ramps["valid"] = tuple(r[1:] for r in ramps["train"])
        for split, (kl, l2) in ramps.items():
            t = {k: log[f"{split}/{k}"][: len(kl)] for k in ("recon", "kl_ic", "kl_co", "l2")}
            corr = 0.5 * log[f"{split}/corr"][: len(kl)]
            total = t["recon"] + kl * (t["kl_ic"] + t["kl_co"]) + l2 * t["l2"] + corr
            np.testing.assert_allclose(log[f"{split}/total"][: len(kl)], total, rtol=1e-5)


@effect_of("kl_start_step")
def test_kl_start_step_holds_the_kl_ramp_at_0_until_that_update(ramped):
    plain, late = [0, 0.25, 0.5, 0.75, 1, 1, 1], [0, 0, 0, 0.25, 0.5, 0.75, 1]
    check_ramp(ramped, "kl", {"plain": plain, "late": late})


@effect_of("kl_increase_steps")
def test_kl_increase_steps_is_the_length_of_the_kl_ramp(ramped):
    plain, short = [0, 0.25, 0.5, 0.75, 1, 1, 1], [0, 0.5, 1, 1, 1, 1, 1]
    check_ramp(ramped, "kl", {"plain": plain, "short": short})


@effect_of("l2_start_step")
def test_l2_start_step_holds_the_l2_ramp_at_0_until_that_update(ramped):
    plain, late = [0, 0.5, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0.5, 1, 1]
    check_ramp(ramped, "l2", {"plain": plain, "late": late})


@effect_of("l2_increase_steps")
def test_l2_increase_steps_is_the_length_of_the_l2_ramp_and_0_is_none(ramped):
    plain, short = [0, 0.5, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]
    check_ramp(ramped, "l2", {"plain": plain, "short": short})


# --- the optimiser ---

# an L2 ramp so steep that the training cost rises in every epoch
RISING = {
    "l2_gen_scale": 1e7,
    "l2_increase_steps": 1000,
    "learning_rate_init": 1e-3,
    "learning_rate_decay_factor": 0.5,
    "learning_rate_n_to_compare": 1,
    "max_epochs": 8,
}


@pytest.fixture(scope="module")
def rising(train):
    run = train(**RISING)
    assert (np.diff(run.log["train/total"]) > 0).all()
    return run


@effect_of("learning_rate_init")
def test_learning_rate_init_is_the_first_rate_and_scales_the_first_update(train):
    precise = {"precision": "float64", "max_steps": 1}
    start = train(**precise | STILL).weights
    one, two = (train(**precise, learning_rate_init=rate) for rate in (0.003, 0.006))
    assert (one.log["lr"], two.log["lr"]) == ([0.003], [0.006])
    assert distance(start, two.weights) == pytest.approx(2 * distance(start, one.weights))
    assert distance(start, one.weights) > 1e-3


@effect_of("learning_rate_decay_factor")
def test_learning_rate_decay_factor_multiplies_the_rate_at_a_decay(train, rising):
    for run, factor in (
        (rising, 0.5),
        (train(**RISING | {"learning_rate_decay_factor": 0.2}), 0.2),
    ):
        rates = np.array(run.log["lr"])
        steps = set((rates[1:] / rates[:-1]).round(9))
        assert steps == {1.0, factor}


@effect_of("learning_rate_n_to_compare")
def test_learning_rate_n_to_compare_is_how_many_epochs_a_cost_must_exceed(train, rising):
    a = 1e-3
    one = [a, a, a, a / 2, a / 2, a / 4, a / 4, a / 8]  # decays after epochs 2, 4, 6
    two = [a, a, a, a, a / 2, a / 2, a / 2, a / 4]  # after epochs 3 and 6
    assert rising.log["lr"] == pytest.approx(one)
    slower = train(**RISING | {"learning_rate_n_to_compare": 2})
    assert slower.log["lr"] == pytest.approx(two)


@effect_of("learning_rate_stop")
def test_learning_rate_stop_ends_training_after_the_first_epoch_below_it(train, rising):
    assert len(rising.log["lr"]) == 8
    # 1e-3, 5e-4 after epoch 2, 2.5e-4 after epoch 4
    stopped = train(**RISING | {"learning_rate_stop": 3e-4})
    assert stopped.log["epoch"] == [0, 1, 2, 3, 4]
    exactly = train(**RISING | {"learning_rate_stop": 2.5e-4})  # not below it yet
    assert exactly.log["epoch"] == [0, 1, 2, 3, 4, 5, 6]


@effect_of("max_grad_norm")
def test_max_grad_norm_bounds_the_global_norm_of_the_gradient(train):
    precise = {"precision": "float64", "max_steps": 1}
    start = train(**precise | STILL).weights

    def moved(bound):
        run = train(**precise, max_grad_norm=bound)
        return distance(start, run.weights), run.log["grad_norm"]

    small, large = moved(1e-3), moved(2e-3)
    # so small a gradient g is far below Adam's epsilon: the first step is lr sqrt(1-b2) g / eps
    assert small[0] == pytest.approx(0.01 * np.sqrt(0.001) * 1e-3 / 0.1, rel=1e-3)
    assert large[0] == pytest.approx(2 * small[0], rel=1e-3)
    assert small[1] == large[1]  # the norm before clipping
    loose, looser = moved(1e9), moved(2e9)
    assert loose == looser
    assert loose[0] > 10 * large[0]


@effect_of("do_reset_learning_rate")
def test_do_reset_learning_rate_resets_the_rate_after_loading_but_not_the_step(
    train, rising, tmp_path
):
    for reset in (False, True):
        folder = tmp_path / str(reset)
        shutil.copytree(rising.folder, folder)
        more = train(folder=folder, **RISING | {"max_epochs": 9, "do_reset_learning_rate": reset})
        assert more.log["epoch"] == list(range(9))
        assert more.log["step"] == list(range(1, 10))
        assert more.log["lr"][:8] == rising.log["lr"]
        assert more.log["lr"][8] == pytest.approx(1e-3 if reset else 1.25e-4)


# one update by AdamW, in float64
ADAMW = {"optimizer": "adamw", "precision": "float64", "max_steps": 1}


def moments(run):
    """Return AdamW's moments of all weights after a run, as two vectors."""
    (path,) = run.folder.glob("checkpoints/lfads_vae-*.ckpt")
    states = torch.load(path, weights_only=True)["optimizer_states"][0]["state"].values()
    return [torch.cat([s[k].flatten() for s in states]) for k in ("exp_avg", "exp_avg_sq")]


@effect_of("optimizer")
def test_optimizer_adamw_moves_every_weight_by_the_rate_at_first(train):
    start = train(precision="float64", **STILL).weights
    steps = {}
    for name in ("original", "adamw"):
        after = train(**ADAMW | {"optimizer": name}).weights
        steps[name] = torch.cat([(after[k] - start[k]).abs().flatten() for k in start])
    assert steps["adamw"].max() == pytest.approx(0.01, rel=1e-4)
    assert steps["adamw"].median() == pytest.approx(0.01, rel=1e-3)
    assert steps["original"].median() < 0.002


@effect_of("adamw_eps")
def test_adamw_eps_is_added_to_the_root_of_the_squared_gradient(train):
    start = train(precision="float64", **STILL).weights
    # beside an epsilon of 1 the clipped gradient is small: a step is lr g / (|g| + eps)
    after = train(**ADAMW, adamw_eps=1.0, max_grad_norm=1e-5).weights
    assert distance(start, after) == pytest.approx(0.01 * 1e-5, rel=1e-3)


@effect_of("adamw_beta1")
def test_adamw_beta1_is_the_decay_of_the_mean_gradient(train):
    (usual, square), (less, same) = (moments(train(**ADAMW, adamw_beta1=b)) for b in (0.9, 0.6))
    torch.testing.assert_close(less, 4 * usual)
    torch.testing.assert_close(same, square)


@effect_of("adamw_beta2")
def test_adamw_beta2_is_the_decay_of_the_mean_squared_gradient(train):
    (mean, usual), (same, less) = (moments(train(**ADAMW, adamw_beta2=b)) for b in (0.999, 0.99))
    torch.testing.assert_close(less, 10 * usual)
    torch.testing.assert_close(same, mean)


@effect_of("weight_decay")
def test_weight_decay_takes_a_share_off_each_weight(train):
    start = train(precision="float64", **STILL).weights
    without, with_it = (train(**ADAMW, weight_decay=w).weights for w in (0.0, 0.5))
    for name in changed(start, without):  # what has no gradient rests
        expected = without[name] - 0.01 * 0.5 * start[name]
        torch.testing.assert_close(with_it[name], expected)


COSINE = {"schedule": "cosine", "max_steps": 8, "learning_rate_init": 0.004}


@effect_of("schedule")
def test_schedule_cosine_falls_whatever_the_cost_does(train):
    run = train(**RISING | COSINE, learning_rate_stop=1.0, max_grad_norm=1e-9)
    done = np.arange(1, 9) / 8
    share = 0.01 + 0.99 * (1 + np.cos(np.pi * done)) / 2
    assert run.log["lr"] == pytest.approx(0.004 * share)
    with pytest.raises(LFADSError, match=r"set trainer\.max_steps"):
        train(schedule="cosine", max_epochs=3)


@effect_of("warmup_steps")
def test_warmup_steps_are_those_in_which_the_rate_rises(train):
    rates = train(**COSINE, warmup_steps=4).log["lr"]
    assert rates[:4] == pytest.approx([0.001, 0.002, 0.003, 0.004])
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.00004)


@effect_of("cosine_end")
def test_cosine_end_is_the_share_that_is_left_at_the_last_update(train):
    for end in (0.0, 0.25):
        assert train(**COSINE, cosine_end=end).log["lr"][-1] == pytest.approx(0.004 * end)


@effect_of("average_weights")
def test_average_weights_keeps_averages_and_trains_on_without_them(train):
    def last(n, **more):
        run = train(**cfg | {"max_steps": n}, **more)
        saved = load_checkpoint(require_checkpoint(run.folder, "checkpoint"))
        return [
            state_of({"state_dict": saved[k]})
            for k in ("state_dict", "trained_weights")
            if k in saved
        ]

    cfg = COSINE | {"precision": "float64", "cosine_end": 1.0}
    steps = [last(n)[0] for n in (1, 2, 3)]
    kept, trained = last(3, average_weights=True)
    average = train(precision="float64", **STILL).weights
    for n, now in enumerate(steps, 1):
        new = 1 - min(0.98, (1 + n) / (10 + n))
        average = {name: (1 - new) * average[name] + new * now[name] for name in now}
    for name, value in average.items():
        torch.testing.assert_close(kept[name], value)
        assert torch.equal(trained[name], steps[2][name])


@effect_of("do_train_io_only")
def test_do_train_io_only_moves_read_in_and_read_out_alone(train, counts):
    two = {"a": counts, "b": counts[:, :, :4]}
    settings = {"do_train_io_only": True, "max_epochs": 2}
    for dist in ("poisson", "gaussian"):
        start = train(two, **settings | STILL, output_dist=dist).weights
        moved = changed(start, train(two, **settings, output_dist=dist).weights)
        assert moved == {k for k in start if k.startswith(("readin.", "readout"))}
        assert len(moved) == (8 if dist == "poisson" else 12)


@effect_of("start_from")
def test_start_from_takes_the_weights_of_another_run(train, counts):
    first = train({"a": counts, "b": counts[:, :, :4]}, max_epochs=2)
    settings = {"start_from": str(first.folder), "do_train_io_only": True}
    start = train({"c": counts[:, :, :3]}, **settings | STILL).weights
    assert changed(first.weights, {k: start[k] for k in first.weights}) == set()
    assert {k.split(".")[1] for k in start.keys() - first.weights.keys()} == {"session_c"}
    after = train({"c": counts[:, :, :3]}, **settings, max_epochs=2).weights
    assert changed(start, after) == {k for k in start if "session_c" in k}


@effect_of("do_train_encoder_only")
def test_do_train_encoder_only_moves_the_ic_encoder_and_its_posterior_alone(train, counts):
    two = {"a": counts, "b": counts[:, :, :4]}
    settings = {"do_train_encoder_only": True, "max_epochs": 2, "kl_increase_steps": 0}
    start = train(two, **settings | STILL).weights
    moved = changed(start, train(two, **settings).weights)
    assert moved == {k for k in start if k.startswith(("ic_encoder.", "ic_mean.", "ic_logvar."))}


@effect_of("do_log_readout_bias")
def test_do_log_readout_bias_starts_at_the_mean_rates(new_model):
    matrix, bias = torch.ones(5, 3), torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0])
    for dist in ("poisson", "gaussian"):
        for is_log in (False, True):
            parameters = {"output_dist": dist, "do_log_readout_bias": is_log}
            model = new_model({"a": 5, "b": 4}, fresh=True, **parameters)
            align(model, "a", matrix, bias)
            start = model.readout["session_a"]
            assert torch.equal(start.weight, matrix.T)
            if is_log and dist == "poisson":  # a silent neuron has a rate, too
                means = torch.tensor([0.5, 2.0, 0.001, 1.0, 3.0])
                torch.testing.assert_close(start.bias.exp(), means)
            else:
                assert torch.equal(start.bias, bias)
    (message,) = check(from_flat({"output_dist": "gaussian", "do_log_readout_bias": True}))
    assert "do_log_readout_bias=true has no effect" in message


@effect_of("do_start_at_mean_rates")
@pytest.mark.parametrize("dist", OutputDist.names())
@pytest.mark.parametrize("is_aligned", [False, True])
def test_do_start_at_mean_rates_starts_read_outs_at_the_means(new_config, counts, dist, is_aligned):
    counts = counts + (0 if OutputDist[dist].takes_zero else 0.5)
    data = {"a": counts, "b": 2 * counts[:, :, :4]}
    matrices = {k: np.ones((v.shape[2], 3)) for k, v in data.items()}
    arrays = {"alignment_matrix_cxf": matrices} if is_aligned else {}
    sessions = sessions_from_arrays(
        data, output_dist=dist, ext_input_dim=0, factors_dim=3, warn=False, **arrays
    )
    starts = []
    for does in (False, True):
        torch.manual_seed(1)
        config = new_config(output_dist=dist, do_start_at_mean_rates=does)
        model = loop.new_model(config, sessions)
        starts.append({k: v.clone() for k, v in model.state_dict().items()})
        if does:
            for name, array in data.items():
                x, extras = model.read_out(torch.zeros(1, 1, 3), name)
                means = model.noise_model.mean(model.noise_model.params(x, extras, 80.0))
                np.testing.assert_allclose(
                    means[0, 0].detach(), array.mean((0, 1)), rtol=1e-5, atol=1e-3
                )
                if dist == "gaussian":
                    torch.testing.assert_close(
                        extras[0][0, 0].exp().detach(),
                        torch.as_tensor(array.var((0, 1)), dtype=torch.float32),
                    )
    extras = [] if OutputDist[dist].is_counts else model.extra_readouts
    layers = ["readout", *(f"readout_{extra}" for extra in extras)]
    assert changed(*starts) == {f"{layer}.session_{s}.bias" for layer in layers for s in "ab"}


@effect_of("spread_per")
def test_spread_per_is_of_bins_or_of_neurons(new_model, spikes):
    for spread, varies in (("bin", True), ("neuron", False)):
        model = new_model(output_dist="gaussian", spread_per=spread)
        variances = model(spikes, "a").output_dist_params[..., 5:]
        assert bool((variances.std((0, 1)) > 1e-6).all()) is varies
    (message,) = check(from_flat({"spread_per": "neuron"}))
    assert "spread_per=neuron has no effect with model.output_dist=poisson" in message


def test_do_start_at_mean_rates_without_a_read_out_is_said(new_config, counts):
    sessions = sessions_from_arrays(
        {"a": counts[:, :, :3]}, output_dist="poisson", ext_input_dim=0, factors_dim=3, warn=False
    )
    with pytest.warns(UserWarning, match="has no effect: .* another factors_dim"):
        loop.new_model(new_config(do_start_at_mean_rates=True), sessions)


def watched(seen):
    """The loop, which notes the runs of the encoders."""

    def encoder_passes(runs):
        seen.append(runs)
        return REFERENCE.encoder_passes(runs)

    return REFERENCE._replace(encoder_passes=encoder_passes)


@effect_of("do_standardise_input")
def test_do_standardise_input_shows_encoders_units_of_the_standard_deviation(new_config, counts):
    sessions = sessions_from_arrays(
        {"a": counts}, output_dist="poisson", ext_input_dim=0, factors_dim=3, warn=False
    )
    data = torch.tensor(counts)
    for does in (False, True):
        model = loop.new_model(new_config(do_standardise_input=does), sessions)
        seen = []
        model.passes = watched(seen)
        hidden_one = torch.ones(counts.shape)
        hidden_one[0, 0, 0] = 0
        model.encode(data, "a")
        model.encode(data, "a", visibility=WHOLE._replace(shown=hidden_one))
        expected = counts.astype(float)
        if does:
            expected = (expected - expected.mean((0, 1))) / expected.std((0, 1))
        (first, *_), (second, *_) = seen
        np.testing.assert_allclose(first.x, expected, rtol=1e-5, atol=1e-6)
        expected[0, 0, 0] = 0  # hidden is at the mean, or no spike
        np.testing.assert_allclose(second.x, expected, rtol=1e-5, atol=1e-6)


@effect_of("encoder_bin_size")
def test_encoder_bin_size_is_how_many_bins_the_code_is_read_from_at_once(new_config, counts):
    sessions = sessions_from_arrays(
        {"a": counts}, output_dist="poisson", ext_input_dim=0, factors_dim=3, warn=False
    )
    torch.manual_seed(0)
    model = loop.new_model(new_config(encoder_bin_size=3, num_steps_for_gen_ic=7), sessions)
    seen = []
    model.passes = watched(seen)
    model.encode(torch.tensor(counts), "a")
    parts = [counts[:, 0:3], counts[:, 3:6], counts[:, 6:7]]
    expected = np.stack([part.sum(1) for part in parts], 1) / math.sqrt(3)
    ((ic_fwd, ic_rev, *ci),) = seen
    for run in (ic_fwd, ic_rev):
        np.testing.assert_allclose(run.x, expected, rtol=1e-6)
    for run in ci:
        np.testing.assert_allclose(run.x, counts)  # inferred inputs keep the bins
    assert ci


@effect_of("candidates")
def test_candidates_are_tried_and_the_best_one_trains(new_config, counts, tmp_path):
    tiny = {k: v for k, v in vars(new_config().model).items() if k.endswith("_dim")}
    tiny |= {"device": "cpu:0", "recipe": "original", "report": False, "batch_size": 12}
    settings = tiny | {"criterion": "hidden_recon", "max_steps": 14, "num_score_samples": 0}
    alone = {"candidates": None, "lfads_save_dir": tmp_path / "alone"}
    assert lfads.fit(counts, **settings | alone).config.model.co_dim == 2
    both = {"candidates": ["no_inputs", "fast_inputs"], "lfads_save_dir": tmp_path / "both"}
    tried = lfads.fit(counts, **settings | both)
    assert tried.config.model.co_dim in (0, 4)
    assert (tried.folder / "tried.json").is_file()


@effect_of("candidate_learning_rates")
def test_learning_rates_are_tried_and_the_best_one_is_kept(new_config, counts, tmp_path):
    tiny = {k: v for k, v in vars(new_config().model).items() if k.endswith("_dim")}
    tiny |= {"device": "cpu:0", "recipe": "original", "report": False, "batch_size": 12}
    settings = tiny | {"criterion": "hidden_recon", "max_steps": 20, "num_score_samples": 0}
    settings |= {"optimizer": "adamw", "learning_rate_init": 1e-6}
    rates = {"candidate_learning_rates": [1e-6, 0.01], "lfads_save_dir": tmp_path}
    tried = lfads.fit(counts, **settings | rates)
    assert tried.config.optim.learning_rate_init == 0.01
    row, other = json.loads((tmp_path / "tried.json").read_text())[::-1]
    assert row["criterion"] < other["criterion"]


@effect_of("do_train_readin")
def test_do_train_readin_trains_or_holds_the_read_in(train, counts):
    two = {"a": counts, "b": counts[:, :, :4]}
    for trained in (True, False):
        settings = {"do_train_readin": trained, "max_epochs": 2}
        start = train(two, **settings | STILL).weights
        moved = changed(start, train(two, **settings).weights)
        readin = {k for k in start if k.startswith("readin.")}
        assert len(readin) == 4
        assert moved & readin == (readin if trained else set())
        assert {k for k in start if k.startswith("readout.")} <= moved


# --- data and batches ---


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, counts):
    """A folder with sessions day1 and day2 under the stem mine, and day1 under another."""
    folder = tmp_path_factory.mktemp("data")
    for name, data in (
        ("mine_day1", counts),
        ("mine_day2", counts[:9, :, :4] + 1),
        ("other_day1", counts + 2),
    ):
        lfads.write_session(folder / f"{name}.h5", train_data=data, valid_data=data[:3])
    return folder


@effect_of("data_dir")
def test_data_dir_is_the_folder_that_is_read_and_null_the_embedded_data(
    data_dir, tmp_path, counts, new_config, monkeypatch
):
    lfads.write_session(tmp_path / "mine.h5", train_data=counts + 5, valid_data=counts)
    found = {
        folder: load_data(new_config(data_dir=str(folder), data_filename_stem="mine"))
        for folder in (data_dir, tmp_path)
    }
    assert [s.name for s in found[data_dir]] == ["day1", "day2"]
    (only,) = found[tmp_path]
    np.testing.assert_array_equal(only.train.data, counts + 5)
    embedded = {"session": {"train_data": counts, "valid_data": counts[:2]}}
    monkeypatch.setattr(loading, "generate", lambda name: embedded if name == "lorenz" else {})
    (session,) = load_data(new_config(data_filename_stem="lorenz"))
    np.testing.assert_array_equal(session.train.data, counts)


@effect_of("data_filename_stem")
def test_data_filename_stem_selects_the_files_of_a_folder(data_dir, counts, new_config):
    mine, other = (
        load_data(new_config(data_dir=str(data_dir), data_filename_stem=stem))
        for stem in ("mine", "other")
    )
    assert {s.name: s.data_dim for s in mine} == {"day1": 5, "day2": 4}
    assert [s.name for s in other] == ["day1"]
    np.testing.assert_array_equal(other[0].train.data, counts + 2)


@effect_of("batch_size")
def test_batch_size_is_trials_per_batch_cut_to_the_session(counts, train):
    sessions = sessions_from_arrays(
        {"a": counts}, {"a": counts[:6]}, output_dist="poisson", ext_input_dim=0, factors_dim=3
    )
    for batch_size, training, validation in (
        (4, [4, 4, 4], [4, 2]),
        (5, [5, 5, 5], [5, 1]),
        (128, [12], [6]),
    ):
        data = LFADSDataModule(sessions, batch_size)
        assert [len(b.data) for b in data.train_dataloader()] == training
        assert [len(b.data) for b in data.val_dataloader()] == validation
    assert train(batch_size=4, max_epochs=2).log["step"] == [3, 6]
    assert train(batch_size=128, max_epochs=2).log["step"] == [1, 2]


@effect_of("temporal_spike_jitter_width")
def test_temporal_spike_jitter_width_moves_training_spikes_and_no_others(train, monkeypatch):
    one_spike = np.zeros((40, 9, 2), int)
    one_spike[:, 4] = 1  # every trial and neuron: one spike, in bin 4
    seen = {"training": [], "validation": []}
    for name, batches in seen.items():
        spy(
            monkeypatch,
            LFADSModule,
            f"{name}_step",
            lambda _, batch, batches=batches: batches.append(batch.data),
        )
    for width, bins in ((0, {4}), (2, {2, 3, 4, 5})):
        for batches in seen.values():
            batches.clear()
        train({"a": one_spike}, temporal_spike_jitter_width=width, max_epochs=1)
        training, validation = (torch.cat(seen[name]) for name in ("training", "validation"))
        assert (training.sum(1) == 1).all()  # none lost, none gained
        assert set(training.nonzero()[:, 1].tolist()) == bins
        assert set(validation.nonzero()[:, 1].tolist()) == {4}


# --- the run: kind, seed, machine, length ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir, new_config):
    """A run as the command line leaves it: two sessions, 6 updates."""
    folder = tmp_path_factory.mktemp("finished")
    config = new_config(data_dir=str(data_dir), data_filename_stem="mine", max_epochs=3)
    run_kind(config, lfads.Run(folder))
    return folder


@pytest.fixture
def use(finished, tmp_path):
    """Run a kind on a copy of that run; give the new files as {name: {dataset: array}}."""

    def run(kind, **parameters):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        shutil.copytree(finished, folder)
        before = {p.name for p in folder.iterdir()}
        config = from_flat(parameters | {"kind": kind}, base=lfads.Run(folder).read_config())
        run_kind(config, lfads.Run(folder))
        made = {}
        for path in folder.iterdir():
            if path.name not in before:
                with h5py.File(path) as file:
                    made[path.name] = {k: v[()] for k, v in file.items()} | {
                        f"@{k}": v for k, v in file.attrs.items()
                    }
        return made

    return run


KIND_FILES = {
    "posterior_sample_and_average": 4,
    "posterior_push_mean": 4,
    "prior_sample": 1,
    "write_model_params": 1,
}


@effect_of("kind")
def test_kind_selects_what_a_run_does(finished, use):
    assert {k.name for k in Kind} == {"train", *KIND_FILES}
    assert not list(finished.glob("model_*"))  # train writes checkpoints, and none of these
    assert list(finished.glob("checkpoints/*.ckpt"))
    names = {kind: set(use(kind)) for kind in KIND_FILES}
    splits = [f"{s}_{split}" for s in ("day1", "day2") for split in ("train", "valid")]
    assert names == {
        "posterior_sample_and_average": {
            f"model_runs_{s}_posterior_sample_and_average.h5" for s in splits
        },
        "posterior_push_mean": {f"model_runs_{s}_posterior_push_mean.h5" for s in splits},
        "prior_sample": {"model_runs_prior_sample.h5"},
        "write_model_params": {"model_params.h5"},
    }


@effect_of("seed")
def test_seed_decides_initial_weights_order_noise_and_masks(train, monkeypatch):
    orders = []
    spy(
        monkeypatch,
        LFADSModule,
        "training_step",
        lambda _, batch: orders.append(batch.data.double().sum((1, 2)).tolist()),
    )
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(runs))  # what was drawn before must not matter
        runs.append(train(seed=seed, max_epochs=2, batch_size=4))
    assert runs[0].log == runs[1].log
    assert not changed(runs[0].weights, runs[1].weights, atol=0)
    assert runs[0].log["train/total"] != runs[2].log["train/total"]
    assert orders[:6] == orders[6:12] != orders[12:]
    starts = [train(seed=seed, **STILL).weights for seed in (3, 4)]
    drawn = {k for k, v in starts[0].items() if v.std() > 1e-6}
    assert len(drawn) > 20
    assert changed(*starts) == drawn


@effect_of("max_minutes")
@pytest.mark.parametrize("schedule", ["original", "cosine"])
def test_max_minutes_is_made_a_number_of_updates_once(train, tmp_path, monkeypatch, schedule):
    asked = {"max_minutes": 0.5, "schedule": schedule, "batch_size": 4}
    done = []
    spy(monkeypatch, LFADSModule, "training_step", lambda _, batch: done.append(batch))
    monkeypatch.setattr(clock, "now", lambda: 0.5 * len(done))  # an update takes half a second
    run = train(folder=tmp_path, **asked, learning_rate_stop=0.0)
    n = lfads.Run(tmp_path).read_config().trainer.max_steps
    assert len(done) == run.fitted.updates == n == 60
    if schedule == "cosine":
        assert run.log["lr"][-1] == pytest.approx(0.0001)
        assert run.log["lr"][0] == 0.01
    with pytest.raises(LFADSError, match="give only one"):
        train(max_minutes=1.0, max_steps=5)
    # the number stays where the run goes on
    again = train(folder=tmp_path, **asked, learning_rate_stop=0.0)
    assert (again.fitted.updates, lfads.Run(tmp_path).read_config().trainer.max_steps) == (n, n)


@effect_of("recipe")
def test_recipe_auto_fills_what_is_not_set(tmp_path, data_dir, monkeypatch):
    argv = ["train.py", f"data.data_dir={data_dir}", "data.data_filename_stem=mine"]
    argv += ["model.gen_dim=9", "trainer.max_steps=1", f"output.lfads_save_dir={tmp_path / 'run'}"]
    argv += [
        "output.report=false",
        "sampling.num_score_samples=0",
        "trainer.device=cpu:0",
        "recipe=original",
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*argv, "recipe=auto"])
    train_main()
    config = lfads.Run(tmp_path / "run").read_config()
    assert (config.model.gen_dim, config.model.con_dim, config.data.batch_size) == (9, 64, 8)
    assert config.optim.schedule.name == "cosine"
    assert config.recipe.name == "auto"


@effect_of("params_file")
def test_params_file_is_read_and_the_command_line_beats_it(
    tmp_path, data_dir, monkeypatch, new_config
):
    tiny = {k: v for k, v in vars(new_config().model).items() if k.endswith("_dim")}
    file = tmp_path / "mine.yaml"
    named = tiny | {
        "Factors_dim": 4,
        "gen_dim": 5,
        "data_dir": str(data_dir),
        "device": "cpu:0",
        "recipe": "original",
    }
    named.pop("factors_dim")
    file.write_text(yaml.safe_dump(named | {"data_filename_stem": "other"}))
    folder = tmp_path / "run"
    # where data lie is typed once, whatever a file says
    given = [f"params_file={file}", f"data.data_dir={data_dir}"]
    given += ["model.gen_dim=9", "trainer.max_epochs=1"]
    argv = ["train.py", *given, f"output.lfads_save_dir={folder}"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.chdir(tmp_path)
    train_main()
    config = lfads.Run(folder).read_config()
    assert config.model.factors_dim == 4  # from the file
    assert config.model.gen_dim == 9  # from the command line, which beats it
    assert config.model.con_dim == 9
    assert config.data.data_filename_stem == "other"
    assert lfads.load(folder).model.factor_weight.shape == (9, 4)


@effect_of("device")
def test_device_is_used_and_falls_back_to_the_cpu_with_a_warning(train, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_device("cpu:0") == torch.device("cpu")
    monkeypatch.setattr(device, "_missing", set())  # what was said is not said again
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("gpu:0") == torch.device("cuda:0")
    assert resolve_device("gpu:1") == resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.warns(UserWarning, match="trainer.device=gpu:2.*the CPU is used"):
        assert resolve_device("gpu:2") == torch.device("cpu")
    with pytest.raises(LFADSError, match="trainer.device is 'tpu'"):
        resolve_device("tpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    train(device="cpu:0", recipe="original", max_epochs=1)  # without warning
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = train(device="gpu:0", max_epochs=1)
    assert sum("trainer.device=gpu:0: this machine has no" in str(w.message) for w in said) == 1
    assert run.fitted.model.factor_weight.device.type == "cpu"


@effect_of("max_epochs")
def test_max_epochs_is_the_number_of_epochs(train):
    for n in (1, 3):
        assert train(max_epochs=n, batch_size=4).log["epoch"] == list(range(n))


@effect_of("max_steps")
def test_max_steps_is_the_number_of_updates(train):
    for n in (1, 4):  # three updates make an epoch
        run = train(max_steps=n, batch_size=4)
        assert run.fitted.step == n
        assert run.log["step"][-1] == n


@effect_of("precision")
def test_precision_is_the_type_of_the_weights(train):
    for name in ("float32", "float64"):
        run = train(precision=name, max_epochs=1)
        assert {p.dtype for p in run.fitted.model.parameters()} == {getattr(torch, name)}


def test_precision_bf16_is_of_updates_and_leaves_a_model_in_float32(train, bf16_unit):
    exact, ours, again = (train(precision=p, max_epochs=3) for p in ("float32", "bf16", "bf16"))
    assert ours.log == again.log
    assert ours.log["train/total"] != exact.log["train/total"]
    assert ours.log["train/total"] == pytest.approx(exact.log["train/total"], rel=1e-2)
    assert ours.fitted.model.passes is NATIVE
    assert {p.dtype for p in ours.fitted.model.parameters()} == {torch.float32}


@pytest.fixture(scope="module")
def has_native():
    try:
        native.library()
    except native.NativeUnavailable:
        return False
    return True


@effect_of("recurrence")
def test_recurrence_selects_the_body_that_runs_and_the_numbers_are_the_same(
    train, has_native, monkeypatch
):
    reference = train(recurrence="reference", max_epochs=3)
    assert reference.fitted.model.passes is REFERENCE
    for choice in ("native", "auto") if has_native else ():
        other = train(recurrence=choice, max_epochs=3)
        assert other.fitted.model.passes is NATIVE
        for name, values in reference.log.items():
            assert other.log[name] == pytest.approx(values, rel=1e-4), name

    def unavailable():
        raise native.NativeUnavailable("no compiler")

    monkeypatch.setattr(native, "library", unavailable)
    with pytest.warns(UserWarning, match="no compiler.*trainer.recurrence=reference"):
        assert train(recurrence="auto", max_epochs=1).fitted.model.passes is REFERENCE
    with pytest.raises(LFADSError, match="trainer.recurrence=native: no compiler"):
        train(recurrence="native", max_epochs=1)


@effect_of("num_threads")
def test_num_threads_is_used_in_training_and_put_back(train, monkeypatch):
    before, seen = torch.get_num_threads(), []
    spy(monkeypatch, LFADSModule, "training_step", lambda *_: seen.append(torch.get_num_threads()))
    for n in (1, 2):
        train(num_threads=n, max_epochs=1)
        assert torch.get_num_threads() == before
    assert seen == [1, 2]


# --- what is written ---

LVE_COSTS = [50, 40, 30, 20, 10, 9, 8, 30, 30, 30, 30, 30]  # of the validations of 12 epochs


@pytest.fixture(scope="module")
def checkpointed(train):
    """Two runs of 12 epochs whose validation costs follow a script, with other limits on files."""
    finish_epoch = LFADSModule.finish_epoch

    def scripted(module):
        finish_epoch(module)
        module.metrics["valid/total"] = float(LVE_COSTS[module.current_epoch])

    limits = {"few": (1, 2), "more": (2, 4)}
    eligible = {"max_epochs": 12, "kl_increase_steps": 0, "l2_increase_steps": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LFADSModule, "finish_epoch", scripted)
        return {
            name: train(
                **eligible,
                max_ckpt_to_keep=periodic,
                max_ckpt_to_keep_lve=lowest,
                checkpoint_name=f"mine_{name}",
                csv_log=f"log_{name}",
            )
            for name, (periodic, lowest) in limits.items()
        }


def kept(run, pattern):
    """Return the steps of the checkpoint files of a kind."""
    files = (run.folder / "checkpoints").glob(pattern)
    return sorted(int(p.stem.rsplit("-", 1)[1]) for p in files)


@effect_of("max_ckpt_to_keep")
def test_max_ckpt_to_keep_bounds_the_periodic_files_kept(checkpointed):
    # written after epochs 0 and 10, and at the end, epoch 11
    assert kept(checkpointed["few"], "mine_few-*.ckpt") == [12]
    assert kept(checkpointed["more"], "mine_more-*.ckpt") == [11, 12]


@effect_of("max_ckpt_to_keep_lve")
def test_max_ckpt_to_keep_lve_bounds_the_lowest_cost_files_kept(checkpointed):
    # costs fall from the second validation, the first that counts, to the seventh
    assert kept(checkpointed["few"], "mine_few_lve-*.ckpt") == [6, 7]
    assert kept(checkpointed["more"], "mine_more_lve-*.ckpt") == [4, 5, 6, 7]


@effect_of("checkpoint_name")
def test_checkpoint_name_is_the_stem_of_every_checkpoint(checkpointed):
    for name, run in checkpointed.items():
        names = [p.name for p in (run.folder / "checkpoints").glob("*.ckpt")]
        assert all(n.startswith((f"mine_{name}-", f"mine_{name}_lve-")) for n in names)
        assert len(names) > 2


@effect_of("checkpoint_pb_load_name")
def test_checkpoint_pb_load_name_selects_the_index_loaded(checkpointed, train, tmp_path):
    run = checkpointed["more"]
    newest, lowest = (lfads.load(run.folder, name) for name in ("checkpoint", "checkpoint_lve"))
    assert (newest.step, lowest.step) == (12, 7)
    assert changed(newest.model.state_dict(), lowest.model.state_dict())
    assert not changed(run.weights, lowest.model.state_dict(), atol=0)  # fit returns the lowest
    with pytest.raises(LFADSError, match="no checkpoint named 'checkpoint_lv'.*_lve"):
        lfads.load(run.folder, "checkpoint_lv")
    for name, step in (("checkpoint", 12), ("checkpoint_lve", 7)):  # training goes on from there
        folder = tmp_path / name
        shutil.copytree(run.folder, folder)
        more = train(
            folder=folder,
            checkpoint_pb_load_name=name,
            checkpoint_name="again",
            max_epochs=step + 1,
            kl_increase_steps=0,
            l2_increase_steps=0,
        )
        assert kept(more, "again-*.ckpt")[-1] == step + 1


@effect_of("csv_log")
def test_csv_log_names_the_log_and_empty_writes_none(checkpointed, train):
    for name, run in checkpointed.items():
        lines = (run.folder / f"log_{name}.csv").read_text().splitlines()
        assert len(lines) == 12
        assert lines[3].startswith("epoch,3, step,4, total,")
        assert {p.name for p in run.folder.glob("*.csv")} == {"metrics.csv", f"log_{name}.csv"}
    without = train(csv_log="", max_epochs=1)
    assert {p.name for p in without.folder.glob("*.csv")} == {"metrics.csv"}


@effect_of("lfads_save_dir")
def test_lfads_save_dir_receives_everything_and_a_run_found_there_is_continued(
    tmp_path, counts, new_config, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tiny = {k: v for k, v in vars(new_config().model).items() if k.endswith("_dim")}
    given = tiny | {"device": "cpu:0", "recipe": "original", "batch_size": 12}
    first = lfads.fit(counts, lfads_save_dir="mine", max_epochs=1, **given)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {
        *("config.yaml", "evaluation.json", "fitlog.csv", "metrics.csv", "scores.json"),
        *("checkpoints", "tensorboard", ".run_id"),
    }
    lfads.fit(counts, lfads_save_dir="mine", max_epochs=3, **given)
    assert first.step == 1
    # three lines: the first epoch was not trained again; which one is best is not the question
    epochs = (tmp_path / "mine/metrics.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in epochs] == ["1", "2", "3"]
    elsewhere = lfads.fit(counts, max_epochs=1, **given)  # none: outputs/DATE/TIME
    assert elsewhere.step == 1
    assert len(list((tmp_path / "outputs").glob("*-*-*/*-*-*/config.yaml"))) == 1


@effect_of("report")
def test_report_is_written_unless_it_is_turned_off(tmp_path, counts, reports):
    sizes = {
        "gen_dim": 6,
        "factors_dim": 3,
        "ic_dim": 4,
        "co_dim": 0,
        "device": "cpu:0",
        "recipe": "original",
    }
    for report in (True, False):
        folder = tmp_path / str(report)
        lfads.fit(counts, lfads_save_dir=str(folder), max_epochs=1, report=report, **sizes)
        assert (folder / "report.html").exists() == report
        figures = {p.name for p in folder.glob("figures/*")}
        assert figures > {"summary.png", "summary.pdf"} if report else not figures


@effect_of("plot_every_n_epochs")
def test_plot_every_n_epochs_is_the_interval_of_figures(tmp_path, counts, monkeypatch):
    """And by default they wait until they cost little: here, for ever."""
    steps = {}
    monkeypatch.setattr(
        training_figures.Figures, "_draw", lambda self, module: drawn.append(module.step) or {}
    )
    for every in (None, 0, 1, 3):
        drawn = steps[every] = []
        sizes = {
            "gen_dim": 6,
            "factors_dim": 3,
            "ic_dim": 4,
            "co_dim": 0,
            "device": "cpu:0",
            "recipe": "original",
        }
        folder = str(tmp_path / str(every))
        more = {} if every is None else {"plot_every_n_epochs": every}
        lfads.fit(counts, lfads_save_dir=folder, max_epochs=6, **sizes | more)
    assert steps == {None: [], 0: [], 1: [1, 2, 3, 4, 5, 6], 3: [3, 6]}


@effect_of("logger")
def test_logger_says_where_numbers_go_beside_the_tables(tmp_path, counts):
    """wandb and MLflow: tests/training/test_loggers.py."""
    sizes = {"gen_dim": 6, "factors_dim": 3, "ic_dim": 4, "co_dim": 0, "device": "cpu:0"}
    there = {}
    for logger in ("tensorboard", "csv"):
        folder = tmp_path / logger
        lfads.fit(counts, lfads_save_dir=str(folder), max_epochs=1, logger=logger, **sizes)
        there[logger] = (folder / "tensorboard").exists()
    assert there == {"tensorboard": True, "csv": False}


@effect_of("output_filename_stem")
def test_output_filename_stem_is_the_prefix_of_what_the_other_kinds_write(use):
    for kind, n_files in KIND_FILES.items():
        names = set(use(kind, output_filename_stem="mine"))
        assert len(names) == n_files
        assert all(n.startswith("mine_") for n in names)
    assert "mine_day2_valid_posterior_push_mean.h5" in use(
        "posterior_push_mean", output_filename_stem="mine"
    )


@effect_of("include_optimizer")
def test_include_optimizer_adds_adams_moments_to_the_parameters(use):
    (plain,) = use("write_model_params").values()
    (whole,) = use("write_model_params", include_optimizer=True).values()
    weights = {k for k in plain if not k.startswith("@")}
    moments = {k for k in whole if k.endswith(("_Adam:0", "_Adam_1:0"))}
    assert not [k for k in plain if "Adam" in k]
    assert set(whole) == set(plain) | moments
    name = "LFADS_gen_gen_2_fac_W:0"
    assert name in weights
    for slot in ("Adam", "Adam_1"):
        assert whole[f"LFADS_{name[:-2]}_{slot}:0"].shape == plain[name].shape
        assert np.abs(whole[f"LFADS_{name[:-2]}_{slot}:0"]).max() > 0


def test_include_optimizer_adds_the_moments_of_adamw_under_the_same_names(
    tmp_path, data_dir, new_config
):
    where = {"data_dir": str(data_dir), "data_filename_stem": "mine"}
    config = new_config(**where, max_steps=1, optimizer="adamw")
    run_kind(config, lfads.Run(tmp_path))
    config.kind, config.output.include_optimizer = Kind.write_model_params, True
    run_kind(config, lfads.Run(tmp_path))
    with h5py.File(tmp_path / "model_params.h5") as file:
        mean, square = (
            file[f"LFADS_LFADS_gen_gen_2_fac_W_{slot}:0"][()] for slot in ("Adam", "Adam_1")
        )
    np.testing.assert_allclose(square / 0.001, (mean / 0.1) ** 2, rtol=1e-4)  # after one update


# --- how many trials and samples ---


@effect_of("ps_nexamples_to_process")
def test_ps_nexamples_to_process_limits_the_trials_of_every_split(use):
    for kind in ("posterior_push_mean", "posterior_sample_and_average"):
        whole, limited = use(kind), use(kind, ps_nexamples_to_process=4)
        sizes = {name: len(f["factors"]) for name, f in limited.items()}
        # 12 + 3 trials of day1, 9 + 3 of day2
        assert sizes == {name: 3 if "valid" in name else 4 for name in whole}
        name = f"model_runs_day1_train_{kind}.h5"
        assert whole[name]["factors"].shape == (12, T, 3)
        if kind == "posterior_push_mean":  # the first ones, in file order
            np.testing.assert_allclose(
                limited[name]["factors"], whole[name]["factors"][:4], rtol=1e-5
            )


@pytest.fixture
def draws(monkeypatch):
    """Rows of noise drawn, one for each sample of each trial."""
    rows = []
    spy(monkeypatch, LFADS, "draw_noise", lambda _, n, *rest: rows.append(n))
    return rows


@effect_of("num_posterior_samples")
def test_num_posterior_samples_is_the_number_averaged_and_by_default_batch_size(use, draws):
    n_trials = 12 + 3 + 9 + 3
    for given, n in (({}, 12), ({"num_posterior_samples": 5}, 5), ({"batch_size": 7}, 7)):
        draws.clear()
        made = use("posterior_sample_and_average", **given)
        assert sum(draws) == n * n_trials
        assert {f["@num_samples"] for f in made.values()} == {n}


@effect_of("memory_mb")
def test_memory_mb_bounds_the_rows_of_a_pass_and_changes_no_average(new_model, new_config, draws):
    model = new_model(co_dim=0)
    trials = np.random.default_rng(0).poisson(1.0, (20, 300, 5))
    rows = {}
    for megabytes in (1, 64):
        config = new_config(co_dim=0, memory_mb=megabytes)
        draws.clear()
        post = lfads.Trained(model, config, 300, 1).posterior_sample_and_average(trials, 40)
        rows[megabytes] = max(draws)
        assert sum(draws) == 20 * 40
        assert np.isfinite(post.rates).all()
    assert rows[1] < rows[64]
    # what is held for certain: generator states, factors, rates
    assert rows[1] * 300 * (6 + 3 + 5) * 4 <= 2**20


@effect_of("num_prior_samples")
def test_num_prior_samples_is_the_number_of_trials_drawn_and_by_default_batch_size(use):
    for given, n in (({}, 12), ({"num_prior_samples": 5}, 5), ({"batch_size": 7}, 7)):
        (made,) = use("prior_sample", **given).values()
        assert made["output_dist_params"].shape == (n, T, 5)
        assert len(np.unique(made["gen_ics"][:, 0])) == n


@effect_of("num_validation_samples")
def test_num_validation_samples_is_the_number_averaged_in_the_validation_cost(train, draws):
    # untrained and without dropout, so that epochs differ in the validation's noise alone
    still = {"learning_rate_init": 1e-30, "learning_rate_stop": 0.0, "keep_prob": 1.0}
    costs, spread = {}, {}
    for k in (1, 30):
        draws.clear()
        run = train(**still, num_validation_samples=k, max_epochs=6)
        # twelve training trials a pass, six validation trials a sample
        assert sum(draws) == 6 * (12 + 6 * k)
        costs[k], spread[k] = np.mean(run.log["valid/total"]), np.std(run.log["valid/total"])
    assert spread[30] < spread[1] / 2
    assert costs[30] == pytest.approx(costs[1], abs=6 * spread[1] / np.sqrt(6))


@effect_of("num_score_samples")
def test_num_score_samples_is_the_number_averaged_for_scores(tmp_path, counts):
    sizes = {
        "gen_dim": 6,
        "factors_dim": 3,
        "ic_dim": 4,
        "co_dim": 0,
        "device": "cpu:0",
        "recipe": "original",
    }
    for n in (0, 3):
        trained = lfads.fit(
            counts, valid_data=counts[:6], lfads_save_dir=str(tmp_path / str(n)), max_epochs=1,
            num_score_samples=n, **sizes,
        )  # fmt: skip
        if n:
            posterior = trained.posterior_sample_and_average(counts[:6], n)
        else:
            posterior = trained.posterior_push_mean(counts[:6])
        expected = bits_per_spike(posterior.rates, counts[:6])
        assert trained.scores["valid/bits_per_spike"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@effect_of("refine_steps")
def test_refine_steps_raises_the_bound_of_both_kinds_where_held_back_entries_gain(use, monkeypatch):
    monkeypatch.setattr(refine, "LEAST_ERRORS", -1e9)  # whatever they say
    name = "model_runs_day1_train_{}.h5"
    for kind in ("posterior_push_mean", "posterior_sample_and_average"):
        sampled = {"num_posterior_samples": 40} if "sample" in kind else {}
        plain, refined = (use(kind, **sampled, refine_steps=n)[name.format(kind)] for n in (0, 40))
        assert np.abs(plain["post_g0_mean"] - refined["post_g0_mean"]).max() > 1e-3
        if sampled:
            assert refined["nll_bound_vaes"].mean() < plain["nll_bound_vaes"].mean()
    monkeypatch.setattr(refine, "LEAST_ERRORS", 1e9)  # they never gain enough
    same = use(kind, **sampled, refine_steps=40)[name.format(kind)]
    np.testing.assert_array_equal(same["output_dist_params"], plain["output_dist_params"])


@effect_of("session")
def test_session_selects_the_read_out_of_prior_sample_and_by_default_the_first(use):
    shapes = {}
    for name in (None, "day1", "day2"):
        (made,) = use("prior_sample", session=name).values()
        shapes[name] = made["output_dist_params"].shape[2], made["@session"]
    assert shapes == {None: (5, "day1"), "day1": (5, "day1"), "day2": (4, "day2")}
    with pytest.raises(LFADSError, match="sampling.session='day3'"):
        use("prior_sample", session="day3")


# --- against copying, and the choice of the epoch ---


@pytest.fixture
def views(monkeypatch):
    """Note what each pass of training and validation shows and scores."""
    seen = {"training": [], "validation": []}
    part = []
    for name in seen:
        spy(monkeypatch, LFADSModule, f"{name}_step", lambda *_, name=name: part.append(name))
    original = module.compute_loss

    def noted(model, output, data, weights, ramp_kl, ramp_l2, view):
        seen[part[-1]].append(view)
        return original(model, output, data, weights, ramp_kl, ramp_l2, view)

    monkeypatch.setattr(module, "compute_loss", noted)
    return seen


@effect_of("coordinated_dropout_rate")
@pytest.mark.parametrize("rate", [0.25, 0.7])
def test_coordinated_dropout_rate_hides_what_it_scores_in_training_only(train, views, rate):
    train(coordinated_dropout_rate=rate, max_epochs=20)
    assert all(view == WHOLE for view in views["validation"])
    scored = torch.stack([view.weight > 0 for view in views["training"]])
    shown = torch.stack([view.shown for view in views["training"]])
    assert torch.equal(scored, shown == 0)  # each entry is shown or scored, never both
    assert shown[~scored].unique().tolist() == pytest.approx([1 / (1 - rate)])
    assert scored.float().mean().item() == pytest.approx(rate, abs=0.03)
    assert len(scored.flatten(1).unique(dim=0)) == len(scored)  # another mask for each update
    assert {view.scale for view in views["training"]} == {1 / rate}


@effect_of("sample_validation_rate")
def test_sample_validation_rate_keeps_entries_from_encoders_and_loss(train, counts, views):
    settings = {"sample_validation_rate": 0.3, "max_epochs": 3, "keep_prob": 1.0}
    run = train(**settings)
    # the validation trials of this fixture are the first training trials
    bits = datamodule.entries_never_shown((12, T, D), 0.3, 0, "a", "train")
    hidden = np.unpackbits(bits, axis=2, count=D).astype(bool)
    assert hidden.mean() == pytest.approx(0.3, abs=0.07)
    seen = views["training"][0]
    assert ((seen.weight > 0) == (seen.shown > 0)).all()
    other = np.where(hidden, counts + 3, counts)
    changed_there = train({"a": other}, **settings)
    # the last weights: the best epoch is chosen by the validation trials, which changed too
    last = [lfads.load(r.folder).model.state_dict() for r in (run, changed_there)]
    assert changed(*last) == set()
    assert changed_there.log["train/recon"] == run.log["train/recon"]
    assert changed_there.log["train/sample_recon"] != run.log["train/sample_recon"]
    # both are of a whole trial, so that an untrained model scores alike on either
    assert run.log["valid/sample_recon"][0] == pytest.approx(run.log["valid/recon"][0], rel=0.3)
    assert "valid/sample_recon" not in train(max_epochs=1).log


@effect_of("sample_validation_seed")
def test_sample_validation_seed_chooses_the_entries_and_the_seed_does_not(train, views):
    scored = {}
    for mask_seed, seed in ((0, 0), (0, 1), (1, 0)):
        views["validation"].clear()
        train(sample_validation_rate=0.3, sample_validation_seed=mask_seed, seed=seed, max_epochs=1)
        scored[mask_seed, seed] = views["validation"][0].weight
    assert torch.equal(scored[0, 0], scored[0, 1])
    assert not torch.equal(scored[0, 0], scored[1, 0])


@effect_of("criterion")
def test_criterion_is_what_the_best_epoch_has_least_of(train, monkeypatch):
    values = {
        "total": [5, 4, 3, 2, 6, 7],
        "recon": [5, 5, 1, 5, 9, 9],
        "sample_recon": [9] * 4 + [1, 9],
    }

    def scripted(lightning_module):
        e = lightning_module.current_epoch
        names = lightning_module._terms
        n = lightning_module._n_valid
        lightning_module._valid_sum = torch.tensor([n * values.get(t, [0] * 6)[e] for t in names])

    monkeypatch.setattr(LFADSModule, "on_validation_epoch_end", scripted)
    best = {}
    for name in ("total", "recon_smoothed", "sample_recon_smoothed"):
        run = train(
            criterion=name,
            criterion_smoothing=0.0,
            sample_validation_rate=0.2,
            kl_increase_steps=0,
            l2_increase_steps=0,
            max_epochs=6,
        )
        best[name] = run.fitted.step, run.fitted.criterion
    assert best == {
        "total": (4, 2.0),
        "recon_smoothed": (3, 1.0),
        "sample_recon_smoothed": (5, 1.0),
    }


def test_criterion_hidden_recon_is_the_lowest_of_the_epochs_that_were_looked_at(train, monkeypatch):
    monkeypatch.setattr(hidden, "LEAST_UPDATES", 3)
    monkeypatch.setattr(hidden, "UPDATES_PER_LOOK", 0)
    values = iter([5.0, 3.0, 4.0])
    monkeypatch.setattr(hidden.HiddenEntries, "look", lambda *_: torch.tensor(next(values)))
    # an update is an epoch; the ramps are never complete
    run = train(criterion="hidden_recon", criterion_smoothing=0.0, max_epochs=8)
    looks = run.log["valid/hidden_recon"]
    assert [e for e, value in enumerate(looks) if math.isfinite(value)] == [2, 5, 7]
    assert (run.fitted.step, run.fitted.criterion) == (6, 3.0)
    assert run.fitted.chosen_by == "valid/hidden_recon"


@effect_of("criterion_smoothing")
def test_criterion_smoothing_is_the_weight_of_the_past(train):
    for past in (0.0, 0.7):
        log = train(criterion_smoothing=past, max_epochs=5).log
        expected = [log["valid/recon"][0]]
        for value in log["valid/recon"][1:]:
            expected.append(past * expected[-1] + (1 - past) * value)
        assert log["valid/recon_smoothed"] == pytest.approx(expected)


@effect_of("early_stopping_epochs")
def test_early_stopping_epochs_without_a_lower_criterion_end_training(train, monkeypatch):
    def rising(lightning_module):
        cost = 100.0 + lightning_module.current_epoch
        lightning_module._valid_sum.fill_(cost * lightning_module._n_valid)

    monkeypatch.setattr(LFADSModule, "on_validation_epoch_end", rising)
    # an update is an epoch: the ramp is complete after `ramp` epochs, and the next is the lowest
    for ramp, patience in ((0, 3), (6, 3), (0, 5)):
        run = train(
            kl_increase_steps=ramp,
            l2_increase_steps=0,
            early_stopping_epochs=patience,
            max_epochs=30,
        )
        assert len(run.log["epoch"]) == max(ramp, 1) + 1 + patience
    assert len(train(max_epochs=15, kl_increase_steps=0).log["epoch"]) == 15


# --- what is predicted ---


@effect_of("held_out_neurons")
def test_held_out_neurons_are_predicted_and_never_encoded(train):
    runs = {out if isinstance(out, str) else tuple(out) if isinstance(out, list) else out:
            train(held_out_neurons=out, max_epochs=2) for out in ("file", [1, 4], 0.4)}  # fmt: skip
    specs = {key: run.fitted.model.sessions["a"] for key, run in runs.items()}
    assert specs["file"].held_out == ()
    assert specs[1, 4].held_out == (1, 4)
    assert len(specs[0.4].held_out) == 2
    assert {key for key, run in runs.items() if "valid/co_bps" in run.log} == {(1, 4), 0.4}
    model, counts = runs[1, 4].fitted.model, torch.ones(B, T, D)
    other = counts.clone()
    other[:, :, [1, 4]] = 7
    assert torch.equal(model.encode(counts, "a").ic_mean, model.encode(other, "a").ic_mean)
    assert not torch.equal(*(model.encode(x, "a").ic_mean for x in (counts, counts + 1)))
    # in the loss they count: their read-out is learned
    name = "readout.session_a.weight"
    start = train(held_out_neurons=[1, 4], **STILL).weights[name]
    assert (start[:, [1, 4]] != runs[1, 4].weights[name][:, [1, 4]]).all()


@effect_of("held_out_seed")
def test_held_out_seed_chooses_the_neurons_of_a_share(train, counts):
    wide = {"a": np.tile(counts, (1, 1, 8))}
    drawn = [
        train(wide, held_out_neurons=0.25, held_out_seed=s, seed=n, **STILL)
        .fitted.model.sessions["a"].held_out
        for s, n in ((0, 0), (0, 1), (1, 0))
    ]  # fmt: skip
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[2]) == 10


@effect_of("forward_steps")
def test_forward_steps_are_bins_that_are_predicted_and_never_encoded(train):
    run = train(forward_steps=3, max_epochs=2)
    assert "valid/fp_bps" in run.log
    model, counts = run.fitted.model, torch.ones(B, T, D)
    for t, reaches in ((T - 4, True), (T - 3, False), (T - 1, False)):
        other = counts.clone()
        other[:, t] = 7
        same = torch.equal(model.encode(counts, "a").ic_mean, model.encode(other, "a").ic_mean)
        assert same != reaches
    assert model(counts, "a").log_rates.shape == (B, T, D)
    assert "valid/fp_bps" not in train(max_epochs=1).log


# --- several devices ---


@pytest.mark.slow
@effect_of("num_devices")
def test_num_devices_share_each_batch_and_give_the_same_weights(train, counts, capfd):
    sessions = {"a": counts, "b": counts[:7, :, :4]}  # a batch of 5, one of 7: parts of 2 to 4
    settings = {
        "batch_size": 5,
        "coordinated_dropout_rate": 0.3,
        "sample_validation_rate": 0.2,
        "held_out_neurons": 0.25,
        "forward_steps": 2,
        "kl_increase_steps": 2,
        "l2_increase_steps": 2,
        "max_epochs": 3,
    }
    one = train(sessions, **settings)
    two = train(sessions, num_devices=2, **settings)
    for name, weight in one.weights.items():
        torch.testing.assert_close(two.weights[name], weight, rtol=1e-5, atol=1e-6)
    assert two.fitted.criterion == pytest.approx(one.fitted.criterion, rel=1e-6)
    for name, column in one.log.items():
        assert two.log[name] == pytest.approx(column, rel=1e-4)
    assert capfd.readouterr().err.count("epoch 0") == 2  # one process alone tells of it
    more = train(sessions, two.folder, num_devices=2, **settings | {"max_epochs": 4})
    assert more.log["step"][:3] == one.log["step"]
    assert len(more.log["step"]) == 4
    with pytest.raises(LFADSError, match="a batch has 5 trials, fewer than trainer.num_devices=6"):
        train(sessions, num_devices=6, **settings)


# --- population-based training ---


@pytest.fixture(scope="module")
def search(tmp_path_factory, new_config, counts):
    """Search with three tiny members, two generations; return the journal."""
    settings = {
        "algorithm": "pbt",
        "population": 3,
        "generation_epochs": 1,
        "burn_in_epochs": 1,
        "max_generations": 2,
        "num_workers": 1,
        "criterion": "recon_smoothed",
    }

    def run(space=None, **parameters):
        folder = tmp_path_factory.mktemp("search")
        if space is None:
            space = folder / "space.yaml"
            space.write_text("optim.learning_rate_init: {min: 0.001, max: 0.1}")
        config = new_config(space=str(space), **settings | parameters)
        sessions = sessions_from_arrays(
            {"a": counts},
            {"a": counts[:6]},
            output_dist="poisson",
            ext_input_dim=0,
            factors_dim=config.model.factors_dim,
        )
        run_search(config, sessions, folder)
        return json.loads((folder / "search.json").read_text())

    return run


def untils(journal):
    return [generation["until_epoch"] for generation in journal["generations"]]


@effect_of("algorithm")
def test_algorithm_pbt_makes_a_run_a_search(monkeypatch, counts, tmp_path):
    made = []
    monkeypatch.setattr(api, "run_search", lambda *args: made.append("search"))
    monkeypatch.setattr(api.training, "fit", lambda *args: made.append("run"))
    monkeypatch.setattr(api, "with_best_candidate", lambda config, *args: (config, 0.0))
    for algorithm in ("none", "pbt"):
        with contextlib.suppress(AttributeError, TypeError):  # nothing was made
            lfads.fit(counts, algorithm=algorithm, lfads_save_dir=str(tmp_path / algorithm))
    assert made == ["run", "search"]


@effect_of("draw")
def test_draw_takes_the_settings_of_the_nth_random_draw(tmp_path, new_config):
    (tmp_path / "space.yaml").write_text(
        "optim.learning_rate_init: {min: 0.001, max: 0.1}\nmodel.gen_dim: {min: 5, max: 900}"
    )
    space = str(tmp_path / "space.yaml")
    assert drawn_settings(new_config(space=space)) == {}
    drawn = [drawn_settings(new_config(space=space, draw=n)) for n in (0, 1, 1)]
    assert drawn[1] == drawn[2]
    assert drawn[0]["learning_rate_init"] != drawn[1]["learning_rate_init"]
    assert isinstance(drawn[0]["gen_dim"], int)
    base = ["trainer.device=cpu", "data.data_filename_stem=lorenz"]
    shown = yaml.safe_load(settings_text([*base, f"search.space={space}", "search.draw=1"]))
    assert shown["model"]["gen_dim"] == drawn[1]["gen_dim"]


@effect_of("space")
def test_space_is_a_preset_or_a_file_of_what_is_searched(search, tmp_path):
    (tmp_path / "mine.yaml").write_text("model.keep_prob: {min: 0.5, max: 0.9}")
    journal = search(tmp_path / "mine.yaml", max_generations=1)
    assert {name for member in journal["generations"][0]["settings"] for name in member} == {
        "keep_prob"
    }
    published = search("autolfads", max_generations=1)["generations"][0]["settings"][0]
    assert {"learning_rate_init", "keep_prob", "kl_co_weight"} < set(published)


@effect_of("engine")
def test_engine_ray_needs_ray(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LFADSError, match=r'pip install "lfads-lightning\[ray\]"'):
        search(engine="ray")
    assert search(engine="local")["best"] is not None


@effect_of("ray_address")
def test_ray_address_is_the_cluster_that_is_joined(search, monkeypatch):
    class Ray(types.ModuleType):
        asked = []

        def is_initialized(self):
            return False

        def init(self, address, **others):
            self.asked.append(address)
            raise ConnectionError("nobody there")

    monkeypatch.setitem(sys.modules, "ray", Ray("ray"))
    for address in (None, "ray://head:10001"):
        with pytest.raises(LFADSError, match=f"search.ray_address={address}: no Ray cluster"):
            search(engine="ray", ray_address=address)
    assert Ray.asked == [None, "ray://head:10001"]


@effect_of("population")
def test_population_is_the_number_of_members(search):
    for n in (2, 4):
        assert len(search(population=n, max_generations=1)["generations"][0]["scores"]) == n


@effect_of("generation_epochs")
def test_generation_epochs_lie_between_comparisons(search):
    assert untils(search(generation_epochs=3, max_generations=3)) == [1, 4, 7]


@effect_of("burn_in_epochs")
def test_burn_in_epochs_is_the_first_generation_by_default_the_ramps_and_one_more(search):
    assert untils(search(burn_in_epochs=4)) == [4, 5]
    # twelve trials in batches of four: three updates an epoch
    ramps = {"kl_increase_steps": 7, "l2_increase_steps": 4, "batch_size": 4}
    assert untils(search(burn_in_epochs=None, generation_epochs=2, **ramps)) == [3 + 2, 3 + 4]


@effect_of("max_generations")
def test_max_generations_ends_the_search(search):
    assert len(search(max_generations=1)["generations"]) == 1
    assert len(search(max_generations=3, stop_gain=0.0)["generations"]) == 3


@effect_of("stop_gain")
def test_stop_gain_is_the_share_that_the_best_must_gain(search):
    long = {"max_generations": 5, "stop_generations": 1}
    assert len(search(stop_gain=0.99, **long)["generations"]) == 2
    assert len(search(stop_gain=0.0, **long)["generations"]) == 5


@effect_of("stop_generations")
def test_stop_generations_are_those_it_is_measured_over(search):
    for n in (1, 3):
        journal = search(stop_gain=0.99, stop_generations=n, max_generations=6)
        assert len(journal["generations"]) == n + 1


@effect_of("num_workers")
def test_num_workers_is_the_number_of_processes(search, monkeypatch):
    started = []

    class Pool:
        def __init__(self, n, *arguments):
            started.append(n)
            raise LFADSError("enough")

    monkeypatch.setattr(engines, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(engines, "_workers_that_fit", lambda config: 2)
    for n in (None, 3):
        with pytest.raises(LFADSError, match="enough"):
            search(num_workers=n)
    search(num_workers=1)  # in this process
    assert started == [2, 3]


# --- faults ---


@effect_of("max_recoveries")
@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.filterwarnings("ignore:.*(is skipped|back to the weights):UserWarning")
def test_max_recoveries_bounds_the_returns_to_a_checkpoint(train, monkeypatch, most):
    """Three updates in a row that are not finite make one return."""
    original, updates = module.compute_loss, []

    def never_finite(*args):
        updates.append(torch.is_grad_enabled())
        terms = original(*args)
        return terms._replace(total=terms.total * math.nan)

    monkeypatch.setattr(module, "compute_loss", never_finite)
    with pytest.raises(LFADSError, match=rf"after {most} returns to a checkpoint"):
        train(max_recoveries=most, batch_size=2, max_epochs=9)
    assert sum(updates) == 3 * (most + 1)


@effect_of("deterministic")
def test_deterministic_holds_while_training(train, monkeypatch):
    seen, original = [], LFADSModule.training_step

    def look(self, batch):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return original(self, batch)

    monkeypatch.setattr(LFADSModule, "training_step", look)
    train(max_steps=1)
    train(max_steps=1, deterministic=True)
    assert seen == [False, True]
    assert not torch.are_deterministic_algorithms_enabled()


# --- completeness ---


def test_every_parameter_has_exactly_one_test_of_its_effect():
    assert len(documented_names()) == 61
    assert sorted(TESTED) == sorted(dotted_names())
    assert set(documented_names()) <= set(TESTED)
