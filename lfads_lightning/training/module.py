"""Training as a LightningModule: the loss of a step, the optimiser, the learning-rate rule."""

from importlib.metadata import version
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data.datamodule import Batch
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import LossTerms, compute_loss
from lfads_lightning.params import to_dict
from lfads_lightning.training.optimizer import TFAdam
from lfads_lightning.training.schedules import LearningRateRule, ramp

FORMAT_VERSION = 1  # of what stands under "lfads" in a checkpoint


class LFADSModule(pl.LightningModule):
    """Train an :class:`~lfads_lightning.model.lfads.LFADS`.

    ``metrics`` holds the numbers of the last epoch: ``train/…`` and ``valid/…`` (total, recon,
    kl_ic, kl_co, l2, corr: nats per trial, without ramps but in total), ``ramp/kl``, ``ramp/l2``,
    ``lr``, ``grad_norm`` (mean over updates, before clipping), ``prior/ar_tau_<k>`` (bins) and
    ``prior/ar_var_<k>`` (stationary variance).

    Args:
        model: to train.
        config: its loss, optim, sampling groups and seed are read.
        n_bins: T, goes into the checkpoint.
        start_step: updates the model has had before this run.
    """

    def __init__(
        self, model: LFADS, config: Config, n_bins: int | None, start_step: int = 0
    ) -> None:
        super().__init__()
        self.model, self.config, self.n_bins = model, config, n_bins
        self.start_step = start_step
        self.rule = LearningRateRule(
            config.optim.learning_rate_decay_factor, config.optim.learning_rate_n_to_compare
        )
        self.metrics: dict[str, float] = {}
        self.resumed = False
        # sums of an epoch; they stay on the device until its end
        self._valid_sum, self._n_valid = torch.zeros(len(LossTerms._fields)), 0
        self._empty_sums()
        self._valid_rng = torch.Generator()
        restrict_training(model, config)

    @property
    def step(self) -> int:
        """Optimiser updates done, over all runs of this model."""
        return self.start_step + self.global_step

    def ramps(self, step: int | None = None) -> tuple[float, float]:
        """Return the KL and L2 ramps at ``step``, by default the current one."""
        return ramps(self.config, self.step if step is None else step)

    def _empty_sums(self) -> None:
        self._train_sum = torch.zeros(len(LossTerms._fields), device=self.device)
        self._norm_sum, self._n_updates = torch.zeros((), device=self.device), 0

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, dropout on."""
        n_trials, n_bins = batch.data.shape[:2]
        masks = self.model.draw_masks(n_trials, n_bins, batch.session)
        output = self.model(batch.data, batch.session, batch.ext_input, masks=masks)
        terms = compute_loss(self.model, output, batch.data, self.config.loss, *self.ramps())
        self._train_sum = self._train_sum + torch.stack(terms).detach()
        self._n_updates += 1
        return terms.total

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the validation cost: no dropout, posterior sampled."""
        n_trials, n_bins = batch.data.shape[:2]
        k = self.config.sampling.num_validation_samples
        for _ in range(k):
            noise = self.model.draw_noise(n_trials, n_bins, self._valid_rng)
            output = self.model(batch.data, batch.session, batch.ext_input, noise)
            terms = compute_loss(self.model, output, batch.data, self.config.loss, *self.ramps())
            # every trial counts once, whatever its batch
            self._valid_sum = self._valid_sum + torch.stack(terms) * (n_trials / k)
        self._n_valid += n_trials

    def on_train_start(self) -> None:
        """Begin with the learning rate that the user asks for, also after loading."""
        self._train_sum = self._train_sum.to(self.device)
        self._norm_sum = self._norm_sum.to(self.device)
        if self.resumed and self.config.optim.do_reset_learning_rate:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self.config.optim.learning_rate_init

    def on_validation_epoch_start(self) -> None:
        """Empty the sums, and draw this epoch's samples from a generator of their own."""
        self._valid_sum = torch.zeros(len(LossTerms._fields), device=self.device)
        self._n_valid = 0
        seed = (self.config.seed * 1_000_003 + self.current_epoch) % 2**63
        self._valid_rng = torch.Generator(self.device).manual_seed(seed)

    def finish_epoch(self) -> None:
        """Gather the epoch's numbers, then decay the learning rate or stop."""
        last_update = self.ramps(self.step - 1)
        metrics = _named("train", self._train_sum / max(self._n_updates, 1))
        if self._n_valid:
            metrics |= _named("valid", self._valid_sum / self._n_valid)
        group = self.trainer.optimizers[0].param_groups[0]
        metrics |= {"ramp/kl": last_update[0], "ramp/l2": last_update[1], "lr": group["lr"]}
        metrics["grad_norm"] = float(self._norm_sum / max(self._n_updates, 1))
        if self.model.config.co_dim > 0:
            prior = self.model.co_prior
            tau, var = prior.log_tau.exp().tolist(), prior.process_logvar().exp().tolist()
            metrics |= {f"prior/ar_tau_{k}": value for k, value in enumerate(tau)}
            metrics |= {f"prior/ar_var_{k}": value for k, value in enumerate(var)}
        self.metrics = metrics
        self._empty_sums()
        rate = self.rule(group["lr"], metrics["train/total"])
        for each in self.trainer.optimizers[0].param_groups:
            each["lr"] = rate
        if rate < self.config.optim.learning_rate_stop:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> TFAdam:
        """Return the original's Adam over all parameters; frozen ones have no gradient."""
        return TFAdam(self.model.parameters(), lr=self.config.optim.learning_rate_init)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the global norm to max_grad_norm, and keep the norm before it for the logs."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.optim.max_grad_norm)
        self._norm_sum = self._norm_sum + norm.detach()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the model without its data, and what continues training."""
        checkpoint["lfads"] = model_record(self.model, self.config, self.n_bins, self.step)
        checkpoint["lfads"] |= {"costs": self.rule.costs, "start_step": self.start_step}
        # an interrupt may come in the middle of an epoch
        checkpoint["lfads"]["sums"] = [self._train_sum.tolist(), float(self._norm_sum)]
        checkpoint["lfads"]["n_updates"] = self._n_updates
        checkpoint["rng"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the learning-rate rule and the random state where they were."""
        record = checkpoint["lfads"]
        self.rule.costs, self.start_step = list(record["costs"]), record["start_step"]
        self._train_sum, self._norm_sum = (torch.tensor(s) for s in record["sums"])
        self._n_updates = record["n_updates"]
        torch.set_rng_state(checkpoint["rng"].cpu())
        self.resumed = True


