"""Training in one process: model, data and Lightning's trainer put together."""

import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from lfads_lightning import signals
from lfads_lightning.config import Config, LFADSError, Precision, SessionSpec
from lfads_lightning.data.arrays import listed
from lfads_lightning.data.datamodule import LFADSDataModule, n_trials_of
from lfads_lightning.data.held_out import session_spec
from lfads_lightning.data.sessions import Session
from lfads_lightning.model.alignment import align
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.recurrences import choose
from lfads_lightning.params import from_dict, write_config
from lfads_lightning.training.checkpoints import (
    LOWEST,
    PERIODIC,
    Checkpoints,
    WholeCheckpoints,
    find_checkpoint,
    load_checkpoint,
    require_checkpoint,
    tell_to_continue,
)
from lfads_lightning.training.format import rebuilt, state_of
from lfads_lightning.training.interrupts import StopWhenTold
from lfads_lightning.training.logs import Events, silent_writers
from lfads_lightning.training.module import EpochEnd, LFADSModule
from lfads_lightning.training.predictions import nulls
from lfads_lightning.training.start import (
    all_specs,
    check_same_start,
    start_run,
    take_weights,
    warn_of_kept,
)


class Ended(NamedTuple):
    """What a finished run says of itself, beside its checkpoints."""

    valid: dict[str, float]  # validation metrics of the last epoch
    best: dict[str, float]  # of the lowest eligible one; empty where there was none
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
        folder: the run's.
        callbacks: what is saved and told while training.
        start: checkpoint to continue from.

    Raises:
        LFADSError: the checkpoint does not fit data or parameters; the disk is full; no loss is
            finite any more.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
        Preempted: SIGTERM or SIGUSR1; the same.
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
        model.passes = choose(config.trainer.recurrence, device.type)
        module = LFADSModule(model, config, sessions[0].n_bins, nulls=nulls(sessions, model))
        if start is None and config.optim.start_from is not None:
            module.start_step = _start_from(model, config)
            warn_of_kept([s.name for s in sessions], model, config)
        stop = StopWhenTold(request)
        with _taking_up(start, stop):
            step = None if start is None else _take_up(module, start, sessions)
        for keeper in callbacks:  # those that save when told to stop
            if hasattr(keeper, "request"):
                keeper.request = request
        trainer = _trainer(config, device, folder, [stop, *callbacks], step)
        if trainer.is_global_zero:
            write_config(config, folder)
        started = time.monotonic()
        ckpt_path = None if step is None else start
        with _interrupts_raise(), _taking_up(ckpt_path, stop):
            trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        if request.signal is not None:  # it came after the last update; scoring waits for a resume
            tell_to_continue(folder, "Interrupted; all updates are done and saved")
            raise request.error()
    keepers = [c for c in callbacks if isinstance(c, Checkpoints)]
    return Ended(
        {k: v for k, v in module.metrics.items() if k.startswith("valid/")},
        keepers[0].best if keepers else {},
        trainer.current_epoch,
        module.step,
        time.monotonic() - started,
    )


def new_model(config: Config, sessions: Sequence[Session], own: Path | None = None) -> LFADS:
    """Build a model with fresh weights, aligned where sessions carry matrices.

    Args:
        config: all parameters.
        sessions: of the data.
        own: checkpoint of the run itself; with ``optim.start_from`` it says which other sessions
            the model knows, else the run to start from does.
    """
    specs = [session_spec(s, config.data) for s in sessions]
    if config.optim.start_from is not None:
        specs = all_specs(specs, load_checkpoint(own or _start_checkpoint(config))["lfads"])
    model = LFADS(config.model, specs)
    for s in sessions:
        matrix, bias = (
            None if array is None else torch.as_tensor(array, dtype=torch.float32)
            for array in (s.alignment_matrix_cxf, s.alignment_bias_c)
        )
        if matrix is not None or bias is not None:
            align(model, s.name, matrix, bias)
    return model.double() if config.trainer.precision is Precision.float64 else model


