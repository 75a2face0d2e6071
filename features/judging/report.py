"""What judging leaves: tables of scores with intervals over brains, a picture of the feature space, report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.judging.judge import mean_interval
from features.judging.scores import standardised
from meshgnn.export.html import number
from meshgnn.export.plots import curves, figure, svg_address
from meshgnn.export.study_report import StudySection, with_span, write_study_report
from meshgnn.graph import distinct_colours

PROBE_WORDS = {"linear": "linear probe", "knn": "nearest neighbours"}
SPACE_WORDS = {
    "map": "retrieval, mean average precision", "recall_at_1": "recall at 1", "recall_at_10": "recall at 10",
    "retrieval_left_out": "queries left out", "kmeans_purity": "purity, k-means", "kmeans_ari": "ARI, k-means",
    "ward_purity": "purity, Ward", "ward_ari": "ARI, Ward", "spatial_spearman": "distance in space, Spearman",
}  # fmt: skip
PAIRS = (("supcon", "scratch"), ("supcon_classes", "scratch"), ("spatial", "scratch"), ("spatial_tuned", "scratch"),
         ("distance_tuned", "scratch"), ("spatial", "untrained"))  # fmt: skip
MOST_POINTS = 1500


def _by_brain(rows: Sequence[Mapping[str, Any]], method: str, share: float, score: str) -> dict[str, float]:
    """Mean over seeds of a score of every brain."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == method and row["share"] == share and score in row["scores"]:
            for brain, value in row["scores"][score].items():
                found.setdefault(brain, []).append(value)
    return {brain: float(np.mean(values)) for brain, values in found.items()}


def curve_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and 95 % interval over brains of every method, share and score, and paired differences of methods."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    table = []
    for share in sorted({row["share"] for row in rows}):
        scores = list(dict.fromkeys(name for row in rows if row["share"] == share for name in row["scores"]))
        for score in scores:
            each = {method: _by_brain(rows, method, share, score) for method in methods}
            for method in methods:
                mean, low, high = mean_interval(list(each[method].values()))
                table.append({"method": method, "minus": "", "share": share, "score": score, "mean": mean, "low": low,
                              "high": high, "brains": len(each[method])})  # fmt: skip
            for one, other in PAIRS:
                if one in methods and other in methods and score in PROBE_WORDS:
                    gaps = [each[one][brain] - each[other][brain] for brain in each[one] if brain in each[other]]
                    mean, low, high = mean_interval(gaps)
                    table.append({"method": one, "minus": other, "share": share, "score": score, "mean": mean,
                                  "low": low, "high": high, "brains": len(gaps)})  # fmt: skip
    return table


def study_summary(judging: Mapping[str, Any], folder: Path) -> str:
    """A table of the linear probe: methods by shares, with differences to scratch."""
    lines = []
    shares = sorted({row["share"] for row in judging["curves"]})
    for score, words in PROBE_WORDS.items():
        lines.append(f"\n{words}, macro-F1" + "".join(f"{share:>24.0%}" for share in shares))
        for key in dict.fromkeys((row["method"], row["minus"]) for row in judging["curves"]):
            cells = {row["share"]: row for row in judging["curves"]
                     if (row["method"], row["minus"]) == key and row["score"] == score}  # fmt: skip
            spans = [
                with_span(cells[s]["mean"], cells[s]["low"], cells[s]["high"]) if s in cells else "" for s in shares
            ]
            lines.append(f"{' - '.join(filter(None, key)):37s}" + "".join(f"{span:>24s}" for span in spans))
    return "\n".join([*lines, f"intervals: 95 %, over brains, means over seeds; results in {folder}"])


