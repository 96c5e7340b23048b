"""The masks against copying, and the warnings of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lfads_lightning.config import LossConfig
from lfads_lightning.data.datamodule import Batch, LFADSDataModule, entries_never_shown
from lfads_lightning.data.sessions import Session, Split, sessions_from_arrays
from lfads_lightning.inference import copying
from lfads_lightning.inference.posterior import Posterior
from lfads_lightning.metrics import bits_per_spike
from lfads_lightning.model.loss import compute_loss, reconstruction
from lfads_lightning.model.observations import from_name
from lfads_lightning.model.visibility import coordinated, sample_validation
from lfads_lightning.training.module import LFADSModule
from lfads_lightning.training.watch import CopyingWatch


@pytest.mark.parametrize("output_dist", ["poisson", "gaussian"])
def test_scored_entries_alone_make_the_loss_and_its_gradient(new_model, spikes, output_dist):
    """Against the sum over entries, written out."""
    model = new_model(output_dist=output_dist)
    kept = (torch.rand(spikes.shape, generator=torch.Generator().manual_seed(0)) < 0.6) / 0.6
    view = coordinated(kept, 0.4)
    output = model(spikes, "a", None)
    output.log_rates.retain_grad()
    recon = reconstruction(model, output, spikes, view)
    recon.sum().backward()
    if output_dist == "poisson":
        density = torch.distributions.Poisson(output.log_rates.exp(), validate_args=False)
    else:
        density = torch.distributions.Normal(output.log_rates, (0.5 * output.extras[0]).exp())
    expected = -(density.log_prob(spikes) * (kept == 0)).sum((1, 2)) / 0.4
    torch.testing.assert_close(recon, expected, rtol=1e-5, atol=1e-4)
    assert output.log_rates.grad[kept > 0].abs().max() < 1e-30
    assert (output.log_rates.grad[kept == 0] != 0).all()


def test_parts_of_a_trial_are_weighed_up_to_it(new_model, spikes):
    """The mean over masks of what is scored is the cost of the whole."""
    model = new_model()
    output = model(spikes, "a", None)
    whole = reconstruction(model, output, spikes).detach()
    rng, costs, never_costs = torch.Generator().manual_seed(0), [], []
    for _ in range(400):
        never = torch.rand(spikes.shape, generator=rng) < 0.25
        view, only_never = sample_validation(never, 0.25, model.factor_weight)
        kept = (torch.rand(spikes.shape, generator=rng) < 0.5) / 0.5
        view = view.also(coordinated(kept, 0.5))
        assert (view.weight[never] == 0).all()
        assert (view.shown[never] == 0).all()
        costs.append(reconstruction(model, output, spikes, view).detach())
        never_costs.append(reconstruction(model, output, spikes, only_never).detach())
    torch.testing.assert_close(torch.stack(costs).mean(0), whole, rtol=0.1, atol=0)
    torch.testing.assert_close(torch.stack(never_costs).mean(0), whole, rtol=0.1, atol=0)


def test_no_entry_reaches_its_own_score(new_model, spikes):
    """What copying is: here the value of a scored entry has no way into the rates."""
    model = new_model(keep_prob=1.0)
    kept = (torch.rand(spikes.shape, generator=torch.Generator().manual_seed(0)) < 0.5) / 0.5
    view = coordinated(kept, 0.5)
    data = spikes.float().requires_grad_()
    noise = model.draw_noise(*spikes.shape[:2], torch.Generator().manual_seed(1))
    output = model(data, "a", None, noise, visibility=view)
    loss = compute_loss(model, output, spikes, LossConfig(), 1.0, 1.0, view).recon
    (seen,) = torch.autograd.grad(loss, data)
    assert (seen[view.weight > 0] == 0).all()
    assert (seen[view.weight == 0] != 0).any()


def test_jitter_moves_no_spike_out_of_entries_never_shown():
    counts = np.ones((6, 40, 3), np.uint8)
    sessions = sessions_from_arrays(
        {"a": counts}, output_dist="poisson", ext_input_dim=0, factors_dim=3, warn=False
    )
    data = LFADSDataModule(sessions, 6, jitter_width=4, sample_validation_rate=0.3)

    class Training:
        training, global_step = True, 0

    bits = entries_never_shown(counts.shape, 0.3, 0, "a", "train")
    never = torch.from_numpy(np.unpackbits(bits, axis=2, count=3).view(bool))
    data.trainer = Training()
    whole = torch.from_numpy(counts)
    served = data.on_after_batch_transfer(Batch("a", whole, never_shown=never), 0).data
    assert (served[never] == 1).all()
    assert not torch.equal(served, whole.float())
    assert served[~never].sum() <= (~never).sum()


@pytest.fixture
def judged(monkeypatch):
    """Judge made-up rates, by what the model is shown of the counts."""

    def judge(counts, rates_of):
        def infer(run, session, split, shown):
            nothing = Posterior(*[None] * len(Posterior._fields))
            return nothing._replace(rates=rates_of(split.data, shown))

        monkeypatch.setattr(copying, "judged_rates", infer)
        model = SimpleNamespace(
            noise_model=from_name("poisson"), encoded=SimpleNamespace(unseen=lambda *_: None)
        )
        parts = copying.parts_to_hide(counts.shape)
        run = SimpleNamespace(model=model)
        rates, gains, _ = copying.predict_hidden(run, "a", Split(counts), parts)
        whole = bits_per_spike(rates, counts)  # every entry is hidden once
        assert copying.bits_of_hidden_entries([gains])[1] == pytest.approx(whole, rel=1e-4)
        return gains

    return judge


@pytest.fixture(scope="module")
def simulated():
    """Sixty trials of sparse counts from rates that move, (rates, counts)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (60, 1, 20))
    rates = 0.1 * np.exp(1.2 * np.sin(np.linspace(0, 9, 50)[None, :, None] + phase))
    return rates, rng.poisson(rates).astype(np.uint8)


