"""The end of training: scores, figures, the report.

An error here does not affect the trained model. If a session cannot be scored, the others still
are; if a figure cannot be drawn, the rest of the report is written; and after an interrupt this
step continues where it stopped.
"""

import shlex
import sys
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from lfads_lightning.commands import program
from lfads_lightning.config import LFADSError
from lfads_lightning.data.sessions import Session
from lfads_lightning.evaluation.kept import Kept, read_kept, write_kept
from lfads_lightning.evaluation.scores import score
from lfads_lightning.evaluation.table import (
    BEST_SMOOTHING,
    HEADLINES,
    TRUTH,
    EvaluationTable,
    Verdict,
)
from lfads_lightning.inference.copying import (
    better_than_truth_message,
    bits_of_hidden_entries,
    hidden_entries_message,
)
from lfads_lightning.inference.posterior import Posterior, judged
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.report import about
from lfads_lightning.report.findings import Finding, copying, not_scored
from lfads_lightning.report.run_report import Inferred, write_run_report
from lfads_lightning.report.tensorboard import by_tag
from lfads_lightning.runs.run import Run
from lfads_lightning.training.checkpoint_files import WITHIN_RAMPS
from lfads_lightning.training.fit import Fitted
from lfads_lightning.training.loggers import log_scores

Scores = dict[str, float | str]
_SCORES_OF_TRAINING = {
    "valid/total",
    "valid/recon",
    "valid/sample_recon",
    "valid/hidden_recon",
}


def finish(trained: TrainedModel, sessions: list[Session], fitted: Fitted) -> Scores:
    """Score a trained model on held-out trials (else on its training trials), and report it.

    Writes evaluation.json (the model compared with simple methods) and scores.json to the run's
    folder, and with ``output.report`` report.html with its figures. Rates are averages over
    posterior samples. Sessions without validation trials are left out if others have some.

    Returns:
        ``criterion`` of the lowest eligible epoch, with its ``valid/total`` and ``valid/recon``
        (nats per trial); the model's scores over all sessions, under the names of evaluation.json
        (:data:`~lfads_lightning.evaluation.table.NOTES`); the name and the score of the
        ``best_simple_method``; the sentence ``verdict``, and ``no_structure`` if the constant rate
        was kept; if the true rates are known, ``valid/truth_bits_per_spike`` and, for the best
        Gaussian smoothing, ``valid/smoothing_rate_r2``; ``epochs``, ``updates``, ``seconds``; the
        ``checkpoint`` that was scored, and the metric that it was ``chosen_by``.
    """
    assert trained.folder is not None
    split = "valid" if any(s.valid is not None for s in sessions) else "train"
    chosen = [s for s in trained.fitting(sessions) if split in s.splits]
    if others := [s.name for s in sessions if split not in s.splits]:
        _tell(f"Not scored, because they have no validation trials: {', '.join(others)}")
    if fitted.chosen_by == WITHIN_RAMPS:
        _tell(
            "No epoch was eligible: training ended before both ramps were complete. The weights "
            "are those with the lowest smoothed validation reconstruction cost"
        )
    scoring = _scored(trained, chosen, split)
    table = EvaluationTable([kept.part for kept in scoring.kept.values()])
    trained.comparison = table
    seen = _copying(scoring.kept)
    scores: Scores = {}
    if fitted.criterion is not None:
        scores["criterion"] = fitted.criterion
    scores |= {k: v for k, v in fitted.valid.items() if k in _SCORES_OF_TRAINING}
    scores |= _of_table(table, split)
    if fitted.is_constant:
        scores["no_structure"] = _no_structure(table.verdict(split))
        _tell(str(scores["no_structure"]))
    if seen.bits is not None:
        scores[f"{split}/seen_bits_per_spike"] = seen.bits
    scores |= {
        "epochs": fitted.epochs,
        "updates": fitted.updates,
        "seconds": round(fitted.seconds, 1),
        "checkpoint": fitted.checkpoint,
        "chosen_by": fitted.chosen_by,
    }
    run = Run(trained.folder)
    run.write_scores(scores)
    figures: dict[str, bytes] = {}
    if trained.config.output.report:
        found = [*seen.findings, *(not_scored(n, why) for n, why in scoring.problems.items())]
        figures = _report(trained, scores, chosen, sessions, split, scoring.posteriors, found)
    log_scores(trained.config, trained.folder, scores, figures, trained.step)
    if not scoring.problems:
        run.unfinished_scores.unlink(missing_ok=True)
    return scores


def _no_structure(verdict: Verdict | None) -> str:
    """Return a message that the model is the constant rate, and which simple method to use."""
    text = (
        "The model found no structure in the recording: it predicted hidden entries no better than "
        "each neuron's mean does, so the mean rates are kept as the model. "
    )
    if verdict is None:
        return text + "Use a simple method: smoothing, or a PSTH"
    return text + f"Use {verdict.best}: {verdict.best_value:.3f} {HEADLINES[verdict.metric]}"


class _Scoring(NamedTuple):
    """Results of scoring, by session."""

    kept: dict[str, Kept]
    posteriors: dict[str, Posterior]  # of the sessions scored just now
    problems: dict[str, str]  # why a session could not be scored


