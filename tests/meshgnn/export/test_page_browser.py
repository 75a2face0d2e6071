"""The page in a real browser: no request, no complaint, and it does what it says."""

import io

import numpy as np
import pytest
from PIL import Image

from meshgnn.export.page import write_page
from tests.meshgnn.export import browser as chromium
from tests.meshgnn.export import page_samples as samples

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium here; `make system-deps` installs it")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    sections = samples.stack(folder / "stack")
    area_map = samples.located(samples.area_map(names=samples.HOSTILE), sections)
    path = folder / "page.html"
    write_page(path, area_map, stack=sections, profiles=samples.profiles(area_map), annotated=(11, 14))
    return area_map, path


@pytest.fixture(scope="module")
def page(made):
    with chromium.Browser() as browser:
        browser.open(made[1])
        browser.wait("document.body.dataset.picture")
        yield browser


@pytest.fixture(autouse=True)
def quiet(request):
    yield
    if "page" in request.fixturenames:
        browser = request.getfixturevalue("page")
        assert browser.problems == []
        assert [url for url in browser.requests if not url.startswith("file:")] == []
        assert len(browser.requests) == 1  # the page itself


def middle(page, selector):
    box = page.ask(
        f"(({{x,y,width,height}})=>[x,y,width,height])(document.querySelector('{selector}').getBoundingClientRect())"
    )
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def on_screen(page, node):
    return page.ask(f"(({{x,y}})=>[x,y])(page.brain.project({node}))")


def still(page):
    page.wait("page.brain.tasks.length === 0 && !page.brain.waiting", 60)


def test_the_picture_is_not_blank(page):
    still(page)
    picture = np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB")).astype(int)
    x, y = middle(page, "#brain")
    brain = picture[int(y) - 150 : int(y) + 150, int(x) - 150 : int(x) + 150]
    assert brain.std() > 10
    x, y = middle(page, "#section-canvas")
    assert picture[int(y) - 60 : int(y) + 60, int(x) - 60 : int(x) + 60].std() > 10


def test_a_click_on_the_brain_selects_that_node(page, made):
    still(page)
    x, y = middle(page, "#brain")
    page.ask("page.store.set({node: -1})")
    page.click(x - 70, y)
    page.wait("document.body.dataset.node !== '-1'")
    node = int(page.ask("document.body.dataset.node"))
    assert np.hypot(*np.subtract(on_screen(page, node), (x - 70, y))) < 25
    area_map = made[0]
    shown = page.ask("document.querySelector('#node h2').textContent")
    k = area_map.predicted[node]
    assert shown == (samples.HOSTILE[k] if k >= 0 else "Outside cortex")
    assert page.ask("document.body.dataset.broken") is None


def test_the_panel_tells_what_the_records_hold(page, made):
    area_map = made[0]
    graph = area_map.graph
    node = int(np.flatnonzero(graph.locations.observed & graph.cortex & (graph.labels >= 0))[7])
    page.ask(f"page.store.set({{node: {node}}})")
    page.wait(f"document.body.dataset.patch === '{node}'")
    best = np.argsort(-area_map.probabilities[node])[:3]
    names = page.ask("[...document.querySelectorAll('#node .bars .name')].map((e) => e.textContent)")
    assert names == [samples.HOSTILE[k] for k in best]
    values = page.ask("[...document.querySelectorAll('#node .bars .value')].map((e) => Number(e.textContent))")
    np.testing.assert_allclose(values, area_map.probabilities[node][best], atol=0.01)
    facts = page.ask(
        "Object.fromEntries([...document.querySelectorAll('#node dt')]"
        ".map((e) => [e.textContent, e.nextSibling.textContent]))"
    )
    assert facts["Annotated"].startswith(samples.HOSTILE[graph.labels[node]])
    assert float(facts["To its section"].split()[0]) == pytest.approx(graph.locations.residual_mm[node], abs=0.01)
    assert facts["Obliqueness"] == f"{graph.locations.obliqueness_deg[node]:.0f}°"
    assert page.ask("document.body.dataset.section") == str(graph.locations.section[node])
    assert page.ask("document.querySelectorAll('#node path.own, #node path.mean').length") == 2


