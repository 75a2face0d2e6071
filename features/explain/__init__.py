"""What trained networks on volumes look at: attributions, on the mesh and by area."""
