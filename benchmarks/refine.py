"""What refining posteriors (``sampling.refine_steps``) does to held-out scores (prints a table).

    python -m benchmarks.refine NAME ... [--steps 100] [--seeds 0] [--minutes 1] [--keep FOLDER]

NAME is an embedded data set (``lorenz``), the number of a simulated recording (``16``, of
``benchmarks/simulated.py``) or the path of ``macaque_pmd_day31_20ms.npz``. Trains each for a minute
with ``recipe=auto`` and nothing set but a quarter of the neurons held out. Scores the validation
trials over 16 posterior samples, as the encoders give them and refined: bits per spike of held-out
neurons and, where rates are known, the bits per spike of held-out neurons that true rates expect
(the counts' chance has no part in it), and R2 of all rates. ``--keep`` keeps the models, and uses
those that are there.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import lfads_lightning as lfads
from benchmarks.first_run import embedded
from benchmarks.simulated import simulate
from lfads_lightning.data.fields import Session
from lfads_lightning.data.sessions import assemble
from lfads_lightning.inference.posterior import judged_rates
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.metrics import co_bps, rate_r2


def recording(name: str) -> dict[str, Session]:
    """Return the sessions of a data set by name."""
    if name.isdigit():
        return {"session": assemble("session", f"simulated {name}", simulate(int(name)))}
    if name.endswith(".npz"):
        with np.load(name, allow_pickle=False) as file:
            counts = file["counts"]
        valid = np.arange(len(counts)) % 5 == 0
        arrays = {"train_data": counts[~valid], "valid_data": counts[valid]}
        return {"session": assemble("session", name, arrays)}
    return embedded(name)


def scores(trained: TrainedModel, sessions: dict[str, Session], steps: int) -> dict[str, float]:
    """Return the scores of the validation trials, means over sessions, and the seconds."""
    trained.config.sampling.refine_steps, started = steps, time.monotonic()
    found: dict[str, list[float]] = {}
    for session in trained.fitting(list(sessions.values())):
        test = session.valid
        assert test is not None
        rates = judged_rates(trained.evaluation(), session.name, test).rates
        held_out = list(trained.sessions[session.name].held_out)
        found.setdefault("co_bps", []).append(co_bps(rates, test.data, held_out))
        if test.truth is not None:
            truth = test.truth / session.conversion_factor
            found.setdefault("expected_co_bps", []).append(co_bps(rates, truth, held_out))
            found.setdefault("rate_r2", []).append(rate_r2(rates, truth)[0])
    seconds = round(time.monotonic() - started, 2)
    return {name: float(np.mean(each)) for name, each in found.items()} | {"seconds": seconds}


def trained_on(
    sessions: dict[str, Session], seed: int, minutes: float, folder: Path
) -> TrainedModel:
    """Train a model, or load the one that is there."""
    if (folder / "checkpoints").exists():
        return lfads.load(folder, "checkpoint_lve")
    return lfads.fit(
        sessions,
        recipe="auto",
        held_out_neurons=0.25,
        seed=seed,
        max_minutes=minutes,
        device="cpu:0",
        report=False,
        lfads_save_dir=str(folder),
    )


def main() -> None:
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recordings", nargs="+", help="name, number, or path of an .npz file")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of each training")
    parser.add_argument("--keep", type=Path, help="folder of the models")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.recordings:
            sessions = recording(name)
            for seed in given.seeds:
                folder = (given.keep or Path(scratch)) / f"{Path(name).stem}-{seed}"
                trained = trained_on(sessions, seed, given.minutes, folder)
                row = {"recording": Path(name).stem, "seed": seed, "step": trained.step}
                for when, steps in (("before", 0), ("after", given.steps)):
                    row |= {f"{n} {when}": v for n, v in scores(trained, sessions, steps).items()}
                rows.append(row)
                print(json.dumps(row), flush=True)
                if given.json is not None:
                    given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
