"""The programming interface, asked by an HTTP client: what it keeps, and whom and what it refuses."""

import io
import json
import os
import threading
import uuid
import zipfile

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.mapping.server import guard
from meshgnn.source.annotations import read_annotations
from tests.meshgnn.mapping.serving import (
    AREAS,
    OWNER,
    SHAPE,
    Served,
    bring,
    feature,
    labels,
    put,
    send,
    square,
    told,
    write_stack,
)


@pytest.fixture
def served(tmp_path):
    with Served(write_stack(tmp_path / "stack")) as server:
        yield server


# -- what it keeps ---------------------------------------------------------------------------------------------------


def test_the_stack_is_described_and_its_annotations_are_there(served):
    stack = served.owner.get("/api/stack").json()
    assert (stack["name"], stack["read_only"], stack["seq"]) == ("stack", False, 1)
    assert [area["name"] for area in stack["areas"]] == [area["name"] for area in AREAS]
    assert stack["areas"][1] == {"key": 3, "name": "V2", "colour": "#008000", "isocortex": True}
    assert [section["index"] for section in stack["sections"]] == [0, 10, 20, 30]
    section = stack["sections"][1]
    assert (section["width"], section["height"], section["pixel_um"]) == (400, 300, 50)
    assert section["levels"][0] == {"width": 400, "height": 300, "factor": 1}
    assert section["drawn"] == {"V1": 1, "V2": 1}
    records = served.owner.get("/api/sections/10/records").json()["records"]
    assert {record["origin"] for record in records} == {"imported"}


def test_annotations_come_back_as_they_were(served, tmp_path):
    answer = served.owner.get("/api/export.zip", params={"parts": "annotations,labels,geojson"})
    files = zipfile.ZipFile(io.BytesIO(answer.content))
    files.extractall(tmp_path)
    stack = write_stack(tmp_path / "other", annotated=False)
    (tmp_path / "annotations").rename(stack / "annotations")
    found = read_annotations(stack)
    assert found.sections == (10, 30)
    names = np.array([*found.areas.names, ""])
    for index in found.sections:
        wanted = np.select([labels() == 7, labels() == 3], ["V1", "V2"], "")
        assert (names[found.read(index)] == wanted).all()
    import tifffile

    assert (tifffile.imread(tmp_path / "labels" / "s1_labels.tif") == labels()).all()
    features = json.loads(files.read("geojson/s1.geojson"))["features"]
    classes = sorted((one["properties"]["classification"] for one in features), key=lambda one: one["name"])
    assert classes == [{"name": "V1", "color": [255, 0, 0]}, {"name": "V2", "color": [0, 128, 0]}]


def test_drawing_changing_and_deleting(served):
    change = put(confidence=2, note="unsure here")
    answer = send(served.owner, change, **{"X-Mapper": "M%C3%BCller"}).json()
    record = answer["records"][0]
    assert (record["version"], record["mapper"], record["confidence"]) == (1, "Müller", 2)
    id = record["id"]
    moved = send(served.owner, put(square(40), id=id, base=1)).json()["records"][0]
    assert (moved["version"], moved["mapper"], moved["geometry"]["coordinates"][0][0]) == (2, "mapper", [40, 30])
    assert send(served.owner, {"op": "delete", "id": id, "base": 2}).json()["records"][0]["deleted"]
    assert served.owner.get("/api/sections/0/records").json()["records"] == []
    history = served.owner.get("/api/sections/0/history").json()["records"]
    assert [one["version"] for one in history] == [1, 2, 3]
    assert send(served.owner, put(id=id, base=3)).status_code == 200  # undone
    assert len(served.owner.get("/api/sections/0/records").json()["records"]) == 1


def test_two_windows_do_not_lose_each_others_strokes(served):
    other = served.client(OWNER)
    mine, theirs = put(), put(square(100))
    assert send(served.owner, mine).status_code == send(other, theirs).status_code == 200
    id = mine["record"]["id"]
    assert send(served.owner, put(square(50), id=id, base=1)).status_code == 200
    late = send(other, put(square(90), id=id, base=1), put(square(200)))
    assert "someone else" in told(late, 409)
    assert late.json()["records"][0]["geometry"] == square(50)
    assert len(served.owner.get("/api/sections/0/records").json()["records"]) == 2  # all or nothing


