"""When checkpoints are saved: periodically, at the end, and at the lowest validation error.

Their files are the subject of :mod:`.checkpoint_files`.
"""

import math
import re
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from lfads_lightning.commands import override, to_train
from lfads_lightning.config import Config, OutputConfig
from lfads_lightning.notebook.interactive import at_prompt
from lfads_lightning.runs.files import remove_leftovers
from lfads_lightning.runs.names import checkpoint_name
from lfads_lightning.runs.run import Run
from lfads_lightning.runs.signals import Interrupted, Preempted, Request
from lfads_lightning.training.checkpoint_files import (
    LOWEST,
    PERIODIC,
    WITHIN_RAMPS,
    find_checkpoint,
    load_checkpoint,
    read_index,
    write_checkpoint,
    write_index,
)
from lfads_lightning.training.hidden import NAME as HIDDEN
from lfads_lightning.training.module import LFADSModule

EVERY_N_EPOCHS = 10  # as in the original, from the first epoch on


class Checkpoints(Checkpoint):
    """Save every tenth epoch, at the end, when told to stop, and at the lowest validation cost.

    An epoch is eligible as the one of the lowest validation cost (``trainer.criterion``) if the KL
    and L2 ramps are 1 (or both L2 scales are 0) and it is at least the second validation: the
    original's rule. Training stops after ``patience`` eligible epochs in a row without a new lowest
    cost. As long as no epoch is eligible, the one of the lowest smoothed reconstruction is kept in
    its place: a learning rate that ends training within a ramp must not leave the last, most
    overfitted weights.

    The likelihood of hidden entries (``hidden_recon``) does not depend on the ramps: exactly the
    epochs in which it was computed are eligible.

    Args:
        folder: the run's folder.
        output: names and numbers of checkpoints.
        criterion: name of the metric to minimise, such as ``valid/total``.
        patience: number of epochs, or None.
    """

    def __init__(
        self,
        folder: Path,
        output: OutputConfig,
        criterion: str = "valid/total",
        patience: int | None = None,
    ) -> None:
        self.run = Run(folder)
        self.folder, self.output = self.run.checkpoints, output
        self.criterion, self.patience = criterion, patience
        self.n_validations, self.since_lowest = 0, 0
        self.best: dict[str, float] = {}  # validation metrics of the lowest epoch
        self.best_name = ""  # its file
        self.is_eligible = False  # whether the lowest epoch is eligible
        self.request: Request | None = None  # request to stop this run

    @property
    def lowest(self) -> float:
        """The lowest eligible criterion so far."""
        return self.best.get(self.criterion, math.inf) if self.is_eligible else math.inf

    @property
    def chosen_by(self) -> str:
        """The metric that the lowest epoch was chosen by; "" if there is no such epoch."""
        return (self.criterion if self.is_eligible else WITHIN_RAMPS) if self.best else ""

    def state_dict(self) -> dict[str, Any]:
        """Return the state by which a resumed run keeps the best model."""
        return {
            "n_validations": self.n_validations,
            "since_lowest": self.since_lowest,
            "criterion": self.criterion,
            "best": self.best,
            "best_name": self.best_name,
            "is_eligible": self.is_eligible,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; with another criterion the search for the lowest starts again."""
        self.n_validations = state_dict["n_validations"]
        if state_dict["criterion"] == self.criterion:
            self.since_lowest, self.best = state_dict["since_lowest"], state_dict["best"]
            self.best_name = state_dict.get("best_name", "")
            # in older checkpoints the lowest epoch is always an eligible one
            self.is_eligible = state_dict.get("is_eligible", bool(self.best))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tidy up after a run that was killed, and tell where to return to after a fault."""
        assert isinstance(pl_module, LFADSModule)
        pl_module.faults.newest = lambda: find_checkpoint(self.run.folder, PERIODIC)
        if not trainer.is_global_zero:
            return
        remove_leftovers(self.folder)
        listed = {i: read_index(self.folder, i) for i in (PERIODIC, LOWEST)}
        if self.best_name in listed[LOWEST][:-1]:  # later ones are from updates that were lost
            listed[LOWEST].remove(self.best_name)
            listed[LOWEST].append(self.best_name)
            write_index(self.folder, LOWEST, listed[LOWEST])
        ours = re.compile(re.escape(self.output.checkpoint_name) + r"(_lve)?-\d{8,}\.ckpt")
        for path in self.folder.glob("*.ckpt"):  # from a save that was killed before its last step
            if ours.fullmatch(path.name) and path.name not in listed[PERIODIC] + listed[LOWEST]:
                path.unlink(missing_ok=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the checkpoints that are due in this epoch."""
        assert isinstance(pl_module, LFADSModule)
        metrics = pl_module.metrics
        self.n_validations += "valid/total" in metrics
        if self.criterion == HIDDEN:
            if HIDDEN in metrics:
                self._look(trainer, pl_module)
        elif "valid/total" in metrics and self.n_validations >= 2:
            self._look(trainer, pl_module)
        if trainer.current_epoch % EVERY_N_EPOCHS == 0:
            self._save(trainer, pl_module, PERIODIC, self.output.max_ckpt_to_keep)
            if trainer.is_global_zero:
                self.run.push()  # Lightning calls checkpoints last: the logs are written

    def _look(self, trainer: pl.Trainer, module: LFADSModule) -> None:
        """Save this epoch if it is the lowest so far; stop if none has been lower for long."""
        metrics, by_hidden = module.metrics, self.criterion == HIDDEN
        past_ramps = ramps_complete(module)
        eligible = math.isfinite(metrics[HIDDEN]) if by_hidden else past_ramps
        self.since_lowest += past_ramps
        if by_hidden and not eligible:
            return
        if eligible:
            is_lowest = metrics[self.criterion] < self.lowest
        else:
            before = self.best.get(WITHIN_RAMPS, math.inf)
            is_lowest = not self.is_eligible and metrics[WITHIN_RAMPS] < before
        if is_lowest:
            # the first eligible epoch replaces all earlier ones
            n_kept = 1 if eligible and not self.is_eligible else self.output.max_ckpt_to_keep_lve
            self.since_lowest, self.is_eligible = 0, eligible
            self.best = {k: v for k, v in metrics.items() if k.startswith("valid/")}
            self.best_name = self._name(module, LOWEST)
            self._save(trainer, module, LOWEST, n_kept)
        if eligible and self.patience is not None and self.since_lowest >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last state."""
        self._save(trainer, pl_module, PERIODIC, self.output.max_ckpt_to_keep)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save when told to stop: KeyboardInterrupt and Preempted arrive between two updates."""
        if not isinstance(exception, KeyboardInterrupt | Preempted):
            return
        assert isinstance(pl_module, LFADSModule)
        at_once = self.request is not None and self.request.at_once
        if not at_once:
            self._save(trainer, pl_module, PERIODIC, self.output.max_ckpt_to_keep)
        if trainer.is_global_zero:
            done = "Interrupted, and not saved" if at_once else "Interrupted and saved"
            if isinstance(exception, Interrupted) and at_prompt():
                done += "; fit returns the model so far"
            tell_to_continue(self.run.folder, done, pl_module.config)

    def _name(self, module: LFADSModule, index: str) -> str:
        return checkpoint_name(self.output.checkpoint_name, module.step, index == LOWEST)

    def _save(
        self, trainer: pl.Trainer, module: pl.LightningModule, index: str, n_kept: int
    ) -> None:
        assert isinstance(module, LFADSModule)
        name = self._name(module, index)
        trainer.save_checkpoint(self.folder / name)  # all processes take part, the first writes
        if not trainer.is_global_zero:
            return
        kept = [n for n in read_index(self.folder, index) if n != name] + [name]
        write_index(self.folder, index, kept[-n_kept:])
        for old in kept[:-n_kept]:
            (self.folder / old).unlink(missing_ok=True)


def tell_to_continue(run: Path, done: str, config: Config) -> None:
    """Print how to continue a run that was stopped."""
    of = Path(config.output.lfads_save_dir or run)
    if of.resolve() != run.resolve():  # a candidate within another run
        run = of
    if config.data.data_dir is None and not config.data.data_filename_stem:  # arrays from Python
        how = f"call fit in the same way, with lfads_save_dir={str(run)!r}"
    else:
        how = to_train(override("output.lfads_save_dir", run))
    print(f"{done}. To continue: {how}", file=sys.stderr)


class WholeCheckpoints(CheckpointIO):
    """Makes Lightning write checkpoints whole or not at all, and read only intact ones."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; its code, if any, never runs."""
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def ramps_complete(module: LFADSModule) -> bool:
    """Return whether the KL and L2 ramps were 1 in the epoch that has just ended."""
    metrics, loss = module.metrics, module.config.loss
    no_l2 = loss.l2_gen_scale == loss.l2_con_scale == loss.l2_readout_scale == 0
    return metrics["ramp/kl"] >= 1 and (metrics["ramp/l2"] >= 1 or no_l2)
