"""Training in one process: combines the model, the data and Lightning's trainer."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from lfads_lightning.config import Config, Precision
from lfads_lightning.data.datamodule import LFADSDataModule
from lfads_lightning.data.held_out import session_spec
from lfads_lightning.data.identity import Identity, check_bin_width, check_order, read_identity
from lfads_lightning.data.sessions import Session
from lfads_lightning.metrics import mean_of
from lfads_lightning.model.alignment import align, start_at_moments
from lfads_lightning.model.device import resolve_device
from lfads_lightning.model.layers import Standardise, session_key
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.observations.noise_model import Moments
from lfads_lightning.model.recurrences import choose
from lfads_lightning.model.threads import one_setting_of_threads
from lfads_lightning.model.visibility import held_in
from lfads_lightning.runs import signals
from lfads_lightning.runs.event_files import silent_writers
from lfads_lightning.runs.provenance import places_in, remember
from lfads_lightning.runs.run import Run
from lfads_lightning.training import clock, loggers
from lfads_lightning.training.budget import Budget, share_of_one
from lfads_lightning.training.checkpoint_files import (
    LOWEST,
    PERIODIC,
    find_checkpoint,
    load_checkpoint,
    require_checkpoint,
)
from lfads_lightning.training.checkpoints import Checkpoints, WholeCheckpoints, tell_to_continue
from lfads_lightning.training.format import state_of
from lfads_lightning.training.interrupts import StopWhenTold
from lfads_lightning.training.module import EpochEnd, LFADSModule
from lfads_lightning.training.predictions import nulls
from lfads_lightning.training.resume import take_up, taking_up
from lfads_lightning.training.start import all_specs, start_run, take_weights, warn_of_kept


class Ended(NamedTuple):
    """Results of a finished run, besides its checkpoints."""

    valid: dict[str, float]  # validation metrics of the last epoch
    best: dict[str, float]  # those of the lowest epoch; empty if there was none
    chosen_by: str  # the metric that the lowest epoch was chosen by; "" if there was none
    epochs: int
    updates: int
    seconds: float


def train(
    config: Config,
    sessions: Sequence[Session],
    folder: Path,
    callbacks: Sequence[pl.Callback],
    start: Path | None = None,
) -> Ended:
    """Train a model in this process, one of ``trainer.num_devices``.

    Args:
        config: all parameters.
        sessions: read and checked.
        folder: the run's folder.
        callbacks: callbacks that save and report during training.
        start: checkpoint to continue from.

    Raises:
        LFADSError: the checkpoint does not fit the data or the parameters, the disk is full, or
            losses are no longer finite.
        KeyboardInterrupt: Ctrl-C was pressed; the updates so far are saved.
        Preempted: SIGTERM or SIGUSR1 arrived; the updates so far are saved.
    """
    device = resolve_device(config.trainer.device)
    with (
        signals.noted() as request,
        one_setting_of_threads(config.trainer.num_threads),
        _deterministic(config.trainer.deterministic),
        _quiet_lightning(),
        silent_writers(),
    ):
        pl.seed_everything(config.seed, verbose=False)
        data = LFADSDataModule(
            sessions,
            config.data.batch_size,
            config.data.temporal_spike_jitter_width,
            config.seed,
            config.data.sample_validation_rate,
            config.data.sample_validation_seed,
        )
        model = new_model(config, sessions, start)
        model.passes = choose(config.trainer.recurrence, device.type, config.trainer.precision)
        module = LFADSModule(
            model, config, max(s.n_bins for s in sessions), nulls=nulls(sessions, model)
        )
        if start is None and config.optim.start_from is not None:
            module.start_step, module.identity = _start_from(model, config, sessions)
            warn_of_kept([s.name for s in sessions], model, config)
        stop = StopWhenTold(request)
        with taking_up(start, stop):
            step = None if start is None else take_up(module, start, sessions)
        for keeper in callbacks:  # those that save on a request to stop
            if hasattr(keeper, "request"):
                keeper.request = request
        budget = config.trainer.max_minutes
        timed = []
        if budget is not None:
            tried = config.search.candidates or [], config.search.candidate_learning_rates or []
            share = share_of_one(*map(len, tried))
            timed.append(Budget(budget * share, folder))
        trainer = _trainer(config, device, folder, [stop, *callbacks, *timed], step)
        if trainer.is_global_zero:
            remember(folder, places=places_in(config))
            Run(folder).write_config(config)
        started = clock.now()
        ckpt_path = None if step is None else start
        try:
            with _interrupts_raise(), taking_up(ckpt_path, stop):
                loggers.begin(trainer.loggers, config)
                trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        finally:
            loggers.close(trainer.loggers)
        if request.signal is not None:  # after the last update: scoring waits for a resume
            tell_to_continue(folder, "Interrupted; all updates are done and saved", config)
            raise request.error()
    keepers = [c for c in callbacks if isinstance(c, Checkpoints)]
    return Ended(
        {k: v for k, v in module.metrics.items() if k.startswith("valid/")},
        keepers[0].best if keepers else {},
        keepers[0].chosen_by if keepers else "",
        trainer.current_epoch,
        module.step,
        clock.now() - started,
    )


def new_model(config: Config, sessions: Sequence[Session], own: Path | None = None) -> LFADS:
    """Build a model with new weights, aligned if the sessions have alignment matrices.

    With ``do_start_at_mean_rates`` read-outs start at the statistics of the training trials.

    Args:
        config: all parameters.
        sessions: the sessions of the data.
        own: checkpoint of the run itself. With ``optim.start_from`` the model's other sessions are
            read from it or, without it, from the run to start from.
    """
    specs = [session_spec(s, config.data) for s in sessions]
    if config.optim.start_from is not None:
        specs = all_specs(specs, load_checkpoint(own or start_checkpoint(config))["lfads"])
    model = LFADS(config.model, specs)
    for s in sessions:
        matrix, bias = (
            None if array is None else torch.as_tensor(array, dtype=torch.float32)
            for array in (s.alignment_matrix_cxf, s.alignment_bias_c)
        )
        if matrix is not None or bias is not None:
            align(model, s.name, matrix, bias)
        if own is not None:  # the checkpoint has the rest
            continue
        if config.model.do_start_at_mean_rates:
            start_at_moments(model, s.name, moments_of(s.train.known))
        if config.model.do_standardise_input:
            shown = s.train.known[:, : s.n_bins - model.encoded.forward_steps]
            shown = shown[..., held_in(model.sessions[s.name])]
            standardise = model.standardise[session_key(s.name)]
            assert isinstance(standardise, Standardise)
            moments = moments_of(shown)
            standardise.set(moments.mean, moments.variance)
    return model.double() if config.trainer.precision is Precision.float64 else model


def moments_of(data: np.ndarray) -> Moments:
    """Return the moments of each channel of data (E, T, D), trial by trial, without a copy.

    NaN entries are left out.
    """
    mean = mean_of(data, (0, 1), np.float64)
    square, filled, n = np.zeros((3, data.shape[2]))
    for trial in data:
        there = trial == trial  # not NaN
        square += np.where(there, np.square(trial - mean), 0).sum(0)
        filled += (there & (trial != 0)).sum(0)
        n += there.sum(0)
    n = np.maximum(n, 1)
    return Moments(
        *(torch.as_tensor(x, dtype=torch.float32) for x in (mean, square / n, filled / n))
    )


def start_checkpoint(config: Config) -> Path:
    """Return the best checkpoint of the run to start from, or its newest if there is no best."""
    run = start_run(config).folder
    return find_checkpoint(run, LOWEST) or require_checkpoint(run, PERIODIC)


def _start_from(model: LFADS, config: Config, sessions: Sequence[Session]) -> tuple[int, Identity]:
    checkpoint = load_checkpoint(start_checkpoint(config))
    record = checkpoint["lfads"]
    step = take_weights(model, state_of(checkpoint), record, config)
    known = read_identity(record)
    for session in sessions:
        check_bin_width(session, known)
        check_order(session, known)
    return step, known


def _trainer(
    config: Config,
    device: torch.device,
    folder: Path,
    callbacks: Sequence[pl.Callback],
    step: int | None,
) -> pl.Trainer:
    """Make the trainer of a run that continues after ``step`` updates, or begins (None)."""
    cfg = config.trainer
    # also in a SLURM job: Lightning would otherwise catch its signals, and requeue it
    environment = LightningEnvironment()
    several: dict[str, Any] = {"plugins": [environment, WholeCheckpoints()]}
    if cfg.num_devices > 1:
        strategy = DDPStrategy(
            cluster_environment=environment,
            checkpoint_io=WholeCheckpoints(),
            process_group_backend="nccl" if device.type == "cuda" else "gloo",
            find_unused_parameters=True,  # those of sessions that are not in a batch
        )
        several = {"strategy": strategy, "use_distributed_sampler": False}
    one = [device.index] if device.type == "cuda" else 1
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=one if cfg.num_devices == 1 else cfg.num_devices,
        precision="64-true" if cfg.precision is Precision.float64 else "32-true",
        max_epochs=-1 if cfg.max_epochs is None else cfg.max_epochs,
        max_steps=-1 if cfg.max_steps is None else cfg.max_steps,
        logger=loggers.open_loggers(config, folder, step) or False,
        callbacks=[EpochEnd(), *callbacks],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        **several,
    )


@contextmanager
def _deterministic(asked: bool) -> Iterator[None]:
    """Restrict torch to deterministic algorithms in the context, if asked; then restore it."""
    if not asked:
        yield
        return
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch requires it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before[2:4]
        if before[4] is None:
            del os.environ["CUBLAS_WORKSPACE_CONFIG"]


@contextmanager
def _interrupts_raise() -> Iterator[None]:
    """Make Ctrl-C raise KeyboardInterrupt: Lightning would end the process, even a notebook's."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on hardware, and advice that does not apply to data in memory."""
    names = ("lightning.pytorch", "lightning.fabric")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", ".*number of training batches.*")
        warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")
        warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero.*")
        # the module advances our sampler itself
        warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's use of torch
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
