"""Triangle meshes of cortex: the record, and what can be computed from it with numpy alone.

Legend of every docstring: V nodes, F faces, E directed edges, C channels, K classes.
"""

from meshgnn.mesh.record import SurfaceMesh

__all__ = ["SurfaceMesh"]
