"""Encoders on disk: encoder.safetensors and encoder.json, rebuilt through an allow-list of classes, never unpickled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from features.encoders.section_cnn import SectionCNN
from features.encoders.signal_cnn import SignalCNN
from features.encoders.volume_cnn import VolumeCNN
from features.encoders.weights import weights_hash
from features.node_data.section_patches import SectionPatches
from features.node_data.section_profiles import SectionProfiles
from features.node_data.vertex_series import VertexSeries
from features.node_data.volume_patches import VolumePatches
from meshgnn.config import Config, at, from_plain, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.store import read_json, refuse_pickle, write_json, written_aside

# What may be chosen by name, and what a file may name.
EncoderConfig = SectionCNN.Config | VolumeCNN.Config | SignalCNN.Config
DataConfig = SectionPatches.Config | VolumePatches.Config | SectionProfiles.Config | VertexSeries.Config
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
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.network.state_dict().items()}
    with written_aside(Path(folder) / WEIGHTS) as aside:
        aside.write_bytes(save(weights))
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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    refuse_pickle(path, content)
    wrong = f"{path}: does not fit {ABOUT}"
    try:
        weights = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{wrong} ({str(error).splitlines()[0]})") from None
    if getattr(config, "blocks", 1) * len(getattr(config, "widths", ())) > len(weights):
        raise InputError(f"{wrong} (more blocks than weights)")
    random = torch.get_rng_state()
    with at(f"{Path(folder) / ABOUT}: encoder"):
        try:
            with torch.device("meta"):  # takes no memory, whatever sizes the file declares
                empty = new_encoder(config, data, shape).network.state_dict()
        except (RuntimeError, TypeError, OverflowError):
            raise InputError(f"{wrong} (impossible sizes)") from None
        except SettingError:
            raise
        except InputError as error:
            raise InputError(f"{wrong} ({error})") from None
        if {name: value.shape for name, value in empty.items()} != {n: value.shape for n, value in weights.items()}:
            raise InputError(f"{wrong} (other shapes)")
        encoder = new_encoder(config, data, shape)
    torch.set_rng_state(random)
    encoder.network.load_state_dict(weights)
    if weights_hash(encoder.network) != about.get("weights"):
        raise InputError(f"{path}: its weights are not those that {ABOUT} was written for; copy both files again")
    return encoder.eval()
