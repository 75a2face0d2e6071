"""Laminar prototypes: layer shares, cell densities and cell sizes of about a dozen kinds of cortex.

Tags: BB = measured on layer-wise cell samples drawn by experts in BigBrain sections (number of samples given);
A = approximation from the descriptive literature (von Economo & Koskinas 1925; Insausti 2017 for entorhinal cortex),
to be replaced when figures are at hand.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LAYERS = ("I", "II", "III", "IV", "V", "VI")
BINS = 16  # per layer, of the tables below


@dataclass(frozen=True, kw_only=True)
class Prototype:
    """A kind of cortex.

    Args:
        share: depth taken by layers I-VI, in %, by volume.
        density: cells per volume of each layer relative to layer III.
        size_um2: mean cell-body area of each layer.
        scale: density of layer III relative to other cortex.
        thickness_mm: of the cortex (A: after von Economo & Koskinas 1925).
        source: BB or A.
    """

    share: tuple[float, float, float, float, float, float]
    density: tuple[float, float, float, float, float, float]
    size_um2: tuple[float, float, float, float, float, float]
    scale: float = 1.0
    thickness_mm: float = 2.9
    source: str = "A"


PROTOTYPES: dict[str, Prototype] = {
    "OC": Prototype(  # striate; 6 samples
        share=(9, 6, 16, 35, 9, 25),
        density=(0.41, 1.14, 1, 1.12, 0.84, 0.82),
        size_um2=(33, 47, 48, 41, 46, 50),
        scale=1.5,
        source="BB",
        thickness_mm=2.2,
    ),
    "OA": Prototype(  # OA and OB; 22 samples
        share=(10, 8, 31, 7, 19, 24),
        density=(0.55, 1.40, 1, 1.45, 0.98, 0.93),
        size_um2=(34, 45, 55, 43, 53, 51),
        source="BB",
        thickness_mm=2.5,
    ),
    "FBm": Prototype(  # medial area 6; 5 samples
        share=(7, 5, 31, 1, 20, 36),
        density=(0.69, 1.57, 1, 1.03, 0.92, 0.88),
        size_um2=(33, 41, 54, 50, 57, 51),
        source="BB",
        thickness_mm=3.3,
    ),
    "FD": Prototype(  # lateral FC and FD; 7 samples
        share=(10, 6, 31, 6, 16, 29),
        density=(0.57, 1.41, 1, 1.23, 0.97, 0.92),
        size_um2=(36, 52, 62, 55, 62, 57),
        source="BB",
        thickness_mm=3.0,
    ),
    "FE": Prototype(  # frontal pole; 11 samples
        share=(9, 7, 28, 8, 19, 29),
        density=(0.64, 1.43, 1, 1.28, 1.03, 0.94),
        size_um2=(36, 47, 61, 51, 63, 59),
        source="BB",
        thickness_mm=2.8,
    ),
    "PE": Prototype(  # superior parietal; 9 samples
        share=(8, 8, 30, 9, 22, 24),
        density=(0.55, 1.41, 1, 1.32, 0.97, 0.93),
        size_um2=(32, 45, 56, 47, 57, 53),
        source="BB",
        thickness_mm=2.8,
    ),
    "TE": Prototype(  # ventral temporal TE and TF; 8 samples
        share=(9, 7, 27, 7, 22, 27),
        density=(0.59, 1.44, 1, 1.41, 1.00, 0.97),
        size_um2=(36, 50, 57, 47, 61, 57),
        source="BB",
        thickness_mm=3.2,
    ),
    "FA": Prototype(  # area 4: hardly any layer IV, Betz cells in V
        share=(9, 8, 26, 1, 24, 32),
        density=(0.69, 1.50, 1, 1.03, 0.85, 0.85),
        size_um2=(33, 42, 58, 50, 74, 53),
        scale=0.85,
        thickness_mm=3.6,
    ),
    "PB": Prototype(  # area 3b: koniocortex
        share=(12, 10, 27, 9, 18, 22),
        density=(0.50, 1.42, 1, 1.46, 0.90, 0.90),
        size_um2=(32, 41, 48, 40, 48, 48),
        scale=1.2,
        thickness_mm=2.3,
    ),
    "TC": Prototype(  # A1: koniocortex
        share=(13, 11, 26, 8, 19, 21),
        density=(0.50, 1.44, 1, 1.48, 0.86, 0.90),
        size_um2=(32, 41, 47, 40, 47, 48),
        scale=1.25,
        thickness_mm=2.8,
    ),
    "PF": Prototype(  # supramarginal
        share=(10, 10, 26, 9, 19, 25),
        density=(0.55, 1.41, 1, 1.32, 0.97, 0.93),
        size_um2=(33, 46, 58, 47, 58, 54),
        thickness_mm=3.0,
    ),
    "IA": Prototype(  # agranular insula and cingulate: no layer IV, little contrast between layers
        share=(11, 9, 30, 1, 22, 27),
        density=(0.62, 1.22, 1, 1.0, 1.06, 0.92),
        size_um2=(34, 44, 52, 48, 58, 52),
        scale=0.95,
        thickness_mm=3.1,
    ),
    "EC": Prototype(  # entorhinal: cell-poor lamina dissecans in the place of IV
        share=(15, 12, 30, 5, 20, 18),
        density=(0.40, 1.10, 1, 0.30, 1.05, 0.95),
        size_um2=(32, 62, 54, 40, 56, 50),
        scale=0.9,
        thickness_mm=3.1,
    ),
    "HC": Prototype(  # hippocampus and subiculum: a pyramidal band between two cell-poor ones
        share=(28, 8, 30, 4, 12, 18),
        density=(0.25, 0.60, 1, 0.9, 0.35, 0.25),
        size_um2=(32, 48, 66, 60, 44, 36),
        thickness_mm=2.6,
    ),
}


def tables(
    share: npt.NDArray[np.float64],
    density: npt.NDArray[np.float64],
    size_um2: npt.NDArray[np.float64],
    prototype: str,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cell density and cell size over the laminar coordinate, [6 * BINS] each.

    Bin k of layer l stands for depth (k + 0.5) / BINS of that layer. Layers pass into each other over about 30 um of a
    2.5 mm cortex (wider for a thinner neighbour); within layer III cells grow towards the depth (A: +-20 %), layer VI
    thins out towards the white matter (A), and layer IV of the striate area splits into IVa, the pale IVb (stria of
    Gennari) and IVc (A: 15, 35 and 50 % of IV).
    """
    depth = (np.arange(BINS) + 0.5) / BINS
    dense = np.repeat(density[:, None], BINS, axis=1)
    large = np.repeat(size_um2[:, None], BINS, axis=1)
    large[2] *= 0.82 + 0.36 * depth
    dense[2] *= 1.06 - 0.12 * depth
    dense[5] *= np.where(depth < 0.4, 1.08, 1.08 - 0.75 * (depth - 0.4))
    dense[0] *= 0.9 + 0.2 * depth
    large[4] *= 0.94 + 0.12 * np.sin(np.pi * depth)
    if prototype == "OC":
        dense[3] *= np.where(depth < 0.15, 1.05, np.where(depth < 0.5, 0.62, 1.25))
        large[3] *= np.where((depth > 0.15) & (depth < 0.5), 1.12, 0.93)
        dense[4] *= 0.8
    # Smooth in depth, not in bins: a common fine axis, then back.
    edges = np.concatenate([[0], np.cumsum(share / share.sum())])
    fine = (np.arange(1000) + 0.5) / 1000
    layer = np.clip(np.searchsorted(edges, fine, side="right") - 1, 0, 5)
    inside = np.clip((fine - edges[layer]) / (edges[layer + 1] - edges[layer]), 0, 1 - 1e-9)
    bins = (layer * BINS + inside * BINS).astype(int)
    kernel = np.hanning(25)[1:-1]
    kernel /= kernel.sum()
    padded = [np.pad(table.ravel()[bins], 11, mode="edge") for table in (dense, large)]
    smooth = [np.convolve(values, kernel, mode="valid") for values in padded]
    centres = (edges[:-1, None] + depth * np.diff(edges)[:, None]).ravel()
    out = [np.interp(centres, fine, values).astype(np.float32) for values in smooth]
    return out[0], out[1]
