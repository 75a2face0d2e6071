"""Things in the tissue that are no cortex but look like it: bridges across sulci, deep grey nuclei.

A bridge joins the two banks of a sulcus (a vessel with its sheath, glue, a meningeal strand): drawn in the colour of
cortex, it turns a naive reconstruction into a surface with a handle. Every bridge is listed in the truth.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from meshgnn.source.virtual.cut import OUTSIDE, WHITE, Canvas
from meshgnn.source.virtual.fields import Floats, stream
from meshgnn.source.virtual.surfaces import Hemisphere

BRIDGE, NUCLEUS = np.uint8(253), np.uint8(252)

# Centres (left, template RAS mm) and radii of thalamus, putamen and caudate head (A: approximation).
NUCLEI_MM = np.array([[-11.0, -18, 8], [-26, 3, 2], [-14, 12, 9]])
RADII_MM = np.array([[8.0, 13, 8], [5, 13, 9], [4, 8, 8]])


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """A strand of tissue between two points (RAS mm) inside opposite banks.

    Args:
        hemisphere: L or R.
        start_mm, end_mm: its ends, half a millimetre inside the cortex.
        radius_mm: in the section plane.
        reach_mm: how far it extends along the cutting axis to either side.
    """

    hemisphere: str
    start_mm: tuple[float, float, float]
    end_mm: tuple[float, float, float]
    radius_mm: float
    reach_mm: float


def plant_bridges(
    hemispheres: tuple[Hemisphere, ...], axis: Floats, count: int, seed: int, spacing_mm: float
) -> tuple[Bridge, ...]:
    """Choose places where two banks face each other across 1 to 4 mm, far apart along the cortex.

    Args:
        axis: unit vector [3] along the cutting axis; strands lie about in the section plane.
        count: how many in all; fewer if there are not enough places.
    """
    rng = stream(seed, "bridges")
    out: list[Bridge] = []
    for turn in range(count):
        hemi = hemispheres[turn % len(hemispheres)]
        a, b, c = (hemi.pial_mm[hemi.faces[:, k]] for k in range(3))
        flat = np.cross(b - a, c - a)
        normal = np.stack(
            [np.bincount(hemi.faces.ravel(), np.repeat(flat[:, k], 3), len(hemi.pial_mm)) for k in range(3)], axis=1
        )
        normal = normal / np.maximum(np.sqrt((normal**2).sum(1, keepdims=True)), 1e-12)
        tree = cKDTree(hemi.pial_mm)
        for node in rng.permutation(len(hemi.pial_mm))[:4000]:
            if not hemi.cortex[node]:
                continue
            others = np.array(sorted(tree.query_ball_point(hemi.pial_mm[node], 4.0)), np.int64)
            way = hemi.pial_mm[others] - hemi.pial_mm[node]
            length = np.sqrt((way**2).sum(1))
            fits = (length > 1.0) & hemi.cortex[others]
            fits &= (way * normal[node]).sum(1) > 0.8 * length  # straight out of this bank
            fits &= -(way * normal[others]).sum(1) > 0.8 * length  # straight into the other
            fits &= np.abs((way * axis).sum(1)) < 0.4 * length
            if not fits.any():
                continue
            other = int(others[fits][np.argmin(length[fits])])
            start = hemi.pial_mm[node] - 0.5 * normal[node]
            end = hemi.pial_mm[other] - 0.5 * normal[other]
            middle = (start + end) / 2
            if any(np.linalg.norm(middle - np.array(one.start_mm)) < 15 for one in out):
                continue
            out.append(
                Bridge(
                    hemisphere=hemi.name,
                    start_mm=_rounded(start),
                    end_mm=_rounded(end),
                    radius_mm=round(float(rng.uniform(0.6, 1.1)), 3),
                    reach_mm=round(0.8 * spacing_mm, 3),
                )
            )
            break
    return tuple(out)


def _rounded(point: Floats) -> tuple[float, float, float]:
    return round(float(point[0]), 3), round(float(point[1]), 3), round(float(point[2]), 3)


def draw_bridge(canvas: Canvas, start_px: Floats, end_px: Floats, radius_px: float) -> None:
    """Fill the glass within `radius_px` of the segment between two points (column, row)."""
    low = np.floor(np.minimum(start_px, end_px) - radius_px - 1).astype(int)
    high = np.ceil(np.maximum(start_px, end_px) + radius_px + 2).astype(int)
    window = _window(canvas, low, high)
    y, x = np.mgrid[window[0], window[1]]
    along = end_px - start_px
    t = ((x - start_px[0]) * along[0] + (y - start_px[1]) * along[1]) / max(float((along**2).sum()), 1e-9)
    t = np.clip(t, 0, 1)
    far = np.sqrt((x - start_px[0] - t * along[0]) ** 2 + (y - start_px[1] - t * along[1]) ** 2)
    _fill(canvas, window, (far < radius_px) & (canvas.label[window] == OUTSIDE), BRIDGE, 0.8, 48.0)


def draw_nucleus(canvas: Canvas, centre_px: Floats, radii_px: Floats, share: float) -> None:
    """Fill white matter within an ellipsoid's cut; `share` (0-1) is how much of its radii the plane meets."""
    radii = radii_px * share
    low = np.floor(centre_px - radii - 1).astype(int)
    high = np.ceil(centre_px + radii + 2).astype(int)
    window = _window(canvas, low, high)
    y, x = np.mgrid[window[0], window[1]]
    hit = ((x - centre_px[0]) / radii[0]) ** 2 + ((y - centre_px[1]) / radii[1]) ** 2 < 1
    _fill(canvas, window, hit & (canvas.label[window] == WHITE), NUCLEUS, 0.75, 52.0)


def _window(canvas: Canvas, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> tuple[slice, slice]:
    rows, columns = canvas.label.shape
    return (
        slice(max(0, min(rows, low[1])), max(0, min(rows, high[1]))),
        slice(max(0, min(columns, low[0])), max(0, min(columns, high[0]))),
    )


def _fill(
    canvas: Canvas,
    window: tuple[slice, slice],
    hit: npt.NDArray[np.bool_],
    label: np.uint8,
    density: float,
    size: float,
) -> None:
    canvas.label[window][hit] = label
    canvas.density[window][hit] = density
    canvas.size_um2[window][hit] = size
