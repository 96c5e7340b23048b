"""Memory that a large recording takes, prepared and trained (prints JSON).

    python -m benchmarks.memory --gb 2

Generates spike times whose counts take this many GB as integers, makes a session file of them with
lfads.prepare, and trains a small model on it for a few updates, each in a process of its own.
Stated is the highest resident memory of either over the size of the counts, less what the same work
on a recording of 5 MB leaves behind: imports, kernels, fonts (`before_mb`). Linux only: elsewhere
the peak of a process cannot be set back.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from lfads_lightning.data.scored import MOST_ENTRIES

N_BINS, N_NEURONS, BIN_WIDTH_S = 50, 50, 0.01
SPIKES_PER_BIN = 0.02
LIMIT = 1.5


def generate(path: Path, n_bytes: float) -> int:
    """Write spike times and trials; return the bytes of their counts as uint8."""
    n_trials = round(n_bytes / (N_BINS * N_NEURONS))
    rng = np.random.default_rng(0)
    end = n_trials * N_BINS * BIN_WIDTH_S
    n_spikes = int(n_trials * N_BINS * N_NEURONS * SPIKES_PER_BIN)
    starts = np.arange(n_trials) * N_BINS * BIN_WIDTH_S
    np.savez(
        path,
        spike_times=rng.uniform(0, end, n_spikes),
        spike_units=rng.integers(0, N_NEURONS, n_spikes).astype(np.uint16),
        start_time=starts,
        condition=np.arange(n_trials) % 8,
    )
    return n_trials * N_BINS * N_NEURONS


def resident(key: str) -> int:
    """Return the resident memory of this process, bytes: VmRSS now, VmHWM at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


def work(what: str, name: str, folder: Path, most_entries: int) -> dict:
    """Prepare or train in this process, a small recording first; return its memory."""
    import torch

    from lfads_lightning.data import scored

    torch.set_num_threads(1)
    do = {"prepare": _prepare, "train": _train}[what]
    do("small", folder)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    scored.MOST_ENTRIES = most_entries
    do(name, folder)
    peak = resident("VmHWM")
    return {"before_mb": round(before / 1e6), "peak_mb": round(peak / 1e6), "held": peak - before}


def _prepare(name: str, folder: Path) -> None:
    import lfads_lightning as lfads

    window = (0.0, N_BINS * BIN_WIDTH_S)
    lfads.prepare(folder / f"{name}.npz", folder, bin_width_s=BIN_WIDTH_S, window_s=window)


def _train(name: str, folder: Path) -> None:
    from lfads_lightning.api import train_sessions
    from lfads_lightning.data.session_files import load_sessions
    from lfads_lightning.params import from_flat

    sizes = {"ic_dim": 8, "factors_dim": 8, "gen_dim": 16, "ic_enc_dim": 8, "co_dim": 0}
    run = folder / f"run_{name}"
    config = from_flat(sizes | {"max_steps": 3, "device": "cpu:0", "lfads_save_dir": str(run)})
    run.mkdir()
    checks = {"output_dist": "poisson", "ext_input_dim": 0, "factors_dim": 8}
    train_sessions(config, load_sessions(folder, name, **checks), run)


def measure(gb: float, folder: Path, most_entries: int | None = None) -> dict:
    """Generate, prepare and train; return what each took.

    Args:
        gb: size of the counts as integers.
        folder: for the files.
        most_entries: of a split that are scored at the end; None: as users have it.
    """
    generate(folder / "small.npz", 5e6)
    counts = generate(folder / "large.npz", 1e9 * gb)
    result: dict = {"counts_mb": round(counts / 1e6), "limit": LIMIT}
    for what in ("prepare", "train"):
        words = ["--work", what, "large", str(folder), str(most_entries or MOST_ENTRIES)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", *words],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        seen = json.loads(done.stdout.splitlines()[-1])
        result[what] = seen | {"held_over_counts": round(seen.pop("held") / counts, 3)}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gb", type=float, default=2.0, help="size of the counts as integers")
    parser.add_argument(
        "--most-entries", type=int, help="of a split, scored at the end (default: as users have it)"
    )
    parser.add_argument("--folder", type=Path, help="for the files (default: a temporary one)")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        kind, recording, into, most = arguments.work
        print(json.dumps(work(kind, recording, Path(into), int(most))))
    else:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            measured = measure(arguments.gb, Path(temporary), arguments.most_entries)
            print(json.dumps(measured, indent=1))
