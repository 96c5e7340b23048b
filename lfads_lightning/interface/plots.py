"""The figures of the report, one by one, as matplotlib figures: ``trained.plot``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lfads_lightning.config import LFADSError
from lfads_lightning.data.given import Data
from lfads_lightning.report import population
from lfads_lightning.report.behaviour import behaviour_drawing
from lfads_lightning.report.curves import learning_curves
from lfads_lightning.report.figures import one_trial
from lfads_lightning.report.run_report import best_epoch
from lfads_lightning.report.samples_figure import samples_drawing
from lfads_lightning.report.style import Drawing
from lfads_lightning.report.trials import Trials

if TYPE_CHECKING:
    from lfads_lightning.interface.trained import Trained


class Plots:
    """Figures of a trained model, as in the report.

    Each method returns a matplotlib figure, which a notebook shows; save it with
    ``figure.savefig("name.pdf")``. Without ``data`` it shows the model's own data: those given to
    :func:`lfads_lightning.fit`, or the session files that its run was trained on. ``session`` names
    one of several sessions (by default the first); ``split`` is ``train`` or ``valid`` (by default
    ``valid``, if there is one). At most 120 trials are shown, evenly spaced.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    def __repr__(self) -> str:
        """List the figures."""
        names = [name for name in vars(Plots) if not name.startswith("_")]
        return f"trained.plot: {', '.join(f'{name}()' for name in names)}"

    def curves(self) -> Figure:
        """Draw the learning curves: each term of the loss over epochs, and the learning rate.

        Raises:
            LFADSError: the model has no run folder, or there are no metrics in it.
        """
        columns = self._trained._run("plot.curves").read_metrics()
        drawing = learning_curves(columns, best_epoch(self._trained.scores, columns))
        if drawing is None:
            raise LFADSError(
                f"plot.curves: {self._trained.folder} has no metrics; they are written as a model "
                "trains"
            )
        return drawing.figure

    def trial(
        self,
        number: int | None = None,
        data: Data | None = None,
        *,
        session: str | None = None,
        split: str | None = None,
    ) -> Figure:
        """Draw one trial: spikes, inferred rates, factors, inferred inputs, a few neurons.

        Args:
            number: number of the trial within its split, counted from 0; by default the trial with
                the median cost.
            data: see :class:`Plots`.
            session: name of the session.
            split: train or valid.

        Raises:
            LFADSError: there is no such trial, session or split, or the data are not known.
        """
        trials = self._trained.trials(data, session, split, number)
        return one_trial(trials, number).figure

    def averages(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw single-trial rates over the averages of the spikes (PSTH), by condition."""
        return self._of_trials(population.averages, data, session, split)

    def factors(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw the trajectories of the factors in their first three principal components."""
        return self._of_trials(population.trajectories, data, session, split)

    def initial_conditions(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw the initial conditions in their first principal components."""
        return self._of_trials(population.initial_conditions, data, session, split)

    def inputs(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw the inferred inputs: all trials, a few with their spread, and correlations."""
        return self._of_trials(population.inferred_inputs, data, session, split)

    def inputs_at_event(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw the mean inferred inputs around the event, by condition."""
        return self._of_trials(population.inputs_at_event, data, session, split)

    def generator(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw the generator's units in one trial, and their principal components."""
        return self._of_trials(population.generator_states, data, session, split)

    def neurons(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw how well each neuron's spikes are explained, against its mean rate."""
        return self._of_trials(population.neurons, data, session, split)

    def behaviour(self, data: Data | None = None, *, session: str | None = None) -> Figure:
        """Draw behaviour in validation trials, measured and decoded from the rates."""
        shown, split = self._trained.session_and_split(data, session, None)
        trials = self._trained.trials(data, session, split)
        drawing = behaviour_drawing(self._trained.evaluation(), shown, trials)
        return _figure("behaviour", drawing)

    def samples(
        self, data: Data | None = None, *, session: str | None = None, split: str | None = None
    ) -> Figure:
        """Draw the scores against the number of posterior samples averaged."""
        shown, name = self._trained.session_and_split(data, session, split)
        trials = self._trained.trials(data, session, split)
        return _figure("samples", samples_drawing(self._trained.evaluation(), shown, name, trials))

    def _of_trials(
        self,
        draw: Callable[[Trials], Drawing | None],
        data: Data | None,
        session: str | None,
        split: str | None,
    ) -> Figure:
        return _figure(draw.__name__, draw(self._trained.trials(data, session, split)))


_WANTING = {
    "trajectories": "two factors or more",
    "initial_conditions": "initial conditions: model.ic_dim > 0",
    "inferred_inputs": "inferred inputs: model.co_dim > 0",
    "inputs_at_event": "inferred inputs (model.co_dim > 0), and data with the time of the event: "
    "bin_width_s and window_s",
    "neurons": "counts",
    "behaviour": "train_behaviour and valid_behaviour in the session",
    "samples": "true rates or spikes",
}


def _figure(name: str, drawing: Drawing | None) -> Figure:
    if drawing is None:
        raise LFADSError(f"plot: there is nothing to draw; this figure needs {_WANTING[name]}")
    return drawing.figure
