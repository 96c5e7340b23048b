"""The interface of a noise model."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lfads_lightning.config import OutputDist

SMALLEST_RATE = 1e-9  # counts per bin; lower bound before the logarithm of a computed rate
LEAST_RATE = 0.001  # counts per bin; lower bound before the logarithm of a neuron's mean


class Moments(NamedTuple):
    """Statistics of the training data that a noise model may start from, (D,) each."""

    mean: Tensor
    variance: Tensor
    filled: Tensor  # share of entries that are not 0


class NoiseModel(ABC):
    """The distribution of the data given the read-outs of the factors.

    Each channel has a rate's read-out ``x = factors W + b``, and a further trained value for each
    name in ``extras``. All methods take them unclamped and as they are trained: ``x`` is (B, T, D),
    log-rates if data are counts; ``extras`` are (B, T, D) each, or broadcast to it.

    Attributes:
        name: its name in ``model.output_dist``, and that of its file.
        parameters: names of the P blocks of D columns in output_dist_params (B, T, P D), in order.
        units: units of these blocks.
        variable: the original's name of the rate's read-out, ``glm/fac_2_<variable>_<session>``.
        extras: names of the trained values besides the rate's read-out: ``readout_<extra>`` in the
            model.
        has_identity_readout: whether the factors are the log-rates if there is a single session
            with as many neurons as factors.
        nll_is_poisson: whether the negative log-likelihood of counts can be compared with the
            Poisson likelihood of true or constant rates.
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
        """Whether data are counts: kept as integers, jittered, scored in bits per spike."""
        return OutputDist[self.name].is_counts

    @property
    def params_are_rates(self) -> bool:
        """Whether output_dist_params are counts per bin; divided by the bin width, they are Hz."""
        return self.is_counts and len(self.parameters) == 1

    def new_readout(
        self, extra: str, factors_dim: int, data_dim: int, per_bin: bool = True
    ) -> nn.Module:
        """Return a new module that maps factors (B, T, F) to an extra (B, T, D).

        Args:
            extra: name of the extra.
            factors_dim: F.
            data_dim: D.
            per_bin: whether the extra is read out of the factors; else it is a number per channel.
        """
        raise NotImplementedError(extra)

    def start_extras(self, moments: Moments) -> tuple[Tensor, ...]:
        """Return starting values of the extras, (D,) each, by the data's moments; (): unchanged."""
        return ()

    def start_bias(self, means: Tensor, do_log: bool) -> Tensor:
        """Return the starting value of the bias of the rate's read-out.

        Args:
            means: (D,) means of the data per channel.
            do_log: ``model.do_log_readout_bias``.
        """
        # for other values the only scale for a mean of 0 is that of the other channels
        least = LEAST_RATE if self.is_counts else LEAST_RATE * float(means.abs().max())
        return means.clamp(min=least or LEAST_RATE).log()

    def constant_bias(self, means: Tensor, n_bins: int) -> Tensor | None:
        """Return the bias with which a read-out without weights gives the data's means.

        Training starts no neuron below LEAST_RATE, which is a high rate in short bins.

        Args:
            means: (D,) means of the data per channel.
            n_bins: number of bins they were counted in; a silent neuron gets half a spike in these.

        Returns:
            The bias; None if it is the one that training starts with.
        """
        return means.clamp(min=0.5 / n_bins).log() if self.is_counts else None

    def rates(self, x: Tensor, clip: float) -> Tensor:
        """Return the rates: the means of the data.

        Args:
            x: (..., D), the read-out.
            clip: the read-out is clamped to +- this.
        """
        return x.clamp(-clip, clip).exp()

    @abstractmethod
    def params(self, x: Tensor, extras: tuple[Tensor, ...], clip: float) -> Tensor:
        """Return output_dist_params (B, T, P D) for the read-out clamped to +- ``clip``."""

    def mean(self, params: Any) -> Any:
        """Return the mean of the data (..., D) for output_dist_params (..., P D), any array."""
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
            clip: the read-out is clamped here, so that no loss is infinite.
            weight: (B, T, D), weight of each entry in the sum; None: 1.
        """

    @abstractmethod
    def nll_of_params(self, params: Tensor, data: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(data) of each trial (B,) for output_dist_params (B, T, P D).

        These are for instance averages over posterior samples: rates, not log-rates. The other
        arguments are those of :meth:`nll`.
        """


def total(each: Tensor, weight: Tensor | None) -> Tensor:
    """Sum (B, T, D) over bins and channels, with weights."""
    return (each if weight is None else each * weight).sum((1, 2))


class PerChannel(nn.Module):
    """A trained number per channel, the same in all bins and trials."""

    def __init__(self, data_dim: int, start: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((data_dim,), start))

    def forward(self, factors: Tensor) -> Tensor:
        """Return the numbers, (1, 1, D), whatever the factors."""
        return self.bias[None, None]
