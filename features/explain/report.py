"""What attributions leave: areas.csv, maps on the mesh, report.html, a few lines on the terminal. V nodes."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.export.gifti import write_scalars, write_surface
from meshgnn.export.study_report import StudySection, write_study_report
from meshgnn.graph import MeshGraph
from meshgnn.results import AreaAttribution, AttributionMap, ExplanationMetrics
from meshgnn.store import write_text

COLUMNS = ("target", "input", "method", "rank", "area", "nodes", "magnitude", "sd", "left", "right", "signed", "random",
           "planted")  # fmt: skip
SHOWN = 10  # areas of a map in the report
WORDS = {
    "saliency": "saliency (gradient)",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
}
NOT_KNOWN = "n/a"


def write_areas(path: Path, maps: Sequence[AttributionMap]) -> None:
    """One row per area of every map, by rank."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in maps:
        for area in one.areas:
            row = [getattr(area, name) for name in COLUMNS[3:]]
            table.writerow([one.target, one.input, one.method, *map(_cell, row)])
    write_text(path, text.getvalue())


def write_maps(
    folder: Path, graph: MeshGraph, inputs: Sequence[str],
    stored: Mapping[tuple[str, Any], Mapping[str, NDArray[Any]]],
) -> list[Path]:  # fmt: skip
    """GIfTI maps of every target and input, a named map per method and kind, and the surfaces they belong to.

    Args:
        stored: (target, method) -> [S, V] by "INPUT/trained/magnitude" and so on.
    """
    written: list[Path] = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        surface = folder / f"template_hemi-{mesh.hemisphere}_midthickness.surf.gii"
        write_surface(surface, mesh)
        written.append(surface)
        for target in dict.fromkeys(target for target, _ in stored):
            for name in inputs:
                columns, names = [], []
                for (own, method), arrays in stored.items():
                    if own != target:
                        continue
                    for kind in ("trained/magnitude", "trained/signed", "random/magnitude"):
                        values = arrays[f"{name}/{kind}"][:, place]
                        known = np.isfinite(values)
                        mean = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
                        columns.append(np.where(graph.cortex[place] & known.any(0), mean, np.nan))
                        names.append(f"{method} {kind}")
                plain = "".join(c for c in f"{target}{name}" if c.isalnum())
                path = folder / f"template_hemi-{mesh.hemisphere}_desc-{plain}_attribution.func.gii"
                write_scalars(path, mesh, np.stack(columns, axis=1), names)
                written.append(path)
    return written


def write_explanation_report(
    path: Path, metrics: ExplanationMetrics, config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write the report.

    Args:
        config, provenance: as in config.json and provenance.json.
    """
    lead = (
        "Means over held-out subjects and over the nodes of an area, both hemispheres. The magnitude is the mean of "
        "the absolute attribution; signed values above 0 speak for a larger number, or for the second class.",
        "A map fails if its rank correlation with maps of random weights is about as large as theirs with each other "
        f"(a share of {metrics.alike:g} or more): it then shows the images and the method, not what was learnt.",
        "Attributions tell what a network rests on, not what a trait rests on: correlated areas share them. Sizes of "
        "different methods do not compare.",
    )
    sections = [
        StudySection(
            title="Are the maps more than random weights give?",
            columns=("target", "input", "method", "subjects", "with random weights", "these with each other",
                     "sanity check", "first areas"),
            rows=tuple(
                (
                    one.target, one.input, WORDS.get(one.method, one.method), str(one.subjects), f"{one.random_r:.2f}",
                    f"{one.random_among:.2f}",
                    _verdict(one), ", ".join(area.area for area in one.areas[:3]),
                )
                for one in metrics.maps
            ),
        ),
        *(_section(one) for one in metrics.maps),
    ]  # fmt: skip
    write_study_report(path, metrics.task, lead, sections, config, provenance)


def _section(one: AttributionMap) -> StudySection:
    known = any(area.planted is not None for area in one.areas)
    head = ("rank", "area", "nodes", "magnitude", "of the largest", "left", "right", "signed", "random weights")
    text = [f"{one.subjects} held-out subjects; sanity check: {_verdict(one)}."]
    if known:
        planted = [f"{area.area} (rank {area.rank})" for area in one.areas if area.planted]
        text.append(f"Planted in: {', '.join(planted) or 'no area'}.")
    return StudySection(
        title=f"{one.target}, {one.input}: {WORDS.get(one.method, one.method)}",
        text=tuple(text),
        columns=(*head, *(["planted"] if known else [])),
        rows=tuple(_row(area, one.areas[0].magnitude, known) for area in one.areas[:SHOWN]),
    )


def _row(area: AreaAttribution, largest: float, known: bool) -> tuple[str, ...]:
    share = area.magnitude / largest if largest > 0 else float("nan")
    cells = (area.magnitude, share, area.left, area.right, area.signed, area.random)
    row = (str(area.rank), area.area, str(area.nodes), *(NOT_KNOWN if v is None else f"{v:.3g}" for v in cells))
    return (*row, "yes" if area.planted else "no") if known else row


def _verdict(one: AttributionMap) -> str:
    text = "passed" if one.passed else "FAILED: like random weights"
    return text if one.tells else f"{text}; the network does not beat chance"


def told(metrics: ExplanationMetrics, folder: Path) -> str:
    """What the run prints at its end."""
    lines = [f"\n{metrics.task}"]
    head = f"{'target':12s}{'input':10s}{'method':22s}{'like random':>12s}{'(among them)':>13s}"
    lines.append(f"{head}  {'first areas':32s}sanity check")
    for one in metrics.maps:
        first = ", ".join(f"{area.area}{'*' if area.planted else ''}" for area in one.areas[:4])
        name = f"{one.target:12s}{one.input:10s}{WORDS.get(one.method, one.method):22s}"
        lines.append(f"{name}{one.random_r:12.2f}{one.random_among:13.2f}  {first:32s}{_verdict(one)}")
    if any(one.planted_rank for one in metrics.maps):
        lines.append("* planted there")
    return "\n".join([*lines, f"areas of every map in {folder / 'areas.csv'}, maps in {folder / 'maps'}"])


def _cell(value: object) -> str:
    if value is None:
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
