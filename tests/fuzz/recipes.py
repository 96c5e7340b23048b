"""Damage inside a container: valid HDF5, .mat, .npz and checkpoint files of changed content.

Bytes flipped in a container rarely get past its own checks. A recipe is a few bytes that choose
what is changed in a valid file: a field's values, type, shape or kind, its name, links, attributes.
"""

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

PREFIX = b"recipe:"  # an input that begins so is no file, but says how to make one
T = TypeVar("T")
HUGE_SHAPES = ((2**40,), (2**20, 2**20, 64), (3 * 10**8, 8), (10**5, 10**3, 100))
MISTAKES = (np.nan, np.inf, -np.inf, -1.0, 1e300, -1e300, 1e18, 2.0**31, 0.5, 0.0, 1e-320)
TYPES = ("f8", "f2", "u1", "i8", "u8", "c16", "?", "S3", "U2", "V5", "M8[s]", "m8[us]", "O",
         [("a", "f8"), ("b", "i4")], ">f8", "f4")  # fmt: skip


class Choices:
    """Choices that bytes make; zeros once they are used up."""

    def __init__(self, content: bytes) -> None:
        self._left: Iterator[int] = iter(content)

    def number(self, n: int) -> int:
        """Return one of 0 … n - 1, of at most 256."""
        return next(self._left, 0) % n

    def one(self, options: Sequence[T]) -> T:
        """Return one of these."""
        return options[self.number(len(options))]


def odd_array(choices: Choices, old: np.ndarray) -> Any:
    """Return what may stand where an array is expected."""
    match choices.number(9):
        case 0 | 1:  # a single value is wrong
            new = np.array(old, np.float64) if old.dtype.kind in "biuf" else np.zeros(3)
            if new.size:
                at = choices.number(256) * new.size // 256
                new.reshape(-1)[at] = choices.one(MISTAKES)
            return new
        case 2:
            return np.full(old.shape, choices.one(MISTAKES))
        case 3 | 4:
            kind = choices.one(TYPES)
            if kind == "O":
                return np.array([{"a": 1}, None, "text"], object)
            with np.errstate(all="ignore"):
                try:
                    return old.astype(kind)
                except (TypeError, ValueError, RuntimeError):
                    return np.zeros(old.shape, kind)
        case 5:
            return old.reshape(choices.one(((-1,), (-1, 1), (1, -1), (1, 1, -1), (1, -1, 1))))
        case 6:
            return choices.one((old[:0], old.reshape(-1)[:1], old[:-1], old.T, old[..., None])
                               if old.ndim else (old,))  # fmt: skip
        case 7:
            return choices.one((np.float64(3.0), np.zeros(()), np.zeros((2, 0, 3)), np.str_("x")))
        case _:
            return np.repeat(old, 1 + choices.number(8), axis=0) if old.ndim else old


