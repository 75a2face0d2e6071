"""Exports open elsewhere and say the same there."""

import csv
import json
from dataclasses import replace

import igraph
import networkx
import nibabel as nib
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.tables import write_csv, write_graphml
from tests.synthetic import brain


def area_map():
    graph = brain(2)
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.ones(len(graph.areas)), graph.n_nodes).astype(np.float32)
    return AreaMap(graph=graph, probabilities=values)


def test_a_map_must_fit_its_brain():
    graph = brain(2)
    with pytest.raises(InputError, match="finite probabilities"):
        AreaMap(graph=graph, probabilities=np.zeros((3, 4)))
    with pytest.raises(InputError, match="finite probabilities"):
        AreaMap(graph=graph, probabilities=np.full((graph.n_nodes, 4), np.nan))


def test_gifti_labels_keep_names_and_colours_and_open_in_nilearn(tmp_path):
    made = area_map()
    files = write_area_map(tmp_path, made)
    assert all(path.is_file() for path in files)
    for mesh, place in zip(made.graph.meshes, made.graph.slices().values()):
        stem = f"sub-Ball_hemi-{mesh.hemisphere}"
        image = nib.load(tmp_path / f"{stem}_atlas-predicted_dseg.label.gii")
        keys = np.array([0, *made.graph.areas.keys])[made.predicted[place] + 1]
        np.testing.assert_array_equal(image.darrays[0].data, keys)
        table = image.labeltable.get_labels_as_dict()
        assert [table[key] for key in made.graph.areas.keys] == list(made.graph.areas.names)
        colours = [(label.red, label.green, label.blue, label.alpha) for label in image.labeltable.labels[1:]]
        np.testing.assert_allclose(colours, made.graph.areas.colours, atol=1e-6)
        assert image.meta["AnatomicalStructurePrimary"] == {"L": "CortexLeft", "R": "CortexRight"}[mesh.hemisphere]
        chances = nib.load(tmp_path / f"{stem}_desc-probability.func.gii")
        assert [array.meta["Name"] for array in chances.darrays] == list(made.graph.areas.names)
    surface = pytest.importorskip("nilearn.surface")
    left, right = ({part: str(tmp_path / f"sub-Ball_hemi-{part}_{rest}") for part in "LR"} for rest in (
        "midthickness.surf.gii", "atlas-predicted_dseg.label.gii"))  # fmt: skip
    both = surface.SurfaceImage(
        mesh={"left": left["L"], "right": left["R"]}, data={"left": right["L"], "right": right["R"]}
    )
    assert both.shape[0] == made.graph.n_nodes


def test_csv_has_a_row_per_node(tmp_path):
    made = area_map()
    write_csv(tmp_path / "n.csv", made)
    with (tmp_path / "n.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == made.graph.n_nodes
    assert {row["predicted"] for row in rows if row["cortex"] == "0"} == {""}
    assert rows[5]["x_mm"] == str(float(made.graph.vertices_mm[5, 0]))


def test_graphml_opens_in_networkx_and_igraph(tmp_path):
    made = area_map()
    write_graphml(tmp_path / "g.graphml", made)
    graph = made.graph
    theirs = networkx.read_graphml(tmp_path / "g.graphml")
    assert theirs.number_of_nodes() == graph.n_nodes
    assert theirs.number_of_edges() == graph.edges.shape[1] // 2
    node = theirs.nodes["n7"]
    assert {"area", "predicted", "probability", "x", "y", "z"} <= set(node)
    assert node["predicted_code"] == made.predicted[7]
    assert theirs.graph["brain"] == "Ball"
    other = igraph.Graph.Read_GraphML(str(tmp_path / "g.graphml"))
    np.testing.assert_allclose(other.vs["x"], graph.vertices_mm[:, 0], rtol=1e-5)
    write_graphml(tmp_path / "again.graphml", made)
    assert (tmp_path / "g.graphml").read_bytes() == (tmp_path / "again.graphml").read_bytes()


def test_brains_whose_names_differ_in_signs_alone_get_files_of_their_own(tmp_path):
    made = area_map()
    names = ("case1_1", "case11", "Case-11", "case1_1")  # the last one is written anew
    written = [write_area_map(tmp_path, replace(made, graph=made.graph._replace(brain=name))) for name in names]
    labels = [next(path for path in paths if "hemi-L" in path.name and "dseg" in path.name) for paths in written]
    assert [path.name.split("_")[0] for path in labels] == ["sub-case11", "sub-case11x2", "sub-Case11x3", "sub-case11"]
    table = (tmp_path / "participants.tsv").read_text().splitlines()
    assert table == ["participant_id\tbrain", "sub-case11\tcase1_1", "sub-case11x2\tcase11", "sub-Case11x3\tCase-11"]
    about = json.loads((tmp_path / "dataset_description.json").read_text())
    assert about["Name"] == "Predicted areas of case1_1, case11, Case-11"