def test_a_click_on_the_section_selects_its_node(page, made):
    page.ask("page.store.set({node: -1, section: 3})")
    page.wait("document.body.dataset.picture === '13'")
    x, y = middle(page, "#section-canvas")
    page.click(x + 110, y)
    page.click(x + 60, y)
    places = made[0].graph.locations
    for dx in range(20, 250, 12):
        page.click(x + dx, y)
        if page.ask("document.body.dataset.node") != "-1":
            break
    node = int(page.ask("document.body.dataset.node"))
    assert places.section[node] == 13


def test_slider_buttons_and_keys_move_through_the_sections(page):
    page.ask("page.store.set({section: 2})")
    page.ask("(s => { s.value = 4; s.dispatchEvent(new Event('input')) })(document.getElementById('section-slider'))")
    page.wait("document.body.dataset.section === '14'")
    assert "annotated" in page.ask("document.getElementById('section-title').textContent")
    page.click(*middle(page, "#section-on"))
    page.wait("document.body.dataset.section === '15'")
    page.key("[")
    page.wait("document.body.dataset.section === '14' && document.body.dataset.picture === '14'")


def test_every_colouring_and_surface(page):
    modes = page.ask("[...document.querySelectorAll('#mode option')].map((o) => o.value)")
    assert {"predicted", "label", "error", "uncertainty", "confidence", "obliqueness"} <= set(modes)
    assert len(modes) >= 12
    seen = set()
    for mode in modes:
        page.ask(
            f"(m => {{ m.value = '{mode}'; m.dispatchEvent(new Event('change')) }})(document.getElementById('mode'))"
        )
        assert page.ask("document.body.dataset.mode") == mode
        seen.add(page.ask("document.getElementById('legend').textContent"))
    assert len(seen) == len(modes)
    for name in ("white", "inflated", "pial"):
        page.ask(f"page.store.set({{surface: '{name}'}})")
        still(page)
        assert page.ask("document.body.dataset.surface") == name
    for key in "1234560":
        page.key(key)
    still(page)


def test_the_worklist_goes_to_its_region(page):
    page.ask("document.getElementById('tab-worklist').click()")
    page.ask("document.querySelector('#worklist button').click()")
    still(page)
    region = page.ask("page.data.meta.regions[0]")
    assert page.ask("document.body.dataset.node") == str(region["centre"])
    x, y = on_screen(page, region["centre"])
    box = page.ask(
        "(({x,y,width,height})=>[x,y,width,height])(document.getElementById('brain').getBoundingClientRect())"
    )
    assert box[0] < x < box[0] + box[2]
    assert box[1] < y < box[1] + box[3]


def test_nothing_is_drawn_while_nothing_changes(page):
    page.ask("page.store.set({node: -1, region: -1, hover: -1})")
    page.mouse("Moved", 5, 5)
    still(page)
    page.ask("new Promise((done) => setTimeout(done, 600))")
    drawn = "page.brain.renderer.info.render.frame"
    before = page.ask(drawn)
    page.ask("new Promise((done) => setTimeout(done, 500))")
    assert page.ask(drawn) == before
    assert page.ask("page.brain.renderer.info.render.calls") <= 6


def test_without_webgl_the_rest_still_works(made):
    with chromium.Browser(flags=("--disable-3d-apis",)) as browser:
        browser.open(made[1])
        assert "cannot draw" in browser.ask("document.getElementById('stage').textContent")
        browser.ask("page.store.set({node: 40})")
        browser.wait("document.body.dataset.node === '40'")
        assert browser.problems == []


def test_a_brain_without_sections_has_no_empty_panels(tmp_path):
    write_page(tmp_path / "bare.html", samples.area_map())
    with chromium.Browser() as browser:
        browser.open(tmp_path / "bare.html")
        assert browser.ask("getComputedStyle(document.getElementById('sections')).display") == "none"
        browser.click(*middle(browser, "#brain"))
        browser.ask("page.store.set({node: 9})")
        assert browser.ask("document.querySelectorAll('#node canvas, #node figure').length") == 0
        assert browser.problems == []
