"""Area mapping on a surface folder."""

from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.source.surface_folder import SurfaceFolder


def surface() -> AreaMapping.Config:
    """Train on one hemisphere of a surface folder, test on the other (--set source.folder=DIR)."""
    return AreaMapping.Config(source=SurfaceFolder.Config())
