"""Networks, trajectories and noise for the synthetic data sets.

Arrays are conditions or trials × time bins × units. Random draws come from NumPy's legacy
``RandomState``, in the order of the original LFADS benchmarks.
"""

from typing import NamedTuple

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.alignment import components_regression

BIN_WIDTH_S = 0.01
TIME_CONSTANT_S = 0.025
BOXCAR_BINS = 6  # smoothing before the alignment
LORENZ_STEP = 0.006  # time units of the Lorenz system
LORENZ_BURN_IN_STEPS = 1000  # 6 time units: random states reach the attractor and diverge


class IntegratorWeights(NamedTuple):
    """A vanilla RNN h_t = tanh(h_{t-1} W + b + u_t B) with output z_t = h_t w + c.

    Attributes:
        recurrent: W (N, N).
        bias: b (N,).
        inputs: B (N,).
        readout: w (N,).
        readout_bias: c, scalar.
    """

    recurrent: np.ndarray
    bias: np.ndarray
    inputs: np.ndarray
    readout: np.ndarray
    readout_bias: np.ndarray


def random_network(rng: np.random.RandomState, n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw recurrent weights W (N, N), variance 1/N, and input weights (N,)."""
    weights = rng.randn(n_units, n_units) / np.sqrt(n_units)
    input_weights = rng.randn(n_units)
    rng.randn(n_units)  # a second input vector; unused, but later draws must not change
    return weights, input_weights


def run_network(
    weights: np.ndarray,
    start: np.ndarray,
    n_bins: int,
    gain: float,
    inputs: np.ndarray | None = None,
    input_weights: np.ndarray | None = None,
) -> np.ndarray:
    """Integrate tau dx/dt = -x + g W tanh(x) + u B by Euler steps of one bin.

    Args:
        weights: W (N, N), acting on column vectors.
        start: x before the first bin (C, N).
        n_bins: T.
        gain: g.
        inputs: u (C, T, 1); None: no input.
        input_weights: B (N,).

    Returns:
        Rates tanh(x), (C, T, N).
    """
    step = BIN_WIDTH_S / TIME_CONSTANT_S
    x = start
    rates = np.empty((len(start), n_bins, len(weights)))
    for t in range(n_bins):
        x = (1 - step) * x + step * gain * (np.tanh(x) @ weights.T)
        if inputs is not None and input_weights is not None:
            x = x + step * inputs[:, t] * input_weights
        rates[:, t] = np.tanh(x)
    return rates


def unit_range(rates: np.ndarray) -> np.ndarray:
    """Scale each unit of each trial to [0, 1] over time."""
    low = rates.min(axis=1, keepdims=True)
    return (rates - low) / (rates.max(axis=1, keepdims=True) - low)


def draw_poisson(rng: np.random.RandomState, rates: np.ndarray, n_draws: int = 1) -> np.ndarray:
    """Draw counts trial by trial and, within a trial, unit by unit.

    Args:
        rng: random generator.
        rates: expected counts per bin (C, T, N).
        n_draws: replicates of each of the C rows.

    Returns:
        Counts (C * n_draws, T, N), in the smallest unsigned type that holds them.
    """
    # (N, T) in memory order, so that one call of NumPy draws as the original's loop did
    draws = [rng.poisson(r.T, size=(n_draws, *r.T.shape)).astype(np.int32) for r in rates]
    counts = np.concatenate(draws).swapaxes(1, 2)
    return np.ascontiguousarray(counts, dtype=np.min_scalar_type(counts.max()))


def draw_gaussian(
    rng: np.random.RandomState, mean: np.ndarray, std: float, n_draws: int = 1
) -> np.ndarray:
    """Add normal noise to ``mean`` (C, T, N), in the draw order of ``draw_poisson``; float32."""
    draws = [m.T + std * rng.randn(n_draws, *m.T.shape) for m in mean]
    return np.ascontiguousarray(np.concatenate(draws).swapaxes(1, 2), dtype=np.float32)


def lorenz_states(start: np.ndarray, n_bins: int, n_steps_per_bin: int) -> np.ndarray:
    """Integrate the Lorenz system (sigma 10, rho 28, beta 8/3) from ``start`` (C, 3).

    Returns:
        States (C, T, 3) after the burn-in, in the system's own units.
    """
    x, y, z = start.T
    states = np.empty((len(start), n_bins, 3))
    for step in range(LORENZ_BURN_IN_STEPS + n_bins * n_steps_per_bin):
        t, between = divmod(step - LORENZ_BURN_IN_STEPS, n_steps_per_bin)
        if t >= 0 and not between:
            states[:, t] = np.stack([x, y, z], axis=1)
        dx, dy, dz = 10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z
        x, y, z = x + LORENZ_STEP * dx, y + LORENZ_STEP * dy, z + LORENZ_STEP * dz
    return states


def integrator_weights(n_units: int = 50) -> IntegratorWeights:
    """Construct an RNN that outputs clip(cumsum(u), -1, 1), a line attractor read out by steps.

    Every unit sees s = cumsum(u) through h_j = tanh(gain_j (s - threshold_j)). The first half
    (threshold 0, gains .03 to 1) carries s to the next bin: ridge regression on |s| < 12 finds q
    with h q = s, hence W = q gain'. The second half (gain 5) has its thresholds spread evenly over
    [-1, 1]; its mean is the output, as clip(s, -1, 1) = 1/2 the integral of sign(s - v) over v.
    """
    n_carry = (n_units + 1) // 2
    n_step = n_units - n_carry
    carry_gains = np.geomspace(0.03, 1.0, n_carry)
    sums = np.linspace(0, 12, 1001)  # tanh is odd: the positive half suffices
    responses = np.tanh(np.outer(sums, carry_gains))
    gram = responses.T @ responses / len(sums) + 1e-6 * np.eye(n_carry)
    carry = np.linalg.solve(gram, responses.T @ sums / len(sums))

    gains = np.concatenate([carry_gains, np.full(n_step, 5.0)])
    thresholds = np.concatenate([np.zeros(n_carry), (2 * np.arange(n_step) + 1) / n_step - 1])
    return IntegratorWeights(
        recurrent=np.outer(np.concatenate([carry, np.zeros(n_step)]), gains),
        bias=-gains * thresholds,
        inputs=gains,
        readout=np.concatenate([np.zeros(n_carry), np.full(n_step, 1 / n_step)]),
        readout_bias=np.zeros(()),
    )


def as_integrator_weights(given: tuple, n_units: int) -> IntegratorWeights:
    """Check (W, b, B, w, c) of a network of ``n_units``; row and column vectors are allowed."""
    fields = IntegratorWeights._fields
    shapes = ((n_units, n_units), (n_units,), (n_units,), (n_units,), ())
    if len(given) != len(shapes):
        raise LFADSError(f"weights has {len(given)} arrays; expected {', '.join(fields)}")
    arrays = []
    for name, found, shape in zip(fields, given, shapes, strict=True):
        array = np.asarray(found, dtype=float)
        if array.size != np.prod(shape) or (name == "recurrent" and array.shape != shape):
            raise LFADSError(
                f"weights: {name} has shape {array.shape}; expected {shape} for n_neurons={n_units}"
            )
        arrays.append(array.reshape(shape))
    return IntegratorWeights(*arrays)


def integrate(network: IntegratorWeights, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run the RNN from h = 0 on inputs u (C, T).

    Returns:
        States h (C, T, N) and outputs z (C, T).
    """
    h = np.zeros((len(inputs), len(network.recurrent)))
    states = np.empty((*inputs.shape, h.shape[1]))
    for t in range(inputs.shape[1]):
        h = np.tanh(h @ network.recurrent + network.bias + np.outer(inputs[:, t], network.inputs))
        states[:, t] = h
    return states, states @ network.readout + network.readout_bias


def align_as_original(
    means: list[np.ndarray], n_components: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Align sessions by principal-component regression, as the original benchmark did.

    Channels of all sessions are smoothed by a boxcar, forward and backward, over the concatenated
    conditions; then :func:`lfads_lightning.data.alignment.components_regression` is applied.

    Args:
        means: per session, condition averages (C, T, D) of counts; same conditions and bins.
        n_components: F.

    Returns:
        Per session the matrix A_s (D, F), and the bias (D,), which is the channel means.
    """
    from scipy.signal import filtfilt  # takes a second to import

    boxcar = np.ones(BOXCAR_BINS) / BOXCAR_BINS
    smooth = [filtfilt(boxcar, 1, m.reshape(-1, m.shape[2]), axis=0) for m in means]
    found = components_regression(smooth, n_components)
    return list(zip(found.matrices, found.biases, strict=True))


def draw_negative_binomial(
    rng: np.random.Generator, mean: np.ndarray, dispersion: float
) -> np.ndarray:
    """Draw counts of mean m = ``mean``, any shape, and of variance m + dispersion m^2."""
    return rng.poisson(rng.gamma(1 / dispersion, dispersion * mean))


def draw_gamma(rng: np.random.Generator, mean: np.ndarray, shape: float) -> np.ndarray:
    """Draw values above 0 of mean m = ``mean``, any shape, and of variance m^2 / shape; float32."""
    values = rng.gamma(shape, mean / shape).astype(np.float32)
    return np.maximum(values, np.finfo(np.float32).tiny)  # with a small shape, values underflow


def draw_zero_inflated_gamma(
    rng: np.random.Generator, mean: np.ndarray, size: float, shape: float
) -> np.ndarray:
    """Draw values of mean m = ``mean``, any shape; float32.

    They are above 0 with probability m / (m + size), and then gamma of mean m + size.
    """
    events = rng.random(mean.shape) < mean / (mean + size)
    return np.where(events, draw_gamma(rng, mean + size, shape), np.float32(0))
