"""Area mapping on a surface folder."""

from dataclasses import replace

from features.geometry import Geometry
from features.stored_table import StoredTable
from features.volume_features import VolumeFeatures
from features.volume_maps import VolumeMaps
from meshgnn.config import choices
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.source.hcp import HcpUtils
from meshgnn.source.surface_folder import SurfaceFolder

MAY = {
    "source": (SurfaceFolder.Config(), HcpUtils.Config()),
    "features": (Geometry.Config(), VolumeFeatures.Config(), VolumeMaps.Config(), StoredTable.Config()),
}


@choices(MAY)
def surface() -> AreaMapping.Config:
    """Train on one hemisphere of a surface folder, test on the other (--set source.folder=DIR)."""
    return AreaMapping.Config(source=SurfaceFolder.Config())


@choices(MAY)
def with_geometry() -> AreaMapping.Config:
    """The same with thickness, curvature and area ratio computed from pial and white surfaces."""
    return replace(surface(), features=(Geometry.Config(),))


@choices(MAY)
def with_volume() -> AreaMapping.Config:
    """The same with learnt features of a volume: the MNI152 T1, for surfaces in MNI152 or fsaverage space."""
    return replace(surface(), features=(VolumeFeatures.Config(),))


@choices(MAY)
def with_volume_maps() -> AreaMapping.Config:
    """The same with multi-scale derivatives of a volume read at the nodes: the MNI152 T1, nothing learnt."""
    return replace(surface(), features=(VolumeMaps.Config(),))
