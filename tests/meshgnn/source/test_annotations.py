"""Label images become classes; what does not fit is told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from meshgnn.errors import InputError
from meshgnn.source.annotations import annotation_points, check_same_areas, read_annotations
from meshgnn.source.cohort import StackFolders
from meshgnn.source.sections import SectionStack, read_stack, write_tiff

COLOUR = [0.1, 0.2, 0.3, 1.0]
AREAS = [(7, "V1", True), (2, "4", True), (9, "not isocortex", False)]


def write_areas(stack: Path, rows: list[tuple[Any, ...]], **more: Any) -> None:
    table = [{"key": k, "name": n, "colour": COLOUR, "isocortex": i, **more} for k, n, i in rows]
    (stack / "annotations" / "areas.json").write_text(json.dumps(table))


def write_labels(stack: Path, labels: np.ndarray) -> None:
    write_tiff(stack / "annotations" / "a.tif", labels, 50)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    folder = tmp_path / "annotations"
    folder.mkdir()
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for index in (12, 14):
        write_tiff(tmp_path / f"s{index}.tif", np.full((40, 50), 200, np.uint8), 50)
        lines.append(f"s{index}.tif,{index},{index},50,20,1")
    (tmp_path / "sections.csv").write_text("\n".join(lines))
    labels = np.zeros((40, 50), np.uint8)
    labels[:10], labels[10:20], labels[20:25] = 2, 7, 9
    write_labels(tmp_path, labels)
    (folder / "annotations.csv").write_text("index,labels\n12,a.tif\n")
    write_areas(tmp_path, AREAS)
    return tmp_path


def test_keys_become_classes(stack: Path) -> None:
    read = read_annotations(stack)
    assert read.sections == (12,)
    assert read.areas.names == ("4", "V1")
    classes = read.read(12)
    assert [classes[row, 0] for row in (0, 15, 22, 30)] == [0, 1, -1, -1]


@pytest.mark.parametrize("kind", ["i1", "u2", "i4", "u4", "i8"])
def test_any_integer_type_is_read(stack: Path, kind: str) -> None:
    wanted = read_annotations(stack).read(12)
    labels = np.zeros((40, 50), kind)
    labels[:10], labels[10:20], labels[20:25] = 2, 7, 9
    tifffile.imwrite(stack / "annotations" / "a.tif", labels)
    np.testing.assert_array_equal(read_annotations(stack).read(12), wanted)
    if kind == "i4":
        labels[labels == 7] = 1_000_000
        write_areas(stack, [(1_000_000, "V1", True), (2, "4", True), (9, "not isocortex", False)])
        tifffile.imwrite(stack / "annotations" / "a.tif", labels)
        np.testing.assert_array_equal(read_annotations(stack).read(12), wanted)
        labels[0, 0] = -1
        tifffile.imwrite(stack / "annotations" / "a.tif", labels)
        with pytest.raises(InputError, match=r"a\.tif: key -1 is negative"):
            read_annotations(stack).check()


def test_bad_annotations_are_told(stack: Path) -> None:
    with pytest.raises(InputError, match="section 3 is not annotated"):
        read_annotations(stack).read(3)
    table = stack / "annotations" / "annotations.csv"
    for text, words in (
        ("index,labels\n12,gone.tif\n", r"line 2.*gone\.tif"),
        (f"index,labels\n12,{'a' * 5000}.tif\n", "does not exist"),
        ("index,labels\n12,a.tif\n12,a.tif\n", "line 3: section 12 stands twice"),
        ("index,labels\n77,a.tif\n", r"section 77 is not in sections\.csv"),
        ("index,labels\n12,\n", "neither a label image nor polygons"),
        ("index,labels\nx,a.tif\n", "index is 'x'"),
        ("index,image\n12,a.tif\n", "column labels .* or polygons"),
        ("number,labels\n12,a.tif\n", "column 'index' is missing"),
        ("index,labels\n", "no annotated section"),
        ("", "empty"),
        ("index,labels\n12,a\0.tif\n", "CSV in UTF-8"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=words):
            read_annotations(stack)
    table.write_text("index,labels\n12,a.tif\n")
    write_areas(stack, AREAS[:1])
    with pytest.raises(InputError, match=r"key 2 is not in areas\.json"):
        read_annotations(stack).read(12)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_tables_of_spreadsheets_are_read(stack: Path, delimiter: str, encoding: str) -> None:
    folder = stack / "annotations"
    (folder / "a.tif").rename(folder / "größe.tif")
    text = "note;index ;labels;x\r\nfür später; 12;größe.tif;\r\n;;;\r\n".replace(";", delimiter)
    (folder / "annotations.csv").write_bytes(text.encode(encoding))
    assert read_annotations(stack).read(12).max() == 1


def drawn(*named: tuple[str, list[list[float]]]) -> str:
    features = [
        {
            "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for name, ring in named
    ]  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features})


def band(top: float, bottom: float, right: float = 50) -> list[list[float]]:
    return [[0, top], [right, top], [right, bottom], [0, bottom], [0, top]]


def test_polygons_alone_annotate_a_section(stack: Path) -> None:
    folder = stack / "annotations"
    wanted = read_annotations(stack).read(12)
    bands = ("4", band(0, 10)), ("V1", band(10, 20)), ("not isocortex", band(20, 25))
    (folder / "b.geojson").write_text(drawn(*bands))
    (folder / "annotations.csv").write_text("index,labels,polygons\n14,,b.geojson\n12,a.tif,\n")
    read = read_annotations(stack)
    assert read.sections == (12, 14)
    np.testing.assert_array_equal(read.read(14), wanted)
    read.check()
    points, _, section = annotation_points(read, read_stack(stack), every_mm=0.2)
    assert (section == 12).sum() == (section == 14).sum() == len(points) / 2 > 0
    (folder / "annotations.csv").write_text("index,polygons\n14,b.geojson\n")
    np.testing.assert_array_equal(read_annotations(stack).read(14), wanted)


def test_polygons_that_do_not_fit_are_told(stack: Path) -> None:
    folder = stack / "annotations"
    (folder / "annotations.csv").write_text("index,polygons\n14,b.geojson\n")
    for content, words in (
        (drawn(("V7", band(0, 10))), r"b\.geojson: the class 'V7' is not in areas\.json"),
        (drawn(("4", band(0, 10, right=500))), "450 px over the section"),
        (drawn(), "no area is drawn"),
        ("{", "not valid GeoJSON"),
    ):
        (folder / "b.geojson").write_text(content)
        with pytest.raises(InputError, match=words) as told:
            read_annotations(stack).check()
        assert "\n" not in str(told.value)
    (folder / "b.geojson").write_text(drawn(("4", band(-1, 10, right=52))))  # a hand may slip over the rim
    assert (read_annotations(stack).read(14) == 0).sum() == 500


def test_label_images_are_checked_before_they_are_needed(stack: Path) -> None:
    image = stack / "annotations" / "a.tif"
    whole = image.read_bytes()
    for labels, words in (
        (np.zeros((41, 50), np.uint8), "41 x 50 px, but the section has 40 x 50"),
        (np.zeros((40, 50), np.float32), "whole numbers, got float32"),
        (np.zeros((40, 50, 3), np.uint8), "colour image"),
        (np.full((40, 50), 3, np.uint16), r"key 3 is not in areas\.json"),
        (np.full((40, 50), 2**31 + 3, np.uint32), "key 2147483651 is not"),
    ):
        tifffile.imwrite(image, labels, photometric="rgb" if labels.ndim == 3 else "minisblack")
        with pytest.raises(InputError, match=words):
            read_annotations(stack).check()
    for more, words in (({"compression": "jpeg"}, "JPEG"), ({"extratags": [(274, "H", 1, 3, True)]}, "Orientation")):
        tifffile.imwrite(image, np.zeros((40, 50), np.uint8), photometric="minisblack", **more)
        with pytest.raises(InputError, match=words):
            read_annotations(stack).check()
    for broken in (whole[: len(whole) // 2], b"no picture"):
        image.write_bytes(broken)
        with pytest.raises(InputError, match=r"a\.tif"):
            read_annotations(stack).check()


def test_stacks_must_have_the_same_areas(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    check_same_areas([stack, other])  # a stack without annotations
    shutil.copytree(stack, other, dirs_exist_ok=True)
    check_same_areas([stack, other])
    write_areas(other, [(7, "V1", True), (2, "44", True), (9, "else", False)])
    with pytest.raises(InputError, match=r"areas\.json: area 1 in key order is '4', but '44' in .*areas\.json") as told:
        check_same_areas([stack, other])
    assert str(stack) in str(told.value)
    assert str(other) in str(told.value)
    write_areas(other, [(7, "V1", True), (2, "4", True), (11, "new", True)])
    with pytest.raises(InputError, match="2 mapped areas, but 3"):
        StackFolders.Config(train=(stack,), unseen=(other,)).build().check()


def test_a_cohort_opens_every_annotation_first(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(stack, other, dirs_exist_ok=True)
    StackFolders.Config(train=(stack, other)).build().check()
    write_labels(other, np.full((40, 50), 8, np.uint8))
    with pytest.raises(InputError, match=r"key 8 is not in areas\.json"):
        StackFolders.Config(train=(stack, other)).build().check()


def moved(stack: SectionStack, by: np.ndarray) -> SectionStack:
    """The stack after an alignment that turned every section by 90 degrees and moved it."""
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    sections = []
    for section in stack:
        pose = turn @ section.to_space
        pose[:, 2] += by
        sections.append(replace(section, to_space=pose))
    return SectionStack(sections=tuple(sections), space=stack.space, folder=stack.folder)


def test_drawn_pixels_become_points_of_the_aligned_stack(tmp_path: Path) -> None:
    rows = ["file,index,position_mm,pixel_um,thickness_um,usable,mirrored"]
    for index, mirrored, usable in ((3, 0, 1), (5, 1, 1), (8, 0, 0), (9, 0, 1)):
        write_tiff(tmp_path / f"s{index}.tif", np.full((40, 60), 200, np.uint8), 100)
        rows.append(f"s{index}.tif,{index},{index},100,20,{usable},{mirrored}")
    (tmp_path / "sections.csv").write_text("\n".join(rows))
    folder = tmp_path / "annotations"
    folder.mkdir()
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 5:25], labels[30:, 40:] = 7, 2
    write_tiff(folder / "a.tif", labels, 100)
    (folder / "annotations.csv").write_text("index,labels\n3,a.tif\n5,a.tif\n8,a.tif\n")
    table = [{"key": k, "name": str(k), "colour": [0.1, 0.2, 0.3, 1]} for k in (2, 7)]
    (folder / "areas.json").write_text(json.dumps(table))
    shift = np.array([4.0, -3.0, 2.0])
    stack = moved(read_stack(tmp_path, mirrored="turn"), shift)
    points, classes, section = annotation_points(read_annotations(tmp_path), stack, every_mm=0.5)
    assert sorted(set(section.tolist())) == [3, 5]  # 8 is unusable, 9 not annotated
    for index, flip in ((3, False), (5, True)):
        here = section == index
        assert [int((classes[here] == k).sum()) for k in (0, 1)] == [2 * 4, 2 * 4]  # 10 x 20 px each, one point in 25
        row, column, away = stack.at(index).mm_to_pixel(points[here])
        np.testing.assert_allclose(away, 0, atol=1e-9)
        drawn = labels[:, ::-1] if flip else labels
        assert (drawn[np.rint(row).astype(int), np.rint(column).astype(int)] == np.array([2, 7])[classes[here]]).all()
        # By hand: image centre on the axis, turned by 90 degrees from x to y, then moved.
        x, z = (np.rint(column) - 29.5) / 10, -(np.rint(row) - 19.5) / 10
        wanted = np.stack([np.full(len(x), -float(index)), x, z], axis=1) + shift
        np.testing.assert_allclose(points[here], wanted, atol=1e-9)
    everything = annotation_points(read_annotations(tmp_path), stack, every_mm=0.1)[1]
    assert len(everything) == 2 * (labels > 0).sum()
    with pytest.raises(InputError, match="every_mm"):
        annotation_points(read_annotations(tmp_path), stack, every_mm=0)
