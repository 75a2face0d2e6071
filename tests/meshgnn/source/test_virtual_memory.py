"""A virtual brain in memory is the one on disk, and its nodes lie where the pictures show their depth."""

from pathlib import Path

import numpy as np
import pytest

from meshgnn.source.sections import open_image, read_stack, write_tiff
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.memory import ImageInMemory, stack_of, true_graph, truth_of
from meshgnn.source.virtual.truth import read_truth

COARSE = {"preset": "quick", "pixel_um": 200.0, "spacing_mm": 5.0, "subdivisions": 0, "hemispheres": "R"}


@pytest.fixture(scope="module")
def brain() -> VirtualBrain:
    return VirtualBrain.Config(seed=5, **COARSE).build()


def test_memory_and_disk_agree(brain: VirtualBrain, tmp_path: Path) -> None:
    folder = brain.write(tmp_path / "brain")
    disk, memory = read_stack(folder, space=brain.space), stack_of(brain)
    for one, two in zip(disk, memory, strict=True):
        assert (one.index, one.position_mm, one.shape, one.usable) == (
            two.index,
            two.position_mm,
            two.shape,
            two.usable,
        )
        np.testing.assert_allclose(one.to_space, two.to_space)
    ours, theirs = true_graph(truth_of(brain)), true_graph(read_truth(folder))
    np.testing.assert_allclose(ours.vertices_mm, theirs.vertices_mm, atol=1e-4)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.locations is not None
    assert theirs.locations is not None
    np.testing.assert_allclose(ours.locations.row_px, theirs.locations.row_px, atol=1e-2)
    np.testing.assert_array_equal(ours.locations.section, theirs.locations.section)


def test_nodes_lie_in_the_middle_of_the_cortex_they_are_in(brain: VirtualBrain) -> None:
    graph = true_graph(truth_of(brain), within_mm=0.2)
    places = graph.locations
    assert places is not None
    sections = {section.index for section in stack_of(brain).usable()}
    assert set(np.unique(places.section[places.observed]).tolist()) <= sections
    depth, ahead = [], []
    for cut in (brain.cuts[k] for k in (10, 15, 20)):
        canvas = brain.paint(cut, brain.slices(cut))
        here = np.flatnonzero(places.observed & graph.cortex & (places.section == cut.index))
        here = here[places.obliqueness_deg[here] < 40]
        angle = np.radians(places.normal_angle_deg[here].astype(float))
        row, column = places.row_px[here], places.column_px[here]
        at = canvas.depth[np.rint(row).astype(int), np.rint(column).astype(int)]
        over = canvas.depth[
            np.rint(row + 4 * np.sin(angle)).astype(int), np.rint(column + 4 * np.cos(angle)).astype(int)
        ]
        depth.append(at)
        ahead.append(over)
    depth, ahead = np.concatenate(depth), np.concatenate(ahead)
    assert len(depth) > 50
    assert abs(np.median(depth) - 0.5) < 0.06
    assert ((ahead >= 0) & (ahead > depth)).mean() < 0.1  # towards pial, it gets shallower or leaves the tissue


def test_windows_of_an_image_in_memory_are_those_of_one_on_disk(brain: VirtualBrain, tmp_path: Path) -> None:
    image = brain.picture(brain.cuts[12]).image
    write_tiff(tmp_path / "s.tif", image, 200.0)
    with open_image(tmp_path / "s.tif") as disk:
        for window in ((0, 0, 40, 30), (-5, -7, 30, 20), (image.shape[0] - 4, 3, 9, 12), (-40, 0, 10, 10)):
            np.testing.assert_array_equal(disk.window(*window, fill=9), ImageInMemory(image).window(*window, fill=9))
