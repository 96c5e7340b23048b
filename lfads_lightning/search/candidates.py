"""Model structures and learning rates that are tried; the best is the run's.

Whether inferred inputs help, and how fast they must be, matters most on a small recording, and only
training can tell. So each structure (``search.candidates``) trains for a share of the updates,
under the schedule of the whole training, and the one with the lowest criterion continues. This is
one rung of successive halving (Jamieson & Talwalkar 2016); it costs the updates of the others.

Which learning rate ends best cannot be told early: a high one is ahead at first. So each of
``search.candidate_learning_rates`` trains to the end.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl

from lfads_lightning.config import Config, Criterion, LFADSError
from lfads_lightning.data.recipe import CANDIDATES, MEANINGS
from lfads_lightning.data.sessions import Session
from lfads_lightning.params import from_flat
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.names import CHECKPOINTS, TRIED
from lfads_lightning.runs.provenance import places_in, remember
from lfads_lightning.runs.run import Run
from lfads_lightning.runs.tried import RATE, Tried, best_first, name_of_rate, read_tried
from lfads_lightning.training import fit as training
from lfads_lightning.training.budget import AtRung
from lfads_lightning.training.checkpoint_files import copy_checkpoints
from lfads_lightning.training.faults import Diverged

RESULT = "result.json"  # of a candidate


class _Kind(NamedTuple):
    """Candidates of a kind, which are compared with each other."""

    parameter: str  # that lists them
    title: str
    settings: dict[str, dict[str, Any]]  # of each, by its name
    meanings: dict[str, str]
    callbacks: Sequence[pl.Callback]  # of their trainings
    remedy: str  # where none has a finite loss


def with_best_candidate(
    config: Config, sessions: Sequence[Session], folder: Path, callbacks: Sequence[pl.Callback] = ()
) -> tuple[Config, float]:
    """Try the candidates of a run that has not begun to train; the run continues the best one.

    Structures come first. The learning rates are tried with the best of these; its own rate
    continues where the structure was compared.

    Each candidate is a run of its own in the folder ``tried``, which is kept without its
    checkpoints; results are in ``tried.json``. A trial that was interrupted is continued.

    Args:
        config: the run's config.
        sessions: read and checked.
        folder: the run's folder.
        callbacks: Lightning callbacks of trainings that are not cut short.

    Returns:
        The config with the settings of the best candidate; and the seconds of its training to the
        end, 0.0 if that is still to come.

    Raises:
        LFADSError: there are candidates, but something is missing that they need.
    """
    run = Run(folder)
    if run.checkpoints.is_dir():
        return _as_chosen(config, read_tried(folder)), 0.0
    structures = {name: CANDIDATES[name] for name in config.search.candidates or []}
    rates = {
        name_of_rate(x): {"learning_rate_init": x}
        for x in config.search.candidate_learning_rates or []
    }
    kinds = [
        _Kind(
            "search.candidates", "Candidate", structures, MEANINGS, [AtRung()],
            "a lower optim.learning_rate_init",
        ),
        _Kind(
            "search.candidate_learning_rates", "Learning rate", rates, {}, callbacks,
            "lower search.candidate_learning_rates",
        ),
    ]  # fmt: skip
    kinds = [kind for kind in kinds if kind.settings]
    if not kinds:
        return config, 0.0
    _check(config, [kind.parameter for kind in kinds])
    remember(folder, places=places_in(config))
    run.write_config(config)
    rows, chosen, best = list[dict[str, Any]](), config, None
    own = run.candidate(name_of_rate(config.optim.learning_rate_init))
    for kind in kinds:
        if best is not None and own.folder.name in kind.settings and not own.checkpoints.is_dir():
            _take_over(run.candidate(best.name), own)
        best, of_kind = _best_of(kind, chosen, sessions, run)
        rows += of_kind
        chosen = from_flat(best.settings, base=chosen)
    assert best is not None
    with whole_file(run.candidates_record) as path:
        path.write_text(json.dumps(rows, indent=1))
    run.write_config(chosen)
    _take_over(run.candidate(best.name), run)
    for row in rows:
        shutil.rmtree(run.candidate(row["name"]).checkpoints, ignore_errors=True)
    return chosen, best.seconds if best.name in rates else 0.0


def _best_of(
    kind: _Kind, config: Config, sessions: Sequence[Session], run: Run
) -> tuple[Tried, list[dict[str, Any]]]:
    """Train candidates; return the best one, and the rows of all."""
    tried = []
    for n, (name, settings) in enumerate(kind.settings.items()):
        meaning = f" ({kind.meanings[name]})" if name in kind.meanings else ""
        print(
            f"{kind.title} {n + 1} of {len(kind.settings)}: {name}{meaning}",
            file=sys.stderr,
            flush=True,
        )
        tried.append(_trained(name, settings, config, sessions, run, kind.callbacks))
    best = min(tried, key=lambda t: math.inf if t.criterion is None else t.criterion)
    if best.criterion is None:
        raise LFADSError(
            f"{run.folder}: no candidate has a finite criterion; start in another "
            f"output.lfads_save_dir, with {kind.remedy}"
        )
    rows = [t._asdict() | {"is_chosen": t is best} for t in tried]
    print(f"{kind.title}s, by {config.trainer.criterion.name}: {told(rows)}", file=sys.stderr)
    return best, rows


def _as_chosen(config: Config, rows: Sequence[Mapping[str, Any]]) -> Config:
    """Return the config of a run that has begun, with what was chosen for it.

    Settings are found by name, not read from the file: the folder may come from somebody else.
    """
    known = dict(CANDIDATES)
    if not config.optim.do_reset_learning_rate:
        for rate in config.search.candidate_learning_rates or []:
            known[name_of_rate(rate)] = {"learning_rate_init": rate}
    for row in rows:
        if row["is_chosen"] is True and row["name"] in known:
            config = from_flat(known[row["name"]], base=config)
    return config


def _take_over(source: Run, target: Run) -> None:
    """Copy a run's logs and checkpoints, from which the other continues."""
    target.folder.mkdir(parents=True, exist_ok=True)
    for path in source.folder.glob("*.csv"):
        shutil.copyfile(path, target.folder / path.name)
    if source.tensorboard.is_dir():
        shutil.copytree(source.tensorboard, target.tensorboard, dirs_exist_ok=True)
    copy_checkpoints(source.checkpoints, target.checkpoints)  # last: these mark a run as begun


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the candidates' results, best first: ``fast_inputs 585.3, one_input 588.0``."""
    return ", ".join(
        f"{r['name']} {'not finite' if r['criterion'] is None else format(r['criterion'], '.1f')}"
        for r in best_first(rows)
    )


