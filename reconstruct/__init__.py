"""From sections or volumes to midsurface meshes."""
