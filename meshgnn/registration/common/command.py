"""The command line of `python -m meshgnn.registration.common`: several brains on one mesh.

Of every brain X, on its own mesh (as `python -m meshgnn.registration` writes it) and on the common one, T:

    sub-X_hemi-L_desc-reg_sphere.surf.gii, registration/...
    sub-X_hemi-L_space-T_atlas-A_dseg.label.gii      its areas
    sub-X_hemi-L_space-T_desc-NAME.shape.gii         every feature it has
    sub-X_hemi-L_atlas-maximum_dseg.label.gii        the map of all brains, carried back to it

and of all together, where brains have areas:

    tpl-T_hemi-L_midthickness.surf.gii
    tpl-T_hemi-L_atlas-A_probseg.func.gii            one map per area: share of the brains that have it there
    tpl-T_hemi-L_atlas-A_dseg.label.gii              the area that most brains have there
    tpl-T_hemi-L_atlas-A_desc-best.shape.gii         its probability
    tpl-T_hemi-L_atlas-A_desc-count.shape.gii        brains that tell of a vertex
    common.json                                      brains, what a way there and back costs, overlap of areas
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.command import guarded
from meshgnn.errors import InputError
from meshgnn.export.gifti import write_labels, write_scalars, write_surface
from meshgnn.graph import MeshGraph
from meshgnn.keys import listed
from meshgnn.mesh.metric import vertex_areas
from meshgnn.override import override
from meshgnn.progress import Progress, TerminalBars
from meshgnn.registration.brains import RegisteredBrain, register_brain
from meshgnn.registration.command import write_registered
from meshgnn.registration.common.maps import area_maps, joined_areas, overlap, round_trip
from meshgnn.registration.match import resample, resample_labels
from meshgnn.registration.register import Registration
from meshgnn.registration.template import FSAVERAGE5, common_mesh
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.store import write_json

FILE = "common.json"


def parser() -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m meshgnn.registration.common",
        description="Register several brains to one mesh; carry their areas and features there, and maps of all back.",
        epilog="example: python -m meshgnn.registration.common MESH1 MESH2 --out COMMON\n\n"
        + listed(Registration.Config()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("brains", type=Path, metavar="BRAIN", nargs="+", help="surface folders, or reconstructions")
    make.add_argument("--to", default=FSAVERAGE5, help="fsaverage5 (default, comes with nilearn), or a surface folder")
    make.add_argument("--atlas", default="", help="which areas, if a folder holds several")
    make.add_argument("--out", type=Path, required=True, help="folder for all files")
    make.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="see below")
    return make


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A brain, where it lies on the common mesh, and the name of its areas ("" if it has none)."""

    graph: MeshGraph
    found: RegisteredBrain
    atlas: str


def place_brains(
    folders: Sequence[Path], to: str, atlas: str, config: Registration.Config, progress: Progress
) -> tuple[MeshGraph, list[Placed]]:
    """The common mesh, and every brain registered to it.

    Raises:
        InputError: a folder that cannot be read, two brains of one name, a surface that is no sphere in topology.
    """
    fixed = common_mesh(to)
    readings = [_read(folder, atlas) for folder in folders]
    names = [_plain(reading.brain) for reading, _ in readings]
    for name in {name for name in names if names.count(name) > 1}:
        raise InputError(f"two brains are called {name}; rename the files of one (sub-{name}_...)")
    for graph, _ in readings:
        strange = [mesh.hemisphere for mesh in graph.meshes if mesh.hemisphere not in fixed.slices()]
        if strange:
            raise InputError(f"{graph.brain}: {fixed.brain} has no hemisphere {strange[0]} to register it to")
    return fixed, [
        Placed(graph=graph, atlas=own, found=register_brain(graph, fixed, config, _named(progress, graph.brain)))
        for graph, own in readings
    ]


def _read(folder: Path, atlas: str) -> tuple[MeshGraph, str]:
    """A folder without the atlas that others have is read without areas."""
    source = SurfaceFolder.Config(folder=folder).build()
    there = source.atlases()
    if not atlas and len(there) > 1:
        raise InputError(f"{folder}: several atlases ({', '.join(there)}); choose one, --atlas {there[0]}")
    wanted = atlas if atlas in there else ""
    reading = SurfaceFolder.Config(folder=folder, atlas=wanted).build().read()
    return reading.graph, reading.atlas if not atlas or reading.atlas == atlas else ""


