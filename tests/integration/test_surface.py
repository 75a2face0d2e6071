"""The `surface` experiment from the command line: whole runs, resume, predict, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from meshgnn.experiment.cli import entry, shipped
from meshgnn.export.gifti import write_labels, write_scalars, write_surface_folder
from meshgnn.graph import Areas
from meshgnn.source.surface_folder import SurfaceFolder
from tests.figures import compare
from tests.synthetic import brain, sphere

TINY = ("trainer.epochs=20", "trainer.folds=2", "trainer.validate_every=5", "validation.blocks=3", "seeds=0,1",
        "features.rounds=2,5", "validation.buffer_mm=3", "trainer.workers=2", "controls=false")  # fmt: skip


def command(*words, sets=TINY):
    return [*words, *(part for assignment in sets for part in ("--set", assignment))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run on a synthetic folder: (run folder, surface folder)."""
    place = tmp_path_factory.mktemp("run")
    write_surface_folder(place / "ball", brain(), "Planted")
    words = command(
        "surface", "--out", str(place / "out"), sets=(*TINY, f"source.folder={place / 'ball'}", "controls=true")
    )
    assert entry(words) == 0
    return place / "out", place / "ball"


def test_a_run_leaves_what_the_design_promises(finished):
    out, _ = finished
    for name in (
        "config.json", "provenance.json", "metrics.json", "metrics.csv", "model.safetensors", "model.json", "log.txt",
        "report.html", "export/graph.graphml", "predictions/nodes.csv",
        "predictions/sub-Ball_hemi-L_atlas-predicted_dseg.label.gii",
        "predictions/sub-Ball_hemi-R_desc-probability.func.gii",
    ):  # fmt: skip
        assert (out / name).is_file(), name
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["protocol"] == "strict"
    assert metrics["seeds"] == [0, 1]
    assert set(metrics["test"]) >= {
        "macro_f1",
        "macro_f1_sd",
        "accuracy",
        "balanced_accuracy",
        "boundary_error_mm",
        "ece",
    }
    assert metrics["leakage"] == {"train_test_edges": 0, "shared_nodes": 0, "shared_patches": 0}
    assert set(metrics["baselines"]) >= {
        "majority", "coordinates_knn", "features_mlp", "features_smoothed", "coordinates_features_trees",
        "position_knn", "position_prior", "lda", "prior_lda", "adapted_prior_lda", "same_features_trees",
        "same_inputs_trees",
        "same_inputs_mlp", "shuffled_edges",
    }  # fmt: skip
    assert set(metrics["variants"]) == {"without_prior"}
    assert set(metrics["ours_minus"]) == {*metrics["baselines"], *metrics["variants"]}
    assert metrics["ours_minus"]["majority"]["over"] == "blocks"
    assert set(metrics["not_run"]) == {"registered_prior"}
    assert all(row["fits"] >= 1 and row["sees"] for row in metrics["baselines"].values())
    assert set(metrics["nodes"]["left_out"]) == {"unmatched_nodes", "missed_nodes"}
    assert set(metrics["timing_s"]) == {"read", "baselines", "train", "evaluate", "export"}
    assert metrics["peak_rss_mb"] > 50
    assert metrics["test"]["macro_f1"] > 0.7
    assert metrics["test"]["macro_f1"] > metrics["baselines"]["majority"]["macro_f1"]
    assert not list(out.rglob(".*.tmp"))
    assert not [path for path in out.rglob("*") if path.suffix in (".pt", ".ckpt", ".pkl")]
    page = (out / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page
    assert "coordinates_knn" in page


def test_a_run_scores_what_it_scored_before(finished):
    compare("surface", json.loads((finished[0] / "metrics.json").read_text()))


def test_predictions_are_the_argmax_of_probabilities_and_carry_the_areas(finished):
    import nibabel as nib

    out, _ = finished
    labels = nib.load(out / "predictions" / "sub-Ball_hemi-R_atlas-predicted_dseg.label.gii")
    chances = nib.load(out / "predictions" / "sub-Ball_hemi-R_desc-probability.func.gii")
    stacked = np.stack([array.data for array in chances.darrays], axis=1)
    inside = labels.darrays[0].data > 0
    np.testing.assert_array_equal(labels.darrays[0].data[inside], stacked[inside].argmax(1) + 1)
    np.testing.assert_allclose(stacked[inside].sum(1), 1, atol=1e-4)
    assert labels.labeltable.get_labels_as_dict()[1] == "A1"


def test_resuming_a_finished_run_keeps_every_stage(finished, capsys):
    out, _ = finished
    before = (out / "model.safetensors").read_bytes()
    assert entry(["--out", str(out), "--resume"]) == 0
    told = capsys.readouterr().out
    assert told.count("unchanged, kept") == 5
    assert (out / "model.safetensors").read_bytes() == before


def test_an_out_that_holds_files_needs_resume(finished, capsys):
    out, ball = finished
    assert entry(command("surface", "--out", str(out), "--set", f"source.folder={ball}")) == 2
    assert "--resume" in capsys.readouterr().err


def test_predict_maps_another_brain(finished, tmp_path):
    out, _ = finished
    write_surface_folder(tmp_path / "other", brain(seed=0, noise=0.8), "Planted")
    words = [
        "predict",
        "--set",
        f"run={out}",
        "--set",
        f"source.folder={tmp_path / 'other'}",
        "--out",
        str(tmp_path / "p"),
    ]
    assert entry(words) == 0
    metrics = json.loads((tmp_path / "p" / "metrics.json").read_text())
    assert metrics["test"]["macro_f1"] > 0.7
    back = SurfaceFolder.Config(folder=tmp_path / "p" / "predictions").build().read()
    assert back.graph.areas.names == ("A1", "A2", "A3", "A4")
    assert (back.graph.labels[brain().cortex] >= 0).all()


def test_predict_refuses_a_brain_without_the_features_and_a_pickle(finished, tmp_path, capsys):
    out, _ = finished
    write_surface_folder(tmp_path / "other", brain(), "Planted")
    for path in (tmp_path / "other").glob("*desc-b*"):
        path.unlink()
    words = ["predict", "--set", f"source.folder={tmp_path / 'other'}", "--out", str(tmp_path / "p")]
    assert entry([*words, "--set", f"run={out}"]) == 2
    assert "no feature 'b'" in capsys.readouterr().err
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "model.safetensors").write_bytes(b"\x80\x04K\x01.")
    (tmp_path / "fake" / "model.json").write_text("{}")
    assert entry([*words[:-1], str(tmp_path / "p2"), "--set", f"run={tmp_path / 'fake'}"]) == 2
    assert "pickle" in capsys.readouterr().err
    assert not (tmp_path / "p2").exists()


