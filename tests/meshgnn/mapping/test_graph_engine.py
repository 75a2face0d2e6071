"""The graph engine fills in, keeps what it found, and tells how good it is."""

import json
from dataclasses import replace

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.mapping.engines.experts import Joining
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.filling import NONE, MeshFilling
from meshgnn.mapping.ribbon import Ribbons
from meshgnn.mapping.rounds import schemes
from meshgnn.progress import Stopped, silent
from meshgnn.source.polygons import paint, signed_area
from tests.meshgnn.mapping.ball import drawings, located, record, situation, stack_of, without_sections

ALL = tuple(range(10, 22))
SOME = (10, 12, 14, 16, 18, 20)


@pytest.fixture(scope="module")
def ball():
    stack = stack_of()
    return stack, *located(stack)


def fill(seen, folder, number=1, stopped=lambda: False, **settings) -> MeshFilling:
    engine = GraphEngine.Config(**settings).build()
    return engine.fill(seen, folder / "rounds" / f"{number:04d}" / "graph", silent, stopped)


def right(found: MeshFilling, labels) -> float:
    """Share of nodes of true areas that are named rightly."""
    judged = found.graph.cortex & (labels >= 0)
    return float((found.area_map().predicted == labels)[judged].mean())


def test_areas_between_drawn_sections_are_found_and_kept(ball, tmp_path):
    stack, one, labels = ball
    found = fill(situation(drawings(stack, one, labels, SOME), stack, one, tmp_path), tmp_path)
    assert right(found, labels) > 0.85
    between = np.isin(one.graph.locations.section, ALL) & ~np.isin(one.graph.locations.section, SOME)
    judged = between & one.graph.cortex & (labels >= 0)
    assert (found.area_map().predicted == labels)[judged].mean() > 0.75
    again = MeshFilling(found.folder, stack, one)
    assert np.array_equal(again.probabilities, found.probabilities)
    assert again.figures == json.loads(json.dumps(found.figures))
    assert again.engine == "graph"
    assert again.sections == ALL
    said = again.probabilities.sum(1)
    assert (said <= 1 + 1e-5).all()
    assert (said[~one.graph.cortex] == 0).all()
    assert (again.uncertainty >= 0).all()


def test_what_was_drawn_stays_as_it_was_drawn(ball, tmp_path):
    from meshgnn.mapping.engines.evidence import Evidence

    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, SOME, ("A1", "A3")), stack, one, tmp_path)
    found, evidence = fill(seen, tmp_path), Evidence.of(seen)
    own = np.flatnonzero((evidence.labels >= 0) & (evidence.labels < len(evidence.areas)))
    assert np.allclose(found.probabilities[own, evidence.areas[evidence.labels[own]]], 1)
    denied = evidence.known & (evidence.value == 0)
    assert (found.shares[:, :-1][denied] == 0).all()


def test_partial_annotation_leaves_the_rest_unnamed(ball, tmp_path):
    stack, one, labels = ball
    found = fill(situation(drawings(stack, one, labels, SOME, ("A1",)), stack, one, tmp_path), tmp_path)
    assert found.drawn == (0,)
    inside = one.graph.cortex & (labels >= 0)
    assert (found.probabilities[:, 1:] == 0).all()
    assert found.probabilities[inside & (labels == 0), 0].mean() > 0.75
    assert found.probabilities[inside & (labels != 0), 0].mean() < 0.12
    names = found.area_map().graph.areas.names
    assert names[-1] == NONE
    assert (found.area_map().predicted[inside & (labels != 0)] == len(names) - 1).mean() > 0.85


def test_other_areas_on_every_section_are_put_together(ball, tmp_path):
    stack, one, labels = ball
    records = [r for k, s in enumerate(ALL) for r in drawings(stack, one, labels, (s,), (f"A{k % 4 + 1}",))]
    found = fill(situation(records, stack, one, tmp_path), tmp_path)
    assert set(found.drawn) == {0, 1, 2, 3}
    assert right(found, labels) > 0.5


