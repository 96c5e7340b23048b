"""Stops a training run on request between two updates, when its state is consistent."""

from typing import Any

import lightning.pytorch as pl
import torch

from lfads_lightning.runs import signals


class StopWhenTold(pl.Callback):
    """Stop before the next training or validation batch, once a signal has arrived.

    A run saved at that point continues as if nothing had happened: a training batch is counted once
    it is done, and an unfinished validation is started again.

    Args:
        request: request to this process; with several devices, a request to one stops all.
    """

    def __init__(self, request: signals.Request) -> None:
        self.request = request
        self.has_begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore our signal handlers: Lightning has installed its own for SIGTERM."""
        signals.install(self.request)
        self.has_begun = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if told to."""
        if trainer.world_size > 1:
            told = torch.tensor(self.request.signal or 0, device=pl_module.device)
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
            self.request.signal = int(told) or None
        self._stop_if_told()

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop here if told to; several devices validate separately and stop in the next epoch."""
        if trainer.world_size == 1:
            self._stop_if_told()

    def _stop_if_told(self) -> None:
        if self.request.signal is not None:
            raise self.request.error()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save a validation under way as not begun: Lightning would continue in the middle."""
        if trainer.validating:
            loops = checkpoint["loops"]["fit_loop"]
            for progress in loops["epoch_loop.val_loop.batch_progress"].values():
                if isinstance(progress, dict):
                    progress |= dict.fromkeys(progress, 0)
            begun = loops["epoch_loop.val_loop.batch_progress"]["total"]
            begun |= {"ready": 1, "started": 1}
