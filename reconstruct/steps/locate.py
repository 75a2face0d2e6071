"""Step: where every node of a midsurface lies on which section."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn import config
from meshgnn.graph import NodeLocations
from meshgnn.source.sections import AXES, SectionStack
from reconstruct.records import Alignment, Midsurface, TissueStack


class LocateNodes:
    """Midsurface + Alignment -> NodeLocations."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            within_mm: a node is observed if a usable section lies this near; None = half the median section spacing
                and a tenth more, since positions are noted with an error.
        """

        within_mm: float | None = None

        def build(self) -> "LocateNodes":
            return LocateNodes(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def __call__(
        self, midsurface: Midsurface, stack: SectionStack, tissue: TissueStack, alignment: Alignment
    ) -> NodeLocations:
        """`section` of the result is the number in the column `index` of the sections file."""
        column, row, along = AXES[stack.plane]
        points = midsurface.mesh.vertices_mm.astype(np.float64)
        normals = midsurface.normals.astype(np.float64)
        position = points @ along
        middle = (tissue.position_mm[1:] + tissue.position_mm[:-1]) / 2
        place = np.searchsorted(middle, position)
        residual = np.abs(position - tissue.position_mm[place])
        plane = np.stack([points @ row, points @ column], axis=1)
        flat = np.stack([normals @ row, normals @ column], axis=1)
        pixels, turned = np.zeros_like(plane), np.zeros_like(flat)
        shape = np.zeros((len(points), 2))
        for k in np.unique(place):
            here = place == k
            pixels[here] = alignment.map(k, plane[here]) / tissue.image_px_mm[k]
            ahead = alignment.map(k, plane[here] + 0.1 * flat[here]) / tissue.image_px_mm[k]
            turned[here] = ahead - pixels[here]
            shape[here] = stack.at(int(tissue.index[k])).shape
        spacing = float(np.median(np.diff(tissue.position_mm)))
        within = self.settings.within_mm if self.settings.within_mm is not None else 0.55 * spacing
        on_image = ((pixels >= 0) & (pixels <= shape - 1)).all(axis=1)
        observed = (residual <= within + 1e-6) & on_image
        return NodeLocations(
            section=np.where(observed, tissue.index[place], -1).astype(np.int32),
            row_px=pixels[:, 0],
            column_px=pixels[:, 1],
            normal_angle_deg=_angle(turned),
            obliqueness_deg=np.degrees(np.arcsin(np.clip(np.abs(normals @ along), 0, 1))).astype(np.float32),
            residual_mm=residual.astype(np.float32),
            observed=observed,
        )


def _angle(direction: NDArray[np.float64]) -> NDArray[np.float32]:
    """Degrees from the column axis towards the row axis, of (row, column) directions [V, 2]."""
    return np.degrees(np.arctan2(direction[:, 0], direction[:, 1])).astype(np.float32)
