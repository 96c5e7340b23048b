"""The loss: the negative evidence lower bound, with ramps, and L2 penalties.

Sussillo et al. 2016, equations of section 2: likelihood and divergences are summed over time and
dimensions and averaged over trials only::

    total = recon + ramp_kl * (kl_ic + kl_co) + ramp_l2 * l2 + co_mean_corr_scale * corr
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lfads_lightning.config import LossConfig
from lfads_lightning.model.distributions import (
    gaussian_kl,
    gaussian_log_density,
    over_bins,
)
from lfads_lightning.model.layers import inside
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.records import LFADSOutput
from lfads_lightning.model.visibility import WHOLE, Visibility


class LossTerms(NamedTuple):
    """The loss and its terms in nats per trial; weights are applied, ramps only in ``total``.

    Each is a number, averaged over trials, or, from :func:`trial_terms`, of shape (B,).
    """

    total: Tensor
    recon: Tensor
    kl_ic: Tensor
    kl_co: Tensor
    l2: Tensor
    corr: Tensor


def compute_loss(
    model: LFADS,
    output: LFADSOutput,
    data: Tensor,
    weights: LossConfig,
    ramp_kl: float,
    ramp_l2: float,
    visibility: Visibility = WHOLE,
) -> LossTerms:
    """Return the loss of a batch.

    Args:
        model: the model, for its priors and recurrent weights.
        output: the model's output for the batch.
        data: (B, T, D), the target.
        weights: weights of the terms.
        ramp_kl: 0..1, :func:`lfads_lightning.training.schedules.ramp` at this update.
        ramp_l2: 0..1, likewise for the L2 penalty.
        visibility: the weight of each entry of the data.
    """
    terms = trial_terms(model, output, data, weights, ramp_kl, ramp_l2, visibility)
    return LossTerms(*(term.mean() for term in terms))


def trial_terms(
    model: LFADS,
    output: LFADSOutput,
    data: Tensor,
    weights: LossConfig,
    ramp_kl: float,
    ramp_l2: float,
    visibility: Visibility = WHOLE,
) -> LossTerms:
    """Return the loss terms of each trial, (B,); the L2 penalty is the same for all trials."""
    recon = reconstruction(model, output, data, visibility)  # (B,)
    kl_ic = weights.kl_ic_weight * initial_condition_kl(model, output, like=recon)
    kl_co = weights.kl_co_weight * inferred_input_kl(
        model, output, weights.do_analytic_kl_co, like=recon
    )
    do_correlate = weights.co_mean_corr_scale > 0
    corr = input_correlation(model, output, like=recon) if do_correlate else torch.zeros_like(recon)
    l2 = recurrent_l2(model, weights.l2_gen_scale, weights.l2_con_scale)
    if weights.l2_readout_scale > 0 and output.readout_weight is not None:
        l2 = l2 + readout_l2(output.readout_weight, weights.l2_readout_scale)
    l2 = l2.expand_as(recon)
    total = recon + ramp_kl * (kl_ic + kl_co) + ramp_l2 * l2 + weights.co_mean_corr_scale * corr
    return LossTerms(total, recon, kl_ic, kl_co, l2, corr)


def reconstruction(
    model: LFADS, output: LFADSOutput, data: Tensor, visibility: Visibility = WHOLE
) -> Tensor:
    """Return -log p(data | factors) per trial (B,), summed over bins and channels.

    Entries have the weights that ``visibility`` gives them.
    """
    nll = model.passes.nll(model.noise_model)
    given = output.log_rates, output.extras, data, output.clip, visibility.weight
    return visibility.scale * nll(*given)


def initial_condition_kl(model: LFADS, output: LFADSOutput, like: Tensor) -> Tensor:
    """Return KL(q(z|x) || p(z)) per trial (B,), in closed form; zeros without a code."""
    mean, logvar = output.encoding.ic_mean, output.encoding.ic_logvar
    if mean is None or logvar is None:
        return torch.zeros_like(like)
    return gaussian_kl(mean, logvar, model.ic_prior.mean, model.ic_prior.logvar()).sum(1)


def inferred_input_kl(model: LFADS, output: LFADSOutput, analytic: bool, like: Tensor) -> Tensor:
    """Return the divergence of inferred inputs from the AR(1) prior, per trial (B,).

    sum_t log q(u_t) - log p(u_t | u_{t-1}), by default at the one sample that drove the generator,
    as in the original; ``analytic`` takes the expectation over q in closed form instead, given the
    means and variances of this pass. In forward bins q equals p, and the divergence is 0.
    """
    states = output.states
    mean, logvar, u = map(
        model.encoded.bins, (states.co_means, states.co_logvars, states.co_samples)
    )
    if mean is None or logvar is None or u is None:
        return torch.zeros_like(like)
    within = encoded_bins(output, mean.shape[1])
    if analytic:
        # E_q log q(u) = -1/2 (log 2 pi + logvar + 1): the density at the mean, less one half
        log_q = over_bins(gaussian_log_density(mean, mean, logvar) - 0.5, within)
        return log_q - model.co_prior.expected_log_density(mean, logvar, within)
    log_q = over_bins(gaussian_log_density(u, mean, logvar), within)
    return log_q - model.co_prior.log_density(u, within)


def encoded_bins(output: LFADSOutput, n_bins: int) -> Tensor | None:
    """Return which bins (B, T) are encoded; None if all trials have the same length."""
    lengths = output.encoding.lengths
    return None if lengths is None else inside(lengths, n_bins)


def input_correlation(model: LFADS, output: LFADSOutput, like: Tensor) -> Tensor:
    """Return the mean over pairs of inputs of 1/2 (sum_t mu_i mu_j)^2, per trial (B,).

    It is 0 with fewer than two inputs. Forward bins, which have no posterior, are left out.
    """
    mean = model.encoded.bins(output.states.co_means)
    if mean is None or mean.shape[2] < 2:
        return torch.zeros_like(like)
    within = encoded_bins(output, mean.shape[1])
    if within is not None:
        mean = mean.masked_fill(~within[..., None], 0)
    products = mean.transpose(1, 2) @ mean  # (B, U, U)
    i, j = torch.triu_indices(mean.shape[2], mean.shape[2], offset=1, device=mean.device)
    return 0.5 * products[:, i, j].square().mean(1)


def recurrent_l2(model: LFADS, gen_scale: float, con_scale: float) -> Tensor:
    """Return the penalty on recurrent weights and biases of generator and controller.

    1/2 (gen_scale * |gen|^2 + con_scale * |con|^2) / (number of elements of both); the controller's
    elements count even where its scale is 0, as in the original, whose default scales assume it.
    """
    gen = model.generator.recurrent_parameters()
    con = model.controller.recurrent_parameters() if model.config.co_dim > 0 else []
    n_elements = sum(p.numel() for p in gen + con)
    penalty = torch.zeros_like(gen[0][0, 0])
    for scale, parameters in ((gen_scale, gen), (con_scale, con)):
        if scale > 0:
            penalty = penalty + 0.5 * scale * sum(p.square().sum() for p in parameters)
    return penalty / n_elements


def readout_l2(weight: Tensor, scale: float) -> Tensor:
    """Return the penalty on the read-out of a session, scale / 2 |W|^2.

    It is added to each trial's loss, so that summed over E training trials it is, up to a constant,
    -log of a Gaussian prior with variance 1 / (scale E) on each weight. A neuron with many spikes
    overrides the prior; one with few stays near its mean rate.

    Args:
        weight: (F, D).
        scale: ``loss.l2_readout_scale``.
    """
    return 0.5 * scale * weight.square().sum()
