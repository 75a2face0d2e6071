"""Laws of the border test, and borders on sections through a mesh whose areas are known."""

import csv
import json

import numpy as np
import pytest
import tifffile
import trimesh
from sklearn.covariance import ledoit_wolf

from meshgnn.borders.command import chosen, entry
from meshgnn.borders.find import BorderTest
from meshgnn.borders.hotelling import block_distances, hotelling_p
from meshgnn.borders.profiles import level_profiles, shape_features
from meshgnn.borders.ribbon import ribbon_lines, section_chains
from meshgnn.borders.section import SectionBorderFinder, as_shown, border_points_px, changes, in_neighbours
from meshgnn.errors import InputError, SettingError
from meshgnn.export.gifti import write_surface
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.sections import read_stack

DEPTH = (np.arange(64) + 0.5) / 64


def profiles(count: int, rng: np.random.Generator, *, peak: float = 0.5, noise: float = 0.15) -> np.ndarray:
    """Profiles of one area: a band of dark cells in its own depth, and independent noise that is smooth over depth."""
    band = 0.5 + np.exp(-(((DEPTH - peak) / 0.12) ** 2))
    rough = rng.normal(size=(count, 9)) @ np.cos(np.outer(np.arange(9), np.pi * DEPTH)) / 3
    return np.maximum(band + noise * rough, 0)


def test_two_blocks_have_the_distance_of_their_definition_and_the_p_of_hotelling():
    rng = np.random.default_rng(0)
    series, b = rng.normal(size=(60, 10)) * np.arange(1, 11), 12
    pooled, shrunk = block_distances(series, b)
    assert np.isnan(pooled[: b - 1]).all()
    assert np.isnan(pooled[60 - b :]).all()
    place = 30
    left, right = series[place - b + 1 : place + 1], series[place + 1 : place + 1 + b]
    covariance = (np.cov(left.T) + np.cov(right.T)) / 2
    apart = right.mean(0) - left.mean(0)
    assert pooled[place] == pytest.approx(apart @ np.linalg.solve(covariance, apart), rel=1e-6)
    scaled = series / series.std(0)
    rest = np.concatenate([part - part.mean(0) for part in
                           (scaled[place - b + 1 : place + 1], scaled[place + 1 : place + 1 + b])])  # fmt: skip
    known = ledoit_wolf(rest, assume_centered=True)[0]
    apart = apart / series.std(0)
    assert shrunk[place] == pytest.approx(apart @ np.linalg.solve(known, apart), rel=1e-6)


def test_p_values_of_independent_normal_series_are_uniform():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        pooled, _ = block_distances(rng.normal(size=(16, 10)), 8)
        found.append(hotelling_p(pooled[7:8], 8, 10)[0])
    for level in (0.01, 0.05, 0.5):
        assert np.mean(np.array(found) < level) == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 2000))


def test_too_small_blocks_are_refused():
    with pytest.raises(InputError, match="blocks of 5 profiles are too small for 10 features"):
        block_distances(np.zeros((40, 10)), 5)
    with pytest.raises(InputError, match="at least 6"):
        hotelling_p(np.ones(3), 5, 10)
    with pytest.raises(SettingError, match="smallest"):
        BorderTest.Config(smallest=5)
    assert np.isnan(block_distances(np.random.default_rng(0).normal(size=(11, 10)), 6)[0]).all()


