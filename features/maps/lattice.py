"""Where the values of a network's maps lie in the volume that went in.

A convolution or pooling with kernel k, stride s, padding p and dilation d gives at place j what it sees around place
s j + d (k - 1) / 2 - p of its input, the middle of its window (Dumoulin & Visin 2016, arXiv:1603.07285). A chain of
them gives a lattice: place j of a map is place start + step j of the volume. The rule is followed through the forward
pass, operation by operation, so that it holds for any network of convolutions, poolings and residual sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from meshgnn.errors import InputError

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Places of a map in voxels of the volume, along its three axes.

    Args:
        step: between neighbours.
        start: of the first one.
    """

    step: Triple = (1.0, 1.0, 1.0)
    start: Triple = (0.0, 0.0, 0.0)

    def behind(self, kernel: Sequence[int], stride: Sequence[int], before: Sequence[float],
               dilation: Sequence[int]) -> "Lattice":  # fmt: skip
        """That of what windows of such a kernel give; `before` is the padding in front."""
        middle = [d * (k - 1) / 2 - p for k, p, d in zip(kernel, before, dilation)]
        start = tuple(a + b * m for a, b, m in zip(self.start, self.step, middle))
        step = tuple(b * s for b, s in zip(self.step, stride))
        return Lattice(step=step, start=start)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedMap:
    """A map [C, x, y, z] of a volume, and where it lies."""

    values: Tensor
    lattice: Lattice


def placed_maps(stages: Sequence[nn.Module], volume: Tensor) -> list[PlacedMap]:
    """The maps behind every stage that gives some; the first stage without (an average over space, say) ends them.

    Args:
        stages: applied one after another, in eval mode.
        volume: [C, X, Y, Z].

    Raises:
        InputError: branches that are added do not lie on one lattice, or nothing is left of the volume.
    """
    found: list[PlacedMap] = []
    with torch.no_grad(), _Following() as follow:
        inputs = follow.begin(volume[None])
        for stage in stages:
            try:
                outputs = stage(inputs)
            except RuntimeError as error:  # a kernel larger than what is left
                reason = str(error).splitlines()[0]
                raise InputError(f"the volume is too small for this network: {reason}; use a finer grid") from None
            lattice = follow.of(outputs)
            if not isinstance(outputs, Tensor) or outputs.ndim != 5 or lattice is None:
                break
            found.append(PlacedMap(values=outputs[0], lattice=lattice))
            inputs = outputs
    if not found:
        raise InputError("this network has no stage that gives maps whose places are known")
    return found


class _Following(TorchFunctionMode):
    """Keeps with every tensor [1, C, x, y, z] where it lies."""

    def begin(self, volume: Tensor) -> Tensor:
        volume = volume.clone()
        volume._lattice = Lattice()  # type: ignore[attr-defined]
        return volume

    def of(self, tensor: Any) -> Lattice | None:
        return getattr(tensor, "_lattice", None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.ndim == 5 and not isinstance(out, nn.Parameter):
            given = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and self.of(one) is not None]
            if given:
                lattice = self._next(getattr(func, "__name__", ""), given, out, args, kwargs)
                if lattice is not None:
                    out._lattice = lattice  # type: ignore[attr-defined]
        return out

    def _next(self, name: str, given: list[Tensor], out: Tensor, args: Any, kwargs: Any) -> Lattice | None:
        old = self.of(given[0])
        assert old is not None
        if name == "conv3d":
            _, weight, _, stride, padding, dilation = _named(
                ("input", "weight", "bias", "stride", "padding", "dilation"), (None, None, None, 1, 0, 1), args, kwargs
            )
            kernel, dilation = tuple(weight.shape[2:]), _three(dilation)
            if padding == "same":
                before = tuple(float(d * (k - 1) // 2) for k, d in zip(kernel, dilation))
            else:
                before = _three(0 if padding == "valid" else padding)
            return old.behind(kernel, _three(stride), before, dilation)
        if name in ("max_pool3d", "avg_pool3d"):
            names = ("input", "kernel_size", "stride", "padding", *(["dilation"] if name == "max_pool3d" else []))
            _, kernel, stride, padding, *rest = _named(names, (None, None, None, 0, 1)[: len(names)], args, kwargs)
            stride = stride if stride is not None and stride != [] and stride != () else kernel
            return old.behind(_three(kernel), _three(stride), _three(padding), _three(rest[0] if rest else 1))
        if any(one.shape[2:] != out.shape[2:] for one in given):
            return None  # resampled in a way that is not known
        if any(self.of(one) != old for one in given[1:]):
            raise InputError("this network adds maps that do not lie on one lattice: where its values lie is not known")
        return old


def _named(names: Sequence[str], defaults: Sequence[Any], args: Any, kwargs: Any) -> list[Any]:
    """Arguments in order, wherever they were given."""
    given = dict(zip(names, args))
    return [given.get(name, kwargs.get(name, default)) for name, default in zip(names, defaults)]


def _three(value: Any) -> Any:
    """One number per axis."""
    if isinstance(value, int):
        return (value,) * 3
    return tuple(value) * (3 if len(value) == 1 else 1)
