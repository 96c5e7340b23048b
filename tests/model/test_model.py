"""The network and what feeds it: shapes, causality, sessions, noise, jitter, batches.

At the end stands a second copy of the forward pass in NumPy, written from the description of the
original alone; it takes the weights by the original's names.
"""

import itertools

import numpy as np
import pytest
import torch

from lfads_lightning.config import LFADSError, Recurrence
from lfads_lightning.data.datamodule import (
    LFADSDataModule,
    OrderedBatches,
    TrainingBatches,
    Trials,
    jitter_spikes,
)
from lfads_lightning.data.sessions import Split, sessions_from_arrays
from lfads_lightning.model.alignment import align
from lfads_lightning.model.layers import dropout_mask
from lfads_lightning.model.names import to_original
from lfads_lightning.model.records import Masks
from lfads_lightning.model.recurrences import choose
from lfads_lightning.model.visibility import Visibility

B, T, D = 4, 8, 5
CAUSAL = {"do_causal_controller": True, "do_feed_factors_to_controller": False, "ic_dim": 0}


def ext_input(n_inputs, n_bins=T):
    return torch.randn(B, n_bins, n_inputs, generator=torch.Generator().manual_seed(5))


def same_noise(model, n_bins=T, seed=3):
    return model.draw_noise(B, n_bins, torch.Generator().manual_seed(seed))


# --- shapes ---

SWITCHES = {
    "defaults": {},
    "no controller": {"co_dim": 0},
    "no initial-condition code": {"ic_dim": 0},
    "neither": {"co_dim": 0, "ic_dim": 0},
    "code is the start state": {"ic_dim": 6},
    "external inputs encoded": {"ext_input_dim": 2},
    "external inputs injected": {"ext_input_dim": 2, "inject_ext_input_to_gen": True},
    "injected without controller": {
        "ext_input_dim": 2,
        "inject_ext_input_to_gen": True,
        "co_dim": 0,
    },
    "rates fed back": {"feedback_factors_or_rates": "rates"},
    "nothing fed back": {"do_feed_factors_to_controller": False},
    "gaussian": {"output_dist": "gaussian"},
    "gaussian rates fed back": {"output_dist": "gaussian", "feedback_factors_or_rates": "rates"},
    "lag 0": {"controller_input_lag": 0},
    "lag of the whole trial": {"controller_input_lag": T},
    "lag beyond the trial": {"controller_input_lag": 3 * T},
    "causal": {"do_causal_controller": True},
    "short initial window": {"num_steps_for_gen_ic": 3},
    "factors are log-rates": {"factors_dim": D},
    "no dropout": {"keep_prob": 1.0},
}


ONE_SESSION_ONLY = {"rates fed back", "gaussian rates fed back"}
SHAPE_CASES = [(switch, {"a": D}) for switch in SWITCHES]
SHAPE_CASES += [(switch, {"a": D, "b": 3}) for switch in SWITCHES if switch not in ONE_SESSION_ONLY]


@pytest.mark.parametrize(("switch", "neurons"), SHAPE_CASES)
def test_shapes(new_model, spikes, switch, neurons):
    given = SWITCHES[switch]
    model = new_model(neurons, **given)
    cfg, n_inputs = model.config, given.get("ext_input_dim", 0)
    ext = ext_input(n_inputs) if n_inputs else None
    for name, d in neurons.items():
        masks = model.draw_masks(B, T)
        shown = Visibility(model.draw_data_mask(B, T, name))
        out = model(spikes[:, :, :d], name, ext, masks=masks, visibility=shown)
        states, encoding = out.states, out.encoding
        gaussian = given.get("output_dist") == "gaussian"
        found = {
            "gen_ics": out.gen_ics,
            "gen_states": states.gen_states,
            "factors": states.factors,
            "output_dist_params": out.output_dist_params,
            "log_rates": out.log_rates,
            "extras": out.extras[0] if gaussian else None,
            "co_means": states.co_means,
            "co_logvars": states.co_logvars,
            "co_samples": states.co_samples,
            "con_states": states.con_states,
            "ic_mean": encoding.ic_mean,
            "ic_logvar": encoding.ic_logvar,
            "ic_enc_fwd": encoding.ic_enc_fwd,
            "ci_enc_fwd": encoding.ci_enc_fwd,
            "ci_enc_rev": encoding.ci_enc_rev,
        }
        n_ic, u = min(given.get("num_steps_for_gen_ic", T), T), cfg.co_dim
        expected = {
            "gen_ics": (B, 6),
            "gen_states": (B, T, 6),
            "factors": (B, T, cfg.factors_dim),
            "output_dist_params": (B, T, 2 * d if gaussian else d),
            "log_rates": (B, T, d),
            "extras": (B, T, d) if gaussian else None,
            "co_means": (B, T, u) if u else None,
            "co_logvars": (B, T, u) if u else None,
            "co_samples": (B, T, u) if u else None,
            "con_states": (B, T, 9) if u else None,
            "ic_mean": (B, cfg.ic_dim) if cfg.ic_dim else None,
            "ic_logvar": (B, cfg.ic_dim) if cfg.ic_dim else None,
            "ic_enc_fwd": (B, n_ic, 7) if cfg.ic_dim else None,
            "ci_enc_fwd": (B, T, 8) if u else None,
            "ci_enc_rev": (B, T, 8) if u and not cfg.do_causal_controller else None,
        }
        shapes = {k: None if v is None else tuple(v.shape) for k, v in found.items()}
        assert shapes == expected
        assert all(v.isfinite().all() for v in found.values() if v is not None)


