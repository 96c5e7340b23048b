"""Where the members of a generation train: on this machine, or on a Ray cluster."""

import importlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from lfads_lightning.config import Config, Engine, LFADSError
from lfads_lightning.data.sessions import Session
from lfads_lightning.model.device import resolve_device
from lfads_lightning.model.threads import cores
from lfads_lightning.params import NEEDS_RAY, from_dict, to_dict
from lfads_lightning.runs.signals import PREEMPTIONS, Preempted
from lfads_lightning.search.members import Task, train_member

SECONDS_BETWEEN_LOOKS = 0.5


class Members(Protocol):
    """An engine that trains tasks."""

    def train(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, float]]:
        """Train tasks and yield each with its score when it is done, in any order."""

    def close(self) -> None:
        """End all processes."""


def start(config: Config, sessions: Sequence[Session], folder: Path) -> Members:
    """Start the engine that the config names.

    Args:
        config: the search's config.
        sessions: read and checked.
        folder: the search's folder.

    Raises:
        LFADSError: Ray is not installed, or its cluster cannot be reached.
    """
    if config.search.engine is Engine.ray:
        return _Ray(config, sessions, folder)
    n = min(config.search.num_workers or _workers_that_fit(config), config.search.population)
    return _Here(config, sessions, folder) if n == 1 else _Processes(config, sessions, folder, n)


def _workers_that_fit(config: Config) -> int:
    if resolve_device(config.trainer.device).type != "cpu":
        return 1
    return max(cores() // (config.trainer.num_threads or 1), 1)


class _Here:
    """Members train one after another in this process."""

    def __init__(self, config: Config, sessions: Sequence[Session], folder: Path) -> None:
        self.arguments = config, sessions, folder

    def train(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, float]]:
        for task in tasks:
            yield task, train_member(*self.arguments, task)

    def close(self) -> None:
        """Do nothing: there are no other processes."""


class _Processes:
    """Members train in worker processes; each worker holds the data."""

    def __init__(self, config: Config, sessions: Sequence[Session], folder: Path, n: int) -> None:
        context = get_context("spawn")
        self.told = context.Event()
        self.pool = ProcessPoolExecutor(
            n,
            context,
            _begin_worker,
            (to_dict(config), list(sessions), folder, os.getpid(), self.told, max(cores() // n, 1)),
        )

    def train(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, float]]:
        futures = {self.pool.submit(_train_in_worker, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def close(self) -> None:
        self.told.set()  # workers that still train save and exit
        self.pool.shutdown(wait=True, cancel_futures=True)


_worker: list[Any] = []  # of this process: config, sessions, folder, the event that stops it


def _begin_worker(
    config: dict[str, Any],
    sessions: list[Session],
    folder: Path,
    parent: int,
    told: Any,
    share: int,
) -> None:
    os.environ["OMP_NUM_THREADS"] = str(share)  # for trainer.num_threads=null
    _worker[:] = [from_dict(config), sessions, folder, told]
    warnings.simplefilter("ignore")  # the search has warned already
    for number in (signal.SIGINT, *PREEMPTIONS):
        # a terminal or a cluster signals every process; between members only the search reacts
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_watch, args=(parent, told), daemon=True).start()


def _watch(parent: int, told: Any) -> None:
    """Exit when the parent process has ended; stop training when it asks for that."""
    has_stopped = False
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        if told.is_set() and not has_stopped:
            has_stopped = True
            signal.raise_signal(signal.SIGTERM)  # the main thread gets it
    os._exit(1)


def _train_in_worker(task: Task) -> float:
    if _worker[3].is_set():
        raise Preempted
    return train_member(_worker[0], _worker[1], _worker[2], task)


class _Ray:
    """Members train as tasks of a Ray cluster whose nodes all see the search's folder.

    Ray's own scheduler for population-based training is not used: it selects by truncation where
    AutoLFADS uses tournaments, and its state would be a second journal.
    """

    def __init__(self, config: Config, sessions: Sequence[Session], folder: Path) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:  # the command line has checked this before making a folder
            raise LFADSError(NEEDS_RAY) from error
        self.ray = ray
        self.began_here = not ray.is_initialized()
        address, n = config.search.ray_address, config.search.num_workers
        if self.began_here:
            try:
                ray.init(
                    address=address,
                    num_cpus=n if address is None else None,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="error",
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise LFADSError(
                    f"search.ray_address={address}: no Ray cluster answers there "
                    f"({' '.join(str(error).split())[:200]}); start one with 'ray start --head'"
                ) from error
        gpus = 1 if config.trainer.device.startswith(("gpu", "cuda")) else 0
        needs: dict[str, Any] = {"num_cpus": config.trainer.num_threads or 1}
        if gpus and ray.cluster_resources().get("GPU"):
            needs["num_gpus"] = gpus
        self.function = ray.remote(max_retries=3, **needs)(_train_on_node)
        self.data = ray.put(list(sessions))
        self.config, self.folder = to_dict(config), folder

    def train(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, float]]:
        waiting = {
            self.function.remote(self.config, self.data, self.folder, task): task for task in tasks
        }
        while waiting:
            (ended,), _ = self.ray.wait(list(waiting), num_returns=1)
            try:
                score = self.ray.get(ended)
            except self.ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, LFADSError):
                    raise error.cause from None
                raise
            yield waiting.pop(ended), score

    def close(self) -> None:
        if self.began_here:
            self.ray.shutdown()


def _train_on_node(
    config: dict[str, Any], sessions: list[Session], folder: Path, task: Task
) -> float:
    if not folder.is_dir():
        raise LFADSError(
            f"{folder}: this node of the Ray cluster does not see the search's folder; set "
            "output.lfads_save_dir to one that all nodes share"
        )
    return train_member(from_dict(config), sessions, folder, task)
