"""What noise models of values that are no counts have beside the mean."""

from torch import nn

from lfads_lightning.model.layers import Affine
from lfads_lightning.model.observations.noise_model import PerChannel


def new_spread(factors_dim: int, data_dim: int, start: float, per_bin: bool) -> nn.Module:
    """Return a read-out that starts at a number everywhere: of the factors, or of none."""
    if not per_bin:
        return PerChannel(data_dim, start)
    layer = Affine(factors_dim, data_dim)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, start)
    return layer
