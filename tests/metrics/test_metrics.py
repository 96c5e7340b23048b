"""Every metric a second way: by hand, by another library, or by a slow loop; and as nlb_tools."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.linear_model import LinearRegression, PoissonRegressor, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV

from lfads_lightning import metrics

NLB = Path(__file__).parent / "nlb"


@pytest.fixture(scope="module")
def nlb():
    with np.load(NLB / "arrays.npz", allow_pickle=False) as file:
        return dict(file), json.loads((NLB / "figures.json").read_text())


@pytest.fixture(scope="module")
def made():
    """Thirty trials of rates that move and counts from them, (rates, counts)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (30, 1, 4))
    rates = 0.5 * np.exp(np.sin(np.linspace(0, 9, 25)[None, :, None] + phase))
    return rates, rng.poisson(rates)


# --- as the Neural Latents Benchmark's own package ---


def test_arrays_are_those_of_the_generator(nlb, monkeypatch):
    monkeypatch.syspath_prepend(str(NLB))
    import make

    again = make.arrays()
    assert again.keys() == nlb[0].keys()
    for name, array in again.items():
        np.testing.assert_allclose(array, nlb[0][name], rtol=1e-12, err_msg=name)


def test_scores_are_those_of_nlb_tools(nlb):
    a, expected = nlb
    target = metrics.Psth(np.arange(4), a["psth"])
    # bins and neurons together, as the model gives them: held-out neurons last
    rates = np.concatenate([a["test_rates"], a["forward_rates"]], axis=1)
    counts = np.zeros(rates.shape)
    counts[:, :20, 9:], counts[:, 20:] = a["held_out_counts"], a["forward_counts"]
    gaps = counts.copy()
    gaps[:, :20, 9:] = a["held_out_counts_with_gaps"]
    velocity = metrics.velocity_r2(
        a["train_rates"], a["train_behaviour"], a["test_rates"], a["test_behaviour"]
    )
    found = {
        "nll": metrics.poisson_nll(a["forward_rates"], a["forward_counts"]),
        "co_bps": metrics.co_bps(rates, counts, [9, 10, 11], 4),
        "co_bps_with_gaps": metrics.co_bps(rates, gaps, [9, 10, 11], 4),
        "fp_bps": metrics.fp_bps(rates, counts, 4),
        "velocity_r2": velocity.r2,
        "psth_r2": metrics.psth_r2(a["test_rates"], a["test_condition"], target),
    }
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-9), name


# --- likelihood ---


def test_nll_is_scipys(made):
    rates, counts = made
    expected = -scipy.stats.poisson.logpmf(counts, rates).sum()
    assert metrics.poisson_nll(rates, counts) == pytest.approx(expected)
    with_gap = counts.astype(float)
    with_gap[3, 4:8] = np.nan
    expected = -scipy.stats.poisson.logpmf(counts, rates)
    expected = expected.sum() - expected[3, 4:8].sum()
    assert metrics.poisson_nll(rates, with_gap) == pytest.approx(expected)


def test_bits_per_spike_by_hand():
    # two bins of one neuron, 0 and 2 spikes: the null is a rate of 1
    counts = np.array([[[0], [2]]])
    rates = np.array([[[0.5], [2.0]]])
    gain = (1 - 0.5) + (1 - 2 + 2 * np.log(2))
    assert metrics.bits_per_spike(rates, counts) == pytest.approx(gain / 2 / np.log(2))
    assert metrics.bits_per_spike(np.ones((1, 2, 1)), counts) == pytest.approx(0)
    assert np.isnan(metrics.bits_per_spike(rates, np.zeros((1, 2, 1))))