def test_rates_of_two_sessions_are_not_fed_back(new_model):
    with pytest.raises(LFADSError, match="feedback_factors_or_rates=rates with 2 sessions"):
        new_model({"a": 5, "b": 3}, feedback_factors_or_rates="rates")


@pytest.mark.parametrize(
    ("neurons", "aligned", "given", "has_readin", "has_readout"),
    [
        ({"a": 5}, False, {}, False, True),
        ({"a": 5}, False, {"factors_dim": 5}, False, False),
        ({"a": 5}, False, {"factors_dim": 5, "output_dist": "gaussian"}, False, True),
        ({"a": 5}, True, {}, True, True),
        ({"a": 5}, True, {"factors_dim": 5}, True, False),
        ({"a": 5, "b": 3}, False, {}, True, True),
        ({"a": 5, "b": 5}, False, {"factors_dim": 5}, True, True),
    ],
)
def test_readin_and_readout_are_the_identity_where_the_original_has_none(
    new_model, neurons, aligned, given, has_readin, has_readout
):
    model = new_model(neurons, aligned=aligned, **given)
    assert len(model.readin) == (len(neurons) if has_readin else 0)
    assert len(model.readout) == (len(neurons) if has_readout else 0)


def test_identity_readout_makes_factors_the_log_rates(new_model, spikes):
    out = new_model(factors_dim=5)(spikes, "a")
    torch.testing.assert_close(out.log_rates, out.states.factors)


def test_alignment_starts_readin_and_readout(new_model):
    model = new_model({"a": 5, "b": 3}, aligned=True, fresh=True)
    matrix, bias = torch.randn(5, 3), torch.rand(5)
    before = {k: v.clone() for k, v in model.state_dict().items() if "session_b" in k}
    align(model, "a", matrix, bias)
    x = torch.randn(2, 5)
    torch.testing.assert_close(model.readin["session_a"](x), (x - bias) @ matrix)
    torch.testing.assert_close(model.readout["session_a"].weight, matrix.T)
    torch.testing.assert_close(model.readout["session_a"].bias, bias)
    for name, value in before.items():  # nothing leaks into the other session
        torch.testing.assert_close(model.state_dict()[name], value)


# --- initial weights ---


def test_initial_weights_have_the_documented_spread(new_model):
    model = new_model(
        {"a": 90, "b": 80},
        fresh=True,
        ic_enc_dim=90,
        ci_enc_dim=80,
        gen_dim=100,
        con_dim=70,
        factors_dim=60,
        ic_dim=50,
        co_dim=40,
    )
    e, c, g, k = model.ic_encoder.fwd, model.ci_encoder.rev, model.generator, model.controller
    spreads = [
        (e.input_gates, 1 / np.sqrt(60 + 90)),
        (e.gates, 1 / np.sqrt(60 + 90)),
        (e.input_candidate, 1 / np.sqrt(60 + 90)),
        (e.candidate, 1 / np.sqrt(60 + 90)),
        (c.gates, 1 / np.sqrt(60 + 80)),
        (c.candidate, 1 / np.sqrt(60 + 80)),
        (g.input_gates, 1 / np.sqrt(40)),
        (g.input_candidate, 1 / np.sqrt(40)),
        (g.gates, 1 / np.sqrt(100)),
        (g.candidate, 1 / np.sqrt(100)),
        (k.input_gates, 1 / np.sqrt(2 * 80 + 60)),
        (k.gates, 1 / np.sqrt(70)),
        (k.candidate, 1 / np.sqrt(70)),
        (model.ic_mean.weight, 1 / np.sqrt(2 * 90)),
        (model.ic_logvar.weight, 1 / np.sqrt(2 * 90)),
        (model.ic_to_gen.weight, 1 / np.sqrt(50)),
        (model.co_mean.weight, 1 / np.sqrt(70)),
        (model.factor_weight, 1 / np.sqrt(100)),
        (model.readin["session_a"].weight, 1 / np.sqrt(90)),
        (model.readout["session_a"].weight, 1 / np.sqrt(60)),
    ]
    for weight, sd in spreads:
        n = weight.numel()
        assert weight.std().item() == pytest.approx(sd, rel=6 / np.sqrt(2 * n))
        assert abs(weight.mean().item()) < 6 * sd / np.sqrt(n)


