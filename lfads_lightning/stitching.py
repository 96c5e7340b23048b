""":func:`align`: compute alignment matrices of sessions and write them to their files."""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lfads_lightning.config import SMOOTHING_BINS, LFADSError
from lfads_lightning.data.alignment import (
    Alignment,
    align_same_neurons,
    align_sessions,
)
from lfads_lightning.data.arrays import as_array, check_finite
from lfads_lightning.data.session_files import read_sessions
from lfads_lightning.data.sessions import ALIGNMENT_KEYS, Session, assemble
from lfads_lightning.notebook.interactive import warns_in_short
from lfads_lightning.runs.files import patient_hdf5, whole_file
from lfads_lightning.runs.remote import (
    Paths,
    expanded,
    is_url,
    local_copies,
    within,
)


@warns_in_short
def align(
    data: Paths | Mapping[str, ArrayLike],
    condition: Mapping[str, ArrayLike] | None = None,
    *,
    factors_dim: int,
    smoothing_bins: float = SMOOTHING_BINS,
    ridge: float | str = 0.0,
    same_neurons: bool = False,
    to: Paths = (),
    out: str | Path | None = None,
    figure: str | Path | None = None,
) -> Alignment:
    """Align sessions by principal-components regression; write the matrices to their files.

    Args:
        data: session files (``s3://…`` too), to which the matrices are written, or {session:
            (E, T, D) training counts}, whose matrices are passed to ``fit(...,
            alignment_matrix_cxf=a.alignment_matrix_cxf, alignment_bias_c=a.alignment_bias_c)``.
        condition: {session: (E,) labels} for arrays; files hold theirs as ``train_condition``.
        factors_dim: F, the value that ``model.factors_dim`` will have.
        smoothing_bins: standard deviation in bins of the Gaussian that smooths the averages over
            time; 0: none.
        ridge: weight of ``|W|^2`` in the regression; 0: least squares; ``"cv"``: chosen by
            cross-validation over conditions.
        same_neurons: the sessions have the same neurons: one matrix for all, no conditions needed.
        to: files of sessions that are aligned already; they are not changed, and the others are
            aligned to their components: for a new session of a trained model.
        out: folder for copies of the files; by default the files themselves are changed.
        figure: path of a PNG that shows how well each session matches the common components.

    Returns:
        Matrices, biases and quality of the alignment, by session.

    Raises:
        LFADSError: labels or shared conditions are missing, F is too large, or a file cannot be
            written. In that case no file is changed.
    """
    if not isinstance(data, Mapping) and condition is not None:
        raise LFADSError("align: condition is for arrays; for files, put train_condition into them")
    with local_copies() as copies:
        sessions, files = [], []
        if isinstance(data, Mapping):
            if out is not None:
                raise LFADSError(
                    "align: out is for files; matrices of arrays are returned; leave it out"
                )
            sessions = [_from_arrays(n, d, (condition or {}).get(n)) for n, d in data.items()]
        else:
            files = expanded(data)
        by_path = [(path, read_sessions(path)) for path in map(copies.get, files)]
        sessions += [s for _, found in by_path for s in found]
        fixed = [s for path in expanded(to) for s in read_sessions(copies.get(path))]
        found = _found(sessions, fixed, factors_dim, smoothing_bins, ridge, same_neurons)
        made_by = (
            f"lfads-align {version('lfads-lightning')}: {len(sessions)} sessions, factors_dim="
            f"{factors_dim}, smoothing_bins={smoothing_bins:g}, ridge={ridge}, "
            + ("same neurons" if same_neurons else f"{len(found.conditions)} shared conditions")
        )
        targets = [target_of(path, out) for path in files]
        for i, target in enumerate(targets):
            if target in targets[:i]:
                raise LFADSError(f"{target}: two of the files would be written there; rename one")
        _write(by_path, list(map(copies.output, targets)), found, made_by)
        if figure is not None:
            # here, because matplotlib takes a second to import
            from lfads_lightning.report.alignment_figure import alignment_figure

            alignment_figure(copies.output(figure), found)
        copies.send()
    return found


def _found(
    sessions: list[Session],
    fixed: list[Session],
    factors_dim: int,
    smoothing_bins: float,
    ridge: float | str,
    same_neurons: bool,
) -> Alignment:
    if not sessions:
        raise LFADSError("align: no sessions are given")
    for s in [*sessions, *fixed]:
        if s.train.data.dtype.kind == "f":
            check_finite(f"{s.source}: train_data", s.train.data)
    if not same_neurons:
        return align_sessions(
            sessions, factors_dim, smoothing_bins=smoothing_bins, ridge=ridge, to=fixed
        )
    if fixed or ridge:
        raise LFADSError("align: same_neurons needs no regression: leave out ridge and to")
    return align_same_neurons(sessions, factors_dim, smoothing_bins=smoothing_bins)


def _from_arrays(name: str, data: ArrayLike, condition: ArrayLike | None) -> Session:
    source = f"session '{name}'"
    arrays = {"train_data": as_array(source, "train_data", data)}
    if condition is not None:
        arrays["train_condition"] = as_array(source, "train_condition", condition)
    return assemble(name, source, arrays)


def _write(
    by_path: list[tuple[Path, list[Session]]], targets: list[Path], found: Alignment, made_by: str
) -> None:
    """Write every file under a temporary name, and rename them when all are complete."""
    with ExitStack() as stack:
        for (path, sessions), target in zip(by_path, targets, strict=True):
            unfinished = stack.enter_context(whole_file(target))
            shutil.copyfile(path, unfinished)
            for s in sessions:
                group = s.source.removeprefix(str(path)).removeprefix(":")
                matrix, bias = (getattr(found, key)[s.name] for key in ALIGNMENT_KEYS)
                _put(unfinished, group, matrix, bias, made_by)


def target_of(path: str | Path, out: str | Path | None) -> str | Path:
    """Return the path to write a session file to: in ``out``, or its own path."""
    if out is not None:
        return within(out, Path(path).name)
    return path if is_url(path) else Path(path).resolve()


def _put(path: Path, group: str, matrix: np.ndarray, bias: np.ndarray, made_by: str) -> None:
    with path.open("rb") as raw:
        matlab = raw.read(6) == b"MATLAB"
    with patient_hdf5(path, "r+") as file:
        place = file[group] if group else file
        data = next(place[key] for key in place if key.lower() == "train_data")
        for key in [key for key in place if key.lower() in ALIGNMENT_KEYS]:
            del place[key]
        turned = matlab or "MATLAB_class" in data.attrs  # MATLAB reverses the order of axes
        for key, array in zip(ALIGNMENT_KEYS, (matrix, bias), strict=True):
            dataset = place.create_dataset(key, data=np.atleast_2d(array).T if turned else array)
            if turned:
                dataset.attrs["MATLAB_class"] = np.bytes_("double")
            dataset.attrs["made_by"] = made_by
