"""The folders of runs, searches and sweeps: where each file in them is.

A folder of another version, or of somebody else, has the same files.
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

from lfads_lightning.commands import listed
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

# of a folder's entries, those that our programs read or write, beside results and data (*.h5)
_OUR_FOLDERS = (CHECKPOINTS, FIGURES, TENSORBOARD, MEMBERS, BEST, TRIED)
_OUR_SUFFIXES = (".csv", ".json", ".yaml", ".html", ".ckpt")
_OUR_PREFIXES = (LOCK, ID)


@dataclass(frozen=True, repr=False)
class Run:
    """A run's folder on this machine, and its copy in a store where it has one.

    Its properties are the paths of its files, whether they are there or not.

    >>> Run(Path("outputs/first")).checkpoints.as_posix()
    'outputs/first/checkpoints'

    Attributes:
        folder: of the run.
    """

    folder: Path

    def __post_init__(self) -> None:
        """Take a text for a path."""
        object.__setattr__(self, "folder", Path(self.folder))

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run by the path of its folder, or by its address in a store (``s3://…``).

        What the store holds and the local folder, ``outputs/s3/…``, does not, is fetched.

        Raises:
            LFADSError: the store does not answer, or both copies went on since they were last
                alike; a link leads out of the folder.
        """
        run = cls.at(path)
        run.check_links()
        if is_url(path):
            mirrors.Mirror(run.folder, str(path)).pull()
        return run

    @classmethod
    def at(cls, path: str | Path) -> "Run":
        """Return the run at a path or an address, without a look at either."""
        return cls(local_run(path))

    @classmethod
    @contextmanager
    def new(cls, path: str | Path) -> Iterator["Run"]:
        """Give a folder to one run alone: ``path``, or ``path-2`` and so on where that is taken.

        Jobs of a cluster start in the same second. An empty config.yaml, which the run fills, takes
        the folder; if an error comes before that, both are removed.
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
        """Return the folder, and how far the run is: ``Run('outputs/a', 1200 updates)``."""
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
        """All its parameters."""
        return self.folder / CONFIG

    @property
    def metrics(self) -> Path:
        """Costs and rates of learning, a row per epoch."""
        return self.folder / METRICS

    def log(self, name: str) -> Path:
        """Return the log in the original's format, ``output.csv_log``."""
        return self.folder / f"{name}.csv"

    @property
    def scores(self) -> Path:
        """What training ended with."""
        return self.folder / SCORES

    @property
    def evaluation(self) -> Path:
        """The model beside simple methods."""
        return self.folder / EVALUATION

    @property
    def unfinished_scores(self) -> Path:
        """The sessions scored so far, for an end that was cut off."""
        return self.folder / UNFINISHED_SCORES

    @property
    def report(self) -> Path:
        """The report, a web page."""
        return self.folder / REPORT

    @property
    def report_record(self) -> Path:
        """What the report says and cannot be found again: the machine, warnings."""
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
        """What the structures came to that were tried before it."""
        return self.folder / TRIED_RECORD

    def candidate(self, name: str) -> "Run":
        """Return the run of a structure that was tried before it."""
        return Run(self.folder / TRIED / name)

    def results(self, stem: str, *words: str) -> Path:
        """Return the results of a kind: session, split and kind are the words.

        Args:
            stem: ``output.output_filename_stem``; empty for ``model_runs``.
            *words: what the file holds.
        """
        return self.folder / f"{'_'.join([stem or RESULTS, *words])}.h5"

    def weights(self, stem: str) -> Path:
        """Return the weights under the original's names, as ``kind=write_model_params`` does."""
        return self.folder / f"{stem}_{WEIGHTS}.h5" if stem else self.folder / f"{WEIGHTS}.h5"

    @property
    def submission(self) -> Path:
        """The rates as the Neural Latents Benchmark takes them."""
        return self.folder / f"{SUBMISSION}.h5"

    # ---- what it holds

    @property
    def has_begun(self) -> bool:
        """Whether there is a run in the folder."""
        return self.config.is_file()

    def chosen(self) -> "Run":
        """Return the run itself; of a search, that of its best member, once it has ended."""
        best = Search(self.folder).best
        return best if best.has_begun else self

    def read_config(self) -> Config | None:
        """Read its parameters; None where there are none, or where it never began.

        Raises:
            LFADSError: the file is damaged or holds what this version does not know.
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
        """Read what training ended with; None where it has not ended, or the file holds no scores.

        Raises:
            LFADSError: the file cannot be read, or is not JSON.
        """
        try:
            scores = read_json(self.scores)
        except FileNotFoundError:
            return None
        return scores if isinstance(scores, dict) else None

    def write_scores(self, scores: Mapping[str, Any]) -> None:
        """Write what training ended with; JSON has no NaN, so null stands for it."""
        plain = {
            k: None if isinstance(v, float) and math.isnan(v) else v for k, v in scores.items()
        }
        with whole_file(self.scores) as path:
            path.write_text(json.dumps(plain, indent=1))

    def read_metrics(self) -> dict[str, np.ndarray]:
        """Read its costs and rates: name to (epochs,), NaN where a cell is empty.

        There is nothing in it where the run never began.
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
        """Copy what has been written to the run's store at the end, also where the run fails."""
        return mirrors.mirrored(self.folder)

    def push(self) -> None:
        """Copy what has been written so far to the run's store, where it has one.

        Raises:
            LFADSError: no answer; says how to go on.
        """
        mirrors.push(self.folder)

    @property
    def address(self) -> str | None:
        """Where in a store the run belongs; None where it belongs to none."""
        mirror = mirrors.mirror_of(self.folder)
        return None if mirror is None else mirror.store.url

    def check_links(self) -> None:
        """Refuse a folder in which links lead out of it, or things stand in for files.

        Whoever sends a folder could have others' files read, or written to, by them. A folder of
        data in which a run lies may hold any: only what our programs would touch is looked at.

        Raises:
            LFADSError: there is one.
        """
        root = self.folder.resolve()
        check_links(root, root, any_name if os.path.lexists(root / COMMAND) else _is_ours)

    def check_data_place(self, data_dir: str | None, typed: str) -> None:
        """Refuse the data that its config names, if this user has not trained it on them here.

        Args:
            data_dir: as its config names it.
            typed: the option that names other data.

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
        """What has been planned, and what came of it."""
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
        """Return the run of a member, which goes on in every generation."""
        return Run(self.folder / MEMBERS / f"{number:02d}")

    def checkpoint_of(self, member: int, generation: int) -> Path:
        """Return the checkpoint of a member after a generation."""
        return self.member(member).folder / f"generation-{generation:04d}.ckpt"


class Job(Run):
    """A run of a sweep."""

    @property
    def settings(self) -> Path:
        """What of its parameters the sweep has set."""
        return self.folder / JOB

    @property
    def error(self) -> Path:
        """Why it failed."""
        return self.folder / ERROR

    def read_scores(self) -> dict[str, Any] | None:
        """Read what training ended with, or of a search, that of its best member."""
        own = super().read_scores()
        return Search(self.folder).best.read_scores() if own is None else own


@dataclass(frozen=True)
class Sweep:
    """The folder of a sweep.

    Attributes:
        folder: of the sweep.
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
