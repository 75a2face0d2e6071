"""A headless Chromium for tests, spoken to over a pipe: no driver, no port, no further package."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


def find() -> str | None:
    """Path of a Chromium on this machine, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def _held(words: str) -> int:
    return sum({"alt": 1, "ctrl": 2, "shift": 8}[word] for word in words.split())


class Browser:
    """One page in one browser; keeps what the page logs, throws and asks for.

    Args:
        width, height: of the window in CSS pixels.
        flags: further command line flags.
        profile: a folder that is kept after the browser has ended; a new one that is not, if None.
    """

    def __init__(
        self, *, width: int = 1280, height: int = 800, flags: tuple[str, ...] = (), profile: Path | None = None
    ) -> None:
        path = find()
        assert path is not None
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._own = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder = str(profile or self._own.name)
        to_browser, from_us = os.pipe()
        to_us, from_browser = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; park ours where they cannot be overwritten.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (to_browser, from_browser)]
        sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
        self._process = subprocess.Popen(
            [path, *FLAGS, *sandbox, *flags, f"--window-size={width},{height}", f"--user-data-dir={folder}",
             "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(3, 4, *theirs),
            preexec_fn=lambda: (os.dup2(theirs[0], 3), os.dup2(theirs[1], 4)),
        )  # fmt: skip
        for fd in (to_browser, from_browser, *theirs):
            os.close(fd)
        self._out, self._in = from_us, to_us
        self._rest = b""
        self._number = itertools.count(1)
        self._session: str | None = None
        target = next(t for t in self._send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self._send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._send(f"{domain}.enable")
        self.size(width, height)

    def _send(self, method: str, seconds: float = 60, **params: Any) -> Any:
        number = next(self._number)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            answer = self._next(end)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            block = os.read(self._in, 1 << 20)
            if not block:
                raise RuntimeError("the browser has stopped")
            self._rest += block
        text, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            told = " ".join(str(item.get("value", item.get("description", ""))) for item in params["args"])
            self.problems.append(f"{params['type']}: {told}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            if "GPU stall due to ReadPixels" not in params["entry"]["text"]:  # our own screenshots
                self.problems.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "blob:", "about:")):
                self.requests.append(url)

    def open(self, page: Path | str, seconds: float = 60, *, ready: bool = True) -> None:
        """Open a page from disk, or an address, and wait until it says that it is ready."""
        self._send("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        if ready:
            self.wait("document.body && document.body.dataset.ready === 'yes'", seconds)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        result = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", "error"))
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.ask(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {expression}; problems so far: {self.problems}")
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """kind: Pressed, Released or Moved."""
        self._send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        self.mouse("Moved", x, y)
        for kind in ("Pressed", "Released"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def drag(self, points: Sequence[Sequence[float]], *, modifiers: str = "") -> None:
        """A stroke with the left button through points of the window."""
        held = {"button": "left", "buttons": 1, "modifiers": _held(modifiers)}
        self.mouse("Moved", *points[0])
        self.mouse("Pressed", *points[0], clickCount=1, **held)
        for x, y in points[1:]:
            self.mouse("Moved", x, y, **held)
        self.mouse("Released", *points[-1], clickCount=1, button="left", modifiers=_held(modifiers))

    def key(self, name: str, *, modifiers: str = "", kinds: Sequence[str] = ("keyDown", "keyUp")) -> None:
        """modifiers: words of alt, ctrl, shift; kinds: one of the two to hold a key, or to let it go."""
        more = {"code": f"Digit{name}"} if name.isdigit() else {}
        for kind in kinds:
            self._send("Input.dispatchKeyEvent", type=kind, key=name, modifiers=_held(modifiers), **more)

    def type(self, text: str) -> None:
        """Into whatever has the focus."""
        self._send("Input.insertText", text=text)

    def size(self, width: int, height: int) -> None:
        """Of the window, in CSS pixels."""
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def kill(self) -> None:
        """End the browser as a crash does (SIGKILL); only `close` may follow."""
        self._process.kill()
        self._process.wait()

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        try:
            self._session = None
            self._send("Browser.close", seconds=5)
        except (RuntimeError, TimeoutError, OSError):
            self._process.kill()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._own.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
