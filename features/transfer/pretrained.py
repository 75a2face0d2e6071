"""Weights from a local file into an encoder: the file's hash is checked, names and shapes are fitted, nothing is left
to chance and nothing is fetched."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from features.transfer.reshape import Fill, fitted
from features.weight_files import read_weights
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError

_HASH = re.compile(r"[0-9a-f]{64}")
# Names in torchvision's video networks -> those of its image networks, which ours are.
_VIDEO = (
    (re.compile(r"^stem\.0\."), "conv1."),
    (re.compile(r"^stem\.1\."), "bn1."),
    (re.compile(r"\.conv([12])\.0\."), r".conv\1."),
    (re.compile(r"\.conv([12])\.1\."), r".bn\1."),
)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What became of a file.

    Args:
        taken: names in the network that got weights as they stood.
        changed: those whose weights were inflated, or summed over channels.
        kept: those of layers behind the pretrained ones, and of fresh ones, which stay as they were drawn.
        unused: names in the file that no layer wanted (its own last layer).
        sha256: of the file.
    """

    taken: tuple[str, ...]
    changed: tuple[str, ...]
    kept: tuple[str, ...]
    unused: tuple[str, ...]
    sha256: str


class Pretrained:
    """Weights of a residual network, of images or videos or volumes, for `ResNet3D` and `ResNet2DSlices`; of any other
    encoder for one of its own kind.

    Kernels of images are inflated for volumes; the first kernel is fitted to the number of channels. Names may be those
    of torchvision's image or video networks, or of an encoder of ours; a last layer `fc` is left out.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            file: safetensors.
            sha256: that the file must have, 64 hexadecimal digits.
            fill: how kernels of images become kernels of volumes: repeated and divided, or on the middle plane.
            fresh: beginnings of names in the encoder: such weights are not looked for and stay as they were drawn
                (`sequence.` for a transformer over frames whose file holds the encoder of frames alone).
        """

        file: Path | None = None
        sha256: str = ""
        fill: Fill = "mean"
        fresh: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            if self.file is not None and not _HASH.fullmatch(self.sha256.lower()):
                raise SettingError(f"<sha256> must be the 64 hexadecimal digits of <file>, got {self.sha256!r}")

        def build(self) -> "Pretrained":
            """Read and check the file.

            Raises:
                SettingError: no file is named.
                InputError: it cannot be read, is a pickle, or has another hash.
            """
            if self.file is None:
                raise SettingError("<file> is not named; give a safetensors file of weights")
            weights, found = read_weights(self.file)
            if found != self.sha256.lower():
                raise InputError(
                    f"{self.file}: has SHA-256 {found}, not {self.sha256}: another file, or a changed one; get it again"
                )
            return Pretrained(self, weights)

    def __init__(self, config: Config, weights: Mapping[str, Tensor]) -> None:
        self.config = config
        video = {"stem.0.weight", "layer1.0.conv1.0.weight"} <= set(weights)
        self.weights = {_image_name(name) if video else name: weight for name, weight in weights.items()}

    def into(self, encoder: Any) -> Loaded:
        """Put the weights into an encoder. All of its backbone but what is `fresh` must be found; what stands behind it
        is kept.

        Args:
            encoder: with a `backbone`, or any network whose names are those of the file.

        Raises:
            InputError: a weight is missing or cannot be fitted, or `fresh` names no weight; the encoder is then
                unchanged.
        """
        network: nn.Module = getattr(encoder, "backbone", encoder)
        prefix = next((f"{name}." for name, child in encoder.named_children() if child is network), "")
        start = "backbone." if any(name.startswith("backbone.") for name in self.weights) and prefix else ""
        state = network.state_dict()
        most = max((weight.ndim for weight in state.values()), default=0)  # tokens of transformers come before kernels
        first = next((name for name, weight in state.items() if weight.ndim == most > 2), "")
        new: dict[str, Tensor] = {}
        taken: list[str] = []
        changed: list[str] = []
        used: set[str] = set()
        for begin in self.config.fresh:
            if not any(name.startswith(begin) for name in state):
                raise SettingError(f"<fresh>: no weight of this network begins with {begin!r}")
        for name, old in state.items():
            if name.startswith(self.config.fresh):
                continue
            if name.endswith("num_batches_tracked") and start + name not in self.weights:
                continue  # older files do not have it
            given = self.weights.get(start + name)
            if given is None:
                raise InputError(f"{self.config.file}: has no weight {start + name!r}; it is of another network")
            weight = fitted(given, old.shape, self.config.fill, first=name == first)
            if weight is None:
                raise InputError(
                    f"{self.config.file}: {start + name} has shape {tuple(given.shape)}, which cannot become "
                    f"{tuple(old.shape)}"
                )
            used.add(start + name)
            (taken if given.shape == old.shape else changed).append(prefix + name)
            new[name] = weight.to(old.dtype)
        with torch.no_grad():
            network.load_state_dict(new, strict=False)
        known = {*taken, *changed}
        return Loaded(
            taken=tuple(taken), changed=tuple(changed), sha256=self.config.sha256.lower(),
            kept=tuple(name for name in encoder.state_dict() if name not in known),
            unused=tuple(sorted(set(self.weights) - used)),
        )  # fmt: skip


def _image_name(name: str) -> str:
    """The name in torchvision's image networks of a weight of its video networks."""
    for old, new in _VIDEO:
        name = old.sub(new, name)
    return name
