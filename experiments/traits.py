"""Traits of subjects from volumes, connectivity and tables, any of which a subject may lack."""

from dataclasses import replace

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.table_net import TableNet
from features.fusion.trait_head import TraitHead
from features.samplers.epochs import EpochBatches
from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.subject_data.table import SubjectTable
from features.subject_data.volumes import SubjectVolumes
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.subjects import VirtualSubjects

T1 = TraitInput(
    name="T1w",
    data=SubjectVolumes.Config(),
    encoder=BiobankCNN.Config(channels=(8, 16, 32), out_channels=32),
)
CONNECTIVITY = TraitInput(
    name="connectivity", data=SubjectConnectivity.Config(fisher=True), encoder=ConnectivityNet.Config(widths=(64, 32))
)
TABLE = TraitInput(
    name="table", data=SubjectTable.Config(unseen="other"), encoder=TableNet.Config(widths=(32, 16), missing=True)
)
HEAD = TraitHead.Config(widths=(32,))
TRAINER = TraitTrainer(
    folds=2,
    epochs=40,
    patience=8,
    sampler=EpochBatches.Config(size=32),
    optimiser=Optimiser.Config(learning_rate=3e-3, weight_decay=0.05),
)


def traits() -> TraitPrediction.Config:
    """Sex, age, a score and a null target of a virtual cohort from T1, connectivity and a table (nothing to set)."""
    return TraitPrediction.Config(
        cohort=VirtualImages.Config(people=VirtualSubjects.Config(subjects=400), absent=0.3),
        inputs=(T1, CONNECTIVITY, TABLE),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=32)),
        head=HEAD,
        input_dropout=0.2,
        split=SubjectSplit.Config(cross=False, keep=("family",), alike=("site",)),
        trainer=TRAINER,
    )


def quick() -> TraitPrediction.Config:
    """The same on a small cohort, in a few minutes."""
    base = traits()
    return replace(
        base,
        cohort=VirtualImages.Config(people=VirtualSubjects.Config(subjects=120), size=24, absent=0.3),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=24)),
        trainer=replace(base.trainer, epochs=30, sampler=EpochBatches.Config(size=8)),
    )


def folder() -> TraitPrediction.Config:
    """The same on your subjects (--set cohort.folder=DIR --set cohort.targets=age,sex)."""
    return replace(
        traits(), cohort=ParticipantTable.Config(), conversion=VolumeConversion.Config(cube=Cube.Config(size=64))
    )
