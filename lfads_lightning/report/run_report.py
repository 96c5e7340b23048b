"""The report of a run: settings, learning curves, scores, figures and warnings."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.commands import duration, listed
from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.alignment import carried_alignment
from lfads_lightning.data.sessions import Session
from lfads_lightning.evaluation.table import (
    HEADLINES,
    HEADS,
    LFADS,
    NOTES,
    EvaluationTable,
    Rows,
    best_first,
    read_table,
)
from lfads_lightning.inference.posterior import Evaluation, Posterior
from lfads_lightning.report import about, findings
from lfads_lightning.report.alignment_figure import alignment_drawing
from lfads_lightning.report.behaviour import behaviour_drawing
from lfads_lightning.report.curves import Columns, learning_curves
from lfads_lightning.report.page import Section, Table, Tile, write_page
from lfads_lightning.report.population import EVERY_FIGURE, neurons
from lfads_lightning.report.samples_figure import samples_drawing
from lfads_lightning.report.style import Drawing, Picture, render, save
from lfads_lightning.report.tensorboard import add_scores
from lfads_lightning.report.trials import Trials, shown_trials
from lfads_lightning.runs.run import Run
from lfads_lightning.runs.tried import by_kind, read_tried

NOTHING = (
    "No problems were found. These were checked: copied spikes, underfitting, overfitting, unused "
    "inferred inputs or initial conditions, clamped states, costs that are not finite, training "
    "that ended too soon, silent neurons, few trials."
)


class Inferred(NamedTuple):
    """The model's inferences from its data, for figures and warnings."""

    run: Evaluation
    sessions: Sequence[Session]
    split: str  # train or valid, the split that was scored
    posteriors: Mapping[str, Posterior]  # averages over posterior samples for that split


def write_run_report(
    folder: Path,
    config: Config,
    scores: Mapping[str, Any],
    step: int,
    inferred: Inferred | str,
    record: about.Record,
) -> dict[str, list[Picture]]:
    """Write report.html, report.json, figures/, and the final scores and figures for TensorBoard.

    Args:
        folder: the run's folder.
        config: all parameters.
        scores: content of scores.json.
        step: updates that led to the weights.
        inferred: inferences from the data; or a sentence on why the data are missing.
        record: facts about the machine, and findings that cannot be made again.

    Returns:
        The figures of the data for loggers, by split; none without the data.
    """
    columns = Run(folder).read_metrics()
    trials = None
    if isinstance(inferred, Inferred):
        name = next(iter(inferred.posteriors))
        session = next(s for s in inferred.sessions if s.name == name)
        trials = shown_trials(inferred.run, session, inferred.split, inferred.posteriors[name])
    table = read_table(folder)
    found = _findings(config, scores, columns, inferred, table, record)
    about.write_record(folder, record._replace(findings=found))
    best = best_epoch(scores, columns)
    pictures = {"learning": drawn("learning curves", lambda: learning_curves(columns, best))}
    if trials is not None and isinstance(inferred, Inferred):
        run, split = inferred.run, inferred.split
        pictures["data"] = _pictures(trials, inferred)
        pictures["behaviour"] = drawn("behaviour", lambda: behaviour_drawing(run, session, trials))
        pictures["samples"] = drawn(
            "posterior samples", lambda: samples_drawing(run, session, split, trials)
        )
        pictures["alignment"] = drawn("alignment", lambda: _alignment(inferred.sessions))
    for some in pictures.values():
        save(some, Run(folder).figures)
    last: dict[str, list[Picture]] = {}
    if isinstance(inferred, Inferred) and config.trainer.plot_every_n_epochs != 0:
        last[inferred.split] = pictures["data"]
    add_scores(folder, config, scores, step, last)
    tried = read_tried(folder)
    sections = _sections(folder, config, scores, inferred, table, found, record, tried, pictures)
    write_page(
        Run(folder).report,
        _title(folder, config, inferred, table, record),
        [_lead(config, scores, inferred), *_choices(config, record, tried)],
        _tiles(scores, table),
        sections,
    )
    return last


def _findings(
    config: Config,
    scores: Mapping[str, Any],
    columns: Columns,
    inferred: Inferred | str,
    table: EvaluationTable | None,
    record: about.Record,
) -> list[findings.Finding]:
    sessions = inferred.sessions if isinstance(inferred, Inferred) else ()
    found = findings.of_run(config, scores, columns, sessions)
    if table is not None and table.parts:
        found = [*findings.of_comparison(table, table.parts[0].split), *found]
    lasting = {"copying", "not_scored"}  # found only at the end of training
    if isinstance(inferred, Inferred):
        found += findings.of_posterior(config, scores, inferred.posteriors, sessions, columns)
        found += findings.of_data(sessions)
        if any(f.key == "overfitted" for f in found):
            found = [f for f in found if f.key != "underfit"]
    else:
        lasting |= set(findings.OF_DATA)
    if any(f.key == "no_structure" for f in found):
        found = [f for f in found if f.key not in findings.OF_STRUCTURE]
    before = [f for f in record.findings if f.key in lasting]
    if any(f.key == "copying" for f in before):
        found = [f for f in found if f.key != "copying"]
    anew = {f.key for f in found}
    return [*(f for f in before if f.key not in anew), *found]


