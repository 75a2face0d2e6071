"""Records of the journal become what engines see."""

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.mapping.engines.evidence import Evidence, carried
from meshgnn.mapping.situation import newest, open_brain
from tests.meshgnn.mapping.ball import drawings, located, record, situation, stack_of, without_sections

SQUARE = {"type": "Polygon", "coordinates": [[[10, 10], [60, 10], [60, 60], [10, 60], [10, 10]]]}


@pytest.fixture(scope="module")
def ball():
    stack = stack_of()
    return stack, *located(stack)


def test_the_newest_version_counts_and_what_was_deleted_is_gone():
    first = record(12, "A1", SQUARE, id="one")
    moved = record(12, "A2", SQUARE, id="one", version=2)
    other = record(13, "A1", SQUARE)
    gone = record(13, "A1", {}, version=2, deleted=True)
    assert newest([first, other, gone, moved]) == [moved]
    assert newest([moved, first]) == [moved]


def test_drawn_and_accepted_are_kept_apart_and_files_follow_the_records(ball, tmp_path):
    stack, one, _ = ball
    drawn, taken = record(12, "A1", SQUARE), record(13, "A2", SQUARE, origin="accepted")
    seen = situation([drawn, taken], stack, one, tmp_path)
    assert seen.drawn.sections == (12,)
    assert seen.accepted is not None
    assert seen.accepted.sections == (13,)
    assert (seen.drawn.read(12) >= 0).sum() == 2500
    assert seen.drawn.read(12)[10, 10] == 0
    before = seen.drawn.file(12).stat().st_mtime_ns
    again = situation([drawn], stack, one, tmp_path)
    assert again.accepted is None
    assert again.drawn.file(12).stat().st_mtime_ns == before
    assert not list((tmp_path / "snapshot" / "accepted").glob("*"))


def test_coarse_outlines_are_those_of_the_image(ball, tmp_path):
    stack, one, _ = ball
    drawn = situation([record(12, "A1", SQUARE)], stack, one, tmp_path).drawn
    coarse = drawn.coarse(12, 5)
    assert coarse.shape == (40, 72)
    assert (coarse >= 0).sum() == 100
    assert np.array_equal(drawn.coarse(12, 1), drawn.read(12))


@pytest.mark.parametrize(("number", "area", "told"), [(99, "A1", "section 99"), (12, "B7", "'B7' is not in areas")])
def test_a_section_or_an_area_that_is_not_there_is_told(ball, tmp_path, number, area, told):
    stack, one, _ = ball
    with pytest.raises(InputError, match=told):
        situation([record(number, area, SQUARE)], stack, one, tmp_path)


def test_a_section_that_the_alignment_left_out_may_be_drawn_on(ball, tmp_path):
    stack, one, _ = ball
    seen = situation([record(12, "A1", SQUARE)], without_sections(stack, 12), one, tmp_path, every=stack)
    assert Evidence.of(seen).left_out == (12,)


def test_a_mesh_needs_a_maker_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="mesh maker"):
        open_brain(tmp_path, tmp_path / "mesh", None)


# -- borders ----------------------------------------------------------------------------------------------------------


def stroke(section, x, top, bottom):
    """A line from top to bottom: as it is drawn and seen, what is left of it lies at larger x."""
    return {"kind": "border", "other": "A2", "geometry": {"type": "LineString", "coordinates": [[x, top], [x, bottom]]}}


@pytest.mark.parametrize("turned", [False, True])
def test_a_border_labels_the_nodes_beside_it_on_the_sides_that_were_said(tmp_path, turned):
    stack = stack_of(mirrored=(15,) if turned else ())
    one, _ = located(stack)
    section, places = stack.at(15), one.graph.locations
    row, column, _ = section.mm_to_pixel(np.array([-32.0, section.position_mm, 30.0]))
    x = float(section.shape[1] - 1 - column if turned else column)
    line = stroke(15, x, float(row) - 10, float(row) + 10)
    seen = situation([record(15, "A1", line.pop("geometry"), **line)], stack, one, tmp_path)
    here = np.flatnonzero(seen.beside >= 0)
    assert len(here) >= 2
    assert set(places.section[here].tolist()) == {15}
    stored = section.shape[1] - 1 - places.column_px[here] if turned else places.column_px[here]
    assert np.array_equal(seen.beside[here] == 0, stored + 0.5 > x)
    assert (np.abs(stored - x) * 0.4 <= 8).all()
    evidence = Evidence.of(seen)
    assert evidence.areas.tolist() == [0, 1]
    assert np.array_equal(evidence.labels[here], seen.beside[here])


