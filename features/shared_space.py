"""Several encoders of one kind in one space: cross-fitted encoders, each of which has left out a part of the labels.

`fold-K/` holds the encoder that has not seen fold K, `space.safetensors` and `space.json` beside these folders the maps
that bring every encoder's features into the space of the first one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.encoders.weights import weights_hash
from features.model_files import ABOUT, WEIGHTS, NodeEncoder, load_encoder
from meshgnn.config import Config
from meshgnn.errors import InputError
from meshgnn.store import read_arrays, read_json, write_arrays, write_json

FORMAT = 1
MAPS, SPACE = "space.safetensors", "space.json"


def fold_folder(folder: Path, fold: int) -> Path:
    """Where the encoder lies that has not seen this fold."""
    return Path(folder) / f"fold-{fold}"


class SharedSpace(nn.Module):
    """The mean of the features of several networks, each brought into one space by an affine map.

    The mean varies less than the features of one network (sd 0.95 of it on virtual brains), on which a classifier may
    have been trained; it tells areas of an unseen brain apart as well with its spread restored as without (0.702 and
    0.700), and better than the first network alone (0.682), so it stays as it is.

    Args:
        networks: K networks, [B, ...] -> [B, C].
        matrices, offsets: [K, C, C] and [K, C]; features f of network k become f @ matrices[k] + offsets[k].
    """

    matrices: Tensor
    offsets: Tensor

    def __init__(self, networks: Sequence[Any], matrices: Tensor, offsets: Tensor) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.out_channels: int = networks[0].out_channels
        self.register_buffer("matrices", matrices)
        self.register_buffer("offsets", offsets)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, ...] -> [B, C]."""
        parts = [
            network(inputs) @ matrix + offset
            for network, matrix, offset in zip(self.networks, self.matrices, self.offsets)
        ]
        return torch.stack(parts).mean(0)

    def identity(self) -> dict[str, Any]:
        """The networks' identities and a hash over all weights and maps."""
        parts = [network.identity() for network in self.networks]  # type: ignore[operator]
        return {"encoder": "SharedSpace", "parts": parts, "weights": weights_hash(self)}


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedEncoders:
    """What pretraining left: one encoder, or one for each fold, which has not seen that fold.

    Args:
        whole: for nodes of no fold: the mean of all encoders in the space of the first.
        left_out: by fold, the encoder that has not seen it, in the same space.
    """

    whole: NodeEncoder
    left_out: dict[int, NodeEncoder]

    def of(self, fold: int) -> NodeEncoder:
        return self.left_out.get(fold, self.whole)


def fitted(encoders: dict[int, NodeEncoder], matrices: NDArray[Any], offsets: NDArray[Any]) -> FittedEncoders:
    """Encoders by the fold that each has not seen, with their maps [K, C, C] and [K, C]."""
    maps, shifts = (torch.from_numpy(np.array(values, np.float32)) for values in (matrices, offsets))
    networks, first = [one.network for one in encoders.values()], next(iter(encoders.values()))

    def joined(part: slice) -> NodeEncoder:
        space = SharedSpace(networks[part], maps[part], shifts[part])
        return NodeEncoder(space, first.data, first.shape).eval()

    left_out = {fold: joined(slice(k, k + 1)) for k, fold in enumerate(encoders)}
    return FittedEncoders(whole=joined(slice(None)), left_out=left_out)


