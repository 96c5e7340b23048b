"""Population-based training against random search of equal compute (prints JSON).

    python -m benchmarks.pbt --seeds 0 1 2
    python -m benchmarks.pbt --recipe simulated:22 --seeds 0 1 2 3 4

Embedded chaotic network, 320 trials. The population starts with poor settings: learning rates
around a tenth of the default, dropout around ten times its default. It is compared with the best of
as many runs of as many epochs, each with the settings it drew: from the same poor start, and from
the whole space. The score is the smoothed validation reconstruction, nats per trial, lower is
better.

``--recipe`` compares what users choose between, on a recording of ``benchmarks.first_run``, with a
quarter of the neurons held out: ``search=pbt``, which starts from the recipe; the best, by the same
criterion, of as many runs with settings from the whole space, each of as many updates; and
``recipe=auto`` alone, which takes a fraction of their time. The score is bits per spike of held-out
neurons of validation trials.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

from benchmarks.first_run import first_run, recordings
from lfads_lightning.data.recipe import Facts, batch_size
from lfads_lightning.data.sessions import Session, sessions_from_arrays
from lfads_lightning.data.synthetic import generate
from lfads_lightning.evaluation.table import LFADS
from lfads_lightning.params import from_flat
from lfads_lightning.search.candidates import CANDIDATES
from lfads_lightning.search.pbt import search
from lfads_lightning.search.space import read_space

MEMBERS, GENERATIONS, EPOCHS = 6, 10, 20
WHOLE = {
    "optim.learning_rate_init": {"min": 1e-5, "max": 0.1, "perturb": 2.0},
    "model.keep_prob": {"min": 0.3, "max": 1.0, "draw": "uniform", "complement": True,
                        "perturb": 2.0},
}  # fmt: skip
POOR = {
    "optim.learning_rate_init": WHOLE["optim.learning_rate_init"] | {"init": [5e-4, 2e-3]},
    "model.keep_prob": WHOLE["model.keep_prob"] | {"init": [0.4, 0.6]},
}
SETTINGS = {
    "batch_size": 64,
    "co_dim": 0,
    "factors_dim": 20,
    "gen_dim": 100,
    "ic_dim": 32,
    "ic_enc_dim": 64,
    "coordinated_dropout_rate": 0.2,
    "kl_increase_steps": 50,
    "l2_increase_steps": 50,
    "l2_gen_scale": 500.0,
    "learning_rate_decay_factor": 1.0,
    "learning_rate_stop": 0.0,
    "criterion": "recon_smoothed",
    "algorithm": "pbt",
    "population": MEMBERS,
    "stop_gain": 0.0,
    "device": "cpu:0",
}


def data() -> list[Session]:
    """Return 20 conditions of 16 training and 4 validation trials."""
    (arrays,) = generate("chaotic_rnn_no_inputs", n_conditions=20, n_replicates=20).values()
    return sessions_from_arrays(
        {"chaotic": arrays["train_data"]},
        {"chaotic": arrays["valid_data"]},
        output_dist="poisson",
        ext_input_dim=0,
        factors_dim=20,
    )


def best(sessions: list[Session], seed: int, space: dict[str, Any], **lengths: int) -> dict:
    """Run one search and return its best member."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "space.yaml"
        file.write_text(yaml.safe_dump(space))
        config = from_flat(SETTINGS | lengths | {"seed": seed})
        started = time.perf_counter()
        found = search(config, sessions, Path(folder) / "search", read_space(file))
    return {
        "recon_smoothed": round(found["score"], 2),
        "settings": {name: round(value, 5) for name, value in found["settings"].items()},
        "seconds": round(time.perf_counter() - started),
    }


def compare(sessions: list[Session], seed: int, workers: int) -> dict[str, Any]:
    """Return the best of each way to spend the same number of epochs."""
    pbt = {"generation_epochs": EPOCHS, "burn_in_epochs": EPOCHS, "max_generations": GENERATIONS}
    single = {"burn_in_epochs": EPOCHS * GENERATIONS, "max_generations": 1}
    return {
        "seed": seed,
        "pbt": best(sessions, seed, POOR, num_workers=workers, **pbt),
        "random_from_the_same_start": best(sessions, seed, POOR, num_workers=workers, **single),
        "random_from_the_whole_space": best(sessions, seed, WHOLE, num_workers=workers, **single),
    }


def with_recipe(name: str, session: Session, seed: int, updates: int) -> dict[str, Any]:
    """Return the score of each way to start from the recipe, and the processor's seconds."""
    n_trials, n_bins, n_neurons = session.train.data.shape
    batch = batch_size(Facts(n_trials, n_trials, n_bins, n_neurons, 0.0))
    epochs = updates // -(-n_trials // batch)
    each = epochs // (GENERATIONS + 4)  # the first generation is as long as five
    pbt = {
        "algorithm": "pbt", "population": MEMBERS, "max_generations": GENERATIONS,
        "burn_in_epochs": epochs - each * (GENERATIONS - 1), "generation_epochs": each,
        "stop_gain": 0.0, "num_workers": 1,
    }  # fmt: skip
    single = {
        "candidates": None, "candidate_learning_rates": None, "max_steps": updates,
        "space": "recipe",
    }  # fmt: skip
    drawn = [
        single | CANDIDATES["fast_inputs"] | {"draw": MEMBERS * seed + n} for n in range(MEMBERS)
    ]
    row: dict[str, Any] = {"recording": name, "seed": seed}
    for way, settings in (("auto", [{"max_steps": updates}]), ("pbt", [pbt]), ("random", drawn)):
        runs = [first_run(name, session, seed, given) for given in settings]
        best = min(runs, key=lambda run: run["hidden_recon"])
        row[way] = round(best["scores"][LFADS], 4)
        row[f"{way}_cpu_s"] = round(sum(run["cpu seconds in all"] for run in runs))
        row["simple"] = {m: round(s, 4) for m, s in best["scores"].items() if m != LFADS}
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recipe", nargs="+", metavar="RECORDING", help="see above")
    parser.add_argument("--updates", type=int, default=1200, help="of each member, with --recipe")
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    if given.recipe:
        for name, found in recordings(given.recipe).items():
            (session,) = found.values()
            for seed in given.seeds:
                row = with_recipe(name, session, seed, given.updates)
                print(json.dumps(row), flush=True)
        raise SystemExit
    sessions = data()
    rows = [compare(sessions, seed, given.workers) for seed in given.seeds]
    print(json.dumps({"members": MEMBERS, "epochs": EPOCHS * GENERATIONS, "runs": rows}, indent=1))