def test_a_border_with_one_area_said_labels_nothing(ball, tmp_path):
    stack, one, _ = ball
    line = {**stroke(15, 200, 0, 400), "other": ""}
    assert situation([record(15, "A1", line.pop("geometry"), **line)], stack, one, tmp_path).beside is None


# -- evidence ---------------------------------------------------------------------------------------------------------


def test_an_area_is_drawn_whole_where_it_is_drawn_and_nothing_is_said_of_the_rest(ball, tmp_path):
    stack, one, labels = ball
    both = drawings(stack, one, labels, (13, 16), ("A1",)) + drawings(stack, one, labels, (20,), ("A3",))
    evidence = Evidence.of(situation(both, stack, one, tmp_path))
    section = one.graph.locations.section
    assert evidence.areas.tolist() == [0, 2]
    for number, place in ((13, 0), (16, 0), (20, 1)):
        here = (evidence.section == number) & one.graph.cortex
        own, other = labels[here] == (0, 2)[place], 1 - place
        known = evidence.known[here, place]
        assert known.mean() > 0.7
        assert (evidence.value[here, place] == own)[known].mean() > 0.95
        assert not evidence.known[here & (evidence.labels < 0), other].any()
    assert not evidence.known[~np.isin(section, (13, 16, 20))].any()


def test_carried_shares_sum_to_one_and_keep_what_is_known(ball, tmp_path):
    stack, one, labels = ball
    evidence = Evidence.of(situation(drawings(stack, one, labels, (12, 16, 20)), stack, one, tmp_path))
    shares, away = carried(one.graph, evidence)
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
    assert np.allclose(shares[:, :-1][evidence.known], evidence.value[evidence.known], atol=1e-6)
    assert (away[evidence.known.any(1)] == 0).all()
    assert np.isfinite(away).all()


def test_what_was_accepted_is_learnt_from_but_never_before_what_was_drawn(ball, tmp_path):
    stack, one, labels = ball
    drawn = drawings(stack, one, labels, (13, 16), ("A1",))
    wrong = np.where(labels == 0, 1, labels)
    taken = drawings(stack, one, wrong, (13, 20), ("A2",), origin="accepted")
    seen = situation(drawn + taken, stack, one, tmp_path)
    alone, with_them = Evidence.of(seen, accepted=False), Evidence.of(seen)
    assert alone.sections == with_them.sections == (13, 16)
    assert 1 in with_them.areas
    here = alone.known[:, 0] & (alone.section == 13)
    assert np.array_equal(with_them.value[here, 0], alone.value[here, 0])
    assert (with_them.labels[one.graph.locations.section == 20] == 1).any()


def test_outlines_of_a_section_are_read_again_only_if_they_changed(ball, tmp_path, monkeypatch):
    from meshgnn.source.annotations import Annotations

    stack, one, labels = ball
    asked, coarse = [], Annotations.coarse
    monkeypatch.setattr(Annotations, "coarse", lambda self, k, step: asked.append(k) or coarse(self, k, step))
    drawn = drawings(stack, one, labels, (12, 16))
    first = Evidence.of(situation(drawn, stack, one, tmp_path), tmp_path / "kept")
    again = Evidence.of(situation(drawn, stack, one, tmp_path), tmp_path / "kept")
    assert asked == [12, 16]
    assert np.array_equal(first.value, again.value)
    Evidence.of(situation(drawn + drawings(stack, one, labels, (20,)), stack, one, tmp_path), tmp_path / "kept")
    assert asked == [12, 16, 20]