def test_outlines_lie_on_the_image_as_stored_and_agree_with_the_nodes(tmp_path):
    stack = stack_of(mirrored=(14, 15))
    one, labels = located(stack)
    found = fill(situation(drawings(stack, one, labels, SOME), stack, one, tmp_path), tmp_path)
    for number in (13, 15):
        section = stack.at(number)
        drawn = found.on(number)
        assert drawn
        assert all(0 < one_.probability <= 1 for one_ in drawn)
        assert all(signed_area(polygon[0]) > 0 for one_ in drawn for polygon in one_.polygons)
        image = paint([(one_.area, one_.polygons) for one_ in drawn], section.shape)
        image = image[:, ::-1] if section.mirrored else image
        places = one.graph.locations
        here = np.flatnonzero(one.graph.cortex & (places.section == number) & (places.residual_mm < 1.5))
        seen = image[places.row_px[here].round().astype(int), places.column_px[here].round().astype(int)]
        asked = seen >= 0
        assert asked.mean() > 0.8
        assert (seen == found.area_map().predicted[here])[asked].mean() > 0.85
    assert found.on(99) == []


@pytest.mark.parametrize("sections", [(), (99,)])
def test_nothing_drawn_is_told(ball, tmp_path, sections):
    stack, one, _ = ball
    with pytest.raises(InputError, match="nothing was drawn yet"):
        fill(situation([], stack, one, tmp_path), tmp_path)


def test_no_mesh_is_told(ball, tmp_path):
    stack, one, labels = ball
    seen = replace(situation(drawings(stack, one, labels, (12,)), stack, one, tmp_path), brain=None)
    with pytest.raises(InputError, match="--mesh"):
        fill(seen, tmp_path)


@pytest.mark.parametrize("sections", [(15,), ALL])
def test_one_section_and_all_sections_can_be_filled_from(ball, tmp_path, sections):
    stack, one, labels = ball
    found = fill(situation(drawings(stack, one, labels, sections), stack, one, tmp_path), tmp_path)
    if sections == ALL:
        assert right(found, labels) > 0.9
    else:
        assert "Nothing can be said" in found.figures["words"][0]
        assert found.figures["joining"] == Joining().plain()


@pytest.mark.parametrize("lost", ["torn", "left out"])
def test_a_drawn_section_without_nodes_is_counted_and_told(tmp_path, lost):
    whole = stack_of()
    one, labels = located(whole)
    records = drawings(whole, one, labels, SOME)
    stack = stack_of(torn=(14,)) if lost == "torn" else without_sections(whole, 14)
    one, _ = located(stack)
    found = fill(situation(records, stack, one, tmp_path, every=whole), tmp_path)
    assert found.figures["left_out_sections"] == [14]
    assert "section 14 is not used" in found.figures["words"][-1]
    assert 14 not in found.sections
    only = [r for r in records if r.section == 14]
    with pytest.raises(InputError, match="section 14"):
        fill(situation(only, stack, one, tmp_path / "only", every=whole), tmp_path / "only")


def test_a_rejected_area_is_not_offered_again_until_it_is_drawn(ball, tmp_path):
    stack, one, labels = ball
    records = drawings(stack, one, labels, SOME)
    offered = [p.area for p in fill(situation(records, stack, one, tmp_path), tmp_path).on(15)]
    area = offered[0]
    seen = situation(records, stack, one, tmp_path, rejected=[(15, area)])
    found = fill(seen, tmp_path, 2)
    assert area not in [p.area for p in found.on(15)]
    places = one.graph.locations
    assert (found.probabilities[places.section == 15, area] == 0).all()
    assert (found.probabilities[places.section == 14, area] > 0).any()
    name = one.graph.areas.names[area]
    drawn = [*records, *drawings(stack, one, labels, (15,), (name,))]
    back = fill(situation(drawn, stack, one, tmp_path, rejected=[(15, area)]), tmp_path, 3)
    assert area in [p.area for p in back.on(15)]


def test_accepted_predictions_change_no_score(ball, tmp_path):
    stack, one, labels = ball
    drawn = drawings(stack, one, labels, SOME)
    wrong = np.where(labels >= 0, (labels + 1) % 4, -1)
    taken = drawings(stack, one, wrong, (11, 13, 15), origin="accepted")
    alone = fill(situation(drawn, stack, one, tmp_path), tmp_path)
    both = fill(situation(drawn + taken, stack, one, tmp_path), tmp_path, 2)
    assert both.figures["hidden"] == alone.figures["hidden"]
    assert both.figures["drawn_sections"] == alone.figures["drawn_sections"] == len(SOME)
    assert not np.array_equal(both.probabilities, alone.probabilities)


