"""The network of the first two phases: frames are encoded, a transformer may read them, and they are rebuilt."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from features.encoders.attention_layers import AttentionLayers
from features.encoders.frame_decoder import FrameDecoder
from features.encoders.item_encoder import ItemEncoder
from features.encoders.run_transformer import RunTransformer, check_window
from features.objectives.run_objective import RunOutputs
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError


class RunAutoencoder(nn.Module):
    """Encoder of frames, transformer or none, decoder (arXiv 2112.05761).

    As published, windows of 2 x 75 x 93 x 81 voxels and 20 frames need 7,271,359 parameters without the transformer and
    109,559,023 with it. Names of weights begin with `frames.`, `sequence.` and `decoder.`; the first two are those of
    `RunTransformer`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            encoder: frames and transformer, as the encoder of the third phase.
            decoder: of frames.
        """

        encoder: RunTransformer.Config = field(default_factory=RunTransformer.Config)
        decoder: FrameDecoder.Config = field(default_factory=FrameDecoder.Config)

        def build(self, shape: Sequence[int], *, transformer: bool) -> "RunAutoencoder":
            """A network of windows (C, X, Y, Z, F); weights from torch's random state.

            Args:
                shape: of a window.
                transformer: whether there is one.

            Raises:
                InputError: not windows of volumes.
                SettingError: more frames than positions, or heads that do not divide the features of a frame.
            """
            check_window("RunAutoencoder", tuple(shape))
            return RunAutoencoder(self, shape, transformer=transformer)

    def __init__(self, config: Config, shape: Sequence[int], *, transformer: bool) -> None:
        super().__init__()
        self.config, self.shape = config, tuple(shape)
        self.frames = config.encoder.frames.build(self.shape[:4])
        self.width = self.frames.out_channels
        self.sequence = config.encoder.sequence.build(self.width, self.shape[4]) if transformer else None
        self.decoder = config.decoder.build(self.frames)

    def recompute(self, on: bool) -> None:
        """Whether activations are computed again in the backward pass instead of being kept."""
        for part in self.modules():
            if isinstance(part, ItemEncoder | AttentionLayers | FrameDecoder):
                part.recompute = on

    def forward(self, window: Tensor, subjects: Tensor, draws: Sequence[tuple[int, ...]]) -> RunOutputs:
        """All that objectives look at.

        Args:
            window: [B, C, X, Y, Z, F].
            subjects: [B].
            draws: of every window, see `RunOutputs`.

        Raises:
            InputError: windows of another shape.
        """
        if tuple(window.shape[1:]) != self.shape:
            raise InputError(f"this network takes windows {self.shape}, got {tuple(window.shape[1:])}")
        count, length = len(window), self.shape[4]
        volumes = window.movedim(-1, 1).reshape(count * length, *self.shape[:4])
        frames = self.frames(volumes).view(count, length, self.width)
        states, embedding = frames, frames.mean(1)
        if self.sequence is not None:
            tokens = self.sequence.states(frames)
            states, embedding = tokens[:, 1:], self.sequence.pool(tokens)
        rebuilt = self.decoder(states.reshape(count * length, self.width))
        return RunOutputs(
            window=window, rebuilt=rebuilt.view(count, length, *rebuilt.shape[1:]).movedim(1, -1), frames=frames,
            states=states, embedding=embedding, again=self._again if self.sequence is not None else None,
            subjects=subjects, draws=draws,
        )  # fmt: skip

    def _again(self, frames: Tensor) -> Tensor:
        assert self.sequence is not None
        return self.sequence.states(frames)[:, 1:]


def without_gradient(network: nn.Module) -> list[str]:
    """Names of parameters that a backward pass did not reach."""
    return [name for name, one in network.named_parameters() if one.requires_grad and one.grad is None]


def finite(network: nn.Module) -> bool:
    """Whether all weights are."""
    return all(bool(torch.isfinite(one).all()) for one in network.state_dict().values())
