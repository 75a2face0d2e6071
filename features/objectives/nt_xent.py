"""Self-supervised contrastive learning: augmented views of one item come together, all other items are pushed away."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from features.objectives.contrastive import Projection, supervised_contrastive
from features.objectives.rows import Rows
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class NTXent(nn.Module):
    """Normalised temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, arXiv 2002.05709, eq. 1). No labels.

    It is the supervised loss with every item as a class of its own (Khosla et al. 2020, sec. 3.2.1), and computed so.
    With a sampler that puts neighbours together, the views of both nodes are positives.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            temperature: of the loss.
            projection: channels of the space in which views are compared.
            views: augmented views of each item; 1 only with a sampler that puts items together.
            hidden: units of a projection without standardisation and biases, as that of CL-3D (hidden=90,
                projection=32, temperature=0.5); 0: the standardised one, with as many units as features.
        """

        labelled: ClassVar[bool] = False

        temperature: float = 0.2
        projection: int = 64
        views: int = 2
        hidden: int = 0

        def __post_init__(self) -> None:
            if not self.temperature > 0 or self.projection < 1 or self.views < 1 or self.hidden < 0:
                raise SettingError(
                    "<temperature> must be above 0, <projection> and <views> at least 1, <hidden> 0 or more"
                )

        def build(self, in_channels: int, n_classes: int) -> "NTXent":
            return NTXent(self, in_channels)

    def __init__(self, config: Config, in_channels: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.projection: nn.Module = Projection(in_channels, config.projection)
        if config.hidden:
            layers = (
                nn.Linear(in_channels, config.hidden, bias=False),
                nn.Linear(config.hidden, config.projection, bias=False),
            )
            self.projection = nn.Sequential(layers[0], nn.ReLU(), layers[1])

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """This rank's features [R, C] and which belong together -> scalar; its mean over ranks is the joint loss."""
        return supervised_contrastive(self.projection(features), rows.together, self.temperature)
