"""Folders that are this user's alone: the kernel's cache, the records of what was done where."""

import os
import tempfile
from pathlib import Path

NAME = "lfads-lightning"


class NotPrivate(Exception):
    """No folder can be had that others cannot write to; says why."""


def private_folder(variable: str, below_home: str) -> Path:
    """Return this user's own folder of a kind, made if need be, which nobody else can write to.

    It lies where the system's convention says. Where that cannot be had (no home, a disk that is
    read-only) it lies among the temporary files.

    Args:
        variable: of the environment, that names the place: ``XDG_CACHE_HOME``.
        below_home: the place without it: ``.cache``.

    Raises:
        NotPrivate: both belong to somebody else, or cannot be written.
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
    except RuntimeError:  # a container's user: neither HOME nor an entry in the list of users
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
            part.chmod(0o700)  # it is ours: an older version or a loose umask left it open
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPrivate("cannot be written")


def others_may_write(path: Path) -> str | None:
    """Say by what others may have written a file or a folder: ``owner`` or ``mode``; None: not."""
    if not hasattr(os, "getuid"):
        return None  # Windows: a user's folders are the user's
    if {path.lstat().st_uid, path.stat().st_uid} != {os.getuid()}:  # of a link, and what it is to
        return "owner"
    return "mode" if path.stat().st_mode & 0o022 else None