def test_windows_hear_of_each_others_changes(served):
    seq = served.owner.get("/api/stack").json()["seq"]
    with served.owner as client:  # keeps one event loop
        heard = []
        waiting = threading.Thread(target=lambda: heard.append(client.get(f"/api/events?since={seq}").json()))
        waiting.start()
        send(served.client(OWNER), put(), section=20)
        waiting.join(20)
    assert heard[0]["seq"] == seq + 1
    assert heard[0]["sections"] == [20]


@pytest.mark.parametrize(
    ("first", "renamed", "moved"),
    [("accepted", "accepted", "accepted"), ("imported", "imported", "drawn"), ("drawn", "drawn", "drawn")],
)
def test_the_server_says_what_a_changed_outline_is(served, first, renamed, moved):
    id = send(served.owner, put(origin=first)).json()["records"][0]["id"]

    def origin(version: int, geometry: dict, **fields: object) -> str:
        answer = send(served.owner, put(geometry, id=id, base=version, **fields))
        return str(answer.json()["records"][0]["origin"])

    assert origin(1, square(), area="V2", origin="drawn") == renamed
    assert origin(2, square(90), origin="imported") == moved
    send(served.owner, {"op": "delete", "id": id, "base": 3})
    assert origin(4, square(90), origin="accepted") == moved  # taken back
    scored = served.hub.situation().drawn.sections
    assert (0 in scored) is (first != "accepted")


def test_what_was_drawn_is_there_after_a_restart(served, tmp_path):
    send(served.owner, put(), section=20)
    with pytest.raises(InputError, match="another server"):
        Served(tmp_path / "stack")
    before = served.hub.state.all_records()
    served.close()
    with Served(tmp_path / "stack") as again:
        assert again.hub.state.all_records() == before
        assert again.owner.get("/api/stack").json()["seq"] == 2


def test_mappers_are_compared(served):
    records = served.owner.get("/api/sections/10/records").json()["records"]
    mine = next(record for record in records if record["area"] == "V2")
    ring = np.array(mine["geometry"]["coordinates"][0]) + np.array([10, 0])
    moved = {"type": "Polygon", "coordinates": [ring.tolist()]}
    send(served.owner, put(moved, area="V2"), section=10, **{"X-Mapper": "Bob"})
    (row,) = served.owner.get("/api/agreement").json()
    assert (row["mappers"], row["area"], row["sections"]) == (["Bob", "imported"], "V2", 1)
    assert row["dice"] == pytest.approx(50 / 60, abs=1e-3)  # 60 x 40 px, moved by 10
    assert 0.2 < row["border_mm"] < 0.5


# -- what comes in ---------------------------------------------------------------------------------------------------


def test_geojson_of_qupath_is_imported(served):
    holed = square()
    holed["coordinates"].append([[30, 40], [30, 50], [40, 50], [40, 40]])  # not closed
    single = {"type": "MultiPolygon", "coordinates": [square(120)["coordinates"]]}
    content = {"type": "FeatureCollection", "features": [feature(holed), feature(single, "V2")]}
    records = bring(served.owner, content).json()["records"]
    assert [(one["area"], one["geometry"]["type"], one["origin"]) for one in records] == [
        ("V1", "Polygon", "imported"), ("V2", "Polygon", "imported"),
    ]  # fmt: skip
    assert len(records[0]["geometry"]["coordinates"]) == 2
    assert records[0]["geometry"]["coordinates"][1][0] == records[0]["geometry"]["coordinates"][1][-1]


def test_an_outline_that_crosses_itself_is_parted(served):
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]]]}
    shape = send(served.owner, put(bow)).json()["records"][0]["geometry"]
    assert shape["type"] == "MultiPolygon"
    assert len(shape["coordinates"]) == 2


