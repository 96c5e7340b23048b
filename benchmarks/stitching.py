"""One model of several sessions beside a model for each (prints JSON).

    python -m benchmarks.stitching --seeds 0 1 2

Five sessions of 20 units each of one 100-unit chaotic network (g = 1.5), 32 conditions a session,
50 bins; of each condition 7 trials are for training, 1 chooses the epoch (the lowest validation
cost), 2 are scored. A seed draws network, spikes and weights. ``stitched`` is one model, aligned by
principal-components regression of the training trials' condition averages; ``single`` are five
models, each aligned to its own averages in the same way. All have the same settings and train until
700 updates have brought no lower validation cost, at most 6000 updates for the one model and 3000
for each of the five. ``added`` is the last session in a model of the other four: its read-in and
read-out alone are trained, for 600 updates. Scored: R^2 of posterior-mean rates against the true
rates, mean over the neurons of all sessions, on the same trials.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np

import lfads_lightning as lfads
from lfads_lightning.data.alignment import align_sessions
from lfads_lightning.data.sessions import ALIGNMENT_KEYS, Session, Split
from lfads_lightning.data.synthetic import generate
from lfads_lightning.metrics import rate_r2

CHAOTIC = {
    "co_dim": 0,
    "factors_dim": 18,
    "gen_dim": 64,
    "ic_dim": 32,
    "ic_enc_dim": 48,
    "batch_size": 32,
    "kl_increase_steps": 400,
    "l2_increase_steps": 400,
    "l2_gen_scale": 100.0,
    "do_log_readout_bias": True,
    "device": "cpu:0",
}
# one model has five times as many updates an epoch: both rules count updates in it alike
ENDS = {"max_steps": 6000, "early_stopping_epochs": 20}
ENDS_OF_SINGLE = {
    "max_steps": 3000,
    "early_stopping_epochs": 100,
    "learning_rate_n_to_compare": 30,
}
SIZES = {"n_conditions": 32, "n_replicates": 50, "duration_s": 0.5}
N_REPLICATES = (7, 1, 2)  # to train on, to choose the epoch by, to score


def chaotic(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one model of five sessions and five of one; return what they score."""
    made = generate("chaotic_rnn_multisession", seed, **SIZES)
    parts = {name.rsplit("_", 1)[1]: _parts(arrays) for name, arrays in made.items()}
    alignment, r2 = _aligned(parts, settings["factors_dim"])
    ours = _fit(parts, seed, ENDS | settings, alignment)
    result: dict[str, Any] = {"seed": seed, "alignment_components_r2": r2}
    result["stitched"] = _summary([ours], [_r2(ours, n, p) for n, p in parts.items()])
    _tell(result)
    singles = []
    for n, p in parts.items():  # each aligned to its own averages: as good a start
        alone, _ = _aligned({n: p}, settings["factors_dim"])
        singles.append(_fit({n: p}, seed, ENDS_OF_SINGLE | settings, alone))
    scores = [_r2(m, n, p) for m, (n, p) in zip(singles, parts.items(), strict=True)]
    result["single"] = _summary(singles, scores)
    _tell(result)
    # a session that four others' model has never seen: its read-in and read-out alone are trained
    result["added"] = _add_last(parts, seed, settings)
    _tell(result)
    return result


def _tell(result: dict[str, Any]) -> None:
    print(json.dumps(result), file=sys.stderr, flush=True)


def _add_last(parts: dict[str, Any], seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    *old, new = parts
    known = {n: parts[n] for n in old}
    dim = settings["factors_dim"]
    alignment, _ = _aligned(known, dim)
    fixed = [
        Session(n, Split(p["train"][0], condition=p["train"][2]),
                alignment_matrix_cxf=alignment["alignment_matrix_cxf"][n])
        for n, p in known.items()
    ]  # fmt: skip
    last = Session(new, Split(parts[new]["train"][0], condition=parts[new]["train"][2]))
    found = align_sessions([last], dim, to=fixed)
    matrices = {k: getattr(found, k) for k in ALIGNMENT_KEYS}
    with tempfile.TemporaryDirectory() as folder:
        _fit(known, seed, ENDS | settings, alignment, folder)
        few = {k: settings[k] for k in ("batch_size", "device")} | {"max_steps": 600}
        more = {"start_from": folder, "do_train_io_only": True, "learning_rate_n_to_compare": 30}
        added = _fit({new: parts[new]}, seed, few | more, matrices)
    return {"session": new} | _summary([added], [_r2(added, new, parts[new])])


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


def _aligned(parts: dict[str, Any], factors_dim: int) -> tuple[dict[str, Any], float]:
    sessions = [
        Session(name, Split(p["train"][0], condition=p["train"][2])) for name, p in parts.items()
    ]
    found = align_sessions(sessions, factors_dim)
    r2 = round(float(np.mean(list(found.components_r2.values()))), 3)
    return {k: getattr(found, k) for k in ALIGNMENT_KEYS}, r2


def _fit(
    parts: dict[str, Any],
    seed: int,
    settings: dict[str, Any],
    alignment: dict[str, Any] | None = None,
    folder: str | None = None,
) -> lfads.Trained:
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as run:
        return lfads.fit(
            {n: p["train"][0] for n, p in parts.items()},
            valid_data={n: p["valid"][0] for n, p in parts.items()},
            seed=seed,
            lfads_save_dir=run,
            **(alignment or {}),
            **settings,
        )


def _r2(trained: lfads.Trained, name: str, parts: dict[str, Any]) -> tuple[float, float]:
    counts, truth, _ = parts["test"]
    return rate_r2(trained.posterior_push_mean({name: counts})[name].rates, truth)


def _summary(models: list[lfads.Trained], r2: list[tuple[float, float]]) -> dict[str, Any]:
    mean, pooled = np.mean(r2, axis=0)
    return {
        "rate_r2": round(float(mean), 4),
        "rate_r2_pooled": round(float(pooled), 4),
        "rate_r2_by_session": [round(x[0], 3) for x in r2],
        "updates_of_chosen": [m.step for m in models],
        "seconds": round(sum(float(m.scores["seconds"]) for m in models), 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="other settings")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    settings = CHAOTIC | {k: json.loads(v) for k, v in (w.split("=") for w in given.set)}
    runs = [chaotic(seed, settings) for seed in given.seeds]
    print(json.dumps({"settings": settings, "cpu_seconds": round(time.process_time()),
                      "runs": runs}, indent=1))  # fmt: skip
