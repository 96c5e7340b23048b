"""Score the model of a run and simple methods, and write the scores to the run's folder."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lfads_lightning import params
from lfads_lightning.config import LFADSError
from lfads_lightning.evaluation.table import EvaluationTable
from lfads_lightning.runs.names import CONFIG, EVALUATION
from lfads_lightning.runs.remote import is_url
from lfads_lightning.runs.run import Run


class Evaluated(NamedTuple):
    """The result of an evaluation.

    Attributes:
        table: the scores.
        path: the file with the scores.
        is_of_other_data: the scores are on other data than the run's own, in a file of their own.
        replaced: whether an older file was replaced.
    """

    table: EvaluationTable
    path: Path
    is_of_other_data: bool
    replaced: bool


def evaluate_run(
    run: Run,
    *,
    session: Sequence[str] = (),
    split: str | None = None,
    samples: int | None = None,
    lag_bins: int = 0,
    metrics: Sequence[str] = (),
    data_dir: str | None = None,
    stem: str | None = None,
    checkpoint: str | None = None,
    device: str = "cpu:0",
) -> Evaluated:
    """Score a run's model and simple methods, and write the scores to the run's folder.

    Args:
        run: a training run or a search.
        session: names of the sessions to score; empty: all.
        split: ``train`` or ``valid``; None: ``valid``, if there are validation trials.
        samples: posterior samples averaged per trial; 0: posterior means; None: as in the run.
        lag_bins: behaviour of bin t + N is decoded from the rates of bin t.
        metrics: metrics to compute; empty: all.
        data_dir: folder of other data than the run was trained on.
        stem: the beginning of their file names.
        checkpoint: name of the checkpoint; None: the one of the lowest validation error, if any.
        device: as ``trainer.device``.

    Raises:
        LFADSError: no such run, no checkpoint in it, its data are missing, or they cannot be
            scored.
    """
    chosen, config = _trained_run(run)
    # torch is imported only now, so that mistakes are reported at once
    from lfads_lightning.data.loading import load_data
    from lfads_lightning.evaluation.scores import evaluate
    from lfads_lightning.inference.trained import load
    from lfads_lightning.model.threads import one_setting_of_threads
    from lfads_lightning.training.checkpoint_files import best_index

    trained = load(chosen.folder, checkpoint or best_index(chosen.folder), device)
    own = _data_of(config)
    if data_dir is not None:
        config.data.data_dir = data_dir
    else:
        chosen.check_data_place(config.data.data_dir, "--data-dir")
    if stem is not None:
        config.data.data_filename_stem = stem
    sessions = load_data(config)
    if session:
        there = {s.name: s for s in sessions}
        if strangers := [name for name in session if name not in there]:
            raise LFADSError(
                f"--session {strangers[0]}: no such session; expected one of {', '.join(there)}"
            )
        sessions = [there[name] for name in session]
    if samples is not None:
        trained.config.sampling.num_score_samples = samples
    with one_setting_of_threads(config.trainer.num_threads):
        table = evaluate(
            trained, sessions, split=split, lag_bins=lag_bins, only=list(metrics) or None
        )
    now = _data_of(config)
    file = EVALUATION if now == own else _file_of(*now)
    replaced = (chosen.folder / file).exists()
    with run.mirrored():
        path = table.write(chosen.folder, file)
    return Evaluated(table, path, now != own, replaced)


def _data_of(config: params.Config) -> tuple[str, str]:
    """Return the folder and the stem of a run's data."""
    folder = config.data.data_dir or ""
    if folder and not is_url(folder):
        folder = str(Path(folder).expanduser().resolve())
    return folder.rstrip("/"), config.data.data_filename_stem


def _file_of(folder: str, stem: str) -> str:
    """Return the file for scores on other data; the scores on the run's own data are kept."""
    label = re.sub(r"[^\w.-]+", "_", "_".join(filter(None, (Path(folder).name, stem))))[:80]
    digest = hashlib.sha256(f"{folder}\n{stem}".encode()).hexdigest()[:6]
    return f"{Path(EVALUATION).stem}_of_{label}_{digest}.json"


def _trained_run(run: Run) -> tuple[Run, params.Config]:
    """Return the run, or the run of a search's best member, and its parameters.

    Raises:
        LFADSError: there is no run.
    """
    run = run.chosen()
    if not run.folder.is_dir():
        raise LFADSError(f"{run.folder}: no such folder; give the folder of a training run")
    config = run.read_config()
    if config is None:
        raise LFADSError(
            f"{run.folder}: contains no run ({CONFIG} is missing); give the folder that training "
            "printed at the end"
        )
    return run, config
