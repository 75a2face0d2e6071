"""Small input for every documented command: surface folders, virtual stacks of one hemisphere, probability maps."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

from meshgnn.experiment.virtual_sections import VirtualSections
from meshgnn.export.gifti import write_surface_folder
from meshgnn.graph import MeshGraph
from meshgnn.override import override
from meshgnn.source.sections import TABLE
from tests.cohort import cohort, write_cohort
from tests.install.commands import SMALL
from tests.reconstruct.phantom import body, write_stack
from tests.synthetic import brain


def folded(graph: MeshGraph) -> MeshGraph:
    """The same with bumps on its hemispheres, the right one the mirror image: registration needs folds to match."""
    meshes = []
    for mesh in graph.meshes:
        centre = mesh.vertices_mm.mean(0)
        away = mesh.vertices_mm - centre
        x, y, z = (away / np.linalg.norm(away, axis=1, keepdims=True)).T
        side = -1 if mesh.hemisphere == "R" else 1
        height = 1 + 0.12 * np.sin(4 * side * x + 1) * np.cos(3 * y + z)
        meshes.append(replace(mesh, vertices_mm=(centre + away * height[:, None]).astype(np.float32)))
    return graph._replace(meshes=tuple(meshes))


def make_inputs(folder: Path) -> dict[str, Path]:
    """Write what `PLACES` names; returns placeholder -> path."""
    places = {}
    for name, seed in (("DIR", 1), ("OTHER", 2)):
        places[name] = folder / f"surfaces-{seed}"
        drawn = folded(brain(2, noise=0.3, seed=seed))._replace(brain=f"Ball{seed}")
        write_surface_folder(places[name], drawn, "Planted")
    places["PEOPLE"] = write_cohort(folder / "people", cohort(count=24))
    table = places["PEOPLE"] / "participants.tsv"
    table.write_text(table.read_text().replace("group", "sex", 1))
    for number in (1, 2, 3):
        name = f"STACK{number}"
        places[name] = folder / f"stack-{number}"
        config = override(VirtualSections.Config(), [*SMALL["virtual_sections"], f"source.seed={number}"])
        config.source.build().write(places[name])
    words = ["source.preset=cells", "source.cells=4", "source.cells_mm=0.3", "source.hemispheres=L",
             "source.subdivisions=0", "source.spacing_mm=10"]  # fmt: skip
    override(VirtualSections.Config(), words).source.build().write(folder / "cells-brain")
    places["CELLS"] = folder / "cells-brain" / "cells"
    places["SCANS"] = folder / "scans"
    write_stack(places["SCANS"], pixel_um=400, spacing_mm=5.0)
    (places["SCANS"] / TABLE).unlink()
    axis = np.arange(-46.0, 46.1, 2.0)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    outer, inner = body(x, y, z, 0.0), body(x, y, z, 3.0)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = axis[0]
    for name, tissue in (("GREY.nii.gz", (outer < 0) & (inner >= 0)), ("WHITE.nii.gz", inner < 0)):
        places[name] = folder / name.lower()
        nibabel.save(nibabel.Nifti1Image(tissue.astype(np.float32), affine), places[name])
    return places
