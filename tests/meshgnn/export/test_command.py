"""`python -m meshgnn.export` on stored runs."""

import subprocess
import sys

import networkx
import nibabel as nib
import numpy as np
import pytest
import trimesh

from meshgnn.export.command import FORMATS, entry
from meshgnn.export.page.arrays import read_page_arrays
from meshgnn.export.stored import read_area_maps
from meshgnn.store import save_graph, write_arrays, write_json
from tests.meshgnn.export import page_samples as samples


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    sections = samples.stack(folder / "stack")
    made = samples.located(samples.area_map(2), sections)
    graph = made.graph.with_table(samples.profiles(made))
    save_graph(graph, folder / "tables" / "graph")
    write_arrays(folder / "tables" / "probabilities.safetensors", {"probabilities": made.probabilities})
    return folder, made


def test_a_stored_map_comes_back(run):
    folder, made = run
    for place in (folder, folder / "tables"):
        back = read_area_maps(place)["Ball"].area_map
        np.testing.assert_array_equal(back.probabilities, made.probabilities)
        np.testing.assert_array_equal(back.graph.labels, made.graph.labels)


def test_every_format_opens_elsewhere(run, tmp_path, capsys):
    folder, made = run
    arguments = [str(folder), "--format", ",".join(FORMATS), "--out", str(tmp_path), "--stack", str(folder / "stack")]
    assert entry(arguments) == 0
    assert "Ball.html" in capsys.readouterr().out
    graph = made.graph
    image = nib.load(tmp_path / "gifti" / "sub-Ball_hemi-L_atlas-predicted_dseg.label.gii")
    assert len(image.darrays[0].data) == graph.meshes[0].n_vertices
    assert (
        len(trimesh.load(tmp_path / "Ball_hemi-R_predicted.ply", process=False).vertices) == graph.meshes[1].n_vertices
    )
    assert set(trimesh.load(tmp_path / "Ball_predicted.glb").geometry) == {"hemi-L", "hemi-R"}
    assert networkx.read_graphml(tmp_path / "graph.graphml").number_of_nodes() == graph.n_nodes
    assert len((tmp_path / "nodes.csv").read_text().splitlines()) == graph.n_nodes + 1
    assert (tmp_path / "neuroglancer" / "skeleton" / "info").is_file()
    meta, arrays = read_page_arrays((tmp_path / "Ball.html").read_text(encoding="utf-8"))
    assert len(meta["stack"]["sections"]) == 7
    assert "profiles" in arrays
    assert not any(scalar["group"] == "Features: profiles" for scalar in meta["scalars"])


def test_a_run_of_several_brains(tmp_path, capsys):
    made = samples.area_map(1)
    for name in ("one", "two"):
        folder = tmp_path / "brains" / name
        save_graph(made.graph, folder / "features")
        samples.stack(folder / "sections")
        write_json(folder / "drawn.json", [11, 13])
    truth = np.where(made.graph.labels == 0, 1, made.graph.labels)
    write_arrays(tmp_path / "brains" / "two" / "truth.safetensors", {"labels": truth})
    write_arrays(tmp_path / "tables" / "probabilities.safetensors", dict.fromkeys(("one", "two"), made.probabilities))
    assert entry([str(tmp_path), "--format", "csv,html"]) == 0
    told = capsys.readouterr().out.split()
    assert told == [
        str(tmp_path / "export" / name) for name in ("one/Ball.html", "one/nodes.csv", "two/Ball.html", "two/nodes.csv")
    ]
    meta, arrays = read_page_arrays((tmp_path / "export" / "two" / "Ball.html").read_text(encoding="utf-8"))
    np.testing.assert_array_equal(arrays["label"], truth)
    assert [section["index"] for section in meta["stack"]["sections"] if section["annotated"]] == [11, 13]
    assert entry([str(tmp_path), "--format", "csv", "--brain", "three"]) == 2
    assert "there is one, two" in capsys.readouterr().err
    assert entry([str(tmp_path), "--format", "csv", "--stack", str(tmp_path / "brains" / "one" / "sections")]) == 2
    assert "--brain" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{run}", "--format", "stl"], "'stl' is not known"),
        (["{run}", "--format", ""], "not known"),
        (["{run}/stack", "--format", "csv"], "holds no area map"),
        (["{run}/nowhere", "--format", "csv"], "no such folder"),
        (["{run}", "--format", "html", "--stack", "{run}/tables"], "sections.csv"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(run, arguments, told, capsys):
    assert entry([text.format(run=run[0]) for text in arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_it_runs_as_a_module_and_needs_no_torch(run, tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['x', sys.argv[1], '--format', 'csv', '--out', sys.argv[2]]\n"
        "try: runpy.run_module('meshgnn.export', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run[0]), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "nodes.csv").is_file()
