"""Arrays of a .npz file: checked before they are read, and never unpickled."""

import lzma
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import sizes
from lfads_lightning.data.session_files import check_declared
from lfads_lightning.recordings.named_arrays import recording_from_arrays
from lfads_lightning.recordings.npy_files import checked_text
from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.records import Recording
from lfads_lightning.recordings.settings import Settings

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# exceptions that damaged zip files and headers raise
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip

_PYNAPPLE_METADATA = "_metadata"  # a dictionary, pickled


@reader(".npz")
def read(path: Path, settings: Settings) -> Recording:
    """Read counts or spike times, and what goes with them, by the names of their arrays."""
    arrays = read_npz(path, but=(_PYNAPPLE_METADATA,))
    return recording_from_arrays(_of_pynapple(arrays, path) or arrays, str(path), settings)


def _of_pynapple(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray] | None:
    """Return the spikes of a ``TsGroup`` that pynapple saved; None if it is not one."""
    kind, time, key = (arrays.get(name, np.empty(0)) for name in ("type", "t", "index"))
    if kind.tolist() != ["TsGroup"] or time.ndim != 1 or time.shape != key.shape:
        return None
    warnings.warn(
        f"{path}: the metadata of the units are Python objects, which could run code when read; "
        "they are left out (lfads.prepare takes the TsGroup itself, with its metadata)",
        stacklevel=2,
    )
    return {"spike_times": time, "spike_units": key}


def read_npz(path: Path, but: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read all arrays of a .npz file.

    Args:
        path: path of the file.
        but: names of arrays that are not read.

    Raises:
        LFADSError: the file is damaged, an array holds Python objects, or declares more than the
            file has.
    """
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.infolist():
                if member.filename.removesuffix(".npy") not in but:
                    _look_at(path, file, member)
        with np.load(path) as arrays:
            return {name: checked_text(arrays[name]) for name in arrays.files if name not in but}
    except LFADSError:
        raise
    except _DAMAGE as error:
        raise LFADSError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); expected a .npz file "
            "as numpy.savez writes it; copy or write it again"
        ) from error


def _look_at(path: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Check what an array declares, before memory is allocated."""
    name = member.filename.removesuffix(".npy")
    if not member.filename.endswith(".npy"):
        raise LFADSError(f"{path}: {name} is no array; expected a file of numpy.savez")
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = _header(version, stream)
        left = member.file_size - stream.tell()
    if dtype.hasobject:
        raise LFADSError(
            f"{path}: {name} holds Python objects, which could run code when read; save plain "
            "arrays: times of spikes in one array, their neurons in another"
        )
    check_declared(f"{path}: {name}", shape, dtype.itemsize)
    if math.prod(shape) * dtype.itemsize != left:
        raise LFADSError(
            f"{path}: {name} declares {sizes(shape)} values of {dtype}, the file has {left} bytes "
            "of it; it is damaged; write it again"
        )


def _header(version: tuple[int, int], stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    if version not in _HEADERS:
        raise ValueError(f"format version {version}")
    return _HEADERS[version](stream)
