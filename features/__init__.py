"""Features of nodes: geometry, tables, encoders."""

import meshgnn  # noqa: F401  (finds numba a place for compiled code)
