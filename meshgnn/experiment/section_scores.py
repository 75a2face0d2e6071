"""Scores of area maps on brains made from sections: strict on unseen brains, gap filling between annotated sections."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.graph import MeshGraph
from meshgnn.train.cohort import Cohort, nearest_annotation
from meshgnn.train.intervals import paired_interval
from meshgnn.train.metrics import Scores, macro_f1, mean_scores, score
from meshgnn.train.propagate import drawn, fill_gaps, join

Maps = Sequence[NDArray[np.floating]]  # probabilities [V, K], one per brain
MAIN, BARE, OTHER = "main", "without_coordinates", "other_features"
OBLIQUE_DEG = (0, 20, 40, 90)


class Part:
    """The nodes of one protocol: which brains, which of their nodes."""

    def __init__(self, graphs: Sequence[MeshGraph], judged: Sequence[NDArray[np.bool_]], rows: Sequence[int]) -> None:
        """graphs: labels are the truth; rows: the brains' places in the cohort."""
        kept = [k for k, nodes in enumerate(judged) if nodes.any()]
        self.graphs = [graphs[k] for k in kept]
        self.judged = [judged[k] for k in kept]
        self.rows = [rows[k] for k in kept]

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def nodes(self) -> int:
        return int(sum(nodes.sum() for nodes in self.judged))

    def own(self, maps: Maps) -> list[NDArray[np.floating]]:
        """The maps of these brains out of those of the cohort."""
        return [maps[row] for row in self.rows]

    def score(self, maps: Maps) -> list[Scores]:
        return [score(*one) for one in zip(self.graphs, self.judged, self.own(maps))]

    def mean(self, by_seed: Sequence[Maps]) -> dict[str, Any]:
        """Mean over brains, then over seeds (sd over seeds)."""
        found = [mean_scores([s.plain() for s in self.score(maps)]) for maps in by_seed]
        for one in found:
            one.pop("macro_f1_sd")
        return mean_scores(found)

    def per_area_f1(self, maps: Maps) -> dict[str, float | None]:
        rows = np.array([s.per_area_f1 for s in self.score(maps)])
        names = self.graphs[0].areas.names
        values = [float(np.nanmean(column)) if np.isfinite(column).any() else None for column in rows.T]
        return dict(zip(names, values))

    def confusion(self, maps: Maps) -> list[list[int]]:
        return np.sum([s.confusion for s in self.score(maps)], axis=0).tolist()

    def by_obliqueness(self, maps: Maps) -> dict[str, dict[str, float]]:
        """macro-F1 in classes of the angle between cortical normal and section plane."""
        found = {}
        for low, high in pairwise(OBLIQUE_DEG):
            true, called = [], []
            for graph, nodes, votes in zip(self.graphs, self.judged, self.own(maps)):
                assert graph.locations is not None
                angle = graph.locations.obliqueness_deg
                here = nodes & graph.locations.observed & (angle >= low) & (angle < high) & (graph.labels >= 0)
                true.append(graph.labels[here])
                called.append(votes[here].argmax(1))
            labels = np.concatenate(true)
            if len(labels):
                value = macro_f1(labels, np.concatenate(called), len(self.graphs[0].areas))
                found[f"{low}-{high}"] = {"macro_f1": value, "nodes": len(labels)}
        return found

    def against(self, ours: Maps, others: Mapping[str, Maps]) -> dict[str, dict[str, float]]:
        """Paired intervals of macro-F1, ours minus each other's."""
        return {
            name: paired_interval(self.graphs, self.judged, self.own(ours), self.own(maps)).plain()
            for name, maps in others.items()
        }


def mean_map(by_seed: Sequence[Maps]) -> list[NDArray[np.float32]]:
    """Mean over seeds, brain by brain."""
    return [np.asarray(np.mean(one, axis=0, dtype=np.float64), np.float32) for one in zip(*by_seed)]


