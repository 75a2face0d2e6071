"""Square patches of sections around nodes: upright, at any resolution, with the border masked."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.locations import centres
from features.node_data.section_items import SectionItems
from features.resample import corner_of, cut, densities, looked_up, sample_patches, shifted
from features.section_cache import ReducedSection
from meshgnn.errors import SettingError
from meshgnn.graph import NodeLocations
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack

_CHUNK = 1 << 15  # pixels that are made densities at a time, to stay in the processor's cache


class SectionPatches(SectionItems):
    """Reads patches [B, size_px, size_px] float32 around located nodes; a `meshgnn.sockets.NodeData`.

    Values are optical density, -log(grey / background), in units of the section's grey matter (Lambert-Beer:
    differences of staining strength become a factor, which the unit takes out), or plain grey.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SectionItems.Config):
        """
        Args:
            size_px: side of a patch.
            upright: turn patches so that the cortical normal (towards pial) points to the first row; otherwise they
                lie as the section does.
            values: density (optical density per section, 0 = glass, 1 = grey matter) or grey (0 to 1 of
                the file's range; floats as they are).
            snap: cut patches that lie as the section does, at its own resolution, at the nearest whole pixel: half a
                pixel off at most, nothing interpolated.
        """

        formerly: ClassVar[tuple[str, ...]] = ("PatchSampler",)

        size_px: int = 48
        upright: bool = True
        values: Literal["density", "grey"] = "density"
        snap: bool = False

        def __post_init__(self) -> None:
            if self.size_px < 4:
                raise SettingError(f"<size_px> must be at least 4, got {self.size_px}")
            super().__post_init__()
            if self.snap and self.upright:
                raise SettingError("<snap> is for patches that lie as the section does; set <upright>=false")

        def build(self, brain: Brain) -> "SectionPatches":
            """Patches where each node's section meets the midsurface (`features.locations.centres`).

            Raises:
                InputError: a brain without sections, sections too coarse, a node on a section that is not there.
            """
            stack = brain.section_stack()
            return SectionPatches(self, stack, centres(brain.graph, stack))

        def item_format(self) -> dict[str, Any]:
            """What a patch looks like; an encoder fits patches of the same look only."""
            return {
                "size_px": self.size_px, "pixel_um": self.pixel_um, "upright": self.upright, "values": self.values,
                **({"snap": True} if self.snap else {}),
            }  # fmt: skip

    def __init__(self, config: Config, stack: SectionStack, locations: NodeLocations) -> None:
        super().__init__(config, stack, locations)
        self.config = config
        self._tables: dict[tuple[int, np.dtype[Any]], NDArray[np.float32]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.config.size_px, self.config.size_px)

    def _section(
        self, reduced: ReducedSection, items: NDArray[np.integer], here: NDArray[np.int64], out: NDArray[np.float32],
        inside: NDArray[np.bool_] | None,
    ) -> None:  # fmt: skip
        where, size = self.locations, self.config.size_px
        row, column = (values[items[here]].astype(np.float64) for values in (where.row_px, where.column_px))
        # Centres of averaged pixels: full-resolution pixel p lies at (p - (f - 1) / 2) / f.
        y, x = (row - (reduced.factor - 1) / 2) / reduced.factor, (column - (reduced.factor - 1) / 2) / reduced.factor
        step = self.config.pixel_um / (reduced.section.pixel_um * reduced.factor)
        turned, native = self.config.upright, abs(step - 1) < 1e-9
        if self.config.snap and native:
            y, x = (np.floor(values - (size - 1) / 2 + 0.5) + (size - 1) / 2 for values in (y, x))
        angle = np.radians(where.normal_angle_deg[items[here]] if turned else np.full(len(here), -90.0, np.float32))
        reach = int(np.ceil(size / 2 * step * (np.sqrt(2) if turned else 1))) + 2
        for group in reduced.groups(y, x, reach):
            places = here[group]
            if not turned and native and all(self._lying(reduced, y[k], x[k], out[here[k]]) for k in group.tolist()):
                if inside is not None:
                    inside[places] = True
                continue
            square = (size / 2 * step, float(angle[group[0]])) if turned and len(group) == 1 else None
            window, top, left = reduced.window(y[group], x[group], reach, square)
            one = slice(int(places[0]), int(places[0]) + 1)
            patches = out[one] if len(group) == 1 else np.empty((len(group), size, size), np.float32)
            within = None if inside is None else np.empty(patches.shape, np.bool_)
            sample_patches(
                window, y[group] - top, x[group] - left, angle[group], step, (-top, -left, *reduced.shape),
                reduced.background, patches, within,
            )  # fmt: skip
            self._values(patches, reduced)
            if len(group) > 1:
                out[places] = patches
            if inside is not None:
                inside[places] = within

    def _lying(self, reduced: ReducedSection, y: float, x: float, out: NDArray[np.float32]) -> bool:
        """Fill a patch that lies as its section does, at the section's resolution; False if it leaves the image."""
        size = self.config.size_px
        (row, down), (column, across) = corner_of(y, size), corner_of(x, size)
        stored = reduced.whole_numbers and reduced.item_bytes <= 2 and reduced.step == 1 and not self._cache.damaged
        whole = down == across == 0 and (stored or self.config.values == "grey")
        side = size if whole else size + 1
        if min(row, column) < 0 or row + side > reduced.shape[0] or column + side > reduced.shape[1]:
            return False
        if not whole:
            window, top, left = reduced.window(np.array([y]), np.array([x]), side // 2 + 2)
            shifted(np.ascontiguousarray(window), row - top, column - left, down, across, out)
            self._values(out, reduced)
            return True
        grey, scale, bottom, right = self.config.values == "grey", 1 / reduced.full_scale, row + size, column + size
        for (first, last, west, east), pixels in reduced.pieces(row, bottom, column, right):
            r0, c0 = first if first > row else row, west if west > column else column
            tall, wide = (last if last < bottom else bottom) - r0, (east if east < right else right) - c0
            if not pixels.flags.c_contiguous:
                pixels = np.ascontiguousarray(pixels)
            if grey:
                cut(pixels, r0 - first, c0 - west, scale, out, r0 - row, c0 - column, tall, wide)
            elif pixels.dtype.kind == "u":
                table = self._table(reduced, pixels.dtype)
                looked_up(pixels, r0 - first, c0 - west, table, out, r0 - row, c0 - column, tall, wide)
            else:  # a tile that turned out to be damaged
                return self._lying(reduced, y, x, out)
        return True

    def _table(self, reduced: ReducedSection, kind: np.dtype[Any]) -> NDArray[np.float32]:
        """Density of every grey that a section's type holds."""
        key = (reduced.section.index, kind)
        if key not in self._tables:
            greys = np.arange(np.iinfo(kind).max + 1, dtype=np.float32)
            self._values(greys, reduced)
            self._tables[key] = greys
        return self._tables[key]

    def _values(self, grey: NDArray[np.float32], reduced: ReducedSection) -> None:
        """Turn grey into the wanted values, in place."""
        if self.config.values == "grey":
            np.multiply(grey, np.float32(1 / reduced.full_scale), out=grey)
            return
        flat = grey.reshape(-1)
        if reduced.whole_numbers and not self._cache.damaged:
            densities(flat, reduced.floor, reduced.background, reduced.tissue_density)
            return
        for first in range(0, len(flat), _CHUNK):
            part = flat[first : first + _CHUNK]
            np.maximum(part, np.float32(reduced.floor), out=part)  # what is not a number stays so
            np.divide(part, np.float32(reduced.background), out=part)
            np.log(part, out=part)
            np.multiply(part, np.float32(-1 / reduced.tissue_density), out=part)
            np.maximum(part, 0, out=part)

    def _density(self, reduced: ReducedSection, mean: float) -> float:
        if self.config.values == "density":
            return mean
        return float(
            -np.log(max(mean * reduced.full_scale, reduced.floor) / reduced.background) / reduced.tissue_density
        )
