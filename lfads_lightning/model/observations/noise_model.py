"""What every noise model says of itself."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lfads_lightning.config import OutputDist

SMALLEST_RATE = 1e-9  # counts per bin, where a rate that was computed is taken the logarithm of
LEAST_RATE = 0.001  # counts per bin, where a neuron's mean is taken the logarithm of


class Moments(NamedTuple):
    """What a noise model may start from: statistics of the training data, (D,) each."""

    mean: Tensor
    variance: Tensor
    filled: Tensor  # share of entries that are not 0


class NoiseModel(ABC):
    """The distribution of the data, given what is read out of the factors.

    Each channel has a rate's read-out ``x = factors W + b``, and as many further trained values as
    ``extras`` names. Whatever takes these takes them unclamped and as they are trained: ``x`` is
    (B, T, D), log-rates where data are counts; ``extras`` are (B, T, D) each, or broadcast to it.

    Attributes:
        name: of ``model.output_dist``, and of the file.
        parameters: what output_dist_params (B, T, P D) holds: P blocks of D columns, in this order.
        units: of these blocks.
        variable: what the original called the rate's read-out, ``glm/fac_2_<variable>_<session>``.
        extras: names of what is trained beside the rate's read-out: ``readout_<extra>`` in the
            model.
        has_identity_readout: the factors of a single session of as many neurons are its log-rates.
        nll_is_poisson: the negative log-likelihood of counts can be compared with the Poisson one
            of true or constant rates.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]]
    units: ClassVar[str]
    variable: ClassVar[str] = "logrates"
    extras: ClassVar[tuple[str, ...]] = ()
    has_identity_readout: ClassVar[bool] = False
    nll_is_poisson: ClassVar[bool] = False

    @property
    def is_counts(self) -> bool:
        """Data are counts: kept as such, jittered, scored in bits per spike; rates are per bin."""
        return OutputDist[self.name].is_counts

    @property
    def params_are_rates(self) -> bool:
        """output_dist_params are counts per bin: divided by the bin width, they are in Hz."""
        return self.is_counts and len(self.parameters) == 1

    def new_readout(
        self, extra: str, factors_dim: int, data_dim: int, per_bin: bool = True
    ) -> nn.Module:
        """Return what maps factors (B, T, F) to an extra (B, T, D), at its start.

        Args:
            extra: its name.
            factors_dim: F.
            data_dim: D.
            per_bin: the extra is read out of the factors; else it is a number per channel.
        """
        raise NotImplementedError(extra)

    def start_extras(self, moments: Moments) -> tuple[Tensor, ...]:
        """Return where the extras start, (D,) each, by the data's moments; (): as they are."""
        return ()

    def start_bias(self, means: Tensor, do_log: bool) -> Tensor:
        """Return where the bias of the rate's read-out starts.

        Args:
            means: (D,) of the data, per channel.
            do_log: ``model.do_log_readout_bias``.
        """
        # of other values a mean of 0 has no scale but that of the other channels
        least = LEAST_RATE if self.is_counts else LEAST_RATE * float(means.abs().max())
        return means.clamp(min=least or LEAST_RATE).log()

    def constant_bias(self, means: Tensor, n_bins: int) -> Tensor | None:
        """Return the bias by which a read-out without weights gives the data's means.

        Training starts no neuron below LEAST_RATE, which is a high rate in short bins.

        Args:
            means: (D,) of the data, per channel.
            n_bins: in which they were counted; a silent neuron gets half a spike in these.

        Returns:
            None where that is the bias that training starts with.
        """
        return means.clamp(min=0.5 / n_bins).log() if self.is_counts else None

    def rates(self, x: Tensor, clip: float) -> Tensor:
        """Return the rates: means of the data, if nothing else changes them.

        Args:
            x: (..., D), the read-out.
            clip: it is clamped to +- this.
        """
        return x.clamp(-clip, clip).exp()

    @abstractmethod
    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return output_dist_params (B, T, P D), of the read-out clamped to +- ``clip``."""

    def mean(self, params: Any) -> Any:
        """Return the mean of the data (..., D), of output_dist_params (..., P D); any array."""
        return params[..., : params.shape[-1] // len(self.parameters)]

    @abstractmethod
    def nll(
        self,
        x: Tensor,
        extras: tuple[Tensor, ...],
        data: Tensor,
        clip: float,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return -log p(data) of each trial (B,), summed over bins and channels.

        Args:
            x: (B, T, D), the read-out.
            extras: see the class.
            data: (B, T, D), of any type.
            clip: the read-out is cut here, so that no loss is infinite.
            weight: (B, T, D) of each entry in the sum; None: 1.
        """

    @abstractmethod
    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial (B,), of output_dist_params (B, T, P D).

        Of parameters that were averaged over samples of the posterior: rates, not log-rates. The
        other arguments are those of :meth:`nll`.
        """


def total(each: Tensor, weight: Tensor | None) -> Tensor:
    """Sum (B, T, D) over bins and channels, entries weighed."""
    return (each if weight is None else each * weight).sum((1, 2))


class PerChannel(nn.Module):
    """A trained number per channel, the same in all bins and trials."""

    def __init__(self, data_dim: int, start: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((data_dim,), start))

    def forward(self, factors: Tensor) -> Tensor:
        """Return the numbers, (1, 1, D), whatever the factors."""
        return self.bias[None, None]
