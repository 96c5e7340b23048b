"""A long run: does memory grow, do its folders?

Trains a tiny model on the embedded Lorenz data for 20,000 updates, and looks at the memory of this
process every hundred::

    nice python -m benchmarks.endurance       # minutes; prints JSON

Exits with 1 where memory after the first 500 updates grows by more than 2 %, or a folder holds more
checkpoints than ``output.max_ckpt_to_keep`` and ``max_ckpt_to_keep_lve`` allow.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lfads_lightning.data.loading import load_data
from lfads_lightning.params import from_flat
from lfads_lightning.training.fit import fit

FIRST, EVERY = 500, 100
KEPT, KEPT_LVE = 3, 2
PARAMETERS = {
    "data_filename_stem": "lorenz",
    "factors_dim": 3,
    "gen_dim": 8,
    "ic_enc_dim": 8,
    "ic_dim": 4,
    "co_dim": 0,
    "batch_size": 4,
    "learning_rate_decay_factor": 0.99,
    "learning_rate_stop": 0.0,
    "max_ckpt_to_keep": KEPT,
    "max_ckpt_to_keep_lve": KEPT_LVE,
    "device": "cpu:0",
}


def memory_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Watch(pl.Callback):
    """Note memory over updates."""

    def __init__(self) -> None:
        self.mb: dict[int, float] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Note it now and then."""
        if trainer.global_step % EVERY == 0:
            self.mb[trainer.global_step] = memory_mb()


def endure(updates: int, folder: Path) -> dict[str, Any]:
    """Train, and return what memory and folders did."""
    config = from_flat(PARAMETERS | {"max_steps": updates})
    watch, began = Watch(), time.monotonic()
    fit(config, load_data(config), folder, [watch])
    at_first = max(mb for step, mb in watch.mb.items() if step <= FIRST)
    later = [mb for step, mb in watch.mb.items() if step > FIRST]
    checkpoints = list((folder / "checkpoints").glob("*.ckpt"))
    return {
        "updates": updates,
        "memory_mb_after_500": round(at_first, 1),
        "most_memory_mb_later": round(max(later), 1),
        "growth_percent": round(100 * (max(later) / at_first - 1), 2),
        "checkpoints": sum("_lve-" not in p.name for p in checkpoints),
        "checkpoints_lve": sum("_lve-" in p.name for p in checkpoints),
        "checkpoint_kb": [p.stat().st_size // 1024 for p in sorted(checkpoints)],
        "folder_mb": round(
            sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20, 1
        ),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="write the result there too")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        result = endure(args.updates, Path(folder))
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)
    too_many = result["checkpoints"] > KEPT or result["checkpoints_lve"] > KEPT_LVE
    sys.exit(result["growth_percent"] > 2 or too_many)


if __name__ == "__main__":
    main()
