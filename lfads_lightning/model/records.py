"""Inputs and outputs of one pass of the network."""

from typing import NamedTuple

from torch import Tensor

from lfads_lightning.model.cells import DecoderStates
from lfads_lightning.model.observations import NoiseModel


class Noise(NamedTuple):
    """Standard normal draws of one forward pass."""

    ic: Tensor  # (B, Z)
    co: Tensor  # (B, T, U)


class Masks(NamedTuple):
    """Dropout masks of one forward pass; None without dropout, or if the model lacks that part.

    The mask of the data is part of :class:`Visibility`.
    """

    ext_input: Tensor | None = None  # (B, T, I)
    ic_encoding: Tensor | None = None  # (B, 2E)
    con_input: Tensor | None = None  # (B, T, C or 2C)
    feedback: Tensor | None = None  # (B, T, F or D)
    generator: Tensor | None = None  # (B, T, G)


NO_DROPOUT = Masks()


class Encoding(NamedTuple):
    """Output of the encoders for a batch: the posterior over z, and the controller's inputs.

    T excludes forward bins, except in the external inputs.
    """

    ic_mean: Tensor | None  # (B, Z)
    ic_logvar: Tensor | None  # (B, Z)
    con_input: Tensor | None  # (B, T, C or 2C), lagged, dropped out
    ext_input: Tensor | None  # (B, T, I), dropped out
    ic_enc_fwd: Tensor | None  # (B, N_ic, E)
    ic_enc_rev: Tensor | None  # (B, N_ic, E)
    ci_enc_fwd: Tensor | None  # (B, T, C)
    ci_enc_rev: Tensor | None  # (B, T, C)
    lengths: Tensor | None = None  # (B,) encoded bins of each trial; None: all


class LFADSOutput(NamedTuple):
    """Everything one forward pass computes."""

    gen_ics: Tensor  # (B, G), the generator's state before bin 0
    states: DecoderStates
    log_rates: Tensor  # (B, T, D) unclamped log-rates; for real values: means
    extras: tuple[Tensor, ...]  # further parameters of the noise model
    readout_weight: Tensor | None  # (F, D), the session's; None: the factors are the log-rates
    encoding: Encoding
    noise_model: NoiseModel
    clip: float  # bound of log-rates and log-variances

    @property
    def output_dist_params(self) -> Tensor:
        """(B, T, P D), the parameters of the noise model; Poisson: rates, counts per bin."""
        return self.noise_model.params(self.log_rates, self.extras, self.clip)
