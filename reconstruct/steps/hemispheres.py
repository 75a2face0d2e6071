"""Step: the two hemispheres are separated.

The mid-sagittal plane is where the brain's mirror image fits it best. White matter well to each side of it seeds the
hemispheres; between the seeds two fronts grow, deep voxels first, and meet: along the fissure where there is one,
midway between the two white surfaces where grey touches grey, in the middle of the neck where white matter crosses
(corpus callosum).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize

from meshgnn import config
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import HEMISPHERES, Hemisphere
from reconstruct import lattice
from reconstruct.distance import to_background
from reconstruct.records import Ribbon
from reconstruct.species import AS_SPECIES, BySpecies, settled


class SplitHemispheres:
    """Ribbon -> one Ribbon per hemisphere, cropped."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            sides: which hemispheres the volume holds; with "L" or "R" nothing is split.
            slab_mm: half width of the slab about the midline within which the border between the two is sought.
            find_midline: False takes x = 0.
        """

        sides: Literal["both", "L", "R"] = "both"
        slab_mm: BySpecies = AS_SPECIES
        find_midline: bool = True

        def build(self) -> "SplitHemispheres":
            return SplitHemispheres(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "hemispheres")

    def __call__(self, ribbon: Ribbon) -> tuple[Ribbon, ...]:
        if self.settings.sides != "both":
            return (_cropped(ribbon, ribbon.pial, ribbon.white, self.settings.sides),)
        plane = midline(ribbon, 3 / 8 * self.settings.slab_mm) if self.settings.find_midline else np.zeros(3)
        x = _across(ribbon, plane)
        sides = split(ribbon, x, self.settings.slab_mm)
        result = []
        for number, hemisphere in enumerate(HEMISPHERES, start=1):
            away = np.where(sides == number, -np.inf, ribbon.voxel_mm / 2).astype(np.float32)
            pial, white = np.maximum(ribbon.pial, away), np.maximum(ribbon.white, away)
            if (white < 0).sum() * ribbon.voxel_mm**3 < 0.2 * self.settings.slab_mm**3:
                raise SettingError(
                    f"hemisphere {hemisphere}: hardly any white matter on that side of the midline; "
                    "for one hemisphere alone set <hemispheres.sides> to L or R"
                )
            result.append(_cropped(ribbon, pial, white, hemisphere))
        return tuple(result)


def _across(ribbon: Ribbon, plane: NDArray[np.float64]) -> NDArray[np.float32]:
    """Signed distance-like x - (a + b y + c z) in mm of every voxel, negative on the left."""
    index = np.indices(ribbon.pial.shape, dtype=np.float32)
    a = ribbon.affine
    x, y, z = (a[k, 0] * index[0] + a[k, 1] * index[1] + a[k, 2] * index[2] + a[k, 3] for k in range(3))
    return (x - (plane[0] + plane[1] * y + plane[2] * z)).astype(np.float32)


def midline(ribbon: Ribbon, step_mm: float = 3.0) -> NDArray[np.float64]:
    """(a, b, c) of the plane x = a + b y + c z about which the tissue is most nearly its own mirror image."""
    block = max(1, round(step_mm / ribbon.voxel_mm))
    soft = ndimage.uniform_filter((ribbon.pial < 0).astype(np.float32), block)[::block, ::block, ::block]
    places = np.argwhere(soft > 0.05)
    if len(places) < 50:
        raise InputError("no tissue in the volume")
    values = soft[tuple(places.T)]
    points = ribbon.to_mm((places * block).astype(np.float64))
    middle = (points * values[:, None]).sum(0) / values.sum()

    def misfit(p: NDArray[np.float64]) -> float:
        normal = np.array([1.0, -p[1], -p[2]])
        offset = points @ normal - (p[0] + middle[0] - p[1] * middle[1] - p[2] * middle[2])
        mirrored = points - 2 * (offset / (normal @ normal))[:, None] * normal
        other = ndimage.map_coordinates(soft, (ribbon.to_voxels(mirrored) / block).T, order=1, cval=0.0)
        return float(((other - values) ** 2).mean())

    best = minimize(misfit, np.zeros(3), method="Nelder-Mead",
                    options={"initial_simplex": [[0, 0, 0], [4, 0, 0], [0, 0.1, 0], [0, 0, 0.1]], "xatol": 0.01,
                             "fatol": 1e-6, "maxiter": 150})  # fmt: skip
    b, c = best.x[1:]
    return np.array([best.x[0] + middle[0] - b * middle[1] - c * middle[2], b, c])


def split(ribbon: Ribbon, x: NDArray[np.float32], slab_mm: float) -> NDArray[np.uint8]:
    """Side [X, Y, Z] of every voxel: 1 left, 2 right (outside tissue too, where it means nothing)."""
    from skimage.segmentation import watershed

    side = np.where(x < 0, 1, 2).astype(np.uint8)
    white = ribbon.white < 0
    slab = np.abs(x) <= slab_mm
    where = np.argwhere(slab.any(axis=(1, 2))), np.argwhere(slab.any(axis=(0, 2))), np.argwhere(slab.any(axis=(0, 1)))
    box = tuple(slice(max(0, int(w[0, 0]) - 2), int(w[-1, 0]) + 3) for w in where)
    inside = white[box]
    # Height: deep white matter lowest, then outwards through grey matter.
    height = to_background(~inside) - to_background(inside)
    markers = np.zeros(height.shape, np.int32)
    seeds = inside & ~slab[box]
    markers[seeds] = side[box][seeds]
    numbers, count = ndimage.label(inside, lattice.structure())
    if count:  # white matter that lies wholly within the slab goes to the side it lies on
        seeded = np.zeros(count + 1, bool)
        seeded[np.unique(numbers[seeds])] = True
        loose = ~seeded
        loose[0] = False
        mean = ndimage.mean(x[box], numbers, np.arange(count + 1))
        markers = np.where(loose[numbers], np.where(mean[numbers] < 0, 1, 2), markers)
    tissue = ribbon.pial[box] < 0
    if not ((markers == 1).any() and (markers == 2).any()):
        return side
    grown = watershed(height, markers, mask=tissue)
    side[box] = np.where(grown > 0, grown, side[box]).astype(np.uint8)
    return side


def _cropped(ribbon: Ribbon, pial: NDArray[np.float32], white: NDArray[np.float32], hemisphere: Hemisphere) -> Ribbon:
    """The largest piece of tissue, cropped with a margin of four voxels."""
    numbers, count = ndimage.label(pial < 0, lattice.structure())
    if count == 0:
        raise InputError(f"hemisphere {hemisphere}: no tissue")
    if count > 1:
        keep = int(np.argmax(np.bincount(numbers.ravel())[1:])) + 1
        foreign = (numbers != keep) & (numbers > 0)
        pial = np.where(foreign, ribbon.voxel_mm / 2, pial).astype(np.float32)
        white = np.where(foreign, np.maximum(white, ribbon.voxel_mm / 2), white).astype(np.float32)
    box = ndimage.find_objects((pial < 0).astype(np.int8))[0]
    margin = 4
    grown = np.full([s.stop - s.start + 2 * margin for s in box], np.abs(pial).max(), np.float32)
    result = []
    source = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
    target = tuple(
        slice(a.start - (s.start - margin), a.start - (s.start - margin) + min(a.stop, n) - a.start)
        for s, a, n in zip(box, source, pial.shape)
    )
    for field in (pial, white):
        out = grown.copy()
        out[target] = field[source]
        result.append(out)
    affine = ribbon.affine.copy()
    affine[:3, 3] = ribbon.to_mm(np.array([s.start - margin for s in box], float))
    return Ribbon(pial=result[0], white=result[1], affine=affine, space=ribbon.space, hemisphere=hemisphere)
