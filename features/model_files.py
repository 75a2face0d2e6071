"""Encoders on disk: encoder.safetensors and encoder.json, rebuilt through an allow-list of classes, never unpickled."""

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from features.encoders.section_cnn import SectionCNN, weights_hash
from features.patches import PatchSampler
from meshgnn.config import at, from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.store import read_json, refuse_pickle, write_json, written_aside

EncoderConfig = SectionCNN.Config  # a union of configs once there are several: what a file may name
FORMAT = 1
WEIGHTS, ABOUT = "encoder.safetensors", "encoder.json"


class PatchEncoder(nn.Module):
    """A network with the patches that it was made for; a `meshgnn.encoder.Encoder`. [B, S, S] -> [B, out_channels]."""

    level: Literal["node", "graph"] = "node"

    def __init__(self, network: Any, patches: PatchSampler.Config) -> None:
        super().__init__()
        self.network, self.patches = network, patches
        self.out_channels: int = network.out_channels

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)

    def identity(self) -> dict[str, Any]:
        """Config, look of the patches and a hash of the weights."""
        return {**self.network.identity(), "patches": self.patches.look()}

    def refuse_other(self, patches: PatchSampler.Config) -> None:
        """Raises InputError if these patches look different from those that it was trained on."""
        mine, theirs = self.patches.look(), patches.look()
        for name, value in mine.items():
            if theirs[name] != value:
                raise InputError(
                    f"this encoder was trained on patches with {name}={value}, not {theirs[name]}; "
                    f"set patches.{name}={value} or train another encoder"
                )


def new_encoder(config: EncoderConfig, patches: PatchSampler.Config) -> PatchEncoder:
    """An untrained encoder; its weights come from torch's random state."""
    return PatchEncoder(config.build(patches.size_px), patches)


def save_encoder(folder: Path, encoder: PatchEncoder, training: dict[str, Any]) -> None:
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
            "record": "PatchEncoder",
            "encoder": to_plain(encoder.network.config),
            "patches": to_plain(encoder.patches),
            "weights": weights_hash(encoder.network),
            "training": training,
        },
    )


def load_encoder(folder: Path) -> PatchEncoder:
    """The encoder that `save_encoder` wrote, in eval mode.

    Raises:
        InputError: a missing or damaged file, another kind of record, weights of another encoder, a pickle.
    """
    about, path = read_json(Path(folder) / ABOUT), Path(folder) / WEIGHTS
    if not isinstance(about, dict) or about.get("record") != "PatchEncoder" or about.get("format") != FORMAT:
        raise InputError(f"{Path(folder) / ABOUT}: not an encoder of format {FORMAT}")
    try:
        config = from_plain(EncoderConfig, about["encoder"], f"{Path(folder) / ABOUT}: encoder")
        patches = from_plain(PatchSampler.Config, about["patches"], f"{Path(folder) / ABOUT}: patches")
    except KeyError as error:
        raise InputError(f"{Path(folder) / ABOUT}: {error} is missing") from None
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
    if config.blocks * len(config.widths) > len(weights):
        raise InputError(f"{wrong} (more blocks than weights)")
    random = torch.get_rng_state()
    with at(f"{Path(folder) / ABOUT}: encoder"):
        try:
            with torch.device("meta"):  # takes no memory, whatever sizes the file declares
                empty = new_encoder(config, patches).network.state_dict()
        except (RuntimeError, TypeError, OverflowError):
            raise InputError(f"{wrong} (impossible sizes)") from None
        if {name: value.shape for name, value in empty.items()} != {n: value.shape for n, value in weights.items()}:
            raise InputError(f"{wrong} (other shapes)")
        encoder = new_encoder(config, patches)
    torch.set_rng_state(random)
    encoder.network.load_state_dict(weights)
    if weights_hash(encoder.network) != about.get("weights"):
        raise InputError(f"{path}: its weights are not those that {ABOUT} was written for; copy both files again")
    return encoder.eval()