def test_a_killed_filling_goes_on_and_ends_as_an_unbroken_one(ball, tmp_path):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, SOME), stack, one, tmp_path)
    whole = fill(seen, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step, done, total, figures=None):
        if step == "judging" and done == 2:
            raise Killed

    place = tmp_path / "cut" / "rounds" / "0001" / "graph"
    with pytest.raises(Killed):
        GraphEngine.Config().build().fill(seen, place, kill, lambda: False)
    with pytest.raises(InputError):
        MeshFilling(place, stack, one)
    again = fill(seen, tmp_path / "cut")
    assert np.array_equal(again.probabilities, whole.probabilities)
    assert again.figures["words"] == whole.figures["words"]


def test_a_stopped_filling_returns_early_with_a_map_or_none_at_all(ball, tmp_path):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, SOME), stack, one, tmp_path)
    with pytest.raises(Stopped):  # before there are features
        fill(seen, tmp_path, stopped=lambda: True)
    asked = []
    found = GraphEngine.Config().build().fill(
        seen, tmp_path / "rounds" / "0001" / "graph", lambda step, *_: step == "hidden sections" and asked.append(0),
        lambda: bool(asked),
    )  # fmt: skip
    assert found.figures["stopped"]
    assert right(found, labels) > 0.7


def test_a_filling_of_another_mesh_or_a_damaged_one_is_refused(ball, tmp_path):
    stack, one, labels = ball
    found = fill(situation(drawings(stack, one, labels, SOME), stack, one, tmp_path), tmp_path)
    other, _ = located(stack, 2)
    with pytest.raises(InputError, match="another mesh"):
        MeshFilling(found.folder, stack, other)
    with pytest.raises(InputError, match="another mesh"):
        MeshFilling(found.folder, stack, None)
    (found.folder / "filling.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="safetensors"):
        _ = MeshFilling(found.folder, stack, one).probabilities
    (found.folder / "filling.json").write_text("{}")
    with pytest.raises(InputError, match="not a filling"):
        MeshFilling(found.folder, stack, one)


def test_a_table_that_does_not_fit_the_mesh_is_told(ball, tmp_path):
    from meshgnn.graph import FeatureTable
    from meshgnn.store import save_table

    stack, one, labels = ball
    table = FeatureTable(name="few", values=np.zeros((7, 1)), mask=np.ones(7, bool), columns=("few",))
    save_table(table, tmp_path / "few")
    seen = situation(drawings(stack, one, labels, SOME), stack, one, tmp_path)
    with pytest.raises(InputError, match="7 rows"):
        fill(seen, tmp_path, tables=(tmp_path / "few.safetensors",))


def test_hidden_sections_judge_by_distance_and_tell_it_in_words(ball, tmp_path):
    stack, one, labels = ball
    figures = fill(situation(drawings(stack, one, labels, ALL), stack, one, tmp_path), tmp_path).figures
    near = figures["by_distance"][0]
    assert near["sections_away"] == 1
    assert near["dice"] > 0.8
    assert near["border_mm"] < 5
    assert figures["words"][0].startswith("1 section from the nearest drawn one, borders lie ")
    assert {row["section"] for row in figures["hidden"]} == set(ALL)


def test_every_drawn_section_is_hidden_once_at_the_nearest_distance():
    for count in (3, 4, 9, 30):
        first = schemes(list(range(count)))[:2]
        assert sorted(first[0] + first[1]) == list(range(count))
    assert schemes([1, 2]) == []
    far = schemes(list(range(30)))[2:]
    assert [len(one) for one in far] == [30 - 9, 30 - 5]
    assert all(0 not in one and 29 not in one for one in far)


def test_a_border_that_is_shifted_is_off_by_that_much():
    from meshgnn.mapping.rounds import DrawnSection

    class Drawn:
        def coarse(self, index, step):
            image = np.full((100, 400), -1, np.int32)
            image[40:50, 20:380] = 1
            image[40:50, 20:200] = 0
            return image

    class Strip:
        section = stack_of().at(12)
        shape, step, width_mm = (100, 400), 1.0, 0.2
        rows, columns = (v.ravel() for v in np.meshgrid(np.arange(40, 50), np.arange(20, 380), indexing="ij"))
        pixel = rows * 400 + columns
        pairs = np.stack([np.arange(len(pixel) - 1), np.arange(1, len(pixel))])
        neighbours = pairs[:, rows[pairs[0]] == rows[pairs[1]]]

    found = DrawnSection(Strip(), Drawn(), [0, 1]).scores(np.where(Strip.columns < 203, 0, 1))
    assert [row["area"] for row in found] == [0, 1]
    assert all(row["border_mm"] == pytest.approx(0.6, abs=0.02) for row in found)
    assert found[0]["dice"] == pytest.approx(2 * 180 / 363, abs=1e-3)
    nowhere = DrawnSection(Strip(), Drawn(), [0, 1]).scores(np.full(len(Strip.pixel), 2))
    assert all(row["dice"] == 0 and row["border_mm"] is None for row in nowhere)


def test_pixels_of_cortex_lie_near_the_midsurface_and_weights_sum_to_one(ball):
    stack, one, _ = ball
    ribbon = Ribbons(one.graph).of(stack.at(15))
    assert np.allclose(ribbon.weights.sum(1), 1, atol=1e-5)
    assert np.allclose(ribbon.shares(np.ones((one.graph.n_nodes, 1))), 1, atol=1e-5)
    rows, columns = np.divmod(ribbon.neighbours, 1)[0]
    assert rows.shape == columns.shape
    pairs = ribbon.pixel[ribbon.neighbours]
    assert set(np.unique(pairs[1] - pairs[0])) == {1, ribbon.shape[1]}


def test_a_record_that_is_no_area_is_told(ball, tmp_path):
    stack, one, _ = ball
    broken = record(12, "A1", {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]})
    with pytest.raises(InputError, match="at least three"):
        fill(situation([broken], stack, one, tmp_path), tmp_path)


