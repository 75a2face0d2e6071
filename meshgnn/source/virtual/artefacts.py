"""What happens to a section on its way to the scanner: pose and warp on the glass, tears, folds, losses."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshgnn.source.virtual.fields import Floats, SmoothField
from meshgnn.source.virtual.laminae import Reals
from meshgnn.source.virtual.settings import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Warp:
    """Where a point of the cut plane comes to lie on the glass, both in mm (column, row) from the frame's centre.

    x -> matrix (x + bend(x)) + shift. The bend is a smooth random field, so small against its own scale that the map
    never folds.

    Args:
        matrix: [2, 2] rotation and a slight stretch.
        shift_mm: [2].
        bend: field with 2 channels, mm.
    """

    matrix: Floats
    shift_mm: Floats
    bend: SmoothField

    @staticmethod
    def draw(rng: np.random.Generator, settings: Settings) -> "Warp":
        severity = settings.severity
        angle = np.radians(settings.pose_deg * severity * rng.standard_normal())
        stretch = np.exp(0.004 * severity * rng.standard_normal(2))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        amount = min(settings.warp_section_mm * severity, 1.5)
        return Warp(
            matrix=turn * stretch,
            shift_mm=np.clip(settings.pose_mm * severity * rng.standard_normal(2), -4, 4),
            bend=SmoothField.draw(rng, scale_mm=12, sd=amount / np.sqrt(2), channels=2, waves=24),
        )

    def forward(self, points_mm: npt.NDArray[np.floating]) -> Floats:
        """Glass coordinates [..., 2] of plane coordinates [..., 2]."""
        points = np.asarray(points_mm, np.float64)
        flat = np.concatenate([points, np.zeros((*points.shape[:-1], 1))], axis=-1)
        bent = points + self.bend.at(flat)
        m = self.matrix
        column = m[0, 0] * bent[..., 0] + m[0, 1] * bent[..., 1] + self.shift_mm[0]
        row = m[1, 0] * bent[..., 0] + m[1, 1] * bent[..., 1] + self.shift_mm[1]
        return np.stack([column, row], axis=-1)

    def inverse(self, points_mm: npt.NDArray[np.floating], rounds: int = 30) -> Floats:
        """Plane coordinates [..., 2] of glass coordinates [..., 2] (fixed-point iteration, to about 1e-6 mm)."""
        target = (np.asarray(points_mm, np.float64) - self.shift_mm) @ np.linalg.inv(self.matrix).T
        guess = target.copy()
        for _ in range(rounds):
            flat = np.concatenate([guess, np.zeros((*guess.shape[:-1], 1))], axis=-1)
            guess = target - self.bend.at(flat)
        return guess


@dataclass(frozen=True, kw_only=True)
class Blemish:
    """A tear (tissue parted) or a fold (tissue lying double), in pixels.

    A curve s = bow t^2 about (column, row), t along `angle_rad`. A tear starts at t = 0 with full width and tapers to
    nothing at t = length; a fold runs from -length/2 to length/2.
    """

    kind: str
    column: float
    row: float
    angle_rad: float
    length: float
    width: float
    bow: float

    def mask(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
        """The window that holds it, and its pixels there."""
        reach = int(self.length + self.width) + 2
        r0, r1 = max(0, int(self.row) - reach), min(shape[0], int(self.row) + reach)
        c0, c1 = max(0, int(self.column) - reach), min(shape[1], int(self.column) + reach)
        y, x = np.ogrid[r0:r1, c0:c1]
        c, s = np.cos(self.angle_rad), np.sin(self.angle_rad)
        t = (x - self.column) * c + (y - self.row) * s
        across = -(x - self.column) * s + (y - self.row) * c - self.bow * t * t
        across = (
            across + 0.15 * self.width * np.sin(t * 5 / self.width) + 0.1 * self.width * np.sin(t * 13 / self.width)
        )
        if self.kind == "tear":
            # From well outside the tissue, so that it opens to the glass.
            hit = (t > -self.length / 3) & (t < self.length)
            hit &= np.abs(across) < self.width / 2 * np.clip(1 - t / self.length, 0, 1.2)
        else:
            end = np.clip(1 - (2 * t / self.length) ** 2, 0, None)
            hit = (np.abs(t) < self.length / 2) & (np.abs(across) < self.width / 2 * np.sqrt(end))
        return (slice(r0, r1), slice(c0, c1)), hit


def draw_blemishes(
    rng: np.random.Generator, outline_px: Floats, inner_px: Floats, settings: Settings
) -> tuple[Blemish, ...]:
    """Tears from the pial outline inwards, folds across the tissue.

    Args:
        outline_px, inner_px: [S, 2, 2] pial and white segments on the glass, column and row.
    """
    px = 1000 / settings.pixel_um
    out = []
    if len(outline_px):
        for _ in range(rng.poisson(settings.tears * settings.severity)):
            a, b = outline_px[rng.integers(len(outline_px))]
            inward = np.arctan2(b[0] - a[0], -(b[1] - a[1])) + rng.normal(0, 0.5)
            length, width = rng.uniform(2.5, 9) * px, rng.uniform(0.15, 0.6) * px
            bow = rng.normal(0, 0.15) / length
            out.append(_blemish("tear", (a + b) / 2, inward, length, width, bow))
    if len(inner_px):
        for _ in range(rng.poisson(settings.folds * settings.severity)):
            place = inner_px[rng.integers(len(inner_px)), 0] + rng.normal(0, 1.0 * px, 2)
            length, width = rng.uniform(5, 18) * px, rng.uniform(0.15, 0.5) * px
            out.append(_blemish("fold", place, rng.uniform(0, np.pi), length, width, rng.normal(0, 0.4) / length))
    return tuple(out)


def _blemish(kind: str, place: Floats, angle: float, length: float, width: float, bow: float) -> Blemish:
    values = [round(float(value), 4) for value in (place[0], place[1], angle, length, width, bow)]
    return Blemish(
        kind=kind,
        column=values[0],
        row=values[1],
        angle_rad=values[2],
        length=values[3],
        width=values[4],
        bow=values[5],
    )


def apply_blemishes(density: Reals, blemishes: tuple[Blemish, ...]) -> None:
    """Change optical density [rows, columns] in place: folds lie double, tears show the glass."""
    for blemish in sorted(blemishes, key=lambda one: one.kind):  # folds before tears
        window, hit = blemish.mask(density.shape)
        view = density[window]
        if blemish.kind == "fold":
            shift = max(1, int(blemish.width))
            c, s = np.cos(blemish.angle_rad), np.sin(blemish.angle_rad)
            other = np.roll(view, (round(shift * c), round(-shift * s)), (0, 1))
            tissue = hit & (view > 0)
            view[tissue] += other[tissue]
        else:
            view[hit] = 0


def lose_part(density: Reals, rng: np.random.Generator) -> None:
    """A section damaged beyond use: what lies beyond a ragged line is gone."""
    rows, columns = density.shape
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.05, 0.12) * columns
    y, x = np.ogrid[:rows, :columns]
    along = (x - columns / 2) * np.cos(angle) + (y - rows / 2) * np.sin(angle)
    across = -(x - columns / 2) * np.sin(angle) + (y - rows / 2) * np.cos(angle)
    ragged = 0.02 * columns * (np.sin(across * 40 / columns) + 0.5 * np.sin(across * 110 / columns))
    density[along > offset + ragged] = 0
