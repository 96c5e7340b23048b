"""Writing the report of a run, a sweep or a search again, from its folder."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfads_lightning.config import LFADSError
from lfads_lightning.runs.names import COMMAND, CONFIG, HISTORY
from lfads_lightning.runs.provenance import is_known
from lfads_lightning.runs.run import Run, Search, Sweep

if TYPE_CHECKING:
    from lfads_lightning.data.sessions import Session
    from lfads_lightning.inference.trained import TrainedModel
    from lfads_lightning.report.run_report import Inferred


def write_report(folder: Path, data_dir: str | None = None) -> Path:
    """Write the report of the run, sweep or search in a folder; return its path.

    Args:
        folder: folder of a run, a sweep or a search.
        data_dir: folder of a run's data; None: the one in its config, if it was used here.

    Raises:
        LFADSError: the folder contains no run, sweep or search, or there is nothing to report yet.
    """
    if not folder.is_dir():
        raise LFADSError(f"{folder}: no such folder; give that of a run, a sweep or a search")
    if Sweep(folder).is_there:
        # torch is imported only now, so that mistakes are reported at once
        from lfads_lightning.report.search_report import write_sweep_report

        write_sweep_report(folder)
    elif Search(folder).is_there:
        from lfads_lightning.report.search_report import write_search_report

        write_search_report(folder)
    elif Run(folder).has_begun:
        _write_run(Run(folder), data_dir)
    else:
        raise LFADSError(
            f"{folder}: contains no run ({CONFIG}), sweep ({COMMAND}) or search "
            f"({HISTORY}); give the folder that was printed when it began"
        )
    return Run(folder).report


def _write_run(run: Run, data_dir: str | None) -> None:
    config = run.read_config()
    if config is None:
        raise LFADSError(f"{run.folder}: this run never began, so there is nothing to report")
    from lfads_lightning.inference.trained import load
    from lfads_lightning.report import about
    from lfads_lightning.report.run_report import write_run_report
    from lfads_lightning.training.checkpoint_files import best_index

    trained = load(run.folder, best_index(run.folder))
    trained.config.data = config.data
    inferred: Inferred | str
    try:
        if data_dir is None:
            run.check_data_place(config.data.data_dir, "--data-dir")
        else:
            trained.config.data.data_dir = data_dir
        inferred = _inferred(trained)
    except LFADSError as error:
        warnings.warn(str(error), stacklevel=2)
        inferred = f"The data were not read, so their figures are left out ({error})."
    write_run_report(
        run.folder,
        config,
        _scores(run),
        trained.step,
        inferred,
        about.read_record(run.folder),
    )


def _scores(run: Run) -> dict[str, Any]:
    try:
        return run.read_scores() or {}  # interrupted before its end
    except LFADSError as error:
        raise LFADSError(f"{error}; delete it for a report without scores") from error


def own_sessions(trained: "TrainedModel") -> "list[Session]":
    """Read the data that a run was trained on.

    Raises:
        LFADSError: the data are not in a file, cannot be read, or are named by somebody else.
    """
    from lfads_lightning.data.loading import load_data

    assert trained.folder is not None
    data = (Run(trained.folder).read_config() or trained.config).data
    if data.data_dir is None and not data.data_filename_stem:
        raise LFADSError(
            f"{trained.folder}: the data were given in Python, not as a file; give them again"
        )
    if data.data_dir is not None and not is_known(trained.folder, "data_dir", data.data_dir):
        raise LFADSError(
            f"{Run(trained.folder).config}: names data.data_dir={data.data_dir}, which you have "
            "not used with it on this machine (it was sent to you, moved, or made by an older "
            "version); give the data"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were said at training
        return trained.fitting(load_data(replace(trained.config, data=data)))


def _inferred(trained: "TrainedModel") -> "Inferred | str":
    """Read the data of a run again; or return a sentence on why that is impossible."""
    from lfads_lightning.data.loading import load_data
    from lfads_lightning.data.scored import scored_sessions
    from lfads_lightning.inference.posterior import judged
    from lfads_lightning.report.run_report import Inferred

    data = trained.config.data
    if data.data_dir is None and not data.data_filename_stem:
        return "The data were given in Python and are not in a file, so their figures are left out."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were said at training
            sessions = scored_sessions(trained.fitting(load_data(trained.config)))
    except LFADSError as error:
        return f"The data could not be read, so their figures are left out ({error})."
    split = "valid" if any(s.valid is not None for s in sessions) else "train"
    posteriors = {
        s.name: judged(trained.evaluation(), s.name, s.splits[split])
        for s in sessions
        if split in s.splits
    }
    return Inferred(trained.evaluation(), sessions, split, posteriors)
