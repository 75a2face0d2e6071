"""What all items read off sections share: which sections hold them, in which order, and what is wrong with some."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.augment import PatchAugment
from features.content import nodes_key
from features.damage import Damage, Policy
from features.section_cache import ReducedSection, SectionCache
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import NodeLocations
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack

_EMPTY = 0.05  # mean density, in units of grey matter, below which a patch shows no tissue


class SectionItems:
    """Reads patches [B, rows, columns] float32 of sections around located nodes; a `meshgnn.sockets.NodeData`.

    Args:
        stack: of sections.
        locations: where patches are centred.

    Raises:
        InputError: a node on a section that is not in the stack.
        SettingError: sections too coarse for such pixels.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            pixel_um: width of a patch pixel; sections are averaged down to it.
            cache_mb: decoded pixels kept at most.
            damaged: what is done about unreadable tiles, sections that are gone and patches that are not finite:
                refuse, or skip their nodes and count them. Grey levels are then those of the tiles that can be read.
            augment: how patches are changed in pretraining.
        """

        pixel_um: float = 100.0
        cache_mb: float = 256.0
        damaged: Policy = "refuse"
        augment: PatchAugment.Config = field(default_factory=PatchAugment.Config)

        def __post_init__(self) -> None:
            if not self.pixel_um > 0 or not self.cache_mb > 0:
                raise SettingError("<pixel_um> and <cache_mb> must be above 0")

        def check(self, stack: str, pixel_um: float) -> None:
            """Raises SettingError if a stack of this name whose coarsest pixels are `pixel_um` wide is too coarse."""
            if pixel_um > 1.5 * self.pixel_um:
                raise SettingError(
                    f"{stack}: sections of {pixel_um:g} um per px are too coarse for patches of {self.pixel_um:g}; set "
                    f"<pixel_um>={pixel_um:g} (and train an encoder for it)"
                )

        def files(self, brain: Brain) -> tuple[Path, ...]:
            """None beside the sections. Raises InputError when there are no sections."""
            brain.section_stack()
            return ()

    def __init__(self, base: Config, stack: SectionStack, locations: NodeLocations) -> None:
        self.locations = locations
        self.stack = stack
        self.damage = Damage()
        self._skips, self._pixel_um = base.damaged == "skip", base.pixel_um
        self._cache = SectionCache(stack, base.pixel_um, int(base.cache_mb * 1e6), self._skips)
        known = {section.index for section in stack}
        strange = sorted(set(np.unique(locations.section[locations.observed]).tolist()) - known)
        if strange:
            raise InputError(f"{stack.folder or 'stack'}: nodes lie on section {strange[0]}, which is not in the stack")
        base.check(str(stack.folder or "stack"), stack.coarsest_um)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Rows and columns of a patch."""

    @abstractmethod
    def _section(
        self, reduced: ReducedSection, items: NDArray[np.integer], here: NDArray[np.int64], out: NDArray[np.float32],
        inside: NDArray[np.bool_] | None,
    ) -> None:  # fmt: skip
        """Fill the patches `here` of `out`, whose nodes lie on this section, and say where they lie inside the image.

        Raises InputError for what cannot be read.
        """

    def _density(self, reduced: ReducedSection, mean: float) -> float:
        """Mean density, in units of grey matter, of a patch whose values have this mean."""
        return mean

    @property
    def observed(self) -> NDArray[np.bool_]:
        return self.locations.observed

    @property
    def groups(self) -> NDArray[np.int32]:
        """Numbers of the sections: patches of one section overlap, and share their stain."""
        return self.locations.section

    def key(self) -> str:
        return nodes_key(self.stack, self.locations)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of pixels decoded so far."""
        return self._cache.decoded_bytes

    def reading_order(self, items: NDArray[np.integer]) -> NDArray[np.int64]:
        """Places [B] of these items in the order in which each tile is decoded once: by section, and there by rows."""
        where, side = self.locations, 512 * self._pixel_um
        pixel_um = {section.index: section.pixel_um for section in self.stack}
        section = where.section[items]
        square = np.array([side / pixel_um[index] for index in section.tolist()])
        return np.lexsort((where.column_px[items] // square, where.row_px[items] // square, section))

    def read(self, items: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Patches [B, rows, columns] of these nodes, background (0, or the grey of glass) outside the image.

        Raises:
            InputError: a node that is not observed; an unreadable section, a patch that is not finite, unless these
                are skipped: then it is zeros, and counted in `damage`.
        """
        return self._read(items, None)[0]

    def read_checked(
        self, items: Sequence[int] | NDArray[np.integer], out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The patches, and which of them [B] could be read. `out` [B, rows, columns] becomes the patches, if given:
        memory that is used again costs nothing, and large patches take as long to get new memory as to be copied."""
        return self._read(items, None, out)

    def read_masked(self, items: Sequence[int] | NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The patches and where they lie inside the image, both [B, rows, columns]."""
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
                if not self._skips:
                    raise
                good[here] = False
                self._leave_out(items[here], index, str(error))
                out[here] = 0
                continue
            self._check(reduced, items, here, out, good)
        return out, good

    def _check(
        self, reduced: ReducedSection, items: NDArray[np.integer], here: NDArray[np.int64], out: NDArray[np.float32],
        good: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Find patches that are not finite and those without tissue."""
        section = reduced.section
        # Of whole numbers some tell; a value that is not finite may stand anywhere.
        every = max(1, min(self.shape) // 64) if reduced.whole_numbers and not self._cache.damaged else 1
        means = np.array([out[k, ::every, ::every].mean() for k in here.tolist()])
        bad = ~np.isfinite(means)
        if bad.any():
            why = self._cache.damaged.get(section.index, f"{section.path}: pixels that are not finite")
            if not self._skips:
                raise InputError(
                    f"section {section.index} ({section.path.name}): the patch of node {items[here[bad][0]]} is not "
                    "finite; mend the image, mark the section as not usable, or set damaged=skip"
                )
            good[here[bad]] = False
            out[here[bad]] = 0
            self._leave_out(items[here[bad]], section.index, why)
        bare = ~bad & (np.array([self._density(reduced, mean) for mean in means.tolist()]) < _EMPTY)
        for item in items[here[bare]].tolist() if bare.any() else ():
            self.damage.empty(item, self._name(section.index))

    def _leave_out(self, items: NDArray[np.integer], index: int, why: str) -> None:
        for item in items.tolist():
            self.damage.add(item, self._name(index), why)

    def _name(self, index: int) -> str:
        return f"{index} ({self.stack.at(index).path.name})"
