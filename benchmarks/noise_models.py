"""Noise models beside one another, on the same hidden entries (prints a row for each training).

    python -m benchmarks.noise_models [--only NAME ...] [--seeds 0 1 2] [--calcium FILE] [--json F]

Simulated: 160 + 40 trials x 40 bins x 20 neurons, whose log-means follow a Lorenz system that
starts anywhere; drawn as negative-binomial counts, as gamma values, as zero-inflated gamma values.
Songbird calcium (songbird_hvc_calcium.mat of seqNMF: 75 neurons x 666 frames, cut into 22 trials of
1 s, every fifth for validation). Every model is trained with ``recipe=auto`` and nothing else set
but its noise model.

Scored are entries of validation trials that the encoders do not see, a fifth at a time. Families
are comparable only in one unit on the same values: nats per entry of the *probability of the
interval* of width ``resolution`` around a value. Of counts the interval is 1 wide: a Gaussian has
the mass between n - 1/2 and n + 1/2. Of values with zeros a zero counts as what the model says of
the interval around 0, where a zero-inflated gamma has a mass, and a Gaussian a density that may be
as high as it likes; ``positive`` is free of this choice: log-density of values above 0, given that
they are (a Gaussian is cut at 0). R2 is that of hidden rates, of the truth where it is known, and
of the data.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.io import loadmat

import lfads_lightning as lfads
from lfads_lightning import metrics
from lfads_lightning.data.fields import Split
from lfads_lightning.data.simulation import (
    draw_gamma,
    draw_negative_binomial,
    draw_zero_inflated_gamma,
    lorenz_states,
)
from lfads_lightning.inference.copying import parts_to_hide, shown
from lfads_lightning.inference.posterior import judged_rates
from lfads_lightning.inference.trained import TrainedModel

N_TRIALS, N_BINS, N_NEURONS = 200, 40, 20
FRAMES = 30  # of a trial of the songbird: 1 s


class Recording(NamedTuple):
    """What is trained on."""

    data: np.ndarray  # (E, T, D)
    truth: np.ndarray | None  # (E, T, D), means
    resolution: float
    models: tuple[str, ...]  # the right one first, where it is known

    @property
    def is_valid(self) -> np.ndarray:
        """Which trials (E,) are for validation."""
        return np.arange(len(self.data)) % 5 == 0


def means(seed: int) -> np.ndarray:
    """Return means (E, T, D) that follow a Lorenz system, exp of a map of its state."""
    rng = np.random.default_rng(seed)
    states = lorenz_states(rng.normal(0, 5, (N_TRIALS, 3)) + [0, 0, 20], N_BINS, 4)
    states = (states - states.mean((0, 1))) / states.std((0, 1))
    return np.exp(states @ rng.normal(0, 0.6, (3, N_NEURONS)) + rng.normal(-0.3, 0.4, N_NEURONS))


Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
SIMULATED: dict[str, tuple[Draw, float, tuple[str, ...]]] = {
    "negative_binomial": (
        lambda rng, m: draw_negative_binomial(rng, m, 1.0),
        1.0,
        ("negative_binomial", "poisson", "gaussian"),
    ),
    "gamma": (lambda rng, m: draw_gamma(rng, m, 0.7), 1e-2, ("gamma", "gaussian")),
    "zero_inflated_gamma": (
        lambda rng, m: draw_zero_inflated_gamma(rng, m, 1.0, 2.0),
        1e-2,
        ("zero_inflated_gamma", "gaussian"),
    ),
}


def simulated(name: str, seed: int) -> Recording:
    """Draw data of a known noise model."""
    draw, resolution, models = SIMULATED[name]
    truth = means(seed)
    return Recording(draw(np.random.default_rng([seed, 1]), truth), truth, resolution, models)


def songbird(path: Path) -> Recording:
    """Read deconvolved calcium; of the silent neuron nothing."""
    traces = np.asarray(loadmat(path, variable_names=["NEURAL"])["NEURAL"], np.float32)
    traces = traces[traces.any(1)]
    n = traces.shape[1] // FRAMES
    data = traces[:, : n * FRAMES].reshape(len(traces), n, FRAMES).transpose(1, 2, 0)
    resolution = 0.01 * float(np.median(data[data > 0]))
    return Recording(data, None, resolution, ("zero_inflated_gamma", "gaussian"))


def hidden_params(trained: TrainedModel, data: np.ndarray) -> list[np.ndarray]:
    """Return the parameters (E, T, D) of every entry, predicted from others: a block each."""
    (name,) = trained.sessions
    found: np.ndarray | None = None
    for part in parts_to_hide(data.shape, 10**6):
        given = judged_rates(trained.evaluation(), name, Split(data), shown(part))
        params = given.output_dist_params
        blocks = params.shape[-1] // data.shape[-1]
        found = np.zeros_like(params) if found is None else found
        np.copyto(found, params, where=np.tile(part, blocks))
    assert found is not None
    return [p.astype(np.float64) for p in np.split(found, blocks, axis=-1)]


def log_probability(
    dist: str, params: list[np.ndarray], values: np.ndarray, width: float
) -> np.ndarray:
    """Return the log-probability of the interval of a width around each value."""
    if dist == "poisson":
        return stats.poisson.logpmf(values, params[0])
    if dist == "negative_binomial":
        r = 1 / params[1]
        return stats.nbinom.logpmf(values, r, r / (r + params[0]))
    q, continuous = _continuous(dist, params)
    low, high = values - width / 2, values + width / 2
    mass = q * (continuous.cdf(high) - continuous.cdf(low)) + (1 - q) * (low < 0)
    # far from the bulk the difference of two distribution functions is 0, the density is not
    density = continuous.logpdf(np.maximum(values, width / 2)) + np.log(q * width)
    return np.where(mass > 1e-10, np.log(np.maximum(mass, 1e-300)), density)


def log_density_above(dist: str, params: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return log p(values | values > 0)."""
    _, continuous = _continuous(dist, params)
    return continuous.logpdf(values) - continuous.logsf(0)


