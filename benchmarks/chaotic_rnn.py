"""Quality against the original on its chaotic network without inputs (prints JSON).

    python benchmarks/chaotic_rnn.py --seeds 0 1 2

65 conditions x 20 trials of a 50-unit chaotic network, g = 1.5 (1040 training, 260 validation
trials). The original implementation at these settings, one seed, after the same 2250 updates:
validation cost 2057.9, R^2 of posterior-mean rates pooled over all bins 0.854. About 8 minutes a
seed.
"""

import argparse
import csv
import json
import tempfile
import warnings
from pathlib import Path

import lfads_lightning as lfads
from lfads_lightning.data.synthetic import generate

SETTINGS = {
    "co_dim": 0,
    "factors_dim": 20,
    "gen_dim": 100,
    "ic_dim": 32,
    "ic_enc_dim": 64,
    "batch_size": 128,
    "kl_increase_steps": 500,
    "l2_increase_steps": 500,
    "l2_gen_scale": 500.0,
    "device": "cpu:0",
}
ORIGINAL = {"valid_total": 2057.9, "rate_r2_pooled": 0.854, "updates": 2250}


def train(seed: int, epochs: int, recurrence: str) -> dict[str, float | str]:
    """Train once; return costs, scores and time."""
    (data,) = generate("chaotic_rnn_no_inputs", n_conditions=65, n_replicates=20).values()
    with tempfile.TemporaryDirectory() as folder:
        trained = lfads.fit(
            data["train_data"],
            valid_data=data["valid_data"],
            valid_truth=data["valid_truth"],
            conversion_factor=float(data["conversion_factor"]),
            seed=seed,
            max_epochs=epochs,
            recurrence=recurrence,
            lfads_save_dir=folder,
            **SETTINGS,
        )
        with (Path(folder) / "metrics.csv").open() as file:
            costs = [float(row["valid/total"]) for row in csv.DictReader(file)]
    scores = trained.scores
    return {
        "seed": seed,
        "recurrence": recurrence,
        "valid_total_lowest": round(scores["valid/total"], 2),
        "valid_total_last_10_epochs": round(sum(costs[-10:]) / len(costs[-10:]), 2),
        "rate_r2_pooled": round(scores["valid/rate_r2_pooled"], 4),
        "rate_r2": round(scores["valid/rate_r2"], 4),
        "bits_per_spike": round(scores["valid/bits_per_spike"], 4),
        "smoothing_rate_r2": round(scores["valid/smoothing_rate_r2"], 4),
        "updates": scores["updates"],
        "seconds": scores["seconds"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=250)
    parser.add_argument("--recurrence", default="auto", help="as trainer.recurrence")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    runs = [train(seed, arguments.epochs, arguments.recurrence) for seed in arguments.seeds]
    print(json.dumps({"settings": SETTINGS, "original": ORIGINAL, "runs": runs}, indent=1))
