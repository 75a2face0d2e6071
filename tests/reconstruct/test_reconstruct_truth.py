"""Truth of nodes: what matches, what matches cortex without an area, what matches nothing, and what was missed."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from meshgnn.errors import InputError
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh import metric
from meshgnn.source.virtual.truth import Truth
from reconstruct.truth import compared
from tests.synthetic import sphere

AXES = np.array([0.6, 1.0, 0.8], np.float32)  # an ellipsoid: a ball would not tell how it is turned


def truth() -> Truth:
    """One hemisphere: two areas front and back, allocortex at the top, a wall without cortex at the bottom."""
    ball = sphere(5, 30.0)
    unit = ball.vertices_mm / 30
    label = np.where(unit[:, 1] > 0, 0, 1)
    label[np.abs(unit[:, 2]) > 0.8] = -1
    half = np.where(unit[:, 2] < -0.8, 0.0, 1.5)[:, None]
    kinds = {"white": -half, "pial": half, "midthickness": 0 * half}
    return Truth(
        space="test", plane="coronal", pixel_um=100, shape=(1, 1), layer_shares={}, sections={}, faults=(),
        surfaces={"L": {k: ball.with_vertices(ball.vertices_mm * AXES + h * unit) for k, h in kinds.items()}},
        labels={"L": label.astype(np.int32)}, areas=Areas(names=("front", "back")),
    )  # fmt: skip


def test_what_matches_nothing_and_what_was_missed_are_counted() -> None:
    true = truth()
    ball = sphere(4, 30.0)
    unit = ball.vertices_mm / 30
    hole = (unit[:, 1] > 0.75) & (np.abs(unit[:, 2]) < 0.5)  # the front sank in: nodes of area 0 lie off the truth
    sunk = np.where(hole[:, None], 0.75, 1.0)
    cortex = unit[:, 0] < 0.9  # and a piece of side is taken for no cortex
    graph = MeshGraph(
        brain="t", meshes=(ball.with_vertices((ball.vertices_mm * AXES * sunk).astype(np.float32)),), cortex=cortex
    )
    found = compared(graph, true)
    wall, top = unit[:, 2] < -0.9, unit[:, 2] > 0.85
    np.testing.assert_array_equal(found.labels[top & ~hole], -1)
    assert not found.unmatched[top & ~hole].any()  # true cortex, of no area
    assert found.unmatched[wall].all()  # called cortex where there is none
    assert found.unmatched[hole & cortex].mean() > 0.9
    assert not found.unmatched[~cortex].any()
    rest = ~hole & cortex & (np.abs(unit[:, 2]) < 0.78) & (unit[:, 1] < 0.6)
    assert (found.labels[rest] >= 0).all()
    assert not found.unmatched[rest].any()
    # What the hole and the piece of side hold of each area, in nodes of the mesh.
    surface, label = true.surfaces["L"]["midthickness"], true.labels["L"]
    unit = surface.vertices_mm / AXES / 30
    gone = ((unit[:, 1] > 0.75) & (np.abs(unit[:, 2]) < 0.5)) | (unit[:, 0] > 0.9)
    # Cortex at most the tolerance away from the rim of a hole is still covered.
    gone[gone] = cKDTree(surface.vertices_mm[~gone]).query(surface.vertices_mm[gone])[0] > 2
    mean = metric.vertex_areas(graph.meshes[0])[cortex].mean()
    expected = [metric.vertex_areas(surface)[gone & (label == k)].sum() / mean for k in (0, 1)]
    assert found.missed[0] == pytest.approx(expected[0], rel=0.2)
    assert found.missed[1] == pytest.approx(expected[1], rel=0.5)
    assert found.missed[1] > 5


def test_a_whole_mesh_misses_nothing() -> None:
    true, ball = truth(), sphere(4, 30.0)
    graph = MeshGraph(
        brain="t", meshes=(ball.with_vertices((ball.vertices_mm * AXES).astype(np.float32)),),
        cortex=ball.vertices_mm[:, 2] > -24,
    )  # fmt: skip
    found = compared(graph, true)
    assert found.missed.sum() == 0
    assert not found.unmatched.any()
    other = MeshGraph(brain="t", meshes=(sphere(3, 30.0, "R"),), cortex=np.ones(642, bool))
    with pytest.raises(InputError, match="no hemisphere R"):
        compared(other, true)
