"""A small stack, the real server on it in a process of its own, and its page in a browser."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

import numpy as np

from meshgnn.source.sections import write_tiff
from tests.meshgnn.export.browser import Browser

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = (10, 11, 12, 13, 14)
SIZE = (900, 1200)


def stack(folder: Path) -> Path:
    """Five sections of 20 um pixels: an ellipse of white matter in a dark ribbon 60 px wide, on light glass."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    folder.mkdir(parents=True)
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for k, number in enumerate(NUMBERS):
        away = np.hypot((x - 600) / (500 - 10 * k), (y - 450) / (360 - 10 * k))
        image = np.where(away < 1, np.where(away < 0.85, 170, 110), 238) + rng.normal(0, 6, SIZE)
        write_tiff(folder / f"s{number}.tif", image.clip(0, 255).astype(np.uint8), 20)
        lines.append(f"s{number}.tif,{number},{k},20,20,1")
    (folder / "sections.csv").write_text("\n".join(lines) + "\n")
    return folder


class Server:
    """`python -m meshgnn.mapping` on a stack; `kill` and `start` as often as a test likes, on one port.

    Args:
        folder: of the stack.
        module: `meshgnn.mapping`, or `serve_copies` for an engine that needs no mesh.
        more: words of its command line.
    """

    def __init__(self, folder: Path, module: str = "meshgnn.mapping", more: Sequence[str] = ()) -> None:
        self.folder, self.module, self.more = folder, module, more
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.start()

    def start(self, *more: str) -> None:
        words = [sys.executable, "-m", self.module, str(self.folder), "--port", str(self.port), *self.more, *more]
        where = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=where)
        assert self._process.stdout is not None
        told = ""
        self.addresses: list[str] = []
        while len(self.addresses) < 2:
            line = self._process.stdout.readline()
            told += line
            assert line, f"the server ended: {told}"
            self.addresses += re.findall(r"http://\S+", line)
        self.token = self.addresses[0].split("token=")[1]
        end = time.monotonic() + 30
        while True:
            try:
                self.ask("/api/stack")
                return
            except OSError:
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.05)

    def ask(self, path: str, body: Any = None, mapper: str = "anna") -> Any:
        """JSON of an answer; with a body it is a POST."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", "X-Mapper": mapper}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", data, headers), timeout=20) as answer:
            return json.load(answer)

    def records(self, section: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(f"/api/sections/{section}/records")["records"]
        return found

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Page:
    """The mapping page in a browser, in pixels of the section's image."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self.open(address)

    def open(self, address: str) -> None:
        self.browser.open(address)
        self.browser.wait("document.body.dataset.shown")

    def go(self, section: int) -> None:
        self.ask(f"page.store.set({{section: {section}}})")
        self.browser.wait(f"document.body.dataset.shown === '{section}' && page.model.server.has({section})")

    def ask(self, expression: str) -> Any:
        return self.browser.ask(expression)

    def at(self, points: Sequence[Sequence[float]]) -> list[list[float]]:
        """Points of the image in the window."""
        found: list[list[float]] = self.ask(
            "(({left, top}) => " + json.dumps([list(p) for p in points]) + ".map((p) => page.stage.view.toScreen(p))"
            ".map(([x, y]) => [x + left, y + top]))(document.querySelector('#drawing').getBoundingClientRect())"
        )
        return found

    def click(self, x: float, y: float) -> None:
        self.browser.click(*self.at([[x, y]])[0])

    def stroke(self, tool: str, points: Sequence[Sequence[float]]) -> None:
        self.browser.key(tool)
        self.browser.drag(self.at(points))

    def polygon(self, points: Sequence[Sequence[float]]) -> None:
        self.browser.key("p")
        for x, y in points:
            self.click(x, y)
        self.browser.key("Enter")

    def saved(self, seconds: float = 20) -> None:
        self.browser.wait("page.model.queue.entries.length === 0", seconds)

    def kinds(self) -> list[str]:
        """What is shown of the section."""
        found: list[str] = self.ask("page.store.state.records.map((one) => `${one.kind} ${one.area}`)")
        return found

    def clean(self, allowed: Sequence[str] = ()) -> None:
        """No complaint on the console, no request to another host."""
        assert [one for one in self.browser.problems if not any(word in one for word in allowed)] == []
        assert [one for one in self.browser.requests if not one.startswith("http://127.0.0.1:")] == []


def ring(x: float, y: float, radius: float, count: int = 40) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, count)
    return [(float(x + radius * np.cos(a)), float(y + radius * np.sin(a))) for a in angles]
