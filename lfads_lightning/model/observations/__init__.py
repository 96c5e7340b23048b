"""Noise models: the distribution of the data given the read-outs of the factors.

Each is a file here, and a line of :class:`lfads_lightning.config.OutputDist` with the same name.
"""

from importlib import import_module

from lfads_lightning.config import LFADSError, OutputDist
from lfads_lightning.model.observations.noise_model import NoiseModel


def from_name(output_dist: OutputDist | str) -> NoiseModel:
    """Return the noise model that ``model.output_dist`` names.

    >>> from_name("gaussian").parameters
    ('mean', 'variance')

    Raises:
        LFADSError: there is no noise model of this name.
    """
    name = output_dist.name if isinstance(output_dist, OutputDist) else output_dist
    if name not in OutputDist.__members__:
        raise LFADSError(
            f"output_dist is {name!r}; expected one of {', '.join(OutputDist.names())}"
        )
    made: NoiseModel = import_module(f"{__package__}.{name}").NOISE_MODEL
    return made
