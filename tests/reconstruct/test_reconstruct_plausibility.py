"""Mistakes in a stack are refused, or told by the section's or the hemisphere's name; a right stack says nothing."""

import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.experiment.runner import run
from meshgnn.source.sections import open_image, read_stack, write_tiff
from meshgnn.store import read_json
from reconstruct import Reconstruction, Ribbon, TissueStack
from reconstruct.experiment import ReconstructRun
from reconstruct.plausibility import Plausible, joint_of, of_alignment, of_surfaces, of_tissue
from reconstruct.steps.align import AlignSections
from reconstruct.steps.mounting import CheckMounting
from reconstruct.steps.stack import StackSections
from reconstruct.steps.tissue import ClassifyTissue
from reconstruct.steps.volume import RibbonFromVolume
from tests.reconstruct.phantom import change, config, read_rows, write_table
from tests.reconstruct.test_reconstruct_sections import write_maps

Levels = NDArray[np.float32]


@pytest.fixture(scope="module")
def tissue(straight: Path) -> TissueStack:
    return ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(straight))


def told(tissue: TissueStack, change: Callable[[Levels], object]) -> list[str]:
    """Warnings about a stack whose level images [2, N, H, W] were changed."""
    bounds, levels = Plausible(), np.stack([tissue.outer, tissue.white])
    change(levels)
    stack = replace(tissue, outer=levels[0], white=np.maximum(levels[1], levels[0]))
    found = of_tissue(stack, bounds)
    alignment = AlignSections.Config(rigid_rounds=4, affine_rounds=0, least_quality=-9).build()(stack)
    return [*found, *of_alignment(stack, alignment, CheckMounting.Config().build()(stack, alignment), bounds)]


def exchanged(a: int, b: int) -> Callable[[Levels], None]:
    def change(levels: Levels) -> None:
        levels[:, [a, b]] = levels[:, [b, a]]

    return change


def shrunk(k: int) -> Callable[[Levels], None]:
    """As if pixel_um were half of what it is: half the size, at half the depth."""

    def change(levels: Levels) -> None:
        small = levels[:, k, ::2, ::2] / 2
        levels[:, k] = 4
        levels[:, k, : small.shape[1], : small.shape[2]] = small

    return change


def fragment(k: int) -> Callable[[Levels], None]:
    def change(levels: Levels) -> None:
        levels[:, k, :, 80:] = 4

    return change


def halves(levels: Levels) -> None:
    levels[:] = np.roll(levels, levels.shape[1] // 2, axis=1)


def copied(k: int) -> Callable[[Levels], None]:
    def change(levels: Levels) -> None:
        levels[:, k + 1] = levels[:, k]

    return change


def test_a_right_stack_says_nothing(tissue: TissueStack) -> None:
    assert told(tissue, lambda levels: None) == []


@pytest.mark.parametrize(
    ("change", "places", "words"),
    [
        (shrunk(11), (11,), "pixel_um"),
        (fragment(11), (11,), "whole"),
        (exchanged(4, 5), (4, 5), "exchanged"),
        (exchanged(4, 11), (4, 11), "exchanged|wrong place"),
        (copied(8), (8, 9), "same image"),
        (halves, (), "waist"),
    ],
)
def test_a_fault_names_its_section(
    tissue: TissueStack, change: Callable[[Levels], None], places: tuple[int, ...], words: str
) -> None:
    found = told(tissue, change)
    fitting = [one.replace(":", " ").split() for one in found if re.search(words, one)]
    assert fitting, found
    for k in places:
        assert any(str(tissue.index[k]) in one for one in fitting), found


def test_a_pixel_size_ten_percent_off_names_its_section_alone(straight: Path) -> None:
    stack = read_stack(straight)

    def found(factors: dict[int, float]) -> list[str]:
        sections = (replace(one, pixel_um=one.pixel_um * factors.get(one.index, 1)) for one in stack)
        tissue = ClassifyTissue.Config(pixel_mm=0.4).build()(replace(stack, sections=tuple(sections)))
        alignment = AlignSections.Config(workers=1).build()(tissue)
        return of_alignment(tissue, alignment, CheckMounting.Config().build()(tissue, alignment), Plausible())

    assert found({}) == []
    told = found({7: 1.1, 17: 0.9})
    assert [text.split(":")[0] for text in told] == ["section 7", "section 17"]
    assert "pixel_um seems too large" in told[0]
    assert "pixel_um seems too small" in told[1]


def test_one_image_under_two_names_in_another_encoding_names_both(straight: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(straight, tmp_path / "twice"))
    with open_image(folder / "s015.tif") as image:
        grey = image.read()
    write_tiff(folder / "s005.tif", grey.astype(np.uint16) * 200 + 300, 200)
    tissue = ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(folder))
    same = [text for text in of_tissue(tissue, Plausible()) if "same image" in text]
    assert same == ["sections 5 and 15 show the same image: check the column `file`"]


