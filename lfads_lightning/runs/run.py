"""The folders of runs, searches and sweeps: where each file in them is.

The layout is the same for every version and every user.
"""

import itertools
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lfads_lightning.commands import listed, override, to_train
from lfads_lightning.config import Config, LFADSError
from lfads_lightning.notebook import cards
from lfads_lightning.params import from_dict, settings_of, to_dict
from lfads_lightning.runs import mirrors
from lfads_lightning.runs.documents import read_document, read_json, read_rows
from lfads_lightning.runs.files import whole_file, writing
from lfads_lightning.runs.links import any_name, check_links
from lfads_lightning.runs.lock import LOCK, run_lock
from lfads_lightning.runs.names import (
    BEST,
    CHECKPOINTS,
    COMMAND,
    CONFIG,
    ERROR,
    EVALUATION,
    FIGURES,
    HISTORY,
    JOB,
    JOURNAL,
    MEMBERS,
    METRICS,
    RANKING,
    REPORT,
    REPORT_RECORD,
    RESULTS,
    SCORES,
    SUBMISSION,
    TENSORBOARD,
    TRIED,
    TRIED_RECORD,
    UNFINISHED_SCORES,
    WEIGHTS,
)
from lfads_lightning.runs.provenance import ID, NOT_FOLLOWED, is_known
from lfads_lightning.runs.remote import is_url, local_run

# entries of a folder that our programs read or write, besides results and data (*.h5)
_OUR_FOLDERS = (CHECKPOINTS, FIGURES, TENSORBOARD, MEMBERS, BEST, TRIED)
_OUR_SUFFIXES = (".csv", ".json", ".yaml", ".html", ".ckpt")
_OUR_PREFIXES = (LOCK, ID)


