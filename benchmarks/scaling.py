"""Growth of cost and memory with the size of the data, and what Lightning adds to a step.

    python -m benchmarks.scaling                       trials, 200 to 20,000, of one session
    python -m benchmarks.scaling --vary T|B|D|sessions a step's time, halved and doubled from size S
    python -m benchmarks.scaling --vary lightning      whole training against a bare loop of updates

Trials: each row is a process of its own; ``epoch_s`` is the median epoch of training as users run
it, without validation data; ``data_mb`` is what the counts take as integers, ``grown_mb`` how much
more the process held at its peak than with a hundredth of the trials.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch

from benchmarks import machine
from benchmarks.sampling import peak_mb
from benchmarks.step import Step
from lfads_lightning.config import Recurrence
from lfads_lightning.data.sessions import Session, sessions_from_arrays
from lfads_lightning.training.fit import fit

EPOCHS = 4


class EpochTimes(pl.Callback):
    """Note when each epoch ends."""

    def __init__(self) -> None:
        self.ends = [time.perf_counter()]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note it."""
        self.ends.append(time.perf_counter())

    def median(self) -> float:
        """Return the median epoch, s, without the first."""
        return statistics.median(b - a for a, b in zip(self.ends[1:-1], self.ends[2:], strict=True))


def sessions_of(size: machine.Size, n_trials: int, n_sessions: int = 1) -> list[Session]:
    """Make sessions without validation data."""
    return sessions_from_arrays(
        {f"session_{i}": machine.counts(size, n_trials) for i in range(n_sessions)},
        output_dist="poisson",
        ext_input_dim=0,
        factors_dim=size.model["factors_dim"],
        warn=False,
    )


def train(size: machine.Size, n_trials: int, n_sessions: int = 1, epochs: int = EPOCHS) -> float:
    """Train as users do; return the median epoch, s."""
    _, config = machine.new_model(size, max_epochs=epochs, num_threads=torch.get_num_threads())
    times = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        fit(config, sessions_of(size, n_trials, n_sessions), Path(folder), callbacks=[times])
    return times.median()


def trials(rounds: int) -> list[dict]:
    """Measure epochs of 200, 2,000 and 20,000 trials."""
    rows: list[dict] = []
    for n in (200, 2_000, 20_000):
        command = [sys.executable, "-m", "benchmarks.scaling", "--vary", f"trials={n}"]
        command += ["--threads", str(torch.get_num_threads())]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(result.stdout))
        first = rows[0]
        rows[-1]["epoch_ratio"] = round(rows[-1]["epoch_s"] / first["epoch_s"], 1)
        rows[-1]["grown_mb"] = round(rows[-1]["peak_mb"] - first["peak_mb"], 1)
    return rows


def one_of_trials(n: int) -> dict:
    """Measure one row of :func:`trials`, in a process of its own."""
    size = machine.SIZES["S"]
    seconds = train(size, n)
    data_mb = n * size.n_bins * size.n_neurons / 2**20
    return {
        "trials": n,
        "epoch_s": round(seconds, 3),
        "data_mb": round(data_mb, 1),
        "peak_mb": round(peak_mb(), 1),
    }


def sessions(rounds: int) -> list[dict]:
    """Measure epochs of the same 2,000 trials in 1, 4 and 20 sessions."""
    size = machine.SIZES["S"]
    medians = {n: train(size, 2_000 // n, n) for n in (1, 4, 20)}
    return [
        {"sessions": n, "epoch_s": round(s, 3), "ratio": round(s / medians[1], 2)}
        for n, s in medians.items()
    ]


def step(letter: str, rounds: int) -> list[dict]:
    """Measure a step at half, one and two times T, B or D of size S."""
    field = {"T": "n_bins", "B": "n_trials", "D": "n_neurons"}[letter]
    size = machine.SIZES["S"]
    sizes = {f: size._replace(**{field: int(getattr(size, field) * f)}) for f in (0.5, 1, 2)}
    works = {str(f): Step(s, Recurrence.auto) for f, s in sizes.items()}
    medians = {f: statistics.median(s) for f, s in machine.in_turn(works, rounds).items()}
    return [
        {letter: getattr(sizes[float(f)], field), "step_ms": round(1e3 * s, 1)}
        | {"ratio": round(s / medians["1"], 2)}
        for f, s in medians.items()
    ]


def lightning(rounds: int) -> list[dict]:
    """Compare an epoch of 20 updates, logs and progress on, with 20 bare updates."""
    size = machine.SIZES["S"]
    one = Step(size, Recurrence.auto)
    bare, whole = [], []
    for _ in range(max(rounds // 3, 1)):
        blocks = machine.in_turn({"bare": lambda: [one() for _ in range(20)]}, 5)
        bare.append(statistics.median(blocks["bare"]))
        whole.append(train(size, 2_000, epochs=8))
    ratio = statistics.median(whole) / statistics.median(bare)
    return [
        {
            "bare_ms": round(50 * statistics.median(bare), 1),
            "lightning_ms": round(50 * statistics.median(whole), 1),
            "added_percent": round(100 * (ratio - 1), 1),
        }
    ]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    given = machine.arguments((__doc__ or "").split("\n")[0], "S", vary="trials")
    if given.vary.startswith("trials="):
        print(json.dumps(one_of_trials(int(given.vary.split("=")[1]))))
    else:
        works = {"trials": trials, "sessions": sessions, "lightning": lightning}
        rows = (
            works[given.vary](given.rounds)
            if given.vary in works
            else step(given.vary, given.rounds)
        )
        machine.show(rows, given.json)
