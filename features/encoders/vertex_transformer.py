"""A transformer over patches of the series of one node."""

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.item_encoder import ItemConfig, ItemEncoder, Level, check_counts
from features.encoders.token_sequence import TokenSequence
from meshgnn.errors import InputError


class VertexTransformer(ItemEncoder):
    """Parts of a series are tokens (Nie et al. 2023, arXiv 2211.14730, section 3.1, without overlap); `TokenSequence`
    over them, then a linear map.

    Inputs [B, T] float, features [B, out_channels]. Zeros fill up the last part.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a series belongs to a node or to a whole brain.
            patch: frames of a token.
            width: channels of a token.
            sequence: the transformer; its heads divide the width.
            out_channels: features per series.
        """

        level: Level = "node"
        patch: int = 8
        width: int = 32
        sequence: TokenSequence.Config = field(default_factory=TokenSequence.Config)
        out_channels: int = 16

        def __post_init__(self) -> None:
            check_counts(patch=self.patch, width=self.width, out_channels=self.out_channels)

        def build(self, shape: tuple[int, ...]) -> "VertexTransformer":
            """An encoder of series (T,); weights from torch's random state.

            Raises:
                InputError: not series of single nodes.
                SettingError: a series shorter than a patch, more patches than positions, or heads that do not divide
                    the width.
            """
            if len(shape) != 1 or shape[0] < 1:
                raise InputError(
                    f"a VertexTransformer encodes series of single nodes, not items of shape {tuple(shape)}; choose "
                    "another encoder"
                )
            return VertexTransformer(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.out_channels)
        self.patches = _Patches(config.patch, config.width)
        self.sequence = config.sequence.build(config.width, -(-shape[0] // config.patch))
        self.features = nn.Linear(config.width, config.out_channels)

    def stages(self) -> tuple[nn.Module, ...]:
        """The patches, the stages of the transformer, the linear map."""
        return (self.patches, *self.sequence.stages(), self.features)


class _Patches(nn.Module):
    """[B, T] -> [B, width, patches]."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch, self.linear = patch, nn.Linear(patch, width)

    def forward(self, series: Tensor) -> Tensor:
        series = F.pad(series, (0, -series.shape[1] % self.patch))
        return self.linear(series.unflatten(1, (-1, self.patch))).transpose(1, 2)
