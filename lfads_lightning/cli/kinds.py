"""The five run kinds, as the command line starts them."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lfads_lightning.commands import override, to_train
from lfads_lightning.config import Algorithm, Config, Kind
from lfads_lightning.data.loading import load_data
from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.outputs import write_model_params, write_posteriors, write_prior
from lfads_lightning.inference.trained import TrainedModel, load
from lfads_lightning.model.names import variable_blocks
from lfads_lightning.model.recurrences import choose
from lfads_lightning.model.threads import one_setting_of_threads
from lfads_lightning.runs.run import Run, Search, run_of_best
from lfads_lightning.training.checkpoint_files import load_checkpoint, require_checkpoint
from lfads_lightning.training.optimizer import moments_of


def run_kind(
    config: Config, run: Run, is_job: bool = False, read: list[Session] | None = None
) -> float | None:
    """Do what ``kind`` asks for, and print where the results are.

    Args:
        config: all parameters.
        run: the run.
        is_job: whether it is a job of a sweep, which reports each job in one line itself.
        read: the data, if they have been read already.

    Returns:
        The lowest criterion of a training run (the objective of a sweep), else None.
    """
    if config.kind is Kind.train:
        return _train(config, run, is_job, read)
    with run.mirrored():
        _apply(config, run_of_best(run).folder)
    return None


def _apply(config: Config, folder: Path) -> None:
    """Do one of the four kinds that work on a trained model."""
    name = config.output.checkpoint_pb_load_name
    trained = load(folder, name, config.trainer.device)
    trained.config.data.batch_size = config.data.batch_size
    trained.config.seed, trained.config.sampling = config.seed, config.sampling
    device = trained.model.factor_weight.device.type
    trained.model.passes = choose(config.trainer.recurrence, device)
    with one_setting_of_threads(config.trainer.num_threads):
        paths = _WRITERS[config.kind](trained, config, folder)
    print(f"{config.kind.name} of {_shown(folder)} ({name}, after {trained.step} updates):")
    for path in paths:
        print(f"  {_shown(path)}")


def _train(config: Config, run: Run, is_job: bool, read: list[Session] | None) -> float | None:
    sessions = load_data(config, read)
    sizes = ", ".join(
        f"{s.name}: {len(s.train.data)}"
        + (f" + {len(s.valid.data)}" if s.valid is not None else "")
        + f" trials x {s.n_bins} bins x {s.data_dim} neurons"
        for s in sessions
    )
    shown = _shown(run.folder)
    if not is_job:
        print(f"Data: {sizes}")
    print(f"Run: {shown} (to watch it: tensorboard --logdir {shown})", flush=True)
    # Lightning takes seconds to import, which mistakes and the other kinds need not wait for
    from lfads_lightning.api import train_sessions
    from lfads_lightning.report.finish import scores_table

    trained = train_sessions(config, sessions, run.folder)
    if is_job:
        return _criterion(trained)
    if config.search.algorithm is Algorithm.pbt:
        files = Search(run.folder)
        more = f", {files.report.name}" if config.output.report else ""
        print(f"Search: {shown} (settings of all members: {files.history.name}{more})")
        shown = _shown(files.best.folder)
    print(f"Scores:\n{scores_table(trained.scores, trained.comparison)}\n")
    print(f"Run: {shown}")
    if config.output.report:
        print(f"Report: {shown}/{run.report.name}")
    kind = Kind.posterior_sample_and_average.name
    results = to_train(f"kind={kind}", override("output.lfads_save_dir", shown))
    print(f"Rates and factors, as a file: {results}", flush=True)
    if (address := run.address) is not None:
        print(f"Copied to: {address}", flush=True)
    return _criterion(trained)


def _criterion(trained: TrainedModel) -> float | None:
    criterion = trained.scores.get("criterion")
    return None if criterion is None else float(criterion)


def _shown(path: Path) -> str:
    """Return the shortest way to type a path in the working folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _posteriors(trained: TrainedModel, config: Config, folder: Path) -> list[Path]:
    return write_posteriors(trained, _data(config), config, folder)


def _prior(trained: TrainedModel, config: Config, folder: Path) -> list[Path]:
    # only external inputs are needed, and only if the generator takes them
    needs_data = trained.config.model.inject_ext_input_to_gen
    return [write_prior(trained, _data(config) if needs_data else [], config, folder)]


def _data(config: Config) -> list[Session]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*valid_data.*")  # nothing is trained here
        return load_data(config)


def _params(trained: TrainedModel, config: Config, folder: Path) -> list[Path]:
    moments = _moments(trained, config, folder) if config.output.include_optimizer else {}
    return [write_model_params(trained, config, folder, moments)]


def _moments(trained: TrainedModel, config: Config, folder: Path) -> dict[str, np.ndarray]:
    """Return Adam's moments under the original's slot names, ``LFADS_LFADS_<name>_Adam[_1]:0``."""
    path = require_checkpoint(folder, config.output.checkpoint_pb_load_name)
    states = load_checkpoint(path).get("optimizer_states")
    if not states:
        warnings.warn(f"{path}: holds no optimiser state; weights only", stacklevel=2)
        return {}
    state = states[0]["state"]
    index = {id(p): i for i, p in enumerate(trained.model.parameters())}
    moments = {}
    for name, parts in variable_blocks(trained.model).items():
        held = [state.get(index[id(p)]) for p in parts]
        pairs = [moments_of(h) for h in held if h is not None]
        for slot, moment in (("Adam", 0), ("Adam_1", 1)):
            if len(pairs) == len(held):
                whole = np.concatenate([pair[moment].numpy() for pair in pairs])
                flat = name.replace("/", "_")
                moments[f"LFADS_LFADS_{flat}_{slot}:0"] = whole[None] if whole.ndim == 1 else whole
    return moments


_WRITERS: dict[Kind, Callable[[TrainedModel, Config, Path], list[Path]]] = {
    Kind.posterior_sample_and_average: _posteriors,
    Kind.posterior_push_mean: _posteriors,
    Kind.prior_sample: _prior,
    Kind.write_model_params: _params,
}
