"""Scores of every method of a run on the brains that judge it, with intervals: one protocol, one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.confusion import macro_f1
from meshgnn.experiment.training import MAIN, row
from meshgnn.graph import MeshGraph
from meshgnn.results import Interval, MethodScores, ObliquenessScore, ProtocolScores
from meshgnn.train.intervals import Maps, judged_blocks, paired_interval
from meshgnn.train.metrics import LeftOut, Scores, mean_scores, score

OBLIQUE_DEG = (0, 20, 40, 90)
OBLIQUE_ROWS = (
    "features_mlp", "features_smoothed", "lda", "prior_lda", "same_inputs_trees", "same_inputs_mlp", "message_passing",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """A brain whose labels are those that its map is compared with.

    Args:
        graph: its labels are the truth, a mapper's labels of an unseen brain, or those of hidden annotated sections.
        left_out: cortex without truth, and true cortex that the mesh missed; only where the brain has a truth.
        by: which of the three, in words.
    """

    graph: MeshGraph
    left_out: LeftOut | None
    by: str


class Part:
    """The nodes that one protocol judges: the brains, and the judged nodes of each."""

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
        """Counts summed over the brains; empty where none of them has a truth."""
        counts = [judge.left_out.plain() for judge in self.judges if judge.left_out is not None]
        return {name: round(sum(one[name] for one in counts), 1) for name in counts[0]} if counts else {}

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

    def confusion(self, maps: Maps) -> tuple[tuple[int, ...], ...]:
        return tuple(map(tuple, np.sum([s.confusion for s in self.score(maps)], axis=0).tolist()))

    def by_obliqueness(self, maps: Maps) -> dict[str, ObliquenessScore]:
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
                found[f"{low}-{high}"] = ObliquenessScore(macro_f1=value, nodes=len(labels))
        return found

    def against(self, ours: Sequence[Maps], others: Mapping[str, Sequence[Maps]]) -> dict[str, Interval]:
        """Paired intervals of macro-F1, mean over our seeds minus mean over theirs."""
        own = [self.own(maps) for maps in ours]
        return {
            name: paired_interval(
                self.graphs, self.judged, own, [self.own(maps) for maps in by_seed], places=self.places
            )
            for name, by_seed in others.items()
        }


def mean_map(by_seed: Sequence[Maps]) -> list[NDArray[np.float32]]:
    """Mean over seeds, brain by brain."""
    return [np.asarray(np.mean(one, axis=0, dtype=np.float64), np.float32) for one in zip(*by_seed)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A network or a baseline with all its predictions.

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


def block(part: Part, methods: Mapping[str, Method]) -> ProtocolScores:
    """The scores of one protocol: the network, its variants, baselines, intervals, obliqueness."""

    def rows(kind: str) -> dict[str, MethodScores]:
        return {
            name: row(part.mean(m.maps), sees=m.sees, fits=m.fits, seeds=len(m.maps), chosen=m.chosen)
            for name, m in methods.items()
            if m.kind == kind and name != MAIN
        }

    main = methods[MAIN]
    oblique = {name: m for name, m in methods.items() if m.kind == "network" or name in OBLIQUE_ROWS}
    gaps: dict[str, Interval] = {}
    for name, method in methods.items():
        if name != MAIN:
            same = main.maps[: len(method.maps)] if method.trained else main.maps
            gaps |= part.against(same, {name: method.maps})
    return ProtocolScores(
        test=row(part.mean(main.maps), sees=main.sees, fits=main.fits, seeds=len(main.maps)),
        judged_by=part.by,
        left_out=part.left_out(),
        baselines=rows("baseline"),
        variants=rows("network"),
        ours_minus=gaps,
        by_obliqueness_deg={name: part.by_obliqueness(mean_map(m.maps)) for name, m in oblique.items()}
        if all(graph.locations is not None for graph in part.graphs)
        else None,
    )
