"""Losses and gradients that are not finite: report where they come from, and recover.

A single such update is skipped. After several in a row the model returns to the newest checkpoint,
with half the learning rate; after ``trainer.max_recoveries`` returns training ends.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from lfads_lightning.config import LFADSError
from lfads_lightning.data.datamodule import Batch, TrainingBatches
from lfads_lightning.training.format import read_checkpoint, state_of

SKIPS_IN_A_ROW = 3  # one may be a rare draw of noise; this many are due to the weights
_TRIALS_SHOWN = 12


class Diverged(LFADSError):
    """Training no longer gives a finite loss or gradient."""


class Training(Protocol):
    """The part of the LightningModule that is used here."""

    @property
    def trainer(self) -> Any:
        """Lightning's."""

    @property
    def current_epoch(self) -> int:
        """Number of the epoch, from 0."""

    @property
    def model(self) -> torch.nn.Module:
        """Its network."""

    @property
    def step(self) -> int:
        """Updates done."""


class Faults:
    """Skips updates that are not finite, and returns to a checkpoint after several in a row.

    Attributes:
        in_a_row: skipped updates since the last finite one.
        n_skipped: skipped updates in total.
        n_recoveries: returns to a checkpoint.
        start: checkpoint to return to while ``newest`` finds none; None: the initial state.
        newest: returns the path of the newest intact checkpoint, if any.
    """

    def __init__(self, max_recoveries: int) -> None:
        self.max_recoveries = max_recoveries
        self.in_a_row = self.n_skipped = self.n_recoveries = 0
        self.newest: Any = lambda: None
        self._first: tuple[dict[str, Any], dict[str, Any]] | None = None

    def begin(self, module: Training) -> None:
        """Keep the state at the beginning of training, until there is a checkpoint."""
        optimizer = module.trainer.optimizers[0]
        self._first = _copied(module.model.state_dict()), _copied(optimizer.state_dict())

    def state(self) -> dict[str, int]:
        """Return the counters, for a checkpoint."""
        return {name: getattr(self, name) for name in ("in_a_row", "n_skipped", "n_recoveries")}

    def take_up(self, state: Mapping[str, int]) -> None:
        """Restore the counters from a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)

    def skip_update(self, module: Training, batch: Batch, terms: Mapping[str, float]) -> None:
        """Skip an update; after several in a row, return to the newest checkpoint.

        Args:
            module: the module; its gradients are removed, so that the optimiser changes nothing.
            batch: batch of the update.
            terms: terms of its loss, by name.

        Raises:
            Diverged: no recovery is left.
        """
        message = described(module, batch, terms)
        for p in module.model.parameters():
            p.grad = None
        self.in_a_row += 1
        self.n_skipped += 1
        if self.in_a_row < SKIPS_IN_A_ROW:
            _warn(module, f"{message}; the update is skipped")
            return
        rate = module.trainer.optimizers[0].param_groups[0]["lr"]
        if self.n_recoveries >= self.max_recoveries:
            raise Diverged(
                f"{message}: {self.in_a_row} such updates in a row, after {self.n_recoveries} "
                f"returns to a checkpoint (trainer.max_recoveries); the learning rate is "
                f"{rate:.3g}. The checkpoints are unchanged. Look for extreme values in these "
                "trials, or lower optim.learning_rate_init or optim.max_grad_norm"
            )
        self.n_recoveries += 1
        self.in_a_row = 0
        where = self._go_back(module)
        for group in module.trainer.optimizers[0].param_groups:
            group["lr"] = rate / 2
        _warn(module, f"{message}; back to the weights of {where}, at a learning rate of "
              f"{rate / 2:.3g}")  # fmt: skip

    def _go_back(self, module: Training) -> str:
        """Restore the weights and the optimiser's moments; return where they come from."""
        path: Path | None = self.newest()
        if path is None:
            assert self._first is not None
            weights, moments = self._first
            where = "the start"
        else:
            saved = read_checkpoint(path)
            weights, moments, where = state_of(saved), saved["optimizer_states"][0], path.name
        module.model.load_state_dict(weights)
        module.trainer.optimizers[0].load_state_dict(_copied(moments))
        return where


def described(module: Training, batch: Batch, terms: Mapping[str, float]) -> str:
    """Name in one line the batch, session, trials and terms or gradients that are not finite."""
    epoch = module.current_epoch
    trials = _trials_of(module, batch, epoch)
    bad = [name for name, value in terms.items() if name != "total" and not math.isfinite(value)]
    if bad:
        what = f"the loss is not finite (its term{'s' * (len(bad) > 1)} {', '.join(bad)})"
    else:
        names = [
            name
            for name, p in module.model.named_parameters()
            if p.grad is not None and not bool(torch.isfinite(p.grad).all())
        ]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        what = f"the gradient is not finite (of {shown or 'all parameters together'})"
    return (
        f"epoch {epoch}, update {module.step}, batch {batch.number}: session {batch.session!r}, "
        f"trials {trials}: {what}"
    )


def _trials_of(module: Training, batch: Batch, epoch: int) -> str:
    """Return the numbers of a batch's trials in train_data, in file order."""
    sampler = module.trainer.train_dataloader.sampler
    whole = TrainingBatches(
        sampler.n_trials, sampler.batch_size, sampler.seed, lengths=sampler.lengths
    )
    whole.set_epoch(epoch)
    numbers = next(sorted(int(t) for t in b.trials) for b in whole if b.number == batch.number)
    more = f" and {len(numbers) - _TRIALS_SHOWN} more" if len(numbers) > _TRIALS_SHOWN else ""
    return ", ".join(map(str, numbers[:_TRIALS_SHOWN])) + more


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """Copy a state made of tensors, numbers, lists and dicts."""

    def copy(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().clone()
        if isinstance(value, dict):
            return {k: copy(v) for k, v in value.items()}
        return list(value) if isinstance(value, list) else value

    return copy(dict(state))


def _warn(module: Training, message: str) -> None:
    if module.trainer.is_global_zero:
        warnings.warn(message, stacklevel=2)
