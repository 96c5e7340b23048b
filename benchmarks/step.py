"""Time of one training step, by body of the recurrence (a table; rows as JSON with --json).

    python benchmarks/step.py --sizes S,S2,M --threads 1 --rounds 10

A step is forward pass, loss, backward pass, gradient clip and Adam on one batch. The bodies take
turns within one process; medians over the rounds, and the ratio to the reference body. Run it on an
idle machine: ``load`` is the number of other busy processes (1 minute average at the start).
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import torch

from lfads_lightning.config import LossConfig, ModelConfig, Recurrence, SessionSpec
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import compute_loss
from lfads_lightning.model.recurrences import choose
from lfads_lightning.training.optimizer import TFAdam

# bins, neurons, trials, model
SIZES = {
    "S": (100, 30, 100, {"ic_enc_dim": 64, "gen_dim": 64, "factors_dim": 8, "co_dim": 0}),
    "S2": (
        100,
        50,
        100,
        {
            "ic_enc_dim": 64,
            "ci_enc_dim": 64,
            "con_dim": 64,
            "gen_dim": 100,
            "factors_dim": 20,
            "co_dim": 2,
        },
    ),
    "M": (
        140,
        180,
        100,
        {
            "ic_enc_dim": 100,
            "ci_enc_dim": 100,
            "con_dim": 100,
            "gen_dim": 200,
            "factors_dim": 40,
            "co_dim": 4,
        },
    ),
}


def step(model: LFADS, optimizer: TFAdam, data: torch.Tensor) -> None:
    """Do one update."""
    masks = model.draw_masks(data.shape[0], data.shape[1], "session")
    output = model(data, "session", masks=masks)
    loss = compute_loss(model, output, data, LossConfig(), 0.5, 0.5)
    optimizer.zero_grad()
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 200.0)
    optimizer.step()


def measure(size: str, bodies: list[str], rounds: int) -> list[dict]:
    """Time the bodies in turn at one size."""
    n_bins, n_neurons, n_trials, settings = SIZES[size]
    torch.manual_seed(0)
    model = LFADS(ModelConfig(**settings), [SessionSpec("session", n_neurons)])
    optimizer = TFAdam(model.parameters(), lr=1e-3)
    data = torch.poisson(torch.full((n_trials, n_bins, n_neurons), 0.1)).to(torch.uint8)
    passes = {body: choose(Recurrence[body]) for body in bodies}
    load, seconds = os.getloadavg()[0], {body: [] for body in bodies}
    for i in range(rounds + 1):  # the first round warms up
        for body in bodies:
            model.passes = passes[body]
            started = time.perf_counter()
            step(model, optimizer, data)
            if i:
                seconds[body].append(time.perf_counter() - started)
    medians = {body: statistics.median(s) for body, s in seconds.items()}
    return [
        {
            "size": size,
            "body": body,
            "threads": torch.get_num_threads(),
            "step_ms": round(1e3 * medians[body], 1),
            "spread_ms": round(1e3 * (max(seconds[body]) - min(seconds[body])), 1),
            "ratio_to_reference": round(medians["reference"] / medians[body], 2),
            "load": round(load, 1),
        }
        for body in bodies
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="S,S2,M")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for size in arguments.sizes.split(","):
        rows += measure(size, ["reference", "native"], arguments.rounds)
        for row in rows[-2:]:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
