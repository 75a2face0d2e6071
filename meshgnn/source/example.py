"""A small brain to try things on, without a download."""

from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.mesh.record import HEMISPHERES, Hemisphere, SurfaceMesh
from meshgnn.optional import data_folder

SIDES: dict[Hemisphere, str] = {"L": "left", "R": "right"}
MAPS = {"thickness": ("thick", "mm"), "curvature": ("curv", "1/mm"), "sulcal_depth": ("sulc", "mm")}
CHANNELS = 6


def example_brain(nodes: int = 2562, n_areas: int = 8, seed: int = 0) -> MeshGraph:
    """Both hemispheres of nilearn's fsaverage5, thinned, with real shape and made-up areas.

    The table `shape` holds thickness, curvature and sulcal depth of the real average brain. Areas are the cells around
    directions on the sphere, mirrored; the table `cells` holds for every area a mean of its own plus as much noise.

    Args:
        nodes: per hemisphere; 2562 gives the triangles of fsaverage4, 642 those of fsaverage3, 10242 all.
        n_areas: number of areas.
        seed: of areas and noise.

    Raises:
        InputError: nilearn is not installed, or there are more than 10242 nodes wanted or fewer than 42.
    """
    if not 42 <= nodes <= 10242:
        raise InputError(f"{nodes} nodes per hemisphere: fsaverage5 has 10242, and 42 are the fewest")
    folder = data_folder("nilearn") / "datasets" / "data" / "fsaverage5"
    rng = np.random.default_rng(seed)
    centres, means = rng.normal(size=(n_areas, 3)), rng.normal(size=(n_areas, CHANNELS))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    meshes, labels, shape = [], [], []
    points: dict[str, list[NDArray[Any]]] = {"white": [], "pial": []}
    for side in HEMISPHERES:

        def read(kind: str, word: str = SIDES[side]) -> NDArray[Any]:
            image: Any = nib.load(folder / f"{kind}_{word}.gii.gz")
            return image.darrays[0].data[:nodes].astype(np.float64)

        sphere = read("sphere")
        sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
        faces = ConvexHull(sphere).simplices  # the first nodes of fsaverage5 are a coarser icosphere
        a, b, c = sphere[faces].transpose(1, 0, 2)
        inward = np.einsum("ij,ij->i", a, np.cross(b, c)) < 0
        faces = np.where(inward[:, None], faces[:, ::-1], faces)
        for kind, found in points.items():
            found.append(read(kind))
        middle = (points["white"][-1] + points["pial"][-1]) / 2
        meshes.append(SurfaceMesh(vertices_mm=middle, faces=faces, hemisphere=side, space="fsaverage"))
        labels.append((sphere * [-1 if side == "R" else 1, 1, 1] @ centres.T).argmax(1))
        shape.append(np.stack([read(stem) for stem, _ in MAPS.values()], axis=1))
    white, pial = (np.concatenate(found).astype(np.float32) for found in points.values())
    cortex = np.linalg.norm(pial - white, axis=1) > 0.3  # white and pial meet on the medial wall
    area = np.concatenate(labels)
    tables = (
        FeatureTable(
            name="shape", values=np.concatenate(shape), mask=cortex, columns=tuple(MAPS),
            units=tuple(unit for _, unit in MAPS.values()),
        ),
        FeatureTable(
            name="cells", values=means[area] + rng.normal(size=(len(area), CHANNELS)), mask=cortex,
            columns=tuple(f"channel_{k}" for k in range(CHANNELS)),
        ),
    )  # fmt: skip
    return MeshGraph(
        brain="example",
        meshes=tuple(meshes),
        cortex=cortex,
        tables={table.name: table for table in tables},
        labels=np.where(cortex, area, -1),
        areas=Areas(names=tuple(f"area-{k + 1}" for k in range(n_areas))),
        surfaces={"white": white, "pial": pial},
    )
