"""Trials of unequal length and missing entries: in, through the model, and out again."""

import warnings

import h5py
import numpy as np
import pytest
import torch
from conftest import TINY

import lfads_lightning as lfads
from lfads_lightning import metrics
from lfads_lightning.config import LFADSError, SessionSpec
from lfads_lightning.data.datamodule import OrderedBatches, TrainingBatches, jitter_spikes
from lfads_lightning.data.given import by_session
from lfads_lightning.data.sessions import checked
from lfads_lightning.evaluation import baselines
from lfads_lightning.evaluation.baselines import Given
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.params import from_flat

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(40, 121, 12)
TRIALS = [RNG.poisson(0.7, (n, 5)) for n in LENGTHS]
INPUTS = [RNG.normal(size=(n, 2)) for n in LENGTHS]
POISSON = {"output_dist": "poisson", "ext_input_dim": 0, "factors_dim": 3, "warn": False}


def padded(fill, trials=TRIALS, n_bins=120):
    whole = np.full((len(trials), n_bins, trials[0].shape[1]), fill, float)
    for row, trial in zip(whole, trials, strict=True):
        row[: len(trial)] = trial
    return whole


def session_of(data):
    return checked(by_session(data, "data"), **POISSON)[0]


def new_trained(forward=0, held_out=(), **parameters):
    config = from_flat(TINY | parameters)
    torch.manual_seed(0)
    n_inputs = config.data.ext_input_dim
    spec = SessionSpec("session", 5, n_inputs, False, held_out=held_out, forward_steps=forward)
    model = LFADS(config.model, [spec])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return TrainedModel(model, config, None, 0)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"co_dim": 0},
        {"do_causal_controller": True, "controller_input_lag": 2},
        {"forward": 7, "held_out": (1, 3), "ext_input_dim": 2},
        {"recurrence": "reference", "controller_input_lag": 3, "output_dist": "gaussian"},
        {"num_steps_for_gen_ic": 30},
    ],
)
def test_each_trial_is_inferred_as_if_it_were_alone(how):
    trained = new_trained(**how)
    inputs = INPUTS if "ext_input_dim" in how else None
    whole = trained.posterior_push_mean(TRIALS, ext_input=inputs)
    for k, trial in enumerate(TRIALS):
        n = len(trial)
        ext = None if inputs is None else inputs[k][None]
        one = trained.posterior_push_mean(trial[None], ext_input=ext)
        for name in ("rates", "factors", "gen_states", "controller_outputs"):
            if getattr(one, name) is None:
                continue
            found, alone = getattr(whole, name)[k], getattr(one, name)[0]
            np.testing.assert_allclose(found[:n], alone, rtol=0, atol=1e-5)
            assert np.isnan(found[n:]).all()
        if how.get("co_dim") == 0:  # else a cost is that of a sample
            assert whole.costs[k] == pytest.approx(one.costs[0], rel=1e-5)
    some = trained.posterior_sample_and_average(TRIALS, 3, ext_input=inputs)
    assert np.isfinite(some.nll_bound_iwaes_true).all()
    assert (np.isnan(some.factors_sd[..., 0]).sum(1) == 120 - LENGTHS - (120 - LENGTHS.max())).all()


def ways(tmp_path):
    """Return the same trials as they may be given."""
    nan, minus = padded(np.nan), padded(-1)
    file, masked = tmp_path / "lengths.h5", tmp_path / "mask.h5"
    for path, key, value in (
        (file, "train_lengths", LENGTHS),
        (masked, "train_mask", ~np.isnan(nan)),
    ):
        with h5py.File(path, "w") as f:
            f["train_data"] = minus if path == file else padded(0)
            f[key] = value
    written = lfads.write_session(tmp_path / "written.h5", train_data=TRIALS)
    return [nan, np.ma.masked_array(minus, np.isnan(nan)), str(file), str(masked), str(written)]


def test_every_way_to_give_them_is_the_same_session(tmp_path):
    expected = session_of(TRIALS).train
    assert expected.data.dtype == np.uint8
    for data in ways(tmp_path):
        found = session_of(data).train.trimmed(LENGTHS.max())
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.lengths, LENGTHS)
        assert found.mask is None
    whole = np.stack([t[:40] for t in TRIALS])
    for data in (whole, whole.astype(float), np.ma.masked_array(whole, False), list(whole)):
        assert session_of(data).equal_trials


