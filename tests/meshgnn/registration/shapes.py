"""Small hemispheres with folds, and warps of them that are known."""

import numpy as np

from meshgnn.mesh.record import SurfaceMesh
from meshgnn.registration import Registration, SphericalMap
from meshgnn.registration.icosphere import icosphere
from meshgnn.source.virtual.fields import SmoothField, flow_on_sphere

# Grids and folds as coarse as the meshes: a test takes a second.
SMALL = Registration.Config(scales_mm=(40.0, 20.0, 10.0), grids=(3, 3, 4), bending=(0.03, 0.03, 0.01), steps=30,
                            sphere=SphericalMap.Config(steps=30))  # fmt: skip
AXES_MM = np.array([45.0, 70.0, 50.0])


def height_mm(directions: np.ndarray, seed: int = 3) -> np.ndarray:
    """[V] height of the folds along unit vectors, mm."""
    wide = SmoothField.draw(np.random.default_rng(seed), scale_mm=0.30, sd=3.5)
    narrow = SmoothField.draw(np.random.default_rng(seed + 1), scale_mm=0.16, sd=1.2)
    return (wide.at(directions) + narrow.at(directions))[:, 0]


def surface(places: np.ndarray, height: np.ndarray | None = None) -> np.ndarray:
    """[V, 3] points of the one folded surface that lie in these directions, mm; or of one with other folds."""
    return places * AXES_MM + places * (height_mm(places) if height is None else height)[:, None]


def mesh(points: np.ndarray, level: int = 4, hemisphere: str = "L") -> SurfaceMesh:
    return SurfaceMesh(vertices_mm=points, faces=icosphere(level).faces, hemisphere=hemisphere, space="test")


def folded(level: int = 4) -> SurfaceMesh:
    return mesh(surface(icosphere(level).points), level)


def warp(directions: np.ndarray, size: float = 0.13, seed: int = 7) -> np.ndarray:
    """[V, 3] unit vectors carried along a smooth random flow on the unit sphere; `size` is its scale in radians."""
    velocity = SmoothField.draw(np.random.default_rng(seed), scale_mm=0.6, sd=size, channels=3)
    return flow_on_sphere(directions, velocity, 1.0, steps=8)


def mirror_image(one: SurfaceMesh) -> SurfaceMesh:
    return SurfaceMesh(
        vertices_mm=one.vertices_mm * [-1, 1, 1], faces=one.faces[:, ::-1], space=one.space,
        hemisphere="R" if one.hemisphere == "L" else "L",
    )  # fmt: skip
