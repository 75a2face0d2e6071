"""metrics.json of a run as frozen records: written by `to_json`, read by `from_json`, here and nowhere else.

`areas.py` and `subjects.py` hold those of the two kinds of tasks, `models.py` those of studies of many networks,
`sweep.py` those of learning curves, `explanation.py` those of attributions; `record.py` what they have in common.
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
from meshgnn.results.record import Record
from meshgnn.results.subjects import Difference, SubjectCounts, SubjectMetrics, TargetScores, TraitRow, TraitScores
from meshgnn.results.sweep import SweepMetrics, SweepPoint

__all__ = [
    "AnnotationWeight",
    "AreaAttribution",
    "AttributionMap",
    "BaselineScores",
    "BrainNames",
    "Confusion",
    "ControlScores",
    "Difference",
    "ExplanationMetrics",
    "Interval",
    "MappedNodes",
    "Measures",
    "MethodScores",
    "Metrics",
    "ModelRow",
    "ModelTable",
    "NodeCounts",
    "ObliquenessScore",
    "PredictionMetrics",
    "ProtocolScores",
    "SectionPredictionMetrics",
    "Record",
    "SubjectCounts",
    "SubjectMetrics",
    "SweepMetrics",
    "SweepPoint",
    "TargetScores",
    "TraitRow",
    "TraitScores",
    "Validation",
]
