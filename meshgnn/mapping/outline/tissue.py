"""The edge of the tissue on a section's picture, by a threshold between glass and tissue."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from meshgnn.source.background import background_grey, frame_of

SHARE = 0.2  # of the contrast between glass and the darkest tissue: white matter is nearly as bright as glass
_NOISE = 5.0  # and so many times the spread of the frame
_PIECE, _HOLE = 0.01, 0.002  # of the tissue: smaller pieces are dirt, smaller holes are vessels


def tissue(grey: NDArray[np.uint8], factor: float) -> Any:
    """The tissue as a shapely MultiPolygon, in pixels of the full resolution from the image's outer corner.

    Args:
        grey: picture [rows, columns], glass around the tissue.
        factor: pixels of the full resolution per pixel of `grey`.
    """
    soft = ndimage.gaussian_filter(grey.astype(np.float32), 1.0)
    frame = frame_of(soft)
    glass = background_grey(frame)
    spread = 1.4826 * float(np.median(np.abs(np.concatenate([side.ravel() for side in frame]) - glass)))
    away = np.abs(soft - glass)
    contrast = float(np.quantile(away, 0.98))
    threshold = max(SHARE * contrast, _NOISE * spread, 2.0)
    if contrast <= threshold:
        return shapely.MultiPolygon()
    mask = away > threshold
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    kept = np.flatnonzero(sizes >= _PIECE * sizes[1:].sum())
    mask = np.isin(pieces, kept[kept > 0])
    holes, count = ndimage.label(~mask)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = np.flatnonzero(sizes < _HOLE * mask.sum())
    filled = mask | np.isin(holes, small[small > 0])
    # The contour runs where the grey crosses the threshold, not along pixels; what was decided above only flattens
    # what is no edge of the tissue.
    level = np.where(filled & ~mask, 2 * threshold, np.where(filled | ~(away > threshold), away, 0))
    whole: Any = shapely.Polygon()
    for line in find_contours(np.pad(level, 1), threshold):
        if len(line) > 3:
            x, y = line[:, 1] - 0.5, line[:, 0] - 0.5  # one pixel of padding less, half a pixel to the corner
            ring = shapely.Polygon(np.column_stack([x, y]) * factor)
            whole = whole.symmetric_difference(shapely.make_valid(ring).buffer(0))
    parts = [part for part in shapely.get_parts(whole) if part.geom_type == "Polygon"]
    return shapely.MultiPolygon(parts)


def snapped(geometry: Any, edge: Any, reach: float) -> Any:
    """A geometry with its points moved to the nearest point of an edge, where that is nearer than `reach`.

    Args:
        geometry, edge: shapely, in one unit.
        reach: in that unit.
    """

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        each = shapely.points(points)
        near = shapely.distance(each, edge) < reach
        out = points.copy()
        if near.any():
            lines = shapely.shortest_line(each[near], edge)
            out[near] = shapely.get_coordinates(shapely.get_point(lines, 1))
        return out

    return geometry if edge.is_empty else shapely.transform(geometry, moved)
