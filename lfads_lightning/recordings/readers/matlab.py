"""Variables of a .mat file, v5 or v7.3: numbers, texts and cells of them; nothing else."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.data.session_files import (
    MAX_RATIO,
    check_declared,
    check_filled,
    damage_explained,
    opened,
    read_array,
)
from lfads_lightning.recordings.named_arrays import Cells, Unreadable, recording_from_arrays
from lfads_lightning.recordings.own_process import run_apart
from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.records import Recording
from lfads_lightning.recordings.settings import Settings

_VALUES, _INDEX = "values", "index.json"


@reader(".mat")
def read(path: Path, settings: Settings) -> Recording:
    """Read counts or spike times, and what goes with them, by the names of their variables."""
    return recording_from_arrays(read_mat(path), str(path), settings)


def read_mat(path: Path) -> dict[str, Any]:
    """Read the variables of a .mat file, in the shapes that they have in MATLAB.

    Numbers come as arrays, texts as arrays of str, cells as :class:`Cells`. The fields of a
    structure come as ``name.field``; those of a structure array are cells.

    Raises:
        LFADSError: the file is damaged, or declares more than any recording has.
    """
    try:
        with path.open("rb") as file:
            header = file.read(16)
    except OSError as error:
        raise LFADSError(f"{path}: cannot be opened ({error.strerror})") from error
    found: dict[str, Any] = {}
    if header.startswith(b"MATLAB 5"):
        return _read_v5(path)
    elif h5py.is_hdf5(path):
        with opened(path) as file, damage_explained(str(path), MemoryError, OverflowError):
            seen: set[int] = set()
            for name in file:
                if name not in ("#refs#", "#subsystem#"):
                    _flatten(found, name, _stored(file, name, f"{path}: {name}", seen))
    else:
        raise LFADSError(
            f"{path}: not a .mat file of version 5 or 7.3; save it with '-v7' or '-v7.3'"
        )
    return found


def _flatten(found: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, dict):
        for field, inner in value.items():
            _flatten(found, f"{name}.{field}", inner)
    else:
        found[name] = value


def _read_v5(path: Path) -> dict[str, Any]:
    """Read a file of version 5 in a separate process, because scipy trusts what a file declares."""
    with tempfile.TemporaryDirectory(prefix="lfads-") as folder, damage_explained(str(path)):
        run_apart(
            f"{__name__}:unpack",
            path,
            folder,
            library="scipy's reader",
            seconds_per_gb=2000,  # a compressed file may be many times larger in memory
            bytes_per_byte=2 * MAX_RATIO,
        )
        data = np.fromfile(Path(folder, _VALUES), np.uint8)
        index = json.loads(Path(folder, _INDEX).read_text())
    return {name: _unpacked(packed, data) for name, packed in index.items()}


def unpack(path: str, folder: str) -> None:
    """Read a .mat file of version 5; write its values as bytes and their description as JSON."""
    from scipy.io import loadmat, whosmat

    for name, shape, kind in whosmat(path):
        smallest = {"cell": 8, "struct": 8, "sparse": 0}.get(kind, 1)
        check_declared(f"{path}: {name}", shape, smallest)
    found: dict[str, Any] = {}
    for name, value in loadmat(path, chars_as_strings=True).items():
        if not name.startswith("__"):
            _flatten(found, name, _plain(value))
    with open(Path(folder, _VALUES), "wb") as values:
        index = {name: _packed(value, values) for name, value in found.items()}
    Path(folder, _INDEX).write_text(json.dumps(index))


def _packed(value: Any, values: BinaryIO) -> list[Any]:
    """Write the numbers and texts of a value; return their description and positions."""
    if isinstance(value, Unreadable):
        return ["unreadable", value.what]
    if isinstance(value, Cells):
        return ["cells", value.shape, [_packed(item, values) for item in value.items]]
    if isinstance(value, dict):
        return ["fields", {name: _packed(inner, values) for name, inner in value.items()}]
    at = values.tell()
    values.write(np.ascontiguousarray(value).tobytes())
    return ["array", value.shape, value.dtype.str, at]


def _unpacked(packed: list[Any], data: np.ndarray) -> Any:
    kind, what, *rest = packed
    if kind == "unreadable":
        return Unreadable(what)
    if kind == "cells":
        return Cells(tuple(what), [_unpacked(item, data) for item in rest[0]])
    if kind == "fields":
        return {name: _unpacked(inner, data) for name, inner in what.items()}
    dtype, at = np.dtype(rest[0]), rest[1]
    n_bytes = dtype.itemsize * math.prod(what)
    return data[at : at + n_bytes].view(dtype).reshape(what)


def _plain(value: Any) -> Any:
    """Convert scipy's form of a variable to numbers, texts, cells and structures."""
    if not isinstance(value, np.ndarray):
        check_declared("a sparse matrix", value.shape, value.dtype.itemsize)
        return value.toarray()
    if value.dtype.names is not None:
        if type(value).__name__ == "MatlabOpaque":
            return Unreadable("an object of a MATLAB class; store its values as arrays")
        fields = {n: [_plain(v) for v in value[n].ravel()] for n in value.dtype.names}
        if value.size == 1:
            return {name: items[0] for name, items in fields.items()}
        return {name: Cells(value.shape, items) for name, items in fields.items()}
    if type(value).__name__ == "MatlabFunction":
        return Unreadable("a function, which is never run; store its values as arrays")
    if value.dtype.hasobject:
        return Cells(value.shape, [_plain(v) for v in value.ravel()])
    return value


