"""The criterion ``hidden_recon``: entries of validation trials that the encoders did not see.

The cost of all entries flatters a model that copies what it sees. So a fifth of the entries is
hidden at a time and predicted from the others: their likelihood follows that of held-out neurons
(speckled cross-validation, Keshtkaran & Pandarinath 2019, with masks in validation only).
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lfads_lightning.config import Config
from lfads_lightning.data.datamodule import Batch, LFADSDataModule
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.visibility import Visibility, sample_validation

NAME = "valid/hidden_recon"
N_PARTS = 5  # parts of the entries, hidden one at a time
N_SAMPLES = 4  # posterior samples; their mean rates are scored
MOST_TRIALS = 300  # over all sessions
LEAST_UPDATES = 20  # between two looks
# For each trial, a look takes 5 passes through the encoders and 20 through the decoder, without
# gradients; an update takes one pass through each, with gradients. As measured, a look takes 4
# times as long per trial as an update; looks may take this share of the time.
UPDATES_PER_LOOK, SHARE = 4.0, 0.15


class HiddenEntries:
    """Scores a model on hidden entries of fixed validation trials.

    The partition into five parts and the samples' random numbers depend only on the names and sizes
    of the data: they are the same at every look, for every training seed and every model. Held-out
    neurons and forward bins are not scored, so that the best epoch is not chosen by the entries on
    which its final scores are reported. The entries of sample validation are not scored either.

    Args:
        batches: validation trials, one batch per session, on the model's device.
        n_trials: number of trials in a training batch.
        sample_validation_rate: share of entries that are never shown, if batches have any.
        memory_mb: memory for one pass.
    """

    def __init__(
        self,
        batches: Sequence[Batch],
        n_trials: int,
        sample_validation_rate: float = 0.0,
        memory_mb: int = 256,
    ) -> None:
        self.batches, self.rate = batches, sample_validation_rate
        self.memory = memory_mb * 2**20
        self.n_trials = sum(len(b.data) for b in batches)
        self.worth = UPDATES_PER_LOOK * self.n_trials / n_trials  # cost of a look in updates
        self.every = max(LEAST_UPDATES, math.ceil(self.worth / SHARE))  # updates between two looks

    @torch.no_grad()
    def look(self, model: LFADS, first: int = 0, step: int = 1) -> Tensor:
        """Return -log p(hidden entries) of each trial in nats, summed over the five parts.

        Args:
            model: the model to score.
            first: the first part; with several devices each takes some of the parts.
            step: from one part to the next.

        Returns:
            (E,), the trials of all sessions, one session after the other.
        """
        found = []
        for batch in self.batches:
            nats = torch.zeros(len(batch.data), device=model.factor_weight.device)
            draw = torch.Generator().manual_seed(_seed(batch))
            parts = torch.randint(N_PARTS, batch.data.shape, generator=draw, dtype=torch.uint8)
            parts = parts.to(batch.data.device)
            size = self._trials_per_pass(model, batch)
            for part in range(first, N_PARTS, step):
                rng = torch.Generator(batch.data.device).manual_seed(_seed(batch, part))
                for start in range(0, len(batch.data), size):
                    trials = slice(start, start + size)
                    nats[trials] += self._nats(model, batch, parts == part, trials, rng)
            found.append(nats)
        return torch.cat(found)

    def _trials_per_pass(self, model: LFADS, batch: Batch) -> int:
        cfg, (_, n_bins, n_neurons) = model.config, batch.data.shape
        widths = 3 * cfg.gen_dim + 3 * cfg.con_dim + 2 * cfg.ci_enc_dim + 5 * n_neurons
        n_bytes = N_SAMPLES * n_bins * widths * model.factor_weight.element_size()
        return max(self.memory // n_bytes, 1)

    def _nats(
        self, model: LFADS, batch: Batch, part: Tensor, trials: slice, rng: torch.Generator
    ) -> Tensor:
        """Return -log p of the hidden entries of some trials, (B,)."""
        data, name, hidden = batch.data[trials], batch.session, part[trials]
        ext = None if batch.ext_input is None else batch.ext_input[trials]
        n, n_bins = data.shape[:2]
        weight = hidden.to(model.factor_weight.dtype)
        seen = Visibility((1 - weight) * (N_PARTS / (N_PARTS - 1)), weight)
        never = None if batch.never_shown is None else batch.never_shown[trials]
        seen = seen.also(sample_validation(never, self.rate, weight)[0])
        present, lengths = (
            None if x is None else x[trials] for x in (batch.present, batch.lengths)
        )
        seen = seen.also(model.encoded.missing(name, present, lengths, weight))
        encoding = model.encode(data, name, ext, visibility=seen)
        output = model.decode(encoding, n_bins, name, model.draw_noise(N_SAMPLES * n, n_bins, rng))
        samples = output.output_dist_params
        if len(samples) > n:  # a model without initial state and inputs has one row per trial
            samples = samples.unflatten(0, (len(samples) // n, n)).mean(0)
        unseen, scored = model.encoded.unseen(name, n_bins, weight.device, lengths), seen.weight
        if unseen is not None and scored is not None:
            scored = scored.masked_fill(unseen, 0)
        return model.noise_model.nll_of_params(samples, data, scored)


def hidden_entries(
    data: LFADSDataModule, config: Config, device: torch.device
) -> HiddenEntries | None:
    """Return the entries of a run's validation trials; None if there are no such trials."""
    batches = [
        b._replace(
            **{
                name: held.to(device)
                for name in ("data", "ext_input", "never_shown", "present", "lengths")
                if (held := getattr(b, name)) is not None
            }
        )
        for b in data.first_validation_trials(MOST_TRIALS)
    ]
    n = min(data.batch_size, max(len(s.train.data) for s in data.sessions))
    rate, memory_mb = config.data.sample_validation_rate, config.sampling.memory_mb
    return HiddenEntries(batches, n, rate, memory_mb) if batches else None


def _seed(batch: Batch, part: int = N_PARTS) -> int:
    numbers = [*batch.data.shape, part, zlib.crc32(batch.session.encode())]
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
