"""The warp that markers of VisuAlign and WebWarp add to an anchoring, as bends of sections.

A marker says that what lies at one place of the picture after the anchoring alone is seen at another one. Between the
markers, and four fixed corners a tenth of the picture outside of it, the warp is linear on the triangles of Delaunay
whose corners are the places that are seen (the convention of VisuAlign and PyNutil).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import Delaunay, QhullError

from meshgnn.source.bend import Bend
from meshgnn.source.section_stack import AXES, Section

Floats = NDArray[np.float64]

_RIM = 0.1  # of the picture's sides
_KNOTS = 60  # along the longer side of the largest section
_STEEPEST = 0.9  # mm per mm: steeper bends cannot be undone by iteration


@dataclass(frozen=True, eq=False)
class Warp:
    """The markers of one picture.

    Args:
        linear: [M, 2] places (x, y) by the anchoring alone, in shares of the picture's width and height.
        seen: [M, 2] where that is seen.
    """

    linear: Floats
    seen: Floats

    @staticmethod
    def of(markers: Floats, width: float, height: float) -> "Warp":
        """From rows [M, 4] (x, y by the anchoring, x, y as seen) in pixels of a picture."""
        size = np.array([width, height])
        corners = np.array([[a, b] for a in (-_RIM, 1 + _RIM) for b in (-_RIM, 1 + _RIM)])
        return Warp(np.vstack([corners, markers[:, :2] / size]), np.vstack([corners, markers[:, 2:] / size]))

    def mirrored(self) -> "Warp":
        """Of the picture with its columns turned round."""
        return Warp([1, 0] + self.linear * [-1, 1], [1, 0] + self.seen * [-1, 1])

    def triangles(self) -> NDArray[np.int32]:
        """[T, 3] triangles between places that are seen; those without area are left out.

        Raises:
            ValueError: the places do not span triangles, one is marked twice, or a triangle is turned over.
        """
        try:
            found = Delaunay(self.seen)
        except QhullError as error:
            raise ValueError("markers that span no triangles") from error
        if len(found.coplanar):
            raise ValueError("two markers at one place")
        sides = [_area(points[found.simplices]) for points in (self.seen, self.linear)]
        wide = np.abs(sides[0]) > 1e-9
        if (sides[0] * sides[1] <= 0)[wide].any():
            raise ValueError("markers that fold the picture")
        return np.asarray(found.simplices[wide], np.int32)

    def moves(self, places: Floats) -> Floats:
        """[..., 2] by how much what lies at these shares [..., 2] by the anchoring is seen elsewhere; 0 outside.

        Raises:
            ValueError: see `triangles`.
        """
        flat = places.reshape(-1, 2)
        moves = np.zeros_like(flat)
        for triangle in self.triangles():
            a, b, c = self.linear[triangle]
            shares = (flat - a) @ np.linalg.inv(np.stack([b - a, c - a], axis=1)).T
            inside = (shares >= -1e-9).all(1) & (shares.sum(1) <= 1 + 1e-9)
            a, b, c = (self.seen - self.linear)[triangle]
            moves[inside] = a + shares[inside] @ np.stack([b - a, c - a])
        return moves.reshape(places.shape)


def bends_of(sections: Mapping[int, Section], warps: Mapping[int, Warp]) -> tuple[dict[int, Bend], dict[int, str]]:
    """Bends of sections by their number, all with the same knots; and why those that have none were left out.

    Args:
        sections: where the anchoring alone puts them.
        warps: of those that have markers.
    """
    if not warps:
        return {}, {}
    ends = np.array([_ends(sections[index]) for index in warps])  # [S, 4, 2]
    low, high = ends.min((0, 1)), ends.max((0, 1))
    spacing = float((high - low).max()) / _KNOTS
    corner = low - _RIM * (high - low) - 2 * spacing
    count = np.ceil((high + _RIM * (high - low) + 2 * spacing - corner) / spacing).astype(int) + 1
    knots = np.stack(np.meshgrid(*(np.arange(n) for n in count), indexing="ij"), axis=-1) * spacing + corner
    bends, left_out = {}, {}
    for index, warp in warps.items():
        try:
            moves = _moves_mm(sections[index], warp, knots)
        except ValueError as error:
            left_out[index] = str(error)
            continue
        slopes = np.stack([*np.gradient(moves, spacing, axis=(0, 1))], axis=-1)
        if np.linalg.norm(slopes, ord=2, axis=(2, 3)).max() > _STEEPEST:
            left_out[index] = "markers that pull neighbouring places too far apart"
            continue
        filtered = [ndimage.spline_filter(moves[..., axis], order=3, mode="nearest") for axis in range(2)]
        bends[index] = Bend(knots=np.array(filtered, np.float32), corner_mm=corner, spacing_mm=spacing)
    return bends, left_out


def _plane(section: Section) -> tuple[Floats, Floats]:
    """[2, 2] and [2]: shares (x, y) of the image's width and height to mm (row, column) along the plane's axes."""
    column, row, _ = AXES[section.plane]
    rows, columns = section.shape
    frame = np.stack([row, column]) @ section.to_space
    return frame[:, :2] * [columns, rows], frame[:, 2] - (frame[:, 0] + frame[:, 1]) / 2


def _ends(section: Section) -> Floats:
    """[4, 2] the image's corners in mm (row, column) along the plane's axes."""
    matrix, start = _plane(section)
    return np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ matrix.T + start


def _moves_mm(section: Section, warp: Warp, places_mm: Floats) -> Floats:
    """[..., 2] bend in mm at places [..., 2] (row, column)."""
    matrix, start = _plane(section)
    return np.asarray(warp.moves((places_mm - start) @ np.linalg.inv(matrix).T) @ matrix.T, np.float64)


def _area(triangles: Floats) -> Floats:
    """[T] twice the signed area of triangles [T, 3, 2]."""
    one, other = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return np.asarray(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0], np.float64)