@pytest.mark.parametrize("model", ["MLP", pytest.param("GCN", marks=pytest.mark.slow)])
def test_other_models_and_blocks(tmp_path, model):
    write_surface_folder(tmp_path / "ball", brain(), "Planted")
    sets = (
        *TINY,
        "seeds=0",
        f"model={model}",
        "split=BlockSplit",
        "split.buffer_mm=5",
        f"source.folder={tmp_path / 'ball'}",
    )
    assert entry(command("surface", "--out", str(tmp_path / "o"), sets=sets)) == 0
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert metrics["leakage"]["train_test_edges"] == 0
    assert metrics["model"] == model


@pytest.mark.slow  # two whole runs
def test_without_coordinates_position_changes_nothing(tmp_path):
    graph = brain()
    scores = []
    for k, meshes in enumerate(
        (graph.meshes, (graph.meshes[0], graph.meshes[1].with_vertices(graph.meshes[1].vertices_mm + 9)))
    ):
        write_surface_folder(tmp_path / f"b{k}", graph._replace(meshes=meshes), "Planted")
        sets = (*TINY, "seeds=0", "features.coordinates=false", f"source.folder={tmp_path / f'b{k}'}")
        assert entry(command("surface", "--out", str(tmp_path / f"o{k}"), sets=sets)) == 0
        metrics = json.loads((tmp_path / f"o{k}" / "metrics.json").read_text())
        scores.append(metrics["test"]["macro_f1"])
        assert metrics["alignment"] is None
    assert scores[0] == scores[1]


