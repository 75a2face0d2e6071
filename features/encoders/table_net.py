"""Rows of a table through linear layers: answers and measures of a subject, or the embedding of another network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.encoders.dense import dense_layers
from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares
from meshgnn.errors import InputError


class TableNet(ItemEncoder):
    """Linear map, batch norm, GELU, dropout per layer, after the biobank study (10.1016/j.neuroimage.2024.120600).

    24 columns have 13,984 parameters. Columns should come standardised. Inputs [B, N] float, features [B, widths[-1]].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a row belongs to a node or to a whole brain.
            widths: of the layers; the last is the number of features.
            dropout: share of values dropped after every layer in training.
            missing: refuse values that are NaN, or take them as 0 beside one more input per column that says whether
                the value is known.
        """

        widths: tuple[int, ...] = (128, 64, 32)
        dropout: float = 0.1
        missing: bool = False

        def __post_init__(self) -> None:
            check_counts(widths=self.widths)
            check_shares(dropout=self.dropout)

        def build(self, shape: tuple[int, ...]) -> "TableNet":
            """An encoder of rows (N,); weights from torch's random state.

            Raises:
                InputError: not rows.
            """
            if len(shape) != 1 or shape[0] < 1:
                raise InputError(f"a TableNet encodes rows, not items of shape {tuple(shape)}; choose another encoder")
            return TableNet(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.widths[-1])
        columns = shape[0] * (2 if config.missing else 1)
        layers = dense_layers(columns, config.widths, activation="gelu", dropout=config.dropout, norm=True)
        self.layers = nn.ModuleList(layers)
        self.known = _Known(config.missing)

    def stages(self) -> tuple[nn.Module, ...]:
        """The layers."""
        first, *others = self.layers
        return (nn.Sequential(self.known, first), *others)


class _Known(nn.Module):
    """[B, N] -> [B, N] without NaN, or [B, 2 N] with what is known. Raises InputError for a NaN that may not be."""

    def __init__(self, missing: bool) -> None:
        super().__init__()
        self.missing = missing

    def forward(self, rows: Tensor) -> Tensor:
        known = ~rows.isnan()
        if self.missing:
            return torch.cat([torch.where(known, rows, 0), known.to(rows.dtype)], 1)
        if not rows.is_meta and not bool(known.all()):
            column = int((~known).any(0).nonzero()[0])
            raise InputError(f"column {column} of the table has missing values; fill them in or set missing=true")
        return rows
