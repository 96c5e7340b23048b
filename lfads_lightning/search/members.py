"""One member of a population for one generation: the task that an engine is given."""

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl

from lfads_lightning.config import Algorithm, Config, LFADSError
from lfads_lightning.data.sessions import Session
from lfads_lightning.params import from_flat
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import remove_leftovers, whole_file
from lfads_lightning.runs.lock import SECONDS_OF_SILENCE
from lfads_lightning.runs.run import Search
from lfads_lightning.runs.signals import Preempted, Request
from lfads_lightning.training import loop
from lfads_lightning.training.checkpoint_files import damage
from lfads_lightning.training.faults import Diverged
from lfads_lightning.training.logs import EpochLogs


class Task(NamedTuple):
    """The training of one member in one generation."""

    member: int
    generation: int
    until_epoch: int
    settings: dict[str, float]  # flat names
    start: Path | None  # checkpoint of the previous generation, its own or its donor's


def member_config(config: Config, search: Path, task: Task) -> Config:
    """Return the config of a member, which is an ordinary training run."""
    changed = task.settings | {
        "algorithm": Algorithm.none,
        "seed": (config.seed + task.member) % 2**32,
        "max_epochs": task.until_epoch,
        "lfads_save_dir": str(Search(search).member(task.member).folder),
        # the optimiser's state carries the donor's learning rate; the member uses its own
        "do_reset_learning_rate": "learning_rate_init" in task.settings,
    }
    return from_flat(changed, base=config)


class _KeepResult(pl.Callback):
    """Save the state at the end of the generation, or when training is told to stop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.request: Request | None = None  # a request to stop this run

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state, whole or not at all."""
        trainer.save_checkpoint(self.path)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the state to continue from, or, if the member diverged, as its final one."""
        at_once = self.request is not None and self.request.at_once
        if isinstance(exception, KeyboardInterrupt | Preempted) and not at_once:
            trainer.save_checkpoint(cut_off(self.path))
        elif isinstance(exception, Diverged):
            trainer.save_checkpoint(self.path)


def cut_off(result: Path) -> Path:
    """Return where an interrupted generation is saved, beside the path of its result."""
    return result.with_suffix(".cut")


def train_member(config: Config, sessions: Sequence[Session], search: Path, task: Task) -> float:
    """Train a member for a generation and write checkpoint and score to its folder.

    A generation that is finished already is not trained again.

    Returns:
        The criterion, lower is better; infinity if it is not finite.

    Raises:
        LFADSError: a checkpoint is damaged.
    """
    done = score_of(search, task)
    if done is not None:
        return done
    own = member_config(config, search, task)
    run = Search(search).member(task.member)
    result = Search(search).checkpoint_of(task.member, task.generation)
    logs = EpochLogs(run.folder, own.output.csv_log)
    # a worker whose search was killed may take a moment to end
    with run.locked(wait_s=SECONDS_OF_SILENCE):
        remove_leftovers(run.folder)
        start, cut = task.start, cut_off(result)
        if cut.is_file() and damage(cut) is None:  # keeps the learning rate it has reached
            start, own.optim.do_reset_learning_rate = cut, False
        try:
            ended = loop.train(own, sessions, run.folder, [logs, _KeepResult(result)], start)
            valid = ended.valid
        except Diverged as error:
            warnings.warn(str(error), stacklevel=2)
            valid = {}
        score = valid.get(f"valid/{own.trainer.criterion.name}", math.inf)
        score = score if math.isfinite(score) else math.inf
        with whole_file(result.with_suffix(".json")) as path:
            path.write_text(json.dumps({"score": score, "valid": valid}))
        cut.unlink(missing_ok=True)
    return score


def score_of(search: Path, task: Task) -> float | None:
    """Return the score of a finished task; None if it is not finished."""
    result = Search(search).checkpoint_of(task.member, task.generation)
    try:
        score = read_json(result.with_suffix(".json"))["score"]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise LFADSError(
            f"{result.with_suffix('.json')}: is not a member's score ({error}); delete it to train "
            "this generation of the member again"
        ) from error
    # a damaged checkpoint is trained again
    return float(score) if damage(result) is None else None


def valid_of(search: Path, member: int, generation: int) -> dict[str, float]:
    """Return the validation metrics of a finished member."""
    path = Search(search).checkpoint_of(member, generation).with_suffix(".json")
    return read_json(path)["valid"]
