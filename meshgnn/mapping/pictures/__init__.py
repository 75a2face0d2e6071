"""Pictures of sections for the page: pyramids, tiles, thumbnails. 8 bit grey; never used for measuring."""

from meshgnn.mapping.pictures.tiles import TILE, Pictures, Shown

__all__ = ["TILE", "Pictures", "Shown"]
