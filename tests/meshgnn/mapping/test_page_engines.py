"""Every engine that fills in over a mesh, chosen on the page as a mapper does: a small virtual brain, reconstructed."""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshgnn.source.virtual import VirtualBrain
from tests.meshgnn.export import browser as chromium
from tests.meshgnn.mapping.page_server import ROOT, Page, Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium here; `make system-deps` installs it"),
]
DRAWN, BETWEEN = (23, 26, 31, 34, 37), 29
ENGINES = ("graph", "network", "local")
QUICK = ("engines.1.epochs=20", "engines.2.model.steps=40", "engines.2.workers=1")
CANCELLED = (("network", "networks"), ("local", "local models"))  # an engine, and the step in which it is ended
CANCEL_S = 12.0
"""The server ends a process that does not end by itself after 10 s."""


def few_drawn(sections: Path, folder: Path) -> Path:
    """The same stack with five annotated sections: fewer are left to the discriminant by the network."""
    (folder / "annotations").mkdir(parents=True)
    for path in sections.glob("section_*.tif"):
        (folder / path.name).symlink_to(path.resolve())
    shutil.copy(sections / "sections.csv", folder)
    shutil.copy(sections / "annotations" / "areas.json", folder / "annotations")
    with (sections / "annotations" / "annotations.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if int(row["index"]) in DRAWN]
    for row in rows:
        shutil.copy(sections / "annotations" / row["polygons"], folder / "annotations")
    lines = ["index,polygons", *(f"{row['index']},{row['polygons']}" for row in rows)]
    (folder / "annotations" / "annotations.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `few`, a stack, and `mesh`, its reconstruction."""
    folder = tmp_path_factory.mktemp("engines")
    VirtualBrain.Config(seed=7, preset="quick").build().write(folder / "sections")
    few_drawn(folder / "sections", folder / "few")
    words = ["reconstruct", "--set", f"source.path={folder / 'few'}", "--set", "judge=false", "--out", folder / "mesh"]
    subprocess.run([sys.executable, "-m", "meshgnn.experiment", *map(str, words)], check=True, cwd=ROOT)
    return folder


def test_engines_are_chosen_cancelled_and_judged_on_the_page(place, tmp_path):
    driven(place / "few", place / "mesh", tmp_path)


def driven(stack: Path, mesh: Path, shots: Path, cancelled: tuple[tuple[str, str], ...] = CANCELLED) -> None:
    server = Server(stack, more=("--mesh", str(mesh), *(word for one in QUICK for word in ("--set", one))))
    with server, chromium.Browser(width=1500, height=950) as browser:
        page = Page(browser, server.addresses[0])
        page.go(BETWEEN)
        page.ask("page.store.set({tab: 'filling'})")
        for engine in ENGINES:
            browser.wait(f"document.querySelector('[data-mark=fill-{engine}]')?.disabled === false", 60)
        # Cancelled in the middle, and gone on with.
        for engine, step in cancelled:
            page.ask(f"document.querySelector('[data-mark=fill-{engine}]').click()")
            browser.wait(f"document.querySelector('#panel-filling').textContent.includes('{step} ·')", 600)
            shown = page.ask("document.querySelector('#panel-filling progress').value")
            assert 0 <= shown <= 1
            (shots / f"{engine}-runs.png").write_bytes(browser.picture())
            asked = time.monotonic()
            page.ask(f"document.querySelector('[data-mark=stop-{engine}]').click()")
            browser.wait(f"document.querySelector('[data-mark=fill-{engine}]')?.disabled === false", CANCEL_S)
            assert time.monotonic() - asked < CANCEL_S
            assert "stopped" in page.ask("document.querySelector('#panel-filling').textContent")
        assert server.ask("/api/rounds") == []
        for engine in ENGINES:
            page.ask(f"document.querySelector('[data-mark=fill-{engine}]').click()")
            browser.wait(f"page.store.state.rounds.some((one) => one.engine === '{engine}')", 400)
            browser.wait(f"page.store.state.predictions.engine === '{engine}'", 60)
            browser.wait("page.store.state.predictions.areas.length > 2")
            (shots / f"{engine}-done.png").write_bytes(browser.picture())
        words = {one["engine"]: one["words"] for one in server.ask("/api/rounds")}
        assert sorted(words) == sorted(ENGINES)
        assert all(words.values())
        decided(page, server)
        (shots / "decided.png").write_bytes(browser.picture())
        # Another engine's outlines on the same section.
        page.ask(
            "(() => { const one = document.querySelector('[aria-label=\"Filled in by\"]'); one.value = 'graph';"
            "one.dispatchEvent(new Event('change')); })()"
        )
        browser.wait("page.store.state.predictions.engine === 'graph'")
        right_of_a_border(page, server)
        (shots / "border.png").write_bytes(browser.picture())
        browser.open(f"http://127.0.0.1:{server.port}/brain", ready=False)
        browser.wait("document.querySelector('canvas') && document.title.length > 0", 60)
        time.sleep(2)
        (shots / "brain.png").write_bytes(browser.picture())
        page.clean()


def decided(page: Page, server: Server) -> None:
    """One area is accepted, one corrected, one rejected."""
    first, second, third = page.ask("page.store.state.predictions.areas.slice(0, 3).map((one) => one.area)")
    for area, mark, decision in (
        (first, "accept", "accepted"), (second, "reject", "rejected"), (third, "correct", "accepted"),
    ):  # fmt: skip
        page.ask(f"document.querySelector('[data-mark=\"{mark}-{area}\"]').click()")
        page.browser.wait(
            f"page.store.state.predictions.areas.find((one) => one.area === '{area}').decision === '{decision}'"
        )
    page.browser.wait("page.store.state.tool === 'select' && page.store.state.selected.size === 1")
    page.saved()
    kept = {(one["area"], one["origin"]) for one in server.records(BETWEEN)}
    assert kept == {(first, "accepted"), (third, "accepted")}


def right_of_a_border(page: Page, server: Server) -> None:
    """Alt and a number name the area on the right of the next border."""
    page.browser.key("Escape")
    page.ask("page.store.set({section: 31})")
    page.browser.wait("document.body.dataset.shown === '31' && page.model.server.has(31)")
    left, right = page.ask("page.store.state.stack.areas.slice(0, 2).map((one) => one.name)")
    page.ask(f"page.store.set({{area: '{left}', recent: ['{left}', '{right}']}})")
    page.browser.key("2", modifiers="alt")
    page.stroke("r", [(400, 400), (430, 430), (460, 470)])
    page.saved()
    (border,) = [one for one in server.records(31) if one["kind"] == "border"]
    assert (border["area"], border["other"]) == (left, right)
