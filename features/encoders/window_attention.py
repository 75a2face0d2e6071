"""Self-attention within windows of a four-dimensional grid: space and time."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

Grid = tuple[int, int, int, int]


class WindowAttention(nn.Module):
    """Attention of every token to those of its window (Liu et al. 2021, arXiv 2103.14030, section 3.2; in four
    dimensions Kim et al. 2023, arXiv 2307.05916).

    [B, X, Y, Z, T, C] -> the same, without relative positions. Windows are shifted by rolling the grid; tokens that
    came together across its ends do not see each other. A grid that windows do not divide is padded, and no token sees
    the padding. So two tokens attend to each other exactly if floor((position - shift) / window) agrees on all axes.

    Args:
        width: C.
        heads: that share the channels evenly.
        grid: X, Y, Z, T.
        window: its sides; an axis shorter than its window is one window.
        shifted: by half a window, on axes of more than one.
        dropout: share of the outputs dropped in training.
    """

    groups: Tensor

    def __init__(
        self, width: int, heads: int, grid: Sequence[int], window: Sequence[int], *, shifted: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.grid = heads, tuple(grid)
        self.window = tuple(min(own, side) for own, side in zip(window, grid))
        moved = [own // 2 if shifted and own < side else 0 for own, side in zip(self.window, grid)]
        self.shift = tuple(moved)
        self.padded = tuple(-(-side // own) * own for own, side in zip(self.window, grid))
        self.qkv, self.out, self.dropout = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Dropout(dropout)
        groups = _groups(self.grid, self.padded, self.window, self.shift)
        self.whole = bool((groups == groups[:, :1]).all())  # every window sees all of itself
        self.register_buffer("groups", torch.from_numpy(groups), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, *grid, C] -> [B, *grid, C]."""
        count, width = len(tokens), tokens.shape[-1]
        if self.padded != self.grid:
            ends = [own - side for own, side in zip(self.padded, self.grid)]
            tokens = F.pad(tokens, (0, 0, *(size for end in reversed(ends) for size in (0, end))))
        if any(self.shift):
            tokens = torch.roll(tokens, [-own for own in self.shift], (1, 2, 3, 4))
        windows = _cut(tokens, self.window)
        size = windows.shape[1]
        parts = self.qkv(windows).view(len(windows), size, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        allowed = None
        if not self.whole:
            allowed = (self.groups[:, :, None] == self.groups[:, None, :]).repeat(count, 1, 1)[:, None]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        found = self.dropout(self.out(found.transpose(1, 2).reshape(len(windows), size, width)))
        tokens = _joined(found, count, self.padded, self.window)
        if any(self.shift):
            tokens = torch.roll(tokens, self.shift, (1, 2, 3, 4))
        x, y, z, t = self.grid
        return tokens[:, :x, :y, :z, :t]


def _groups(
    grid: Sequence[int], padded: Sequence[int], window: Sequence[int], shift: Sequence[int]
) -> NDArray[np.uint8]:
    """[windows, tokens of a window]: tokens of one window see each other if their numbers agree."""
    found = np.zeros(tuple(padded), np.uint8)
    outside = np.zeros(tuple(padded), bool)
    for axis, (side, whole, moved) in enumerate(zip(grid, padded, shift)):
        shape = [1] * len(padded)
        shape[axis] = whole
        place = np.arange(whole)
        found |= ((place >= whole - moved) << axis).astype(np.uint8).reshape(shape)
        outside |= ((place + moved) % whole >= side).reshape(shape)
    found[outside] = 1 << len(padded)
    return _cut(torch.from_numpy(found)[None, ..., None], window)[..., 0].numpy()


def _cut(tokens: Tensor, window: Sequence[int]) -> Tensor:
    """[B, *padded, C] -> [B * windows, tokens of a window, C]."""
    count, *sides, width = tokens.shape
    split = [size for side, own in zip(sides, window) for size in (side // own, own)]
    apart = tokens.reshape(count, *split, width).permute(0, 1, 3, 5, 7, 2, 4, 6, 8, 9)
    return apart.reshape(count * int(np.prod(sides)) // int(np.prod(window)), int(np.prod(window)), width)


def _joined(windows: Tensor, count: int, padded: Sequence[int], window: Sequence[int]) -> Tensor:
    """The inverse of `_cut`."""
    width = windows.shape[-1]
    number = [side // own for side, own in zip(padded, window)]
    whole = windows.reshape(count, *number, *window, width).permute(0, 1, 5, 2, 6, 3, 7, 4, 8, 9)
    return whole.reshape(count, *padded, width)
