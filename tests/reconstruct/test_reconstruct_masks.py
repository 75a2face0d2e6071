"""Label images of sections: what is written comes back the same, corrections count, mistakes are named."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meshgnn.errors import InputError
from meshgnn.source.sections import SectionStack, read_stack
from reconstruct import TissueStack
from reconstruct.masks import labels_of, mask_files, masked, write_masks
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import config

REACH = 4.0


@pytest.fixture(scope="module")
def stack(straight: Path) -> SectionStack:
    whole = read_stack(straight)
    turned = tuple(replace(one, mirrored=one.index == 12) for one in whole)
    return replace(whole, sections=turned)


@pytest.fixture(scope="module")
def tissue(stack: SectionStack) -> TissueStack:
    return ClassifyTissue.Config(pixel_mm=0.6).build()(stack)  # 460 pixels are no whole number of blocks of 3


@pytest.fixture
def folder(stack: SectionStack, tissue: TissueStack, tmp_path: Path) -> Path:
    write_masks(tmp_path / "masks", tissue, stack)
    return tmp_path / "masks"


def edit(path: Path, change: object) -> None:
    with Image.open(path) as image:
        labels, palette = np.array(image), image.getpalette()
    change(labels)  # type: ignore[operator]
    again = Image.fromarray(labels)
    if palette:
        again.putpalette(palette)
    again.save(path)


def test_unedited_masks_change_nothing(stack: SectionStack, tissue: TissueStack, folder: Path) -> None:
    assert {int(path.stem) for path in folder.glob("*.png")} == set(tissue.index.tolist())
    again = masked(tissue, stack, folder, REACH)
    np.testing.assert_array_equal(again.outer, tissue.outer)
    np.testing.assert_array_equal(again.white, tissue.white)
    with Image.open(folder / "12.png") as image:
        assert image.mode == "P"
        k = tissue.index.tolist().index(12)
        np.testing.assert_array_equal(np.array(image), labels_of(tissue, k)[:, ::-1])  # as the image is stored


@pytest.mark.parametrize("number", [11, 12])
def test_a_corrected_piece_goes_and_the_rest_stays(
    stack: SectionStack, tissue: TissueStack, folder: Path, number: int
) -> None:
    k = tissue.index.tolist().index(number)
    true = labels_of(tissue, k)
    outer = tissue.outer.copy()
    rows, columns = np.indices(outer.shape[1:]) * tissue.pixel_mm
    outer[k] = np.minimum(outer[k], np.hypot(rows - 14, columns - 14) - 3)  # a scrap of 3 mm in a corner
    wrong = replace(tissue, outer=outer)
    assert (labels_of(wrong, k) != true).sum() > 50
    for path in folder.glob("*.png"):
        if path.stem != str(number):
            path.unlink()
    edit(folder / f"{number}.png", lambda labels: labels.__setitem__(labels == 2, 255))
    fixed = masked(wrong, stack, folder, REACH)
    np.testing.assert_array_equal(labels_of(fixed, k), true)
    near = np.abs(tissue.outer[k]) < 1
    assert np.abs(fixed.outer[k] - tissue.outer[k])[near].max() < 0.1 * tissue.pixel_mm
    others = np.arange(len(tissue.index)) != k
    np.testing.assert_array_equal(fixed.outer[others], wrong.outer[others])


def test_masks_of_another_size_fit_their_section(stack: SectionStack, tissue: TissueStack, folder: Path) -> None:
    k = tissue.index.tolist().index(11)
    (large := tmp_copy(folder)).mkdir()
    with Image.open(folder / "11.png") as image:
        image.resize((460, 460), Image.Resampling.NEAREST).save(large / "11.png")
    again = labels_of(masked(tissue, stack, large, REACH), k)
    assert (again != labels_of(tissue, k)).mean() < 0.01


def tmp_copy(folder: Path) -> Path:
    return folder.with_name("other")


def test_mistakes_are_named(stack: SectionStack, tissue: TissueStack, folder: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            masked(tissue, stack, bad, REACH)

    bad = tmp_copy(folder)
    refused("no such folder")
    bad.mkdir()
    refused("no masks here")
    for name in ("s11.png", "9.png", "-1.png"):
        shutil.copy(folder / "11.png", bad / name)
        refused(f"{name}: its name is no number")
        (bad / name).unlink()
    path = bad / "11.png"
    path.write_bytes((folder / "11.png").read_bytes()[:60])
    refused("11.png: cannot be read")
    Image.fromarray(np.ones((40, 90), np.uint8)).save(path)
    refused("keep the proportions")
    Image.fromarray(np.ones((50, 50, 3), np.uint8)).save(path)
    refused("8-bit PNG of labels")
    Image.fromarray(np.full((50, 50), 3, np.uint8)).save(path)
    refused("11.png: holds the label 3")
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(path)
    refused("11.png: holds no tissue")
    shutil.copy(folder / "11.png", bad / "011.png")
    with pytest.raises(InputError, match="masks of one section"):
        mask_files(bad, stack)


def test_a_resumed_run_takes_corrections(straight: Path, tmp_path: Path) -> None:
    quick = ("tissue.pixel_mm=0.8", "stack.voxel_mm=1.4", "midsurface.edge_mm=4", "align.rigid_rounds=2")
    first = config(straight, *quick).build().run(tmp_path / "out")
    tissue_time = (tmp_path / "out" / "steps" / "tissue" / "key.json").stat().st_mtime_ns
    stack = read_stack(straight)
    found = ClassifyTissue.Config(pixel_mm=0.8).build()(stack)
    write_masks(tmp_path / "masks", found, stack)
    settings = config(straight, *quick, f"tissue.masks={tmp_path / 'masks'}")
    second = settings.build().run(tmp_path / "out")
    for one, two in zip(first.midsurfaces, second.midsurfaces):
        np.testing.assert_array_equal(one.mesh.vertices_mm, two.mesh.vertices_mm)
    edit(tmp_path / "masks" / "12.png", lambda labels: labels.__setitem__((slice(None), slice(0, 50)), 0))
    third = settings.build().run(tmp_path / "out")
    assert "masks" not in third.report["reused"]
    assert "tissue" in third.report["reused"]
    assert (tmp_path / "out" / "steps" / "tissue" / "key.json").stat().st_mtime_ns == tissue_time
    sizes = [float(one.mesh.vertices_mm.sum()) for one in third.midsurfaces]
    assert sizes != [float(one.mesh.vertices_mm.sum()) for one in first.midsurfaces]
