"""Area mapping on a surface folder."""

from dataclasses import replace

from features.geometry import Geometry
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.source.surface_folder import SurfaceFolder


def surface() -> AreaMapping.Config:
    """Train on one hemisphere of a surface folder, test on the other (--set source.folder=DIR)."""
    return AreaMapping.Config(source=SurfaceFolder.Config())


def with_geometry() -> AreaMapping.Config:
    """The same with thickness, curvature and area ratio computed from pial and white surfaces."""
    return replace(surface(), geometry=Geometry.Config())
