"""The mapping server: first view and next section of large images, pyramids, and whether a kill loses strokes.

    python benchmarks/mapping.py [--quick] [--json FILE] [--huge]

- `first_view`, `next_section`: 8,000 x 8,000 px as tiles of zstd without a pyramid of their own, over HTTP on this
  machine: the stack, records, and the tiles of one view of 1,600 x 1,000 screen pixels, asked six at a time as browsers
  do. The pyramid was made before. The browser's own part is in benchmarks/mapping_page.py.
- `tile`: one tile while four others are asked for at once, full resolution; the longest of 100.
- `pyramid_mb`, `pyramid_s`: peak memory and time of the pyramid of 80,000 x 100,000 px (--huge; otherwise 20,000 x
  25,000), which are computed as they are read: nothing of that size is kept on disk. `ratio` is the limit over ours.
- `killed_strokes`: strokes that the server had confirmed and that were gone after kill -9, of 20 kills (2 with
  --quick) while a client draws as fast as it can. 0 or a fault.
"""

import argparse
import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks._pairs import keep, row, show  # noqa: E402
from meshgnn.mapping.pictures.pyramid import window_of, write_pyramid  # noqa: E402
from meshgnn.source.section_image import SectionImage, level_of  # noqa: E402
from meshgnn.source.sections import write_tiff  # noqa: E402

VIEW = (1600, 1000)


