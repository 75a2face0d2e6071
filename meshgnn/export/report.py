"""report.html of a run: who wins, borders, areas, confusions, learning curves, provenance. One file, no scripts.

The layout is `templates/report.html`; the names that it shows are in `words.py`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshgnn.export.area_map import AreaMap
from meshgnn.export.html import render
from meshgnn.export.picture import area_strips, data_address
from meshgnn.export.plots import learning_curves
from meshgnn.export.words import ALIGNMENTS, LEAKS, MEASURES, MESHES, Names, Word, readable
from meshgnn.graph import MeshGraph
from meshgnn.results import Confusion, Interval, MethodScores, Metrics, ProtocolScores
from meshgnn.store import write_text

_MESH_COLUMNS = ("distance_mm_mean", "distance_mm_p95", "euler_L", "euler_R", "observed_share")
_BORDERS = {
    "network": "network",
    "schleicher": "Schleicher's test, the strongest",
    "gradient": "gradient of profile features, the largest",
    "random": "places drawn at random",
}
_RIVALS = 3  # baselines beside the network in the table of areas
_MATRIX, _PAIRS = 25, 20  # areas that still make a readable matrix; pairs that are listed where there are more


def interval_scope(interval: Interval) -> str:
    """What an interval generalises to."""
    return "other brains" if interval.over == "brains" else "other places of these brains, not of other brains"


def verdict(scores: ProtocolScores, names: Names) -> str:
    """The network compared with its best baseline, in one sentence."""
    own = scores.test.macro_f1
    key, row = _best(scores)
    gap, interval = own - row.macro_f1, scores.ours_minus.get(key)
    sure = ""
    if interval is not None:
        sure = f", 95 % interval of the difference {interval.low:+.3f} to {interval.high:+.3f}"
        if interval.low <= 0 <= interval.high:
            sure += ": neither is shown to be better"
    return (
        f"The network reaches macro-F1 {own:.3f}, {abs(gap):.3f} {'above' if gap > 0 else 'below'} the best baseline "
        f"({names.method(key).name}, {row.macro_f1:.3f}){sure}."
    )


def _best(scores: ProtocolScores) -> tuple[str, MethodScores]:
    return max(scores.baselines.items(), key=lambda item: item[1].macro_f1)


def _fine_print(
    scores: ProtocolScores, left_out: Mapping[str, float], not_run: Mapping[str, str], names: Names
) -> str:  # fmt: skip
    """What the columns mean, what the intervals speak of, and what was left out of the scores."""
    sentences = [
        "Every row says what it sees; a score averages over fits (members of an ensemble) and is a mean over seeds. "
        "Border error: mean geodesic distance between predicted and true borders."
    ]
    if scores.ours_minus:
        one = next(iter(scores.ours_minus.values()))
        sentences.append(
            f"Intervals: mean of the network's seeds minus mean of the row's, over {one.replicates} {one.over}; "
            f"they speak of {interval_scope(one)}."
        )
    if left_out:
        sentences.append(
            f"Left out of macro-F1: {left_out['unmatched_nodes']:.0f} nodes in cortex without a counterpart in the "
            f"truth, and true cortex of {left_out['missed_nodes']:.0f} nodes that the map does not cover; both are "
            "errors under 'all cortex'."
        )
    sentences += [f"Not run: {names.method(key).name} ({why})." for key, why in not_run.items()]
    return " ".join(sentences)


def _notes(m: Metrics) -> list[str]:
    """What a reader must know before believing the figures."""
    notes = []
    if m.transductive_features:
        notes.append(
            f"{', '.join(m.transductive_features)} were embedded over both hemispheres together, test part included; "
            "compare with a run without them."
        )
    if m.coordinates:
        way = ALIGNMENTS.get(m.alignment or "", m.alignment)
        notes.append(f"Coordinates are an input (brought together by {way}); compare with a run without them.")
    if m.left_out_features:
        left = ", ".join(m.left_out_features)
        notes.append(f"Left out, since they relate differently to the others in the two parts: {left}.")
    if m.rim:
        notes.append(
            "The rim of the cortex mask is an input of every model; where the mask was drawn from the atlas it gives "
            "away something of the areas. Compare with inputs.rim=false."
        )
    return notes


def _controls(m: Metrics) -> list[tuple[str, str, float, float]]:
    """(control, key of a network, its score, its score in the control): sections there carry no trace of the areas."""
    if m.strict is None:
        return []
    return [
        (control.task, key, row.macro_f1, left)
        for control in (m.controls or {}).values()
        for key, row in m.strict.networks.items()
        for left in [(control.strict or {}).get(key)]
        if left is not None
    ]


def _confusions(confusion: Confusion) -> dict[str, Any]:
    """`areas` with the `shares` of a matrix or, where there are many areas, the worst `pairs`."""
    names, counts = confusion.areas, np.array(confusion.rows_true_columns_predicted)
    support = np.maximum(counts.sum(1, keepdims=True), 1)
    pairs = []
    if len(names) > _MATRIX:
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        worst = [divmod(int(flat), len(names)) for flat in np.argsort(wrong, axis=None)[::-1][:_PAIRS]]
        pairs = [(names[i], names[j], int(wrong[i, j]), wrong[i, j] / support[i, 0]) for i, j in worst if wrong[i, j]]
    return {"areas": names, "pairs": pairs, "shares": (counts / support).tolist()}


def _maps(area_map: AreaMap) -> list[tuple[str, str]]:
    """(title, address of a picture) of the atlas, the map and their difference."""
    graph: MeshGraph = area_map.graph
    wrong = np.where((graph.labels >= 0) & (graph.labels != area_map.predicted), graph.labels, -1)
    rows = {"Atlas": graph.labels, "Predicted": area_map.predicted, "Where they differ (true area)": wrong}
    pictures = area_strips(graph, list(rows.values()), graph.areas)
    return [(title, data_address(picture)) for title, picture in zip(rows, pictures)]


def _per_area(m: Metrics) -> tuple[list[tuple[str, float | None]], list[str]]:
    """F1 of the network by area, best first, and the keys of the baselines that stand beside it."""
    if m.strict is None:
        return [], []
    own, others = m.strict.per_area_f1 or {}, m.strict.baselines_per_area_f1 or {}
    ranked = sorted(own.items(), key=lambda item: -(item[1] if item[1] is not None else -1))
    return ranked, [key for key in m.strict.rows if key in others][:_RIVALS]


def _sections(m: Metrics, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Anchors and titles of the parts that this report has."""
    parts = [
        ("scores", "Scores", m.strict), ("controls", "Controls", values["controls"]), ("map", "Map", True),
        ("brain", "Brain", values["page"]), ("gaps", "Between annotated sections", m.gap_filling),
        ("oblique", "Oblique cuts", values["oblique"]), ("borders", "Borders", m.borders),
        ("sets", "Areas in question", m.sets),
        ("meshes", "Meshes", values["meshes"]),
        ("areas", "Areas", m.strict), ("confusions", "Confusions", m.strict), ("learning", "Learning", True),
        ("origin", "Origin", True),
    ]  # fmt: skip
    return [(anchor, title) for anchor, title, there in parts if there]


