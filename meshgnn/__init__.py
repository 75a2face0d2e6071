"""meshgnn: brain mapping on cortical meshes.

The facade holds the records and readers only; networks and training live in `meshgnn.nn`, `meshgnn.train`, and are not
imported here (importing this package loads no torch).
"""

from meshgnn.errors import InputError, LeakError
from meshgnn.graph import Areas, FeatureTable, MeshGraph, NodeLocations
from meshgnn.mesh.record import SurfaceMesh

__version__ = "0.1.0"

__all__ = [
    "Areas",
    "FeatureTable",
    "InputError",
    "LeakError",
    "MeshGraph",
    "NodeLocations",
    "SurfaceMesh",
    "__version__",
]
