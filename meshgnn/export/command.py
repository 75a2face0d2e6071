"""The command line of `python -m meshgnn.export`: a stored area map in the formats of other programs."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from meshgnn.command import guarded
from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.area_statistics import area_sizes, write_areas
from meshgnn.export.gifti import write_area_map
from meshgnn.export.graph_files import write_area_gt, write_area_pyg
from meshgnn.export.mesh_files import write_area_glb, write_area_plys
from meshgnn.export.neuroglancer import write_neuroglancer
from meshgnn.export.page import write_page
from meshgnn.export.stored import read_area_maps, read_sections
from meshgnn.export.tables import write_csv, write_graphml
from meshgnn.source.aligned import aligned_folder
from meshgnn.source.sections import SectionStack

FORMATS = ("gifti", "glb", "ply", "graphml", "gt", "pyg", "csv", "areas", "html", "neuroglancer")
PROFILES = "profiles"


def parser() -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m meshgnn.export",
        description="Write the area map of a run for other programs.",
        epilog="example: python -m meshgnn.export runs/surface/20260101-120000 --format gifti,html",
    )
    make.add_argument(
        "run", type=Path, metavar="RUN",
        help="run folder, or a folder in it that holds graph.safetensors, graph.json and probabilities.safetensors",
    )  # fmt: skip
    make.add_argument(
        "--format", dest="formats", required=True, metavar="LIST", help=f"comma-separated, of {', '.join(FORMATS)}"
    )
    make.add_argument("--out", type=Path, help="folder to write to (default: RUN/export)")
    make.add_argument("--brain", default="", help="of a run of several brains, this one only")
    make.add_argument(
        "--stack",
        type=Path,
        help="html: where the brain's sections lie now (a folder with sections.csv), if not where they were",
    )
    make.add_argument(
        "--shrinkage", type=float, default=1.0, metavar="FACTOR",
        help="areas: volume of the fresh brain over its volume in the sections, to correct sizes by (default 1: not)",
    )  # fmt: skip
    make.add_argument("--title", default="", help="html: title of the page")
    make.add_argument("--budget-mb", type=float, default=14.0, help="html: largest size of the page (default 14)")
    return make


def export(
    area_map: AreaMap, out: Path, formats: Sequence[str], *, stack: SectionStack | None = None,
    annotated: Sequence[int] = (), title: str = "", budget_mb: float = 14.0, shrinkage: float = 1.0,
) -> list[Path]:  # fmt: skip
    """Write an area map into the folder `out`; returns the files.

    A feature table named `profiles` is shown in the page as depth profiles. `annotated` may number sections that the
    stack does not hold (an alignment leaves out what is not usable): the page does not mark them.

    Raises:
        InputError: an unknown format, or what the writers raise.
    """
    brain = area_map.graph.brain
    if any(sign in brain for sign in "/\\") or brain.startswith("."):
        raise InputError(f"the brain's name {brain!r} cannot be part of a file name; rename it")

    def one(path: Path, write: Callable[[Path], None]) -> list[Path]:
        write(path)
        return [path]

    profiles = area_map.graph.tables.get(PROFILES)
    annotated = [section.index for section in stack or () if section.index in set(annotated)]
    writers: dict[str, Callable[[], list[Path]]] = {
        "gifti": lambda: write_area_map(out / "gifti", area_map),
        "glb": lambda: one(out / f"{brain}_predicted.glb", lambda path: write_area_glb(path, area_map)),
        "ply": lambda: write_area_plys(out, area_map),
        "graphml": lambda: one(out / "graph.graphml", lambda path: write_graphml(path, area_map)),
        "gt": lambda: one(out / "graph.gt", lambda path: write_area_gt(path, area_map)),
        "pyg": lambda: write_area_pyg(out / "pyg", area_map),
        "csv": lambda: one(out / "nodes.csv", lambda path: write_csv(path, area_map)),
        "areas": lambda: one(
            out / "areas.csv", lambda path: write_areas(path, area_sizes(area_map, shrinkage=shrinkage))
        ),
        "html": lambda: one(
            out / f"{brain}.html",
            lambda path: write_page(
                path, area_map, stack=stack, profiles=profiles, annotated=annotated, title=title, budget_mb=budget_mb
            ),
        ),
        "neuroglancer": lambda: write_neuroglancer(out / "neuroglancer", area_map),
    }
    strange = [name for name in formats if name not in writers]
    if strange or not formats:
        raise InputError(f"--format: {strange[0] if strange else ''!r} is not known; choose of {', '.join(FORMATS)}")
    return [path for name in formats for path in writers[name]()]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    formats = list(dict.fromkeys(name.strip() for name in options.formats.split(",")))
    strange = [name for name in formats if name not in FORMATS]
    if strange:
        raise InputError(f"--format: {strange[0]!r} is not known; choose of {', '.join(FORMATS)}")
    maps = read_area_maps(options.run)
    if options.brain:
        if options.brain not in maps:
            raise InputError(f"--brain: {options.brain!r} is not in {options.run}; there is {', '.join(maps)}")
        maps = {options.brain: maps[options.brain]}
    if options.stack and len(maps) > 1:
        raise InputError(f"--stack is one brain's: add --brain, one of {', '.join(maps)}")
    out = options.out or options.run / "export"
    many = (options.run / "brains").is_dir()
    for name, stored in maps.items():
        stack, annotated = read_sections(stored, options.stack) if "html" in formats else (None, ())
        if stored.aligned and not stack and "html" in formats:
            gone = aligned_folder(stored.aligned)
            print(f"note: {name}: the sections are not in {gone} any more; name them with --stack", file=sys.stderr)
        folder = out / name if many else out
        written = export(
            stored.area_map, folder, formats, stack=stack, annotated=annotated,
            title=options.title, budget_mb=options.budget_mb, shrinkage=options.shrinkage,
        )  # fmt: skip
        for part in sorted({path.relative_to(folder).parts[0] for path in written}):
            print(folder / part)
    return 0


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments))
