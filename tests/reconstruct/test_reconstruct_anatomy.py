"""Blurred edges, what is not cerebrum, species, and results that cannot be cortex."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.cli import entry
from meshgnn.override import override
from reconstruct import Reconstruct, Ribbon, SectionFolder, template
from reconstruct.outline import edge_softness, soft_outline
from reconstruct.species import SPECIES, STEPS, settled
from reconstruct.steps.cerebrum import KeepCerebrum
from reconstruct.steps.tissue import ClassifyTissue

PIXEL = 0.2


def cut_gyri(blur_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Density of a disc of white matter in a grey rind, radius 30 mm, with a cleft of 2 mm; its radii."""
    y, x = np.indices((400, 400)) * PIXEL - 40
    radius = np.hypot(x, y)
    density = np.where(radius < 30, np.where(radius < 26, 0.2, 0.6), 0.0)
    bank, cleft = (np.abs(x) < 5) & (y < -10) & (radius < 30), (np.abs(x) < 1) & (y < -14)
    density = np.where(bank, 0.6, density)
    density = np.where(cleft, 0.0, density)
    return ndimage.gaussian_filter(density, blur_mm / PIXEL).astype(np.float32), radius


def test_softness_tells_blurred_edges_from_sharp_ones() -> None:
    limit = ClassifyTissue.Config().build().settings.soft_mm
    sharp, soft = (edge_softness(cut_gyri(blur)[0], 0.1, PIXEL, 0.15) for blur in (0.0, 1.0))
    assert sharp < 0.7 * limit
    assert soft > 1.5 * limit
    assert np.isnan(edge_softness(np.zeros((50, 50), np.float32), 0.1, PIXEL, 0.15))


def test_a_blurred_edge_ends_where_half_of_grey_is_passed_and_its_rim_is_no_white_matter() -> None:
    density, radius = cut_gyri(1.2)
    soft = edge_softness(density, 0.1, PIXEL, 0.15)
    found = soft_outline(density, 0.1, 0.4, PIXEL, 0.15, soft)
    tissue = (density > 0.1) & ~found.rim
    below = np.indices(density.shape)[0] > 200  # away from the cleft
    edge = radius[below & tissue & ~ndimage.binary_erosion(tissue)]
    outer = edge[edge > 20]
    assert abs(outer.mean() - 30) < 0.35  # half of white matter's density lies 1.1 mm further out
    assert radius[(density > 0.1) & below].max() > 30.8
    pale = tissue & (density < 0.4) & ~found.skin
    assert pale[radius < 24].mean() > 0.8  # white matter stays pale
    assert not pale[(radius > 28) & below].any()
    y, x = np.indices(density.shape) * PIXEL - 40
    assert not pale[(np.abs(x) < 1) & (y < -15) & (radius < 30)].any()  # a cleft is pale, and no white matter


def brain_ribbon(whole: bool) -> Ribbon:
    model = template.mni152()
    tissue = model.cerebrum | model.other if whole else model.cerebrum
    level = np.where(tissue, -1, 1).astype(np.float32)
    inner = np.where(ndimage.binary_erosion(tissue, iterations=2), -1, 1).astype(np.float32)
    affine = model.affine.copy()
    affine[:3, :3] *= 0.9  # another, smaller head, and turned
    turn = np.array([[1, 0, 0], [0, np.cos(0.1), -np.sin(0.1)], [0, np.sin(0.1), np.cos(0.1)]])
    affine[:3, :3] = turn @ affine[:3, :3]
    return Ribbon(pial=level, white=np.maximum(inner, level), affine=affine, space="t")