def test_missing_entries_are_not_encoded_nor_scored(tmp_path):
    """Whatever the data hold there; and what is shown is weighed up by what is there."""
    x = np.stack([t[:40] for t in TRIALS]).astype(float)
    gone = np.random.default_rng(1).random(x.shape) < 0.2
    gone[:, -1] = False
    trained, found = new_trained(co_dim=0), []
    nan = np.where(gone, np.nan, x)
    for fill in (0, 7):
        path = tmp_path / f"{fill}.h5"
        with h5py.File(path, "w") as file:
            file["train_data"], file["train_mask"] = np.where(gone, fill, x), ~gone
        found.append(trained.posterior_push_mean(str(path)))
    found.append(trained.posterior_push_mean(nan))
    found.append(trained.posterior_push_mean(np.ma.masked_array(x, gone)))
    for other in found[1:]:
        np.testing.assert_array_equal(other.rates, found[0].rates)
        np.testing.assert_array_equal(other.costs, found[0].costs)
    assert np.isfinite(found[0].rates).all()
    zeros = trained.posterior_push_mean(np.where(gone, 0, x))
    assert np.abs(zeros.rates - found[0].rates).max() > 1e-3
    terms = found[0].rates - x * np.log(found[0].rates)
    from scipy.special import gammaln

    nll = ((terms + gammaln(x + 1)) * ~gone).sum((1, 2))
    kl = found[0].nll_bound_vaes - nll
    assert (kl > -1e-3).all()  # it is the likelihood of what is there, and a divergence


