"""Structures that are tried before a training (``search.candidates``); the best one is continued.

Whether inferred inputs help, and how fast these must be, is what decides most on a small recording,
and nothing but training tells. So each candidate trains for a share of the updates, under the
schedule of all of them; the one of the lowest criterion goes on from there. This is one rung of
successive halving (Jamieson & Talwalkar 2016): the updates of the others are what it costs.
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
    """Try the candidates of a run that has not begun to train, and make it go on as the best.

    Each candidate is a run of its own in the folder ``tried``, which stays there without its
    checkpoints; what they came to is in ``tried.json``. What was cut off goes on.

    Args:
        config: of the run.
        sessions: read and checked.
        folder: of the run.

    Returns:
        The config, with the settings of the best one.

    Raises:
        LFADSError: ``search.candidates`` without what it needs.
    """
    run, names = Run(folder), config.search.candidates or []
    if run.checkpoints.is_dir():
        # what the names mean, not what the file says of it: the folder may be somebody else's
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
    copy_checkpoints(winner.checkpoints, run.checkpoints)  # last: with these the run has begun
    for name in names:
        shutil.rmtree(run.candidate(name).checkpoints, ignore_errors=True)
    return chosen


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what candidates came to, best first: ``fast_inputs 585.3, one_input 588.0``."""
    return ", ".join(
        f"{r['name']} {'not finite' if r['criterion'] is None else format(r['criterion'], '.1f')}"
        for r in best_first(rows)
    )


def _result(path: Path) -> tuple[float | None, int, float] | None:
    """Read what a candidate came to; None where that is not known, and it trains."""
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
            f"search.candidates with trainer.criterion={cfg.criterion.name}: costs of models of "
            "different structure are not alike; set trainer.criterion=hidden_recon"
        )
    if cfg.max_steps is None and cfg.max_minutes is None:
        raise LFADSError(
            "search.candidates: how long a candidate trains is a share of the whole training; give "
            "trainer.max_steps or trainer.max_minutes"
        )
    if cfg.num_devices > 1:
        raise LFADSError(
            f"search.candidates with trainer.num_devices={cfg.num_devices}: candidates train on "
            "one device; set search.candidates=null"
        )


def _trained(config: Config, sessions: Sequence[Session], run: Run, name: str) -> Tried:
    """Train a candidate up to the rung, unless that has been done."""
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
