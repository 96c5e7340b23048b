"""A training run from the beginning, or from where it was interrupted, to the end."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.sessions import Session
from lfads_lightning.model.device import resolve_device
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.observations import from_name
from lfads_lightning.model.recurrences import choose
from lfads_lightning.params import check, from_dict
from lfads_lightning.runs.run import Run
from lfads_lightning.training import devices, loop
from lfads_lightning.training.changes import OF_MAKING, OF_OPTIMIZER, OF_READOUTS, keep_beginning
from lfads_lightning.training.checkpoint_files import (
    LOWEST,
    PERIODIC,
    find_checkpoint,
    load_checkpoint,
    require_checkpoint,
)
from lfads_lightning.training.checkpoints import Checkpoints
from lfads_lightning.training.format import state_of
from lfads_lightning.training.logs import EpochLogs, Progress
from lfads_lightning.training.watch import CopyingWatch


class Fitted(NamedTuple):
    """A finished training run."""

    model: LFADS  # with the weights of the lowest criterion, or the last ones
    step: int  # updates that led to these weights
    checkpoint: str  # index of their checkpoint, or "last"
    chosen_by: str  # the metric that is lowest at these weights; "" for the last ones
    criterion: float | None  # trainer.criterion at these weights; None without validation data
    valid: dict[str, float]  # validation metrics of the epoch of these weights
    epochs: int
    updates: int
    seconds: float
    is_constant: bool = False  # the model is the constant rate: training found nothing


def fit(
    config: Config,
    sessions: Sequence[Session],
    folder: Path,
    callbacks: Sequence[pl.Callback] = (),
) -> Fitted:
    """Train a model, or continue the run in ``folder``.

    Args:
        config: all parameters.
        sessions: read and checked.
        folder: the run's folder; if ``output.checkpoint_pb_load_name`` finds a checkpoint there,
            training continues from it.
        callbacks: Lightning callbacks, besides our own; with several devices each gets them by
            pickle.

    Raises:
        LFADSError: parameters contradict each other, or a checkpoint does not fit the data or the
            parameters.
    """
    for message in check(config):
        warnings.warn(message, stacklevel=2)
    cfg = config.trainer
    criterion = f"valid/{cfg.criterion.name}"
    ours: list[pl.Callback] = [
        Checkpoints(folder, config.output, criterion, cfg.early_stopping_epochs),
        EpochLogs(folder, config.output.csv_log),
        Progress(config.loss, config.optim.learning_rate_stop),
    ]
    if from_name(config.model.output_dist).nll_is_poisson:
        ours.append(CopyingWatch(sessions))
    start = find_checkpoint(folder, config.output.checkpoint_pb_load_name)
    if start is not None:
        _keep_beginning(config, start)
    elif (
        cfg.max_minutes is not None
        and cfg.max_steps is not None
        and Run(folder).read_config() is None
    ):
        raise LFADSError(
            f"trainer.max_minutes={cfg.max_minutes:g} with trainer.max_steps={cfg.max_steps}: both "
            "set the length of training; give only one"
        )
    if start is None and config.optim.start_from is not None:
        theirs = loop.start_checkpoint(config)
        was = from_dict(load_checkpoint(theirs)["lfads"]["config"], str(theirs))
        # the optimiser is new, and so are the read-outs of sessions that the old run does not know
        keep_beginning(config, was, theirs, without=OF_OPTIMIZER | OF_READOUTS | OF_MAKING)
    train = loop.train if cfg.num_devices == 1 else devices.train
    ended = train(config, sessions, folder, [*ours, *callbacks], start)
    index = LOWEST if ended.best else PERIODIC
    path = require_checkpoint(folder, index)
    saved = load_checkpoint(path)
    device = resolve_device(cfg.device, tell=False)  # training has warned already
    model = loop.new_model(config, sessions, path)
    model.load_state_dict(state_of(saved))
    model.passes = choose(cfg.recurrence, device.type)
    valid = ended.best or ended.valid
    return Fitted(
        model.to(device),
        step=saved["lfads"]["step"],
        checkpoint=LOWEST if ended.best else "last",
        chosen_by=ended.chosen_by,
        criterion=valid.get(criterion),
        valid=valid,
        epochs=ended.epochs,
        updates=ended.updates,
        seconds=ended.seconds,
    )


def _keep_beginning(config: Config, start: Path) -> None:
    """Compare the parameters with those that the run began with."""
    saved = load_checkpoint(start)
    was = from_dict(saved["lfads"]["config"], str(start))
    without = {"learning_rate_init"} if config.optim.do_reset_learning_rate else set[str]()
    if "optimizer_states" not in saved:  # bare weights continue with a new optimiser
        without |= OF_OPTIMIZER
    keep_beginning(config, was, start, without=without)
    if config.trainer.max_minutes is not None and config.trainer.max_steps is None:
        config.trainer.max_steps = was.trainer.max_steps  # as measured for these minutes
