"""Laws of the section part: interpolation of shape, alignment, order, gaps, locations, resuming, bad input."""

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.aligned import read_aligned
from meshgnn.source.sections import read_stack
from reconstruct import Reconstruct, VolumePair
from reconstruct.judge import rigid_fit
from reconstruct.maker import MeshFromSections
from reconstruct.plausibility import Plausible, of_tissue
from reconstruct.records import Alignment, SectionPlaces, TissueStack
from reconstruct.state import load
from reconstruct.steps.align import AlignSections
from reconstruct.steps.cerebrum import KeepCerebrum
from reconstruct.steps.locate import LocateNodes
from reconstruct.steps.stack import interpolate_shape
from reconstruct.steps.tissue import ClassifyTissue, signed_distance
from tests.reconstruct.phantom import body, config, read_rows, write_stack, write_table


def test_shape_interpolation_of_a_cone() -> None:
    axis = np.arange(-30, 30.5, 0.5)
    r = np.hypot(*np.meshgrid(axis, axis, indexing="ij"))
    position = np.array([0.0, 2, 4, 8, 10])  # one section missing
    cone = np.stack([r - (20 - p) for p in position]).astype(np.float32)
    wanted = np.array([1.0, 3.3, 6.0, 9.0])
    found = interpolate_shape(cone, position, wanted, reach=50)
    exact = np.stack([r - (20 - p) for p in wanted])
    assert np.abs(found - exact).max() < 1e-4
    assert (interpolate_shape(cone, position, np.array([10.0, 12.0]), 50)[1] > cone[-1]).all()  # closes beyond the end


def test_signed_distance_of_a_disc_is_sub_pixel() -> None:
    axis = np.arange(-20, 20.25, 0.25)
    r = np.hypot(*np.meshgrid(axis, axis, indexing="ij"))
    level = np.clip(r - 12.37, -0.4, 0.4).astype(np.float32)
    found = signed_distance(level, 0.25, 3.0)
    assert np.abs(found - np.clip(r - 12.37, -3, 3)).mean() < 0.03


def test_tissue_follows_the_true_boundaries(straight: Path) -> None:
    stack = read_stack(straight)
    tissue = ClassifyTissue.Config().build()(stack)
    assert set(tissue.index) <= {section.index for section in stack}  # specks at the poles are left out
    for k in (4, 12):
        rows, columns = (
            tissue.origin_mm[k][a] + tissue.pixel_mm * np.arange(tissue.outer.shape[1 + a]) - 45.9 for a in range(2)
        )
        down, across = np.meshgrid(rows, columns, indexing="ij")
        for field, depth in ((tissue.outer, 0.0), (tissue.white, 3.0)):
            true = body(across, np.full_like(across, tissue.position_mm[k]), -down, depth)
            assert ((field[k] < 0) != (true < 0)).mean() < 0.006
            beside = np.abs(field[k]) < 0.1  # what is called boundary lies at the boundary
            assert np.median(np.abs(true[beside])) < 0.25


def test_alignment_recovers_known_poses(tmp_path: Path) -> None:
    poses = write_stack(tmp_path / "moved", shift_mm=1.2, turn_deg=2.5, seed=3)
    tissue = ClassifyTissue.Config().build()(read_stack(tmp_path / "moved"))
    settings = AlignSections.Config(rigid_rounds=20, affine_rounds=0)
    grid = np.stack(np.meshgrid(np.arange(-15, 16, 5.0), np.arange(-28, 29, 7.0), indexing="ij"), -1)

    def spread(alignment) -> float:  # type: ignore[no-untyped-def]
        errors = []
        for k, index in enumerate(tissue.index):
            if abs(tissue.position_mm[k]) > 16:  # discs at the poles show no turn
                continue
            turn, shift = poses[int(index)]
            c, s = np.cos(turn), np.sin(turn)
            true = np.stack([c * grid[..., 0] + s * grid[..., 1], -s * grid[..., 0] + c * grid[..., 1]], -1) + shift
            errors.append(alignment.map(k, grid) - 45.9 - true)
        found = np.array(errors)
        return float(np.sqrt(((found - found.mean(0)).reshape(-1, 2) ** 2).sum(1).mean()))

    before = spread(AlignSections.Config(rigid_rounds=0, affine_rounds=0).build()(tissue))
    after = spread(settings.build()(tissue))
    assert before > 1.5
    assert after < 0.6 * before  # the slow part of random poses stays: images cannot tell it from anatomy


