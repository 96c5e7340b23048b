"""Time of one training step on a CUDA device: loop and Triton kernels, launched or in a graph.

    python -m benchmarks.gpu --sizes S,S2,M,L --members 1,4,10,20

A step is what the LightningModule does with a batch, with AdamW. ``eager`` launches every kernel
from Python; ``graph`` replays a step that was captured once, which is what the device alone needs.
``error`` is the largest relative error of a weight's gradient against the loop in float64.
``members`` are models of their own, whose captured steps run side by side on a stream each: the
milliseconds are those of one step of all of them. The loop of size L is left out of the graphs: its
capture takes minutes.
"""

import logging
import statistics
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from benchmarks import machine
from lfads_lightning.config import Recurrence
from lfads_lightning.data.datamodule import Batch
from lfads_lightning.model import recurrences
from lfads_lightning.model.layout import time_major
from lfads_lightning.model.records import Noise
from lfads_lightning.training.module import LFADSModule

DEVICE = torch.device("cuda:0")


class Step:
    """One update of a model of this size; ``capture`` makes it a graph.

    Args:
        name: of the size.
        body: of the recurrence.
        seed: of its random numbers.
    """

    def __init__(self, name: str, body: str, seed: int = 0) -> None:
        size = machine.SIZES[name]
        model, config = machine.new_model(size, optimizer="adamw", coordinated_dropout_rate=0.3)
        model.passes = recurrences.choose(Recurrence[body], "cuda")
        self.module = LFADSModule(model, config, size.n_bins).to(DEVICE)
        self.module.trainer = pl.Trainer(  # type: ignore[assignment]
            accelerator="gpu", devices=1, logger=False, enable_checkpointing=False
        )
        data = torch.from_numpy(machine.counts(size)).to(DEVICE)
        self.batch = Batch("session", time_major(data), None)
        rng = self.rng = torch.Generator(DEVICE).manual_seed(seed)
        # one generator for all updates: a graph cannot seed a new one
        self.module._generator = lambda *purpose: rng  # type: ignore[method-assign]
        self.params = [p for p in model.parameters() if p.requires_grad]
        rate = torch.tensor(1e-3, device=DEVICE)
        self.optimizer = torch.optim.AdamW(self.params, lr=rate, fused=True, capturable=True)
        self.graph, self.stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()

    def __call__(self) -> None:
        """Do it, without waiting for the device."""
        loss = self.module.training_step(self.batch)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.params if p.grad is not None])
        torch.nn.utils.clip_grads_with_norm_(self.params, 200.0, norm)
        self.optimizer.step()

    def capture(self) -> None:
        """Record it; ``replay`` does it."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                self()
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.synchronize()
        self.graph.register_generator_state(self.rng)
        self.optimizer.zero_grad()
        with torch.cuda.graph(self.graph):
            self()

    def replay(self) -> None:
        """Do it as it was recorded, beside what other streams do."""
        with torch.cuda.stream(self.stream):
            self.graph.replay()


def milliseconds(work: Callable[[], None], rounds: int) -> float:
    """Return the median time of a round, the device's share included."""

    def to_its_end() -> None:
        work()
        torch.cuda.synchronize()

    seconds = machine.in_turn({"work": to_its_end}, rounds, warm_ups=2)["work"]
    return round(1e3 * statistics.median(seconds), 2)


def gradients(name: str, body: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the gradients of a cost without dropout, from noise that all bodies share."""
    size = machine.SIZES[name]
    model, _ = machine.new_model(size)
    noise = model.draw_noise(20, size.n_bins, torch.Generator().manual_seed(1))
    model = model.to(DEVICE, dtype)
    model.passes = recurrences.choose(Recurrence[body], "cuda")
    data = torch.from_numpy(machine.counts(size, 20)).to(DEVICE, dtype)
    output = model(data, "session", None, Noise(*(x.to(DEVICE, dtype) for x in noise)))
    (output.output_dist_params - 1).square().mean().backward()
    return {n: p.grad.double() for n, p in model.named_parameters() if p.grad is not None}


def error(name: str, body: str) -> str:
    """Return the largest relative error of a gradient against the loop in float64."""
    ours, exact = gradients(name, body, torch.float32), gradients(name, "reference", torch.float64)
    largest = max(float((ours[n] - g).norm() / g.norm().clamp_min(1e-12)) for n, g in exact.items())
    return f"{largest:.1e}"


def measure(name: str, body: str, rounds: int) -> dict[str, Any]:
    """Time a body at one size."""
    step = Step(name, body)
    row = {"device": torch.cuda.get_device_name(DEVICE), "size": name, "body": body}
    row["error"] = error(name, body) if name != "L" else ""
    is_long = body == "reference" and name == "L"
    row["eager_ms"] = milliseconds(step, 3 if body == "reference" else rounds)
    if not is_long:
        step.capture()
    row["graph_ms"] = "" if is_long else milliseconds(step.replay, rounds)
    return row


def population(name: str, numbers: list[int], rounds: int) -> list[dict[str, Any]]:
    """Time members side by side at one size."""
    members: list[Step] = []
    rows = []

    def work() -> None:
        for member in members:
            member.replay()

    for n in numbers:
        while len(members) < n:
            members.append(Step(name, "triton", len(members)))
            members[-1].capture()
        ms = milliseconds(work, rounds)
        rows.append({"size": name, "members": n, "ms": ms, "ms_of_a_member": round(ms / n, 2)})
    return rows


if __name__ == "__main__":
    given = machine.arguments(
        (__doc__ or "").split("\n")[0], "S,S2,M,L", "reference,triton", members=""
    )
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a CUDA device; torch finds none here")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    machine.show(
        [measure(s, b, given.rounds) for s in given.sizes for b in given.bodies], given.json
    )
    if given.members:
        numbers = [int(n) for n in given.members.split(",")]
        rows = [row for s in given.sizes for row in population(s, numbers, given.rounds)]
        machine.show(rows, None)
