"""The mapping page in a real browser, against the real server."""

import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from tests.meshgnn.export import browser as chromium
from tests.meshgnn.mapping.page_server import Page, Server, ring, stack

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium here; `make system-deps` installs it")
SQUARE = [(300, 300), (500, 300), (500, 500), (300, 500)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(stack(tmp_path_factory.mktemp("mapping") / "stack"), "tests.meshgnn.mapping.serve_copies") as running:
        yield running


@pytest.fixture(scope="module")
def page(server):
    with chromium.Browser() as browser:
        yield Page(browser, server.addresses[0])


@pytest.fixture(autouse=True)
def quiet(request):
    yield
    if "page" in request.fixturenames:
        request.getfixturevalue("page").clean()


def area(record):
    """Of the outer ring, px2."""
    x, y = np.array(record["geometry"]["coordinates"][0]).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2)


def shot(page):
    return np.asarray(Image.open(io.BytesIO(page.browser.picture())).convert("RGB")).astype(int)


def test_the_section_is_shown_with_its_scale(page):
    page.go(12)
    picture = shot(page)
    (x, y), (gx, gy) = page.at([(600, 450), (20, 20)])
    assert picture[int(y), int(x)].mean() == pytest.approx(170, abs=20)
    assert picture[int(gy), int(gx)].mean() == pytest.approx(238, abs=20)
    mm, width = page.ask(
        "[Number(document.querySelector('#bar-text').dataset.mm), document.querySelector('#bar').offsetWidth]"
    )
    assert width / (mm * 50) == pytest.approx(page.ask("page.stage.view.scale"), rel=0.02)  # 50 px are a millimetre
    assert len(page.ask("[...document.querySelectorAll('.thumb img')].map((one) => one.src)")) == 5


def test_polygon_undo_redo_and_reload(page, server):
    page.go(10)
    page.polygon(SQUARE)
    page.saved()
    (record,) = server.records(10)
    assert (record["kind"], record["version"], record["origin"]) == ("area", 1, "drawn")
    assert area(record) == pytest.approx(200 * 200, rel=0.03)
    page.go(11)  # undo comes back to where the stroke was
    page.browser.key("z", modifiers="ctrl")
    page.browser.wait("page.store.state.section === 10 && page.model.queue.entries.length === 0")
    assert server.records(10) == []
    page.browser.key("z", modifiers="ctrl shift")
    page.saved()
    page.browser.wait("page.store.state.records.length === 1")
    (again,) = server.records(10)
    assert (again["id"], again["version"], again["geometry"]) == (record["id"], 3, record["geometry"])
    page.open(server.addresses[0])
    page.go(10)
    assert page.kinds() == [f"area {record['area']}"]
    ((x, y),) = page.at([(400, 400)])
    inside = shot(page)[int(y) + 30, int(x) + 30]
    assert np.ptp(inside) > 8  # no longer grey


def test_an_outline_never_covers_another_unless_allowed(page, server):
    page.go(11)
    page.polygon(SQUARE)
    page.polygon([(400, 350), (700, 350), (700, 450), (400, 450)])
    page.saved()
    sizes = sorted(area(record) for record in server.records(11))
    assert sizes == pytest.approx([200 * 100, 200 * 200], rel=0.04)
    page.browser.key("o")
    page.polygon([(320, 320), (420, 320), (420, 420), (320, 420)])
    page.saved()
    assert len(server.records(11)) == 3
    page.browser.key("o")


def test_strokes_snap_to_the_edge_of_the_tissue_when_asked(page, server):
    page.go(12)
    page.browser.key("s")
    # Along the lower rim of section 12, an ellipse with axes of 480 and 340 px, about 8 px inside of it.
    rim = [(600 + 472 * np.cos(a), 450 + 332 * np.sin(a)) for a in np.linspace(1.2, 1.9, 30)]
    page.stroke("f", [*rim, (520, 700), (680, 700)])
    page.browser.wait("page.store.state.records.some((one) => one.kind === 'area')")
    page.saved()
    page.browser.key("s")
    (record,) = [one for one in server.records(12) if one["kind"] == "area"]
    x, y = np.array(record["geometry"]["coordinates"][0]).T
    low = y > 740
    away = np.hypot((x[low] - 600) / 480, (y[low] - 450) / 340)
    assert np.abs(away - 1).mean() < 0.01
    page.browser.key("z", modifiers="ctrl")
    page.saved()


