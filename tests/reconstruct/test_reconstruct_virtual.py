"""The reconstruction against the truth of virtual brains. Minutes long."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.sections import read_stack
from meshgnn.source.virtual import VirtualBrain
from reconstruct import Reconstruct, SectionFolder, to_graph
from reconstruct.plausibility import Plausible, of_alignment, of_tissue
from reconstruct.steps.align import AlignSections
from reconstruct.steps.mounting import CheckMounting
from reconstruct.steps.tissue import ClassifyTissue
from reconstruct.truth import true_labels
from tests.reconstruct.phantom import change, read_rows, write_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("virtual") / "brain"
    VirtualBrain.Config(preset="quick", seed=3).build().write(folder)
    return folder


def test_quick_brain_from_its_images_alone(brain: Path, tmp_path: Path) -> None:
    result = Reconstruct.Config(source=SectionFolder.Config(path=brain)).build().run(tmp_path)
    figures = result.report["reconstruction"]
    assert figures["euler_L"] == figures["euler_R"] == 2
    assert figures["distance_mm_mean"] < 0.6
    assert figures["distance_mm_p95"] < 1.6
    assert figures["floor_mm_mean"] < 0.05
    assert figures["back_mm_mean"] < 0.6
    assert figures["observed_share"] > 0.9
    assert figures["faults_planted"] == len(figures["faults"]) == 2
    assert figures["faults_repaired"] == sum(one["open"] and one["repair"] is not None for one in figures["faults"])
    graph = to_graph(result)
    true = true_labels(graph, brain)
    assert (true.labels[graph.cortex] >= 0).mean() > 0.9
    assert (true.labels[~graph.cortex] == -1).all()
    assert np.median(true.distance_mm[true.node >= 0]) < 1
    assert result.report["warnings"] == []
    assert not true.unmatched[true.labels >= 0].any()
    assert true.unmatched.sum() < 0.01 * graph.n_nodes
    assert 0 < true.missed.sum() < 0.05 * graph.n_nodes
    assert (tmp_path / "qc" / "sections.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("virtual") / "coarse"
    settings = {"pixel_um": 250.0, "spacing_mm": 4.0, "subdivisions": 0, "faults": 0}
    VirtualBrain.Config(preset="quick", seed=3, **settings).build().write(folder)  # type: ignore[arg-type]
    return folder


def test_faults_of_single_sections_are_told_by_their_number(coarse: Path, tmp_path: Path) -> None:
    """A pixel size a third too large, two sections exchanged, one turned or mirrored; and nothing else."""
    laid = {"turned": (-1, -1), "mirrored": (1, -1)}

    def told(name: str, pixel: dict[int, float] | None = None, order: dict[int, int] | None = None) -> list[str]:
        rows = read_rows(coarse)
        names = [str(coarse / str(row[0])) for row in rows]
        for k, row in enumerate(rows):
            row[0] = names[(order or {}).get(k, k)]
            row[3] = (pixel or {}).get(k, row[3])
            row[6:] = []
        folder = tmp_path / name
        folder.mkdir()
        if name in laid:
            down, across = laid[name]
            shutil.copy(str(rows[20][0]), folder / "changed.tif")
            change(folder / "changed.tif", lambda grey: grey[::down, ::across], 250)
            rows[20][0] = "changed.tif"
        write_table(folder, rows)
        tissue = ClassifyTissue.Config().build()(read_stack(folder))
        found = of_tissue(tissue, Plausible())
        alignment = AlignSections.Config().build()(tissue)
        mounting = CheckMounting.Config().build()(tissue, alignment)
        return [*found, *of_alignment(tissue, alignment, mounting, Plausible())]

    number = [str(row[1]) for row in read_rows(coarse)]
    assert told("right") == []
    found = told("pixel", pixel={20: 325})
    assert found
    assert all(one.startswith(f"section {number[20]}:") for one in found)
    for name, words in (("turned", "is turned by 180 degrees"), ("mirrored", "is mirrored against")):
        (one,) = told(name)
        assert one.startswith(f"section {number[20]}: {words}")
    (one,) = told("exchanged", order={18: 19, 19: 18})
    assert one.startswith(f"sections {number[18]} and {number[19]} ")


def test_shuffled_images_are_refused(brain: Path, tmp_path: Path) -> None:
    with (brain / "sections.csv").open(newline="") as handle:
        header, *rows = csv.reader(handle)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for row in rows:
        (shuffled / row[0]).symlink_to(brain / row[0])
    with (shuffled / "sections.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *([rows[k][0], *row[1:]] for k, row in zip(order, rows))])
    with pytest.raises(InputError, match="do not follow on one another"):
        Reconstruct.Config(source=SectionFolder.Config(path=shuffled)).build().run(tmp_path / "out")
