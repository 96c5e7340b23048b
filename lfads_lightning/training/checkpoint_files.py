"""The files of a run's checkpoints, and the index files that list them.

``checkpoints/checkpoint.json`` and ``checkpoints/checkpoint_lve.json`` list the files kept, oldest
first; ``output.checkpoint_pb_load_name`` names the index to load from. A checkpoint is a zip
archive with a checksum for every record; the checksums are verified before a file is used.
"""

import difflib
import io
import json
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from lfads_lightning.config import LFADSError
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import check_name, whole_file, writing
from lfads_lightning.runs.run import Run
from lfads_lightning.training.format import read_checkpoint

PERIODIC, LOWEST = "checkpoint", "checkpoint_lve"
WITHIN_RAMPS = "valid/recon_smoothed"  # the criterion as long as no epoch is eligible


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole.

    Raises:
        LFADSError: the disk is full or the folder cannot be written.
    """
    buffer = io.BytesIO()  # torch's own errors about a full disk do not mention the disk
    torch.save(checkpoint, buffer)
    with whole_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint file; None if it is whole and readable."""
    if (problem := _checksums(path)) is not None:
        return problem
    try:
        # torch's reader checks headers that zipfile skips, and finds records in its own way
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types
        return _damaged(error)
    return None


def _checksums(path: Path) -> str | None:
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            # torch does not compress; a file that claims to hold more than its size is a trap
            if sum(record.file_size for record in archive.infolist()) > size:
                return "declares more data than it holds"
            bad = archive.testzip()
    except FileNotFoundError:
        return "is missing"
    except Exception as error:  # zipfile raises half a dozen types
        return _damaged(error)
    return None if bad is None else f"is damaged (the checksum of its record {bad} is wrong)"


def _damaged(error: Exception) -> str:
    return f"is damaged ({' '.join(str(error).split())[:200] or type(error).__name__})"


def read_index(folder: Path, index: str) -> list[str]:
    """Return the checkpoint files that an index lists, oldest first; empty without an index."""
    try:
        names = read_json(folder / f"{index}.json")
        if not isinstance(names, list):
            raise LFADSError("expected a list of names")
        for name in names:
            if not check_name(name, "it", "a checkpoint").endswith(".ckpt"):
                raise LFADSError(f"{ascii(name)[:80]} is not a checkpoint")
    except FileNotFoundError:
        return []
    except LFADSError as error:
        raise LFADSError(
            f"{folder / index}.json: is not a list of file names ({error}); delete it to continue "
            "without it"
        ) from error
    return names


def write_index(folder: Path, index: str, names: list[str]) -> None:
    """Write an index whole."""
    with whole_file(folder / f"{index}.json") as path:
        path.write_text(json.dumps(names, indent=1))


def copy_checkpoints(source: Path, target: Path) -> None:
    """Copy a run's folder of checkpoints, whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with writing(target):
        shutil.copytree(source, part)
        part.rename(target)


def best_index(run: Path) -> str:
    """Return the index of the lowest validation error if a run has one, else of its newest."""
    return PERIODIC if find_checkpoint(run, LOWEST) is None else LOWEST


def find_checkpoint(run: Path, index: str) -> Path | None:
    """Return the newest intact checkpoint of an index of a run's folder; None without an index.

    Args:
        run: the run's folder.
        index: ``checkpoint``, ``checkpoint_lve``, or empty for the first.

    Raises:
        LFADSError: none of the files that the index lists exists and is intact.
    """
    folder, bad = Run(run).checkpoints, list[str]()
    for name in reversed(read_index(folder, index or PERIODIC)):
        problem = damage(folder / name)
        if problem is None:
            if bad:
                warnings.warn(
                    f"{folder}: {'; '.join(bad)}: using the older {name}",
                    stacklevel=2,
                )
            return folder / name
        bad.append(f"{name} {problem}")
    if bad:
        raise LFADSError(
            f"{folder}: no checkpoint of {index or PERIODIC}.json can be used: {'; '.join(bad)}; "
            "restore one of them, use the other index (output.checkpoint_pb_load_name), or start "
            "in another output.lfads_save_dir"
        )
    return None


def require_checkpoint(run: Path, index: str) -> Path:
    """Return the newest checkpoint of an index.

    Raises:
        LFADSError: there is none.
    """
    if not run.is_dir():
        raise LFADSError(
            f"output.lfads_save_dir={run}: no such folder; give the folder of a training run"
        )
    path = find_checkpoint(run, index)
    if path is None:
        others = sorted(p.stem for p in Run(run).checkpoints.glob("*.json"))
        near = difflib.get_close_matches(index, others, n=1, cutoff=0)
        hint = (
            f"output.checkpoint_pb_load_name={near[0]} is there"
            if near
            else "give the folder of a training run (output.lfads_save_dir=RUN)"
        )
        waits = " (it is written from the second validation on)" if index == LOWEST else ""
        raise LFADSError(f"{run}: has no checkpoint named {index!r}{waits}; {hint}")
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        LFADSError: it is not a checkpoint of ours, is damaged, or has a newer format.
    """
    checkpoint = read_checkpoint(path)
    if (problem := _checksums(path)) is not None:
        raise LFADSError(
            f"{path}: {problem}; you can put an older one of the same run last in the index file "
            "beside it"
        )
    return checkpoint
