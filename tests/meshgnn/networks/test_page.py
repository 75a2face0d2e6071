"""The page of a network: what the file holds, and what it does in a real browser."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from meshgnn.errors import InputError
from meshgnn.networks import page as pages
from meshgnn.networks.page import network_page_html, write_network_page
from meshgnn.networks.record import Network
from meshgnn.results import EffectRow
from tests.meshgnn.export import browser as chromium
from tests.meshgnn.networks.samples import HOSTILE, models, planted

BROWSER = pytest.mark.skipif(chromium.find() is None, reason="no Chromium here; `make system-deps` installs it")
EFFECT = EffectRow(
    domain=HOSTILE[0], score_name="r2", input="t1", estimate=0.1, low=0.0, high=0.2, p=0.01, q=0.02, between=0.1,
    within=0.1, targets=3, models=30, note="",
)  # fmt: skip


def sample():
    """25 nodes with hostile names among them, four groups, two layers, one of which was tested."""
    network, own = planted(0)
    names = (*HOSTILE, *network.nodes[len(HOSTILE) :])
    q = np.where(network.layers["layer 0"].weights > 0.5, 0.01, 0.5)
    q = np.where(np.isfinite(network.layers["layer 0"].weights), q, np.nan)
    tested = replace(network.layers["layer 0"], pairs={"q": q})
    layers = {"information": tested, "closeness": network.layers["layer 1"]}
    made = Network(
        name="sample", nodes=names, layers=layers, domains=("blood", "mood", HOSTILE[0]) * 8 + ("blood",),
        texts={"best_inputs": (HOSTILE[1],) * 25, "score_name": ("r2",) * 25},
    )  # fmt: skip
    return made.with_values(
        group_level_0=own, group_level_1=own // 2, best_score=np.r_[np.nan, np.linspace(0.4, 0.9, 24)]
    )


def study():
    return models(names=sample().nodes)


def meta_of(html):
    return json.loads(re.search(r'<script type="application/json" id="meta">(.*?)</script>', html, re.DOTALL).group(1))


def test_the_file_holds_the_network_and_names_no_address():
    network = sample()
    html = network_page_html(network, study(), levels=("fine", "coarse"), effects=[EFFECT])
    meta = meta_of(html)
    assert [node["name"] for node in meta["nodes"]] == list(network.nodes)
    assert [len(layer["edges"]) for layer in meta["layers"]] == [300, 300]
    assert sum(map(len, meta["models"]["rows"].values())) == 700
    assert meta["levels"] == ["fine", "coarse"]
    assert "best_score" not in meta["nodes"][0]["values"]
    assert np.shape(meta["grid"]["scores"]) == (25, len(meta["grid"]["sets"]))
    assert HOSTILE[0] not in html
    assert HOSTILE[1] not in html
    assert set(re.findall(r"https?://[^\s\"'`<>)\\]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert len(html.encode()) < 5e6
    assert html == network_page_html(network, study(), levels=("fine", "coarse"), effects=[EFFECT])


def test_ten_thousand_models_fit_and_more_than_a_page_holds_are_refused(tmp_path, monkeypatch):
    many = models(each=400)
    write_network_page(tmp_path / "n.html", sample(), models(targets=25, each=400, names=sample().nodes))
    assert len(many.rows) == 10_000
    assert (tmp_path / "n.html").stat().st_size < 5e6
    monkeypatch.setattr(pages, "MOST_MODELS", 9999)
    with pytest.raises(InputError, match="10000 models, a page holds 9999"):
        network_page_html(sample(), many)
    monkeypatch.setattr(pages, "MOST_EDGES", 599)
    with pytest.raises(InputError, match="600 edges, a page holds 599"):
        network_page_html(sample())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.html"
    write_network_page(path, sample(), study(), levels=("fine", "coarse"), back_end="sample", effects=[EFFECT])
    with chromium.Browser() as browser:
        browser.open(path)
        yield browser
        assert browser.problems == []
        assert [url for url in browser.requests if not url.startswith("file:")] == []
        assert len(browser.requests) == 1


def count(page, selector):
    return page.ask(f"document.querySelectorAll('{selector}').length")


def centre(page, node):
    return page.ask(
        f"(({{x,y,width,height}})=>[x+width/2,y+height/2])(page.graph.marks[{node}].mark.getBoundingClientRect())"
    )


@BROWSER
def test_counts_equal_the_data(page):
    page.ask("page.store.set({share: 0.6, layer: 0, significant: false, node: -1, level: 0})")
    assert count(page, "#graph .node") == 25
    assert count(page, "#graph .edge") == 180
    assert count(page, "#graph .hull") == 4
    page.ask("page.store.set({share: 1})")
    assert count(page, "#graph .edge") == 300
    page.ask("page.store.set({level: 1})")
    assert count(page, "#graph .hull") == 2
    q = sample().layers["information"].pairs["q"]
    page.ask("page.store.set({significant: true})")
    assert count(page, "#graph .edge") == int(np.nansum(np.triu(q < 0.05)))
    page.ask("page.store.set({layer: 1})")
    assert count(page, "#graph .edge") == 300
    page.ask("page.store.set({significant: false, layer: 0, share: 0.6, level: 0})")


@BROWSER
def test_a_click_shows_all_models_of_the_target_sorted(page):
    page.ask("page.store.set({node: -1})")
    page.click(*centre(page, 3))
    page.wait("document.body.dataset.node === '3'")
    assert count(page, "#panel-models tbody tr") == 28
    column = "[...document.querySelectorAll('#panel-models tbody tr')].map((r) => Number(r.children[1].textContent))"
    assert page.ask(column) == sorted(page.ask(column), reverse=True)
    page.ask("document.querySelector('#panel-models [data-key=score]').click()")
    assert page.ask(column) == sorted(page.ask(column))
    assert page.ask("document.querySelector('#panel-models caption').textContent").startswith(HOSTILE[3])
    assert count(page, "#panel-models img, header img, #tooltip img") == 0


@BROWSER
def test_tables_that_are_too_wide_are_scrolled_and_say_so(page):
    page.ask("page.store.set({tab: 'effects', node: -1})")
    panel = "document.getElementById('panel-effects')"
    assert page.ask(f"{panel}.scrollWidth > {panel}.clientWidth")  # else this test would show nothing
    assert page.ask(f"getComputedStyle({panel}).overflowX") == "auto"
    assert page.ask(f"getComputedStyle({panel}).backgroundAttachment").split(", ")[:4] == ["local"] * 2 + ["scroll"] * 2
    caption = page.ask(f"{panel}.querySelector('caption').getBoundingClientRect().right")
    assert caption <= page.ask(f"{panel}.getBoundingClientRect().right")
    page.ask(f"{panel}.scrollLeft = 1e4")
    last = page.ask(f"{panel}.querySelector('tbody tr').lastElementChild.getBoundingClientRect().right")
    assert last <= page.ask("innerWidth")
    assert page.ask(f"{panel}.querySelector('caption').getBoundingClientRect().left") >= 0
    assert page.ask("document.querySelector('[data-key=people_low]').textContent") == "people low"
    page.ask(f"{panel}.scrollLeft = 0; page.store.set({{tab: 'models'}})")


@BROWSER
def test_hovering_names_the_best_model(page):
    x, y = centre(page, 8)
    page.mouse("Moved", x, y)
    page.wait("!document.getElementById('tooltip').hidden")
    told = page.ask("document.getElementById('tooltip').textContent")
    assert sample().nodes[8] in told
    assert f"with {HOSTILE[1]}" in told
    page.mouse("Moved", 5, 5)


@BROWSER
def test_nodes_are_dragged_and_the_picture_zooms(page):
    page.ask("page.graph.fit()")
    x, y = centre(page, 6)
    page.mouse("Moved", x, y)
    page.mouse("Pressed", x, y, button="left", clickCount=1)
    for step in range(1, 6):
        page.mouse("Moved", x - 8 * step, y + 6 * step, button="left", buttons=1)
    page.wait("page.graph.layout.frames > 2")
    after = centre(page, 6)
    page.mouse("Released", x - 40, y + 30, button="left", clickCount=1)
    assert np.hypot(after[0] - x + 40, after[1] - y - 30) < 12
    k = page.ask("page.graph.view.k")
    page.mouse("Wheel", x, y, deltaX=0, deltaY=-300)
    page.wait(f"page.graph.view.k > {k}")
    page.ask("page.graph.fit()")


@BROWSER
def test_everything_can_be_reached_by_keys(page):
    page.ask("void (page.store.set({node: -1}), page.graph.marks[page.graph.at].mark.focus())")
    start = page.ask("page.graph.at")
    page.key("ArrowRight")
    assert page.ask("Number(document.activeElement.dataset.node)") == (start + 1) % 25
    page.key("Enter")
    assert page.ask("document.body.dataset.node") == str((start + 1) % 25)
    assert count(page, '#graph [tabindex="0"]') == 1
    page.ask("document.getElementById('tab-models').focus()")
    page.key("ArrowRight")
    assert page.ask("document.body.dataset.tab") == "grid"
    page.ask("document.querySelector('#panel-grid canvas').focus()")
    page.key("ArrowDown")
    page.key("ArrowRight")
    told = page.ask("document.querySelector('#panel-grid .told').textContent")
    assert told.startswith(HOSTILE[0]), told
    named = "(e) => e.hidden || e.textContent.trim() || e.ariaLabel || e.closest('label')"
    assert page.ask(f"[...document.querySelectorAll('button, select, input')].every({named})")


@BROWSER
def test_palettes_sizes_and_colours(page):
    fill = "[...new Set([...document.querySelectorAll('#graph .node')].map((e) => e.getAttribute('fill')))]"
    page.ask("page.store.set({colour: 'domain', palette: 'vivid'})")
    vivid = page.ask(fill)
    assert len(vivid) == 3
    page.ask("page.store.set({palette: 'safe'})")
    assert not set(vivid) & set(page.ask(fill))
    page.ask("page.store.set({colour: 0})")
    assert len(page.ask(fill)) == 4
    page.ask("page.store.set({size: 'best_score'})")
    assert count(page, "#graph .node.unknown") == 1
    page.ask("page.store.set({colour: 'domain', palette: 'vivid'})")


@BROWSER
def test_views_are_saved_and_come_back(page):
    page.ask("page.store.set({share: 0.3, palette: 'safe', node: 2})")
    page.ask("page.views.save('mine')")
    places = page.ask("page.views.saved[0].view.places")
    page.ask("page.store.set({share: 0.9, palette: 'vivid', node: -1}); page.graph.arrange()")
    page.ask("document.querySelector('.views button').click()")
    assert page.ask("[page.store.state.share, page.store.state.palette, page.store.state.node]") == [0.3, "safe", 2]
    assert page.ask("page.graph.layout.positions()") == places
    assert "view=" in page.ask("location.hash")
    page.ask('page.views.show(\'{"share": 7, "layer": 99, "places": [[1]]}\')')
    assert page.ask("[page.store.state.share, page.store.state.layer]") == [0.3, 0]
    page.ask("page.views.show('no json')")
    page.ask("page.store.set({share: 0.6, palette: 'vivid', node: -1})")


@BROWSER
def test_the_view_and_the_table_are_handed_out(page):
    picture = page.ask("page.svgText(page.graph.element)")
    assert picture.count("<line") == 180
    assert "onerror=alert(1)>" not in picture
    blob = page.ask(
        "page.pngBlob(page.graph.element).then((b) => new Promise((done) => { const r = new FileReader(); "
        "r.onload = () => done(r.result.split(',')[1]); r.readAsDataURL(b); }))"
    )
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(blob))).convert("RGB")).astype(int)
    assert image.std() > 5
    page.ask("page.store.set({tab: 'nodes'})")
    rows = page.ask("page.table().csv()").split("\r\n")
    assert len(rows) == 27
    assert any(line.startswith("'=1+1,") for line in rows)  # no formula for a spreadsheet
    page.ask("page.store.set({tab: 'effects'})")
    assert len(page.ask("page.table().csv()").split("\r\n")) == 3
