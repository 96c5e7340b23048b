"""The result of training: the model with its figures, report and scores; loading a model."""

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
from lfads_lightning.evaluation.scores import evaluate as scored
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
from lfads_lightning.runs.run import Run
from lfads_lightning.training.checkpoint_files import LOWEST, PERIODIC, best_index


class Report:
    """A report on disk; a notebook shows it.

    Attributes:
        path: path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        """Return the path."""
        return f"Report({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        # sandboxed, so that scripts in a page from somebody else do not run in the notebook
        page = escape(self.path.read_text(encoding="utf-8"))
        return (
            f'<iframe sandbox="" srcdoc="{page}" width="100%" height="640" '
            f'style="border:1px solid #8884"></iframe><div>{escape(str(self.path))}</div>'
        )


class Trained(TrainedModel):
    """A trained LFADS model.

    Data are an array (E, T, D), a list of E arrays (T, D), a
    :class:`~lfads_lightning.data.fields.Session`, the path or address of a session file, or
    {session: any of these}. Results come back in the same form: by session if the data are a
    mapping or a file with several sessions. All trials of a session are used, the training trials
    first, then the validation trials; give ``session.valid`` for the latter only. A session brings
    its external inputs. Results are named tuples of numpy arrays; for names and shapes see
    :class:`~lfads_lightning.inference.posterior.Posterior`.

    Attributes:
        model: the network.
        config: all parameters of the run.
        n_bins: T of the training data; None if an imported model does not say.
        step: updates that the weights have had.
        folder: the run's folder, if there is one.
        identity: bin width and neurons of the training data, if known.
        scores: scores at the end of training, if they are those of these weights; else empty.
        comparison: scores of the model and of simple methods, by session, an
            :class:`~lfads_lightning.evaluation.table.EvaluationTable`, or None.
        data: the sessions that the model was fitted to (for very large sessions only the trials
            that were scored); empty for a loaded model.
    """

    data: Sequence[Session] = ()

    @classmethod
    def of(cls, model: TrainedModel) -> Trained:
        """Return a model with figures and a report, from a model without them."""
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
        """Return the report of the run, which a notebook shows; write it if there is none yet.

        Raises:
            LFADSError: the model has no run folder.
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
        """Score the model and simple methods for comparison.

        Nothing is written; :func:`lfads_lightning.evaluate` of a run's folder writes its scores.

        Args:
            data: see :class:`Trained`; by default the data that the model was fitted to. The simple
                methods learn from the training trials of a session, and are scored on its
                validation trials; an array has only training trials.
            session: names of the sessions to score; empty: all.
            split: ``train`` or ``valid``; None: ``valid``, if there are validation trials.
            samples: posterior samples averaged per trial; 0: posterior means; None: as in the run.
            lag_bins: behaviour in bin t + ``lag_bins`` is decoded from the rates in bin t.
            metrics: names of the metrics to compute; empty: all.

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
            return scored(self, chosen, split=split, lag_bins=lag_bins, only=list(metrics) or None)
        finally:
            self.config.sampling.num_score_samples = before

    def sessions_of(self, data: Data | None) -> list[Session]:
        """Return sessions with all their keys, under the model's names; None: its own data.

        Raises:
            LFADSError: the data do not fit the model, or it has no record of its own.
        """
        if data is None:
            if self.data:
                return self.fitting(list(self.data))
            if self.folder is None:
                raise LFADSError(
                    "data: this model has no record of the data it was trained on; give the data"
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
        """Return the session to draw, and the name of its split."""
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
            session: name of the session.
            split: train or valid.
            number: number of a trial that must be among them.
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
        """Trials inferred for figures of the model's own data, kept because it takes seconds."""
        kept: dict[tuple[str, str], Trials] = self.__dict__.setdefault("_trials_shown", {})
        return kept


def _named(sessions: Sequence[Session], name: str) -> Session:
    by_name = {s.name: s for s in sessions}
    if name not in by_name:
        raise LFADSError(
            f"session: the data have no session {name!r}{nearest(name, by_name)}; they have "
            f"{listed(by_name)}"
        )
    return by_name[name]


@warns_in_short
def load(
    folder: str | Path, checkpoint_pb_load_name: str = PERIODIC, device: str = "cpu"
) -> Trained:
    """Load a model from the folder of a run, without its data.

    Args:
        folder: folder of a training run, or one written by :meth:`Trained.save`; it may be in a
            store (``s3://…``).
        checkpoint_pb_load_name: ``checkpoint`` (the newest) or ``checkpoint_lve`` (the one with the
            lowest validation error).
        device: the device, as in ``trainer.device``.

    Raises:
        LFADSError: there is no such checkpoint, or it is damaged or too new.
    """
    trained = Trained.of(inference.load(folder, checkpoint_pb_load_name, device))
    assert trained.folder is not None
    try:
        scores = trained._run("load").read_scores() or {}
    except LFADSError:  # a model can be used without its scores
        return trained
    if scores.get("checkpoint") == (LOWEST if checkpoint_pb_load_name == LOWEST else "last"):
        trained.scores = {k: np.nan if v is None else v for k, v in scores.items()}
        trained.comparison = read_table(trained.folder)
    return trained


@warns_in_short
def evaluate(
    run: Trained | Run | str | Path,
    data: Data | None = None,
    *,
    session: Sequence[str] = (),
    split: str | None = None,
    samples: int | None = None,
    lag_bins: int = 0,
    metrics: Sequence[str] = (),
    checkpoint: str | None = None,
    device: str = "cpu:0",
) -> EvaluationTable:
    """Score a model and simple methods for comparison, as ``lfads evaluate`` does.

    Given a run's folder and no ``data``, the model is scored on the run's own data and the scores
    are written to evaluation.json in its folder. Otherwise nothing is written.

    Args:
        run: a trained model; or a run, its folder, or its address in a store.
        data: data other than the model's own: an array, a session, the path of a session file, or
            {session: any of these}. Simple methods learn from the training trials of a session.
        session: names of the sessions to score; empty: all.
        split: ``train`` or ``valid``; None: ``valid``, if there are validation trials.
        samples: posterior samples averaged per trial; 0: posterior means; None: as in the run.
        lag_bins: behaviour in bin t + ``lag_bins`` is decoded from the rates in bin t.
        metrics: names of the metrics to compute; empty: all.
        checkpoint: for a run's folder: ``checkpoint`` or ``checkpoint_lve``; None: the one with the
            lowest validation error, if any.
        device: for a run's folder: the device, as in ``trainer.device``.

    Raises:
        LFADSError: there is no such run, its data are missing, or the data do not fit the model.
    """
    if isinstance(run, Trained):
        if checkpoint is not None:
            raise LFADSError(
                "evaluate: checkpoint is for the folder of a run, but a trained model already has "
                "its weights; leave it out"
            )
        trained = run
    else:
        opened = run if isinstance(run, Run) else Run.open(run)
        folder = opened.chosen().folder
        trained = load(folder, checkpoint or best_index(folder), device)
    table = trained.evaluate(
        data,
        session=session,
        split=split,
        samples=samples,
        lag_bins=lag_bins,
        metrics=metrics,
    )
    if not isinstance(run, Trained) and data is None:
        with opened.mirrored():
            table.write(folder)
    return table