@dataclass(frozen=True, repr=False)
class Run:
    """A run's folder on this machine, and its copy in a store if it has one.

    Its properties are the paths of its files, whether they exist or not.

    >>> Run(Path("outputs/first")).checkpoints.as_posix()
    'outputs/first/checkpoints'

    Attributes:
        folder: the run's folder.
    """

    folder: Path

    def __post_init__(self) -> None:
        """Accept a string as path."""
        object.__setattr__(self, "folder", Path(self.folder))

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run by the path of its folder, or by its address in a store (``s3://…``).

        Files in the store that the local folder, ``outputs/s3/…``, lacks are fetched.

        Raises:
            LFADSError: the store does not answer, both copies have changed since they were last
                the same, or a link leads out of the folder.
        """
        run = cls.at(path)
        run.check_links()
        if is_url(path):
            mirrors.Mirror(run.folder, str(path)).pull()
        return run

    @classmethod
    def at(cls, path: str | Path) -> "Run":
        """Return the run at a path or an address, without accessing it."""
        return cls(local_run(path))

    @classmethod
    @contextmanager
    def new(cls, path: str | Path) -> Iterator["Run"]:
        """Reserve a folder for one run: ``path``, or ``path-2`` and so on if that is taken.

        Jobs on a cluster may start within the same second. An empty config.yaml, which the run
        fills later, reserves the folder; on an error before that, both are removed.
        """
        for n in itertools.count(1):
            run = cls(Path(path) if n == 1 else Path(f"{path}-{n}"))
            with writing(run.folder):
                run.folder.mkdir(parents=True, exist_ok=True)
                try:
                    run.config.open("x").close()
                except FileExistsError:
                    continue
            break
        try:
            yield run
        except BaseException:
            if run.config.is_file() and run.config.stat().st_size == 0:
                run.config.unlink()
                with suppress(OSError):
                    run.folder.rmdir()
            raise

    def __repr__(self) -> str:
        """Return the folder and the run's progress: ``Run('outputs/a', 1200 updates)``."""
        try:
            scores = self.read_scores() or {}
        except LFADSError:
            scores = {}
        updates, criterion = scores.get("updates"), scores.get("criterion")
        told = [] if updates is None else [f"{updates} updates"]
        if isinstance(criterion, float) and math.isfinite(criterion):
            told.append(f"criterion {criterion:.4g}")
        return f"{type(self).__name__}({', '.join([repr(str(self.folder)), *told])})"

    def _repr_html_(self) -> str:
        try:
            config, scores = self.read_config(), self.read_scores() or {}
        except LFADSError as error:
            return cards.card(repr(self), cards.facts({"damaged": str(error)}))
        told = {
            name: f"{value:.4g}" if isinstance(value, float) else value
            for name, value in scores.items()
            if isinstance(value, float | int | str) and value != ""
        }
        chosen = settings_of(config) if config is not None else {}
        metrics = self.read_metrics()
        split = "valid" if "valid/total" in metrics else "train"
        curve = metrics.get(f"{split}/total", np.zeros(0))
        return cards.card(
            f"{type(self).__name__} {self.folder}",
            cards.facts({"settings": listed([f"{k}={v}" for k, v in chosen.items()], 12)}),
            cards.lines([curve[len(curve) // 10 :]], f"{split}/total over epochs, nats per trial"),
            cards.folded("scores", cards.facts(told)) if told else "",
        )

    # ---- its files

    @property
    def config(self) -> Path:
        """All parameters of the run."""
        return self.folder / CONFIG

    @property
    def metrics(self) -> Path:
        """Costs and learning rates, a row per epoch."""
        return self.folder / METRICS

    def log(self, name: str) -> Path:
        """Return the log in the original's format, ``output.csv_log``."""
        return self.folder / f"{name}.csv"

    @property
    def scores(self) -> Path:
        """Scores and criterion at the end of training."""
        return self.folder / SCORES

    @property
    def evaluation(self) -> Path:
        """Scores of the model and of simple methods."""
        return self.folder / EVALUATION

    @property
    def unfinished_scores(self) -> Path:
        """The sessions scored so far, kept in case scoring is interrupted."""
        return self.folder / UNFINISHED_SCORES

    @property
    def report(self) -> Path:
        """The report, a web page."""
        return self.folder / REPORT

    @property
    def report_record(self) -> Path:
        """What the report needs and no other file has: the machine, warnings."""
        return self.folder / REPORT_RECORD

    @property
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.folder / FIGURES

    @property
    def tensorboard(self) -> Path:
        """The folder that TensorBoard reads."""
        return self.folder / TENSORBOARD

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints and of the indexes that list them."""
        return self.folder / CHECKPOINTS

    @property
    def candidates_record(self) -> Path:
        """Results of the structures and learning rates that were tried."""
        return self.folder / TRIED_RECORD

    def candidate(self, name: str) -> "Run":
        """Return the run of a structure or a learning rate that was tried."""
        return Run(self.folder / TRIED / name)

    def results(self, stem: str, *words: str) -> Path:
        """Return the path of a results file.

        Args:
            stem: ``output.output_filename_stem``; empty for ``model_runs``.
            *words: session, split and kind, which make up the name.
        """
        return self.folder / f"{'_'.join([stem or RESULTS, *words])}.h5"

    def weights(self, stem: str) -> Path:
        """Return the file of weights that ``kind=write_model_params`` writes."""
        return self.folder / f"{stem}_{WEIGHTS}.h5" if stem else self.folder / f"{WEIGHTS}.h5"

    @property
    def submission(self) -> Path:
        """The rates in the format of the Neural Latents Benchmark."""
        return self.folder / f"{SUBMISSION}.h5"

    # ---- what it holds

    @property
    def has_begun(self) -> bool:
        """Whether there is a run in the folder."""
        return self.config.is_file()

    def chosen(self) -> "Run":
        """Return the run itself; for a search, the run of its best member once it has ended."""
        best = Search(self.folder).best
        return best if best.has_begun else self

    def read_config(self) -> Config | None:
        """Read the run's parameters; None if there are none, or if the run never began.

        Raises:
            LFADSError: the file is damaged, or this version does not know something in it.
        """
        path = self.config
        if not path.is_file():
            return None
        if path.stat().st_size == 0 and not self.checkpoints.exists():
            return None
        nested = read_document(path.read_bytes(), str(path))
        if not isinstance(nested, dict):
            raise LFADSError(f"{path}: holds no parameters; restore it, or start in another folder")
        return from_dict(nested, str(path))

    def write_config(self, config: Config) -> None:
        """Write all parameters."""
        with whole_file(self.config) as path:
            path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False))

    def read_scores(self) -> dict[str, Any] | None:
        """Read the scores; None if training has not ended, or the file holds no scores.

        Raises:
            LFADSError: the file cannot be read, or is not JSON.
        """
        try:
            scores = read_json(self.scores)
        except FileNotFoundError:
            return None
        return scores if isinstance(scores, dict) else None

    def write_scores(self, scores: Mapping[str, Any]) -> None:
        """Write the scores; JSON has no NaN, so null stands for it."""
        plain = {
            k: None if isinstance(v, float) and math.isnan(v) else v for k, v in scores.items()
        }
        with whole_file(self.scores) as path:
            path.write_text(json.dumps(plain, indent=1))

    def read_metrics(self) -> dict[str, np.ndarray]:
        """Read costs and learning rates: name to (epochs,), NaN where a cell is empty.

        The dictionary is empty if the run never began.
        """
        rows = read_rows(self.metrics)
        names = [name for name in (rows[0] if rows else {}) if name]
        return {name: np.array([_number(row.get(name)) for row in rows]) for name in names}

    # ---- who may do what with it

    def locked(self, wait_s: float = 0.0) -> AbstractContextManager[None]:
        """Keep every other process out of the folder while this one works there.

        Args:
            wait_s: how long to wait for a process that is about to end.

        Raises:
            LFADSError: another process is at work there, or the folder cannot be written.
        """
        return run_lock(self.folder, wait_s)

    def mirrored(self) -> AbstractContextManager[None]:
        """Copy what has been written to the run's store at the end, even if the run fails."""
        return mirrors.mirrored(self.folder)

    def push(self) -> None:
        """Copy what has been written so far to the run's store, if it has one.

        Raises:
            LFADSError: the store does not answer; the message says how to continue.
        """
        mirrors.push(self.folder)

    @property
    def address(self) -> str | None:
        """The run's address in a store; None if it has none."""
        mirror = mirrors.mirror_of(self.folder)
        return None if mirror is None else mirror.store.url

    def check_links(self) -> None:
        """Refuse a folder with links that lead out of it, or with entries such as devices.

        With links, the sender of a folder could make us read or write other files. A run may lie
        in a folder of data with any links, so only entries that our programs touch are checked.

        Raises:
            LFADSError: there is one.
        """
        root = self.folder.resolve()
        check_links(root, root, any_name if os.path.lexists(root / COMMAND) else _is_ours)

    def check_data_place(self, data_dir: str | None, typed: str) -> None:
        """Refuse the data that the config names, if this user has not trained the run on them.

        Args:
            data_dir: the path or address in the config.
            typed: the option by which the user can name the data.

        Raises:
            LFADSError: says what to type.
        """
        if data_dir is not None and not is_known(self.folder, "data_dir", data_dir):
            raise LFADSError(
                NOT_FOLLOWED.format(
                    where=self.config,
                    parameter="data.data_dir",
                    value=data_dir,
                    typed=f"{typed} {shlex.quote(data_dir)}",
                )
            )


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:  # a line cut off by a crash
        return float("nan")


def _is_ours(name: str) -> bool:
    return name in _OUR_FOLDERS or name.endswith(_OUR_SUFFIXES) or name.startswith(_OUR_PREFIXES)


class Search(Run):
    """The folder of a population-based search."""

    @property
    def journal(self) -> Path:
        """Plans and results of the generations."""
        return self.folder / JOURNAL

    @property
    def history(self) -> Path:
        """The score and settings of every member after every generation."""
        return self.folder / HISTORY

    @property
    def is_there(self) -> bool:
        """Whether there is a search in the folder."""
        return self.history.is_file() or self.journal.is_file()

    @property
    def best(self) -> Run:
        """The run of the best member."""
        return Run(self.folder / BEST)

    @property
    def best_checkpoint(self) -> Path:
        """The best checkpoint so far."""
        return self.folder / f"{BEST}.ckpt"

    def member(self, number: int) -> Run:
        """Return the run of a member, which continues in every generation."""
        return Run(self.folder / MEMBERS / f"{number:02d}")

    def checkpoint_of(self, member: int, generation: int) -> Path:
        """Return the checkpoint of a member after a generation."""
        return self.member(member).folder / f"generation-{generation:04d}.ckpt"


class Job(Run):
    """A run of a sweep."""

    @property
    def settings(self) -> Path:
        """The parameters that the sweep has set."""
        return self.folder / JOB

    @property
    def error(self) -> Path:
        """Why the job failed."""
        return self.folder / ERROR

    def read_scores(self) -> dict[str, Any] | None:
        """Read the scores of the run, or, for a search, of its best member."""
        own = super().read_scores()
        return Search(self.folder).best.read_scores() if own is None else own


@dataclass(frozen=True)
class Sweep:
    """The folder of a sweep.

    Attributes:
        folder: the sweep's folder.
    """

    folder: Path

    @property
    def command(self) -> Path:
        """The command line, and where it was typed."""
        return self.folder / COMMAND

    @property
    def is_there(self) -> bool:
        """Whether there is a sweep in the folder."""
        return self.command.is_file()

    @property
    def ranking(self) -> Path:
        """The jobs by criterion, lowest first."""
        return self.folder / RANKING

    @property
    def report(self) -> Path:
        """The report, a web page."""
        return self.folder / REPORT

    @property
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.folder / FIGURES

    def jobs(self) -> list[Job]:
        """Return the jobs that have begun, in no order."""
        return [Job(path.parent) for path in self.folder.glob(f"*/{JOB}")]

    def locked(self) -> AbstractContextManager[None]:
        """Keep every other process out of the folder, as :meth:`Run.locked` does."""
        return run_lock(self.folder)


def run_of_best(run: Run) -> Run:
    """Return the run of a search's best member; for any other run, the run itself.

    Raises:
        LFADSError: the search has not ended.
    """
    if not Search(run.folder).history.is_file():
        return run
    best = run.chosen()
    if best is run:
        raise LFADSError(
            f"{run.folder}: is a search that has not ended; to continue it: "
            + to_train(override("output.lfads_save_dir", run.folder))
        )
    return best