def test_biases_and_start_states_start_at_zero(new_model):
    model = new_model(fresh=True)
    zero = [p for n, p in model.named_parameters() if "bias" in n or "start" in n or n == "con_ic"]
    assert len(zero) > 15
    assert all(p.abs().max() == 0 for p in zero)


def test_gaussian_variance_starts_at_e_whatever_the_data(new_model, spikes):
    out = new_model(fresh=True, output_dist="gaussian")(spikes, "a")
    torch.testing.assert_close(out.output_dist_params[:, :, D:], torch.full((B, T, D), np.e))


def test_factor_weight_is_used_with_columns_of_length_one(new_model):
    weight = new_model().normalised_factor_weight()
    torch.testing.assert_close(weight.square().sum(0), torch.ones(3))


# --- causality ---


def moved_bins(before, after):
    """Return the bins in which two (B, T, ...) arrays differ."""
    return set(torch.nonzero((before - after).flatten(2).abs().amax((0, 2)) > 0).flatten().tolist())


@pytest.mark.parametrize("lag", [0, 1, 3, T])
@pytest.mark.parametrize("t", [0, 2, T - 1])
def test_causal_controller_sees_a_bin_first_after_the_lag(new_model, spikes, lag, t):
    model = new_model(**CAUSAL, controller_input_lag=lag)
    noise, other = same_noise(model), spikes.clone()
    other[:, t] += 3
    before, after = (model(x, "a", None, noise) for x in (spikes, other))
    expected = set(range(t + lag, T))
    for name in ("co_means", "gen_states", "factors"):
        moved = moved_bins(getattr(before.states, name), getattr(after.states, name))
        assert moved == expected, name
    assert moved_bins(before.output_dist_params, after.output_dist_params) == expected


def test_ext_input_injected_into_the_generator_moves_nothing_before_it(new_model, spikes):
    model = new_model(**CAUSAL, ext_input_dim=2, inject_ext_input_to_gen=True)
    noise, ext = same_noise(model), ext_input(2)
    other = ext.clone()
    other[:, 5] += 1
    before, after = (model(spikes, "a", e, noise) for e in (ext, other))
    moved = moved_bins(before.states.gen_states, after.states.gen_states)
    assert moved == {5, 6, 7}
    torch.testing.assert_close(before.states.co_means, after.states.co_means)


def test_acausal_controller_sees_the_future(new_model, spikes):
    model = new_model(do_feed_factors_to_controller=False, ic_dim=0)
    noise, other = same_noise(model), spikes.clone()
    other[:, T - 1] += 3
    before, after = (model(x, "a", None, noise) for x in (spikes, other))
    # lag 1: bin t reads the backward encoding of t + 1
    assert moved_bins(before.states.co_means, after.states.co_means) == set(range(T))


def test_lag_hides_the_bins_around(new_model, spikes):
    """Lag 2 hides bins t-1, t, t+1 from what the controller reads at t."""
    model = new_model(controller_input_lag=2)
    for t in range(T):
        other = spikes.clone()
        other[:, max(t - 1, 0) : t + 2] += 3
        before, after = (model.encode(x, "a").con_input for x in (spikes, other))
        torch.testing.assert_close(before[:, t], after[:, t])
        other[:, (t + 2) % T] += 3
        assert (before[:, t] - model.encode(other, "a").con_input[:, t]).abs().max() > 0


@pytest.mark.parametrize("causal", [False, True])
def test_lag_beyond_the_trial_gives_the_controller_zeros(new_model, spikes, causal):
    model = new_model(controller_input_lag=T, do_causal_controller=causal)
    assert model.encode(spikes, "a").con_input.abs().max() == 0


# --- sessions ---


def test_batch_of_one_session_has_no_gradient_on_another(new_model, spikes):
    model = new_model({"a": 5, "b": 3})
    model(spikes, "a").output_dist_params.sum().backward()
    for name, p in model.named_parameters():
        if "session_b" in name:
            assert p.grad is None, name
        elif "session_a" in name:
            assert p.grad.abs().max() > 0, name


