"""A transformer over the frames of series of regions."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts
from features.encoders.token_sequence import TokenSequence
from meshgnn.errors import InputError


class SeriesTransformer(ItemEncoder):
    """Every frame is a token, made of the values of all regions; `TokenSequence` over the frames.

    Inputs [B, R + 1, T] float, the last row 1 for measured frames and 0 for padding; features [B, width]. Padding is
    masked: how much of it there is, and what stands there, changes nothing.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether the series belong to a node or to a whole brain.
            width: channels of a token and features.
            sequence: the transformer; its heads divide the width.
        """

        width: int = 64
        sequence: TokenSequence.Config = field(default_factory=TokenSequence.Config)

        def __post_init__(self) -> None:
            check_counts(width=self.width)

        def build(self, shape: tuple[int, ...]) -> "SeriesTransformer":
            """An encoder of series (R + 1, T); weights from torch's random state.

            Raises:
                InputError: not series of regions with the row of measured frames.
                SettingError: more frames than positions, or heads that do not divide the width.
            """
            check_series("SeriesTransformer", shape)
            return SeriesTransformer(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.width)
        self.frames = _Frames(config, shape)

    def stages(self) -> tuple[nn.Module, ...]:
        """A single one, since the mask goes with the tokens."""
        return (self.frames,)


class _Frames(nn.Module):
    """[B, R + 1, T] -> [B, width]."""

    def __init__(self, config: SeriesTransformer.Config, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[0] - 1, config.width)
        self.sequence = config.sequence.build(config.width, shape[1])

    def forward(self, items: Tensor) -> Tensor:
        values, measured = split_series(items)
        return self.sequence(self.linear(values), measured)


def split_series(items: Tensor) -> tuple[Tensor, Tensor]:
    """[B, R + 1, T] -> values [B, T, R], zero in padding, and which frames were measured [B, T]."""
    measured = items[:, -1] > 0.5
    return items[:, :-1].transpose(1, 2).masked_fill(~measured[..., None], 0), measured


def check_series(name: str, shape: tuple[int, ...]) -> None:
    """Raises InputError unless `shape` is that of series of regions with the row of measured frames (R + 1, T)."""
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
        raise InputError(
            f"a {name} encodes series of regions (regions and the row of measured frames, frames), not items of shape "
            f"{tuple(shape)}; choose another encoder"
        )
