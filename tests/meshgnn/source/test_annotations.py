"""Label images become classes; what does not fit is told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.annotations import annotation_points, read_annotations
from meshgnn.source.sections import SectionStack, read_stack, write_tiff


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    folder = tmp_path / "annotations"
    folder.mkdir()
    labels = np.zeros((40, 50), np.uint8)
    labels[:10], labels[10:20], labels[20:25] = 2, 7, 9
    write_tiff(folder / "a.tif", labels, 50)
    (folder / "annotations.csv").write_text("index,labels\n12,a.tif\n")
    colour = [0.1, 0.2, 0.3, 1.0]
    rows = [(7, "V1", True), (2, "4", True), (9, "not isocortex", False)]
    (folder / "areas.json").write_text(
        json.dumps([{"key": k, "name": n, "colour": colour, "isocortex": i} for k, n, i in rows])
    )
    return tmp_path


def test_keys_become_classes(stack: Path) -> None:
    read = read_annotations(stack)
    assert read.sections == (12,)
    assert read.areas.names == ("4", "V1")
    classes = read.read(12)
    assert [classes[row, 0] for row in (0, 15, 22, 30)] == [0, 1, -1, -1]


def test_bad_annotations_are_told(stack: Path) -> None:
    with pytest.raises(InputError, match="section 3 is not annotated"):
        read_annotations(stack).read(3)
    table = stack / "annotations" / "annotations.csv"
    table.write_text("index,labels\n12,gone.tif\n")
    with pytest.raises(InputError, match=r"line 2.*gone\.tif"):
        read_annotations(stack)
    table.write_text("index,labels\n12,a.tif\n12,a.tif\n")
    with pytest.raises(InputError, match="stands twice"):
        read_annotations(stack)
    table.write_text("index,labels\n12,a.tif\n")
    areas = stack / "annotations" / "areas.json"
    areas.write_text(json.dumps(json.loads(areas.read_text())[:1]))
    with pytest.raises(InputError, match=r"key 2 is not in areas\.json"):
        read_annotations(stack).read(12)
    areas.write_text("{")
    with pytest.raises(InputError, match=r"areas\.json"):
        read_annotations(stack)


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
    (folder / "annotations.csv").write_text("index,labels\n3,a.tif\n5,a.tif\n8,a.tif\n77,a.tif\n")
    table = [{"key": k, "name": str(k), "colour": [0.1, 0.2, 0.3, 1]} for k in (2, 7)]
    (folder / "areas.json").write_text(json.dumps(table))
    shift = np.array([4.0, -3.0, 2.0])
    stack = moved(read_stack(tmp_path, mirrored="turn"), shift)
    points, classes, section = annotation_points(read_annotations(tmp_path), stack, every_mm=0.5)
    assert sorted(set(section.tolist())) == [3, 5]  # 8 is unusable, 77 is not in the stack, 9 not annotated
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
