"""A small stack and a server for it, asked without a network."""

import csv
import json
import shutil
import uuid
from pathlib import Path

import numpy as np
from starlette.testclient import TestClient

from meshgnn.mapping.command import assembled, parser
from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.server import hub
from meshgnn.mapping.server.app import application
from meshgnn.source.polygons import outlines, to_geojson
from meshgnn.source.sections import write_tiff

OWNER, GUEST = "owner-token", "guest-token"
BASE = "http://127.0.0.1:8765"
SHAPE = (300, 400)
AREAS = [
    {"key": 7, "name": "V1", "colour": [1, 0, 0]},
    {"key": 3, "name": "V2", "colour": [0, 0.5, 0]},
    {"key": 9, "name": "Claustrum", "colour": [0, 0, 1], "isocortex": False},
]


def picture(number: int = 0) -> np.ndarray:
    """Bright glass, and a dark disc of radius 120 px around the middle."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = np.hypot(rows + 0.5 - SHAPE[0] / 2, columns + 0.5 - SHAPE[1] / 2) < 120
    return np.where(inside, 100 + number, 230).astype(np.uint8)


def labels() -> np.ndarray:
    """Keys: two areas, one of them with a hole and in two parts."""
    image = np.zeros(SHAPE, np.uint16)
    image[60:140, 100:220] = 7
    image[80:100, 120:150] = 0
    image[200:220, 100:140] = 7
    image[150:190, 200:260] = 3
    return image


def write_stack(folder: Path, count: int = 4, annotated: bool = True) -> Path:
    """Sections of 50 um; the second is annotated by a label image, the fourth by polygons."""
    folder.mkdir(parents=True)
    rows = [["file", "index", "position_mm", "pixel_um", "thickness_um", "usable"]]
    for k in range(count):
        write_tiff(folder / f"s{k}.tif", picture(k), 50)
        rows.append([f"s{k}.tif", str(10 * k), str(0.5 * k), "50", "20", "1"])
    with (folder / "sections.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    if annotated:
        drawn = folder / "annotations"
        drawn.mkdir()
        (drawn / "areas.json").write_text(json.dumps(AREAS))
        write_tiff(drawn / "a.tif", labels(), 50)
        shapes = outlines(np.where(labels() == 7, 0, np.where(labels() == 3, 1, -1)))
        content = to_geojson(shapes, ["V1", "V2"], np.array([[1, 0, 0, 1], [0, 1, 0, 1.0]]))
        (drawn / "b.geojson").write_text(json.dumps(content))
        (drawn / "annotations.csv").write_text("index,labels,polygons\n10,a.tif,\n30,,b.geojson\n")
    return folder


class Served:
    """A server without engines; `owner`, `guest` and `nobody` are clients."""

    def __init__(self, stack: Path, *words: str, config: MappingServer.Config | None = None) -> None:
        hub.PATIENCE_S = 20.0  # tests wait for what engines say of themselves
        config = config or MappingServer.Config()
        options = parser(config, {}).parse_args([str(stack), *words])
        self.hub = assembled(options, config, lambda *_: None)
        app = application(self.hub, {OWNER: not self.hub.read_only, GUEST: False})
        self.app = app
        self.owner, self.guest, self.nobody = (self.client(token) for token in (OWNER, GUEST, ""))

    def client(self, token: str = "", **headers: str) -> TestClient:
        given = {"Authorization": f"Bearer {token}"} if token else {}
        return TestClient(
            self.app, base_url=BASE, headers={**given, **headers}, raise_server_exceptions=False, follow_redirects=False
        )

    def close(self) -> None:
        self.hub.jobs.close()
        self.hub.pictures.close()
        self.hub.state.journal.close()
        if self.hub.own is not None:
            shutil.rmtree(self.hub.own, ignore_errors=True)

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def square(x: float = 20, y: float = 30, size: float = 50) -> dict:
    ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def put(geometry: dict | None = None, *, id: str = "", base: int = 0, area: str = "V1", **fields: object) -> dict:
    """A change that writes an outline."""
    record = {"id": id or str(uuid.uuid4()), "base": base, "kind": "area", "area": area,
              "geometry": square() if geometry is None else geometry, **fields}  # fmt: skip
    return {"op": "put", "record": record}


def send(client: TestClient, *changes: dict, section: int = 0, **headers: str):
    return client.post(f"/api/sections/{section}/changes", json={"changes": list(changes)}, headers=headers)


def told(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    text = answer.json()["error"]
    assert "\n" not in text
    return text


def feature(geometry: dict, name: str = "V1") -> dict:
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def bring(client, content, section: int = 20):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return client.post(f"/api/import?section={section}", content=data, headers={"content-type": "application/geo+json"})
