"""The place of the presets, checks of names, and writing files whole or not at all."""

import io
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfads_lightning.config import MAX_NAME_BYTES, LFADSError, is_name

if TYPE_CHECKING:
    import h5py

_TEMPORARY = ".tmp"  # suffix of temporary files
_FORGOTTEN_S = 86400.0  # a temporary file untouched for this long is in use by nobody


def presets_dir() -> Path:
    """Return the folder of presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def check_name(name: object, where: str, what: str = "a session") -> str:
    """Return a name from a file if it may become part of file names, HDF5 keys and figures.

    Args:
        name: the name, from any source.
        where: the file, for the message.
        what: what has this name.

    Raises:
        LFADSError: it is not a string, contains a slash, a control character or undecodable bytes,
            or is too long.
    """
    if not is_name(name):
        raise LFADSError(
            f"{where}: cannot be {what} named {ascii(name)[:80]}; expected "
            f"printable text without slashes, {MAX_NAME_BYTES} bytes at most; rename it"
        )
    return str(name)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an error of writing ``path`` into a message of one line.

    Raises:
        LFADSError: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[-200:]  # h5py has it at the end
        name = error.filename2 or error.filename  # for a copy, the file that is written
        about = None if name is None else os.fsdecode(name)
        if about is not None and Path(about).parent != Path(path).parent:
            reason += f": {about}"
        raise LFADSError(
            f"{path}: cannot be written ({reason}); make room or choose another folder. Files "
            "written before are unchanged"
        ) from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; the file written there replaces ``path`` at the end.

    It is synced to disk before it replaces the old file, so that not even a power cut leaves half
    a file. On an error the old file, if any, stays as it was.

    Raises:
        LFADSError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, [escape(path.name)], _FORGOTTEN_S)
        handle, name = tempfile.mkstemp(_TEMPORARY, f".{path.name}.", path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files that only their owner can read; follow the umask as open() does
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


@contextmanager
def whole_hdf5(path: str | Path) -> Iterator["h5py.File"]:
    """Yield a new HDF5 file to write, whole or not at all, as :func:`whole_file` does.

    Raises:
        LFADSError: the disk is full or the folder cannot be written.
    """
    with whole_file(path) as temporary, patient_hdf5(temporary, "w") as file:
        yield file


@contextmanager
def patient_hdf5(path: Path, mode: str) -> Iterator["h5py.File"]:
    """Yield an HDF5 file to write to; a full disk raises an error and does not crash the process.

    When HDF5 cannot write, it fails again on closing the file, sometimes with a crash. So it writes
    through a file object that holds back the first error until the end.

    Args:
        path: path of the file, which may be empty.
        mode: w or r+.

    Raises:
        OSError: the file could not be written.
    """
    import h5py  # here, because commands that only read settings do not need it

    with _Patient(path, "r+b") as raw:
        try:
            with h5py.File(raw, mode) as file:
                yield file
        except Exception:
            if raw.error is None:
                raise
        if raw.error is not None:
            raise raw.error


class _Patient(io.FileIO):
    """A file that keeps write errors until later.

    Attributes:
        error: the first error, if any.
    """

    error: OSError | None = None

    def __repr__(self) -> str:
        """Return the path: h5py uses this as the file's name, and pynwb resolves links by it."""
        return str(self.name)

    def write(self, data: Any) -> int:
        done, view = 0, memoryview(data).cast("B")
        try:
            while done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.error = self.error or error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


def sync(path: Path) -> None:
    """Have the system flush a file, or a folder's entries, to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, names: Iterable[str] = ("*",), untouched_s: float = 0.0) -> None:
    """Remove temporary files left by processes that were killed while writing.

    Args:
        folder: the folder of the files.
        names: names of the files, or patterns.
        untouched_s: keep temporary files that were written to within this many seconds.
    """
    for name in names:
        for path in folder.glob(f".{name}.*{_TEMPORARY}"):
            with suppress(OSError):  # it is gone already, or belongs to another user
                if not untouched_s or path.stat().st_mtime < time.time() - untouched_s:
                    path.unlink()
