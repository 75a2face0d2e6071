"""Apply a trained run to another brain."""

from features.geometry import Geometry
from features.stored_table import StoredTable
from features.volume_features import VolumeFeatures
from features.volume_maps import VolumeMaps
from meshgnn.config import choices
from meshgnn.experiment.predict import Predict
from meshgnn.experiment.predict_sections import PredictSections


@choices({"features": (Geometry.Config(), VolumeFeatures.Config(), VolumeMaps.Config(), StoredTable.Config())})
def predict() -> Predict.Config:
    """Map another brain with a trained run (--set run=RUN --set source.folder=DIR)."""
    return Predict.Config(features=(Geometry.Config(),))


def sections() -> PredictSections.Config:
    """Map a new stack of sections with a trained run (--set run=RUN --set stack=STACK)."""
    return PredictSections.Config()
