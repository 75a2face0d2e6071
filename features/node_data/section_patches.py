"""Square patches of sections around nodes: upright, at any resolution, with the border masked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from features.augment import PatchAugment
from features.content import nodes_key
from features.locations import centres
from features.resample import sample_patches
from features.section_cache import SectionCache
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import NodeLocations
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack


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
            cache_mb: decoded pixels kept at most.
            augment: how patches are changed in pretraining.
        """

        formerly: ClassVar[tuple[str, ...]] = ("PatchSampler",)

        size_px: int = 48
        pixel_um: float = 100.0
        upright: bool = True
        values: Literal["density", "grey"] = "density"
        cache_mb: float = 256.0
        augment: PatchAugment.Config = field(default_factory=PatchAugment.Config)

        def __post_init__(self) -> None:
            if self.size_px < 4:
                raise SettingError(f"<size_px> must be at least 4, got {self.size_px}")
            if not self.pixel_um > 0 or not self.cache_mb > 0:
                raise SettingError("<pixel_um> and <cache_mb> must be above 0")

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
            }  # fmt: skip

    def __init__(self, config: Config, stack: SectionStack, locations: NodeLocations) -> None:
        self.config = config
        self.locations = locations
        self.stack = stack
        self._cache = SectionCache(stack, config.pixel_um, int(config.cache_mb * 1e6))
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

    def read(self, items: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Patches [B, size_px, size_px] of these nodes, background (0, or the grey of glass) outside the image.

        Raises:
            InputError: a node that is not observed, an unreadable section.
        """
        return self.read_masked(items)[0]

    def read_masked(self, items: Sequence[int] | NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The patches and where they lie inside the image, both [B, size_px, size_px]."""
        items = np.asarray(items, np.int64)
        where = self.locations
        unseen = items[~where.observed[items]]
        if len(unseen):
            raise InputError(f"node {unseen[0]} lies on no section; patches are read at observed nodes only")
        angle = where.normal_angle_deg[items] if self.config.upright else np.full(len(items), -90.0, np.float32)
        size = self.config.size_px
        out = np.empty((len(items), size, size), np.float32)
        inside = np.empty((len(items), size, size), np.bool_)
        sections = where.section[items]
        for index in np.unique(sections):
            here = np.flatnonzero(sections == index)
            row, column = where.row_px[items[here]], where.column_px[items[here]]
            self._section(int(index), row, column, angle[here], here, out, inside)
        return out, inside

    def _section(
        self, index: int, row: NDArray[Any], column: NDArray[Any], angle: NDArray[Any], places: NDArray[np.int64],
        out: NDArray[np.float32], inside: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        reduced = self._cache.section(index)
        # Centres of averaged pixels: full-resolution pixel p lies at (p - (f - 1) / 2) / f.
        y, x = (row - (reduced.factor - 1) / 2) / reduced.factor, (column - (reduced.factor - 1) / 2) / reduced.factor
        step = self.config.pixel_um / (reduced.section.pixel_um * reduced.factor)
        reach = int(np.ceil(self.config.size_px / 2 * step * np.sqrt(2))) + 2
        for group in reduced.groups(y, x, reach):
            window, top, left = reduced.window(y[group], x[group], reach)
            patches, within = sample_patches(
                window, y[group] - top, x[group] - left, np.radians(angle[group]), step, self.config.size_px,
                (-top, -left, *reduced.shape), reduced.background,
            )  # fmt: skip
            out[places[group]] = self._values(patches, reduced)
            inside[places[group]] = within

    def _values(self, grey: NDArray[np.float32], reduced: Any) -> NDArray[np.float32]:
        if self.config.values == "grey":
            return grey / reduced.full_scale
        np.maximum(grey, reduced.floor, out=grey)
        np.divide(grey, np.float32(reduced.background), out=grey)
        np.log(grey, out=grey)
        np.multiply(grey, np.float32(-1 / reduced.tissue_density), out=grey)
        return np.maximum(grey, 0, out=grey)
