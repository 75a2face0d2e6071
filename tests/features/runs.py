"""A small BIDS folder of runs: a phantom whose voxels change over time, for readers of runs."""

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.features.volumes import AFFINE, SHAPE, phantom, write_people


def moving(seed: int, frames: int = 37, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """[X, Y, Z, T] a blob of which every voxel changes by some per cent; 0 far away from it."""
    rng = np.random.default_rng(100 + seed)
    still = phantom(seed, shape)
    return (still[..., None] * (1 + 0.02 * rng.normal(size=(*shape, frames)))).astype(np.float32)


def run_path(folder: Path, name: str) -> Path:
    return folder / name / "func" / f"{name}_task-rest_bold.nii.gz"


def write_run(path: Path, values: np.ndarray, tr_s: float = 1.5, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    if values.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    image.to_filename(path)
    return path


def write_moving(folder: Path, count: int = 4, frames: int = 37) -> list[str]:
    """participants.tsv and one run each; returns the names."""
    names = [f"sub-{k:02d}" for k in range(count)]
    write_people(folder, names, {"family_id": [f"f{k // 2}" for k in range(count)]})
    for k, name in enumerate(names):
        write_run(run_path(folder, name), moving(k, frames))
    return names
