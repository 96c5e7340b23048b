"""An early warning, during training, that the model copies the spikes it sees."""

import math
import warnings
from collections.abc import Sequence

import lightning.pytorch as pl

from lfads_lightning.data.sessions import Session
from lfads_lightning.metrics import null_nll, poisson_nll
from lfads_lightning.training.checkpoints import ramps_complete
from lfads_lightning.training.copying import LEAST_SHARE, REMEDY
from lfads_lightning.training.module import LFADSModule

MARGIN = 0.005  # sampling does not bring a reconstruction this far below that of the true rates


class CopyingWatch(pl.Callback):
    """Warn once if the validation reconstruction is better than it can be without copying.

    That is, if it is below that of the true rates, if they are known; or, with sample validation,
    far below that of the entries never shown. Checked for noise models with ``nll_is_poisson``,
    once the ramps are complete.

    Args:
        sessions: their validation trials are scored.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        splits = [(s.valid, s.conversion_factor) for s in sessions if s.valid is not None]
        n_trials = sum(len(split.data) for split, _ in splits)
        null = truth = 0.0
        for split, factor in splits:
            counts = split.known
            this_null = null_nll(counts)
            null += this_null
            this_truth = math.inf
            if split.truth is not None:
                this_truth = poisson_nll(split.truth / factor, counts)
            # true rates that do not fit their own counts cannot be the truth
            truth += this_truth if this_truth < this_null else math.inf
        self.null, self.truth = null / max(n_trials, 1), truth / max(n_trials, 1)
        self.has_warned = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the epoch's numbers."""
        assert isinstance(pl_module, LFADSModule)
        m = pl_module.metrics
        if self.has_warned or "valid/recon_smoothed" not in m or not ramps_complete(pl_module):
            return
        seen, reason = m["valid/recon_smoothed"], None
        if math.isfinite(self.truth) and seen < (1 - MARGIN) * self.truth:
            reason = f"below the {self.truth:.1f} of the true rates"
        never = m.get("valid/sample_recon_smoothed", -math.inf)
        if seen < self.null and self.null - never < LEAST_SHARE * (self.null - seen):
            reason = f"far below the {never:.1f} of entries that it was never shown"
        if reason is not None:
            self.has_warned = True
            if trainer.is_global_zero:
                warnings.warn(
                    f"epoch {trainer.current_epoch}: the model copies the spikes it sees: its "
                    f"validation reconstruction, {seen:.1f} nats per trial, is {reason}; {REMEDY}",
                    stacklevel=2,
                )