def _stored(group: h5py.Group, name: str, where: str, seen: set[int]) -> Any:
    """Read a variable of a v7.3 file; ``seen`` are the addresses of structures and cells so far."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        read_array(group, name, where, True)  # raises, and names the kind of link
    return _object(group[name], where, seen)


def _object(item: Any, where: str, seen: set[int]) -> Any:
    if item.attrs.get("MATLAB_object_decode") is not None:
        return Unreadable("an object of a MATLAB class; store its values as arrays")
    kind = item.attrs.get("MATLAB_class", b"double")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if isinstance(item, h5py.Group):
        if "MATLAB_sparse" in item.attrs:
            return _full(item, where)
        if kind != "struct":
            return Unreadable(f"a {kind}; store its values as arrays")
        _once(item, where, seen)
        return {name: _stored(item, name, f"{where}.{name}", seen) for name in item}
    if kind == "function_handle":
        return Unreadable("a function, which is never run; store its values as arrays")
    if h5py.check_ref_dtype(item.dtype) is h5py.Reference:
        _once(item, where, seen)
        check_declared(where, item.shape or (), item.dtype.itemsize)
        check_filled(where, item)
        references = np.atleast_1d(item[()]).T
        inside = f"{where}{{...}}"
        items = [_object(item.file[r], inside, seen) for r in references.ravel()]
        return Cells(references.shape, items)
    array = read_array(item.parent, item.name.rsplit("/", 1)[-1], where, True)
    if array is None:
        return np.zeros((0, 0))
    if kind == "char":
        rows = np.atleast_2d(array)
        return np.array(["".join(map(chr, row)) for row in rows.astype(int)])
    return array


def _full(item: h5py.Group, where: str) -> np.ndarray:
    """Make a sparse matrix dense: it has entries by column, their rows, and starts of columns."""
    n_rows = np.asarray(item.attrs["MATLAB_sparse"])
    parts = [read_array(item, key, f"{where}.{key}", True) if key in item else np.zeros(0)
             for key in ("data", "ir", "jc")]  # fmt: skip
    data, rows, begins = (np.zeros(0) if p is None else np.asarray(p).ravel() for p in parts)
    if n_rows.size != 1 or any(a.dtype.kind not in "biuf" for a in (n_rows, data, rows, begins)):
        raise LFADSError(f"{where}: its sparse matrix is damaged; store it again, or as full(...)")
    shape = (int(n_rows.item()), max(len(begins) - 1, 0))
    check_declared(where, shape, data.dtype.itemsize)
    per_column: np.ndarray = np.diff(begins.astype(np.int64))
    rows = rows.astype(np.int64)
    fits = (per_column >= 0).all() and per_column.sum() == len(data) == len(rows)
    if not fits or (len(rows) and not 0 <= rows.min() <= rows.max() < shape[0]):
        raise LFADSError(f"{where}: its sparse matrix is damaged; store it again, or as full(...)")
    full = np.zeros(shape, data.dtype)
    full[rows, np.repeat(np.arange(shape[1]), per_column)] = data
    return full


def _once(item: Any, where: str, seen: set[int]) -> None:
    """Refuse an item that contains itself or occurs twice: as a tree it could have any size."""
    address = h5py.h5o.get_info(item.id).addr
    if address in seen:
        raise LFADSError(f"{where} lies elsewhere in the file too; save each variable by itself")
    seen.add(address)
