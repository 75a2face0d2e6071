"""The command line of `python -m meshgnn.registration`: registered spheres for a surface folder."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from meshgnn.command import guarded
from meshgnn.errors import InputError
from meshgnn.export.gifti import write_scalars, write_surface
from meshgnn.graph import MeshGraph
from meshgnn.keys import listed
from meshgnn.override import override
from meshgnn.progress import TerminalBars
from meshgnn.registration.brains import RegisteredBrain, register_brain, register_hemispheres
from meshgnn.registration.match import Measures
from meshgnn.registration.register import Registration
from meshgnn.registration.template import common_mesh
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.store import write_json

BESIDE = "registration"  # a folder of its own: measures are no features of the brain


def parser() -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m meshgnn.registration",
        description="Register the hemispheres of a brain to those of another, or right to left within a brain.",
        epilog="example: python -m meshgnn.registration data/sub-01 --out data/sub-01\n\n"
        + listed(Registration.Config()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("moving", type=Path, metavar="MOVING", help="surface folder of the brain to register")
    make.add_argument(
        "fixed", metavar="FIXED", nargs="?",
        help="surface folder of the brain to register it to, or fsaverage5, which comes with nilearn; without it, "
        "right is registered to left within MOVING",
    )  # fmt: skip
    make.add_argument(
        "--out", type=Path, required=True,
        help="folder for the spheres; the surface folder itself, for experiments to find them",
    )  # fmt: skip
    make.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="see below")
    return make


def write_registered(folder: Path, graph: MeshGraph, found: RegisteredBrain) -> list[Path]:
    """`*_desc-reg_sphere.surf.gii` of every hemisphere into `folder`, measures and figures into its `registration`."""
    brain = "".join(c for c in graph.brain if c.isalnum()) or "brain"
    written = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        stem = f"sub-{brain}_hemi-{mesh.hemisphere}"
        written.append(folder / f"{stem}_desc-reg_sphere.surf.gii")
        write_surface(written[-1], mesh.with_vertices(found.sphere_mm[place]), "Spherical")
        for name in Measures.__dataclass_fields__:
            written.append(folder / BESIDE / f"{stem}_desc-{name.replace('_mm', '')}.shape.gii")
            write_scalars(written[-1], mesh, getattr(found.measures, name)[place, None], [name])
    written.append(folder / BESIDE / f"sub-{brain}.json")
    write_json(written[-1], found.figures)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    config = override(Registration.Config(), options.settings)
    moving = SurfaceFolder.Config(folder=options.moving).build().read().graph
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out: {options.out} is a file; name a folder")
    if options.fixed is None:
        found = register_hemispheres(moving, config, TerminalBars())
    else:
        fixed = common_mesh(options.fixed)
        found = register_brain(moving, fixed, config, TerminalBars())
    for path in write_registered(options.out, moving, found):
        if path.parent == options.out:
            print(path)
    for hemisphere, figures in found.figures.items():
        print(f"{hemisphere}: {json.dumps(figures)}", file=sys.stderr)
    return 0


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments))
