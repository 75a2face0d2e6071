"""What an objective offers to pretraining."""

from typing import ClassVar, Protocol

from torch import nn


class ObjectiveConfig(Protocol):
    """Config of an objective.

    Args:
        views: differently augmented views of each item that it needs.
        labelled: whether it learns from class labels.
    """

    labelled: ClassVar[bool]

    @property
    def views(self) -> int: ...

    def build(self, in_channels: int, n_classes: int) -> nn.Module:
        """A module: features [views * B, in_channels], targets [views * B] -> scalar.

        Rows stand view after view. Targets are class numbers if it is labelled; otherwise rows of one number are views
        of the same item (or of items that the sampler put together). Under torch.distributed each rank hands in its
        part, and the mean over ranks of what is returned is the loss of the joint batch.
        """
        ...
