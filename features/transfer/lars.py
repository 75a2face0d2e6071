"""Layer-wise adaptive rate scaling, for batches above about a thousand."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step of every layer is scaled by |w| / |g + decay w| (You et al. 2017, arXiv 1708.03888,
    algorithm 1), as SimCLR uses it (Chen et al. 2020, appendix B.6).

    Vectors (biases, scales of norms) take plain steps and do not decay.

    Args:
        params: parameters, or groups of them.
        lr: global learning rate.
        momentum: of the velocity.
        weight_decay: added to the gradient of everything but vectors.
        trust: the ratio's factor.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 1e-3
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step; the loss that `closure` gives, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                change = weight.grad
                if weight.ndim > 1:
                    change = change + group["weight_decay"] * weight
                    size, steep = weight.norm(), change.norm()
                    ratio = group["trust"] * size / steep
                    change = change * torch.where((size > 0) & (steep > 0), ratio, torch.ones_like(ratio))
                state = self.state[weight]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(weight)
                state["velocity"].mul_(group["momentum"]).add_(change, alpha=group["lr"])
                weight.sub_(state["velocity"])
        return loss