def test_other_sessions_weights_do_not_change_the_output(new_model, spikes):
    model = new_model({"a": 5, "b": 3})
    noise = same_noise(model)
    before = model(spikes, "a", None, noise).output_dist_params
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "session_b" in name:
                p.add_(1.0)
    assert torch.equal(model(spikes, "a", None, noise).output_dist_params, before)


@pytest.mark.parametrize("names", [("day.1", "day%2E1"), ("1", "a b"), ("", "_"), ("a.b", "a_b")])
def test_any_two_session_names_are_kept_apart(new_model, spikes, names):
    model = new_model(dict.fromkeys(names, 5))
    noise = same_noise(model)
    a, b = (model(spikes, name, None, noise).output_dist_params for name in names)
    assert (a - b).abs().max() > 0
    assert len(model.readin) == 2


# --- noise and masks ---


def test_same_noise_gives_the_same_output(new_model, spikes):
    model = new_model()
    a, b = (model(spikes, "a", None, same_noise(model, seed=3)) for _ in range(2))
    assert torch.equal(a.output_dist_params, b.output_dist_params)


def test_other_noise_gives_another_output(new_model, spikes):
    model = new_model()
    a, b = (model(spikes, "a", None, same_noise(model, seed=s)) for s in (3, 4))
    assert (a.output_dist_params - b.output_dist_params).abs().max() > 0


def test_noise_has_the_shapes_of_the_codes(new_model):
    noise = new_model().draw_noise(3, T)
    assert tuple(noise.ic.shape) == (3, 4)
    assert tuple(noise.co.shape) == (3, T, 2)


def test_means_leave_no_noise_in_the_output(new_model, spikes):
    model = new_model()
    a, b = (model(spikes, "a", None, same_noise(model, seed=s), use_means=True) for s in (3, 4))
    assert torch.equal(a.output_dist_params, b.output_dist_params)
    assert not torch.equal(a.states.co_samples, b.states.co_samples)  # still drawn, for the KL


def test_trials_of_a_batch_do_not_mix(new_model, spikes):
    model = new_model()
    noise = same_noise(model)
    together = model(spikes, "a", None, noise).output_dist_params
    for i in range(B):
        alone = model(
            spikes[i : i + 1], "a", None, type(noise)(noise.ic[i : i + 1], noise.co[i : i + 1])
        )
        torch.testing.assert_close(alone.output_dist_params[0], together[i])


@pytest.mark.parametrize("keep_prob", [0.5, 0.8, 0.95])
def test_mask_holds_zeros_and_inverse_keep_prob_and_its_mean_is_one(keep_prob):
    torch.manual_seed(0)
    mask = dropout_mask((200, 500), keep_prob, torch.zeros(()))
    values = mask.unique().tolist()
    assert values == pytest.approx([0, 1 / keep_prob])
    standard_error = np.sqrt((1 - keep_prob) / keep_prob / mask.numel())
    assert abs(mask.mean().item() - 1) < 6 * standard_error


def test_masks_are_drawn_anew_each_time(new_model):
    model = new_model(keep_prob=0.5)
    a, b = ((model.draw_data_mask(B, T, "a"), *model.draw_masks(B, T)) for _ in range(2))
    for first, second in zip(a, b, strict=True):
        if first is not None:
            assert not torch.equal(first, second)


def test_masks_are_at_the_documented_sites(new_model):
    model = new_model(ext_input_dim=2)
    assert model.draw_data_mask(B, T, "a").shape == (B, T, D)
    masks = model.draw_masks(B, T)
    shapes = {k: tuple(v.shape) for k, v in masks._asdict().items()}
    assert shapes == {
        "ext_input": (B, T, 2),
        "ic_encoding": (B, 14),
        "con_input": (B, T, 16),
        "feedback": (B, T, 3),
        "generator": (B, T, 6),
    }


def test_data_and_ext_input_masks_act_before_anything_else(new_model, spikes):
    model = new_model(ext_input_dim=2, keep_prob=0.6)
    noise, ext, drawn = same_noise(model), ext_input(2), model.draw_data_mask(B, T, "a")
    masks = Masks(ext_input=model.draw_masks(B, T).ext_input)
    dropped = model(spikes, "a", ext, noise, masks, Visibility(drawn))
    by_hand = model(spikes * drawn, "a", ext * masks.ext_input, noise)
    torch.testing.assert_close(dropped.output_dist_params, by_hand.output_dist_params)


