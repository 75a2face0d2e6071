"""The mesh that attributions are brought onto, and where its nodes lie in the volume of each subject."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from features.explain.finished import FinishedRun
from features.node_data.trilinear import sampled
from features.subject_data.run_store import margins
from features.subject_data.runs import SubjectRuns
from features.subject_data.volume_store import Grid
from features.subject_data.volumes import SubjectVolumes
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.errors import InputError
from meshgnn.source.socket import Reading
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.virtual.head import SPACE
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.middle import middle_brain
from meshgnn.source.volume import between_spaces

Places = Callable[[int], NDArray[np.float64]]  # number of a subject -> [V, 3] mm in the space of the volumes


class TemplateCortex:
    """fsaverage4 with the 33 areas of the virtual brains; nothing has to be given."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        def build(self) -> "TemplateCortex":
            return TemplateCortex()

    def read(self) -> Reading:
        return Reading(graph=middle_brain(), atlas="virtual")


MeshConfig = TemplateCortex.Config | SurfaceFolder.Config


def mesh_of(config: MeshConfig) -> Reading:
    """Raises InputError: no surfaces, no areas on them, or no cortex."""
    with at("mesh"):
        reading = config.build().read()
    graph = reading.graph
    if not len(graph.areas) or not (graph.cortex & (graph.labels >= 0)).any():
        raise InputError("mesh: has no areas to average over; name an atlas: --set mesh.atlas=NAME")
    return reading


def places_of(run: FinishedRun, reading: Reading, space: str) -> Places:
    """Where nodes lie.

    Virtual subjects are deformed, and it is known how: a node lies where its place in the template was moved to. The
    subjects of a folder lie in one space, that of `space`.

    Raises:
        InputError: no transform leads from the space of the mesh to that of the volumes.
    """
    cohort, graph = run.virtual, reading.graph
    there = between_spaces(graph.space, SPACE if cohort else space)
    points = graph.vertices_mm.astype(np.float64) @ there[:3, :3].T + there[:3, 3]
    if not isinstance(cohort, VirtualImages):  # virtual runs lie on the template
        return lambda number: points
    number_of = {name: number for number, name in enumerate(cohort.participants().ids)}

    @cache
    def placed(number: int) -> NDArray[np.float64]:
        return cohort.individual_mm(number_of[run.people.ids[number]], points)

    return placed


def grid_of(data: SubjectVolumes | SubjectRuns) -> Grid:
    """Where the voxels of an item lie; the grid of windows of runs has the centre of their store's."""
    if isinstance(data, SubjectVolumes):
        return data.stores[0].grid
    grid, (x, y, z) = data.store.grid, data.shape[1:4]
    first = [margins(old, new)[0] for old, new in zip(grid.shape, (x, y, z))]
    affine = np.array(grid.affine)
    affine[:3, 3] -= affine[:3, :3] @ np.array(first, np.float64)
    return replace(grid, shape=(x, y, z), affine=affine)


def on_nodes(
    volume: NDArray[np.floating], affine: NDArray[np.float64], points_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """[V] values of a volume [X, Y, Z] at points [V, 3], NaN outside it.

    Args:
        affine: [4, 4] voxel -> mm.
    """
    back = np.linalg.inv(affine)
    values, inside = sampled(volume, points_mm @ back[:3, :3].T + back[:3, 3])
    return np.where(inside, values, np.nan).astype(np.float32)
