"""Sections cut through maps or surfaces: each image is what its transform says, and what was cut judges the result."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.cli import entry
from meshgnn.experiment.runner import run
from meshgnn.export.gifti import write_surface
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.images import open_image
from meshgnn.source.sections import read_stack
from reconstruct import Reconstruct, SectionFolder, VolumePair
from reconstruct.cut import GLASS, Cutting, Knife, Rip, write_sections
from reconstruct.cut_experiment import CutSections
from reconstruct.cut_truth import judge_cut, read_cut
from reconstruct.sources import StainedVolume, SurfacePair
from reconstruct.tissue_maps import TissueMaps, read_maps
from tests.reconstruct.phantom import config
from tests.reconstruct.test_reconstruct_sections import write_maps

PLAIN = Cutting(pixel_um=500.0, spacing_mm=2.5, noise=0.0, stain_sd=0.0)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> TissueMaps:
    grey, white, _ = write_maps(tmp_path_factory.mktemp("maps"))
    return read_maps(VolumePair.Config(grey=grey, white=white, space="test"))


def density(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return -np.log(np.maximum(image.astype(float), 1) / GLASS)


def test_a_section_shows_what_lies_where_its_transform_says(maps: TissueMaps) -> None:
    knife = Knife(maps, PLAIN)
    poses = [pose for pose in knife.poses if abs(pose.position_mm) < 15]
    assert len({pose.shift_mm for pose in poses}) == len(poses) > 8
    for pose in poses[::4]:
        image = knife.image(pose)
        rows, columns = np.indices(image.shape)
        matrix = knife.to_reference(pose)
        points = np.stack([columns, rows, np.ones_like(rows)], axis=-1).reshape(-1, 3) @ matrix.T
        grey, white = maps.at(points)
        wanted = PLAIN.grey_density * grey + PLAIN.white_density * white
        np.testing.assert_allclose(density(image).ravel(), wanted, atol=0.006)
        np.testing.assert_allclose(points[:, 1], pose.position_mm, atol=1e-9)
        assert np.linalg.norm(matrix[:, 0]) == pytest.approx(0.5)


def test_poses_spread_as_asked_and_shares_of_sections_are_lost_and_torn(maps: TissueMaps) -> None:
    many = replace(PLAIN, spacing_mm=0.1, missing=0.1, torn=0.2, seed=3)
    poses = Knife(maps, many).poses
    assert np.std([pose.shift_mm for pose in poses]) == pytest.approx(1.5, rel=0.12)
    assert np.std([pose.turn_deg for pose in poses]) == pytest.approx(1.5, rel=0.12)
    assert np.mean([pose.lost for pose in poses]) == pytest.approx(0.1, abs=0.04)
    assert np.mean([pose.rip is not None for pose in poses]) == pytest.approx(0.2, abs=0.05)
    still = Knife(maps, replace(many, missing=0.0, torn=0.0)).poses  # losses leave the rest as it was
    assert [pose.shift_mm for pose in poses] == [pose.shift_mm for pose in still]


def test_a_torn_part_lies_away_with_glass_between() -> None:
    rip = Rip(place_mm=(0.0, 0.0), normal_deg=0.0, gap_mm=2.0, turn_deg=0.0)
    points = np.array([[-3.0, 1.0], [1.0, 1.0], [5.0, 1.0]])
    tissue, hidden = rip.tissue_of(points)
    assert hidden.tolist() == [False, True, False]
    np.testing.assert_allclose(tissue[[0, 2]], [[-3, 1], [3, 1]])


def test_the_same_seed_gives_the_same_bytes_and_lost_sections_are_absent(maps: TissueMaps, tmp_path: Path) -> None:
    cutting = replace(PLAIN, missing=0.3, light=0.1, noise=2.0, seed=2)
    for name, workers in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        write_sections(Knife(maps, cutting), tmp_path / name, lambda: None, workers)
    names = sorted(str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*.tif"))
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    poses, stack = Knife(maps, cutting).poses, read_stack(tmp_path / "a")
    assert [section.index for section in stack] == [pose.index for pose in poses if not pose.lost]
    assert 0 < len(stack) < len(poses)


def test_what_was_cut_judges_its_reconstruction(maps: TissueMaps, tmp_path: Path) -> None:
    gentle = replace(PLAIN, pixel_um=250.0, spacing_mm=2.0, jitter_mm=0.5, jitter_deg=1.0, noise=2.0)
    write_sections(Knife(maps, gentle), tmp_path, lambda: None)
    result = config(tmp_path).build().run(tmp_path / "out")
    judged = result.report["reconstruction"]
    assert judged["euler_L"] == judged["euler_R"] == 2
    assert judged["grey_share_cortex"] > 0.95
    away = [replace(item, mesh=item.mesh.with_vertices(item.mesh.vertices_mm * 0.6)) for item in result.midsurfaces]
    assert judge_cut(tmp_path, away)["grey_share_cortex"] < 0.5
    truth = read_cut(tmp_path)
    stack = read_stack(tmp_path)
    section = stack.sections[len(stack) // 2]
    with open_image(section.path) as image:
        dark = np.argwhere(density(image.read()) > 0.5)
    points = np.column_stack([dark[:, ::-1], np.ones(len(dark))]) @ truth.to_reference[section.index].T
    assert (truth.at(truth.grey, points) > 0.5).mean() > 0.95


def sphere(radius: float, side: str) -> SurfaceMesh:
    from skimage.measure import marching_cubes

    grid = np.indices((32, 32, 32)) - 15.5
    points, faces, _, _ = marching_cubes(np.sqrt((grid**2).sum(0)), 12.0)
    middle = np.array([-20.0 if side == "L" else 20.0, 0, 0])
    unit = (points - 15.5) / np.linalg.norm(points - 15.5, axis=1, keepdims=True)
    return SurfaceMesh(vertices_mm=unit * radius + middle, faces=faces, hemisphere=side, space="balls")  # type: ignore[arg-type]


def test_a_surface_pair_becomes_its_ribbon(tmp_path: Path) -> None:
    for side in ("L", "R"):
        for kind, radius in (("white", 12.0), ("pial", 15.0)):
            write_surface(tmp_path / f"sub-x_hemi-{side}_{kind}.surf.gii", sphere(radius, side))
    maps = read_maps(SurfacePair.Config(folder=tmp_path, space="balls"))
    depth = np.array([0.0, 11.0, 13.5, 16.0])
    grey, white = maps.at(np.stack([20 + depth, 0 * depth, 0 * depth], axis=1))
    assert (grey > 0.5).tolist() == [False, False, True, False]
    assert (white > 0.5).tolist() == [True, True, False, False]
    assert set(maps.surfaces) == {"L", "R"}
    (tmp_path / "sub-x_hemi-R_pial.surf.gii").unlink()
    with pytest.raises(InputError, match=r"0 files \*_hemi-R_pial"):
        read_maps(SurfacePair.Config(folder=tmp_path))


def test_the_command_writes_a_stack_and_refuses_bad_input_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey, white, _ = write_maps(tmp_path)
    source = VolumePair.Config(grey=grey, white=white, space="test")
    run(CutSections.Config(source=source, cutting=PLAIN), tmp_path / "stack")
    assert len(read_stack(tmp_path / "stack")) > 15
    words = ["cut_sections:volumes", "--out", str(tmp_path / "no")]
    given = ["--set", f"source.grey={grey}"]
    for more, told in (
        ([], "source.white"),
        ([*given, "--set", f"source.white={tmp_path / 'none.nii'}"], "no such file"),
        ([*given, "--set", f"source.white={white}", "--set", "cutting.spacing_mm=90"], "cutting.spacing_mm"),
        ([*given, "--set", f"source.white={white}", "--set", "cutting.missing=0.9"], "cutting.missing"),
    ):
        assert entry([*words, *more]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert told in error[0]
    assert not (tmp_path / "no" / "sections.csv").exists()


def test_settings_that_cannot_be_are_named() -> None:
    for values, word in (
        ({"grey_density": 0.1}, "cells stain"),
        ({"pixel_um": 0.0}, "pixel_um"),
        ({"torn": 2.0}, "torn"),
    ):
        with pytest.raises(SettingError, match=word):
            Cutting(**values)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="orientation"):
        StainedVolume.Config(orientation="LRS")


@pytest.mark.slow
def test_a_blurred_whole_brain_from_jittered_sections_is_its_cerebral_cortex(tmp_path: Path) -> None:
    run(CutSections.Config(), tmp_path / "stack")  # MNI152, cerebellum and brain stem in
    source = SectionFolder.Config(path=tmp_path / "stack")
    result = Reconstruct.Config(source=source, pictures=False).build().run(tmp_path / "out")
    judged = result.report["reconstruction"]
    assert judged["euler_L"] == judged["euler_R"] == 2
    assert judged["grey_share"] > 0.95
    assert judged["grey_share_cortex"] > 0.98
    assert result.report["refused"] == []
    centre = read_cut(tmp_path / "stack").centre_mm
    for item in result.midsurfaces:
        assert 70_000 < item.report["area_mm2"] < 110_000
        assert item.report["handles_removed"] < 600
        places = item.mesh.vertices_mm + centre  # near MNI152: the stack knows its pose to a few mm
        cerebellum = (places[:, 2] < -32) & (places[:, 1] < -45)
        assert cerebellum.mean() < 0.002


@pytest.mark.slow
def test_the_ribbon_of_real_surfaces_comes_back(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "bigbrain"
    if not folder.is_dir():
        pytest.skip("BigBrain's surfaces are not here")
    run(CutSections.Config(source=SurfacePair.Config(folder=folder, space="BigBrain")), tmp_path / "stack")
    source = SectionFolder.Config(path=tmp_path / "stack")
    judged = Reconstruct.Config(source=source, pictures=False).build().run(tmp_path / "out").report["reconstruction"]
    assert judged["euler_L"] == judged["euler_R"] == 2
    assert judged["midthickness_mm_mean"] < 0.55
    assert judged["midthickness_mm_p95"] < 1.3
