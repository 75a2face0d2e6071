"""Lines and ribbons where the answer is known: balls cut by planes, rings cut by strokes."""

import numpy as np
import pytest
import shapely

from meshgnn.errors import InputError
from meshgnn.mapping.outline.between import between
from meshgnn.mapping.outline.crossing import cortex, crossing
from meshgnn.mapping.outline.tissue import snapped, tissue
from meshgnn.source.sections import Section
from tests.synthetic import brain


def section(position_mm: float = 0.0, mirrored: bool = False, **fields) -> Section:
    return Section(
        path=fields.pop("path", None) or __import__("pathlib").Path("x.tif"), index=1, position_mm=position_mm,
        pixel_um=500, thickness_um=20, shape=(200, 300), mirrored=mirrored,
    )  # fmt: skip


@pytest.mark.parametrize("position_mm", [0.0, 18.0, 29.9])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_ball_is_cut_in_a_circle(position_mm, mirrored):
    graph = brain(4)
    one = section(position_mm, mirrored)
    for name, scale in (("pial", 1.04), ("white", 0.96)):
        wanted = np.sqrt(max((30 * scale) ** 2 - position_mm**2, 0)) * 2  # px
        for side, lines in zip((-1, 1), crossing(graph, name, one)):
            if position_mm > 30 * scale:
                assert lines == []
                continue
            (line,) = lines
            assert (line[0] == line[-1]).all()
            centre = np.array([150 + side * (-1 if mirrored else 1) * 64, 100])
            away = np.hypot(*(line - centre).T)
            assert away == pytest.approx(wanted, rel=0.01, abs=0.3 if position_mm < 20 else 3)


def test_the_cortex_lies_between_both_surfaces():
    one = section(0.0)
    whole = cortex(brain(4), one)
    assert len(whole.geoms) == 2
    assert whole.area == pytest.approx(2 * np.pi * (62.4**2 - 57.6**2), rel=0.01)
    assert cortex(brain(3), section(40.0)).is_empty


RING = shapely.Point(0, 0).buffer(100, quad_segs=64).difference(shapely.Point(0, 0).buffer(80, quad_segs=64))


def ray(degrees: float, near: float = 70, far: float = 110) -> shapely.LineString:
    way = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    return shapely.LineString([way * near, way * (near + far) / 2, way * far])


@pytest.mark.parametrize(("near", "far"), [(70, 110), (110, 70), (83, 97), (80.5, 120)])
def test_the_ribbon_between_two_strokes_is_the_shorter_way_round(near, far):
    found = between(RING, [ray(10, near, far), ray(100, near, far)], 100)
    assert found.area == pytest.approx(RING.area / 4, rel=0.02)
    assert found.contains(ray(55, 85, 95))
    turned = between(RING, [ray(100, near, far), ray(10, far, near)], 100)
    assert turned.equals_exact(found, 1e-6) or turned.symmetric_difference(found).area < 1


def test_strokes_that_bound_nothing_are_refused():
    with pytest.raises(InputError, match="first stroke"):
        between(RING, [ray(10, 10, 20), ray(50)], 1000)
    with pytest.raises(InputError, match="second stroke"):
        between(RING, [ray(10), ray(50, 200, 300)], 1000)
    with pytest.raises(InputError, match="no cortex is known"):
        between(shapely.Polygon(), [ray(10), ray(50)], 100)
    two = RING.union(shapely.affinity.translate(RING, 400, 0))
    with pytest.raises(InputError, match="between the two strokes"):
        between(two, [ray(10), shapely.affinity.translate(ray(50), 400, 0)], 1000)


def test_the_tissue_is_found_on_bright_and_on_dark_ground():
    rows, columns = np.mgrid[:400, :500] + 0.5
    inside = np.hypot(rows - 200, columns - 250) < 150
    dirt = np.hypot(rows - 20, columns - 20) < 4
    vessel = np.hypot(rows - 200, columns - 250) < 4
    noise = np.random.default_rng(0).normal(0, 3, inside.shape)
    for glass, grey in ((230, 120), (10, 140)):
        picture = np.where((inside & ~vessel) | dirt, grey, glass) + noise
        found = tissue(picture.clip(0, 255).astype(np.uint8), 2.0)
        assert len(found.geoms) == 1
        assert not found.geoms[0].interiors
        assert found.area == pytest.approx(np.pi * 300**2, rel=0.02)
        assert found.centroid.coords[0] == pytest.approx((500, 400), abs=1)
    assert tissue(np.full((50, 50), 200, np.uint8), 1.0).is_empty
    assert tissue((200 + noise).astype(np.uint8), 1.0).area < 0.01 * 400 * 500


def test_only_points_within_reach_are_moved():
    edge = shapely.LineString([(0, 0), (100, 0)])
    line = shapely.LineString([(5, 3), (50, 8), (90, -2)])
    assert list(snapped(line, edge, 5).coords) == [(5, 0), (50, 8), (90, 0)]
    assert snapped(line, shapely.LineString(), 5).equals(line)
