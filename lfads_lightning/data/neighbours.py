"""Recognising files of other programs, and the command that converts them."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def _py(text: str | Path) -> str:
    """Quote a text for Python, in double quotes, for use inside a shell's single quotes."""
    return json.dumps(str(text), ensure_ascii=False)


def other_layout(shapes: Mapping[str, Any], path: str) -> str | None:
    """Say how to convert an HDF5 file with the keys of another program to a session.

    Args:
        shapes: shapes of its arrays, by key; None for entries that are not arrays.
        path: path of the file.
    """
    if {"train_encod_data", "train_recon_data"} <= set(shapes):
        return _encod_recon(shapes, path)
    if "train_spikes_heldin" in shapes:
        return _held_in_out(shapes, path)
    return None


def _encod_recon(shapes: Mapping[str, Any], path: str) -> str:
    moves = [
        f'f.move("{split}_recon_data", "{split}_data")'
        for split in ("train", "valid")
        if f"{split}_recon_data" in shapes
    ]
    seen, scored = shapes["train_encod_data"], shapes["train_recon_data"]
    more = ""
    if seen and scored and len(seen) == len(scored) == 3:
        if seen[2] < scored[2]:
            moves.append(f'f["held_out_neurons"] = list(range({seen[2]}, {scored[2]}))')
        if seen[1] < scored[1]:
            more = f"; train with data.forward_steps={scored[1] - seen[1]}"
    words = f'import h5py; f = h5py.File({_py(path)}, "r+"); ' + "; ".join(moves)
    return (
        "it stores encoded and reconstructed data separately; rename the latter to train_data and "
        f"valid_data, and list in held_out_neurons what is not encoded: python -c "
        f"{shlex.quote(words)}{more}"
    )


def _held_in_out(shapes: Mapping[str, Any], path: str) -> str:
    target = f"{Path(path).stem}_session.h5"
    words = (
        "import h5py, numpy as np, lfads_lightning as lfads; "
        f'f = h5py.File({_py(path)}); x = f["train_spikes_heldin"][()]; n = x.shape[2]; '
    )
    if "train_spikes_heldout" in shapes:
        words += 'x = np.concatenate([x, f["train_spikes_heldout"][()]], 2); '
    words += "v = np.arange(len(x)) % 5 == 0; "
    words += f"lfads.write_session({_py(target)}, train_data=x[~v], valid_data=x[v]"
    if "train_spikes_heldout" in shapes:
        words += ", held_out_neurons=np.arange(n, x.shape[2])"
    return (
        "it stores held-in and held-out neurons separately, as the Neural Latents Benchmark does; "
        "join them as train_data, and list the latter in held_out_neurons: python -c "
        f"{shlex.quote(words + ')')}"
    )
