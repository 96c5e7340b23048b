"""Held-out neurons and forward bins: predicted and scored, never encoded."""

import csv
import math
import warnings

import numpy as np
import pytest
import torch
from conftest import TINY

import lfads_lightning as lfads
from lfads_lightning.config import DataConfig, LFADSError, LossConfig, SessionSpec
from lfads_lightning.data.datamodule import Batch
from lfads_lightning.data.held_out import held_out_columns, session_spec
from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.inference.posterior import push_mean, sample_and_average
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.metrics import bits, bits_per_spike
from lfads_lightning.model.alignment import align
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import compute_loss, inferred_input_kl, reconstruction
from lfads_lightning.model.recurrences import NATIVE, REFERENCE
from lfads_lightning.model.visibility import Visibility, coordinated, sample_validation
from lfads_lightning.params import from_flat
from lfads_lightning.training import predictions

B, T, D = 4, 8, 5
OUT, FORWARD = (1, 3), 3
SEEN = [0, 2, 4]


@pytest.fixture
def new(new_config):
    """Make a tiny model with held-out neurons and forward bins, its weights moved off 0."""

    def make(neurons=None, held_out=OUT, forward_steps=FORWARD, aligned=False, **parameters):
        config = new_config(**parameters)
        ext = config.data.ext_input_dim
        specs = [
            SessionSpec(name, d, ext, aligned, held_out, forward_steps)
            for name, d in (neurons or {"a": D}).items()
        ]
        torch.manual_seed(0)
        model = LFADS(config.model, specs)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.3 * torch.randn_like(p))
        return model

    return make


def noise_of(model, n_bins=T):
    return model.draw_noise(B, n_bins, torch.Generator().manual_seed(3))


def changed_where_unseen(spikes):
    other = spikes.clone()
    other[:, :, list(OUT)] += 2
    other[:, -FORWARD:] += 3
    return other


