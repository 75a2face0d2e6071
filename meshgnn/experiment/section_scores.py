"""Scores of area maps on brains made from sections: strict on unseen brains, gap filling between annotated sections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import read_config
from meshgnn.experiment.training import row
from meshgnn.graph import MeshGraph
from meshgnn.store import read_json
from meshgnn.train.cohort import Cohort, nearest_annotation
from meshgnn.train.intervals import Maps, judged_blocks, paired_interval
from meshgnn.train.metrics import LeftOut, Scores, macro_f1, mean_scores, score
from meshgnn.train.propagate import carried_labels, drawn, join_with_annotations

MAIN, BARE, OTHER = "main", "without_coordinates", "other_features"
HIDDEN = "hidden annotated sections"
OBLIQUE_DEG = (0, 20, 40, 90)
OBLIQUE_ROWS = ("features_mlp", "features_smoothed", "lda", "prior_lda", "same_inputs_trees", "same_inputs_mlp")


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """A brain with what it is judged by.

    Args:
        graph: its labels are the truth, a mapper's labels of an unseen brain, or those of hidden annotated sections.
        left_out: cortex without truth, and true cortex that the mesh missed; only where a truth lies beside.
        by: which of the three, in words.
    """

    graph: MeshGraph
    left_out: LeftOut | None
    by: str


class Part:
    """The nodes of one protocol: which brains, which of their nodes."""

    def __init__(self, judges: Sequence[Judge], judged: Sequence[NDArray[np.bool_]], rows: Sequence[int]) -> None:
        """judged: [V] per brain; rows: the brains' places in the cohort."""
        kept = [k for k, nodes in enumerate(judged) if nodes.any()]
        self.judges = [judges[k] for k in kept]
        self.graphs = [judge.graph for judge in self.judges]
        self.judged = [judged[k] for k in kept]
        self.rows = [rows[k] for k in kept]

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def nodes(self) -> int:
        return int(sum(nodes.sum() for nodes in self.judged))

    @cached_property
    def places(self) -> list[NDArray[np.int32]]:
        """The blocks that intervals draw from, once for all comparisons."""
        return judged_blocks(self.graphs, self.judged)

    @property
    def by(self) -> str:
        return ", ".join(sorted({judge.by for judge in self.judges}))

    def left_out(self) -> dict[str, float]:
        """Counted over the brains; nothing where no truth tells."""
        told = [judge.left_out.plain() for judge in self.judges if judge.left_out is not None]
        return {name: round(sum(one[name] for one in told), 1) for name in told[0]} if told else {}

    def own(self, maps: Maps) -> list[NDArray[np.floating]]:
        """The maps of these brains out of those of the cohort."""
        return [maps[row] for row in self.rows]

    def score(self, maps: Maps) -> list[Scores]:
        return [
            score(judge.graph, nodes, votes, judge.left_out)
            for judge, nodes, votes in zip(self.judges, self.judged, self.own(maps))
        ]

    def mean(self, by_seed: Sequence[Maps]) -> dict[str, Any]:
        """Mean over brains, then over seeds (sd over seeds), with the mean over seeds of every brain."""
        each = [self.score(maps) for maps in by_seed]
        found = [mean_scores([s.plain() for s in scores]) for scores in each]
        for one in found:
            one.pop("macro_f1_sd")
        brains = np.mean([[s.macro_f1 for s in scores] for scores in each], axis=0)
        return mean_scores(found) | {
            "macro_f1_by_brain": dict(zip((graph.brain for graph in self.graphs), brains.tolist()))
        }

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

    def against(self, ours: Sequence[Maps], others: Mapping[str, Sequence[Maps]]) -> dict[str, dict[str, Any]]:
        """Paired intervals of macro-F1, mean over our seeds minus mean over theirs."""
        own = [self.own(maps) for maps in ours]
        return {
            name: paired_interval(
                self.graphs, self.judged, own, [self.own(maps) for maps in by_seed], places=self.places
            ).plain()
            for name, by_seed in others.items()
        }


def mean_map(by_seed: Sequence[Maps]) -> list[NDArray[np.float32]]:
    """Mean over seeds, brain by brain."""
    return [np.asarray(np.mean(one, axis=0, dtype=np.float64), np.float32) for one in zip(*by_seed)]


def parts(
    judges: Sequence[Judge | None], drawn: Sequence[NDArray[np.bool_]], unseen: Sequence[bool]
) -> tuple[Part, Part]:
    """(strict, gap filling). A brain that nothing judges takes no part.

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A network or a baseline with all it said.

    Args:
        maps: [seed][brain] probabilities.
        sees, fits, chosen: for the table; see `training.row`.
        folds: [seed] out-of-fold probabilities [N, K] of the training brains' labelled nodes; None if it has none.
        kind: "network" for the network itself and its variants, "baseline" for what it is compared with.
        trained: by the network's trainer: it is paired with as many seeds of the network as it has itself.
    """

    maps: list[Maps]
    sees: str
    fits: int = 1
    chosen: Mapping[str, Any] = field(default_factory=dict)
    folds: Sequence[NDArray[np.floating]] | None = None
    kind: Literal["network", "baseline"] = "baseline"
    trained: bool = False


