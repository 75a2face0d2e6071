"""`python -m meshgnn.export` on stored runs."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import networkx
import nibabel as nib
import numpy as np
import pytest
import trimesh

from meshgnn.export.command import FORMATS, entry
from meshgnn.export.page.arrays import read_page_arrays
from meshgnn.export.stored import read_area_maps, read_sections
from meshgnn.graph import Areas, MeshGraph
from meshgnn.interop.graph_tool import from_gt
from meshgnn.interop.gt_file import read_gt
from meshgnn.interop.pyg import load_data
from meshgnn.source.aligned import write_aligned
from meshgnn.source.sections import write_tiff
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
    data = load_data(tmp_path / "pyg" / "graph")
    np.testing.assert_array_equal(data.predicted, made.predicted)
    assert MeshGraph.from_pyg(data).areas.names == graph.areas.names
    held = read_gt(tmp_path / "graph.gt")
    np.testing.assert_array_equal(held.vertex["predicted"].values, made.predicted)
    np.testing.assert_array_equal(from_gt(held).labels, graph.labels)
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
    hidden = np.where(made.graph.labels == 2, 3, -1)  # annotations kept from training are shown
    write_arrays(tmp_path / "brains" / "one" / "hidden.safetensors", {"labels": hidden})
    shown = read_area_maps(tmp_path)["one"].area_map.graph.labels
    np.testing.assert_array_equal(shown, np.where(hidden >= 0, hidden, made.graph.labels))
    assert entry([str(tmp_path), "--format", "csv", "--brain", "three"]) == 2
    assert "there is one, two" in capsys.readouterr().err
    assert entry([str(tmp_path), "--format", "csv", "--stack", str(tmp_path / "brains" / "one" / "sections")]) == 2
    assert "--brain" in capsys.readouterr().err


def test_a_brain_without_annotations_is_exported_with_the_areas_of_the_others(tmp_path):
    made = samples.area_map(1)
    nodes = made.graph.n_nodes
    bare = made.graph.relabelled(np.full(nodes, -1), Areas(names=()))
    save_graph(made.graph, tmp_path / "brains" / "taught" / "features")
    save_graph(bare, tmp_path / "brains" / "new" / "features")
    votes = dict.fromkeys(("taught", "new"), made.probabilities)
    write_arrays(tmp_path / "tables" / "probabilities.safetensors", votes)
    assert entry([str(tmp_path), "--format", "gifti,csv", "--brain", "new"]) == 0
    label = nib.load(tmp_path / "export" / "new" / "gifti" / "sub-Ball_hemi-L_atlas-predicted_dseg.label.gii")
    assert {"V1", "3b"} <= set(label.labeltable.get_labels_as_dict().values())
    np.testing.assert_array_equal(read_area_maps(tmp_path)["new"].area_map.probabilities, made.probabilities)


def aligned_run(folder):
    """A run whose alignment turned every section by half a turn and moved it."""
    made = samples.area_map(1)
    sections = samples.stack(folder / "brains" / "one" / "sections")
    poses = [one.to_space @ np.array([[-1, 0, 349], [0, -1, 199], [0, 0, 1.0]]) + [[0, 0, 5]] * 3 for one in sections]
    usable = [one.usable for one in sections]  # all but 16, which is annotated nevertheless
    turned = tuple(replace(one, to_space=pose) for one, pose, kept in zip(sections, poses, usable) if kept)
    aligned = replace(sections, sections=turned)
    place = folder / "brains" / "one"
    save_graph(made.graph, place / "features")
    write_aligned(place / "mesh", aligned)
    write_json(place / "drawn.json", [11, 16])
    write_arrays(folder / "tables" / "probabilities.safetensors", {"one": made.probabilities})
    return aligned


def test_the_sections_are_those_of_the_run_as_it_aligned_them(tmp_path, capsys):
    run = tmp_path / "run"
    aligned = aligned_run(run)
    stack, annotated = read_sections(read_area_maps(run)["one"], None)
    assert annotated == (11, 16)
    for one, wanted in zip(stack, aligned):
        np.testing.assert_allclose(one.to_space, wanted.to_space)
    assert entry([str(run), "--format", "html"]) == 0
    meta, _ = read_page_arrays((run / "export" / "one" / "Ball.html").read_text(encoding="utf-8"))
    assert [one["index"] for one in meta["stack"]["sections"] if one["annotated"]] == [11]
    stack_folder = run / "brains" / "one" / "sections"
    moved = run.rename(tmp_path / "moved")  # the run was moved, and the stack renamed within a copy
    copy = tmp_path / "copy"
    shutil.copytree(moved / "brains" / "one" / "sections", copy)
    (copy / "s3.tif").rename(copy / "other.tif")
    table = copy / "sections.csv"
    table.write_text(table.read_text().replace("s3.tif", "other.tif"))
    for arguments in ([], ["--stack", str(copy)]):
        capsys.readouterr()
        assert entry([str(moved), "--format", "html", *arguments]) == 0
        assert "note" not in capsys.readouterr().err
    # Sections that differ in one image, and a stack that has fewer.
    write_tiff(copy / "s5.tif", np.full((200, 350), 90, np.uint8), 400)
    assert entry([str(moved), "--format", "html", "--stack", str(copy)]) == 2
    told = capsys.readouterr().err
    assert "s5.tif: not the image of section 15" in told
    assert told.count("\n") == 1
    samples.stack(copy, count=5)
    assert entry([str(moved), "--format", "html", "--stack", str(copy)]) == 2
    assert "section 15 is not in" in capsys.readouterr().err
    # Sections that were never in the run and are gone.
    shutil.rmtree(moved / "brains" / "one" / "sections")
    assert entry([str(moved), "--format", "html"]) == 0
    assert f"not in {stack_folder} any more" in capsys.readouterr().err


def test_an_unrelated_stack_is_refused(run, tmp_path, capsys):
    folder, made = run
    other = samples.stack(tmp_path / "fewer", count=3)
    arguments = [str(folder), "--format", "html", "--out", str(tmp_path / "out"), "--stack"]
    assert entry([*arguments, str(other.folder)]) == 2
    assert "these are not the sections of Ball: nodes lie on section" in capsys.readouterr().err
    small = samples.stack(tmp_path / "small", size=(40, 50), pixel_um=100)
    assert entry([*arguments, str(small.folder)]) == 2
    assert "which has 40 x 50 px" in capsys.readouterr().err
    save_graph(samples.area_map(2).graph, tmp_path / "bare" / "graph")  # nodes on no section
    write_arrays(tmp_path / "bare" / "probabilities.safetensors", {"probabilities": made.probabilities})
    bare = [str(tmp_path / "bare"), *arguments[1:]]
    assert entry([*bare, str(small.folder)]) == 2
    assert "of the mesh lies within them" in capsys.readouterr().err
    assert entry([*bare, str(folder / "stack")]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_terminated_export_leaves_nothing_half_written(run, tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from meshgnn.export import command, tables\n"
        "def slow(path, area_map):\n"
        "    with tables.written_aside(path) as aside:\n"
        "        aside.write_text('half'); print('half', flush=True); time.sleep(60)\n"
        "command.write_csv = slow\n"
        "sys.exit(command.entry(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, str(run[0]), "--format", "csv", "--out", str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.terminate()
        assert process.wait(30) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert not list(tmp_path.iterdir())


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
        "import sys, runpy; sys.argv = ['x', sys.argv[1], '--format', 'csv,pyg,gt', '--out', sys.argv[2]]\n"
        "try: runpy.run_module('meshgnn.export', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run[0]), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "nodes.csv").is_file()
