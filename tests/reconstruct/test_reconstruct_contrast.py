"""A reference volume of unknown contrast: what it shows is told by the sections."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from meshgnn.errors import InputError, SettingError
from meshgnn.source.sections import read_stack
from reconstruct.contrast import read_image
from reconstruct.records import Alignment, TissueStack
from reconstruct.steps.align import AlignSections
from reconstruct.steps.reference import ReferenceVolume
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import body, config, write_stack

# Grey values of the rest (fluid), grey and white matter; and of a shell around, 0 for none.
CONTRASTS = {"t1": (0.2, 0.6, 0.9, 0.0), "t2": (1.0, 0.6, 0.4, 0.0), "skull": (0.2, 0.6, 0.9, 1.2)}


def write_image(path: Path, kind: str, *, turned: bool = False, noise: float = 0.04) -> Path:
    """The phantom at 1 mm in grey values under a bias of +-20 %, lying askew and away, grown by 5 %."""
    rng = np.random.default_rng(4)
    rest, grey, white, shell = CONTRASTS[kind]
    index = np.stack(np.meshgrid(*[np.arange(104.0)] * 3, indexing="ij"), axis=-1)
    pose = np.eye(4)
    pose[:3, :3] = 1.05 * Rotation.from_euler("xyz", [5, -3, 4], degrees=True).as_matrix()
    pose[:3, 3] = [6.0, -4.0, 8.0]
    affine = np.eye(4)
    affine[:3, 3] = -50
    back = np.linalg.inv(pose) @ affine
    at = index @ back[:3, :3].T + back[:3, 3]
    x, y, z = np.moveaxis(at, -1, 0)
    x, z = (z, x) if turned else (x, z)
    outer, inner = body(x, y, z, 0.0), body(x, y, z, 3.0)
    # Fluid fills a ball around the brain, air the rest.
    radius = np.sqrt((x / 38) ** 2 + (y / 32) ** 2 + (z / 27) ** 2)
    values = np.where(inner < 0, white, np.where(outer < 0, grey, np.where(radius < 1, rest, 0.0)))
    if shell:
        values = np.where((radius >= 1.05) & (radius < 1.15), shell, values)
    values *= 1 + 0.2 * np.sin(at[..., 0] / 30 + 1) * np.cos(at[..., 1] / 25)
    noisy = np.hypot(values + noise * rng.standard_normal(values.shape), noise * rng.standard_normal(values.shape))
    nibabel.save(nibabel.Nifti1Image((1000 * noisy).astype(np.float32), affine), path)
    return path


@pytest.fixture(scope="module")
def bent(tmp_path_factory: pytest.TempPathFactory) -> tuple[TissueStack, TissueStack]:
    """The phantom's tissue as it is, and bent by up to 5 mm, slowly along the brain."""
    folder = tmp_path_factory.mktemp("bent") / "stack"
    write_stack(folder, pixel_um=400)
    tissue = ClassifyTissue.Config().build()(read_stack(folder))
    bend = 5 * np.cos(tissue.position_mm / 12)
    return tissue, replace(tissue, origin_mm=tissue.origin_mm + np.outer(bend, [1.0, 0.0]))


def error(alignment: Alignment, tissue: TissueStack, bent: TissueStack) -> float:
    """Mean distance in mm, in the plane, of where sections lie from where they truly lie, but for a line along them."""
    moves = np.array([alignment.map(k, np.zeros((1, 2)))[0] for k in range(len(tissue.index))])
    away = (moves - tissue.centre_mm - (bent.origin_mm - tissue.origin_mm))[np.abs(tissue.position_mm) < 18]
    return float(np.linalg.norm(away - away.mean(0), axis=1).mean())


def aligned(stack: TissueStack, image: Path) -> Alignment:
    reference = ReferenceVolume.Config(image=image)
    return AlignSections.Config(rigid_rounds=6, affine_rounds=0, reference=reference).build()(stack)


@pytest.mark.parametrize("kind", list(CONTRASTS))
def test_an_image_of_any_contrast_unbends_the_stack(
    kind: str, bent: tuple[TissueStack, TissueStack], tmp_path: Path
) -> None:
    found = aligned(bent[1], write_image(tmp_path / "image.nii.gz", kind))
    assert error(found, *bent) < 0.5  # without a volume above 1 (test_reconstruct_joint)
    assert found.reference > 0.85


@pytest.mark.parametrize("wrong", ["turned", "another contrast at random", "half the size"])
def test_an_image_that_does_not_show_the_brain_is_refused(
    wrong: str, bent: tuple[TissueStack, TissueStack], tmp_path: Path
) -> None:
    path = write_image(tmp_path / "image.nii.gz", "t1", turned=wrong == "turned")
    image = nibabel.load(path)
    values, affine = np.asarray(image.dataobj), image.affine.copy()
    if wrong == "another contrast at random":
        values = np.random.default_rng(0).normal(500, 100, values.shape)
    if wrong == "half the size":
        affine[:3] /= 2
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
    with pytest.raises(InputError, match=r"do not tell grey from white matter|times their size"):
        aligned(bent[1], path)


def of_nothing(values: np.ndarray) -> nibabel.Nifti1Image:  # type: ignore[type-arg]
    return nibabel.Nifti1Image(values, np.eye(4))


RGB = np.zeros((9, 9, 9), [("R", "u1"), ("G", "u1"), ("B", "u1")])
HOLED = np.random.default_rng(0).random((9, 9, 9)).astype(np.float32)
HOLED[4, 4, 4] = np.nan
UNUSABLE = {
    "not finite": HOLED,
    "one value": np.zeros((9, 9, 9), np.float32),
    "at least 8 voxels": np.random.default_rng(0).random((9, 9, 2)).astype(np.float32),
    "needs a 3D volume": np.zeros((9, 9), np.float32),
    "needs a 3D volume, has shape": np.zeros((9, 9, 9, 2), np.float32),
    "holds colours": RGB,
}


@pytest.mark.parametrize("reason", list(UNUSABLE))
def test_an_image_that_cannot_be_used_is_named_with_its_reason(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    nibabel.save(of_nothing(UNUSABLE[reason]), path)
    with pytest.raises(InputError, match=f"image.nii.gz: .*{reason}"):
        read_image(path)


def test_an_image_cut_short_or_without_a_place_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.nii.gz", "t1")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be read as a volume"):
        read_image(path)
    image = of_nothing(np.random.default_rng(0).random((9, 9, 9)).astype(np.float32))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, path)
    with pytest.raises(InputError, match="has no affine"):
        read_image(path)


def test_an_image_is_opened_before_anything_is_written(tmp_path: Path) -> None:
    write_stack(tmp_path / "stack", pixel_um=800, spacing_mm=5)
    missing = tmp_path / "image.nii.gz"
    with pytest.raises(InputError, match="no such file"):
        config(tmp_path / "stack", f"align.reference.image={missing}").build().run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match="not both"):
        ReferenceVolume.Config(image=missing, grey=missing)
