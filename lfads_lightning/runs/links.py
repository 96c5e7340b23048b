"""Links in a folder that somebody sent: none may lead out of it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from lfads_lightning.config import LFADSError


def check_link(path: Path, folder: Path) -> None:
    """Refuse a file that is a link to something outside its folder.

    Raises:
        LFADSError: the link leads out.
    """
    if path.is_symlink():
        _check_link(folder.resolve() / path.relative_to(folder), folder.resolve())


def check_links(folder: Path, root: Path, is_used: Callable[[str], bool]) -> None:
    """Refuse a folder with links that lead out of ``root``, or with entries such as devices.

    Args:
        folder: searched with its subfolders; a resolved path, like ``root``.
        root: the folder itself, or a folder that contains it.
        is_used: tells by an entry's name whether to check it.

    Raises:
        LFADSError: there is one.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # no folder, or unreadable; the code that reads it reports why
    for entry in entries:
        if not is_used(entry.name):
            continue
        if entry.is_symlink():
            _check_link(Path(entry.path), root)
        elif entry.is_dir(follow_symlinks=False):
            check_links(Path(entry.path), root, any_name)
        elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise LFADSError(f"{entry.path}: is neither a file nor a folder; remove it")


def any_name(name: str) -> bool:
    """Return True: every entry is checked."""
    return True


def _check_link(path: Path, root: Path) -> None:
    target = os.readlink(path)
    # as text first: merely resolving a network path can contact another machine
    letters = Path(os.path.normpath(path.parent / target))
    if not letters.is_relative_to(root) or not path.resolve().is_relative_to(root):
        raise LFADSError(
            f"{path}: is a link to {target}, outside the folder {root}; links that lead out of a "
            "run's folder are not followed; replace it by what it links to, or remove it"
        )
