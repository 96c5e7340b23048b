"""One process at a time in the folder of a run, a search or a sweep.

There are two locks. The system's file lock ends with its process, however that ends. As not every
network file system shares it between hosts, ``.running.json`` also says which process is at work;
its time stamp is renewed every few seconds, and once it is old the folder is free.
"""

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from lfads_lightning.config import LFADSError
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file, writing

LOCK, HOLDER = ".lock", ".running.json"
SECONDS_BETWEEN_SIGNS = 10.0
SIGNS = "signs of life"  # name of the thread that gives them
SECONDS_OF_SILENCE = 120.0  # after which a process of another host counts as dead
SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def run_lock(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Keep every other process out of a folder while this one works there.

    Args:
        folder: created if it does not exist.
        wait_s: how long to wait for a process that is about to end.

    Raises:
        LFADSError: another process is at work there, or the folder cannot be written.
    """
    with writing(folder / LOCK):
        folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + wait_s
    while True:
        try:
            lock = _taken(folder)
            break
        except _InUse as error:
            if time.monotonic() >= until:
                raise LFADSError(str(error)) from None
        time.sleep(SECONDS_BETWEEN_LOOKS)
    over = threading.Event()
    try:
        me = {"host": socket.gethostname(), "pid": os.getpid()}
        me["since"] = datetime.now().isoformat(" ", "seconds")
        with whole_file(folder / HOLDER) as path:
            path.write_text(json.dumps(me))
        signs = (folder / HOLDER, over)
        threading.Thread(target=_sign, args=signs, name=SIGNS, daemon=True).start()
        yield
    finally:
        over.set()
        with suppress(OSError):
            if _holder(folder).get("pid") == os.getpid():
                (folder / HOLDER).unlink()
        with suppress(OSError):
            (folder / LOCK).unlink()  # while it is locked, so that a waiting process sees it gone
        os.close(lock)


class _InUse(Exception):
    """Another process is at work in the folder."""


def _taken(folder: Path) -> int:
    """Take the system's lock, and check that no other host is at work.

    Returns:
        The open lock file.

    Raises:
        _InUse: another process or host is at work.
    """
    handle = -1
    try:
        with writing(folder / LOCK):
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        is_locked = _flock(handle)
        if is_locked is False or os.fstat(handle).st_nlink == 0:  # removed while we opened it
            raise _InUse(_message(folder, _holder(folder)))
        holder = _holder(folder)
        if holder and not _is_dead(folder, holder, bool(is_locked)):
            raise _InUse(_message(folder, holder))
    except BaseException:
        if handle >= 0:
            os.close(handle)
        raise
    return handle


def _flock(handle: int) -> bool | None:
    """Return whether the file could be locked; None if the system does not support locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        held = getattr(error, "errno", None) in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
        return False if held else None
    return True


def _holder(folder: Path) -> dict[str, Any]:
    try:
        holder = read_json(folder / HOLDER)
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_dead(folder: Path, holder: dict[str, Any], is_locked: bool) -> bool:
    # a time stamp in the future (after a clock correction or a copy) is no sign of life either
    if abs(_silence_s(folder)) > SECONDS_OF_SILENCE:
        return True
    if holder.get("host") != socket.gethostname():
        return False
    if is_locked:
        return True  # on this host only the lock counts, and we hold it
    try:
        os.kill(int(holder["pid"]), 0)
    except (KeyError, TypeError, ValueError, ProcessLookupError):
        return True
    except PermissionError:
        pass  # it belongs to another user
    return holder["pid"] == os.getpid()


def _silence_s(folder: Path) -> float:
    """Return the age of the last sign of life in seconds, by the file system's clock."""
    probe = folder / f"{LOCK}.{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime - (folder / HOLDER).stat().st_mtime
    except OSError:
        return float("inf")
    finally:
        probe.unlink(missing_ok=True)


def _message(folder: Path, holder: dict[str, Any]) -> str:
    who = "another process"
    if holder:
        who = "process {pid} on {host}, since {since}".format(
            **{k: holder.get(k, "?") for k in ("pid", "host", "since")}
        )
    return (
        f"{folder}: is in use by {who}; wait for it to end, or end it (kill -TERM saves first). If "
        f"it has crashed, the folder is free {SECONDS_OF_SILENCE:.0f} s after its last sign of life"
    )


def _sign(path: Path, over: threading.Event) -> None:
    """Renew the time stamp until the work is over."""
    while not over.wait(SECONDS_BETWEEN_SIGNS):
        with suppress(OSError):
            os.utime(path)
