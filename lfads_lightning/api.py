"""The Python face: :func:`fit` trains on arrays, :func:`load` opens any run's folder."""

from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lfads_lightning.config import Algorithm, Config, Kind, LFADSError
from lfads_lightning.data.arrays import as_array
from lfads_lightning.data.identity import identity_of
from lfads_lightning.data.scored import scored_sessions
from lfads_lightning.data.sessions import Session, sessions_from_arrays
from lfads_lightning.inference.trained import Arrays, Trained, load
from lfads_lightning.params import from_flat, read_params_file
from lfads_lightning.report.finish import finish
from lfads_lightning.report.tensorboard import Figures
from lfads_lightning.runs.files import new_run_folder
from lfads_lightning.runs.lock import run_lock
from lfads_lightning.runs.mirrors import mirrored, open_run
from lfads_lightning.runs.provenance import check_file_of_parameters
from lfads_lightning.runs.signals import Preempted
from lfads_lightning.search.run import run_search
from lfads_lightning.search.space import drawn_settings
from lfads_lightning.training import fit as training
from lfads_lightning.training.checkpoints import tell_to_continue
from lfads_lightning.training.start import with_model_of_start

__all__ = ["Trained", "fit", "load", "train_sessions"]


def fit(
    data: Arrays,
    *,
    valid_data: Arrays | None = None,
    valid_fraction: float = 0.2,
    ext_input: Arrays | None = None,
    valid_ext_input: Arrays | None = None,
    train_truth: Arrays | None = None,
    valid_truth: Arrays | None = None,
    alignment_matrix_cxf: Arrays | None = None,
    alignment_bias_c: Arrays | None = None,
    conversion_factor: float = 1.0,
    bin_width_s: float | None = None,
    neuron_ids: Arrays | None = None,
    condition: Arrays | None = None,
    valid_condition: Arrays | None = None,
    behaviour: Arrays | None = None,
    valid_behaviour: Arrays | None = None,
    **parameters: Any,
) -> Trained:
    """Train a model on arrays.

    Args:
        data: training trials, (E, T, D) counts per bin, or {session: array} for several sessions.
        valid_data: validation trials in the same form; by default ``valid_fraction`` of the trials
            of ``data``, evenly spaced, are held out.
        valid_fraction: share held out when ``valid_data`` is None; 0 trains on all.
        ext_input: external inputs of ``data``, (E, T, I); needs ``ext_input_dim=I``.
        valid_ext_input: those of ``valid_data``.
        train_truth: true rates of ``data``, for scores and figures only.
        valid_truth: those of ``valid_data``.
        alignment_matrix_cxf: (D, F) per session.
        alignment_bias_c: (D,) per session.
        conversion_factor: units of the truth per (count/bin).
        bin_width_s: seconds, of all sessions.
        neuron_ids: (D,) whole numbers or texts per session.
        condition: labels of the trials of ``data``, (E,) whole numbers or texts; negative or empty
            where a trial has none.
        valid_condition: those of ``valid_data``.
        behaviour: (E, T, K), of ``data``.
        valid_behaviour: that of ``valid_data``.
        **parameters: every parameter by its documented name, ``co_dim=2``; the run's folder is
            ``lfads_save_dir``, by default outputs/DATE/TIME. ``algorithm="pbt"`` searches, and
            returns the best member.

    Returns:
        The model with the lowest validation cost (the last one, where none was eligible).

    Raises:
        LFADSError: data or parameters are wrong; the message says which and how to mend it.
        KeyboardInterrupt: Ctrl-C. What was done is saved; the same call with ``lfads_save_dir`` set
            to the run's folder goes on.
        Preempted: SIGTERM or SIGUSR1; the same. Uncaught, it ends the program with the code 75.
    """
    file = parameters.get("params_file")
    from_file = read_params_file(file) if file is not None else {}
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
    one = not isinstance(data, Mapping)
    given = {
        "train_data": data,
        "valid_data": valid_data,
        "train_ext_input": ext_input,
        "valid_ext_input": valid_ext_input,
        "train_truth": train_truth,
        "valid_truth": valid_truth,
        "alignment_matrix_cxf": alignment_matrix_cxf,
        "alignment_bias_c": alignment_bias_c,
        "neuron_ids": neuron_ids,
        "train_condition": condition,
        "valid_condition": valid_condition,
        "train_behaviour": behaviour,
        "valid_behaviour": valid_behaviour,
    }
    by_key: dict[str, Any] = {
        key: {"session": value} if one else dict(value)  # type: ignore[arg-type]
        for key, value in given.items()
        if value is not None
    }
    for key, arrays in by_key.items():
        for name, array in arrays.items():
            arrays[name] = as_array(f"session '{name}'", key, array)
    if valid_data is None and valid_fraction > 0:
        _hold_out(by_key, valid_fraction)
    by_key["conversion_factor"] = dict.fromkeys(by_key["train_data"], conversion_factor)
    if bin_width_s is not None:
        by_key["bin_width_s"] = dict.fromkeys(by_key["train_data"], bin_width_s)
    sessions = sessions_from_arrays(
        by_key.pop("train_data"),
        by_key.pop("valid_data", None),
        output_dist=config.model.output_dist.name,
        ext_input_dim=config.data.ext_input_dim,
        factors_dim=config.model.factors_dim,
        **by_key,
    )
    given_dir = config.output.lfads_save_dir
    named = None if given_dir is None else open_run(given_dir)
    now = Path("outputs") / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    with nullcontext(named) if named is not None else new_run_folder(now) as folder:
        config.output.lfads_save_dir = str(folder.resolve())
        with run_lock(folder):
            return train_sessions(config, sessions, folder)


def _hold_out(by_key: dict[str, dict[str, Any]], fraction: float) -> None:
    """Move evenly spaced trials of each train array to its valid twin; note which went where."""
    if not 0 < fraction < 1:
        raise LFADSError(f"fit: valid_fraction is {fraction}; expected 0 <= valid_fraction < 1")
    for key in ("data", "ext_input", "truth", "condition", "behaviour"):
        train = by_key.get(f"train_{key}", {})
        for name, array in train.items():
            whole = array
            if whole.ndim == 0 or len(whole) < 2:
                continue  # nothing to spare; what is wrong with it is said by the checks
            n = min(max(round(fraction * len(whole)), 1), len(whole) - 1)
            held = np.zeros(len(whole), bool)
            held[((np.arange(n) + 0.5) * len(whole) / n).astype(int)] = True
            train[name] = whole[~held]
            by_key.setdefault(f"valid_{key}", {})[name] = whole[held]
            if key == "data":
                by_key.setdefault("train_inds", {})[name] = np.flatnonzero(~held)
                by_key.setdefault("valid_inds", {})[name] = np.flatnonzero(held)


def train_sessions(config: Config, sessions: list[Session], folder: Path) -> Trained:
    """Train or search, score and draw: where ``kind=train`` and :func:`fit` both end."""
    with mirrored(folder):
        if config.search.algorithm is Algorithm.pbt:
            return run_search(config, sessions, folder)
        every = config.trainer.plot_every_n_epochs
        figures = [Figures(sessions, every)] if every != 0 else []
        fitted = training.fit(config, sessions, folder, figures)
        trained = Trained(
            fitted.model, config, sessions[0].n_bins, fitted.step, folder, identity_of(sessions)
        )
        try:
            trained.scores = finish(trained, scored_sessions(sessions), fitted)
        except (KeyboardInterrupt, Preempted):
            done = "Interrupted; all updates are saved, scores or report are not"
            tell_to_continue(folder, done, config)
            raise
        return trained
