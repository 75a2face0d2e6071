"""Area mapping with the resting run at every node as one more table of features."""

from dataclasses import replace

from experiments.surface import MAY
from features.functional_components import FunctionalComponents
from features.series_features import SeriesFeatures
from meshgnn.config import choices
from meshgnn.data.functional_edges import FunctionalEdges
from meshgnn.data.inputs import NodeInputs
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.source.hcp import HcpUtils
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.virtual.resting_brain import VirtualRestingBrain
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.train.fit import TrainerConfig

STRUCTURE = ("thickness", "profileMean", "profileSkewness")
SOURCES = {
    "source": (VirtualRestingBrain.Config(), SurfaceFolder.Config(), HcpUtils.Config()),
    "features": (FunctionalComponents.Config(), SeriesFeatures.Config(), *MAY["features"]),
}


@choices(SOURCES)
def fmri_nodes() -> AreaMapping.Config:
    """Areas of a virtual brain from its structure and from the runs at its nodes (nothing to set).

    The runs enter as loadings on their components, and as what a transformer learns of single series.
    """
    return AreaMapping.Config(
        source=VirtualRestingBrain.Config(), features=(FunctionalComponents.Config(), SeriesFeatures.Config())
    )


@choices(SOURCES)
def alone() -> AreaMapping.Config:
    """The same from the runs alone."""
    return replace(fmri_nodes(), inputs=NodeInputs.Config(exclude=STRUCTURE))


@choices(SOURCES)
def without() -> AreaMapping.Config:
    """The same from the structure alone."""
    return replace(fmri_nodes(), features=())


@choices(SOURCES)
def connected() -> AreaMapping.Config:
    """The same, and the network also has edges between distant nodes whose runs are alike."""
    return replace(fmri_nodes(), connect=FunctionalEdges.Config())


@choices(SOURCES)
def quick() -> AreaMapping.Config:
    """Structure and runs on a coarse mesh, in a few minutes."""
    people = VirtualSubjects.Config(subjects=4, sites=2, nodes=642)
    short = TrainerConfig(folds=3, epochs=100)
    return replace(fmri_nodes(), source=VirtualRestingBrain.Config(people=people), trainer=short, seeds=(0,))


@choices(SOURCES)
def folder() -> AreaMapping.Config:
    """The same on your brain (--set source.folder=DIR): runs as hemi-L_*.func.gii beside surfaces and labels."""
    return replace(fmri_nodes(), source=SurfaceFolder.Config())
