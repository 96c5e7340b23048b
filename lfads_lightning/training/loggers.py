"""``trainer.logger``: TensorBoard, wandb and MLflow, through Lightning's loggers.

Each gets a row per epoch, the settings, figures and, at the end, the scores. A continued run is the
same run for wandb and MLflow: both know it by the number in its folder.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.params import dotted_settings
from lfads_lightning.runs.names import TENSORBOARD
from lfads_lightning.runs.provenance import identity, remember
from lfads_lightning.training.logs import Events

PROJECT = "lfads"  # of wandb and MLflow, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME says else
_TAG = "lfads_run"


def names(config: Config) -> list[str]:
    """Return what ``trainer.logger`` names, each once."""
    given = config.trainer.logger
    return [given] if isinstance(given, str) else list(given)


def open_loggers(config: Config, folder: Path, step: int | None) -> list[Logger]:
    """Open what is asked for; ``csv`` is what every run writes, and needs nothing.

    Args:
        config: all parameters.
        folder: the run's.
        step: updates that a run which goes on has done; None: it begins.

    Raises:
        LFADSError: wandb or MLflow cannot be used; says why.
    """
    loggers: list[Logger] = []
    asked = names(config)
    if TENSORBOARD in asked:
        # events behind this step are of a run that was cut off; readers forget them
        purge = 0 if step is None else step + 1
        loggers.append(Events(folder, name=TENSORBOARD, version="", purge_step=purge))
    if "wandb" in asked:
        loggers.append(_wandb(folder))
    if "mlflow" in asked:
        loggers.append(_mlflow(folder))
    return loggers


def begin(loggers: list[Logger], config: Config) -> None:
    """Tell the settings to wandb and MLflow; TensorBoard has them with the scores."""
    for logger in loggers:
        with _in_one_line(logger):
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(dotted_settings(config), allow_val_change=True)
            elif isinstance(logger, MLFlowLogger) and not _told(logger):
                logger.log_hyperparams(dotted_settings(config))


def _told(logger: MLFlowLogger) -> bool:
    """Return whether MLflow has the settings; it lets nobody change them."""
    run = logger.experiment.get_run(logger.run_id)  # None where it is not the first process
    return run is None or bool(run.data.params)


@rank_zero_only
def close(loggers: list[Logger]) -> None:
    """Let the next run of this program have a logger of its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def log_figures(logger: Logger, figures: Mapping[str, bytes], step: int) -> None:
    """Show figures in wandb or MLflow.

    Args:
        logger: one of theirs.
        figures: PNG files by name, ``valid/summary``.
        step: updates behind the weights.

    Raises:
        LFADSError: they cannot be shown; says why.
    """
    from PIL import Image

    with _in_one_line(logger):
        images = {name: Image.open(BytesIO(png)) for name, png in figures.items()}
        if isinstance(logger, WandbLogger) and images:
            from wandb import Image as Shown

            row = {name: Shown(image) for name, image in images.items()}
            logger.experiment.log(row | {"trainer/global_step": step})
        elif isinstance(logger, MLFlowLogger):
            for name, image in images.items():
                logger.experiment.log_image(logger.run_id, image, key=name, step=step)


@rank_zero_only
def log_scores(
    config: Config,
    folder: Path,
    scores: Mapping[str, Any],
    figures: Mapping[str, bytes],
    step: int,
) -> None:
    """Add the final scores to wandb's summary and to MLflow's metrics, as ``final/NAME``.

    Args:
        config: all parameters.
        folder: the run's.
        scores: by name; those that are no finite numbers are left out.
        figures: the last ones, as in :func:`log_figures`.
        step: updates behind the weights that are scored.

    Raises:
        LFADSError: they cannot be written; says why.
    """
    finals = {
        f"final/{name}": value
        for name, value in scores.items()
        if isinstance(value, str) or math.isfinite(value)
    }
    asked = names(config)
    if "wandb" in asked:
        of_wandb = _wandb(folder)
        with _in_one_line(of_wandb):
            of_wandb.experiment.summary.update(finals)
        log_figures(of_wandb, figures, step)
        close([of_wandb])
    if "mlflow" in asked:
        of_mlflow = _mlflow(folder)
        with _in_one_line(of_mlflow):
            client, run = of_mlflow.experiment, of_mlflow.run_id
            for name, value in finals.items():
                if isinstance(value, str):
                    client.set_tag(run, name, value)
                else:
                    client.log_metric(run, name, float(value))
        log_figures(of_mlflow, figures, step)


def _wandb(folder: Path) -> WandbLogger:
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    logger = WandbLogger(
        project=project,
        name=folder.resolve().name,
        save_dir=str(folder),
        id=_number(folder),
        resume="allow",
    )
    with _in_one_line(logger):
        _ = logger.experiment
    return logger


def _mlflow(folder: Path) -> MLFlowLogger:
    from mlflow.tracking import MlflowClient

    # as MLflow's own default: below the working folder, for all runs that are started there
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    number = _number(folder)
    with _in_one_line("mlflow"):
        client = MlflowClient(uri)
        known = client.get_experiment_by_name(experiment)
        found: list[Any] = []
        if known is not None:
            found = client.search_runs([known.experiment_id], f"tags.{_TAG} = '{number}'")
        logger = MLFlowLogger(
            experiment,
            run_name=folder.resolve().name,
            tracking_uri=uri,
            tags={_TAG: number},
            run_id=found[0].info.run_id if found else None,
        )
        _ = logger.experiment
    return logger


def _number(folder: Path) -> str:
    """Return the number by which a run is known, wherever its folder is called."""
    rank_zero_only(remember)(folder)
    return identity(folder)


@contextmanager
def _in_one_line(logger: Logger | str) -> Iterator[None]:
    """Say what is wrong with a service, and how to do without it."""
    is_wandb = isinstance(logger, WandbLogger)
    if isinstance(logger, Events):
        yield
        return
    try:
        yield
    except (LFADSError, KeyboardInterrupt):
        raise
    except Exception as error:  # wandb and MLflow raise whatever their transports do
        why = " ".join(str(error).split())[:300] or type(error).__name__
        name, remedy = ("wandb", "set WANDB_MODE=offline to log to the run's folder, or leave it "
                        "out")  # fmt: skip
        if not is_wandb:
            name, remedy = "mlflow", "check MLFLOW_TRACKING_URI, or leave it out"
        raise LFADSError(f"trainer.logger={name}: {why}; {remedy}") from error
