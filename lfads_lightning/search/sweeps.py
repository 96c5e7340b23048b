"""A sweep's folder: its command, its jobs' settings, the ranked table; continuing a sweep.

FOLDER/sweep.yaml       the command line, and where it was typed; for information only: what is
                        replayed is this user's own record of it (provenance.py)
FOLDER/results.csv      jobs by criterion, lowest first
FOLDER/<number>/        an ordinary run's folder, and job.yaml: the job's settings
"""

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lfads_lightning.commands import duration, override, to_train
from lfads_lightning.config import LFADSError, one_line
from lfads_lightning.runs.documents import as_cell, read_document
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.provenance import PLACES, remember
from lfads_lightning.runs.run import Job, Run, Sweep
from lfads_lightning.runs.signals import Preempted

ELSEWHERE = (*PLACES, "launcher")  # settings that say where a job runs and where its data are
_COLUMNS_SHOWN = 6


class RankedJob(NamedTuple):
    """One run of a sweep."""

    number: str
    status: str  # finished, failed, or cut off
    criterion: float  # infinity if there is none
    settings: dict[str, Any]
    folder: Path


@contextmanager
def recorded(folder: Path, argv: Sequence[str], report: Callable[[Path], None]) -> Iterator[None]:
    """Write a sweep's command to its folder and, however the sweep ends, its table.

    Args:
        folder: the sweep's folder.
        argv: its command line.
        report: writes the sweep's report.html if its jobs have reports.

    Raises:
        SystemExit: jobs have failed.
        LFADSError: another process runs a sweep there.
    """
    sweep = Sweep(folder)
    with sweep.locked():
        with whole_file(sweep.command) as path:
            path.write_text(yaml.safe_dump({"argv": list(argv), "cwd": str(Path.cwd())}))
        remember(folder, argv=list(argv), cwd=str(Path.cwd()))
        try:
            yield
        finally:
            jobs = ranked(folder)
            if jobs:
                write_results(folder, jobs)
                shown = os.path.relpath(folder)
                shown = str(folder) if shown.startswith("..") else shown
                print(f"Sweep: {shown} ({sweep.ranking.name})\n{table(jobs)}")
                hurries = sys.exc_info()[0] is Preempted
                if not hurries and any(Run(job.folder).report.is_file() for job in jobs):
                    report(folder)
                    print(f"Report: {shown}/{sweep.report.name}")
                if any(job.status == "cut off" for job in jobs):
                    print(f"To continue it: {to_train(override('resume', folder))}")
    if any(job.status == "failed" for job in jobs):
        raise SystemExit(1)


def command_in(folder: Path) -> list[str]:
    """Return the command line in a sweep's folder, whoever wrote it there.

    Raises:
        LFADSError: ``sweep.yaml`` is damaged.
    """
    path = Sweep(folder).command
    try:
        given = read_document(path.read_bytes(), str(path))
        return [str(word) for word in given["argv"]]
    except LFADSError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LFADSError(f"{path}: is not a sweep's record ({error}); start a new sweep") from error


def continued(argv: Sequence[str], folder: Path) -> list[str]:
    """Return a sweep's command line, changed so that it continues in the given folder."""
    kept = [word for word in argv if not word.startswith("hydra.sweep.dir=")]
    overrides = [i for i, word in enumerate(kept) if "=" in word and not word.startswith("-")]
    at = overrides[0] if overrides else len(kept)  # argparse wants all overrides in sequence
    return [*kept[:at], dir_word(folder.resolve()), *kept[at:]]


def dir_word(folder: Path) -> str:
    """Return the override that sends a sweep's jobs to a folder."""
    return override("hydra.sweep.dir", folder)


def begin_job(folder: Path, settings: dict[str, Any]) -> float | None:
    """Write a job's settings to its folder; return its criterion if it is finished.

    Raises:
        LFADSError: the folder holds a job with other settings.
    """
    path = Job(folder).settings
    plain = json.loads(json.dumps(settings, default=str))
    try:
        before = read_document(path.read_bytes(), str(path))
    except FileNotFoundError:
        with whole_file(path) as new:
            new.write_text(yaml.safe_dump(plain, sort_keys=False))
        return None
    except LFADSError as error:
        raise LFADSError(f"{error}; delete it to run the job again") from error
    if _what_is_done(before) != _what_is_done(plain):
        raise LFADSError(
            f"{folder}: holds a job with {_words(before)}, but this one has {_words(plain)}; give "
            "the sweep a folder of its own, hydra.sweep.dir=FOLDER"
        )
    Job(folder).error.unlink(missing_ok=True)
    scores = _scores(folder)
    return None if scores is None else _criterion(scores)


