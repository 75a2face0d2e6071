"""Scores of area maps on brains made from sections: strict on unseen brains, gap filling between annotated sections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.experiment.methods import NOT_ADAPTED
from meshgnn.experiment.protocol_scores import Judge, Method, Part, block, mean_map
from meshgnn.experiment.training import MAIN
from meshgnn.graph import MeshGraph
from meshgnn.results import AnnotationWeight, Confusion, ProtocolScores
from meshgnn.train.cohort import Cohort, nearest_annotation
from meshgnn.train.intervals import Maps
from meshgnn.train.propagate import annotations_in_cortex, carried_labels, join_with_annotations

HIDDEN = "hidden annotated sections"


def parts(
    judges: Sequence[Judge | None], drawn: Sequence[NDArray[np.bool_]], unseen: Sequence[bool]
) -> tuple[Part, Part]:
    """The parts of both protocols: (strict, gap filling). A brain without labels to compare with is in neither.

    Args:
        judges: of each brain, if there is one.
        drawn: [V] where a mapper's label was given to training.
        unseen: which brains were never trained on.
    """

    def chosen(wanted: bool, nodes: Callable[[MeshGraph, NDArray[np.bool_]], NDArray[np.bool_]]) -> Part:
        found = [(k, judge) for k, judge in enumerate(judges) if judge is not None and unseen[k] is wanted]
        return Part(
            [judge for _, judge in found], [nodes(judge.graph, drawn[k]) for k, judge in found], [k for k, _ in found]
        )

    strict = chosen(True, lambda graph, _: graph.cortex & (graph.labels >= 0))
    gaps = chosen(False, lambda graph, given: graph.cortex & (graph.labels >= 0) & ~given)
    return strict, gaps


def mean_measures(brains: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over brains of every number that is measured of a mesh, and under `brains` the values of each."""
    numbers: dict[str, list[float]] = {}
    for one in brains.values():
        for name, value in one.items():
            if isinstance(value, int | float):
                numbers.setdefault(name, []).append(float(value))
    means = {name: round(float(np.mean(values)), 4) for name, values in numbers.items()}
    return means | {"brains": {name: dict(one) for name, one in brains.items()}}


def judged(
    cohort: Cohort,
    strict: Part,
    gaps: Part,
    methods: Mapping[str, Method],
    contours: Maps | None,
) -> tuple[list[Maps], ProtocolScores | None, ProtocolScores | None]:
    """Main maps with the gaps between annotations filled, [seed][brain]; scores on unseen brains and in those gaps.

    Args:
        methods: the network (MAIN), its variants and every baseline.
        contours: interpolated contours of every brain.
    """
    unseen = between_sections = None
    if strict:
        main = mean_map(methods[MAIN].maps)
        others = {name: m for name, m in methods.items() if m.kind == "baseline"}
        names = cohort.graphs[0].areas.names
        unseen = replace(
            block(strict, methods),
            per_area_f1=strict.per_area_f1(main),
            baselines_per_area_f1={name: strict.per_area_f1(mean_map(m.maps)) for name, m in others.items()},
            confusion=Confusion(areas=tuple(names), rows_true_columns_predicted=strict.confusion(main)),
        )
    carried = [carried_labels(graph, annotations_in_cortex(graph)) for graph in cohort.graphs]
    between: dict[str, Method] = {}
    filled: list[Maps] = []
    for name, method in methods.items():
        if name == NOT_ADAPTED:  # the network itself, on brains that it was trained on
            continue
        if method.folds is None:
            between[name] = method
            continue
        joined, weight, by_weight = join_with_annotations(cohort, method.maps, method.folds, carried)
        alone = "network_alone" if name == MAIN else name
        between[alone] = method
        together = name if name == MAIN else f"{name}_and_annotations"
        between[together] = replace(
            method, maps=[*joined], sees=f"{method.sees}, annotations", chosen={"weight_beside_annotations": weight}
        )
        if name == MAIN:
            filled = [*joined]
            joint = AnnotationWeight(
                weight=weight, hidden_sections_macro_f1={str(one): value for one, value in by_weight.items()}
            )
    if gaps:
        nearest = [nearest_annotation(graph, annotations_in_cortex(graph))[0] for graph in cohort.graphs]
        between["nearest_annotation"] = Method(maps=[nearest], sees="annotations")
        between["label_propagation"] = Method(maps=[carried], sees="annotations")
        if contours is not None:
            between["contour_interpolation"] = Method(maps=[contours], sees="annotations")
        between_sections = replace(
            block(gaps, between), annotations=joint, distance_to_annotation_mm=_distances(cohort, gaps)
        )
    return filled, unseen, between_sections


def _distances(cohort: Cohort, gaps: Part) -> dict[str, float]:
    """Mean geodesic distance to the nearest annotation: of the judged nodes, and of all nodes without annotation."""
    judged, every = [], []
    for place, nodes in zip(gaps.rows, gaps.judged):
        graph = cohort.graphs[place]
        away = nearest_annotation(graph, annotations_in_cortex(graph))[1]
        judged.append(away[nodes])
        every.append(away[graph.cortex & (annotations_in_cortex(graph) < 0)])
    means = {"judged": np.concatenate(judged), "all": np.concatenate(every)}
    return {name: round(float(away[np.isfinite(away)].mean()), 2) for name, away in means.items()}
