"""How well spikes are predicted during training: all, of held-out neurons, in forward bins."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lfads_lightning.data.datamodule import Batch
from lfads_lightning.data.sessions import Session
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.records import LFADSOutput

BPS, CO_BPS, FP_BPS = "bits_per_spike", "co_bps", "fp_bps"


class Null(NamedTuple):
    """The null model of a score, each neuron's mean rate: numbers per validation trial."""

    log_likelihood: float  # nats, without log n!, which all models share
    spikes: float


def nulls(sessions: Sequence[Session], model: LFADS) -> dict[str, Null]:
    """Return the null model of each score on the validation trials of all sessions.

    It is each neuron's mean over the scored entries (Pei et al. 2021, section 4). Empty for data
    other than counts.
    """
    splits = {s.name: s.valid for s in sessions if s.valid is not None}
    n_trials, found = sum(len(split.data) for split in splits.values()), {}
    if not n_trials or not model.noise_model.is_counts:
        return {}
    for name in (BPS, CO_BPS, FP_BPS):
        log_likelihood = spikes = 0.0
        for session, split in splits.items():
            counts, there = split.data, split.present
            lengths = None if split.lengths is None else torch.from_numpy(split.lengths)
            mask = scored(model, session, counts.shape[1], lengths).get(name)
            if mask is None:
                continue
            if there is None:
                n_bins = mask.sum(0).numpy() * len(counts)  # per neuron; 0 for those left out
                total = (counts.sum(0, dtype=np.float64) * mask.numpy()).sum(0)
            else:
                entries = there & mask.numpy()
                n_bins, total = entries.sum((0, 1)), (counts * entries).sum((0, 1), dtype=float)
            active = total > 0
            rates = total[active] / n_bins[active]
            log_likelihood += float((total[active] * np.log(rates) - total[active]).sum())
            spikes += float(total.sum())
        if spikes:
            found[name] = Null(log_likelihood / n_trials, spikes / n_trials)
    return found


def scored(
    model: LFADS, session: str, n_bins: int, lengths: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the entries (T, D) that each score covers; (B, T, D) for trials of given lengths.

    Bits per spike cover all entries. co-bps, if neurons are held out, covers them in the bins in
    which the others are seen; fp-bps, if there are forward bins, covers all neurons in those bins.
    """
    whole = torch.ones(n_bins, model.sessions[session].data_dim, dtype=torch.bool)
    never = model.encoded.unseen(session, n_bins, None, lengths)
    if never is None:
        return {BPS: whole}
    ends = torch.tensor(n_bins) if lengths is None else lengths[:, None].cpu()
    forward = (torch.arange(n_bins) >= ends - model.encoded.forward_steps)[..., None]
    never, forward = never.cpu(), forward.expand(*forward.shape[:-1], never.shape[-1])
    if lengths is not None and never.ndim == 2:
        never = never.expand_as(forward)
    masks = {BPS: whole, CO_BPS: never & ~forward, FP_BPS: forward}
    return {name: mask for name, mask in masks.items() if mask.any()}


def log_likelihoods(
    model: LFADS, output: LFADSOutput, batch: Batch, names: Sequence[str]
) -> Tensor:
    """Return the log-likelihood of the entries that each of ``names`` covers, mean over trials.

    Args:
        model: a model of counts; bits per spike use the Poisson likelihood for any noise model.
        output: the model's output for the batch.
        batch: the scored batch.
        names: names of scores, from :func:`scored`.

    Returns:
        Nats per trial, without log n!, one number per name.
    """
    log_rates, data = output.log_rates, batch.data
    masks = scored(model, batch.session, data.shape[1], batch.lengths)
    each = data * log_rates - log_rates.clamp(max=output.clip).exp()  # (B, T, D)
    if batch.present is not None:
        each = each * batch.present
    means = [(each * masks[n].to(each)).sum((1, 2)).mean() if n in masks else each.new_zeros(())
             for n in names]  # fmt: skip
    return torch.stack(means)
