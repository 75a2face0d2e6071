"""What parts of a volume move the output of a network of several inputs: three methods, all by captum.

B subjects, C channels, K classes of a target.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from features.fusion.multi_input_net import MultiInputNet
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.train.target_costs import outputs_by_target

Method = Literal["saliency", "integrated_gradients", "occlusion"]


@dataclass(frozen=True, kw_only=True)
class Methods(BaseConfig):
    """Which attributions are made, and how.

    Args:
        names: saliency: the gradient of the output at the volume (Simonyan et al. 2014, arXiv:1312.6034);
            integrated_gradients: (volume - reference) times the mean gradient between the two (Sundararajan et al.
            2017, arXiv:1703.01365, eq. 1); occlusion: by how much the output falls when a cube of the volume becomes
            that of the reference (Zeiler & Fergus 2014, arXiv:1311.2901), told of every voxel of the cube.
        reference: the mean volume of the training subjects, or zero (the mean voxel, of standardised volumes).
        steps: between reference and volume.
        window_mm: side of a cube, rounded to whole voxels; the cubes fill the volume side by side.
    """

    names: tuple[Method, ...] = field(default=get_args(Method))
    reference: Literal["mean", "zero"] = "mean"
    steps: int = 16
    window_mm: float = 24.0

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise SettingError(f"<names> must be one or more different ones of {', '.join(get_args(Method))}")
        if self.steps < 1 or not self.window_mm > 0:
            raise SettingError("<steps> must be at least 1, <window_mm> above 0")


def output_of(classes: tuple[int, ...], target: int) -> Callable[[Tensor], Tensor]:
    """What is explained of the outputs [B, outputs] of a network, [B].

    A number: itself, standardised. Two classes: the log-odds of the second. More: the logit of the class that is
    predicted, less the mean of the others.
    """

    def score(outputs: Tensor) -> Tensor:
        own = outputs_by_target(outputs, classes)[target]
        count = classes[target]
        if not count:
            return own[:, 0]
        if count == 2:
            return own[:, 1] - own[:, 0]
        first = own.max(1).values
        return first - (own.sum(1) - first) / (count - 1)

    return score


def attributions(
    network: MultiInputNet,
    target: int,
    name: str,
    items: dict[str, Tensor],
    present: Tensor,
    reference: Tensor,
    method: Method,
    settings: Methods,
    spacing_mm: tuple[float, float, float],
) -> Tensor:
    """[B, C, X, Y, Z] or [B, C, X, Y, Z, T], attribution of every voxel (and frame) of the input `name`.

    The other inputs stay as they are. Occlusion takes a cube out of all frames at once.

    Args:
        network: in eval mode.
        target: number of the target.
        name: of an input with volumes, which all B subjects have.
        items, present: of the batch, as the network takes them.
        reference: [C, X, Y, Z] or [C, X, Y, Z, T].
        method, settings: which attribution, and how.
        spacing_mm: of the voxels.
    """
    from captum import attr  # draws matplotlib, which takes a second

    score, place = output_of(network.classes, target), network.names.index(name)
    others = [other for other in network.names if other != name]
    # With a row for everybody, so that captum may repeat subjects; rows of those who lack an input are never read.
    rows = [_for_all(items, other, present[:, network.names.index(other)]) for other in others]

    def forward(volumes: Tensor, there: Tensor, *rest: Tensor) -> Tensor:
        given = {name: volumes}
        for other, values in zip(others, rest):
            here = there[:, network.names.index(other)]
            if bool(here.any()):
                given[other] = values[here.to(values.device)]
        return score(network(given, there))

    volumes, there = items[name], present.clone()
    if not bool(there[:, place].all()):
        raise ValueError(f"a subject of the batch has no {name}")
    asked = tuple(row if row is not None else there.new_zeros(len(there)) for row in rows)
    beside = (there, *asked)
    if method == "saliency":
        volumes = volumes.detach().clone().requires_grad_()
        return attr.Saliency(forward).attribute(volumes, abs=False, additional_forward_args=beside).detach()
    whole = reference.to(volumes)[None]
    if method == "integrated_gradients":
        return (
            attr.IntegratedGradients(forward)
            .attribute(
                volumes, whole.expand_as(volumes), additional_forward_args=beside, n_steps=settings.steps,
                internal_batch_size=max(len(volumes), 16),
            )
            .detach()
        )  # fmt: skip
    with torch.no_grad():
        return attr.FeatureAblation(forward).attribute(
            volumes, whole, additional_forward_args=beside, perturbations_per_eval=max(1, 32 // len(volumes)),
            feature_mask=_cubes(volumes, whole, [max(1, round(settings.window_mm / s)) for s in spacing_mm]),
        )  # fmt: skip


def _cubes(volumes: Tensor, reference: Tensor, sides: list[int]) -> Tensor:
    """[1, 1, X, Y, Z] number of the cube of a voxel, of runs [1, 1, X, Y, Z, 1]; 0 where no volume differs from the
    reference: there is nothing to occlude, and in a volume of a head that is most of it."""
    shape = volumes.shape[2:5]
    along = [torch.arange(n, device=volumes.device) // side for n, side in zip(shape, sides)]
    counts = [int(one[-1]) + 1 for one in along]
    number = along[0][:, None, None] * counts[1] * counts[2] + along[1][:, None] * counts[2] + along[2]
    differs = ((volumes - reference).abs() > 1e-6).flatten(0, 1).any(0).reshape(*shape, -1).any(-1)
    _, dense = torch.unique(torch.where(differs, number + 1, 0), return_inverse=True)
    if bool(differs.all()):
        dense = dense + 1
    return dense[None, None] if volumes.ndim == 5 else dense[None, None, ..., None]


def _for_all(items: dict[str, Tensor], name: str, there: Tensor) -> Tensor | None:
    """[B, *shape] of an input, zeros where a subject lacks it; None if everybody does."""
    if name not in items:
        return None
    held = items[name]
    out = held.new_zeros((len(there), *held.shape[1:]))
    out[there.to(held.device)] = held
    return out
