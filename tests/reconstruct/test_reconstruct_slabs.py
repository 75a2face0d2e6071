"""Dense series: sections are averaged into slabs, and every section keeps its own place."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.slurm_jobs import SlurmJobs
from meshgnn.source.sections import read_stack
from meshgnn.source.virtual.truth import Floats
from reconstruct import Reconstruction, slabs
from reconstruct.records import SectionPlaces
from reconstruct.slabs import grouped
from reconstruct.steps.align import AlignSections
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import body, change, config, write_stack
from tests.reconstruct.test_reconstruct_given import true_matrix, with_affines

EVERY = "tissue.every_mm=1.5"


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, tuple[float, Floats]]]:
    """Sections 0.5 mm apart that lie about; one shows nothing, one half of its tissue, one another brain's."""
    folder = tmp_path_factory.mktemp("dense") / "stack"
    poses = write_stack(folder, spacing_mm=0.5, pixel_um=400, shift_mm=1.0, turn_deg=2, seed=4)

    def half(grey: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.where(np.arange(grey.shape[0])[:, None] < grey.shape[0] / 2, 240, grey)

    change(folder / "s040.tif", lambda grey: np.full_like(grey, 240), 400)
    change(folder / "s052.tif", half, 400)
    change(folder / "s061.tif", lambda grey: np.roll(grey, 60, axis=0), 400)
    return folder, poses


@pytest.fixture(scope="module")
def result(dense: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Reconstruction, Path]:
    out = tmp_path_factory.mktemp("dense-out")
    return config(dense[0], EVERY).build().run(out), out


def test_sections_are_grouped_by_where_they_lie(dense: tuple[Path, object]) -> None:
    sections = read_stack(dense[0]).sections
    groups = grouped(sections, 1.5)
    assert [len(group) for group in groups] == [3] * (len(sections) // 3) + [len(sections) % 3] * bool(
        len(sections) % 3
    )
    assert [section.index for group in groups for section in group] == [section.index for section in sections]
    assert all(len(group) == 1 for group in grouped(sections, 0.5))  # at that distance they count as apart
    assert all(len(group) == 1 for group in grouped(sections, 0.0))


def test_a_dense_series_becomes_a_mesh(result: tuple[Reconstruction, Path]) -> None:
    for item in result[0].midsurfaces:
        assert item.report["euler_number"] == 2
        assert np.abs(body(*item.mesh.vertices_mm.astype(np.float64).T, 1.5)).mean() < 0.5
    sections = result[0].report["sections"]
    assert sections["slabs"] < sections["used"] / 2.5
    assert 40 in sections["left_out"]


def test_every_section_keeps_its_own_place(dense: tuple[Path, dict[int, tuple[float, Floats]]]) -> None:
    """Against each other, the sections of a slab lie where they truly lie, though each came to lie elsewhere."""
    folder, poses = dense
    stack = read_stack(folder)
    tissue = ClassifyTissue.Config(every_mm=1.5).build()(stack)
    places = SectionPlaces.of(tissue, AlignSections.Config(rigid_rounds=8, affine_rounds=0).build()(tissue))
    grid = np.stack(np.meshgrid(np.arange(-12, 13, 6.0), np.arange(-20, 21, 8.0), indexing="ij"), -1)
    found = {}
    for k, index in enumerate(places.index.tolist()):
        turn, shift = poses[index]
        c, s = np.cos(turn), np.sin(turn)
        own = places.pixels(k, grid) * 0.4 - 45.8 - shift  # on the glass, about the middle of the phantom
        found[index] = np.stack([c * own[..., 0] - s * own[..., 1], s * own[..., 0] + c * own[..., 1]], -1)
    apart, before = [], []
    for slab in range(len(tissue.index)):
        inside = tissue.part_index[tissue.part_slab == slab].tolist()
        if len(inside) == 3 and abs(tissue.position_mm[slab]) < 16 and not {52, 61} & set(inside):
            apart += [np.abs(found[a] - found[b]).mean() for a in inside for b in inside if a < b]
            before += [np.linalg.norm(poses[a][1] - poses[b][1]) for a in inside for b in inside if a < b]
    assert len(apart) > 20
    assert np.mean(apart) < 0.2 < 1.0 < np.mean(before)


def test_what_is_torn_or_out_of_place_does_not_show(dense: tuple[Path, object]) -> None:
    stack = read_stack(dense[0])
    tissue = ClassifyTissue.Config(every_mm=1.5).build()(stack)
    area = (tissue.outer < 0).sum((1, 2))
    for index in (40, 52, 61):
        k = int(np.argmin(np.abs(tissue.position_mm - stack.at(index).position_mm)))
        assert 0.9 < area[k] / area[[k - 1, k + 1]].mean() < 1.1
    assert 40 not in tissue.part_index
    assert 61 in tissue.odd or 61 in tissue.part_index  # named, or brought to the others


def test_a_killed_command_goes_on_with_the_slabs_that_are_made(
    dense: tuple[Path, object], result: tuple[Reconstruction, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, whole = [], slabs.make_slab

    def dies(*given: object) -> object:
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(1)
        return whole(*given)  # type: ignore[arg-type]

    settings = config(dense[0], EVERY, "tissue.workers=1").build()
    monkeypatch.setattr(slabs, "make_slab", dies)
    with pytest.raises(KeyboardInterrupt):
        settings.run(tmp_path / "out")
    kept = sorted((tmp_path / "out" / "steps" / "slabs").glob("*/*.npz"))
    assert len(kept) == 5
    kept[2].write_bytes(kept[2].read_bytes()[:100])  # half a file counts as none
    counted = []
    monkeypatch.setattr(slabs, "make_slab", lambda *given: (counted.append(1), whole(*given))[1])  # type: ignore[arg-type, func-returns-value]
    again = settings.run(tmp_path / "out")
    total = len(grouped(read_stack(dense[0]).usable().sections, 1.5))
    assert len(counted) == total - 4
    assert not (tmp_path / "out" / "steps" / "slabs").exists()
    for one, other in zip(again.midsurfaces, result[0].midsurfaces):
        assert np.array_equal(one.mesh.vertices_mm, other.mesh.vertices_mm)


def test_slabs_as_jobs_are_the_same(dense: tuple[Path, object], tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    stack = read_stack(dense[0])
    few = replace(stack, sections=stack.sections[40:58])
    here = ClassifyTissue.Config(every_mm=1.5).build()(few)
    local = SlurmJobs.Config(cluster="local", cpus=1, memory_gb=2)
    there = ClassifyTissue.Config(every_mm=1.5, jobs=local).build()(few, folder=tmp_path / "slabs")
    assert np.array_equal(here.outer, there.outer)
    assert np.array_equal(here.part_to_image, there.part_to_image)


def test_a_registration_is_kept_section_by_section(
    dense: tuple[Path, dict[int, tuple[float, Floats]]], tmp_path: Path
) -> None:
    folder, poses = dense
    stack = read_stack(folder)
    matrices = {n: true_matrix(*poses[n], stack.at(n).position_mm, 0.4) for n in poses}
    for matrix in matrices.values():  # true_matrix is for pixels of 0.2 mm
        matrix[:3, 3] += 0.1 * (matrix[:3, 0] + matrix[:3, 1]) / 0.4
    placed = with_affines(folder, tmp_path / "placed", matrices)
    kept = config(placed, EVERY, "source.poses=keep").build().run(tmp_path / "kept")
    for item in kept.midsurfaces:
        assert item.report["euler_number"] == 2
        assert np.abs(body(*item.mesh.vertices_mm.astype(np.float64).T, 1.5)).mean() < 0.3


def test_an_unreadable_section_of_a_dense_series_is_named(dense: tuple[Path, object], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(dense[0], folder)
    path = folder / "s050.tif"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="s050"):
        config(folder, EVERY).build().run(tmp_path / "out")
