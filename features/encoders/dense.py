"""Layers of linear maps, as heads and encoders of rows are made of."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from features.encoders.batch_norm import BatchNorm

Activation = Literal["none", "relu", "gelu"]


def activation_layers(activation: Activation) -> list[nn.Module]:
    """The activation as a list of layers; empty for none."""
    layers: dict[str, list[nn.Module]] = {"none": [], "relu": [nn.ReLU()], "gelu": [nn.GELU()]}
    return layers[activation]


def dense_layers(
    before: int, widths: Sequence[int], *, activation: Activation, dropout: float, norm: bool
) -> list[nn.Sequential]:
    """One layer per width: linear map, batch norm if `norm`, activation, dropout.

    Args:
        before: channels in.
        widths: channels out of every layer.
        activation: of every layer, the last one too.
        dropout: share of values dropped in training.
        norm: whether there is a batch norm before the activation.
    """
    layers = []
    for width in widths:
        norms: list[nn.Module] = [BatchNorm(width)] if norm else []
        drops: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
        layers.append(nn.Sequential(nn.Linear(before, width), *norms, *activation_layers(activation), *drops))
        before = width
    return layers
