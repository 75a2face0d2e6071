"""Grey and white matter in space, wherever they come from: what `reconstruct.cut` cuts sections through."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.source.gifti import read_surface
from reconstruct import voxelise
from reconstruct.probability import read_pair, reading
from reconstruct.sampling import sample
from reconstruct.sources import Mni152, StainedVolume, SurfacePair, VolumePair

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class TissueMaps:
    """Shares of grey and white matter on a grid.

    Args:
        grey, white: [X, Y, Z] float32 in 0..1. Of a `StainedVolume`: its stain (0..1), and zeros.
        affine: [4, 4] voxel -> mm (RAS).
        space: name of the coordinate space.
        surfaces: by hemisphere and kind (white, pial, midthickness) where the maps were drawn from surfaces, else
            empty.
        stained: True where `grey` is a stain and not a class.
    """

    grey: Floats
    white: Floats
    affine: NDArray[np.float64]
    space: str
    surfaces: dict[str, dict[str, SurfaceMesh]]
    stained: bool = False

    def at(self, points_mm: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Grey and white [N] at points [N, 3] (mm, RAS); 0 outside of the grid."""
        back = np.linalg.inv(self.affine)
        voxels = points_mm @ back[:3, :3].T + back[:3, 3]
        within = ((voxels >= -0.5) & (voxels <= np.array(self.grey.shape) - 0.5)).all(1)
        grey, white = (np.where(within, sample(field, voxels), 0.0) for field in (self.grey, self.white))
        return grey, white

    def extent_mm(self, least: float = 0.1) -> NDArray[np.float64]:
        """Lower and upper corner [2, 3] in mm (RAS) of all voxels with tissue above `least`."""
        where = np.argwhere(self.grey + self.white > least)
        if not len(where):
            raise InputError(f"{self.space}: no tissue in the maps; values from 0 to 1 are expected")
        corners = np.array([where.min(0) - 0.5, where.max(0) + 0.5])
        every = np.array(
            [[corners[i, 0], corners[j, 1], corners[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        )
        mm = every @ self.affine[:3, :3].T + self.affine[:3, 3]
        return np.array([mm.min(0), mm.max(0)])


Source = VolumePair.Config | Mni152.Config | SurfacePair.Config | StainedVolume.Config


def files_of(source: Source) -> list[Path]:
    """The files that `read_maps` reads; those that are not named are left out."""
    if isinstance(source, Mni152.Config):
        source = source.volumes()
    if isinstance(source, VolumePair.Config):
        return [path for path in (source.grey, source.white) if path is not None]
    if isinstance(source, StainedVolume.Config):
        return [source.path] if source.path is not None else []
    if source.folder is None:
        return []
    return sorted(path for kind in ("white", "pial") for path in source.folder.glob(f"*_hemi-[LR]_{kind}.surf.gii"))


def read_maps(source: Source) -> TissueMaps:
    """Grey and white matter of a source.

    Raises:
        InputError: a file is not named, missing, unreadable, on another grid than its partner, or empty.
    """
    if isinstance(source, Mni152.Config):
        source = source.volumes()
    if isinstance(source, StainedVolume.Config):
        return _stained(source)
    if isinstance(source, SurfacePair.Config):
        return _of_surfaces(source)
    grey, white, affine = read_pair(*source.files())
    return TissueMaps(grey=grey, white=white, affine=affine, space=source.space, surfaces={})


def _of_surfaces(source: SurfacePair.Config) -> TissueMaps:
    if source.folder is None:
        raise InputError("no surfaces given; add --set source.folder=DIR")
    if not source.folder.is_dir():
        raise InputError(f"{source.folder}: no such folder")
    surfaces: dict[str, dict[str, SurfaceMesh]] = {}
    for side in HEMISPHERES:
        kinds = {kind: sorted(source.folder.glob(f"*_hemi-{side}_{kind}.surf.gii")) for kind in ("white", "pial")}
        if not any(kinds.values()):
            continue
        for kind, found in kinds.items():
            if len(found) != 1:
                raise InputError(f"{source.folder}: {len(found)} files *_hemi-{side}_{kind}.surf.gii, one is needed")
        points, faces = zip(*(read_surface(kinds[kind][0]) for kind in ("white", "pial")))
        if points[0].shape != points[1].shape or not np.array_equal(faces[0], faces[1]):
            raise InputError(f"{kinds['pial'][0]}: not the triangles of {kinds['white'][0].name}")
        both = {"white": points[0], "pial": points[1], "midthickness": (points[0] + points[1]) / 2}
        surfaces[side] = {
            kind: SurfaceMesh(vertices_mm=place, faces=faces[0], hemisphere=side, space=source.space)
            for kind, place in both.items()
        }
    if not surfaces:
        raise InputError(f"{source.folder}: no *_hemi-L_white.surf.gii or *_hemi-R_white.surf.gii here")
    every = np.concatenate([own["pial"].vertices_mm for own in surfaces.values()]).astype(np.float64)
    step = source.voxel_mm
    low = every.min(0) - 4 * step
    size = np.ceil((every.max(0) + 4 * step - low) / step).astype(int)
    if np.prod(size.astype(float)) > 1e9:
        raise InputError(f"{source.folder}: voxels of {step:g} mm are too many; raise source.voxel_mm")
    shape = (int(size[0]), int(size[1]), int(size[2]))
    shares = {kind: np.zeros(shape, np.float32) for kind in ("pial", "white")}
    for own in surfaces.values():
        for kind, share in shares.items():
            mesh = own[kind]
            level = voxelise.signed_distance((mesh.vertices_mm - low) / step, mesh.faces, shape, 1.0)
            np.maximum(share, np.clip(0.5 - level, 0, 1), out=share)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low
    white = np.minimum(shares["white"], shares["pial"])
    return TissueMaps(
        grey=shares["pial"] - white, white=white, affine=affine, space=source.space, surfaces=surfaces
    )  # fmt: skip


def _stained(source: StainedVolume.Config) -> TissueMaps:
    import nibabel

    if source.path is None:
        raise InputError("no volume given; add --set source.path=FILE")
    with reading(source.path):
        image: Any = nibabel.load(source.path)
        data = np.asarray(image.get_fdata(dtype=np.float32))
    if data.ndim != 3 or not np.isfinite(data).all():
        raise InputError(f"{source.path}: needs a 3D volume of finite values, has shape {data.shape}")
    affine = np.asarray(image.affine, np.float64)
    if source.orientation:
        step = source.voxel_mm or float(np.linalg.norm(affine[:3, 0]))
        affine = np.eye(4)
        affine[:3, :3] = nibabel.orientations.inv_ornt_aff(
            nibabel.orientations.axcodes2ornt(tuple(source.orientation)), data.shape
        )[:3, :3]  # fmt: skip
        affine[:3, :3] *= step
    elif source.voxel_mm:
        affine[:3, :3] *= source.voxel_mm / np.linalg.norm(affine[:3, :3], axis=0)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(data.shape) - 1) / 2)
    floor, top = (float(value) for value in np.percentile(data, [1, 99.8]))
    if top <= floor:
        raise InputError(f"{source.path}: the volume is of one value; nothing can be cut")
    stain = np.clip((data - floor) / (top - floor), 0, 1.5).astype(np.float32)
    return TissueMaps(
        grey=stain, white=np.zeros_like(stain), affine=affine, space=source.space, surfaces={}, stained=True
    )  # fmt: skip
