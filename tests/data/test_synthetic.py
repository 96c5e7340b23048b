"""The synthetic data sets: the original's numbers, and truths that the data bear out."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import filtfilt

from lfads_lightning.config import LFADSError
from lfads_lightning.data.simulation import (
    integrate,
    integrator_weights,
    lorenz_states,
    random_network,
)
from lfads_lightning.data.synthetic import SYNTHETIC, generate

SHORT = {"n_conditions": 20, "n_replicates": 10, "duration_s": 0.5}
SMALL = {"n_conditions": 6, "n_replicates": 5, "duration_s": 0.4}


def _only(name: str, **overrides: object) -> dict[str, np.ndarray]:
    (session,) = generate(name, **overrides).values()
    return session


def _sums(session: dict[str, np.ndarray]) -> tuple[int, int]:
    return int(session["train_data"].sum()), int(session["valid_data"].sum())


def _r2(found: np.ndarray, truth: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    residual = ((found - truth) ** 2).sum(axis)
    return 1 - residual / ((truth - truth.mean(axis, keepdims=True)) ** 2).sum(axis)


# --- numbers of the original implementation, seed 5 ---


def test_first_recurrent_weight() -> None:
    weights, _ = random_network(np.random.RandomState(5), 50)
    assert weights[0, 0] == pytest.approx(0.06239899, abs=5e-9)


@pytest.mark.parametrize(
    ("overrides", "sums", "first"),
    [
        ({}, (59869, 15014), (0.860562, 0.813046, 0.99623)),
        ({"gain": 2.5, "input_magnitude": 20}, (59514, 15000), (0.862504, 0.954086, 0.999573)),
    ],
)
def test_chaotic_checksums(overrides: dict, sums: tuple, first: tuple) -> None:
    session = _only("chaotic_rnn_no_inputs", **SHORT, **overrides)
    assert _sums(session) == sums
    np.testing.assert_allclose(session["train_truth"][0, 10, :3], first, atol=1e-6)


def test_chaotic_full_length_checksum() -> None:
    session = _only("chaotic_rnn_no_inputs", n_conditions=65, n_replicates=20, duration_s=1.0)
    assert _sums(session) == (779554, 195124)


def test_labelled_checksum() -> None:
    assert _sums(_only("chaotic_rnns_labeled", **SHORT)) == (60079, 15151)


def test_multisession_checksums() -> None:
    sessions = generate("chaotic_rnn_multisession", **SHORT | {"n_conditions": 15})
    train = [int(s["train_data"].sum()) for s in sessions.values()]
    assert train == [17842, 17834, 18039, 18225, 17903]
    first = sessions["dataset_N100_S20_n1"]
    matrix, bias = first["alignment_matrix_cxf"], first["alignment_bias_c"]
    np.testing.assert_allclose(np.abs(matrix[0, :3]), [0.30159, 0.19484, 0.96389], atol=5e-6)
    np.testing.assert_allclose(bias[:3], [0.13765, 0.15355, 0.16267], atol=5e-6)


# --- every set ---


@pytest.fixture(scope="module", params=SYNTHETIC)
def small(request: pytest.FixtureRequest) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
    return request.param, generate(request.param, **SMALL)


def test_shapes_and_types(small: tuple) -> None:
    name, sessions = small
    assert len(sessions) == (5 if name == "chaotic_rnn_multisession" else 1)
    n_neurons = {"lorenz": 30, "chaotic_rnn_multisession": 20}.get(name, 50)
    counts = np.float32 if name.startswith("gaussian") else np.uint8
    for session in sessions.values():
        for split, n_trials in (("train", 24), ("valid", 6)):
            assert session[f"{split}_data"].shape == (n_trials, 40, n_neurons)
            assert session[f"{split}_data"].dtype == counts
            assert session[f"{split}_truth"].shape == (n_trials, 40, n_neurons)
            assert session[f"{split}_truth"].dtype == np.float32
            labels = np.repeat(np.arange(6), n_trials // 6)
            np.testing.assert_array_equal(session[f"{split}_condition"], labels)
        assert session["bin_width_s"] == 0.01
        assert all(isinstance(value, np.ndarray) for value in session.values())
        assert not any(value.dtype == object for value in session.values())


def test_seed_decides(small: tuple) -> None:
    name, sessions = small
    again = generate(name, **SMALL)
    other = generate(name, seed=6, **SMALL)
    for session_name, session in sessions.items():
        assert session.keys() == again[session_name].keys()
        for key, value in session.items():
            np.testing.assert_array_equal(value, again[session_name][key])
        for key in ("train_data", "train_truth"):
            assert not np.array_equal(session[key], other[session_name][key])


@pytest.mark.parametrize("name", SYNTHETIC)
def test_data_scatter_around_truth(name: str) -> None:
    """Data minus truth / conversion_factor have mean 0 and the noise's variance, per channel."""
    sessions = generate(name, **SMALL | {"n_conditions": 40})
    for session in sessions.values():
        for split in ("train", "valid"):
            rates = session[f"{split}_truth"].astype(float) / session["conversion_factor"]
            variance = np.full_like(rates, 15.0**2) if name.startswith("gaussian") else rates
            scatter = session[f"{split}_data"] - rates
            z = scatter.sum(axis=(0, 1)) / np.sqrt(variance.sum(axis=(0, 1)))
            assert np.abs(z).max() < 4.5
            assert np.mean(scatter**2) == pytest.approx(variance.mean(), rel=0.05)


