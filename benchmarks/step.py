"""Time of one training step, by body of the recurrence.

    python -m benchmarks.step --sizes S,S2,M,L --bodies reference,native --threads 1

A step is what the LightningModule does with a batch: forward pass, loss, backward pass, gradient
clip, Adam. The bodies take turns within one process; medians over the rounds.
``ratio_to_reference`` is how many times faster; ``gflops`` is the rate of the step's matrix
products over the whole step, ``sgemm_gflops`` what this machine reaches on these products alone.
``load`` is that of the minute before: measure on an idle machine.
"""

import logging
import statistics
from collections.abc import Callable

import lightning.pytorch as pl
import torch

from benchmarks import machine
from lfads_lightning.config import Recurrence
from lfads_lightning.data.datamodule import Batch
from lfads_lightning.model.layout import time_major
from lfads_lightning.model.recurrences import choose
from lfads_lightning.training.module import LFADSModule


def new_step(size: machine.Size, body: Recurrence) -> Callable[[], None]:
    """Return a function that does one update of a model of this size."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model, config = machine.new_model(size)
    model.passes = choose(body)
    module = LFADSModule(model, config, size.n_bins)
    module.trainer = pl.Trainer(  # type: ignore[assignment]
        accelerator="cpu", logger=False, enable_checkpointing=False
    )
    optimizer = module.configure_optimizers()
    batch = Batch("session", time_major(torch.from_numpy(machine.counts(size))), None)

    def step() -> None:
        loss = module.training_step(batch)
        optimizer.zero_grad()
        loss.backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()

    return step


def measure(name: str, bodies: list[str], rounds: int) -> list[dict]:
    """Time the bodies in turn at one size."""
    size, load = machine.SIZES[name], machine.load()
    works = {body: new_step(size, Recurrence[body]) for body in bodies}
    seconds = machine.in_turn(works, rounds)
    medians = {body: statistics.median(s) for body, s in seconds.items()}
    gflop, sgemm = machine.gflop(size), machine.sgemm_seconds(size)
    reference = medians.get("reference")
    return [
        {
            "size": name,
            "body": body,
            "threads": torch.get_num_threads(),
            "step_ms": round(1e3 * median, 1),
            "quartiles_ms": "-".join(
                f"{1e3 * q:.1f}" for q in statistics.quantiles(seconds[body], n=4)[::2]
            ),
            "ratio_to_reference": None if reference is None else round(reference / median, 2),
            "gflops": round(gflop / median, 1),
            "sgemm_gflops": round(gflop / sgemm, 1),
            "load": load,
        }
        for body, median in medians.items()
    ]


if __name__ == "__main__":
    given = machine.arguments((__doc__ or "").split("\n")[0], "S,S2,M")
    rows = [row for size in given.sizes for row in measure(size, given.bodies, given.rounds)]
    machine.show(rows, given.json)
