"""The format of a checkpoint, checked before a model is built from it: it may come from anybody."""

import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lfads_lightning.config import Config, LFADSError, SessionSpec
from lfads_lightning.data.identity import is_identity
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.params import from_dict, to_dict
from lfads_lightning.runs.files import check_name

MOST_CHANNELS = 2**20
VERSION = 1  # of the record under "lfads" in a checkpoint


def model_record(model: LFADS, config: Config, n_bins: int | None, step: int) -> dict[str, Any]:
    """Return the description of a model in a checkpoint: plain types only, to load safely."""
    return {
        "format_version": VERSION,
        "version": version("lfads-lightning"),
        "config": to_dict(config),
        "sessions": [list(spec) for spec in model.sessions.values()],
        "n_bins": n_bins,
        "step": step,
    }


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it, and check all that a model is built from.

    Raises:
        LFADSError: it is not a checkpoint of ours, is damaged, or has another format.
    """
    damaged = (
        f"{path}: is not a checkpoint of lfads-lightning, or is damaged ({{}}); you can put an "
        "older one of the same run last in the index file in its folder"
    )
    try:
        # torch writes its files without compression: a compressed one may unpack to any size
        with zipfile.ZipFile(path) as file:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist())
        checkpoint = {} if packed else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise LFADSError(damaged.format(" ".join(str(error).split())[:200])) from error
    record = checkpoint.get("lfads") if isinstance(checkpoint, dict) else None
    version = record.get("format_version") if isinstance(record, dict) else None
    if not isinstance(record, dict) or type(version) is not int:
        raise LFADSError(damaged.format("it is compressed" if packed else "it names no format"))
    if version < 1:
        raise LFADSError(damaged.format(f"it names format {version}"))
    if version > VERSION:
        raise LFADSError(
            f"{path}: has format {version}, this version reads up to {VERSION}; use "
            f"lfads-lightning {str(record.get('version'))[:40]} or newer"
        )
    if (problem := _problem(checkpoint, record)) is not None:
        raise LFADSError(damaged.format(problem))
    return checkpoint


def _problem(checkpoint: dict[str, Any], record: dict[str, Any]) -> str | None:
    step, n_bins, sessions = (record.get(key) for key in ("step", "n_bins", "sessions"))
    if not isinstance(record.get("config"), dict):
        return "it states no parameters"
    if not _is_count(step) or "n_bins" not in record or not (n_bins is None or _is_count(n_bins)):
        return "its step or number of bins is not a count"
    if not isinstance(sessions, list) or not sessions or not all(map(_is_session, sessions)):
        return "its sessions are not names and sizes"
    counts = [
        record[k] for k in ("start_step", "n_updates", "n_batches", "looked_at") if k in record
    ]
    if not all(map(_is_count, counts)) or not isinstance(record.get("costs", []), list):
        return "its training record is invalid"
    if not is_identity(record):
        return "its bin width or its neurons are invalid"
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict) or not all(map(_is_weight, weights.items())):
        return "its weights are not arrays of finite size"
    return None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_session(spec: Any) -> bool:
    if not isinstance(spec, list | tuple) or not 2 <= len(spec) <= len(SessionSpec._fields):
        return False
    name, *sizes = spec
    try:
        check_name(name, "a checkpoint")
    except LFADSError:
        return False
    if not all(_is_count(n) for n in sizes[:2]):
        return False
    held_out = sizes[3] if len(sizes) > 3 else ()
    # held-in channels are derived as a list, so their number must be that of a real recording
    return not held_out or sizes[0] <= MOST_CHANNELS


def _is_weight(item: tuple[Any, Any]) -> bool:
    name, value = item
    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        return False
    # a view of one number can claim any shape
    n_bytes = value.numel() * value.element_size()
    return value.layout is torch.strided and n_bytes <= value.untyped_storage().nbytes()


def state_of(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the network's weights from a checkpoint."""
    return {k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items()}


def rebuilt(checkpoint: dict[str, Any], path: Path) -> tuple[LFADS, Config]:
    """Build the model of a checkpoint from :func:`read_checkpoint`; return it and its parameters.

    Raises:
        LFADSError: the weights do not match the parameters in the checkpoint.
    """
    record = checkpoint["lfads"]
    config = from_dict(record["config"], str(path))
    sessions = [SessionSpec(*spec) for spec in record["sessions"]]
    weights = state_of(checkpoint)
    try:
        with torch.device("meta"):  # the parameters may need more memory than there is
            shapes = {k: v.shape for k, v in LFADS(config.model, sessions).state_dict().items()}
        if {k: v.shape for k, v in weights.items()} != shapes:
            raise ValueError("shapes or names differ")
        model = LFADS(config.model, sessions)
        if any(p.dtype == torch.float64 for p in weights.values()):
            model.double()
        model.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError) as error:
        raise LFADSError(
            f"{path}: its weights do not match its parameters; the file is damaged or was changed "
            "by hand; use another checkpoint"
        ) from error
    return model, config