def test_co_and_fp_bps_score_their_own_entries(made):
    """By a loop over entries."""
    rates, counts = made

    def loop(entries):
        gain = spikes = 0.0
        for neuron in {n for _, n in entries}:
            bins = [t for t, n in entries if n == neuron]
            mean = counts[:, bins, neuron].mean()
            for trial in range(len(counts)):
                for t in bins:
                    k, r = counts[trial, t, neuron], rates[trial, t, neuron]
                    gain += k * np.log(r) - r - k * np.log(mean) + mean
                    spikes += k
        return gain / spikes / np.log(2)

    co = [(t, n) for t in range(20) for n in (1, 3)]
    assert metrics.co_bps(rates, counts, [1, 3], 5) == pytest.approx(loop(co))
    fp = [(t, n) for t in range(20, 25) for n in range(4)]
    assert metrics.fp_bps(rates, counts, 5) == pytest.approx(loop(fp))


# --- decoding ---


@pytest.mark.parametrize("lag", [0, 3, -2])
def test_velocity_r2_is_scikit_learns(lag):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20, 15, 6))
    y = np.roll(x, lag, axis=1) @ rng.standard_normal((6, 2)) + rng.standard_normal((20, 15, 2))
    alphas = np.logspace(-1, 3, 9)
    found = metrics.velocity_r2(x[:14], y[:14], x[14:], y[14:], lag, alphas)

    def rows(trials):
        pairs = [(x[e, t], y[e, t + lag]) for e in trials for t in range(15) if 0 <= t + lag < 15]
        return map(np.array, zip(*pairs, strict=True))

    search = GridSearchCV(Ridge(), {"alpha": alphas}).fit(*rows(range(14)))
    assert found.alpha == pytest.approx(search.best_params_["alpha"])
    test_x, test_y = rows(range(14, 20))
    assert found.r2 == pytest.approx(search.score(test_x, test_y), rel=1e-9)
    each = r2_score(test_y, search.predict(test_x), multioutput="raw_values")
    np.testing.assert_allclose(found.r2_by_variable, each, rtol=1e-9)
    assert found.r2 > 0.5