def test_the_map_can_be_exported(ball, tmp_path):
    from meshgnn.export.command import export

    stack, one, labels = ball
    found = fill(situation(drawings(stack, one, labels, SOME, ("A1",)), stack, one, tmp_path), tmp_path)
    written = [path.name for path in export(found.area_map(), tmp_path / "out", ("gifti", "html"))]
    assert any(name.endswith(".label.gii") for name in written)
    assert any(name.endswith(".html") for name in written)


def test_a_folder_that_cannot_be_written_is_told(ball, tmp_path):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, (12,)), stack, one, tmp_path)
    (tmp_path / "kept").write_text("a file stands where the folder belongs")
    with pytest.raises((InputError, NotADirectoryError, FileExistsError)):
        fill(seen, tmp_path)


def test_a_table_kept_by_a_run_takes_part(ball, tmp_path):
    from meshgnn.graph import FeatureTable

    stack, one, labels = ball
    told = np.where(labels < 0, 0, labels)[:, None] == np.arange(4)
    graph = one.graph.with_table(
        FeatureTable(
            name="cyto", values=told.astype(np.float32), mask=one.graph.cortex, columns=("c0", "c1", "c2", "c3")
        )
    )
    rich = replace(one, graph=graph)
    records = drawings(stack, one, labels, (10, 13, 16, 19))
    found = fill(situation(records, stack, rich, tmp_path / "a"), tmp_path / "a")
    bare = fill(situation(records, stack, rich, tmp_path / "b"), tmp_path / "b", own_tables=False)
    assert right(found, labels) > right(bare, labels) + 0.02
    assert found.figures["joining"]["weight"] > 0


def test_borders_alone_fill_in_and_are_not_judged_as_outlines(ball, tmp_path):
    stack, one, labels = ball
    section = stack.at(15)
    row, column, _ = section.mm_to_pixel(np.array([-32.0, section.position_mm, 30.0]))
    line = {"type": "LineString", "coordinates": [[column, row - 10], [column, row + 10]]}
    border = record(15, "A1", line, kind="border", other="A2")
    alone = fill(situation([border], stack, one, tmp_path), tmp_path)
    assert alone.drawn == (0, 1)
    left = one.graph.hemisphere == "L"
    assert alone.shares[left & one.graph.cortex].any(1).all()
    assert not alone.shares[~left].any()
    both = situation([border, *drawings(stack, one, labels, (11, 13, 17, 19))], stack, one, tmp_path)
    assert 15 not in {row["section"] for row in fill(both, tmp_path, 2).figures["hidden"]}


def test_an_area_that_is_not_mapped_is_told(ball, tmp_path):
    stack, one, _ = ball
    square = {"type": "Polygon", "coordinates": [[[90, 20], [150, 20], [150, 60], [90, 60], [90, 20]]]}
    with pytest.raises(InputError, match="no area that is to be mapped"):
        fill(situation([record(15, "not isocortex", square)], stack, one, tmp_path), tmp_path)
