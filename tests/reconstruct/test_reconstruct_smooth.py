"""Bends of sections: the map and its inverse, what is found of planted ones, and where a mesh's sections keep them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError, SettingError
from meshgnn.source.aligned import FILE, read_aligned, write_aligned
from meshgnn.source.bend import Bend
from meshgnn.source.sections import read_stack
from reconstruct.aligned import aligned_stack
from reconstruct.records import Alignment, SectionPlaces, TissueStack
from reconstruct.state import load, save
from reconstruct.steps.align import AlignSections
from reconstruct.steps.smooth import Bends, SmoothSections
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import write_stack
from tests.reconstruct.test_reconstruct_joint import write_maps

RNG = np.random.default_rng(7)
ALIGN = AlignSections.Config(rigid_rounds=4, affine_rounds=0)


def drawn(size_mm: float, rng: np.random.Generator) -> Bend:
    """A random bend of +-50 mm."""
    knots = rng.normal(0, size_mm, (2, 11, 11)).astype(np.float32)
    return Bend(knots=knots, corner_mm=np.array([-62.5, -62.5]), spacing_mm=12.5)


def test_a_bend_and_its_inverse() -> None:
    bend, points = drawn(1.0, RNG), RNG.uniform(-60, 60, (5, 40, 2))
    there = points + bend.at(points)
    assert np.abs(bend.at(points)).max() > 0.5
    np.testing.assert_allclose(bend.back(there), points, atol=1e-4)
    assert bend.at(points[0, 0]).shape == (2,)
    np.testing.assert_allclose(bend.at(points)[0, 0], bend.at(points[0, 0]))


def test_knots_that_lie_on_a_line_bend_as_the_line() -> None:
    row, column = np.indices((9, 8)) * 10.0
    knots = np.stack([0.02 * row - 0.01 * column, 0.03 * column + 0.5])
    bend = Bend(knots=knots.astype(np.float32), corner_mm=np.zeros(2), spacing_mm=10.0)
    points = RNG.uniform(15, 55, (30, 2))
    wanted = np.stack([0.02 * points[:, 0] - 0.01 * points[:, 1], 0.03 * points[:, 1] + 0.5], axis=1)
    np.testing.assert_allclose(bend.at(points), wanted, atol=1e-5)


@pytest.mark.parametrize("knots", [np.zeros((3, 4, 4)), np.full((2, 4, 4), np.nan)])
def test_a_broken_bend_is_refused(knots: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match="knots"):
        Bend(knots=knots, corner_mm=np.zeros(2), spacing_mm=10.0)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TissueStack, list[Bend]]:
    """The phantom's tissue, every section bent by itself by about half a millimetre."""
    folder = tmp_path_factory.mktemp("smooth")
    write_stack(folder / "stack", pixel_um=400)
    tissue = ClassifyTissue.Config().build()(read_stack(folder / "stack"))
    rng = np.random.default_rng(2)
    bends = [drawn(1.0, rng) for _ in tissue.index]
    grid = np.moveaxis(np.indices(tissue.outer.shape[1:]), 0, -1) * tissue.pixel_mm
    moved = {"outer": tissue.outer.copy(), "white": tissue.white.copy()}
    for k, bend in enumerate(bends):
        # The glass shows at q what lies at back(q); a bend b of the alignment takes p to p + b(p) = q.
        at = grid + tissue.origin_mm[k] - tissue.centre_mm[k]
        from_ = (bend.back(at) + tissue.centre_mm[k] - tissue.origin_mm[k]) / tissue.pixel_mm
        for name, images in moved.items():
            images[k] = _sampled(getattr(tissue, name)[k], from_)
    return folder, replace(tissue, **moved), bends


