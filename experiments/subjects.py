"""Traits of subjects from whole brains."""

from meshgnn.data.subject_inputs import SubjectInputs
from meshgnn.experiment.subject_prediction import SubjectPrediction
from meshgnn.nn import GraphSAGE
from meshgnn.source.participants import SubjectFolders
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.train.augment import Augment
from meshgnn.train.fit import TrainerConfig

NETWORK = GraphSAGE.Config(hidden=32, propagation=0)
TRAINER = TrainerConfig(
    folds=3, epochs=150, learning_rate=4e-3, ema=0.95, augment=Augment.Config(drop=0.0, warp_mm=0.0, jitter_mm=0.0)
)


def subjects() -> SubjectPrediction.Config:
    """Age and sex of a cohort of virtual subjects, beside linear models on means of areas (nothing to set)."""
    return SubjectPrediction.Config(cohort=VirtualSubjects.Config(), model=NETWORK, trainer=TRAINER)


def folders() -> SubjectPrediction.Config:
    """The same on your subjects (--set cohort.folder=DIR --set cohort.targets=age,sex)."""
    return SubjectPrediction.Config(
        cohort=SubjectFolders.Config(), inputs=SubjectInputs.Config(), model=NETWORK, trainer=TRAINER
    )