def drawn(name: str, draw: Callable[[], Drawing | None]) -> list[Picture]:
    """Return a drawing as a picture; an empty list if there is nothing to draw.

    If a figure cannot be drawn, there is a warning, and the other figures are not affected.
    """
    try:
        drawing = draw()
        return [] if drawing is None else [render(drawing)]
    except Exception as error:  # matplotlib may raise anything on odd data
        why = " ".join(str(error).split())[:200] or type(error).__name__
        warnings.warn(f"the figure {name} could not be drawn ({why})", stacklevel=2)
        return []


def _alignment(sessions: Sequence[Session]) -> Drawing | None:
    """Draw how well stitched sessions agree; None without alignment matrices or conditions."""
    if len(sessions) < 2 or any(s.alignment_matrix_cxf is None for s in sessions):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on trials left out, which is not a problem of the run
            return alignment_drawing(carried_alignment(sessions))
    except LFADSError:  # the sessions have no common conditions
        return None


def _pictures(trials: Trials, inferred: Inferred) -> list[Picture]:
    name = next(iter(inferred.posteriors))
    split = next(s for s in inferred.sessions if s.name == name).splits[inferred.split]
    whole = trials._replace(counts=split.known, posterior=inferred.posteriors[name])
    return [
        picture
        for draw in EVERY_FIGURE
        for picture in drawn(
            draw.__name__.replace("_", " "), partial(draw, whole if draw is neurons else trials)
        )
    ]


def best_epoch(scores: Mapping[str, Any], columns: Columns) -> float | None:
    """Return the epoch of the weights with the lowest error, identified by its cost."""
    if scores.get("checkpoint") != "checkpoint_lve" or "valid/total" not in columns:
        return None
    same = np.flatnonzero(np.isclose(columns["valid/total"], scores.get("valid/total", np.nan)))
    return None if len(same) == 0 else float(columns["epoch"][same[-1]])


def _sections(
    folder: Path,
    config: Config,
    scores: Mapping[str, Any],
    inferred: Inferred | str,
    table: EvaluationTable | None,
    found: Sequence[findings.Finding],
    record: about.Record,
    tried: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Sequence[Picture]],
) -> list[Section]:
    by_name = {p.drawing.name: p for p in pictures.get("data", ())}
    groups = {
        ("trials", "Trials"): ("summary", "averages", "neurons"),
        ("dynamics", "Dynamics"): ("factors", "initial_conditions", "generator"),
        ("inputs", "Inferred inputs"): ("inferred_inputs", "inputs_at_event"),
    }
    sections = [
        Section("findings", "Warnings", () if found else (NOTHING,), found),
        Section("scores", "Scores", _verdict(table), tables=_score_tables(scores, table)),
        Section("learning", "Learning", pictures=pictures["learning"]),
    ]
    for (key, title), names in groups.items():
        here = [by_name[n] for n in names if n in by_name]
        sections.append(Section(key, title, pictures=here))
    sections.append(Section("behaviour", "Behaviour", pictures=pictures.get("behaviour", ())))
    sections.append(Section("samples", "Posterior samples", pictures=pictures.get("samples", ())))
    sections.append(Section("alignment", "Alignment", pictures=pictures.get("alignment", ())))
    no_data = [inferred] if isinstance(inferred, str) else []
    tables = about.candidates_tables(tried, config.trainer.criterion.name)
    if record.chosen is not None:
        tables.append(about.chosen_table(record.chosen))
    tables.append(about.settings_table(config))
    if isinstance(inferred, Inferred):
        tables.append(about.data_table(inferred.sessions, config.model.output_dist.is_counts))
    if record.machine:
        tables.append(about.machine_table(record.machine))
    where = f"Folder: {folder.resolve().name}"
    return [*sections, Section("run", "Settings and data", [where, *no_data], tables=tables)]


def _score_tables(scores: Mapping[str, Any], table: EvaluationTable | None) -> list[Table]:
    tables = [] if table is None else _compared(table)
    names = [k for k in scores if not isinstance(scores[k], dict | list)]
    rows = [(k, number(scores[k])) for k in names]
    if rows:
        tables.append(Table("All scores", ("score", "value"), rows, folded=bool(tables)))
    return tables


def _compared(table: EvaluationTable) -> list[Table]:
    """Return tables of methods and metrics: for all sessions together, then for each one."""
    if not table.parts:
        return []
    split = table.parts[0].split
    whole = table.overall(split)
    several = len(table.parts) > 1
    title = f"{len(table.parts)} sessions together" if several else table.parts[0].session
    tables = [_methods(f"{title}, {split}", whole)]
    if several:
        tables.append(_per_session(table))
        tables += [_methods(f"{p.session}, {p.split}", p.rows, folded=True) for p in table.parts]
    there = {metric for row in whole.values() for metric in row}
    notes = [(HEADS[name], name, note) for name, note in NOTES.items() if name in there]
    header = ("score", "name in files", "meaning")
    return [*tables, Table("What the scores mean", header, notes, prose=True, folded=True)]


