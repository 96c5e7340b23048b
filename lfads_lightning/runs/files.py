"""Where things are on disk, and writing files whole or not at all."""

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

_TEMPORARY = ".tmp"  # the end of a temporary file's name
_FORGOTTEN_S = 86400.0  # a temporary file untouched for so long is no one's any more


def presets_dir() -> Path:
    """Return the folder of presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def check_name(name: object, where: str, what: str = "a session") -> str:
    """Return a name that stands in a file and becomes part of file names, HDF5 keys and figures.

    Args:
        name: of anybody's making.
        where: it stands.
        what: is called so.

    Raises:
        LFADSError: it is no text, or holds a slash, a control character or bytes that are no text,
            or is too long.
    """
    if not is_name(name):
        raise LFADSError(
            f"{where}: cannot be {what} of the name {ascii(name)[:80]}; expected "
            f"printable text without slashes, {MAX_NAME_BYTES} bytes at most; rename it"
        )
    return str(name)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Say in one line why ``path`` could not be written.

    Raises:
        LFADSError: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[-200:]  # h5py says it last
        name = error.filename2 or error.filename  # of a copy, the one that is written
        about = None if name is None else os.fsdecode(name)
        if about is not None and Path(about).parent != Path(path).parent:
            reason += f": {about}"
        raise LFADSError(
            f"{path}: cannot be written ({reason}); make room or choose another folder. What was "
            "written before is as it was"
        ) from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what is written there takes its place at the end.

    It is on the disk before it takes the place, so that not even a power cut leaves half of it. On
    an error the old file, if any, stays as it was.

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
            # mkstemp makes files that only their owner reads; follow the umask as open() does
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
    """Give a new HDF5 file to write, as :func:`whole_file` does.

    Raises:
        LFADSError: the disk is full or the folder cannot be written.
    """
    with whole_file(path) as temporary, patient_hdf5(temporary, "w") as file:
        yield file


@contextmanager
def patient_hdf5(path: Path, mode: str) -> Iterator["h5py.File"]:
    """Give an HDF5 file to write to, of which a full disk takes nothing but the file.

    HDF5 that cannot write what it has to fails once more as it closes the file, now and then by a
    crash. So it writes through a file that keeps the first error to itself.

    Args:
        path: of a file, which may be empty.
        mode: w, or r+.

    Raises:
        OSError: it could not be written.
    """
    import h5py  # commands that only read a line of settings do without

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
    """A file whose writing fails only afterwards.

    Attributes:
        error: the first, if any.
    """

    error: OSError | None = None

    def __repr__(self) -> str:
        """Return the path: h5py takes this for the file's name, and pynwb finds links by that."""
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
    """Have the system write a file, or the names in a folder, to the disk itself."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, names: Iterable[str] = ("*",), untouched_s: float = 0.0) -> None:
    """Remove what processes that were killed while they wrote these files left of them.

    Args:
        folder: of the files.
        names: of the files, or patterns of them.
        untouched_s: leave those alone that were written to in the last so many seconds.
    """
    for name in names:
        for path in folder.glob(f".{name}.*{_TEMPORARY}"):
            with suppress(OSError):  # gone already, or another user's
                if not untouched_s or path.stat().st_mtime < time.time() - untouched_s:
                    path.unlink()