def test_a_padded_copy_trains_the_same_model(tmp_path):
    """All that draws random numbers: dropout, jitter, hidden entries, scores."""
    x = np.stack([t[:40] for t in TRIALS])
    longer = np.concatenate([x, np.full((12, 9, 5), np.nan)], axis=1)
    same = {"max_epochs": 2, "coordinated_dropout_rate": 0.3, "sample_validation_rate": 0.2,
            "temporal_spike_jitter_width": 2, "forward_steps": 3,
            "held_out_neurons": 0.4}  # fmt: skip
    runs = []
    for name, data in (("a", x), ("b", longer)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runs.append(lfads.fit(data, lfads_save_dir=tmp_path / name, **TINY | same))
    for key, value in runs[0].model.state_dict().items():
        torch.testing.assert_close(runs[1].model.state_dict()[key], value, rtol=0, atol=1e-6)
    for key, value in runs[0].scores.items():
        if isinstance(value, float) and key != "seconds":
            assert runs[1].scores[key] == pytest.approx(value, rel=1e-5), key
    rates = [
        run.posterior_push_mean(data).rates for run, data in zip(runs, (x, longer), strict=True)
    ]
    np.testing.assert_allclose(rates[1][:, :40], rates[0], rtol=0, atol=1e-6)
    assert np.isnan(rates[1][:, 40:]).all()


def test_a_run_on_such_trials(tmp_path, reports):
    """Training, scores, simple methods, figures and files, with all that a session may have."""
    nan = [t.astype(float) for t in TRIALS]
    for k, trial in enumerate(nan):
        trial[:, k % 5] = np.nan
        trial[10:15] = np.nan
    wave = 0.7 + 0.1 * np.sin(np.arange(121))[:, None] * np.ones(5)
    keys = {"truth": [wave[: len(t)] for t in TRIALS],
            "behaviour": [t[:, :2] for t in TRIALS], "condition": np.arange(12) % 2}  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trained = lfads.fit(
            nan, **keys, event="go", window_s=(-0.2, 1), bin_width_s=0.01, valid_fraction=0.4,
            lfads_save_dir=tmp_path / "run", **TINY | {"max_epochs": 2, "report": True},
            held_out_neurons=[1], forward_steps=4,
        )  # fmt: skip
    texts = [str(w.message) for w in told]
    assert any("entries of train_data are missing" in text for text in texts)
    assert not any("could not be" in text for text in texts), texts
    (part,) = trained.comparison.parts
    for name in (
        "co_bps",
        "bits_per_spike",
        "hidden_bits_per_spike",
        "rate_r2",
        "fp_bps",
        "psth_r2",
    ):
        assert np.isfinite(part.rows["LFADS"][name]), name
    assert np.isfinite(list(part.rows["smoothing"].values())).all()
    assert (tmp_path / "run/report.html").exists()
    reloaded = lfads.load(tmp_path / "run")
    assert reloaded.posterior_push_mean(TRIALS[:3]).rates.shape == (3, max(LENGTHS[:3]), 5)


def test_batches_hold_trials_of_similar_length():
    lengths = {"a": RNG.integers(40, 121, 100)}
    of = lengths["a"]
    batches = TrainingBatches({"a": 100}, 10, 0, lengths=lengths)
    drawn = list(batches)
    assert sorted(np.concatenate([b.trials for b in drawn])) == list(range(100))
    spread = np.mean([np.ptp(of[b.trials]) for b in drawn])
    assert spread < 0.4 * np.mean(
        [np.ptp(of[b.trials]) for b in TrainingBatches({"a": 100}, 10, 0)]
    )
    assert all(b.n_bins == of[b.trials].max() for b in drawn)
    batches.set_epoch(1)
    again = {frozenset(b.trials.tolist()) for b in batches}
    assert len(again & {frozenset(b.trials.tolist()) for b in drawn}) < 5
    parts = [list(TrainingBatches({"a": 100}, 10, 0, (i, 2), lengths=lengths)) for i in range(2)]
    assert all(a.n_bins == b.n_bins for a, b in zip(*parts, strict=True))
    ordered = [i for b in OrderedBatches({"a": 100}, 10, lengths=lengths) for i in b.trials]
    assert (np.diff(of[ordered]) >= 0).all()


def test_jitter_stays_within_each_trial():
    counts = torch.tensor(padded(0))
    lengths = torch.tensor(LENGTHS)
    there = (torch.arange(120) < lengths[:, None])[..., None].repeat(1, 1, 5)
    there[:, 20:30, 1] = False
    counts = counts * there
    moved = jitter_spikes(counts, 50, torch.Generator().manual_seed(0), there, lengths)
    assert (moved[~there] == 0).all()
    assert torch.equal(moved.sum(1), counts.sum(1).float())
    assert not torch.equal(moved, counts.float())


def test_simple_methods_use_what_is_there():
    """A tenth missing changes little; the same tenth filled with zeros lowers every rate."""
    rates = 1 + 0.8 * np.sin(np.arange(60) / 5)[:, None] * np.ones(6)
    x = np.random.default_rng(2).poisson(rates, (60, 60, 6)).astype(float)
    gone = np.random.default_rng(3).random((60, 1, 6)) < 0.1
    nan = np.where(gone, np.nan, x)
    for whole, part in zip(
        baselines.baselines(Given(x, x, [5], 0, None, None, 2, True)),
        baselines.baselines(Given(nan, nan, [5], 0, None, None, 2, True)),
        strict=True,
    ):
        a, b = (metrics.bits_per_spike(g.test[..., :5], nan[..., :5]) for g in (whole, part))
        assert b == pytest.approx(a, abs=0.03), whole.name
        a, b = (metrics.bits_per_spike(g.test[..., 5:], x[..., 5:]) for g in (whole, part))
        assert b == pytest.approx(a, abs=0.03), whole.name


SOME = np.ones((4, 6, 3))


@pytest.mark.parametrize(
    ("data", "keys", "message"),
    [
        (SOME, {"lengths": [6, 6, 7, 6]}, r"train_lengths\[2\] is 7; expected 1 to 6 bins"),
        (SOME, {"lengths": [6, 0, 6, 6]}, r"train_lengths\[1\] is 0; expected 1 to 6 bins"),
        (SOME, {"lengths": [6, 6, 6]}, "train_lengths is 3; expected 4 labels, one per trial"),
        (SOME, {"mask": np.ones((4, 6))}, "train_mask is 4×6, train_data is 4×6×3; both must have"),
        (SOME, {"mask": 2 * SOME}, r"train_mask\[0, 0, 0\] is 2.0; expected 1 where"),
        (SOME, {"mask": SOME * [[[1]], [[1]], [[0]], [[1]]]}, "all entries of trial 2 of train_d"),
        (
            [SOME[0], SOME[0, :4]],
            {"lengths": [6, 5]},
            "train_lengths is given, but the",
        ),
        (SOME, {"lengths": [6, 4, 6, 6], "forward_steps": 4}, "forward_steps=4 of 4 bins leaves"),
        (np.where(SOME, np.inf, 0), {}, r"train_data\[0, 0, 0\] is inf; counts must be finite"),
        ([SOME[0], SOME[0].T], {}, "its trials differ in length"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*valid_data is missing")
def test_what_cannot_be_is_refused(data, keys, message, tmp_path):
    with pytest.raises(LFADSError, match=message):
        lfads.fit(data, valid_fraction=0, lfads_save_dir=tmp_path / "run", **TINY, **keys)
