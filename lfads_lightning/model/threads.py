"""How many CPU threads compute: those of torch, and those of the native kernels."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from lfads_lightning.model import native

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, Linux: microseconds of so many


def cores() -> int:
    """Return how many cores this process may use.

    The least of what the system has, what this process is bound to, the quota of its container,
    and ``OMP_NUM_THREADS``, where that is set.
    """
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limits = [bound]
    with suppress(OSError, ValueError):
        quota, period = _QUOTA.read_text().split()
        limits.append(int(quota) // int(period))
    with suppress(ValueError):
        limits.append(int(os.environ.get("OMP_NUM_THREADS", "")))
    return max(min(limits), 1)


def use_threads(n: int | None) -> None:
    """Compute with so many threads from now on; see :func:`one_setting_of_threads`."""
    torch.set_num_threads(n or 1)
    native.team = min(cores(), native.MOST_PARTS) if n is None else 0


@contextmanager
def one_setting_of_threads(n: int | None) -> Iterator[None]:
    """Compute with so many threads inside, and with as many as before afterwards.

    Args:
        n: threads of torch, and of the native kernels. None: torch has one, and the kernels share
            the trials of a batch among all cores, in parts that depend on the batch alone. So the
            numbers do not depend on the cores, and a thread whose core is busy takes fewer parts.
    """
    before, team = torch.get_num_threads(), native.team
    use_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        native.team = team
