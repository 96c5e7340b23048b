"""Time of one training step, by body of the recurrence.

    python -m benchmarks.step --sizes S,S2,M,L --bodies reference,native --threads 1
    python -m benchmarks.step --sizes S,M --precision float32,bf16
    python -m benchmarks.step --sizes S,M --profile

A step is what the LightningModule does with a batch: forward pass, loss, backward pass, gradient
clip, Adam. The bodies take turns within one process; medians over the rounds.
``ratio_to_reference`` is how many times faster; ``gflops`` is the rate of the step's matrix
products over the whole step, ``sgemm_gflops`` what this machine reaches on these products alone,
``sgemm_share`` the share of the step that they would take. ``--precision`` adds rows of the native
kernels in bf16. ``--profile`` says where a native step's time goes.
``load`` is that of the minute before: measure on an idle machine.
"""

import itertools
import logging
import statistics
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks import machine
from benchmarks.profile_of_step import profile
from lfads_lightning.config import Precision, Recurrence
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
        precision: float32, or bf16.
        **parameters: further settings of the model and its training.
    """

    def __init__(
        self,
        size: machine.Size,
        body: Recurrence,
        precision: Precision = Precision.float32,
        **parameters: Any,
    ) -> None:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.model, config = machine.new_model(size, **parameters)
        self.model.passes = choose(body, precision=precision)
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


def measure(
    name: str, bodies: list[str], precisions: list[str], rounds: int, **parameters: Any
) -> list[dict]:
    """Time the bodies, native ones in each precision, in turn at one size."""
    size, load = machine.SIZES[name], machine.load()
    kinds = [(b, p) for b in bodies for p in precisions if b == "native" or p == "float32"]
    works = {(b, p): Step(size, Recurrence[b], Precision[p], **parameters) for b, p in kinds}
    seconds = machine.in_turn(works, rounds)
    medians = {kind: statistics.median(s) for kind, s in seconds.items()}
    gflop, sgemm = machine.gflop(size), machine.sgemm_seconds(machine.products(size))
    reference = medians.get(("reference", "float32"))
    return [
        {
            "size": name,
            "body": body,
            "precision": precision,
            "threads": native.team or torch.get_num_threads(),
            "step_ms": round(1e3 * median, 1),
            "quartiles_ms": "-".join(
                f"{1e3 * q:.1f}" for q in statistics.quantiles(seconds[body, precision], n=4)[::2]
            ),
            "ratio_to_reference": None if reference is None else round(reference / median, 2),
            "gflops": round(gflop / median, 1),
            "sgemm_gflops": round(gflop / sgemm, 1),
            "sgemm_share": round(sgemm / median, 2),
            "load": load,
        }
        for (body, precision), median in medians.items()
    ]


def profiles(sizes: list[str], precisions: list[str], rounds: int, **parameters: Any) -> list[dict]:
    """Say where the native step's time goes: milliseconds, and their share, by size, precision."""
    columns = {}
    for name, precision in itertools.product(sizes, precisions):
        step = Step(machine.SIZES[name], Recurrence.native, Precision[precision], **parameters)
        seconds = statistics.median(machine.in_turn({"": step}, rounds)[""])
        columns[f"{name}_{precision}"] = profile(step, seconds) | {"the step": seconds}
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
        precision="float32",
        coordinated_dropout_rate=0.0,
        keep_prob=0.95,
    )
    more = {k: float(getattr(given, k)) for k in ("coordinated_dropout_rate", "keep_prob")}
    precisions = given.precision.split(",")
    if given.profile:
        machine.show(profiles(given.sizes, precisions, given.rounds, **more), given.json)
    else:
        each = (
            measure(size, given.bodies, precisions, given.rounds, **more) for size in given.sizes
        )
        machine.show([row for rows in each for row in rows], given.json)
