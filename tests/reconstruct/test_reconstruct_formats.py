"""The same stack in other formats gives the same tissue; large images are read in parts."""

import csv
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from meshgnn.errors import InputError
from meshgnn.source.sections import TABLE, SectionStack, open_image, read_stack
from reconstruct.records import TissueStack
from reconstruct.steps.tissue import ClassifyTissue
from tests import image_formats as formats
from tests.reconstruct.phantom import change, write_stack

FIELDS = ("outer", "white", "origin_mm", "centre_mm", "position_mm", "index", "falloff", "fine")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats") / "stack"
    write_stack(folder, pixel_um=100, spacing_mm=8.0)
    return folder


@pytest.fixture(scope="module")
def plain(stack: Path) -> TissueStack:
    return ClassifyTissue.Config().build()(read_stack(stack))


def converted(stack: Path, folder: Path, suffix: str, writer: Any, *, tell: bool = True, **how: Any) -> SectionStack:
    """The stack with every image written by `writer`; `tell`: the pixel size stands in the table."""
    folder.mkdir()
    with (stack / TABLE).open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        with open_image(stack / row["file"]) as image:
            grey = image.read()
        row["file"] = row["file"].replace(".tif", suffix)
        writer(folder / row["file"], grey, 100.0, **how)
        row["pixel_um"] = "100" if tell else ""
    with (folder / TABLE).open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return read_stack(folder)


@pytest.mark.parametrize("name", [name for name in formats.EXACT if name not in ("pyramid", "pages", "jpeg2000")])
def test_formats_without_a_pyramid_give_the_same_bits(
    name: str, stack: Path, plain: TissueStack, tmp_path: Path
) -> None:
    if name in formats.NEEDS:
        pytest.importorskip(formats.NEEDS[name], reason="the optional package is not installed")
    suffix, writer = formats.EXACT[name]
    found = ClassifyTissue.Config().build()(converted(stack, tmp_path / name, suffix, writer))
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(plain, field), err_msg=field)


@pytest.mark.parametrize(
    ("name", "how"),
    [("pyramid", {"steps": (2, 4)}), ("pyramid", {"steps": (3,)}), ("jpeg2000", {"resolutions": 1}), ("jpeg2000", {}),
     ("zarr05", {"steps": (2,), "version": "0.5"})],
)  # fmt: skip
def test_pyramids_give_the_same_tissue(
    name: str, how: dict[str, Any], stack: Path, plain: TissueStack, tmp_path: Path
) -> None:
    """From a level: boundaries within a tenth of a mm on average, the tissue's area within a hundredth."""
    if name.startswith("zarr"):
        pytest.importorskip("zarr", reason="the optional package is not installed")
        found_stack = converted(stack, tmp_path / name, ".zarr", formats.ome_zarr, **how)
    else:
        suffix, writer = formats.EXACT[name]
        found_stack = converted(stack, tmp_path / name, suffix, writer, **how)
    found = ClassifyTissue.Config().build()(found_stack)
    if how in ({"steps": (3,)}, {"resolutions": 1}):  # no level between the image and the working grid
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(found, field), getattr(plain, field), err_msg=field)
        return
    for field in ("origin_mm", "centre_mm", "position_mm", "index"):
        np.testing.assert_array_equal(getattr(found, field), getattr(plain, field), err_msg=field)
    for field in ("outer", "white"):
        one, other = getattr(found, field), getattr(plain, field)
        near = np.abs(other) < 2
        assert np.abs(one - other)[near].mean() < 0.1, field
        assert (one < 0).sum() == pytest.approx((other < 0).sum(), rel=0.01)
        shift = [np.argwhere(values < 0).mean(0) for values in (one, other)]
        np.testing.assert_allclose(shift[0], shift[1], atol=0.1, err_msg=field)  # pixels of 0.2 mm


def test_large_images_without_a_pyramid_are_averaged_as_they_are_read(
    stack: Path, plain: TissueStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconstruct.density._WHOLE_PX", 1 << 18)
    found = ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(stack))
    monkeypatch.undo()
    other = ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(stack))
    assert np.abs(found.outer - other.outer)[np.abs(other.outer) < 2].mean() < 0.1
    assert (found.white < 0).sum() == pytest.approx((other.white < 0).sum(), rel=0.01)
    np.testing.assert_array_equal(found.origin_mm, other.origin_mm)


def test_the_pixel_size_comes_from_the_image_where_the_table_leaves_it_open(stack: Path, tmp_path: Path) -> None:
    known = converted(stack, tmp_path / "ome", ".ome.tif", formats.ome, tell=False)
    assert {section.pixel_um for section in known} == {100.0}
    with pytest.raises(InputError, match=r"sections\.csv, line 2: pixel_um is empty and s000\.jp2 does not tell it"):
        converted(stack, tmp_path / "jp2", ".jp2", formats.jpeg2000, tell=False)