SWITCHES = [
    {},
    {"co_dim": 0},
    {"ic_dim": 0},
    {"do_causal_controller": True},
    {"controller_input_lag": 0},
    {"controller_input_lag": 4},
    {"num_steps_for_gen_ic": 2},
    {"output_dist": "gaussian"},
    {"feedback_factors_or_rates": "rates"},
    {"do_feed_factors_to_controller": False},
    {"ext_input_dim": 2},
    {"ext_input_dim": 2, "inject_ext_input_to_gen": True},
    {"ext_input_dim": 2, "inject_ext_input_to_gen": True, "co_dim": 0},
    {"neurons": {"a": D, "b": 4}},
    {"aligned": True},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_what_is_held_out_reaches_no_encoding_and_is_scored(new, spikes, switches):
    model = new(**switches)
    ext = torch.randn(B, T, 2) if "ext_input_dim" in switches else None
    other, noise = changed_where_unseen(spikes), noise_of(model)
    one, two = (model(x, "a", ext, noise) for x in (spikes, other))
    for name, a, b in zip(one.encoding._fields, one.encoding, two.encoding, strict=True):
        assert a is None or torch.equal(a, b), name
    assert torch.equal(one.log_rates, two.log_rates)
    assert one.log_rates.shape == (B, T, D)
    assert (reconstruction(model, one, spikes) != reconstruction(model, two, other)).all()
    # every output counts in the loss
    one.log_rates.retain_grad()
    compute_loss(model, one, spikes, LossConfig(), 1.0, 1.0).total.backward()
    assert (one.log_rates.grad != 0).all()
    # and each bin and neuron that is seen does reach them
    for bin_, neuron in ((0, 0), (T - FORWARD - 1, 4)):
        third = spikes.clone()
        third[:, bin_, neuron] += 1
        if switches.get("num_steps_for_gen_ic") == 2 or switches.get("ic_dim") == 0:
            continue
        assert not torch.equal(model(third, "a", ext, noise).log_rates, one.log_rates)


def test_a_model_that_sees_everything_has_no_other_numbers(new, new_model, spikes):
    plain, spec = new_model(), new(held_out=(), forward_steps=0)
    spec.load_state_dict(plain.state_dict())
    for a, b in zip(
        *(m(spikes, "a", None, noise_of(m)).states for m in (plain, spec)), strict=True
    ):
        assert torch.equal(a, b)


def test_encoders_read_as_a_model_of_the_seen_part_alone(new, spikes):
    """Second way: the encodings are those of a model that was given only what is seen."""
    model = new()
    alone = new({"a": len(SEEN)}, held_out=(), forward_steps=0)
    state = {k: v for k, v in model.state_dict().items() if "readout" not in k}
    alone.load_state_dict(state, strict=False)
    small = spikes[:, : T - FORWARD, SEEN]
    for a, b in zip(model.encode(spikes, "a"), alone.encode(small, "a"), strict=True):
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("drive_with_means", [False, True])
def test_forward_inputs_follow_their_prior(new, spikes, drive_with_means):
    """Written out bin by bin, with the loop of the generator alone."""
    model, n = new(), T - FORWARD
    noise = noise_of(model)
    states = model(spikes, "a", None, noise, use_means=drive_with_means).states
    phi = torch.exp(-1 / model.co_prior.log_tau.exp())
    innovation = model.co_prior.log_innovation_var.exp()
    u, mean = states.co_samples[:, n - 1], states.co_means[:, n - 1]
    var = states.co_logvars[:, n - 1].exp()
    g = states.gen_states[:, n - 1]
    for t in range(n, T):
        u, mean = phi * u + innovation.sqrt() * noise.co[:, t], phi * mean
        var = phi**2 * var + innovation
        torch.testing.assert_close(states.co_samples[:, t], u)
        torch.testing.assert_close(states.co_means[:, t], mean)
        torch.testing.assert_close(states.co_logvars[:, t].exp(), var)
        drive = mean if drive_with_means else u
        later = model._run(g, None, 1, drive[:, None], None)
        g = later.gen_states[:, 0]
        torch.testing.assert_close(states.gen_states[:, t], g)
        torch.testing.assert_close(states.factors[:, t], g @ model.normalised_factor_weight())
    assert states.con_states.shape[1] == n


def test_forward_spread_is_that_of_samples(new, spikes):
    """Over samples of the last bin's posterior, which differs between them by its mean."""
    model, n = new(), T - FORWARD
    many = spikes[:1].repeat(20000, 1, 1)
    with torch.no_grad():
        states = model(many, "a").states
    spread = (states.co_samples - states.co_means)[:, n:]
    expected = (0.5 * states.co_logvars[:, n:]).exp()
    ratio = (spread / expected).std(0)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0.03, atol=0)


