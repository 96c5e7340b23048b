"""Embedded synthetic data sets, where rates, inputs and states are known.

``generate("lorenz")`` returns {session name: data dictionary}, the arrays that a session file
holds. Shapes are E trials × T bins × D neurons; bins last 10 ms. Trial
e = condition * n_replicates + replicate; of each condition's replicates the first 80 % are train.

The networks follow the recipes of the original LFADS benchmarks (Sussillo et al. 2016, section 4)
draw by draw from NumPy's legacy generator, so that a seed gives the original's counts.
``conversion_factor`` means one thing throughout: truth = conversion_factor * rate per bin. (The
original's is off for gaussian data and inverted for integration to bound.)
"""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np

from lfads_lightning.config import LFADSError, OutputDist
from lfads_lightning.data.simulation import (
    BIN_WIDTH_S,
    BOXCAR_BINS,
    IntegratorWeights,
    align_as_original,
    as_integrator_weights,
    draw_gaussian,
    draw_poisson,
    integrate,
    integrator_weights,
    lorenz_states,
    random_network,
    run_network,
    unit_range,
)

MAX_RATE_HZ = 30.0
GAUSSIAN_STD = 5.0 * MAX_RATE_HZ * BIN_WIDTH_S**0.5

DataDict = dict[str, np.ndarray]
Sessions = dict[str, DataDict]

_SMALLEST: dict[str, float] = {
    "seed": 0,
    "n_conditions": 1,
    "n_replicates": 2,  # one to train on, one to validate
    "duration_s": 2 * BIN_WIDTH_S,
    "n_neurons": 2,
    "n_observed": 1,
    "n_components": 1,
    "n_steps_per_bin": 1,
    "gain": 0.0,
    "input_magnitude": 0.0,
    "input_std": 1e-6,
    "baseline_rate_hz": 1e-6,
}


def generate(name: str, seed: int = 5, **overrides: Any) -> Sessions:
    """Generate an embedded data set.

    Args:
        name: one of ``SYNTHETIC``.
        seed: random seed; the same seed gives the same bits.
        **overrides: keyword arguments of the data set's function, to change its sizes.

    Returns:
        {session name: data dictionary} with the keys of a session file.

    Raises:
        LFADSError: the name, an override or a size is not valid.
    """
    if name not in SYNTHETIC:
        raise LFADSError(_unknown("synthetic data set", name, SYNTHETIC))
    recipe = SYNTHETIC[name]
    allowed = [key for key in inspect.signature(recipe).parameters if key != "seed"]
    for key in overrides:
        if key not in allowed:
            raise LFADSError(f"{name}: " + _unknown("override", key, allowed))
    return recipe(seed, **overrides)


