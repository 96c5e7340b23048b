"""What the entries of a folder that somebody sent may lead to: nothing out of it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from lfads_lightning.config import LFADSError


def check_link(path: Path, folder: Path) -> None:
    """Refuse a file of a folder that is a link to what is not in it.

    Raises:
        LFADSError: it is.
    """
    if path.is_symlink():
        _check_link(folder.resolve() / path.relative_to(folder), folder.resolve())


def check_links(folder: Path, root: Path, is_used: Callable[[str], bool]) -> None:
    """Refuse a folder in which links lead out of ``root``, or things stand in for files.

    Args:
        folder: looked at with its subfolders; resolved, as ``root``.
        root: it lies there, or is it.
        is_used: by the name of one of its entries: whether it is looked at.

    Raises:
        LFADSError: there is one.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # no folder; or whoever needs it says why it cannot be read
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
    """Return True: every entry is looked at."""
    return True


def _check_link(path: Path, root: Path) -> None:
    target = os.readlink(path)
    # by its letters first: looking at a path of another machine can be enough to contact it
    letters = Path(os.path.normpath(path.parent / target))
    if not letters.is_relative_to(root) or not path.resolve().is_relative_to(root):
        raise LFADSError(
            f"{path}: is a link to {target}, out of the folder {root}; links that lead out of a "
            "run's folder are not followed; put what it leads to in its place, or remove it"
        )
