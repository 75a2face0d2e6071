"""The mapping page in a browser against what it promises, on sections of 8,000 x 8,000 px as they come (no pyramid).

mapping_first_view     s from asking for the page until the whole section stands sharp on the screen, against 1 s
mapping_next_section   s from the key to the next section, whole and sharp (median of all), against 0.3 s
mapping_next_closer    the same where the view shows a quarter of the section's side, against 0.3 s
mapping_far_section    the same to a section of which nothing was fetched, not even its thumbnail: the longest of 5,
                       each with a server just started and a browser that has seen nothing of it, against 0.3 s
mapping_far_closer     the same where the view shows a quarter of the section's side, against 0.3 s
mapping_pan_frame      the longest time between two frames while the picture is moved over tiles that are not there
                       yet (eight drags of 700 px, near full resolution), against 0.1 s
mapping_stroke         s from a freehand stroke's end until the server says that it is on disk, against 0.3 s

The server has made its pyramids before (once per stack). python benchmarks/mapping_page.py [--quick] [--json FILE];
needs Chromium, which draws by software where there is no graphics card.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, row, show  # noqa: E402
from meshgnn.source.sections import write_tiff  # noqa: E402
from tests.meshgnn.export import browser as chromium  # noqa: E402
from tests.meshgnn.mapping.page_server import Page, Server, ring  # noqa: E402

SIZE_PX = 8000
PIXEL_UM = 10
BETWEEN = 20
"""Further sections, so that the last one's thumbnail is out of sight from the first."""


def stack(folder: Path, count: int, size: int, between: int = 0) -> Path:
    """Sections with grain where tissue is, as hard to compress as real ones; after them `between` more, which are the
    last one over again."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    away = np.hypot(x / 0.9, y / 0.8)
    folder.mkdir(parents=True)
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for k in range(count):
        grain = rng.normal(150, 28, (size, size)).astype(np.float32)
        image = np.where(away < 1 - 0.02 * k, grain, 243).clip(0, 255).astype(np.uint8)
        write_tiff(folder / f"{k}.tif", image, PIXEL_UM)
        lines.append(f"{k}.tif,{k},{k},{PIXEL_UM},20,1")
    for k in range(count, count + between):
        os.link(folder / f"{count - 1}.tif", folder / f"{k}.tif")
        lines.append(f"{k}.tif,{k},{k},{PIXEL_UM},20,1")
    (folder / "sections.csv").write_text("\n".join(lines) + "\n")
    return folder


def ready(server: Server) -> None:
    while not all(section["ready"] for section in server.ask("/api/stack")["sections"]):
        time.sleep(0.3)


def steps(page: Page, count: int, key: str) -> float:
    """Median seconds of a step to the next section; between steps a mapper looks for a second and a half."""
    times = []
    for _ in range(count):
        time.sleep(1.5)
        before = page.ask("page.stage.times.length")
        page.browser.key(key)
        page.browser.wait(f"page.stage.times.length > {before}")
        times.append(page.ask("page.stage.times.at(-1).ms") / 1000)
    return statistics.median(times)


def measured(server: Server, count: int) -> list[dict[str, object]]:
    with chromium.Browser() as browser:
        page = Page(browser, server.addresses[0])  # a first look: the cookie; the browser's own start is not ours
        page.go(0)
        first = []
        for _ in range(3):
            browser.open("about:blank", ready=False)
            page.open(f"http://127.0.0.1:{server.port}/")
            first.append(page.ask("page.stage.times[0].at") / 1000)
        rows = [row("mapping_first_view", statistics.median(first), 1, "limit")]
        rows.append(row("mapping_next_section", steps(page, count - 1, "ArrowRight"), 0.3, "limit"))
        page.ask("page.stage.view.zoom(4)")
        rows.append(row("mapping_next_closer", steps(page, count - 1, "ArrowLeft"), 0.3, "limit"))
        rows.append(row("mapping_pan_frame", panned(page), 0.1, "limit"))
        page.go(0)
        page.browser.key("0")
        times, size = [], page.ask("page.stage.section.width")
        for k in range(5):
            page.stroke("f", ring(size * (0.25 + 0.09 * k), size / 2, size * 0.04))
            assert page.ask("page.store.state.records.length") == k + 1
            start = time.perf_counter()
            page.saved()
            times.append(time.perf_counter() - start)
        rows.append(row("mapping_stroke", statistics.median(times), 0.3, "limit"))
        page.clean()
    return rows


def panned(page: Page) -> float:
    """Longest seconds between two frames while the picture is dragged about."""
    page.browser.key("0")
    page.ask("page.stage.view.zoom(8)")
    time.sleep(1.5)
    page.ask(
        "window.frames_ms = []; window.watching = true; { let last = performance.now(); const one = (now) => "
        "{ window.frames_ms.push(now - last); last = now; if (window.watching) requestAnimationFrame(one); }; "
        "requestAnimationFrame(one); }"
    )
    page.browser.key(" ", kinds=("keyDown",))
    for k in range(8):
        x, y = (1, 0, -1, 0)[k % 4], (0, 1, 0, -1)[k % 4]
        page.browser.drag([(500 + x * (350 - 14 * j), 400 + 0.7 * y * (350 - 14 * j)) for j in range(51)])
    page.browser.key(" ", kinds=("keyUp",))
    page.ask("window.watching = false")
    times = page.ask("window.frames_ms.slice(1)")
    print(f"panning: {len(times)} frames, median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms")
    return max(times) / 1000


def far(server: Server, section: int, closer: float) -> list[float]:
    """Seconds until a section of which nothing is known stands sharp, over and over."""
    times = []
    for _ in range(5):
        server.kill()
        server.start()
        with chromium.Browser() as browser:
            page = Page(browser, server.addresses[0])
            page.go(0)
            page.ask(f"page.stage.view.zoom({closer})")
            time.sleep(1.5)
            assert not any(f"/sections/{section}/" in one for one in browser.requests)
            page.go(section)
            times.append(page.ask("page.stage.times.at(-1).ms") / 1000)
            page.clean()
    print(f"far, {closer:g} times closer: median {statistics.median(times):.3f} s, longest {max(times):.3f} s")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sections of 3,000 px")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if chromium.find() is None:
        sys.exit("no Chromium here: nothing can be measured")
    count = 6
    with tempfile.TemporaryDirectory() as name:
        folder = stack(Path(name) / "stack", count, 3000 if options.quick else SIZE_PX, BETWEEN)
        with Server(folder) as server:
            ready(server)
            rows = measured(server, count)
            last = count + BETWEEN - 1
            rows.append(row("mapping_far_section", max(far(server, last, 1)), 0.3, "limit"))
            rows.append(row("mapping_far_closer", max(far(server, last, 4)), 0.3, "limit"))
    for found in rows:
        show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
