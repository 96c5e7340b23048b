"""The report of a run, a sweep or a search, written anew from its folder."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfads_lightning import params
from lfads_lightning.config import LFADSError
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.provenance import check_data_place
from lfads_lightning.search import sweeps

if TYPE_CHECKING:
    from lfads_lightning.inference.trained import Trained
    from lfads_lightning.report.run_report import Inferred

SEARCH_FILES = ("history.csv", "search.json")


def write_report(folder: Path, data_dir: str | None = None) -> Path:
    """Write the report of whatever lies in a folder; return its path.

    Args:
        folder: of a run, a sweep or a search.
        data_dir: of a run, its data; None: where its config says, if they were used here.

    Raises:
        LFADSError: it holds no run, sweep or search, or one that has not come far enough.
    """
    if not folder.is_dir():
        raise LFADSError(f"{folder}: no such folder; give that of a run, a sweep or a search")
    if (folder / sweeps.COMMAND).is_file():
        # torch is imported only now: mistakes are answered at once
        from lfads_lightning.report.search_report import write_sweep_report

        write_sweep_report(folder)
    elif any((folder / name).is_file() for name in SEARCH_FILES):
        from lfads_lightning.report.search_report import write_search_report

        write_search_report(folder)
    elif (folder / "config.yaml").is_file():
        _write_run(folder, data_dir)
    else:
        raise LFADSError(
            f"{folder}: holds no run (config.yaml), sweep ({sweeps.COMMAND}) or search "
            f"({SEARCH_FILES[0]}); give the folder that was printed when it began"
        )
    return folder / sweeps.REPORT


def _write_run(folder: Path, data_dir: str | None) -> None:
    config = params.read_config(folder)
    if config is None:
        raise LFADSError(f"{folder}: is a run that never began; there is nothing to report")
    from lfads_lightning.inference.trained import load
    from lfads_lightning.report import about
    from lfads_lightning.report.run_report import write_run_report
    from lfads_lightning.training.checkpoints import LOWEST, PERIODIC, find_checkpoint

    lowest = find_checkpoint(folder, LOWEST) is not None
    trained = load(folder, LOWEST if lowest else PERIODIC)
    trained.config.data = config.data
    inferred: Inferred | str
    try:
        if data_dir is None:
            check_data_place(folder, config.data.data_dir, "--data-dir")
        else:
            trained.config.data.data_dir = data_dir
        inferred = _inferred(trained)
    except LFADSError as error:
        warnings.warn(str(error), stacklevel=2)
        inferred = f"The data were not read, so that figures of them are left out ({error})."
    write_run_report(
        folder,
        config,
        _scores(folder),
        trained.step,
        inferred,
        about.read_record(folder),
    )


def _scores(folder: Path) -> dict[str, Any]:
    try:
        scores = read_json(folder / "scores.json")
    except FileNotFoundError:
        return {}  # cut off before its end
    except LFADSError as error:
        raise LFADSError(f"{error}; delete it for a report without scores") from error
    return scores if isinstance(scores, dict) else {}


def _inferred(trained: "Trained") -> "Inferred | str":
    """Read the data of a run again; or say why that cannot be done."""
    from lfads_lightning.data.datamodule import load_data
    from lfads_lightning.data.scored import scored_sessions
    from lfads_lightning.inference.posterior import judged
    from lfads_lightning.report.run_report import Inferred

    data = trained.config.data
    if data.data_dir is None and not data.data_filename_stem:
        return "The data were given from Python and are in no file: figures of them are left out."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were said at training
            sessions = scored_sessions(trained.fitting(load_data(trained.config)))
    except LFADSError as error:
        return f"The data could not be read, so that figures of them are left out ({error})."
    split = "valid" if any(s.valid is not None for s in sessions) else "train"
    posteriors = {
        s.name: judged(
            trained.evaluation(), s.name, s.splits[split].data, s.splits[split].ext_input
        )
        for s in sessions
        if split in s.splits
    }
    return Inferred(trained.evaluation(), sessions, split, posteriors)
