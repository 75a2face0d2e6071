"""Alignment of all sections at once: the estimates, the equations, and a reference volume that shows the bend."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.linalg import cholesky_banded

from meshgnn.errors import InputError
from meshgnn.source.sections import read_stack
from reconstruct.joint import Joint, _band_inverse, between_neighbours
from reconstruct.records import Alignment, TissueStack
from reconstruct.steps.align import AlignSections
from reconstruct.steps.reference import ReferenceVolume
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import body, config, write_stack

POSITION = np.arange(80) * 2.0


def told(true: np.ndarray, line_mm: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Places on the glass, moves to what neighbours predict, and what is known, for true corrections [N, 3]."""
    start = np.tile(np.eye(2, 3), (len(true), 1, 1))
    weights = between_neighbours(np.arange(len(true)) * 2.0)
    moves = true - weights @ true + line_mm * rng.standard_normal(true.shape)
    return start, moves, np.tile(np.eye(3), (len(true), 1, 1))


@pytest.mark.parametrize(("glass", "line"), [(0.5, 0.05), (2.0, 0.05), (1.0, 0.3)])
def test_spreads_are_estimated_and_the_answer_is_about_as_unsure_as_it_says(glass: float, line: float) -> None:
    rng = np.random.default_rng(3)
    true = glass * rng.standard_normal((80, 3))
    start, moves, known = told(true, line, rng)
    joint = Joint(start, POSITION, stretch=False)
    found = joint.now_of(joint.solve(start, moves, known, rounds=40))
    assert joint.spread.glass_mm[0] == pytest.approx(glass, rel=0.3)
    assert line / 2 < joint.spread.line_mm < 1.5 * line  # the scale of Student's t is below the standard deviation
    error = np.sqrt(((found - true) ** 2).sum(1).mean())
    assert error < 0.75 * np.sqrt((true**2).sum(1).mean())
    assert 0.6 < error / joint.unsure_mm.mean() < 1.6


def test_sections_that_fit_nowhere_do_not_pull_the_others() -> None:
    rng = np.random.default_rng(4)
    true = rng.standard_normal((80, 3))
    start, moves, known = told(true, 0.05, rng)
    plain = Joint(start, POSITION, stretch=False)
    before = plain.now_of(plain.solve(start, moves, known, rounds=20))
    moves[40] += 8.0
    joint = Joint(start, POSITION, stretch=False)
    after = joint.now_of(joint.solve(start, moves, known, rounds=20))
    others = np.abs(np.arange(80) - 40) > 2
    assert np.abs(after - before)[others].mean() < 0.3


def test_what_a_volume_says_of_the_bend_is_taken() -> None:
    rng = np.random.default_rng(5)
    true = rng.standard_normal((80, 3)) + 3 * np.sin(POSITION / 30)[:, None]
    true -= true.mean(0)
    start, moves, known = told(true, 0.05, rng)
    alone, joint = Joint(start, POSITION, stretch=False), Joint(start, POSITION, stretch=False)
    without = alone.now_of(alone.solve(start, moves, known, rounds=20))
    cuts = (true + 0.3 * rng.standard_normal(true.shape), known)
    found = joint.now_of(joint.solve(start, moves, known, cuts, rounds=20))
    assert np.sqrt(((found - true) ** 2).mean()) < 0.2 < np.sqrt(((without - true) ** 2).mean())
    assert joint.spread.reference_mm == pytest.approx(0.3, rel=0.4)


@pytest.mark.parametrize("stretch", [False, True])
def test_the_equations_are_those_of_the_sum_of_squares(stretch: bool) -> None:
    rng = np.random.default_rng(6)
    joint = Joint(np.tile(np.eye(2, 3), (7, 1, 1)), np.cumsum(rng.uniform(1, 3, 7)), stretch=stretch)
    size = joint.size
    root = rng.standard_normal((2, 7, size, size))
    weighted, cut = (one @ one.transpose(0, 2, 1) for one in root)
    target, place = rng.standard_normal((2, 7, size))
    band, right = joint._system(weighted, target, cut, place)
    whole = np.zeros((7 * size, 7 * size))
    wanted = np.zeros(7 * size)
    for k in range(7):
        rows = np.zeros((size, 7, size))
        for j in range(7):
            rows[:, j] = np.eye(size) * ((j == k) - joint.weights[k, j])
        rows = rows.reshape(size, -1)
        own = np.eye(7 * size)[k * size : (k + 1) * size]
        whole += rows.T @ weighted[k] @ rows + own.T @ cut[k] @ own
        wanted += rows.T @ weighted[k] @ target[k] + own.T @ cut[k] @ place[k]
    whole += np.diag(np.tile(1 / joint.glass[joint.kinds], 7))
    assert right == pytest.approx(wanted)
    for down, line in enumerate(band):
        assert line[: len(line) - down] == pytest.approx(np.diag(whole, -down))
    inverse = _band_inverse(cholesky_banded(band, lower=True))
    for down, line in enumerate(inverse):
        assert line[: len(line) - down] == pytest.approx(np.diag(np.linalg.inv(whole), -down))