def test_curved_anatomy_is_not_straightened(straight: Path) -> None:
    """Sections that lie right stay where they are: the banana problem."""
    tissue = ClassifyTissue.Config().build()(read_stack(straight))
    bent = replace(tissue, origin_mm=tissue.origin_mm + np.outer(0.01 * tissue.position_mm**2, [1.0, 0]))
    alignment = AlignSections.Config(affine_rounds=0).build()(bent)
    rest = AlignSections.Config(rigid_rounds=0, affine_rounds=0).build()(bent)
    point = np.zeros((1, 2))
    moves = np.array([alignment.map(k, point) - rest.map(k, point) for k in range(len(tissue.index))])
    assert np.abs(moves).mean() < 0.5  # of 6 mm


def test_midsurface_of_the_phantom(result) -> None:  # type: ignore[no-untyped-def]
    assert [item.mesh.hemisphere for item in result.midsurfaces] == ["L", "R"]
    for item, sign in zip(result.midsurfaces, (-1, 1)):
        assert item.report["euler_number"] == 2
        points = item.mesh.vertices_mm.astype(np.float64)
        assert (sign * points[:, 0]).min() > 0
        level = body(*points.T, 1.5)
        assert np.abs(level).mean() < 0.5
        assert item.cortex.mean() > 0.95
    report = result.report["sections"]
    assert report["gaps"] == [{"after": 8, "before": 11, "mm": 6.0}]


def test_nodes_lie_where_the_section_shows_them(result, straight: Path) -> None:  # type: ignore[no-untyped-def]
    stack = read_stack(straight)
    position = {section.index: section.position_mm for section in stack}
    for item, places in zip(result.midsurfaces, result.locations):
        points = item.mesh.vertices_mm
        seen = places.observed
        assert 0.8 < seen.mean() < 1  # the gap of 6 mm is not observed in its middle
        assert (places.residual_mm[~seen] > 0.99).all()
        away = np.abs(points[seen, 1] - [position[int(k)] for k in places.section[seen]])
        assert away == pytest.approx(places.residual_mm[seen], abs=1e-4)
        rows, columns = places.row_px[seen] * 0.2 - 45.9, places.column_px[seen] * 0.2 - 45.9
        assert np.hypot(rows + points[seen, 2], columns - points[seen, 0]).mean() < 0.6  # poses are 0 in this stack
        normal = item.normals.astype(float)
        assert places.obliqueness_deg == pytest.approx(
            np.degrees(np.arcsin(np.minimum(1, np.abs(normal[:, 1])))), abs=0.1
        )
        flat = (places.obliqueness_deg < 60) & seen
        angle = np.degrees(np.arctan2(-normal[flat, 2], normal[flat, 0]))
        turn = (places.normal_angle_deg[flat] - angle + 180) % 360 - 180
        assert np.abs(turn).mean() < 3


def test_nodes_near_an_annotated_section_lie_on_it(finished, straight: Path) -> None:  # type: ignore[no-untyped-def]
    out, result = finished
    stack = read_aligned(out, straight)
    tissue, alignment = load(out / "steps" / "tissue", TissueStack), load(out / "steps" / "align", Alignment)
    surface = result.midsurfaces[0]
    cuts = SectionPlaces.of(tissue, alignment)
    plain = LocateNodes.Config().build()(surface, stack, cuts)
    annotated = 12
    reach = LocateNodes.Config(annotated_mm=1.7)
    found = reach.build()(surface, stack, cuts, (annotated,))
    away = np.abs(surface.mesh.vertices_mm[:, 1] - stack.at(annotated).position_mm)
    assert np.array_equal(found.section == annotated, away <= 1.7)
    others = away > 1.7
    assert np.array_equal(found.section[others], plain.section[others])
    assert (found.section == annotated).sum() > 1.5 * (plain.section == annotated).sum()
    here = found.section == annotated
    assert np.allclose(found.residual_mm[here], away[here], atol=1e-4)
    places = stack.at(annotated).pixel_to_mm(found.row_px[here], found.column_px[here])
    assert np.allclose(places[:, [0, 2]], surface.mesh.vertices_mm[here][:, [0, 2]], atol=1e-3)  # within the plane


