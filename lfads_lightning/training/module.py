"""Training as a LightningModule: the loss of a step, the optimiser, the learning-rate rule."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from lfads_lightning.config import Config, Criterion, LFADSError, Schedule
from lfads_lightning.data.datamodule import Batch
from lfads_lightning.data.identity import Identity, identity_of
from lfads_lightning.data.loading import n_trials_of
from lfads_lightning.metrics import bits
from lfads_lightning.model.layers import dropout_mask
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import LossTerms, compute_loss, reconstruction
from lfads_lightning.model.records import LFADSOutput, Masks, Noise
from lfads_lightning.model.visibility import Visibility, coordinated, sample_validation
from lfads_lightning.training import clock, faults, hidden, random_states
from lfads_lightning.training.averages import Averages
from lfads_lightning.training.format import model_record, state_of
from lfads_lightning.training.optimizer import new_optimizer
from lfads_lightning.training.predictions import Null, log_likelihoods
from lfads_lightning.training.schedules import LearningRateRule, cosine, ramps


class LFADSModule(pl.LightningModule):
    """Train an :class:`~lfads_lightning.model.lfads.LFADS`.

    ``metrics`` holds the numbers of the last epoch: ``train/…`` and ``valid/…`` (total, recon,
    kl_ic, kl_co, l2, corr: nats per trial; only total includes the ramps), ``ramp/kl``,
    ``ramp/l2``, ``lr``, ``grad_norm`` (mean over updates, before clipping), ``prior/ar_tau_<k>``
    (bins) and ``prior/ar_var_<k>`` (stationary variance). ``valid/recon_smoothed`` is an
    exponential average over epochs; ``valid/hidden_recon`` is one over the epochs in which hidden
    entries are scored, and NaN in the others (:mod:`lfads_lightning.training.hidden`). With sample
    validation, ``…/sample_recon`` is the reconstruction of the entries never shown, scaled up to a
    whole trial like ``…/recon``. Bits per spike, at one posterior sample, are
    ``valid/bits_per_spike`` for counts, ``valid/co_bps`` with held-out neurons and
    ``valid/fp_bps`` with forward bins.

    The random numbers of an update come from a generator seeded by (seed, update), and are drawn
    for all devices together: a resumed run, or a run on more devices, draws the same numbers.

    With ``optim.average_weights`` the weights that are validated, and saved as the model's weights,
    are averages over the updates; a checkpoint holds the weights that training continues with, too.

    An update whose loss or gradient is not finite is skipped, in the weights and in the logs; see
    :mod:`lfads_lightning.training.faults`.

    Args:
        model: the model to train.
        config: its loss, optim and sampling groups and its seed are read.
        n_bins: T, saved in the checkpoint.
        start_step: updates of the model before this run.
        nulls: null models of the predictions on validation trials.
    """

    def __init__(
        self,
        model: LFADS,
        config: Config,
        n_bins: int | None,
        start_step: int = 0,
        nulls: Mapping[str, Null] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.n_bins = model, config, n_bins
        self.start_step = start_step
        self.identity = Identity()  # of all sessions, with or without data
        self.rule = LearningRateRule(
            config.optim.learning_rate_decay_factor, config.optim.learning_rate_n_to_compare
        )
        self.metrics: dict[str, float] = {}
        self.smoothed: dict[str, float] = {}
        self.resumed = False
        self.n_batches = 0  # batches of this epoch that are done
        self.faults = faults.Faults(config.trainer.max_recoveries)
        self.hidden: hidden.HiddenEntries | None = None
        self.look_seconds, self.n_looks = 0.0, 0  # in this process
        self.looked_at = 0  # the update at which hidden entries were last scored
        self.averages: Averages | None = None
        self._averages_before: dict[str, Tensor] = {}  # from the checkpoint to continue from
        self._terms = list(LossTerms._fields)
        if config.data.sample_validation_rate > 0:
            self._terms.append("sample_recon")
        self._nulls = dict(nulls or {})
        # sums over an epoch; they stay on the device until it ends
        self._valid_sum, self._n_valid = torch.zeros(len(self._terms)), 0
        self._predicted_sum = torch.zeros(len(self._nulls))
        self._this_batch: tuple[Batch, Tensor] | None = None
        self._empty_sums()
        restrict_training(model, config)
        # a device may have no validation batch while others have some
        self.allow_zero_length_dataloader_with_multiple_devices = True

    @property
    def step(self) -> int:
        """The number of optimiser updates so far, over all runs of this model."""
        return self.start_step + self.global_step

    def ramps(self, step: int | None = None) -> tuple[float, float]:
        """Return the KL and L2 ramps at ``step``, by default the current one."""
        return ramps(self.config, self.step if step is None else step)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the rate of a cosine schedule, halved for each return to a checkpoint."""
        optim, max_steps = self.config.optim, self.config.trainer.max_steps
        if optim.schedule is not Schedule.cosine:
            return
        # while a time budget is being measured, the last update is not known: it is far away
        total = 2**53 if max_steps is None else max_steps
        share = cosine(self.global_step, optim.warmup_steps, total, optim.cosine_end)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = optim.learning_rate_init * share / 2**self.faults.n_recoveries

    def _empty_sums(self) -> None:
        self._train_sum = torch.zeros(len(self._terms), device=self.device)
        self._norm_sum, self._n_updates = torch.zeros((), device=self.device), 0
        self.n_batches = 0

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, with dropout; with several devices, this device's share."""
        model, cfg = self.model, self.config.data
        n_here, n_bins, n_channels = batch.data.shape
        n = batch.n_trials or n_here
        rng = self._generator(0, self.step)
        dropout = model.draw_data_mask(n, n_bins, batch.session, rng)
        masks = model.draw_masks(n, n_bins, rng)
        noise = model.draw_noise(n, n_bins, rng)
        kept, rate = None, cfg.coordinated_dropout_rate
        if rate > 0:
            kept = dropout_mask((n, n_bins, n_channels), 1 - rate, model.factor_weight, rng)
        if n > n_here:
            mine = slice(batch.first, batch.first + n_here)
            masks, noise = Masks(*(_rows(m, mine) for m in masks)), Noise(*(x[mine] for x in noise))
            dropout, kept = _rows(dropout, mine), _rows(kept, mine)
        visibility, never = self._visibilities(batch)
        if kept is not None:
            unseen = model.encoded.unseen(batch.session, n_bins, kept.device, batch.lengths)
            visibility = visibility.also(coordinated(kept, rate, unseen))
        given = batch.data, batch.session, batch.ext_input, noise
        output = model(*given, masks, visibility.dropped_out(dropout))
        terms = compute_loss(model, output, batch.data, self.config.loss, *self.ramps(), visibility)
        self._this_batch = batch, self._with_sample(terms, output, batch, never) * (n_here / n)
        # gradients are averaged over devices
        return terms.total * (n_here / n * self.trainer.world_size) if n > n_here else terms.total

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the validation cost, without dropout, at a posterior sample."""
        n_trials, n_bins = batch.data.shape[:2]
        k = self.config.sampling.num_validation_samples
        rng = self._generator(1, self.current_epoch, batch.number)
        visibility, never = self._visibilities(batch)
        given = batch.data, batch.session, batch.ext_input
        for _ in range(k):
            noise = self.model.draw_noise(n_trials, n_bins, rng)
            output = self.model(*given, noise, visibility=visibility)
            terms = compute_loss(
                self.model, output, batch.data, self.config.loss, *self.ramps(), visibility
            )
            # weights every trial equally, whatever the size of its batch
            self._valid_sum = self._valid_sum + self._with_sample(terms, output, batch, never) * (
                n_trials / k
            )
            if self._nulls:
                self._predicted_sum = self._predicted_sum + log_likelihoods(
                    self.model, output, batch, list(self._nulls)
                ) * (n_trials / k)
        self._n_valid += n_trials

    def _generator(self, *purpose: int) -> torch.Generator:
        """Return a random generator that depends only on the seed and the purpose."""
        mixed = np.random.SeedSequence([self.config.seed, *purpose]).generate_state(2, np.uint32)
        return torch.Generator(self.device).manual_seed(int(mixed[0]) << 31 | int(mixed[1]) >> 1)

    def _visibilities(self, batch: Batch) -> tuple[Visibility, Visibility]:
        rate, like = self.config.data.sample_validation_rate, self.model.factor_weight
        there = self.model.encoded.missing(batch.session, batch.present, batch.lengths, like)
        others, never = sample_validation(batch.never_shown, rate, like)
        return others.also(there), never.also(there)

    @torch.no_grad()
    def _with_sample(
        self, terms: LossTerms, output: LFADSOutput, batch: Batch, never: Visibility
    ) -> Tensor:
        """Return the loss terms, followed by that of sample validation if there is one."""
        values = list(terms)
        if batch.never_shown is not None:
            values.append(reconstruction(self.model, output, batch.data, never).mean())
        return torch.stack(values).detach()

    def on_train_start(self) -> None:
        """Start with the learning rate that the user asks for, also after loading."""
        self._train_sum = self._train_sum.to(self.device)
        self._norm_sum = self._norm_sum.to(self.device)
        self._valid_sum = self._valid_sum.to(self.device)
        self._predicted_sum = self._predicted_sum.to(self.device)
        self.faults.begin(self)
        if self.config.optim.average_weights:
            self.averages = Averages(self.model)
            if self._averages_before:
                self.averages.take_up(self._averages_before)
        if self.config.trainer.criterion is Criterion.hidden_recon:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.hidden = hidden.hidden_entries(data, self.config, self.device)
        if self.resumed and self.config.optim.do_reset_learning_rate:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self.config.optim.learning_rate_init
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        by_rule = self.config.optim.schedule is Schedule.original
        if by_rule and self.resumed and rate < self.config.optim.learning_rate_stop:
            self.trainer.should_stop = True  # only scores and report are left to do
            warnings.warn(
                f"training had ended: the learning rate, {rate:.2g}, is below optim."
                f"learning_rate_stop={self.config.optim.learning_rate_stop:g}; to continue, set "
                "optim.do_reset_learning_rate=true, or a lower learning_rate_stop",
                stacklevel=2,
            )

    def on_validation_start(self) -> None:
        """Put the averaged weights into the model, to validate them."""
        if self.averages is not None:
            self.averages.swap(self.model)

    def on_validation_end(self) -> None:
        """Put the trained weights back into the model."""
        if self.averages is not None:
            self.averages.swap(self.model)

    def on_validation_epoch_start(self) -> None:
        """Set the sums to zero."""
        self._valid_sum, self._n_valid = torch.zeros(len(self._terms), device=self.device), 0
        self._predicted_sum = torch.zeros(len(self._nulls), device=self.device)

    def finish_epoch(self) -> None:
        """Collect the epoch's numbers, then decay the learning rate or stop."""
        last_update = self.ramps(self.step - 1)
        train, valid, predicted, n_valid = self._on_all_devices()
        mean_of = self._n_updates or math.nan  # an epoch may have no finite update
        metrics = self._named("train", train / mean_of)
        if n_valid:
            metrics |= self._named("valid", valid / n_valid)
            for (name, null), value in zip(self._nulls.items(), predicted.tolist(), strict=True):
                metrics[f"valid/{name}"] = bits(value / n_valid - null.log_likelihood, null.spikes)
            self._smooth(metrics)
        group = self.trainer.optimizers[0].param_groups[0]
        metrics |= {"ramp/kl": last_update[0], "ramp/l2": last_update[1], "lr": group["lr"]}
        metrics["grad_norm"] = float(self._norm_sum / mean_of)
        if self.model.config.co_dim > 0:
            prior = self.model.co_prior
            tau, var = prior.log_tau.exp().tolist(), prior.process_logvar().exp().tolist()
            metrics |= {f"prior/ar_tau_{k}": value for k, value in enumerate(tau)}
            metrics |= {f"prior/ar_var_{k}": value for k, value in enumerate(var)}
        self.metrics = metrics
        if self.config.optim.schedule is Schedule.original:
            self._decay(group["lr"])
        if self.hidden is not None:
            self._look_at_hidden(self.hidden)
        self._empty_sums()

    def _look_at_hidden(self, entries: hidden.HiddenEntries) -> None:
        """Score hidden entries if it is time for it, or the last epoch."""
        trainer, metrics = self.trainer, self.metrics
        is_last = trainer.should_stop or self.global_step == trainer.max_steps
        is_last |= self.current_epoch + 1 == trainer.max_epochs
        metrics[hidden.NAME] = math.nan  # the table of epochs has a column for it
        if not is_last and self.global_step - self.looked_at < entries.every:
            return
        self.looked_at, started = self.global_step, clock.now()
        self.on_validation_start()
        nats = entries.look(self.model, trainer.global_rank, trainer.world_size).mean()
        self.on_validation_end()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(nats)
        value, past = float(nats), self.config.trainer.criterion_smoothing
        self.look_seconds += clock.now() - started
        self.n_looks += 1
        before = self.smoothed.get(hidden.NAME, value)
        metrics[hidden.NAME] = self.smoothed[hidden.NAME] = past * before + (1 - past) * value

    def _decay(self, rate: float) -> None:
        """Decay the learning rate by the original's rule, or stop."""
        if self._n_updates:
            rate = self.rule(rate, self.metrics["train/total"])
        for each in self.trainer.optimizers[0].param_groups:
            each["lr"] = rate
        if rate < self.config.optim.learning_rate_stop:
            self.trainer.should_stop = True

    def _on_all_devices(self) -> tuple[Tensor, Tensor, Tensor, float]:
        sums = self._train_sum, self._valid_sum, self._predicted_sum
        if self.trainer.world_size == 1:
            return *sums, self._n_valid
        n = torch.tensor([float(self._n_valid)], device=self.device)
        whole = torch.cat([*sums, n])
        torch.distributed.all_reduce(whole)
        train, valid, predicted, n = whole.split([*map(len, sums), 1])
        return train, valid, predicted, float(n)

    def _smooth(self, metrics: dict[str, float]) -> None:
        past = self.config.trainer.criterion_smoothing
        for name in ("valid/recon", "valid/sample_recon"):
            if name in metrics:
                before = self.smoothed.get(name, metrics[name])
                self.smoothed[name] = past * before + (1 - past) * metrics[name]
                metrics[f"{name}_smoothed"] = self.smoothed[name]

    def _named(self, split: str, values: Tensor) -> dict[str, float]:
        return {f"{split}/{n}": v for n, v in zip(self._terms, values.tolist(), strict=True)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of all parameters; frozen parameters have no gradient."""
        return new_optimizer(self.model.parameters(), self.config.optim)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the global norm to max_grad_norm, and keep the norm before it for the logs."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        assert self._this_batch is not None
        batch, terms = self._this_batch
        # the norm covers all gradients of all devices, so checking this one number is enough
        if not math.isfinite(norm):
            named = dict(zip(self._terms, terms.tolist(), strict=True))
            self.faults.skip_update(self, batch, named)
            return
        self.faults.in_a_row = 0
        torch.nn.utils.clip_grads_with_norm_(trained, self.config.optim.max_grad_norm, norm)
        self._norm_sum = self._norm_sum + norm.detach()
        self._train_sum = self._train_sum + terms
        self._n_updates += 1

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Count the batch: a continued run begins after it."""
        self.n_batches += 1
        if self.averages is not None:
            self.averages.add(self.model, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild the model without its data, and to continue training."""
        checkpoint["lfads"] = model_record(self.model, self.config, self.n_bins, self.step)
        checkpoint["lfads"] |= {"costs": self.rule.costs, "start_step": self.start_step}
        checkpoint["lfads"]["smoothed"] = self.smoothed
        checkpoint["lfads"]["metrics"] = self.metrics  # the scores of a finished run need them
        # an interrupt may come in the middle of an epoch; an epoch that max_steps cuts short shows
        # the validation before it
        checkpoint["lfads"]["sums"] = self._sums_of_each_device()
        checkpoint["lfads"]["n_updates"] = self._n_updates
        checkpoint["lfads"]["n_batches"] = self.n_batches
        checkpoint["lfads"]["looked_at"] = self.looked_at
        checkpoint["lfads"]["faults"] = self.faults.state()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        checkpoint["lfads"]["n_trials"] = n_trials_of(data.sessions)
        checkpoint["lfads"] |= identity_of(data.sessions, self.identity).to_record()
        checkpoint["rng"] = random_states.get(self.device)
        if self.averages is not None:
            ours = {f"model.{name}": value for name, value in self.averages.weights.items()}
            now = checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["trained_weights"] = (
                (now, now | ours) if self.averages.are_in else (now | ours, now)
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the learning-rate rule and the random state."""
        record = checkpoint["lfads"]
        if "trained_weights" in checkpoint:
            self._averages_before = state_of(checkpoint)
            checkpoint["state_dict"] = checkpoint["trained_weights"]
        self.rule.costs, self.start_step = list(record["costs"]), record["start_step"]
        self.smoothed = dict(record["smoothed"])
        self.metrics = dict(record.get("metrics", {}))
        self._take_up_sums(record["sums"], record["n_updates"])
        self.n_batches = record.get("n_batches", 0)
        self.trainer.datamodule.first_batch = self.n_batches  # type: ignore[attr-defined]
        self.looked_at = record.get("looked_at", 0)
        self.faults.take_up(record.get("faults", {}))
        random_states.put(checkpoint["rng"], self.device)
        self.resumed = True

    def _sums_of_each_device(self) -> list[Tensor]:
        """Return sums of training, validation, predictions, trials and norms: a row per device."""
        n = torch.tensor(float(self._n_valid))
        sums = self._train_sum, self._valid_sum, self._predicted_sum, n, self._norm_sum
        rows = []
        for mine in (s.to(self.device).reshape(-1) for s in sums):
            each = [torch.empty_like(mine) for _ in range(self.trainer.world_size)]
            if len(each) == 1:
                each = [mine]
            else:
                torch.distributed.all_gather(each, mine)
            rows.append(torch.stack(each).cpu())
        return rows

    def _take_up_sums(self, rows: list[Any], n_updates: int) -> None:
        sizes = [len(self._terms)] * 2 + [len(self._nulls), 1, 1]
        # other things may be validated now, and older checkpoints hold other sums
        if [r.shape[-1] if isinstance(r, Tensor) and r.ndim == 2 else 0 for r in rows] != sizes:
            return
        rank = self.trainer.global_rank
        if len(rows[0]) == self.trainer.world_size:
            mine = [r[rank] for r in rows]
        else:  # the first device takes all sums
            mine = [*(r.sum(0) * (rank == 0) for r in rows[:-1]), rows[-1][0]]
        self._train_sum, self._valid_sum, self._predicted_sum = mine[:3]
        self._n_valid, self._norm_sum, self._n_updates = int(mine[3]), mine[4][0], n_updates


class EpochEnd(pl.Callback):
    """Begin and finish the module's epochs before the other callbacks look at them.

    Lightning calls a module's own ``on_train_epoch_end`` after those of the callbacks.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with a new epoch if the checkpoint was saved at the end of one.

        With ``max_steps`` Lightning assumes that every checkpoint was saved within an epoch, and
        would begin with an empty one.
        """
        loop = trainer.fit_loop
        epoch: Any = loop.epoch_progress.current
        if epoch.ready and epoch.ready == epoch.started == epoch.processed:
            if epoch.completed < epoch.processed:
                loop.epoch_progress.increment_completed()
            loop.epoch_loop.restarting = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish the epoch."""
        assert isinstance(pl_module, LFADSModule)
        pl_module.finish_epoch()


def restrict_training(model: LFADS, config: Config) -> None:
    """Freeze the parameters that do_train_io_only or do_train_encoder_only exclude.

    Raises:
        LFADSError: nothing is left to train.
    """
    optim, name = config.optim, ""
    if optim.do_train_io_only:
        name = "do_train_io_only"
        kept: list[torch.nn.Module] = [model.readin, model.readout, *model.extra_readouts.values()]
    elif optim.do_train_encoder_only:
        name = "do_train_encoder_only"
        kept = [model.ic_encoder, model.ic_mean, model.ic_logvar]
    else:
        return
    trained = {id(p) for part in kept for p in part.parameters() if p.requires_grad}
    if not trained:
        raise LFADSError(
            f"optim.{name}=true: this model has no such parameters (one session, no alignment "
            "matrix, factors_dim = number of neurons); leave the option out"
        )
    for p in model.parameters():
        p.requires_grad_(id(p) in trained)


def _rows(mask: Tensor | None, which: slice) -> Tensor | None:
    if mask is None or mask.ndim == 2:
        return None if mask is None else mask[which]
    return mask.transpose(0, 1)[:, which].contiguous().transpose(0, 1)
