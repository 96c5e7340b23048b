"""A trained model: the four kinds as methods that take and return arrays; saving and loading."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from lfads_lightning.commands import listed
from lfads_lightning.config import Config, LFADSError, Recurrence, SessionSpec
from lfads_lightning.data.fields import Session
from lfads_lightning.data.given import (
    Data,
    add_keys,
    by_session,
    is_named,
    join_splits,
)
from lfads_lightning.data.identity import (
    Identity,
    check_bin_width,
    describe,
    in_order,
    read_identity,
)
from lfads_lightning.data.sessions import Given, checked
from lfads_lightning.inference.posterior import (
    Evaluation,
    Posterior,
    Prior,
    prior_sample,
    push_mean,
    sample_and_average,
)
from lfads_lightning.model.device import resolve_device
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.names import to_original
from lfads_lightning.model.recurrences import choose
from lfads_lightning.notebook.cards import card, facts, lines, sizes
from lfads_lightning.params import settings_of
from lfads_lightning.runs.names import checkpoint_name
from lfads_lightning.runs.run import Run
from lfads_lightning.training.checkpoint_files import (
    PERIODIC,
    load_checkpoint,
    require_checkpoint,
    write_checkpoint,
    write_index,
)
from lfads_lightning.training.format import model_record, rebuilt
from lfads_lightning.training.schedules import ramps

Arrays = ArrayLike | Mapping[str, ArrayLike] | None
USED_KEYS = {
    f"{split}_{name}"
    for split in ("train", "valid")
    for name in ("data", "ext_input", "lengths", "mask")
} | {"neuron_ids", "bin_width_s"}
Result = TypeVar("Result")


class TrainedModel:
    """A trained model without figures and report, which :class:`lfads_lightning.Trained` adds.

    Data are an array (E, T, D), a list of E arrays (T, D), a
    :class:`~lfads_lightning.data.fields.Session`, the path or address of a session file, or
    {session: any of these}. Results come back in the same form: by session if the data are a
    mapping or a file with several sessions. All trials of a session are used, the training trials
    first, then the validation trials; give ``session.valid`` for the latter only. A session brings
    its external inputs. Trials may have unequal lengths and missing entries: NaN, masked arrays, a
    list of arrays, or the session's own keys; results are NaN beyond a trial's end. Results are
    named tuples of numpy arrays; for names and shapes see
    :class:`~lfads_lightning.inference.posterior.Posterior`.

    Attributes:
        model: the network.
        config: all parameters of the run.
        n_bins: T of the training data; None if an imported model does not say.
        step: updates that the weights have had.
        folder: the run's folder, if there is one.
        identity: bin width and neurons of the training data, if known.
        scores: scores at the end of training; empty for a loaded or imported model.
        comparison: scores of the model and of simple methods, by session, an
            :class:`~lfads_lightning.evaluation.table.EvaluationTable`; None for such a model.
    """

    def __init__(
        self,
        model: LFADS,
        config: Config,
        n_bins: int | None,
        step: int,
        folder: Path | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.identity = identity or Identity()
        self.model, self.config = model.eval(), config
        self.n_bins, self.step, self.folder = n_bins, step, folder
        if config.trainer.recurrence is not Recurrence.reference:
            # auto, because it may have been trained on another machine
            model.passes = choose(Recurrence.auto, model.factor_weight.device.type)
        self.scores: dict[str, float | str] = {}
        self.comparison: Any = None

    @property
    def sessions(self) -> dict[str, SessionSpec]:
        """The sessions the model knows, by name."""
        return self.model.sessions

    @property
    def history(self) -> Any:
        """Costs and learning rates per epoch: a pandas ``DataFrame``, or without pandas a dict.

        Raises:
            LFADSError: the model has no run folder.
        """
        columns = self._run("history").read_metrics()
        if find_spec("pandas") is None:
            return columns
        return import_module("pandas").DataFrame(columns)

    def _run(self, what: str) -> Run:
        if self.folder is None:
            raise LFADSError(
                f"{what}: this model has no run folder; it was made from weights, or its folder "
                "was a temporary one"
            )
        return Run(self.folder)

    def __repr__(self) -> str:
        """Return the model's sizes and its main score."""
        verdict = None if self.comparison is None else self._verdict()
        told = ""
        if verdict is not None:
            told = f"; {verdict.metric} {verdict.ours:.3f}, {verdict.best} {verdict.best_value:.3f}"
        return f"{type(self).__name__}({self._sizes()}; {self.step} updates{told})"

    def _sizes(self) -> str:
        sessions, config = self.sessions, self.config.model
        n_neurons = sum(s.data_dim for s in sessions.values())
        parts = sizes(
            (n_neurons, "neuron"),
            (config.factors_dim, "factor"),
            (config.gen_dim, "generator unit"),
            (config.co_dim, "inferred input"),
        )
        return f"{listed(list(sessions), 3)}: {parts}"

    def _verdict(self) -> Any:
        parts = self.comparison.parts
        return self.comparison.verdict(parts[0].split) if parts else None

    def _repr_html_(self) -> str:
        chosen = [f"{name}={value}" for name, value in settings_of(self.config).items()]
        tables = [] if self.comparison is None else self.comparison.tables_html()
        return card(
            f"{type(self).__name__}: {self._sizes()}",
            facts(
                {
                    "updates": self.step,
                    "folder": self.folder,
                    "settings": listed(chosen, 12) if chosen else None,
                }
            ),
            *tables,
            self._curve(),
        )

    def _curve(self) -> str:
        """Return the learning curve as a small picture."""
        columns = {} if self.folder is None else Run(self.folder).read_metrics()
        split = "valid" if "valid/total" in columns else "train"
        curve = columns.get(f"{split}/total", np.zeros(0))
        return lines([curve[len(curve) // 10 :]], f"{split}/total over epochs, nats per trial")

    def posterior_sample_and_average(
        self,
        data: Data,
        num_samples: int | None = None,
        ext_input: Arrays = None,
        *,
        neuron_ids: Arrays = None,
        bin_width_s: float | None = None,
    ) -> Posterior | dict[str, Posterior]:
        """Average posterior samples of every trial.

        Args:
            data: see :class:`TrainedModel`.
            num_samples: samples per trial; by default ``num_posterior_samples``, else
                ``batch_size``.
            ext_input: (E, T, I), if the model has external inputs and the data do not hold them;
                for several sessions {session: array}.
            neuron_ids: (D,), likewise; neurons in a different order from the model's are put in
                its order, with a warning.
            bin_width_s: seconds; it must be that of the model.

        Raises:
            LFADSError: data do not fit the model.
        """
        cfg = self.config
        n = self._number(num_samples, cfg.sampling.num_posterior_samples or cfg.data.batch_size)
        given = self._given(data, ext_input, neuron_ids, bin_width_s)
        names = [one.name for one in given]
        results = [
            sample_and_average(self.evaluation(), s.name, s.train, n) for s in self._sessions(given)
        ]
        return _as_given(data, names, results)

    def posterior_push_mean(
        self,
        data: Data,
        ext_input: Arrays = None,
        *,
        neuron_ids: Arrays = None,
        bin_width_s: float | None = None,
    ) -> Posterior | dict[str, Posterior]:
        """Pass posterior means through the generator, one deterministic pass per trial.

        Args:
            data: see :class:`TrainedModel`.
            ext_input: as in :meth:`posterior_sample_and_average`.
            neuron_ids: as in :meth:`posterior_sample_and_average`.
            bin_width_s: as in :meth:`posterior_sample_and_average`.

        Raises:
            LFADSError: data do not fit the model.
        """
        given = self._given(data, ext_input, neuron_ids, bin_width_s)
        names = [one.name for one in given]
        results = [push_mean(self.evaluation(), s.name, s.train) for s in self._sessions(given)]
        return _as_given(data, names, results)

    def prior_sample(
        self,
        num_samples: int | None = None,
        session: str | None = None,
        ext_input: ArrayLike | None = None,
        n_bins: int | None = None,
    ) -> Prior:
        """Draw trials from the prior.

        Args:
            num_samples: number of trials; by default ``num_prior_samples``, else ``batch_size``.
            session: the session whose read-out to use; by default the first by name.
            ext_input: (num_samples, T, I), needed if external inputs enter the generator.
            n_bins: T; by default that of the training data.

        Raises:
            LFADSError: the session is unknown, ext_input does not fit, or T is not known.
        """
        cfg = self.config
        n = self._number(num_samples, cfg.sampling.num_prior_samples or cfg.data.batch_size)
        name = session or cfg.sampling.session or min(self.sessions)
        if name not in self.sessions:
            raise LFADSError(
                f"sampling.session={name!r}: the model was trained on {describe(self.sessions)}"
            )
        n_bins = n_bins or self.n_bins
        if n_bins is None:
            raise LFADSError("prior_sample: this model does not say how long its trials are; "
                             "give n_bins")  # fmt: skip
        ext = None if ext_input is None else np.asarray(ext_input)
        return prior_sample(self.evaluation(), name, n, n_bins, ext)

    def model_params(self) -> dict[str, np.ndarray]:
        """Return all weights under the original's variable names, each of shape (in, out)."""
        return {name: value.cpu().numpy() for name, value in to_original(self.model).items()}

    def save(self, folder: str | Path) -> Path:
        """Write the model as the folder of a run, for :func:`load` and the command line.

        Training can be continued from it, with these weights and a new optimiser state. If
        ``folder`` is an address in a store (``s3://…``), a local folder is written, copied there
        and returned.

        Raises:
            LFADSError: there is a run in the folder already.
        """
        run = Run.open(folder)
        if run.checkpoints.exists():
            raise LFADSError(f"{run.folder}: already holds a run; save to another folder")
        name = checkpoint_name(self.config.output.checkpoint_name, self.step)
        state = {f"model.{k}": v.cpu() for k, v in self.model.state_dict().items()}
        record = model_record(self.model, self.config, self.n_bins, self.step)
        record |= self.identity.to_record()
        write_checkpoint({"state_dict": state, "lfads": record}, run.checkpoints / name)
        write_index(run.checkpoints, PERIODIC, [name])
        run.write_config(self.config)
        if self.scores:
            run.write_scores(self.scores)
        run.push()
        return run.folder

    def evaluation(self) -> Evaluation:
        """Return the settings of a pass over data; its random numbers start from the seed."""
        rng = torch.Generator(self.model.factor_weight.device).manual_seed(self.config.seed)
        return Evaluation(
            self.model,
            self.config.loss,
            ramps(self.config, self.step),
            self.step,
            rng,
            self.config.sampling.memory_mb,
            self.config.sampling.num_score_samples,
            self.config.sampling.refine_steps,
        )

    def fitting(self, sessions: list[Session]) -> list[Session]:
        """Return sessions of data under the model's names, with their neurons in its order.

        A model of one session accepts one session of any name. There is a warning if trials have a
        different length from those that the model was trained on.

        Raises:
            LFADSError: the session is unknown, or its neurons or bin width are not the model's.
        """
        if len(self.sessions) == len(sessions) == 1:
            sessions = [replace(sessions[0], name=next(iter(self.sessions)))]
        fitting = []
        for s in sessions:
            spec = self.sessions.get(s.name)
            if spec is None:
                raise LFADSError(
                    f"{s.source}: the model has no session {s.name!r}; it was trained on "
                    f"{describe(self.sessions)}"
                )
            check_bin_width(s, self.identity)
            s = in_order(s, self.identity)
            fitting.append(s)
            if spec.data_dim != s.data_dim:
                is_turned = spec.data_dim == s.n_bins
                raise LFADSError(
                    f"{s.source}: has {s.data_dim} neurons, but the model's session {spec.name!r} "
                    f"has {spec.data_dim}"
                    + (
                        "; if it is trials × neurons × bins, give x.transpose(0, 2, 1)"
                        if is_turned
                        else ""
                    )  # fmt: skip
                )
            if spec.forward_steps >= (shortest := s.shortest):
                raise LFADSError(
                    f"{s.source}: trials have {shortest} bins, but the model predicts the last "
                    f"{spec.forward_steps} from those before; give longer trials"
                )
            ext = s.train.ext_input
            n_inputs = 0 if ext is None else ext.shape[2]
            if spec.ext_input_dim != n_inputs:
                raise LFADSError(
                    f"{s.source}: data.ext_input_dim={n_inputs}, but the model takes "
                    f"{spec.ext_input_dim} external inputs"
                )
            if self.n_bins not in (None, s.n_bins) and s.equal_trials:
                warnings.warn(
                    f"{s.source}: trials have {s.n_bins} bins, but the model was trained on "
                    f"{self.n_bins}; inference works, but its results may be worse",
                    stacklevel=4,
                )
        return fitting

    @staticmethod
    def _number(num_samples: int | None, default: int) -> int:
        n = default if num_samples is None else num_samples
        if isinstance(n, bool) or n != int(n) or n < 1:
            raise LFADSError(f"num_samples is {num_samples}; expected an integer >= 1")
        return int(n)

    def _given(self, data: Data, ext_input: Any, neuron_ids: Any, bin_width_s: Any) -> list[Given]:
        """Return the data of each session, with the keys that a model uses."""
        if len(self.sessions) > 1 and not is_named(data):
            raise LFADSError(
                f"data is one array, but the model has sessions {describe(self.sessions)}; give "
                "{session name: array}"
            )
        given = by_session(data, "data", unnamed=next(iter(self.sessions)))
        for one in given:
            for key in set(one.arrays) - USED_KEYS:
                del one.arrays[key]
        join_splits(given)
        keys = {
            "train_ext_input": ext_input,
            "neuron_ids": neuron_ids,
            "bin_width_s": bin_width_s,
        }
        add_keys(given, keys, "data")
        return given

    def _sessions(self, given: list[Given]) -> list[Session]:
        return self.fitting(
            checked(
                given,
                output_dist=self.config.model.output_dist.name,
                ext_input_dim=self.model.ext_input_dim,
                factors_dim=self.config.model.factors_dim,
                warn=False,
            )
        )


def _as_given(data: Data, names: list[str], results: list[Result]) -> Result | dict[str, Result]:
    """Return results by the names in the data, or a single result for data without names."""
    if isinstance(data, Mapping) or len(results) > 1:
        return dict(zip(names, results, strict=True))
    return results[0]


def load(
    folder: str | Path, checkpoint_pb_load_name: str = PERIODIC, device: str = "cpu"
) -> TrainedModel:
    """Load a model without its scores; arguments and errors are :func:`lfads_lightning.load`'s."""
    folder = Run.open(folder).folder
    path = require_checkpoint(folder, checkpoint_pb_load_name)
    checkpoint = load_checkpoint(path)
    (model, config), record = rebuilt(checkpoint, path), checkpoint["lfads"]
    return TrainedModel(
        model.to(resolve_device(device)),
        config,
        record["n_bins"],
        record["step"],
        folder,
        read_identity(record),
    )
