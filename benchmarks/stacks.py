"""Stacks cut through known brains, reconstructed and judged: does a mesh of the cortex come back?

--mni152       the MNI152 average (cerebellum and brain stem in) that nilearn ships: share of nodes in cerebral grey
               matter, area against the volume route's on the same maps, Euler numbers, seconds of midsurface
--bigbrain DIR the ribbon between white and pial surfaces in a surface folder: distance to the true midthickness
--mouse FILE   a whole mouse brain's volume of light or stain: a mesh per hemisphere, or why not
--image FILE   with --mni152: once more, with an image in grey values as the reference volume (the average's T1)
--missing, --torn SHARE   sections lost and torn, for all of these

python benchmarks/stacks.py --mni152 [--missing 0.1] [--torn 0.1] [--quick] [--keep DIR] [--json FILE]

A row's `ratio` is above 1 where the target is met.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from meshgnn.errors import InputError  # noqa: E402
from reconstruct import Mni152, Reconstruct, Reconstruction, Ribbon, SectionFolder  # noqa: E402
from reconstruct.cut import Cutting, Knife, write_sections  # noqa: E402
from reconstruct.cut_truth import LEAST_GREY, onto_grey, read_cut  # noqa: E402
from reconstruct.distance import to_background  # noqa: E402
from reconstruct.sources import StainedVolume, SurfacePair  # noqa: E402
from reconstruct.state import load  # noqa: E402
from reconstruct.steps.reference import ReferenceVolume  # noqa: E402
from reconstruct.tissue_maps import Source, read_maps  # noqa: E402

Rows = list[dict[str, Any]]


def cut(source: Source, cutting: Cutting, folder: Path) -> None:
    if not (folder / "sections.csv").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_sections(Knife(read_maps(source), cutting), folder, lambda: None)


def cutting(options: argparse.Namespace, **other: Any) -> Cutting:
    coarse = {"pixel_um": 400.0, "spacing_mm": 3.0} if options.quick else {}
    return Cutting(missing=options.missing, torn=options.torn, light=options.light, seed=options.seed,
                   **{**coarse, **other})  # fmt: skip


def row(name: str, ours: float, target: float, unit: str, *, least: bool = False) -> dict[str, Any]:
    """`least`: the target is to be reached from below, else it is a limit."""
    ratio = ours / target if least else target / max(ours, 1e-9)
    return {"name": name, "ours": round(ours, 4), "peer": target, "peer_name": "target", "unit": unit,
            "ratio": round(ratio, 3)}  # fmt: skip


def sides(result: Reconstruction) -> list[dict[str, Any]]:
    return [dict(item.report) for item in result.midsurfaces]


def euler(name: str, result: Reconstruction) -> dict[str, Any]:
    right = sum(one["euler_number"] == 2 for one in sides(result))
    return row(f"{name}_hemispheres_euler_2", right, 2, "hemispheres", least=True)


def mni152(options: argparse.Namespace, place: Path) -> Rows:
    volume = Reconstruct.Config(source=Mni152.Config(), pictures=False, judge=False, workers=options.workers)
    whole = volume.build().run(place / "volume")
    cut(Mni152.Config(), cutting(options), place / "mni152_stack")
    rows = _mni152("mni152_stack", ReferenceVolume.Config(), options, place, whole)
    if options.image is not None:
        rows += _mni152("mni152_stack_with_image", ReferenceVolume.Config(image=options.image), options, place, whole)
    return rows


def _mni152(
    name: str, reference: ReferenceVolume.Config, options: argparse.Namespace, place: Path, whole: Reconstruction
) -> Rows:
    settings = Reconstruct.Config(source=SectionFolder.Config(path=place / "mni152_stack"), workers=options.workers)
    settings = replace(settings, align=replace(settings.align, reference=reference))
    result = settings.build().run(place / f"{name}_out")
    truth = read_cut(place / "mni152_stack")
    nodes = np.concatenate([item.mesh.vertices_mm for item in result.midsurfaces]).astype(np.float64)
    cortex = np.concatenate([item.cortex for item in result.midsurfaces])
    rotation, shift = onto_grey(nodes[cortex], truth)
    moved = nodes @ rotation.T + shift
    # Cerebral grey matter: grey of the maps in what the volume route calls cerebrum.
    ribbon = load(place / "volume" / "steps" / "cerebrum", Ribbon)
    near = to_background(ribbon.pial >= 0) * ribbon.voxel_mm <= 2.0
    index = np.rint(ribbon.to_voxels(moved)).astype(int)
    index = np.clip(index, 0, np.array(near.shape) - 1)
    own = near[tuple(index.T)]
    grey = (truth.at(truth.grey, moved) > LEAST_GREY) & own
    rows = [row(f"{name}_nodes_in_cerebral_grey", float(grey.mean()), 0.95, "share", least=True)]
    rows.append(row(f"{name}_cortex_nodes_in_cerebral_grey", float(grey[cortex].mean()), 0.95, "share", least=True))
    rows.append(row(f"{name}_nodes_outside_cerebrum", float((~own).mean()), 0.005, "share"))
    for here, there in zip(sides(result), sides(whole)):
        off = abs(here["area_mm2"] / there["area_mm2"] - 1)
        rows.append({**row(f"{name}_area_off", off, 0.10, "share"), "area_mm2": here["area_mm2"],
                     "volume_route_mm2": there["area_mm2"], "handles_removed": here["handles_removed"]})  # fmt: skip
    seconds = [value for key, value in result.report["timing_s"].items() if key.startswith("midsurface")]
    rows.append(row(f"{name}_midsurface", max(seconds), 60.0, "s"))
    return [*rows, euler(name, result)]


def bigbrain(options: argparse.Namespace, place: Path) -> Rows:
    name = "bigbrain_stack"
    cut(SurfacePair.Config(folder=options.bigbrain, space="BigBrain"), cutting(options), place / name)
    settings = Reconstruct.Config(source=SectionFolder.Config(path=place / name), workers=options.workers)
    found = settings.build().run(place / f"{name}_out")
    judged = found.report["reconstruction"]
    return [
        row(f"{name}_midthickness_mean", judged["midthickness_mm_mean"], 0.45, "mm"),
        row(f"{name}_midthickness_p95", judged["midthickness_mm_p95"], 1.2, "mm"),
        euler(name, found),
    ]


def mouse(options: argparse.Namespace, place: Path) -> Rows:
    name = "mouse_stack"
    source = StainedVolume.Config(path=options.mouse, space="mouse", voxel_mm=0.1, orientation=options.orientation)
    own = cutting(options, pixel_um=50.0, spacing_mm=0.2, jitter_mm=0.05, tear_mm=0.1)
    cut(source, own, place / name)
    settings = Reconstruct.Config(
        source=SectionFolder.Config(path=place / name), species="mouse", workers=options.workers
    )
    row_name = f"{name}_mesh_or_refusal"  # of both hemispheres; a refusal says why
    try:
        found = replace(settings, judge=False).build().run(place / f"{name}_out")
    except InputError as error:
        return [{**row(row_name, 2, 2, "hemispheres", least=True), "refused": str(error)}]
    return [{**euler(name, found), "name": row_name}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mni152", action="store_true")
    parser.add_argument("--bigbrain", type=Path, metavar="DIR")
    parser.add_argument("--mouse", type=Path, metavar="FILE")
    parser.add_argument("--orientation", default="ARI", help="of the mouse volume's array axes")
    parser.add_argument("--image", type=Path, metavar="FILE", help="reference volume of the MNI152 stack")
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--torn", type=float, default=0.0)
    parser.add_argument("--light", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="stacks and results are left (and used again) here")
    parser.add_argument("--quick", action="store_true", help="fewer and coarser sections; targets are not for them")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [(options.bigbrain, bigbrain), (options.mouse, mouse)]
    works = [work for given, work in chosen if given]
    if options.mni152 or not works:
        works.insert(0, mni152)
    rows: Rows = []
    with tempfile.TemporaryDirectory() as aside:
        for work in works:
            rows += work(options, options.keep or Path(aside))
    for one in rows:
        print(json.dumps(one))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
