"""A family of simulated recordings, each another draw: what a recipe is tried on.

A recording is drawn from its number: its size (20 to 2,000 trials, 5 to 500 neurons, 20 to 150
bins), its rates (.2 to 50 Hz), its dynamics (rotations from a start state, a chaotic network, or a
slow or fast state driven by inputs that differ from trial to trial), how many dimensions these
have, and whether gains drift over the trials or neurons burst. Even numbers are for choosing
settings, odd ones for reporting.
"""

from typing import Any, NamedTuple

import numpy as np

BIN_S = 0.02
DYNAMICS = ("rotations", "chaotic", "driven")
MOST_ENTRIES = 3_000_000  # of a recording: some large draws have fewer trials


class Drawn(NamedTuple):
    """What a number stands for."""

    dynamics: str
    n_trials: int
    n_bins: int
    n_neurons: int
    hz: float  # median rate of a neuron
    dims: int  # of the state
    tau: float  # bins: how fast the state changes
    drifts: bool  # each neuron's gain wanders over the trials
    bursts: bool  # counts scatter more than Poisson ones

    def __str__(self) -> str:
        """Return it in words."""
        more = ", drift" * self.drifts + ", bursts" * self.bursts
        return f"{self.dynamics}, {self.dims} dims, tau {self.tau:.0f}, {self.hz:.2g} Hz{more}"


def drawn(number: int) -> Drawn:
    """Return what a number stands for.

    >>> drawn(3) == drawn(3)
    True
    """
    rng = np.random.default_rng([number, 0])

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    n_neurons, n_bins = round(log_uniform(5, 500)), round(log_uniform(20, 150))
    n_trials = min(round(log_uniform(20, 2000)), MOST_ENTRIES // (n_neurons * n_bins))
    return Drawn(
        DYNAMICS[number // 2 % len(DYNAMICS)],
        max(n_trials, 20),
        n_bins,
        n_neurons,
        log_uniform(0.2, 50) if n_neurons > 30 else log_uniform(2, 50),
        int(rng.integers(2, 13)),
        log_uniform(3, 20),
        bool(rng.random() < 0.3),
        bool(rng.random() < 0.3),
    )


def simulate(number: int) -> dict[str, Any]:
    """Return a recording: ``train_data`` and ``valid_data`` (E, T, D) uint8, their rates per bin.

    A fifth of the trials are for validation; ``train_truth`` and ``valid_truth`` are counts per bin
    that are expected.
    """
    what, rng = drawn(number), np.random.default_rng([number, 1])
    state = _STATES[what.dynamics](what, rng)  # (E, T, K)
    state = (state - state.mean((0, 1))) / state.std((0, 1))
    mix = rng.normal(size=(what.dims, what.n_neurons)) / np.sqrt(what.dims)
    depth = rng.gamma(4, 0.15, size=what.n_neurons)
    hz = what.hz * np.exp(rng.normal(size=what.n_neurons) * 0.7)
    log_rates = np.log(hz * BIN_S) + depth * (state @ mix)
    if what.drifts:
        log_rates += np.cumsum(rng.normal(size=(what.n_trials, 1, what.n_neurons)), 0) * (
            0.5 / np.sqrt(what.n_trials)
        )
    rates = np.exp(np.minimum(log_rates, np.log(200 * BIN_S)))
    noisy = rates * rng.gamma(2, 0.5, size=rates.shape) if what.bursts else rates
    counts = rng.poisson(noisy).clip(max=255).astype(np.uint8)
    valid = np.arange(what.n_trials) % 5 == 4
    return {
        "train_data": counts[~valid],
        "valid_data": counts[valid],
        "train_truth": rates[~valid].astype(np.float32),
        "valid_truth": rates[valid].astype(np.float32),
    }


def _rotations(what: Drawn, rng: np.random.Generator) -> np.ndarray:
    """Planes that turn, and decay, from a start of the trial's condition and some of its own."""
    n = -(-what.dims // 2)
    conditions = rng.normal(size=(8, n)) + 1j * rng.normal(size=(8, n))
    of = rng.integers(8, size=what.n_trials)
    own = rng.normal(size=(what.n_trials, n)) + 1j * rng.normal(size=(what.n_trials, n))
    start = conditions[of] + 0.5 * own
    turn = np.exp((-rng.uniform(0, 0.5, n) + 1j * rng.uniform(0.5, 1.5, n)) / what.tau)
    z = start[:, None] * turn ** np.arange(what.n_bins)[None, :, None]
    return np.concatenate([z.real, z.imag], axis=2)[:, :, : what.dims]


def _chaotic(what: Drawn, rng: np.random.Generator) -> np.ndarray:
    """A network of 50 units with weights of 1.5, from one of ten starts and some of its own."""
    n, step = 50, 1 / what.tau
    weights = 1.5 * rng.normal(size=(n, n)) / np.sqrt(n)
    starts = rng.normal(size=(10, n))[rng.integers(10, size=what.n_trials)]
    x, states = starts + 0.2 * rng.normal(size=starts.shape), []
    for _ in range(what.n_bins):
        states.append(np.tanh(x))
        x = x + step * (-x + states[-1] @ weights)
    return np.stack(states, 1) @ rng.normal(size=(n, what.dims))


def _driven(what: Drawn, rng: np.random.Generator) -> np.ndarray:
    """A leaky state, turned a little, that pulses at random times push."""
    shape = (what.n_trials, what.n_bins + 20, what.dims)
    pulses = rng.normal(size=shape) * (rng.random(shape) < 0.1)
    turn = np.linalg.qr(np.eye(what.dims) + 0.1 * rng.normal(size=(what.dims, what.dims)))[0]
    x, states = np.zeros((what.n_trials, what.dims)), []
    for t in range(shape[1]):
        x = np.exp(-1 / what.tau) * (x @ turn) + pulses[:, t]
        states.append(x)
    return np.stack(states, 1)[:, 20:]


_STATES = {"rotations": _rotations, "chaotic": _chaotic, "driven": _driven}
