"""Kill runs with SIGKILL, let them be continued, and compare with runs that nobody touched.

Four places: training at random moments; while a checkpoint is written; while one of the other kinds
writes its output; population-based training at random moments. After every kill what could be read
before must be readable still; at the end weights, optimiser, logs and outputs must be those of the
undisturbed run, bit for bit::

    python -m benchmarks.crash              # 52 kills; exits with 1 if anything was lost or differs

Each run is a process of its own, forked from this one, which saves it the time of the imports.
"""

import argparse
import csv
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lfads_lightning as lfads
from lfads_lightning.cli import kinds as runs
from lfads_lightning.runs.run import Run
from lfads_lightning.training.checkpoint_files import damage, read_index

PLACES = ("training", "checkpoint", "output", "pbt")
INDICES = ("checkpoint", "checkpoint_lve")
SMALL = {"factors_dim": 3, "gen_dim": 8, "ic_enc_dim": 8, "ic_dim": 4, "con_dim": 6,
         "ci_enc_dim": 6, "batch_size": 6, "device": "cpu:0"}  # fmt: skip
# everything that a continued run could get wrong is on
RUN = SMALL | {
    "co_dim": 1,
    "temporal_spike_jitter_width": 2,
    "coordinated_dropout_rate": 0.2,
    "sample_validation_rate": 0.1,
    "kl_increase_steps": 60,
    "l2_increase_steps": 40,
    "learning_rate_n_to_compare": 2,
    "learning_rate_decay_factor": 0.8,
    "max_epochs": 60,
}
LARGE_FILES = RUN | {"gen_dim": 100, "ic_enc_dim": 64, "max_epochs": 12}
SEARCH = SMALL | {
    "co_dim": 0,
    "algorithm": "pbt",
    "population": 3,
    "burn_in_epochs": 4,
    "generation_epochs": 4,
    "max_generations": 4,
    "num_workers": 1,
    "stop_gain": 0.0,
}
SPACE = {"optim.learning_rate_init": {"min": 1e-4, "max": 0.05},
         "model.keep_prob": {"min": 0.5, "max": 1, "draw": "uniform"}}  # fmt: skip


def counts() -> np.ndarray:
    """Return the spikes that everything is trained on."""
    return np.random.default_rng(0).poisson(1.0, (24, 10, 6))


def trained_in(folder: Path, parameters: dict[str, Any]) -> None:
    """Train in a folder, or go on there."""
    lfads.fit(counts(), lfads_save_dir=str(folder), **parameters)


def outputs_of(folder: Path) -> None:
    """Write what posterior_sample_and_average writes, for a run on arrays written to a file."""
    config = Run(folder).read_config()
    assert config is not None
    config.kind = lfads.config.Kind.posterior_sample_and_average
    config.data.data_dir = str(folder.parent / "data")
    config.data.data_filename_stem = "a"
    config.sampling.num_posterior_samples = 40
    runs.run_kind(config, Run(folder))


def child(work: Callable[[], None], log: Path = Path(os.devnull)) -> int:
    """Do work in a process of its own, which prints to a file; return its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            file = log.open("a", buffering=1)
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            sys.stdout = sys.stderr = file
            warnings.simplefilter("ignore")
            work()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


def ended(pid: int, block: bool) -> int | None:
    """Return how a process has ended: its code, or minus the signal; None while it runs."""
    done, status = os.waitpid(pid, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def killed(pid: int, moment: Callable[[], bool]) -> bool:
    """Kill a process at a moment; return whether it lived to see it."""
    while not moment():
        code = ended(pid, block=False)
        if code is not None:
            if code != 0:
                raise RuntimeError(f"a process that nobody killed ended with {code}")
            return False
    os.kill(pid, signal.SIGKILL)
    return ended(pid, block=True) == -signal.SIGKILL


def after(seconds: float) -> Callable[[], bool]:
    """Return whether so much time has passed, on each call."""
    start = time.monotonic()

    def passed() -> bool:
        time.sleep(0.002)
        return time.monotonic() - start > seconds

    return passed


def while_written(folder: Path, pattern: str, rng: random.Random) -> Callable[[], bool]:
    """Return whether a temporary file is there: of the first few, one at random."""
    seen: set[str] = set()
    nth, delay = rng.randrange(1, 4), rng.uniform(0, 0.004)

    def there() -> bool:
        seen.update(p.name for p in folder.glob(pattern))
        if len(seen) >= nth:
            time.sleep(delay)
            return True
        return False

    return there


def readable(folder: Path) -> dict[str, Any]:
    """Return what can be read in a run's folder, for comparison with what could be read before."""
    found: dict[str, Any] = {}
    for index in INDICES:
        names = read_index(Run(folder).checkpoints, index)
        steps = [int(n[-13:-5]) for n in names if damage(Run(folder).checkpoints / n) is None]
        if names:
            found[index] = max(steps)  # an error where none is intact
    for path in [*folder.glob("*.json"), *folder.glob("members/*/generation-*.json")]:
        if not path.name.startswith("."):
            json.loads(path.read_text())
            found[path.name] = 1
    for path in folder.glob("*.yaml"):
        yaml.safe_load(path.read_bytes())
    for path in folder.glob("*.h5"):
        with h5py.File(path) as file:
            found[path.name] = sum(file[name][()].size for name in file)
    return found


