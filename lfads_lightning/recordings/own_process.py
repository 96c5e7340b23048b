"""Reading a file in a separate process, which may hang, crash or run out of memory by itself.

A damaged byte can make a library loop forever or access invalid memory, and nothing within the same
process can stop it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from lfads_lightning.config import LFADSError

CPU_SECONDS = 2  # CPU time that the process may use, plus an amount for the size of the file
WALL_SECONDS = 600  # used if the system cannot limit CPU time
FREE_BYTES = 2**29  # memory that it may use, plus an amount for the size of the file
# `-I` excludes the working folder and the environment from imports
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from lfads_lightning.recordings.own_process import _inside
_inside(*sys.argv[2:])
"""


def run_apart(
    function: str, path: Path, *words: str, library: str, seconds_per_gb: int, bytes_per_byte: int
) -> None:
    """Call a function with a file in a separate process.

    The process returns results as files; of its output, only that it failed is trusted.

    Args:
        function: ``module:name``; it takes the path and the words.
        path: the file, or the folder.
        *words: more arguments.
        library: the library that reads the file, for the message.
        seconds_per_gb: CPU time per GB of the file.
        bytes_per_byte: memory per byte of the file.

    Raises:
        LFADSError: the function raises it.
        ValueError: it hangs, crashes, or raises anything else; the message says so.
    """
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    limits = (
        round(CPU_SECONDS + seconds_per_gb * size / 1e9),
        FREE_BYTES + bytes_per_byte * size,
    )
    places = json.dumps([os.path.abspath(place) for place in sys.path if place])
    command = [sys.executable, "-I", "-c", _START, places, function, *map(str, limits)]
    command += [str(path.absolute()), *words]
    try:
        done = subprocess.run(command, capture_output=True, timeout=WALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:  # ended by a signal
        raise ValueError(f"{library} hangs or crashes on it")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it ended early"]
        kind, _, said = lines[-1].partition(": ")
        raise LFADSError(said) if kind == "LFADSError" else ValueError(lines[-1])


def _inside(function: str, seconds: str, n_bytes: str, *words: str) -> None:
    """Run in the separate process: import, set limits, read."""
    module, _, name = function.partition(":")
    read = getattr(import_module(module), name)
    _limit(int(seconds), int(n_bytes))
    try:
        read(*words)
    except Exception as error:
        said = " ".join(str(error).split())
        sys.exit(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def _limit(seconds: int, n_bytes: int) -> None:
    """Limit CPU time and memory from here on, if the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + 1 + seconds}
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + n_bytes
    except OSError:
        pass  # only Linux tells how much is mapped already, and macOS ignores the limit
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
