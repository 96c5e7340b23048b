"""The reports of many runs: a sweep's jobs, a search's members."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lfads_lightning.commands import duration, to_train
from lfads_lightning.config import Config, LFADSError
from lfads_lightning.report import about
from lfads_lightning.report.page import Link, Section, Table, Tile, write_page
from lfads_lightning.report.run_report import number
from lfads_lightning.report.search_figure import (
    against_settings,
    parallel_coordinates,
    search_figure,
    varied,
)
from lfads_lightning.report.style import render, save
from lfads_lightning.report.tensorboard import add_scores
from lfads_lightning.runs.documents import read_document, read_json, read_rows
from lfads_lightning.runs.run import Run, Search, Sweep
from lfads_lightning.search.members import Task, member_config, valid_of
from lfads_lightning.search.sweeps import RankedJob, ranked

_MOST_ROWS = 200


def write_sweep_report(folder: Path) -> None:
    """Write report.html of a sweep: its jobs by rank, and the effect of the settings.

    Args:
        folder: the sweep's folder.

    Raises:
        LFADSError: none of its jobs has begun.
    """
    jobs = ranked(folder)
    if not jobs:
        raise LFADSError(f"{folder}: no job of this sweep has begun, so there is nothing to report")
    criterion = _criterion_of(jobs)
    scores = [job.criterion for job in jobs]
    settings = [job.settings for job in jobs]
    drawings = [f(settings, scores, criterion) for f in (parallel_coordinates, against_settings)]
    pictures = [render(d) for d in drawings if d is not None]
    save(pictures, Sweep(folder).figures)
    n = {status: sum(job.status == status for job in jobs) for status in ("finished", "failed")}
    tiles = [
        Tile(f"{n['finished']} of {len(jobs)}", "jobs finished"),
        Tile(str(n["failed"]), "failed"),
    ]
    if math.isfinite(scores[0]):
        tiles.insert(0, Tile(number(scores[0]), f"lowest {criterion}, job {jobs[0].number}"))
    sections = [
        Section("ranking", "Ranking", tables=[_ranking(jobs, criterion)]),
        Section("settings", "Effect of the settings", pictures=pictures),
        Section("run", "Command", _command(folder)),
    ]
    write_page(
        Sweep(folder).report,
        f"LFADS sweep {folder.resolve().name}",
        [f"{len(jobs)} runs, ranked by their trainer.criterion, {criterion}; lower is better."],
        tiles,
        sections,
    )


def _criterion_of(jobs: Sequence[RankedJob]) -> str:
    for job in jobs:
        config = Run(job.folder).read_config()
        if config is not None:
            return config.trainer.criterion.name
    return "criterion"


def _ranking(jobs: Sequence[RankedJob], criterion: str) -> Table:
    names = varied([job.settings for job in jobs])
    rows: list[list[str | Link]] = []
    for rank, job in enumerate(jobs[:_MOST_ROWS], 1):
        page = Run(job.folder).report
        name = f"job {job.number}"
        which: str | Link = name
        if page.is_file():
            which = Link(name, f"{job.number}/{page.name}")
        found = ", ".join(f.key.replace("_", " ") for f in about.read_record(job.folder).findings)
        score = number(job.criterion) if job.status == "finished" else job.status
        values = [about.shown(job.settings.get(n, "")) for n in names]
        rows.append([str(rank), which, score, *values, found or "–"])
    header = ["rank", "run", criterion, *names, "warnings"]
    return Table("Runs, best first", header, rows)


def _command(folder: Path) -> list[str]:
    try:
        path = Sweep(folder).command
        argv = read_document(path.read_bytes(), str(path))["argv"]
        words = [f"Command: {to_train(*map(str, argv))}"]
    except (OSError, LFADSError, TypeError, KeyError):
        words = []
    return [f"Folder: {folder.resolve().name}", *words]


def write_search_report(folder: Path) -> None:
    """Write report.html of a population-based search: settings over generations, members by rank.

    Args:
        folder: the search's folder.

    Raises:
        LFADSError: none of its generations has ended.
    """
    config = Search(folder).read_config()
    rows = _history(folder)
    if config is None or not rows:
        raise LFADSError(
            f"{folder}: no generation of this search has ended, so there is nothing to report"
        )
    criterion = config.trainer.criterion.name
    names = list(rows[0])[5:]
    last_generation = rows[-1]["generation"]
    last = sorted(
        (r for r in rows if r["generation"] == last_generation), key=lambda r: float(r["score"])
    )
    settings = [{name: float(r[name]) for name in names} for r in last]
    scores = [float(r["score"]) for r in last]
    drawings = [search_figure(rows, criterion), parallel_coordinates(settings, scores, criterion)]
    pictures = [render(d) for d in drawings if d is not None]
    save(pictures, Search(folder).figures)
    journal = _journal(folder)
    _add_members(folder, config, journal)
    best = journal.get("best")
    best = best if isinstance(best, dict) else {}
    tiles = [
        Tile(str(int(last_generation) + 1), f"generations of {len(last)} members"),
        Tile(last[0]["until_epoch"], "epochs"),
    ]
    if isinstance(best.get("score"), int | float):
        where = (
            f"lowest {criterion}: member {best.get('member')}, generation {best.get('generation')}"
        )
        tiles.insert(0, Tile(number(float(best["score"])), where))
    if isinstance(journal.get("seconds"), int | float):
        tiles.append(
            Tile(duration(float(journal["seconds"]), hours=True), "training time, h:mm:ss")
        )
    sections = [
        Section("settings", "Effect of the settings", pictures=pictures),
        Section("ranking", "Last generation", tables=[_members(last, names, criterion)]),
        Section(
            "run",
            "Settings",
            [f"Folder: {folder.resolve().name}"],
            tables=[*_best_links(folder, best), about.settings_table(config)],
        ),
    ]
    write_page(
        Search(folder).report,
        f"LFADS search {folder.resolve().name}",
        [f"Population-based training by {criterion}; lower is better."],
        tiles,
        sections,
    )


def _add_members(folder: Path, config: Config, journal: dict[str, Any]) -> None:
    """Write the settings and scores of the last generation for the HParams tab."""
    try:
        ended = [(g, p) for g, p in enumerate(journal["generations"]) if p["scores"]]
        generation, plan = ended[-1]
        tasks = [
            Task(member, generation, int(plan["until_epoch"]), dict(settings), None)
            for member, settings in enumerate(plan["settings"])
        ]
    except (LookupError, TypeError, ValueError):
        return  # none has ended, or the journal is damaged: the report is written without them
    for task in tasks:
        member = task.member
        where = Search(folder).member(member)
        try:
            scores = {"criterion": plan["scores"][member], **valid_of(folder, member, generation)}
        except (OSError, ValueError, LookupError, TypeError):
            continue  # deleted: the report is written without it
        steps = where.read_metrics().get("step")
        known = steps is not None and len(steps) > 0 and math.isfinite(steps[-1])
        step = int(steps[-1]) if steps is not None and known else task.until_epoch
        add_scores(where.folder, member_config(config, folder, task), scores, step, {})


def _history(folder: Path) -> list[dict[str, str]]:
    """Return the complete rows; from a damaged table, some or none."""
    rows = read_rows(Search(folder).history)
    wanted = {"generation", "member", "donor", "until_epoch", "score"}
    if not rows or not wanted <= rows[0].keys():
        return []
    return [row for row in rows if all(map(_is_number, row.values()))]


def _is_number(cell: str) -> bool:
    try:
        return not math.isnan(float(cell))
    except ValueError:
        return False


def _journal(folder: Path) -> dict[str, Any]:
    try:
        state = read_json(Search(folder).journal)
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _members(last: Sequence[dict[str, str]], names: Sequence[str], criterion: str) -> Table:
    rows = [
        [
            str(rank),
            f"member {r['member']}",
            number(float(r["score"])),
            r["donor"] if r["donor"] != r["member"] else "–",
            *(f"{float(r[name]):.3g}" for name in names),
        ]
        for rank, r in enumerate(last[:_MOST_ROWS], 1)
    ]
    header = ["rank", "member", criterion, "took over", *names]
    return Table("Members of the last generation, best first", header, rows)


def _best_links(folder: Path, best: dict[str, Any]) -> list[Table]:
    settings = best.get("settings")
    if not isinstance(settings, dict):
        return []
    rows: list[list[str | Link]] = [[name, about.shown(v)] for name, v in settings.items()]
    page = Search(folder).best.report
    if page.is_file():
        shown = page.relative_to(folder).as_posix()
        rows.append(["report", Link(shown, shown)])
    return [Table("The best member", ("setting", "value"), rows)]
