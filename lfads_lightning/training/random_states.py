"""The state of every random generator of this process, as a checkpoint holds it."""

import random
from typing import Any

import numpy as np
import torch


def get(device: torch.device) -> dict[str, Any]:
    """Return the states, as types that load without running code."""
    version, words, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(words), gauss],
        "numpy": [kind, [int(k) for k in key], position, has_gauss, cached],
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def put(states: Any, device: torch.device) -> None:
    """Restore the states; older checkpoints hold only that of torch."""
    if isinstance(states, torch.Tensor):
        torch.set_rng_state(states.cpu())
        return
    torch.set_rng_state(states["torch"].cpu())
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    kind, key, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, np.array(key, np.uint32), position, has_gauss, cached))
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