def test_light_that_falls_off_to_one_side_names_its_sections(straight: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(straight, tmp_path / "dark"))

    def fall(share: float, axis: int) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
        ramp = np.linspace(1 - share, 1, 460)
        return lambda grey: grey * (ramp if axis else ramp[:, None])

    change(folder / "s005.tif", fall(0.3, 1))
    change(folder / "s006.tif", fall(0.2, 0))
    change(folder / "s007.tif", fall(0.08, 1))
    tissue = ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(folder))
    told = [text for text in of_tissue(tissue, Plausible()) if "darker than the opposite" in text]
    assert len(told) == 1
    assert told[0].startswith("sections 5, 6: ")
    assert "section 5 by 2" in told[0]  # of 30 %, less what the edges' own width takes


def test_a_section_of_bare_glass_in_uneven_light_holds_no_tissue(straight: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(straight, tmp_path / "bare"))
    rows = read_rows(folder)
    lamp = 1 - 0.2 * np.hypot(*np.meshgrid(*[np.linspace(-0.7, 0.7, 460)] * 2)) ** 2
    write_tiff(folder / "glass.tif", (240 * lamp).astype(np.uint8), 200)
    write_table(folder, [*rows, ["glass.tif", 99, "28.0", *rows[-1][3:]]])
    tissue = ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(folder))
    shown = ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(straight)).index.tolist()
    assert tissue.index.tolist() == shown
    assert len(shown) > 20


def test_a_stack_that_cannot_be_is_refused(tissue: TissueStack) -> None:
    def all_the_same(levels: Levels) -> None:
        levels[:] = levels[:, 11:12]

    def light_grey(levels: Levels) -> None:
        levels[1] = np.abs(levels[0] + 1.2) - 1.0  # what is pale is a rind

    with pytest.raises(InputError, match="show the same image"):
        told(tissue, all_the_same)
    with pytest.raises(InputError, match="grey matter must be the darker"):
        told(tissue, light_grey)


def test_a_pixel_size_beyond_reason_is_refused_before_memory_is_taken(straight: Path, tmp_path: Path) -> None:
    for pixel in (2000, 9999):
        folder = tmp_path / str(pixel)
        shutil.copytree(straight, folder)
        rows = read_rows(folder)
        rows[7][3] = pixel
        write_table(folder, rows)
        with pytest.raises(InputError, match=r"section 7 .*check its pixel_um"):
            ClassifyTissue.Config().build()(read_stack(folder))


def test_a_grid_beyond_reason_is_refused_before_memory_is_taken(tissue: TissueStack) -> None:
    alignment = AlignSections.Config(rigid_rounds=0, affine_rounds=0).build()(tissue)
    wide = replace(tissue, outer=np.pad(tissue.outer, [(0, 0), (0, 400), (0, 400)]), white=np.pad(
        tissue.white, [(0, 0), (0, 400), (0, 400)]))  # fmt: skip
    with pytest.raises(InputError, match=r"raise stack\.voxel_mm"):
        StackSections.Config(voxel_mm=0.1).build()(wide, alignment, "coronal", "t")


