"""Time of averaging posterior samples, against a loop of whole forward passes.

    python -m benchmarks.sampling --sizes S --samples 50 --threads 1

``loop`` is what one writes first: a whole forward pass of the reference body for each sample,
outputs summed. The others are ``Trained.posterior_sample_and_average`` by body, with all that it
returns. ``ratio_to_products`` is the time against that of the matrix products alone, when trials
are encoded once. ``peak_mb`` is how far the memory of the process had grown after the first call of
that work.
"""

import resource
import statistics
import sys

import torch

from benchmarks import machine
from lfads_lightning.config import Recurrence
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.model.recurrences import REFERENCE, choose


@torch.no_grad()
def loop(trained: TrainedModel, data: torch.Tensor, samples: int) -> torch.Tensor:
    """Average rates over whole forward passes."""
    trained.model.passes = REFERENCE
    return sum(trained.model(data, "session").output_dist_params for _ in range(samples)) / samples


def peak_mb() -> float:
    """Return the highest memory that this process has held, MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(name: str, bodies: list[str], samples: int, rounds: int) -> list[dict]:
    """Time loop and bodies in turn at one size."""
    size, load = machine.SIZES[name], machine.load()
    model, config = machine.new_model(size)
    trained = TrainedModel(model, config, size.n_bins, step=10**6)
    counts = machine.counts(size)
    data = torch.from_numpy(counts)

    def average(body: str) -> None:
        model.passes = choose(Recurrence[body])
        trained.posterior_sample_and_average(counts, samples)

    works = {body: lambda body=body: average(body) for body in bodies}
    grown, before = {}, peak_mb()
    for body, work in works.items():
        work()
        grown[body] = round(peak_mb() - before)
    works["loop"] = lambda: loop(trained, data, samples)
    works["loop"]()
    grown["loop"] = round(peak_mb() - before)
    seconds = machine.in_turn(works, rounds, warm_ups=0)
    medians = {work: statistics.median(s) for work, s in seconds.items()}
    products = machine.sgemm_seconds(machine.sampling_products(size, samples))
    return [
        {
            "size": name,
            "work": work,
            "samples": samples,
            "threads": torch.get_num_threads(),
            "seconds": round(median, 3),
            "ratio_to_loop": round(medians["loop"] / median, 2),
            "ratio_to_products": round(median / products, 2),
            "peak_mb": grown[work],
            "load": load,
        }
        for work, median in medians.items()
    ]


if __name__ == "__main__":
    given = machine.arguments(
        (__doc__ or "").split("\n")[0], "S", bodies="native,reference", samples="50"
    )
    rows = []
    for size in given.sizes:
        for samples in given.samples.split(","):
            rows += measure(size, given.bodies, int(samples), given.rounds)
    machine.show(rows, given.json)
