"""The point process behind a high-resolution field: cells by layer and column, glia, pia, vessels.

Absolute figures are approximations, see `meshgnn.source.virtual.highres`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshgnn.source.virtual.fields import Floats
from meshgnn.source.virtual.laminae import Reals
from meshgnn.source.virtual.prototypes import BINS

NEURONS_PER_MM2, GLIA_PER_MM2, WHITE_GLIA_PER_MM2 = 1600.0, 800.0, 1500.0
COLUMN_UM = 45.0
BETZ_PER_MM2 = 12.0
GLASS_UM, WHITE_UM = 120.0, 450.0
ROUND, PYRAMID, SPINDLE, GLIA, BETZ, WALL = range(6)
KINDS = ("round", "pyramid", "spindle", "glia", "Betz", "vessel wall")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The field's geometry in um: x along the cortex, y downwards, pia at a wavy line."""

    width_um: float
    thickness_um: float
    wave: tuple[float, float, float]
    tau_um: float

    @property
    def height_um(self) -> float:
        return GLASS_UM + self.thickness_um + WHITE_UM

    def pia(self, x: Floats) -> Floats:
        height, phase, turns = self.wave
        return GLASS_UM + height * np.sin(2 * np.pi * turns * x / max(self.width_um, 1500) + phase) - 20

    def depth(self, x: Floats, y: Floats) -> Floats:
        """0 at the pia, 1 at the white matter."""
        return (y - self.pia(x)) / self.thickness_um

    def right(self, x: Floats) -> Floats:
        """Weight of the area on the right."""
        if self.tau_um == 0:
            return np.zeros_like(x)
        return 1 / (1 + np.exp(-np.clip((x - self.width_um / 2) / self.tau_um, -30, 30)))

    def layer(self, x: Floats, y: Floats, shares: list[Floats]) -> npt.NDArray[np.uint8]:
        depth, right = self.depth(x, y), self.right(x)
        out = (depth > 0).astype(np.uint8)
        for m in range(6):
            bounds = [share.cumsum()[m] for share in shares]
            bound = bounds[0] if len(bounds) == 1 else bounds[0] * (1 - right) + bounds[1] * right
            out += (depth > (bound if m < 5 else 1.0)).astype(np.uint8)
        return out


