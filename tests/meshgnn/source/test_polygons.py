"""Polygons: images come back pixel for pixel, rings are simple, QuPath's files are understood."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.polygons import outlines, paint, read_geojson, signed_area, to_geojson

SQUARE = [[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]
NAMES = ("a", "b", "c")


def through_a_file(labels: np.ndarray, path: Path) -> np.ndarray:
    """A label image written as GeoJSON and painted again."""
    path.write_text(json.dumps(to_geojson(outlines(labels), NAMES, np.full((3, 4), 0.5))))
    return paint([(NAMES.index(name), polygons) for name, polygons in read_geojson(path)], labels.shape)


def test_an_image_comes_back_as_it_was(tmp_path: Path) -> None:
    row, column = np.mgrid[:60, :80]
    away = np.hypot(row - 30, column - 30)
    labels = np.full((60, 80), -1)
    labels[away < 25] = 0  # an area
    labels[away < 15] = -1  # with a hole
    labels[away < 8] = 1  # an island in it
    labels[away < 3] = 0  # and one of the first area in that
    labels[10:50, 55:70] = 2  # touching areas
    labels[10:50, 70:] = 0
    labels[5, 75] = 1  # one pixel
    labels[0, 0], labels[1, 1] = 2, 2  # two that share a corner
    labels[30, 60] = labels[31, 61] = -1  # two holes that share a corner
    np.testing.assert_array_equal(through_a_file(labels, tmp_path / "a.geojson"), labels)
    found = outlines(labels)
    assert [len(found[k]) for k in range(3)] == [3, 2, 3]
    assert sorted(len(polygon) for polygon in found[2]) == [1, 1, 3]
    assert outlines(np.full((4, 5), -1)) == {}


def test_rings_are_simple_and_holes_turn_the_other_way() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        labels = rng.integers(-1, 3, rng.integers(1, 9, 2))
        found = outlines(labels)
        np.testing.assert_array_equal(paint(list(found.items()), labels.shape), labels)
        for value, polygons in found.items():
            areas = [[signed_area(ring) for ring in polygon] for polygon in polygons]
            assert sum(map(sum, areas)) == (labels == value).sum()
            for polygon, (outer, *holes) in zip(polygons, areas):
                assert outer > 0
                assert all(hole < 0 for hole in holes)
                for ring in polygon:
                    assert len(np.unique(ring[:-1], axis=0)) == len(ring) - 1
                    np.testing.assert_array_equal(ring[0], ring[-1])


def test_drawn_lines_come_back_within_half_a_pixel() -> None:
    rng = np.random.default_rng(1)
    turn = np.linspace(0, 2 * np.pi, 400)
    outer = 30 + 22 * (1 + 0.2 * np.sin(5 * turn + rng.uniform(0, 6)))[:, None] * np.c_[np.cos(turn), np.sin(turn)]
    hole = 30 + 9 * np.c_[np.cos(turn), -np.sin(turn)]
    painted = paint([(0, [[outer, hole]])], (60, 60))
    assert (painted >= 0).sum() == pytest.approx(signed_area(outer) + signed_area(hole), rel=0.01)
    (back,) = outlines(painted)[0]
    assert len(back) == 2
    for drawn, found in zip((outer, hole), back):
        steps = [np.linspace(a, b, round(np.abs(b - a).sum()), endpoint=False) for a, b in pairwise(found)]
        corners = np.concatenate(steps)
        middles = (corners + np.roll(corners, -1, axis=0)) / 2  # of the edges of pixels
        a, b = drawn[:-1], drawn[1:]
        along = np.einsum("ijk,jk->ij", middles[:, None] - a, b - a) / ((b - a) ** 2).sum(1)
        nearest = a + along.clip(0, 1)[..., None] * (b - a)
        assert np.linalg.norm(middles[:, None] - nearest, axis=2).min(1).max() <= 0.5


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    # The shared edge runs exactly through centres of pixels.
    left = np.array([[0, 0], [3.5, 0], [7.5, 8], [0, 8], [0, 0]])
    right = np.array([[3.5, 0], [10, 0], [10, 8], [7.5, 8], [3.5, 0]])
    a, b = (paint([(0, [[ring]])], (8, 10)) == 0 for ring in (left, right))
    assert not (a & b).any()
    assert (a | b).all()


def test_the_smaller_of_two_lies_on_top() -> None:
    inner = [np.array(SQUARE, float)]
    outer = [np.array([[0, 0], [8, 0], [8, 8], [0, 8], [0, 0.0]])]
    for drawn in ([(0, [outer]), (1, [inner])], [(1, [inner]), (0, [outer])]):
        painted = paint(drawn, (8, 8))
        assert (painted == 1).sum() == 12
        assert (painted == 0).sum() == 52


def feature(about: dict, kind: str = "Polygon", coordinates: object = None, **more: object) -> dict:
    shape = {"type": kind, "coordinates": [SQUARE] if coordinates is None else coordinates}
    return {"type": "Feature", "geometry": shape, "properties": about, **more}


def test_qupath_of_all_times_is_read(tmp_path: Path) -> None:
    now = {"objectType": "annotation", "classification": {"name": "V1", "color": [200, 0, 0]}, "isLocked": False}
    then = {"classification": {"name": "V1", "colorRGB": -3670016}, "isLocked": False, "measurements": []}
    hole = [[2, 2], [2, 3], [3, 3], [3, 2], [2, 2]]
    path = tmp_path / "q.geojson"
    for content in (
        {"type": "FeatureCollection", "features": [feature(now, coordinates=[SQUARE, hole], id="b0-1")]},
        [feature(then, coordinates=[SQUARE, hole], id="PathAnnotationObject")],
        feature(now, "MultiPolygon", [[SQUARE, hole], [[[6, 6], [7, 6], [7, 7], [6, 6]]]]),
        feature({"name": "V1"}, coordinates=[[[x, y, 0.0] for x, y in SQUARE[:-1]], hole]),
        feature({"classification": {"names": ["V1"]}}, coordinates=[SQUARE, hole]),
        [feature(now, coordinates=[SQUARE, hole]), feature({"objectType": "cell", "classification": {"name": "x"}})],
    ):
        path.write_text(json.dumps(content))
        (name, polygons), *others = read_geojson(path)
        assert name == "V1"
        assert not others
        painted = paint([(0, polygons)], (8, 8)) == 0
        assert painted[1:4, 1:5].sum() == 11
        assert not painted[2, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid GeoJSON"),
        ("[" * 100000, "not valid GeoJSON"),
        ("7", "no GeoJSON features"),
        ('{"type": "Topology"}', "no GeoJSON features"),
        (json.dumps([feature({})]), "feature 1: has no class"),
        (json.dumps([feature({"name": "a"}), feature({"name": "a"}, "LineString")]), "feature 2: is a LineString"),
        (json.dumps([{"type": "Feature", "properties": {"name": "a"}}]), "feature without geometry"),
        (json.dumps([feature({"name": "a"}, coordinates=[[[0, 0], [1, 1]]])]), "three different points"),
        (json.dumps([feature({"name": "a"}, coordinates=[[[0, 0], ["x", 1], [1, 1]]])]), "pairs of numbers"),
        (json.dumps([feature({"name": "a"}, coordinates=[[[0, 0], [float("nan"), 1], [1, 1]]])]), "finite"),
        (json.dumps([feature({"name": "a"}, coordinates=5)]), "without rings"),
    ],
)
def test_what_is_no_area_is_told(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.geojson"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_geojson(path)


def test_a_class_has_its_name_and_colour() -> None:
    labels = np.array([[0, -1, 1], [0, -1, 0]])
    made = to_geojson(outlines(labels, step=4), ("a", "b"), np.array([[1, 0, 0.5, 1], [0, 1, 0, 1]]))
    first, second = made["features"]
    assert first["geometry"]["type"] == "MultiPolygon"
    assert first["geometry"]["coordinates"][0] == [[[0, 0], [4, 0], [4, 8], [0, 8], [0, 0]]]
    assert first["properties"] == {
        "objectType": "annotation", "classification": {"name": "a", "color": [255, 0, 128]}
    }  # fmt: skip
    assert second["geometry"] == {"type": "Polygon", "coordinates": [[[8, 0], [12, 0], [12, 4], [8, 4], [8, 0]]]}