def test_brush_adds_and_takes_away(page, server):
    page.go(13)
    page.stroke("f", ring(400, 450, 100))
    page.saved()
    (before,) = server.records(13)
    assert area(before) == pytest.approx(np.pi * 100**2, rel=0.05)
    page.browser.key("b")
    page.browser.drag(page.at([(420, 450), (500, 450), (600, 450)]))
    page.saved()
    (more,) = server.records(13)
    assert (more["id"], more["version"]) == (before["id"], 2)
    assert area(more) > 1.1 * area(before)
    page.browser.drag(page.at([(400, 450), (300, 450)]), modifiers="alt")
    page.saved()
    (less,) = server.records(13)
    assert area(less) < area(more)


def test_corners_are_moved_and_versions_brought_back(page, server):
    page.go(14)
    page.polygon(SQUARE)
    page.saved()
    page.browser.key("v")
    page.browser.drag(page.at([(500, 500), (540, 540), (600, 600)]))
    page.saved()
    (record,) = server.records(14)
    assert record["version"] == 2
    assert area(record) == pytest.approx(200 * 200 + 100 * 200, rel=0.05)
    page.ask("document.querySelector('[data-mark=history]').click()")
    page.browser.wait("document.querySelectorAll('.versions li').length === 2")
    page.ask("document.querySelector('.versions button').click()")
    page.saved()
    (back,) = server.records(14)
    assert back["version"] == 3
    assert area(back) == pytest.approx(200 * 200, rel=0.03)


def test_an_outline_that_the_server_parted_can_be_taken_back(page, server):
    page.go(10)
    before = len(server.records(10))
    bow = {"type": "MultiPolygon", "coordinates": [[[[700, 600], [800, 700], [800, 600], [700, 700], [700, 600]]]]}
    page.ask(
        f"page.model.add(10, {{kind: 'area', area: page.store.state.area, confidence: 3, geometry: {json.dumps(bow)}}})"
    )
    page.saved()
    kept = server.records(10)[-1]
    assert len(kept["geometry"]["coordinates"]) == 2
    page.browser.key("z", modifiers="ctrl")
    page.saved()
    page.browser.wait(f"page.store.state.records.length === {before}")
    page.browser.key("z", modifiers="ctrl shift")
    page.saved()
    page.browser.wait(f"page.store.state.records.length === {before + 1}")
    page.browser.key("z", modifiers="ctrl")
    page.saved()
    assert len(server.records(10)) == before


def test_borders_have_sides_and_notes_have_words(page, server):
    page.go(12)
    page.stroke("r", [(80, 430), (140, 440), (210, 450)])
    page.browser.wait("page.store.state.selected.size === 1")
    page.stroke("r", [(80, 520), (140, 510), (210, 500)])
    page.browser.wait("page.store.state.selected.size === 2")
    page.browser.key("i")  # the ribbon between the two
    page.browser.wait("page.store.state.records.some((one) => one.kind === 'area')")
    page.saved()
    (ribbon,) = [one for one in server.records(12) if one["kind"] == "area"]
    assert area(ribbon) == pytest.approx(80 * 75, rel=0.4)  # 75 px of cortex
    page.browser.key("Delete")
    page.saved()
    page.browser.key("n")
    page.click(800, 300)
    page.browser.wait("document.activeElement.id === 'note'")
    page.browser.type("a fold")
    page.browser.key("Escape")
    page.browser.wait("page.store.state.records.some((one) => one.note === 'a fold')")
    page.saved()
    border, _, note = sorted(server.records(12), key=lambda one: one["kind"])
    assert border["geometry"]["type"] == "LineString"
    assert border["area"]
    assert note["note"] == "a fold"
    page.browser.key("x")  # mirrored: what is seen on the left of a stroke stays on its left in the record
    page.stroke("r", [(80, 600), (140, 600), (210, 600)])
    page.saved()
    page.browser.key("x")
    mirrored = server.records(12)[-1]
    assert mirrored["geometry"]["coordinates"][0][0] > mirrored["geometry"]["coordinates"][-1][0]