def _scored(trained: TrainedModel, sessions: list[Session], split: str) -> _Scoring:
    """Score each session, except those that were scored before an interrupt."""
    assert trained.folder is not None
    samples = trained.config.sampling.num_score_samples
    sizes = {s.name: [len(x.data) for x in s.splits.values()] for s in sessions}
    steps = trained.config.sampling.refine_steps
    of = {"step": trained.step, "samples": samples, "refine_steps": steps, "trials": sizes}
    kept = read_kept(trained.folder, of)
    scoring = _Scoring({n: k for n, k in kept.items() if n in sizes}, {}, {})
    n = sum(len(s.splits[split].data) for s in sessions)
    trials = "validation" if split == "valid" else "training"
    how = f"averages of {samples} posterior samples" if samples else "posterior means"
    how += ", refined" if steps else ""
    _tell(f"Scoring the model and simple methods on {n} {trials} trials ({how})")
    for session in sessions:
        if session.name in scoring.kept:
            continue
        try:
            scored = score(trained, session, split, effort=1 / len(sessions))
            message = None
            if trained.model.noise_model.is_counts:
                message = _better_than_truth(session, split, scored.posterior)
        except Exception as error:  # no error may cost the others' scores
            why = " ".join(str(error).split())[:300] or type(error).__name__
            scoring.problems[session.name] = why
            warnings.warn(f"session {session.name} could not be scored ({why})", stacklevel=2)
            continue
        scoring.posteriors[session.name] = scored.posterior
        scoring.kept[session.name] = Kept(scored.part, scored.gains, message)
        if len(sessions) > 1:
            write_kept(trained.folder, of, scoring.kept)
    EvaluationTable([k.part for k in scoring.kept.values()]).write(trained.folder)
    write_kept(trained.folder, of, scoring.kept)
    return scoring


def _better_than_truth(session: Session, split: str, posterior: Posterior) -> str | None:
    truth, counts = session.splits[split].truth, session.splits[split].known
    if truth is None:
        return None
    return better_than_truth_message(posterior.rates, truth / session.conversion_factor, counts)


class _Copying(NamedTuple):
    """Results of the checks for copied spikes: bits per spike, and warnings."""

    bits: float | None
    findings: list[Finding]


def _copying(kept: Mapping[str, Kept]) -> _Copying:
    """Compare entries hidden from the encoders with seen ones; warn about copying."""
    gains = [k.gains for k in kept.values() if k.gains is not None]
    if not gains:
        return _Copying(None, [])
    message = next((k.copying for k in kept.values() if k.copying is not None), None)
    message = message or hidden_entries_message(gains)
    if message is not None:
        warnings.warn(message, stacklevel=2)
    found = [] if message is None else [copying(message)]
    return _Copying(bits_of_hidden_entries(gains)[0], found)


def _of_table(table: EvaluationTable, split: str) -> Scores:
    """Return the entries of scores.json that come from the table."""
    rows = table.overall(split)
    scores: Scores = dict(table.summary())
    if "bits_per_spike" in rows.get(TRUTH, {}):
        scores[f"{split}/truth_bits_per_spike"] = rows[TRUTH]["bits_per_spike"]
    for name, value in rows.get(BEST_SMOOTHING, {}).items():
        scores[f"{split}/smoothing_{name}"] = value
    verdict = table.verdict(split)
    if verdict is not None:
        scores |= {
            f"{split}/best_simple_{verdict.metric}": verdict.best_value,
            "best_simple_method": verdict.best,
            "verdict": str(verdict),
        }
    return scores


def _report(
    trained: TrainedModel,
    scores: Scores,
    scored: list[Session],
    sessions: list[Session],
    split: str,
    posteriors: Mapping[str, Posterior],
    found: list[Finding],
) -> dict[str, bytes]:
    assert trained.folder is not None
    _tell("Drawing the report")
    machine = about.this_machine(trained.model.factor_weight.device)
    record = about.Record(machine, found, about.read_record(trained.folder).chosen)
    run = trained.evaluation()
    inferred = {
        s.name: posteriors[s.name] if s.name in posteriors else judged(run, s.name, s.splits[split])
        for s in scored
    }
    try:
        pictures = write_run_report(
            trained.folder, trained.config, scores, trained.step,
            Inferred(run, sessions, split, inferred), record,
        )  # fmt: skip
        return {tag: png for s, some in pictures.items() for tag, png in by_tag(s, some).items()}
    except LFADSError:
        raise  # the disk is full
    except Exception as error:  # the model and its scores are saved already
        why = " ".join(str(error).split())[:300] or type(error).__name__
        warnings.warn(
            f"the report could not be written ({type(error).__name__}: {why}); "
            f"{program('report')} {shlex.quote(str(trained.folder))} tries again",
            stacklevel=2,
        )
    return {}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_OF_RUN = {
    "criterion": "lowest value; sweeps compare runs by it",
    "total": "validation cost, nats per trial",
    "recon": "its reconstruction term",
    "sample_recon": "the same for the entries of sample validation, scaled to a whole trial",
    "hidden_recon": "the same for entries hidden from the encoders, smoothed",
    "epochs": "",
    "updates": "",
    "seconds": "training time",
    "checkpoint": "weights that were scored",
    "chosen_by": "criterion that is lowest for these weights",
}


def scores_table(scores: Scores, table: EvaluationTable | None) -> str:
    """Return scores for the terminal: the table of methods, then the run's numbers."""
    lines = []
    if table is not None and table.parts:
        lines += [table.in_short(table.parts[0].split), ""]
    for key, value in scores.items():
        note = _OF_RUN.get(key.rsplit("/")[-1])
        if note is not None and value != "":
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            lines.append(f"  {key:<20}{text:>20}   {note}".rstrip())
    return "\n".join(lines)
