"""The report of a run: what was run, how it went, what came of it, and what to look out for."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.alignment import carried_alignment
from lfads_lightning.data.sessions import Session
from lfads_lightning.documents import read_json
from lfads_lightning.evaluation.table import FILE as EVALUATION_FILE
from lfads_lightning.inference.posterior import Evaluation, Posterior
from lfads_lightning.metrics import bits_per_spike, rate_r2
from lfads_lightning.report import about, findings
from lfads_lightning.report.alignment_figure import alignment_drawing
from lfads_lightning.report.curves import Columns, learning_curves, read_metrics
from lfads_lightning.report.page import Section, Table, Tile, write_page
from lfads_lightning.report.population import drawings_of, neurons
from lfads_lightning.report.samples_figure import samples_drawing
from lfads_lightning.report.style import Drawing, Picture, render, save
from lfads_lightning.report.tensorboard import add_scores
from lfads_lightning.report.trials import Trials, shown_trials
from lfads_lightning.sweeps import REPORT, duration

FIGURES = "figures"
NOTHING = (
    "Nothing suspicious was found. Looked for: copied spikes, underfitting, inferred inputs or "
    "initial conditions without content, clamped states, costs that are not finite, training that "
    "ended too soon, overfitting, silent neurons, few trials."
)


class Inferred(NamedTuple):
    """What a model makes of its data; what is drawn and looked at."""

    run: Evaluation
    sessions: Sequence[Session]
    split: str  # train or valid: which trials were scored
    posteriors: Mapping[str, Posterior]  # of that split, posterior means pushed through


def write_run_report(
    folder: Path,
    config: Config,
    scores: Mapping[str, Any],
    step: int,
    inferred: Inferred | str,
    record: about.Record,
) -> list[findings.Finding]:
    """Write report.html, report.json, figures/, and what TensorBoard shows of the end.

    Args:
        folder: the run's.
        config: all parameters.
        scores: of scores.json.
        step: updates behind the weights.
        inferred: from the data; or why they are not there, as a sentence.
        record: of the machine, and findings that cannot be made anew.

    Returns:
        What a user should know.
    """
    columns = read_metrics(folder / "metrics.csv")
    trials = None
    if isinstance(inferred, Inferred):
        name = next(iter(inferred.posteriors))
        session = next(s for s in inferred.sessions if s.name == name)
        trials = shown_trials(inferred.run, session, inferred.split, inferred.posteriors[name])
    found = _findings(config, scores, columns, inferred, trials, record)
    about.write_record(folder, record._replace(findings=found))
    curves = [d for d in [learning_curves(columns, _best_epoch(scores, columns))] if d is not None]
    pictures = {"learning": [render(d) for d in curves]}
    if trials is not None and isinstance(inferred, Inferred):
        pictures["data"] = _pictures(trials, inferred)
        sampled = samples_drawing(inferred.run, session, inferred.split, trials)
        pictures["samples"] = [] if sampled is None else [render(sampled)]
        pictures["alignment"] = [render(d) for d in _alignment(inferred.sessions)]
    for some in pictures.values():
        save(some, folder / FIGURES)
    last: dict[str, list[Picture]] = {}
    if isinstance(inferred, Inferred) and config.trainer.plot_every_n_epochs != 0:
        last[inferred.split] = pictures["data"]
    add_scores(folder, config, scores, step, last)
    sections = _sections(folder, config, scores, inferred, found, record, pictures)
    write_page(
        folder / REPORT,
        f"LFADS run {folder.resolve().name}",
        _lead(config, scores, inferred),
        _tiles(scores),
        sections,
    )
    return found


def _findings(
    config: Config,
    scores: Mapping[str, Any],
    columns: Columns,
    inferred: Inferred | str,
    trials: Trials | None,
    record: about.Record,
) -> list[findings.Finding]:
    copying = next((f for f in record.findings if f.key == "copying"), None)
    found = findings.of_run(config, scores, columns)
    if copying is not None:
        found = [copying, *(f for f in found if f.key != "copying")]
    if not isinstance(inferred, Inferred):
        anew = {f.key for f in found}
        lasting = {"copying", *findings.OF_DATA}
        return found + [f for f in record.findings if f.key in lasting - anew]
    spread = None if trials is None else trials.spread
    seen = findings.of_posterior(config, scores, inferred.posteriors, columns, spread)
    return [*found, *seen, *findings.of_data(inferred.sessions)]


def _alignment(sessions: Sequence[Session]) -> list[Drawing]:
    """Draw how well stitched sessions agree; none where there are no matrices or conditions."""
    if len(sessions) < 2 or any(s.alignment_matrix_cxf is None for s in sessions):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trials left out; that is no fault of a run
            return [alignment_drawing(carried_alignment(sessions))]
    except LFADSError:  # no conditions that all of them have
        return []


def _pictures(trials: Trials, inferred: Inferred) -> list[Picture]:
    name = next(iter(inferred.posteriors))
    split = next(s for s in inferred.sessions if s.name == name).splits[inferred.split]
    whole = neurons(trials._replace(counts=split.data, posterior=inferred.posteriors[name]))
    return [
        render(whole if whole is not None and d.name == whole.name else d)
        for d in drawings_of(trials)
    ]


def _best_epoch(scores: Mapping[str, Any], columns: Columns) -> float | None:
    """Return the epoch of the weights of lowest error, found by its cost."""
    if scores.get("checkpoint") != "checkpoint_lve" or "valid/total" not in columns:
        return None
    same = np.flatnonzero(np.isclose(columns["valid/total"], scores.get("valid/total", np.nan)))
    return None if len(same) == 0 else float(columns["epoch"][same[-1]])


def _sections(
    folder: Path,
    config: Config,
    scores: Mapping[str, Any],
    inferred: Inferred | str,
    found: Sequence[findings.Finding],
    record: about.Record,
    pictures: Mapping[str, Sequence[Picture]],
) -> list[Section]:
    by_name = {p.drawing.name: p for p in pictures.get("data", ())}
    groups = {
        ("trials", "Trials"): ("summary", "averages", "neurons"),
        ("dynamics", "Dynamics"): ("factors", "initial_conditions", "generator"),
        ("inputs", "Inferred inputs"): ("inferred_inputs", "inputs_at_event"),
    }
    sections = [
        Section("findings", "What to look out for", () if found else (NOTHING,), found),
        Section("scores", "Scores", tables=_score_tables(folder, scores, inferred)),
        Section("learning", "Learning", pictures=pictures["learning"]),
    ]
    for (key, title), names in groups.items():
        here = [by_name[n] for n in names if n in by_name]
        sections.append(Section(key, title, pictures=here))
    sections.append(Section("samples", "Posterior samples", pictures=pictures.get("samples", ())))
    sections.append(Section("alignment", "Alignment", pictures=pictures.get("alignment", ())))
    no_data = [inferred] if isinstance(inferred, str) else []
    tables = [about.settings_table(config)]
    if isinstance(inferred, Inferred):
        tables.append(
            about.data_table(inferred.sessions, config.model.output_dist.name == "poisson")
        )
    if record.machine:
        tables.append(about.machine_table(record.machine))
    where = f"Folder: {folder.resolve()}"
    return [*sections, Section("run", "What was run", [where, *no_data], tables=tables)]


def _score_tables(folder: Path, scores: Mapping[str, Any], inferred: Inferred | str) -> list[Table]:
    tables = []
    if isinstance(inferred, Inferred) and len(inferred.posteriors) > 1:
        tables.append(_per_session(inferred))
    compared = _evaluation_tables(folder)
    if not compared and (table := _baselines(scores)) is not None:
        compared.append(table)
    tables += compared
    names = [k for k in scores if not isinstance(scores[k], dict | list)]
    rows = [(k, number(scores[k])) for k in names]
    if rows:
        tables.append(Table("All scores of the run", ("score", "value"), rows, folded=bool(tables)))
    return tables


def _evaluation_tables(folder: Path) -> list[Table]:
    """Return the tables of evaluation.json, models against metrics; none without it."""
    try:
        evaluation = read_json(folder / EVALUATION_FILE)
        tables = []
        notes = evaluation.get("notes", {})
        for session, splits in evaluation.items():
            if session == "notes":
                continue
            for split, rows in splits.items():
                metrics = list(dict.fromkeys(m for row in rows.values() for m in row))
                cells = [
                    (model, *(number(row.get(m)) for m in metrics)) for model, row in rows.items()
                ]
                tables.append(Table(f"{session}, {split}", ("model", *metrics), cells))
        if tables and notes:
            tables.append(
                Table(
                    "What the scores mean",
                    ("score", "meaning"),
                    [(k, str(v)) for k, v in notes.items()],
                    prose=True,
                    folded=True,
                )
            )
        return tables
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _baselines(scores: Mapping[str, Any]) -> Table | None:
    """Return the table of the scores that have something to be compared with."""
    split = "valid" if any(k.startswith("valid/") for k in scores) else "train"
    rows = {
        "LFADS": ("bits_per_spike", "rate_r2", "rate_r2_pooled"),
        "best Gaussian smoothing": (None, "smoothing_rate_r2", "smoothing_rate_r2_pooled"),
        "true rates": ("truth_bits_per_spike", None, None),
        "constant rates": (None, None, None),
    }
    cells = []
    for model, names in rows.items():
        values = [None if n is None else scores.get(f"{split}/{n}") for n in names]
        if model == "constant rates" and scores.get(f"{split}/bits_per_spike") is not None:
            values[0] = 0.0  # by definition
        if any(v is not None for v in values):
            cells.append((model, *map(number, values)))
    if not cells:
        return None
    width = scores.get(f"{split}/smoothing_sd_bins")
    note = "" if width is None else f"; smoothing by the width that suits it best, {width:g} bins"
    header = ("model", "bits / spike", "R² of rates, mean over neurons", "R² of rates, pooled")
    trials = "validation" if split == "valid" else "training"
    return Table(f"On the {trials} trials{note}", header, cells)


def _per_session(inferred: Inferred) -> Table:
    rows = []
    for session in inferred.sessions:
        posterior = inferred.posteriors.get(session.name)
        if posterior is None:
            continue
        split = session.splits[inferred.split]
        row = [session.name, str(len(split.data)), str(session.data_dim)]
        poisson = inferred.run.model.is_poisson
        row.append(number(bits_per_spike(posterior.rates, split.data) if poisson else None))
        r2 = None
        if split.truth is not None:
            r2 = rate_r2(posterior.rates, split.truth / session.conversion_factor)
        rows.append([*row, number(None if r2 is None else r2[0])])
    header = ("session", "trials", "neurons", "bits / spike", "R² of rates")
    return Table("Each session", header, rows)


def number(value: Any) -> str:
    """Return a score as text, a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}".replace("-0.000", "0.000") if abs(value) < 10 else f"{value:.4g}"
    return str(value)


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


def _tiles(scores: Mapping[str, Any]) -> list[Tile]:
    shown = (
        ("co_bps", "bits per spike of held-out neurons"),
        ("bits_per_spike", "bits per spike, against constant rates"),
        ("rate_r2", "R² of rates, mean over neurons"),
        ("total", "validation cost, nats per trial"),
    )
    tiles = []
    for name, meaning in shown:
        for split in ("valid", "train"):
            if f"{split}/{name}" in scores:
                where = "" if split == "valid" else ", training trials"
                tiles.append(Tile(number(scores[f"{split}/{name}"]), meaning + where))
                break
    if "epochs" in scores:
        tiles.append(Tile(str(scores["epochs"]), f"epochs, {scores.get('updates', '?')} updates"))
    if isinstance(scores.get("seconds"), int | float):
        tiles.append(Tile(duration(float(scores["seconds"])), "of training, h:mm:ss"))
    return tiles
