"""Time of one training step, by body of the recurrence.

    python -m benchmarks.step --sizes S,S2,M,L --bodies reference,native --threads 1
    python -m benchmarks.step --sizes S,M --bodies native --profile

A step is what the LightningModule does with a batch: forward pass, loss, backward pass, gradient
clip, Adam. The bodies take turns within one process; medians over the rounds.
``ratio_to_reference`` is how many times faster; ``gflops`` is the rate of the step's matrix
products over the whole step, ``sgemm_gflops`` what this machine reaches on these products alone,
``sgemm_share`` the share of the step that they would take. ``--profile`` says where the rest goes.
``load`` is that of the minute before: measure on an idle machine.
"""

import logging
import statistics
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks import machine
from benchmarks.profile_of_step import profile
from lfads_lightning.config import Recurrence
from lfads_lightning.data.datamodule import Batch
from lfads_lightning.model import native
from lfads_lightning.model.layout import time_major
from lfads_lightning.model.recurrences import choose
from lfads_lightning.training.module import LFADSModule


class Step:
    """One update of a model of a size, by a body; called again and again.

    Args:
        size: of the data and the model.
        body: of the recurrence.
        **parameters: further settings of the model and its training.
    """

    def __init__(self, size: machine.Size, body: Recurrence, **parameters: Any) -> None:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.model, config = machine.new_model(size, **parameters)
        self.model.passes = choose(body)
        self.module = LFADSModule(self.model, config, size.n_bins)
        self.module.trainer = pl.Trainer(  # type: ignore[assignment]
            accelerator="cpu", logger=False, enable_checkpointing=False
        )
        self.optimizer = self.module.configure_optimizers()
        counts = torch.from_numpy(machine.counts(size))
        self.batch = Batch("session", time_major(counts), None)

    def __call__(self) -> None:
        """Do it."""
        loss = self.module.training_step(self.batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.module.configure_gradient_clipping(self.optimizer)
        self.optimizer.step()


def measure(name: str, bodies: list[str], rounds: int, **parameters: Any) -> list[dict]:
    """Time the bodies in turn at one size."""
    size, load = machine.SIZES[name], machine.load()
    works = {body: Step(size, Recurrence[body], **parameters) for body in bodies}
    seconds = machine.in_turn(works, rounds)
    medians = {body: statistics.median(s) for body, s in seconds.items()}
    gflop, sgemm = machine.gflop(size), machine.sgemm_seconds(machine.products(size))
    reference = medians.get("reference")
    return [
        {
            "size": name,
            "body": body,
            "threads": native.team or torch.get_num_threads(),
            "step_ms": round(1e3 * median, 1),
            "quartiles_ms": "-".join(
                f"{1e3 * q:.1f}" for q in statistics.quantiles(seconds[body], n=4)[::2]
            ),
            "ratio_to_reference": None if reference is None else round(reference / median, 2),
            "gflops": round(gflop / median, 1),
            "sgemm_gflops": round(gflop / sgemm, 1),
            "sgemm_share": round(sgemm / median, 2),
            "load": load,
        }
        for body, median in medians.items()
    ]


def profiles(sizes: list[str], rounds: int, **parameters: Any) -> list[dict]:
    """Say where the native step's time goes: milliseconds, and their share, a column per size."""
    columns = {}
    for name in sizes:
        step = Step(machine.SIZES[name], Recurrence.native, **parameters)
        seconds = statistics.median(machine.in_turn({"": step}, rounds)[""])
        columns[name] = profile(step, seconds) | {"the step": seconds}
    return [
        {"part": part}
        | {f"{name}_ms": round(1e3 * column[part], 1) for name, column in columns.items()}
        | {
            f"{name}_%": round(1e2 * column[part] / column["the step"])
            for name, column in columns.items()
        }
        for part in next(iter(columns.values()))
    ]


if __name__ == "__main__":
    given = machine.arguments(
        (__doc__ or "").split("\n")[0],
        "S,S2,M",
        profile=False,
        coordinated_dropout_rate=0.0,
        keep_prob=0.95,
    )
    more = {k: float(getattr(given, k)) for k in ("coordinated_dropout_rate", "keep_prob")}
    if given.profile:
        machine.show(profiles(given.sizes, given.rounds, **more), given.json)
    else:
        each = (measure(size, given.bodies, given.rounds, **more) for size in given.sizes)
        machine.show([row for rows in each for row in rows], given.json)
