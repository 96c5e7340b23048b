"""A time limit (``trainer.max_minutes``): converted to a number of updates by measuring."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from lfads_lightning.runs.run import Run
from lfads_lightning.training import clock
from lfads_lightning.training.module import LFADSModule

WARM_UP = 3  # updates that fill caches and build kernels; they are not measured
MEASURED_SHARE = 0.1  # of the budget, at least one epoch ...
LONGEST_SHARE = 0.25  # ... but no more than this share, even if an epoch takes longer
RUNG = 0.15  # share of the updates after which candidates are compared


def share_of_one(n_candidates: int, n_rates: int = 0) -> float:
    """Return one training's share of a budget.

    The other candidates are trained up to the rung, the other learning rates to the end. None of
    these may be the one that the candidates have: then no candidate is continued.

    >>> round(share_of_one(3), 2), round(share_of_one(3, 2), 2)
    (0.77, 0.41)
    """
    n_cut_short = n_candidates if n_rates else max(n_candidates - 1, 0)
    return 1 / (max(n_rates, 1) + RUNG * n_cut_short)


class Budget(pl.Callback):
    """Measures the first updates, then sets ``trainer.max_steps`` and writes it to config.yaml.

    A continued run keeps the number if it is known; if not, it measures again, for the rest of its
    minutes. Until the number is known, a cosine schedule stays at its highest learning rate.

    Args:
        minutes: length of the training.
        folder: the run's folder.
    """

    def __init__(self, minutes: float, folder: Path) -> None:
        self.seconds, self.folder = 60 * minutes, folder
        self.spent = 0.0  # seconds, in earlier processes
        self.n_updates = 0
        self.first: tuple[float, int] | None = None  # time and update at which measuring begins

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = clock.now()
        assert isinstance(pl_module, LFADSModule)
        self.looks_before = pl_module.look_seconds, pl_module.n_looks

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Begin measuring; end it within an epoch that is too long."""
        self.n_updates += 1
        if self.n_updates == WARM_UP:
            self._begin(trainer, pl_module)
        elif self.n_updates > WARM_UP:
            self._decide(trainer, pl_module, LONGEST_SHARE)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End measuring after an epoch, which includes validation and logs."""
        if trainer.current_epoch > 0:
            self._decide(trainer, pl_module, MEASURED_SHARE)

    def _begin(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, LFADSModule)
        self.first = clock.now(), trainer.global_step
        self.looks_before = module.look_seconds, module.n_looks

    def _decide(self, trainer: pl.Trainer, module: pl.LightningModule, share: float) -> None:
        """Set the number of updates, if it is not set and enough time was measured."""
        assert isinstance(module, LFADSModule)
        if self.first is None or module.config.trainer.max_steps is not None:
            return
        now, (begun, step) = clock.now(), self.first
        spent = self.spent + now - self.started
        n = torch.zeros((), dtype=torch.int64, device=module.device)
        if spent >= share * self.seconds and trainer.global_step > step:
            looking = module.look_seconds - self.looks_before[0]
            update = (now - begun - looking) / (trainer.global_step - step)
            if module.hidden is not None:
                # looks at hidden entries are expensive and rare: if none was measured, its nominal
                # cost stands in
                n_looks = module.n_looks - self.looks_before[1]
                each = looking / n_looks if n_looks else update * module.hidden.worth
                update += each / module.hidden.every
            n += trainer.global_step + max(math.floor((self.seconds - spent) / update), 1)
        if trainer.world_size > 1:
            torch.distributed.broadcast(n, 0)
        if not n:
            return
        module.config.trainer.max_steps = int(n)
        trainer.fit_loop.epoch_loop.max_steps = int(n)
        if trainer.is_global_zero:
            Run(self.folder).write_config(module.config)

    def state_dict(self) -> dict[str, Any]:
        """Return the time spent so far."""
        return {"spent": self.spent + clock.now() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the time spent so far."""
        self.spent = float(state_dict["spent"])


class AtRung(pl.Callback):
    """Stops training at the end of the epoch that reaches the rung's share of the updates."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Stop with this epoch, if the number of updates is known and enough of them are done.

        Hidden entries are always scored in the last epoch, so the decision must come before the
        epoch ends.
        """
        is_due = 0 <= trainer.max_steps and trainer.global_step >= RUNG * trainer.max_steps
        if is_due and trainer.is_last_batch:
            trainer.should_stop = True
