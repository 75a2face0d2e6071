"""Depth profiles: how dark the cortex is from pial to white, read off the section on which each node lies."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from features.cortical_ends import REACH, EndLevels, between_ends, seen_ends, smoothed
from features.cortical_lines import cortical_lines
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable, MeshGraph, NodeLocations
from meshgnn.progress import Progress
from meshgnn.sockets import Brain
from meshgnn.source.background import background_grey
from meshgnn.source.sections import Section, SectionStack, open_section

Floats = NDArray[np.float64]
BLOCK_PX = 2048
SUBSAMPLES = 8


class Windows(Protocol):
    """What is asked of an open section image; `SectionImage` is one."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def window(self, row: int, column: int, height: int, width: int, fill: float = 0) -> NDArray[Any]: ...

    def close(self) -> None: ...


class DepthProfiles:
    """Makes a table of staining intensity at equal steps of cortical depth.

    At every observed node a line is laid through the section along the cortical normal as it runs within the section,
    from pial to white; its length is the node's thickness over the cosine of the obliqueness. The line passes where
    the section meets the midsurface (`features.locations.along_surface_mm`). Parallel lines beside it are averaged.
    By default each of them runs between the ends that the section itself shows (`features.cortical_ends`).

    Grey values g become optical density log(background / g), in which stain differences are factors; the background
    is the median grey of the image's frame. Each section is then divided by its own median density over all samples in
    tissue, i.e. by its own cortex. Samples in glass (tears, beyond the surface) are left out; gaps are
    interpolated along depth.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            depths: columns, from pial (depth_00) to white.
            lines: parallel lines per node.
            apart_um: between neighbouring lines.
            ends: where lines begin and end: where the section shows glass and white matter near the mesh's surfaces, or
                at these surfaces.
            max_obliqueness_deg: nodes cut more slantingly than this are masked; it bounds the line's stretch.
            glass: a sample with less than this share of its section's upper quartile of density is no tissue.
            known: share of depths that must hold tissue, else the node is masked.
        """

        depths: int = 24
        lines: int = 9
        apart_um: float = 150.0
        ends: Literal["seen", "mesh"] = "seen"
        max_obliqueness_deg: float = 60.0
        glass: float = 0.15
        known: float = 0.67

        def __post_init__(self) -> None:
            if self.depths < 2 or self.lines < 1:
                raise SettingError("<depths> must be at least 2 and <lines> at least 1")
            if not self.apart_um >= 0:
                raise SettingError(f"<apart_um> must not be negative, got {self.apart_um}")
            if not 0 < self.max_obliqueness_deg < 85:
                raise SettingError("<max_obliqueness_deg> must lie between 0 and 85")
            if not 0 <= self.glass < 1 or not 0 < self.known <= 1:
                raise SettingError("<glass> must lie in [0, 1) and <known> in (0, 1]")

        def build(self) -> "DepthProfiles":
            return DepthProfiles(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        return {"maker": "DepthProfiles", **asdict(self.config)}

    def make(
        self, graph: MeshGraph, stack: SectionStack, open_image: Callable[[Section], Windows] = open_section
    ) -> FeatureTable:
        """Table `profiles`: [V, depths] density relative to the section's cortex; nodes not seen well are masked.

        Args:
            graph: with locations, and thickness: from its surfaces pial and white, or a column "thickness" (mm).
            stack: the sections that the locations name, in the graph's space.
            open_image: opens the image of a section.

        Raises:
            InputError: no locations, no thickness, another space, a section that is not in the stack, an image that is
                dark where there is no tissue.
        """
        lines = cortical_lines(graph, stack, self.config.max_obliqueness_deg)
        places, length, shift = lines.locations, lines.length_mm, lines.shift_mm
        values = np.zeros((graph.n_nodes, self.config.depths), np.float32)
        mask = np.zeros(graph.n_nodes, bool)
        for index in np.unique(places.section[lines.clear]):
            nodes = np.flatnonzero(lines.clear & (places.section == index))
            values[nodes], mask[nodes] = self._section(
                stack.at(int(index)), open_image, places, nodes, length[nodes], shift[nodes]
            )
        return FeatureTable(
            name="profiles",
            values=values,
            mask=mask,
            columns=tuple(f"depth_{k:02d}" for k in range(self.config.depths)),
            encoder=self.identity(),
        )

    def _section(
        self,
        section: Section,
        open_image: Callable[[Section], Windows],
        places: NodeLocations,
        nodes: NDArray[np.intp],
        length_mm: Floats,
        shift_mm: Floats,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Profiles [n, depths] of the nodes of one section, and which of them are known."""
        depth, row, column = self._points(section, places, nodes, length_mm, shift_mm)
        density = np.empty(row.shape, np.float32)
        image = open_image(section)
        try:
            glass = _background(image, section)
            block = np.stack([places.row_px[nodes] // BLOCK_PX, places.column_px[nodes] // BLOCK_PX], axis=1)
            for corner in np.unique(block, axis=0):
                part = (block == corner).all(1)
                density[part] = _sample(image, row[part], column[part], glass)
        finally:
            image.close()
        cortex = density[:, (depth > 0) & (depth < 1)]
        # The upper quartile is tissue even where most of the section is torn away.
        least = self.config.glass * np.percentile(cortex, 75)
        if not (cortex > least).any():
            return np.zeros((len(nodes), self.config.depths), np.float32), np.zeros(len(nodes), bool)
        unit = np.median(cortex[cortex > least])
        density, least = density / unit, least / unit
        if self.config.ends == "seen":
            smooth = smoothed(density, depth)
            ends = seen_ends(smooth, depth, EndLevels.of(smooth, depth))
            density = between_ends(density, depth, *ends, cortex.shape[1])
            inside = density[density > least]
            density /= np.median(inside) if len(inside) else 1
        samples = density.reshape(len(nodes), self.config.depths, -1, self.config.lines)
        tissue = samples > least
        count = tissue.sum(axis=(2, 3))
        profile = np.where(tissue, samples, 0).sum(axis=(2, 3)) / np.maximum(count, 1)
        good = count >= 0.25 * tissue[0, 0].size
        known = good.mean(1) >= self.config.known
        column_of = np.arange(self.config.depths)
        for k in np.flatnonzero(known & ~good.all(1)):
            profile[k] = np.interp(column_of, column_of[good[k]], profile[k, good[k]])
        return profile.astype(np.float32), known

    def _points(
        self, section: Section, places: NodeLocations, nodes: NDArray[np.intp], length_mm: Floats, shift_mm: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Depths [samples], rows and columns [n, samples, lines] to be read, so close that no pixel is stepped over.

        Depths are 0 at the mesh's pial surface and 1 at its white one.
        """
        set_, pixel_mm = self.config, section.pixel_um / 1000
        step = length_mm.max() / set_.depths / pixel_mm
        fine = int(np.clip(np.ceil(step), 1, SUBSAMPLES))
        within = set_.depths * fine
        beyond = round(REACH * within) if set_.ends == "seen" else 0
        depth = (np.arange(-beyond, within + beyond) + 0.5) / within
        out = ((length_mm[:, None] * (0.5 - depth) + shift_mm[:, None]) / pixel_mm)[..., None]
        side = (np.arange(set_.lines) - (set_.lines - 1) / 2) * set_.apart_um / section.pixel_um
        angle = np.radians(places.normal_angle_deg[nodes].astype(np.float64))[:, None, None]
        row = places.row_px[nodes][:, None, None] + out * np.sin(angle) + side * np.cos(angle)
        column = places.column_px[nodes][:, None, None] + out * np.cos(angle) - side * np.sin(angle)
        return depth, row, column


class ProfileFeatures:
    """Mean intensity profiles along the cortical normal as a `meshgnn.sockets.FeatureMaker`. Learns nothing."""

    @dataclass(frozen=True, kw_only=True)
    class Config(DepthProfiles.Config):
        def build(self) -> "ProfileFeatures":  # type: ignore[override]
            return ProfileFeatures(self)

    name = "profiles"

    def __init__(self, config: Config) -> None:
        self.profiles = DepthProfiles(config)

    def inputs(self, brain: Brain) -> Sequence[Path]:
        brain.section_stack()
        return []

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        return []

    def make(self, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
        """[V, depths]."""
        return self.profiles.make(brain.graph, brain.section_stack())


def _background(image: Windows, section: Section) -> float:
    """Grey value of the background: the median of the image's frame."""
    rows, columns = image.shape
    sides = [(0, 0, 1, columns), (rows - 1, 0, 1, columns), (0, 0, rows, 1), (0, columns - 1, rows, 1)]
    glass = background_grey([image.window(*side) for side in sides])
    if not glass > 0:
        raise InputError(f"{section.path}: the frame is black; dark tissue on bright glass is expected")
    return glass


def _sample(image: Windows, row: Floats, column: Floats, glass: float) -> NDArray[np.float32]:
    """Optical density at the points, linear between pixels; glass beyond the image."""
    top, left = int(np.floor(row.min())), int(np.floor(column.min()))
    height, width = int(np.floor(row.max())) + 2 - top, int(np.floor(column.max())) + 2 - left
    window = image.window(top, left, height, width, fill=round(glass)).astype(np.float32)
    density = -np.log(np.maximum(window, glass / 250) / np.float32(glass))
    return ndimage.map_coordinates(density, [row - top, column - left], order=1, mode="nearest").astype(np.float32)