def _methods(title: str, rows: Rows, folded: bool = False) -> Table:
    metrics = [m for m in NOTES if any(m in row for row in rows.values())]
    cells = [
        (method, *(number(row.get(m)) for m in metrics)) for method, row in best_first(rows).items()
    ]
    return Table(title, ("method", *(HEADS[m] for m in metrics)), cells, folded=folded)


def _per_session(table: EvaluationTable) -> Table:
    """Return the model's scores for each session, and the best simple method's if known."""
    metrics = [m for m in NOTES if any(m in p.rows[LFADS] for p in table.parts)]
    rows = [
        (
            p.session,
            *(number(p.data.get(k)) for k in ("n_trials", "n_neurons")),
            *(number(p.rows[LFADS].get(m)) for m in metrics),
        )
        for p in table.parts
    ]
    header = ("session", "trials", "neurons", *(HEADS[m] for m in metrics))
    return Table("LFADS, each session", header, rows)


def number(value: Any) -> str:
    """Return a score as text; a dash if there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}".replace("-0.000", "0.000") if abs(value) < 10 else f"{value:.4g}"
    return str(value)


def _title(
    folder: Path,
    config: Config,
    inferred: Inferred | str,
    table: EvaluationTable | None,
    record: about.Record,
) -> str:
    """Return a title with the model's sessions and the date of training."""
    if isinstance(inferred, Inferred):
        names = [s.name for s in inferred.sessions]
    else:
        names = list(dict.fromkeys(p.session for p in table.parts)) if table is not None else []
    names = names or [config.data.data_filename_stem or folder.resolve().name]
    ended = record.machine.get(about.ENDED, "")
    when = [f"{date.fromisoformat(ended[:10]):%d %B %Y}".lstrip("0")] if _is_date(ended) else []
    return ", ".join([f"LFADS: {listed(names, 3)}", *when])


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def _choices(config: Config, record: about.Record, tried: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe the choices: structure and learning rate of those tried, settings by the recipe."""
    said = []
    for kind, rows in by_kind(tried).items():
        if not rows or not rows[0]["is_chosen"]:
            continue
        best, *others = rows
        settings = ", ".join(f"{k} {about.shown(v)}" for k, v in best["settings"].items())
        scores = ", ".join(f"{row['name']} {number(row['criterion'])}" for row in others)
        said.append(
            f"{kind.capitalize()}: {best['name']} ({settings}). Of the {kind}s tried it had the "
            f"lowest {config.trainer.criterion.name} after {best['updates']} updates: "
            f"{number(best['criterion'])}; then {scores}."
        )
    if record.chosen is not None:
        said.append(
            f"Settings: {len(record.chosen.settings)} of them by recipe=auto, for "
            f"{record.chosen.facts}."
        )
    return said


def _lead(config: Config, scores: Mapping[str, Any], inferred: Inferred | str) -> str:
    parts = []
    if isinstance(inferred, Inferred):
        s = inferred.sessions
        n = sum(len(x.train.data) for x in s)
        n_valid = sum(0 if x.valid is None else len(x.valid.data) for x in s)
        what = f"{len(s)} sessions" if len(s) > 1 else f"session {s[0].name}"
        parts.append(f"{what}, {n} training and {n_valid} validation trials")
    elif config.data.data_filename_stem:
        parts.append(f"data {config.data.data_filename_stem}")
    if scores:
        parts.append(f"weights: {scores.get('checkpoint', 'the last')}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _tiles(scores: Mapping[str, Any], table: EvaluationTable | None) -> list[Tile]:
    """Return the numbers at the top: how well the model predicts entries that it did not see."""
    tiles = []
    verdict = table.verdict(table.parts[0].split) if table is not None and table.parts else None
    if verdict is not None:
        where = "" if verdict.split == "valid" else ", training trials"
        ahead = "ahead of" if verdict.is_ahead else "behind"
        tiles.append(
            Tile(
                number(verdict.ours),
                f"{HEADLINES[verdict.metric]}{where}; {ahead} {verdict.best}, "
                f"{number(verdict.best_value)}",
            )
        )
    shown = (
        ("rate_r2", "R² of rates, mean over neurons"),
        ("total", "validation cost, nats per trial"),
    )
    for name, meaning in shown:
        for split in ("valid", "train"):
            if f"{split}/{name}" in scores:
                where = "" if split == "valid" else ", training trials"
                tiles.append(Tile(number(scores[f"{split}/{name}"]), meaning + where))
                break
    if "epochs" in scores:
        tiles.append(Tile(str(scores["epochs"]), f"epochs, {scores.get('updates', '?')} updates"))
    if isinstance(scores.get("seconds"), int | float):
        tiles.append(Tile(duration(float(scores["seconds"]), hours=True), "training time, h:mm:ss"))
    return tiles


def _verdict(table: EvaluationTable | None) -> list[str]:
    verdict = table.verdict(table.parts[0].split) if table is not None and table.parts else None
    return [] if verdict is None else [str(verdict)]