def lost(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what could be read before and cannot be now."""
    return [name for name, value in before.items() if now.get(name, -1) < value]


def different(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Return the places where two trees of tensors, arrays and numbers are not the same."""
    if isinstance(ours, dict):
        names = ours.keys() | theirs.keys()
        if ours.keys() != theirs.keys():
            return [f"{where}: {sorted(map(str, ours.keys() ^ theirs.keys()))}"]
        return [d for k in names for d in different(ours[k], theirs[k], f"{where}/{k}")]
    if isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            return [where]
        return [d for a, b in zip(ours, theirs, strict=True) for d in different(a, b, where)]
    if isinstance(ours, torch.Tensor):
        return [] if torch.equal(ours, theirs) else [where]
    same = np.array_equal(ours, theirs, equal_nan=isinstance(ours, float))
    return [] if same else [where]


def contents(run: Path) -> dict[str, Any]:
    """Return all of a run that must not differ: last state, logs, scores, outputs."""
    names = read_index(Run(run).checkpoints, "checkpoint")
    state = torch.load(Run(run).checkpoints / names[-1], weights_only=True)
    told: dict[str, Any] = {k: state[k] for k in ("state_dict", "optimizer_states", "rng")}
    told["lfads"] = {k: v for k, v in state["lfads"].items() if k != "config"}
    told["lowest"] = read_index(Run(run).checkpoints, "checkpoint_lve")
    told |= {p.name: p.read_text() for p in run.glob("*.csv")}
    scores = json.loads((run / "scores.json").read_text())
    told["scores"] = {k: v for k, v in scores.items() if k != "seconds"}
    for path in run.glob("*.h5"):
        with h5py.File(path) as file:
            told[path.name] = {name: file[name][()] for name in file}
    if (run / "tensorboard").is_dir():
        # TensorBoard says of each resume that it drops what came after the checkpoint
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        events = EventAccumulator(str(run / "tensorboard")).Reload()
        tags = [t for t in events.Tags()["scalars"] if not t.endswith("/seconds")]
        told["events"] = {t: [(e.step, e.value) for e in events.Scalars(t)] for t in tags}
    return told


def contents_of_search(folder: Path) -> dict[str, Any]:
    """Return all of a search that must not differ."""
    with (folder / "history.csv").open(newline="") as file:
        told: dict[str, Any] = {"history": list(csv.reader(file))}
    told["best"] = contents(folder / "best")
    told["members"] = {p.parent.name: p.read_text() for p in folder.glob("members/*/metrics.csv")}
    return told


class Harness:
    """The runs, the kills, and what came of them."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng, self.log = root, random.Random(seed), root / "log"
        self.kills = dict.fromkeys(PLACES, 0)
        self.lost: list[str] = []
        self.different: list[str] = []

    def kill_and_continue(
        self,
        place: str,
        n: int,
        folder: Path,
        work: Callable[[], None],
        moment: Callable[[], Callable[[], bool]],
    ) -> None:
        """Do work in a folder until ``n`` processes that did it were killed and one came through.

        Args:
            place: what the kills are counted under.
            n: kills at most; fewer where the work is done before.
            folder: that is looked at after every kill.
            work: begins or goes on.
            moment: makes the condition of the next kill.
        """
        before: dict[str, Any] = {}
        while self.kills[place] < n:
            pid = child(work, self.log)
            if not killed(pid, moment()):
                break
            self.kills[place] += 1
            now = readable(folder)
            self.lost += [f"{place}: {name}" for name in lost(before, now)]
            before |= now
        if ended(child(work, self.log), block=True) != 0:
            raise RuntimeError(f"{folder}: could not be continued; see {self.log}")
        self.lost += [f"{place}: {name}" for name in lost(before, readable(folder))]

    def compare(self, place: str, ours: Any, theirs: Any) -> None:
        """Note every difference."""
        self.different += [f"{place}{d}" for d in different(ours, theirs)]

    def training(self, place: str, n: int, parameters: dict[str, Any]) -> None:
        """Kill training runs, at random or while a checkpoint is written, ``n`` times in all."""
        whole = self.root / f"{place}-whole"
        began = time.monotonic()
        self.kill_and_continue(place, 0, whole, lambda: trained_in(whole, parameters), Moment)
        seconds = time.monotonic() - began
        k = 0
        while self.kills[place] < n:
            k += 1
            cut = self.root / f"{place}-{k}"

            def moment(cut: Path = cut) -> Callable[[], bool]:
                if place == "checkpoint":
                    return while_written(Run(cut).checkpoints, ".*.ckpt.*.tmp", self.rng)
                return after(self.rng.uniform(0.1, 0.8 * seconds))

            most = min(n, self.kills[place] + 6)
            self.kill_and_continue(
                place, most, cut, lambda cut=cut: trained_in(cut, parameters), moment
            )
            self.compare(place, contents(cut), contents(whole))

    def output(self, n: int) -> None:
        """Kill posterior_sample_and_average while it writes."""
        run = self.root / "output-run"
        lfads.write_session(
            run.parent / "data" / "a.h5", train_data=counts(), valid_data=counts()[:6]
        )
        ended(child(lambda: trained_in(run, RUN | {"max_epochs": 3})), block=True)
        ended(child(lambda: outputs_of(run)), block=True)
        whole = contents(run)

        def moment() -> Callable[[], bool]:
            return while_written(run, ".model_runs*.tmp", self.rng)

        while self.kills["output"] < n:
            self.kill_and_continue("output", n, run, lambda: outputs_of(run), moment)
            self.compare("output", contents(run), whole)

    def pbt(self, n: int) -> None:
        """Kill searches at random; every third search has worker processes."""
        space = self.root / "space.yaml"
        space.write_text(yaml.safe_dump(SPACE))
        whole, k = self.root / "pbt-whole", 0
        search = SEARCH | {"space": str(space)}
        began = time.monotonic()
        self.kill_and_continue("pbt", 0, whole, lambda: trained_in(whole, search), Moment)
        seconds = time.monotonic() - began
        while self.kills["pbt"] < n:
            k += 1
            cut, more = self.root / f"pbt-{k}", {"num_workers": 2 if k % 3 == 0 else 1}
            most = min(n, self.kills["pbt"] + 5)
            self.kill_and_continue(
                "pbt",
                most,
                cut,
                lambda cut=cut, more=more: trained_in(cut, search | more),
                lambda: after(self.rng.uniform(0.1, 0.7 * seconds)),
            )
            self.compare("pbt", contents_of_search(cut), contents_of_search(whole))


def Moment() -> Callable[[], bool]:
    """Return a moment that never comes."""
    return lambda: False


def crash(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill so many processes over the four places, and return what came of it."""
    shares = {place: kills // 4 + (i < kills % 4) for i, place in enumerate(PLACES)}
    began, harness = time.monotonic(), Harness(folder, seed)
    harness.training("training", shares["training"], RUN)
    harness.training("checkpoint", shares["checkpoint"], LARGE_FILES)
    harness.output(shares["output"])
    harness.pbt(shares["pbt"])
    return {
        "kills": harness.kills,
        "kills_in_all": sum(harness.kills.values()),
        "lost": harness.lost,
        "different": harness.different,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Run the harness and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=52)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--folder", type=Path, help="kept; by default a temporary one")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    result = crash(args.kills, args.seed, folder)
    print(json.dumps(result, indent=1))
    if args.folder is None:
        shutil.rmtree(folder)
    sys.exit(bool(result["lost"] or result["different"]))


if __name__ == "__main__":
    main()
