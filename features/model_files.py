"""Encoders on disk: encoder.safetensors and encoder.json, rebuilt through an allow-list of classes, never unpickled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union

from torch import Tensor, nn

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.monai_network import MONAINetwork
from features.encoders.naive_cnn import NaiveCNN
from features.encoders.narrow_resnet import NarrowResNet
from features.encoders.resnet2d_slices import ResNet2DSlices
from features.encoders.resnet3d import ResNet3D
from features.encoders.section_cnn import SectionCNN
from features.encoders.signal_cnn import SignalCNN
from features.encoders.table_net import TableNet
from features.encoders.timm_backbone import TimmBackbone
from features.encoders.valid_cnn import ValidCNN
from features.encoders.vertex_transformer import VertexTransformer
from features.encoders.volume_cnn import VolumeCNN
from features.encoders.weights import weights_hash
from features.node_data.cortical_patches import CorticalPatches
from features.node_data.field_patches import FieldPatches
from features.node_data.section_patches import SectionPatches
from features.node_data.section_profiles import SectionProfiles
from features.node_data.vertex_series import VertexSeries
from features.node_data.volume_patches import VolumePatches
from features.weight_files import read_weights, rebuilt, write_weights
from meshgnn.config import Config, at, from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.store import read_json, write_json

# What may be chosen by name, and what a file may name.
EncoderConfig = (
    SectionCNN.Config | VolumeCNN.Config | SignalCNN.Config | TableNet.Config | NaiveCNN.Config | ResNet3D.Config
    | ResNet2DSlices.Config | BiobankCNN.Config | MONAINetwork.Config | VertexTransformer.Config | ValidCNN.Config
    | NarrowResNet.Config | TimmBackbone.Config
)  # fmt: skip
DataConfig = (
    SectionPatches.Config | CorticalPatches.Config | VolumePatches.Config | SectionProfiles.Config
    | VertexSeries.Config | FieldPatches.Config
)  # fmt: skip
FORMAT = 2
# Format 1 knew patches of sections only, and called them so.
OLDER = {"record": "PatchEncoder", "format": 1}
WEIGHTS, ABOUT = "encoder.safetensors", "encoder.json"


class NodeEncoder(nn.Module):
    """A network with the items that it was made for; a `meshgnn.sockets.Encoder`. [B, *shape] -> [B, out_channels].

    Args:
        network: of the encoder.
        data: config of the items.
        shape: of one item.
    """

    level: Literal["node", "graph"] = "node"

    def __init__(self, network: Any, data: Any, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.data, self.shape = network, data, tuple(shape)
        self.out_channels: int = network.out_channels

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)

    def identity(self) -> dict[str, Any]:
        """Config, look of the items and a hash of the weights."""
        return {**self.network.identity(), "data": self.data.item_format()}

    def refuse_other(self, item_format: dict[str, Any]) -> None:
        """Raises InputError if items that look so are not what it was trained on."""
        mine = self.data.item_format()
        for name, value in item_format.items():
            if mine.get(name) != value:
                raise InputError(
                    f"this encoder was trained on items with {name}={mine.get(name)}, not {value}; "
                    f"set {name}={mine.get(name)} or train another encoder"
                )


def new_encoder(config: Any, data: Any, shape: tuple[int, ...]) -> NodeEncoder:
    """An untrained encoder; its weights come from torch's random state.

    Args:
        config: of the encoder.
        data: config of the items.
        shape: of one item.
    """
    return NodeEncoder(config.build(tuple(shape)), data, shape)


def save_encoder(folder: Path, encoder: NodeEncoder, training: dict[str, Any]) -> None:
    """Write the pair; weights first, so that encoder.json never stands alone.

    Args:
        training: what it was trained on and how, JSON-ready; kept under "training".
    """
    write_weights(Path(folder) / WEIGHTS, encoder.network)
    write_json(
        Path(folder) / ABOUT,
        {
            "format": FORMAT,
            "record": "NodeEncoder",
            "encoder": to_plain(encoder.network.config),
            "data": to_plain(encoder.data),
            "shape": list(encoder.shape),
            "weights": weights_hash(encoder.network),
            "training": training,
        },
    )


def load_encoder(folder: Path, more: Sequence[Config] = ()) -> NodeEncoder:
    """The encoder that `save_encoder` wrote, in eval mode.

    Args:
        folder: of the pair.
        more: configs of further encoders and data that the file may name: those of the run that asks.

    Raises:
        InputError: a missing or damaged file, another kind of record, weights of another encoder, a pickle.
    """
    about, path = read_json(Path(folder) / ABOUT), Path(folder) / WEIGHTS
    if isinstance(about, dict) and {name: about.get(name) for name in OLDER} == OLDER and "patches" in about:
        about = {**about, "record": "NodeEncoder", "format": FORMAT, "data": about["patches"]}
    if not isinstance(about, dict) or about.get("record") != "NodeEncoder" or about.get("format") != FORMAT:
        raise InputError(f"{Path(folder) / ABOUT}: not an encoder of format {FORMAT}")
    kinds = tuple(type(config) for config in more)
    try:
        config = from_plain(Union[(EncoderConfig, *kinds)], about["encoder"], f"{Path(folder) / ABOUT}: encoder")
        data = from_plain(Union[(DataConfig, *kinds)], about["data"], f"{Path(folder) / ABOUT}: data")
        shape = about.get("shape") or [data.size_px, data.size_px]
    except (KeyError, AttributeError) as error:
        raise InputError(f"{Path(folder) / ABOUT}: {error} is missing") from None
    shape = from_plain(tuple[int, ...], shape, f"{Path(folder) / ABOUT}: shape")
    if not shape or min(shape) < 1:
        raise InputError(f"{Path(folder) / ABOUT}: shape {shape} is not that of an item")
    weights = read_weights(path)[0]
    if getattr(config, "blocks", 1) * len(getattr(config, "widths", None) or ()) > len(weights):
        raise InputError(f"{path}: does not fit {ABOUT} (more blocks than weights)")
    with at(f"{Path(folder) / ABOUT}: encoder"):
        network = rebuilt(lambda: new_encoder(config, data, shape).network, weights, f"{path}: does not fit {ABOUT}")
    encoder = NodeEncoder(network, data, shape)
    if weights_hash(encoder.network) != about.get("weights"):
        raise InputError(f"{path}: its weights are not those that {ABOUT} was written for; copy both files again")
    return encoder.eval()
