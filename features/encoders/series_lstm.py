"""A long short-term memory over the frames of series of regions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares
from features.encoders.series_transformer import check_series, split_series


class SeriesLSTM(ItemEncoder):
    """Hochreiter & Schmidhuber 1997 (10.1162/neco.1997.9.8.1735), as torch has it: the state at the last measured
    frame beside the mean over the measured ones.

    Inputs [B, R + 1, T] float, the last row 1 for measured frames and 0 for padding; features [B, 2 width]. Measured
    frames are read in order and padding after them, so that it changes nothing wherever it stands.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether the series belong to a node or to a whole brain.
            width: of the state.
            depth: layers on top of each other.
            dropout: share of values dropped between layers, and of the features, in training.
        """

        width: int = 64
        depth: int = 1
        dropout: float = 0.1

        def __post_init__(self) -> None:
            check_counts(width=self.width, depth=self.depth)
            check_shares(dropout=self.dropout)

        def build(self, shape: tuple[int, ...]) -> "SeriesLSTM":
            """An encoder of series (R + 1, T); weights from torch's random state.

            Raises:
                InputError: not series of regions with the row of measured frames.
            """
            check_series("SeriesLSTM", shape)
            return SeriesLSTM(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, 2 * config.width)
        self.frames = _Frames(config, shape[0] - 1)

    def stages(self) -> tuple[nn.Module, ...]:
        """A single one."""
        return (self.frames,)


class _Frames(nn.Module):
    """[B, R + 1, T] -> [B, 2 width]."""

    def __init__(self, config: SeriesLSTM.Config, regions: int) -> None:
        super().__init__()
        between = config.dropout if config.depth > 1 else 0.0
        self.lstm = nn.LSTM(regions, config.width, config.depth, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, items: Tensor) -> Tensor:
        values, measured = split_series(items)
        order = torch.argsort(~measured, dim=1, stable=True)
        states, _ = self.lstm(values.gather(1, order[..., None].expand_as(values)))
        count = measured.sum(1).clamp(min=1)
        last = states.gather(1, (count - 1)[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)
        kept = measured.gather(1, order)[..., None].to(states.dtype)
        mean = (states * kept).sum(1) / count[:, None]
        return self.dropout(torch.cat([last, mean], 1))
