"""A transformer over the frames of a window of a run, each of which a convolutional encoder has made a vector."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from features.encoders.attention_layers import AttentionLayers
from features.encoders.frame_encoder import FrameEncoder
from features.encoders.item_encoder import ItemConfig, ItemEncoder
from features.encoders.token_sequence import TokenSequence
from meshgnn.errors import InputError


class RunTransformer(ItemEncoder):
    """`FrameEncoder` of every frame, then `TokenSequence` over frames (arXiv 2112.05761).

    Inputs [B, C, X, Y, Z, T] float, features [B, width]. As published (`published()`) with two channels of
    75 x 93 x 81 voxels and one linear output behind it, it has 102,568,207 parameters. The names of its weights begin
    with `frames.` and `sequence.`, as those of the autoencoder in `features.fmri` do, whose files it therefore starts
    from.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a run belongs to a node or to a whole brain.
            frames: encoder of a frame; its features are the width of the transformer.
            sequence: the transformer.
        """

        frames: FrameEncoder.Config = field(default_factory=FrameEncoder.Config)
        sequence: TokenSequence.Config = field(default_factory=TokenSequence.Config)

        @classmethod
        def published(cls, *, depth: int = 2, positions: int = 30, dropout: float = 0.35) -> "RunTransformer.Config":
            """The network of arXiv 2112.05761: 2,640 channels, 16 heads, 3,072 hidden ones, post-norm.

            Args:
                depth: layers of the transformer.
                positions: that are learnt, that of CLS included.
                dropout: of the encoder of frames; 0.35 in fine-tuning, 0.2 before.
            """
            layers = AttentionLayers.Config(depth=depth, heads=16, feed_forward=3072, norm="post", dropout=0.1)
            return cls(
                frames=FrameEncoder.Config(features=2640, dropout=dropout),
                sequence=TokenSequence.Config(
                    layers=layers, positions=positions, pool="pooler", cls="linear", token_types=2, vocabulary=1
                ),
            )

        def build(self, shape: tuple[int, ...]) -> "RunTransformer":
            """An encoder of windows (C, X, Y, Z, T); weights from torch's random state.

            Raises:
                InputError: not windows of volumes.
                SettingError: more frames than positions, or heads that do not divide the features of a frame.
            """
            check_window("RunTransformer", shape)
            return RunTransformer(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        frames = config.frames.build(shape[:4])
        super().__init__(config, shape, frames.out_channels)
        self.frames = frames
        self.sequence = config.sequence.build(frames.out_channels, shape[4])

    def stages(self) -> tuple[nn.Module, ...]:
        """Those of the encoder of frames, with time as the last axis; then those of the transformer."""
        return (*map(PerFrame, self.frames.stages()), *self.sequence.stages())


class PerFrame(nn.Module):
    """A module of volumes or vectors, given those of every frame: [B, C, ..., T] -> [B, C', ..., T]."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, maps: Tensor) -> Tensor:
        count, frames = len(maps), maps.shape[-1]
        found = self.module(maps.movedim(-1, 1).reshape(count * frames, *maps.shape[1:-1]))
        return found.reshape(count, frames, *found.shape[1:]).movedim(1, -1)


def check_window(name: str, shape: tuple[int, ...]) -> None:
    """Raises InputError unless `shape` is that of frames of volumes with channels (C, X, Y, Z, T)."""
    if len(shape) != 5 or min(shape) < 1:
        raise InputError(
            f"a {name} encodes windows of runs (channels, x, y, z, frames), not items of shape {tuple(shape)}; choose "
            "another encoder"
        )
