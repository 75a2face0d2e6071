"""From cells to grey values: a picture of the cut tissue that resembles a Nissl stain.

Grey = background x exp(-optical density). Optical density is stain taken by neuropil plus that of the cell bodies a
pixel holds; their number is random (Poisson, sizes with a coefficient of variation of 0.4), which gives the grain of
a coarse scan of a real section. Absolute figures are approximations (A): 2000 cell bodies (neurons and glia)
per mm^2 in layer III of ordinary cortex in a 20 um section. A cell takes stain as its area to the power 0.6 (small
cells stain darker), so that layers II and IV stand out as they do in real sections.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meshgnn.source.virtual.cut import Canvas
from meshgnn.source.virtual.laminae import Reals

CELLS_PER_MM2 = 2000.0
SIZE_UM2 = 55.0
WHITE_DENSITY, WHITE_SIZE_UM2 = 0.55, 17.0  # glia
EVEN_DENSITY = 0.98  # of cells of SIZE_UM2 which stain as all cortex does on average (0.97-0.98 in `quick` brains)
NEUROPIL = 0.07
STAIN = 0.50  # optical density of layer III of ordinary cortex, without neuropil


@dataclass(frozen=True, kw_only=True)
class Stain:
    """How one section took the stain.

    Args:
        background: grey value of bare glass.
        gain: factor on all stain; white: factor on that of white matter.
        gamma: exponent on the cells' stain (contrast between layers).
        slope: [4] uneven staining across the section: amplitudes and phases of a slow wave along columns and rows.
    """

    background: float = 243.0
    gain: float = 1.0
    white: float = 1.0
    gamma: float = 1.0
    slope: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @staticmethod
    def draw(rng: np.random.Generator, strength: float) -> "Stain":
        g = rng.standard_normal(6)
        return Stain(
            background=float(np.clip(243 + 3 * strength * g[0], 228, 252)),
            gain=float(np.exp(np.clip(0.10 * strength * g[1], -0.6, 0.6))),
            white=float(np.exp(np.clip(0.08 * strength * g[2], -0.4, 0.4))),
            gamma=float(np.exp(np.clip(0.04 * strength * g[3], -0.3, 0.3))),
            slope=(
                float(0.04 * strength * g[4]),
                float(rng.uniform(0, 6.28)),
                float(0.04 * strength * g[5]),
                float(rng.uniform(0, 6.28)),
            ),
        )


def optical_density(
    canvas: Canvas, stain: Stain, rng: np.random.Generator, *, pixel_um: float, thickness_um: float, texture: float
) -> Reals:
    """Optical density [rows, columns]; 0 outside tissue."""
    tissue = canvas.density > 0
    density, size = canvas.density[tissue], canvas.size_um2[tissue]
    cover = density * (size / np.float32(SIZE_UM2)) ** np.float32(0.6)
    if texture > 0:
        count = density * np.float32(CELLS_PER_MM2 * (pixel_um / 1000) ** 2 * thickness_um / 20)
        variance = np.log1p(np.float32(1.16 * texture**2) / np.maximum(count, np.float32(0.05)))
        grain = rng.standard_normal(len(count), dtype=np.float32)
        cover *= np.exp(np.sqrt(variance) * grain - variance / 2)
    # Cells straddle pixels and the lens blurs: a light smoothing, within tissue.
    out = np.zeros(canvas.density.shape, np.float32)
    out[tissue] = cover
    spread = max(0.5, 9.0 / pixel_um)
    out = ndimage.gaussian_filter(out, spread, truncate=2.0 if spread < 1 else 3.0)
    cover = np.maximum(out[tissue], 0)
    if stain.gamma != 1:
        cover = cover ** np.float32(stain.gamma)
    white = canvas.depth[tissue] < 0
    cover = np.where(white, cover * np.float32(stain.white), cover)
    out[:] = 0
    out[tissue] = np.float32(NEUROPIL) + np.float32(STAIN) * cover
    rows, columns = out.shape
    a, p, b, q = stain.slope
    across = 1 + a * np.sin(np.linspace(0, 5, columns) + p)
    down = 1 + b * np.sin(np.linspace(0, 5, rows) + q)
    out *= (stain.gain * across).astype(np.float32)
    out *= down.astype(np.float32)[:, None]
    return out


def grey(density: Reals, stain: Stain, light: Reals | None = None) -> npt.NDArray[np.uint8]:
    """8-bit picture of optical density; `light` [rows, columns] is a factor on the brightness."""
    picture = np.float32(stain.background) * np.exp(-density)
    return np.round(np.clip(picture if light is None else picture * light, 0, 255)).astype(np.uint8)
