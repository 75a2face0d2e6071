"""Quality of sections, and the page on which they are checked."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshgnn.experiment.runner import run
from meshgnn.source.sections import TABLE, read_stack
from meshgnn.store import read_json
from reconstruct.cards import named
from reconstruct.experiment import ReconstructRun
from reconstruct.quality import FACTORS, Look, quality
from reconstruct.records import Mounting, TissueStack
from reconstruct.steps.tissue import ClassifyTissue
from tests.meshgnn.export import browser as chromium
from tests.reconstruct.phantom import change, config, read_rows, write_table

BAD = '<b>"torn" & </script>'


@pytest.fixture(scope="module")
def checked(straight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a stack with a pale section, one left out, and flags that are no HTML."""
    stack = tmp_path_factory.mktemp("qc") / "stack"
    shutil.copytree(straight, stack)
    rows = [[*row, BAD if row[1] == "14" else ""] for row in read_rows(straight)]
    for row in rows:
        row[5] = "0" if row[1] == "20" else "1"
    write_table(stack, rows, "flags")
    change(stack / "s007.tif", lambda grey: 240 * (np.maximum(grey, 1) / 240.0) ** 0.5)
    out = stack.with_name("out")
    quick = (
        "stack.voxel_mm=1.4",
        "midsurface.edge_mm=4",
        "align.rigid_rounds=2",
        "pictures=true",
        "tissue.pixel_mm=0.8",
    )
    run(config(stack, *quick, kind=ReconstructRun.Config), out)
    return out


def test_the_page_shows_every_section_and_nothing_from_elsewhere(checked: Path) -> None:
    page = (checked / "report.html").read_text()
    cards = read_json(checked / "qc" / "cards.json")["cards"]
    assert len(cards) == page.count("<article") == len(read_rows(checked.with_name("stack")))
    assert page.count('with outlines" src="data:image/jpeg') == sum(bool(one["picture"]) for one in cards)
    assert sum(bool(one["picture"]) for one in cards) > 20
    assert "marked as not usable" in page
    assert BAD not in page
    assert "&lt;b&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert len(page) < 15e6 / 100 * len(cards) + 3e6  # the pictures of a whole run take up to 3 MB
    data = re.search(r"const data = (\{.*\});", page)
    assert data
    table = json.loads(data.group(1))["table"]
    assert "mirrored" in table[0]
    assert len(table) == len(cards) + 1


def test_the_table_of_the_page_is_the_stacks_own(checked: Path, tmp_path: Path) -> None:
    stack = checked.with_name("stack")
    rows = read_json(checked / "qc" / "cards.json")["table"]
    for path in stack.glob("*.tif"):
        (tmp_path / path.name).symlink_to(path)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    (tmp_path / TABLE).write_text(text.getvalue())
    for one, two in zip(read_stack(stack), read_stack(tmp_path)):
        assert replace(one, path=two.path).path == two.path
        assert (one.index, one.position_mm, one.pixel_um, one.usable, one.mirrored, one.flags) == (
            two.index, two.position_mm, two.pixel_um, two.usable, two.mirrored, two.flags,
        )  # fmt: skip


def test_a_pale_section_is_of_low_quality(checked: Path) -> None:
    report = read_json(checked / "reconstruction.json")["sections"]
    assert report["lowest_quality"][0] == 7 or report["quality"]["7"] < 0.7
    assert all(0 <= value <= 1 for value in report["quality"].values())
    card = next(one for one in read_json(checked / "qc" / "cards.json")["cards"] if one["number"] == 7)
    assert card["factors"]["stain"] < 0.7


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium here; `make system-deps` installs it")
def test_the_page_sorts_filters_and_corrects_in_a_browser(checked: Path) -> None:
    cards = read_json(checked / "qc" / "cards.json")["cards"]
    left_out = sum(not one["picture"] for one in cards)
    worst = min(cards, key=lambda one: (one["quality"], one["number"]))
    with chromium.Browser() as browser:
        browser.open(checked / "report.html")
        browser.wait("document.getElementById('shown').textContent")
        browser.ask(
            "(one => { one.value = 'quality'; one.dispatchEvent(new Event('change')); })"
            "(document.getElementById('order'))"
        )
        assert browser.ask("document.querySelector('.card').dataset.number") == str(worst["number"])
        browser.ask(
            "[...document.querySelectorAll('#flags button')].find(b => b.textContent.startsWith('left')).click()"
        )
        assert browser.ask("document.getElementById('shown').textContent").startswith(f"{left_out} of ")
        browser.ask("document.querySelector('#section-14 input[name=usable]').click()")
        assert browser.ask("data.table.find(row => row[1] === '14')[5]") == "0"
        browser.ask(
            "(box => { box.value = '5'; box.dispatchEvent(new Event('change')); })"
            "(document.querySelector('#section-3 input[name=exchange]'))"
        )
        assert browser.ask("data.table.find(row => row[1] === '3')[0]") == "s005.tif"
        assert browser.ask("data.table.find(row => row[1] === '5')[0]") == "s003.tif"
        assert browser.problems == []
        assert len(browser.requests) == 1  # the page itself


def test_quality_bears_what_is_not_known(straight: Path) -> None:
    stack: TissueStack = ClassifyTissue.Config(pixel_mm=0.8).build()(read_stack(straight))
    count = len(stack.index)
    nan = float("nan")
    empty = Mounting(fit=np.full((count, 3, 4), nan), way=np.zeros(count, int), sure=np.zeros(count),
                     like=np.full(count, -1), gain=np.ones(count))  # fmt: skip
    blank = Look(picture=np.zeros((2, 2), np.uint8), step=1.0, stain=nan, focus=nan, pale=nan)
    found = quality(stack, empty, [blank] * count)
    assert set(found) == {*FACTORS, "quality"}
    assert all(np.isfinite(values).all() for values in found.values())
    np.testing.assert_array_equal(found["stain"], 1)


def test_warnings_name_their_sections() -> None:
    assert named("section 12: is mirrored against its neighbours; 7") == {12}
    assert named("sections 3 and 4 fit each other's places better: are they exchanged?") == {3, 4}
    assert named("sections 5, 6, 7: one edge of the image is darker (section 5 by 20%)") == {5, 6, 7}
    assert named("hemisphere L: area 7 cm2") == set()
