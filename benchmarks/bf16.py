"""Does training with ``trainer.precision=bf16`` end as well, and how much sooner?

    python -m benchmarks.bf16 FILE_OR_NAME ... [--seeds 0 1 2] [--set NAME=VALUE ...] [--json FILE]

Files and names are those of :mod:`benchmarks.first_run`. A row for each seed: bits per spike of
hidden entries, the criterion, and the seconds of training, in float32 and in bf16. Needs a
processor with avx512_bf16.
"""

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lfads_lightning as lfads
from benchmarks import machine
from benchmarks.first_run import recordings, setting

SCORES = ("valid/hidden_bits_per_spike", "criterion", "seconds")


def scores(data: Any, **settings: Any) -> dict[str, float]:
    """Train once; return the scores."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fixed = {"device": "cpu:0", "num_threads": 1, "report": False, "lfads_save_dir": folder}
        found = lfads.fit(data, **fixed | settings).scores
    return {name: float(found[name]) for name in SCORES}


def measure(name: str, data: Any, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train in both precisions, and return a row."""
    precisions = ("float32", "bf16")
    both = {p: scores(data, seed=seed, precision=p, **settings) for p in precisions}
    columns = {
        f"{score.rsplit('/')[-1]} {precision}": round(found[score], 4)
        for score in SCORES
        for precision, found in both.items()
    }
    return {"recording": name, "seed": seed} | columns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], type=setting, metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [
        measure(name, data, seed, dict(given.set))
        for name, data in recordings(given.recordings).items()
        for seed in given.seeds
    ]
    machine.show(rows, given.json)
