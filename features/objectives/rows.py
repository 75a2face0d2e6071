"""What an objective knows of the rows of a batch beside their features."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """R rows of one rank: B items of a batch, seen in one or more views, view after view.

    What is left out is unknown: -1, NaN, or no column. `Rows(label=...)` will do for an objective that asks for classes
    alone.

    Args:
        label: [R] int64 classes, -1 = none.
        together: [R] int64; rows of one number are views of one item, or of items that the sampler put together.
        item: [R] int64 numbers of the items.
        part: [R] int64 numbers of the hemispheres of brains; places compare within one alone.
        place_mm: [R, 3] float32 where on the mesh the item's node lies.
        soft: [R, K] float32 probabilities of the classes, all 0 = none.
        seat: [R] int64 place of the item in the joint batch of all ranks.
        geodesic_mm: [R, J] float32 distance along the cortex to each of the J items of the joint batch, inf = out of
            reach; no column if the objective did not ask.
        apart_mm: [R] float32 distance to the item that the sampler drew as this one's partner.
    """

    label: Tensor = None  # type: ignore[assignment]
    together: Tensor = None  # type: ignore[assignment]
    item: Tensor = None  # type: ignore[assignment]
    part: Tensor = None  # type: ignore[assignment]
    place_mm: Tensor = None  # type: ignore[assignment]
    soft: Tensor = None  # type: ignore[assignment]
    seat: Tensor = None  # type: ignore[assignment]
    geodesic_mm: Tensor = None  # type: ignore[assignment]
    apart_mm: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        given = [value for value in (getattr(self, one.name) for one in fields(self)) if value is not None]
        if not given or len({len(value) for value in given}) != 1:
            raise ValueError(f"rows need values of one length, got {[len(value) for value in given]}")
        count, device = len(given[0]), given[0].device
        for name in ("label", "item", "part", "seat"):
            self._fill(name, torch.full((count,), -1, device=device))
        self._fill("together", torch.arange(count, device=device))
        self._fill("place_mm", torch.full((count, 3), torch.nan, device=device))
        self._fill("apart_mm", torch.full((count,), torch.nan, device=device))
        for name in ("soft", "geodesic_mm"):
            self._fill(name, torch.zeros(count, 0, device=device))

    def _fill(self, name: str, value: Tensor) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.label)

    def repeated(self, views: int) -> "Rows":
        """The same rows once for every view."""
        return self if views == 1 else self._each(lambda value: value.repeat(views, *[1] * (value.ndim - 1)))

    def at(self, kept: Tensor) -> "Rows":
        """These rows alone; `kept` [R] bool."""
        return self._each(lambda value: value[kept])

    def to(self, device: Any, **options: Any) -> "Rows":
        """On another device; Lightning calls this."""
        return self._each(lambda value: value.to(device, **options))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Rows":
        return Rows(**{one.name: change(getattr(self, one.name)) for one in fields(self)})
