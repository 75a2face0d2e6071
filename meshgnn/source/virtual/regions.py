"""Regions of the cortex with a signal each, and the networks that they belong to.

Every named area is a region, the larger ones are several, the same in both hemispheres. Networks are made of whole
areas that lie near one another: each grows about an area of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.mesh.record import HEMISPHERES, frozen
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.fields import Floats
from meshgnn.source.virtual.head import Head
from meshgnn.source.virtual.planted import middle_layout, middle_mm, weights_near


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """
    Args:
        names: R of them: V1, or V1.1, V1.2, ... where an area holds several.
        area: [R] number of the named area.
        network: [R] number of the network.
        nodes_mm: of every region, [P, 3] nodes of both hemispheres' middle surface in mm of MNI152.
    """

    names: tuple[str, ...]
    area: NDArray[np.int64]
    network: NDArray[np.int64]
    nodes_mm: tuple[Floats, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", frozen(self.area, np.int64))
        object.__setattr__(self, "network", frozen(self.network, np.int64))
        object.__setattr__(self, "nodes_mm", tuple(frozen(nodes, np.float64) for nodes in self.nodes_mm))

    def __len__(self) -> int:
        return len(self.names)

    def areas_of(self, networks: Sequence[int]) -> tuple[str, ...]:
        """Names of the areas in these networks."""
        known = isocortical_areas().names
        return tuple(known[k] for k in dict.fromkeys(self.area[np.isin(self.network, networks)].tolist()))

    def maps(self, head: Head) -> NDArray[np.float32]:
        """[R, S, S, S] how much each region's signal is in a voxel, from 0 to 1; together no more than 1 anywhere."""
        found = np.stack([weights_near(head, nodes) for nodes in self.nodes_mm])
        return np.asarray(found / np.maximum(found.sum(0), 1), np.float32)

    @staticmethod
    def drawn(count: int, networks: int, seeds: Sequence[str]) -> "Regions":
        """
        Args:
            count: regions, at least one for every area.
            networks: how many.
            seeds: areas that the first networks grow about.

        Raises:
            InputError: fewer regions than areas.
        """
        names = isocortical_areas().names
        if count < len(names):
            raise InputError(f"{count} regions; there are {len(names)} areas, and each is one at least")
        nodes = [_nodes_of(area) for area in range(len(names))]
        parts = _shares([sum(map(len, sides)) for sides in nodes], count)
        middle = np.stack([sides[0].mean(0) for sides in nodes])
        network = _networks(middle, networks, [names.index(name) for name in seeds])
        titles, area, places = [], [], []
        for number, (sides, pieces) in enumerate(zip(nodes, parts)):
            for piece, own in enumerate(_cut(sides, pieces)):
                titles.append(names[number] if pieces == 1 else f"{names[number]}.{piece + 1}")
                area.append(number)
                places.append(own)
        return Regions(
            names=tuple(titles), area=np.array(area), network=network[np.array(area)], nodes_mm=tuple(places)
        )


def _nodes_of(area: int) -> list[Floats]:
    """Nodes of one area in each hemisphere."""
    found = []
    for side in HEMISPHERES:
        hemi, label = middle_layout(side)
        found.append(middle_mm(hemi)[hemi.cortex & (label == area)])
    return found


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many regions each area holds: one, and the others in turn to where a region is largest."""
    parts = [1] * len(sizes)
    for _ in range(count - len(sizes)):
        largest = max(range(len(sizes)), key=lambda k: sizes[k] / parts[k])
        parts[largest] += 1
    return parts


def _cut(sides: Sequence[Floats], pieces: int) -> list[Floats]:
    """The nodes [P, 3] of an area in pieces, each with its part in both hemispheres."""
    left, right = sides
    mirror = np.array([-1.0, 1.0, 1.0])
    chosen = [int(((left - left.mean(0)) ** 2).sum(1).argmax())]
    while len(chosen) < pieces:
        chosen.append(int(_squared(left, left[chosen]).min(1).argmax()))
    centres = left[chosen]
    own = [_squared(points, centre).argmin(1) for points, centre in ((left, centres), (right, centres * mirror))]
    return [np.concatenate([left[own[0] == k], right[own[1] == k]]) for k in range(pieces)]


def _networks(middle: Floats, count: int, seeds: Sequence[int]) -> NDArray[np.int64]:
    """[A] network of every area: about the seeds and then the areas farthest from them, all of about one size."""
    chosen = list(seeds)
    while len(chosen) < count:
        chosen.append(int(_squared(middle, middle[chosen]).min(1).argmax()))
    most = -(-len(middle) // count)
    network = np.full(len(middle), -1)
    network[chosen] = np.arange(count)
    away = _squared(middle, middle[chosen])
    for place in np.argsort(away, axis=None, kind="stable").tolist():
        area, own = divmod(place, count)
        if network[area] < 0 and (network == own).sum() < most:
            network[area] = own
    return network


def _squared(points: Floats, centres: Floats) -> Floats:
    """[P, C] squared distances."""
    return np.asarray(((points[:, None] - centres) ** 2).sum(-1))
