"""A quarter of a macaque recording's neurons predicted from the others (prints JSON).

    python -m benchmarks.macaque_held_out FOLDER --seeds 0 1 2
    python -m benchmarks.macaque_held_out FOLDER --seeds 0 --splits 0 1 2 3 4

FOLDER holds macaque_pmd_day31_20ms.npz. Trains ``experiment=macaque_reach`` with six of the 24
neurons held out, every fifth trial for validation, and puts its scores on these trials beside
those of simple methods, one table for each draw of the six: co-smoothing in bits per spike, and
R^2 of hand velocity 100 ms after the rates. The PSTH is told each trial's direction; the other
rows are not. About 4 minutes a model on an idle core.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import yaml

import lfads_lightning as lfads
from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.evaluation.scores import evaluate
from lfads_lightning.evaluation.table import LFADS
from lfads_lightning.model.threads import one_setting_of_threads

N_HELD_OUT = 6
LAG_BINS = 5  # 100 ms
PRESET = Path(__file__).parents[1] / "conf" / "experiment" / "macaque_reach.yaml"


def held_out(split: int) -> list[int]:
    """Return the neurons of a split; 0 is the one of the documentation's table."""
    return sorted(np.random.default_rng(split).permutation(24)[:N_HELD_OUT].tolist())


def sessions_of(arrays: dict, valid: np.ndarray) -> list:
    """Return the recording with behaviour and conditions."""
    names = {"data": "counts", "behaviour": "velocity", "condition": "condition"}
    by_key = {
        f"{split}_{key}": {"session": arrays[name][trials]}
        for split, trials in (("train", ~valid), ("valid", valid))
        for key, name in names.items()
    }
    return sessions_from_arrays(
        by_key.pop("train_data"),
        by_key.pop("valid_data"),
        output_dist="poisson",
        ext_input_dim=0,
        factors_dim=1,
        bin_width_s={"session": 0.02},
        **by_key,
    )


def main() -> None:
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", type=int, nargs="+", default=[0], help="draws of the neurons")
    parser.add_argument("--max-epochs", type=int, default=450)
    parser.add_argument("--samples", type=int, default=50, help="posterior samples averaged")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    with np.load(given.folder / "macaque_pmd_day31_20ms.npz", allow_pickle=False) as file:
        arrays = dict(file)
    valid = np.arange(len(arrays["counts"])) % 5 == 0
    groups = yaml.safe_load(PRESET.read_text())
    settings = {k: v for group in groups.values() for k, v in group.items()}
    settings |= {"device": "cpu:0", "max_epochs": given.max_epochs, "report": False}
    sessions = sessions_of(arrays, valid)
    report = []
    for split in given.splits:
        rows: dict[str, dict] = {}
        for seed in given.seeds:
            with tempfile.TemporaryDirectory() as folder:
                trained = lfads.fit(
                    arrays["counts"][~valid],
                    valid_data=arrays["counts"][valid],
                    held_out_neurons=held_out(split),
                    seed=seed,
                    lfads_save_dir=folder,
                    **settings,
                )
            with one_setting_of_threads(1):
                table = evaluate(trained, sessions, num_samples=given.samples, lag_bins=LAG_BINS)
            (part,) = table.parts
            rows[f"{LFADS}, seed {seed}"] = part.rows.pop(LFADS)
            print(json.dumps({"split": split} | rows), file=sys.stderr, flush=True)
        report.append({"split": split, "held_out": held_out(split), "table": part.rows | rows})
    print(json.dumps({"tables": report, "notes": table.notes}, indent=1))


if __name__ == "__main__":
    main()
