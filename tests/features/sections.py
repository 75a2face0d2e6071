"""Small synthetic stacks on disk for the tests of features."""

import json
from pathlib import Path

import numpy as np

from meshgnn.export.gifti import write_surface
from meshgnn.graph import LOCATION_COLUMNS as COLUMNS
from meshgnn.graph import NodeLocations
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.aligned import write_aligned
from meshgnn.source.sections import read_stack, write_tiff

AREAS = ("one", "two", "three")


def locations(section, row, column, angle=-90.0, observed=True) -> NodeLocations:
    """Locations of nodes; scalars stand for all of them."""
    count = len(np.atleast_1d(row))
    columns = {
        "section": section, "row_px": row, "column_px": column, "normal_angle_deg": angle, "obliqueness_deg": 10.0,
        "residual_mm": 0.1, "observed": observed,
    }  # fmt: skip
    return NodeLocations(**{name: np.broadcast_to(value, count).copy() for name, value in columns.items()})


def write_stack(folder: Path, images, pixel_um: float = 100.0, mirrored: bool = False) -> Path:
    """A stack folder of grey images."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable,plane,mirrored"]
    for k, image in enumerate(images):
        write_tiff(folder / f"s{k}.tif", image, pixel_um, tile=32)
        lines.append(f"s{k}.tif,{k},{2.0 * k},{pixel_um},20,1,coronal,{int(mirrored)}")
    (folder / "sections.csv").write_text("\n".join(lines) + "\n")
    return folder


def annotated_brain(folder: Path, sections: int = 4, annotated=(0, 1, 2), areas=AREAS) -> tuple[Path, Path]:
    """A stack whose three areas are vertical bands of stripes of their own width, and its reconstruction's table.

    Nodes lie on a grid, upright; the last section has nodes too but no annotation; the first node is not observed.
    """
    rng = np.random.default_rng(0)
    images, labels = [], np.zeros((120, 180), np.uint8)
    for k in range(len(areas)):
        labels[20:100, 60 * k : 60 * k + 60] = k + 1
    rows = np.arange(120)[:, None]
    for _ in range(sections):
        image = np.full((120, 180), 240.0)
        for k in range(len(areas)):
            stripes = 120 + 60 * np.sin(2 * np.pi * rows / (4 + 4 * k))
            image[20:100, 60 * k : 60 * k + 60] = stripes[20:100]
        images.append(np.clip(image + rng.normal(0, 4, image.shape), 1, 255).astype(np.uint8))
    stack = write_stack(folder / f"stack-{folder.name}", images)
    place = stack / "annotations"
    place.mkdir()
    colours = [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]
    table = [{"key": k + 1, "name": name, "colour": colours[k]} for k, name in enumerate(areas)]
    (place / "areas.json").write_text(json.dumps(table))
    lines = ["index,labels"]
    for k in annotated:
        write_tiff(place / f"s{k}.tif", labels, 100, tile=32)
        lines.append(f"{k},s{k}.tif")
    (place / "annotations.csv").write_text("\n".join(lines) + "\n")
    grid = np.stack(
        np.meshgrid(np.arange(sections), [40, 60, 80], [10, 22, 35, 48, 70, 82, 95, 108, 130, 142, 155]), -1
    )
    nodes = grid.reshape(-1, 3)
    where = locations(nodes[:, 0], nodes[:, 1], nodes[:, 2], observed=np.arange(len(nodes)) > 0)
    reconstruction = write_locations(folder / "reconstruction", where)
    write_aligned(reconstruction, read_stack(stack))
    return stack, reconstruction


def write_locations(folder: Path, where: NodeLocations) -> Path:
    """Table and surfaces of a reconstruction with these nodes in its left hemisphere, each in its section's plane."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["\t".join(COLUMNS)]
    for k in range(len(where.section)):
        rows.append("\t".join(str(float(getattr(where, name)[k])) for name in COLUMNS))
    (folder / "sub-x_hemi-L_desc-sections.tsv").write_text("\n".join(rows) + "\n")
    points = np.stack([where.column_px * 0.1, where.section * 2.0, -where.row_px * 0.1], axis=1)
    first = np.arange(len(points) - 2)
    faces = np.stack([first, first + 1, first + 2], axis=1)
    for name, up_mm in (("midthickness", 0.0), ("pial", 1.0), ("white", -1.0)):
        mesh = SurfaceMesh(vertices_mm=points + np.array([0, 0, up_mm]), faces=faces, hemisphere="L", space="x")
        write_surface(folder / f"sub-x_hemi-L_{name}.surf.gii", mesh)
    return folder
