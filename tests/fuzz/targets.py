"""What is fuzzed: each reader as a function of a file; it may read it, or raise LFADSError."""

import io
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import numpy as np
import recipes
import yaml

from lfads_lightning import params
from lfads_lightning.config import Config
from lfads_lightning.data.session_files import read_sessions, write_session
from lfads_lightning.data.sessions import check_session
from lfads_lightning.recordings.prepare import prepare_recording
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.runs.params_file import read_params_file
from lfads_lightning.runs.run import Run
from lfads_lightning.search.space import read_space

sys.path.append(str(Path(__file__).parents[1]))
from recordings import write_mat73, write_nwb


class Target(NamedTuple):
    """A reader and what it is fed with at first."""

    suffix: str
    read: Callable[[Path], object]
    seeds: Callable[[Path], list[bytes]]  # makes files in a folder, returns their contents
    follow: Callable[[bytes, Path], None] | None = None  # makes a file by a recipe

    def write(self, content: bytes, path: Path) -> None:
        """Write an input as a file: as it is, or what it is the recipe of."""
        if self.follow is not None and content.startswith(recipes.PREFIX):
            self.follow(content[len(recipes.PREFIX) :], path)
        else:
            path.write_bytes(content)


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
                group["train_data"] = counts.T.astype(np.float64)
                group["alignment_matrix_cxf"] = np.ones((4, 3))
                group["train_data"].attrs["MATLAB_class"] = np.bytes_("double")
        seeds.append((folder / "groups.h5").read_bytes())
    return seeds


def _parameters(path: Path) -> None:
    params.check(params.from_flat(read_params_file(path)))


def _parameter_seeds(folder: Path) -> list[bytes]:
    flat = {"co_dim": 2, "Ic_dim": 8, "keep_prob": 0.9, "output_dist": "gaussian", "device": "cpu"}
    lists = (
        b"do_causal_controller: yes\nbatch_size: 0x10\ncsv_log: 'a b'\nseed: [1, 2]\nx: {a: 1}\n"
    )
    return [yaml.safe_dump(flat).encode(), json.dumps(flat).encode(), lists]


def _config(path: Path) -> None:
    (path.parent / "config.yaml").write_bytes(path.read_bytes())
    Run(path.parent).read_config()


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
    from lfads_lightning.inference.trained import TrainedModel
    from lfads_lightning.model.lfads import LFADS

    sizes = {"ic_dim": 2, "factors_dim": 2, "ic_enc_dim": 2, "gen_dim": 3, "co_dim": 0}
    config = params.from_flat(sizes)
    model = LFADS(config.model, [SessionSpec("a", 4)])
    TrainedModel(model, config, n_bins=5, step=3).save(folder / "made")
    (path,) = (folder / "made/checkpoints").glob("*.ckpt")
    hollow = io.BytesIO()
    torch.save({"lfads": {"format_version": 1}}, hollow)
    return [path.read_bytes(), hollow.getvalue()]


N_TRIALS, WIDTH_S = 6, 0.05
ARRAYS: dict[str, Any] = {  # spike times of three neurons in six trials of 0.5 s
    "spike_times": np.random.default_rng(0).uniform(0, 4, 60).round(3),
    "spike_units": np.arange(60) % 3,
    "trial_start": 0.5 + 0.5 * np.arange(N_TRIALS),
    "trial_stop": 1.0 + 0.5 * np.arange(N_TRIALS),
    "condition": np.arange(N_TRIALS) % 2,
    "hand": np.sin(np.arange(80)),
    "hand_times": np.arange(80) * WIDTH_S,
}
COUNTS: dict[str, Any] = {
    "counts": np.random.default_rng(1).poisson(1.0, (N_TRIALS, 10, 3)),
    "condition": np.arange(N_TRIALS) % 2,
    "ids": np.arange(3),
    "bin_width_s": np.array(WIDTH_S),
}
SETTINGS = (
    Settings(bin_width_s=WIDTH_S, min_rate_hz=0),
    Settings(bin_width_s=WIDTH_S, align_to="start_time", window_s=(0.0, 0.5), min_rate_hz=0),
    Settings(bin_width_s=WIDTH_S, chop_bins=5, overlap_bins=1, min_rate_hz=0),
    Settings(bin_width_s=WIDTH_S, recording_s=(0.0, 4.0), chop_bins=5, behaviour=("hand",)),
)


def _recording(path: Path, choices: tuple[Settings, ...] = SETTINGS) -> None:
    """Prepare as lfads prepare does, one of several ways: the content says which."""
    settings = choices[zlib.crc32(path.read_bytes()) % len(choices)]
    prepare_recording(path, path.parent / "prepared", "a", settings)


def _array(path: Path) -> None:
    _recording(path, (Settings(min_rate_hz=0), Settings(chop_bins=5, min_rate_hz=0)))


def _table(path: Path) -> None:
    width = {"source_bin_width_s": WIDTH_S, "bin_width_s": WIDTH_S, "min_rate_hz": 0}
    _recording(path, (Settings(**width), Settings(**width, chop_bins=5)))


def _npy_seeds(folder: Path) -> list[bytes]:
    np.save(folder / "trials.npy", COUNTS["counts"])
    np.save(folder / "long.npy", COUNTS["counts"].reshape(-1, 3).astype(np.float32))
    return [(folder / f"{name}.npy").read_bytes() for name in ("trials", "long")]


