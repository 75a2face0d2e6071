"""What the encoders that are made of stages share: the check of a batch, the forward pass, the identity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from features.encoders.recompute import recomputed
from features.encoders.weights import weights_hash
from meshgnn.config import Config as BaseConfig
from meshgnn.config import owner_name, to_plain
from meshgnn.errors import InputError, SettingError

Level = Literal["node", "graph"]


@dataclass(frozen=True, kw_only=True)
class ItemConfig(BaseConfig):
    """
    Args:
        level: whether an item belongs to a node of a mesh or to a whole brain.
    """

    level: Level = "graph"


class ItemEncoder(nn.Module):
    """Base of encoders that are a chain of stages; a `meshgnn.sockets.Encoder`.

    [B, *shape] -> [B, out_channels]. The stages are what schedules thaw one after another, what a network is cut at to
    lie on several devices, and where maps are read: the first k of them give the maps [B, C, ...] of stage k.

    `new_stages` of the last stages stand behind whatever a file of pretrained weights holds: they are trained with the
    head.

    While `recompute` is set, a stage's activations are computed again in the backward pass instead of being kept.

    Args:
        config: it was built from.
        shape: of one item.
        out_channels: features per item.
    """

    new_stages: ClassVar[int] = 0
    recompute: bool = False

    def __init__(self, config: ItemConfig, shape: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.config, self.shape, self.out_channels = config, tuple(shape), out_channels
        self.level: Level = config.level

    def stages(self) -> tuple[nn.Module, ...]:
        """From input to output; applied one after another to a batch they are the forward pass."""
        raise NotImplementedError

    def check(self, inputs: Tensor) -> None:
        """Raises InputError for items of another shape."""
        if tuple(inputs.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise InputError(
                f"this {type(self).__name__} takes items [B, {wanted}], got {tuple(inputs.shape)}; resample them or "
                "build another encoder"
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, *shape] -> [B, out_channels]. Raises InputError for items of another shape."""
        self.check(inputs)
        return self.chain(inputs)

    def chain(self, inputs: Tensor) -> Tensor:
        """The stages, one after another."""
        for stage in self.stages():
            again = self.recompute and torch.is_grad_enabled()
            inputs = recomputed(stage, inputs) if again else stage(inputs)
        return inputs

    def identity(self) -> dict[str, Any]:
        """Config, shape and a hash of the weights."""
        about = {"encoder": owner_name(type(self.config)), "config": to_plain(self.config), "shape": list(self.shape)}
        return {**about, "weights": weights_hash(self)}


def check_volume(name: str, shape: Sequence[int]) -> None:
    """Raises InputError unless `shape` is that of a volume with channels (C, X, Y, Z)."""
    if len(shape) != 4 or min(shape) < 1:
        raise InputError(
            f"a {name} encodes volumes (channels, x, y, z), not items of shape {tuple(shape)}; choose another encoder"
        )


def check_shares(**shares: float) -> None:
    """Raises SettingError for a share that is not in [0, 1)."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise SettingError(f"<{name}> must be at least 0 and below 1, got {share}")


def check_counts(**counts: int | Sequence[int]) -> None:
    """Raises SettingError for a number below 1, or a list that is empty or holds one."""
    for name, count in counts.items():
        values = [count] if isinstance(count, int) else list(count)
        if not values or min(values) < 1:
            raise SettingError(f"<{name}> must be at least 1, got {count}")