def affine_map(
    features: NDArray[np.floating], target: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix [C, C] and offset [C] with features @ matrix + offset ~ target: a rotation between whitened spaces.

    Both are whitened (ZCA, Kessy et al. 2018), turned onto each other (orthogonal Procrustes, Schoenemann 1966), and
    given the target's covariance. Ridge regression comes nearer to the target, but shrinks what it cannot predict, so
    that rows of two encoders would differ in spread, and a plain rotation leaves spaces apart that differ in more than
    a rotation. Two virtual brains, two folds, a linear discriminant on the rows and their averages, macro-F1 from
    fold to fold: 0.700, ridge 0.689, plain rotation 0.648, no map at all 0.337.

    Args:
        features, target: [N, C] of the same items in two spaces.
    """
    x, y = features - features.mean(0, dtype=np.float64), target - target.mean(0, dtype=np.float64)
    (white, _), (other, back) = _whitening(x), _whitening(y)
    left, _, right = np.linalg.svd(white @ (x.T @ y) @ other)
    matrix = white @ (left @ right) @ back
    return matrix, target.mean(0, dtype=np.float64) - features.mean(0, dtype=np.float64) @ matrix


def _whitening(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Symmetric matrices [C, C] that take the covariance of centred rows away, and that bring it back."""
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    values = np.maximum(values, 1e-3 * values.mean() + 1e-12)  # directions in which hardly anything varies
    return vectors * values**-0.5 @ vectors.T, vectors * values**0.5 @ vectors.T


def save_space(folder: Path, encoders: dict[int, NodeEncoder], matrices: NDArray[Any], offsets: NDArray[Any],
               about: dict[str, Any]) -> list[str]:  # fmt: skip
    """Write the maps beside the encoders' folders. Returns all files, relative to `folder`.

    Args:
        about: how the maps were fitted, JSON-ready.
    """
    write_arrays(Path(folder) / MAPS, {"matrices": matrices.astype(np.float32), "offsets": offsets.astype(np.float32)})
    weights = {str(fold): weights_hash(encoder.network) for fold, encoder in encoders.items()}
    whole = fitted(encoders, matrices, offsets).whole.network
    record = {"format": FORMAT, "record": "SharedSpace", "encoders": weights, "weights": weights_hash(whole)}
    write_json(Path(folder) / SPACE, record | {"fit": about})
    return [SPACE, MAPS, *(f"fold-{fold}/{name}" for fold in encoders for name in (WEIGHTS, ABOUT))]


def load_fitted(folder: Path, more: Sequence[Config] = ()) -> FittedEncoders:
    """What `save_space` or `save_encoder` wrote into `folder`.

    Args:
        folder: of one encoder, or of the folders of several and their maps.
        more: see `load_encoder`.

    Raises:
        InputError: a missing or damaged file, maps that were fitted to other encoders.
    """
    folder = Path(folder)
    if not (folder / SPACE).is_file():
        return FittedEncoders(whole=load_encoder(folder, more), left_out={})
    about = read_json(folder / SPACE)
    if not isinstance(about, dict) or about.get("record") != "SharedSpace" or about.get("format") != FORMAT:
        raise InputError(f"{folder / SPACE}: not a space of encoders of format {FORMAT}")
    again = "copy the whole folder again, or train it again"
    try:
        weights = {int(fold): str(value) for fold, value in about["encoders"].items()}
        total = str(about["weights"])
    except (KeyError, ValueError, AttributeError):
        raise InputError(f"{folder / SPACE}: damaged; {again}") from None
    encoders = {fold: load_encoder(fold_folder(folder, fold), more) for fold in weights}
    for fold, encoder in encoders.items():
        if weights_hash(encoder.network) != weights[fold]:
            raise InputError(f"{fold_folder(folder, fold)}: not the encoder that {SPACE} was written for; {again}")
    arrays = read_arrays(folder / MAPS)
    count, channels = len(encoders), {encoder.out_channels for encoder in encoders.values()}
    width = max(channels, default=0)
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(channels) != 1 or shapes != {"matrices": (count, width, width), "offsets": (count, width)}:
        raise InputError(f"{folder / MAPS}: does not fit the encoders beside it; {again}")
    found = fitted(encoders, arrays["matrices"], arrays["offsets"])
    if weights_hash(found.whole.network) != total:
        raise InputError(f"{folder / MAPS}: not the maps that {SPACE} was written for; {again}")
    return found
