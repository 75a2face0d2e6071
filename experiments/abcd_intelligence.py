"""Fluid intelligence from T1 volumes, after the poster "Training a Large-Scale 3D CNN Predicting Human Intelligence in
ABCD": Naive-CNN and ResNet50-3D on a score that confounds are regressed out of.

The mean squared errors that the poster reports, 71 to 73, are about the variance of its labels: a network that has
learnt nothing reaches them. Every table here therefore holds the constant mean of the training subjects (`constant`),
0 (`zero`: the target is a residual), the site's mean where sites are shared, and ridge regression on the same volumes
averaged over 8 x 8 x 8 parts (`linear_T1w`), all in the unit of the score; R2 above 0 is what beats the constants.

As on the poster: absolute error (`trainer.numbers=squared` for the other) on log(y + offset) of the residual, one mean
and standard deviation for all volumes, Adam at 0.001, no augmentation. Other than there: confounds are fitted on
training subjects alone, the logarithm's offset is taken from them, whoever picks the epoch is not who is reported, and
an ensemble of two is averaged.
"""

from dataclasses import replace

from features.encoders.naive_cnn import NaiveCNN
from features.encoders.resnet3d import ResNet3D
from features.fusion.trait_head import TraitHead
from features.samplers.epochs import EpochBatches
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.subject_data.volumes import SubjectVolumes
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from meshgnn.data.residualizer import Residualizer
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.data.target_transform import LogTarget
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.subjects import VirtualSubjects

T1 = TraitInput(name="T1w", data=SubjectVolumes.Config(scale="train"), encoder=NaiveCNN.Config())
CONFOUNDS = Residualizer.Config(
    confounds=("site", "sex", "age"), categorical=("site", "sex"), unseen="other", missing="fill"
)
TRAINER = TraitTrainer(
    folds=2,
    epochs=30,
    patience=8,
    sampler=EpochBatches.Config(size=12),
    optimiser=Optimiser.Config(kind="adam", learning_rate=1e-3, weight_decay=1e-3),
    numbers="absolute",
)


def _of_cubes(side: int, subjects: int, encoder: NaiveCNN.Config | ResNet3D.Config) -> TraitPrediction.Config:
    """The virtual cohort as cubes of `side` voxels."""
    return TraitPrediction.Config(
        cohort=VirtualImages.Config(people=VirtualSubjects.Config(subjects=subjects), size=side),
        targets=("score",),
        inputs=(replace(T1, encoder=encoder),),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=side)),
        head=TraitHead.Config(widths=()),
        confounds=CONFOUNDS,
        zero=True,
        transform=LogTarget.Config(),
        split=SubjectSplit.Config(parts=5, cross=False, keep=("family",), alike=("site",)),
        trainer=TRAINER,
    )


def abcd_intelligence() -> TraitPrediction.Config:
    """A score without site, sex and age from T1 volumes by the Naive-CNN, on a virtual cohort (nothing to set).

    Volumes of 80^3, the smallest that the published layers leave something of: 12,709,041 parameters.
    """
    return _of_cubes(80, 400, NaiveCNN.Config())


def resnet() -> TraitPrediction.Config:
    """The same by ResNet50-3D (47,204,673 parameters) on volumes of 48^3; hours on two cores, meant for a GPU."""
    return _of_cubes(48, 400, ResNet3D.Config(depth=50))


def quick() -> TraitPrediction.Config:
    """The same by a small Naive-CNN on a small cohort with a large effect, in a few minutes."""
    small = NaiveCNN.Config(channels=(8, 16, 32), kernels=(5, 3, 3), linear=(64, 32), dropout=0.1)
    base = _of_cubes(32, 160, small)
    assert isinstance(base.cohort, VirtualImages.Config)
    return replace(
        base,
        cohort=replace(base.cohort, score_effect=0.25),
        trainer=replace(base.trainer, epochs=40, patience=12, sampler=EpochBatches.Config(size=16)),
    )


def folder() -> TraitPrediction.Config:
    """The same on your subjects at 240^3, as published (--set cohort.folder=DIR --set cohort.targets=COLUMN).

    527,685,041 parameters, three volumes at a time and 24 per step, bf16; `inputs.0.encoder=ResNet3D` for the other
    network. participants.tsv needs the columns of `confounds.confounds`; family_id and site keep relatives together
    and scanners alike. Scores that are residuals already: `confounds.confounds=[]` and `confounds.categorical=[]`.
    """
    return replace(
        _of_cubes(240, 400, NaiveCNN.Config()),
        cohort=ParticipantTable.Config(),
        targets=(),
        trainer=replace(TRAINER, sampler=EpochBatches.Config(size=3), accumulate=8, precision="bf16"),
    )