def _continuous(dist: str, params: list[np.ndarray]) -> tuple[Any, Any]:
    """Return the share of the continuous part, and that part."""
    if dist == "gaussian":
        return 1.0, stats.norm(params[0], np.sqrt(params[1]))
    mean, shape, q = params[0], params[-1], params[1] if len(params) == 3 else 1.0
    return q, stats.gamma(shape, scale=mean / q / shape)


def compare(name: str, recording: Recording, seed: int, **settings: Any) -> list[dict[str, Any]]:
    """Train every model on a recording, with settings beside the recipe's; return their rows."""
    rows = []
    data, is_valid = recording.data, recording.is_valid
    test = data[is_valid]
    for dist in recording.models:
        with tempfile.TemporaryDirectory() as folder:
            trained = lfads.fit(
                data[~is_valid],
                valid_data=test,
                recipe="auto",
                output_dist=dist,
                seed=seed,
                device="cpu:0",
                report=False,
                lfads_save_dir=folder,
                **settings,
            )
        params = hidden_params(trained, test)
        row = {
            "recording": name,
            "model": dist,
            "seed": seed,
            "nats": float(log_probability(dist, params, test, recording.resolution).mean()),
            "data_r2": metrics.mean_r2(trained.model.noise_model.mean(np.concatenate(params, -1)),
                                       test.astype(np.float64)),
            "simple_r2": trained.scores.get("valid/best_simple_hidden_r2"),
        }  # fmt: skip
        if recording.truth is not None:
            row["rate_r2"] = metrics.rate_r2(params[0], recording.truth[is_valid])[0]
        if (test == 0).any() and not trained.model.noise_model.is_counts:
            above = test > 0
            each = log_density_above(dist, [p[above] for p in params], test[above])
            row["positive"] = float(each.mean())
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*SIMULATED, "songbird"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--calcium", type=Path, help="songbird_hvc_calcium.mat")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, help="updates; by default the recipe's")
    given = parser.parse_args()
    settings = {} if given.steps is None else {"max_steps": given.steps}
    warnings.filterwarnings("ignore")
    rows = []
    for name in given.only or [*SIMULATED, *(["songbird"] if given.calcium else [])]:
        for seed in given.seeds:
            if name == "songbird":
                if given.calcium is None:
                    parser.error("songbird needs --calcium FILE.mat")
                recording = songbird(given.calcium)
            else:
                recording = simulated(name, seed)
            rows += compare(name, recording, seed, **settings)
            if given.json is not None:
                given.json.write_text(json.dumps(rows, indent=1))
    print(f"{len(rows)} runs", file=sys.stderr)


if __name__ == "__main__":
    main()