def test_encoding_masks_act_on_what_posterior_and_controller_read(new_model, spikes):
    model = new_model(keep_prob=0.6)
    drawn = model.draw_masks(B, T)
    masks = Masks(ic_encoding=drawn.ic_encoding, con_input=drawn.con_input)
    plain, dropped = model.encode(spikes, "a"), model.encode(spikes, "a", None, masks)
    torch.testing.assert_close(dropped.con_input, plain.con_input * masks.con_input)
    code = torch.cat([plain.ic_enc_fwd[:, -1], plain.ic_enc_rev[:, 0]], 1) * masks.ic_encoding
    torch.testing.assert_close(dropped.ic_mean, model.ic_mean(code))


def test_feedback_mask_hides_the_generator_from_the_controller(new_model, spikes):
    model = new_model()
    hidden = Masks(feedback=torch.zeros(B, T, 3))
    a, b = (model(spikes, "a", None, same_noise(model, seed=s), hidden) for s in (3, 4))
    assert torch.equal(a.states.con_states, b.states.con_states)
    assert not torch.equal(a.states.gen_states, b.states.gen_states)


def test_generator_mask_acts_on_the_copy_that_factors_read(new_model, spikes):
    model = new_model(co_dim=0)
    noise, masks = same_noise(model), Masks(generator=torch.zeros(B, T, 6))
    plain, dropped = model(spikes, "a", None, noise), model(spikes, "a", None, noise, masks)
    assert torch.equal(plain.states.gen_states, dropped.states.gen_states)
    assert dropped.states.factors.abs().max() == 0


def test_fed_back_factors_are_those_of_the_dropped_out_generator(new_model, spikes):
    """With the generator's copy at 0, what is fed back is 0, but before bin 0: no dropout there."""
    model = new_model()
    noise = same_noise(model)
    generator_off = Masks(generator=torch.zeros(B, T, 6))
    feedback = torch.zeros(B, T, 3)
    feedback[:, 0] = 1
    fed_off_after_bin_0 = Masks(feedback=feedback)
    a, b = (model(spikes, "a", None, noise, m) for m in (generator_off, fed_off_after_bin_0))
    torch.testing.assert_close(a.states.con_states, b.states.con_states)


def test_masks_of_ones_change_nothing(new_model, spikes):
    model = new_model(ext_input_dim=2)
    noise, ext = same_noise(model), ext_input(2)
    masks = model.draw_masks(B, T)
    ones = type(masks)(*(torch.ones_like(m) for m in masks))
    without = model(spikes, "a", ext, noise).output_dist_params
    torch.testing.assert_close(model(spikes, "a", ext, noise, ones).output_dist_params, without)


# --- jitter ---


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize("width", [1, 2, 5, T - 1, T, 100])
def test_jitter_keeps_the_count_of_every_trial_and_neuron(counts, width, dtype):
    torch.manual_seed(0)
    data = torch.tensor(counts).to(dtype)
    jittered = jitter_spikes(data, width)
    assert jittered.shape == data.shape
    assert torch.equal(jittered.sum(1), data.float().sum(1))
    assert not torch.equal(jittered, data.float())
    assert jittered.min() >= 0


def test_jitter_leaves_its_input_alone(counts):
    data = torch.tensor(counts)
    jitter_spikes(data, 3)
    assert torch.equal(data, torch.tensor(counts))


def test_jitter_of_width_zero_returns_the_input(counts):
    data = torch.tensor(counts)
    assert jitter_spikes(data, 0) is data


def shares(start, width, n_bins, n=40_000):
    """Return the share of single spikes of bin ``start`` that end in each bin."""
    torch.manual_seed(0)
    data = torch.zeros(n, n_bins, 1)
    data[:, start] = 1
    return jitter_spikes(data, width).mean((0, 2)).numpy(), 6 * np.sqrt(0.25 / n)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (6, {4: 0.25, 5: 0.25, 6: 0.25, 7: 0.25}),
        (0, {0: 0.25, 1: 0.5, 2: 0.25}),
        (1, {0: 0.25, 1: 0.5, 2: 0.25}),
        (11, {9: 0.25, 10: 0.5, 11: 0.25}),
    ],
)
def test_jitter_of_width_two_lands_as_in_the_original(start, expected):
    """Uniform on -2..1, reflected once: bin 0 goes to 2, 1, 0, 1; bin 11 of 12 to 9, 10, 11, 10."""
    found, tolerance = shares(start, 2, 12)
    np.testing.assert_allclose(found, [expected.get(t, 0.0) for t in range(12)], atol=tolerance)
    assert {int(t) for t in np.flatnonzero(found)} == set(expected)


