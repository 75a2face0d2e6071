"""An experiment of one's own parts.

python -m meshgnn.experiment tests.plugins.experiment:mine --set source.folder=DIR
"""

from features.contrastive_features import ContrastiveFeatures
from features.extract import ExtractConfig
from features.pretrain import PretrainConfig
from features.samplers.uniform import UniformBatches
from meshgnn.config import choices
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.source.surface_folder import SurfaceFolder
from tests.plugins.encoder import Perceptron
from tests.plugins.feature_maker import Components
from tests.plugins.gnn_layer import ContrastNetwork
from tests.plugins.node_data import NearPoints
from tests.plugins.objective import Agreement

MAKER = ContrastiveFeatures.Config(
    pretrain=PretrainConfig(
        data=NearPoints.Config(), encoder=Perceptron.Config(), objective=Agreement.Config(),
        sampler=UniformBatches.Config(size=32), epochs=2, epoch_steps=10, threads=1, learning_rate=1e-2,
    ),
    extract=ExtractConfig(name="near", threads=1),
)  # fmt: skip


@choices({"features": (MAKER, Components.Config())})
def mine() -> AreaMapping.Config:
    """Features of a modality of one's own, learnt by an encoder of one's own, named by a network of one's own."""
    return AreaMapping.Config(
        source=SurfaceFolder.Config(), features=(MAKER, Components.Config()), model=ContrastNetwork.Config(hidden=16)
    )
