"""Checkpoints of a run: periodic and lowest validation error, each with an index file.

``checkpoints/checkpoint.json`` and ``checkpoints/checkpoint_lve.json`` list the files kept, oldest
first; ``output.checkpoint_pb_load_name`` names the index to load from.
"""

import difflib
import json
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from lfads_lightning.config import LFADSError, OutputConfig
from lfads_lightning.files import whole_file
from lfads_lightning.stores import push
from lfads_lightning.training.format import read_checkpoint
from lfads_lightning.training.module import LFADSModule

FOLDER = "checkpoints"
PERIODIC, LOWEST = "checkpoint", "checkpoint_lve"
EVERY_N_EPOCHS = 10  # as the original, from its first epoch on


class Checkpoints(Checkpoint):
    """Save every tenth epoch, at the end, on an interrupt, and at the lowest validation cost.

    The lowest validation cost (``trainer.criterion``) counts only where all hold (the original's
    rule): KL and L2 ramps are 1 (or both L2 scales 0), this is at least the second validation, and
    no eligible epoch had a lower one. Training stops when ``patience`` eligible epochs in a row had
    none.

    Args:
        folder: the run's.
        output: names and numbers of checkpoints.
        criterion: the metric to be lowest, ``valid/total`` for one.
        patience: epochs, or None.
    """

    def __init__(
        self,
        folder: Path,
        output: OutputConfig,
        criterion: str = "valid/total",
        patience: int | None = None,
    ) -> None:
        self.folder, self.output = folder / FOLDER, output
        self.criterion, self.patience = criterion, patience
        self.n_validations, self.since_lowest = 0, 0
        self.best: dict[str, float] = {}  # validation metrics of the lowest epoch

    @property
    def lowest(self) -> float:
        """The lowest eligible criterion so far."""
        return self.best.get(self.criterion, float("inf"))

    def state_dict(self) -> dict[str, Any]:
        """Return what keeps a resumed run from overwriting the best model by a worse one."""
        return {
            "n_validations": self.n_validations,
            "since_lowest": self.since_lowest,
            "criterion": self.criterion,
            "best": self.best,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up; by another criterion the search for the lowest begins anew."""
        self.n_validations = state_dict["n_validations"]
        if state_dict["criterion"] == self.criterion:
            self.since_lowest, self.best = state_dict["since_lowest"], state_dict["best"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what this epoch asks for."""
        assert isinstance(pl_module, LFADSModule)
        metrics = pl_module.metrics
        self.n_validations += "valid/total" in metrics
        if "valid/total" in metrics and self.n_validations >= 2 and ramps_complete(pl_module):
            self.since_lowest += 1
            if metrics[self.criterion] < self.lowest:
                self.since_lowest = 0
                self.best = {k: v for k, v in metrics.items() if k.startswith("valid/")}
                self._save(trainer, pl_module, LOWEST, self.output.max_ckpt_to_keep_lve)
            if self.patience is not None and self.since_lowest >= self.patience:
                trainer.should_stop = True
        if trainer.current_epoch % EVERY_N_EPOCHS == 0:
            self._save(trainer, pl_module, PERIODIC, self.output.max_ckpt_to_keep)
            if trainer.is_global_zero:
                push(self.folder.parent)  # Lightning calls checkpoints last: the logs are written

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last state."""
        self._save(trainer, pl_module, PERIODIC, self.output.max_ckpt_to_keep)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save on Ctrl-C."""
        if isinstance(exception, KeyboardInterrupt):
            self._save(trainer, pl_module, PERIODIC, self.output.max_ckpt_to_keep)
            if not trainer.is_global_zero:
                return
            run = self.folder.parent
            print(
                f"Interrupted and saved. To continue: python train.py output.lfads_save_dir={run}",
                file=sys.stderr,
            )

    def _save(
        self, trainer: pl.Trainer, module: pl.LightningModule, index: str, n_kept: int
    ) -> None:
        assert isinstance(module, LFADSModule)
        lve = "_lve" if index == LOWEST else ""
        name = f"{self.output.checkpoint_name}{lve}-{module.step:08d}.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder / name)  # takes part, and writes nothing
            return
        with whole_file(self.folder / name) as path:
            trainer.save_checkpoint(path)
        kept = [n for n in read_index(self.folder, index) if n != name] + [name]
        write_index(self.folder, index, kept[-n_kept:])
        for old in kept[:-n_kept]:
            (self.folder / old).unlink(missing_ok=True)


def ramps_complete(module: LFADSModule) -> bool:
    """Return whether the KL and L2 ramps were 1 in the epoch that has ended."""
    metrics, loss = module.metrics, module.config.loss
    no_l2 = loss.l2_gen_scale == 0 and loss.l2_con_scale == 0
    return metrics["ramp/kl"] >= 1 and (metrics["ramp/l2"] >= 1 or no_l2)


def read_index(folder: Path, index: str) -> list[str]:
    """Return the checkpoint files that an index lists, oldest first; none without an index."""
    try:
        return [Path(name).name for name in json.loads((folder / f"{index}.json").read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise LFADSError(
            f"{folder / index}.json: is not a list of file names ({error}); delete it to go on "
            "without"
        ) from error


def write_index(folder: Path, index: str, names: list[str]) -> None:
    """Write an index whole."""
    with whole_file(folder / f"{index}.json") as path:
        path.write_text(json.dumps(names, indent=1))


def find_checkpoint(run: Path, index: str) -> Path | None:
    """Return the newest checkpoint of an index of a run's folder; None where it has no index.

    Args:
        run: the run's folder.
        index: ``checkpoint``, ``checkpoint_lve``, or empty for the first.

    Raises:
        LFADSError: the index names files that are not there.
    """
    folder = run / FOLDER
    names = read_index(folder, index or PERIODIC)
    for name in reversed(names):
        if (folder / name).is_file():
            return folder / name
    if names:
        raise LFADSError(f"{folder}: {names[-1]}, named by {index}.json, is missing")
    return None


def require_checkpoint(run: Path, index: str) -> Path:
    """Return the newest checkpoint of an index.

    Raises:
        LFADSError: there is none.
    """
    if not run.is_dir():
        raise LFADSError(
            f"output.lfads_save_dir={run}: no such folder; give the folder of a training run"
        )
    path = find_checkpoint(run, index)
    if path is None:
        others = sorted(p.stem for p in (run / FOLDER).glob("*.json"))
        near = difflib.get_close_matches(index, others, n=1, cutoff=0)
        hint = (
            f"output.checkpoint_pb_load_name={near[0]} is there"
            if near
            else "give the folder of a training run (output.lfads_save_dir=RUN)"
        )
        waits = (
            " (the lowest-validation-error checkpoint is written once both ramps are complete)"
            if index == LOWEST
            else ""
        )
        raise LFADSError(f"{run}: has no checkpoint under the name {index!r}{waits}; {hint}")
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        LFADSError: not a checkpoint of ours, damaged, or of a newer format.
    """
    return read_checkpoint(path)