class EpochEnd(pl.Callback):
    """Finish the module's epoch before the other callbacks read its numbers.

    Lightning calls a module's own ``on_train_epoch_end`` after those of the callbacks.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish it."""
        assert isinstance(pl_module, LFADSModule)
        pl_module.finish_epoch()


def ramps(config: Config, step: int) -> tuple[float, float]:
    """Return the KL and the L2 ramp at an update."""
    loss = config.loss
    return (
        ramp(step, loss.kl_start_step, loss.kl_increase_steps),
        ramp(step, loss.l2_start_step, loss.l2_increase_steps),
    )


def model_record(model: LFADS, config: Config, n_bins: int | None, step: int) -> dict[str, Any]:
    """Return what a checkpoint says of a model; plain types only, so that it loads safely."""
    return {
        "format_version": FORMAT_VERSION,
        "version": version("lfads-lightning"),
        "config": to_dict(config),
        "sessions": [list(spec) for spec in model.sessions.values()],
        "n_bins": n_bins,
        "step": step,
    }


def restrict_training(model: LFADS, config: Config) -> None:
    """Freeze what do_train_io_only or do_train_encoder_only leave out.

    Raises:
        LFADSError: nothing is left to train.
    """
    optim, name = config.optim, ""
    if optim.do_train_io_only:
        name = "do_train_io_only"
        kept: list[torch.nn.Module] = [model.readin, model.readout, model.readout_logvar]
    elif optim.do_train_encoder_only:
        name = "do_train_encoder_only"
        kept = [model.ic_encoder, model.ic_mean, model.ic_logvar]
    else:
        return
    trained = {id(p) for part in kept for p in part.parameters() if p.requires_grad}
    if not trained:
        raise LFADSError(
            f"optim.{name}=true: this model has no such parameters (one session, no alignment "
            "matrix, factors_dim = number of neurons); train it whole"
        )
    for p in model.parameters():
        p.requires_grad_(id(p) in trained)


def _named(split: str, values: Tensor) -> dict[str, float]:
    names = LossTerms._fields
    return {f"{split}/{n}": v for n, v in zip(names, values.tolist(), strict=True)}
