"""SwiFT: a four-dimensional Swin transformer of windows of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.correlation_pool import CorrelationPool, check_combined
from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares
from features.encoders.run_transformer import check_window
from features.encoders.window_attention import Grid, WindowAttention
from meshgnn.errors import SettingError

RATIO = 4  # hidden channels of the linear maps of a block, in units of its width


class Swin4D(ItemEncoder):
    """The network of Kim et al. 2023 (SwiFT, arXiv 2307.05916): patches of single frames become tokens, blocks of
    windowed attention follow, space is halved between stages and time never.

    Inputs [B, C, X, Y, Z, T] float of any sides, features [B, out_channels], the mean of the last maps over space and
    time; by choice with a linear map of how their values at every place go together over time. Sides that patches do
    not divide go on with their last voxel; odd grids are padded where they are halved. As published (`published()`) on
    one channel of 96^3 voxels and 20 frames, the last maps are 288 x 2 x 2 x 2 x 20 and 4,314,636 parameters are used;
    with the norm at the end 4,315,212.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a run belongs to a node or to a whole brain.
            width: channels of the first stage; every further one has twice as many.
            depths: blocks of every stage.
            heads: of the attention in every stage.
            patch: sides of a token in voxels; it lasts one frame.
            window: sides of a window in tokens and frames. In the last stage it spans all of space.
            final_norm: layer norm of the last maps. The published code builds one and does not call it; here it is
                called where it is built, so that no parameter is without a gradient.
            dropout: share of values dropped in training.
            pool: mean, as published; or correlation, the mean with a linear map of the correlations over frames of
                combinations of the last maps' values at all places (`CorrelationPool`).
            combined, standardised: as in `TokenSequence`.
        """

        width: int = 24
        depths: tuple[int, ...] = (2, 2)
        heads: tuple[int, ...] = (3, 6)
        patch: tuple[int, int, int] = (6, 6, 6)
        window: tuple[int, int, int, int] = (4, 4, 4, 4)
        final_norm: bool = False
        dropout: float = 0.0
        pool: Literal["mean", "correlation"] = "mean"
        combined: int = 32
        standardised: bool = False

        @classmethod
        def published(cls, *, width: int = 36, final_norm: bool = False) -> "Swin4D.Config":
            """Depths 2, 2, 6, 2 and heads 3, 6, 12, 24; the authors advise widths of 24, 36 or 48."""
            return cls(width=width, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), final_norm=final_norm)

        def __post_init__(self) -> None:
            check_counts(
                width=self.width, depths=self.depths, heads=self.heads, patch=self.patch, window=self.window
            )  # fmt: skip
            check_shares(dropout=self.dropout)
            check_combined(self.combined)
            if len(self.depths) != len(self.heads):
                raise SettingError(f"<heads> needs one number per stage: {len(self.heads)} for {len(self.depths)}")
            for stage, heads in enumerate(self.heads):
                if (self.width << stage) % heads:
                    raise SettingError(f"<heads>={heads} do not divide the {self.width << stage} channels of a stage")

        def build(self, shape: tuple[int, ...]) -> "Swin4D":
            """An encoder of windows (C, X, Y, Z, T); weights from torch's random state.

            Raises:
                InputError: not windows of volumes.
                SettingError: more stages than space can be halved for.
            """
            check_window("Swin4D", shape)
            return Swin4D(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.width << (len(config.depths) - 1))
        self.embed = _Patches(shape, config.patch, config.width)
        grid = self.embed.grid
        self.levels = nn.ModuleList()
        for stage in range(len(config.depths)):
            last = stage + 1 == len(config.depths)
            level = _Level(config, stage, grid, last=last)
            self.levels.append(level)
            if not last and max(grid[:3]) == 1:
                raise SettingError(
                    f"volumes of {' x '.join(map(str, shape[1:4]))} voxels are a single token in stage {stage + 1} of "
                    f"{len(config.depths)}; use fewer <depths>, a smaller <patch> or larger volumes"
                )
            grid = level.grid_out
        self.pool = _Pool(config, self.out_channels, grid)

    def stages(self) -> tuple[nn.Module, ...]:
        """Patches with the first stage, the further stages, and the mean in the last one."""
        parts: list[list[nn.Module]] = [[level] for level in self.levels]
        parts[0].insert(0, self.embed)
        parts[-1].append(self.pool)
        return tuple(nn.Sequential(*part) for part in parts)

    def maps(self, inputs: Tensor) -> Tensor:
        """[B, C, X, Y, Z, T] -> the maps before the mean [B, out_channels, x, y, z, T].

        Raises:
            InputError: items of another shape.
        """
        self.check(inputs)
        found = self.embed(inputs)
        for level in self.levels:
            found = level(found)
        return self.pool.norm(found.movedim(1, -1)).movedim(-1, 1)


class _Patches(nn.Module):
    """[B, C, X, Y, Z, T] -> tokens [B, width, x, y, z, T] by a linear map of every patch of every frame."""

    def __init__(self, shape: Sequence[int], patch: Sequence[int], width: int) -> None:
        super().__init__()
        self.patch = tuple(patch)
        x, y, z = (-(-side // own) for side, own in zip(shape[1:4], patch))
        self.grid: Grid = (x, y, z, shape[4])
        self.linear = nn.Linear(shape[0] * patch[0] * patch[1] * patch[2], width)

    def forward(self, inputs: Tensor) -> Tensor:
        for axis, (count, own) in enumerate(zip(self.grid, self.patch), 2):
            side = inputs.shape[axis]
            if count * own != side:  # the background goes on
                place = torch.arange(count * own, device=inputs.device).clamp(max=side - 1)
                inputs = inputs.index_select(axis, place)
        count, channels = inputs.shape[:2]
        (x, y, z, t), (a, b, c) = self.grid, self.patch
        cut = inputs.reshape(count, channels, x, a, y, b, z, c, t).permute(0, 2, 4, 6, 8, 1, 3, 5, 7)
        return self.linear(cut.reshape(count, x, y, z, t, channels * a * b * c)).movedim(-1, 1)


class _Level(nn.Module):
    """Positions, blocks, and the merging of tokens unless it is the last. [B, C, x, y, z, T] -> [B, C', x', y', z', T].

    Positions of space and of time are learnt apart and added.
    """

    def __init__(self, config: Swin4D.Config, stage: int, grid: Grid, *, last: bool) -> None:
        super().__init__()
        width = config.width << stage
        x, y, z, t = self.grid = grid
        # Rows by place, so that a file of weights for another grid does not fit.
        self.space = nn.Parameter(torch.randn(x * y * z, width) * 0.02)
        self.time = nn.Parameter(torch.randn(t, width) * 0.02)
        window = (*grid[:3], config.window[3]) if last else config.window
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            _Block(width, config.heads[stage], grid, window, bool(k % 2) and not last, config.dropout)
            for k in range(config.depths[stage])
        )
        self.merge = None if last else _Merge(width)
        self.grid_out: Grid = grid if last else (-(-x // 2), -(-y // 2), -(-z // 2), t)

    def forward(self, maps: Tensor) -> Tensor:
        x, y, z, _ = self.grid
        tokens = maps.movedim(1, -1) + self.space.view(x, y, z, 1, -1) + self.time
        tokens = self.dropout(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        if self.merge is not None:
            tokens = self.merge(tokens)
        return tokens.movedim(-1, 1)


class _Block(nn.Module):
    """Windowed attention and two linear maps, each behind a layer norm and added. [B, *grid, C] -> the same."""

    def __init__(
        self, width: int, heads: int, grid: Grid, window: Sequence[int], shifted: bool, dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm, self.linear_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, grid, window, shifted=shifted, dropout=dropout)
        self.linear = nn.Sequential(
            nn.Linear(width, RATIO * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(RATIO * width, width),
            nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.linear(self.linear_norm(tokens))


class _Merge(nn.Module):
    """Eight neighbours in space become one token of twice the channels. [B, x, y, z, T, C] -> [B, x', y', z', T, 2C].

    An odd side is padded by zeros.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8 * width), nn.Linear(8 * width, 2 * width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        count, x, y, z, t, width = tokens.shape
        if x % 2 or y % 2 or z % 2:
            tokens = F.pad(tokens, (0, 0, 0, 0, 0, z % 2, 0, y % 2, 0, x % 2))
        x, y, z = -(-x // 2), -(-y // 2), -(-z // 2)
        cut = tokens.reshape(count, x, 2, y, 2, z, 2, t, width).permute(0, 1, 3, 5, 7, 2, 4, 6, 8)
        return self.linear(self.norm(cut.reshape(count, x, y, z, t, 8 * width)))


class _Pool(nn.Module):
    """[B, C, x, y, z, T] -> [B, C], each token through `norm` first."""

    def __init__(self, config: Swin4D.Config, width: int, grid: Grid) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if config.final_norm else nn.Identity()
        self.moments: CorrelationPool | None = None
        if config.pool == "correlation":
            places = width * grid[0] * grid[1] * grid[2]
            self.moments = CorrelationPool(places, config.combined, standardised=config.standardised, out=width)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = self.norm(maps.movedim(1, -1))
        mean = tokens.flatten(1, 4).mean(1)
        return mean if self.moments is None else mean + self.moments.mapped(tokens.movedim(4, 1).flatten(2))