def test_line_order_of_the_table_does_not_matter(result, straight: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "straight"
    shutil.copytree(straight, copy)
    rows = read_rows(copy)
    write_table(copy, [rows[k] for k in np.random.default_rng(1).permutation(len(rows))])
    other = config(copy).build().run(tmp_path / "out")
    for a, b in zip(result.midsurfaces, other.midsurfaces):
        assert a.mesh.content_hash() == b.mesh.content_hash()


def test_any_number_of_threads_gives_the_same(result, straight: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    alone = config(straight, "workers=1", "tissue.workers=1", "align.workers=1").build().run(tmp_path)
    for a, b in zip(result.midsurfaces, alone.midsurfaces):
        assert a.mesh.content_hash() == b.mesh.content_hash()
        np.testing.assert_array_equal(a.pial_mm, b.pial_mm)
        np.testing.assert_array_equal(a.thickness_mm, b.thickness_mm)


def test_shuffled_images_are_refused(straight: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shuffled"
    shutil.copytree(straight, copy)
    rows = read_rows(copy)
    order = np.random.default_rng(2).permutation(len(rows))
    write_table(copy, [[rows[k][0], *row[1:]] for k, row in zip(order, rows)])
    with pytest.raises(InputError, match="do not follow on one another"):
        config(copy).build().run(tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.gii"))


def test_a_killed_run_goes_on(straight: Path, tmp_path: Path) -> None:
    first = config(straight).build().run(tmp_path)
    shutil.rmtree(tmp_path / "steps" / "midsurface-R")
    (tmp_path / "steps" / "stack" / "pial.npy").write_bytes(b"cut short")
    again = config(straight).build().run(tmp_path)
    assert "tissue" in again.report["reused"]
    assert "midsurface-L" in again.report["reused"]
    assert not {"stack", "midsurface-R"} & set(again.report["reused"])
    for a, b in zip(first.midsurfaces, again.midsurfaces):
        assert a.mesh.content_hash() == b.mesh.content_hash()
    surface = nibabel.load(next(tmp_path.glob("sub-straight_hemi-L_midthickness.surf.gii")))
    assert len(surface.agg_data("pointset")) == first.midsurfaces[0].mesh.n_vertices


def test_bad_stacks_are_told_in_one_line(straight: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        shutil.copytree(straight, tmp_path / name)
        return tmp_path / name

    one = broken("one")
    write_table(one, read_rows(one)[:1])
    blank = broken("blank")
    write_table(blank, [[read_rows(blank)[0][0], *row[1:]] for row in read_rows(blank)])
    cut = broken("cut")
    (cut / "s004.tif").write_bytes((cut / "s004.tif").read_bytes()[:2000])
    lost = broken("lost")
    (lost / "s004.tif").unlink()
    from meshgnn.source.sections import write_tiff

    write_tiff(blank / "s000.tif", np.full((460, 460), 240, np.uint8), 200)
    for folder, words in (
        (one, "at least"),
        (blank, "tissue"),
        (cut, "s004"),
        (lost, "s004"),
        (tmp_path / "no", "no such"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            config(folder).build().run(tmp_path / "out")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="apart"):
        config(straight, "stack.largest_gap_mm=5").build().run(tmp_path / "out")


def test_too_few_sections_are_refused_with_their_number_and_few_are_warned_of(straight: Path, tmp_path: Path) -> None:
    rows = read_rows(straight)
    for name, kept, marks in (("two", rows[10:12], ""), ("marked", rows[8:14], "0001")):
        folder = Path(shutil.copytree(straight, tmp_path / name))
        usable = {row[0]: mark for row, mark in zip(kept, marks)}
        write_table(folder, [[*row[:5], usable.get(row[0], 1)] for row in kept])
        # What the command line asks before it makes a folder.
        with pytest.raises(InputError, match=r"(2 of 2|3 of 6) sections are usable; at least 4 are needed"):
            config(folder).build().check()
        with pytest.raises(InputError, match="at least 4"):
            config(folder).build().run(tmp_path / "out")
        assert not (tmp_path / "out").exists()
    few = Path(shutil.copytree(straight, tmp_path / "few"))
    write_table(few, rows[6:14])
    tissue = ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(few))
    assert any("only 8 sections over" in text for text in of_tissue(tissue, Plausible()))


def test_a_truth_of_one_hemisphere_asks_for_that_side_before_any_work(straight: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(straight, tmp_path / "half"))
    (folder / "truth").mkdir()
    for name in ("brain.json", "sub-half_hemi-L_white.surf.gii"):
        (folder / "truth" / name).write_text("{}")
    for sides in ("both", "R"):
        with pytest.raises(InputError, match=r"hemisphere L, but .*set hemispheres.sides=L, or judge=false"):
            config(folder, f"hemispheres.sides={sides}").build().run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    config(folder, "hemispheres.sides=L").build().check()
    config(folder, "judge=false").build().check()
    maker = config(folder, kind=MeshFromSections.Config).build()
    with pytest.raises(InputError, match="hemispheres"):
        maker.check(folder)  # type: ignore[attr-defined]


def write_maps(folder: Path) -> tuple[Path, Path, np.ndarray]:
    x, y, z = np.meshgrid(*[np.arange(-40, 41.0)] * 3, indexing="ij")
    white = 1 / (1 + np.exp(4 * body(x, y, z, 3.0)))
    grey = 1 / (1 + np.exp(4 * body(x, y, z, 0.0))) - white
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = -40
    for name, data in (("grey", grey), ("white", white)):
        nibabel.Nifti1Image(data.astype(np.float32), affine).to_filename(folder / f"{name}.nii.gz")
    return folder / "grey.nii.gz", folder / "white.nii.gz", affine


def test_volume_path(tmp_path: Path) -> None:
    grey, white, affine = write_maps(tmp_path)
    settings = Reconstruct.Config(
        source=VolumePair.Config(grey=grey, white=white, space="test"), pictures=False,
        plausible=Plausible(refuse=False), cerebrum=KeepCerebrum.Config(find="none"),
    )  # fmt: skip
    result = settings.build().run(tmp_path / "out")
    for item in result.midsurfaces:
        assert item.report["euler_number"] == 2
        assert np.abs(body(*item.mesh.vertices_mm.astype(float).T, 1.5)).mean() < 0.4
    data = np.zeros((8, 8, 8), np.float32)
    nan = data.copy()
    nan[3, 3, 3] = np.nan
    nibabel.Nifti1Image(nan, affine).to_filename(tmp_path / "nan.nii")
    bare = nibabel.Nifti1Image(data + 1, None)
    bare.set_sform(None, 0)
    bare.set_qform(None, 0)
    bare.to_filename(tmp_path / "bare.nii")
    nibabel.Nifti1Image(data, affine).to_filename(tmp_path / "empty.nii")
    (tmp_path / "cut.nii.gz").write_bytes(grey.read_bytes()[:500])
    for name, words in (("nan.nii", "finite"), ("bare.nii", "affine"), ("empty.nii", "0 to 1"), ("cut.nii.gz", "read"),
                        ("none.nii", "no such")):  # fmt: skip
        bad = replace(settings, source=VolumePair.Config(grey=tmp_path / name, white=white))
        with pytest.raises(InputError, match=words):
            bad.build().run(tmp_path / "bad")


def test_rigid_fit_finds_the_motion(rng: np.random.Generator) -> None:
    cloud = rng.standard_normal((4000, 3)) * [30, 50, 20]
    angle = np.radians(3)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    rotation, shift = rigid_fit((cloud[::3] - [1, 2, 0.5]) @ turn, cloud)
    assert np.abs(rotation - turn).max() < 0.01
    assert shift == pytest.approx([1, 2, 0.5], abs=0.2)


def test_import_is_light() -> None:
    import subprocess
    import sys

    code = "import reconstruct, sys; assert not {'torch', 'features'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
