"""metrics.json of a run as frozen records: written by `to_json`, read by `from_json`, here and nowhere else.

`areas.py` and `subjects.py` hold those of the two kinds of tasks, `models.py` those of studies of many networks,
`sweep.py` those of learning curves, `explanation.py` those of attributions, `networks.py` those of networks;
`record.py` what they have in common.
"""

from meshgnn.results.areas import (
    AnnotationWeight,
    BaselineScores,
    BrainNames,
    Confusion,
    ControlScores,
    Interval,
    MappedNodes,
    Measures,
    MethodScores,
    Metrics,
    NodeCounts,
    ObliquenessScore,
    PredictionMetrics,
    ProtocolScores,
    SectionPredictionMetrics,
    Validation,
)
from meshgnn.results.explanation import AreaAttribution, AttributionMap, ExplanationMetrics
from meshgnn.results.models import ModelRow, ModelTable
from meshgnn.results.networks import (
    AreaNetworkMetrics,
    BlockSummary,
    EffectRow,
    LayerSummary,
    ParcelScore,
    TargetNetworkMetrics,
)
from meshgnn.results.record import Record
from meshgnn.results.subjects import Difference, SubjectCounts, SubjectMetrics, TargetScores, TraitRow, TraitScores
from meshgnn.results.sweep import SweepMetrics, SweepPoint

__all__ = [
    "AnnotationWeight",
    "AreaAttribution",
    "AreaNetworkMetrics",
    "AttributionMap",
    "BaselineScores",
    "BlockSummary",
    "BrainNames",
    "Confusion",
    "ControlScores",
    "Difference",
    "EffectRow",
    "ExplanationMetrics",
    "Interval",
    "LayerSummary",
    "MappedNodes",
    "Measures",
    "MethodScores",
    "Metrics",
    "ModelRow",
    "ModelTable",
    "NodeCounts",
    "ObliquenessScore",
    "ParcelScore",
    "PredictionMetrics",
    "ProtocolScores",
    "SectionPredictionMetrics",
    "Record",
    "SubjectCounts",
    "SubjectMetrics",
    "SweepMetrics",
    "SweepPoint",
    "TargetNetworkMetrics",
    "TargetScores",
    "TraitRow",
    "TraitScores",
    "Validation",
]
