"""Features of nodes: geometry, tables, encoders."""