def test_filling_is_accepted_corrected_rejected_and_undone(page, server):
    page.go(12)  # nothing is drawn there but borders and a note
    page.ask("page.store.set({tab: 'filling'})")
    page.browser.wait("document.querySelector('[data-mark=fill-copies]')?.disabled === false")

    def lists() -> int:
        return sum("/api/worklist" in one for one in page.browser.requests)

    asked = lists()
    page.ask("document.querySelector('[data-mark=fill-copies]').click()")
    page.browser.wait("page.store.state.predictions.areas.length > 0", 60)
    page.browser.wait("document.querySelector('#panel-filling').textContent.includes('Outlines were copied')")
    name = page.ask("page.store.state.predictions.areas[0].area")
    before = shot(page)
    page.ask(f"document.querySelector('[data-mark=accept-{name}]').click()")
    page.browser.wait("page.store.state.records.some((one) => one.origin === 'accepted')")
    page.browser.wait("page.store.state.predictions.areas[0].decision === 'accepted'")
    assert np.abs(shot(page) - before).mean() > 0.1
    assert lists() - asked <= 2  # the worklist takes seconds: it is not asked for at every step of a filling
    (accepted,) = [one for one in server.records(12) if one["kind"] == "area"]
    assert (accepted["origin"], accepted["area"]) == ("accepted", name)
    page.browser.wait("page.store.state.sections.get(12).accepted === 1")
    page.browser.key("z", modifiers="ctrl")
    page.saved()
    page.browser.wait("page.store.state.predictions.areas[0].decision === 'none'")
    page.ask(f"document.querySelector('[data-mark=reject-{name}]').click()")
    page.browser.wait("page.store.state.predictions.areas[0].decision === 'rejected'")
    page.ask(f"document.querySelector('[data-mark=withdraw-{name}]').click()")
    page.browser.wait("page.store.state.predictions.areas[0].decision === 'none'")
    page.ask(f"document.querySelector('[data-mark=correct-{name}]').click()")
    page.browser.wait("page.store.state.selected.size === 1 && page.store.state.tool === 'select'")
    page.open(server.addresses[0])  # all is there after a reload
    page.go(12)
    page.browser.wait("page.store.state.predictions.areas[0]?.decision === 'accepted'")
    assert page.kinds().count(f"area {name}") == 1


def test_two_windows_lose_nothing_and_a_conflict_is_chosen(page, server):
    page.go(13)
    with chromium.Browser() as second:
        other = Page(second, server.addresses[0])
        other.go(13)
        count = len(server.records(13))
        page.stroke("f", ring(800, 300, 60))
        other.stroke("f", ring(800, 600, 60))
        page.saved()
        other.saved()
        for window in (page, other):
            window.browser.wait(f"page.store.state.records.length === {count + 2}")
        # The same record in both, one of them without news of the other: the server refuses, the page asks.
        first = server.records(13)[0]
        change = {"op": "put", "record": {**first, "base": first["version"], "note": "seen by anna"}}
        other.ask(
            "page.model.queue.pump = () => {};"
            f"page.model.edit(13, page.model.find(13, '{first['id']}'), {{note: 'mine'}})"
        )
        server.ask("/api/sections/13/changes", {"changes": [change]})
        other.ask("delete page.model.queue.pump; page.model.queue.pump()")
        second.wait("!document.querySelector('#conflict').hidden")
        assert "anna" in other.ask("document.querySelector('#conflict').textContent")
        other.ask("document.querySelector('#conflict .primary').click()")
        other.saved()
        assert server.records(13)[0]["note"] == "mine"
        other.clean(allowed=("409",))


@pytest.mark.slow
def test_a_crash_of_server_and_browser_loses_nothing(tmp_path):
    with Server(stack(tmp_path / "stack")) as server:
        profile = tmp_path / "profile"
        with chromium.Browser(profile=profile) as browser:
            page = Page(browser, server.addresses[0])
            page.go(10)
            page.stroke("f", ring(400, 400, 80))
            page.saved()
            server.kill()
            page.stroke("f", ring(700, 400, 80))
            browser.wait("document.querySelector('#saved').dataset.state === 'not saved'")
            time.sleep(0.3)  # the disk of this machine
            browser.kill()
        server.start()
        assert len(server.records(10)) == 1
        with chromium.Browser(profile=profile) as browser:
            page = Page(browser, server.addresses[0])
            page.saved()
            assert len(server.records(10)) == 2
            page.go(10)
            assert len(page.kinds()) == 2
            page.clean()


def test_keys_choose_areas_and_certainty_and_help_names_them(page, server):
    page.go(14)
    names = page.ask("page.store.state.stack.areas.map((one) => one.name)")
    page.browser.key("a")
    page.browser.wait("document.activeElement.type === 'search'")
    page.browser.type(names[-1])
    page.browser.key("Enter")
    assert page.ask("page.store.state.area") == names[-1]
    place = page.ask(f"page.store.state.recent.indexOf({json.dumps(names[0])})") + 1
    page.browser.key(str(place))
    assert page.ask("page.store.state.area") == names[0]
    page.browser.key("v")
    page.click(400, 400)
    page.browser.wait("page.store.state.selected.size === 1")
    page.browser.key("c")
    page.saved()
    assert server.records(14)[0]["confidence"] == 1
    page.browser.key("?")
    shown = page.ask("document.querySelector('#help').textContent")
    assert [word for word in ("Undo", "Border stroke", "Next section") if word not in shown] == []
    page.browser.key("Escape")
    assert page.ask("document.querySelector('#help').hidden")
    page.browser.key("ArrowLeft")
    page.browser.wait("page.store.state.section === 13")
    page.browser.key("ArrowRight", modifiers="shift")  # moves the picture, not the section
    assert page.ask("page.store.state.section") == 13


