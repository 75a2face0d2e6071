"""What the panels of the mapping page say and remember, in a real browser."""

import json
import time

import numpy as np
import pytest

from meshgnn.source.sections import write_tiff
from tests.meshgnn.export import browser as chromium
from tests.meshgnn.mapping.page_server import Page, Server, stack

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium here; `make system-deps` installs it")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(stack(tmp_path_factory.mktemp("panels") / "stack"), "tests.meshgnn.mapping.serve_copies") as running:
        yield running


@pytest.fixture(scope="module")
def page(server):
    with chromium.Browser() as browser:
        found = Page(browser, server.addresses[0])
        yield found
        found.clean()


def text(page, panel):
    return page.ask(f"document.querySelector('#panel-{panel}').textContent")


def test_what_was_drawn_while_an_outline_snaps_stays_chosen(page):
    page.go(10)
    # The server takes its time to find the tissue's edge.
    page.ask(
        "window.plain = window.fetch; window.fetch = async (...asked) => { if (String(asked[0]).includes('/snap')) "
        "await new Promise((go) => (window.snapping = go)); return window.plain(...asked); }"
    )
    page.browser.key("s")
    page.stroke("f", [(300, 300), (400, 300), (400, 400), (300, 400)])
    page.browser.wait("Boolean(window.snapping)")
    page.stroke("r", [(80, 430), (140, 440), (210, 450)])
    page.stroke("r", [(80, 520), (140, 510), (210, 500)])
    page.ask("window.snapping()")
    page.browser.wait("page.store.state.records.some((one) => one.kind === 'area')")
    page.saved()
    chosen = page.ask("[...page.store.state.selected].map((id) => page.model.find(10, id).kind)")
    assert chosen == ["border", "border"]
    page.ask("window.fetch = window.plain")
    page.browser.key("s")


def test_without_a_mesh_no_map_in_3d_is_offered(page):
    page.go(12)
    page.ask("page.store.set({tab: 'filling'})")
    page.browser.wait("document.querySelector('[data-mark=fill-copies]')?.disabled === false")
    page.ask("document.querySelector('[data-mark=fill-copies]').click()")
    page.browser.wait("page.store.state.rounds.length > 0", 60)
    assert "What the rounds say" in text(page, "filling")
    assert "3D" not in text(page, "filling")


def test_what_is_ticked_stays_ticked_when_news_come(page):
    page.ask("page.store.set({tab: 'files'})")
    ticks = "[...document.querySelectorAll('#panel-files .tick input[type=checkbox]')]"
    page.browser.wait(f"{ticks}.length > 3")
    page.ask(f"{ticks}.find((one) => one.value === 'labels').click()")
    page.ask("document.activeElement.blur()")
    page.go(13)
    page.ask("page.store.set({stack: {...page.store.state.stack}})")
    page.browser.wait("document.querySelector('#panel-files').textContent.includes('onto section 13')")
    ticked = page.ask(f"{ticks}.filter((one) => one.checked).map((one) => one.value)")
    assert ticked == ["geojson", "annotations"]
    offered = page.ask(f"{ticks}.map((one) => one.value)")
    assert {"gifti", "tables", "glb", "ply", "graphml", "gt", "pyg", "neuroglancer", "html"} <= set(offered)


def test_neighbours_fetched_ahead_do_not_push_one_another_out_for_ever(tmp_path):
    """Sections without levels of their own: all tiles of those in sight are more than the page holds."""
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    image = np.full((1500, 2000), 240, np.uint8)
    image[300:1200, 300:1700] = 120
    for k in range(14):
        write_tiff(tmp_path / f"{k}.tif", image, 20)
        lines.append(f"{k}.tif,{k},{k},20,20,1")
    (tmp_path / "sections.csv").write_text("\n".join(lines) + "\n")
    with Server(tmp_path) as server, chromium.Browser() as browser:
        page = Page(browser, server.addresses[0])
        page.go(7)
        tiles = "window.performance.getEntriesByType('resource').filter((one) => one.name.includes('/tiles/')).length"
        page.ask("performance.setResourceTimingBufferSize(20000)")
        before, end = -1, time.monotonic() + 60
        while before != (now := page.ask(tiles)):  # until nothing more is asked for
            assert time.monotonic() < end, f"{now} tiles asked for, and no end"
            before = now
            time.sleep(2)
        shown = page.ask("page.stage.tiles.within(page.stage.section, 0, [0, 0, 1999, 1499]).length")
        assert 3 * shown <= now <= 500  # this section and its neighbours at least
        page.go(8)
        time.sleep(1)
        assert page.ask("page.stage.tiles.held.size") <= 500


def test_nobody_is_said_to_have_drawn_before_it_is_known(page, server):
    page.ask("page.store.set({tab: 'drawn'})")
    page.open(server.addresses[0])
    page.ask(
        "window.plain = window.fetch; window.fetch = async (...asked) => { if (String(asked[0]).includes('agreement')) "
        "await new Promise((go) => (window.compare = go)); return window.plain(...asked); }"
    )
    page.ask("page.store.set({tab: 'files'})")
    page.browser.wait("Boolean(window.compare)")
    assert "No two mappers" not in text(page, "files")
    page.ask("window.compare(), (window.fetch = window.plain), null")
    page.browser.wait("document.querySelector('#panel-files').textContent.includes('No two mappers')")


def test_long_paths_stay_within_their_panel(page):
    page.ask("page.store.set({tab: 'filling'})")
    page.ask(
        "page.store.set({stack: {...page.store.state.stack, engines: [{name: 'x', title: 'X', ready: false, "
        "why_not: '/a/' + 'x'.repeat(200)}]}})"
    )
    width = "(one) => one.getBoundingClientRect().right"
    assert page.ask(
        f"Math.max(...[...document.querySelectorAll('#panel-filling *')].map({width})) <= ({width})(document.body)"
    )


def test_the_worklist_knows_what_was_drawn_since(page):
    page.ask("page.store.set({tab: 'drawn'})")
    page.go(14)
    page.stroke("f", [(300, 300), (400, 300), (400, 400), (300, 400)])
    page.saved()
    page.ask("page.store.set({tab: 'next'})")
    page.browser.wait("document.querySelector('#panel-next').textContent.includes('from the nearest drawn section')")
    page.browser.wait("!document.querySelector('[data-mark=work-14]')")


def test_a_worklist_that_cannot_be_made_says_why_and_nothing_else(page):
    page.ask(
        "window.fetch = async (...asked) => String(asked[0]).includes('/api/worklist') ? new Response("
        + json.dumps(json.dumps({"error": "no section is usable"}))
        + ", {status: 400, headers: {'content-type': 'application/json'}}) : window.plain(...asked)"
    )
    page.ask("page.store.set({tab: 'next'})")
    page.ask("page.panels.next.load()")
    page.browser.wait("document.querySelector('#panel-next').textContent.includes('no section is usable')")
    assert "Nothing is left" not in text(page, "next")
    assert "It fills after" not in text(page, "next")
    page.ask("window.fetch = window.plain")
