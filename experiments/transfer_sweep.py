"""Scratch against pretrained at growing numbers of subjects, in the spirit of "From YouTube to the brain" (Malik &
Bzdok 2022, 10.1016/j.neunet.2022.06.014): a 3D ResNet-18, head-only, full and gradual schedules.

Weights learnt elsewhere come from a local file (--set input.pretrained.file=FILE --set input.pretrained.sha256=HASH).
Without one the encoder is pretrained in the run, on generated shapes or on the age of other virtual subjects.
"""

from dataclasses import replace

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.resnet3d import ResNet3D
from features.samplers.epochs import EpochBatches
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.subject_data.volumes import SubjectVolumes
from features.sweep.experiment import TransferSweep
from features.sweep.surrogate import OtherSubjects
from features.traits.items import TraitInput
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from features.transfer.schedule import TransferSchedule
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.subjects import VirtualSubjects

TRAINER = TraitTrainer(
    epochs=40,
    patience=10,
    sampler=EpochBatches.Config(size=16),
    optimiser=Optimiser.Config(learning_rate=1e-3, weight_decay=0.01),
    schedule=TransferSchedule.Config(epochs_per_stage=2, decay=0.7),
)


def transfer_sweep() -> TransferSweep.Config:
    """Sex of virtual subjects by a 3D ResNet-18 from scratch and pretrained on shapes, at 50 to 500 subjects."""
    return TransferSweep.Config(
        cohort=VirtualImages.Config(people=VirtualSubjects.Config(subjects=700), size=48),
        input=TraitInput(name="T1w", data=SubjectVolumes.Config(), encoder=ResNet3D.Config(depth=18, stem="image")),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=48)),
        split=SubjectSplit.Config(parts=4, cross=False, keep=("family",), alike=("site",)),
        sizes=(50, 100, 200, 0),
        pretraining=replace(TRAINER, epochs=20, schedule=TransferSchedule.Config()),
        trainer=TRAINER,
    )


def quick() -> TransferSweep.Config:
    """The same with a small network, pretrained on the age of other virtual subjects, at 16 to 64; in minutes."""
    base = transfer_sweep()
    others = VirtualImages.Config(people=VirtualSubjects.Config(subjects=160, seed=9001), size=16)
    cnn = BiobankCNN.Config(channels=(8, 16), out_channels=16, dropout=0.0)
    return replace(
        base,
        cohort=VirtualImages.Config(people=VirtualSubjects.Config(subjects=140), size=16),
        input=replace(base.input, encoder=cnn),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=16)),
        surrogate=OtherSubjects.Config(cohort=others),
        sizes=(16, 32, 64),
        seeds=(0, 1, 2),
        pretraining=replace(base.pretraining, epochs=15),
        trainer=replace(TRAINER, epochs=20, patience=6, sampler=EpochBatches.Config(size=8)),
    )


def control() -> TransferSweep.Config:
    """The quick sweep pretrained on the very trait, sex, of other virtual subjects: it must be worth many subjects."""
    base = quick()
    assert isinstance(base.surrogate, OtherSubjects.Config)
    return replace(base, surrogate=replace(base.surrogate, targets=("sex",)))


def folder() -> TransferSweep.Config:
    """The same on your subjects (--set cohort.folder=DIR --set cohort.targets=sex), volumes of 64^3."""
    return replace(
        transfer_sweep(),
        cohort=ParticipantTable.Config(),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=64)),
        sizes=(50, 100, 200, 500, 0),
    )
