"""Training on several devices of this machine: a process for each, gradients averaged (DDP)."""

import os
import socket
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import multiprocessing

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.sessions import Session
from lfads_lightning.model.device import resolve_device
from lfads_lightning.params import from_dict, to_dict
from lfads_lightning.runs import signals
from lfads_lightning.training import loop


def train(
    config: Config,
    sessions: Sequence[Session],
    folder: Path,
    callbacks: Sequence[pl.Callback],
    start: Path | None = None,
) -> loop.Ended:
    """Train on ``trainer.num_devices`` devices; the arguments are those of :func:`loop.train`.

    Each device gets its part of every batch, and all draw the random numbers of the whole batch:
    more devices give the same weights, up to rounding.

    Raises:
        LFADSError: there are fewer devices, or fewer trials in a batch; any error of one process.
    """
    n, kind = config.trainer.num_devices, resolve_device(config.trainer.device).type
    present = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, n)
    if present < n:
        raise LFADSError(
            f"trainer.num_devices={n}: this machine has {present} devices for trainer.device="
            f"{config.trainer.device}; use that number, or trainer.device=cpu for processes on the "
            "CPU"
        )
    for s in sessions:
        size = min(len(s.train.data), config.data.batch_size)
        if size < n:
            raise LFADSError(
                f"{s.source}: a batch has {size} trials, fewer than trainer.num_devices={n}"
            )
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (n, port, to_dict(config), list(sessions), folder, list(callbacks), start, results)
    workers = multiprocessing.start_processes(
        _one_of_them, arguments, nprocs=n, join=False, start_method="spawn"
    )
    with signals.noted() as request:
        told = False
        while not workers.join(timeout=0.2):
            if request.signal is not None and not told:
                told = True
                for process in workers.processes:  # they save and end; one request is enough
                    if process.is_alive():
                        process.terminate()
    if request.signal is not None:
        raise request.error()
    outcome = results.get()
    if outcome is None:  # a process was told to stop, this one was not
        raise signals.Preempted
    if isinstance(outcome, str):
        raise LFADSError(outcome)
    return loop.Ended(*outcome)


def _one_of_them(
    rank: int,
    n: int,
    port: int,
    config: dict[str, Any],
    sessions: list[Session],
    folder: Path,
    callbacks: list[pl.Callback],
    start: Path | None,
    results: Any,
) -> None:
    # tells Lightning that its processes have been started already
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if rank > 0:
        warnings.simplefilter("ignore")  # the first process gives the warnings
    outcome: Any = None
    with suppress(KeyboardInterrupt, signals.Preempted):
        try:
            outcome = tuple(loop.train(from_dict(config), sessions, folder, callbacks, start))
        except LFADSError as error:  # all processes raise the same
            outcome = str(error)
    if rank == 0:
        results.put(outcome)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
