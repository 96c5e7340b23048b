"""Session files: finding, reading and writing the HDF5 files that hold sessions.

The keys and shapes of a session are in `lfads_lightning.data.fields`; they lie at the top of a
file, or in one group of it, and are read in any case (`Train_data`). MATLAB stores the axes of an
array in reverse order. Its `save -v7.3` files can be told from others, and their arrays are turned
back here; those of its `h5write` cannot: permute the arrays before writing them.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import check_dtype, sizes
from lfads_lightning.data.fields import KEYS, PER, Session
from lfads_lightning.data.kinds import ONE_TEXT
from lfads_lightning.data.neighbours import other_layout
from lfads_lightning.data.session_writer import write_session as write_session
from lfads_lightning.data.sessions import (
    assemble,
    check_session,
    check_together,
)
from lfads_lightning.runs.names import RESULT_PREFIXES
from lfads_lightning.runs.remote import is_url, local_copies

EXTENSIONS = (".h5", ".hdf5", ".mat")
SEPARATORS = ("_", "-", ".")
MAX_BYTES = 32 * 2**30  # per array: a few bytes of HDF5 can declare petabytes
# larger arrays must take up at least a two-hundredth of their size in the file
FREE_BYTES, MAX_RATIO = 2**29, 200


def load_sessions(
    data_dir: str | Path,
    data_filename_stem: str,
    *,
    output_dist: str,
    ext_input_dim: int,
    factors_dim: int,
) -> list[Session]:
    """Find, read and check all sessions of a run.

    Args:
        data_dir: Folder of the session files, or the address of one in a store (`s3://…`).
        data_filename_stem: Beginning of the file names, see `find_sessions`.
        output_dist: Name of the noise model.
        ext_input_dim: I, external inputs; 0 ignores those in the files.
        factors_dim: F, columns of an alignment matrix.

    Returns:
        The checked sessions, in the order of the file names, then of the group names.
    """
    check = partial(
        check_session, output_dist=output_dist, ext_input_dim=ext_input_dim, factors_dim=factors_dim
    )
    if is_url(data_dir):
        with local_copies() as copies:
            is_wanted = partial(may_be_session, stem=data_filename_stem)
            sessions = load_sessions(
                copies.matching(str(data_dir), is_wanted),
                data_filename_stem,
                output_dist=output_dist,
                ext_input_dim=ext_input_dim,
                factors_dim=factors_dim,
            )
            return [replace(s, source=copies.named(s.source)) for s in sessions]
    sessions = []
    for name, path in find_sessions(data_dir, data_filename_stem):
        # `map` releases each session as read before reading the next: one raw copy at a time
        sessions.extend(map(check, _iterate_sessions(path, name)))
    return check_together(sessions)


def iterate_sessions(data_dir: str | Path, data_filename_stem: str) -> Iterator[Session]:
    """Read the sessions of a run one by one, unchecked; arguments as in `load_sessions`."""
    if is_url(data_dir):
        is_wanted = partial(may_be_session, stem=data_filename_stem)
        with local_copies() as copies:
            folder = copies.matching(str(data_dir), is_wanted)
            for session in iterate_sessions(folder, data_filename_stem):
                yield replace(session, source=copies.named(session.source))
        return
    for name, path in find_sessions(data_dir, data_filename_stem):
        yield from _iterate_sessions(path, name)


def find_sessions(data_dir: str | Path, data_filename_stem: str) -> list[tuple[str, Path]]:
    """List the session files of a folder (not of its subfolders).

    A file is a session if its name is the stem, or the stem, one of `_ - .` and the session's
    name, with the extension .h5, .hdf5, .mat or none (with another one only if it is HDF5 inside,
    and not NWB). An empty stem takes every .h5 and .hdf5 file. Hidden files and the output files
    of a run are left out.

    Returns:
        (session name, path) of each, sorted by name.
    """
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise LFADSError(f"{folder}: {found}; data_dir must be the folder of the session files")
    skipped = (".", *RESULT_PREFIXES)
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(skipped))
    sessions: dict[str, Path] = {}
    for path in files:
        name = _session_name(path, data_filename_stem)
        if name in sessions:
            raise LFADSError(
                f"{folder}: {sessions[name].name} and {path.name} both give session '{name}'; "
                "the names must be unique; rename or remove one"
            )
        if name is not None:
            sessions[name] = path
    if not sessions:
        _refuse_stem(folder, data_filename_stem, [path.name for path in files])
    return sorted(sessions.items())


def may_be_session(filename: str, stem: str) -> bool:
    """Return whether a file is worth fetching."""
    if filename.startswith((".", *RESULT_PREFIXES)):
        return False
    return filename.startswith(stem) and (bool(stem) or _split_extension(filename)[1] != "")


def _session_name(path: Path, stem: str) -> str | None:
    """Return the session name of a file, or None if its name does not match the stem."""
    base, extension = _split_extension(path.name)
    if not stem:
        return base if extension in (".h5", ".hdf5") else None
    if stem in (base, path.name):
        return base
    # after a stem that ends in a separator, the name may follow directly
    pattern = re.escape(stem) + ("" if stem.endswith(SEPARATORS) else "[_.-]") + "(.+)"
    match = re.fullmatch(pattern, base, re.DOTALL)
    if match is None:
        return None
    # `stem_notes.txt` is not a session, `stem.day1` may be; NWB is HDF5, but never has our keys
    suffix = path.suffix.lower()
    foreign = not extension and re.match(r"\.[a-z]", suffix) is not None
    if foreign and (suffix == ".nwb" or not h5py.is_hdf5(path)):
        return None
    return match[1]


def _split_extension(filename: str) -> tuple[str, str]:
    """Split off .h5, .hdf5 or .mat (returned in lower case); anything else stays in the name."""
    extension = Path(filename).suffix.lower()
    return (filename[: -len(extension)], extension) if extension in EXTENSIONS else (filename, "")


def _refuse_stem(folder: Path, stem: str, names: list[str]) -> NoReturn:
    """Return the error for a folder without files of the stem."""
    nearest = ""
    if names and stem:
        likeness = {n: difflib.SequenceMatcher(None, stem, n[: len(stem)]).ratio() for n in names}
        nearest = f"; the nearest is {max(names, key=lambda name: likeness[name])}"
    raise LFADSError(
        f"{folder}: no file matches data_filename_stem='{stem}'; the folder holds "
        f"{listed(names)}{nearest}; expected STEM.h5 or STEM_NAME.h5 (.hdf5, .mat, no extension)"
    )


def read_session(path: str | Path, name: str | None = None) -> Session:
    """Read a file that holds exactly one session, see `read_sessions`.

    Args:
        path: HDF5 file with the documented keys, at its top or in one group.
        name: Session name; by default that of the group, or of the file without extension.
    """
    sessions = read_sessions(path)
    if len(sessions) > 1:
        names = listed([session.name for session in sessions])
        raise LFADSError(f"{path}: {len(sessions)} sessions ({names}), not one; use read_sessions")
    return sessions[0] if name is None else replace(sessions[0], name=name)


def read_sessions(path: str | Path) -> list[Session]:
    """Read all sessions of a file, in the types they are stored in.

    A file with documented keys at its top is one session, named like the file; else each group
    with such keys is one, named like the group. Arrays of a MATLAB v7.3 file (known by its header
    or by the attribute `MATLAB_class`) are transposed to the shape they had in MATLAB; its empty
    arrays (`[]`) count as absent. A file in a store (`s3://…`) is fetched first.
    """
    if is_url(path):
        with local_copies() as copies:
            sessions = read_sessions(copies.get(path))
            return [replace(s, source=copies.named(s.source)) for s in sessions]
    path = Path(path)
    return list(_iterate_sessions(path, _split_extension(path.name)[0]))


def _iterate_sessions(path: Path, name: str) -> Iterator[Session]:
    """Read the sessions of a file one by one; `name` is for a file that is itself a session."""
    matlab = _read_header(path).startswith(b"MATLAB")
    with opened(path) as file:
        with damage_explained(str(path)):
            groups = [] if _spellings(file, str(path)) else _session_groups(file)
        for group in groups:
            yield _read_group(file[group], group, f"{path}:{group}", matlab)
        if not groups:
            yield _read_group(file, name, str(path), matlab)


def _read_header(path: Path) -> bytes:
    """Refuse a file that cannot be opened or is not HDF5; return its first bytes."""
    if not path.is_file():
        raise LFADSError(f"{path}: no such file; expected the HDF5 file of a session")
    try:
        with path.open("rb") as file:
            header = file.read(16)
    except OSError as error:
        raise LFADSError(f"{path}: cannot be opened ({error.strerror})") from error
    if header.startswith(b"MATLAB 5"):
        raise LFADSError(f"{path}: a MATLAB file older than v7.3; save it with '-v7.3'")
    if not h5py.is_hdf5(path):
        raise LFADSError(
            f"{path}: not an HDF5 file; make one from a recording with lfads prepare, or from "
            "arrays with write_session"
        )
    return header


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; errors become messages of one line."""
    _read_header(path)
    with damage_explained(str(path)):
        file = h5py.File(path, "r")
    with file:
        yield file


