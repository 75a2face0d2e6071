"""Apply a trained run to another brain."""

from features.geometry import Geometry
from meshgnn.experiment.predict import Predict


def predict() -> Predict.Config:
    """Map another brain with a trained run (--set run=RUN --set source.folder=DIR)."""
    return Predict.Config(geometry=Geometry.Config())
