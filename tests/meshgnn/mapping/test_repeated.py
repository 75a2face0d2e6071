"""A file that is brought in twice: what is there already is left out and counted."""

import numpy as np
import pytest

from tests.meshgnn.mapping.serving import GUEST, OWNER, Served, bring, feature, put, send, square, told, write_stack
from tests.meshgnn.mapping.test_arrivals import LINE, POINT, written

RING = {"type": "Polygon", "coordinates": [[[20, 30], [70, 30], [70, 80], [45, 80], [20, 80], [20, 30]]]}


@pytest.fixture
def served(tmp_path):
    with Served(write_stack(tmp_path / "stack")) as server:
        yield server


def drawn(served, section: int) -> list[dict]:
    return served.owner.get(f"/api/sections/{section}/records").json()["records"]


def test_our_own_export_brings_nothing_where_it_came_from(served):
    send(
        served.owner, put(note="a fold"), put(square(100), area="V2", origin="accepted"),
        put(LINE, kind="border", area="V1", other="V2"), put(POINT, kind="note", area="", note="tear"),
        **{"X-Mapper": "anna"},
    )  # fmt: skip
    before, seq = drawn(served, 0), served.hub.state.seq
    answer = bring(served.client(OWNER, **{"X-Mapper": "ben"}), written(served), 0).json()
    assert answer == {"seq": seq, "records": [], "left_out": 4}
    assert drawn(served, 0) == before
    # Elsewhere it is new once.
    assert (bring(served.owner, written(served), 20).json()["left_out"], len(drawn(served, 20))) == (0, 4)
    assert (bring(served.owner, written(served), 20).json()["left_out"], len(drawn(served, 20))) == (4, 4)
    assert (len(drawn(served, 10)), bring(served.owner, written(served, 10), 10).json()["left_out"]) == (2, 2)


def test_undone_it_can_be_brought_in_again(served):
    for _ in range(2):
        (record,) = bring(served.owner, feature(square())).json()["records"]
        answer = send(served.owner, {"op": "delete", "id": record["id"], "base": record["version"]}, section=20)
        assert answer.status_code == 200
    assert drawn(served, 20) == []


def test_an_outline_is_the_same_to_the_pixel(served):
    bring(served.owner, feature(square()))
    near = {"type": "Polygon", "coordinates": [(np.array(RING["coordinates"][0][::-1]) + 0.3).tolist()]}
    moved = {"type": "Polygon", "coordinates": [(np.array(RING["coordinates"][0]) + 1).tolist()]}
    dented = {"type": "Polygon", "coordinates": [[[20, 30], [70, 30], [70, 80], [45, 78], [20, 80], [20, 30]]]}
    holed = {"type": "Polygon", "coordinates": [*square()["coordinates"], *square(40, 40, 5)["coordinates"]]}
    for geometry, new in ((near, 0), (moved, 1), (dented, 1), (holed, 1), (holed, 0)):
        answer = bring(served.owner, feature(geometry)).json()
        assert (len(answer["records"]), answer["left_out"]) == (new, 1 - new)
    twice = {"type": "FeatureCollection", "features": [feature(square(200)), feature(square(200))]}
    assert bring(served.owner, twice).json()["left_out"] == 1


def test_another_area_section_mapper_or_side_is_not_the_same(served):
    bring(served.client(OWNER, **{"X-Mapper": "anna"}), feature(square()))
    ben = served.client(OWNER, **{"X-Mapper": "ben"})
    assert bring(ben, feature(square())).json()["left_out"] == 0  # his own word on the same outline
    assert bring(ben, feature(square(), "V2")).json()["left_out"] == 0
    assert bring(ben, feature(square()), 0).json()["left_out"] == 0
    border = {"kind": "border", "other": "V2"}

    def line(points: list) -> dict:
        about = {"classification": {"name": "V1"}, "metadata": border}
        return {"type": "Feature", "geometry": {"type": "LineString", "coordinates": points}, "properties": about}

    there = LINE["coordinates"]
    assert [bring(ben, line(points)).json()["left_out"] for points in (there, there[::-1], there)] == [0, 0, 1]
    note = {"type": "Feature", "geometry": POINT, "properties": {"metadata": {"kind": "note", "note": "fold"}}}
    other = {**note, "properties": {"metadata": {"kind": "note", "note": "tear"}}}
    assert [bring(ben, one).json()["left_out"] for one in (note, other, note)] == [0, 0, 1]


def test_an_archive_is_told_what_to_do_with_it_and_guests_bring_nothing(served):
    archive = served.owner.get("/api/export.zip").content
    assert "unpack it" in told(bring(served.owner, archive), 400)
    assert bring(served.client(GUEST), feature(square())).status_code == 403
