"""Sizes that the benchmarks share, and what this machine can do at best."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from lfads_lightning.config import Config, SessionSpec
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.threads import use_threads
from lfads_lightning.params import from_flat

_CONTROLLER = {"ci_enc_dim": 64, "con_dim": 64, "co_dim": 2}
_LARGE = {"ic_enc_dim": 100, "ci_enc_dim": 100, "con_dim": 100, "co_dim": 4}


Name = TypeVar("Name")  # of what is timed
Product = tuple[int, int, int, float]  # m, n, k, how often: of (m, k) and (k, n)


class Size(NamedTuple):
    """Data and model of one benchmark."""

    n_bins: int
    n_neurons: int
    n_trials: int
    model: dict[str, int]


SIZES = {
    "S": Size(100, 30, 100, {"ic_enc_dim": 64, "gen_dim": 64, "factors_dim": 8, "co_dim": 0}),
    "S2": Size(100, 50, 100, {"ic_enc_dim": 64, "gen_dim": 100, "factors_dim": 20} | _CONTROLLER),
    "M": Size(140, 180, 100, {"gen_dim": 200, "factors_dim": 40} | _LARGE),
    "L": Size(300, 200, 256, {"gen_dim": 200, "factors_dim": 40} | _LARGE),
}


def new_model(size: Size, **parameters: Any) -> tuple[LFADS, Config]:
    """Make a model of this size, and its config."""
    config = from_flat(size.model | {"batch_size": size.n_trials, "device": "cpu:0"} | parameters)
    torch.manual_seed(0)
    return LFADS(config.model, [SessionSpec("session", size.n_neurons)]), config


def counts(size: Size, n_trials: int | None = None) -> np.ndarray:
    """Draw (E, T, D) counts, 0.1 per bin."""
    rng, n_trials = np.random.default_rng(0), n_trials or size.n_trials
    drawn = np.empty((n_trials, size.n_bins, size.n_neurons), np.uint8)
    for i in range(n_trials):  # NumPy draws 8 bytes for each
        drawn[i] = rng.poisson(0.1, drawn[i].shape)
    return drawn


def in_turn(
    works: dict[Name, Callable[[], object]], rounds: int, warm_ups: int = 5
) -> dict[Name, list[float]]:
    """Time works A B A B ..., seconds each; the first rounds are not counted."""
    seconds: dict[Name, list[float]] = {name: [] for name in works}
    for i in range(warm_ups + rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if i >= warm_ups:
                seconds[name].append(time.perf_counter() - started)
    return seconds


class Layer(NamedTuple):
    """A matrix of the network, and what is multiplied by it."""

    n_in: int
    n_out: int
    is_recurrent: bool  # bin by bin, not for all bins at once
    of_encoder: bool
    times: int = 1  # directions
    wants_input: bool = True  # the backward pass goes on to what went in

    def forward(self, n_trials: int, n_bins: int) -> Product:
        """Return its product in the forward pass."""
        if self.is_recurrent:
            return n_trials, self.n_out, self.n_in, n_bins * self.times
        return n_trials * n_bins, self.n_out, self.n_in, self.times

    def all(self, n_trials: int, n_bins: int) -> list[Product]:
        """Return its products in both passes: for the weights' gradient, and the input's."""
        forward = rows, _, _, times = self.forward(n_trials, n_bins)
        found = [forward, (self.n_in, self.n_out, n_trials * n_bins, self.times)]
        return found + [(rows, self.n_in, self.n_out, times)] * self.wants_input


def layers(size: Size) -> list[Layer]:
    """List the matrices of a model."""
    d, model = size.n_neurons, size.model
    e, g, f, u = (model[k] for k in ("ic_enc_dim", "gen_dim", "factors_dim", "co_dim"))

    def gru(n: int, of_encoder: bool, times: int = 1) -> list[Layer]:
        return [Layer(n, width, True, of_encoder, times) for width in (2 * n, n)]

    found = [Layer(d, 3 * e, False, True, 2, wants_input=False), *gru(e, True, 2)]
    found += [*gru(g, False), Layer(g, f, False, False), Layer(f, d, False, False)]
    if u:
        c, k = model["ci_enc_dim"], model["con_dim"]
        found += [Layer(d, 3 * c, False, True, 2, wants_input=False), *gru(c, True, 2)]
        found += [*gru(k, False), Layer(2 * c, 3 * k, False, True), Layer(f, 3 * k, False, False)]
        found += [Layer(k, 2 * u, False, False), Layer(u, 3 * g, False, False)]
    return found


def products(size: Size) -> list[Product]:
    """List a training step's matrix products, (m, n, k, how often), for (m, k) times (k, n)."""
    return [p for layer in layers(size) for p in layer.all(size.n_trials, size.n_bins)]


def sampling_products(size: Size, samples: int) -> list[Product]:
    """List the products of encoding once and decoding samples, ten of each trial at a time."""
    found = []
    for layer in layers(size):
        at_once = 1 if layer.of_encoder else min(samples, 10)
        m, n, k, times = layer.forward(size.n_trials * at_once, size.n_bins)
        found.append((m, n, k, times if layer.of_encoder else times * samples / at_once))
    return found


def gflop(size: Size) -> float:
    """Return the arithmetic in a step's products, 10^9 operations."""
    return sum(2e-9 * m * n * k * times for m, n, k, times in products(size))


def sgemm_seconds(of: list[Product]) -> float:
    """Return how long products alone take here, each shape by itself."""
    total = 0.0
    for m, n, k, times in of:
        # the weights' product has its first factor transposed in memory
        a = torch.randn(k, m).T if k > 10 * max(m, n) else torch.randn(m, k)
        b, out = torch.randn(k, n), torch.empty(m, n)
        repeat = max(int(2e8 / (m * n * k)), 1)

        def work(a: torch.Tensor = a, b: torch.Tensor = b, out: torch.Tensor = out) -> None:
            for _ in range(repeat):  # noqa: B023
                torch.mm(a, b, out=out)

        total += statistics.median(in_turn({"mm": work}, 5)["mm"]) / repeat * times
    return total


def arguments(
    description: str, sizes: str, bodies: str = "reference,native", **more: Any
) -> argparse.Namespace:
    """Read the command line that the benchmarks share, and set the number of threads.

    Args:
        description: for ``--help``.
        sizes: default of ``--sizes``.
        bodies: default of ``--bodies``.
        **more: further options, and their defaults; of False, a switch.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sizes", default=sizes)
    parser.add_argument("--bodies", default=bodies)
    parser.add_argument(
        "--threads",
        type=lambda word: None if word == "null" else int(word),
        default=1,
        help="as trainer.num_threads; null: the native kernels use all cores, torch one thread",
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    for name, default in more.items():
        option = "--" + name.replace("_", "-")
        if default is False:
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, default=default)
    given = parser.parse_args()
    given.sizes, given.bodies = given.sizes.split(","), given.bodies.split(",")
    use_threads(given.threads)
    return given


def load() -> float:
    """Return the load of the last minute: other busy processes, on an idle start."""
    return round(os.getloadavg()[0], 2)


def show(rows: list[dict[str, Any]], file: Path | None) -> None:
    """Print rows as a table, and write them if asked."""
    if not rows:
        return
    widths = {k: max(len(k), *(len(str(row[k])) for row in rows)) for k in rows[0]}
    print("  ".join(k.rjust(w) for k, w in widths.items()))
    for row in rows:
        print("  ".join(str(row[k]).rjust(w) for k, w in widths.items()))
    if file is not None:
        file.write_text(json.dumps(rows, indent=1))
