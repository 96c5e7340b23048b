"""Posteriors that are refined: what they may know, what they do not depend on, when they stop."""

import numpy as np
import pytest
import torch
from conftest import TINY

from lfads_lightning.config import SessionSpec
from lfads_lightning.data.fields import Split
from lfads_lightning.inference import posterior, refine
from lfads_lightning.inference.posterior import judged_rates, push_mean, sample_and_average
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.params import from_flat

RNG = np.random.default_rng(1)
COUNTS = RNG.poisson(np.exp(np.sin(np.arange(12) / 2 + RNG.uniform(0, 6, (7, 1)))[..., None]
                            * RNG.normal(0, 1, 5)))  # fmt: skip
OTHER = COUNTS + RNG.poisson(3.0, COUNTS.shape)
LENGTHS = np.array([12, 9, 12, 8, 10, 11, 7])
STEPS = 12


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Look more often than after ten steps, and hold back fewer parts than each in turn."""
    monkeypatch.setattr(refine, "EVERY", 4)
    monkeypatch.setattr(refine, "MOST_CHECKED", 14)
    monkeypatch.setattr(refine, "RATE", 0.1)


@pytest.fixture
def keep_all(monkeypatch):
    """Refine whatever held-back entries say."""
    monkeypatch.setattr(refine, "LEAST_ERRORS", -1e9)


def new_trained(steps=STEPS, held_out=(), forward=0, **parameters):
    config = from_flat(TINY | {"num_score_samples": 2, "refine_steps": steps} | parameters)
    torch.manual_seed(0)
    spec = SessionSpec("s", 5, 0, False, held_out=held_out, forward_steps=forward)
    model = LFADS(config.model, [spec])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return TrainedModel(model, config, 12, step=7)


def rates_of(trained, data, shown=None, **more):
    return judged_rates(trained.evaluation(), "s", Split(data, **more), shown).rates


def encodings_of(trained, split):
    """Return posterior means and encodings of all trials, (E, Z) and (E, T, 2C)."""
    found = list(posterior._encodings(trained.evaluation(), "s", split, None, 100))
    return (
        torch.cat([e.ic_mean for _, _, e in found]),
        [row for _, _, e in found for row in e.con_input],
    )


@pytest.mark.parametrize("hides", ["held_out", "forward", "shown", "mask", "unequal and forward"])
def test_hidden_entries_have_no_influence(keep_all, hides):
    how, more, hidden = {}, {}, np.zeros(COUNTS.shape, bool)
    if hides == "held_out":
        how["held_out"], hidden[..., [1, 3]] = (1, 3), True
    elif hides == "forward":
        how["forward"], hidden[:, -3:] = 3, True
    elif hides == "unequal and forward":
        how["forward"], more["lengths"] = 3, LENGTHS
        hidden = np.arange(12)[None, :, None] >= (more["lengths"] - 3)[:, None, None]
        hidden = np.broadcast_to(hidden, COUNTS.shape)
    else:
        hidden = RNG.random(COUNTS.shape) < 0.3
        how_told = {"shown": (~hidden).astype(np.float32), "mask": ~hidden}
        more[hides] = how_told[hides]
    trained = new_trained(**how)
    plain, found = (rates_of(new_trained(n, **how), COUNTS, **more) for n in (0, STEPS))
    changed = rates_of(trained, np.where(hidden, OTHER, COUNTS), **more)
    np.testing.assert_array_equal(found, changed)
    assert np.nanmax(np.abs(found - plain)) > 1e-3  # it is refined
    seen = rates_of(trained, np.where(hidden, COUNTS, OTHER), **more)
    assert np.nanmax(np.abs(found - seen)) > 1e-3


@pytest.mark.parametrize(
    "parts", [{}, {"co_dim": 0}, {"ic_dim": 0}, {"do_causal_controller": True}]
)
@pytest.mark.parametrize("dist", ["poisson", "gaussian"])
def test_the_bound_rises_for_all_kinds(keep_all, parts, dist):
    how = parts | {"output_dist": dist}
    plain, refined = (new_trained(n, **how).evaluation() for n in (0, 32))
    split = Split(COUNTS)
    before, after = (sample_and_average(run, "s", split, 200) for run in (plain, refined))
    assert after.nll_bound_vaes.mean() < before.nll_bound_vaes.mean() - 0.5
    means = [push_mean(run, "s", split).rates for run in (plain, refined)]
    assert np.abs(means[1] - means[0]).max() > 1e-3


@pytest.mark.parametrize(
    "parts", [{"ic_dim": 0, "co_dim": 0}, {"do_causal_controller": True, "num_steps_for_gen_ic": 4}]
)
def test_neither_fixed_nor_causal_models_are_refined(keep_all, parts):
    plain, refined = (new_trained(n, **parts) for n in (0, STEPS))
    np.testing.assert_array_equal(rates_of(plain, COUNTS), rates_of(refined, COUNTS))


@pytest.mark.parametrize("unequal", [False, True])
def test_trials_at_once_change_nothing(keep_all, monkeypatch, unequal):
    monkeypatch.setattr(refine, "PATIENCE", 1)  # trials stop at different looks
    monkeypatch.setattr(posterior, "_steps_that_pay", lambda *_: 24)
    trained = new_trained(recurrence="reference")
    trained.model.double()
    lengths = LENGTHS if unequal else None
    inside = np.arange(12)[None, :, None] < LENGTHS[:, None, None]
    mask = inside & (RNG.random(COUNTS.shape) < 0.8) if unequal else None
    split = Split(COUNTS, lengths=lengths, mask=mask)
    means, encodings = encodings_of(trained, split)
    monkeypatch.setattr(posterior, "_most", lambda *_: 2)
    few_means, few_encodings = encodings_of(trained, split)
    np.testing.assert_allclose(means, few_means, rtol=0, atol=1e-8)
    for k, (row, few) in enumerate(zip(encodings, few_encodings, strict=True)):
        n = 12 if lengths is None else lengths[k]
        np.testing.assert_allclose(row[:n], few[:n], rtol=0, atol=1e-8)


def test_memory_bounds_the_trials_at_once(keep_all, monkeypatch):
    rows, decode = [], LFADS.decode

    def noted(self, encoding, n_bins, session, noise, *rest, **more):
        rows.append(len(noise.ic))
        return decode(self, encoding, n_bins, session, noise, *rest, **more)

    monkeypatch.setattr(LFADS, "decode", noted)
    trials = np.random.default_rng(0).poisson(1.0, (6, 400, 5))
    most = {}
    for megabytes in (1, 64):
        rows.clear()
        rates_of(new_trained(5, memory_mb=megabytes), trials)
        most[megabytes] = max(rows)
    assert most[1] < most[64]
    # what a look holds for certain: generator's and controller's states, factors, rates
    assert most[1] * 400 * (6 + 9 + 3 + 5) * 4 <= 2**20


def test_the_seed_decides(keep_all):
    first, again, other = (rates_of(new_trained(seed=s), COUNTS) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_lengths_end_results_as_before(keep_all):
    rates = rates_of(new_trained(), COUNTS, lengths=LENGTHS)
    np.testing.assert_array_equal(
        np.isnan(rates[..., 0]), np.arange(12)[None, :] >= LENGTHS[:, None]
    )


def test_nothing_is_refined_where_held_back_entries_do_not_gain(monkeypatch):
    monkeypatch.setattr(refine, "LEAST_ERRORS", 1e9)
    np.testing.assert_array_equal(rates_of(new_trained(0), COUNTS), rates_of(new_trained(), COUNTS))


@pytest.mark.parametrize("held_out", [(), (1, 3)])
def test_parts_are_held_back_together_as_in_turn(monkeypatch, held_out):
    found = []
    noted = lambda check: found.append((check.sums, check.squares)) or 0  # noqa: E731
    monkeypatch.setattr(refine.Check, "steps_that_pay", noted)
    monkeypatch.setattr(refine, "N_PARTS", 3)
    trained = new_trained(held_out=held_out, recurrence="reference")
    trained.model.double()
    for most in (100, 2):
        monkeypatch.setattr(posterior, "_most", lambda *_, most=most: most)
        rates_of(trained, COUNTS)
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-8)
    assert np.abs(found[0][0]).min() > 0


@pytest.mark.parametrize("held_out", [(), (1, 3)])
def test_whole_neurons_are_held_back_where_neurons_are_held_out(monkeypatch, held_out):
    held_back = []
    add = refine.Check.add
    monkeypatch.setattr(
        refine.Check, "add", lambda self, *a: held_back.append(a[1] > 0) or add(self, *a)
    )
    monkeypatch.setattr(refine, "N_PARTS", 3)
    monkeypatch.setattr(refine, "MOST_CHECKED", 21)  # each part in turn
    rates_of(new_trained(held_out=held_out), COUNTS)
    (parts,) = held_back
    parts = parts.reshape(3, len(COUNTS), 12, 5)
    seen = [c for c in range(5) if c not in held_out]
    assert (parts.sum(0) == np.isin(range(5), seen)).all()  # each once, held-out ones never
    share = parts.float().mean((1, 2))  # of each part's neurons
    is_whole = bool(((share == 0) | (share == 1)).all())
    assert is_whole == bool(held_out)


def test_as_many_steps_are_taken_as_held_back_entries_gain_most_by():
    check = refine.Check(10)
    check.sums[:], check.squares[:] = [5, 9, 8], [1, 1, 1]
    assert check.steps_that_pay() == 8
    check.sums[:] = [5, 8, 9]
    assert check.steps_that_pay() == 10
    check.squares[:] = 50  # 1.27 errors, which may be chance of few neurons
    assert check.steps_that_pay() == 10
    check.least_errors = refine.LEAST_ERRORS_OF_NEURONS
    assert check.steps_that_pay() == 0
    check.least_errors, check.squares[:] = refine.LEAST_ERRORS, 1e4  # all of it may be chance
    assert check.steps_that_pay() == 0


@pytest.mark.parametrize("rate", [0.0, 30.0])
def test_a_trial_that_gets_no_better_stops_and_stays(keep_all, monkeypatch, rate):
    monkeypatch.setattr(refine, "RATE", rate)
    steps, gradients = [], refine._gradients
    monkeypatch.setattr(refine, "_gradients", lambda *a: steps.append(1) or gradients(*a))
    monkeypatch.setattr(posterior, "_steps_that_pay", lambda *_: 500)
    found, plain = (encodings_of(new_trained(n), Split(COUNTS)) for n in (500, 0))
    if rate == 0:
        assert len(steps) == refine.EVERY * refine.PATIENCE
        torch.testing.assert_close(found[0], plain[0], rtol=0, atol=0)
    else:
        assert len(steps) < 500
        assert torch.isfinite(found[0]).all()