def _what_is_done(settings: Any) -> Any:
    """Return a job's settings without places: a job that has been moved is still the same."""
    if not isinstance(settings, dict):
        return settings
    return {k: v for k, v in settings.items() if str(k).rpartition(".")[2] not in ELSEWHERE}


def fail_job(folder: Path, settings: dict[str, Any], error: LFADSError) -> float:
    """Record why a job failed; return the worst criterion, for sweepers that optimise."""
    if not Job(folder).settings.is_file():
        begin_job(folder, settings)
    with whole_file(Job(folder).error) as path:
        path.write_text(f"{error}\n")
    return math.inf


def ranked(folder: Path) -> list[RankedJob]:
    """Return a sweep's jobs, lowest criterion first, then those without one."""
    jobs = []
    for job in Sweep(folder).jobs():
        scores = _scores(job.folder)
        failed = job.error.is_file()
        status = "failed" if failed else "cut off" if scores is None else "finished"
        criterion = math.inf if scores is None else _criterion(scores)
        try:
            settings = read_document(job.settings.read_bytes(), str(job.settings))
        except (OSError, LFADSError):
            settings = None  # damaged: the job has reported it; the other jobs are still ranked
        settings = settings if isinstance(settings, dict) else {}
        jobs.append(RankedJob(job.folder.name, status, criterion, settings, job.folder))
    # directory listings have no order; job numbers sort as numbers
    return sorted(jobs, key=lambda job: (job.criterion, job.number.zfill(8)))


def line(folder: Path, settings: dict[str, Any], seconds: float) -> str:
    """Return the line about a finished job: its number, time, criterion and settings."""
    scores = _scores(folder) or {}
    took, criterion = duration(seconds, hours=True), _criterion(scores)
    return f"job {folder.name} | {took} | {criterion:.4f} | {_words(settings)}"


def _scores(folder: Path) -> dict[str, Any] | None:
    try:
        scores = Job(folder).read_scores()
    except LFADSError:
        return None  # damaged: the job finishes again, which is quick
    known = scores is not None and isinstance(scores.get("criterion"), int | float | None)
    return scores if known else None


def _criterion(scores: dict[str, Any]) -> float:
    value = scores.get("criterion")
    return math.inf if value is None or math.isnan(value) else float(value)


def write_results(folder: Path, jobs: Sequence[RankedJob]) -> None:
    """Write ``results.csv``: rank, job, status, criterion, all settings, folder."""
    names = list(dict.fromkeys(name for job in jobs for name in job.settings))
    with whole_file(Sweep(folder).ranking) as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(as_cell, ["rank", "job", "status", "criterion", *names, "folder"]))
        for rank, job in enumerate(jobs, 1):
            values = [job.settings.get(name, "") for name in names]
            criterion = "" if math.isinf(job.criterion) else job.criterion
            row = [rank, job.number, job.status, criterion, *values, job.folder]
            writer.writerow(map(as_cell, row))


def table(jobs: Sequence[RankedJob]) -> str:
    """Return the jobs as lines for the terminal, with the settings that differ."""
    names = list(dict.fromkeys(name for job in jobs for name in job.settings))
    varied = [n for n in names if len({str(job.settings.get(n)) for job in jobs}) > 1]
    columns = ["rank", "job", "criterion", *map(_short, varied[:_COLUMNS_SHOWN])]
    rows = [
        [
            str(rank),
            job.number,
            f"{job.criterion:.4f}" if job.status == "finished" else job.status,
            *(_short(job.settings.get(n, "")) for n in varied[:_COLUMNS_SHOWN]),
        ]
        for rank, job in enumerate(jobs, 1)
    ]
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    return "\n".join(
        "  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True))
        for row in [columns, *rows]
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def _words(settings: Any) -> str:
    if not isinstance(settings, dict) or not settings:
        return "no settings"
    return one_line(", ".join(f"{name}={value}" for name, value in settings.items()))
