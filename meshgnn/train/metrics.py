"""Scores of an area map. Hand-checked formulas in numpy; K classes, N judged nodes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.confusion import confusion_matrix, macro_f1, per_class_f1
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import geodesic_distance, geodesic_graph
from meshgnn.mesh.topology import undirected_edges
from meshgnn.train.selective import aurc


def expected_calibration_error(true: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = 15) -> float:
    """Mean |accuracy - confidence| over equal-width confidence bins, weighted by count (Guo et al. 2017, eq. 3)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == true
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.abs(np.bincount(place, right, bins) - np.bincount(place, confidence, bins))
    return float(gap[count > 0].sum() / max(len(true), 1))


def boundary_error_mm(graph: MeshGraph, judged: NDArray[np.bool_], predicted: NDArray[np.integer]) -> float:
    """Mean geodesic distance between predicted and true borders in mm, symmetric; NaN where one of them is missing.

    A border point is the midpoint of a mesh edge whose ends carry different areas, both ends judged. Distances run over
    the whole mesh, from border point to nearest border point, averaged over the points of each map and then over the
    two directions.

    Args:
        judged: [V] nodes that count.
        predicted: [V] class numbers (ignored outside `judged`).
    """
    there: list[NDArray[np.float64]] = []
    back: list[NDArray[np.float64]] = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        inside = judged[place]
        if not inside.any():
            continue
        edges, _ = undirected_edges(mesh)
        edges = edges[inside[edges].all(1)]
        half = np.linalg.norm(mesh.vertices_mm[edges[:, 0]] - mesh.vertices_mm[edges[:, 1]], axis=1) / 2
        lengths = geodesic_graph(mesh)
        maps = [graph.labels[place], predicted[place]]
        border = [labels[edges[:, 0]] != labels[edges[:, 1]] for labels in maps]
        if not border[0].any() or not border[1].any():
            continue
        for start, goal, result in ((border[1], border[0], there), (border[0], border[1], back)):
            sources = edges[goal].ravel()
            distance = geodesic_distance(lengths, sources, np.repeat(half[goal], 2))
            to_goal = np.minimum(distance[edges[start, 0]], distance[edges[start, 1]]) + half[start]
            to_goal[goal[start]] = 0
            result.append(to_goal[np.isfinite(to_goal)])
    if not there:
        return float("nan")
    return float((np.concatenate(there).mean() + np.concatenate(back).mean()) / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """Cortex that the scores on labelled nodes leave out.

    Args:
        unmatched: [V] bool, nodes in cortex without a counterpart in the truth.
        missed: [K] true cortex of each class that no judged node covers, counted in nodes.
    """

    unmatched: NDArray[np.bool_]
    missed: NDArray[np.floating]

    def plain(self) -> dict[str, float]:
        return {"unmatched_nodes": int(self.unmatched.sum()), "missed_nodes": round(float(self.missed.sum()), 1)}


def macro_f1_with_left_out(confusion: NDArray[np.int64], predicted: NDArray[np.integer], left_out: LeftOut) -> float:
    """macro-F1 [classes in the truth] that counts unmatched nodes as wrongly named and missed cortex as not found."""
    n_classes = len(confusion)
    called = confusion.sum(0) + np.bincount(predicted[left_out.unmatched], minlength=n_classes)
    support = confusion.sum(1) + left_out.missed
    hit, total = np.diag(confusion).astype(float), support + called
    f1 = np.divide(2 * hit, total, out=np.zeros_like(hit), where=total > 0)
    return float(f1[support > 0].mean()) if (support > 0).any() else 0.0


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All measures of one map on one set of nodes; `macro_f1_all_cortex` also counts what they leave out as errors."""

    macro_f1: float
    macro_f1_all_cortex: float
    accuracy: float
    balanced_accuracy: float
    boundary_error_mm: float
    ece: float
    aurc: float
    aurc_excess: float
    per_area_f1: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    nodes: int

    def plain(self) -> dict[str, Any]:
        return {
            "macro_f1": self.macro_f1,
            "macro_f1_all_cortex": self.macro_f1_all_cortex,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "boundary_error_mm": self.boundary_error_mm,
            "ece": self.ece,
            "aurc": self.aurc,
            "aurc_excess": self.aurc_excess,
        }


def score(
    graph: MeshGraph,
    judged: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    left_out: LeftOut | None = None,
) -> Scores:
    """Judge probabilities [V, K] on the nodes of `judged` [V] that carry a label.

    Args:
        left_out: further cortex, which `macro_f1_all_cortex` counts as errors; none if absent.
    """
    judged = judged & (graph.labels >= 0)
    true, predicted = graph.labels[judged], probabilities.argmax(1)
    confusion = confusion_matrix(true, predicted[judged], len(graph.areas))
    support = confusion.sum(1)
    hit = np.diag(confusion)
    present = support > 0
    if left_out is None:
        left_out = LeftOut(unmatched=np.zeros(len(judged), bool), missed=np.zeros(len(graph.areas)))
    sure = probabilities[judged].max(1, initial=0)
    area, excess = aurc(true != predicted[judged], sure) if len(true) else (np.nan, np.nan)
    return Scores(
        macro_f1=macro_f1(true, predicted[judged], len(graph.areas)),
        macro_f1_all_cortex=macro_f1_with_left_out(confusion, predicted, left_out),
        accuracy=float(hit.sum() / max(len(true), 1)),
        balanced_accuracy=float((hit[present] / support[present]).mean()) if present.any() else 0.0,
        boundary_error_mm=boundary_error_mm(graph, judged, predicted),
        ece=expected_calibration_error(true, probabilities[judged]),
        aurc=area,
        aurc_excess=excess,
        per_area_f1=tuple(float(f) for f in per_class_f1(confusion)),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        nodes=len(true),
    )


def striped_scores(labels: NDArray[np.integer], votes: NDArray[np.floating]) -> dict[str, Any]:
    """Scores of votes [N, K] on nodes that lie scattered: no border can be drawn between them."""
    return {
        "macro_f1": macro_f1(labels, votes.argmax(1), votes.shape[1]),
        "accuracy": float((labels == votes.argmax(1)).mean()),
        "ece": expected_calibration_error(labels, votes),
    }


def mean_scores(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds of every plain score, with the standard deviation of macro-F1."""
    result: dict[str, Any] = {}
    for name in scores[0]:
        values = np.array([item[name] for item in scores], float)
        result[name] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        if name == "macro_f1":
            result["macro_f1_sd"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return result