def test_r2_of_constants():
    truth = np.array([[1.0, 1.0], [1.0, 1.0]])
    guess = np.array([[1.0, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(metrics.r2(truth, guess), [1, 0])
    assert r2_score(truth, guess) == 0.5


# --- truth ---


def test_state_r2_is_linear_regressions_and_sees_invented_dimensions():
    rng = np.random.default_rng(2)
    state = np.cumsum(rng.standard_normal((20, 30, 3)), axis=1)
    found = state @ rng.standard_normal((3, 4)) + 2 + 0.1 * rng.standard_normal((20, 30, 4))
    found[..., 3] = rng.standard_normal((20, 30))  # invented
    train, test = slice(0, 12), slice(12, None)
    both = metrics.state_r2(found[test], state[test], found[train], state[train])

    def theirs(x, y):
        flat = [a.reshape(-1, a.shape[-1]) for a in (x[train], y[train], x[test], y[test])]
        guess = LinearRegression().fit(*flat[:2]).predict(flat[2])
        return r2_score(flat[3], guess, multioutput="raw_values")

    np.testing.assert_allclose(both.states, theirs(found, state), rtol=1e-9)
    np.testing.assert_allclose(both.factors, theirs(state, found), rtol=1e-9, atol=1e-12)
    assert both.states.min() > 0.95
    assert both.factors[:3].min() > 0.95 > 0.05 > both.factors[3]


def test_input_r2_does_not_mind_sign_scale_and_order():
    truth = np.random.default_rng(3).standard_normal((8, 20, 2))
    inferred = np.stack([-3 * truth[..., 1] + 1, 0.1 * truth[..., 0]], axis=2)
    np.testing.assert_allclose(metrics.input_r2(inferred, truth), [1, 1])
    other = np.random.default_rng(4).standard_normal((8, 20, 2))
    assert metrics.input_r2(other, truth).max() < 0.1


def test_pulse_timing_finds_answers_and_their_delay():
    truth, inferred = (
        np.zeros((3, 60, 2)),
        0.01 * np.random.default_rng(5).standard_normal((3, 60, 1)),
    )
    for trial, t in ((0, 10), (0, 40), (1, 20), (2, 30)):
        truth[trial, t : t + 3, trial % 2] = -1 if t == 40 else 1  # one pulse, three bins long
        if trial < 2:
            inferred[trial, t + 2] = 5
    timing = metrics.pulse_timing(inferred, truth)
    assert timing == (4, 0.75, 2.0, 0.0)
    inferred[1, 22], inferred[1, 19] = 0, 5
    assert metrics.pulse_timing(inferred, truth).offset_bins == 2  # of 2, 2, -1
    none = metrics.pulse_timing(np.zeros((3, 60, 1)), truth)
    assert none[:2] == (4, 0.0)
    assert np.isnan(none.offset_bins)


# --- PSTH, smoothing, dimension ---


def test_psth_r2_by_loops(made):
    rates, counts = made
    condition = np.arange(30) % 3
    smoothed = metrics.smooth(counts, 2)
    target = metrics.psth(smoothed, condition)
    mine = np.arange(30) < 20  # of the third condition too
    scores = []
    for neuron in range(4):
        truth, guess = [], []
        for c in range(3):
            for t in range(25):
                truth.append(np.mean([smoothed[i, t, neuron] for i in range(c, 30, 3)]))
                guess.append(np.mean([rates[i, t, neuron] for i in range(c, 20, 3)]))
        scores.append(r2_score(truth, guess))
    found = metrics.psth_r2(rates[mine], condition[mine], target)
    assert found == pytest.approx(np.mean(scores))
    assert metrics.psth_r2(smoothed, condition, target) == pytest.approx(1)


def test_conditions_without_trials_are_left_out(made):
    rates, counts = made
    condition = np.arange(30) % 3
    target = metrics.psth(metrics.smooth(counts, 2), condition)
    two = condition < 2
    part = metrics.Psth(target.conditions[:2], target.means[:2])
    assert metrics.psth_r2(rates[two], condition[two], target) == pytest.approx(
        metrics.psth_r2(rates[two], condition[two], part)
    )


def test_effective_dimensionality_is_the_participation_ratio():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((40, 50, 5)) * [3, 2, 1, 0.1, 0]
    values = np.linalg.eigvalsh(np.cov(x.reshape(-1, 5).T))
    expected = values.sum() ** 2 / np.square(values).sum()
    assert metrics.effective_dimensionality(x) == pytest.approx(expected)
    assert metrics.effective_dimensionality(x[..., :1]) == pytest.approx(1)
    assert np.isnan(metrics.effective_dimensionality(np.ones((2, 3, 4))))


# --- read-outs ---


def test_poisson_readout_is_the_optimum_of_its_cost():
    """The gradient of the cost, written out, is 0 there; and another solver agrees."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((30, 20, 3)) * [1, 5, 0.2] + 2
    counts = rng.poisson(np.exp(0.3 * x[..., :1] - 0.1 * x[..., 1:2] - 1))
    rates = metrics.Design(x, 1).fit(counts, 0.01).rates(x)
    flat, n, r = x.reshape(-1, 3), counts.ravel(), rates.ravel()
    z = (flat - flat.mean(0)) / flat.std(0)
    weights = np.linalg.lstsq(np.column_stack([z, np.ones(len(z))]), np.log(r), rcond=None)[0][:3]
    np.testing.assert_allclose((z * (r - n)[:, None]).mean(0) + 0.01 * weights, 0, atol=1e-4)
    assert r.sum() == pytest.approx(n.sum(), rel=1e-3)
    theirs = PoissonRegressor(alpha=0.01, tol=1e-8, max_iter=1000).fit(z, n).predict(z)
    np.testing.assert_allclose(r, theirs, rtol=1e-3)


def test_poisson_readout_of_a_neuron_that_never_fires():
    x = np.random.default_rng(9).standard_normal((4, 10, 2))
    rates = metrics.Design(x, 1).fit(np.zeros((4, 10, 1)), 0.01).rates(x)
    assert rates.max() == rates.min() == pytest.approx(0.5 / 40)


@pytest.mark.parametrize(
    ("n_latents", "n_neurons", "alpha"), [(1, 3, 1e-3), (12, 40, 1e-2), (60, 9, 1e-3), (4, 5, 1.0)]
)
def test_poisson_readouts_are_scikit_learns(n_latents, n_neurons, alpha):
    """Latents that are correlated, of other scales, and one that does not move; neurons that burst,
    fire once, or never."""
    rng = np.random.default_rng(n_latents)
    x = rng.standard_normal((20, 50, n_latents)) @ rng.standard_normal((n_latents, n_latents))
    x *= 10.0 ** rng.integers(-2, 3, n_latents)
    if n_latents > 2:
        x[..., 1] = 7
    z = x / np.maximum(x.std((0, 1)), 1e-9)
    w = rng.standard_normal((n_latents, n_neurons)) / np.sqrt(n_latents)
    counts = rng.poisson(np.exp(np.clip(z @ w - z.mean((0, 1)) @ w - 1, -8, 4)))
    counts[..., 0] = 0
    counts[3, 7, 0] = 1
    rates = metrics.Design(x, n_neurons).fit(counts, alpha).rates(x).reshape(-1, n_neurons)
    rows = x.reshape(-1, n_latents)
    sd = rows.std(0)
    rows = (rows - rows.mean(0)) / np.where(sd > 1e-9, sd, 1)
    for i, y in enumerate(counts.reshape(-1, n_neurons).T):
        theirs = PoissonRegressor(
            alpha=alpha, tol=1e-9, max_iter=1000, solver="newton-cholesky"
        ).fit(rows, y)
        expected = np.minimum(theirs.predict(rows), max(2 * y.max(), 1))
        np.testing.assert_allclose(rates[:, i], expected, rtol=1e-4)


def test_readouts_are_bounded():
    """Of many bins some are used, of many latents the first principal components."""
    rng = np.random.default_rng(0)
    assert len(metrics.Design(rng.standard_normal((100, 300, 2)), 3).rows) == 15_000
    assert len(metrics.Design(rng.standard_normal((100, 300, 2)), 3, effort=0.1).rows) == 2000
    assert metrics.Design(rng.standard_normal((10, 50, 300)), 3).rows.shape == (500, 256)


def test_few_shot_punishes_superfluous_latents():
    """Latents that hold the truth and noise beside it: alike with many trials, not with few."""
    rng = np.random.default_rng(10)
    state = np.cumsum(0.3 * rng.standard_normal((200, 20, 2)), axis=1)
    counts = rng.poisson(np.exp(0.5 * state @ rng.standard_normal((2, 3)) - 0.5))
    noisy = np.concatenate([state, rng.standard_normal((200, 20, 30))], axis=2)
    train, test = slice(0, 150), slice(150, None)

    def score(x, k, n_draws=3):
        arrays = x[train], counts[train], x[test], counts[test]
        return metrics.few_shot_co_bps(*arrays, k, n_draws, alpha=1e-4)

    few, many = score(state, 5), score(state, 150, 1)
    assert abs(score(noisy, 150, 1) - many) < 0.02
    assert score(noisy, 5) < few - 0.1
    # all the trials there are: the one read-out there is
    rates = metrics.Design(state[train], 3).fit(counts[train], 1e-4).rates(state[test])
    assert many == pytest.approx(metrics.bits_per_spike(rates, counts[test]), rel=1e-3)


def test_bits_of_neurons_add_up_to_those_of_all():
    rng = np.random.default_rng(0)
    counts, rates = rng.poisson(1.0, (12, 8, 5)), rng.gamma(2, 0.5, (12, 8, 5))
    each, spikes = metrics.bits_of_neurons(rates, counts), counts.sum((0, 1))
    whole = metrics.bits_per_spike(rates, counts)
    assert (each * spikes).sum() / spikes.sum() == pytest.approx(whole)
