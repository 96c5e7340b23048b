"""What a run reports during training: CSV logs, TensorBoard scalars, the terminal."""

import csv
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from tqdm import tqdm

from lfads_lightning.commands import duration
from lfads_lightning.config import LFADSError, LossConfig
from lfads_lightning.notebook.interactive import has_widgets, in_kernel
from lfads_lightning.runs.files import remove_leftovers, sync, whole_file, writing
from lfads_lightning.runs.run import Run
from lfads_lightning.training.budget import RUNG, AtRung
from lfads_lightning.training.hidden import NAME as HIDDEN
from lfads_lightning.training.module import LFADSModule

SECONDS_BETWEEN_LINES = 10.0
# the most informative score first; at most one is shown beside the cost
_SCORE_TEXTS = {
    "valid/co_bps": "co-bps {:.3f}",
    "valid/fp_bps": "fp-bps {:.3f}",
    "valid/sample_recon": "sample validation {:.1f}",
    "valid/bits_per_spike": "bits/spike (seen entries) {:.3f}",
}


class EpochLogs(pl.Callback):
    """Write a row per epoch to metrics.csv, and the original's line to ``<csv_log>.csv``.

    A resumed run drops the rows after the checkpoint that it starts from, and appends new ones.

    Args:
        folder: the run's folder.
        csv_log: name of the log in the original's format; empty for none.
    """

    def __init__(self, folder: Path, csv_log: str) -> None:
        self.table = Run(folder).metrics
        self.fitlog = Run(folder).log(csv_log) if csv_log else None
        self.has_layout = False  # whether TensorBoard's charts have been laid out

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Cut both logs back to the epoch at which training starts."""
        if not trainer.is_global_zero:
            return
        remove_leftovers(self.table.parent, self._names())
        epoch = trainer.current_epoch
        _keep_lines(self.table, lambda line: line.startswith("epoch,") or _int(line, 0) < epoch)
        if self.fitlog is not None:
            _keep_lines(self.fitlog, lambda line: _int(line, 1) < epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's row to both logs, and its scalars to TensorBoard."""
        assert isinstance(pl_module, LFADSModule)
        metrics, step = pl_module.metrics, pl_module.step
        if not metrics or not trainer.is_global_zero:
            return
        row = {"epoch": trainer.current_epoch, "step": step} | metrics
        with writing(self.table):
            is_new = not self.table.exists() or self.table.stat().st_size == 0
            with self.table.open("a", newline="") as file:
                writer = csv.DictWriter(file, row.keys())
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
        if self.fitlog is not None:
            with writing(self.fitlog), self.fitlog.open("a") as file:
                file.write(fitlog_line(trainer.current_epoch, step, metrics))
        if not self.has_layout:
            self.has_layout = True
            both = [
                n[6:] for n in metrics if n.startswith("train/") and f"valid/{n[6:]}" in metrics
            ]
            for logger in trainer.loggers:
                if isinstance(logger, Events):
                    logger.layout(both)
        # hidden entries are not scored in every epoch
        told = {k: v for k, v in metrics.items() if not (k == HIDDEN and math.isnan(v))}
        for logger in trainer.loggers:
            logger.log_metrics(told, step)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Flush the logs of all epochs before the checkpoint to the disk."""
        if not trainer.is_global_zero:
            return
        for name in self._names():
            path = self.table.parent / name
            if path.exists():
                with writing(path):
                    sync(path)
        for logger in trainer.loggers:
            logger.save()

    def _names(self) -> list[str]:
        return [path.name for path in (self.table, self.fitlog) if path is not None]


def fitlog_line(epoch: int, step: int, metrics: dict[str, float]) -> str:
    """Return an epoch as a line of the original's log, with names and values alternating.

    Without validation data the second value of each pair is left out.
    """

    def pair(name: str, *terms: str) -> str:
        splits = [s for s in ("train", "valid") if f"{s}/total" in metrics]
        values = [sum(metrics[f"{s}/{term}"] for term in terms) for s in splits]
        return f"{name},{','.join(f'{v:.2f}' for v in values)}"

    return (
        f"epoch,{epoch}, step,{step}, {pair('total', 'total')}, {pair('recon', 'recon')}, "
        f"{pair('kl', 'kl_ic', 'kl_co')}, l2,{metrics['train/l2']:.5f}, "
        f"klweight,{metrics['ramp/kl']:.2f}, l2weight,{metrics['ramp/l2']:.2f}\n"
    )


def _int(line: str, field: int) -> float:
    try:
        return int(line.split(",")[field])
    except (ValueError, IndexError):  # a line cut off by a crash
        return float("inf")


def _keep_lines(path: Path, keep: Callable[[str], bool]) -> None:
    if not path.exists():
        return
    with writing(path):
        # a row that cannot be decoded is not kept
        lines = path.read_text(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and keep(line)]
    if len(kept) < len(lines):
        with whole_file(path) as new:
            new.write_text("".join(kept))


class Events(TensorBoardLogger):
    """The TensorBoard files of a run; an error in writing them is one line."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write an epoch's numbers; Lightning's own method misreports a full disk as bad numbers.

        Raises:
            LFADSError: the disk is full, or the folder is gone.
        """
        with writing(self.log_dir):
            for name, value in metrics.items():
                self.experiment.add_scalar(name, value, step)

    def layout(self, terms: Sequence[str]) -> None:
        """Show training and validation in one chart per term, under Custom Scalars.

        Raises:
            LFADSError: the disk is full, or the folder is gone.
        """
        charts = {term: ["Multiline", [f"train/{term}", f"valid/{term}"]] for term in terms}
        with writing(self.log_dir):
            self.experiment.add_custom_scalars({"training and validation": charts})

    def save(self) -> None:
        """Write everything to the files.

        Raises:
            LFADSError: the disk is full, or the folder is gone.
        """
        with writing(self.log_dir):
            super().save()

    def finalize(self, status: str) -> None:
        """Close the files, without repeating an error that was raised already."""
        with suppress(OSError, LFADSError) if status == "failed" else writing(self.log_dir):
            super().finalize(status)


class Progress(pl.Callback):
    """Show the epoch, the costs, a held-out score, the ramp, the learning rate and the time left.

    It is a bar in a terminal or a notebook, and a line every ten seconds elsewhere.

    Args:
        loss: the parameters of the ramps.
        learning_rate_stop: the rate at which training ends.
    """

    def __init__(self, loss: LossConfig, learning_rate_stop: float) -> None:
        self.loss, self.learning_rate_stop = loss, learning_rate_stop
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar, in the first process."""
        self.silent = not trainer.is_global_zero
        self.started, self.first_epoch, self.last_line = (
            time.monotonic(),
            trainer.current_epoch,
            0.0,
        )
        if (sys.stderr.isatty() or in_kernel()) and not self.silent:
            total = self._epochs_in_all(trainer)
            if has_widgets():
                from tqdm.notebook import tqdm as tqdm_of_notebook  # imports IPython

                # a browser is updated less often than a terminal
                bar, more = tqdm_of_notebook, {"mininterval": 0.3}
            else:
                bar, more = (
                    tqdm,
                    {"dynamic_ncols": True, "mininterval": 0.3 if in_kernel() else 0.1},
                )
            self.bar = bar(total=total, initial=self.first_epoch, unit="epoch", **more)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch."""
        assert isinstance(pl_module, LFADSModule)
        m = pl_module.metrics
        valid = f" valid {m['valid/total']:.1f}" if "valid/total" in m else ""
        costs = f"train {m['train/total']:.1f}{valid}{best_score(m)}"
        costs += f" | ramp {m['ramp/kl']:.2f} | lr {m['lr']:.2g}"
        if self.bar is not None:
            self.bar.total = self._epochs_in_all(trainer)  # a time budget sets it late
            self.bar.set_postfix_str(f"{costs}{self._at_least(trainer, pl_module)}", refresh=False)
            self.bar.update()
        if self.bar is not None or self.silent:
            return
        now, epoch = time.monotonic(), trainer.current_epoch
        is_last = trainer.should_stop or epoch + 1 == self._epochs_in_all(trainer)
        if is_last or now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            left = self._time_left(trainer, pl_module, now)
            print(f"epoch {epoch} | {costs}{left}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _epochs_in_all(self, trainer: pl.Trainer) -> int | None:
        bounds = []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            bounds.append(trainer.max_epochs)
        if trainer.max_steps >= 0:
            is_candidate = any(isinstance(c, AtRung) for c in trainer.callbacks)  # type: ignore[attr-defined]
            updates = trainer.max_steps * (RUNG if is_candidate else 1)
            bounds.append(math.ceil(updates / int(trainer.num_training_batches)))
        return min(bounds, default=None)

    def _fewest_epochs_left(self, module: LFADSModule) -> float:
        return module.rule.epochs_until(module.metrics["lr"], self.learning_rate_stop)

    def _at_least(self, trainer: pl.Trainer, module: LFADSModule) -> str:
        if self._epochs_in_all(trainer) is not None:
            return ""  # the bar itself shows the time left
        return self._time_left(trainer, module, time.monotonic())

    def _time_left(self, trainer: pl.Trainer, module: LFADSModule, now: float) -> str:
        done = trainer.current_epoch + 1 - self.first_epoch
        per_epoch = (now - self.started) / done
        total, by_rate = self._epochs_in_all(trainer), self._fewest_epochs_left(module)
        if total is not None:
            return f" | {duration((total - trainer.current_epoch - 1) * per_epoch)} left"
        if by_rate == float("inf"):
            return ""
        # only the learning rate ends training, and it cannot fall faster than this
        return f" | at least {duration(by_rate * per_epoch)} left"


def best_score(metrics: dict[str, float]) -> str:
    """Return the most informative score, as ' | co-bps 0.312'; '' if there is none."""
    shown = (text.format(metrics[name]) for name, text in _SCORE_TEXTS.items() if name in metrics)
    return next((f" | {text}" for text in shown), "")