def _start_checkpoint(config: Config) -> Path:
    """Return the best checkpoint of the run to start from, or its newest."""
    run = start_run(config)
    return find_checkpoint(run, LOWEST) or require_checkpoint(run, PERIODIC)


def _start_from(model: LFADS, config: Config) -> int:
    checkpoint = load_checkpoint(_start_checkpoint(config))
    return take_weights(model, state_of(checkpoint), checkpoint["lfads"], config)


@contextmanager
def _taking_up(start: Path | None, stop: StopWhenTold) -> Iterator[None]:
    """Say what it means where the state beside the weights is not what Lightning saves.

    Raises:
        LFADSError: in place of what is raised before training begins.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if start is None or stop.has_begun or isinstance(error, LFADSError):
            raise
        raise LFADSError(
            f"{start}: its weights can be read, but training cannot go on from it (its optimiser's "
            f"or progress record does not fit: {' '.join(str(error).split())[:200]}); put an older "
            "one last in the index file beside it, or start from the weights: optim.start_from=RUN"
        ) from error


def _take_up(module: LFADSModule, path: Path, sessions: Sequence[Session]) -> int | None:
    """Check a checkpoint against data and parameters; return the updates behind it.

    One without optimiser state (saved from Python, or imported) gives its weights and its step
    now, and cannot be continued as it is: None.
    """
    checkpoint = load_checkpoint(path)
    record, model = checkpoint["lfads"], module.model
    check_same_start(module.config, record, path)
    theirs = {spec[0]: SessionSpec(*spec) for spec in record["sessions"]}
    if theirs != model.sessions:
        raise LFADSError(
            f"{path}: was trained on {describe(theirs)}, the data hold {describe(model.sessions)}; "
            "continue on the same sessions, or start in another output.lfads_save_dir"
        )
    weights = state_of(checkpoint)
    expected = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    if {name: tuple(p.shape) for name, p in weights.items()} != expected:
        was = vars(from_dict(record["config"], str(path)).model)
        changed = [f"{k}={was[k]} (now {v})" for k, v in vars(model.config).items() if was[k] != v]
        if not changed:
            rebuilt(checkpoint, path)  # says that it does not fit its own parameters
        raise LFADSError(
            f"{path}: does not fit the parameters; it was trained with model.{', '.join(changed)}. "
            "Drop these overrides, or start in another output.lfads_save_dir"
        )
    was, are = record.get("n_trials"), n_trials_of(sessions)  # of an older version: None
    if was is not None and was != are:
        warnings.warn(
            f"{path}: was trained on other data: {_trials(was)} trials (training + validation), "
            f"now {_trials(are)}; it goes on with these, and its scores are not those of one run",
            stacklevel=2,
        )
    if record["n_bins"] not in (None, module.n_bins):
        warnings.warn(
            f"{path}: was trained on trials of {record['n_bins']} bins, now they have "
            f"{module.n_bins}; it goes on with these, and its costs are not those of one run",
            stacklevel=2,
        )
    before, now = from_dict(record["config"], str(path)).data, module.config.data
    masks = ("sample_validation_rate", "sample_validation_seed")
    if now.sample_validation_rate and any(getattr(before, m) != getattr(now, m) for m in masks):
        warnings.warn(
            f"{path}: was trained with other entries held back (data.{masks[0]}="
            f"{before.sample_validation_rate}, {masks[1]}={before.sample_validation_seed}): of "
            "those that now count as never shown it has seen some",
            stacklevel=2,
        )
    if "optimizer_states" in checkpoint:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        done, wanted = progress["processed"], module.config.trainer.max_epochs
        if wanted is not None and done >= wanted:
            message = (
                f"{path}: has been trained for {done} epochs already; to go on, raise "
                f"trainer.max_epochs={wanted}"
            )
            if done > wanted:  # what is asked for cannot be had
                raise LFADSError(message)
            warnings.warn(message, stacklevel=2)
        return record["step"]
    model.load_state_dict(weights)
    module.start_step = record["step"]
    return None


def _trials(counts: dict[str, list[int]]) -> str:
    return ", ".join(f"{name}: {' + '.join(map(str, n))}" for name, n in list(counts.items())[:4])


def describe(sessions: dict[str, SessionSpec]) -> str:
    """Return session names and sizes for a message."""
    shown = [
        f"{s.name!r} ({s.data_dim} neurons"
        + (f", {s.ext_input_dim} external inputs" if s.ext_input_dim else "")
        + (f", held out {listed(s.held_out)}" if s.held_out else "")
        + (f", {s.forward_steps} forward bins" if s.forward_steps else "")
        + (", aligned)" if s.aligned else ")")
        for s in list(sessions.values())[:4]
    ]
    return ", ".join(shown) + (f" and {len(sessions) - 4} more" if len(sessions) > 4 else "")


def resolve_device(name: str, *, tell: bool = True) -> torch.device:
    """Map ``gpu:0`` (the original's spelling), ``cuda:0``, ``mps`` or ``cpu:0`` to a torch device.

    A device that this machine lacks falls back to the CPU, with a warning if we are to ``tell``.

    Raises:
        LFADSError: not the name of a device.
    """
    kind, _, number = name.strip().lstrip("/").lower().partition(":")
    kind = "cuda" if kind == "gpu" else kind
    if kind not in {"cuda", "mps", "cpu"} or not (number or "0").isdigit():
        raise LFADSError(
            f"trainer.device is {name!r}; expected gpu:N, cuda:N, mps or cpu, e.g. gpu:0"
        )
    index = int(number or 0)
    if kind == "cuda" and index < torch.cuda.device_count():
        return torch.device("cuda", index)
    if kind == "mps" and torch.backends.mps.is_available():
        return torch.device("mps")
    if kind != "cpu" and tell:
        warnings.warn(
            f"trainer.device={name}: this machine has no such device, using the CPU "
            "(trainer.device=cpu:0 says so on purpose)",
            stacklevel=2,
        )
    return torch.device("cpu")


def _trainer(
    config: Config,
    device: torch.device,
    folder: Path,
    callbacks: Sequence[pl.Callback],
    step: int | None,
) -> pl.Trainer:
    """Make the trainer of a run that continues after ``step`` updates; None: begins."""
    cfg = config.trainer
    # inside a SLURM job too: Lightning would take its signals, and requeue it
    environment = LightningEnvironment()
    several: dict[str, Any] = {"plugins": [environment, WholeCheckpoints()]}
    if cfg.num_devices > 1:
        strategy = DDPStrategy(
            cluster_environment=environment,
            checkpoint_io=WholeCheckpoints(),
            process_group_backend="nccl" if device.type == "cuda" else "gloo",
            find_unused_parameters=True,  # sessions that are not in a batch
        )
        several = {"strategy": strategy, "use_distributed_sampler": False}
    one = [device.index] if device.type == "cuda" else 1
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=one if cfg.num_devices == 1 else cfg.num_devices,
        precision="64-true" if cfg.precision is Precision.float64 else "32-true",
        max_epochs=-1 if cfg.max_epochs is None else cfg.max_epochs,
        max_steps=-1 if cfg.max_steps is None else cfg.max_steps,
        # events behind this step are of a run that was cut off; readers forget them
        logger=Events(
            folder, name="tensorboard", version="", purge_step=0 if step is None else step + 1
        ),
        callbacks=[EpochEnd(), *callbacks],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        **several,
    )


@contextmanager
def one_setting_of_threads(n: int) -> Iterator[None]:
    """Let torch use ``n`` CPU threads inside, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deterministic(asked: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms alone inside, if asked; afterwards as before."""
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
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch demands it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before[2:4]
        if before[4] is None:
            del os.environ["CUBLAS_WORKSPACE_CONFIG"]


@contextmanager
def _interrupts_raise() -> Iterator[None]:
    """Let Ctrl-C arrive as KeyboardInterrupt: Lightning would end the process, a notebook's too."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on hardware, and advice that is not for data in memory."""
    names = ("lightning.pytorch", "lightning.fabric")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", ".*number of training batches.*")
        warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")
        warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero.*")
        # our sampler is wound on by the module
        warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's use of torch
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
