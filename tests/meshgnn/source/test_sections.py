"""Stacks are checked when read; windows equal the image, whatever its layout."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from meshgnn.errors import InputError
from meshgnn.source.sections import Section, SectionStack, open_image, open_section, read_stack, write_tiff

HEADER = ["file", "index", "position_mm", "pixel_um", "thickness_um", "usable"]


def write_table(folder: Path, rows: list[list[object]], header: list[str] = HEADER) -> None:
    with (folder / "sections.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(3):
        write_tiff(tmp_path / f"{k}.tif", rng.integers(0, 255, (70 + k, 90), np.uint8), 50)
    write_table(tmp_path, [[f"{k}.tif", k, 2.0 * k, 50, 20, 1] for k in range(3)])
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (32, 48), "compression": "zstd"},
        {"tile": (32, 32)},
        {"rowsperstrip": 7, "compression": "zlib"},
        {"rowsperstrip": 1000},
        {"tile": (64, 64), "compression": "lzw", "predictor": True},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_window_equals_slice(tmp_path: Path, options: dict, dtype: type) -> None:
    image = np.random.default_rng(1).integers(0, 250, (131, 173)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    padded = np.pad(image, 40, constant_values=9)
    with open_image(tmp_path / "a.tif") as opened:
        assert opened.shape == image.shape
        assert np.array_equal(opened.read(), image)
        for row, column, height, width in [(0, 0, 10, 10), (-30, -20, 60, 50), (100, 150, 60, 60), (33, 47, 1, 2)]:
            expected = padded[row + 40 : row + 40 + height, column + 40 : column + 40 + width]
            assert np.array_equal(opened.window(row, column, height, width, fill=9), expected)
    with open_image(tmp_path / "a.tif", mirrored=True) as turned:
        assert np.array_equal(
            turned.window(-3, 5, 40, 60, fill=9), np.pad(image[:, ::-1], 40, constant_values=9)[37:77, 45:105]
        )


def test_rgb_becomes_luminance(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 1] = 100
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32), photometric="rgb")
    with open_image(tmp_path / "a.tif", stain="luminance") as opened:
        assert np.array_equal(opened.read(), np.full((64, 64), 59, np.uint8))


def test_pixel_and_mm_are_inverse() -> None:
    for plane in ("coronal", "sagittal", "horizontal"):
        section = Section(
            path=Path("a.tif"), index=0, position_mm=7, pixel_um=50, thickness_um=20, shape=(101, 201), plane=plane
        )
        points = section.pixel_to_mm([3.0, 50.0], [10.0, 100.0])
        assert np.allclose(points @ section.normal, 7)
        assert np.allclose(points[1], 7 * section.normal)
        row, column, off = section.mm_to_pixel(points + 0.25 * section.normal)
        assert np.allclose(row, [3, 50])
        assert np.allclose(column, [10, 100])
        assert np.allclose(off, 0.25)


def test_reads_a_stack(stack: Path) -> None:
    read = read_stack(stack, space="virtual-1")
    assert len(read) == 3
    assert read.spacing_mm == 2
    assert [section.shape for section in read] == [(70, 90), (71, 90), (72, 90)]
    assert list(read.nearest([-5, 0.9, 1.1, 99])) == [0, 0, 1, 2]
    assert read.plane == "coronal"


def test_row_order_does_not_matter(stack: Path) -> None:
    rows = [[f"{k}.tif", k, 2.0 * k, 50 + 10 * k, 20, int(k != 1)] for k in (2, 0, 1)]
    write_table(stack, rows)
    read = read_stack(stack)
    assert [section.index for section in read] == [0, 1, 2]
    assert [section.pixel_um for section in read] == [50, 60, 70]
    assert [section.index for section in read.usable()] == [0, 2]


def broken(stack: Path, kind: str) -> None:
    rows: list[list[object]] = [[f"{k}.tif", k, 2.0 * k, 50, 20, 1] for k in range(3)]
    header = list(HEADER)
    if kind == "missing file":
        rows[1][0] = "gone.tif"
    elif kind == "one section":
        rows = rows[:1]
    elif kind == "empty":
        rows = []
    elif kind == "duplicate":
        rows[2][1] = 1
    elif kind == "not increasing":
        rows[2][2] = 1.0
    elif kind == "not a number":
        rows[1][2] = "two"
    elif kind == "pixel size":
        rows[1][3] = 0
    elif kind == "column":
        header[3] = "resolution"
    elif kind == "mirrored":
        header.append("mirrored")
        rows = [[*row, int(k == 2)] for k, row in enumerate(rows)]
    elif kind == "truncated":
        os.truncate(stack / "1.tif", (stack / "1.tif").stat().st_size // 2)
    elif kind == "no tiff":
        (stack / "1.tif").write_text("hello")
    write_table(stack, rows, header)
    if kind == "no table":
        (stack / "sections.csv").unlink()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing file", "line 3.*gone.tif"),
        ("one section", "at least 2"),
        ("empty", "no sections"),
        ("duplicate", "index 1 stands twice"),
        ("not increasing", "does not increase from section 1"),
        ("not a number", "line 3.*'two'"),
        ("pixel size", "pixel_um must be above 0"),
        ("column", "pixel_um"),
        ("truncated", "1.tif"),
        ("no tiff", "1.tif"),
        ("no table", "no sections.csv"),
    ],
)
def test_bad_input_is_told_in_one_line(stack: Path, kind: str, words: str) -> None:
    broken(stack, kind)
    with pytest.raises(InputError, match=words) as caught:
        read_stack(stack)
    assert "\n" not in str(caught.value)


def test_truncated_data_with_whole_header(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 64))  # header first, data after
    os.truncate(tmp_path / "a.tif", 100_000)
    with pytest.raises(InputError, match="truncated"):
        open_image(tmp_path / "a.tif")


def test_mirrored_sections_are_turned(stack: Path) -> None:
    broken(stack, "mirrored")
    read = read_stack(stack)
    assert [section.mirrored for section in read] == [False, False, True]
    with open_section(read.at(2)) as turned, open_image(stack / "2.tif") as stored:
        assert np.array_equal(turned.read(), stored.read()[:, ::-1])
    with pytest.raises(InputError, match="sections 2 are marked as mirrored"):
        read_stack(stack, mirrored="refuse")


def test_mixed_planes_are_refused() -> None:
    one = Section(path=Path("a"), index=0, position_mm=0, pixel_um=1, thickness_um=1, shape=(2, 2))
    two = Section(path=Path("b"), index=1, position_mm=1, pixel_um=1, thickness_um=1, shape=(2, 2), plane="sagittal")
    with pytest.raises(InputError, match="different planes"):
        SectionStack(sections=(one, two), space="x")


@pytest.mark.parametrize(
    ("separator", "encoding", "comma"), [(";", "utf-8", True), ("\t", "utf-16", True), (";", "utf-8-sig", False)]
)
def test_tables_as_spreadsheets_save_them(stack: Path, separator: str, encoding: str, comma: bool) -> None:
    """Semicolons with decimal commas (Excel in most of Europe), tabs in UTF-16 (Excel's Unicode text)."""
    expected = read_stack(stack)
    with (stack / "sections.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    if comma:
        rows[1:] = [[cell if cell.endswith(".tif") else cell.replace(".", ",") for cell in row] for row in rows[1:]]
    text = "\r\n".join(separator.join(row) for row in rows)
    (stack / "sections.csv").write_bytes(text.encode(encoding))
    assert [s.position_mm for s in read_stack(stack)] == [s.position_mm for s in expected]
