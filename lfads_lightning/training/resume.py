"""Continuing from a checkpoint of the same run, and whether it fits the parameters and the data."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lfads_lightning.config import LFADSError, SessionSpec
from lfads_lightning.data.identity import check_bin_width, check_order, describe, read_identity
from lfads_lightning.data.loading import n_trials_of
from lfads_lightning.data.sessions import Session
from lfads_lightning.params import from_dict
from lfads_lightning.training.checkpoint_files import load_checkpoint
from lfads_lightning.training.format import rebuilt, state_of
from lfads_lightning.training.interrupts import StopWhenTold
from lfads_lightning.training.module import LFADSModule
from lfads_lightning.training.start import check_same_start


@contextmanager
def taking_up(start: Path | None, stop: StopWhenTold) -> Iterator[None]:
    """Explain errors in restoring a checkpoint's training state.

    Raises:
        LFADSError: in place of any error raised before training begins.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if start is None or stop.has_begun or isinstance(error, LFADSError):
            raise
        raise LFADSError(
            f"{start}: its weights can be read, but training cannot continue from it (the state of "
            f"its optimiser or its progress does not fit: {' '.join(str(error).split())[:200]}); "
            "put an older one last in the index file in its folder, or start from the weights: "
            "optim.start_from=RUN"
        ) from error


def take_up(module: LFADSModule, path: Path, sessions: Sequence[Session]) -> int | None:
    """Check a checkpoint against data and parameters; return the number of its updates.

    A checkpoint without optimiser state (saved from Python, or imported) cannot be continued by
    Lightning: its weights and its step are loaded here, and None is returned.

    Raises:
        LFADSError: it is of other sessions or another model, or trained for longer than asked.
    """
    checkpoint = load_checkpoint(path)
    record, model = checkpoint["lfads"], module.model
    check_same_start(module.config, record, path)
    theirs = {spec[0]: SessionSpec(*spec) for spec in record["sessions"]}
    if theirs != model.sessions:
        raise LFADSError(
            f"{path}: was trained on {describe(theirs)}, but the data are "
            f"{describe(model.sessions)}; continue with the same sessions, or start in another "
            "output.lfads_save_dir"
        )
    weights = state_of(checkpoint)
    expected = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    if {name: tuple(p.shape) for name, p in weights.items()} != expected:
        was = vars(from_dict(record["config"], str(path)).model)
        changed = [f"{k}={was[k]} (now {v})" for k, v in vars(model.config).items() if was[k] != v]
        if not changed:
            rebuilt(checkpoint, path)  # raises if it does not fit its own parameters
        raise LFADSError(
            f"{path}: does not fit the parameters; it was trained with model.{', '.join(changed)}. "
            "Leave these out, or start in another output.lfads_save_dir"
        )
    module.identity = read_identity(record)
    for session in sessions:
        check_bin_width(session, module.identity)
        check_order(session, module.identity)
    _warn_of_other_data(module, record, path, sessions)
    if "optimizer_states" in checkpoint:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        done, wanted = progress["processed"], module.config.trainer.max_epochs
        if wanted is not None and done >= wanted:
            message = (
                f"{path}: has already been trained for {done} epochs; to continue, raise "
                f"trainer.max_epochs={wanted}"
            )
            if done > wanted:  # it cannot be undone
                raise LFADSError(message)
            warnings.warn(message, stacklevel=2)
        return record["step"]
    model.load_state_dict(weights)
    module.start_step = record["step"]
    return None


def _warn_of_other_data(
    module: LFADSModule, record: Mapping[str, Any], path: Path, sessions: Sequence[Session]
) -> None:
    was, are = record.get("n_trials"), n_trials_of(sessions)  # None in older versions
    if was is not None and was != are:
        warnings.warn(
            f"{path}: was trained on other data: {_trials(was)} trials (training + validation), "
            f"now {_trials(are)}; training continues with the new data, so scores from before and "
            "after do not compare",
            stacklevel=2,
        )
    if record["n_bins"] not in (None, module.n_bins):
        warnings.warn(
            f"{path}: was trained on trials of {record['n_bins']} bins, now they have "
            f"{module.n_bins}; training continues with these, so costs from before and after do "
            "not compare",
            stacklevel=2,
        )
    before, now = from_dict(record["config"], str(path)).data, module.config.data
    masks = ("sample_validation_rate", "sample_validation_seed")
    if now.sample_validation_rate and any(getattr(before, m) != getattr(now, m) for m in masks):
        warnings.warn(
            f"{path}: was trained with other entries held back (data.{masks[0]}="
            f"{before.sample_validation_rate}, {masks[1]}={before.sample_validation_seed}), so it "
            "has seen some of the entries that are now used for sample validation",
            stacklevel=2,
        )


def _trials(counts: dict[str, list[int]]) -> str:
    return ", ".join(f"{name}: {' + '.join(map(str, n))}" for name, n in list(counts.items())[:4])