def test_copied_spikes_are_given_away_by_hidden_entries(judged, simulated):
    rates, counts = simulated
    gains = judged(counts, lambda data, shown: 0.1 + 0.8 * data * (shown > 0))
    seen, hidden = copying.bits_of_hidden_entries([gains])
    assert seen > 1
    assert hidden < 0
    assert "copies the spikes it sees" in copying.hidden_entries_message([gains])


def test_true_rates_are_no_copies(judged, simulated):
    rates, counts = simulated
    gains = judged(counts, lambda data, shown: rates)
    seen, hidden = copying.bits_of_hidden_entries([gains])
    assert hidden == pytest.approx(seen, rel=0.2)
    assert copying.hidden_entries_message([gains]) is None
    assert copying.better_than_truth_message(rates, rates, counts) is None


def test_rates_better_than_the_truth_are_copies(simulated):
    rates, counts = simulated
    copied = 0.7 * rates + 0.3 * counts
    assert "better than the true rates" in copying.better_than_truth_message(copied, rates, counts)
    # a truth that explains nothing is none
    fake = np.roll(rates, 17, axis=0)
    assert copying.better_than_truth_message(copied, fake, counts) is None


# --- while training ---


class Told:
    """A trainer and a module that say what an epoch came to."""

    is_global_zero, current_epoch = True, 7


def look(watch, monkeypatch, **metrics):
    module = LFADSModule.__new__(LFADSModule)
    object.__setattr__(module, "metrics", {f"valid/{k}_smoothed": v for k, v in metrics.items()})
    monkeypatch.setattr("lfads_lightning.training.watch.ramps_complete", lambda module: True)
    watch.on_train_epoch_end(Told, module)


@pytest.fixture
def watched(simulated):
    """Watch over the simulated trials, with their truth or without."""
    rates, counts = simulated

    def make(with_truth):
        split = Split(counts, None, rates.astype(np.float32) if with_truth else None)
        return CopyingWatch([Session("a", split, split)])

    return make


def test_reconstruction_below_that_of_the_truth_is_warned_of_once(watched, monkeypatch):
    watch = watched(True)
    look(watch, monkeypatch, recon=watch.truth)
    with pytest.warns(UserWarning, match="epoch 7: the model copies .* of the true rates"):
        look(watch, monkeypatch, recon=0.98 * watch.truth)
    look(watch, monkeypatch, recon=0.5 * watch.truth)
    unknown = watched(False)
    look(unknown, monkeypatch, recon=0.5 * watch.truth)


def test_reconstruction_far_below_the_entries_never_shown_is_warned_of(watched, monkeypatch):
    watch = watched(False)
    gained = watch.null - 100
    look(watch, monkeypatch, recon=gained, sample_recon=gained + 30)
    with pytest.warns(UserWarning, match="of entries that it was never shown"):
        look(watch, monkeypatch, recon=gained, sample_recon=gained + 60)
