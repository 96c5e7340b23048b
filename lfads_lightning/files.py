"""Where things are on disk, and writing files whole or not at all."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def presets_dir() -> Path:
    """Return the folder of presets: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "conf"


@contextmanager
def new_run_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder for one run alone: ``path``, or ``path-2`` and so on where that is taken.

    Jobs of a cluster start in the same second. An empty config.yaml, which the run fills, takes
    the folder; if an error comes before that, both are removed.
    """
    for n in itertools.count(1):
        folder = Path(path) if n == 1 else Path(f"{path}-{n}")
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.yaml"
        try:
            config.open("x").close()
        except FileExistsError:
            continue
        break
    try:
        yield folder
    except BaseException:
        if config.is_file() and config.stat().st_size == 0:
            config.unlink()
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what is written there takes its place at the end.

    On an error the old file, if any, stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner reads; follow the umask as open() does
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