def test_every_spike_of_a_bin_moves_on_its_own():
    torch.manual_seed(0)
    data = torch.zeros(1, 12, 1)
    data[0, 6] = 40_000
    found = jitter_spikes(data, 2)[0, :, 0] / 40_000
    np.testing.assert_allclose(found[4:8], 0.25, atol=6 * np.sqrt(0.25 / 40_000))


def test_jitter_of_one_bin_has_nowhere_to_go():
    data = torch.ones(2, 1, 3)
    assert torch.equal(jitter_spikes(data, 5), data)


def test_jitter_of_silence_is_silence():
    data = torch.zeros(2, 8, 3)
    assert torch.equal(jitter_spikes(data, 2), data)


# --- batches ---

N_TRIALS = {"a": 23, "b": 7, "c": 40}


def epoch(sampler, number=0):
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 23, 1000])
def test_training_serves_every_trial_at_least_once(batch_size):
    sampler = TrainingBatches(N_TRIALS, batch_size, seed=0)
    for number, (name, n) in itertools.product(range(20), N_TRIALS.items()):
        served = np.concatenate([b.trials for b in epoch(sampler, number) if b.session == name])
        assert set(served) == set(range(n))
        # what fills up the last batch repeats no trial twice
        size = min(batch_size, n)
        assert len(served) == -(-n // size) * size
        assert np.bincount(served).max() <= 2


@pytest.mark.parametrize("batch_size", [1, 4, 7, 23, 1000])
def test_training_batches_are_full(batch_size):
    for batch in epoch(TrainingBatches(N_TRIALS, batch_size, seed=0)):
        assert len(batch.trials) == min(batch_size, N_TRIALS[batch.session])


@pytest.mark.parametrize("sampler", [TrainingBatches, OrderedBatches])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 23, 1000])
def test_number_of_batches_is_as_told(sampler, batch_size):
    seed = (0,) if sampler is TrainingBatches else ()
    batches = sampler(N_TRIALS, batch_size, *seed)
    assert len(batches) == len(list(batches))


def test_sessions_are_shuffled_together():
    names = [b.session for b in epoch(TrainingBatches(N_TRIALS, 4, seed=0))]
    assert len(list(itertools.groupby(names))) > len(N_TRIALS)


def served(sampler, number):
    return [(b.session, b.trials.tolist()) for b in epoch(sampler, number)]


def test_order_changes_with_the_epoch():
    sampler = TrainingBatches(N_TRIALS, 4, seed=0)
    assert served(sampler, 0) != served(sampler, 1)


def test_order_changes_with_the_seed():
    first, second = (TrainingBatches(N_TRIALS, 4, seed=s) for s in (0, 1))
    assert served(first, 0) != served(second, 0)


def test_same_seed_and_epoch_give_the_same_order():
    first, second = (TrainingBatches(N_TRIALS, 4, seed=5) for _ in range(2))
    served(second, 0)  # what was drawn before does not matter
    torch.manual_seed(1)
    np.random.seed(1)
    assert served(first, 3) == served(second, 3)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
def test_ordered_batches_serve_every_trial_once_in_order(batch_size):
    found = [(b.session, int(i)) for b in OrderedBatches(N_TRIALS, batch_size) for i in b.trials]
    assert found == [(name, i) for name, n in N_TRIALS.items() for i in range(n)]
    assert max(len(b.trials) for b in OrderedBatches(N_TRIALS, batch_size)) <= batch_size


def test_batch_holds_the_trials_of_its_session(counts):
    ext = np.random.default_rng(0).normal(size=(12, 8, 2)).astype(np.float32)
    trials = Trials({"a": Split(counts, ext), "b": Split(counts[:5] + 7)})
    for index in TrainingBatches({"a": 12, "b": 5}, 4, seed=0):
        batch = trials[index]
        assert batch.session == index.session
        offset = 7 if batch.session == "b" else 0
        np.testing.assert_array_equal(batch.data, counts[index.trials] + offset)
        if batch.session == "a":
            np.testing.assert_array_equal(batch.ext_input, ext[index.trials])
        else:
            assert batch.ext_input is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_counts_of_every_stored_type_reach_torch_unchanged(counts, dtype):
    data = counts.astype(dtype)
    data[0, 0, 0] = np.iinfo(dtype).max
    batch = Trials({"a": Split(data)})[next(iter(OrderedBatches({"a": 12}, 12)))]
    assert batch.data.sum().item() == data.sum(dtype=np.int64)


