"""What training returns: the model with its figures, its report and its scores; loading one."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError
from lfads_lightning.data.fields import Session
from lfads_lightning.data.given import Data, by_session
from lfads_lightning.data.sessions import checked
from lfads_lightning.evaluation.scores import evaluate
from lfads_lightning.evaluation.table import EvaluationTable, read_table
from lfads_lightning.inference import trained as inference
from lfads_lightning.inference.posterior import judged
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.interface.plots import Plots
from lfads_lightning.notebook.interactive import warns_in_short
from lfads_lightning.report import about
from lfads_lightning.report.run_report import Inferred, write_run_report
from lfads_lightning.report.trials import MOST_TRIALS, Trials, shown_trials
from lfads_lightning.report.write_report import own_sessions, write_report
from lfads_lightning.training.checkpoints import LOWEST, PERIODIC


class Report:
    """A report that was written; a notebook shows it.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        """Return where it is."""
        return f"Report({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        # sandboxed: what a page that was sent holds does not run in the notebook
        page = escape(self.path.read_text(encoding="utf-8"))
        return (
            f'<iframe sandbox="" srcdoc="{page}" width="100%" height="640" '
            f'style="border:1px solid #8884"></iframe><div>{escape(str(self.path))}</div>'
        )


class Trained(TrainedModel):
    """A trained LFADS model.

    Data go in as an array (E, T, D), a list of E arrays (T, D), a
    :class:`~lfads_lightning.data.fields.Session`, the path or address of a session file, or
    {session: any of these}, and results come out in the same form: by session where the data name
    sessions in a mapping, or are a file of several. Of a session, all trials are taken, those of
    training first, then those of validation; ``session.valid`` alone takes these. External inputs
    come with it. Results are named tuples of numpy arrays, their names and shapes at
    :class:`~lfads_lightning.inference.posterior.Posterior`.

    Attributes:
        model: the network.
        config: all parameters of the run.
        n_bins: T of the training data; None where an imported model does not say.
        step: updates behind the weights.
        folder: where the run lies, if anywhere.
        identity: bin width and neurons of its training data, where these said so.
        scores: what the training run ended with, where these weights are those that were scored;
            else empty.
        comparison: the same beside simple methods, by session, an
            :class:`~lfads_lightning.evaluation.table.EvaluationTable`, or None.
        data: the sessions that it was fitted to, or, of very large ones, those of their trials that
            were scored; none for a loaded model.
    """

    data: Sequence[Session] = ()

    @classmethod
    def of(cls, model: TrainedModel) -> Trained:
        """Return a model with figures and report, such as one that was imported."""
        made = cls(
            model.model, model.config, model.n_bins, model.step, model.folder, model.identity
        )
        made.scores, made.comparison = model.scores, model.comparison
        return made

    @property
    def plot(self) -> Plots:
        """The figures of the report, one by one: ``trained.plot.trial()``."""
        return Plots(self)

    def report(self) -> Report:
        """Return the report of the run, which a notebook shows; it is written where it is not yet.

        Raises:
            LFADSError: the model has no run's folder.
        """
        run = self._run("report")
        if not run.report.is_file():
            if self.data:
                self._write_report(run.folder)
            else:
                write_report(run.folder)
        return Report(run.report)

    def _write_report(self, folder: Path) -> None:
        split = "valid" if any(s.valid is not None for s in self.data) else "train"
        run = self.evaluation()
        sessions = self.fitting(list(self.data))
        inferred = {
            s.name: judged(run, s.name, s.splits[split]) for s in sessions if split in s.splits
        }
        machine = about.this_machine(self.model.factor_weight.device)
        record = about.Record(machine, [], about.read_record(folder).chosen)
        drawn = Inferred(run, sessions, split, inferred)
        write_run_report(folder, self.config, self.scores, self.step, drawn, record)

    def evaluate(
        self,
        data: Data | None = None,
        *,
        session: Sequence[str] = (),
        split: str | None = None,
        samples: int | None = None,
        lag_bins: int = 0,
        metrics: Sequence[str] = (),
    ) -> EvaluationTable:
        """Score the model, and simple methods beside it, on trials of the data.

        Nothing is written; :func:`lfads_lightning.evaluate` of a run's folder writes its scores.

        Args:
            data: see :class:`Trained`; by default those that it was fitted to. The simple methods
                learn from the training trials of a session, and are scored on its validation
                trials; an array has training trials alone.
            session: names of the sessions that are scored; none: all.
            split: ``train`` or ``valid``; None: ``valid``, if any.
            samples: posterior samples averaged per trial; 0: posterior means; None: as the run.
            lag_bins: behaviour of bin t + N is read from the rates of bin t.
            metrics: those computed; none: all.

        Raises:
            LFADSError: data do not fit the model, or lack what a metric needs.
        """
        found = self.sessions_of(data)
        if samples is not None and samples < 0:
            raise LFADSError(f"evaluate: samples is {samples}; expected a number >= 0")
        chosen = [_named(found, name) for name in session] or found
        before = self.config.sampling.num_score_samples
        if samples is not None:
            self.config.sampling.num_score_samples = samples
        try:
            return evaluate(
                self, chosen, split=split, lag_bins=lag_bins, only=list(metrics) or None
            )
        finally:
            self.config.sampling.num_score_samples = before

    def sessions_of(self, data: Data | None) -> list[Session]:
        """Return sessions with all their keys, under the model's names; None: the model's own.

        Raises:
            LFADSError: they do not fit the model, or it does not know its own.
        """
        if data is None:
            if self.data:
                return self.fitting(list(self.data))
            if self.folder is None:
                raise LFADSError(
                    "data: this model does not know what it was trained on; give the data"
                )
            return own_sessions(self)
        given = by_session(data, "data", unnamed=next(iter(self.sessions)))
        return self.fitting(
            checked(
                given,
                output_dist=self.config.model.output_dist.name,
                ext_input_dim=self.model.ext_input_dim,
                factors_dim=self.config.model.factors_dim,
                warn=False,
            )
        )

    def session_and_split(
        self, data: Data | None, session: str | None, split: str | None
    ) -> tuple[Session, str]:
        """Return the session that a figure is of, and the name of its split."""
        found = self.sessions_of(data)
        chosen = found[0] if session is None else _named(found, session)
        name = split or ("train" if chosen.valid is None else "valid")
        if name not in chosen.splits:
            raise LFADSError(
                f"{chosen.source}: has no split {name!r}; expected {listed(chosen.splits)}"
            )
        return chosen, name

    def trials(
        self,
        data: Data | None = None,
        session: str | None = None,
        split: str | None = None,
        number: int | None = None,
    ) -> Trials:
        """Return the trials that figures show, and what the model infers from them.

        Args:
            data: see :class:`~lfads_lightning.interface.plots.Plots`.
            session: its name.
            split: train or valid.
            number: of a trial that must be among them.
        """
        chosen, name = self.session_and_split(data, session, split)
        trials = chosen.splits[name]
        if number is not None and not 0 <= number < len(trials.data):
            raise LFADSError(
                f"plot.trial: number is {number}; {chosen.name} has {len(trials.data)} {name} "
                f"trials, counted from 0"
            )
        key = (chosen.name, name)
        kept = self._shown.get(key) if data is None else None
        if kept is None or (number is not None and number not in kept.numbers):
            run = self.evaluation()
            kept = shown_trials(run, chosen, name, most=MOST_TRIALS, also=number)
            if data is None:
                self._shown[key] = kept
        return kept

    @property
    def _shown(self) -> dict[tuple[str, str], Trials]:
        """What has been inferred of the model's own data for figures: it takes seconds."""
        kept: dict[tuple[str, str], Trials] = self.__dict__.setdefault("_trials_shown", {})
        return kept


