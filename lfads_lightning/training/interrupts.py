"""Where a training run stops when it is told to: between two updates, with all state whole."""

from typing import Any

import lightning.pytorch as pl
import torch

from lfads_lightning.runs import signals


class StopWhenTold(pl.Callback):
    """Stop before the next batch, of training or of validation, once a signal has come.

    What is saved there continues as if nothing had happened: a training batch is counted when it is
    done, and a validation that was begun is begun again.

    Args:
        request: of this process; of several devices, one that is told stops all.
    """

    def __init__(self, request: signals.Request) -> None:
        self.request = request
        self.has_begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back: Lightning has put its own handler of SIGTERM before ours."""
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
        """Stop here if told to; several devices, which validate apart, go on to the next epoch."""
        if trainer.world_size == 1:
            self._stop_if_told()

    def _stop_if_told(self) -> None:
        if self.request.signal is not None:
            raise self.request.error()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write down that a validation under way has not begun; Lightning would go on inside it."""
        if trainer.validating:
            loops = checkpoint["loops"]["fit_loop"]
            for progress in loops["epoch_loop.val_loop.batch_progress"].values():
                if isinstance(progress, dict):
                    progress |= dict.fromkeys(progress, 0)
            begun = loops["epoch_loop.val_loop.batch_progress"]["total"]
            begun |= {"ready": 1, "started": 1}
