"""A graph network on meshes, a volume network on images, and both fused, on the same subjects."""

from dataclasses import replace

from experiments.traits import T1, traits
from experiments.traits import quick as quick_traits
from features.encoders.graph_net import GraphNet
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.subject_data.meshes import SubjectMeshes
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.images import VirtualImages

MESH = TraitInput(name="mesh", data=SubjectMeshes.Config(), encoder=GraphNet.Config())


def graph_and_volume() -> TraitPrediction.Config:
    """Sex and age from meshes by a graph network, from T1 by a volume network, and from both (nothing to set).

    The same subjects and divisions for all; every network, and a linear model on each input, stands in one table.
    """
    return _of(traits())


def quick() -> TraitPrediction.Config:
    """The same on a small cohort, in a few minutes."""
    return _of(quick_traits())


def _of(base: TraitPrediction.Config) -> TraitPrediction.Config:
    assert isinstance(base.cohort, VirtualImages.Config)
    cohort = replace(base.cohort, meshes=True, absent=0.0)
    # Meshes are learnt by heart before volumes are understood: of two inputs trained together the quicker one starves
    # the other (Wang et al. 2020, arXiv:1905.12681). So either is left out half of the time, and training is long.
    return replace(
        base, cohort=cohort, targets=("sex", "age"), inputs=(T1, MESH), input_dropout=0.5,
        trainer=replace(base.trainer, epochs=40, patience=20),
    )  # fmt: skip


def folder() -> TraitPrediction.Config:
    """The same on your subjects (--set cohort.folder=DIR --set cohort.targets=age,sex).

    Beside the images, features of the nodes of fsaverage5 or coarser: sub-*/surf/sub-*_hemi-L_FEATURE.shape.gii.
    """
    return replace(
        graph_and_volume(),
        cohort=ParticipantTable.Config(),
        targets=(),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=64)),
    )
