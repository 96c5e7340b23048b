"""What is fuzzed: each reader as a function of a file; it may read it, or raise LFADSError."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import yaml

from lfads_lightning import params
from lfads_lightning.config import Config
from lfads_lightning.data.session_files import read_sessions, write_session
from lfads_lightning.data.sessions import check_session
from lfads_lightning.search.space import read_space


class Target(NamedTuple):
    """A reader and what it is fed with at first."""

    suffix: str
    read: Callable[[Path], object]
    seeds: Callable[[Path], list[bytes]]  # makes files in a folder, returns their contents


def _session(path: Path) -> None:
    for session in read_sessions(path):
        check_session(session, output_dist="poisson", ext_input_dim=0, factors_dim=3, warn=False)


def _session_seeds(folder: Path) -> list[bytes]:
    counts = np.random.default_rng(0).poisson(1.0, (6, 5, 4))
    path = folder / "plain.h5"
    write_session(path, train_data=counts, valid_data=counts[:2], conversion_factor=50.0)
    seeds = [path.read_bytes()]
    for userblock in (0, 512):  # MATLAB's header stands before the HDF5 file
        with h5py.File(folder / "groups.h5", "w", userblock_size=userblock) as file:
            for name in ("day1", "day2"):
                group = file.create_group(name)
                group["train_data"] = counts.astype(np.float64)
                group["alignment_matrix_cxf"] = np.ones((4, 3))
                group["train_data"].attrs["MATLAB_class"] = np.bytes_("double")
        seeds.append((folder / "groups.h5").read_bytes())
    return seeds


def _parameters(path: Path) -> None:
    params.check(params.from_flat(params.read_params_file(path)))


def _parameter_seeds(folder: Path) -> list[bytes]:
    flat = {"co_dim": 2, "Ic_dim": 8, "keep_prob": 0.9, "output_dist": "gaussian", "device": "cpu"}
    lists = (
        b"do_causal_controller: yes\nbatch_size: 0x10\ncsv_log: 'a b'\nseed: [1, 2]\nx: {a: 1}\n"
    )
    return [yaml.safe_dump(flat).encode(), json.dumps(flat).encode(), lists]


def _config(path: Path) -> None:
    (path.parent / "config.yaml").write_bytes(path.read_bytes())
    params.read_config(path.parent)


def _config_seeds(folder: Path) -> list[bytes]:
    return [yaml.safe_dump(params.to_dict(Config())).encode()]


def _space(path: Path) -> None:
    read_space(path, of_any_parameter=True)


def _space_seeds(folder: Path) -> list[bytes]:
    return [
        b"loss.kl_ic_weight: {min: 0.02, max: 2, perturb: 0.8}\n"
        b"model.keep_prob: {min: 0.4, max: 1, complement: true, draw: uniform, init: 0.9}\n",
        b"optim.learning_rate_init: {min: 1e-5, max: 0.02, init: [0.002, 0.01]}\n"
        b"model.co_dim: {values: [0, 2, 4]}\n",
    ]


def _checkpoint(path: Path) -> None:
    from lfads_lightning import load

    folder = path.parent / "run"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints/checkpoint.json").write_text('["fuzzed.ckpt"]')
    (folder / "checkpoints/fuzzed.ckpt").write_bytes(path.read_bytes())
    load(folder)


def _checkpoint_seeds(folder: Path) -> list[bytes]:
    import torch

    from lfads_lightning.config import SessionSpec
    from lfads_lightning.inference.trained import Trained
    from lfads_lightning.model.lfads import LFADS

    sizes = {"ic_dim": 2, "factors_dim": 2, "ic_enc_dim": 2, "gen_dim": 3, "co_dim": 0}
    config = params.from_flat(sizes)
    model = LFADS(config.model, [SessionSpec("a", 4)])
    Trained(model, config, n_bins=5, step=3).save(folder / "made")
    (path,) = (folder / "made/checkpoints").glob("*.ckpt")
    hollow = io.BytesIO()
    torch.save({"lfads": {"format_version": 1}}, hollow)
    return [path.read_bytes(), hollow.getvalue()]


TARGETS = {
    "session": Target(".h5", _session, _session_seeds),
    "params": Target(".yaml", _parameters, _parameter_seeds),
    "config": Target(".yaml", _config, _config_seeds),
    "space": Target(".yaml", _space, _space_seeds),
    "checkpoint": Target(".ckpt", _checkpoint, _checkpoint_seeds),
}