def test_datamodule_serves_training_shuffled_and_validation_in_order(counts):
    sessions = sessions_from_arrays(
        {"a": counts}, {"a": counts[:6]}, output_dist="poisson", ext_input_dim=0, factors_dim=3
    )
    data = LFADSDataModule(sessions, batch_size=4, seed=0)
    valid = torch.cat([batch.data for batch in data.val_dataloader()])
    np.testing.assert_array_equal(valid, counts[:6])
    train = torch.cat([batch.data for batch in data.train_dataloader()])
    assert not np.array_equal(train, counts)
    np.testing.assert_array_equal(train.sum(0), counts.sum(0))


# --- a second copy of the forward pass, in NumPy ---


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class SecondCopy:
    """The forward pass without dropout, bin by bin, from weights by the original's names."""

    def __init__(self, weights, **p):
        self.w = {k[len("LFADS/") : -len(":0")]: v.double().numpy() for k, v in weights.items()}
        self.p = {"clip": 5.0, "lag": 1, "n_ic": None, "inject": False, "feed": "factors"} | p

    def affine(self, name, x):
        """Return x W + b, or x where the map has no parameters."""
        if f"{name}/W" not in self.w:
            return x
        return x @ self.w[f"{name}/W"] + self.w[f"{name}/b"]

    def gru(self, h, reset_and_update, candidate):
        reset, update = np.split(reset_and_update(h), 2, axis=1)
        u = sigmoid(update + 1)
        c = np.tanh(candidate(sigmoid(reset) * h))
        return np.clip(u * h + (1 - u) * c, -self.p["clip"], self.p["clip"])

    def encoder_step(self, scope, x, h):
        def joined(which):
            return lambda h: self.affine(f"{scope}/GRU/{which}", np.concatenate([x, h], 1))

        return self.gru(h, joined("Gates/xh_2_ru"), joined("Candidate/xrh_2_c"))

    def decoder_step(self, scope, x, h):
        def apart(which, x_map, h_map):
            w = self.w.get(f"{scope}/GenGRU/{which}/{x_map}/W")
            driven = 0 if w is None else x @ w
            return lambda h: driven + self.affine(f"{scope}/GenGRU/{which}/{h_map}", h)

        gates = apart("Gates", "x_2_ru", "h_2_ru")
        return self.gru(h, gates, apart("Candidate", "x_2_c", "rh_2_c"))

    def encode(self, name, x, way):
        """Return the state after each bin processed, by bin."""
        scope, n_bins = f"{name}_{way}", x.shape[1]
        h = np.repeat(self.w[f"{scope}/{name}_t0_{way}"], len(x), 0)
        states = {}
        for t in range(n_bins) if way == "fwd" else reversed(range(n_bins)):
            h = states[t] = self.encoder_step(scope, x[:, t], h)
        return states

    def rates(self, factors, session, clamp=True):
        """Return what the read-out reports: Poisson rates, or means and variances."""
        if f"glm/fac_2_means_{session}/W" in self.w:
            logvar = self.affine(f"glm/fac_2_logvars_{session}", factors)
            mean = self.affine(f"glm/fac_2_means_{session}", factors)
            return mean, np.exp(np.clip(logvar, -80, 80))
        log_rates = self.affine(f"glm/fac_2_logrates_{session}", factors)
        return np.exp(np.clip(log_rates, -80, 80) if clamp else log_rates), None

    def __call__(self, x, session, ext, ic_noise, co_noise):
        p, n, n_bins = self.p, *x.shape[:2]
        e = self.affine(f"x_2_infac_{session}", x)
        if ext is not None and not p["inject"]:
            e = np.concatenate([e, ext], 2)
        out = {}
        if "gen/g0" in self.w:
            g = np.repeat(self.w["gen/g0"], n, 0)
        else:
            window = e[:, : p["n_ic"]]
            last = window.shape[1] - 1
            fwd, rev = (self.encode("ic_enc", window, way) for way in ("fwd", "rev"))
            code = np.concatenate([fwd[last], rev[0]], 1)
            mean = self.affine("z/ic_enc_2_post_g0/mean", code)
            logvar = self.affine("z/ic_enc_2_post_g0/logvar", code)
            logvar = np.log(np.exp(logvar) + p["post_var_min"])
            out |= {"ic_mean": mean, "ic_logvar": logvar}
            g = self.affine("gen/g0_2_gen_ic", mean + np.exp(logvar / 2) * ic_noise)
        out["gen_ics"] = g
        to_factors = self.w["gen/gen_2_fac/W"]
        to_factors = to_factors / np.sqrt((to_factors**2).sum(0))
        has_controller = "con/c0" in self.w
        if has_controller:
            ways = ["fwd", "rev"] if "ci_enc_rev/ci_enc_t0_rev" in self.w else ["fwd"]
            encoded = {way: self.encode("ci_enc", e, way) for way in ways}
            nothing = np.zeros_like(encoded["fwd"][0])
            c = np.repeat(self.w["con/c0"], n, 0)
            fed = g @ to_factors
            if p["feed"] == "rates":
                fed = self.rates(fed, session, clamp=False)[0]
        series = {"gen_states": [], "factors": [], "means": [], "variances": []}
        series |= {"co_means": [], "co_logvars": [], "con_states": []} if has_controller else {}
        for t in range(n_bins):
            gen_in = []
            if has_controller:
                con_in = [
                    encoded[way].get(t - p["lag"] if way == "fwd" else t + p["lag"], nothing)
                    for way in ways
                ] + ([fed] if p["feed"] else [])
                c = self.decoder_step("con", np.concatenate(con_in, 1), c)
                mean = self.affine("con/con_to_post_co/mean", c)
                logvar = self.affine("con/con_to_post_co/logvar", c)
                gen_in.append(mean + np.exp(logvar / 2) * co_noise[:, t])
                for name, value in (("co_means", mean), ("co_logvars", logvar), ("con_states", c)):
                    series[name].append(value)
            if ext is not None and p["inject"]:
                gen_in.append(ext[:, t])
            g = self.decoder_step("gen", np.concatenate(gen_in, 1) if gen_in else None, g)
            factors = g @ to_factors
            means, variances = self.rates(factors, session)
            fed = means if p["feed"] == "rates" else factors
            for name, value in (
                ("gen_states", g),
                ("factors", factors),
                ("means", means),
                ("variances", variances),
            ):
                series[name].append(value)
        if variances is None:
            series.pop("variances")
        return out | {name: np.stack(values, 1) for name, values in series.items()}


