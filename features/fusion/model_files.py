"""Networks of several inputs on disk: network.safetensors and network.json, rebuilt through an allow-list."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.encoders.weights import weights_hash
from features.fusion.multi_input_net import MultiInputNet
from features.weight_files import read_weights, rebuilt, write_weights
from meshgnn.config import at, from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.store import read_json, write_json

FORMAT = 1
WEIGHTS, ABOUT = "network.safetensors", "network.json"


def save_network(folder: Path, network: MultiInputNet, training: Mapping[str, Any]) -> None:
    """Write the pair; weights first, so that network.json never stands alone.

    Args:
        folder: of the pair.
        network: to be kept.
        training: what it was trained on and how, JSON-ready; kept under "training".
    """
    write_weights(Path(folder) / WEIGHTS, network)
    about = {
        "format": FORMAT, "record": "MultiInputNet", "config": to_plain(network.config),
        "shapes": {name: list(shape) for name, shape in network.shapes.items()}, "classes": list(network.classes),
        "weights": weights_hash(network), "training": dict(training),
    }  # fmt: skip
    write_json(Path(folder) / ABOUT, about)


def load_network(folder: Path) -> MultiInputNet:
    """The network that `save_network` wrote, in eval mode.

    Raises:
        InputError: a missing or damaged file, another kind of record, weights of another network, a pickle.
    """
    path, weights_path = Path(folder) / ABOUT, Path(folder) / WEIGHTS
    about = read_json(path)
    if not isinstance(about, dict) or about.get("record") != "MultiInputNet" or about.get("format") != FORMAT:
        raise InputError(f"{path}: not a network of format {FORMAT}")
    config = from_plain(MultiInputNet.Config, about.get("config"), f"{path}: config")
    classes = from_plain(tuple[int, ...], about.get("classes"), f"{path}: classes")
    given = about.get("shapes")
    if not isinstance(given, dict):
        raise InputError(f"{path}: shapes are missing")
    shapes = {str(name): from_plain(tuple[int, ...], shape, f"{path}: shapes") for name, shape in given.items()}
    if any(not shape or min(shape) < 1 for shape in shapes.values()):
        raise InputError(f"{path}: shapes are not those of items")
    weights = read_weights(weights_path)[0]
    with at(f"{path}: config"):
        wrong = f"{weights_path}: does not fit {ABOUT}"
        network = rebuilt(lambda: config.build(shapes, classes), weights, wrong)
    if weights_hash(network) != about.get("weights"):
        raise InputError(f"{weights_path}: its weights are not those that {ABOUT} was written for; copy both again")
    return network.eval()
