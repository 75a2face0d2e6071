"""Patches of fields in which single cells are seen: upright, of any height and width. F fields, F x across items."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.augment import PatchAugment
from features.content import image_key
from features.damage import Damage, Policy
from features.fields import Fields
from features.section_cache import ReducedSection, SectionCache
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.sockets import Brain
from meshgnn.store import content_hash

_OFF = 0.05  # share by which pixels may miss a whole multiple


class FieldPatches:
    """Reads patches [B, rows, columns] float32 of fields; a `meshgnn.sockets.NodeData` without nodes.

    A patch's middle row lies in the middle of the cortex, halfway between pial and white, as patches of nodes are
    centred on the midsurface; its rows run down from the pial side. What lies beyond the field (glass, the field beside
    it in the same image) is background. Values are those of `SectionPatches`. Item k x across + j is patch j of
    field k.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            size_px: rows (depth of the cortex) and columns of a patch.
            pixel_um: width of a patch pixel: that of the images, or a whole multiple, over which is averaged.
            across: patches of each field, evenly along the cortex; of a field as wide as the patch, 1.
            values: density (optical density per section, 0 = glass, 1 = dark tissue) or grey (0 to 1).
            cache_mb: decoded pixels kept at most.
            damaged: what is done about unreadable images and patches that are not finite: refuse, or skip their fields
                and count them.
            augment: how patches are changed in pretraining. Turned far, a high patch would leave its field.
        """

        size_px: tuple[int, int] = (1280, 128)
        pixel_um: float = 2.0
        across: int = 1
        values: Literal["density", "grey"] = "density"
        cache_mb: float = 256.0
        damaged: Policy = "refuse"
        augment: PatchAugment.Config = field(default_factory=lambda: PatchAugment.Config(rotation_deg=2.0))

        def __post_init__(self) -> None:
            if min(self.size_px) < 4 or self.across < 1:
                raise SettingError("<size_px> must be at least 4 rows and columns, <across> at least 1")
            if not self.pixel_um > 0 or not self.cache_mb > 0:
                raise SettingError("<pixel_um> and <cache_mb> must be above 0")

        def build(self, fields: Fields | Brain) -> "FieldPatches":
            """Raises InputError for images of pixels that are no whole part of `pixel_um`, and for anything that is
            not a folder of fields."""
            if not isinstance(fields, Fields):
                raise InputError("FieldPatches reads folders of fields; name them with fields=DIR,...")
            return FieldPatches(self, fields)

        def of_items(self, values: NDArray[Any]) -> NDArray[Any]:
            """[F x across, ...] what the patches have, from values [F, ...] of their fields."""
            return np.repeat(values, self.across, axis=0)

        def files(self, _: Any) -> tuple[Path, ...]:
            """None beside the images."""
            return ()

        def item_format(self) -> dict[str, Any]:
            """What a patch looks like; an encoder fits patches of the same look only."""
            return {"fields": True, "size_px": list(self.size_px), "pixel_um": self.pixel_um, "values": self.values}

    def __init__(self, config: Config, fields: Fields) -> None:
        self.config, self.fields, self.damage = config, fields, Damage()
        for section in fields.stack:
            times = config.pixel_um / section.pixel_um
            if round(times) < 1 or abs(times - round(times)) > _OFF * times:
                raise SettingError(
                    f"{fields.stack.folder}: images of {section.pixel_um:g} um per px do not make patches of "
                    f"{config.pixel_um:g}; set <pixel_um> to {section.pixel_um:g} or a whole multiple of it"
                )
        self._cache = SectionCache(fields.stack, config.pixel_um, int(config.cache_mb * 1e6), config.damaged == "skip")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.config.size_px

    @property
    def groups(self) -> NDArray[np.int32]:
        """[N] sections."""
        return self.config.of_items(self.fields.section)

    @property
    def observed(self) -> NDArray[np.bool_]:
        return np.ones(len(self.fields) * self.config.across, bool)

    def key(self) -> str:
        one, digest = self.fields, sha256()
        for values in (one.section, one.box, one.row_px, one.column_px, one.places_mm, one.sides):
            digest.update(np.ascontiguousarray(values).tobytes())
        used = set(one.section.tolist())
        images = [(s.index, image_key(s.path), s.pixel_um, s.mirrored, s.stain) for s in one.stack if s.index in used]
        return content_hash(images, digest.hexdigest(), self.config.across)

    def read(self, items: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Patches [B, rows, columns]. Raises InputError for an unreadable image or a patch that is not finite, unless
        these are skipped: then it is zeros, and counted in `damage`."""
        return self.read_checked(items)[0]

    def read_checked(self, items: Sequence[int] | NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The patches, and which of them [B] could be read."""
        items = np.asarray(items, np.int64)
        out, good = np.empty((len(items), *self.shape), np.float32), np.ones(len(items), bool)
        for k, item in enumerate(items.tolist()):
            section = self.fields.stack.at(int(self.fields.section[item // self.config.across]))
            name = f"{section.index} ({section.path.name})"
            try:
                self._patch(item, out[k])
                if not np.isfinite(out[k].sum()):
                    raise InputError(f"section {name}: the patch of field {item} is not finite; mend the image")
            except InputError as error:
                if self.config.damaged == "refuse":
                    raise
                self.damage.add(item, name, str(error))
                out[k], good[k] = 0, False
        return out, good

    def _patch(self, item: int, out: NDArray[np.float32]) -> None:
        number, place = divmod(item, self.config.across)
        reduced = self._cache.section(int(self.fields.section[number]))
        times, (tall, wide) = reduced.factor, self.config.size_px
        first, last = self.fields.box[number, ::2], self.fields.box[number, 1::2]  # averaged pixels wholly within
        (top, left), (bottom, right) = (-(-first // times)).tolist(), (last // times).tolist()
        spare = max(0, right - left - wide)
        middle = self.fields.column_px[number] / times
        if self.config.across > 1:
            middle = left + (wide - 1) / 2 + spare * place / (self.config.across - 1)
        row, column = round(self.fields.row_px[number] / times - (tall - 1) / 2), round(middle - (wide - 1) / 2)
        out.fill(reduced.background)
        r0, r1 = max(top, row, 0), min(bottom, row + tall, reduced.shape[0])
        c0, c1 = max(left, column, 0), min(right, column + wide, reduced.shape[1])
        if r0 < r1 and c0 < c1:
            for (north, south, west, east), pixels in reduced.pieces(r0, r1, c0, c1):
                a, b, c, d = max(north, r0), min(south, r1), max(west, c0), min(east, c1)
                out[a - row : b - row, c - column : d - column] = pixels[a - north : b - north, c - west : d - west]
        self._values(out, reduced)

    def _values(self, grey: NDArray[np.float32], reduced: ReducedSection) -> None:
        if self.config.values == "grey":
            np.multiply(grey, np.float32(1 / reduced.full_scale), out=grey)
            return
        np.maximum(grey, np.float32(reduced.floor), out=grey)
        np.log(grey / np.float32(reduced.background), out=grey)
        np.maximum(grey * np.float32(-1 / reduced.tissue_density), 0, out=grey)


def of_fields(config: Any) -> FieldPatches.Config:
    """The config of patches that reads folders of fields. Raises SettingError for patches of nodes."""
    if not isinstance(config, FieldPatches.Config):
        raise SettingError("<data>: folders of fields are read by FieldPatches; set <data>=FieldPatches")
    return config
