"""`predict`: every feature of another brain comes from where the model had it, a file or a computation."""

import json

import numpy as np
import pytest

from features.geometry import Geometry
from meshgnn.experiment.cli import entry
from meshgnn.export.gifti import write_scalars, write_surface_folder
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.train.ensemble import Ensemble
from tests.synthetic import brain

TINY = ("trainer.epochs=2", "trainer.folds=2", "trainer.validate_every=1", "validation.blocks=3", "seeds=0",
        "features.rounds=2,5", "validation.buffer_mm=3", "trainer.workers=1", "controls=false")  # fmt: skip


def command(*words, sets=()):
    return [*words, *(part for assignment in sets for part in ("--set", assignment))]


def thick_folder(place):
    """The synthetic brain with a measured thickness that its surfaces do not give."""
    graph = brain(subdivisions=2)
    write_surface_folder(place, graph, "Planted")
    for mesh, part in zip(graph.meshes, graph.slices().values()):
        values = 2 + graph.labels[part, None] * 0.3
        write_scalars(place / f"sub-Ball_hemi-{mesh.hemisphere}_desc-thickness.shape.gii", mesh, values, ["thickness"])
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with a thickness file beside computed features ("both"), and one on computed features ("computed")."""
    place = tmp_path_factory.mktemp("runs")
    thick_folder(place / "thick")
    write_surface_folder(place / "plain", brain(subdivisions=2), "Planted")
    for name, folder in (("both", "thick"), ("computed", "plain")):
        sets = (*TINY, f"source.folder={place / folder}")
        assert entry(command("surface:with_geometry", "--out", str(place / name), sets=sets)) == 0
    return place


def test_a_run_records_what_was_computed(runs):
    both = Ensemble.load(runs / "both")
    assert set(both.computed) == {"curvature", "areaRatio"}  # the file's thickness counts
    assert both.computed["curvature"]["maker"] == "Geometry"
    assert "thickness" in both.names
    assert "a file brings it" in (runs / "both" / "log.txt").read_text()
    assert set(Ensemble.load(runs / "computed").computed) == {"thickness", "curvature", "areaRatio"}
    assert json.loads((runs / "computed" / "metrics.json").read_text())["computed_features"] == [
        "thickness", "curvature", "areaRatio",
    ]  # fmt: skip


def test_a_feature_from_a_file_is_never_computed_unasked(runs, tmp_path, capsys):
    sets = (f"run={runs / 'both'}", f"source.folder={runs / 'plain'}")
    assert entry(command("predict", "--out", str(tmp_path / "p"), sets=sets)) == 2
    told = capsys.readouterr().err
    assert "no feature 'thickness'" in told
    assert "--set compute=thickness" in told
    assert not (tmp_path / "p").exists()
    assert entry(command("predict", "--out", str(tmp_path / "p"), sets=(*sets, "compute=thickness"))) == 0
    assert "warning: feature 'thickness' is computed from the surfaces" in capsys.readouterr().out


def test_what_cannot_be_computed_is_told(runs, tmp_path, capsys):
    write_surface_folder(tmp_path / "less", brain(subdivisions=2), "Planted")
    for path in (tmp_path / "less").glob("*desc-b*"):
        path.unlink()
    sets = (f"run={runs / 'computed'}", f"source.folder={tmp_path / 'less'}")
    assert entry(command("predict", "--out", str(tmp_path / "p"), sets=(*sets, "compute=b"))) == 2
    assert "nothing here computes it" in capsys.readouterr().err
    assert entry(command("predict", "--out", str(tmp_path / "p"), sets=(*sets, "compute=nose"))) == 2
    assert "was not trained on it" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_computed_feature_is_computed_again_even_if_a_file_has_its_name(runs, tmp_path, capsys):
    out = tmp_path / "p"
    sets = (f"run={runs / 'computed'}", f"source.folder={runs / 'thick'}")
    assert entry(command("predict", "--out", str(out), sets=sets)) == 0
    assert "thickness: the model was trained on computed values" in capsys.readouterr().out
    again = tmp_path / "q"
    sets = (f"run={runs / 'computed'}", f"source.folder={runs / 'plain'}")
    assert entry(command("predict", "--out", str(again), sets=sets)) == 0
    back = [SurfaceFolder.Config(folder=where / "predictions").build().read().graph.labels for where in (out, again)]
    np.testing.assert_array_equal(*back)


def test_coordinates_of_another_unit_are_told(runs, tmp_path, capsys):
    graph = brain(subdivisions=2)
    meshes = tuple(mesh.with_vertices(mesh.vertices_mm * 100) for mesh in graph.meshes)
    write_surface_folder(tmp_path / "large", graph._replace(meshes=meshes), "Planted")
    sets = (f"run={runs / 'computed'}", f"source.folder={tmp_path / 'large'}")
    assert entry(command("predict", "--out", str(tmp_path / "p"), sets=sets)) == 2
    assert "100 times as far" in capsys.readouterr().err
    assert entry(command("predict", "--out", str(tmp_path / "p"), sets=(*sets, "align=similarity"))) == 0


def test_a_file_named_like_the_rim_is_not_the_rim(runs, tmp_path):
    graph = brain(subdivisions=2)
    maps = []
    for name in ("with", "without"):
        write_surface_folder(tmp_path / name, graph, "Planted")
        for mesh in graph.meshes if name == "with" else ():
            path = tmp_path / name / f"sub-Ball_hemi-{mesh.hemisphere}_desc-cortexShare5.shape.gii"
            write_scalars(path, mesh, np.random.default_rng(0).normal(size=(mesh.n_vertices, 1)), ["x"])
        brain_there = SurfaceFolder.Config(folder=tmp_path / name).build().read().graph
        ensemble = Ensemble.load(runs / "computed")
        maps.append(ensemble.map(brain_there, makers=[Geometry.Config().build()]).probabilities)
    np.testing.assert_array_equal(*maps)
