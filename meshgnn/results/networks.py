"""metrics.json of networks of targets and of areas."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshgnn.results.record import Record


@dataclass(frozen=True, kw_only=True)
class LayerSummary(Record):
    """
    Args:
        edges: with a weight; significant: of them at the q asked for, None without a test.
        median: of the weights.
    """

    edges: int
    significant: int | None = None
    median: float


@dataclass(frozen=True, kw_only=True)
class BlockSummary(Record):
    """What a block model found.

    Args:
        back_end: by its own name.
        structure: False where there is one group, or each node its own.
        groups: per level, finest first.
        stability: mean over the nodes.
        description_length: best of every weight model, in nats; of the fallback, minus modularity.
        spread: largest minus smallest over the starts of the chosen model.
        posterior_groups: number of groups -> share of draws.
        notes: what was left out.
        planted_rand: adjusted Rand index with planted groups.
        labels: group of every node at the finest level.
    """

    back_end: str
    structure: bool
    groups: tuple[int, ...]
    stability: float
    description_length: Mapping[str, float]
    spread: float
    posterior_groups: Mapping[str, float]
    notes: tuple[str, ...]
    planted_rand: float | None = None
    labels: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class EffectRow(Record):
    """What one input adds to the score of the targets of a domain.

    Args:
        domain: of the targets.
        score_name: of the score.
        input: that the models have or lack.
        estimate, low, high: of its coefficient, with its 95 % interval.
        p, q: of the likelihood-ratio test; Benjamini & Hochberg over all effects of the study.
        between, within: standard deviations s_u and s_e.
        targets, models: in the fit.
        note: what to beware of; "" if nothing.
        people_low, people_high: 95 % interval over resampled people; None where there is none.
        people: how many were resampled, or why none were.
    """

    domain: str
    score_name: str
    input: str
    estimate: float
    low: float
    high: float
    p: float
    q: float
    between: float
    within: float
    targets: int
    models: int
    note: str = ""
    people_low: float | None = None
    people_high: float | None = None
    people: str = ""


@dataclass(frozen=True, kw_only=True)
class TargetNetworkMetrics(Record):
    """metrics.json of a network of targets.

    Args:
        task: in words.
        nodes, people, models: their numbers.
        layers, blocks: by name, and what was found by them; None where no layer has edges.
        centrality: of every node by layer, of maximum 1.
        centrality_doubts: layer -> why its ranks are not to be read.
        effects: of mixed models; not_fitted: what could not be, and why.
        warnings: one line each.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    task: str
    nodes: int
    people: int
    models: int
    layers: Mapping[str, LayerSummary]
    blocks: BlockSummary | None = None
    centrality: Mapping[str, Mapping[str, float]]
    centrality_doubts: Mapping[str, str]
    effects: tuple[EffectRow, ...]
    not_fitted: tuple[str, ...]
    warnings: tuple[str, ...]
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class ParcelScore(Record):
    """How well groups of parcels tell the true areas of a brain.

    Args:
        groups: of parcels.
        adjusted_rand: of nodes with a label.
        boundary_error_mm: mean geodesic distance between found and true borders.
        minus, low, high: of the block model's index minus this one's, with its 95 % interval; None of itself.
    """

    groups: int
    adjusted_rand: float
    boundary_error_mm: float | None
    minus: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class AreaNetworkMetrics(Record):
    """metrics.json of a network of areas.

    Args:
        task: in words.
        brains: number of them.
        nodes: of the network of areas.
        layers, blocks: of the network of areas; None for brains without areas.
        parcels: brain -> method -> score; without truth, scores are left out.
        parcel_mean: method -> mean over the brains, with intervals over them, or over places of one brain.
        over: what intervals generalise to: "brains", "places", or "" without truth.
        warnings: one line each.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    task: str
    brains: int
    nodes: int
    layers: Mapping[str, LayerSummary]
    blocks: BlockSummary | None = None
    parcels: Mapping[str, Mapping[str, ParcelScore]]
    parcel_mean: Mapping[str, ParcelScore]
    over: str
    warnings: tuple[str, ...]
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None