def space_picture(values: NDArray[np.floating], labels: NDArray[np.integer]) -> str:
    """Address of a picture of features [N, C] in two dimensions, a dot per node in its area's colour.

    Principal components beside t-SNE (van der Maaten & Hinton 2008; scikit-learn) of at most 1500 rows.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    keep = np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).astype(int)
    z = standardised(values)[0][keep]
    colours = distinct_colours(int(labels.max()) + 1)[labels[keep]]
    flat = {"principal components": PCA(2, random_state=0).fit_transform(z)}
    if len(z) > 10:
        near = min(30.0, (len(z) - 1) / 3)
        flat["t-SNE"] = TSNE(2, perplexity=near, init="pca", random_state=0).fit_transform(z)
    made = figure(7.2, 3.4)
    for axis, (name, points) in zip(np.atleast_1d(made.subplots(1, len(flat))), flat.items()):
        axis.scatter(points[:, 0], points[:, 1], s=6, c=colours, linewidths=0)
        axis.set_title(name, fontsize=9, color="#667085")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    return svg_address(made)


def write_judging_report(
    path: Path, judging: Mapping[str, Any], pictures: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    names: Sequence[str], config: Any, provenance: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write the report.

    Args:
        judging: rows and curves, as in metrics.json.
        pictures: by method, features and areas of one test brain.
        names: of the areas.
    """
    table = judging["curves"]
    shares = sorted({row["share"] for row in table})
    lead = [
        f"Macro-F1 on {judging.get('judged_on', 'brains')} that no probe was fitted or chosen on; mean over seeds, "
        "95 % interval over brains (Student's t, from three brains on). Areas that no annotated section shows count as "
        "not found.",
        f"Areas: {judging['areas']}.",
    ]
    if "known_areas" in judging:
        known = "; ".join(f"{float(share):.0%}: {', '.join(map(str, counts))}"
                          for share, counts in judging["known_areas"].items())  # fmt: skip
        lead.append(f"Areas that the annotated sections show, by share and seed: {known}.")
    left = "; ".join(f"{brain}: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
                     for brain, counts in judging["nodes"].items())  # fmt: skip
    lead.append(f"Nodes, with those left out of every score: {left}.")
    sections = []
    for score, words in PROBE_WORDS.items():
        here = [row for row in table if row["score"] == score]
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for row in here:
            if not row["minus"]:
                lines.setdefault(row["method"], []).append((100 * row["share"], row["mean"], row["low"], row["high"]))
        keys = dict.fromkeys((row["method"], row["minus"]) for row in here)
        cells = {(row["method"], row["minus"], row["share"]): with_span(row["mean"], row["low"], row["high"])
                 for row in here}  # fmt: skip
        sections.append(
            StudySection(
                title=words.capitalize(), picture=curves(lines, "annotated sections, %", "macro-F1"),
                caption=f"{words}: macro-F1 over the share of annotated sections, with 95 % intervals.",
                columns=("features", *(f"{share:.0%}" for share in shares)),
                rows=tuple(
                    (" minus ".join(filter(None, key)), *(cells.get((*key, share), "") for share in shares))
                    for key in keys
                ),
            )
        )  # fmt: skip
    space = [row for row in table if row["score"] in SPACE_WORDS and not row["minus"]]
    if space:
        methods, scores = (list(dict.fromkeys(row[name] for row in space)) for name in ("method", "score"))
        cell = {(row["method"], row["score"]): number(row["mean"]) for row in space}
        sections.append(
            StudySection(
                title="The space itself", text=("Of every test brain by itself, mean over brains and seeds.",),
                columns=("features", *(SPACE_WORDS[score] for score in scores)),
                rows=tuple((method, *(cell[method, score] for score in scores)) for method in methods),
            )
        )  # fmt: skip
    for method, (values, labels) in pictures.items():
        sections.append(
            StudySection(
                title=f"Feature space: {method}", picture=space_picture(values, labels),
                caption=f"{len(labels)} nodes of one test brain, coloured by {len(np.unique(labels))} of "
                f"{len(names)} areas.",
            )
        )  # fmt: skip
    write_study_report(path, "Judging features", lead, sections, config, provenance or {})
