"""A small BIDS folder of phantoms: blobs of known place, for readers of volumes."""

from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.array([[2.0, 0, 0, -20], [0, 2, 0, -24], [0, 0, 2, -18], [0, 0, 0, 1]])
SHAPE = (20, 24, 18)


def phantom(seed: int, shape: tuple[int, int, int] = SHAPE, affine: np.ndarray = AFFINE) -> np.ndarray:
    """A smooth blob of about 10 mm near the origin of the space, 0 far away from it."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.indices(shape), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    away = ((places - rng.uniform(-3, 3, 3)) ** 2 / rng.uniform(30, 60, 3)).sum(-1)
    values = 100 * np.exp(-away) * (1 + 0.3 * np.sin(places[..., 0] / 6))
    return np.where(values > 2, values, 0).astype(np.float32)


def centre_of_mass_mm(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    places = np.indices(values.shape).reshape(3, -1) @ values.ravel() / values.sum()
    return affine[:3, :3] @ places + affine[:3, 3]


def image_path(folder: Path, name: str, suffix: str = "T1w") -> Path:
    return folder / name / "anat" / f"{name}_{suffix}.nii.gz"


def write_image(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(values, affine).to_filename(path)
    return path


def write_people(folder: Path, names: list[str], columns: dict[str, list[str]] | None = None) -> None:
    columns = columns or {}
    lines = ["\t".join(["participant_id", *columns])]
    lines += ["\t".join([name, *(cells[k] for cells in columns.values())]) for k, name in enumerate(names)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")


def write_phantoms(folder: Path, count: int = 6) -> list[str]:
    """participants.tsv and one phantom each; returns the names."""
    names = [f"sub-{k:02d}" for k in range(count)]
    write_people(folder, names, {"family_id": [f"f{k // 2}" for k in range(count)]})
    for k, name in enumerate(names):
        write_image(image_path(folder, name), phantom(k))
    return names
