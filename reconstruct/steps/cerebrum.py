"""Step: of all tissue the cerebrum is kept, its inside as white matter.

Sections and maps of a brain hold more than cortex with white matter below: ventricles and deep nuclei inside,
cerebellum and brain stem below. The first count as white matter, the second are cut off: where a template of the human
brain says that they are there, by planes and places that the user names, and where a mask says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError, SettingError
from reconstruct import parts, template
from reconstruct.probability import reading
from reconstruct.records import Ribbon
from reconstruct.species import AS_SPECIES, BySpecies, settled


class KeepCerebrum:
    """Ribbon -> Ribbon of the cerebrum."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            passage_mm: background behind passages narrower than this is inside (ventricles).
            ventricle_mm3: smaller pieces of such background are pockets of sulci and stay outside.
            deep_mm: grey matter further than this from the outside is no cortex.
            find: how cerebellum and brain stem are found: "template" fits the MNI152 average (None with both
                hemispheres of a human brain), "none" looks for nothing (None otherwise). Places in `other_mm` go first.
            other_mm: places (x, y, z, x, y, z, ...) in tissue that is not cerebrum: it is cut off where the way to the
                cerebrum is narrowest.
            apart_mm: white matter further than this from all such places is cerebrum for certain.
            planes: what lies beyond is cut off: six numbers each, a point and the direction of what goes (mm, RAS).
            mask: NIfTI image in the result's space; tissue where it is not 0 is left out.
        """

        passage_mm: BySpecies = AS_SPECIES
        ventricle_mm3: BySpecies = AS_SPECIES
        deep_mm: BySpecies = AS_SPECIES
        find: Literal["template", "none"] | None = None
        other_mm: tuple[float, ...] = ()
        apart_mm: BySpecies = AS_SPECIES
        planes: tuple[float, ...] = ()
        mask: Path | None = None

        def __post_init__(self) -> None:
            if len(self.other_mm) % 3:
                raise SettingError(f"<other_mm> needs three numbers per place, got {len(self.other_mm)} numbers")
            if len(self.planes) % 6:
                raise SettingError(f"<planes> needs six numbers per plane (point, direction), got {len(self.planes)}")
            for k in range(3, len(self.planes), 6):
                if not any(self.planes[k : k + 3]):
                    raise SettingError("<planes>: a plane's direction must not be 0,0,0")

        def build(self) -> "KeepCerebrum":
            return KeepCerebrum(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "cerebrum")

    def __call__(self, ribbon: Ribbon, other_mm: Sequence[float] = ()) -> Ribbon:
        """`other_mm`: places that the source names, with those of the settings.

        Raises:
            InputError: a place without tissue, a mask that is missing, unreadable or leaves nothing.
        """
        set_ = self.settings
        found = parts.filled(ribbon, set_.passage_mm, set_.ventricle_mm3, set_.deep_mm)
        for k in range(0, len(set_.planes), 6):
            point, direction = (np.array(set_.planes[k + j : k + j + 3]) for j in (0, 3))
            index = np.indices(found.pial.shape, dtype=np.float32)
            slope, start = direction @ found.affine[:3, :3], direction @ (found.affine[:3, 3] - point)
            found = parts.less(found, np.tensordot(slope, index, 1) + start > 0)
        if set_.mask is not None:
            found = parts.less(found, self._mask(found, set_.mask))
        places = np.reshape(np.array([*other_mm, *set_.other_mm], np.float64), (-1, 3))
        if len(places):
            found = parts.severed(found, *parts.around(found, places, set_.apart_mm))
        elif set_.find == "template":
            other, own, _ = template.not_cerebrum(found)
            found = parts.severed(found, other, own)
        if not (found.pial < 0).any():
            raise InputError("nothing is left of the tissue; check cerebrum.planes and cerebrum.mask")
        return found

    def _mask(self, ribbon: Ribbon, path: Path) -> np.ndarray:
        import nibabel

        with reading(path):
            image = nibabel.load(path)
            data = np.asarray(image.get_fdata(dtype=np.float32))  # type: ignore[attr-defined]
        if data.ndim != 3:
            raise InputError(f"{path}: needs a 3D mask, has shape {data.shape}")
        chain = np.linalg.inv(image.affine) @ ribbon.affine  # type: ignore[attr-defined]
        return ndimage.affine_transform(
            (data != 0).astype(np.uint8), chain[:3, :3], chain[:3, 3], output_shape=ribbon.pial.shape, order=0
        ).astype(bool)
