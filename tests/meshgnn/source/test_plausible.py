"""What can be read and is hardly meant: told by `validate`, and by every run, since readers warn of it."""

import nibabel as nib
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.export.gifti import write_labels, write_scalars, write_surface_folder
from meshgnn.export.picture import area_strips
from meshgnn.graph import Areas
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.surface_folder import SurfaceFolder
from tests.synthetic import brain


def moved(graph, change):
    """The brain with other coordinates."""
    meshes = tuple(mesh.with_vertices(change(mesh.vertices_mm)) for mesh in graph.meshes)
    return graph._replace(meshes=meshes, surfaces={})


def told(folder, capsys):
    assert entry(["validate", "--set", f"source.folder={folder}"]) == 0
    text = capsys.readouterr().out
    warnings = SurfaceFolder.Config(folder=folder).build().read().warnings
    assert all(warning in text for warning in warnings)
    return text.partition("warnings:")[2] if "warnings:" in text else ""


def test_a_good_folder_has_no_warning(folder, capsys):
    assert told(folder, capsys) == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda points: points / 1000, "coordinates in metres?"),
        (lambda points: points / 10, "are these mm?"),
        (lambda points: points * 1000, "are these mm?"),
        (lambda points: points * [-1, 1, 1], "L lies to the right of R"),
        (lambda points: points - points.mean(0), "lie at the same place"),
    ],
)
def test_size_and_side(tmp_path, capsys, change, expected):
    write_surface_folder(tmp_path, moved(brain(), change), "Planted")
    assert expected in told(tmp_path, capsys)


def test_triangles_that_face_inward(tmp_path, capsys):
    write_surface_folder(tmp_path, moved(brain(), lambda points: points * [-1, 1, 1]), "Planted")
    assert told(tmp_path, capsys).count("face inward") == 2


def test_swapped_files(folder, capsys):
    for path in list(folder.glob("*hemi-L*")):
        path.rename(folder / path.name.replace("hemi-L", "hemi-X"))
    for path in list(folder.glob("*hemi-R*")):
        path.rename(folder / path.name.replace("hemi-R", "hemi-L"))
    for path in list(folder.glob("*hemi-X*")):
        path.rename(folder / path.name.replace("hemi-X", "hemi-R"))
    assert "are the files swapped" in told(folder, capsys)


def test_copies(folder, capsys):
    for path in list(folder.glob("*hemi-L*")):
        (folder / path.name.replace("hemi-L", "hemi-R")).write_bytes(path.read_bytes())
    text = told(folder, capsys)
    assert "L and R are the same mesh" in text
    assert "feature 'a' is the same in L and R" in text


def test_no_labels(tmp_path, capsys):
    graph = brain()
    write_surface_folder(tmp_path, graph._replace(labels=np.full(graph.n_nodes, -1), areas=Areas(names=())), "none")
    assert "no labels: training needs an atlas" in told(tmp_path, capsys)


def test_labels_in_one_hemisphere(folder, capsys):
    graph = brain()
    path = folder / "sub-Ball_hemi-R_atlas-Planted_dseg.label.gii"
    write_labels(path, graph.meshes[1], np.full(642, -1), graph.areas)
    assert "hemisphere R carries no label" in told(folder, capsys)


def test_masks(folder, capsys):
    graph = brain()
    mesh, cortex = graph.meshes[0], graph.cortex[:642]
    path = folder / "sub-Ball_hemi-L_desc-cortex_mask.label.gii"
    write_labels(path, mesh, np.where(cortex, -1, 0), Areas(names=("cortex",)))  # inverted
    for feature in "abcj":
        for file in folder.glob(f"*hemi-L_desc-{feature}*.shape.gii"):
            write_scalars(file, mesh, np.random.default_rng(0).normal(size=(642, 1)), [feature])
    assert "is it inverted?" in told(folder, capsys)
    write_labels(path, mesh, np.full(642, -1), Areas(names=("cortex",)))
    with pytest.raises(InputError, match=r"cortex_mask\.label\.gii: the cortex mask of hemisphere L holds no vertex"):
        SurfaceFolder.Config(folder=folder).build().read()


def test_features_that_tell_nothing(folder, capsys):
    mesh = brain().meshes[0]
    write_scalars(folder / "sub-Ball_hemi-L_desc-a.shape.gii", mesh, np.full((642, 1), 3.0), ["a"])
    values = np.random.default_rng(0).normal(size=(2, 642, 1))
    values[0, 20:] = values[1, 10:] = np.nan
    for side, column in zip("LR", values):
        write_scalars(folder / f"sub-Ball_hemi-{side}_desc-b.shape.gii", mesh, column, ["b"])
    text = told(folder, capsys)
    assert "feature 'a' has one value everywhere in hemisphere L" in text
    assert "feature 'b' has no value in 98% of the cortex of hemisphere R; left out" in text


