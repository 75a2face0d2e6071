"""GeoJSON of this page and of other programs: what it means, wherever it was written."""

import io
import json
import zipfile

import numpy as np
import pytest

from meshgnn.source.polygons import signed_area
from tests.meshgnn.mapping.serving import Served, bring, feature, put, send, square, told, write_stack

LINE = {"type": "LineString", "coordinates": [[10, 10], [40, 60]]}
POINT = {"type": "Point", "coordinates": [50, 60]}


@pytest.fixture
def served(tmp_path):
    with Served(write_stack(tmp_path / "stack")) as server:
        yield server


def written(served, section: int = 0) -> dict:
    files = zipfile.ZipFile(io.BytesIO(served.owner.get("/api/export.zip?parts=geojson").content))
    return json.loads(files.read(f"geojson/s{section // 10}.geojson"))


def said(record: dict) -> dict:
    return {key: record[key] for key in ("kind", "area", "other", "geometry", "confidence", "note")}


def test_what_goes_out_comes_in_again_with_borders_notes_and_doubts(served):
    send(
        served.owner, put(confidence=1, note="a <fold>"), put(square(100), area="V2", origin="accepted"),
        put(LINE, kind="border", area="V1", other="V2"), put(LINE, kind="border", area=""),
        put(POINT, kind="note", area="", note="tear"),
    )  # fmt: skip
    before = served.owner.get("/api/sections/0/records").json()["records"]
    after = bring(served.owner, written(served)).json()["records"]
    assert [said(one) for one in after] == [said(one) for one in before]
    assert [one["origin"] for one in after] == ["imported", "accepted", "imported", "imported", "imported"]
    assert {one["id"] for one in after}.isdisjoint(one["id"] for one in before)


def test_accepted_predictions_are_not_scored_after_a_way_through_a_file(served):
    send(served.owner, put(origin="accepted"))
    bring(served.owner, written(served))
    situation = served.hub.situation()
    assert 20 not in situation.drawn.sections
    assert 20 in situation.accepted.sections


def test_half_a_character_in_a_note_is_replaced(served):
    send(served.owner, put(note="a fold"))
    text = json.dumps(written(served)).replace("a fold", "a \\ud800 fold")
    (record,) = bring(served.owner, text.encode()).json()["records"]
    assert record["note"] == "a ? fold"


@pytest.mark.parametrize("turn", [1, -1])
def test_rings_may_run_either_way_and_have_heights(served, turn):
    ring = [[x, y, 7.5] for x, y in square()["coordinates"][0]][::turn]
    (record,) = bring(served.owner, feature({"type": "Polygon", "coordinates": [ring]})).json()["records"]
    points = np.array(record["geometry"]["coordinates"][0])
    assert points.shape == (5, 2)
    assert signed_area(points) == 2500


def test_collections_several_parts_and_features_without_id(served):
    parts = {"type": "MultiPolygon", "coordinates": [square()["coordinates"], square(200, 200)["coordinates"]]}
    both = {"type": "GeometryCollection", "geometries": [square(), square(200, 200)]}
    for geometry, section in ((parts, 20), (both, 0)):
        content = {**feature(geometry), "bbox": [0, 0, 9, 9], "id": None}
        (record,) = bring(served.owner, content, section).json()["records"]
        assert len(record["geometry"]["coordinates"]) == 2
    detection = {"type": "Feature", "geometry": POINT, "properties": {"objectType": "detection"}}
    assert len(bring(served.owner, [feature(square()), detection]).json()["records"]) == 1  # QuPath before 0.3


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (feature(LINE), "LineString, not an area"),  # a line of another program names no two areas
        ({"type": "GeometryCollection", "geometries": [square()]}, "no GeoJSON features"),
        ({**feature(square()), "properties": None}, "has no class"),
        ({**feature(square()), "properties": [1]}, "no JSON object"),
        (feature({"type": "Polygon", "coordinates": []}), "without rings"),
        (feature({"type": "Polygon", "coordinates": [[[1e308, 1e308], [0, 1], [1, 1]]]}), "billion"),
        (feature({"type": "Polygon", "coordinates": [[[10**400, 1], [0, 1], [1, 1]]]}), "pairs of numbers"),
        ({"type": "Feature", "geometry": LINE, "properties": {"metadata": {"kind": "border", "other": "V9"}}}, "'V9'"),
        ({"type": "Feature", "geometry": square(), "properties": {"metadata": {"kind": "border"}}}, "has no class"),
    ],
)
def test_what_is_no_area_is_named(served, content, why):
    assert why in told(bring(served.owner, content), 400)
    assert served.owner.get("/api/sections/20/history").json()["records"] == []
