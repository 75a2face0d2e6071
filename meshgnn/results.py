"""metrics.json of a run as frozen records: written by `to_json`, read by `Metrics.from_json`, here and nowhere else.

A field that is absent from the file is one whose default is None and that holds None. Fields that this version does not
know are passed over, so that a file of a later version can still be read.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from meshgnn.errors import InputError

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of what stands in metrics.json."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        optional = {f.name for f in fields(self) if f.default is None}
        return {name: _plain(value) for name, value in found.items() if value is not None or name not in optional}

    @classmethod
    def from_json(cls: type[R], plain: Any, where: str) -> R:
        """The record that `to_json` wrote.

        Args:
            plain: parsed JSON.
            where: the file, and the place in it, for messages.

        Raises:
            InputError: a field is missing or not of its type.
        """
        if not isinstance(plain, dict):
            raise _damaged(where, "is no record")
        hints, values = get_type_hints(cls), {}
        for field in fields(cls):
            if field.name in plain:
                values[field.name] = _read(hints[field.name], plain[field.name], f"{where}: {field.name}")
            elif field.default is MISSING and field.default_factory is MISSING:
                raise _damaged(where, f"{field.name!r} is missing")
        return cls(**values)


def _damaged(where: str, why: str) -> InputError:
    return InputError(f"{where} {why}; the file was damaged or written by another version: run again with --resume")


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _read(kind: Any, plain: Any, where: str) -> Any:
    """`plain` as a value of the annotation `kind`; numbers stay as they are written."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return plain
    if origin in (Union, types.UnionType):
        if plain is None and type(None) in arguments:
            return None
        return _read(next(a for a in arguments if a is not type(None)), plain, where)
    if is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Record):
        return kind.from_json(plain, where)
    if origin is Mapping and isinstance(plain, dict):
        return {str(key): _read(arguments[1], item, f"{where}: {key}") for key, item in plain.items()}
    if origin is tuple and isinstance(plain, list):
        return tuple(_read(arguments[0], item, where) for item in plain)
    if origin is Literal and plain in arguments:
        return plain
    kinds: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}
    accepted = kinds.get(kind, ())
    if isinstance(plain, accepted) and (kind is bool or not isinstance(plain, bool)):
        return plain
    raise _damaged(where, f"cannot be {plain!r}"[:120])


@dataclass(frozen=True, kw_only=True)
class Measures(Record):
    """What is measured of one map, or means of that over brains and seeds.

    Args:
        macro_f1: mean F1 over the areas that occur in the truth.
        macro_f1_all_cortex: the same, with cortex that neither truth nor map covers counted as errors.
        balanced_accuracy: mean share of each true area's nodes that are named right.
        boundary_error_mm: mean geodesic distance between predicted and true borders; None where one of them is missing.
        ece: expected calibration error (Guo et al. 2017).
    """

    macro_f1: float
    macro_f1_all_cortex: float
    accuracy: float
    balanced_accuracy: float
    boundary_error_mm: float | None
    ece: float


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
        brains, controls, reconstruction: only on brains from sections.
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