def test_alt_and_a_number_name_the_right_side_of_a_border(page, server):
    page.go(14)
    left, right = page.ask("page.store.state.stack.areas.slice(0, 2).map((one) => one.name)")
    page.ask(f"page.store.set({{area: {json.dumps(left)}, recent: {json.dumps([left, right])}}})")
    page.browser.key("2", modifiers="alt")
    page.stroke("r", [(80, 430), (140, 440), (210, 450)])
    page.saved()
    border = server.records(14)[-1]
    assert (border["kind"], border["area"], border["other"]) == ("border", left, right)
    page.browser.key("z", modifiers="ctrl")
    page.saved()


def test_files_come_in_and_go_out(page, server):
    page.go(14)
    before = len(server.records(14))
    name = page.ask("page.store.state.stack.areas[1].name")
    feature = {
        "type": "Feature", "properties": {"classification": {"name": name}},
        "geometry": {"type": "Polygon", "coordinates": [[[700, 300], [800, 300], [800, 400], [700, 400], [700, 300]]]},
    }  # fmt: skip
    text = json.dumps(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    bring = (
        f"(() => {{ const input = document.querySelector('.file input'), held = new DataTransfer();"
        f"held.items.add(new File([{text}], 'a.geojson')); input.files = held.files;"
        "input.dispatchEvent(new Event('change')); })()"
    )
    page.ask("page.store.set({tab: 'files'})")
    page.ask(bring)
    page.browser.wait(f"page.store.state.records.length === {before + 1}")
    assert server.records(14)[-1]["origin"] == "imported"
    page.ask(bring)
    page.browser.wait(
        "document.querySelector('#toast').textContent.includes('0 brought in from a.geojson. 1 left out')"
    )
    assert len(server.records(14)) == before + 1
    page.ask("document.querySelector('#panel-files .primary').click()")
    page.browser.wait("document.querySelector('#toast').textContent.includes('is ready')")
    page.browser.key("z", modifiers="ctrl")
    page.saved()
    assert len(server.records(14)) == before


def test_the_server_is_killed_and_started_while_a_mapper_draws(server):
    with chromium.Browser() as browser:
        page = Page(browser, server.addresses[0])
        page.go(10)
        before = len(server.records(10))
        server.kill()
        for x in (600, 750, 900):
            page.stroke("f", ring(x, 650, 50))
        browser.key("z", modifiers="ctrl")
        browser.wait("!document.querySelector('#unsaved').hidden")
        server.start()
        page.saved()  # by itself: the address is the same
        assert len(server.records(10)) == before + 2
        assert page.ask("document.querySelector('#unsaved').hidden")
        server.kill()
        page.stroke("f", ring(600, 300, 50))
        server.start("--new-token")
        browser.wait("document.querySelector('#unsaved').textContent.includes('open the address')")
        page.ask(f"fetch('{server.addresses[0]}').then((one) => one.status)")  # as any tab of this browser may
        page.saved()
        assert len(server.records(10)) == before + 3


def test_a_guest_looks_and_a_mapper_has_a_name(server):
    with chromium.Browser() as browser:
        page = Page(browser, server.addresses[1])
        page.go(10)
        before = server.records(10)
        page.stroke("f", ring(700, 500, 60))
        browser.key("Delete")
        time.sleep(0.2)
        assert server.records(10) == before
        assert page.ask("document.querySelectorAll('#tools button').length") == 1
        page.clean()
        page.ask("localStorage.setItem('mapper', '</b>')")  # no name that the server takes
        page.open(server.addresses[0])
        page.go(11)
        page.ask("document.querySelector('#mapper').click()")
        page.ask("document.querySelector('#who input').value = 'Ånna B.'")
        page.ask("document.querySelector('#who .primary').click()")
        browser.wait("document.querySelector('#mapper')?.textContent === 'Ånna B.' && document.body.dataset.shown")
        page.stroke("f", ring(900, 600, 50))
        page.saved()
        assert server.records(11)[-1]["mapper"] == "Ånna B."
