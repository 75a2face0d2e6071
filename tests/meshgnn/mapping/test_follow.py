"""A server that only shows, beside the one that draws: it sees what happens there, and writes nothing."""

import json
import os
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.kept import Journal, State
from meshgnn.mapping.pictures import tiles
from meshgnn.mapping.server.follow import Follower
from meshgnn.mapping.work.job import Job, write_job
from meshgnn.source.sections import write_tiff
from tests.meshgnn.mapping import toy_engine
from tests.meshgnn.mapping.serving import AREAS, OWNER, Served, put, send, square, write_stack


@contextmanager
def shown(stack, *words):
    """A server that only shows and its follower; their own folder goes as `serve` takes it away."""
    with Served(stack, "--read-only", *words) as server:
        yield server, follower(server, stack, *words)


def follower(server, stack, *words):
    from meshgnn.mapping.command import areas_of, parser

    config = MappingServer.Config()
    options = parser(config, {}).parse_args([str(stack), "--read-only", *words])
    return Follower(server.hub, lambda: areas_of(options, config, server.hub.state, writing=False))


def files(stack):
    return sorted(path for path in stack.rglob("*"))


def areas_on(server, section):
    return sorted(one["area"] for one in server.guest.get(f"/api/sections/{section}/records").json()["records"])


def test_annotations_are_shown_before_anybody_drew_and_replaced_by_the_journal(tmp_path):
    stack = write_stack(tmp_path / "stack")
    before = files(stack)
    with shown(stack) as (guests, following):
        assert areas_on(guests, 10) == ["V1", "V2"]
        assert guests.guest.get("/api/worklist").status_code == 200
        assert files(stack) == before
        assert not following.look()
        with Served(stack) as drawing:
            ids = {one["id"] for one in drawing.owner.get("/api/sections/10/records").json()["records"]}
            send(drawing.owner, put(), section=20)
            seq = guests.hub.state.seq
            assert following.look()
            news = guests.guest.get(f"/api/events?since={seq}").json()
            assert news["sections"] == [10, 20, 30]
            assert {one["id"] for one in guests.guest.get("/api/sections/10/records").json()["records"]} == ids
            assert areas_on(guests, 20) == ["V1"]
            assert len(guests.guest.get("/api/sections/10/history").json()["records"]) == 2
            assert not following.look()


def test_guests_see_strokes_as_they_come_and_windows_are_told(tmp_path):
    stack = write_stack(tmp_path / "stack", annotated=False)
    with shown(stack) as (guests, following), Served(stack) as drawing:
        following.look()
        thread = threading.Thread(target=following.run)
        thread.start()
        try:
            with guests.guest as client:
                heard = []
                waiting = threading.Thread(target=lambda: heard.append(client.get("/api/events?since=0").json()))
                waiting.start()
                change = put(area=drawing.hub.concepts.names[0])
                id = change["record"]["id"]
                assert send(drawing.owner, change).status_code == 200
                waiting.join(20)
                assert heard[0]["sections"] == [0]
            assert send(drawing.owner, {"op": "delete", "id": id, "base": 1}).status_code == 200
        finally:
            following.close()
            thread.join(10)
        following.look()
        assert areas_on(guests, 0) == []
        assert guests.guest.get("/api/sections/0/history").json()["records"][-1]["deleted"]


def test_a_half_written_line_waits_and_another_journal_is_read_whole(tmp_path):
    folder = tmp_path / "state"
    with Served(write_stack(tmp_path / "stack"), "--state", str(folder)) as drawing:
        send(drawing.owner, put(), section=20)
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:40])
    told = []
    state = State(Journal(folder, writing=False), told=lambda: told.append(1))
    assert state.records(20) == ()
    assert not state.follow()
    path.write_bytes(whole)
    assert state.follow()
    assert len(state.records(20)) == 1
    seq = state.seq
    other = tmp_path / "other.jsonl"
    other.write_bytes(lines[0])
    os.replace(other, path)  # a copy was put in its place
    assert state.follow()
    assert state.records(20) == ()
    assert len(state.records(10)) == 2
    assert 20 in state.since(seq)  # windows are told to look again
    assert len(told) == 2


def test_a_damaged_journal_leaves_what_was_known(tmp_path, caplog):
    stack = write_stack(tmp_path / "stack")
    with Served(stack) as drawing:
        send(drawing.owner, put(), section=20)
    with shown(stack) as (guests, following):
        path = stack / "mapping" / "journal.jsonl"
        path.write_bytes(path.read_bytes() + b"no entry\nnothing\n")
        assert not following.look()
        assert not following.look()
        assert len(caplog.records) == 1
        assert areas_on(guests, 20) == ["V1"]


def test_rounds_and_the_list_of_areas_are_followed(tmp_path):
    stack = write_stack(tmp_path / "stack", annotated=False)
    config = MappingServer.Config(engines=(toy_engine.ToyEngine.Config(),))
    with Served(stack, config=config) as drawing, Served(stack, "--read-only", config=config) as guests:
        following = follower(guests, stack)
        following.look()
        job = Job(round=1, engine="toy", seq=0, state="running", started="2026-01-01T00:00:00.000Z")
        write_job(job, stack / "mapping")
        assert following.look()
        assert [one["state"] for one in guests.guest.get("/api/jobs").json()] == ["running"]
        drawing.close()  # killed, as far as anybody can tell
        assert following.look()
        assert [one["state"] for one in guests.guest.get("/api/jobs").json()] == ["stopped"]
        (stack / "mapping" / "areas.json").write_text(json.dumps([*AREAS, {"name": "new", "key": 99}]))
        assert following.look()
        assert guests.guest.get("/api/stack").json()["areas"][-1]["name"] == "new"


def test_pyramids_that_are_missing_are_made_elsewhere_and_only_when_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "SMALL", 1 << 20)
    stack = write_stack(tmp_path / "stack", annotated=False)
    noise = np.random.default_rng(0).integers(0, 255, (900, 2600), np.uint8)
    write_tiff(stack / "s1.tif", noise, 50)
    write_tiff(stack / "s2.tif", noise, 50)
    before = files(stack)
    with shown(stack) as (guests, _):
        making = threading.Thread(target=guests.hub.pictures.prepare)
        making.start()
        try:
            last = len(guests.hub.pictures.shown[10].levels) - 1
            assert guests.guest.get(f"/api/sections/10/tiles/{last}/0/0.jpg").status_code == 200
            assert [guests.hub.pictures.ready(number) for number in (10, 20)] == [True, False]
        finally:
            guests.hub.pictures.close()
            making.join(10)
        assert [path.name for path in (guests.hub.own / "pyramids").iterdir()] == ["section_00010.tif"]
    assert files(stack) == before


def test_who_may_draw_elsewhere_may_not_draw_here(tmp_path):
    stack = write_stack(tmp_path / "stack")
    with shown(stack) as (guests, _):
        answer = send(guests.client(OWNER), put(square(40)))
        assert answer.status_code == 403
        assert pytest.approx(0) == guests.hub.state.journal.seq