def test_missing_files_are_counted(stack: Path, tmp_path: Path) -> None:
    found = converted(stack, tmp_path / "png", ".png", formats.png)
    for section in found.sections[2:4]:
        section.path.unlink()
    with pytest.raises(InputError, match=r"line 4: the file 's002\.png' does not exist \(2 of 7 files are missing\)"):
        read_stack(tmp_path / "png")


def test_another_stain_is_another_result_and_is_kept_for_later(tmp_path: Path) -> None:
    from meshgnn.source.aligned import read_aligned, write_aligned
    from reconstruct import Reconstruct
    from reconstruct.sources import SectionFolder

    folder = tmp_path / "colour"
    write_stack(folder, spacing_mm=12.0)
    for path in folder.glob("*.tif"):
        with open_image(path) as image:
            grey = image.read()
        tifffile.imwrite(path, np.stack([grey, grey // 2 + 127, grey], axis=-1), tile=(64, 64), photometric="rgb")
    settings = Reconstruct.Config(source=SectionFolder.Config(path=folder, stain="green"))
    red = read_stack(folder, stain="red")
    assert {section.stain for section in red} == {"red"}
    assert all(section.colour for section in red)
    write_aligned(tmp_path, red)
    assert {section.stain for section in read_aligned(tmp_path)} == {"red"}
    keys = set()
    for stain in ("red", "green", ""):
        from meshgnn.progress import silent
        from reconstruct.pipeline import _Run
        from reconstruct.state import Store

        run = _Run(settings, tmp_path / "out", silent)
        run.store = Store(tmp_path / "out" / "steps")
        keys.add(run._tissue(read_stack(folder, stain=stain), keep=False)[1])
    assert len(keys) == 3


_MEMORY = """
    import resource, sys
    from pathlib import Path
    from meshgnn.source.sections import read_stack
    from reconstruct.density import section_density

    stack = read_stack(Path(sys.argv[1]), minimum=1)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    density = section_density(stack.sections[0], 0.2).values
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start, *density.shape, float(density.mean()))
"""


@pytest.mark.parametrize("kind", ["pyramid", *(pytest.param(k, marks=pytest.mark.slow) for k in ("plain", "strips"))])
def test_a_large_image_is_never_in_memory_as_a_whole(kind: str, tmp_path: Path) -> None:
    """20,000 x 24,000 px, 480 MB: from a pyramid under 150 MB, in tiles or strips alone under 350 MB."""
    size = (20_000, 24_000)

    def grey(top: int, left: int, tall: int, wide: int, step: int = 1) -> np.ndarray[Any, Any]:
        row = (np.arange(top, top + tall, dtype=np.float32)[:, None] * step - 10_000) / 8000
        column = (np.arange(left, left + wide, dtype=np.float32) * step - 12_000) / 9000
        return np.where(row * row + column * column < 1, np.uint8(120), np.uint8(240))

    options = {"photometric": "minisblack", "metadata": None, "compression": "zlib"}

    def tiles(step: int, side: int = 1008) -> Any:
        for row in range(0, size[0] // step, side):
            for column in range(0, size[1] // step, side):
                yield grey(row, column, side, side, step)

    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as file:
        if kind == "strips":
            parts = (grey(row, 0, 500, size[1]) for row in range(0, size[0], 500))
            file.write(parts, shape=size, dtype=np.uint8, rowsperstrip=500, photometric="minisblack", metadata=None)
        else:
            more = (4, 16) if kind == "pyramid" else ()
            file.write(tiles(1), shape=size, dtype=np.uint8, tile=(1008, 1008), subifds=len(more), **options)
            for step in more:
                file.write(tiles(step), shape=(size[0] // step, size[1] // step), dtype=np.uint8, tile=(1008, 1008),
                           subfiletype=1, **options)  # fmt: skip
    (tmp_path / TABLE).write_text(
        "file,index,position_mm,pixel_um,thickness_um,usable\na.tif,1,0,5,20,1\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_MEMORY), str(tmp_path)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    used_kb, rows_, columns_, mean = done.stdout.split()
    assert (int(rows_), int(columns_)) == (500, 600)
    assert float(mean) == pytest.approx(np.log(2) * np.pi * 8000 * 9000 / (size[0] * size[1]), rel=0.01)
    assert int(used_kb) < (150_000 if kind == "pyramid" else 350_000), used_kb


def test_values_that_are_not_finite_are_named(stack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    write_stack(folder, spacing_mm=12.0)
    change(folder / "s001.tif", lambda grey: grey)
    with open_image(folder / "s001.tif") as image:
        grey = image.read().astype(np.float32)
    grey[5, 7] = np.nan
    tifffile.imwrite(folder / "s001.tif", grey)
    with pytest.raises(InputError, match=r"s001\.tif: 1 pixels are not finite"):
        ClassifyTissue.Config().build()(read_stack(folder))