def test_replicates_share_truth_not_noise() -> None:
    session = _only("lorenz", **SMALL)
    truth = session["train_truth"].reshape(6, 4, 40, 30)
    counts = session["train_data"].reshape(6, 4, 40, 30)
    assert (truth == truth[:, :1]).all()
    assert (truth[0, 0] != truth[1, 0]).any()
    assert (counts[:, 0] != counts[:, 1]).any()
    np.testing.assert_array_equal(session["valid_truth"], truth[:, 0])


@pytest.mark.parametrize("name", [n for n in SYNTHETIC if n != "lorenz"])
def test_truth_spans_unit_range_in_each_trial(name: str) -> None:
    for session in generate(name, **SMALL).values():
        np.testing.assert_array_equal(session["train_truth"].min(axis=1), 0)
        np.testing.assert_array_equal(session["train_truth"].max(axis=1), 1)


def test_count_type_grows_with_the_counts() -> None:
    session = _only("lorenz", **SMALL, baseline_rate_hz=50_000.0)
    assert session["train_data"].max() > 255
    assert session["train_data"].dtype == np.uint16


# --- one kind each ---


def test_input_pulses() -> None:
    quiet = _only("chaotic_rnn_no_inputs", **SMALL)
    session = _only("chaotic_rnn_inputs_g1p5", **SMALL)
    pulses, bins = session["input_train_truth"], session["input_times_train"]
    assert pulses.shape == (24, 40, 1)
    np.testing.assert_array_equal(pulses[:, :, 0].argmax(axis=1), bins)
    np.testing.assert_array_equal(pulses.sum(axis=(1, 2)), 20)
    assert bins.min() >= 10
    assert bins.max() < 30
    # until the pulse both run alike, so that within-trial scaling is affine in the quiet rates
    before = slice(0, int(bins[0]))
    mine, other = session["train_truth"][0, before, 0], quiet["train_truth"][0, before, 0]
    assert np.corrcoef(mine, other)[0, 1] > 1 - 1e-6
    assert np.corrcoef(session["train_truth"][0, :, 0], quiet["train_truth"][0, :, 0])[0, 1] < 0.99


def test_label_is_the_external_input_and_decides_the_truth() -> None:
    session = _only("chaotic_rnns_labeled", **SMALL)
    label = session["train_ext_input"]
    assert label.shape == (24, 40, 1)
    assert set(np.unique(label)) == {0.0, 1.0}
    assert (label == label[:, :1]).all()
    groups = zip(session["train_condition"], label[:, 0, 0], strict=True)
    distinct_truths = {truth.tobytes() for truth in session["train_truth"]}
    assert len(distinct_truths) == len(set(groups))


