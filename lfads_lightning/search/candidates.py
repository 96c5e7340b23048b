"""Model structures that are tried before training (``search.candidates``); the best is continued.

Whether inferred inputs help, and how fast they must be, matters most on a small recording, and only
training can tell. So each candidate trains for a share of the updates, under the schedule of the
whole training, and the one with the lowest criterion continues. This is one rung of successive
halving (Jamieson & Talwalkar 2016); it costs the updates of the other candidates.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lfads_lightning.config import Config, Criterion, LFADSError
from lfads_lightning.data.recipe import CANDIDATES, MEANINGS
from lfads_lightning.data.sessions import Session
from lfads_lightning.params import from_flat
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.provenance import places_in, remember
from lfads_lightning.runs.run import Run
from lfads_lightning.runs.tried import Tried, best_first, read_tried
from lfads_lightning.training import fit as training
from lfads_lightning.training.budget import AtRung
from lfads_lightning.training.checkpoints import copy_checkpoints
from lfads_lightning.training.faults import Diverged


def with_best_candidate(config: Config, sessions: Sequence[Session], folder: Path) -> Config:
    """Try the candidates of a run that has not begun to train; the run continues the best one.

    Each candidate is a run of its own in the folder ``tried``, which is kept without its
    checkpoints; results are in ``tried.json``. A trial that was interrupted is continued.

    Args:
        config: the run's config.
        sessions: read and checked.
        folder: the run's folder.

    Returns:
        The config with the settings of the best candidate.

    Raises:
        LFADSError: ``search.candidates`` lacks something it needs.
    """
    run, names = Run(folder), config.search.candidates or []
    if run.checkpoints.is_dir():
        # settings by name, not from the file: the folder may come from somebody else
        names = [row["name"] for row in read_tried(folder) if row["is_chosen"] is True]
        was_chosen = [CANDIDATES[name] for name in names if name in CANDIDATES]
        return from_flat(was_chosen[0], base=config) if was_chosen else config
    if len(names) < 2:
        return config
    _check(config)
    remember(folder, places=places_in(config))
    run.write_config(config)
    tried = []
    for n, name in enumerate(names):
        told_as = f"{name} ({MEANINGS[name]})"
        print(f"Candidate {n + 1} of {len(names)}: {told_as}", file=sys.stderr, flush=True)
        tried.append(_trained(config, sessions, run, name))
    best = min(tried, key=lambda t: math.inf if t.criterion is None else t.criterion)
    if best.criterion is None:
        raise LFADSError(f"{folder}: no candidate has a finite criterion; lower the learning rate")
    with whole_file(run.candidates_record) as path:
        rows = [t._asdict() | {"is_chosen": t is best} for t in tried]
        path.write_text(json.dumps(rows, indent=1))
    print(f"Candidates, by {config.trainer.criterion.name}: {told(rows)}", file=sys.stderr)
    chosen = from_flat(best.settings, base=config)
    run.write_config(chosen)
    winner = run.candidate(best.name)
    for path in winner.folder.glob("*.csv"):
        shutil.copyfile(path, run.folder / path.name)
    if winner.tensorboard.is_dir():
        shutil.copytree(winner.tensorboard, run.tensorboard, dirs_exist_ok=True)
    copy_checkpoints(winner.checkpoints, run.checkpoints)  # last: these mark the run as begun
    for name in names:
        shutil.rmtree(run.candidate(name).checkpoints, ignore_errors=True)
    return chosen


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the candidates' results, best first: ``fast_inputs 585.3, one_input 588.0``."""
    return ", ".join(
        f"{r['name']} {'not finite' if r['criterion'] is None else format(r['criterion'], '.1f')}"
        for r in best_first(rows)
    )


def _result(path: Path) -> tuple[float | None, int, float] | None:
    """Read a candidate's result; None if it has none and must be trained."""
    try:
        done = read_json(path)
    except (FileNotFoundError, LFADSError):
        return None
    if not isinstance(done, dict) or set(done) != set(Tried._fields[2:]):
        return None
    criterion, updates, seconds = (done[name] for name in Tried._fields[2:])
    numbers = [0 if criterion is None else criterion, updates, seconds]
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
        return None
    return criterion, int(updates), float(seconds)


def _check(config: Config) -> None:
    cfg = config.trainer
    if cfg.criterion is not Criterion.hidden_recon:
        raise LFADSError(
            f"search.candidates with trainer.criterion={cfg.criterion.name}: costs of models with "
            "different structures cannot be compared; set trainer.criterion=hidden_recon"
        )
    if cfg.max_steps is None and cfg.max_minutes is None:
        raise LFADSError(
            "search.candidates: a candidate trains for a share of the whole training, whose length "
            "is not set; give trainer.max_steps or trainer.max_minutes"
        )
    if cfg.num_devices > 1:
        raise LFADSError(
            f"search.candidates with trainer.num_devices={cfg.num_devices}: candidates train on "
            "one device; set search.candidates=null"
        )


def _trained(config: Config, sessions: Sequence[Session], run: Run, name: str) -> Tried:
    """Train a candidate for its share of the updates, unless that has been done."""
    own, result = run.candidate(name), run.candidate(name).folder / "result.json"
    settings = CANDIDATES[name]
    if (before := _result(result)) is not None:
        return Tried(name, settings, *before)
    theirs = from_flat(settings, base=config)
    own.folder.mkdir(parents=True, exist_ok=True)
    try:
        fitted = training.fit(theirs, sessions, own.folder, [AtRung()])
        criterion, updates = fitted.criterion, fitted.updates
        seconds = round(fitted.seconds, 1)
    except Diverged:
        criterion, updates, seconds = None, 0, 0.0
    if criterion is not None and not math.isfinite(criterion):
        criterion = None
    done: dict[str, Any] = {"criterion": criterion, "updates": updates, "seconds": seconds}
    with whole_file(result) as path:
        path.write_text(json.dumps(done))
    return Tried(name, settings, **done)