def write_maps(folder: Path, *, turned: bool = False) -> ReferenceVolume.Config:
    """Grey and white matter maps of the phantom at 1 mm, as an MRI would show it."""
    axis = np.arange(-46.0, 47.0)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    x, z = (z, x) if turned else (x, z)
    outer, inner = body(x, y, z, 0.0), body(x, y, z, 3.0)
    affine = np.eye(4)
    affine[:3, 3] = -46
    folder.mkdir(parents=True)
    for name, map_ in (("grey", (outer < 0) & (inner >= 0)), ("white", inner < 0)):
        nibabel.save(nibabel.Nifti1Image(map_.astype(np.float32), affine), folder / f"{name}.nii.gz")
    return ReferenceVolume.Config(grey=folder / "grey.nii.gz", white=folder / "white.nii.gz")


@pytest.fixture(scope="module")
def bent(tmp_path_factory: pytest.TempPathFactory) -> tuple[TissueStack, TissueStack]:
    """The phantom's tissue as it is, and bent by up to 5 mm, slowly along the brain."""
    folder = tmp_path_factory.mktemp("bent") / "stack"
    write_stack(folder, pixel_um=400)
    tissue = ClassifyTissue.Config().build()(read_stack(folder))
    bend = 5 * np.cos(tissue.position_mm / 12)
    return tissue, replace(tissue, origin_mm=tissue.origin_mm + np.outer(bend, [1.0, 0.0]))


def error(alignment: Alignment, tissue: TissueStack, bent: TissueStack) -> float:
    """Mean distance in mm, in the plane, of where sections lie from where they truly lie, but for a common shift."""
    point = np.zeros((1, 2))
    moves = np.array([alignment.map(k, point)[0] for k in range(len(tissue.index))])
    away = moves - tissue.centre_mm - (bent.origin_mm - tissue.origin_mm)
    inner = np.abs(tissue.position_mm) < 18
    return float(np.linalg.norm(away[inner] - away[inner].mean(0), axis=1).mean())


def test_a_reference_volume_unbends_the_stack(bent: tuple[TissueStack, TissueStack], tmp_path: Path) -> None:
    tissue, moved = bent
    alone = AlignSections.Config(rigid_rounds=6, affine_rounds=0).build()(moved)
    maps = write_maps(tmp_path / "maps")
    with_volume = AlignSections.Config(rigid_rounds=6, affine_rounds=0, reference=maps).build()(moved)
    assert error(alone, *bent) > 1.0  # the bend may be anatomy
    assert error(with_volume, *bent) < 0.4
    assert with_volume.reference > 0.9 > alone.reference == 0
    assert len(tissue.index) == len(with_volume.to_section)


def test_another_brain_is_no_reference(bent: tuple[TissueStack, TissueStack], tmp_path: Path) -> None:
    axis = np.arange(-46.0, 47.0)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    ring = (np.abs(np.hypot(x, z) - 30) < 6) & (np.abs(y) < 6)
    maps = write_maps(tmp_path / "maps")
    assert maps.grey is not None
    assert maps.white is not None
    thin = np.abs(np.hypot(x, z) - 30) < 3
    for path, map_ in ((maps.grey, ring & ~thin), (maps.white, ring & thin)):
        nibabel.save(nibabel.Nifti1Image(map_.astype(np.float32), nibabel.load(path).affine), path)
    with pytest.raises(InputError, match="does not fit the sections"):
        AlignSections.Config(rigid_rounds=4, affine_rounds=0, reference=maps).build()(bent[1])


def test_a_reference_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    write_stack(tmp_path / "stack", pixel_um=800, spacing_mm=5)
    missing = tmp_path / "grey.nii.gz"
    settings = config(tmp_path / "stack", f"align.reference.grey={missing}", f"align.reference.white={missing}")
    with pytest.raises(InputError, match="no such file"):
        settings.build().run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="give both"):
        config(tmp_path / "stack", f"align.reference.grey={missing}").build().run(tmp_path / "out")
