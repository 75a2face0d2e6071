"""metrics.json of attributions: which areas move which output, and whether the maps rest on what was learnt."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshgnn.results.record import Record


@dataclass(frozen=True, kw_only=True)
class AreaAttribution(Record):
    """One area of one map, both hemispheres together; means over subjects and over the nodes of the area.

    Args:
        rank: 1 for the area of the largest magnitude.
        area: its name; nodes: in it.
        magnitude, sd: mean of |attribution|, and its standard deviation over subjects.
        left, right: the magnitude of each hemisphere; None where it has no such node.
        signed: mean of the attribution itself.
        random: magnitude of networks with random weights.
        planted: whether the trait was planted there; None where that is not known.
    """

    rank: int
    area: str
    nodes: int
    magnitude: float
    sd: float
    left: float | None
    right: float | None
    signed: float
    random: float
    planted: bool | None = None


@dataclass(frozen=True, kw_only=True)
class AttributionMap(Record):
    """One target, one input, one method.

    Args:
        target, input, method: which.
        subjects: held-out ones that it is a mean of.
        random_r: rank correlation over cortical nodes of the magnitude with that of networks with random weights, mean
            over two draws of these; random_among: of the two draws with each other.
        passed: whether random_r is well below random_among.
        tells: whether the network predicts the target better than chance; the map of one that does not says nothing.
        areas: by rank.
    """

    target: str
    input: str
    method: str
    subjects: int
    random_r: float
    random_among: float
    passed: bool
    tells: bool
    areas: tuple[AreaAttribution, ...]

    @property
    def planted_rank(self) -> int | None:
        """Best rank of a planted area."""
        return next((area.rank for area in self.areas if area.planted), None)


@dataclass(frozen=True, kw_only=True)
class ExplanationMetrics(Record):
    """metrics.json of an explained run.

    Args:
        task: in words.
        run, network: whose networks were explained.
        alike: share of random_among from which a map counts as like those of random weights.
        maps: all of them.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    task: str
    run: str
    network: str
    alike: float
    maps: tuple[AttributionMap, ...]
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None
