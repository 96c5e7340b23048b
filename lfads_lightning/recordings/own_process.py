"""Reading a file in a process of its own, which may hang, crash or run out of memory alone.

One damaged byte can send a library round for ever, or into memory that is not its own, and nothing
within the same process can stop it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from lfads_lightning.config import LFADSError

CPU_SECONDS = 2  # that the process may compute, and more by the size of the file
WALL_SECONDS = 600  # where the system knows no limit of computing
FREE_BYTES = 2**29  # that it may take, and more by the size of the file
# `-I` keeps the folder it is started in and the environment out of what is imported
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from lfads_lightning.recordings.own_process import _inside
_inside(*sys.argv[2:])
"""


def run_apart(
    function: str, path: Path, *words: str, library: str, seconds_per_gb: int, bytes_per_byte: int
) -> None:
    """Call a function with a file in a process of its own.

    What the process leaves behind is files: nothing that it says is believed but that it failed.

    Args:
        function: ``module:name``, takes the path and the words.
        path: the file, or the folder.
        *words: more arguments.
        library: what reads the file, for the message.
        seconds_per_gb: of computing, by the size of the file.
        bytes_per_byte: of memory, by the size of the file.

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
    """Be that process: import, set limits, read."""
    module, _, name = function.partition(":")
    read = getattr(import_module(module), name)
    _limit(int(seconds), int(n_bytes))
    try:
        read(*words)
    except Exception as error:
        said = " ".join(str(error).split())
        sys.exit(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def _limit(seconds: int, n_bytes: int) -> None:
    """Limit what is computed and taken from here on, where the system can."""
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
        pass  # no Linux: what is mapped already is not told, and macOS keeps no such limit
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