COPIES = {
    "encoded inputs, factors fed back": (
        {"a": 5},
        {"ext_input_dim": 2, "num_steps_for_gen_ic": 3, "ic_post_var_min": 0.02},
        {"n_ic": 3, "post_var_min": 0.02},
    ),
    "causal, rates fed back, inputs injected, clamped": (
        {"a": 5},
        {
            "ext_input_dim": 2,
            "inject_ext_input_to_gen": True,
            "do_causal_controller": True,
            "feedback_factors_or_rates": "rates",
            "controller_input_lag": 2,
            "cell_clip_value": 0.4,
            "ic_dim": 6,
        },
        {"inject": True, "feed": "rates", "lag": 2, "clip": 0.4, "post_var_min": 1e-4},
    ),
    "gaussian, two sessions, nothing fed back": (
        {"a": 5, "b": 4},
        {
            "output_dist": "gaussian",
            "do_feed_factors_to_controller": False,
            "controller_input_lag": 0,
        },
        {"feed": None, "lag": 0, "post_var_min": 1e-4},
    ),
    "autonomous, identity read-out": (
        {"a": 5},
        {"co_dim": 0, "ic_dim": 0, "factors_dim": 5},
        {},
    ),
}


@pytest.mark.parametrize("recurrence", ["reference", "auto"])
@pytest.mark.parametrize("name", COPIES)
def test_second_copy_in_numpy_gives_the_same_output(new_model, counts, name, recurrence):
    neurons, parameters, description = COPIES[name]
    model = new_model(neurons, seed=7, **parameters)
    model.passes = choose(Recurrence[recurrence])
    if recurrence == "reference":
        model.double()
    if "clip" in description:  # a start outside the clamp, so that it acts
        with torch.no_grad():
            model.ic_mean.bias.fill_(2.0)
    copy = SecondCopy(to_original(model), **description)
    ext = ext_input(2) if parameters.get("ext_input_dim") else None
    for session, d in neurons.items():
        x, noise = counts[:B, :, :d], model.draw_noise(B, T)
        with torch.no_grad():
            ours = model(torch.tensor(x), session, ext, noise)
        given = (None if e is None else e.double().numpy() for e in (ext, noise.ic, noise.co))
        theirs = copy(x.astype(float), session, *given)
        found = ours.states._asdict() | {
            "gen_ics": ours.gen_ics,
            "ic_mean": ours.encoding.ic_mean,
            "ic_logvar": ours.encoding.ic_logvar,
            "means": ours.output_dist_params[:, :, :d],
            "variances": ours.output_dist_params[:, :, d:],
        }
        assert {"gen_states", "factors", "means", "gen_ics"} <= set(theirs)
        for key, value in theirs.items():
            np.testing.assert_allclose(
                found[key].detach(), value, rtol=1e-5, atol=1e-5, err_msg=key
            )
            assert np.ptp(value) > 1e-3, key  # not trivially equal
