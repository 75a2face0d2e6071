"""What can be read and is hardly meant: told by `validate`, and by every run, since readers warn of it."""

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.export.gifti import write_labels, write_scalars, write_surface_folder
from meshgnn.graph import Areas
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
    assert "of cortex; leave out with --set features.exclude=[b]" in text