def check_declared(where: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse an array that is larger than any recording, before memory is allocated."""
    n_bytes = math.prod(shape) * itemsize
    if n_bytes > MAX_BYTES:
        raise LFADSError(
            f"{where} declares {sizes(shape)} values, {n_bytes / 2**30:.0f} GiB; the limit is "
            f"{MAX_BYTES / 2**30:.0f} GiB; split the recording into several sessions"
        )


def check_filled(where: str, dataset: h5py.Dataset) -> None:
    """Refuse an array that declares far more than it stores: a small file could fill the memory."""
    n_bytes = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
    n_stored = dataset.id.get_storage_size()
    # each string or variable-length row becomes an object many times the size of its entry
    free = FREE_BYTES // 2**8 if dataset.dtype.hasobject else FREE_BYTES
    if n_bytes > free and n_bytes > MAX_RATIO * n_stored:
        raise LFADSError(
            f"{where} declares {sizes(dataset.shape)} values, {n_bytes / 2**30:.1f} GiB, but "
            f"stores only {n_stored} bytes; if these are real data, write them as uint8, with "
            "write_session"
        )


@contextmanager
def damage_explained(where: str, *more: type[Exception]) -> Iterator[None]:
    """Turn the exceptions of h5py on a damaged file, and those in ``more``, into one line."""
    mistakes: tuple[type[Exception], ...] = (OSError, RuntimeError, KeyError, TypeError, ValueError)
    mistakes += more
    try:
        yield
    except LFADSError:
        raise
    except mistakes as error:
        raise LFADSError(
            f"{where}: cannot be read ({' '.join(str(error).split())[:300]}); the file is damaged "
            "or was not written to its end; copy or write it again"
        ) from error


def _spellings(group: h5py.Group, source: str) -> dict[str, str]:
    """Map the documented keys that a group has to their spelling there."""
    spellings: dict[str, str] = {}
    for spelling in group:
        key = spelling.lower()
        if key in spellings:
            raise LFADSError(f"{source}: both {spellings[key]} and {spelling}; keep one of them")
        if key in KEYS:
            spellings[key] = spelling
    return spellings


def _session_groups(file: h5py.File) -> list[str]:
    """Name the groups with documented keys; links are not followed."""
    return [
        name
        for name in file
        if isinstance(file.get(name, getlink=True), h5py.HardLink)
        and isinstance(file[name], h5py.Group)
        and _spellings(file[name], f"{file.filename}:{name}")
    ]


def _read_group(group: h5py.Group, name: str, source: str, matlab: bool) -> Session:
    """Read the session of a group."""
    spellings = _spellings(group, source)
    if "train_data" not in spellings:
        with damage_explained(source):
            shapes = {key: _shape_of(group, key) for key in group}
        if (other := other_layout(shapes, source)) is not None:
            raise LFADSError(f"{source}: train_data is missing; {other}")
        raise LFADSError(
            f"{source}: train_data is missing; found {listed(list(group))}; expected an array "
            f"train_data (E×T×D){nearest('train_data', group)}"
        )
    arrays = {}
    for key, spelling in spellings.items():
        where = f"{source}: {spelling}"
        with damage_explained(where):
            array = read_array(group, spelling, where, matlab)
        if array is not None:
            arrays[key] = array
    return assemble(name, source, arrays)


def _shape_of(group: h5py.Group, key: str) -> tuple[int, ...] | None:
    is_own = isinstance(group.get(key, getlink=True), h5py.HardLink)
    item = group[key] if is_own else None
    return item.shape if isinstance(item, h5py.Dataset) else None


def read_array(group: h5py.Group, key: str, where: str, matlab: bool) -> np.ndarray | None:
    """Read one array, if the file itself holds it and its type and size are plausible.

    Args:
        group: the group that holds it.
        key: its name there.
        where: its name in error messages.
        matlab: reverse its axes.

    Returns:
        The array; None if it is empty.
    """
    dataset = own_dataset(group, key, where)
    if dataset.shape is None or dataset.attrs.get("MATLAB_empty"):
        return None
    field = KEYS.get(key.lower())
    may_be_text = field is not None and field.kind.may_be_text
    is_text = may_be_text and h5py.check_string_dtype(dataset.dtype) is not None
    if not is_text:
        check_dtype(where, dataset.dtype)
    array = np.asarray(dataset.asstr()[()], dtype=str) if is_text else np.asarray(dataset[()])
    if matlab or "MATLAB_class" in dataset.attrs:
        array = array.T
        if (
            field is not None
            and field.kind is ONE_TEXT
            and dataset.attrs.get("MATLAB_class") == b"char"
        ):
            return np.array("".join(map(chr, array.ravel())))
        # MATLAB drops a last axis of length 1; I or K is probably 1
        axes = field.axes if field is not None else ""
        if len(axes) == 3 and axes[2] not in PER and array.ndim == 2:
            array = array[..., None]
    return array


def own_dataset(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    """Find an array that the file itself holds, and that fits into memory.

    Args:
        group: the group that holds it.
        key: its name there.
        where: its name in error messages.

    Raises:
        LFADSError: it is a link or a group, its values are in another file, or it declares far more
            than it stores.
        KeyError: there is no such array.
    """
    link = group.get(key, getlink=True)
    # a link can lead to any file that this process may open: check it before following it
    if link is None:
        raise KeyError("listed in the file, but not found")
    if not isinstance(link, h5py.HardLink):
        kind = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
        raise LFADSError(f"{where} is {kind} link to {link.path}; store the array itself")
    dataset = group[key]
    if not isinstance(dataset, h5py.Dataset):
        raise LFADSError(f"{where} is a group; expected an array of numbers")
    if dataset.external or dataset.is_virtual:
        raise LFADSError(f"{where} keeps its values in another file; store the array itself")
    check_declared(where, dataset.shape or (), dataset.dtype.itemsize)
    check_filled(where, dataset)
    return dataset
