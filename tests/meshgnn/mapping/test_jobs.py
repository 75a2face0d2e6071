"""Fillings in processes of their own: done, refused, fallen over, ended; and what a mapper says of them."""

import time

import pytest

from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.work import jobs
from tests.meshgnn.mapping.serving import Served, put, send, write_stack
from tests.meshgnn.mapping.toy_engine import ToyEngine


def served(folder, *what: str) -> Served:
    engines = tuple(ToyEngine.Config(what=one, name=one) for one in what)
    if not folder.exists():
        write_stack(folder)
    return Served(folder, config=MappingServer.Config(engines=engines))


def ended(server: Served, id: str, *, states: tuple[str, ...] = ("done", "failed", "stopped")) -> dict:
    for _ in range(400):
        job = server.owner.get(f"/api/jobs/{id}").json()
        if job["state"] in states:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def fill(server: Served, engine: str) -> dict:
    answer = server.owner.post("/api/fill", json={"engine": engine})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_filling_is_shown_accepted_rejected_and_there_after_a_restart(tmp_path):
    with served(tmp_path / "s", "finish") as server:
        assert server.owner.get("/api/stack").json()["engines"] == [
            {"name": "finish", "title": "Toy", "ready": True, "why_not": ""}
        ]
        job = fill(server, "finish")
        assert (job["state"], job["round"]) == ("waiting", 1)
        assert ended(server, job["id"])["state"] == "done"
        shown = server.owner.get("/api/sections/20/predictions").json()
        assert [(one["area"], one["probability"], one["decision"]) for one in shown["areas"]] == [("V2", 0.75, "none")]
        assert server.owner.get("/api/sections/0/predictions").json()["areas"] == []
        stack = server.owner.get("/api/stack").json()["sections"]
        assert [one["predicted"] for one in stack] == [0, 0, 1, 0]

        def review(said: str, **fields):
            body = {"round": 1, "area": "V2", "decision": said, **fields}
            return server.owner.post("/api/sections/20/review", json=body)

        record = review("accept").json()["records"][0]
        assert (record["origin"], record["geometry"]["type"]) == ("accepted", "Polygon")
        assert review("accept").json()["records"][0]["id"] == record["id"]  # not twice
        stack = server.owner.get("/api/stack").json()["sections"][2]
        assert (stack["accepted"], stack["drawn"]) == (1, {})
        assert review("reject").json()["records"][0]["deleted"]
        decided = server.owner.get("/api/sections/20/predictions").json()["areas"][0]["decision"]
        assert decided == "rejected"
        for wrong in ({"round": 9}, {"area": "V1"}, {"decision": "maybe"}, {"round": "1"}):
            assert review("accept", **wrong).status_code in (400, 404)
        assert server.owner.get("/api/agreement").json() == []
    with served(tmp_path / "s", "finish") as again:
        (one,) = again.owner.get("/api/rounds").json()
        assert (one["round"], one["engine"], one["words"]) == (1, "finish", ["All is well."])
        assert one["figures"]["drawn"] == [10, 30]
        assert again.owner.get("/api/sections/20/predictions").json()["areas"][0]["decision"] == "rejected"
        for said, then in (("withdraw", "none"), ("accept", "accepted"), ("withdraw", "none")):
            body = {"round": 1, "area": "V2", "decision": said}
            assert again.owner.post("/api/sections/20/review", json=body).status_code == 200
            assert again.owner.get("/api/sections/20/predictions").json()["areas"][0]["decision"] == then


def test_what_cannot_be_filled_in_is_said_in_one_line(tmp_path, caplog):
    with served(tmp_path / "s", "refuse", "fault", "fall") as server:
        found = {name: fill(server, name)["id"] for name in ("refuse", "fault", "fall")}
        found = {name: ended(server, id) for name, id in found.items()}
        assert {one["state"] for one in found.values()} == {"failed"}
        assert found["refuse"]["error"] == "the outlines are too small"
        assert found["fault"]["error"] == "ZeroDivisionError: a fault"
        assert "ended by itself" in found["fall"]["error"]
        assert "ZeroDivisionError" in caplog.text  # the whole of it in the terminal
        answer = server.owner.post("/api/fill", json={"engine": "other"})
        assert (answer.status_code, "one of" in answer.json()["error"]) == (400, True)
        assert server.owner.get("/api/rounds").json() == []
    with Served(
        write_stack(tmp_path / "bare", annotated=False), config=MappingServer.Config(engines=(ToyEngine.Config(),))
    ) as server:
        assert server.owner.get("/api/stack").json()["engines"][0]["why_not"] == "nothing was drawn yet"
        assert server.owner.post("/api/fill", json={"engine": "toy"}).status_code == 400
        area = server.owner.get("/api/stack").json()["areas"][0]["name"]
        send(server.owner, put(area=area))
        assert server.owner.get("/api/stack").json()["engines"][0]["ready"]


@pytest.mark.parametrize("what", ["wait", "deaf"])
def test_a_filling_is_ended_and_gone_on_with(tmp_path, monkeypatch, what):
    monkeypatch.setattr(jobs, "GRACE_S", 0.3)
    with served(tmp_path / "s", what) as server:
        job = fill(server, what)
        running = ended(server, job["id"], states=("running",))
        assert fill(server, what)["id"] == job["id"]  # what runs already is not asked for twice
        while running["step"] != "filling":
            time.sleep(0.02)
            running = server.owner.get(f"/api/jobs/{job['id']}").json()
        assert running["total"] == 1000
        assert server.owner.delete(f"/api/jobs/{job['id']}").status_code == 200
        assert ended(server, job["id"])["state"] == "stopped"
        assert server.owner.get("/api/rounds").json() == []
        again = fill(server, what)
        assert again["id"] == job["id"]  # nothing was drawn since: it goes on in its folder
        ended(server, job["id"], states=("running",))
    with served(tmp_path / "s", what) as server:  # the server was ended while it ran
        (one,) = server.owner.get("/api/jobs").json()
        assert one["state"] == "stopped"
        assert server.owner.delete("/api/jobs/nothing").status_code == 404