def _csv_seeds(folder: Path) -> list[bytes]:
    spikes = zip(ARRAYS["spike_units"], ARRAYS["spike_times"], strict=True)
    rows = "".join(f"{unit},{time}\n" for unit, time in spikes)
    bins = "".join(
        f"{e},{','.join(map(str, row))}\n"
        for e, trial in enumerate(COUNTS["counts"])
        for row in trial
    )
    return [f"unit,time\n{rows}".encode(), f"trial,a,b,c\n{bins}".encode()]


def _npz_seeds(folder: Path) -> list[bytes]:
    np.savez(folder / "plain.npz", **ARRAYS)
    np.savez_compressed(folder / "counts.npz", **COUNTS)
    return [(folder / f"{name}.npz").read_bytes() for name in ("plain", "counts")]


def _cells() -> dict[str, Any]:
    cells = np.empty((3, 1), object)
    cells[:, 0] = [np.sort(ARRAYS["spike_times"][k::3]) for k in range(3)]
    return {k: v for k, v in ARRAYS.items() if k != "spike_units"} | {"spike_times": cells}


def _mat_seeds(folder: Path) -> list[bytes]:
    from scipy.io import savemat

    savemat(folder / "a.mat", ARRAYS | {"s": {"a": 1, "b": "text"}})
    savemat(folder / "b.mat", _cells(), do_compression=True)
    savemat(folder / "c.mat", COUNTS)
    savemat(folder / "d.mat", {"D": _structures()})
    return [(folder / f"{name}.mat").read_bytes() for name in "abcd"]


def _structures() -> np.ndarray:
    """Trials of unequal length as a structure array, one of them sparse; units with times."""
    from scipy.sparse import csc_matrix

    rows = np.zeros((1, N_TRIALS), [("spikes", "O"), ("condition", "O"), ("unit", "O")])
    for k, counts in enumerate(COUNTS["counts"].astype(float)):
        turned = counts[: 10 - k % 3].T
        units = np.zeros((1, 2), [("elec", "O"), ("wave", "O")])
        for d in range(2):
            units[0, d]["elec"], units[0, d]["wave"] = float(d), np.arange(4.0)
        rows[0, k]["spikes"] = turned if k else csc_matrix(turned)
        rows[0, k]["condition"], rows[0, k]["unit"] = "ab"[k % 2], units
    return rows


def _mat73_files(folder: Path) -> list[Path]:
    return [
        write_mat73(folder / f"{number}.mat", variables)
        for number, variables in enumerate(
            (ARRAYS | {"s": {"a": 1.0, "b": "text"}}, _cells(), COUNTS)
        )
    ]


def _nwb_files(folder: Path) -> list[Path]:
    hand, times = ARRAYS["hand"], ARRAYS["hand_times"]
    recording = SimpleNamespace(
        times=[np.sort(ARRAYS["spike_times"][k::3]) for k in range(3)],
        start=ARRAYS["trial_start"],
        stop=ARRAYS["trial_stop"],
        go=ARRAYS["trial_start"] + 0.1,
        condition=ARRAYS["condition"],
        velocity=np.stack([hand, hand], axis=1),
        samples=times,
    )
    more = {"held_out": [False, False, True], "obs_intervals": [[[0.0, 4.0]]] * 3}
    plain = write_nwb(folder / "plain.nwb", recording)
    with h5py.File(plain, "a") as file:  # most of the time went into the cached format
        del file["specifications"], file.attrs[".specloc"]
    return [plain, write_nwb(folder / "more.nwb", recording, invalid=[(3.9, 4.0)], **more)]


def _session_files(folder: Path) -> list[Path]:
    paths = []
    for number, content in enumerate(_session_seeds(folder)):
        paths.append(folder / f"session-{number}.h5")
        paths[-1].write_bytes(content)
    return paths


def _checkpoint_files(folder: Path) -> list[Path]:
    path = folder / "whole.ckpt"
    path.write_bytes(_checkpoint_seeds(folder)[0])
    return [path]


def _contents(files: Callable[[Path], list[Path]]) -> Callable[[Path], list[bytes]]:
    return lambda folder: [path.read_bytes() for path in files(folder)]


def _of_arrays(write: Callable[..., None]) -> Callable[[bytes, Path], None]:
    def follow(content: bytes, path: Path) -> None:
        choices = recipes.Choices(content)
        write(choices, choices.one((ARRAYS, COUNTS, _cells())), path)

    return follow


TARGETS = {
    "session": Target(
        ".h5", _session, _session_seeds, recipes.of_copy(recipes.hdf5, _session_files)
    ),
    "params": Target(".yaml", _parameters, _parameter_seeds),
    "config": Target(".yaml", _config, _config_seeds),
    "space": Target(".yaml", _space, _space_seeds),
    "checkpoint": Target(
        ".ckpt",
        _checkpoint,
        _checkpoint_seeds,
        recipes.of_copy(recipes.checkpoint, _checkpoint_files),
    ),
    "npy": Target(".npy", _array, _npy_seeds),
    "csv": Target(".csv", _table, _csv_seeds),
    "npz": Target(".npz", _recording, _npz_seeds, _of_arrays(recipes.npz)),
    "mat5": Target(".mat", _recording, _mat_seeds, _of_arrays(recipes.mat5)),
    "mat73": Target(
        ".mat", _recording, _contents(_mat73_files), recipes.of_copy(recipes.hdf5, _mat73_files)
    ),
    "nwb": Target(
        ".nwb", _recording, _contents(_nwb_files), recipes.of_copy(recipes.hdf5, _nwb_files)
    ),
}
