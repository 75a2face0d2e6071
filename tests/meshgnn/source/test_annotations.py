"""Label images become classes; what does not fit is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.annotations import read_annotations
from meshgnn.source.sections import write_tiff


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
