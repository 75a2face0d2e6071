"""Whom the server refuses: no token, other sites, other hosts, guests who draw, paths that lead out of the stack."""

import asyncio

import pytest

from tests.meshgnn.mapping.serving import (
    BASE,
    GUEST,
    OWNER,
    Served,
    bring,
    feature,
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


def test_without_the_token_nothing_is_told(served):
    for path in ("/", "/api/stack", "/api/sections/0/tiles/0/0/0.jpg", "/assets/mapping.js", "/nowhere", "/brain"):
        assert "no token" in told(served.nobody.get(path), 401)
        assert "no token" in told(served.client("wrong").get(path), 401)
        assert "no token" in told(served.client("", Authorization=f"Basic {OWNER}").get(path), 401)
    assert "not the token" in told(served.nobody.get("/?token=wrong"), 403)
    assert told(send(served.nobody, put()), 401)
    assert told(served.nobody.get("/api/stack", headers={"Cookie": "mapping-1=wr\xf6ng".encode("latin-1")}), 401)


def test_the_address_gives_a_cookie_that_scripts_cannot_read(served):
    client = served.client()
    answer = client.get(f"/?token={OWNER}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/stack").status_code == 200
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    linked = served.client("", **{"Sec-Fetch-Site": "cross-site"}).get(f"/?token={OWNER}")
    assert linked.status_code == 200
    assert "url=/" in linked.text


def test_a_change_by_cookie_must_come_from_the_page(served):
    client = served.client()
    client.get(f"/?token={OWNER}")
    assert "must come from the page" in told(send(client, put()), 403)
    assert "another site" in told(send(client, put(), Origin="http://evil.example"), 403)
    assert "another site" in told(send(client, put(), Origin="null"), 403)
    assert "another site" in told(send(client, put(), Origin=BASE, **{"Sec-Fetch-Site": "cross-site"}), 403)
    assert send(client, put(), Origin=BASE).status_code == 200
    assert send(client, put(), **{"Sec-Fetch-Site": "same-origin"}).status_code == 200
    form = client.post("/api/sections/0/changes", content=b"{}", headers={"content-type": "text/plain", "origin": BASE})
    assert "application/json" in told(form, 415)
    assert "another site" in told(client.get("/api/stack", headers={"sec-fetch-site": "cross-site"}), 403)


def test_other_names_of_this_host_are_refused(served):
    for host in ("evil.example", "127.0.0.1.evil.example:8765", "0.0.0.0", "", "localhost:1@evil.example"):
        assert "answers to" in told(served.client(OWNER, Host=host).get("/api/stack"), 400)
        assert served.client("", Host=host).get(f"/?token={OWNER}").status_code == 400
    assert served.client(OWNER, Host="localhost:9000").get("/api/stack").status_code == 200  # a tunnel


def test_a_guest_looks_and_does_not_draw(served):
    stack = served.guest.get("/api/stack").json()
    assert stack["read_only"]
    assert served.guest.get("/api/sections/10/tiles/0/0/0.jpg").status_code == 200
    assert "may look" in told(send(served.guest, put()), 403)
    assert "may look" in told(bring(served.guest, feature(square())), 403)
    assert "may look" in told(served.guest.post("/api/fill", json={"engine": "graph"}), 403)
    assert "may look" in told(served.guest.delete("/api/jobs/0001-graph"), 403)


def test_a_server_that_only_shows_writes_nothing(served, tmp_path):
    send(served.owner, put(), section=20)
    before = sorted(path for path in (tmp_path / "stack").rglob("*") if path.is_file())
    with Served(tmp_path / "stack", "--read-only") as shown:  # beside the one that writes
        assert shown.owner.get("/api/stack").json()["read_only"]
        assert len(shown.owner.get("/api/sections/20/records").json()["records"]) == 1
        assert told(send(shown.owner, put()), 403)
        assert shown.owner.get("/api/worklist").status_code == 200
    assert sorted(path for path in (tmp_path / "stack").rglob("*") if path.is_file()) == before
    assert GUEST != OWNER


@pytest.mark.parametrize(
    "path",
    ["/assets/../command.py", "/assets/..%2f..%2fcommand.py", "/assets/%2e%2e%2fcommand.py", "/assets//etc/passwd",
     "/assets/human_areas.json", "/assets/.hidden.js", "/..%2f..%2fetc%2fpasswd",
     "/api/sections/99/records", "/api/sections/-1/records", "/api/sections/0/tiles/0/0/99.jpg",
     "/api/sections/0/tiles/9/0/0.jpg", "/api/sections/0/tiles/0/-1/0.jpg", "/api/jobs/..%2f..%2fjournal.jsonl",
     "/api/sections/1e3/records", "/api/sections/99999999999999999999999999/records"],
)  # fmt: skip
def test_nothing_outside_the_stack_is_told(served, path):
    answer = served.owner.get(path)
    assert answer.status_code == 404, (answer.status_code, answer.text)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_who_leaves_in_the_middle_of_a_body_is_no_fault_of_ours(served):
    said = []

    async def receive():
        return {"type": "http.disconnect"}

    async def answered(message):
        said.append(message)

    head = {"host": "127.0.0.1:1", "authorization": f"Bearer {OWNER}", "content-type": "application/json"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/api/sections/0/changes", "query_string": b"",
        "raw_path": b"/api/sections/0/changes", "headers": [(k.encode(), v.encode()) for k, v in head.items()],
    }  # fmt: skip
    asyncio.run(served.app(scope, receive, answered))  # raises nothing, so that no terminal fills with it
    assert said[0]["status"] == 400


@pytest.mark.parametrize(
    "query",
    ["events?since=", "events?since=\u00b2", "events?since=1e3", "events?since=1&jobs=-1", "events?since=" + "9" * 30],
)
def test_numbers_in_addresses_are_plain(served, query):
    assert "=NUMBER" in told(served.owner.get(f"/api/{query}"), 400)
