"""Stacks of few sections without a mesh: all that needs one says so in a sentence, the rest works."""

import re

import pytest

from experiments.mapping import mapping
from meshgnn.errors import InputError
from meshgnn.mapping.command import assembled, parser
from meshgnn.mapping.config import MappingServer
from tests.meshgnn.mapping.serving import Served, put, send, told, write_stack


@pytest.mark.parametrize("count", [1, 2, 5])
def test_whatever_needs_a_mesh_is_told_in_a_sentence(tmp_path, count):
    with Served(write_stack(tmp_path / "s", count=count, annotated=False), config=mapping()) as server:
        owner, last = server.owner, 10 * (count - 1)
        area = owner.get("/api/stack").json()["areas"][0]["name"]
        engines = {one["name"]: one for one in owner.get("/api/stack").json()["engines"]}
        assert [name for name, one in engines.items() if one["ready"]] == []
        assert "--mesh" in engines["graph"]["why_not"]
        assert send(owner, put(area=area)).status_code == 200
        for path, word in (
            (f"/api/sections/{last}/borders", "mesh"), ("/api/areas-table.csv", "mesh"),
            ("/api/export.zip?parts=gifti", "mesh"),
        ):  # fmt: skip
            assert word in told(owner.get(path), 400)
        for path in (
            f"/api/sections/{last}/ribbon", f"/api/sections/{last}/predictions", "/api/rounds", "/api/agreement",
            "/api/worklist", "/api/export.zip", "/brain",
        ):  # fmt: skip
            answer = owner.get(path)
            assert answer.status_code == 200, (path, answer.text)
        assert "let the graph fill in first" in owner.get("/brain").text
        for engine in ("graph", "network", "local", "contours"):
            assert told(owner.post("/api/fill", json={"engine": engine}), 400)
        assert send(owner, put(area=area), section=last).status_code == 200
        ready = {one["name"] for one in owner.get("/api/stack").json()["engines"] if one["ready"]}
        assert ready == ({"local", "contours"} if count > 2 else set())


def test_a_reconstruction_that_was_refused_is_called_that(tmp_path):
    folder = write_stack(tmp_path / "s", count=5, annotated=False)
    (tmp_path / "mesh").mkdir()
    options = parser(MappingServer.Config(), {}).parse_args([str(folder), "--mesh", str(tmp_path / "mesh")])
    with pytest.raises(InputError, match=r"holds no sections\.json"):
        assembled(options, MappingServer.Config(), lambda *_: None)
    (tmp_path / "mesh" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="refused or is not done"):
        assembled(options, MappingServer.Config(), lambda *_: None)


def test_a_stack_without_a_usable_section_is_told_and_not_called_done(tmp_path):
    folder = write_stack(tmp_path / "s", count=3, annotated=False)
    table = folder / "sections.csv"
    table.write_text(re.sub(",1$", ",0", table.read_text(), flags=re.MULTILINE))
    with Served(folder, config=mapping()) as server:
        assert send(server.owner, put(area=server.hub.concepts.names[0])).status_code == 200
        for path in ("/api/worklist", "/api/worklist?order=random"):
            assert "no section is usable" in told(server.owner.get(path), 400)
        assert "no section is usable" in told(server.owner.post("/api/fill", json={"engine": "contours"}), 400)
