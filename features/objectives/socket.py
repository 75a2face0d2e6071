"""What an objective offers to pretraining."""

from typing import ClassVar, Protocol

from torch import nn


class ObjectiveConfig(Protocol):
    """Config of an objective.

    It may also say what else it `needs` to know of an item: "soft" (area probabilities), "place" (mm), "geodesic"
    (distances along the cortex, up to its `reach_mm`), "pairs" (a sampler that knows how far its pairs lie apart),
    "any" (labelled, and glad of items without a label too). All of it stands in `features.objectives.rows.Rows`.

    Args:
        views: differently augmented views of each item that it needs.
        labelled: whether it learns from class labels.
    """

    labelled: ClassVar[bool]

    @property
    def views(self) -> int: ...

    def build(self, in_channels: int, n_classes: int) -> nn.Module:
        """A module: features [R, in_channels], `Rows` of R = views x B rows -> scalar.

        Under torch.distributed each rank hands in its part, of any size, and the mean over ranks of what is returned is
        the loss of the joint batch.
        """
        ...
