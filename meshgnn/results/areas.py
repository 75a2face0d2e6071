"""metrics.json of area mapping: on one brain, on brains from sections, of a trained run applied to another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from meshgnn.results.record import Record


@dataclass(frozen=True, kw_only=True)
class Measures(Record):
    """What is measured of one map, or means of that over brains and seeds.

    Args:
        macro_f1: mean F1 over the areas that occur in the truth.
        macro_f1_all_cortex: the same, with cortex that neither truth nor map covers counted as errors.
        balanced_accuracy: mean share of each true area's nodes that are named right.
        boundary_error_mm: mean geodesic distance between predicted and true borders; None where one of them is missing.
        ece: expected calibration error (Guo et al. 2017).
        aurc: area under the curve of error against the share of nodes kept, surest first (Geifman & El-Yaniv 2017);
            aurc_excess: what of it a better order of the same map would save. None in files from before.
    """

    macro_f1: float
    macro_f1_all_cortex: float
    accuracy: float
    balanced_accuracy: float
    boundary_error_mm: float | None
    ece: float
    aurc: float | None = None
    aurc_excess: float | None = None


@dataclass(frozen=True, kw_only=True)
class MethodScores(Measures):
    """One row of the tables: mean scores of a method, and what it rests on.

    Args:
        macro_f1_sd: standard deviation over seeds.
        sees: the method's inputs, in words.
        fits: how many fits (members of an ensemble) one score averages over.
        seeds: over how many seeds the scores are means.
        chosen: hyperparameters that the method chose for itself.
        macro_f1_by_brain: means over seeds.
    """

    macro_f1_sd: float
    sees: str
    fits: int
    seeds: int
    chosen: Mapping[str, Any] | None = None
    macro_f1_by_brain: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Interval(Record):
    """A difference of macro-F1 with its 95 % interval.

    Args:
        over: what the interval generalises to: "brains" (other brains), or "blocks" (other places of these brains).
        replicates: how many of them there are.
    """

    difference: float
    low: float
    high: float
    over: Literal["brains", "blocks"]
    replicates: int


@dataclass(frozen=True, kw_only=True)
class ObliquenessScore(Record):
    """Score on the nodes of one class of the angle between the cortical normal and the section plane."""

    macro_f1: float
    nodes: int


@dataclass(frozen=True, kw_only=True)
class AnnotationWeight(Record):
    """Weight of the network's map where it is joined with propagated annotations; macro-F1 on hidden sections by it."""

    weight: float
    hidden_sections_macro_f1: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Confusion(Record):
    """Counts of nodes, [K][K]."""

    areas: tuple[str, ...]
    rows_true_columns_predicted: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ProtocolScores(Record):
    """The scores of one protocol.

    Args:
        test: of the network.
        baselines, variants: of what it is compared with, and of the same network on other inputs, by key.
        ours_minus: the network's macro-F1 minus that of each of them.
        judged_by: the source of the labels that judge, in words.
        left_out: numbers of nodes that macro-F1 leaves out: `unmatched_nodes` (cortex without a label in the truth) and
            `missed_nodes` (true cortex without a node); empty where there is no truth.
        by_obliqueness_deg: method -> "low-high" degrees -> score.
        per_area_f1, baselines_per_area_f1: None for an area that does not occur in the truth.
        annotations, distance_to_annotation_mm: only between annotated sections.
    """

    test: MethodScores
    baselines: Mapping[str, MethodScores]
    variants: Mapping[str, MethodScores] | None = None
    ours_minus: Mapping[str, Interval]
    judged_by: str | None = None
    left_out: Mapping[str, float] | None = None
    by_obliqueness_deg: Mapping[str, Mapping[str, ObliquenessScore]] | None = None
    per_area_f1: Mapping[str, float | None] | None = None
    baselines_per_area_f1: Mapping[str, Mapping[str, float | None]] | None = None
    confusion: Confusion | None = None
    annotations: AnnotationWeight | None = None
    distance_to_annotation_mm: Mapping[str, float] | None = None

    @property
    def networks(self) -> dict[str, MethodScores]:
        """The network ("main") and its variants."""
        return {"main": self.test, **(self.variants or {})}

    @property
    def rows(self) -> dict[str, MethodScores]:
        """Everything that stands in the table, best first."""
        return dict(sorted({**self.networks, **self.baselines}.items(), key=lambda item: -item[1].macro_f1))


@dataclass(frozen=True, kw_only=True)
class NodeCounts(Record):
    """Numbers of nodes: labelled ones that train, and judged ones.

    Args:
        gap_filling: judged between annotated sections; only on brains from sections.
        left_out: see `ProtocolScores`; only on one brain.
    """

    train: int
    test: int
    gap_filling: int | None = None
    left_out: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Validation(Record):
    """Scores on the nodes that each member's training left out."""

    macro_f1: float
    macro_f1_sd: float
    accuracy: float
    ece: float