def test_alignment_reproduces_the_components() -> None:
    n_conditions, n_components = 12, 4
    sessions = generate(
        "chaotic_rnn_multisession",
        **SMALL | {"n_conditions": n_conditions},
        n_neurons=30,
        n_observed=15,
        n_components=n_components,
    )
    assert list(sessions) == ["dataset_N30_S15_n1", "dataset_N30_S15_n2"]
    smooth = []
    for session in sessions.values():
        mean = session["train_data"].reshape(n_conditions, 4, 40, 15).mean(axis=1)
        smooth.append(filtfilt(np.ones(6) / 6, 1, mean.reshape(-1, 15), axis=0))
    centred = np.hstack(smooth) - np.hstack(smooth).mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    components = (left * singular)[:, :n_components]
    read_in = []
    for session, x in zip(sessions.values(), smooth, strict=True):
        matrix, bias = session["alignment_matrix_cxf"], session["alignment_bias_c"]
        assert matrix.shape == (15, n_components)
        np.testing.assert_allclose(bias, x.mean(axis=0))
        read_in.append((x - bias) @ matrix)
        signs = np.sign((read_in[-1] * components).sum(axis=0))
        residual = components * signs - read_in[-1]
        np.testing.assert_allclose((x - bias).T @ residual, 0, atol=1e-8)  # least squares
        assert _r2(read_in[-1], components * signs, (0,))[0] > 0.8
    assert np.corrcoef(read_in[0][:, 0], read_in[1][:, 0])[0, 1] > 0.8


def test_multisession_sessions_are_parts_of_one_network() -> None:
    parts = generate("chaotic_rnn_multisession", **SMALL).values()
    whole = _only("chaotic_rnn_no_inputs", **SMALL, n_neurons=100)
    together = np.concatenate([s["train_truth"] for s in parts], axis=2)
    np.testing.assert_array_equal(together, whole["train_truth"])
    np.testing.assert_array_equal(np.concatenate([s["P_sxn"] for s in parts]), np.eye(100))


@pytest.mark.parametrize(("n_bins", "bar"), [(100, 0.99), (300, 0.95)])
def test_integrator_follows_the_clipped_sum(n_bins: int, bar: float) -> None:
    inputs = np.random.RandomState(6).randn(1000, n_bins) * 0.25
    states, outputs = integrate(integrator_weights(50), inputs)
    assert states.shape == (1000, n_bins, 50)
    total = np.cumsum(inputs, axis=1)
    assert _r2(outputs, np.clip(total, -1, 1), (0, 1)) > bar
    # an absorbing bound is another task: what tracks the unclipped sum comes back from beyond 1
    gone_and_back = (np.abs(total).max(axis=1) > 2) & (np.abs(total[:, -1]) < 0.5)
    assert gone_and_back.sum() > 20
    assert np.abs(outputs[gone_and_back, -1] - total[gone_and_back, -1]).mean() < 0.1


def test_integration_stores_inputs_and_outputs() -> None:
    session = _only("itb_rnn", **SMALL | {"n_conditions": 40, "duration_s": 1.0})
    inputs, outputs = session["train_inputs_u"], session["train_outputs_u"]
    assert inputs.shape == (160, 100, 1)
    assert outputs.shape == (160, 100)
    assert inputs.std() == pytest.approx(0.25, rel=0.05)
    assert _r2(outputs, np.clip(np.cumsum(inputs[:, :, 0], axis=1), -1, 1), (0, 1)) > 0.95


def test_integration_takes_given_weights() -> None:
    ours = integrator_weights(50)
    vectors = (ours.recurrent, ours.bias[None], ours.inputs[None], ours.readout[:, None], [0.0])
    default = _only("itb_rnn", **SMALL)
    given = _only("itb_rnn", **SMALL, weights=vectors)
    np.testing.assert_array_equal(given["train_data"], default["train_data"])
    reversed_readout = ours._replace(readout=-ours.readout)
    flipped = _only("itb_rnn", **SMALL, weights=reversed_readout)
    np.testing.assert_array_equal(flipped["train_outputs_u"], -default["train_outputs_u"])


def test_lorenz_truth_follows_from_the_state() -> None:
    session = _only("lorenz", **SMALL)
    states = np.concatenate([session["train_lowd"], session["valid_lowd"]])
    np.testing.assert_allclose(np.abs(states).max(axis=(0, 1)), 1, rtol=1e-6)
    np.testing.assert_allclose(states.mean(axis=(0, 1)), 0, atol=1e-6)
    rates_hz = 5.0 * np.exp(session["train_lowd"] @ session["readout_weights"].T)
    np.testing.assert_allclose(session["train_truth"], rates_hz, rtol=1e-5)