def write_common(out: Path, fixed: MeshGraph, brains: Sequence[Placed], atlas: str) -> dict[str, Any]:
    """Write all files; returns what common.json holds."""
    drawn = [one for one in brains if one.atlas]
    areas, numbers = joined_areas([one.graph for one in drawn])
    labels = {id(one): own for one, own in zip(drawn, numbers)}
    common, title = _plain(fixed.brain), atlas or (drawn[0].atlas if drawn else "")
    told: dict[str, Any] = {"mesh": fixed.brain, "atlas": title, "areas": list(areas.names), "brains": {}}
    carried: dict[str, dict[str, tuple[NDArray[np.int32], NDArray[np.bool_]]]] = {}
    for one in brains:
        write_registered(out, one.graph, one.found)
        figures = told["brains"][one.graph.brain] = {}
        for mesh, place in zip(one.graph.meshes, one.graph.slices().values()):
            side, match = mesh.hemisphere, one.found.matches[mesh.hemisphere]
            there = next(other for other in fixed.meshes if other.hemisphere == side)
            stem = out / f"sub-{_plain(one.graph.brain)}_hemi-{side}_space-{common}"
            cortex = resample(match.to_fixed, one.graph.cortex[place].astype(float)) >= 0.5
            for table in one.graph.tables.values():
                for name, column in zip(table.columns, table.values[place].T):
                    values = np.where(cortex, resample(match.to_fixed, column), np.nan)
                    write_scalars(stem.with_name(f"{stem.name}_desc-{name}.shape.gii"), there, values[:, None], [name])
            if id(one) in labels:
                own = np.where(cortex, resample_labels(match.to_fixed, labels[id(one)][place]), -1).astype(np.int32)
                write_labels(stem.with_name(f"{stem.name}_atlas-{title}_dseg.label.gii"), there, own, areas, title)
                carried.setdefault(side, {})[one.graph.brain] = (own, cortex)
            figures[side] = one.found.figures[side] | {
                "round_trip": round_trip(match, one.graph, np.asarray(there.vertices_mm, np.float64), place)
            }
    for mesh in fixed.meshes:
        stem = out / f"tpl-{common}_hemi-{mesh.hemisphere}"
        write_surface(stem.with_name(f"{stem.name}_midthickness.surf.gii"), mesh)
        parts = carried.get(mesh.hemisphere)
        if not parts or not len(areas):
            continue
        maps = area_maps([own for own, _ in parts.values()], [cortex for _, cortex in parts.values()], len(areas))
        stem = stem.with_name(f"{stem.name}_atlas-{title}")
        write_scalars(stem.with_name(f"{stem.name}_probseg.func.gii"), mesh, maps.probability, list(areas.names))
        write_labels(stem.with_name(f"{stem.name}_dseg.label.gii"), mesh, maps.maximum, areas, title)
        write_scalars(stem.with_name(f"{stem.name}_desc-best.shape.gii"), mesh, maps.best[:, None], ["probability"])
        write_scalars(
            stem.with_name(f"{stem.name}_desc-count.shape.gii"), mesh, maps.count[:, None].astype(float), ["brains"]
        )
        share = vertex_areas(mesh)
        told.setdefault("maps", {})[mesh.hemisphere] = {
            "brains": len(parts), "labelled_mm2": float(share[maps.maximum >= 0].sum()),
            **overlap({name: own for name, (own, _) in parts.items()}, share, len(areas)),
        }  # fmt: skip
        for one in brains:
            if mesh.hemisphere in one.found.matches:
                own_mesh = next(own for own in one.graph.meshes if own.hemisphere == mesh.hemisphere)
                cortex = one.graph.cortex[one.graph.slices()[mesh.hemisphere]]
                back = np.where(cortex, resample_labels(one.found.matches[mesh.hemisphere].to_moving, maps.maximum), -1)
                name = f"sub-{_plain(one.graph.brain)}_hemi-{mesh.hemisphere}_atlas-maximum_dseg.label.gii"
                write_labels(out / name, own_mesh, back, areas, title)
    write_json(out / FILE, told)
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    config = override(Registration.Config(), options.settings)
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out: {options.out} is a file; name a folder")
    fixed, brains = place_brains(options.brains, options.to, options.atlas, config, TerminalBars())
    if options.atlas and not any(one.atlas for one in brains):
        raise InputError(f"--atlas: no brain has areas called {options.atlas!r}")
    told = write_common(options.out, fixed, brains, options.atlas)
    for name, sides in told["brains"].items():
        for side, figures in sides.items():
            print(f"{name} {side}: {_line(figures['round_trip'])}", file=sys.stderr)
    for side, figures in told.get("maps", {}).items():
        dice = f", mean Dice of their areas {figures['dice_mean']:.3f}" if figures.get("dice_mean") is not None else ""
        print(f"{fixed.brain} {side}: areas of {figures['brains']} brains{dice}", file=sys.stderr)
    print(options.out / FILE)
    return 0


def _line(there_and_back: Mapping[str, float]) -> str:
    """What a way there and back costs, in words."""
    moved = f"{there_and_back['place_mm_mean']:.2f} mm (95 %: {there_and_back['place_mm_p95']:.2f})"
    worst = min((value for key, value in there_and_back.items() if key.endswith("_r")), default=None)
    areas = there_and_back.get("area_share")
    parts = [f"there and back moves a point by {moved}"]
    parts += [f"keeps {areas:.1%} of the areas"] if areas is not None else []
    parts += [f"and correlations of {worst:.3f} or more"] if worst is not None else []
    return ", ".join(parts)


def _plain(name: str) -> str:
    return "".join(c for c in name if c.isalnum()) or "brain"


def _named(progress: Progress, what: str) -> Progress:
    return lambda step, done, total, figures=None: progress(f"{what} {step}", done, total, figures)


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments))
