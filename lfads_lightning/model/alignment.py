"""Where a session's read-in and read-out start (Pandarinath et al. 2018, Methods)."""

import warnings

import torch
from torch import Tensor

from lfads_lightning.model.layers import session_key, session_layer
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.observations.noise_model import Moments
from lfads_lightning.model.visibility import held_in


@torch.no_grad()
def align(model: LFADS, session: str, matrix: Tensor | None, bias: Tensor | None) -> None:
    """Start a session's read-in at (x - bias) A and its read-out at f A^T + bias.

    For counts with ``do_log_readout_bias`` the read-out starts at f A^T + log(bias), the mean
    rates; the noise model decides this. The read-in takes the rows of the held-in channels.

    Args:
        model: with fresh weights.
        session: one of its sessions.
        matrix: A = ``alignment_matrix_cxf`` (D, F); None leaves the random start.
        bias: ``alignment_bias_c`` (D,), mean counts per channel; None is 0.
    """
    readin, readout = session_layer(model.readin, session), session_layer(model.readout, session)
    if matrix is not None and readin is not None:
        shown = held_in(model.sessions[session])
        readin.weight.copy_(matrix[shown])
        if bias is not None:
            readin.bias.copy_(-bias.to(matrix)[shown] @ matrix[shown])
    if readout is not None:
        if matrix is not None:
            readout.weight.copy_(matrix.T)
        if bias is not None:
            do_log = model.config.do_log_readout_bias
            readout.bias.copy_(model.noise_model.start_bias(bias, do_log))
    elif matrix is not None or bias is not None:
        warnings.warn(
            f"session {session!r}: with one session that has as many neurons as factors_dim, "
            f"{model.config.factors_dim}, the factors are the log-rates, so the alignment does not "
            "reach the read-out; with another factors_dim it does",
            stacklevel=2,
        )


@torch.no_grad()
def start_at_moments(model: LFADS, session: str, moments: Moments) -> None:
    """Start a session's read-outs so that factors of 0 give the means and other moments of data.

    Args:
        model: with fresh weights, aligned or not.
        session: one of its sessions.
        moments: moments of the data.
    """
    noise = model.noise_model
    starts = noise.start_extras(moments)
    for layers, start in zip(model.extra_readouts.values(), starts, strict=bool(starts)):
        layers[session_key(session)].bias.copy_(start)  # type: ignore[operator]
    readout = session_layer(model.readout, session)
    if readout is not None:
        readout.bias.copy_(noise.start_bias(moments.mean, do_log=True))
    else:
        warnings.warn(
            f"session {session!r}: model.do_start_at_mean_rates=true has no effect: with one "
            f"session that has as many neurons as factors_dim, {model.config.factors_dim}, the "
            "factors are the log-rates; with another factors_dim there is a read-out",
            stacklevel=2,
        )