def test_cerebellum_and_brain_stem_are_found_where_they_are_and_only_there() -> None:
    model = template.mni152()
    kept = KeepCerebrum.Config().build()(brain_ribbon(whole=True))
    left = kept.pial < 0
    assert (left & model.other).sum() < 0.06 * model.other.sum()
    assert (left & model.cerebrum).sum() > 0.98 * model.cerebrum.sum()
    alone = brain_ribbon(whole=False)
    same = KeepCerebrum.Config().build()(alone)
    assert ((same.pial < 0) & model.cerebrum).sum() == model.cerebrum.sum()
    nothing = KeepCerebrum.Config(find="none").build()(brain_ribbon(whole=True))
    assert ((nothing.pial < 0) & model.other).sum() == model.other.sum()


def ball() -> Ribbon:
    grid = np.indices((40, 40, 40)) - 19.5
    level = (np.sqrt((grid**2).sum(0)) - 15).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = -19.5
    return Ribbon(pial=level, white=level + 3, affine=affine, space="t")


def test_planes_and_masks_cut(tmp_path: Path) -> None:
    quiet = KeepCerebrum.Config(find="none", deep_mm=50)
    whole = ball()
    cut = replace(quiet, planes=(0.0, 0, -5, 0, 0, -1)).build()(whole)
    where = np.argwhere(cut.pial < 0) @ whole.affine[:3, :3].T + whole.affine[:3, 3]
    assert where[:, 2].min() == -4.5
    assert where[:, 2].max() > 14
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[5:] = 1  # x > 0
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -18
    nibabel.Nifti1Image(mask, affine).to_filename(tmp_path / "mask.nii")
    half = replace(quiet, mask=tmp_path / "mask.nii").build()(whole)
    where = np.argwhere(half.pial < 0) @ whole.affine[:3, :3].T + whole.affine[:3, 3]
    assert where[:, 0].max() < 0.6
    with pytest.raises(InputError, match="nothing is left"):
        replace(quiet, planes=(0.0, 0, 50, 0, 0, -1)).build()(whole)
    with pytest.raises(InputError, match="no such file"):
        replace(quiet, mask=tmp_path / "none.nii").build()(whole)
    with pytest.raises(SettingError, match="planes"):
        KeepCerebrum.Config(planes=(1.0, 2, 3))


def test_a_species_fills_in_what_is_not_set_and_nothing_else() -> None:
    base = Reconstruct.Config(source=SectionFolder.Config(path=Path("x")))
    human, mouse = base.build().settings, override(base, ["species=mouse"]).build().settings
    assert human.tissue.layer_one_mm == 0.9
    assert mouse.tissue.layer_one_mm < 0.5
    assert mouse.plausible.hemisphere_cm2[1] < 10
    assert (human.cerebrum.find, mouse.cerebrum.find) == ("template", "none")
    own = override(base, ["species=mouse", "tissue.layer_one_mm=0.9", "stack.voxel_mm=0.7"]).build().settings
    assert (own.tissue.layer_one_mm, own.stack.voxel_mm) == (0.9, 0.7)
    for name in SPECIES:
        for step in STEPS:
            filled = settled(getattr(base, step), step, name)  # type: ignore[arg-type]
            assert None not in [getattr(filled, key) for key in SPECIES[name].of(step)]
    with pytest.raises(InputError, match="marmoset"):
        override(base, ["species=dog"])


def test_what_cannot_be_cortex_is_refused_with_a_page_and_without_a_mesh(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["reconstruct", "--out", str(out)]
    fast = ("stack.voxel_mm=1.0", "midsurface.edge_mm=2.5", "align.rigid_rounds=8", "cerebrum.find=none",
            f"source.path={straight}")  # fmt: skip
    sets = [word for one in fast for word in ("--set", one)]
    assert entry([*words, *sets, "--set", "plausible.refuse=false"]) == 0  # handed out, and then no longer
    assert list(out.glob("*.gii"))
    capsys.readouterr()
    assert entry([*words, *sets, "--resume"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "no mesh is handed out" in error[0]
    assert "area" in error[0]
    assert "qc/volume.png" in error[0]
    assert not list(out.rglob("*.gii"))
    assert not (out / "sections.json").exists()
    assert "Refused" in (out / "report.html").read_text(encoding="utf-8")
    assert (out / "qc" / "volume.png").is_file()
