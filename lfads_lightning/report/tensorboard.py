"""What loggers get besides scalars: figures and, for TensorBoard, settings with scores."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from lfads_lightning.config import Config
from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.posterior import Evaluation
from lfads_lightning.params import dotted_settings
from lfads_lightning.report.population import EVERY_FIGURE, drawings_of
from lfads_lightning.report.style import Drawing, Picture, render
from lfads_lightning.report.trials import Trials, shown_trials
from lfads_lightning.runs.files import writing
from lfads_lightning.runs.names import TENSORBOARD
from lfads_lightning.runs.run import Run
from lfads_lightning.training import loggers
from lfads_lightning.training.logs import Events, silent_writers
from lfads_lightning.training.module import LFADSModule

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MOST_TRIALS, DPI = 48, 80
SHARE_OF_TIME = 0.015  # share of training; the drawing stays below 2 %
FIRST_GUESS_S = 0.5  # seconds per figure, before one has been drawn
_SUFFIX = ".scores"


class Figures(pl.Callback):
    """Draw a few trials of the first session during training, for both splits.

    It does not use the random numbers of training, so the weights do not depend on it.

    Args:
        sessions: the data.
        every_n_epochs: epochs between two sets of figures; None: one figure at a time, of each
            split in turn, as often as keeps them below 1.5 % of the time spent so far.
    """

    def __init__(self, sessions: Sequence[Session], every_n_epochs: int | None) -> None:
        self.session, self.every_n_epochs = sessions[0], every_n_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.seconds, self.longest = 0.0, 0.0  # spent on drawing: in total, and most at once
        self.turn = 0  # number of the next figure

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw figures, if it is time for it."""
        assert isinstance(pl_module, LFADSModule)
        if not trainer.is_global_zero or not self._is_time(trainer.current_epoch):
            return
        started = time.monotonic()
        if trainer.loggers:
            for split, pictures in self._draw(pl_module).items():
                for logger in trainer.loggers:
                    if isinstance(logger, Events):
                        with writing(logger.log_dir):
                            add_pictures(logger.experiment, split, pictures, pl_module.step)
                    else:
                        loggers.log_figures(logger, by_tag(split, pictures), pl_module.step)
        seconds = time.monotonic() - started
        self.seconds, self.longest = self.seconds + seconds, max(self.longest, seconds)

    def _is_time(self, epoch: int) -> bool:
        if self.every_n_epochs is not None:
            return (epoch + 1) % self.every_n_epochs == 0
        elapsed = time.monotonic() - self.started - self.seconds
        return self.seconds + (self.longest or FIRST_GUESS_S) < SHARE_OF_TIME * elapsed

    @torch.no_grad()
    def _draw(self, module: LFADSModule) -> dict[str, list[Picture]]:
        model = module.model
        run = Evaluation(
            model,
            module.config.loss,
            module.ramps(),
            module.step,
            torch.Generator(model.factor_weight.device).manual_seed(module.config.seed),
            module.config.sampling.memory_mb,
            module.config.sampling.num_score_samples,
        )
        splits = list(self.session.splits)[::-1]  # validation first
        if self.every_n_epochs is None:
            splits = [splits[self.turn % len(splits)]]
        pictures = {}
        for split in splits:
            trials = shown_trials(run, self.session, split, most=MOST_TRIALS)
            drawings = drawings_of(trials) if self.every_n_epochs else [self._next(trials)]
            pictures[split] = [render(drawing, DPI) for drawing in drawings]
        return pictures

    def _next(self, trials: Trials) -> Drawing:
        """Draw the figure whose turn it is, or the next one that applies to this model."""
        n_splits = len(self.session.splits)
        while True:  # ends, as the figure of one trial applies to every model
            drawing = EVERY_FIGURE[self.turn // n_splits % len(EVERY_FIGURE)](trials)
            self.turn += 1
            if drawing is not None:
                return drawing


def by_tag(split: str, pictures: Sequence[Picture]) -> dict[str, bytes]:
    """Return figures as PNG files by the name in loggers, ``split/name``."""
    return {f"{split}/{p.drawing.name}": p.png for p in pictures}


def add_pictures(
    writer: "SummaryWriter", split: str, pictures: Sequence[Picture], step: int
) -> None:
    """Write figures as images, ``split/name``."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    files = writer._get_file_writer()
    assert files is not None
    for p in pictures:
        image = Summary.Image(
            height=p.height, width=p.width, colorspace=4, encoded_image_string=p.png
        )
        tag = f"{split}/{p.drawing.name}"
        files.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add_scores(
    folder: Path,
    config: Config,
    scores: Mapping[str, Any],
    step: int,
    pictures: Mapping[str, Sequence[Picture]],
) -> None:
    """Write the settings and final scores for the HParams tab, and the last figures.

    They have an event file of their own, which replaces the one from an earlier end of the run.

    Args:
        folder: the run's folder.
        config: all parameters.
        scores: scores by name; those that are not finite are left out.
        step: updates that led to the weights.
        pictures: figures by split.
    """
    if TENSORBOARD not in loggers.names(config):
        return
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    folder = Run(folder).tensorboard
    finals = {
        f"final/{name.replace('/', '_')}": float(value)
        for name, value in scores.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    with writing(folder), silent_writers():
        for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        with SummaryWriter(str(folder), filename_suffix=_SUFFIX) as writer:
            files = writer._get_file_writer()
            assert files is not None
            # the first part declares the columns; without it TensorBoard collects them from all
            # runs of a sweep, and puts the settings that differ first. Scores are columns like
            # settings: each would be a chart with a single point as a metric
            for part in hparams(dotted_settings(config) | finals, {})[1:]:
                files.add_summary(part)
            for split, some in pictures.items():
                add_pictures(writer, split, some, step)
