"""Patches of sections straightened between the ends of the cortex: rows are depth, columns lie along the cortex."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.augment import PatchAugment
from features.cortical_ends import REACH, EndLevels, between_ends, seen_ends, smoothed
from features.cortical_lines import cortical_lines
from features.locations import on_midsurface
from features.node_data.section_items import SectionItems
from features.resample import values_at
from features.section_cache import ReducedSection, SectionCache
from meshgnn.errors import SettingError
from meshgnn.graph import NodeLocations
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack
from meshgnn.store import content_hash

Floats = NDArray[np.floating]
_DEPTHS = 32  # samples across the cortex among which its ends are looked for
_BEYOND = round(REACH * _DEPTHS)
_GRID = (np.arange(-_BEYOND, _DEPTHS + _BEYOND) + 0.5) / _DEPTHS
_ALONG = 0.15  # share of the median length of lines along which is averaged before ends are looked for
_NODES = 400  # of a section, at most, that its levels are measured at
_GLASS = 0.15  # share of the upper quartile of density below which a sample is no tissue


class CorticalPatches(SectionItems):
    """Reads patches [B, rows, columns] float32 of the cortex around located nodes; a `meshgnn.sockets.NodeData`.

    Every column is a line across the cortex, parallel to the node's normal as it runs within the section, read at equal
    shares of the way between the two ends that the section itself shows there (`features.cortical_ends`). So a row
    is the same depth in every column and at every node, wherever the mesh's surfaces lie, however thick the cortex
    is and however obliquely it is cut. Values are optical density, -log(grey / background), in units of the median
    of the section's cortex.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SectionItems.Config):
        """
        Args:
            size_px: rows (depth) and columns (along the cortex) of a patch; one number is both.
            beyond: how much further columns go on either side, as a share of the cortex: glass, and white matter.
            ends: where columns begin and end: where the section shows glass and white matter near the mesh's surfaces,
                or at these surfaces.
            max_obliqueness_deg: nodes cut more slantingly than this are not observed.
        """

        size_px: tuple[int, ...] = (32, 32)
        beyond: float = 0.12
        ends: Literal["seen", "mesh"] = "seen"
        max_obliqueness_deg: float = 60.0
        augment: PatchAugment.Config = field(
            default_factory=lambda: PatchAugment.Config(rotation_deg=4.0, scale=0.04, shift=0.03)
        )

        def __post_init__(self) -> None:
            if len(self.size_px) == 1:
                object.__setattr__(self, "size_px", self.size_px * 2)
            if len(self.size_px) != 2 or min(self.size_px) < 4:
                raise SettingError(f"<size_px> must be at least 4 rows and columns, got {self.size_px}")
            super().__post_init__()
            if not 0 <= self.beyond <= REACH:
                raise SettingError(f"<beyond> must lie in [0, {REACH}]")
            if not 0 < self.max_obliqueness_deg < 85:
                raise SettingError("<max_obliqueness_deg> must lie between 0 and 85")

        def build(self, brain: Brain) -> "CorticalPatches":
            """Patches of the nodes in cortex that are not cut too slantingly.

            Raises:
                InputError: a brain without sections or thickness, sections too coarse, a node on a section that is not
                    there.
            """
            stack = brain.section_stack()
            lines = cortical_lines(brain.graph, stack, self.max_obliqueness_deg)
            where = on_midsurface(lines.locations, lines.shift_mm, stack)
            clear = replace(where, observed=lines.clear)
            return CorticalPatches(self, stack, clear, lines.length_mm)

        def item_format(self) -> dict[str, Any]:
            """What a patch looks like; an encoder fits patches of the same look only."""
            return {
                "straightened": True, "size_px": list(self.size_px), "pixel_um": self.pixel_um, "beyond": self.beyond,
                "ends": self.ends,
            }  # fmt: skip

    def __init__(self, config: Config, stack: SectionStack, locations: NodeLocations, length_mm: Floats) -> None:
        """
        Args:
            locations: of the middles of the nodes' lines.
            length_mm: [V] of the lines, by the mesh.
        """
        super().__init__(config, stack, locations)
        self.config, self.length_mm = config, length_mm
        # Ends need no more than a few samples across the cortex, averaged over what lies between them.
        self._median_um = 1000 * float(np.median(length_mm[locations.observed])) if locations.observed.any() else 1e3
        self._ends_um = max(config.pixel_um, self._median_um / _DEPTHS)
        own = self._ends_um > 1.5 * config.pixel_um
        self._coarse = SectionCache(stack, self._ends_um, self._cache.budget, self._skips) if own else self._cache
        self._levels: dict[int, _Level] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return self.config.size_px

    def key(self) -> str:
        return content_hash(super().key(), sha256(np.ascontiguousarray(self.length_mm).tobytes()).hexdigest())

    def _section(
        self, reduced: ReducedSection, items: NDArray[np.integer], here: NDArray[np.int64], out: NDArray[np.float32],
        inside: NDArray[np.bool_] | None,
    ) -> None:  # fmt: skip
        c, nodes, level = self.config, np.asarray(items[here], np.int64), self._level(reduced.section.index)
        rows, columns = c.size_px
        share = ((np.arange(rows) + 0.5) / rows * (1 + 2 * c.beyond) - c.beyond)[:, None]
        aside_um = _even(columns) * c.pixel_um
        depth = np.broadcast_to(share, (len(nodes), rows, columns))
        if level.ends is not None:
            smooth = self._smooth(self._across(reduced.section.index, nodes) / level.by_mesh)
            pial, white = (_along(one, self._lines_um, aside_um) for one in seen_ends(smooth, _GRID, level.ends))
            depth = pial[:, None] + share * (white - pial)[:, None]
        density, within = self._densities(reduced, nodes, depth, aside_um)
        out[here] = np.maximum(density / np.float32(level.unit), 0)
        if inside is not None:
            inside[here] = within

    @cached_property
    def _lines_um(self) -> Floats:
        """[L] where along the cortex ends are looked for, from the node."""
        many = max(1, round(self.config.size_px[1] * self.config.pixel_um / self._ends_um))
        return _even(many) * self._ends_um

    def _across(self, index: int, nodes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Density [n, J, L] across the cortex of these nodes of a section, of samples that the file cannot give 0."""
        depth = np.broadcast_to(_GRID[:, None], (len(nodes), len(_GRID), len(self._lines_um)))
        found = self._densities(self._coarse.section(index), nodes, depth, self._lines_um)[0]
        return np.nan_to_num(found, copy=False, posinf=0, neginf=0)

    def _smooth(self, density: Floats) -> Floats:
        return smoothed(density, _GRID, 2 * round(_ALONG * self._median_um / self._ends_um / 2) + 1)

    def _level(self, index: int) -> "_Level":
        """Levels of a section, measured on first use at nodes spread over it."""
        if index not in self._levels:
            nodes = np.flatnonzero(self.observed & (self.locations.section == index))
            nodes = nodes[np.linspace(0, len(nodes) - 1, min(_NODES, len(nodes))).astype(np.int64)]
            self._levels[index] = self._measured(self._across(index, nodes))
        return self._levels[index]

    def _measured(self, density: NDArray[np.float32]) -> "_Level":
        cortex = density[:, (_GRID > 0) & (_GRID < 1)]
        # The upper quartile is tissue even where most of the section is torn away.
        least = _GLASS * np.percentile(cortex, 75)
        if not (cortex > least).any():
            return _Level(by_mesh=1.0, unit=1.0, ends=None)
        unit = float(np.median(cortex[cortex > least]))
        if self.config.ends == "mesh":
            return _Level(by_mesh=unit, unit=unit, ends=None)
        smooth = self._smooth(density / unit)
        levels = EndLevels.of(smooth, _GRID)
        seen = between_ends(density, _GRID, *seen_ends(smooth, _GRID, levels), _DEPTHS)
        seen = seen[seen > least]
        return _Level(by_mesh=unit, unit=float(np.median(seen)) if len(seen) else unit, ends=levels)

    def _densities(
        self, reduced: ReducedSection, nodes: NDArray[np.int64], depth: Floats, aside_um: Floats
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Optical density [n, R, C] at depths [n, R, C] of lines [C] aside, and where these lie inside the image."""
        where, pixel_um = self.locations, reduced.section.pixel_um * reduced.factor
        # Centres of averaged pixels: full-resolution pixel p lies at (p - (f - 1) / 2) / f.
        y, x = (
            (values[nodes].astype(np.float64) - (reduced.factor - 1) / 2) / reduced.factor
            for values in (where.row_px, where.column_px)
        )
        out = self.length_mm[nodes][:, None, None] * (0.5 - depth) * (1000 / pixel_um)
        aside = aside_um / pixel_um
        angle = np.radians(where.normal_angle_deg[nodes].astype(np.float64))[:, None, None]
        row = y[:, None, None] + out * np.sin(angle) + aside * np.cos(angle)
        column = x[:, None, None] + out * np.cos(angle) - aside * np.sin(angle)
        grey = np.empty(depth.shape, np.float32)
        reach = int(np.ceil(np.hypot(np.abs(out).max(initial=0), np.abs(aside).max()))) + 2
        for group in reduced.groups(y, x, reach):
            window, top, left = reduced.window(y[group], x[group], reach)
            part = np.empty((len(group), *depth.shape[1:]), np.float32)
            values_at(
                np.ascontiguousarray(window), row[group].ravel() - top, column[group].ravel() - left,
                (-top, -left, *reduced.shape), np.float32(reduced.background), part.reshape(-1),
            )  # fmt: skip
            grey[group] = part
        tall, wide = reduced.shape
        inside = (row >= -0.5) & (row <= tall - 0.5) & (column >= -0.5) & (column <= wide - 0.5)
        np.maximum(grey, np.float32(reduced.floor), out=grey)  # what is not a number stays so
        return -np.log(grey / np.float32(reduced.background)), inside


@dataclass(frozen=True, slots=True)
class _Level:
    """Densities of a section: the median of its cortex between the mesh's surfaces and between its ends; these
    ends, or None where the mesh's count."""

    by_mesh: float
    unit: float
    ends: EndLevels | None


def _even(count: int) -> Floats:
    """[count] places one apart around 0."""
    return np.arange(count) - (count - 1) / 2


def _along(ends: Floats, have_um: Floats, want_um: Floats) -> Floats:
    """[n, C] depths of ends at the wanted places along the cortex, from those [n, L] of lines."""
    if len(have_um) == 1:
        return np.repeat(ends, len(want_um), axis=1)
    place = np.clip((want_um - have_um[0]) / (have_um[1] - have_um[0]), 0, len(have_um) - 1)
    first = np.minimum(place.astype(np.int64), len(have_um) - 2)
    return np.asarray(ends[:, first] + (place - first) * (ends[:, first + 1] - ends[:, first]))
