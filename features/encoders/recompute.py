"""Activation checkpointing of one stage of a network."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from features.encoders.batch_norm import BatchNorm


def recomputed(stage: nn.Module, inputs: Tensor) -> Tensor:
    """`stage(inputs)`, its activations not kept but computed again in the backward pass (Chen et al. 2016, arXiv
    1604.06174).

    Dropout draws the same values both times, and running statistics of batch norms move once.
    """
    found = checkpoint(stage, inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _still(stage)))
    assert isinstance(found, Tensor)
    return found


@contextmanager
def _still(stage: nn.Module) -> Iterator[None]:
    norms = [part for part in stage.modules() if isinstance(part, BatchNorm)]
    for norm in norms:
        norm.still = True
    try:
        yield
    finally:
        for norm in norms:
            norm.still = False