def write_report(
    path: Path,
    metrics: Metrics,
    history: Sequence[Mapping[str, str]],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    area_map: AreaMap,
    page: str = "",
) -> None:
    """Write the report.

    Args:
        history: rows of metrics.csv.
        config, provenance: as in config.json and provenance.json.
        page: HTML of the page that shows the brain, put into a frame; none if empty.
    """
    names = Names.of(config, metrics.coordinates)
    strict, gaps = metrics.strict, metrics.gap_filling
    judged = strict or gaps
    areas, rivals = _per_area(metrics)
    meshes = (metrics.reconstruction or {}).get("brains", {})
    columns = [key for key in _MESH_COLUMNS if any(key in row for row in meshes.values())]
    values: dict[str, Any] = {
        "verdict": verdict(judged, names) if judged else "Nothing to judge by: no unseen brain carries labels.",
        "best": _best(strict)[1] if strict else None,
        "notes": _notes(metrics),
        "fine_print": _fine_print(strict, metrics.left_out, metrics.not_run, names) if strict else "",
        "controls": _controls(metrics),
        "maps": _maps(area_map),
        "page": page,
        "gap_verdict": verdict(gaps, names) if gaps else "",
        "gap_fine_print": _fine_print(gaps, gaps.left_out or {}, {}, names) if gaps else "",
        "oblique": (strict.by_obliqueness_deg if strict else None) or {},
        "meshes": meshes if columns else {},
        "mesh_columns": columns,
        "areas": areas,
        "rivals": rivals,
        "confusions": _confusions(strict.confusion) if strict and strict.confusion else {"areas": (), "pairs": ()},
        "curves": learning_curves(history),
        "config": json.dumps(config, indent=2),
        "provenance": json.dumps(provenance, indent=2),
    }
    text = render(
        "report.html", title=metrics.task, m=metrics, names=names, measures=MEASURES, border_methods=_BORDERS,
        sections=_sections(metrics, values), leak=lambda key: LEAKS.get(key, Word(readable(key))),
        mesh_word=lambda key: MESHES.get(key, Word(readable(key))), **values,
    )  # fmt: skip
    write_text(path, text)
