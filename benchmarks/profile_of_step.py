"""Where the time of one training step goes; ``python -m benchmarks.step --profile``.

Torch's profiler gives the time of each of its operations, without those called from it; the kernels
count the time of their own products. What neither sees is Python, autograd and the allocation of
memory: the difference to the time of a step without a profiler.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch.profiler import record_function

from lfads_lightning.model import native
from lfads_lightning.training import module as training

IN_KERNELS, BETWEEN = "products in the kernels", "the rest of the kernels"
PRODUCTS, MASKS, LOSS = "other products", "masks and random numbers", "loss"
COPIES, ELSE = "copies", "other elementwise work"
CLIP, OPTIMISER, REST = "clip", "optimiser", "Python, autograd, memory"
KINDS = (IN_KERNELS, BETWEEN, PRODUCTS, MASKS, LOSS, COPIES, ELSE, CLIP, OPTIMISER, REST)

_BY_OPERATION = {
    PRODUCTS: "mm addmm bmm baddbmm matmul",
    COPIES: "copy_ cat clone contiguous index_select _to_copy stack constant_pad_nd fill_ zero_",
}
_KINDS = {f"aten::{op}": kind for kind, ops in _BY_OPERATION.items() for op in ops.split()}
_KINDS |= {f"lfads_{name}": BETWEEN for name in native.KERNELS}
_KINDS["_PoissonNLLBackward"] = LOSS


def profile(step: Any, seconds: float) -> dict[str, float]:
    """Return the seconds of each kind of work in a step.

    Args:
        step: a :class:`benchmarks.step.Step`.
        seconds: of a step without a profiler.
    """
    repeats = 5
    with ExitStack() as stack:
        for parent, name, kind in (
            (step.model, "draw_noise", MASKS),
            (step.model, "draw_masks", MASKS),
            (step.model, "draw_data_mask", MASKS),
            (training, "dropout_mask", MASKS),
            (training, "compute_loss", LOSS),
            (step.module, "configure_gradient_clipping", CLIP),
            (step.optimizer, "step", OPTIMISER),
            *((native.library(), f"lfads_{name}", f"lfads_{name}") for name in native.KERNELS),
        ):
            named = _named(getattr(parent, name), kind)
            stack.enter_context(mock.patch.object(parent, name, named))
        native.library().lfads_product_ns(1)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            for _ in range(repeats):
                step()
        products = native.product_seconds()
    found: Counter[str] = Counter()
    for event in seen.events():
        found[_kind(event)] += event.self_cpu_time_total * 1e-6
    found[BETWEEN] -= products
    found[IN_KERNELS] = products
    each = {kind: found[kind] / repeats for kind in KINDS}
    return each | {REST: seconds - sum(each[kind] for kind in KINDS if kind != REST)}


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return function(*args, **kwargs)

    return call


def _kind(event: Any) -> str:
    """Return the kind of an event: that of the outermost call around it that has one."""
    kind = ELSE if event.name.startswith("aten::") else REST
    while event is not None:
        kind = event.name if event.name in KINDS else _KINDS.get(event.name, kind)
        event = event.cpu_parent
    return kind
