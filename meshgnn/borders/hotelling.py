"""Blocks of profiles that slide along the ribbon: their Mahalanobis distance, and Hotelling's T2."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from meshgnn.errors import InputError

Floats = NDArray[np.float64]


def check_block(block: int, features: int) -> None:
    """Raises InputError when two blocks of `block` profiles are too few to test `features` features."""
    if 2 * block - features - 1 < 1:
        raise InputError(
            f"blocks of {block} profiles are too small for {features} features: Hotelling's T2 needs at least "
            f"{features // 2 + 1} profiles in a block"
        )


def block_distances(features: Floats, block: int) -> tuple[Floats, Floats]:
    """Squared Mahalanobis distance between the means of the `block` profiles on either side: (pooled, shrunk) [N - 1].

    Place k lies between profiles k and k + 1; NaN where a block does not fit. Pooled: by the pooled covariance of both
    blocks. Shrunk: by the estimate of Ledoit & Wolf 2004 of the same residuals, features in units of their own spread
    over the whole series; it bears few profiles better, but has no F distribution.

    Args:
        features: [N, p], each of them varying.

    Raises:
        InputError: too small blocks (p > degrees of freedom).
    """
    count, p = features.shape
    check_block(block, p)
    pooled, shrunk = np.full((2, max(count - 1, 0)), np.nan)
    if count < 2 * block:
        return pooled, shrunk
    spread = features.std(0)
    scaled = (features - features.mean(0)) / np.where(spread > 0, spread, 1)
    windows = np.lib.stride_tricks.sliding_window_view(scaled, block, axis=0)  # [N - b + 1, p, b]
    mean = windows.mean(-1)
    left, right = slice(None, len(mean) - block), slice(block, None)
    rest = windows - mean[..., None]
    within = np.einsum("npi,nqi->npq", rest, rest)
    total = within[left] + within[right]
    apart = mean[right] - mean[left]
    places = slice(block - 1, count - block)
    eye = np.eye(p)
    free = 2 * block - 2
    ridge = 1e-10 * np.maximum(np.trace(total, axis1=1, axis2=2) / p, 1e-300)[:, None, None]
    pooled[places] = free * np.einsum("np,np->n", apart, np.linalg.solve(total + ridge * eye, apart[..., None])[..., 0])

    n = 2 * block
    covariance = total / n
    scale = np.trace(covariance, axis1=1, axis2=2) / p
    d2 = ((covariance - scale[:, None, None] * eye) ** 2).sum((1, 2)) / p
    fourth = (rest**2).sum(1) ** 2  # [N - b + 1, b]
    noise = (fourth.sum(1)[left] + fourth.sum(1)[right] - n * (covariance**2).sum((1, 2))) / (n**2 * p)
    mixed = np.divide(np.clip(noise, 0, d2), d2, out=np.ones_like(d2), where=d2 > 0)[:, None, None]
    estimate = (1 - mixed) * covariance + mixed * scale[:, None, None] * eye
    estimate += ridge * eye
    shrunk[places] = np.einsum("np,np->n", apart, np.linalg.solve(estimate, apart[..., None])[..., 0])
    return pooled, shrunk


def hotelling_p(distance2: Floats, block: int, features: int) -> Floats:
    """p values of Hotelling's two-sample T2 for squared Mahalanobis distances; NaN stays.

    T2 = b / 2 D2 for two blocks of b, and (2b - p - 1) / ((2b - 2) p) T2 is distributed as F with p and 2b - p - 1
    degrees of freedom if all 2b profiles are drawn independently from one normal distribution. Neighbouring profiles
    of real cortex are not independent: p values are then too small, and say which borders stand out, no more.
    """
    check_block(block, features)
    free = 2 * block - features - 1
    ratio = free / ((2 * block - 2) * features) * block / 2 * np.asarray(distance2, np.float64)
    return np.where(np.isnan(ratio), np.nan, f_distribution.sf(ratio, features, free))
