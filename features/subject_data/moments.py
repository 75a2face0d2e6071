"""Mean and spread of volumes, kept per subject so that those of any set of subjects follow without reading them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError

Voxels = Literal["all", "brain"]
COLUMNS = ("count", "mean", "squares", "smallest", "largest")


def moments(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """[2, 5] of all voxels and of those that are not 0 (the brain, where the skull was stripped): their number, mean,
    sum of squared deviations, smallest and largest value."""
    flat = values.reshape(-1).astype(np.float64)
    rows = []
    for part in (flat, flat[flat != 0]):
        mean = part.mean() if len(part) else 0.0
        low, high = (part.min(), part.max()) if len(part) else (0.0, 0.0)
        rows.append([len(part), mean, ((part - mean) ** 2).sum(), low, high])
    return np.array(rows)


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What becomes mean 0 and standard deviation 1: (value - mean) / sd.

    Args:
        mean, sd: of the voxels of the training subjects taken together, or given.
        voxels: which ones were counted.
        subjects: of how many subjects; 0 where the two numbers were given.
    """

    mean: float
    sd: float
    voxels: Voxels = "all"
    subjects: int = 0

    @staticmethod
    def pooled(each: NDArray[np.float64], voxels: Voxels) -> "Normalisation":
        """Of several subjects' moments [B, 2, 5], by the parallel formula of Chan, Golub & LeVeque (1983).

        Raises:
            InputError: no subject, or the same value in all voxels.
        """
        part = each[:, 0 if voxels == "all" else 1]
        total = part[:, 0].sum()
        if not len(part) or not total:
            raise InputError("no training subject has a volume; mean and standard deviation cannot be taken")
        mean = float((part[:, 0] * part[:, 1]).sum() / total)
        squares = float((part[:, 2] + part[:, 0] * (part[:, 1] - mean) ** 2).sum())
        if not squares > 0:
            raise InputError("all voxels of the training subjects are alike; there is no spread to divide by")
        return Normalisation(mean=mean, sd=float(np.sqrt(squares / total)), voxels=voxels, subjects=len(part))
