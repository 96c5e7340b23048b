"""The first command on somebody's recording, beside every simple method (prints a table).

    python -m benchmarks.first_run FILE_OR_FOLDER ... [--minutes M] [--seeds 0 1] [--json FILE]
                                   [--cpu-time] [--beside-original] [--set NAME=VALUE ...]
                                   [--keep FOLDER]

For every session file: trains with ``recipe=auto`` and nothing else set but a quarter of the
neurons, held out; scores over 16 posterior samples. A row: trials, bins, neurons, what the recipe
chose beside its constants, seconds of training, bits per spike of held-out neurons (for real
values R2 of hidden ones) and, where there is behaviour, its R2 (of velocity, if that is what the
file holds) from the rates. In place of a file: the name of an embedded data set, ``embedded`` for
all, or ``simulated:3`` for a recording of :mod:`benchmarks.simulated`; ``simulated:even`` and
``simulated:odd`` are the first twelve of these. ``--beside-original`` also trains
``recipe=original``, for as long. On a machine that others use, ``--cpu-time`` has a budget of
minutes count the time that the process was computing: it does then what it does on a quiet core.
``--keep`` has the runs stay, in folders by recording and seed.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lfads_lightning as lfads
from benchmarks.simulated import simulate
from lfads_lightning.data.fields import KEYS, Session
from lfads_lightning.data.sessions import assemble
from lfads_lightning.data.synthetic import SYNTHETIC, generate
from lfads_lightning.evaluation.table import HEADLINES, LFADS
from lfads_lightning.params import flat_value
from lfads_lightning.runs.tried import by_kind, read_tried
from lfads_lightning.training import clock

# settings that vary
SHOWN = ("batch_size", "factors_dim", "max_steps", "co_dim", "learning_rate_init", "output_dist")
EMBEDDED, SIMULATED = "embedded", "simulated:"
OF_A_FAMILY = {"even": range(0, 24, 2), "odd": range(1, 24, 2)}


def recordings(given: list[str]) -> dict[str, Any]:
    """Return what to train on by name: paths of session files, or sessions of arrays."""
    found: dict[str, Any] = {}
    for word in given:
        if word == EMBEDDED or word in SYNTHETIC:
            names = SYNTHETIC if word == EMBEDDED else [word]
            found |= {name: embedded(name) for name in names}
            continue
        if word.startswith(SIMULATED):
            which = word.removeprefix(SIMULATED)
            numbers = OF_A_FAMILY[which] if which in OF_A_FAMILY else [int(which)]
            found |= {f"{SIMULATED}{n}": _simulated(n) for n in numbers}
            continue
        path = Path(word)
        paths = sorted(path.glob("*.h5")) if path.is_dir() else [path]
        found |= {p.stem: str(p) for p in paths}
    return found


def embedded(name: str) -> dict[str, Session]:
    """Return the sessions of an embedded data set."""
    return {
        session: assemble(session, name, {k: v for k, v in arrays.items() if k in KEYS})
        for session, arrays in generate(name).items()
    }


def _simulated(number: int) -> dict[str, Session]:
    name = f"{SIMULATED}{number}"
    return {name.replace(":", "_"): assemble(name, name, simulate(number))}


def first_run(
    name: str, data: Any, seed: int, settings: dict[str, Any], keep: Path | None = None
) -> dict[str, Any]:
    """Train on a recording, and return its row; the run stays in the folder ``keep``."""
    started, cpu_started = time.monotonic(), time.process_time()
    settings = {"recipe": "auto", "held_out_neurons": 0.25, "num_threads": 1} | settings
    with tempfile.TemporaryDirectory() if keep is None else nullcontext(keep) as folder:
        trained = lfads.fit(
            data,
            seed=seed,
            device="cpu:0",
            report=False,
            lfads_save_dir=folder,
            **settings,
        )
        structures, rates = by_kind(read_tried(Path(folder))).values()
    table, config = trained.comparison, trained.config
    assert table is not None
    split = table.parts[0].split
    rows = table.overall(split)
    metric = next(m for m in HEADLINES if m in rows[LFADS])
    sizes = [part.data for part in table.parts]
    return {
        "recording": name,
        "seed": seed,
        "trials": sum(int(s.get("n_train_trials", s["n_trials"])) for s in sizes),
        "bins": int(sizes[0]["n_bins"]),
        "neurons": max(int(s["n_neurons"]) for s in sizes),
        "chosen": {n: getattr(v, "name", v) for n in SHOWN for v in [flat_value(config, n)]},
        "candidates": {row["name"]: row["criterion"] for row in [*structures, *rates]},
        "seconds": trained.scores["seconds"]  # has those of the chosen rate
        + sum(row["seconds"] for row in [*structures, *rates[1:]]),
        "seconds in all": round(time.monotonic() - started, 1),
        "cpu seconds in all": round(time.process_time() - cpu_started, 1),
        "step": trained.step,
        "hidden_recon": trained.scores.get("valid/hidden_recon"),
        "metric": metric,
        "scores": {method: row[metric] for method, row in rows.items() if metric in row},
        "behaviour_r2": {
            method: row["behaviour_r2"] for method, row in rows.items() if "behaviour_r2" in row
        },
    }


def shown(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    scores = sorted(row["scores"].items(), key=lambda item: -item[1])
    words = ", ".join(f"{method} {value:.3f}" for method, value in scores)
    behaviour = ", ".join(f"{m} {v:.3f}" for m, v in row["behaviour_r2"].items())
    chosen = " ".join(str(v) for v in row["chosen"].values())
    return (
        f"{row['recording']}, seed {row['seed']}: {row['trials']} x {row['bins']} x "
        f"{row['neurons']} | {chosen} | step {row['step']}, {row['seconds']:.0f} s, with scores "
        f"{row['cpu seconds in all']:.0f} CPU s | "
        f"{row['metric']}: {words}" + (f" | behaviour R2: {behaviour}" if behaviour else "")
    )


def main() -> None:
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "recordings",
        nargs="+",
        help=f"session file, folder, name of an embedded set, or {EMBEDDED}",
    )
    parser.add_argument("--minutes", type=float, help="budget of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="in which runs stay")
    parser.add_argument("--cpu-time", action="store_true", help="of the budget, not the clock's")
    parser.add_argument("--beside-original", action="store_true", help="recipe=original as long")
    parser.add_argument(
        "--set", nargs="*", default=[], type=setting, metavar="NAME=VALUE", help="beside these"
    )
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    settings: dict[str, Any] = dict(given.set)
    if given.cpu_time:
        clock.now = time.process_time
    if given.minutes is not None:
        settings["max_minutes"] = given.minutes
    rows = []
    for name, data in recordings(given.recordings).items():
        for seed in given.seeds:
            keep = given.keep and given.keep / f"{name.replace(':', '_')}_{seed}"
            rows.append(first_run(name, data, seed, settings, keep))
            print(shown(rows[-1]), flush=True)
            if given.beside_original:
                as_long = {"recipe": "original", "max_minutes": rows[-1]["seconds"] / 60}
                rows.append(first_run(f"{name} (original)", data, seed, settings | as_long))
                print(shown(rows[-1]), flush=True)
            if given.json is not None:
                given.json.write_text(json.dumps(rows, indent=1))
    print(f"{len(rows)} runs", file=sys.stderr)


def setting(word: str) -> tuple[str, Any]:
    """Return name and value of NAME=VALUE; a value that is not JSON is text."""
    name, value = word.split("=", 1)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    main()