def chaotic_rnn(
    seed: int = 5,
    *,
    n_conditions: int = 400,
    n_replicates: int = 10,
    duration_s: float = 1.0,
    n_neurons: int = 50,
    gain: float = 1.5,
    input_magnitude: float = 0.0,
    output_dist: OutputDist | str = OutputDist.poisson,
) -> Sessions:
    """Simulate one chaotic network, with or without an input pulse in each trial.

    Args:
        seed: seed of all draws, including the Gaussian noise.
        n_conditions: initial states; each is shared by its replicates.
        n_replicates: trials per condition.
        duration_s: trial length.
        n_neurons: D, all units of the network.
        gain: g, scales the recurrent weights; chaotic above 1.
        input_magnitude: size of a one-bin pulse at a random bin of the middle half; 0: none.
        output_dist: poisson counts, or gaussian with mean 30 * truth and standard deviation 15.

    Returns:
        One session. Truth is each unit's rate, scaled to [0, 1] within the trial. With pulses,
        ``input_*_truth`` (E, T, 1) holds them and ``input_times_*`` (E,) their bins.
    """
    n_bins = _checked_bins(locals())
    is_counts = _output_dist(output_dist).is_counts
    rng = np.random.RandomState(seed)
    weights, input_weights = random_network(rng, n_neurons)
    start = rng.randn(n_conditions, n_neurons)
    fields: DataDict = {}
    pulses, n_draws = None, n_replicates
    if input_magnitude > 0:  # replicates differ: simulate each
        start, n_draws = np.repeat(start, n_replicates, axis=0), 1
        pulse_bins = rng.choice(n_bins // 2, size=len(start)) + n_bins // 4
        pulses = input_magnitude * (np.arange(n_bins) == pulse_bins[:, None])[:, :, None]
        fields = {"input_{}_truth": pulses, "input_times_{}": pulse_bins}
    truth = unit_range(run_network(weights, start, n_bins, gain, pulses, input_weights))

    scale = MAX_RATE_HZ * BIN_WIDTH_S if is_counts else MAX_RATE_HZ
    if is_counts:
        data = draw_poisson(rng, scale * truth, n_draws)
    else:
        data = draw_gaussian(rng, scale * truth, GAUSSIAN_STD, n_draws)
    fields |= {"{}_data": data, "{}_truth": np.repeat(truth, n_draws, axis=0)}
    constants = {"P_sxn": np.eye(n_neurons), "input_magnitude": input_magnitude}
    session = _session(n_replicates, fields, conversion_factor=1 / scale, **constants)
    return {_session_name(n_neurons, n_neurons): session}


def multisession(
    seed: int = 5,
    *,
    n_conditions: int = 150,
    n_replicates: int = 40,
    duration_s: float = 1.0,
    n_neurons: int = 100,
    n_observed: int = 20,
    gain: float = 1.5,
    n_components: int = 10,
) -> Sessions:
    """Simulate sessions that see different units of one chaotic network, with their alignment.

    Args:
        seed: seed of all draws.
        n_conditions: initial states, the same in every session.
        n_replicates: trials per condition and session.
        duration_s: trial length.
        n_neurons: units of the network.
        n_observed: D, units per session; must divide ``n_neurons``.
        gain: g, scales the recurrent weights.
        n_components: F, principal components that the sessions are aligned to.

    Returns:
        ``n_neurons / n_observed`` sessions, with alignment matrices (D, F) and biases (D,).
    """
    n_bins = _checked_bins(locals())
    if n_neurons % n_observed:
        raise LFADSError(f"n_observed={n_observed} does not divide n_neurons={n_neurons}")
    if n_components > n_neurons:
        raise LFADSError(f"n_components={n_components} is more than n_neurons={n_neurons}")
    if n_conditions * n_bins <= 3 * BOXCAR_BINS:
        raise LFADSError(
            f"{n_conditions} conditions of {n_bins} bins are too few to smooth for the alignment; "
            f"more than {3 * BOXCAR_BINS} bins are needed in all"
        )
    rng = np.random.RandomState(seed)
    weights, _ = random_network(rng, n_neurons)
    truth = unit_range(run_network(weights, rng.randn(n_conditions, n_neurons), n_bins, gain))
    scale = MAX_RATE_HZ * BIN_WIDTH_S

    sessions, means = {}, []
    for k, first in enumerate(range(0, n_neurons, n_observed), start=1):
        own = slice(first, first + n_observed)
        fields = {
            "{}_data": draw_poisson(rng, scale * truth[:, :, own], n_replicates),
            "{}_truth": np.repeat(truth[:, :, own], n_replicates, axis=0),
        }
        constants = {"conversion_factor": 1 / scale, "P_sxn": np.eye(n_neurons)[own]}
        session = _session(n_replicates, fields, **constants)
        sessions[_session_name(n_neurons, n_observed, f"_n{k}")] = session
        by_condition = session["train_data"].reshape(n_conditions, -1, n_bins, n_observed)
        means.append(by_condition.mean(axis=1))
    alignment = align_as_original(means, n_components)
    for session, (matrix, bias) in zip(sessions.values(), alignment, strict=True):
        session |= {"alignment_matrix_cxf": matrix, "alignment_bias_c": bias}
    return sessions


def labelled_rnns(
    seed: int = 5,
    *,
    n_conditions: int = 400,
    n_replicates: int = 10,
    duration_s: float = 1.0,
    n_neurons: int = 50,
    gain: float = 1.5,
) -> Sessions:
    """Simulate trials of one of two chaotic networks; the external input says which.

    Args:
        seed: seed of labels, initial states, projection and spikes; the networks use seed + 1, + 2.
        n_conditions: initial states.
        n_replicates: trials per condition, each of either network.
        duration_s: trial length.
        n_neurons: D; each neuron is a random mixture of as many units.
        gain: g, scales the recurrent weights.

    Returns:
        One session; ``*_ext_input`` (E, T, 1) is the label, 0 or 1, constant over time.
    """
    n_bins = _checked_bins(locals())
    rng = np.random.RandomState(seed)
    label = rng.randint(2, size=n_conditions * n_replicates)
    start = rng.randn(n_conditions, n_neurons)
    projection = rng.randn(n_neurons, n_neurons) / np.sqrt(n_neurons)
    scale = MAX_RATE_HZ * BIN_WIDTH_S

    truths, counts = [], []
    for network_seed in (seed + 1, seed + 2):
        weights, _ = random_network(np.random.RandomState(network_seed), n_neurons)
        truths.append(unit_range(run_network(weights, start, n_bins, gain) @ projection.T))
        counts.append(draw_poisson(rng, scale * truths[-1], n_replicates))
    is_second = label[:, None, None] == 1
    fields = {
        "{}_data": np.where(is_second, counts[1], counts[0]),
        "{}_truth": np.stack(truths)[label, np.arange(len(label)) // n_replicates],
        "{}_ext_input": np.repeat(is_second, n_bins, axis=1).astype(np.float32),
    }
    session = _session(n_replicates, fields, conversion_factor=1 / scale, P_sxn=projection)
    return {_session_name(n_neurons, n_neurons): session}


def integration_to_bound(
    seed: int = 5,
    *,
    n_conditions: int = 800,
    n_replicates: int = 5,
    duration_s: float = 1.0,
    n_neurons: int = 50,
    input_std: float = 0.25,
    weights: IntegratorWeights | tuple | None = None,
) -> Sessions:
    """Simulate a network that outputs its summed white-noise input, clipped to [-1, 1].

    The original used a trained network, and everything but the inputs depends on its weights, so
    its counts are reproduced only if these are given. The default is ``integrator_weights``.

    Args:
        seed: seed of projection and spikes; the inputs use seed + 1.
        n_conditions: input sequences.
        n_replicates: trials per condition.
        duration_s: trial length.
        n_neurons: D; each neuron is a random mixture of as many units.
        input_std: standard deviation of the input u in each bin.
        weights: (W, b, B, w, c) of another network of ``n_neurons`` units.

    Returns:
        One session; ``*_inputs_u`` (E, T, 1) is u, ``*_outputs_u`` (E, T) the network's output.
    """
    n_bins = _checked_bins(locals())
    if weights is None:
        network = integrator_weights(n_neurons)
    else:
        network = as_integrator_weights(weights, n_neurons)
    rng = np.random.RandomState(seed)
    projection = rng.randn(n_neurons, n_neurons) / np.sqrt(n_neurons)
    inputs = np.random.RandomState(seed + 1).randn(n_conditions, n_bins) * input_std
    states, outputs = integrate(network, inputs)
    truth = unit_range(states @ projection.T)
    scale = MAX_RATE_HZ * BIN_WIDTH_S
    fields = {
        "{}_data": draw_poisson(rng, scale * truth, n_replicates),
        "{}_truth": np.repeat(truth, n_replicates, axis=0),
        "{}_inputs_u": np.repeat(inputs[:, :, None], n_replicates, axis=0),
        "{}_outputs_u": np.repeat(outputs, n_replicates, axis=0),
    }
    constants = {"P_sxn": projection, "u_std": input_std, "max_firing_rate": MAX_RATE_HZ}
    session = _session(n_replicates, fields, conversion_factor=1 / scale, **constants)
    return {_session_name(n_neurons, n_neurons): session}


def lorenz(
    seed: int = 5,
    *,
    n_conditions: int = 65,
    n_replicates: int = 20,
    duration_s: float = 1.0,
    n_neurons: int = 30,
    n_steps_per_bin: int = 3,
    baseline_rate_hz: float = 5.0,
) -> Sessions:
    """Simulate neurons driven by the Lorenz system (Sussillo et al. 2016, section 4.1).

    Random states take Euler steps of 0.006 time units; the first 1000 are discarded. The state,
    centred and scaled to a maximum of 1 over all conditions, gives rate = baseline * exp(C state).
    The paper leaves C open; here its entries have random signs and sizes uniform in [1, 2], so that
    every neuron is tuned to all three dimensions. Rates average 7 to 11 Hz; 99 % are below 100 Hz.

    Args:
        seed: seed of read-out, initial states and spikes.
        n_conditions: initial states.
        n_replicates: trials per condition.
        duration_s: trial length.
        n_neurons: D.
        n_steps_per_bin: Euler steps per bin; 3 make a trial 1.8 time units, a few
            turns around the two wings.
        baseline_rate_hz: rate at the mean state.

    Returns:
        One session; truth is in Hz, ``*_lowd`` (E, T, 3) is the state.
    """
    n_bins = _checked_bins(locals())
    rng = np.random.RandomState(seed)
    readout = rng.uniform(1, 2, (n_neurons, 3)) * rng.choice([-1.0, 1.0], (n_neurons, 3))
    states = lorenz_states(rng.randn(n_conditions, 3), n_bins, n_steps_per_bin)
    states -= states.mean(axis=(0, 1))
    states /= np.abs(states).max(axis=(0, 1))
    rates_hz = baseline_rate_hz * np.exp(states @ readout.T)
    fields = {
        "{}_data": draw_poisson(rng, BIN_WIDTH_S * rates_hz, n_replicates),
        "{}_truth": np.repeat(rates_hz, n_replicates, axis=0),
        "{}_lowd": np.repeat(states, n_replicates, axis=0),
    }
    constants = {"readout_weights": readout, "baseline_rate_hz": baseline_rate_hz}
    session = _session(n_replicates, fields, conversion_factor=1 / BIN_WIDTH_S, **constants)
    return {_session_name(n_neurons, n_neurons): session}


SYNTHETIC: dict[str, Callable[..., Sessions]] = {
    "lorenz": lorenz,
    "chaotic_rnn_no_inputs": chaotic_rnn,
    "gaussian_chaotic_rnn_no_inputs": partial(chaotic_rnn, output_dist=OutputDist.gaussian),
    "chaotic_rnn_inputs_g1p5": partial(chaotic_rnn, input_magnitude=20.0),
    "chaotic_rnn_inputs_g2p5": partial(chaotic_rnn, input_magnitude=20.0, gain=2.5),
    "chaotic_rnn_multisession": multisession,
    "itb_rnn": integration_to_bound,
    "chaotic_rnns_labeled": labelled_rnns,
}


def _session(n_replicates: int, fields: DataDict, **constants: Any) -> DataDict:
    """Split ``fields`` (E, ...); ``{}`` in keys stands for the split, real numbers are float32."""
    n_trials = len(fields["{}_data"])
    condition, replicate = np.divmod(np.arange(n_trials), n_replicates)
    n_train = n_replicates * 4 // 5
    is_train = replicate < n_train
    data = {}
    for key, values in (fields | {"{}_condition": condition}).items():
        dtype = np.float32 if values.dtype.kind == "f" else values.dtype
        for split, chosen in (("train", is_train), ("valid", ~is_train)):
            data[key.format(split)] = values[chosen].astype(dtype)
    constants |= {"bin_width_s": BIN_WIDTH_S, "nreplications": n_replicates}
    constants |= {"train_percentage": n_train / n_replicates}
    return data | {key: np.asarray(value) for key, value in constants.items()}


def _session_name(n_neurons: int, n_observed: int, suffix: str = "") -> str:
    """Name a session as the original named its files, after the data set's stem."""
    return f"dataset_N{n_neurons}_S{n_observed}{suffix}"


def _checked_bins(arguments: Mapping[str, Any]) -> int:
    """Check every numeric argument of a recipe; return the bins of a trial."""
    for name, smallest in _SMALLEST.items():
        if name not in arguments:
            continue
        value: Any = arguments[name]
        is_whole = isinstance(smallest, int)  # integers are written as such in the table
        kind: type = Integral if is_whole else Real
        is_kind = isinstance(value, kind) and not isinstance(value, bool)
        if not is_kind or not smallest <= value < 2**31:
            expected = "whole number" if is_whole else "number"
            raise LFADSError(f"{name}={value!r}; expected a {expected} of at least {smallest:g}")
    return round(arguments["duration_s"] / BIN_WIDTH_S)


def _output_dist(value: OutputDist | str) -> OutputDist:
    name, allowed = getattr(value, "name", str(value)), ["poisson", "gaussian"]
    if name not in allowed:
        raise LFADSError(_unknown("output_dist", name, allowed))
    return OutputDist[name]


def _unknown(what: str, found: str, allowed: Collection[str]) -> str:
    nearest = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return f"unknown {what} {found!r}{hint} Allowed: {', '.join(allowed)}"
