"""The spread of noise models for values other than counts."""

from torch import nn

from lfads_lightning.model.layers import Affine
from lfads_lightning.model.observations.noise_model import PerChannel


def new_spread(factors_dim: int, data_dim: int, start: float, per_bin: bool) -> nn.Module:
    """Return a read-out that starts at one value everywhere: of the factors, or per channel."""
    if not per_bin:
        return PerChannel(data_dim, start)
    layer = Affine(factors_dim, data_dim)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, start)
    return layer
