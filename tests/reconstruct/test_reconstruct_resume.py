"""A kept result belongs to the images that lie there now."""

import shutil
from pathlib import Path

from meshgnn.experiment.runner import run
from meshgnn.source.cohort import StackFolders
from meshgnn.store import read_json
from reconstruct.experiment import ReconstructRun
from tests.reconstruct.phantom import change, config, read_rows, write_table


def brighten(path: Path) -> None:
    """Another image of the same name and shape."""
    change(path, lambda grey: grey.astype(int) - 2)


def test_resuming_after_an_image_changed_makes_the_mesh_again(straight: Path, tmp_path: Path) -> None:
    stack, out = tmp_path / "stack", tmp_path / "out"
    shutil.copytree(straight, stack)
    settings = config(stack, kind=ReconstructRun.Config)
    run(settings, out)
    first = read_json(out / "reconstruction.json")
    run(settings, out, resume=True)
    assert read_json(out / "reconstruction.json")["timing_s"] == first["timing_s"]  # kept
    brighten(stack / "s012.tif")
    run(settings, out, resume=True)
    assert read_json(out / "reconstruction.json")["reused"] == []


def test_images_count_wherever_they_lie(straight: Path, tmp_path: Path) -> None:
    """Below a folder called truth, beside the stack, and by absolute path."""
    stack, beside = tmp_path / "truth" / "stack", tmp_path / "truth" / "images"
    shutil.copytree(straight, stack)
    beside.mkdir()
    rows = read_rows(stack)
    for k, name in ((3, "../images/a.tif"), (4, str(beside / "b.tif"))):
        shutil.move(stack / str(rows[k][0]), stack / name)
        rows[k][0] = name
    write_table(stack, rows)
    (stack / "annotations").mkdir()
    shutil.copy(stack / "s007.tif", tmp_path / "truth" / "label.tif")
    (stack / "annotations" / "annotations.csv").write_text("index,labels\n7,../../label.tif\n")
    (stack / ".DS_Store").write_text("no part of the stack")

    def keys() -> tuple[object, object]:
        member = StackFolders.Config(train=(stack,)).build().members()[0]
        return member.depends, config(stack, kind=ReconstructRun.Config).build().input_files()

    before = keys()
    assert keys() == before
    (stack / ".DS_Store").write_text("changed")
    assert keys() == before
    for path in (stack / "s006.tif", beside / "a.tif", beside / "b.tif"):
        brighten(path)
        now = keys()
        assert now[0] != before[0], path
        assert now[1] != before[1], path
        before = now
    brighten(tmp_path / "truth" / "label.tif")
    assert keys()[0] != before[0]
