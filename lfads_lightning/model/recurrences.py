"""Which body runs the recurrences: the readable loop, or the native kernel that equals it."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from lfads_lightning.config import LFADSError, Recurrence
from lfads_lightning.model import cells, distributions, native


class Passes(NamedTuple):
    """The functions that run over all bins, with one signature in every body."""

    encoder_pass: Callable[..., tuple[Tensor, Tensor]]
    decoder_pass: Callable[..., cells.DecoderStates]
    poisson_nll: Callable[..., Tensor]


REFERENCE = Passes(cells.encoder_pass, cells.decoder_pass, distributions.poisson_nll)
NATIVE = Passes(native.PASSES.encoder_pass, native.PASSES.decoder_pass, native.poisson_nll)


def choose(recurrence: Recurrence) -> Passes:
    """Return the body asked for; ``auto`` is the native one where it can be had.

    Raises:
        LFADSError: the native body is asked for and cannot be had; says why.
    """
    if recurrence is Recurrence.reference:
        return REFERENCE
    try:
        native.library()
    except native.NativeUnavailable as error:
        if recurrence is Recurrence.native:
            raise LFADSError(
                f"trainer.recurrence=native: {error}; trainer.recurrence=reference needs nothing"
            ) from error
        warnings.warn(
            f"the native kernel, several times faster, is not used: {error} "
            "(trainer.recurrence=reference says so on purpose)",
            stacklevel=2,
        )
        return REFERENCE
    return NATIVE
