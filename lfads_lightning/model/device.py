"""The device that a model runs on."""

import warnings

import torch

from lfads_lightning.config import LFADSError

_missing: set[str] = set()  # devices that were asked for but do not exist


def resolve_device(name: str, *, tell: bool = True) -> torch.device:
    """Map ``gpu:0`` (the original's spelling), ``cuda:0``, ``mps`` or ``cpu:0`` to a torch device.

    A device that this machine lacks is replaced by the CPU, with a warning if ``tell`` is true.

    Raises:
        LFADSError: ``name`` is not the name of a device.
    """
    kind, _, number = name.strip().lstrip("/").lower().partition(":")
    kind = "cuda" if kind == "gpu" else kind
    if kind not in {"cuda", "mps", "cpu"} or not (number or "0").isdigit():
        raise LFADSError(
            f"trainer.device is {name!r}; expected gpu:N, cuda:N, mps or cpu, e.g. gpu:0"
        )
    index = int(number or 0)
    if kind == "cuda" and index < torch.cuda.device_count():
        return torch.device("cuda", index)
    if kind == "mps" and torch.backends.mps.is_available():
        return torch.device("mps")
    if kind != "cpu" and tell and name not in _missing:
        _missing.add(name)  # warn once, however many candidates a run tries
        warnings.warn(
            f"trainer.device={name}: this machine has no such device, so the CPU is used; set "
            "trainer.device=cpu:0 to avoid this warning",
            stacklevel=2,
        )
    return torch.device("cpu")
