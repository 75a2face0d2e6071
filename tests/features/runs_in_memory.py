"""A small BIDS folder of runs: a phantom whose voxels change over time, for readers of runs."""

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.features.volumes import AFFINE, SHAPE, phantom, write_people

<<<<<<<< HEAD:tests/features/runs.py
========
class Runs:
    """Three patterns that all subjects share, each with a smooth course of its own; a `meshgnn.sockets.WindowedItems`.
>>>>>>>> fmri-models:tests/features/runs_in_memory.py

def moving(seed: int, frames: int = 37, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """[X, Y, Z, T] a blob of which every voxel changes by some per cent; 0 far away from it."""
    rng = np.random.default_rng(100 + seed)
    still = phantom(seed, shape)
    return (still[..., None] * (1 + 0.02 * rng.normal(size=(*shape, frames)))).astype(np.float32)

<<<<<<<< HEAD:tests/features/runs.py
========
    def __init__(self, subjects=6, side=8, frames=4, channels=2, seed=0):
        rng = np.random.default_rng(seed)
        self.shape = (channels, side, side, side - 1, frames)
        self.observed, self.groups = np.ones(subjects, bool), np.zeros(subjects, np.int32)
        self.lengths = frames * 3 + np.arange(subjects) % 4
        self.runs, self.seen = [], []
        places = np.stack(np.meshgrid(*(np.arange(size) for size in self.shape[1:4]), indexing="ij"))
        space = np.stack([np.cos((places * rng.uniform(-0.6, 0.6, (3, 1, 1, 1))).sum(0)) for _ in range(3)])
        space = space[:, None, ..., None]
        for length in self.lengths:
            waves = np.sin(np.arange(length) * rng.uniform(0.3, 0.9, (3, 1, 1, 1, 1, 1)) + rng.uniform(0, 6))
            run = (space * waves).sum(0)
            score = (run - run.mean(-1, keepdims=True)) / run.std(-1, keepdims=True)
            self.runs.append(np.concatenate([run, score])[:channels].astype(np.float32))
        self.last_start = self.lengths.astype(np.int64) - frames
>>>>>>>> fmri-models:tests/features/runs_in_memory.py

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
