"""Layers in depth: equal volume (Bok 1929), layer boundaries, and what every node carries into the cut.

Depth rho runs along the straight line from pial (0) to white (1). With areas A_p and A_w of the two surfaces and an
area that changes linearly between them, the share of volume above rho is

    v = rho (2 + (k - 1) rho) / (1 + k),   k = A_w / A_p

(Waehnert et al. 2014; exact for a cylinder, within 0.4 % on a sphere of ratio 1.5). Layer shares are shares of v: in
gyral crowns (k < 1) deep layers grow taller, in sulcal depths they flatten.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from meshgnn.source.virtual.areas import LAYOUT, AreaFields, Profiles
from meshgnn.source.virtual.fields import Floats, SmoothField, stream
from meshgnn.source.virtual.prototypes import BINS, tables
from meshgnn.source.virtual.surfaces import Hemisphere

Reals = npt.NDArray[np.float32]

# Spatial term: log-variation of layer shares within an area, layers I-VI, at layer_noise = 1. The sizes are set so that
# area explains 7-18 % of the variance of relative layer thickness (layer IV up to 50 %), as in BigBrain; how the
# variance is spread over correlation lengths (mm) is fitted to BigBrain's variograms (`variance`).
SHARE_SD = np.array([0.47, 0.56, 0.53, 0.84, 0.63, 0.42])
SCALES_MM = (2.5, 5.0, 10.0, 20.0)
SPREAD = np.array(
    [
        [0.93, 0.94, 0.91, 0.43, 0.89, 1.0],
        [0.0, 0.0, 0.0, 0.21, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.07, 0.06, 0.09, 0.36, 0.11, 0.0],
    ]
)  # [4, 6] shares of variance


@numba.njit(cache=True, nogil=True, inline="always")
def volume_share(rho: float, ratio: float) -> float:  # pragma: no cover
    """Share of the cortex' volume between the pial surface and depth rho, where ratio = A_white / A_pial."""
    return rho * (2 + (ratio - 1) * rho) / (1 + ratio)


def depth_of_share(share: Floats, ratio: Floats) -> Floats:
    """Inverse of `volume_share`: depth rho of volume shares, elementwise."""
    share, ratio = np.broadcast_arrays(np.asarray(share, np.float64), np.asarray(ratio, np.float64))
    a, c = ratio - 1, -(1 + ratio) * share
    root = np.sqrt(np.maximum(1 - a * c, 0))
    return -c / (1 + root)  # stable form: also for ratio = 1


def area_ratio(white_mm: Floats, pial_mm: Floats, faces: npt.NDArray[np.int32], rounds: int = 2) -> Floats:
    """A_white / A_pial around every node [V], averaged over `rounds` one-rings, kept between 1/4 and 4."""
    count = len(white_mm)
    sums = []
    for points in (white_mm, pial_mm):
        a, b, c = (points[faces[:, k]] for k in range(3))
        area = np.sqrt((np.cross(b - a, c - a) ** 2).sum(1))
        node = np.bincount(faces.ravel(), np.repeat(area, 3), count)
        for _ in range(rounds):
            mean = node[faces].sum(1)
            node = np.bincount(faces.ravel(), np.repeat(mean, 3), count)
        sums.append(node)
    return np.clip(sums[0] / np.maximum(sums[1], 1e-12), 0.25, 4.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cortex:
    """All that the cut needs of one hemisphere; per node V, area K, laminar bin B.

    Args:
        hemisphere: surfaces.
        fields: the layout.
        profiles: of the areas.
        scores_mm: [V, K].
        ratio: [V] A_white / A_pial.
        stretch: [V, 6] factors on layer shares.
        density_factor, size_factor: [V] local factors.
        density, size_um2: [K, B] tables over the laminar coordinate.
    """

    hemisphere: Hemisphere
    fields: AreaFields
    profiles: Profiles
    scores_mm: Reals
    ratio: Reals
    stretch: Reals
    density_factor: Reals
    size_factor: Reals
    density: Reals
    size_um2: Reals

    def labels(self) -> npt.NDArray[np.int32]:
        """[V] area of every node (index into LAYOUT; its length for the medial wall)."""
        label = self.scores_mm.argmax(1).astype(np.int32)
        return np.where(self.hemisphere.cortex, label, len(LAYOUT)).astype(np.int32)

    def layer_shares(self) -> Floats:
        """[V, 6] true relative layer thickness by volume at every node (area's share x local stretch)."""
        share = self.profiles.share[self.scores_mm.argmax(1)] * self.stretch
        return share / share.sum(1, keepdims=True)


def furnish(hemisphere: Hemisphere, fields: AreaFields, profiles: Profiles, seed: int, *, layer_noise: float) -> Cortex:
    """Everything per node: area scores, Bok's ratio, local variation of layers, density and size."""
    points = hemisphere.sphere * 75.0
    rng = stream(seed, "laminae", hemisphere.name)
    log = np.zeros((len(points), 8))
    spread = np.concatenate([SPREAD, np.repeat(SPREAD.mean(1, keepdims=True), 2, axis=1)], axis=1)
    for scale, part in zip(SCALES_MM, spread):
        log += np.sqrt(part) * SmoothField.draw(rng, scale_mm=scale, sd=1.0, channels=8, waves=40).at(points)
    stretch = np.exp(layer_noise * SHARE_SD * log[:, :6])
    dense, large = zip(
        *(
            tables(share, density, size, name)
            for share, density, size, name in zip(
                profiles.share, profiles.density, profiles.size_um2, profiles.prototype, strict=True
            )
        )
    )
    assert dense[0].shape == (6 * BINS,)
    return Cortex(
        hemisphere=hemisphere,
        fields=fields,
        profiles=profiles,
        scores_mm=fields.scores_mm(hemisphere.sphere),
        ratio=area_ratio(hemisphere.white_mm, hemisphere.pial_mm, hemisphere.faces).astype(np.float32),
        stretch=stretch.astype(np.float32),
        density_factor=np.exp(0.08 * layer_noise * log[:, 6]).astype(np.float32),
        size_factor=np.exp(0.04 * layer_noise * log[:, 7]).astype(np.float32),
        density=np.stack(dense),
        size_um2=np.stack(large),
    )
