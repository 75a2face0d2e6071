"""Traits of subjects from whole brains."""

from meshgnn.data.subject_inputs import SubjectInputs
from meshgnn.experiment.subject_prediction import SubjectPrediction
from meshgnn.nn import GraphHead, GraphSAGE
from meshgnn.source.participants import SubjectFolders
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.train.augment import Augment
from meshgnn.train.fit import TrainerConfig

# Small, noisy and stopped early: there are tens of subjects, not thousands.
NETWORK = GraphSAGE.Config(hidden=16, layers=1, dropout=0.1, propagation=0)
HEAD = GraphHead.Config(pooling="each", channels=4)
INPUTS = SubjectInputs.Config(coordinates=False)
TRAINER = TrainerConfig(
    folds=3,
    epochs=100,
    patience=4,
    learning_rate=1e-2,
    weight_decay=0.1,
    ema=0.95,
    augment=Augment.Config(noise=0.5, drop=0.1, warp_mm=0.0, jitter_mm=0.0, affine=0.0),
)


def subjects() -> SubjectPrediction.Config:
    """Age and sex of a cohort of virtual subjects, beside linear models on means of areas (nothing to set)."""
    return SubjectPrediction.Config(
        cohort=VirtualSubjects.Config(), inputs=INPUTS, model=NETWORK, head=HEAD, trainer=TRAINER
    )


def folders() -> SubjectPrediction.Config:
    """The same on your subjects (--set cohort.folder=DIR --set cohort.targets=age,sex)."""
    return SubjectPrediction.Config(
        cohort=SubjectFolders.Config(), inputs=INPUTS, model=NETWORK, head=HEAD, trainer=TRAINER
    )
