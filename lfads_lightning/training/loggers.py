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

PROJECT = "lfads"  # default of WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME
_TAG = "lfads_run"


def open_loggers(config: Config, folder: Path, step: int | None) -> list[Logger]:
    """Open the loggers that are asked for; ``csv`` needs none, as every run writes it.

    Args:
        config: all parameters.
        folder: the run's folder.
        step: updates that a continued run has done; None for a new run.

    Raises:
        LFADSError: wandb or MLflow cannot be used; the message says why.
    """
    loggers: list[Logger] = []
    asked = config.trainer.logger_names
    if TENSORBOARD in asked:
        # readers drop later events: they are from updates that were lost in an interrupt
        purge = 0 if step is None else step + 1
        loggers.append(Events(folder, name=TENSORBOARD, version="", purge_step=purge))
    if "wandb" in asked:
        loggers.append(_wandb(folder))
    if "mlflow" in asked:
        loggers.append(_mlflow(folder))
    return loggers


def begin(loggers: list[Logger], config: Config) -> None:
    """Send the settings to wandb and MLflow; TensorBoard gets them together with the scores."""
    for logger in loggers:
        with _in_one_line(logger):
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(dotted_settings(config), allow_val_change=True)
            elif isinstance(logger, MLFlowLogger) and not _has_settings(logger):
                logger.log_hyperparams(dotted_settings(config))


def _has_settings(logger: MLFlowLogger) -> bool:
    """Return whether MLflow has the settings already; it refuses changes."""
    run = logger.experiment.get_run(logger.run_id)  # None except in the first process
    return run is None or bool(run.data.params)


@rank_zero_only
def close(loggers: list[Logger]) -> None:
    """Close the loggers, so that the next run in this process gets new ones."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def log_figures(logger: Logger, figures: Mapping[str, bytes], step: int) -> None:
    """Show figures in wandb or MLflow.

    Args:
        logger: a logger of wandb or MLflow.
        figures: PNG files by name, such as ``valid/summary``.
        step: updates that led to the weights.

    Raises:
        LFADSError: the figures cannot be shown; the message says why.
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
        folder: the run's folder.
        scores: scores by name; those that are not finite are left out.
        figures: the last figures, as in :func:`log_figures`.
        step: updates that led to the scored weights.

    Raises:
        LFADSError: the scores cannot be written; the message says why.
    """
    finals = {
        f"final/{name}": value
        for name, value in scores.items()
        if isinstance(value, str) or math.isfinite(value)
    }
    asked = config.trainer.logger_names
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

    # like MLflow's own default: in the working folder, for all runs that are started there
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
    """Return the number that identifies a run, also after its folder is moved or renamed."""
    rank_zero_only(remember)(folder)
    return identity(folder)


@contextmanager
def _in_one_line(logger: Logger | str) -> Iterator[None]:
    """Turn the errors of a service into one line that says how to do without it."""
    is_wandb = isinstance(logger, WandbLogger)
    if isinstance(logger, Events):
        yield
        return
    try:
        yield
    except (LFADSError, KeyboardInterrupt):
        raise
    except Exception as error:  # wandb and MLflow pass on any error of the network
        why = " ".join(str(error).split())[:300] or type(error).__name__
        name, remedy = ("wandb", "set WANDB_MODE=offline to log to the run's folder, or leave it "
                        "out")  # fmt: skip
        if not is_wandb:
            name, remedy = "mlflow", "check MLFLOW_TRACKING_URI, or leave it out"
        raise LFADSError(f"trainer.logger={name}: {why}; {remedy}") from error