def test_a_scribble_is_refused_at_once(served):
    """To part it would take hours: each of 3,000 edges crosses nearly all others."""
    turn = 2.399963 * np.arange(3000)
    star = np.column_stack([200 + 150 * np.cos(turn), 150 + 140 * np.sin(turn)]).round(3).tolist()
    shape = {"type": "Polygon", "coordinates": [star]}
    assert "crosses itself more than" in told(send(served.owner, put(shape)), 400)
    assert "crosses itself more than" in told(bring(served.owner, feature(shape)), 400)
    asked = {"geometry": shape, "reach_um": 500}
    assert "crosses itself more than" in told(served.owner.post("/api/sections/0/snap", json=asked), 400)
    assert send(served.owner, put({"type": "Polygon", "coordinates": [star[:100]]})).status_code == 200


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not valid GeoJSON"),
        (b'{"type":"FeatureCollection","features":[{"geometry":{"type":"Polygon","coordinates":[[[NaN]]]}}]}', "valid"),
        ([], "no area is drawn"),
        (feature(square(), "V9"), "'V9' is not in the list"),
        ({"type": "Feature", "geometry": square(), "properties": {}}, "has no class"),
        (feature({"type": "Point", "coordinates": [1, 2]}), "not an area"),
        (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}), "three different points"),
        (feature({"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [9, 9], [0, 0]]]}), "encloses nothing"),
        (feature(square(5000)), "px over the section"),
        (feature({"type": "Polygon", "coordinates": [[["a", 0], [1, 1], [2, 0]]]}), "pairs of numbers"),
        (square(), "without a name"),
        (b"[" * 100000, "not valid GeoJSON"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_in_one_line_and_leaves_nothing(served, content, why):
    assert why in told(bring(served.owner, content), 400)
    assert served.owner.get("/api/sections/20/history").json()["records"] == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"op": "put"}, "op must be"),
        ({"op": "eat", "id": "x"}, "op must be"),
        (put(id="../../etc/passwd"), "UUID"),
        (put(base=-1), "base is -1"),
        (put(base=True), "base is True"),
        (put(kind="line"), "kind is 'line'"),
        (put(area="V9"), "not in the list"),
        (put(area=""), "needs the name"),
        (put(confidence=4), "1, 2 or 3"),
        (put(note="x" * 5000), "4000 characters"),
        (put(origin="truth"), "origin is 'truth'"),
        (put(speed=3), "no 'speed'"),
        (put({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}), "not a Polygon"),
        (put({"type": "Polygon"}), "coordinates are None"),
        (put({"type": "Polygon", "coordinates": [[[0, 0], [True, 1], [None, 5], [1, 2]]]}), "finite numbers"),
        (put({"type": "Polygon", "coordinates": [[[0, 0], [1e300, 1], [5, 5], [1, 2]]]}), "billion"),
        (put({"type": "Polygon", "coordinates": [[[0, 0], [0, 0], [0, 0], [0, 0]]]}), "encloses nothing"),
        (put(square(-400)), "px over the section"),
        (put({"type": "LineString", "coordinates": [[5, 5], [5, 5]]}, kind="border"), "no length"),
        ({"op": "delete", "id": str(uuid.uuid4()), "base": 1}, "there is no record"),
        (put([1, 2]), "not a Polygon"),
        ("draw", "op must be"),
    ],
)  # fmt: skip
def test_a_wrong_change_is_refused_and_so_is_what_came_with_it(served, change, why):
    answer = send(served.owner, put(), change)
    assert why in told(answer, 400)
    assert "change 2" in answer.json()["error"]
    assert served.owner.get("/api/sections/0/history").json()["records"] == []


def test_nan_is_no_json(served):
    text = json.dumps({"changes": [put({"type": "Polygon", "coordinates": [[[float("nan"), 0], [1, 1], [2, 0]]]})]})
    answer = served.owner.post(
        "/api/sections/0/changes", content=text.encode(), headers={"content-type": "application/json"}
    )
    assert "not valid JSON" in told(answer, 400)