class Computed(SectionImage):
    """An image of any size that is computed where it is read: waves and noise, tiles of 512 px."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(Path("computed"))
        self.levels = (level_of((rows, columns), (rows, columns), (512, 512)),)
        self.dtype = np.dtype(np.uint8)
        self._noise = np.random.default_rng(0).integers(0, 40, (512, 512), np.uint8)

    def blocks(self, level, top, bottom, left, right):
        rows, columns = self.shape
        for y in range(top // 512 * 512, bottom, 512):
            for x in range(left // 512 * 512, right, 512):
                base = 128 + 60 * np.sin(x / 9000) * np.cos(y / 7000)
                yield y, x, (self._noise + np.uint8(base))[: rows - y, : columns - x]

    def close(self) -> None:
        pass


def _pyramid(rows: int, columns: int, folder: str, answer) -> None:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = Computed(rows, columns)
    write_pyramid(Path(folder) / "p.tif", image, window_of(image), 1, {})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = (Path(folder) / "p.tif").stat().st_size
    answer.send((time.perf_counter() - start, peak / 1024, before / 1024, size / 1e6))


def pyramid(rows: int, columns: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_pyramid, args=(rows, columns, folder, theirs))
        process.start()
        seconds, peak, before, size = ours.recv()
        process.join()
    name = f"{rows} x {columns} px"
    print(f"{name}: {seconds:.1f} s, peak {peak:.0f} MB ({before:.0f} MB of it before), {size:.0f} MB on disk")
    return [
        {
            "name": "pyramid_mb",
            "ours": round(peak),
            "peer": 2048,
            "peer_name": "limit",
            "unit": "MB",
            "ratio": round(2048 / peak, 2),
            "size": name,
        },
        {"name": "pyramid_s", "s": round(seconds, 1), "disk_mb": round(size), "size": name},
    ]


def write_stack(folder: Path, size: int, count: int) -> None:
    folder.mkdir(parents=True)
    rows = [["file", "index", "position_mm", "pixel_um", "thickness_um", "usable"]]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    for k in range(count):
        waves = 150 + 60 * np.sin(x / 300 + k) * np.cos(y / 200)
        noise = np.random.default_rng(k).normal(0, 8, (size, size)).astype(np.float32)
        write_tiff(folder / f"s{k}.tif", np.clip(waves + noise, 0, 255).astype(np.uint8), 10)
        rows.append([f"s{k}.tif", str(k), str(k * 0.1), "10", "20", "1"])
    with (folder / "sections.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)


class Server:
    """`python -m meshgnn.mapping` on a stack, and a client for it."""

    def __init__(self, stack: Path) -> None:
        words = [sys.executable, "-m", "meshgnn.mapping", str(stack), "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        found = re.search(r"(http://\S+)/\?token=(\S+)", line)
        if found is None:
            raise SystemExit(f"the server did not start: {line}")
        self.client = httpx.Client(
            base_url=found[1], headers={"Authorization": f"Bearer {found[2]}"}, timeout=120,
            limits=httpx.Limits(max_connections=6),
        )  # fmt: skip

    def end(self, how: int = signal.SIGINT) -> None:
        self.client.close()
        os.kill(self.process.pid, how)
        self.process.wait()


def view(server: Server, stack: dict, section: dict, pool: ThreadPoolExecutor) -> int:
    """Records and tiles of a view of a whole section; returns the number of tiles."""
    levels = section["levels"]
    scale = max(section["width"] / VIEW[0], section["height"] / VIEW[1])
    level = max(k for k, one in enumerate(levels) if k == 0 or one["factor"] <= 1.5 * scale)
    asked = [f"/api/sections/{section['index']}/records"]
    for row_ in range(-(-levels[level]["height"] // 256)):
        for column in range(-(-levels[level]["width"] // 256)):
            asked.append(f"/api/sections/{section['index']}/tiles/{level}/{row_}/{column}.jpg")
    for answer in pool.map(server.client.get, asked):
        assert answer.status_code == 200, answer.text
    return len(asked) - 1


def views(size: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        write_stack(Path(folder) / "stack", size, 4)
        server = Server(Path(folder) / "stack")
        while not all(one["ready"] for one in server.client.get("/api/stack").json()["sections"]):
            time.sleep(0.5)
        server.end()
        server = Server(Path(folder) / "stack")  # nothing is in its memory now
        with ThreadPoolExecutor(6) as pool:
            start = time.perf_counter()
            assert server.client.get("/").status_code == 200
            stack = server.client.get("/api/stack").json()
            tiles = view(server, stack, stack["sections"][0], pool)
            first = time.perf_counter() - start
            others = []
            for section in stack["sections"][1:]:
                start = time.perf_counter()
                view(server, stack, section, pool)
                others.append(time.perf_counter() - start)
            waits, rows = [], -(-size // 256)
            for k in range(100):
                around = [
                    pool.submit(server.client.get, f"/api/sections/1/tiles/0/{k % rows}/{j}.jpg") for j in range(4)
                ]
                start = time.perf_counter()
                assert server.client.get(f"/api/sections/2/tiles/0/{k % rows}/{k % (rows - 1)}.jpg").status_code == 200
                waits.append(time.perf_counter() - start)
                for one in around:
                    one.result()
        server.end()
    name = f"{size} x {size} px, {tiles} tiles"
    return [
        {**row("first_view", first, 1.0, "limit"), "size": name},
        {**row("next_section", max(others), 0.3, "limit"), "size": name},
        {
            "name": "tile",
            "s_longest": round(max(waits), 4),
            "s_median": round(float(np.median(waits)), 4),
            "size": name,
        },
    ]


def killed(times: int) -> list[dict]:
    said, lost, longest = {}, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        write_stack(Path(folder) / "stack", 600, 2)
        rng = np.random.default_rng(0)
        for number in range(times + 1):
            server = Server(Path(folder) / "stack")
            there = server.client.get("/api/sections/0/records").json()["records"]
            kept = {one["id"]: one["geometry"] for one in there}
            lost += sum(kept.get(id) != geometry for id, geometry in said.items())
            longest = max(longest, len(kept) - len(said))  # written, not confirmed: at most the last stroke
            said = dict(kept)
            if number == times:
                server.end()
                break
            timer = ThreadPoolExecutor(1).submit(_kill, server.process.pid, 0.3 + rng.random())
            area = server.client.get("/api/stack").json()["areas"][0]["name"]
            try:
                while True:
                    points = np.round(np.cumsum(rng.normal(0, 1, (200, 2)), 0) + 300, 3).clip(0, 600).tolist()
                    id = str(uuid.uuid4())
                    record = {"id": id, "base": 0, "kind": "border", "area": area,
                              "geometry": {"type": "LineString", "coordinates": points}}  # fmt: skip
                    answer = server.client.post(
                        "/api/sections/0/changes", json={"changes": [{"op": "put", "record": record}]}
                    )
                    said[id] = answer.json()["records"][0]["geometry"]
            except (httpx.HTTPError, json.JSONDecodeError, KeyError):
                pass
            timer.result()
            server.process.wait()
            server.client.close()
    print(f"{times} kills, {len(said)} strokes, {lost} lost, at most {longest} there that nobody was told of")
    return [{"name": "killed_strokes", "lost": lost, "unsaid": longest, "kills": times, "strokes": len(said)}]


def _kill(process: int, after: float) -> None:
    time.sleep(after)
    os.kill(process, signal.SIGKILL)


def main() -> None:
    make = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    make.add_argument("--quick", action="store_true")
    make.add_argument("--json", type=Path)
    make.add_argument("--huge", action="store_true", help="a pyramid of 80,000 x 100,000 px: minutes")
    make.add_argument("--only", choices=("views", "pyramid", "kills"))
    options = make.parse_args()
    rows: list[dict] = []
    if options.only in (None, "views"):
        rows += views(2000 if options.quick else 8000)
    if options.only in (None, "pyramid"):
        rows += pyramid(*((80_000, 100_000) if options.huge else (6000, 8000) if options.quick else (20_000, 25_000)))
    if options.only in (None, "kills"):
        rows += killed(2 if options.quick else 20)
    for one in rows:
        show(one)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
