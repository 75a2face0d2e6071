"""Several brains on one mesh: maps by hand-made cases, the way there and back, the command."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.gifti import write_surface_folder
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.registration import SphericalMap, register_brain
from meshgnn.registration.common.command import entry
from meshgnn.registration.common.maps import area_maps, joined_areas, overlap, round_trip
from meshgnn.registration.icosphere import icosphere
from meshgnn.registration.locate import orientation
from meshgnn.registration.minimise import Laplacian
from meshgnn.registration.sphere import TINY, _conformal, unfolded
from meshgnn.registration.template import fsaverage5
from reconstruct import tetra
from tests.meshgnn.registration.shapes import SMALL, mesh
from tests.meshgnn.registration.test_brains import SETS, brain


def test_probabilities_are_shares_of_the_brains_that_tell_of_a_vertex() -> None:
    labels = [np.array([0, 0, 1, -1, 0]), np.array([0, 1, 1, -1, 1]), np.array([0, -1, 1, 1, -1])]
    cortex = [np.array([1, 1, 1, 1, 1], bool), np.array([1, 1, 0, 1, 1], bool), np.array([1, 1, 1, 1, 0], bool)]
    maps = area_maps(labels, cortex, 2)
    assert maps.count.tolist() == [3, 3, 2, 3, 2]
    assert np.allclose(maps.probability, [[1, 0], [1 / 3, 1 / 3], [0, 1], [0, 1 / 3], [0.5, 0.5]])
    assert maps.maximum.tolist() == [0, -1, 1, -1, 0]  # of equals none, then the first
    assert np.allclose(maps.best, [1, 0, 1, 0, 0.5])
    nobody = area_maps([np.array([0])], [np.array([False])], 1)
    assert (nobody.count[0], nobody.maximum[0], nobody.probability[0, 0]) == (0, -1, 0)
    for wrong in (([], []), (labels, [cortex[0][:2]] * 3)):
        with pytest.raises(InputError, match="on one mesh"):
            area_maps(*wrong, 2)


def test_areas_meet_by_name() -> None:
    one = brain()
    other = replace_areas(brain("Other"), ("d", "new", "a", "b"))
    areas, (first, second) = joined_areas([one, other])
    assert areas.names == ("a", "b", "c", "d", "new")
    assert np.array_equal(first, one.labels)
    assert [areas.names[k] for k in second[other.labels == 0]] == ["d"] * int((other.labels == 0).sum())
    assert (second[other.labels < 0] == -1).all()
    share = np.ones(len(first))
    assert overlap({"x": first, "y": first}, share, 5)["dice_mean"] == 1
    assert overlap({"x": first, "y": np.full_like(first, -1)}, share, 5) == {}


def replace_areas(graph: MeshGraph, names: tuple[str, ...]) -> MeshGraph:
    return graph._replace(areas=Areas(names=names))


def with_height(graph: MeshGraph) -> MeshGraph:
    values = np.concatenate([np.linalg.norm(one.vertices_mm, axis=1) for one in graph.meshes])
    table = FeatureTable(name="height", values=values[:, None], mask=graph.cortex, columns=("height",), units=("mm",))
    return graph._replace(tables={"height": table})


def test_a_brain_registered_to_itself_comes_back_as_it_was() -> None:
    own = with_height(brain())
    found = register_brain(own, own, replace(SMALL, steps=0, reach_deg=0.0))
    told = round_trip(found.matches["L"], own, own.meshes[0].vertices_mm.astype(float), own.slices()["L"])
    assert told["place_mm_mean"] < 1e-3
    assert told["place_there_mm_mean"] < 1e-3
    assert told["area_share"] == pytest.approx(1)
    assert told["height_rms"] < 1e-3
    assert told["height_r"] == pytest.approx(1)
    coarse = mesh(own.meshes[0].vertices_mm[: len(icosphere(2).points)], 2)
    fixed = MeshGraph(brain="coarse", meshes=(coarse,), surfaces={"sphere_reg": icosphere(2).points * 100})
    place = own.slices()["L"]
    left = MeshGraph(brain="left", meshes=own.meshes[:1], surfaces={"sphere": own.surfaces["sphere"][place]})
    lost = round_trip(
        register_brain(left, fixed, SMALL).matches["L"], own, coarse.vertices_mm.astype(float), own.slices()["L"]
    )
    assert lost["place_mm_mean"] > 0.5  # what a coarser mesh cannot hold
    assert lost["area_share"] < 1


def test_the_command_writes_maps_on_the_common_mesh_and_on_every_brain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("One", 7), ("Two", 8)):
        write_surface_folder(tmp_path / name, with_height(brain(name, seed)), "Planted")
    template = brain("Common", 7)
    template = template._replace(labels=np.full(template.n_nodes, -1, np.int32), areas=Areas(names=()))
    write_surface_folder(tmp_path / "T", template, "")
    folders = [str(tmp_path / "One"), str(tmp_path / "Two")]
    out = tmp_path / "out"
    assert entry([*folders, "--to", str(tmp_path / "T"), "--out", str(out), *SETS]) == 0
    told = json.loads((out / "common.json").read_text())
    assert told["areas"] == ["a", "b", "c", "d"]
    assert told["maps"]["L"]["brains"] == 2
    assert 0.5 < told["maps"]["L"]["dice_mean"] <= 1
    for name in ("One", "Two"):
        figures = told["brains"][name]["R"]
        assert figures["folded_triangles"] == 0
        assert figures["round_trip"]["area_share"] > 0.8
    data = [one.data for one in nibabel.load(out / "tpl-Common_hemi-L_atlas-Planted_probseg.func.gii").darrays]  # type: ignore[attr-defined]
    assert len(data) == 4
    assert set(np.unique(data)) <= {0, 0.5, 1}
    count = nibabel.load(out / "tpl-Common_hemi-L_atlas-Planted_desc-count.shape.gii").darrays[0].data  # type: ignore[attr-defined]
    assert (np.sum(data, axis=0) <= 1 + 1e-6).all()
    assert ((np.sum(data, axis=0) > 0) <= (count > 0)).all()
    # The maximum map is a map of the common mesh, which the reader takes; so are those carried to it and back.
    for stem, entities in (("tpl-Common", "atlas-Planted"), ("sub-One", "space-Common_atlas-Planted")):
        assert (out / f"{stem}_hemi-L_{entities}_dseg.label.gii").is_file()
    back = nibabel.load(out / "sub-Two_hemi-R_atlas-maximum_dseg.label.gii").darrays[0].data  # type: ignore[attr-defined]
    assert len(back) == brain().meshes[1].n_vertices
    graph = brain("Two", 8)
    own = graph.labels[graph.slices()["R"]]
    assert (back == np.where(own < 0, 0, own + 1))[graph.cortex[graph.slices()["R"]]].mean() > 0.6
    assert (out / "sub-One_hemi-L_space-Common_desc-height.shape.gii").is_file()
    capsys.readouterr()
    for words, text in (
        ([folders[0], folders[0]], "two brains are called One"),
        ([str(tmp_path / "none")], "none"),
        ([folders[0], "--atlas", "Other"], "no brain has areas called"),
    ):
        assert entry([*words, "--to", str(tmp_path / "T"), "--out", str(tmp_path / "no"), *SETS]) == 2
        told_lines = capsys.readouterr().err.strip().splitlines()
        assert text in told_lines[-1]
    assert not (tmp_path / "no").exists()


def test_fsaverage5_comes_with_its_spheres() -> None:
    graph = fsaverage5()
    assert [one.n_vertices for one in graph.meshes] == [10242, 10242]
    assert np.allclose(np.linalg.norm(graph.surfaces["sphere_reg"], axis=1), 100, atol=1e-3)
    for one, place in zip(graph.meshes, graph.slices().values()):
        # A few triangles of the file are folded; the registration mends them.
        assert (orientation(graph.surfaces["sphere_reg"][place], one.faces) > 0).mean() > 0.999


def test_a_long_finger_does_not_shrink_away() -> None:
    """Conformal maps shrink a finger by exp(-2 pi length / girth): below what numbers can hold."""
    mask = np.linalg.norm(np.indices((26, 26, 40)) - np.array([13, 13, 13])[:, None, None, None], axis=0) < 9
    mask[13, 13, 13:34] = True
    points, faces = tetra.surface(np.where(mask, 1.0, 0.0).astype(np.float32), 0.5)
    share = np.full(len(faces), 1 / len(faces))
    start = _conformal(points, faces.astype(np.int64), Laplacian(points, faces.astype(np.int64)).weights(), share)
    assert orientation(start, faces).min() < TINY
    finger = SurfaceMesh(vertices_mm=points.astype(np.float32), faces=faces, hemisphere="L", space="test")
    found = SphericalMap.Config(steps=3).build()(finger)
    assert orientation(found.sphere, found.closed.mesh.faces).min() > 1e-9


def test_single_folds_are_mended_where_means_hand_them_on() -> None:
    ball = icosphere(4)
    x = ball.points.copy()
    rng = np.random.default_rng(2)
    for node in rng.choice(len(x), 12, replace=False):  # beyond the opposite side of one of its triangles
        face = ball.faces[(ball.faces == node).any(1)][0]
        x[node] = 1.6 * x[face[face != node]].mean(0) - 0.6 * x[node]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert (orientation(x, ball.faces) <= 0).any()
    mended = unfolded(x, ball.faces, Laplacian(ball.points, ball.faces), rounds=0)
    assert (orientation(mended, ball.faces) > 0).all()
    assert np.linalg.norm(mended - x, axis=1).max() < 0.2