# -- what nothing can be learnt on is refused before a run folder is made ----------------------------------------------


def surface_refuses(folder, out, capsys, *sets):
    words = [word for setting in (f"source.folder={folder}", *sets) for word in ("--set", setting)]
    assert entry(["surface", "--out", str(out), *words]) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: ")
    assert "\n" not in text
    assert not out.exists()
    return text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda points: points * 0, "at one place or on a line"),
        (lambda points: points * [0, 1, 0], "at one place or on a line"),
        (lambda points: points * 1e36, "coordinates must be mm"),
        (lambda points: points / 1000, "coordinates in metres?"),
    ],
)
def test_impossible_coordinates(tmp_path, capsys, change, expected):
    write_surface_folder(tmp_path / "b", moved(brain(), change), "Planted")
    assert expected in surface_refuses(tmp_path / "b", tmp_path / "out", capsys)


def test_a_mesh_without_triangles(tmp_path, capsys):
    graph = brain()
    meshes = tuple(
        SurfaceMesh(vertices_mm=mesh.vertices_mm, faces=mesh.faces[:0], hemisphere=mesh.hemisphere, space="x")
        for mesh in graph.meshes
    )
    write_surface_folder(tmp_path / "b", graph._replace(meshes=meshes), "Planted")
    assert "holds no triangle" in surface_refuses(tmp_path / "b", tmp_path / "out", capsys)


def test_labels_that_cannot_be_learnt(tmp_path, capsys):
    graph = brain()

    def refused_with(name, labels, areas):
        write_surface_folder(tmp_path / name, graph, "Planted")
        for mesh, place in zip(graph.meshes, graph.slices().values()):
            path = tmp_path / name / f"sub-Ball_hemi-{mesh.hemisphere}_atlas-Planted_dseg.label.gii"
            write_labels(path, mesh, labels[place], areas(mesh.hemisphere))
        return surface_refuses(tmp_path / name, tmp_path / "out", capsys)

    each = np.tile(np.arange(642), 2)
    many = Areas(names=tuple(f"n{k}" for k in range(642)))
    assert "at least two to an area" in refused_with("many", each, lambda side: many)
    sided = {side: Areas(names=tuple(f"{side * 3}{k}" for k in range(4))) for side in "LR"}
    assert "areas are matched by name" in refused_with("sided", graph.labels, lambda side: sided[side])
    assert "L and R share no area name" in told(tmp_path / "sided", capsys)
    nothing = np.where(graph.labels >= 0, 0, -1)
    text = refused_with("nothing", nothing, lambda side: Areas(names=("medial wall",)))
    assert "labels no vertex of cortex" in text


def test_a_feature_with_the_name_of_a_rim_feature(folder, tmp_path, capsys):
    for mesh in brain().meshes:
        path = folder / f"sub-Ball_hemi-{mesh.hemisphere}_desc-cortexShare5.shape.gii"
        write_scalars(path, mesh, np.random.default_rng(0).normal(size=(642, 1)), ["x"])
    assert "rename its file" in surface_refuses(folder, tmp_path / "out", capsys)


def test_links_to_nothing_and_other_xml(folder, tmp_path, capsys):
    link = folder / "sub-Ball_hemi-L_desc-z.shape.gii"
    link.symlink_to(tmp_path / "nowhere")
    assert "link to a file that is not there" in surface_refuses(folder, tmp_path / "out", capsys)
    link.unlink()
    link.write_text("<html><body>404</body></html>")
    assert "not a GIfTI file" in surface_refuses(folder, tmp_path / "out", capsys)


def test_a_wrong_face_is_told_of_its_own_file(folder, tmp_path, capsys):
    path = folder / "sub-Ball_hemi-L_midthickness.surf.gii"
    image = nib.load(path)
    faces = image.darrays[1].data.copy()
    faces[0, 0] = 10**6
    image.darrays[1].data = faces
    nib.save(image, path)
    text = surface_refuses(folder, tmp_path / "out", capsys)
    assert "midthickness.surf.gii: a face names vertex 1000000" in text


def test_a_flat_map_is_drawn_and_told(tmp_path, capsys):
    graph = moved(brain(), lambda points: points * [1, 1, 0])
    write_surface_folder(tmp_path, graph, "Planted")
    assert "is flat: a flat map" in told(tmp_path, capsys)
    assert len(area_strips(graph, [graph.labels], graph.areas)) == 1
