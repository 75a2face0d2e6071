"""Square patches of sections around nodes: upright, at any resolution, with the border masked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.augment import PatchAugment
from features.content import nodes_key
from features.damage import Damage, Policy
from features.locations import centres
from features.resample import corner_of, cut, densities, looked_up, sample_patches, shifted
from features.section_cache import ReducedSection, SectionCache
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import NodeLocations
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack

_EMPTY = 0.05  # mean density, in units of grey matter, below which a patch shows no tissue
_CHUNK = 1 << 15  # pixels that are made densities at a time, to stay in the processor's cache


class SectionPatches:
    """Reads patches [B, size_px, size_px] float32 around located nodes; a `meshgnn.sockets.NodeData`.

    Values are optical density, -log(grey / background), in units of the section's grey matter (Lambert-Beer:
    differences of staining strength become a factor, which the unit takes out), or plain grey.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            size_px: side of a patch.
            pixel_um: width of a patch pixel; sections are averaged down and interpolated to it.
            upright: turn patches so that the cortical normal (towards pial) points to the first row; otherwise they
                lie as the section does.
            values: density (optical density per section, 0 = glass, 1 = grey matter) or grey (0 to 1 of
                the file's range; floats as they are).
            snap: cut patches that lie as the section does, at its own resolution, at the nearest whole pixel: half a
                pixel off at most, nothing interpolated.
            cache_mb: decoded pixels kept at most.
            damaged: what is done about unreadable tiles, sections that are gone and patches that are not finite:
                refuse, or skip their nodes and count them. Grey levels are then those of the tiles that can be read.
            augment: how patches are changed in pretraining.
        """

        formerly: ClassVar[tuple[str, ...]] = ("PatchSampler",)

        size_px: int = 48
        pixel_um: float = 100.0
        upright: bool = True
        values: Literal["density", "grey"] = "density"
        snap: bool = False
        cache_mb: float = 256.0
        damaged: Policy = "refuse"
        augment: PatchAugment.Config = field(default_factory=PatchAugment.Config)

        def __post_init__(self) -> None:
            if self.size_px < 4:
                raise SettingError(f"<size_px> must be at least 4, got {self.size_px}")
            if not self.pixel_um > 0 or not self.cache_mb > 0:
                raise SettingError("<pixel_um> and <cache_mb> must be above 0")
            if self.snap and self.upright:
                raise SettingError("<snap> is for patches that lie as the section does; set <upright>=false")

        def check(self, stack: str, pixel_um: float) -> None:
            """Raises SettingError if a stack of this name whose coarsest pixels are `pixel_um` wide is too coarse."""
            if pixel_um > 1.5 * self.pixel_um:
                raise SettingError(
                    f"{stack}: sections of {pixel_um:g} um per px are too coarse for patches of {self.pixel_um:g}; set "
                    f"<pixel_um>={pixel_um:g} (and train an encoder for it)"
                )

        def build(self, brain: Brain) -> "SectionPatches":
            """Patches where each node's section meets the midsurface (`features.locations.centres`).

            Raises:
                InputError: a brain without sections, sections too coarse, a node on a section that is not there.
            """
            stack = brain.section_stack()
            return SectionPatches(self, stack, centres(brain.graph, stack))

        def files(self, brain: Brain) -> tuple[Path, ...]:
            """None beside the sections. Raises InputError when there are no sections."""
            brain.section_stack()
            return ()

        def item_format(self) -> dict[str, Any]:
            """What a patch looks like; an encoder fits patches of the same look only."""
            return {
                "size_px": self.size_px, "pixel_um": self.pixel_um, "upright": self.upright, "values": self.values,
                **({"snap": True} if self.snap else {}),
            }  # fmt: skip

    def __init__(self, config: Config, stack: SectionStack, locations: NodeLocations) -> None:
        self.config = config
        self.locations = locations
        self.stack = stack
        self.damage = Damage()
        self._tables: dict[tuple[int, np.dtype[Any]], NDArray[np.float32]] = {}
        self._cache = SectionCache(stack, config.pixel_um, int(config.cache_mb * 1e6), config.damaged == "skip")
        known = {section.index for section in stack}
        strange = sorted(set(np.unique(locations.section[locations.observed]).tolist()) - known)
        if strange:
            raise InputError(f"{stack.folder or 'stack'}: nodes lie on section {strange[0]}, which is not in the stack")
        config.check(str(stack.folder or "stack"), stack.coarsest_um)

    @property
    def observed(self) -> NDArray[np.bool_]:
        return self.locations.observed

    @property
    def groups(self) -> NDArray[np.int32]:
        """Numbers of the sections: patches of one section overlap, and share their stain."""
        return self.locations.section

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.config.size_px, self.config.size_px)

    def key(self) -> str:
        return nodes_key(self.stack, self.locations)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of pixels decoded so far."""
        return self._cache.decoded_bytes

    def reading_order(self, items: NDArray[np.integer]) -> NDArray[np.int64]:
        """Places [B] of these items in the order in which each tile is decoded once: by section, and there by rows."""
        where, side = self.locations, 512 * self.config.pixel_um
        pixel_um = {section.index: section.pixel_um for section in self.stack}
        section = where.section[items]
        square = np.array([side / pixel_um[index] for index in section.tolist()])
        return np.lexsort((where.column_px[items] // square, where.row_px[items] // square, section))

    def read(self, items: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Patches [B, size_px, size_px] of these nodes, background (0, or the grey of glass) outside the image.

        Raises:
            InputError: a node that is not observed; an unreadable section, a patch that is not finite, unless these
                are skipped: then it is zeros, and counted in `damage`.
        """
        return self._read(items, None)[0]

    def read_checked(
        self, items: Sequence[int] | NDArray[np.integer], out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The patches, and which of them [B] could be read. `out` [B, size_px, size_px] becomes the patches, if given:
        memory that is used again costs nothing, and large patches take as long to get new memory as to be copied."""
        return self._read(items, None, out)

    def read_masked(self, items: Sequence[int] | NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The patches and where they lie inside the image, both [B, size_px, size_px]."""
        inside = np.empty((len(items), *self.shape), np.bool_)
        return self._read(items, inside)[0], inside

    def _read(
        self,
        items: Sequence[int] | NDArray[np.integer],
        inside: NDArray[np.bool_] | None,
        out: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        items = np.asarray(items, np.int64)
        where = self.locations
        unseen = items[~where.observed[items]]
        if len(unseen):
            raise InputError(f"node {unseen[0]} lies on no section; patches are read at observed nodes only")
        out = np.empty((len(items), *self.shape), np.float32) if out is None else out
        good = np.ones(len(items), bool)
        sections = where.section[items]
        for index in sorted(set(sections.tolist())):
            here = np.flatnonzero(sections == index)
            try:
                reduced = self._cache.section(index)
                self._section(reduced, items, here, out, inside)
            except InputError as error:
                if self.config.damaged == "refuse":
                    raise
                good[here] = False
                self._leave_out(items[here], index, str(error))
                out[here] = 0
                continue
            self._check(reduced, items, here, out, good)
        return out, good

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

    def _check(
        self, reduced: ReducedSection, items: NDArray[np.integer], here: NDArray[np.int64], out: NDArray[np.float32],
        good: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Find patches that are not finite and those without tissue."""
        section = reduced.section
        # Of whole numbers some tell; a value that is not finite may stand anywhere.
        every = max(1, self.config.size_px // 64) if reduced.whole_numbers and not self._cache.damaged else 1
        means = np.array([out[k, ::every, ::every].mean() for k in here.tolist()])
        bad = ~np.isfinite(means)
        if bad.any():
            why = self._cache.damaged.get(section.index, f"{section.path}: pixels that are not finite")
            if self.config.damaged == "refuse":
                raise InputError(
                    f"section {section.index} ({section.path.name}): the patch of node {items[here[bad][0]]} is not "
                    "finite; mend the image, mark the section as not usable, or set damaged=skip"
                )
            good[here[bad]] = False
            out[here[bad]] = 0
            self._leave_out(items[here[bad]], section.index, why)
        if self.config.values == "grey":
            means = -np.log(np.maximum(means * reduced.full_scale, reduced.floor) / reduced.background)
            means /= reduced.tissue_density
        bare = ~bad & (means < _EMPTY)
        for item in items[here[bare]].tolist() if bare.any() else ():
            self.damage.empty(item, self._name(section.index))

    def _leave_out(self, items: NDArray[np.integer], index: int, why: str) -> None:
        for item in items.tolist():
            self.damage.add(item, self._name(index), why)

    def _name(self, index: int) -> str:
        return f"{index} ({self.stack.at(index).path.name})"