@pytest.mark.parametrize("analytic", [False, True])
def test_forward_bins_do_not_diverge_from_the_prior(new, spikes, analytic):
    """The sum over all bins, with q = p where nothing is seen, is that over the bins seen."""
    model, n = new(), T - FORWARD
    output = model(spikes, "a", None, noise_of(model))
    like = output.log_rates.sum((1, 2))
    found = inferred_input_kl(model, output, analytic, like)
    if analytic:
        inputs = ("co_means", "co_logvars", "co_samples")
        seen = {name: getattr(output.states, name)[:, :n] for name in inputs}
        cut = output._replace(states=output.states._replace(**seen))
        whole = new(forward_steps=0)
        whole.load_state_dict(model.state_dict())
        expected = inferred_input_kl(whole, cut, True, like)
    else:
        normal = torch.distributions.Normal
        s = output.states
        posterior = normal(s.co_means[:, :n], (0.5 * s.co_logvars[:, :n]).exp())
        scale = (0.5 * model.co_prior.log_innovation_var).exp()
        prior_later = normal(model.co_prior.phi() * s.co_samples[:, n - 1 : -1], scale)
        log_q = posterior.log_prob(s.co_samples[:, :n]).sum((1, 2))
        log_q = log_q + prior_later.log_prob(s.co_samples[:, n:]).sum((1, 2))
        expected = log_q - model.co_prior.log_density(s.co_samples)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_priors_parameters_learn_from_forward_bins(new, spikes):
    model = new()
    output = model(spikes, "a", None, noise_of(model))
    late = torch.zeros(B, T, D)
    late[:, -FORWARD:] = 1
    reconstruction(model, output, spikes, Visibility(weight=late)).sum().backward()
    for p in (model.co_prior.log_tau, model.co_prior.log_innovation_var):
        assert (p.grad != 0).all()


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_native_kernels_give_the_same(new, spikes, switches):
    model = new(**switches)
    ext = torch.randn(B, T, 2) if "ext_input_dim" in switches else None
    noise, masks = noise_of(model), model.draw_masks(B, T, torch.Generator().manual_seed(1))
    numbers = []
    for passes in (REFERENCE, NATIVE):
        model.passes = passes
        model.zero_grad()
        output = model(spikes, "a", ext, noise, masks)
        total = compute_loss(model, output, spikes, LossConfig(), 1.0, 1.0).total
        total.backward()
        grads = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
        numbers.append((output.log_rates.detach(), grads))
    torch.testing.assert_close(numbers[0], numbers[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_triton_kernels_give_the_same(new, spikes):
    triton_passes = pytest.importorskip("lfads_lightning.model.triton_passes")
    model = new()
    noise, rates = noise_of(model), []
    for passes in (REFERENCE, triton_passes.PASSES):
        model.passes = model.passes._replace(
            encoder_passes=passes.encoder_passes, decoder_pass=passes.decoder_pass
        )
        with torch.no_grad():
            rates.append(model(spikes, "a", None, noise).log_rates)
    torch.testing.assert_close(rates[0], rates[1], rtol=1e-4, atol=1e-4)


def test_readin_starts_at_the_rows_of_the_neurons_seen(new):
    model = new(aligned=True)
    matrix, bias = torch.randn(D, 3), torch.rand(D)
    align(model, "a", matrix, bias)
    x = torch.randn(7, D)
    readin = model.readin["session_a"](x[:, SEEN])
    torch.testing.assert_close(readin, (x - bias)[:, SEEN] @ matrix[SEEN])
    torch.testing.assert_close(model.readout["session_a"].weight, matrix.T)


def test_coordinated_dropout_scores_all_that_is_never_seen(new, spikes):
    model, rng = new(), torch.Generator().manual_seed(0)
    output = model(spikes, "a", None, noise_of(model))
    never = model.encoded.unseen("a", T)
    assert never.sum() == T * D - (T - FORWARD) * len(SEEN)
    log_prob = torch.distributions.Poisson(output.log_rates.exp()).log_prob(spikes)
    kept = (torch.rand(spikes.shape, generator=rng) < 0.6) / 0.6
    view = coordinated(kept, 0.4, never)
    hidden = (kept == 0) & ~never
    expected = -(log_prob * never).sum((1, 2)) - (log_prob * hidden).sum((1, 2)) / 0.4
    torch.testing.assert_close(reconstruction(model, output, spikes, view), expected)
    # and with sample validation, whose entries are not scored at all
    held = torch.rand(spikes.shape, generator=rng) < 0.25
    view, _ = sample_validation(held, 0.25, model.factor_weight)
    view = view.also(coordinated(kept, 0.4, never))
    expected = -(log_prob * never * ~held).sum((1, 2)) / 0.75
    expected = expected - (log_prob * hidden * ~held).sum((1, 2)) / 0.4 / 0.75
    torch.testing.assert_close(reconstruction(model, output, spikes, view), expected)


def test_bits_per_spike_while_training_are_those_of_the_rates(new, counts, new_config):
    """Against numpy on the same rates; two sessions, of unlike size, scored together."""
    model = new({"a": D, "b": 4})
    data = {"a": counts, "b": counts[:7, :, :4]}
    sessions = [Session(n, Split(x), Split(x)) for n, x in data.items()]
    nulls = predictions.nulls(sessions, model)
    assert list(nulls) == ["bits_per_spike", "co_bps", "fp_bps"]
    total, gains = torch.zeros(3), np.zeros(3)
    for name, x in data.items():
        spikes = torch.tensor(x)
        with torch.no_grad():
            output = model(spikes, name)
        total += len(x) * predictions.log_likelihoods(
            model, output, Batch(name, spikes), list(nulls)
        )
        rates = output.output_dist_params.numpy()
        parts = [np.s_[:], np.s_[:, : T - FORWARD, list(OUT)], np.s_[:, -FORWARD:, :]]
        gains += [bits_per_spike(rates[p], x[p]) * x[p].sum() for p in parts]
    spikes = [sum(x.sum() for x in data.values()),
              sum(x[:, : T - FORWARD, list(OUT)].sum() for x in data.values()),
              sum(x[:, -FORWARD:].sum() for x in data.values())]  # fmt: skip
    found = [bits(v / 19 - null.log_likelihood, null.spikes)
             for v, null in zip(total.tolist(), nulls.values(), strict=True)]  # fmt: skip
    assert found == pytest.approx(gains / spikes, rel=1e-4)


def test_all_spikes_are_scored_where_nothing_is_held_out(counts, tmp_path):
    trained = lfads.fit(counts, max_epochs=1, lfads_save_dir=str(tmp_path / "a"), **TINY)
    with (tmp_path / "a" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert [k for k in row if k.endswith("per_spike") or k.endswith("bps")] == [
        "valid/bits_per_spike"
    ]
    assert math.isfinite(float(row["valid/bits_per_spike"]))
    assert trained.model.noise_model.is_counts
    more = {"output_dist": "gaussian", "lfads_save_dir": str(tmp_path / "b")}
    lfads.fit(counts.astype(float), max_epochs=1, **TINY | more)
    assert "per_spike" not in (tmp_path / "b" / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory, counts):
    """Train two epochs with everything at once."""
    folder = tmp_path_factory.mktemp("run")
    settings = {"ic_dim": 4, "factors_dim": 3, "ic_enc_dim": 7, "gen_dim": 6, "ci_enc_dim": 8}
    settings |= {
        "con_dim": 9,
        "co_dim": 2,
        "batch_size": 5,
        "device": "cpu:0",
        "recipe": "original",
        "report": False,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the model copies")  # after two epochs it may
        trained = lfads.fit(
            counts,
            held_out_neurons=[1, 3],
            forward_steps=FORWARD,
            coordinated_dropout_rate=0.3,
            sample_validation_rate=0.1,
            temporal_spike_jitter_width=1,
            max_epochs=2,
            lfads_save_dir=str(folder),
            **settings,
        )
    return trained, folder


def test_training_logs_what_is_predicted(run):
    trained, folder = run
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("valid/co_bps", "valid/fp_bps"):
        assert all(np.isfinite(float(row[name])) for row in rows)
    assert next(iter(trained.sessions.values())).held_out == OUT


def test_a_loaded_model_sees_the_same_part(run, counts):
    trained, folder = run
    again = lfads.load(folder)
    assert again.sessions == trained.sessions
    whole = again.posterior_push_mean(counts).rates
    np.testing.assert_allclose(whole, trained.posterior_push_mean(counts).rates, rtol=1e-6)
    other = changed_where_unseen(torch.tensor(counts)).numpy()
    np.testing.assert_array_equal(again.posterior_push_mean(other).rates, whole)
    averaged = again.posterior_sample_and_average(counts, num_samples=3)
    same = again.posterior_sample_and_average(other, num_samples=3)
    np.testing.assert_array_equal(same.rates, averaged.rates)
    assert averaged.rates.shape == counts.shape
    assert np.isfinite(averaged.nll_bound_iwaes_true).all()
    with pytest.raises(LFADSError, match="trials have 3 bins, but the model predicts the last 3"):
        again.posterior_push_mean(counts[:, :3])


def test_a_checkpoint_from_before_says_that_everything_is_seen(new_model, tmp_path):
    """Its record of a session has four entries."""
    model = new_model()
    trained = TrainedModel(model, from_flat({}), T, 3)
    trained.config.model = model.config
    trained.save(tmp_path / "run")
    (path,) = (tmp_path / "run" / "checkpoints").glob("*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["lfads"]["sessions"] = [list(s[:4]) for s in checkpoint["lfads"]["sessions"]]
    for name in ("held_out_neurons", "held_out_seed", "forward_steps"):
        del checkpoint["lfads"]["config"]["data"][name]
    torch.save(checkpoint, path)
    assert lfads.load(tmp_path / "run").sessions == model.sessions


def test_a_run_is_not_continued_with_other_neurons(run, counts):
    _, folder = run
    with pytest.raises(LFADSError, match=r"held out 1, 3, 3 forward bins.*held out 0, 3 forward"):
        lfads.fit(
            counts,
            lfads_save_dir=str(folder),
            **{
                "held_out_neurons": [0],
                "forward_steps": FORWARD,
                "device": "cpu:0",
                "recipe": "original",
            },
        )


def test_importance_weights_leave_forward_bins_out(new, counts, new_config):
    """With one sample the bound is recon + KL, sample by sample, whatever the prior's part."""
    model = new()
    trained = TrainedModel(model, new_config(), T, 0)
    one = sample_and_average(trained.evaluation(), "a", Split(counts), 1)
    mean = push_mean(trained.evaluation(), "a", Split(counts))
    assert one.nll_bound_iwaes == pytest.approx(one.nll_bound_vaes, rel=1e-6)
    phi = model.co_prior.phi().detach().numpy()
    u = mean.controller_outputs
    np.testing.assert_allclose(u[:, -1], u[:, -2] * phi, rtol=1e-5)


# --- which neurons ---


def session(d=8, key=None, name="a", n_bins=T):
    data = np.zeros((2, n_bins, d), np.uint8)
    return Session(name, Split(data), held_out_neurons=key)


def test_share_is_drawn_by_seed_and_session():
    one = held_out_columns(session(), 0.25, 0)
    assert len(one) == 2
    assert one == held_out_columns(session(), 0.25, 0)
    assert len({held_out_columns(session(40), 0.25, seed) for seed in range(5)}) == 5
    assert held_out_columns(session(40, name="b"), 0.25, 0) != held_out_columns(
        session(40), 0.25, 0
    )
    assert len(held_out_columns(session(3), 0.01, 0)) == 1
    assert len(held_out_columns(session(3), 0.99, 0)) == 2


def test_key_in_the_file_counts_unless_told_otherwise():
    with_key = session(key=np.array([6, 2]))
    assert held_out_columns(with_key, "file", 0) == (2, 6)
    assert held_out_columns(with_key, "none", 0) == ()
    assert held_out_columns(with_key, [1], 0) == (1,)
    assert held_out_columns(session(), "file", 0) == ()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([1, 8], r"session 'a': data.held_out_neurons names 8, but train_data has 8 neurons"),
        (list(range(8)), "names all 8 neurons; leave some for the encoders"),
        ([1, 1], "names a column twice"),
    ],
)
def test_impossible_neurons_are_refused(asked, message):
    with pytest.raises(LFADSError, match=message):
        held_out_columns(session(), asked, 0)


@pytest.mark.parametrize("value", [1.0, 0, -0.1, True, "all", [-1], [0.5], [], {}])
def test_impossible_values_are_refused(value):
    with pytest.raises(
        LFADSError, match="data.held_out_neurons is .*; expected file, none, a fraction"
    ):
        from_flat({"held_out_neurons": value})


def test_values_may_be_numpys():
    assert from_flat({"held_out_neurons": np.array([1, 2])}).data.held_out_neurons == [1, 2]
    assert from_flat({"held_out_neurons": np.float64(0.5)}).data.held_out_neurons == 0.5
    assert from_flat({"held_out_neurons": None}).data.held_out_neurons == "none"


@pytest.mark.parametrize("steps", [8, 9])
def test_some_bin_must_be_left_to_see(steps):
    assert session_spec(session(), DataConfig(forward_steps=7)).forward_steps == 7
    with pytest.raises(LFADSError, match=f"data.forward_steps={steps} of 8 bins leaves none"):
        session_spec(session(), DataConfig(forward_steps=steps))