def test_half_a_character_is_no_text(served):
    """A lone surrogate passes as JSON but can be written to no file."""
    note = put(kind="note", area="", geometry={"type": "Point", "coordinates": [5, 5]}, note="\ud800")
    kind = {"content-type": "application/json"}
    for path, body in (("/api/sections/0/changes", {"changes": [note]}), ("/api/fill", {"engine": "\udfff"})):
        assert "not valid JSON" in told(served.owner.post(path, content=json.dumps(body), headers=kind), 400)
    assert send(served.owner, put(note="\U0001f9e0")).json()["records"][0]["note"] == "\U0001f9e0"


def test_too_much_at_once_is_refused(served, monkeypatch):
    assert "at most 1000" in told(send(served.owner, *([put()] * 1001)), 400)
    many = {"type": "LineString", "coordinates": [[k % 300, k % 200] for k in range(200_001)]}
    assert "at most 200000" in told(send(served.owner, put(many, kind="border")), 400)
    monkeypatch.setattr(guard, "CHANGES", 1000)
    monkeypatch.setattr(guard, "FILES", 2000)
    assert "larger than" in told(send(served.owner, put(note="x" * 1000)), 413)
    pieces = (b" " * 500 for _ in range(9))  # of a length that nobody told
    headers = {"content-type": "application/json"}
    assert "larger than" in told(served.owner.post("/api/import?section=0", content=pieces, headers=headers), 413)


# -- what it answers --------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_nothing_is_half_said(served, monkeypatch):
    whole = os.pwrite

    def full(handle: int, data: bytes, at: int) -> int:
        whole(handle, data[: len(data) // 2], at)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        assert "No space left" in told(send(served.owner, put()), 507)
    assert served.owner.get("/api/sections/0/records").json()["records"] == []
    assert send(served.owner, put()).status_code == 200
    assert served.owner.get("/api/stack").json()["seq"] == 2


def test_parts_that_need_a_mesh_say_so(served):
    for path in ("/api/sections/0/borders", "/api/areas-table.csv", "/api/export.zip?parts=gifti"):
        assert "mesh" in told(served.owner.get(path), 400)
    assert served.owner.get("/api/sections/0/ribbon").json()["features"] == []
    assert "mesh" in served.owner.get("/brain").text
    assert served.owner.get("/api/rounds").json() == []
    assert "is not known" in told(served.owner.get("/api/export.zip?parts=../x"), 400)


def test_tiles_are_cached_by_the_image(served):
    answer = served.owner.get("/api/sections/0/tiles/0/1/1.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    again = served.owner.get("/api/sections/0/tiles/0/1/1.jpg", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_ribbon_without_a_mesh_is_as_deep_as_the_strokes(served):
    middle = np.array(SHAPE[::-1]) / 2
    lines = []
    for angle in (0.0, np.pi / 2):
        way = np.array([np.cos(angle), np.sin(angle)])
        lines.append({"type": "LineString", "coordinates": [(middle + way * r).tolist() for r in (130, 115, 100)]})
    shape = served.owner.post("/api/sections/0/between", json={"strokes": lines}).json()["geometry"]
    ring = np.array(shape["coordinates"][0])
    away = np.hypot(*(ring - middle).T)
    assert 99 < away.min() < 103
    assert 118 < away.max() < 122
    from meshgnn.source.polygons import signed_area

    assert signed_area(ring) == pytest.approx(np.pi / 4 * (120**2 - 100**2), rel=0.08)
    answer = served.owner.post("/api/sections/0/between", json={"strokes": lines[:1]})
    assert "two are needed" in told(answer, 400)
    short = {"type": "LineString", "coordinates": [[5, 5], [6, 6]]}
    assert told(served.owner.post("/api/sections/0/between", json={"strokes": [short, short]}), 400)


def test_points_near_the_tissues_edge_snap_to_it(served):
    line = {"type": "LineString", "coordinates": [[200 + 125, 150], [200 + 60, 150]]}
    moved = served.owner.post("/api/sections/0/snap", json={"geometry": line, "reach_um": 500}).json()["geometry"]
    assert moved["coordinates"][0] == pytest.approx([200 + 120, 150], abs=1.2)
    assert moved["coordinates"][1] == [260, 150]
    for reach in (-1, "far", None, True):
        assert told(served.owner.post("/api/sections/0/snap", json={"geometry": line, "reach_um": reach}), 400)