def folder_so_far(folder: Path, max_steps: int | None) -> Path | None:
    """Return the folder of the model that an interrupted run has; None if it has none.

    Its own or, while candidates are tried, that of the lowest criterion: of the learning rates, if
    one of them has begun, as structures are trained for a share of the updates only.
    """
    run = Run(folder)
    if run.checkpoints.is_dir():
        return run.folder
    begun = [path.parent for path in run.folder.glob(f"{TRIED}/*/{CHECKPOINTS}")]
    return min(begun, key=lambda path: _rank(path, max_steps), default=None)


def _rank(candidate: Path, max_steps: int | None) -> tuple[bool, float]:
    criterion, *_ = _result(candidate / RESULT, max_steps) or (None,)
    return not candidate.name.startswith(RATE), math.inf if criterion is None else criterion


def _result(path: Path, max_steps: int | None) -> tuple[float | None, int, float] | None:
    """Read a candidate's result; None if it has none for this length and must be trained."""
    try:
        done = read_json(path)
    except (FileNotFoundError, LFADSError):
        return None
    if not isinstance(done, dict) or set(done) != {*Tried._fields[2:], "max_steps"}:
        return None
    if done["max_steps"] != max_steps:  # of the run, which was continued with another length
        return None
    criterion, updates, seconds = (done[name] for name in Tried._fields[2:])
    numbers = [0 if criterion is None else criterion, updates, seconds]
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
        return None
    return criterion, int(updates), float(seconds)


def _check(config: Config, names: Sequence[str]) -> None:
    cfg, given = config.trainer, " and ".join(names)
    if cfg.criterion is not Criterion.hidden_recon:
        raise LFADSError(
            f"{given} with trainer.criterion={cfg.criterion.name}: costs of models with different "
            "settings cannot be compared; set trainer.criterion=hidden_recon"
        )
    if cfg.max_steps is None and cfg.max_minutes is None:
        raise LFADSError(
            f"{given}: how long each is trained depends on the whole training, whose length is not "
            "set; give trainer.max_steps or trainer.max_minutes"
        )
    if cfg.num_devices > 1:
        raise LFADSError(
            f"{given} with trainer.num_devices={cfg.num_devices}: candidates train on one device; "
            f"set {' '.join(f'{name}=null' for name in names)}"
        )


def _trained(
    name: str,
    settings: dict[str, Any],
    config: Config,
    sessions: Sequence[Session],
    run: Run,
    callbacks: Sequence[pl.Callback],
) -> Tried:
    """Train a candidate, unless that has been done."""
    own, result = run.candidate(name), run.candidate(name).folder / RESULT
    if (before := _result(result, config.trainer.max_steps)) is not None:
        return Tried(name, settings, *before)
    theirs = from_flat(settings, base=config)
    own.folder.mkdir(parents=True, exist_ok=True)
    try:
        fitted = training.fit(theirs, sessions, own.folder, callbacks)
        criterion, updates = fitted.criterion, fitted.updates
        seconds = round(fitted.seconds, 1)
    except Diverged:
        criterion, updates, seconds = None, 0, 0.0
    if criterion is not None and not math.isfinite(criterion):
        criterion = None
    done: dict[str, Any] = {"criterion": criterion, "updates": updates, "seconds": seconds}
    with whole_file(result) as path:
        path.write_text(json.dumps(done | {"max_steps": config.trainer.max_steps}))
    return Tried(name, settings, **done)