def test_maps_that_are_exchanged_are_refused(tmp_path: Path) -> None:
    grey, white, _ = write_maps(tmp_path)
    with pytest.raises(InputError, match="exchanged"):
        RibbonFromVolume.Config().build()(white, grey, "test")
    data = bytearray(gzip.decompress(grey.read_bytes()))
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / "huge.nii").write_bytes(data)
    flat = nibabel.Nifti1Image(np.ones((9, 900, 900), np.float32), np.diag([50, 0.05, 0.05, 1]))
    flat.to_filename(tmp_path / "flat.nii")
    with pytest.raises(InputError, match="too many cubes"):
        RibbonFromVolume.Config().build()(tmp_path / "flat.nii", tmp_path / "flat.nii", "test")
    with pytest.raises(InputError, match="header asks for"):
        RibbonFromVolume.Config().build()(tmp_path / "huge.nii", white, "test")


def block(low: tuple[int, int, int], high: tuple[int, int, int], inner: int = 3) -> tuple[Levels, Levels]:
    pial, white = (np.ones((60, 40, 40), np.float32) for _ in range(2))
    pial[tuple(slice(a, b) for a, b in zip(low, high))] = -1
    white[tuple(slice(a + inner, b - inner) for a, b in zip(low, high))] = -1
    return pial, white


def test_one_hemisphere_cut_in_two_has_a_wide_joint(result: Reconstruction) -> None:
    def ribbon(pial: Levels, white: Levels, side: str | None = None) -> Ribbon:
        return Ribbon(pial=pial, white=np.maximum(white, pial), affine=np.eye(4), space="t", hemisphere=side)  # type: ignore[arg-type]

    whole = block((10, 5, 5), (50, 35, 35))
    left = np.indices((60, 40, 40))[0] < 30
    cut = [
        ribbon(*(np.where(here, field, 1).astype(np.float32) for field in whole), side)
        for side, here in (("L", left), ("R", ~left))
    ]
    apart = [ribbon(*block((5, 5, 5), (28, 35, 35)), "L"), ribbon(*block((32, 5, 5), (55, 35, 35)), "R")]
    both = ribbon(*(np.minimum(getattr(apart[0], n), getattr(apart[1], n)) for n in ("pial", "white")))
    assert joint_of(ribbon(*whole), cut) > 1
    assert joint_of(both, apart) == 0
    bounds = Plausible(hemisphere_cm2=(1, 1000))
    assert of_surfaces(result.midsurfaces, both, apart, bounds) == []
    assert "hemispheres.sides" in of_surfaces(result.midsurfaces, ribbon(*whole), cut, bounds)[0]
    lost = of_surfaces(result.midsurfaces, both, apart[:1], bounds)
    assert "left out" in lost[0]


def test_hemispheres_beyond_the_bounds_are_named(result: Reconstruction) -> None:
    item = result.midsurfaces[0]
    pair = block((5, 5, 5), (28, 35, 35))
    ribbon = Ribbon(pial=pair[0], white=np.maximum(*pair), affine=np.eye(4), space="t", hemisphere="L")
    for name, value, words in (
        ("thickness_mm_median", 16.0, "thickness 16 mm"),
        ("area_mm2", 650.0, "area 6.5 cm2"),
        ("handles_removed", 900, "900 handles"),
    ):
        odd = replace(item, report={**item.report, name: value})
        found = of_surfaces([odd], ribbon, [ribbon], Plausible(hemisphere_cm2=(10, 1000)))
        assert len(found) == 1
        assert found[0].startswith("hemisphere L")
        assert words in found[0]


def test_warnings_are_in_the_log_the_metrics_and_the_page(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(config(straight, kind=ReconstructRun.Config), tmp_path / "out")
    warnings = read_json(tmp_path / "out" / "metrics.json")["warnings"]
    assert [one[:12] for one in warnings] == ["hemisphere L", "hemisphere R"]  # the phantom is no human brain
    assert f"warning: {warnings[0]}" in capsys.readouterr().out
    assert "<h2>Warnings</h2>" in (tmp_path / "out" / "report.html").read_text()
    quiet = config(straight, "plausible.hemisphere_cm2=10,1000", kind=ReconstructRun.Config)
    run(quiet, tmp_path / "quiet")
    assert read_json(tmp_path / "quiet" / "metrics.json")["warnings"] == []
