"""meshgnn: brain mapping on cortical meshes.

The facade holds the records and readers only; networks and training live in `meshgnn.nn`, `meshgnn.train`, and are not
imported here (importing this package loads no torch).
"""

from pathlib import Path

from meshgnn.compiled import place_cache
from meshgnn.errors import InputError, LeakError
from meshgnn.graph import Areas, FeatureTable, MeshGraph, NodeLocations
from meshgnn.mesh.record import SurfaceMesh

__version__ = "0.1.0"

place_cache(Path(__file__).parent)

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
