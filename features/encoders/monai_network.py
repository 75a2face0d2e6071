"""Any network of MONAI as an encoder of volumes.

    --set encoder=MONAINetwork --set encoder.network=SEResNet50
    --set encoder.network=UNet --set 'encoder.arguments={"channels": [8, 16], "strides": [2]}'

What may stand there is found by looking at `monai.networks.nets`, never by importing what a user or a file names. The
library takes seconds to import and is imported when the first network is built.
"""

import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from features.encoders.batch_norm import with_own_batch_norm
from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_volume
from meshgnn.errors import InputError, SettingError

# What networks call their arguments: dimensions, channels, outputs, sides.
_FROM_SHAPE = {
    "spatial_dims": lambda shape, out: len(shape) - 1,
    "dimensions": lambda shape, out: len(shape) - 1,
    "in_channels": lambda shape, out: shape[0],
    "n_input_channels": lambda shape, out: shape[0],
    "img_size": lambda shape, out: tuple(shape[1:]),
    "input_image_size": lambda shape, out: tuple(shape[1:]),
    "in_shape": lambda shape, out: tuple(shape),
}
_OUTPUTS = ("out_channels", "num_classes", "n_classes", "classes")
_MOST = 1 << 14  # for any number among the arguments
_LARGEST = 1 << 32  # weights of a network


class MONAINetwork(ItemEncoder):
    """A network of `monai.networks.nets` by name, whatever its outputs.

    Dimensions, channels and sides follow from the volumes. Outputs [B, C] are features as they are; maps
    [B, C, X, Y, Z] are averaged over space, tokens [B, N, C] over tokens; of several outputs the first is read. A
    linear map follows where they are not as many as asked. Inputs [B, C, X, Y, Z] float, features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a volume belongs to a node or to a whole brain.
            network: name of a class in monai.networks.nets.
            arguments: further arguments of its constructor as a JSON object. Pretrained weights, files and addresses
                cannot be named: weights come from a file of one's own (`features.transfer`).
            out_channels: features per volume.
        """

        network: str = "DenseNet121"
        arguments: str = "{}"
        out_channels: int = 64

        def __post_init__(self) -> None:
            check_counts(out_channels=self.out_channels)
            _parsed(self.arguments)

        def build(self, shape: tuple[int, ...]) -> "MONAINetwork":
            """An encoder of volumes (C, X, Y, Z); weights from torch's random state.

            Raises:
                InputError: not volumes.
                SettingError: there is no such network, or it cannot be built for these volumes.
            """
            check_volume("MONAINetwork", shape)
            return MONAINetwork(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.out_channels)
        if config.network not in networks():
            raise SettingError(
                f"<network>: {config.network!r} is not a network of monai.networks.nets; there are "
                f"{', '.join(networks())}"
            )
        wrong = f"<network>: {config.network} with {config.arguments[:200]} does not work on items of shape {shape}"
        try:
            given = _arguments(networks()[config.network], config, shape)
            with torch.random.fork_rng(devices=[]), torch.device("meta"), _Readable():  # sizes without memory
                empty = networks()[config.network](**given)
            size = sum(weights.numel() for weights in empty.parameters())
            if size > _LARGEST:
                raise SettingError(f"<arguments>: a {config.network} of {size} weights is too large (2^32 at most)")
            with _Readable():
                self.network = with_own_batch_norm(networks()[config.network](**given))
            width, direct = _outputs(empty, self.network, shape)
        except SettingError:
            raise
        except Exception as error:  # each network has errors of its own for what it does not take
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].replace("<", "").replace(">", "")
            raise SettingError(f"{wrong}: {reason}") from None
        as_asked = direct and width == config.out_channels
        self.features: nn.Module = nn.Identity() if as_asked else nn.Linear(width, config.out_channels)
        self.read = _Read(len(shape))

    def stages(self) -> tuple[nn.Module, ...]:
        """The network as a whole, and the linear map: where it may be cut is not known."""
        return (nn.Sequential(self.network, self.read), self.features)


class _Readable(TorchFunctionMode):
    """Keeps what some constructors read numbers from (rates that ascend with depth) off the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **({**kwargs, "device": "cpu"} if func is torch.linspace else kwargs))


class _Read(nn.Module):
    """The output of a network as features [B, C]."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions  # of an item

    def forward(self, output: Any) -> Tensor:
        while isinstance(output, Sequence) and len(output):
            output = output[0]
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, self.dimensions + 1):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"a network that gives {shape} has no features of an item to read")
        if output.ndim == 2:
            return output
        return output.mean(1) if output.ndim == 3 != self.dimensions + 1 else output.flatten(2).mean(2)


@lru_cache(maxsize=1)
def networks() -> dict[str, Any]:
    """The classes of networks that MONAI exports, by name."""
    import monai.networks.nets as library

    found = {name: getattr(library, name) for name in sorted(dir(library))}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__name__ == name
    }


def _arguments(kind: Any, config: MONAINetwork.Config, shape: tuple[int, ...]) -> dict[str, Any]:
    """Of the constructor: what follows from the volumes where it asks for it, and what the user gives."""
    asked: set[str] = set()
    for part in kind.__mro__:
        made = inspect.signature(part.__init__).parameters.values()
        asked |= {one.name for one in made}
        if not any(one.kind is one.VAR_KEYWORD for one in made):
            break
    filled = {name: value(shape, config.out_channels) for name, value in _FROM_SHAPE.items() if name in asked}
    filled |= {name: config.out_channels for name in _OUTPUTS if name in asked}
    given = _parsed(config.arguments)
    for name in set(given) & set(_FROM_SHAPE):
        raise SettingError(f"<arguments>: {name!r} follows from the volumes")
    return {**filled, **given, **({"pretrained": False} if "pretrained" in asked else {})}


def _outputs(empty: nn.Module, network: nn.Module, shape: tuple[int, ...]) -> tuple[int, bool]:
    """Channels of the features that a network gives, and whether it gives them as [B, C].

    Args:
        empty: the network on the meta device.
        network: the same, for those that look at values on their way.
        shape: of an item.
    """
    mode = network.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            output = empty.eval()(torch.zeros(1, *shape, device="meta"))
        except NotImplementedError:
            output = network.eval()(torch.zeros(1, *shape))
    network.train(mode)
    features = _Read(len(shape))(output)
    while isinstance(output, Sequence):
        output = output[0]
    return features.shape[1], output.ndim == 2


def _parsed(arguments: str) -> dict[str, Any]:
    """The constructor's arguments from their JSON text.

    Raises:
        SettingError: it is not a JSON object of small values, or names weights, files or addresses.
    """
    try:
        given = json.loads(arguments) if len(arguments) <= 4000 else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not _small(given):
        raise SettingError(
            f'<arguments> must be a JSON object such as {{"dropout_prob": 0.1}}, numbers up to {_MOST}, no paths'
        )
    for name in given:
        if "pretrained" in name or name in ("checkpoint", "model_path", "weights"):
            raise SettingError(f"<arguments>: {name!r} cannot be named; weights come from a file of one's own")
    return given


def _small(value: Any) -> bool:
    if isinstance(value, dict | list):
        return len(value) <= 64 and all(map(_small, value.values() if isinstance(value, dict) else value))
    if isinstance(value, str):
        return not {"/", "\\", ":"} & set(value)
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) <= _MOST)
