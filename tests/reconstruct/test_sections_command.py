"""`python -m reconstruct.sections`: a table and a page from a folder of images; what is wrong is named and counted."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.sections import TABLE, read_stack
from meshgnn.source.tiff import write_tiff
from reconstruct.sections.command import entry
from reconstruct.sections.numbers import gaps, natural, section_numbers
from tests import image_formats as formats
from tests.reconstruct.phantom import write_stack


def test_names_sort_as_people_count() -> None:
    names = ["s10.tif", "s9.tif", "s1b.tif", "s1.tif", "a2_s3.tif"]
    assert sorted(names, key=natural) == ["a2_s3.tif", "s1.tif", "s1b.tif", "s9.tif", "s10.tif"]


@pytest.mark.parametrize(("names", "numbers"), [
    (["s1.tif", "s02.tif", "s10.tif"], [1, 2, 10]),
    (["brain2_s0012_20x.tif", "brain2_s0013_20x.tif"], [12, 13]),
    (["2024-01-03_sec7.ome.tif", "2024-02-03_sec9.ome.tif"], [7, 9]),
    (["pm0001o.png", "pm7404o.png"], [1, 7404]),
    (["B20_0047.jp2", "B20_0102.jp2"], [47, 102]),
    (["s1_5um.tif", "s2_5um.tif", "s3_7um.tif"], [1, 2, 3]),
])  # fmt: skip
def test_the_number_is_found_in_the_name(names: list[str], numbers: list[int]) -> None:
    assert section_numbers(names) == numbers


def test_numbers_that_fail_are_named_and_counted() -> None:
    with pytest.raises(InputError, match=r"a1\.png and a1\.tif are both section 1 \(2 numbers stand more than once\)"):
        section_numbers(["a1.png", "a1.tif", "a2.png", "a2.tif", "a3.tif"])
    with pytest.raises(InputError, match=r"left\.tif: its name holds no number \(nor do 1 others\)"):
        section_numbers(["left.tif", "right.tif", "s1.tif"])
    with pytest.raises(InputError, match=r"x1\.tif: does not match"):
        section_numbers(["s1.tif", "x1.tif"], r"^s(\d+)")
    with pytest.raises(InputError, match="no regular expression"):
        section_numbers(["s1.tif"], r"s(\d+")
    assert section_numbers(["s1_c2.tif", "s2_c3.tif"], r"s(\d+)") == [1, 2]
    assert gaps([10, 20, 30, 60, 70]) == (10, [40, 50])


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom sections 1 to 23: 7 and 8 missing, 5 blank, 12 a fragment, 15 cut short, 17 of another pixel size."""
    folder = tmp_path_factory.mktemp("scans") / "scans"
    write_stack(folder, missing=(0, 7, 8, 24, 25))
    (folder / TABLE).unlink()
    (folder / "notes.txt").write_text("not an image")
    write_tiff(folder / "s005.tif", np.full((460, 460), 240, np.uint8), 200)
    piece = np.full((460, 460), 240, np.uint8)
    piece[150:210, 150:200] = 120
    write_tiff(folder / "s012.tif", piece, 200)
    (folder / "s015.tif").write_bytes((folder / "s015.tif").read_bytes()[:5000])
    from meshgnn.source.images import open_image

    with open_image(folder / "s017.tif") as image:
        write_tiff(folder / "s017.tif", np.repeat(np.repeat(image.read(), 2, 0), 2, 1), 100)
    return folder


def test_a_table_is_made_and_what_stands_out_is_named(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scans"
    shutil.copytree(scans, folder)
    assert entry([str(folder), "--set", "spacing_mm=2", "--set", "start_mm=-23"]) == 0
    said = capsys.readouterr().out
    for words in (
        "numbers missing: 2 (7, 8)", "blank: 1 section (5)", "fragment: 1 section (12)", "unreadable: 1 section (15)",
        "s015.tif: truncated", "2 pixel sizes: 200 um in most, another in 1 section (17)",
        "20 sections, 18 of them usable",
    ):  # fmt: skip
        assert words in said, said
    stack = read_stack(folder)
    assert [section.index for section in stack] == [n for n in range(1, 24) if n not in (7, 8, 15)]
    assert [section.index for section in stack if not section.usable] == [5, 12]
    assert stack.at(12).flags == ("fragment",)
    assert {section.pixel_um for section in stack} == {100.0, 200.0}
    assert stack.at(9).position_mm == -7
    assert stack.positions_mm[0] == -23
    page = (folder / "sections.html").read_text()
    assert page.count('<img alt="section') == 20
    assert "cannot be read: left out" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing from elsewhere


def test_a_table_is_not_replaced_without_being_told(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "there.csv"
    table.write_text("mine")
    assert entry([str(scans), "--set", "spacing_mm=2", "--out", str(table)]) == 2
    assert "is there already; add --force" in capsys.readouterr().err
    assert table.read_text() == "mine"
    assert entry([str(scans), "--set", "spacing_mm=2", "--out", str(table), "--force"]) == 0
    with table.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert (tmp_path / rows[0]["file"]).resolve() == (scans / "s001.tif").resolve()  # relative to the table


def test_what_is_not_known_is_asked_for(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(folder: Path, *settings: str) -> str:
        out = ["--out", str(tmp_path / "out.csv")]
        assert entry([str(folder), *out, *(word for one in settings for word in ("--set", one))]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        assert not (tmp_path / "out.csv").exists()
        return text

    assert "add --set spacing_mm=MM" in told(scans)
    assert "no such folder" in told(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no images match files='*'" in told(tmp_path / "empty", "spacing_mm=1")
    dumb = tmp_path / "dumb"
    dumb.mkdir()
    for k in range(2):
        formats.jpeg2000(dumb / f"s{k}.jp2", np.full((40, 50), 200, np.uint8), 50)
    text = told(dumb, "spacing_mm=1")
    assert "s0.jp2: does not tell the size of its pixels (2 of 2 images do not); add --set pixel_um=UM" in text
    assert "stain is 'tartan'" in told(scans, "spacing_mm=1", "stain=tartan")
    for path in dumb.iterdir():
        path.write_bytes(b"broken")
    assert "none of 2 images can be read" in told(dumb, "spacing_mm=1", "pixel_um=5")


def test_numbers_that_grow_backwards_are_turned_round(scans: Path, tmp_path: Path) -> None:
    table = tmp_path / "sections.csv"
    assert entry([str(scans), "--set", "spacing_mm=2", "--set", "backwards=true", "--out", str(table)]) == 0
    stack = read_stack(tmp_path)
    assert stack.sections[0].path.name == "s023.tif"
    assert (np.diff(stack.positions_mm) > 0).all()
