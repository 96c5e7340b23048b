"""The likelihood of entries that are hidden from the encoders: what is hidden, what is scored."""

import numpy as np
import pytest
import scipy.stats
import torch

from lfads_lightning.config import OutputDist, SessionSpec
from lfads_lightning.data.datamodule import Batch, LFADSDataModule
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.observations import from_name
from lfads_lightning.training.hidden import N_SAMPLES, HiddenEntries


@pytest.fixture
def seen(monkeypatch):
    """What encoders are shown, pass by pass: data times what they are multiplied by."""
    found, original = [], LFADS.encode

    def noted(self, data, *args, visibility, **more):
        found.append(visibility.shown)
        return original(self, data, *args, visibility=visibility, **more)

    monkeypatch.setattr(LFADS, "encode", noted)
    return found


def test_each_entry_is_hidden_once_and_the_others_are_weighed_up(new_model, spikes, seen):
    HiddenEntries([Batch("a", spikes)], 4).look(new_model())
    assert len(seen) == 5
    hidden = torch.stack(seen) == 0
    assert (hidden.sum(0) == 1).all()
    assert set(torch.stack(seen).unique().tolist()) == {0.0, 1.25}


def test_rates_that_no_data_move_have_the_likelihood_of_all_entries(new_model, spikes):
    model = new_model(ic_dim=0, co_dim=0)
    rates = model(spikes, "a").output_dist_params.detach().numpy()
    expected = -scipy.stats.poisson.logpmf(spikes.numpy(), rates).sum() / len(spikes)
    found = HiddenEntries([Batch("a", spikes)], 4).look(model)
    assert found.mean().item() == pytest.approx(expected, rel=1e-5)
    parts = [HiddenEntries([Batch("a", spikes)], 4).look(model, k, 3) for k in range(3)]
    assert sum(parts).mean().item() == pytest.approx(expected, rel=1e-5)  # of three devices


def test_held_out_neurons_and_forward_bins_are_left_out(new_config, spikes):
    torch.manual_seed(0)
    spec = SessionSpec("a", 5, held_out=(1, 3), forward_steps=2)
    model = LFADS(new_config(ic_dim=0, co_dim=0).model, [spec])
    rates = model(spikes, "a").output_dist_params.detach().numpy()
    each = -scipy.stats.poisson.logpmf(spikes.numpy(), rates)[:, :6, [0, 2, 4]]
    found = HiddenEntries([Batch("a", spikes)], 4).look(model)
    assert found.mean().item() == pytest.approx(each.sum() / len(spikes), rel=1e-5)


def test_rates_are_averaged_over_samples_before_their_likelihood(new_model, spikes, monkeypatch):
    model = new_model(ic_dim=0, co_dim=0)
    levels = torch.tensor([0.1, 0.4, 2.0, 9.0])[:N_SAMPLES].log()

    def read_out(factors, session):  # a rate for each sample, whatever the factors
        return levels.repeat_interleave(4)[:, None, None].expand(-1, 8, 5), ()

    monkeypatch.setattr(model, "read_out", read_out)
    found = HiddenEntries([Batch("a", spikes)], 4).look(model)
    expected = -scipy.stats.poisson.logpmf(spikes.numpy(), 11.5 / 4).sum() / 4
    assert found.mean().item() == pytest.approx(expected, rel=1e-5)


def test_looks_are_alike_for_every_seed_and_any_memory(new_model, spikes):
    model, values = new_model(), []
    for seed, memory_mb in ((0, 256), (1, 256)):
        torch.manual_seed(seed)
        values.append(
            HiddenEntries([Batch("a", spikes)], 4, memory_mb=memory_mb).look(model).mean()
        )
    assert values[0] == values[1]
    entries = HiddenEntries([Batch("a", spikes)], 4)
    entries.memory = 1  # one trial a pass: other random numbers
    assert entries.look(model).mean().item() == pytest.approx(values[0].item(), rel=0.05)


def test_looks_are_rarer_where_they_cost_more():
    trials = torch.zeros(300, 2, 1)
    assert HiddenEntries([Batch("a", trials[:60])], 128).every == 20
    assert HiddenEntries([Batch("a", trials)], 128).every == 63
    assert HiddenEntries([Batch("a", trials)], 8).every == 1000


def test_first_validation_trials_are_shared_among_sessions(counts):
    sessions = sessions_from_arrays(
        {"a": counts, "b": counts},
        {"a": counts, "b": counts[:2]},
        output_dist="poisson",
        ext_input_dim=0,
        factors_dim=3,
    )
    batches = LFADSDataModule(sessions, 4).first_validation_trials(10)
    assert [(b.session, len(b.data)) for b in batches] == [("a", 5), ("b", 2)]


@pytest.mark.parametrize("name", OutputDist.names())
def test_likelihood_by_parameters_is_that_of_the_read_out(name, new_model, spikes):
    model = new_model(output_dist=name)
    output, noise = model(spikes, "a"), from_name(name)
    weight = torch.rand(spikes.shape)
    torch.testing.assert_close(
        noise.nll_of_params(output.output_dist_params, spikes, weight),
        noise.nll(output.log_rates, output.extras, spikes, 80.0, weight),
    )
    assert np.isfinite(
        noise.nll_of_params(torch.zeros_like(output.output_dist_params) + 1e-30, spikes * 0)
        .detach()
        .numpy()
    ).all()
