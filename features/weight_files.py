"""Weights of networks on disk: safetensors alone, read once, checked before anything is built at full size."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from meshgnn.errors import InputError, SettingError
from meshgnn.store import read_unpickled, written_aside

M = TypeVar("M", bound=nn.Module)


def write_weights(path: Path, network: nn.Module) -> None:
    """Parameters and buffers by name as one safetensors file."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with written_aside(path) as aside:
        aside.write_bytes(save(weights))


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors by name, and the SHA-256 of the file in hexadecimal; the hash is of the bytes that were read.

    Raises:
        InputError: missing, truncated, another format, a pickle.
    """
    content = read_unpickled(path)
    try:
        return load(content), sha256(content).hexdigest()
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({str(error).splitlines()[0]})") from None


def rebuilt(build: Callable[[], M], weights: dict[str, Tensor], wrong: str) -> M:
    """The network that `build` makes, with these weights; torch's random state stays as it is.

    Args:
        build: called on the meta device first: sizes that a file declares take no memory until they are known to fit.
        weights: by name.
        wrong: how an error begins.

    Raises:
        InputError: the network cannot be built, or takes other weights.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                empty = build().state_dict()
        except SettingError:
            raise
        except (RuntimeError, TypeError, OverflowError):
            raise InputError(f"{wrong} (impossible sizes)") from None
        except InputError as error:
            raise InputError(f"{wrong} ({error})") from None
        if {name: value.shape for name, value in empty.items()} != {n: value.shape for n, value in weights.items()}:
            raise InputError(f"{wrong} (other shapes)")
        network = build()
    network.load_state_dict(weights)
    return network