@pytest.mark.parametrize("many", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_uniform_cortex_has_borders_in_at_most_the_stated_share_of_series(many):
    """Series of independent profiles of one area, at a level of 0.05 for a whole series."""
    rng = np.random.default_rng(2)
    test = BorderTest.Config(level=0.05).build()
    alarms = sum(bool(test(shape_features(profiles(60, rng))).borders) for _ in range(many))
    assert alarms <= 0.05 * many


def test_a_planted_border_is_found_within_a_profile_or_two():
    rng, test = np.random.default_rng(3), BorderTest.Config().build()
    places = []
    for _ in range(30):
        two = np.concatenate([profiles(70, rng), profiles(50, rng, peak=0.62)])
        found = test(shape_features(level_profiles(two))).borders
        assert len(found) == 1
        assert len(found[0].blocks) >= 9
        places.append(found[0].place)
    assert np.abs(np.array(places) - 69).max() <= 2
    assert np.abs(np.array(places) - 69).mean() <= 1


def test_no_factor_or_offset_of_the_grey_values_changes_the_test():
    rng, test = np.random.default_rng(4), BorderTest.Config().build()
    two = np.concatenate([profiles(50, rng), profiles(60, rng, peak=0.6)])
    plain = test(shape_features(level_profiles(two)))
    other = test(shape_features(level_profiles(37.0 * two - 900)))
    np.testing.assert_allclose(other.distance2, plain.distance2, rtol=1e-5)
    assert [b.place for b in other.borders] == [b.place for b in plain.borders]


def test_profiles_that_do_not_vary_have_no_borders():
    test = BorderTest.Config().build()
    assert test(shape_features(np.ones((60, 64)))).borders == ()
    assert test(shape_features(np.zeros((60, 64)))).borders == ()
    assert test(np.zeros((3, 10))).borders == ()
    assert test(np.zeros((0, 10))).borders == ()
    assert level_profiles(np.zeros((0, 64))).shape == (0, 64)


def test_the_features_of_a_distribution_are_its_moments():
    one = np.exp(-0.5 * ((DEPTH - 0.4) / 0.1) ** 2)[None]
    mean, centre, sd, skewness, kurtosis = shape_features(one)[0, :5]
    assert mean == pytest.approx(one.mean())
    assert (centre, sd) == (pytest.approx(0.4, abs=1e-3), pytest.approx(0.1, abs=1e-3))
    assert (skewness, kurtosis) == (pytest.approx(0, abs=0.02), pytest.approx(3, abs=0.05))
    np.testing.assert_allclose(
        shape_features(3 * one)[0, [1, 2, 3, 4, 6, 7]], shape_features(one)[0, [1, 2, 3, 4, 6, 7]]
    )


# -- sections through two concentric spheres -----------------------------------------------------------------------


def ball(radius: float = 20.0) -> MeshGraph:
    made = trimesh.creation.icosphere(4, radius=radius)
    points = np.asarray(made.vertices, np.float32)
    mesh = SurfaceMesh(vertices_mm=points, faces=np.asarray(made.faces), hemisphere="L", space="ball")
    labels = (points[:, 0] > 3).astype(np.int32)
    return MeshGraph(
        brain="ball", meshes=(mesh,), labels=labels, areas=Areas(names=("A", "B")),
        surfaces={"pial": points * (radius + 1.5) / radius, "white": points * (radius - 1.5) / radius},
    )  # fmt: skip


def write_ball(folder, positions=(-2.0, 0.0, 2.0), pixel_um: float = 100.0, mirrored: str = ""):
    """Sections through the ball: area A has its dark band above, B below; noise by pixel."""
    folder.mkdir()
    size = 480
    rows = [["file", "index", "position_mm", "pixel_um", "thickness_um", "usable", "mirrored"]]
    for index, at in enumerate(positions):
        rng = np.random.default_rng(index)
        across, down = np.meshgrid(*[(np.arange(size) - (size - 1) / 2) * pixel_um / 1000] * 2)
        radius = np.sqrt(across**2 + down**2 + at**2)
        depth = (21.5 - radius) / 3
        band = np.where(across > 3, 0.65, 0.4)
        density = np.where(depth < 0, 0, 0.4 + 0.6 * np.exp(-(((depth - band) / 0.12) ** 2)))
        density = np.where(depth > 1, 0.3, density) * (1 + 0.25 * rng.normal(size=density.shape))
        grey = np.where(depth < 0, 240, 240 * np.exp(-density)).clip(0, 255).astype(np.uint8)
        tifffile.imwrite(folder / f"s{index}.tif", grey[:, ::-1] if mirrored else grey)
        rows.append([f"s{index}.tif", index, at, pixel_um, 20, 1, mirrored])
    (folder / "sections.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return folder


def test_a_plane_cuts_a_sphere_in_one_closed_line_in_order():
    graph = ball()
    points = graph.vertices_mm.astype(float)
    chains = section_chains(points[:, 1] - 4.03, graph.meshes[0].faces)
    assert len(chains) == 1
    edges, along, closed = chains[0]
    assert closed
    ends = points[edges]
    cut = ends[:, 0] * (1 - along[:, None]) + ends[:, 1] * along[:, None]
    np.testing.assert_allclose(cut[:, 1], 4.03, atol=1e-5)
    steps = np.linalg.norm(np.diff(np.r_[cut, cut[:1]], axis=0), axis=1)
    assert steps.sum() == pytest.approx(2 * np.pi * np.sqrt(400 - 4.03**2), rel=5e-3)
    assert section_chains(points[:, 1] - 40, graph.meshes[0].faces) == []


def test_lines_across_are_as_long_as_the_slant_makes_the_cortex_look():
    """A plane at height h through spheres of 21.5 and 18.5: the straight line is 3 mm over the cosine of the slant."""
    graph = ball()
    h = 8.02

    def place(points):
        return points[..., 2] * 10, points[..., 0] * 10, points[..., 1] - h

    line = ribbon_lines(graph, place, 100.0, every_mm=0.5)[0]
    slant = np.degrees(np.arcsin(h / 20))
    np.testing.assert_allclose(line.obliqueness_deg, slant, atol=1)
    length = np.linalg.norm(line.pial_px - line.white_px, axis=1) / 10
    np.testing.assert_allclose(length, 3 / np.cos(np.radians(slant)), rtol=0.02)
    np.testing.assert_allclose(np.diff(line.position_mm), 0.5)
    np.testing.assert_allclose(line.share.sum(1), 1)
    np.testing.assert_allclose(line.interpolated(graph.vertices_mm)[:, [2, 0]], line.middle_px / 10, atol=0.02)


def test_borders_on_sections_lie_where_areas_meet(tmp_path):
    graph, stack = ball(), read_stack(write_ball(tmp_path / "stack"), space="ball")
    finder = SectionBorderFinder.Config().build()
    found = [finder.find(section, graph) for section in stack]
    for section, one in zip(stack, found):
        points = np.concatenate([border_points_px(run) for run in one.runs])
        x = section.pixel_to_mm(points[:, 0], points[:, 1])[:, 0]
        assert len(x) == 2  # above and below
        np.testing.assert_allclose(x, 3, atol=0.45)
        assert one.left_out == 0
    confirmed = in_neighbours(found, {s.index: s for s in stack})
    assert [sorted(n for run in one.supported for n in run) for one in confirmed] == [[1, 1], [2, 2], [1, 1]]

    drawn = np.where(np.arange(480)[None] * 0.1 - 23.95 > 3, 1, 0) * np.ones((480, 1), int)
    chances = np.eye(2, dtype=np.float32)[graph.labels]
    shown = as_shown(confirmed[1], stack.at(1), areas=graph.areas, drawn=drawn, probabilities=chances)
    json.dumps(shown, allow_nan=False)
    assert len(shown["positions_mm"]) == len(shown["distance_mm2"]) == len(shown["points"])
    assert (np.diff(shown["positions_mm"]) > 0).all()
    for name in ("peaks", "mapper", "predicted"):
        assert len(shown[name]) == 2
        np.testing.assert_allclose([one["point"][0] for one in shown[name]], (3 + 24) * 10, atol=9)
    assert sorted(shown["mapper"][0]["areas"]) == ["A", "B"]


def test_points_are_those_of_the_image_as_stored(tmp_path):
    graph = ball()
    stack = read_stack(write_ball(tmp_path / "stack", (0.0,), mirrored="1"), space="ball", minimum=1)
    shown = as_shown(SectionBorderFinder.Config().build().find(stack.at(0), graph), stack.at(0))
    np.testing.assert_allclose([one["point"][0] for one in shown["peaks"]], 480 - (3 + 24) * 10, atol=9)


def test_an_image_without_tissue_has_no_profiles(tmp_path):
    folder = write_ball(tmp_path / "stack", (0.0,))
    tifffile.imwrite(folder / "s0.tif", np.full((480, 480), 240, np.uint8))
    section = read_stack(folder, space="ball", minimum=1).at(0)
    found = SectionBorderFinder.Config().build().find(section, ball())
    assert found.runs == ()
    assert found.left_out == 1
    assert as_shown(found, section)["peaks"] == []
    tifffile.imwrite(folder / "s0.tif", np.zeros((480, 480), np.uint8))
    with pytest.raises(InputError, match="frame is black"):
        SectionBorderFinder.Config().build().find(section, ball())


def test_the_command_writes_a_table_and_what_the_page_shows(tmp_path, capsys):
    stack, mesh, graph = write_ball(tmp_path / "stack", (-8.0, 0.0, 8.0)), tmp_path / "mesh", ball()
    mesh.mkdir()
    for name in ("pial", "white"):
        write_surface(
            mesh / f"sub-ball_hemi-L_{name}.surf.gii", graph.meshes[0].with_vertices(graph.surfaces[name]), "x"
        )
    write_surface(mesh / "sub-ball_hemi-L_midthickness.surf.gii", graph.meshes[0], "MidThickness")
    out = tmp_path / "out"
    words = [str(stack), "--mesh", str(mesh), "--out", str(out)]
    assert entry([*words, "--confirmed"]) == 0
    with (out / "borders.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 6
    assert {row["hemisphere"] for row in rows} == {"L"}
    assert json.loads((out / "section_0001.json").read_text())["peaks"][0]["neighbours"] == 2
    with (out / "section_0001.csv").open() as handle:
        assert len(list(csv.reader(handle))) > 300
    assert not list(out.glob(".*"))
    capsys.readouterr()
    for extra, said in (
        (["--sections", "7"], "none of 7"),
        (["--sections", "a"], "no number or range"),
        (["--reach-mm", "nan"], "above 0"),
        (["--set", "test.smallest=3"], "test.smallest"),
        (["--set", "depths=2"], "depths"),
        (["--map", str(tmp_path / "no")], "no such folder"),
    ):
        assert entry([*words, *extra]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert entry([str(stack), "--mesh", str(tmp_path / "no"), "--out", str(out)]) == 2
    (mesh / "sub-ball_hemi-L_white.surf.gii").unlink()
    assert entry(words) == 2
    assert "pial and white" in capsys.readouterr().err


def test_sections_are_chosen_by_numbers_and_ranges(tmp_path):
    stack = read_stack(write_ball(tmp_path / "stack"), space="ball")
    assert [one.index for one in chosen(stack, "0, 2-9")] == [0, 2]
    assert len(chosen(stack, "")) == 3
    assert changes(np.array([-1, 0, 0, 1, -1, 1, 0])).tolist() == [2, 5]
