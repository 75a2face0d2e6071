"""Step: where every node of a midsurface lies on which section."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn import config
from meshgnn.graph import NodeLocations
from meshgnn.source.sections import AXES, SectionStack
from reconstruct.records import Midsurface, SectionPlaces


class LocateNodes:
    """Midsurface + SectionPlaces -> NodeLocations."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            within_mm: a node is observed if a usable section lies this near; None = half the median section spacing
                and a tenth more, since positions are noted with an error.
            annotated_mm: a node this near to an annotated section lies on that one, though others may be nearer: of a
                series with a section every 20 um, hardly a node would carry a label otherwise.
        """

        within_mm: float | None = None
        annotated_mm: float = 0.5

        def build(self) -> "LocateNodes":
            return LocateNodes(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def __call__(
        self,
        midsurface: Midsurface,
        stack: SectionStack,
        places: SectionPlaces,
        annotated: Sequence[int] = (),
    ) -> NodeLocations:
        """`section` of the result is the number in the column `index` of the sections file.

        Args:
            annotated: numbers of the annotated sections.
        """
        column, row, along = AXES[stack.plane]
        points = midsurface.mesh.vertices_mm.astype(np.float64)
        normals = midsurface.normals.astype(np.float64)
        position = points @ along
        spacing = float(np.median(np.diff(places.position_mm)))
        within = self.settings.within_mm if self.settings.within_mm is not None else 0.55 * spacing
        place = _nearest(position, places.position_mm)
        near = np.abs(position - places.position_mm[place]) <= within + 1e-6
        drawn = np.flatnonzero(np.isin(places.index, annotated))
        if len(drawn):
            wanted = drawn[_nearest(position, places.position_mm[drawn])]
            preferred = np.abs(position - places.position_mm[wanted]) <= self.settings.annotated_mm
            place, near = np.where(preferred, wanted, place), near | preferred
        residual = np.abs(position - places.position_mm[place])
        plane = np.stack([points @ row, points @ column], axis=1)
        flat = np.stack([normals @ row, normals @ column], axis=1)
        pixels, turned = np.zeros_like(plane), np.zeros_like(flat)
        shape = np.zeros((len(points), 2))
        for k in np.unique(place):
            here = place == k
            pixels[here] = places.pixels(k, plane[here])
            turned[here] = places.pixels(k, plane[here] + 0.1 * flat[here]) - pixels[here]
            shape[here] = stack.at(int(places.index[k])).shape
        on_image = ((pixels >= 0) & (pixels <= shape - 1)).all(axis=1)
        observed = near & on_image
        return NodeLocations(
            section=np.where(observed, places.index[place], -1).astype(np.int32),
            row_px=pixels[:, 0],
            column_px=pixels[:, 1],
            normal_angle_deg=_angle(turned),
            obliqueness_deg=np.degrees(np.arcsin(np.clip(np.abs(normals @ along), 0, 1))).astype(np.float32),
            residual_mm=residual.astype(np.float32),
            observed=observed,
        )


def _nearest(position: NDArray[np.float64], sections: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places [V] of the nearest of ascending section positions."""
    return np.searchsorted((sections[1:] + sections[:-1]) / 2, position)


def _angle(direction: NDArray[np.float64]) -> NDArray[np.float32]:
    """Degrees from the column axis towards the row axis, of (row, column) directions [V, 2]."""
    return np.degrees(np.arctan2(direction[:, 0], direction[:, 1])).astype(np.float32)
