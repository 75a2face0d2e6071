"""Functional connectivity of a subject: the upper triangle of a matrix through linear layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.encoders.dense import dense_layers
from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares
from meshgnn.errors import InputError


class ConnectivityNet(ItemEncoder):
    """Linear map, batch norm, GELU, dropout, twice, after the biobank study (10.1016/j.neuroimage.2024.120600).

    64,620 pairs of 360 regions have 8,288,512 parameters; the width is that of the data. Inputs [B, P (P - 1) / 2]
    float, or symmetric matrices [B, P, P] whose triangle above the diagonal is read row by row; features
    [B, widths[-1]].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether the connectivity is that of a node or of a whole brain.
            widths: of the layers; the last is the number of features.
            dropout: share of values dropped after every layer in training.
        """

        widths: tuple[int, ...] = (128, 128)
        dropout: float = 0.5

        def __post_init__(self) -> None:
            check_counts(widths=self.widths)
            check_shares(dropout=self.dropout)

        def build(self, shape: tuple[int, ...]) -> "ConnectivityNet":
            """An encoder of vectors (N,) or matrices (P, P); weights from torch's random state.

            Raises:
                InputError: neither vectors nor square matrices of at least two regions.
            """
            square = len(shape) == 2 and shape[0] == shape[1] and shape[0] > 1
            if not square and (len(shape) != 1 or shape[0] < 1):
                raise InputError(
                    f"a ConnectivityNet encodes vectors or square matrices, not items of shape {tuple(shape)}; choose "
                    "another encoder"
                )
            return ConnectivityNet(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.widths[-1])
        pairs = shape[0] if len(shape) == 1 else shape[0] * (shape[0] - 1) // 2
        layers = dense_layers(pairs, config.widths, activation="gelu", dropout=config.dropout, norm=True)
        self.layers = nn.ModuleList(layers)
        self.triangle = _Triangle()

    def stages(self) -> tuple[nn.Module, ...]:
        """The layers; matrices are read as vectors first."""
        first, *others = self.layers
        return (nn.Sequential(self.triangle, first), *others)


class _Triangle(nn.Module):
    """[B, P, P] -> [B, P (P - 1) / 2] above the diagonal, row by row; vectors pass."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.ndim == 2:
            return inputs
        rows, columns = torch.triu_indices(inputs.shape[1], inputs.shape[2], offset=1, device=inputs.device)
        return inputs[:, rows, columns]
