"""What lies around and inside the hemispheres on real sections: ventricles, cerebellum, brain stem, meninges.

All are simple bodies (ellipsoids, a tube, a thin film) in the template's space, carried along with the brain's own
deformation. Places and sizes are approximations (A). None of them is cortex: their labels are key 0 in annotations.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meshgnn.source.virtual.cut import OUTSIDE, WHITE, Canvas
from meshgnn.source.virtual.fields import Floats

VENTRICLE, CEREBELLUM, STEM, MENINX = np.uint8(251), np.uint8(250), np.uint8(249), np.uint8(248)


@dataclass(frozen=True, kw_only=True)
class Body:
    """An ellipsoid: centre and radii in template RAS mm (left side), and what fills it.

    Args:
        inside: True if it lies in the white matter (and is glass there), False if outside of the hemispheres.
        folia_mm: distance of dark granular bands; 0 = plain.
    """

    kind: str
    label: np.uint8
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    inside: bool
    density: float
    size_um2: float
    folia_mm: float = 0.0


def _ventricle(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Body:
    return Body(
        kind="ventricles", label=VENTRICLE, centre_mm=centre, radii_mm=radii, inside=True, density=0, size_um2=0
    )


BODIES: tuple[Body, ...] = (
    _ventricle((-7, 22, 14), (4, 14, 4)),  # frontal horn
    _ventricle((-11, -14, 22), (4, 22, 3.5)),  # body
    _ventricle((-24, -40, 12), (4, 12, 7)),  # atrium and occipital horn
    _ventricle((-31, -20, -12), (2.5, 14, 3)),  # temporal horn
    Body(
        kind="cerebellum", label=CEREBELLUM, centre_mm=(-22, -64, -44), radii_mm=(26, 27, 17), inside=False,
        density=1.5, size_um2=30.0, folia_mm=3.0,
    ),
    Body(
        kind="brain_stem", label=STEM, centre_mm=(-5, -28, -36), radii_mm=(9, 11, 26), inside=False,
        density=0.6, size_um2=30.0,
    ),
)  # fmt: skip


def body_landmarks(sides: tuple[str, ...]) -> Floats:
    """[sides * bodies, 3] centres, side by side."""
    mirror = np.array([[1.0 if side == "L" else -1.0, 1, 1] for side in sides])
    return (mirror[:, None] * np.array([body.centre_mm for body in BODIES])).reshape(-1, 3)


def draw_body(canvas: Canvas, body: Body, centre_px: Floats, radii_px: Floats, share: float, pixel_mm: float) -> None:
    """Fill an ellipsoid's cut where it belongs; `share` (0-1) is how much of its radii the plane meets.

    Bodies outside the hemispheres keep 1 mm of glass between themselves and the cortex, as the cleft there does.
    """
    rows, columns = canvas.label.shape
    radii = radii_px * share
    low = np.clip(np.floor(centre_px - radii - 2).astype(int), 0, [columns, rows])
    high = np.clip(np.ceil(centre_px + radii + 3).astype(int), 0, [columns, rows])
    if (high <= low).any():
        return
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    y, x = np.mgrid[window]
    off = np.sqrt(((x - centre_px[0]) / radii[0]) ** 2 + ((y - centre_px[1]) / radii[1]) ** 2)
    label = canvas.label[window]
    if body.inside:
        hit = (off < 1) & (label == WHITE)
    else:
        taken = ((label != OUTSIDE) & (label != body.label)).astype(np.uint8)
        near = ndimage.maximum_filter(taken, 2 * round(1.0 / pixel_mm) + 1) > 0
        hit = (off < 1) & (label == OUTSIDE) & ~near
    canvas.label[window][hit] = body.label
    density = np.full(label.shape, body.density, np.float32)
    if body.folia_mm:
        # Bands of granule cells that follow the outline, broken up by lobules.
        angle = np.arctan2(y - centre_px[1], x - centre_px[0])
        depth = (1 - off) * radii.mean() * pixel_mm + 0.8 * np.sin(9 * angle)
        density *= np.where(np.mod(depth, body.folia_mm) < 0.45 * body.folia_mm, 1.0, 0.35).astype(np.float32)
    canvas.density[window][hit] = density[hit]
    canvas.size_um2[window][hit] = body.size_um2


def draw_meninges(canvas: Canvas, rng: np.random.Generator, share: float, pixel_mm: float) -> None:
    """A thin dark film on `share` of the outer surface, half a millimetre off the cortex, in ragged pieces.

    The film never touches cortex, and sulci narrower than a millimetre have none.
    """
    if share <= 0:
        return
    gap, width = max(1, round(0.5 / pixel_mm)), max(1, round(0.12 / pixel_mm))
    cortex = (canvas.depth >= 0).astype(np.uint8)
    inner, outer = (ndimage.maximum_filter(cortex, 2 * reach + 1) > 0 for reach in (gap, gap + width))
    film = outer & ~inner & (canvas.label == OUTSIDE)
    rows, columns = canvas.label.shape
    coarse = rng.standard_normal((int(rows * pixel_mm / 4) + 3, int(columns * pixel_mm / 4) + 3))
    place = np.nonzero(film)
    at = [place[0] * pixel_mm / 4, place[1] * pixel_mm / 4]
    rough = ndimage.map_coordinates(coarse, at, order=1)
    keep = rough > np.quantile(coarse, 1 - share)
    chosen = place[0][keep], place[1][keep]
    canvas.label[chosen] = MENINX
    canvas.density[chosen] = 0.5
    canvas.size_um2[chosen] = 30.0


def lamp(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    light: float,
    seams: float,
    pixel_mm: float,
    tile_mm: float = 12.0,
) -> npt.NDArray[np.float32]:
    """Factor [rows, columns] on the brightness of a scan: a lamp off centre, and tiles that were exposed differently.

    Args:
        light: darkening towards the farthest corner.
        seams: sd of the log exposure of the scanner's tiles; each is also a little darker to its edges.
    """
    rows, columns = shape
    out = np.ones(shape, np.float32)
    if light > 0:
        middle = rng.uniform(0.3, 0.7, 2) * [rows, columns]
        y, x = np.ogrid[:rows, :columns]
        far = ((y - middle[0]) / rows) ** 2 + ((x - middle[1]) / columns) ** 2
        out *= (1 - light * far / 0.98).astype(np.float32)
    if seams > 0:
        side = max(8, round(tile_mm / pixel_mm))
        start = rng.integers(0, side, 2)
        row, column = (np.arange(rows) + start[0]) // side, (np.arange(columns) + start[1]) // side
        level = np.exp(seams * rng.standard_normal((int(row[-1]) + 1, int(column[-1]) + 1))).astype(np.float32)
        out *= level[np.ix_(row, column)]
        shade = [
            1 - seams * (2 * ((np.arange(n) + s) % side) / side - 1) ** 2
            for n, s in ((rows, start[0]), (columns, start[1]))
        ]
        out *= (shade[0][:, None] * shade[1][None, :]).astype(np.float32)
    return out