def test_kill_minus_nine_and_resume_ends_the_same(finished, tmp_path):
    out, ball = finished
    words = command(
        "surface", "--out", str(tmp_path / "k"), "--set", f"source.folder={ball}"
    )  # fmt: skip
    run = [sys.executable, "-m", "meshgnn.experiment"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    process = subprocess.Popen([*run, *words], env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.time() + 120
    while not list((tmp_path / "k").glob("checkpoints/*/*.safetensors")) and time.time() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "k" / "metrics.json").exists()
    assert (
        subprocess.run([*run, "--out", str(tmp_path / "k"), "--resume"], env=environment, check=False).returncode == 0
    )
    old, new = (json.loads((place / "metrics.json").read_text()) for place in (out, tmp_path / "k"))
    assert old["test"] == new["test"]
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "k" / "model.safetensors").read_bytes()


# -- bad input: one line, exit 2, nothing half-written ---------------------------------------------------------------


def refused(capsys, *words, out=None):
    code = entry(list(words))
    told = capsys.readouterr().err.strip()
    assert code == 2, told
    assert told.startswith("error: ")
    assert "\n" not in told
    if out is not None:
        assert not (out / "metrics.json").exists()
        assert not (out / "model.safetensors").exists()
    return told


def test_bad_commands(tmp_path, capsys, folder):
    where = ("--set", f"source.folder={folder}")
    assert "no such folder" in refused(capsys, "surface", "--set", f"source.folder={tmp_path / 'x'}")
    assert "source.folder=DIR" in refused(capsys, "surface")
    assert "did you mean 'train'" in refused(capsys, "surface", *where, "--set", "split.trian=L")
    assert "there is no experiment 'surfaec'" in refused(capsys, "surfaec")
    assert "not an experiment name" in refused(capsys, "../etc")
    assert "no such stage" in refused(capsys, "surface", *where, "--stage", "nope", "--out", str(tmp_path / "o"))
    assert "must differ" in refused(capsys, "surface", *where, "--set", "split.test=L", "--out", str(tmp_path / "o"))
    assert "no atlas 'Z'; there is Planted" in refused(capsys, "surface", *where, "--set", "source.atlas=Z")
    assert "no run to resume" in refused(capsys, "surface", *where, "--resume", "--out", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    assert "add --set run=RUN" in refused(capsys, "predict", *where)


def test_an_out_that_cannot_be_written(tmp_path, capsys, folder):
    (tmp_path / "file").touch()
    where = ("surface", "--set", f"source.folder={folder}", "--out")
    assert "is a file" in refused(capsys, *where, str(tmp_path / "file"))
    assert "cannot be" in refused(capsys, *where, "/proc/meshgnn/run")


def test_bad_brains(tmp_path, capsys):
    graph = brain()

    def run(name, made):
        write_surface_folder(tmp_path / name, made, "Planted")
        out = tmp_path / f"{name}-out"
        words = command("surface", "--out", str(out), "--set", f"source.folder={tmp_path / name}")
        return refused(capsys, *words, out=out)

    one = graph._replace(labels=np.where(graph.labels >= 0, 0, -1), areas=Areas(names=("only",)))
    assert "a single area (only)" in run("single", one)
    unlabelled = graph._replace(labels=np.full(graph.n_nodes, -1))
    assert "labels no vertex of cortex" in run("unlabelled", unlabelled)
    half = graph.__class__(brain="Half", meshes=graph.meshes[:1], labels=graph.labels[:642], areas=graph.areas)
    assert "hemisphere R is missing" in run("half", half)
    dot = sphere(0)
    tiny = graph.__class__(
        brain="Tiny",
        meshes=(dot, sphere(0, hemisphere="R")),
        labels=np.r_[0, 1, np.full(10, -1), 0, 1, np.full(10, -1)],
        areas=Areas(names=("a", "b")),
    )
    assert "at least two to an area" in run("tiny", tiny)


def test_a_broken_mesh_works(tmp_path):
    """Non-manifold, open and disconnected: real meshes are."""
    graph = brain()
    meshes = []
    for mesh in graph.meshes:
        faces = np.concatenate([mesh.faces[20:], [[mesh.faces[40, 0], mesh.faces[40, 1], mesh.faces[300, 2]]]])
        meshes.append(type(mesh)(vertices_mm=mesh.vertices_mm, faces=faces, hemisphere=mesh.hemisphere, space="test"))
    write_surface_folder(tmp_path / "ball", graph._replace(meshes=tuple(meshes)), "Planted")
    sets = (*TINY, "seeds=0", f"source.folder={tmp_path / 'ball'}")
    assert entry(command("surface", "--out", str(tmp_path / "o"), sets=sets)) == 0


def test_missing_values_in_cortex_are_counted_and_survived(tmp_path, capsys):
    graph = brain()
    write_surface_folder(tmp_path / "ball", graph, "Planted")
    mesh = graph.meshes[1]
    values = graph.tables["surface"].values[642:, :1].copy()
    values[100:140] = np.nan
    write_scalars(tmp_path / "ball" / "sub-Ball_hemi-R_desc-a.shape.gii", mesh, values, ["a"])
    sets = (*TINY, "seeds=0", f"source.folder={tmp_path / 'ball'}")
    assert entry(command("surface", "--out", str(tmp_path / "o"), sets=sets)) == 0
    assert "their rows are masked" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert metrics["nodes"]["test"] == int((graph.labels[642:] >= 0).sum())


def test_atlases_of_one_hemisphere_are_told(tmp_path, capsys):
    graph = brain()
    write_surface_folder(
        tmp_path / "ball", graph._replace(labels=np.full(graph.n_nodes, -1), areas=Areas(names=())), "x"
    )
    path = tmp_path / "ball" / "sub-Ball_hemi-L_atlas-X_dseg.label.gii"
    write_labels(path, graph.meshes[0], graph.labels[:642], graph.areas)
    words = command("surface", "--out", str(tmp_path / "o"), "--set", f"source.folder={tmp_path / 'ball'}")
    assert "carries no label" in refused(capsys, *words)


def test_validate_describes_a_folder(folder, capsys):
    assert entry(["validate", "--set", f"source.folder={folder}"]) == 0
    told = capsys.readouterr().out
    assert "Planted L: 4 areas" in told
    assert "nothing wrong" in told


def test_listing_and_printing(capsys):
    assert entry(["--list"]) == 0
    listed = capsys.readouterr().out
    for name in shipped():
        assert name in listed
        assert entry([name, "--print-config"]) == 0
        json.loads(capsys.readouterr().out)


# -- what a hostile reviewer found ------------------------------------------------------------------------------------


def test_a_model_trained_on_geometry_maps_brains(finished, tmp_path):
    _, ball = finished
    out = tmp_path / "g"
    sets = (*TINY, "seeds=0", "features.only=a,b,thickness,areaRatio", f"source.folder={ball}")
    assert entry(command("surface:with_geometry", "--out", str(out), sets=sets)) == 0
    words = command("predict", "--out", str(tmp_path / "p"), sets=(f"run={out}", f"source.folder={ball}"))
    assert entry(words) == 0


def test_predict_on_a_brain_without_a_cortex_mask_warns_and_works(finished, tmp_path, capsys):
    out, _ = finished
    write_surface_folder(tmp_path / "bare", brain(), "Planted")
    for path in (tmp_path / "bare").glob("*cortex_mask*"):
        path.unlink()
    graph = brain()
    for mesh, place in zip(graph.meshes, graph.slices().values()):  # features where the medial wall had none
        values = graph.tables["surface"].values[place]
        for k, name in enumerate("abc"):
            path = tmp_path / "bare" / f"sub-Ball_hemi-{mesh.hemisphere}_desc-{name}.shape.gii"
            write_scalars(path, mesh, values[:, k : k + 1], [name])
    words = command("predict", "--out", str(tmp_path / "p"), sets=(f"run={out}", f"source.folder={tmp_path / 'bare'}"))
    assert entry(words) == 0
    assert "no cortex mask" in capsys.readouterr().out


def test_deleted_metrics_come_back_and_a_bad_setting_does_not_spoil_a_run(finished, tmp_path, capsys):
    out, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "metrics.json").unlink()
    assert entry(["--out", str(copy), "--resume"]) == 0
    old, new = (json.loads((place / "metrics.json").read_text()) for place in (out, copy))
    assert old["test"] == new["test"]
    assert entry(["--out", str(copy), "--resume", "--set", "features.exclude=zz"]) == 2
    assert entry(["--out", str(copy), "--resume"]) == 0
    (copy / "stages" / "old.json").write_text("{}")
    assert entry(["--out", str(copy), "--resume"]) == 0
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "experiment": ["x"]}))
    assert entry(["--out", str(copy), "--resume"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    "setting",
    ["features.exclude=zz", "features.only=zz", "source.hemispheres=L", "validation.buffer_mm=1e6",
     "validation.blocks=1000", "seeds=4294967296", "seeds=", "trainer.loss.smoothing=3", "trainer.augment.drop=1",
     "trainer.learning_rate=inf", "trainer.clip=-1", "split.train=Q", "model=GATT"],
)  # fmt: skip
def test_wrong_settings_leave_nothing_behind(finished, tmp_path, capsys, setting):
    _, ball = finished
    out = tmp_path / "o"
    words = command("surface", "--out", str(out), sets=(*TINY, f"source.folder={ball}", setting))
    refused(capsys, *words)
    assert not out.exists()


def test_stages_can_be_run_one_by_one(finished, tmp_path, capsys):
    _, ball = finished
    out = tmp_path / "o"
    words = command("surface", "--out", str(out), sets=(*TINY, "seeds=0", f"source.folder={ball}"))
    assert "is not done" in refused(capsys, *words, "--stage", "train")
    assert not out.exists()
    for stage in ("read", "baselines", "train", "evaluate", "export"):
        assert entry([*words, "--stage", stage]) == 0
    assert (out / "report.html").is_file()
    assert (out / "metrics.json").is_file()


def test_a_diverging_training_is_told(finished, tmp_path, capsys):
    _, ball = finished
    sets = (*TINY, "seeds=0", "trainer.learning_rate=1e30", f"source.folder={ball}")
    assert "diverged" in refused(capsys, *command("surface", "--out", str(tmp_path / "o"), sets=sets))


def test_a_mask_in_a_shape_file_is_a_mask(tmp_path):
    graph = brain()
    write_surface_folder(tmp_path, graph, "Planted")
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        stem = f"sub-Ball_hemi-{mesh.hemisphere}_desc-cortex_mask"
        (tmp_path / f"{stem}.label.gii").unlink()
        values = graph.cortex[place].astype(np.float32)[:, None]
        write_scalars(tmp_path / f"{stem}.shape.gii", mesh, values, ["mask"])
    back = SurfaceFolder.Config(folder=tmp_path).build().read().graph
    np.testing.assert_array_equal(back.cortex, graph.cortex)
    assert back.tables["surface"].columns == ("a", "b", "c", "junk")