def _sampled(image: np.ndarray, places: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    from scipy import ndimage

    return np.asarray(ndimage.map_coordinates(image, np.moveaxis(places, -1, 0), order=1, mode="nearest"))


def missed(alignment: Alignment, tissue: TissueStack, bends: list[Bend]) -> float:
    """Root of the mean square in mm, of both directions, at the outlines, of what is left of the planted bends.

    What near sections have in common is left out: it may be the brain's own shape.
    """
    points = 33 * np.stack([np.sin(a := np.linspace(0, 2 * np.pi, 60)), np.cos(a)], axis=1)
    inner = np.flatnonzero(np.abs(tissue.position_mm) < 18)
    left = np.stack([bends[k].at(points) - (alignment.map(k, points) - tissue.centre_mm[k] - points) for k in inner])
    return float(np.sqrt(((left - left.mean(0)) ** 2).mean()))


def test_planted_bends_are_found_with_a_volume_and_in_part_without(
    phantom: tuple[Path, TissueStack, list[Bend]], tmp_path: Path
) -> None:
    _, tissue, bends = phantom
    plain = AlignSections.Config(rigid_rounds=0, affine_rounds=0).build()(tissue)
    before = missed(plain, tissue, bends)
    alone = SmoothSections.Config(rounds=2, spacing_mm=12.0).build()(tissue, plain, ALIGN)
    with_volume = SmoothSections.Config(spacing_mm=12.0).build()(
        tissue, plain, replace(ALIGN, reference=write_maps(tmp_path / "maps"))
    )
    assert before > 0.3
    assert missed(alone, tissue, bends) < 0.85 * before
    assert missed(with_volume, tissue, bends) < 0.7 * before
    assert 0.1 < alone.bend_mm < 2
    assert len(alone.knots) == len(tissue.index)


def test_straight_sections_stay_straight(phantom: tuple[Path, TissueStack, list[Bend]]) -> None:
    folder, _, _ = phantom
    tissue = ClassifyTissue.Config().build()(read_stack(folder / "stack"))
    plain = AlignSections.Config(rigid_rounds=0, affine_rounds=0).build()(tissue)
    found = SmoothSections.Config(rounds=2).build()(tissue, plain, ALIGN)
    assert np.abs(found.knots).max() < 0.2


def test_a_stack_of_one_even_grey_level_bends_nowhere(phantom: tuple[Path, TissueStack, list[Bend]]) -> None:
    _, tissue, _ = phantom
    empty = replace(tissue, outer=np.full_like(tissue.outer, 4), white=np.full_like(tissue.white, 4))
    plain = Alignment(to_section=np.tile(np.eye(2, 3), (len(empty.index), 1, 1)), overlap=np.ones(1), quality=1.0)
    found = SmoothSections.Config(rounds=2).build()(empty, plain, ALIGN)
    assert np.abs(found.knots).max() == 0


def test_bends_reach_nodes_pixels_and_the_files_of_a_mesh(
    phantom: tuple[Path, TissueStack, list[Bend]], tmp_path: Path
) -> None:
    folder, tissue, bends = phantom
    alignment = replace(
        AlignSections.Config(rigid_rounds=0, affine_rounds=0).build()(tissue),
        knots=np.stack([bend.knots for bend in bends]), knots_corner_mm=bends[0].corner_mm, knots_spacing_mm=12.5,
    )  # fmt: skip
    save(tmp_path / "step", alignment, "key")
    again = load(tmp_path / "step", Alignment)
    places = SectionPlaces.of(tissue, again)
    stack = aligned_stack(read_stack(folder / "stack"), places)
    (tmp_path / "mesh").mkdir()
    write_aligned(tmp_path / "mesh", stack)
    read = read_aligned(tmp_path / "mesh")
    flat = RNG.uniform(-30, 30, (20, 2))
    for k in (0, len(bends) // 2):
        section, other = stack.at(int(tissue.index[k])), read.at(int(tissue.index[k]))
        row, column, _ = section.mm_to_pixel(np.array([[x, tissue.position_mm[k], -r] for r, x in flat]))
        np.testing.assert_allclose(np.stack([row, column], 1), places.pixels(k, flat), atol=1e-6)
        np.testing.assert_allclose(np.stack([row, column], 1), again.map(k, flat) / tissue.image_px_mm[k], atol=1e-6)
        back = section.pixel_to_mm(row, column)
        np.testing.assert_allclose(np.stack([-back[:, 2], back[:, 0]], 1), flat, atol=1e-3)
        np.testing.assert_allclose(other.pixel_to_mm(row, column), back, atol=1e-3)
        np.testing.assert_allclose(again.back(k, again.map(k, flat)), flat, atol=1e-3)


@pytest.mark.parametrize("damage", [{"bend": 99}, {"bend": "x"}])
def test_a_damaged_table_of_bends_is_refused(
    phantom: tuple[Path, TissueStack, list[Bend]], tmp_path: Path, damage: dict[str, object]
) -> None:
    write_aligned(tmp_path, read_stack(phantom[0] / "stack"))
    record = json.loads((tmp_path / FILE).read_text())
    record["sections"][0] |= damage
    (tmp_path / FILE).write_text(json.dumps(record))
    with pytest.raises(InputError, match="damaged"):
        read_aligned(tmp_path)


def test_without_a_volume_the_step_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    named = replace(ALIGN, reference=write_maps(tmp_path / "maps"))
    assert [SmoothSections.Config().rounds_of(one) for one in (ALIGN, named)] == [0, 2]
    assert [SmoothSections.Config(rounds=3).rounds_of(one) for one in (ALIGN, named)] == [3, 3]


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingError):
        SmoothSections.Config(rounds=-1)
    with pytest.raises(SettingError):
        SmoothSections.Config(spacing_mm=0.0)


def test_bends_cannot_fold(phantom: tuple[Path, TissueStack, list[Bend]]) -> None:
    from reconstruct.steps.align import frames_of

    _, tissue, _ = phantom
    work = frames_of(tissue, 1.0, 3.0)
    bends = Bends(
        work, np.concatenate([np.tile(np.eye(2), (len(tissue.index), 1, 1)), tissue.centre_mm[..., None]], 2), 12.0
    )
    far = np.roll(bends.sample(), 6, axis=3)
    bends.improve(bends.sample(), 1.0, far)
    assert np.abs(bends.knots).max() <= 0.4 * 12.0
