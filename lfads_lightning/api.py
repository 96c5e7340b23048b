"""The Python interface: :func:`fit` trains a model, :func:`load` opens the folder of a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfads_lightning.commands import nearest
from lfads_lightning.config import Algorithm, Config, Kind, LFADSError, Recipe
from lfads_lightning.data.fields import OF_SPLIT, Session
from lfads_lightning.data.given import Data, add_keys, by_session, hold_out
from lfads_lightning.data.identity import identity_of
from lfads_lightning.data.keywords import shows
from lfads_lightning.data.recipe import chosen_in, filled
from lfads_lightning.data.scored import scored_sessions
from lfads_lightning.data.sessions import Given, checked
from lfads_lightning.inference import trained as inference
from lfads_lightning.interface.signatures import FIT_KEYS, key_keywords, parameter_keywords
from lfads_lightning.interface.trained import Trained, evaluate, load
from lfads_lightning.model.device import resolve_device
from lfads_lightning.notebook.interactive import at_prompt, warns_in_short
from lfads_lightning.params import (
    canonical,
    differing,
    flat_value,
    from_dict,
    from_flat,
    to_dict,
)
from lfads_lightning.report.about import Record, write_record
from lfads_lightning.report.finish import finish
from lfads_lightning.report.search_report import write_search_report
from lfads_lightning.report.training_figures import Figures
from lfads_lightning.runs.params_file import OF_FILES, read_params_file
from lfads_lightning.runs.provenance import check_file_of_parameters
from lfads_lightning.runs.run import Run
from lfads_lightning.runs.signals import Interrupted, Preempted
from lfads_lightning.search.candidates import folder_so_far, with_best_candidate
from lfads_lightning.search.run import run_search
from lfads_lightning.search.space import drawn_settings
from lfads_lightning.training import constant_rate
from lfads_lightning.training import fit as training
from lfads_lightning.training.checkpoint_files import best_index
from lfads_lightning.training.checkpoints import tell_to_continue
from lfads_lightning.training.start import with_model_of_start

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lfads_lightning.notebook.typed_keywords import FitKeywords

__all__ = ["Trained", "evaluate", "fit", "load", "train_sessions"]


VALID_FRACTION = 0.2


@shows(parameter_keywords(), "Parameters", closed=True)
@shows(key_keywords(), "Keys of a session")
@warns_in_short
def fit(
    data: Data,
    *,
    config: Config | None = None,
    valid_fraction: float | None = None,
    **keys_and_parameters: Unpack[FitKeywords],
) -> Trained:
    """Train a model on arrays, sessions or session files.

    Args:
        data: training trials: an array (E, T, D) of counts per bin, a list of E arrays (T, D), a
            :class:`~lfads_lightning.data.fields.Session`, the path or the address (``s3://…``) of
            a session file with one or more sessions, or a dictionary {session: any of these}.
        config: parameters as an object: ``lfads.Config()``, or the config of a trained model.
            Every value in it that differs from the default counts as set; keywords override it.
            It includes the run's folder: to train anew with the config of a trained model, also
            give ``lfads_save_dir=None`` or another folder.
        valid_fraction: share of the trials of ``data``, evenly spaced, that are held out for
            validation in sessions without ``valid_data``, by default 0.2; 0 trains on all trials.
        **keys_and_parameters: the keys of a session, listed below, that the data do not contain
            already. The prefix ``train_`` may be omitted (``condition``, ``ext_input``); values
            cover all trials of ``data``, before some are held out. For several sessions give
            {session: value}; a key with a single value, such as ``bin_width_s``, may be shared.
            Also every parameter by its documented name, ``co_dim=2``. The run's folder is
            ``lfads_save_dir``, by default outputs/DATE/TIME. ``algorithm="pbt"`` runs a search and
            returns its best member. ``held_out_neurons`` means the parameter, not the key: column
            numbers for all sessions, or "file" to use those in each session.

    Returns:
        The model with the lowest validation cost (the last one, if no epoch was eligible).

    Raises:
        LFADSError: data or parameters are wrong; the message says which and how to fix it.
        KeyboardInterrupt: Ctrl-C in a script. Progress is saved; the same call with
            ``lfads_save_dir`` set to the run's folder continues it. At a prompt or in a notebook
            nothing is raised, and the model trained so far is returned.
        Preempted: SIGTERM or SIGUSR1; progress is saved likewise. If it is not caught, the program
            exits with code 75.
    """
    given = _parameters_of(config) | dict(keys_and_parameters)
    return _fit(data, valid_fraction, given, lambda *ready: train_sessions(*ready))


def fit_unscored(data: Data, folder: str, parameters: Mapping[str, Any]) -> Trained:
    """Train a model in a folder without scores, figures or a report; see :func:`fit`."""
    rest = dict(parameters) | {"lfads_save_dir": folder, "report": False}
    rest |= {"plot_every_n_epochs": 0}
    fraction = rest.pop("valid_fraction", None)
    return _fit(data, fraction, rest, lambda *ready: _trained(*ready)[0])


def _fit(
    data: Data,
    valid_fraction: float | None,
    keys_and_parameters: Mapping[str, Any],
    train: Callable[[Config, list[Session], Path], Trained],
) -> Trained:
    keys, parameters = _sorted_out(keys_and_parameters)
    file = parameters.get("params_file")
    from_file = {} if file is None else OF_FILES | read_params_file(file)
    if file is not None:
        check_file_of_parameters(file, from_file, parameters, lambda name, at: f"{name}={at!r}")
    config = from_flat(parameters, "fit", base=from_flat(from_file))
    if drawn := drawn_settings(config):
        config = from_flat(from_file | drawn | parameters, "fit")
    config = with_model_of_start(config, from_file | drawn | parameters)
    config.data.data_dir, config.data.data_filename_stem = None, ""  # the data are in memory
    if config.kind is not Kind.train:
        raise LFADSError(
            f"fit: kind={config.kind.name} is a method of the trained model: "
            f"lfads.load(folder).{config.kind.name}(...)"
        )
    given = by_session(data, "fit")
    add_keys(given, keys, "fit")
    _split(given, keys, valid_fraction)
    asked = {canonical(name, "fit") for name in from_file | drawn | parameters}
    given_dir = config.output.lfads_save_dir
    named = None if given_dir is None else Run.open(given_dir)
    begun = named.read_config() if named is not None and config.recipe is Recipe.auto else None
    config = filled(config, asked, [one.arrays for one in given], begun)
    sessions = checked(
        given,
        output_dist=config.model.output_dist.name,
        ext_input_dim=config.data.ext_input_dim,
        factors_dim=config.model.factors_dim,
    )
    now = Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    with nullcontext(named) if named is not None else Run.new(now) as run:
        config.output.lfads_save_dir = str(run.folder.resolve())
        with run.locked():
            return train(config, sessions, run.folder)


def _sorted_out(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate the keys of a session, under their full names, from parameters."""
    keys: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for name, value in given.items():
        key = f"train_{name}" if name in OF_SPLIT else name
        if key not in FIT_KEYS:
            parameters[name] = value
        elif key in keys:
            raise LFADSError(
                f"fit: {key} and {key.removeprefix('train_')} are the same key; give one of them"
            )
        else:
            keys[key] = value
    for name in parameters:
        try:
            canonical(name, "fit")
        except LFADSError:
            if near := nearest(name, FIT_KEYS):
                raise LFADSError(f"fit: no keyword is named {name}{near}") from None
            raise
    return keys, parameters


def _parameters_of(config: Config | None) -> dict[str, Any]:
    """Return the parameters that a config sets, by flat name."""
    if config is None:
        return {}
    if not isinstance(config, Config):
        raise LFADSError(
            f"fit: config is a {type(config).__name__}; expected a lfads_lightning.Config, "
            "such as trained.config"
        )
    config = from_dict(to_dict(config), "fit: config")  # assigned fields have not been checked yet
    others = {"data_dir", "data_filename_stem"}  # fit gets its data as an argument
    return {name: flat_value(config, name) for name in differing(config) - others}


def _split(given: list[Given], keys: Mapping[str, Any], fraction: float | None) -> None:
    """Hold out trials in sessions without validation trials."""
    lacking = [one for one in given if "valid_data" not in one.arrays]
    for one in lacking:
        if strays := [key for key in one.arrays if key.startswith("valid_")]:
            raise LFADSError(
                f"{one.source}: {strays[0]} is given without valid_data; give both, or "
                f"{strays[0].replace('valid_', 'train_')} of all trials"
            )
    is_asked = fraction is not None and fraction != 0
    if is_asked and (keys.get("valid_data") is not None or not lacking):
        raise LFADSError(
            f"fit: valid_fraction={fraction}, and validation trials are given; give one of the two"
        )
    if keys.get("valid_data") is None and fraction != 0:
        hold_out(lacking, VALID_FRACTION if fraction is None else fraction, "fit")


def train_sessions(config: Config, sessions: list[Session], folder: Path) -> Trained:
    """Train or search, score and draw: the common end of ``kind=train`` and :func:`fit`."""
    with Run(folder).mirrored():
        if config.search.algorithm is Algorithm.pbt:
            found, fitted = run_search(config, sessions, folder)
            best = Trained.of(found)
            best.data = scored_sessions(sessions)
            best.scores = finish(best, list(best.data), fitted)
            if config.output.report:
                write_search_report(folder)
            return best
        try:
            trained, fitted = _trained(config, sessions, folder)
        except Interrupted:
            if not at_prompt():
                raise
            so_far = folder_so_far(folder, config.trainer.max_steps)
            if so_far is None:
                raise
            return _so_far(config, sessions, so_far)
        trained.data = scored_sessions(sessions)
        try:
            trained.scores = finish(trained, list(trained.data), fitted)
        except (KeyboardInterrupt, Preempted) as stop:
            done = "Interrupted; all updates are saved, but not the scores or the report"
            tell_to_continue(folder, done, config)
            if not (isinstance(stop, KeyboardInterrupt) and at_prompt()):
                raise
        return trained


def _trained(
    config: Config, sessions: list[Session], folder: Path
) -> tuple[Trained, training.Fitted]:
    if config.output.report and not Run(folder).checkpoints.is_dir():  # before candidates change it
        if (chosen := chosen_in(config, sessions)) is not None:
            write_record(folder, Record({}, [], chosen))
    every = config.trainer.plot_every_n_epochs
    figures = [Figures(sessions, every)] if every != 0 else []
    config, seconds = with_best_candidate(config, sessions, folder, figures)
    with warnings.catch_warnings():
        if seconds:  # a learning rate was trained to the end
            warnings.filterwarnings("ignore", ".*has already been trained for")
        fitted = training.fit(config, sessions, folder, figures)
    fitted = fitted._replace(seconds=fitted.seconds + seconds)
    fitted = constant_rate.unless_better(config, sessions, folder, fitted)
    trained = Trained(
        fitted.model, config, sessions[0].n_bins, fitted.step, folder, identity_of(sessions)
    )
    return trained, fitted


def _so_far(config: Config, sessions: list[Session], folder: Path) -> Trained:
    """Return the model of an interrupted run: the best so far, else the newest."""
    device = str(resolve_device(config.trainer.device, tell=False))
    trained = Trained.of(inference.load(folder, best_index(folder), device))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # evaluate warns about data that are not scored
        trained.data = scored_sessions(sessions)
    return trained
