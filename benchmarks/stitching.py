"""One model of several sessions beside a model for each (prints JSON).

    python -m benchmarks.stitching --seeds 0 1 2
    python -m benchmarks.stitching --aplysia FOLDER --seeds 0 1 2

Without FOLDER: five sessions of 20 units each of one 100-unit chaotic network (g = 1.5), 32
conditions x 10 trials of 60 bins a session; of each condition 7 trials are for training, 1 chooses
the epoch, 2 are scored. A seed draws network, spikes and weights. The sessions are aligned by
principal-components regression of their training trials' condition averages. All models have the
same settings and the same number of epochs. Scored: R^2 of posterior-mean rates against the true
rates, mean over the neurons of all sessions, on the same trials.

With FOLDER (of aplysia_*.npz): three bouts of one preparation, the same 160 neurons, 12 pieces of
10 s each; no conditions, so the one model is aligned by its neurons (same_neurons). A fifth of all
entries (bins x neurons) is shown to no model and is in no loss; scored: bits per spike of these,
against each neuron's mean over these entries of its session, once in the validation pieces alone
(every fourth) and once in all. The epoch is chosen by the cost of the entries shown.
"""

import argparse
import json
import tempfile
import time
import warnings
from typing import Any

import numpy as np

import lfads_lightning as lfads
from lfads_lightning.data.alignment import align_sessions
from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.data.synthetic import generate
from lfads_lightning.metrics import rate_r2

CHAOTIC = {
    "co_dim": 0,
    "factors_dim": 12,
    "gen_dim": 64,
    "ic_dim": 32,
    "ic_enc_dim": 48,
    "batch_size": 56,
    "kl_increase_steps": 800,
    "l2_increase_steps": 800,
    "l2_gen_scale": 100.0,
    "max_steps": 2400,
    "device": "cpu:0",
}
SIZES = {"n_conditions": 32, "n_replicates": 50, "duration_s": 0.6}
N_REPLICATES = (7, 1, 2)  # to train on, to choose the epoch by, to score


def chaotic(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one model of five sessions and five of one; return what they score."""
    made = generate("chaotic_rnn_multisession", seed, **SIZES)
    parts = {name: _parts(arrays) for name, arrays in made.items()}
    stitched = _stitch_chaotic(seed, parts, settings)
    ours = _fit(parts, seed, settings, stitched)
    result: dict[str, Any] = {"seed": seed, "alignment_r2": stitched["r2"]}
    together = {n: _r2(ours, n, p) for n, p in parts.items()}
    result["stitched"] = _summary(ours.scores, together)
    alone, seconds, each_scores = {}, 0.0, []
    for name, p in parts.items():
        single = _fit({name: p}, seed, settings)
        alone[name] = _r2(single, name, p)
        each_scores.append(single.scores)
        seconds += float(single.scores["seconds"])
    result["single"] = _summary(each_scores[0], alone) | {"seconds": round(seconds, 1)}
    result["single"]["best_epoch_costs"] = [round(s["criterion"], 1) for s in each_scores]
    return result


def _parts(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Take some replicates of each condition for training, choosing, scoring."""
    data, truth = arrays["train_data"], arrays["train_truth"] / arrays["conversion_factor"]
    condition = arrays["train_condition"]
    rank = np.concatenate([np.arange((condition == c).sum()) for c in np.unique(condition)])
    made, first = {}, 0
    for name, n in zip(("train", "valid", "test"), N_REPLICATES, strict=True):
        chosen = (rank >= first) & (rank < first + n)
        made[name] = (data[chosen], truth[chosen], condition[chosen])
        first += n
    return made


def _stitch_chaotic(seed: int, parts: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    sessions = [
        Session(name, Split(p["train"][0], condition=p["train"][2])) for name, p in parts.items()
    ]
    found = align_sessions(sessions, settings["factors_dim"])
    return {
        "alignment_matrix_cxf": found.alignment_matrix_cxf,
        "alignment_bias_c": found.alignment_bias_c,
        "r2": round(float(np.mean(list(found.components_r2.values()))), 3),
    }


def _fit(
    parts: dict[str, Any],
    seed: int,
    settings: dict[str, Any],
    stitched: dict[str, Any] | None = None,
) -> lfads.Trained:
    alignment = {k: v for k, v in (stitched or {}).items() if k != "r2"}
    with tempfile.TemporaryDirectory() as folder:
        return lfads.fit(
            {n: p["train"][0] for n, p in parts.items()},
            valid_data={n: p["valid"][0] for n, p in parts.items()},
            seed=seed,
            lfads_save_dir=folder,
            **alignment,
            **settings,
        )


def _r2(trained: lfads.Trained, name: str, parts: dict[str, Any]) -> tuple[float, float]:
    counts, truth, _ = parts["test"]
    return rate_r2(trained.posterior_push_mean({name: counts})[name].rates, truth)


def _summary(scores: dict[str, Any], r2: dict[str, tuple[float, float]]) -> dict[str, Any]:
    mean, pooled = np.mean(list(r2.values()), axis=0)
    return {
        "rate_r2": round(float(mean), 4),
        "rate_r2_pooled": round(float(pooled), 4),
        "rate_r2_by_session": [round(x[0], 3) for x in r2.values()],
        "updates_of_chosen": scores["checkpoint"],
        "epochs": scores["epochs"],
        "seconds": scores["seconds"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", nargs="*", default=[])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    settings = CHAOTIC | {k: json.loads(v) for k, v in (w.split("=") for w in arguments.set)}
    began = time.monotonic()
    runs = [chaotic(seed, settings) for seed in arguments.seeds]
    print(
        json.dumps(
            {"settings": settings, "runs": runs, "seconds": time.monotonic() - began}, indent=1
        )
    )
