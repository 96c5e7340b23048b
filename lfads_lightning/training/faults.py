"""Losses and gradients that are not finite: say where they come from, and get over them.

A single such update is left out. After several in a row the model goes back to the newest
checkpoint, with half the learning rate; after ``trainer.max_recoveries`` of these training ends.
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

SKIPS_IN_A_ROW = 3  # one may be a rare draw of noise; as many are the weights' fault
_TRIALS_SHOWN = 12


class Diverged(LFADSError):
    """Training came to no finite loss, or no finite gradient, any more."""


class Training(Protocol):
    """What is asked of the LightningModule."""

    @property
    def trainer(self) -> Any:
        """Lightning's."""

    @property
    def current_epoch(self) -> int:
        """Counted from 0."""

    @property
    def model(self) -> torch.nn.Module:
        """Its network."""

    @property
    def step(self) -> int:
        """Updates done."""


class Faults:
    """What is done about updates that are not finite.

    Attributes:
        in_a_row: such updates up to now, without a finite one between.
        n_skipped: in all.
        n_recoveries: times that the model went back to a checkpoint.
        start: where it goes back to as long as ``newest`` gives none; None: to where it began.
        newest: returns the path of the newest intact checkpoint, if any.
    """

    def __init__(self, max_recoveries: int) -> None:
        self.max_recoveries = max_recoveries
        self.in_a_row = self.n_skipped = self.n_recoveries = 0
        self.newest: Any = lambda: None
        self._first: tuple[dict[str, Any], dict[str, Any]] | None = None

    def begin(self, module: Training) -> None:
        """Keep the state that training begins with, for as long as there is no checkpoint."""
        optimizer = module.trainer.optimizers[0]
        self._first = _copied(module.model.state_dict()), _copied(optimizer.state_dict())

    def state(self) -> dict[str, int]:
        """Return what goes into a checkpoint."""
        return {name: getattr(self, name) for name in ("in_a_row", "n_skipped", "n_recoveries")}

    def take_up(self, state: Mapping[str, int]) -> None:
        """Go on from what a checkpoint held."""
        for name, value in state.items():
            setattr(self, name, value)

    def skip_update(self, module: Training, batch: Batch, terms: Mapping[str, float]) -> None:
        """Leave an update out; after some in a row, go back to the newest checkpoint.

        Args:
            module: at the update; its gradients are taken away, so that the optimiser rests.
            batch: of the update.
            terms: of its loss, by name.

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
        """Take up weights and the optimiser's moments; return where they come from."""
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
    """Say in one line which batch, session, trials and term, or gradients, are not finite."""
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
    """Copy a state of tensors, numbers, lists and dicts."""

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
