"""Where the seconds of the README's demo go.

    python -m benchmarks.demo_seconds [--json FILE] [trainer.max_epochs=20 ...]

Runs ``python train.py experiment=lorenz trainer.device=cpu:0`` in a scratch folder, with the
overrides that are given, and looks every few milliseconds at what the program is doing: the time
since the last look goes to the first line of ``PHASES`` that one of the functions on the stack
belongs to. The program itself knows nothing of it. ``wall_s`` is what one waits, ``cpu_s`` the
processor's time, which other programs on the machine change less.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import CodeType, FrameType

TRAIN = Path(__file__).parents[1] / "train.py"
DEMO = ("experiment=lorenz", "trainer.device=cpu:0")
EVERY_S = 0.003
UPDATES, REST, START = "updates", "the rest", "Python's own start"
# the first that fits: ends of folders and files, or a file and its function
PHASES = {
    "imports": ("<frozen importlib._bootstrap>",),
    "candidates": ("lfads_lightning/search/",),
    "posterior samples": ("inference/posterior.py", "inference/copying.py", "inference/refine.py"),
    "simple methods": ("evaluation/baselines.py", "evaluation/scores.py:_best_smoothing"),
    "scores": ("lfads_lightning/evaluation/", "lfads_lightning/metrics/"),
    "report and figures": ("lfads_lightning/report/",),
    "checkpoints and logs": (
        "training/checkpoints.py",
        "training/checkpoint_files.py",
        "training/logs.py",
        "training/loggers.py",
        "lfads_lightning/runs/",
    ),
    "validation": ("loops/evaluation_loop.py", "training/hidden.py"),
    UPDATES: ("loops/training_epoch_loop.py",),
    "recipe": ("data/recipe.py",),
    "reading and checking data": ("lfads_lightning/data/",),
    "settings": ("/hydra/", "/omegaconf/", "cli/settings.py", "cli/overrides.py", "params.py"),
}
WITHIN_OTHERS = ("report/finish.py",)  # calls all that comes after training


class Watch(threading.Thread):
    """Looks at what the main thread does, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.main = threading.get_ident()
        self.ended = threading.Event()
        self.seconds: dict[str, list[float]] = {}
        self.first_update_s: float | None = None
        self._known: dict[CodeType, int] = {}

    def run(self) -> None:
        """Look, and add up."""
        started = wall, cpu = time.perf_counter(), time.process_time()
        while not self.ended.wait(EVERY_S):
            phase = self._phase(sys._current_frames()[self.main])
            now = time.perf_counter(), time.process_time()
            spent = self.seconds.setdefault(phase, [0.0, 0.0])
            spent[0] += now[0] - wall
            spent[1] += now[1] - cpu
            wall, cpu = now
            if phase == UPDATES and self.first_update_s is None:
                self.first_update_s = wall - started[0]

    def _phase(self, frame: FrameType | None) -> str:
        first, names = len(PHASES), [*PHASES, REST]
        while frame is not None:
            first = min(first, self._of(frame.f_code))
            frame = frame.f_back
        return names[first]

    def _of(self, code: CodeType) -> int:
        if code not in self._known:
            where = f"{code.co_filename}:{code.co_name}".replace("\\", "/")
            fitting = [i for i, some in enumerate(PHASES.values()) if any(p in where for p in some)]
            if fitting and any(place in where for place in WITHIN_OTHERS):
                fitting = []
            self._known[code] = min(fitting, default=len(PHASES))
        return self._known[code]


def run_watched(words: list[str], file: Path) -> None:
    """Run train.py in this process, and write what was seen; ``file`` is JSON."""
    watch = Watch()
    watch.start()
    sys.argv = [str(TRAIN), *words]
    sys.path[0] = str(TRAIN.parent)
    try:
        runpy.run_path(str(TRAIN), run_name="__main__")
    finally:
        watch.ended.set()
        watch.join()
        seen = {"seconds": watch.seconds, "first_update_s": watch.first_update_s}
        file.write_text(json.dumps(seen))


def measure(overrides: list[str]) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Run the demo once; return a row for each phase, and what its scores are."""
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as scratch:
        seen_file = Path(scratch) / "seen.json"
        words = [*DEMO, *overrides, f"output.lfads_save_dir={scratch}/run"]
        command = [sys.executable, "-m", "benchmarks.demo_seconds", "--inside", str(seen_file)]
        path = os.pathsep.join([str(TRAIN.parent), os.environ.get("PYTHONPATH", "")])
        started = time.perf_counter()
        subprocess.run(
            [*command, *words], check=True, cwd=scratch, env=os.environ | {"PYTHONPATH": path}
        )
        total = time.perf_counter() - started
        seen = json.loads(seen_file.read_text())
        scores = json.loads((Path(scratch) / "run" / "scores.json").read_text())
    seconds: dict[str, list[float]] = seen["seconds"]
    start = total - sum(wall for wall, _ in seconds.values())
    seconds[START] = [start, start]
    cpu_total = sum(cpu for _, cpu in seconds.values())
    rows: list[dict[str, object]] = [
        {
            "phase": name,
            "wall_s": round(seconds[name][0], 2),
            "cpu_s": round(seconds[name][1], 2),
            "share": round(seconds[name][1] / cpu_total, 3),
        }
        for name in [START, *PHASES, REST]
        if name in seconds
    ]
    others = [r for r in rows if r["phase"] != UPDATES]
    shown = ("valid/hidden_bits_per_spike", "valid/rate_r2", "valid/bits_per_spike", "seconds")
    about = {
        "total_s": round(total, 1),
        "cpu_s": round(cpu_total, 1),
        "but_updates": round(sum(float(str(r["share"])) for r in others), 3),
        "first_update_s": round(start + (seen["first_update_s"] or 0.0), 2),
        "load": load,
        **{name: scores[name] for name in shown if name in scores},
    }
    return rows, about


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given, others = parser.parse_known_args()
    if given.inside is not None:
        run_watched(others, given.inside)
    else:
        from benchmarks import machine  # imports torch, which is looked at above

        rows, about = measure(others)
        machine.show(rows, given.json)
        for name, value in about.items():
            print(f"{name}: {value}")