def test_lorenz_states_obey_the_equations() -> None:
    """Least squares finds sigma, rho and beta in the increments."""
    start = np.random.RandomState(0).randn(10, 3)
    states = lorenz_states(start, n_bins=100, n_steps_per_bin=1)
    x, y, z = states[:, :-1].reshape(-1, 3).T
    terms = np.stack([x, y, z, x * y, x * z, y * z, np.ones_like(x)], axis=1)
    speed = np.diff(states, axis=1).reshape(-1, 3) / 0.006
    fit = np.linalg.lstsq(terms, speed, rcond=None)[0].T
    expected = [[-10, 10, 0, 0, 0, 0, 0], [28, -1, 0, 0, -1, 0, 0], [0, 0, -8 / 3, 1, 0, 0, 0]]
    np.testing.assert_allclose(fit, expected, atol=1e-8)
    faster = lorenz_states(start, n_bins=50, n_steps_per_bin=2)
    np.testing.assert_array_equal(faster, states[:, ::2])
    assert np.abs(states[:, 0] - start).min() > 1e-3  # after a burn-in


def test_lorenz_has_realistic_rates_and_defeats_smoothing() -> None:
    session = _only("lorenz")
    assert session["train_data"].shape == (1040, 100, 30)
    truth, counts = session["valid_truth"].astype(float), session["valid_data"].astype(float)
    assert 5 < truth.mean() < 15
    assert np.quantile(truth, 0.99) < 100
    assert (truth.mean(axis=(0, 1)) > 1).all()
    smoothed = [gaussian_filter1d(counts / 0.01, sd, axis=1) for sd in (2, 4, 6, 8, 12, 16, 24, 32)]
    best = max(_r2(s, truth, (0, 1)).mean() for s in smoothed)
    assert best < 0.5
    null = ((truth - truth.mean(axis=(0, 1))) ** 2).sum()
    pooled = max(1 - ((s - truth) ** 2).sum() / null for s in smoothed)
    assert pooled > 0.4  # the spikes do speak of the rates


# --- mistakes ---


def test_unknown_name() -> None:
    with pytest.raises(LFADSError, match=r"data set 'lorentz'; did you mean 'lorenz'\? Allowed: "):
        generate("lorentz")
    with pytest.raises(LFADSError, match=r"data set 'mnist'\. Allowed: lorenz, chaotic_rnn_no_inp"):
        generate("mnist")


def test_unknown_override() -> None:
    message = r"lorenz: unknown override 'n_condition'; did you mean 'n_conditions'\? Allowed: "
    with pytest.raises(LFADSError, match=message):
        generate("lorenz", n_condition=3)
    with pytest.raises(LFADSError, match=r"unknown override 'gain'\. Allowed: n_conditions, "):
        generate("lorenz", gain=1.5)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("lorenz", {"n_replicates": 1}, "n_replicates=1; expected a whole number of at least 2"),
        ("lorenz", {"n_conditions": 2.5}, "n_conditions=2.5; expected a whole number"),
        ("lorenz", {"duration_s": 0.01}, "duration_s=0.01; expected a number of at least 0.02"),
        ("lorenz", {"seed": -1}, "seed=-1; expected a whole number of at least 0"),
        ("itb_rnn", {"input_std": float("nan")}, "input_std=nan; expected a number"),
        ("itb_rnn", {"weights": (1, 2)}, "weights has 2 arrays; expected recurrent, bias, inputs"),
        (
            "itb_rnn",
            {"weights": integrator_weights(40)},
            r"recurrent has shape \(40, 40\); expected \(50, 50\) for n_neurons=50",
        ),
        (
            "chaotic_rnn_no_inputs",
            {"output_dist": "gausian"},
            r"unknown output_dist 'gausian'; did you mean 'gaussian'\? Allowed: poisson, gaussian",
        ),
        ("chaotic_rnn_multisession", {"n_observed": 30}, "n_observed=30 does not divide"),
        ("chaotic_rnn_multisession", {"n_components": 101}, "n_components=101 is more than"),
        (
            "chaotic_rnn_multisession",
            {"n_conditions": 3, "duration_s": 0.06},
            "3 conditions of 6 bins are too few to smooth",
        ),
    ],
)
def test_impossible_sizes(name: str, overrides: dict, message: str) -> None:
    with pytest.raises(LFADSError, match=message):
        generate(name, **overrides)