def scatter(
    rng: np.random.Generator,
    frame: Frame,
    numbers: list[int],
    shares: list[Floats],
    density: Reals,
    size: Reals,
    prototypes: tuple[str, ...],
) -> Floats:
    """Cells [N, 9]: x, y, area_um2, layer, kind, angle, aspect, stain, blur_um."""
    field_mm2 = frame.width_um * frame.height_um / 1e6
    top = float(max(density[k].max() for k in numbers)) * 1.05
    count = rng.poisson(field_mm2 * NEURONS_PER_MM2 * top)
    x, y = rng.uniform(0, frame.width_um, count), rng.uniform(0, frame.height_um, count)
    depth = frame.depth(x, y)
    keep = (depth > 0) & (depth < 1)
    x, y, depth = x[keep], y[keep], depth[keep]
    # The one area or the other, cell by cell, by the border's weight.
    other = (rng.uniform(size=len(x)) < frame.right(x)).astype(int)
    layer, place = np.zeros(len(x), int), np.zeros(len(x), int)
    for k, share in enumerate(shares):
        edges = np.concatenate([[0], share.cumsum()])
        edges[-1] = 1.0
        mine = other == k
        number = np.clip(np.searchsorted(edges, depth[mine], side="right") - 1, 0, 5)
        inside = (depth[mine] - edges[number]) / (edges[number + 1] - edges[number])
        layer[mine] = number
        place[mine] = np.clip(number * BINS + (inside * BINS).astype(int), 0, 6 * BINS - 1)
    area = np.array(numbers)[other]
    wanted = density[area, place]
    keep = rng.uniform(size=len(x)) * top < wanted
    x, y, layer, place, area, depth = (v[keep] for v in (x, y, layer, place, area, depth))
    n = len(x)
    # Minicolumns: most neurons of III-VI stand in rows across the cortex that wander a little.
    drift = 12 * np.sin(2 * np.pi * y / 900 + x / 400)
    column = np.round((x + drift) / COLUMN_UM) * COLUMN_UM - drift
    joins = (rng.uniform(size=n) < np.where(layer >= 2, 0.6, 0.1)) & (depth > 0.05)
    x = np.where(joins, column + rng.normal(0, 8, n), x)
    spread = np.choose(layer, [0.3, 0.3, 0.45, 0.28, 0.5, 0.38])
    body = size[area, place] * np.exp(spread * rng.standard_normal(n) - spread**2 / 2)
    chance = rng.uniform(size=n)
    pyramids = np.choose(layer, [0.0, 0.35, 0.8, 0.1, 0.8, 0.3])
    kind = np.where(chance < pyramids, PYRAMID, np.where((layer == 5) & (chance > 0.5), SPINDLE, ROUND))
    angle = rng.normal(0, np.where(kind == SPINDLE, 0.5, 0.14), n)
    aspect = np.where(kind == PYRAMID, rng.uniform(1.3, 1.8, n), np.where(kind == SPINDLE, 2.2, rng.uniform(1, 1.3, n)))
    neurons = np.c_[x, y, body, layer + 1, kind, angle, aspect, rng.uniform(0.55, 1.0, n), rng.uniform(0.5, 2.2, n)]
    # Betz cells: lower layer V of the motor cortex.
    betz = []
    for k, number in enumerate(numbers):
        if prototypes[number] != "FA":
            continue
        edges = shares[k].cumsum()
        tall = (edges[4] - edges[3]) * 0.75
        for _ in range(rng.poisson(BETZ_PER_MM2 * frame.width_um * tall * frame.thickness_um / 1e6)):
            bx = rng.uniform(0, frame.width_um)
            if (rng.uniform() < frame.right(np.array(bx))) != (k == 1):
                continue
            by = frame.pia(np.array(bx)) + frame.thickness_um * (edges[4] - tall * rng.uniform(0.02, 1))
            betz.append(
                [bx, float(by), rng.uniform(500, 1800), 5, BETZ, rng.normal(0, 0.1), rng.uniform(1.5, 2.1), 1.0, 0.7]
            )
    # Glia everywhere, in rows along the fibres of the white matter; flat cells in the pia.
    count = rng.poisson(field_mm2 * WHITE_GLIA_PER_MM2)
    gx, gy = rng.uniform(0, frame.width_um, count), rng.uniform(0, frame.height_um, count)
    deep = frame.depth(gx, gy)
    keep = (deep > 0.004) & ((deep > 1) | (rng.uniform(size=count) < GLIA_PER_MM2 / WHITE_GLIA_PER_MM2))
    gx, gy, deep = gx[keep], gy[keep], deep[keep]
    rows = np.round(gx / 14) * 14 + rng.normal(0, 2.5, len(gx))
    gx = np.where((deep > 1.03) & (rng.uniform(size=len(gx)) < 0.7), rows, gx)
    one = np.ones(len(gx))
    body = 17 * np.exp(0.3 * rng.standard_normal(len(gx)))
    glia = np.c_[gx, gy, body, np.where(deep > 1, 7, frame.layer(gx, gy, shares)), one * GLIA, one * 0, one * 1.1,
                 rng.uniform(0.6, 1.1, len(gx)), rng.uniform(0.4, 1.5, len(gx))]  # fmt: skip
    px = np.arange(0, frame.width_um, 11.0) + rng.normal(0, 4, len(np.arange(0, frame.width_um, 11.0)))
    slope = np.arctan2(frame.pia(px + 5) - frame.pia(px - 5), 10)
    flat = np.ones(len(px))
    pia = np.c_[px, frame.pia(px) + rng.normal(1.5, 1.5, len(px)), flat * 16, flat, flat * WALL,
                np.pi / 2 + slope, flat * 4, flat * 0.6, flat * 0.8]  # fmt: skip
    return np.concatenate([np.array(betz).reshape(-1, 9), neurons, glia, pia])


def draw_vessels(rng: np.random.Generator, frame: Frame) -> Floats:
    """Vessel pieces [M, 5]: x, y, direction, width, how empty it looks (0-1); close steps along each vessel."""
    out = []
    for _ in range(rng.poisson(1.4 * frame.width_um / 1000)):
        x = rng.uniform(0, frame.width_um)
        y = float(frame.pia(np.array(x))) - 5
        length, width, turn = rng.uniform(0.25, 1.1) * frame.thickness_um, rng.uniform(12, 34), np.pi / 2
        for step in np.arange(0, length, 3.0):
            turn += rng.normal(0, 0.02) + 0.02 * (np.pi / 2 - turn)
            x, y = x + 3 * np.cos(turn), y + 3 * np.sin(turn)
            out.append([x, y, turn, width * (1 - 0.7 * step / length), 0.85])
    area_mm2 = frame.width_um * frame.height_um / 1e6
    for _ in range(rng.poisson(16 * area_mm2)):
        x, y = rng.uniform(0, frame.width_um), rng.uniform(GLASS_UM, frame.height_um)
        turn, width = rng.uniform(0, 2 * np.pi), rng.uniform(4, 9)
        for _ in range(int(rng.uniform(6, 60))):
            turn += rng.normal(0, 0.12)
            x, y = x + 2 * np.cos(turn), y + 2 * np.sin(turn)
            out.append([x, y, turn, width, 0.35])
    return np.array(out).reshape(-1, 5)
