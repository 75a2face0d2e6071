"""Outlines of a map over a mesh end where its surfaces do."""

from dataclasses import replace

import numpy as np
import pytest

from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.ribbon import Ribbon, Ribbons
from meshgnn.mapping.surfaces import inside_surfaces
from meshgnn.progress import silent
from tests.meshgnn.mapping.ball import drawings, located, situation, stack_of

OUTER_MM, INNER_MM, RADIUS_MM = 30.8, 29.2, 30.0


def with_surfaces(one, names=("pial", "white")):
    graph = one.graph
    middle = np.where(graph.hemisphere == "L", -32.0, 32.0)[:, None] * [1, 0, 0]
    surfaces = {
        name: (middle + (graph.vertices_mm - middle) * radius / RADIUS_MM).astype(np.float32)
        for name, radius in (("pial", OUTER_MM), ("white", INNER_MM))
        if name in names
    }
    kept = {name: getattr(graph, name) for name in graph.__slots__ if name != "edges"}
    return replace(one, graph=type(graph)(**{**kept, "surfaces": surfaces}))


def radius_of(ribbon) -> np.ndarray:
    """[P] mm from the middle of the nearer ball."""
    section, (rows, columns) = ribbon.section, np.divmod(ribbon.pixel, ribbon.shape[1])
    if section.mirrored:
        columns = ribbon.shape[1] - 1 - columns
    points = section.pixel_to_mm((rows + 0.5) * ribbon.step - 0.5, (columns + 0.5) * ribbon.step - 0.5)
    return np.minimum(*(np.linalg.norm(points - [x, 0, 0], axis=1) for x in (-32, 32)))


@pytest.mark.parametrize("mirrored", [(), (14,)])
def test_pixels_between_the_surfaces_are_those_of_the_cortex(mirrored):
    stack = stack_of(mirrored=mirrored)
    one = with_surfaces(located(stack, 4)[0])
    ribbon = Ribbons(one.graph).of(stack.at(14))
    between, radius = ribbon.between_surfaces(one.graph), radius_of(ribbon)
    sure = 0.3  # pixels are 0.4 mm wide, and triangles flat
    assert between[(radius > INNER_MM + sure) & (radius < OUTER_MM - sure)].all()
    assert not between[(radius < INNER_MM - sure) | (radius > OUTER_MM + sure)].any()
    assert 0.3 < between.mean() < 0.9


def test_without_surfaces_nothing_is_cut_off_and_a_section_beside_the_brain_has_none():
    stack = stack_of()
    ball = located(stack)[0]
    bare = with_surfaces(ball, names=())
    assert Ribbons(bare.graph).of(stack.at(14)).between_surfaces(bare.graph).all()
    far = replace(stack.at(14), to_space=stack.at(14).to_space + np.array([[0, 0, 0], [0, 0, 500.0], [0, 0, 0]]))
    assert not inside_surfaces(with_surfaces(ball).graph, far, (50, 90), (4.0, 4.0)).any()


def test_predicted_outlines_end_at_the_surfaces(tmp_path, monkeypatch):
    stack = stack_of()
    bare, labels = located(stack, 4)
    one = with_surfaces(bare)
    seen = situation(drawings(stack, one, labels, (12, 14, 16, 18)), stack, one, tmp_path)
    engine = GraphEngine.Config(judge=False).build()
    found = engine.fill(seen, tmp_path / "rounds" / "0001" / "graph", silent, lambda: False)

    def reach_mm():
        rings = [ring for area in found.on(15) for polygon in area.polygons for ring in polygon]
        points = np.concatenate(rings) - 0.5
        places = np.abs(stack.at(15).pixel_to_mm(points[:, 1], points[:, 0]))
        return np.percentile(np.linalg.norm(places - [32, 0, 0], axis=1), [1, 99])

    low, high = reach_mm()
    assert low > INNER_MM - 0.4
    assert high < OUTER_MM + 0.4
    monkeypatch.setattr(Ribbon, "between_surfaces", lambda self, graph: np.ones(len(self.pixel), bool))
    wide_low, wide_high = reach_mm()
    assert wide_high > high + 0.1
    assert wide_low < low - 0.1
