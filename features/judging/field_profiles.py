"""Depth profiles of fields: what is known of a piece of cortex without any network. numpy only."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.node_data.field_patches import FieldPatches

DEPTHS = 32


def field_profiles(
    patches: NDArray[np.float32], thickness_um: NDArray[np.floating], data: FieldPatches.Config
) -> NDArray[np.float32]:
    """[B, 2 x 32 + 1] mean and sd of density at equal steps of depth from pial to white, and the thickness in mm.

    Args:
        patches: [B, rows, columns], the middle of the cortex in the middle row. Depths beyond a patch are those of its
            first or last row.
        thickness_um: [B] of the cortex.
        data: of the patches.
    """
    tall = patches.shape[1]
    mean, sd = patches.mean(2), patches.std(2)
    edges = np.linspace(-0.5, 0.5, DEPTHS + 1)
    out = np.empty((len(patches), 2 * DEPTHS + 1), np.float32)
    for k, thick in enumerate(thickness_um):
        rows = np.clip(np.round(edges * thick / data.pixel_um + (tall - 1) / 2), 0, tall - 1).astype(int)
        for j, (first, last) in enumerate(pairwise(rows)):
            part = slice(first, max(last, first + 1))
            out[k, j], out[k, DEPTHS + j] = mean[k, part].mean(), sd[k, part].mean()
        out[k, -1] = thick / 1000
    return out
