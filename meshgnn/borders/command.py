"""The command line of `python -m meshgnn.borders`: observer-independent borders of every section of a stack.

OUT/section_0021.json       what the mapping page shows (`meshgnn.borders.section.as_shown`)
OUT/section_0021.csv        along the ribbon: run, position_mm, x, y, distance2, shrunk2
OUT/borders.csv             all borders: section, hemisphere, position_mm, x, y, distance2, p, blocks, neighbours, q
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshgnn.borders.section import SectionBorderFinder, SectionBorders, as_shown, in_neighbours
from meshgnn.command import guarded
from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.stored import check_holds, read_area_maps
from meshgnn.graph import MeshGraph
from meshgnn.keys import listed
from meshgnn.override import override
from meshgnn.progress import Progress, TerminalBars
from meshgnn.source.aligned import FILE, check_same_sections, read_aligned
from meshgnn.source.annotations import FOLDER, Annotations, on_section, read_annotations
from meshgnn.source.sections import Section, SectionStack, read_stack
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.text_table import write_text_table
from meshgnn.store import write_json


def parser() -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m meshgnn.borders",
        description="Find borders of cortical areas on sections without an observer (Schleicher et al. 1999): depth "
        "profiles along the ribbon, and where neighbouring blocks of them differ.",
        epilog="example: python -m meshgnn.borders STACK --mesh MESH --out borders --sections 10-20\n\n"
        + listed(SectionBorderFinder.Config()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("stack", type=Path, metavar="STACK", help="folder with sections.csv")
    make.add_argument(
        "--mesh", type=Path, required=True,
        help="folder of the reconstruction of the stack, or of surfaces pial, white and midthickness in its space",
    )  # fmt: skip
    make.add_argument("--map", type=Path, dest="run", metavar="RUN", help="run with an area map on this mesh, to show "
                      "its borders beside")  # fmt: skip
    make.add_argument("--brain", default="", help="of a run of several brains, this one")
    make.add_argument("--sections", default="", metavar="LIST", help="numbers and ranges, as 3,10-20; all if absent")
    make.add_argument(
        "--confirmed", action="store_true", help="borders.csv lists only borders that a neighbouring section has too"
    )
    make.add_argument("--reach-mm", type=float, default=3.0, help="how far a border may shift between neighbouring "
                      "sections, in their plane (default 3)")  # fmt: skip
    make.add_argument("--out", type=Path, required=True, help="folder to write to")
    make.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="see below")
    return make


def read_mesh(folder: Path, stack: Path) -> tuple[MeshGraph, SectionStack]:
    """A mesh with pial and white, and the sections of `stack` where its reconstruction put them.

    Args:
        folder: of a reconstruction, or of surfaces in the stack's own space (sections then lie where the table says).

    Raises:
        InputError: no surfaces there, or of another stack.
    """
    if not folder.is_dir():
        raise InputError(f"--mesh: {folder} is no folder; name that of a reconstruction")
    graph = SurfaceFolder.Config(folder=folder).build().read().graph
    if (folder / FILE).is_file():
        sections = read_aligned(folder, stack)
        check_same_sections(folder, sections)
        return graph, sections
    sections = read_stack(stack, minimum=1)
    check_holds(sections, graph)
    return graph, sections


def chosen(stack: SectionStack, text: str) -> tuple[Section, ...]:
    """Usable sections by numbers and ranges (`3,10-20`), all if empty.

    Raises:
        InputError: no such list, or none of them in the stack.
    """
    usable = stack.usable().sections
    if not text.strip():
        return usable
    wanted: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise InputError(f"--sections: {part.strip()!r} is no number or range; write for example 3,10-20")
        wanted |= {one.index for one in usable if int(first) <= one.index <= int(last or first)}
    if not wanted:
        raise InputError(f"--sections: none of {text} is a usable section of {stack.folder}")
    return tuple(one for one in usable if one.index in wanted)


def find_borders(
    finder: SectionBorderFinder, graph: MeshGraph, sections: Sequence[Section], progress: Progress,
    *, reach_mm: float = 3.0,
) -> list[SectionBorders]:  # fmt: skip
    """Borders of sections, each with how many of its neighbours have it too. Raises InputError as the finder."""
    found = []
    for k, section in enumerate(sections):
        found.append(finder.find(section, graph))
        progress("sections", k + 1, len(sections))
    return in_neighbours(found, {one.index: one for one in sections}, reach_mm=reach_mm)


def _map(run: Path | None, brain: str, graph: MeshGraph) -> AreaMap | None:
    if run is None:
        return None
    maps = read_area_maps(run)
    name = brain or (next(iter(maps)) if len(maps) == 1 else "")
    if name not in maps:
        raise InputError(f"--brain: choose one of {', '.join(maps)}")
    found = maps[name].area_map
    if [m.faces.shape for m in found.graph.meshes] != [m.faces.shape for m in graph.meshes]:
        raise InputError(f"--map: the map of {name} in {run} is not on this mesh; name the mesh folder of that run")
    return found


def write_borders(
    out: Path, sections: Sequence[Section], found: Sequence[SectionBorders], *, annotations: Annotations | None = None,
    area_map: AreaMap | None = None, confirmed: bool = False,
) -> Path:  # fmt: skip
    """The files of the command; returns borders.csv."""
    table: list[list[Any]] = []
    for section, one in zip(sections, found):
        has = annotations is not None and section.index in annotations.sections
        drawn = on_section(annotations, section) if annotations and has else None
        areas = area_map.graph.areas if area_map else annotations.areas if annotations else None
        if drawn is not None and area_map is not None and annotations is not None:
            # Classes of the drawing are those of its own table.
            shown = as_shown(one, section, areas=annotations.areas, drawn=drawn)
            shown["predicted"] = as_shown(one, section, areas=areas, probabilities=area_map.probabilities)["predicted"]
        else:
            chances = area_map.probabilities if area_map else None
            shown = as_shown(one, section, areas=areas, drawn=drawn, probabilities=chances)
        stem = f"section_{section.index:04d}"
        write_json(out / f"{stem}.json", {"section": section.index, **shown})
        columns = ("positions_mm", "points", "distance_mm2", "shrunk")
        run_of = [k for k, run in enumerate(shown["runs"]) for _ in range(run["first"], run["last"] + 1)]
        along = zip(run_of, zip(*(shown[name] for name in columns)))
        rows = ([run, at, *point, far, shrunk] for run, (at, point, far, shrunk) in along)
        head = ["run", "position_mm", "x", "y", "distance2", "shrunk2"]
        write_text_table(out / f"{stem}.csv", [head, *rows])
        for peak in shown["peaks"]:
            if peak["neighbours"] or not confirmed:
                table.append(
                    [section.index, peak["hemisphere"], peak["position_mm"], *peak["point"], peak["distance2"],
                     f"{peak['p']:.3g}", " ".join(map(str, peak["blocks"])), peak["neighbours"],
                     f"{peak['q']:.3g}" if "q" in peak else ""]
                )  # fmt: skip
    path = out / "borders.csv"
    head = ["section", "hemisphere", "position_mm", "x", "y", "distance2", "p", "blocks", "neighbours", "q"]
    write_text_table(path, [head, *table])
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    finder = override(SectionBorderFinder.Config(), options.settings).build()
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out: {options.out} is a file; name a folder")
    if not options.reach_mm > 0:
        raise InputError(f"--reach-mm must be above 0, got {options.reach_mm}")
    graph, stack = read_mesh(options.mesh, options.stack)
    sections = chosen(stack, options.sections)
    area_map = _map(options.run, options.brain, graph)
    if area_map is not None and {"pial", "white"} <= set(area_map.graph.surfaces):
        graph = area_map.graph  # which also knows where cortex is
    annotations = read_annotations(options.stack) if (options.stack / FOLDER).is_dir() else None
    found = find_borders(finder, graph, sections, TerminalBars(), reach_mm=options.reach_mm)
    path = write_borders(
        options.out, sections, found, annotations=annotations, area_map=area_map, confirmed=options.confirmed
    )
    count = sum(len(run.series.borders) for one in found for run in one.runs)
    seen = sum(n > 0 for one in found for run in one.supported for n in run)
    print(path)
    print(f"{count} borders on {len(sections)} sections; {seen} of them on a neighbouring section too", file=sys.stderr)
    return 0


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments))
