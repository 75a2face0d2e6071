"""Training checkpoints without pickles: a Lightning CheckpointIO that writes safetensors, with the structure as JSON.

A checkpoint is a tree of dicts, lists, numbers, strings and tensors. Tensors go into the safetensors body by path;
everything else, including dict keys that are numbers, into a JSON string in the file's metadata. One file, written
aside and renamed.
"""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from meshgnn.errors import InputError
from meshgnn.store import read_unpickled, written_aside


def _flatten(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        items = [[key, _flatten(item, f"{path}/{key}", tensors)] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flatten(item, f"{path}/{k}", tensors) for k, item in enumerate(value)]}
    if isinstance(value, Path):
        value = str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a checkpoint may hold tensors and plain values, not {type(value).__name__} (at {path})")


def _restore(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _restore(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_restore(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    return content


def save_tree(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree of tensors and plain values."""
    tensors: dict[str, torch.Tensor] = {}
    structure = json.dumps(_flatten(tree, "", tensors))
    # Shared storage would be refused; clones are small here.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    with written_aside(Path(path)) as aside:
        aside.write_bytes(save(tensors, metadata={"tree": structure}))


def load_tree(path: Path) -> dict[str, Any]:
    """Read what `save_tree` wrote. Raises InputError when the file is missing, truncated or a pickle."""
    read_unpickled(path)
    try:
        with safe_open(path, framework="pt") as file:
            structure = json.loads(file.metadata()["tree"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _restore(structure, tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a complete checkpoint ({error})") from None


def readable(path: Path) -> bool:
    """Whether there is a complete checkpoint."""
    try:
        return bool(load_tree(path))
    except InputError:
        return False


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints as `save_tree` files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save_tree(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        return load_tree(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest state of a training, for `SafetensorsIO` to write.

    Args:
        path: of the file, which ends in .safetensors.
        every: so many epochs.
    """

    FILE_EXTENSION = ".safetensors"

    def __init__(self, path: Path, every: int = 1) -> None:
        super().__init__(
            dirpath=path.parent, filename=path.stem, every_n_epochs=every, save_on_train_epoch_end=True,
            enable_version_counter=False,
        )  # fmt: skip
