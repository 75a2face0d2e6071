"""The command: what it prints, what it refuses in one line, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from meshgnn.mapping.command import entry, free_socket
from tests.meshgnn.mapping.serving import AREAS, Served, put, send, write_stack

ROOT = Path(__file__).resolve().parents[3]


def refused(capsys, *words: object) -> str:
    assert entry([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_wrong_folders_and_settings_are_told_in_one_line(tmp_path, capsys):
    assert "no such folder" in refused(capsys, tmp_path / "none")
    assert "sections.csv" in refused(capsys, tmp_path)
    stack = write_stack(tmp_path / "stack")
    assert "holds no sections.json" in refused(capsys, stack, "--mesh", tmp_path)
    assert "there is no 'engine'" in refused(capsys, stack, "--set", "engine=graph")
    assert "cannot be read" in refused(capsys, stack, "--set", f"areas={tmp_path / 'none.json'}")
    assert "no port" in refused(capsys, stack, "--port", 99999)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capsys, stack, "--state", tmp_path / "file")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be used" in refused(capsys, stack, "--port", taken.getsockname()[1])

    with Served(stack):
        assert "another server" in refused(capsys, stack)


def test_without_a_port_another_one_is_taken_where_the_usual_one_is_in_use(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("meshgnn.mapping.command.PORT", taken.getsockname()[1])
        with free_socket(None) as found:
            assert found.getsockname()[1] not in (0, taken.getsockname()[1])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "no areas"), ("{", "not valid JSON"), ('[{"key": 1}]', "no name"), ('"V1"', "needs a list"),
        ('[{"name": "V1", "colour": "red"}]', "#rrggbb"),
        ('[{"name": "V1"}, {"name": "V2"}, {"name": "V1"}]', "areas are called"),
        ('[{"name": "V9"}]', "lacks 'V1'"), ('[{"name": "V1", "key": -1}, {"name": "V2"}]', "key is -1"),
    ],
)  # fmt: skip
def test_a_list_of_areas_that_cannot_be_taken_is_refused(tmp_path, capsys, content, why):
    stack = write_stack(tmp_path / "stack")
    with Served(stack):
        pass
    before = (stack / "mapping" / "areas.json").read_text()
    (tmp_path / "list.json").write_text(content)
    assert why in refused(capsys, stack, "--set", f"areas={tmp_path / 'list.json'}")
    assert (stack / "mapping" / "areas.json").read_text() == before


def test_lists_of_other_making_are_taken(tmp_path):
    from meshgnn.mapping.config import MappingServer

    listed = tmp_path / "list.json"
    listed.write_text(
        '{"areas": [{"name": "visual", "children": [{"name": "V1", "rgb": "#ff8000", "number": 4},'
        '{"name": "V2", "color": [0, 128, 255], "id": 6}]}, {"name": "Area hOc3v (LingG)"}]}'
    )
    config = MappingServer.Config(areas=listed)
    with Served(write_stack(tmp_path / "stack"), config=config) as server:
        rows = server.owner.get("/api/stack").json()["areas"]
        assert [(row["key"], row["name"], row["colour"]) for row in rows[:2]] == [
            (4, "V1", "#ff8000"), (6, "V2", "#0080ff"),
        ]  # fmt: skip
        assert rows[2]["name"] == "Area hOc3v (LingG)"
    bare = write_stack(tmp_path / "bare", annotated=False)
    with Served(bare) as server:  # ours
        names = [row["name"] for row in server.owner.get("/api/stack").json()["areas"]]
        assert len(names) == len(set(names)) > 50
        assert {"hOc1", "44", "4p"} <= set(names)
        send(server.owner, put(area="hOc1"))
    assert [row["name"] for row in AREAS] != names


def test_it_listens_on_this_machine_alone():
    with free_socket(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def started(stack: Path, *more: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "meshgnn.mapping", str(stack), "--port", "0", "--set", "engines=[]", *more]
    return subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def test_addresses_outlive_a_server_and_guests_follow_the_one_that_draws(tmp_path):
    stack = write_stack(tmp_path / "stack", annotated=False)

    def asked(process: subprocess.Popen) -> tuple[str, str]:
        found = re.search(r"(draw|guest):\s+(http://127\.0\.0\.1:\d+)/\?token=(\S+)", process.stdout.readline())
        assert found is not None
        assert found[1] == ("guest" if "--read-only" in process.args else "draw")
        return found[2], found[3]

    tokens, processes = [], []
    try:
        for more in ((), (), ("--new-token",)):
            drawing = started(stack, *more)
            processes.append(drawing)
            base, token = asked(drawing)
            tokens.append(token)
            if not more and len(tokens) == 1:
                drawing.kill()
                drawing.wait()
            elif not more:
                guests = started(stack, "--read-only")
                processes.append(guests)
                there, guest = asked(guests)
                with (
                    httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}) as client,
                    httpx.Client(base_url=there, headers={"Authorization": f"Bearer {guest}"}, timeout=30) as looking,
                ):
                    seq = looking.get("/api/stack").json()["seq"]
                    area = client.get("/api/stack").json()["areas"][0]["name"]
                    assert send(client, put(area=area)).status_code == 200
                    assert looking.get(f"/api/events?since={seq}").json()["sections"] == [0]
                    assert len(looking.get("/api/sections/0/records").json()["records"]) == 1
                    assert send(looking, put(area=area)).status_code == 403
                for process in (guests, drawing):
                    process.send_signal(signal.SIGTERM)
                    _, told = process.communicate(timeout=20)
                    assert "Traceback" not in told
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert tokens[0] == tokens[1] != tokens[2]


def test_it_serves_until_it_is_ended(tmp_path):
    stack = write_stack(tmp_path / "stack")
    process = started(stack)
    try:
        assert process.stdout is not None
        found = re.search(r"draw:\s+(http://127\.0\.0\.1:\d+)/\?token=(\S+)", process.stdout.readline())
        assert found is not None
        with httpx.Client(base_url=found[1], headers={"Authorization": f"Bearer {found[2]}"}) as client:
            assert send(client, put()).status_code == 200
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "everything that was drawn is in" in told
    assert "Traceback" not in told
    with Served(stack) as again:
        assert again.hub.state.seq == 2
