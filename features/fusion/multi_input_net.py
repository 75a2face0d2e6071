"""A network of several inputs per subject, any of which a subject may lack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.frame_encoder import FrameEncoder
from features.encoders.graph_net import GraphNet
from features.encoders.item_encoder import ItemEncoder, check_shares
from features.encoders.mesh_transformer import MeshTransformer
from features.encoders.monai_network import MONAINetwork
from features.encoders.naive_cnn import NaiveCNN
from features.encoders.resnet2d_slices import ResNet2DSlices
from features.encoders.resnet3d import ResNet3D
from features.encoders.run_transformer import RunTransformer
from features.encoders.series_lstm import SeriesLSTM
from features.encoders.series_transformer import SeriesTransformer
from features.encoders.signal_cnn import SignalCNN
from features.encoders.swin4d import Swin4D
from features.encoders.table_net import TableNet
from features.encoders.vertex_transformer import VertexTransformer
from features.encoders.volume_cnn import VolumeCNN
from features.encoders.weights import weights_hash
from features.fusion.attention import Attention
from features.fusion.concatenation import Concatenation
from features.fusion.gated import Gated
from features.fusion.parts import Part
from features.fusion.trait_head import TraitHead
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError

# What a block may be, and how blocks may be joined: what may be chosen by name, and what a file may name.
BlockEncoder = (
    BiobankCNN.Config | NaiveCNN.Config | ResNet3D.Config | ResNet2DSlices.Config | MONAINetwork.Config
    | VolumeCNN.Config | ConnectivityNet.Config | TableNet.Config | SignalCNN.Config | GraphNet.Config
    | FrameEncoder.Config | RunTransformer.Config | Swin4D.Config | SeriesTransformer.Config | SeriesLSTM.Config
    | VertexTransformer.Config | MeshTransformer.Config
)  # fmt: skip
Fusion = Concatenation.Config | Gated.Config | Attention.Config


@dataclass(frozen=True, kw_only=True)
class InputBlock(BaseConfig):
    """One input of a subject.

    Args:
        name: of the input, as the items of a batch are named.
        encoder: of its items.
    """

    name: str = "t1"
    encoder: BlockEncoder = field(default_factory=BiobankCNN.Config)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SettingError(f"<name>={self.name!r} must be a plain word")


class MultiInputNet(nn.Module):
    """Blocks, each an encoder of one input; their fusion; a head of traits.

    A block runs for the subjects who have it and for no others: it gets no gradient from a subject who lacks it, and
    its batch statistics are those of the subjects who have it. (A batch norm in the head joins the rows of a batch in
    training; fusions do not.) A block that nobody in the batch has is not run at all:
    its gradients stay None, so that no optimiser moves it (data-parallel training has to look for unused parameters).
    In training, a single subject with a block is normalised by running statistics wherever there is one value per
    channel (`features.encoders.batch_norm`). Outputs [B, outputs], see `TraitHead`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            blocks: the inputs.
            fusion: how their features are joined.
            head: from features to traits.
            input_dropout: share of a subject's inputs left out at random in training, never the last one.
        """

        blocks: tuple[InputBlock, ...] = (InputBlock(),)
        fusion: Fusion = field(default_factory=Concatenation.Config)
        head: TraitHead.Config = field(default_factory=TraitHead.Config)
        input_dropout: float = 0.0

        def __post_init__(self) -> None:
            names = [block.name for block in self.blocks]
            if not names or len(set(names)) != len(names):
                raise SettingError(f"<blocks> must be one or more of different names, got {', '.join(names) or 'none'}")
            check_shares(input_dropout=self.input_dropout)

        def only(self, names: Sequence[str]) -> "MultiInputNet.Config":
            """The same with these blocks alone, in the order that they have here. Raises SettingError for another."""
            have = [block.name for block in self.blocks]
            for name in names:
                if name not in have:
                    raise SettingError(f"<blocks>: there is no {name!r}; there are {', '.join(have)}")
            return replace(self, blocks=tuple(block for block in self.blocks if block.name in names))

        def build(self, shapes: Mapping[str, Sequence[int]], classes: Sequence[int]) -> "MultiInputNet":
            """A network; weights from torch's random state.

            Args:
                shapes: of one item of every block, by name.
                classes: of every target; 0 for a number.

            Raises:
                InputError: a block without a shape or with one that its encoder does not take, or wrong targets.
            """
            return MultiInputNet(self, shapes, classes)

    def __init__(self, config: Config, shapes: Mapping[str, Sequence[int]], classes: Sequence[int]) -> None:
        super().__init__()
        self.config, self.classes = config, tuple(classes)
        self.names = tuple(block.name for block in config.blocks)
        for name in self.names:
            if name not in shapes:
                raise InputError(f"block {name!r} has no items; there are {', '.join(shapes) or 'none'}")
        self.shapes = {name: tuple(shapes[name]) for name in self.names}
        encoders: list[Any] = [block.encoder.build(self.shapes[block.name]) for block in config.blocks]
        # In a list, since a block may bear the name of an attribute of modules.
        self.encoders = nn.ModuleList(encoders)
        self.fusion: Any = config.fusion.build([encoder.out_channels for encoder in encoders])
        self.head = config.head.build(self.fusion.out_channels, classes)
        self.out_channels: int = self.fusion.out_channels
        self.input_dropout = config.input_dropout  # set to 0 by whoever draws for the batch of all ranks

    def forward(self, items: Mapping[str, Tensor], present: Tensor, joint: Tensor | None = None) -> Tensor:
        """Traits of a batch.

        Args:
            items: [n, *shape] by name, of the n subjects who have the block, in the order of the batch. The name of a
                block that nobody has may be left out.
            present: [B, blocks] bool, who has which block; on the CPU it costs no synchronisation of a GPU.
            joint: [blocks] bool, blocks that somebody has whose subjects are on other ranks: they run here too, on no
                subject, so that all ranks take part in what a block does together.

        Returns:
            [B, outputs].

        Raises:
            InputError: a subject without any block, items that do not fit `present`, or of another shape.
        """
        return self.head(self.fused(items, present, joint))

    def fused(self, items: Mapping[str, Tensor], present: Tensor, joint: Tensor | None = None) -> Tensor:
        """The embedding [B, out_channels] of every subject before the head; arguments as in `forward`."""
        present = present.cpu()
        self._check(items, present)
        kept = present
        if self.training and self.input_dropout:
            kept = left_in(present, self.input_dropout)
        parts: list[Part | None] = []
        for number, (name, encoder) in enumerate(zip(self.names, self.encoders)):
            rows = kept[:, number].nonzero().ravel()
            if not len(rows) and (joint is None or not bool(joint[number])):
                parts.append(None)
                continue
            mine = items[name] if name in items else self._nobody(name, encoder)
            if len(rows) < len(mine):
                mine = mine[kept[present[:, number], number].nonzero().ravel().to(mine.device)]
            values = encoder(mine)
            parts.append(Part(rows=rows.to(values.device), values=values))
        device = next(part.rows.device for part in parts if part is not None)
        return self.fusion(parts, kept.to(device))

    def _check(self, items: Mapping[str, Tensor], present: Tensor) -> None:
        if present.ndim != 2 or present.shape[1] != len(self.names) or present.dtype != torch.bool:
            raise InputError(f"present must be [B, {len(self.names)}] bool, got {tuple(present.shape)} {present.dtype}")
        if not len(present) or not bool(present.any(1).all()):
            row = int((~present.any(1)).nonzero()[0]) if len(present) else 0
            raise InputError(f"subject {row} of the batch has none of {', '.join(self.names)}; leave it out")
        if other := set(items) - set(self.names):
            raise InputError(f"items of {', '.join(sorted(other))}, but the blocks are {', '.join(self.names)}")
        for number, name in enumerate(self.names):
            count, given = int(present[:, number].sum()), len(items[name]) if name in items else 0
            if count != given:
                raise InputError(f"{given} items of {name!r} for {count} subjects who have it")

    def _nobody(self, name: str, encoder: nn.Module) -> Tensor:
        """Items of no subject."""
        like = next(encoder.parameters())
        return torch.zeros((0, *self.shapes[name]), dtype=like.dtype, device=like.device)

    def stages(self) -> tuple[nn.Module, ...]:
        """Parts of the blocks from input to output, the last ones of all blocks together: what is thawed in turn."""
        chains = [_stages_of(encoder)[0] for encoder in self.encoders]
        length = max(map(len, chains))
        return tuple(
            nn.ModuleList(chain[place - length] for chain in chains if len(chain) >= length - place)
            for place in range(length)
        )

    def head_modules(self) -> tuple[nn.Module, ...]:
        """Fusion and head, and the parts of blocks that no file of pretrained weights holds."""
        return (*(part for encoder in self.encoders for part in _stages_of(encoder)[1]), self.fusion, self.head)

    def identity(self) -> dict[str, Any]:
        """Config, shapes, targets and a hash of the weights."""
        about = {"network": "MultiInputNet", "config": to_plain(self.config), "classes": list(self.classes)}
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        return {**about, "shapes": shapes, "weights": weights_hash(self)}


def _stages_of(encoder: Any) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """The stages that may be pretrained and those behind them; an encoder that tells no stages is a single one."""
    if not isinstance(encoder, ItemEncoder):
        return (encoder,), ()
    stages = tuple(encoder.stages())
    old = len(stages) - encoder.new_stages
    return stages[:old], stages[old:]


def left_in(present: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """[B, blocks] bool: `present` with every entry left out with probability `share`, but one per row kept.

    Where all of a row were left out, the one that came nearest to staying stays.
    """
    drawn = torch.rand(present.shape, generator=generator).masked_fill(~present, -1)
    kept = drawn >= share
    bare = ~kept.any(1)
    kept[bare, drawn[bare].argmax(1)] = True
    return kept