def parts(
    truths: Sequence[MeshGraph | None], drawn: Sequence[NDArray[np.bool_]], unseen: Sequence[bool]
) -> tuple[Part, Part]:
    """(strict, gap filling). A brain without truth takes no part.

    Args:
        truths: each brain labelled with the truth, if it is known.
        drawn: [V] where a mapper's label was given to training.
        unseen: which brains were never trained on.
    """

    def chosen(wanted: bool, judge: Callable[[MeshGraph, NDArray[np.bool_]], NDArray[np.bool_]]) -> Part:
        rows = [k for k, graph in enumerate(truths) if graph is not None and unseen[k] is wanted]
        graphs = [graph for graph in (truths[k] for k in rows) if graph is not None]
        return Part(graphs, [judge(graph, drawn[k]) for graph, k in zip(graphs, rows)], rows)

    strict = chosen(True, lambda graph, _: graph.cortex & (graph.labels >= 0))
    gaps = chosen(False, lambda graph, given: graph.cortex & (graph.labels >= 0) & ~given)
    return strict, gaps


def block(part: Part, maps: dict[str, list[Maps]], others: dict[str, list[Maps]]) -> dict[str, Any]:
    """The scores of one protocol: the network, its variants, baselines, intervals, obliqueness."""
    main = mean_map(maps[MAIN])
    rest = {name: mean_map(m) for name, m in others.items()}
    variants = {name: mean_map(m) for name, m in maps.items() if name != MAIN}
    oblique: dict[str, Maps] = {MAIN: main, **variants, **{n: m for n, m in rest.items() if n.startswith("features_")}}
    return {
        "test": part.mean(maps[MAIN]),
        "baselines": {name: part.mean(m) for name, m in others.items()},
        "variants": {name: part.mean(m) for name, m in maps.items() if name != MAIN},
        "ours_minus": part.against(main, rest)
        | {
            # The same seeds on both sides: an ensemble over more seeds would be ahead by their number alone.
            name: part.against(mean_map(maps[MAIN][: len(maps[name])]), {name: votes})[name]
            for name, votes in variants.items()
        },
        "by_obliqueness_deg": {name: part.by_obliqueness(votes) for name, votes in oblique.items()},
    }


def mean_measures(brains: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over brains of every number that is measured of a mesh, with every brain's own beside."""
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
    maps: dict[str, list[Maps]],
    others: dict[str, list[Maps]],
    folds: Sequence[NDArray[np.floating]],
) -> tuple[list[Maps], dict[str, Any]]:
    """Main maps with the gaps between annotations filled, [seed][brain], and the scores of both protocols.

    Args:
        maps: [seed][brain] of the network and its variants; others: of the baselines.
        folds: [seed] out-of-fold probabilities of the training brains' labelled nodes.
    """
    scores: dict[str, Any] = {}
    if strict:
        main = mean_map(maps[MAIN])
        scores = block(strict, maps, others)
        scores["per_area_f1"] = strict.per_area_f1(main)
        scores["baselines_per_area_f1"] = {name: strict.per_area_f1(mean_map(m)) for name, m in others.items()}
        names = list(cohort.graphs[0].areas.names)
        scores["confusion"] = {"areas": names, "rows_true_columns_predicted": strict.confusion(main)}
    filled, carried, weight, by_weight = fill_gaps(cohort, maps[MAIN], folds)
    if gaps:
        # What is done for the network is done for the strongest baseline too.
        best = max(others, key=lambda name: gaps.mean(others[name])["macro_f1"])
        beside: dict[str, list[Maps]] = {
            "nearest_annotation": [[nearest_annotation(graph, drawn(graph))[0] for graph in cohort.graphs]],
            "label_propagation": [carried],
            f"{best}_and_annotations": [
                [join(labels, votes, max(weight, 0.5)) for labels, votes in zip(carried, m)] for m in others[best]
            ],
        }
        between: dict[str, list[Maps]] = {MAIN: [*filled], "network_alone": maps[MAIN]}
        between |= {name: m for name, m in maps.items() if name != MAIN}
        scores["gap_filling"] = block(gaps, between, others | beside)
        scores["gap_filling"]["annotations"] = {"weight": weight, "hidden_sections_macro_f1": by_weight}
    return [*filled], scores