def damaged_arrays(choices: Choices, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return arrays by name, some changed, renamed, exchanged or left out."""
    arrays = dict(arrays)
    for _ in range(1 + choices.number(3)):
        key = choices.one(sorted(arrays) or ["counts"])
        match choices.number(5):
            case 0:
                arrays.pop(key, None)
            case 1:
                other = choices.one(sorted(arrays) or ["counts"])
                arrays[key], arrays[other] = arrays.get(other), arrays.get(key)
            case 2:
                arrays[choices.one(("counts", "spike_times", "trial_start", "ids", "x"))] = (
                    arrays.get(key)
                )
            case _:
                arrays[key] = odd_array(choices, np.asarray(arrays.get(key, 0.0)))
    return {k: v for k, v in arrays.items() if v is not None}


def npz(choices: Choices, arrays: dict[str, Any], path: Path) -> None:
    """Write a .npz file of changed arrays; a member may declare what it does not hold."""
    with zipfile.ZipFile(
        path, "w", choices.one((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as file:
        for name, array in damaged_arrays(choices, arrays).items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=True)
            content = member.getvalue()
            match choices.number(8):
                case 1:
                    shape = choices.one(HUGE_SHAPES)
                    member = io.BytesIO()
                    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(member, header)
                    content = member.getvalue() + bytes(100)
                case 2:
                    content = content[: choices.number(256)]
                case 3:
                    at = choices.number(min(len(content), 128))
                    content = content[:at] + bytes([choices.number(256)]) + content[at + 1 :]
                case 4:
                    content += bytes(choices.number(256))
            file.writestr(choices.one((f"{name}.npy",) * 6 + (name, f"../{name}.npy")), content)


def _nested(choices: Choices, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return variables as MATLAB has them, some as cells, structures or sparse."""
    from scipy import sparse

    made: dict[str, Any] = {}
    for key, value in damaged_arrays(choices, arrays).items():
        array = np.asarray(value)
        if array.dtype.kind not in "biufcUSO" or array.dtype == np.float16:
            array = np.zeros(array.shape)
        if array.dtype.kind == "O":
            array = np.array(["text", np.zeros(2)], object)
        made[key] = array
        match choices.number(9):
            case 1:
                cells = np.empty((choices.number(3), 1), object)
                cells.fill(array if choices.number(2) else "text")
                made[key] = cells
            case 2:
                made[key] = {"a": array, "b": {"c": "text"}}
            case 3:
                made[key] = sparse.eye(3)
            case 4:
                cells = np.empty(4, object)
                cells[:] = [array, "text", np.zeros((0, 0)), {"x": array}]
                made[key] = cells
    return made


def mat5(choices: Choices, arrays: dict[str, Any], path: Path) -> None:
    """Write a .mat file of version 5."""
    from scipy.io import savemat

    packed = bool(choices.number(2))
    savemat(path, _nested(choices, arrays), do_compression=packed)
    if not packed and choices.number(2):  # what a field declares
        content = bytearray(path.read_bytes())
        for _ in range(1 + choices.number(4)):
            at = 128 + 4 * (choices.number(256) * (len(content) - 128) // 1024)
            content[at] = choices.number(256)
        path.write_bytes(content)


def hdf5(choices: Choices, path: Path) -> None:
    """Change an HDF5 file in place."""
    with h5py.File(path, "r+") as file:
        for _ in range(1 + choices.number(3)):
            names: list[str] = []
            file.visit(names.append)
            if not names:
                return
            name = choices.one(names if len(names) < 256 else names[-256:])
            try:
                _change(choices, file, name, names)
            except (OSError, TypeError, ValueError, KeyError, RuntimeError):
                pass  # HDF5 cannot store that


def _change(choices: Choices, file: h5py.File, name: str, names: list[str]) -> None:
    item = file[name]
    is_array = isinstance(item, h5py.Dataset)
    attributes = dict(item.attrs)
    match choices.number(10):
        case 0:
            del file[name]
        case 1:
            file.move(name, choices.one(names) + choices.one(("", "_index", "x")))
        case 2:
            target = choices.one(
                (
                    h5py.SoftLink(f"/{name}"),
                    h5py.SoftLink("/nowhere"),
                    h5py.ExternalLink("/etc/passwd", "/x"),
                    h5py.SoftLink("/"),
                )
            )
            del file[name]
            file[name] = target
        case 3:
            other = file[choices.one(names)]
            del file[name]
            file[name] = other  # a hard link: a group may come to hold itself
        case 4 if attributes:
            key = choices.one(sorted(attributes))
            new: Any = choices.one(
                (
                    np.float64("nan"),
                    b"\xff\xfe",
                    "x" * 40,
                    np.zeros((2, 0)),
                    -1,
                    2**40,
                    file[choices.one(names)].ref,
                    h5py.Empty("f8"),
                )
            )
            if choices.number(4):
                item.attrs[key] = new
            else:
                del item.attrs[key]
        case 5:
            key = choices.one(
                (
                    "MATLAB_class",
                    "MATLAB_empty",
                    "MATLAB_object_decode",
                    "data_type",
                    "neurodata_type",
                    "namespace",
                    "MATLAB_sparse",
                )
            )
            item.attrs[key] = choices.one(
                (
                    np.bytes_("char"),
                    np.bytes_("struct"),
                    1,
                    "Units",
                    np.bytes_("function_handle"),
                    np.bytes_("\xff"),
                    "core",
                    np.bytes_("cell"),
                    "DynamicTable",
                    np.zeros(3),
                )
            )
        case 6 if is_array:
            shape, kind = choices.one(HUGE_SHAPES), choices.one(("u1", "f8", h5py.string_dtype()))
            del file[name]
            chunks = tuple(min(n, 64) for n in shape)
            made = file.create_dataset(name, shape, kind, chunks=chunks, compression="gzip")
            made.attrs.update(attributes)
        case 7 if is_array:
            references = np.array([file[choices.one(names)].ref, h5py.Reference()], h5py.ref_dtype)
            strings = np.array(["a", "b"], h5py.string_dtype())
            ragged = np.array([np.zeros(2), np.zeros(3)], h5py.vlen_dtype("f8"))
            new = choices.one((references, strings, ragged, h5py.Empty("f8")))
            del file[name]
            file.create_dataset(name, data=new, dtype=new.dtype)
            file[name].attrs.update(attributes)
        case _ if is_array and (item.size or 0) < 10**5:
            new = odd_array(choices, np.asarray(item[()]))
            del file[name]
            file[name] = new
            file[name].attrs.update(attributes)


def checkpoint(choices: Choices, path: Path) -> None:
    """Change a checkpoint in place, wherever in its nested records."""
    import torch

    saved = torch.load(path, weights_only=True)
    for _ in range(1 + choices.number(3)):
        place: Any = saved
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = choices.one(keys[:256])
            inner = place[key]
            if isinstance(inner, dict | list) and inner and choices.number(8):
                place = inner
                continue
            _set(choices, place, key)
            break
    try:
        torch.save(saved, path)
    except (NotImplementedError, RuntimeError, TypeError):
        pass  # torch saves no such thing; the file stays as it was


def _set(choices: Choices, place: Any, key: Any) -> None:
    import torch

    old = place[key]
    # once changed, it may be sparse, or claim more than there is memory
    plain = isinstance(old, torch.Tensor) and old.layout is torch.strided and old.numel() < 10**6
    if plain and old.ndim and choices.number(4):
        place[key] = choices.one(
            (
                old[:0],
                old.double(),
                old.to(torch.int64),
                old * np.nan,
                old.T,
                old[..., None],
                torch.zeros(1).expand(10**11),
                old.half(),
                old.to_sparse(),
                torch.zeros(()),
                old.to(torch.complex64),
            )
        )
        return
    odd: tuple[Any, ...] = (None, -1, 10**12, 2**70, 1.5, float("nan"), float("inf"), True, (1, 2))
    odd += ("", "../../x", "a" * 5000, b"x", [], {}, [[["a", 1]]], [["a", 4]], {"a": {"b": 1}})
    odd += (torch.zeros(3),)
    match choices.number(4):
        case 0 if isinstance(place, dict):
            del place[key]
        case 1 if isinstance(place, dict):
            place[choices.one((1, "x", "format_version", None))] = old
        case _:
            place[key] = choices.one(odd)


def of_copy(change: Callable[[Choices, Path], None], seeds: Callable[[Path], list[Path]]) -> Any:
    """Return what makes a file by a recipe: one of the seeds, copied and changed in place."""

    made: list[Path] = []

    def make(content: bytes, path: Path) -> None:
        if not made:
            folder = path.parent / "seeds"
            folder.mkdir(exist_ok=True)
            made.extend(seeds(folder))
        choices = Choices(content)
        shutil.copyfile(choices.one(made), path)
        change(choices, path)

    return make
