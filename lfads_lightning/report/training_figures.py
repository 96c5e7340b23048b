"""Figures during training, for the loggers."""

import time
from collections.abc import Sequence

import lightning.pytorch as pl
import torch

from lfads_lightning.data.sessions import Session
from lfads_lightning.inference.posterior import Evaluation
from lfads_lightning.report.population import EVERY_FIGURE, drawings_of
from lfads_lightning.report.style import Drawing, Picture, render
from lfads_lightning.report.tensorboard import add_pictures, by_tag
from lfads_lightning.report.trials import Trials, shown_trials
from lfads_lightning.runs.files import writing
from lfads_lightning.training import loggers
from lfads_lightning.training.logs import Events
from lfads_lightning.training.module import LFADSModule

MOST_TRIALS, DPI = 48, 80
SHARE_OF_TIME = 0.015  # share of training; the drawing stays below 2 %
FIRST_GUESS_S = 0.5  # seconds per figure, before one has been drawn


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
