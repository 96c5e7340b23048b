"""Training that starts from another run's weights (``optim.start_from``): which fit, and how.

The dynamics, encoders and controller come from that run; sessions that it does not know get new
read-ins and read-outs. Sessions that are not in the new data are kept: with ``do_train_io_only``
nothing else in the model changes, so they work as before.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfads_lightning.commands import listed
from lfads_lightning.config import Config, LFADSError, SessionSpec
from lfads_lightning.params import from_dict, from_flat
from lfads_lightning.runs.names import CONFIG
from lfads_lightning.runs.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from lfads_lightning.model.lfads import LFADS

_OF_SESSIONS = ("readin.", "readout", "standardise.")  # readout_logvar too


def start_run(config: Config) -> Run:
    """Return the run to start from; for a search, the run of its best member.

    Raises:
        LFADSError: there is no run.
    """
    run = Run(Path(config.optim.start_from or "")).chosen()
    if not run.has_begun:
        found = f"contains no run ({CONFIG})" if run.folder.is_dir() else "no such folder"
        raise LFADSError(
            f"optim.start_from={run.folder}: {found}; give the folder of a training run"
        )
    return run


def with_model_of_start(config: Config, explicit: Mapping[str, Any]) -> Config:
    """Give a config the model parameters of the run it starts from; explicit values override them.

    Args:
        config: parameters of the new run.
        explicit: flat names and values that the user or a preset has set.

    Raises:
        LFADSError: there is no such run.
    """
    if config.optim.start_from is None:
        return config
    config.optim.start_from = str(Run.open(config.optim.start_from).folder.resolve())
    saved = start_run(config).read_config()
    assert saved is not None
    config.model, config.data.ext_input_dim = saved.model, saved.data.ext_input_dim
    config.data.forward_steps = saved.data.forward_steps  # one for all sessions of a model
    return from_flat(dict(explicit) | {"start_from": config.optim.start_from}, base=config)


def all_specs(specs: Sequence[SessionSpec], record: Mapping[str, Any]) -> list[SessionSpec]:
    """Return the specs of the data's sessions, then of those that only a checkpoint knows.

    Args:
        specs: specs of the data's sessions.
        record: the checkpoint's description of its model.
    """
    theirs = {spec[0]: SessionSpec(*spec) for spec in record["sessions"]}
    # a known session has a read-in if it had one there, whatever matrix comes with the data
    mine = [s._replace(aligned=theirs.get(s.name, s).aligned) for s in specs]
    return mine + [s for name, s in theirs.items() if name not in {m.name for m in mine}]


def take_weights(
    model: LFADS, weights: Mapping[str, Tensor], record: Mapping[str, Any], config: Config
) -> int:
    """Give a model the weights of the run it starts from, and return that run's updates.

    Args:
        model: built from :func:`all_specs`; the weights of sessions new to the run are kept.
        weights: weights of the run's network.
        record: its checkpoint's description of it.
        config: parameters of the new run.

    Raises:
        LFADSError: the weights do not fit the model.
    """
    # the command line reads this file before torch
    from lfads_lightning.model.layers import session_key

    where = f"optim.start_from={config.optim.start_from}"
    theirs = {spec[0]: SessionSpec(*spec) for spec in record["sessions"]}
    for name, spec in theirs.items():
        now = model.sessions[name]
        if now[:3] != spec[:3]:
            what = "neurons" if now.data_dim != spec.data_dim else "external inputs"
            was, found = (x[1] if what == "neurons" else x[2] for x in (spec, now))
            raise LFADSError(
                f"{where}: its session {name!r} has {was} {what}, but that of the data has "
                f"{found}; a different recording needs a different name: rename the file, or give "
                "{name: array}"
            )
        if now.forward_steps != spec.forward_steps or now.held_out != spec.held_out:
            raise LFADSError(
                f"{where}: its session {name!r} has {spec.forward_steps} forward bins and held-out "
                f"neurons {listed(spec.held_out)}, but now {now.forward_steps} and "
                f"{listed(now.held_out)}; set data.forward_steps, held_out_neurons and "
                "held_out_seed to the same values"
            )
    has_readin = any(name.startswith("readin.") for name in weights)
    if has_readin != bool(model.readin):
        raise LFADSError(
            f"{where}: was trained on one session without alignment, so its encoders read that "
            "session's neurons directly and cannot take others; train it with an "
            "alignment_matrix_cxf (lfads align), or on several sessions"
        )
    _check_shared(where, model, weights, record)
    state = model.state_dict()
    state |= {name: value for name, value in weights.items() if name in state}
    for name in state.keys() - weights.keys():
        # a session whose factors were its log-rates (F = D) now has a read-out
        if any(name.startswith(f"readout.{session_key(known)}.") for known in theirs):
            state[name].zero_()
            if state[name].ndim == 2:
                state[name].fill_diagonal_(1)
    model.load_state_dict(state)
    return int(record["step"])


def check_same_start(config: Config, record: Mapping[str, Any], path: Path) -> None:
    """Refuse a change of ``optim.start_from`` once a run has begun.

    Raises:
        LFADSError: ``optim.start_from`` has changed.
    """
    given = config.optim.start_from
    was = from_dict(record["config"], str(path)).optim.start_from
    if given is not None and (was is None or Path(given).resolve() != Path(was)):
        raise LFADSError(
            f"{path}: this run has already begun, from {was or 'random weights'}; "
            f"optim.start_from={given} would have no effect: start in another output.lfads_save_dir"
        )


def warn_of_kept(names: Sequence[str], model: LFADS, config: Config) -> None:
    """Warn that sessions without data may not fit dynamics that are trained further.

    Args:
        names: names of the data's sessions.
        model: the model, which may have other sessions too.
        config: parameters of the run.
    """
    kept = [name for name in model.sessions if name not in names]
    if kept and not config.optim.do_train_io_only:
        warnings.warn(
            f"optim.start_from: the dynamics are trained on {', '.join(names)} only; the read-ins "
            f"and read-outs of {', '.join(kept)} do not change and may no longer fit them; set "
            "optim.do_train_io_only=true to keep the dynamics, or give the data of these sessions "
            "too",
            stacklevel=2,
        )


def _check_shared(
    where: str, model: LFADS, weights: Mapping[str, Tensor], record: Mapping[str, Any]
) -> None:
    def shared(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        return {n: tuple(v.shape) for n, v in state.items() if not n.startswith(_OF_SESSIONS)}

    if shared(weights) != shared(model.state_dict()):
        was = vars(from_dict(record["config"], where).model)
        changed = [
            f"{k}={v} (there {was[k]})" for k, v in vars(model.config).items() if was[k] != v
        ]
        raise LFADSError(
            f"{where}: its weights do not fit model.{', '.join(changed)}; leave these out: the "
            "model's parameters are taken from the run"
        )
