""":func:`export`: a run's results as NWB, MATLAB or NumPy files, or a submission to the NLB."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfads_lightning.commands import to_train
from lfads_lightning.config import EXPORT_FORMATS, POSTERIOR_KINDS, Kind, LFADSError
from lfads_lightning.data.session_files import damage_explained, own_dataset
from lfads_lightning.inference.nlb_submission import write_submission
from lfads_lightning.inference.nwb import MERGED, RunFile, write_nwb
from lfads_lightning.runs.files import check_name, whole_file
from lfads_lightning.runs.links import check_link
from lfads_lightning.runs.names import RESULTS
from lfads_lightning.runs.remote import is_url, local_copies, within
from lfads_lightning.runs.run import Run

MOST_MAT_BYTES = 2**31 - 1  # per variable, in MATLAB's v5 format


def export(
    source: str | Path,
    to: str,
    *,
    out: str | Path | None = None,
    nwb: str | Path | None = None,
    session_start_time: datetime | None = None,
) -> list[str | Path]:
    """Convert the results files of a run to another format.

    Args:
        source: a run's folder, or one of its HDF5 files; like every path here it may be in a store
            (``s3://…``).
        to: ``nwb`` (one file per session and kind: a processing module ``lfads`` with both splits,
            or with the recording that ``lfads merge`` made of them), ``mat`` (MATLAB v5) or
            ``npz``, one file for each results file.
        out: folder of the new files; by default the folder of the source.
        nwb: the recording's NWB file; the module is added to a copy of it. Without it, a new NWB
            file is written.
        session_start_time: start of the recording with time zone, for a new NWB file; by default
            1970, and the file says that the time is unknown.

    Returns:
        The files written.

    Raises:
        LFADSError: there is nothing to export, pynwb is missing, or the results lack something
            that the format needs.
    """
    if to not in EXPORT_FORMATS:
        raise LFADSError(f"export: to={to!r}; expected one of {', '.join(EXPORT_FORMATS)}")
    if to != "nwb" and (nwb is not None or session_start_time is not None):
        raise LFADSError(f"export: nwb and session_start_time need to='nwb', found {to!r}")
    with local_copies() as copies:
        if is_url(source) and Path(source).suffix == ".h5":
            url, _, _ = str(source).rpartition("/")
            out, source = out or url, copies.get(source)
        run = Run.open(source)
        place = run.folder  # or a file in it
        target = out if out is not None else (place if place.is_dir() else place.parent)
        recording = None if nwb is None else copies.get(nwb)
        with run.mirrored() if out is None else nullcontext():
            made = _export(place, to, copies.folder(target), recording, session_start_time)
        copies.outputs += made
        copies.send()
    return [*made] if out is None else [within(out, path.name) for path in made]


def _export(
    source: Path,
    to: str,
    folder: Path,
    nwb: Path | None,
    session_start_time: datetime | None,
) -> list[Path]:
    files = _results(source)
    if to == "nlb":
        path = Run(folder).submission
        write_submission(path, files, source)
        return [path]
    if to != "nwb":
        write = {"mat": _write_mat, "npz": _write_npz}[to]
        return [_written(folder / f"{f.path.stem}.{to}", f, write) for f in files]
    groups: dict[tuple[str, str], list[RunFile]] = {}
    for file in files:
        if file.attributes["kind"] in POSTERIOR_KINDS:
            groups.setdefault((file.attributes["session"], file.attributes["kind"]), []).append(
                file
            )
    for key, parts in groups.items():  # in overlapping chops a bin occurs several times
        groups[key] = [f for f in parts if f.attributes["split"] == MERGED] or parts
    if not groups:
        raise LFADSError(f"{source}: NWB needs the results of a posterior kind; run one first")
    if nwb is not None and len(groups) > 1:
        found = ", ".join(f"{session} ({kind})" for session, kind in groups)
        raise LFADSError(
            f"{source}: holds results of {found}, but nwb={nwb} is the recording of only one; give "
            f"one of the files {RESULTS}_SESSION_SPLIT_KIND.h5 in place of the folder"
        )
    paths = []
    for (session, kind), parts in groups.items():
        path = Run(folder).results("", session, kind).with_suffix(".nwb")
        with damage_explained(str(parts[0].path), AttributeError, IndexError):
            write_nwb(path, parts, nwb, session_start_time)
        paths.append(path)
    return paths


def _results(source: Path) -> list[RunFile]:
    """Read the results files in a folder, or a single one."""
    if not source.exists():
        raise LFADSError(f"{source}: no such file or folder; give a run's folder")
    paths = [source]
    if source.is_dir():
        paths = sorted(source.glob("*.h5"))
        for path in paths:
            check_link(path, source)
    found = [file for path in paths if (file := _read(path)) is not None]
    if not found:
        raise LFADSError(
            f"{source}: holds no results; {to_train('kind=posterior_sample_and_average')} "
            "output.lfads_save_dir=RUN writes them"
        )
    return found


def _read(path: Path) -> RunFile | None:
    try:
        with h5py.File(path) as file:
            attributes = {name: _python(value) for name, value in file.attrs.items()}
            kind = attributes.get("kind")
            if not isinstance(kind, str) or kind not in (*POSTERIOR_KINDS, Kind.prior_sample.name):
                return None
            said = {"session", "split"} if kind in POSTERIOR_KINDS else set()
            if missing := sorted(n for n in said if not isinstance(attributes.get(n), str)):
                raise LFADSError(
                    f"{path}: does not say its {' and '.join(missing)}; run the kind again"
                )
            for name in said:
                check_name(attributes[name], str(path), f"a {name}")
            arrays, about = {}, {}
            for name in file:
                if not name.isidentifier() or name in ("file", "allow_pickle"):  # args of np.savez
                    raise LFADSError(
                        f"{path}: {ascii(name)[:80]} is not a result of a kind; remove it"
                    )
                dataset = own_dataset(file, name, f"{path}: {name}")
                text = h5py.check_string_dtype(dataset.dtype) is not None
                arrays[name] = np.asarray(dataset.asstr()[()], dtype=str) if text else dataset[()]
                about[name] = {k: _python(v) for k, v in dataset.attrs.items()}
            return RunFile(path, arrays, about, attributes)
    except (OSError, KeyError) as error:
        raise LFADSError(f"{path}: cannot be read ({error}); run the kind again") from error


def _python(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _written(path: Path, file: RunFile, write: Callable[[Path, RunFile], None]) -> Path:
    with whole_file(path) as temporary:
        write(temporary, file)
    return path


def _info(file: RunFile) -> dict[str, Any]:
    """Return all attributes of the file and its arrays, in plain types."""
    return file.attributes | {
        f"{what}_of": {name: about[what] for name, about in file.about.items() if what in about}
        for what in ("units", "meaning", "to_hz")
    }


def _write_npz(path: Path, file: RunFile) -> None:
    with path.open("wb") as handle:
        arrays: dict[str, Any] = file.arrays | {"info": np.array(json.dumps(_info(file)))}
        np.savez_compressed(handle, **arrays)


def _write_mat(path: Path, file: RunFile) -> None:
    # scipy.io takes a while to import
    from scipy.io import savemat

    arrays: dict[str, Any] = {}
    for name, array in file.arrays.items():
        array = np.asarray(array)
        if array.nbytes > MOST_MAT_BYTES:
            raise LFADSError(
                f"{file.path}: {name} has {array.nbytes / 2**30:.1f} GiB, but MATLAB's v5 format "
                "takes 2 GiB per variable; read the .h5 file with h5read, or write fewer trials "
                "(sampling.ps_nexamples_to_process)"
            )
        # strings as a cell array, vectors as columns
        arrays[name] = array.astype(object) if array.dtype.kind == "U" else array
    info = {key: value for key, value in _info(file).items() if value != {}}
    with path.open("wb") as handle:
        savemat(handle, arrays | {"info": info}, do_compression=True, oned_as="column",
                long_field_names=True)  # fmt: skip
