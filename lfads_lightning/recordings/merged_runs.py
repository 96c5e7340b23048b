"""Merging a run's results for chops into one recording."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import POSTERIOR_KINDS, LFADSError
from lfads_lightning.data.session_files import (
    damage_explained,
    find_sessions,
    may_be_session,
    opened,
    own_dataset,
)
from lfads_lightning.recordings.chops import Places, merge_chops, read_places
from lfads_lightning.recordings.keys import SPLITS
from lfads_lightning.runs.files import check_name, whole_hdf5
from lfads_lightning.runs.links import check_link
from lfads_lightning.runs.names import CONFIG, RESULTS
from lfads_lightning.runs.remote import is_url, local_copies
from lfads_lightning.runs.run import Run

SHARED_ATTRIBUTES = ("config", "checkpoint", "train_step", "version", "num_samples")
LABEL_KEYS = ("bin_width_s", "neuron_ids")


def merge_run(run: Path, data_dir: str | Path | None = None, kind: str | None = None) -> list[Path]:
    """Merge the outputs of a run, one file per session and kind.

    Args:
        run: folder of the run.
        data_dir: folder of the session files; None: that of the run's config.
        kind: the kind whose outputs to merge; None: both posterior kinds, if present.

    Raises:
        LFADSError: there are no outputs, or they do not match the chops in the data.
    """
    outputs = _outputs(run, kind)
    if not outputs:
        raise LFADSError(
            f"{run}: holds no {RESULTS}_SESSION_SPLIT_KIND.h5 of "
            f"{kind or 'a posterior kind'}; make them with kind=posterior_sample_and_average"
        )
    with ExitStack() as stack:
        return _merge_all(run, outputs, _sessions(run, data_dir, stack))


def _merge_all(
    run: Path, outputs: dict[tuple[str, str], dict[str, Path]], sessions: dict[str, Path]
) -> list[Path]:
    paths = []
    for (session, name), files in outputs.items():
        if session not in sessions and len(sessions) == 1:
            session_file = next(iter(sessions.values()))
        elif session in sessions:
            session_file = sessions[session]
        else:
            raise LFADSError(
                f"{run}: outputs of session {session}, which is not in the data; found "
                f"{listed(sessions, 20)}; name the folder of the session files with --data-dir"
            )
        paths.append(_merge(run, session, name, files, session_file))
    return paths


def _outputs(run: Path, kind: str | None) -> dict[tuple[str, str], dict[str, Path]]:
    """Find output files by session and kind, then by split."""
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(run.glob("*.h5")):
        check_link(path, run)
        with opened(path) as file, damage_explained(str(path)):
            about = {key: str(file.attrs.get(key, "")) for key in ("session", "split", "kind")}
        wanted = POSTERIOR_KINDS if kind is None else (kind,)
        if about["split"] in SPLITS and about["kind"] in wanted:
            check_name(about["session"], str(path))
            found.setdefault((about["session"], about["kind"]), {})[about["split"]] = path
    return found


def _sessions(run: Path, data_dir: str | Path | None, stack: ExitStack) -> dict[str, Path]:
    config = Run(run).read_config()
    if config is None:
        raise LFADSError(f"{run}: has no {CONFIG}; expected the folder of a run")
    folder = data_dir if data_dir is not None else config.data.data_dir
    if folder is None:
        raise LFADSError(
            f"{run}: its data came from memory; name the session files with --data-dir"
        )
    if data_dir is None:
        Run(run).check_data_place(config.data.data_dir, "--data-dir")
    stem = config.data.data_filename_stem
    if is_url(folder):
        copies = stack.enter_context(local_copies())
        folder = copies.matching(str(folder), partial(may_be_session, stem=stem))
    return dict(find_sessions(folder, stem))


def _merge(run: Path, session: str, kind: str, files: dict[str, Path], session_file: Path) -> Path:
    places = read_places(session_file)
    stem = next(iter(files.values())).name.split(f"_{session}_")[0]
    path = Run(run).results(stem, session, "merged", kind)
    with whole_hdf5(path) as out:
        for name, dims in _by_bin(files, places).items():
            arrays = {}
            for split, file_path in files.items():
                with opened(file_path) as file, damage_explained(f"{file_path}: {name}"):
                    arrays[split] = own_dataset(file, name, f"{file_path}: {name}")[()]
            merged = merge_chops(session_file, **arrays)
            dataset = out.create_dataset(name, data=merged, compression="gzip")
            dataset.attrs.update(dims)
        missing = set(places.starts) - set(files)
        first = next(iter(files.values()))
        with opened(first) as file, damage_explained(str(first)):
            attributes = {
                name: file.attrs[name] for name in SHARED_ATTRIBUTES if name in file.attrs
            }
            labels = {name: file[name][()] for name in LABEL_KEYS if name in file}
        out.attrs.update(attributes)
        _describe(out, session, kind, session_file, places, labels, first)
        out.attrs["splits"] = ", ".join(files)
        out.attrs["missing_splits"] = ", ".join(sorted(missing))
    return path


def _by_bin(files: dict[str, Path], places: Places) -> dict[str, dict[str, str]]:
    """Return the datasets that have a row per chop and bin, with their attributes."""
    split, path = next(iter(files.items()))
    n_chops = len(places.starts.get(split, ()))
    found = {}
    with opened(path) as file, damage_explained(str(path)):
        for name in file:
            item = own_dataset(file, name, f"{path}: {name}")
            if item.ndim == 3 and item.shape[1] == places.chop_bins:
                if item.shape[0] != n_chops:
                    raise LFADSError(
                        f"{path}: {name} has {item.shape[0]} trials, the data have {n_chops} chops "
                        "in this split; expected all of them; write the outputs again from these "
                        "data, without sampling.ps_nexamples_to_process"
                    )
                found[name] = dict(item.attrs)
    return found


def _describe(
    out: h5py.File,
    session: str,
    kind: str,
    session_file: Path,
    places: Places,
    labels: Mapping[str, np.ndarray],
    first: Path,
) -> None:
    out.attrs.update({"session": session, "split": "merged", "kind": kind})
    out.attrs["bins"] = (
        "bins of the whole recording, its unbroken pieces end to end (segment_starts); NaN where "
        "no chop was"
    )
    with opened(session_file) as file, damage_explained(str(session_file)):
        own = {
            key: own_dataset(file, key, f"{session_file}: {key}")[()]
            for key in (*LABEL_KEYS, "segment_starts", "segment_starts_s")
            if key in file
        }
        for key, array in own.items():
            if key not in labels:
                out[key] = array
        for key, values in labels.items():
            # the neurons are the same, but may be in a different order
            same = key not in own or np.array_equal(np.sort(own[key], None), np.sort(values, None))
            if not same:
                raise LFADSError(
                    f"{first}: its {key} is not that of {session_file}; expected the results of "
                    "these data; name their folder with --data, or write the outputs again"
                )
            out[key] = values
    out["n_recording_bins"] = np.int64(places.n_recording_bins)