def block(part: Part, methods: Mapping[str, Method]) -> dict[str, Any]:
    """The scores of one protocol: the network, its variants, baselines, intervals, obliqueness."""

    def rows(kind: str) -> dict[str, Any]:
        return {
            name: row(
                part.mean(m.maps),
                sees=m.sees,
                fits=m.fits,
                seeds=len(m.maps),
                chosen={k: m.chosen[k] for k in m.chosen},
            )
            for name, m in methods.items()
            if m.kind == kind and name != MAIN
        }

    main = methods[MAIN]
    oblique = {name: m for name, m in methods.items() if m.kind == "network" or name in OBLIQUE_ROWS}
    gaps: dict[str, Any] = {}
    for name, method in methods.items():
        if name != MAIN:
            same = main.maps[: len(method.maps)] if method.trained else main.maps
            gaps |= part.against(same, {name: method.maps})
    return {
        "test": row(part.mean(main.maps), sees=main.sees, fits=main.fits, seeds=len(main.maps)),
        "judged_by": part.by,
        "left_out": part.left_out(),
        "baselines": rows("baseline"),
        "variants": rows("network"),
        "ours_minus": gaps,
        "by_obliqueness_deg": {name: part.by_obliqueness(mean_map(m.maps)) for name, m in oblique.items()},
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
    methods: Mapping[str, Method],
    contours: Maps | None,
) -> tuple[list[Maps], dict[str, Any]]:
    """Main maps with the gaps between annotations filled, [seed][brain], and the scores of both protocols.

    Args:
        methods: the network (MAIN), its variants and every baseline.
        contours: interpolated contours of every brain.
    """
    scores: dict[str, Any] = {}
    if strict:
        main = mean_map(methods[MAIN].maps)
        others = {name: m for name, m in methods.items() if m.kind == "baseline"}
        scores = block(strict, methods)
        scores["per_area_f1"] = strict.per_area_f1(main)
        scores["baselines_per_area_f1"] = {name: strict.per_area_f1(mean_map(m.maps)) for name, m in others.items()}
        names = list(cohort.graphs[0].areas.names)
        scores["confusion"] = {"areas": names, "rows_true_columns_predicted": strict.confusion(main)}
    carried = [carried_labels(graph, drawn(graph)) for graph in cohort.graphs]
    between: dict[str, Method] = {}
    filled: list[Maps] = []
    for name, method in methods.items():
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
            told = {"weight": weight, "hidden_sections_macro_f1": by_weight}
    if gaps:
        nearest = [nearest_annotation(graph, drawn(graph))[0] for graph in cohort.graphs]
        between["nearest_annotation"] = Method(maps=[nearest], sees="annotations")
        between["label_propagation"] = Method(maps=[carried], sees="annotations")
        if contours is not None:
            between["contour_interpolation"] = Method(maps=[contours], sees="annotations")
        scores["gap_filling"] = block(gaps, between)
        scores["gap_filling"]["annotations"] = told
        scores["gap_filling"]["distance_to_annotation_mm"] = _distances(cohort, gaps)
    return filled, scores


def _distances(cohort: Cohort, gaps: Part) -> dict[str, float]:
    """Mean geodesic distance to the nearest annotation: of the judged nodes, and of all nodes without annotation."""
    judged, every = [], []
    for place, nodes in zip(gaps.rows, gaps.judged):
        graph = cohort.graphs[place]
        away = nearest_annotation(graph, drawn(graph))[1]
        judged.append(away[nodes])
        every.append(away[graph.cortex & (drawn(graph) < 0)])
    means = {"judged": np.concatenate(judged), "all": np.concatenate(every)}
    return {name: round(float(away[np.isfinite(away)].mean()), 2) for name, away in means.items()}


def control_scores(run: Path) -> dict[str, Any]:
    """What a finished control run scored: its experiment (`task`) and macro-F1 of every network, by protocol.

    Raises:
        InputError: not a finished run on sections.
    """
    metrics = read_json(run / "metrics.json") if (run / "metrics.json").is_file() else {}
    if not isinstance(metrics, dict) or "test" not in metrics or "variants" not in metrics:
        raise InputError(f"{run}: is not a finished run on sections with an unseen brain (no such metrics.json)")
    blocks = {"strict": metrics, "gap_filling": metrics.get("gap_filling", {})}
    return {"task": read_config(run).get("experiment") or metrics["task"]} | {
        name: {MAIN: one["test"]["macro_f1"]} | {n: r["macro_f1"] for n, r in one["variants"].items()}
        for name, one in blocks.items()
        if "test" in one
    }
