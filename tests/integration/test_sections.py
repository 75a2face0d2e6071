"""`virtual_sections` and `reconstruct` from the command line."""

import json

import numpy as np
import pytest
import trimesh

from meshgnn.experiment.cli import entry
from meshgnn.export.mesh_files import write_glb, write_ply
from meshgnn.source.sections import read_stack
from tests.synthetic import brain

COARSE = ("source.preset=quick", "source.pixel_um=400", "source.spacing_mm=5", "source.hemispheres=L")


def words(name, out, *settings):
    return [name, "--out", str(out), *(part for setting in settings for part in ("--set", setting))]


def test_virtual_sections_are_a_stack_with_its_truth(tmp_path, capsys):
    assert entry(words("virtual_sections", tmp_path / "a", "source.seed=3", *COARSE)) == 0
    assert entry(words("virtual_sections", tmp_path / "b", "source.seed=3", *COARSE)) == 0
    stack = read_stack(tmp_path / "a", space="x")
    assert len(stack.usable()) > 5
    assert (tmp_path / "a" / "truth" / "brain.json").is_file()
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["sections"]["present"] == len(stack)
    for path in (tmp_path / "a").glob("section_*.tif"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert entry(["--out", str(tmp_path / "a"), "--resume"]) == 0
    assert "unchanged, kept" in capsys.readouterr().out


def test_wrong_sections_are_told_before_anything_is_written(tmp_path, capsys):
    def refused(*arguments):
        assert entry(list(arguments)) == 2
        told = capsys.readouterr().err.strip()
        assert told.startswith("error: ")
        assert "\n" not in told
        assert not (tmp_path / "o").exists()
        return told

    assert "source.path=DIR" in refused(*words("reconstruct", tmp_path / "o"))
    (tmp_path / "empty").mkdir()
    refused(*words("reconstruct", tmp_path / "o", f"source.path={tmp_path / 'empty'}"))
    refused(*words("reconstruct", tmp_path / "o", f"source.path={tmp_path / 'nowhere'}"))
    assert "source.grey" in refused(*words("reconstruct", tmp_path / "o", "source=VolumePair"))
    assert "quick" in refused(*words("virtual_sections", tmp_path / "o", "source.preset=fast"))


@pytest.mark.slow
def test_a_quick_brain_from_its_sections_to_a_judged_mesh(tmp_path):
    assert entry(words("virtual_sections", tmp_path / "s", "source.seed=11", "source.preset=quick")) == 0
    assert entry(words("reconstruct", tmp_path / "o", f"source.path={tmp_path / 's'}")) == 0
    told = json.loads((tmp_path / "o" / "metrics.json").read_text())["reconstruction"]
    assert told["euler_L"] == told["euler_R"] == 2
    assert told["distance_mm_mean"] <= 0.6
    assert told["distance_mm_p95"] <= 1.6
    assert "http" not in (tmp_path / "o" / "report.html").read_text()


def test_ply_and_glb_keep_vertices_in_order(tmp_path):
    meshes = brain(2).meshes
    write_ply(tmp_path / "m.ply", meshes[0])
    back = trimesh.load(tmp_path / "m.ply", process=False)
    np.testing.assert_allclose(back.vertices, meshes[0].vertices_mm, atol=1e-4)
    np.testing.assert_array_equal(back.faces, meshes[0].faces)
    write_glb(tmp_path / "m.glb", meshes)
    scene = trimesh.load(tmp_path / "m.glb", process=False)
    assert set(scene.geometry) == {"hemi-L", "hemi-R"}
    np.testing.assert_allclose(scene.geometry["hemi-R"].vertices * 1000, meshes[1].vertices_mm, atol=1e-3)