def _named(sessions: Sequence[Session], name: str) -> Session:
    by_name = {s.name: s for s in sessions}
    if name not in by_name:
        raise LFADSError(
            f"session: the data have no session {name!r}{nearest(name, by_name)}; they hold "
            f"{listed(by_name)}"
        )
    return by_name[name]


@warns_in_short
def load(
    folder: str | Path, checkpoint_pb_load_name: str = PERIODIC, device: str = "cpu"
) -> Trained:
    """Load a model from any run's folder, without its data.

    Args:
        folder: of a training run, or written by :meth:`Trained.save`; may lie in a store
            (``s3://…``).
        checkpoint_pb_load_name: ``checkpoint`` (the newest) or ``checkpoint_lve`` (the lowest
            validation error).
        device: as ``trainer.device``.

    Raises:
        LFADSError: no such checkpoint, or it is damaged or too new.
    """
    trained = Trained.of(inference.load(folder, checkpoint_pb_load_name, device))
    assert trained.folder is not None
    try:
        scores = trained._run("load").read_scores() or {}
    except LFADSError:  # a model can be used without them
        return trained
    if scores.get("checkpoint") == (LOWEST if checkpoint_pb_load_name == LOWEST else "last"):
        trained.scores = {k: np.nan if v is None else v for k, v in scores.items()}
        trained.comparison = read_table(trained.folder)
    return trained
