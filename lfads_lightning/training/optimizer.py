"""The optimisers: Adam as the original had it, and AdamW."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lfads_lightning.config import OptimConfig, Optimizer

# names in a checkpoint of the mean and the mean square of a parameter's gradient
MOMENTS = (("m", "v"), ("exp_avg", "exp_avg_sq"))


def new_optimizer(params: Iterable[Tensor], config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser ``optim.optimizer``; it does not change parameters without gradient."""
    if config.optimizer is Optimizer.original:
        return TFAdam(params, lr=config.learning_rate_init)
    return torch.optim.AdamW(
        params,
        lr=config.learning_rate_init,
        betas=(config.adamw_beta1, config.adamw_beta2),
        eps=config.adamw_eps,
        weight_decay=config.weight_decay,
        fused=True,  # a quarter of the time on a CPU
    )


def moments_of(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and the mean square of a parameter's gradient from its state."""
    mean, square = next(names for names in MOMENTS if names[0] in state)
    return state[mean], state[square]


class TFAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba 2015) with epsilon added before the bias correction.

    This is the Adam of TensorFlow 1::

        lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t);  p <- p - lr_t m / (sqrt(v) + eps)

    ``torch.optim.Adam`` adds it after, which with LFADS' eps = 0.1 is another optimiser, whose
    first steps are up to 30 times larger. t counts updates of the model: a parameter without
    gradient (another session's) does not change, but t increases for it too.

    Args:
        params: parameters to train.
        lr: learning rate.
        betas: decay rates of the two moments.
        eps: 0.1 suits a loss summed over time and neurons.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "t": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; return what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        group["t"] += 1
        beta1, beta2 = group["betas"]
        for p in params:
            if not self.state[p]:
                self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        grads = [p.grad for p in params]
        m = [self.state[p]["m"] for p in params]
        v = [self.state[p]["v"] for p in params]
        torch._foreach_lerp_(m, grads, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
        rate = group["lr"] * math.sqrt(1 - beta2 ** group["t"]) / (1 - beta1 ** group["t"])
        denominator = torch._foreach_sqrt(v)
        torch._foreach_add_(denominator, group["eps"])
        torch._foreach_addcdiv_(params, m, denominator, value=-rate)
