"""The reconstruction against the truth of virtual brains. Minutes long."""

import csv
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.virtual import VirtualBrain
from reconstruct import Reconstruct, SectionFolder, to_graph
from reconstruct.truth import true_labels

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
    assert (tmp_path / "qc" / "sections.png").stat().st_size > 10_000


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
