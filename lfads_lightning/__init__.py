"""LFADS, latent factor analysis via dynamical systems, in PyTorch and Lightning.

Letters in shapes: ``E`` trials, ``B`` trials of a batch, ``T`` time bins, ``D`` data channels
(neurons), ``I`` external inputs, ``F`` factors, ``G`` generator units, ``U`` controller outputs
(inferred inputs), ``Z`` initial-condition code. Rates are expected counts per bin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lfads_lightning.config import LFADSError as LFADSError

if TYPE_CHECKING:
    from lfads_lightning import metrics as metrics
    from lfads_lightning.api import fit as fit
    from lfads_lightning.config import Config as Config
    from lfads_lightning.data.fields import Session as Session
    from lfads_lightning.data.fields import Split as Split
    from lfads_lightning.data.session_files import read_session as read_session
    from lfads_lightning.data.session_files import read_sessions as read_sessions
    from lfads_lightning.data.session_writer import write_session as write_session
    from lfads_lightning.estimator import Estimator as Estimator
    from lfads_lightning.inference import interop as interop
    from lfads_lightning.inference.export import export as export
    from lfads_lightning.inference.posterior import Posterior as Posterior
    from lfads_lightning.inference.posterior import Prior as Prior
    from lfads_lightning.interface.trained import Trained as Trained
    from lfads_lightning.interface.trained import evaluate as evaluate
    from lfads_lightning.interface.trained import load as load
    from lfads_lightning.recordings.chops import merge_chops as merge_chops
    from lfads_lightning.recordings.prepare import prepare as prepare
    from lfads_lightning.runs.run import Run as Run
    from lfads_lightning.stitching import align as align

    __version__: str

# torch takes seconds to import, so names are fetched when they are used
_HOME = {
    "Config": "lfads_lightning.config",
    "Estimator": "lfads_lightning.estimator",
    "Posterior": "lfads_lightning.inference.posterior",
    "Prior": "lfads_lightning.inference.posterior",
    "Run": "lfads_lightning.runs.run",
    "Session": "lfads_lightning.data.fields",
    "Split": "lfads_lightning.data.fields",
    "Trained": "lfads_lightning.interface.trained",
    "align": "lfads_lightning.stitching",
    "evaluate": "lfads_lightning.interface.trained",
    "export": "lfads_lightning.inference.export",
    "fit": "lfads_lightning.api",
    "load": "lfads_lightning.interface.trained",
    "merge_chops": "lfads_lightning.recordings.chops",
    "prepare": "lfads_lightning.recordings.prepare",
    "read_session": "lfads_lightning.data.session_files",
    "read_sessions": "lfads_lightning.data.session_files",
    "write_session": "lfads_lightning.data.session_writer",
}

_MODULES = {"interop": "lfads_lightning.inference.interop", "metrics": "lfads_lightning.metrics"}

__all__ = ["LFADSError", *_MODULES, *_HOME]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "__version__":
        from importlib.metadata import version  # takes as long as all the rest

        return version("lfads-lightning")
    raise AttributeError(f"module 'lfads_lightning' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted([*__all__, "__version__"])
