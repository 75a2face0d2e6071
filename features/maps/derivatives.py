"""Gaussian derivatives of a volume at several scales: features that need no training and mean something.

What they tell of cortex: how bright it is, how sharply and in which way intensity falls towards pial, and whether the
surroundings are a sheet, a tube or a blob (the eigenvalues of the Hessian).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from features.node_data.trilinear import sampled
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import SettingError
from meshgnn.progress import Progress

COLUMNS = ("value", "gradient", "normal", "normal2", "hessian1", "hessian2", "hessian3")
_SECOND = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


class DerivativeBank:
    """Scale-normalised Gaussian derivatives up to the second order (Lindeberg 1998, 10.1023/A:1008045108935).

    Per scale s: the smoothed value L; s |grad L|; s dL/dn and s^2 d2L/dn2 along the cortical normal n towards pial; the
    three eigenvalues of s^2 times the Hessian, ascending. All but the normal ones are the same however the head lies.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            scales_mm: standard deviations of the Gaussian.
        """

        scales_mm: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0)

        def __post_init__(self) -> None:
            if not self.scales_mm or min(self.scales_mm) <= 0 or len(set(self.scales_mm)) < len(self.scales_mm):
                raise SettingError("<scales_mm> must name one or more different scales above 0")

        def build(self) -> "DerivativeBank":
            return DerivativeBank(self)

        def files(self) -> tuple[Path, ...]:
            return ()

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        return {"maps": "DerivativeBank", "config": to_plain(self.config)}

    def at(
        self, values: NDArray[np.float32], affine: NDArray[np.float64], points_mm: NDArray[np.float64],
        normals: NDArray[np.float64], progress: Progress,
    ) -> tuple[NDArray[np.float32], tuple[str, ...]]:  # fmt: skip
        """All of it at points, [V, C], and names of the columns.

        Args:
            values: [X, Y, Z] standardised; affine: [4, 4] voxel -> mm.
            points_mm, normals: [V, 3].
        """
        back = np.linalg.inv(affine)
        voxels, voxel_mm = points_mm @ back[:3, :3].T + back[:3, 3], np.linalg.norm(affine[:3, :3], axis=0)
        columns, names = [], []
        for done, scale in enumerate(self.config.scales_mm, 1):
            found = _derivatives(values, scale / voxel_mm, voxels)
            # The chain rule, voxel -> mm: grad = B^T g, Hessian = B^T H B with B = d voxel / d mm.
            turn = back[:3, :3]
            gradient = scale * np.stack([found[(k,)] for k in range(3)], axis=1) @ turn
            hessian = np.zeros((len(voxels), 3, 3))
            for i, j in _SECOND:
                hessian[:, i, j] = hessian[:, j, i] = found[(i, j)]
            hessian = scale**2 * (turn.T @ hessian @ turn)
            columns += [
                found[()],
                np.linalg.norm(gradient, axis=1),
                (gradient * normals).sum(1),
                np.einsum("vi,vij,vj->v", normals, hessian, normals),
                *np.linalg.eigvalsh(hessian).T,
            ]
            names += [f"{name}_{scale:g}mm" for name in COLUMNS]
            progress("scales", done, len(self.config.scales_mm))
        return np.stack(columns, axis=1).astype(np.float32), tuple(names)


def _derivatives(
    values: NDArray[np.float32], sigma: NDArray[np.float64], voxels: NDArray[np.float64]
) -> Mapping[tuple[int, ...], NDArray[np.float32]]:
    """[V] derivatives per voxel, by the axes along which they are taken."""
    found: dict[tuple[int, ...], NDArray[np.float32]] = {}
    for axes in ((), (0,), (1,), (2,), *_SECOND):
        order = [axes.count(axis) for axis in range(3)]
        smooth = ndimage.gaussian_filter(values, sigma, order=order, mode="nearest", truncate=5.0, output=np.float32)
        found[axes] = sampled(smooth, voxels)[0]
    return found
