"""The number of CPU threads of torch and of the native kernels."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from lfads_lightning.model import native

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a Linux container: microseconds per period


def cores() -> int:
    """Return how many cores this process may use.

    This is the minimum of the system's cores, the cores this process is bound to, the quota of its
    container, and ``OMP_NUM_THREADS`` if that is set.
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
    """Compute with ``n`` threads from now on; see :func:`one_setting_of_threads`."""
    torch.set_num_threads(n or 1)
    native.team = min(cores(), native.MOST_PARTS) if n is None else 0


@contextmanager
def one_setting_of_threads(n: int | None) -> Iterator[None]:
    """Compute with ``n`` threads inside, and restore the previous setting afterwards.

    Args:
        n: threads of torch and of the native kernels. None: torch has one, and the kernels share
            the directions of the encoders and the trials of a batch among all cores, in parts that
            depend on the batch only. So
            results do not depend on the cores, and a thread on a busy core takes fewer parts.
    """
    before, team = torch.get_num_threads(), native.team
    use_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        native.team = team
