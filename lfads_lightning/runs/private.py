"""Folders that only this user can write to: the kernel's cache, the records of provenance."""

import os
import tempfile
from pathlib import Path

NAME = "lfads-lightning"


class NotPrivate(Exception):
    """There is no folder that others cannot write to; the message says why."""


def private_folder(variable: str, below_home: str) -> Path:
    """Return a folder that only this user can write to, created if needed.

    It lies where the system's convention puts it, or, if that is impossible (no home, a read-only
    disk), among the temporary files.

    Args:
        variable: the environment variable that names the place: ``XDG_CACHE_HOME``.
        below_home: the place in the home folder if the variable is not set: ``.cache``.

    Raises:
        NotPrivate: both places belong to somebody else or cannot be written.
    """
    reasons = []
    for folder in (_usual(variable, below_home), _temporary(below_home)):
        if folder is None:
            continue
        try:
            _make(folder)
            return folder
        except (OSError, NotPrivate) as error:
            reasons.append(f"{folder}: {getattr(error, 'strerror', None) or error}")
    raise NotPrivate("; ".join(reasons))


def _usual(variable: str, below_home: str) -> Path | None:
    given = os.environ.get(variable, "")
    if os.path.isabs(given):
        return Path(given) / NAME
    try:
        return Path.home() / below_home / NAME
    except RuntimeError:  # a user in a container, without HOME and without an entry in passwd
        return None


def _temporary(below_home: str) -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"{NAME}-{user}" / below_home.replace("/", "-").strip(".")


def _make(folder: Path) -> None:
    parts = [folder.parent, folder] if folder.name != NAME else [folder]
    parts[0].parent.mkdir(parents=True, exist_ok=True)
    for part in parts:
        part.mkdir(mode=0o700, exist_ok=True)
        if (problem := others_may_write(part)) is not None:
            if problem != "mode":
                raise NotPrivate("belongs to another user")
            part.chmod(0o700)  # ours, left open by an older version or a loose umask
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPrivate("cannot be written")


def others_may_write(path: Path) -> str | None:
    """Say why others may have written a file or folder: its ``owner`` or ``mode``; None: no one."""
    if not hasattr(os, "getuid"):
        return None  # on Windows a user's folders are private
    if {path.lstat().st_uid, path.stat().st_uid} != {os.getuid()}:  # of a link and of its target
        return "owner"
    return "mode" if path.stat().st_mode & 0o022 else None