@dataclass(frozen=True, kw_only=True)
class BrainNames(Record):
    training: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ControlScores(Record):
    """What a control run scored: macro-F1 of every network by its key, in each protocol that it could be judged in."""

    task: str
    strict: Mapping[str, float] | None = None
    gap_filling: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class BorderScores(Record):
    """Borders of one method on sections, judged by true ones (`meshgnn.borders.judged`).

    Args:
        found: how many; false_per_10_mm: of ribbon, those with no true border within reach.
        sharp_borders, gradual_borders: true ones; detected: share of them with a found one within reach; error_mm: mean
            distance to it. None where there are none.
    """

    found: int
    false_per_10_mm: float
    sharp_borders: int
    sharp_detected: float | None
    sharp_error_mm: float | None
    gradual_borders: int
    gradual_detected: float | None
    gradual_error_mm: float | None


@dataclass(frozen=True, kw_only=True)
class BorderTable(Record):
    """
    Args:
        reach_mm: how near a found border must lie.
        sections: that were judged, by brain.
        rows: network, schleicher, gradient, random; the last three with as many borders as the network on every
            section.
    """

    reach_mm: float
    sections: Mapping[str, tuple[int, ...]]
    rows: Mapping[str, BorderScores]


@dataclass(frozen=True, kw_only=True)
class SetScores(Record):
    """Sets of areas of nodes whose truth is known (`meshgnn.train.selective`).

    Args:
        covered: share of nodes whose set holds the true area; mean_size: areas in a set; single: share of nodes whose
            set is one area.
    """

    covered: float
    mean_size: float
    single: float


@dataclass(frozen=True, kw_only=True)
class SetTable(Record):
    """
    Args:
        coverage: that was asked for, on left-out training brains; least: probability with which an area is in a set of
            the closed form, as large as which the network's are made.
        rows: means over brains never seen, of the network and of the closed form.
        brains: of the network, by brain.
    """

    coverage: float
    least: float
    rows: Mapping[str, SetScores]
    brains: Mapping[str, SetScores]


@dataclass(frozen=True, kw_only=True)
class Metrics(Record):
    """metrics.json of area mapping, on one brain or on brains from sections.

    Args:
        task: of the run, in words.
        protocol: "strict" and the like; see the split.
        classes: number of areas.
        features, computed_features, transductive_features, left_out_features: names.
        rim, coordinates: whether they are inputs.
        alignment: how coordinates were brought together; None without coordinates.
        model: name of the network's class.
        validation: of the network.
        not_run: baseline -> why it could not be run.
        leakage: counts that must be 0; None where one does not apply.
        strict: scores of the main protocol; its fields stand at the top of the file. None where nothing judges.
        gap_filling: scores between annotated sections.
        brains, controls, reconstruction, borders, sets: only on brains from sections; borders and sets where an unseen
            one has a truth.
        per_seed, seeds_together: only on one brain; of each seed, and of the mean map.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    task: str
    protocol: str
    classes: int
    seeds: tuple[int, ...]
    brains: BrainNames | None = None
    nodes: NodeCounts
    features: tuple[str, ...]
    computed_features: tuple[str, ...] | None = None
    transductive_features: tuple[str, ...]
    left_out_features: tuple[str, ...]
    rim: bool
    coordinates: bool
    alignment: str | None
    model: str
    validation: Validation
    not_run: Mapping[str, str]
    controls: Mapping[str, ControlScores] | None = None
    leakage: Mapping[str, int | None]
    reconstruction: Mapping[str, Any] | None = None
    borders: BorderTable | None = None
    sets: SetTable | None = None
    strict: ProtocolScores | None = None
    gap_filling: ProtocolScores | None = None
    per_seed: tuple[Measures, ...] | None = None
    seeds_together: Measures | None = None
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None

    def to_json(self) -> dict[str, Any]:
        plain = super().to_json()
        top = plain.pop("strict", {})
        return plain | top

    @classmethod
    def from_json(cls, plain: Any, where: str) -> "Metrics":
        if isinstance(plain, dict) and "test" in plain:
            plain = plain | {"strict": plain}
        return super().from_json(plain, where)

    @property
    def left_out(self) -> Mapping[str, float]:
        """Numbers of nodes that the main protocol's macro-F1 leaves out."""
        return (self.strict.left_out if self.strict else None) or self.nodes.left_out or {}


@dataclass(frozen=True, kw_only=True)
class MappedNodes(Record):
    mapped: int
    judged: int


@dataclass(frozen=True, kw_only=True)
class PredictionMetrics(Record):
    """metrics.json of a trained run applied to another brain; `test` only where the brain carries labels."""

    task: str
    protocol: str
    classes: int
    seeds: tuple[int, ...]
    alignment: str | None
    nodes: MappedNodes
    test: Measures | None = None


@dataclass(frozen=True, kw_only=True)
class BaselineScores(Measures):
    """What a baseline stored with the run scored on the other brain; see `MethodScores`."""

    sees: str
    fits: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class SectionPredictionMetrics(PredictionMetrics):
    """metrics.json of a trained run applied to another stack; from `left_out` on only where something judges the map.

    Args:
        judged_by: the source of the labels that judge, in words.
        leakage: counts that must be 0.
        reconstruction: what is measured of the meshes.
        left_out, baselines, ours_minus: see `ProtocolScores`.
        not_run: what could not be run, and why.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    judged_by: str | None
    leakage: Mapping[str, int]
    reconstruction: Mapping[str, Any]
    left_out: Mapping[str, float] | None = None
    baselines: Mapping[str, BaselineScores] | None = None
    ours_minus: Mapping[str, Interval] | None = None
    not_run: Mapping[str, str] | None = None
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None
