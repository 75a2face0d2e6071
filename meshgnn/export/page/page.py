"""One brain as one HTML file that opens from disk and asks for nothing outside itself.

The file holds, in this order: style; `<script id="meta">` (JSON: areas, sections, maps, worklist, index of arrays);
`<script id="arrays">` (all arrays, see meshgnn/export/page/arrays.py); one `<script type="text/plain" id="section-K">`
per section with a data address of its picture, decoded when it is first shown; and the program.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.page import contents
from meshgnn.export.page.arrays import Packer
from meshgnn.export.page.pictures import embed
from meshgnn.export.page.shell import asset, filled
from meshgnn.graph import FeatureTable
from meshgnn.source.sections import SectionStack
from meshgnn.store import write_text

LEAST_FOR_SECTIONS = 0.5e6


def write_page(
    path: Path,
    area_map: AreaMap,
    *,
    stack: SectionStack | None = None,
    profiles: FeatureTable | None = None,
    annotated: Sequence[int] = (),
    title: str = "",
    budget_mb: float = 14.0,
) -> None:
    """Write the page of a brain.

    Args:
        path: of the HTML file.
        area_map: brain and probabilities. Labels, locations, further surfaces and tables are shown where they exist.
        stack: the brain's sections; their pictures are made smaller until the file fits its budget.
        profiles: [V, D] values at D equidistant depths from pial (first) to white matter (last). A table of this name
            in the graph is not shown as single features.
        annotated: numbers (`Section.index`) of annotated sections.
        title: of the page; the brain's name if empty.
        budget_mb: largest size of the file in units of 10^6 bytes.

    Raises:
        InputError: profiles of another brain, an annotated section that the stack lacks, node locations on sections
            that the stack lacks, or a budget that the brain does not fit into even with the smallest pictures.
    """
    html = page_html(
        area_map, stack=stack, profiles=profiles, annotated=annotated, title=title, budget_mb=budget_mb
    )  # fmt: skip
    write_text(Path(path), html)


def page_html(
    area_map: AreaMap,
    *,
    stack: SectionStack | None = None,
    profiles: FeatureTable | None = None,
    annotated: Sequence[int] = (),
    title: str = "",
    budget_mb: float = 14.0,
) -> str:
    """The text of the page; arguments as for `write_page`."""
    graph = area_map.graph
    annotated = sorted({int(index) for index in annotated})
    if profiles is not None and len(profiles.values) != graph.n_nodes:
        raise InputError(f"profiles for {len(profiles.values)} nodes, but the brain has {graph.n_nodes}")
    if annotated and stack is None:
        raise InputError("annotated sections were named, but there is no stack; hand in the stack as well")
    if stack is not None:
        for index in annotated:
            stack.at(index)
        if graph.locations is not None:
            named = set(graph.locations.section[graph.locations.observed].tolist())
            lacking = sorted(named - {section.index for section in stack})
            if lacking:
                raise InputError(
                    f"{graph.brain}: nodes lie on section {lacking[0]}, which the stack "
                    f"{stack.folder or stack.space} does not hold; hand in the stack it was reconstructed from"
                )
    pack = Packer()
    title = title or graph.brain
    meta: dict[str, Any] = {"title": title, "brain": graph.brain, "space": graph.space}
    meta |= contents.add_geometry(pack, graph) | contents.add_areas(pack, area_map)
    nearest = contents.annotated_distance(area_map, stack, annotated)[1] if stack is not None and annotated else None
    meta |= contents.add_scalars(pack, area_map, nearest, () if profiles is None else (profiles.name,))
    meta["profiles"] = None if profiles is None else contents.add_profiles(pack, profiles)
    meta["regions"] = contents.add_regions(pack, area_map, stack, annotated)
    pictures: list[str] = []
    meta["stack"] = None
    if stack is not None:
        blank: list[dict[str, Any]] = [{} for _ in stack]
        trial = Packer()
        contents.add_sections(trial, area_map, stack, annotated, blank)
        used = len(pack.blob()) + len(trial.blob()) + len(asset("page.js")) + len(asset("page.css"))
        used += len(json.dumps(meta)) + 300 * len(stack) + 20_000
        room = budget_mb * 1e6 - used
        if room < LEAST_FOR_SECTIONS:
            raise InputError(
                f"{graph.brain}: the page needs {used / 1e6:.1f} MB without pictures of sections; raise the budget "
                f"of {budget_mb:g} MB or leave out tables"
            )
        about, pictures = embed(stack, room)
        meta["stack"] = contents.add_sections(pack, area_map, stack, annotated, about)
    meta["arrays"] = pack.index
    html = filled("page", title, meta, arrays=pack.blob(), pictures=pictures)
    if len(html.encode()) > budget_mb * 1e6:
        raise InputError(
            f"{graph.brain}: the page would take {len(html.encode()) / 1e6:.1f} MB, more than the budget of "
            f"{budget_mb:g} MB; raise it or leave out tables and sections"
        )
    return html
