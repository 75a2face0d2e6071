"""A trained run maps a new stack: the run's own map, refusals, leaks, resuming; made-up mesh and features."""

import json
import shutil

import nibabel
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.experiment.predict_sections import PredictSections
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import run
from meshgnn.export.stored import read_area_maps
from meshgnn.source.sections import open_image, write_tiff
from meshgnn.store import load_graph, read_arrays, write_arrays
from meshgnn.train.stored_baselines import StoredBaselines
from tests.integration.test_section_mapping import NUMBERS, POSITIONS, Given, Mesher, config, write_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of the stacks, and the run: trained on one and two, with three as its own unseen brain."""
    place = tmp_path_factory.mktemp("stacks")
    for name in NUMBERS:
        write_folder(place / name, name)
    return place, run(config(place, compared=(), without_coordinates=False, seeds=(0,)), place / "run").path


def asked(trained, stack="three", **more) -> PredictSections.Config:
    place, folder = trained
    return PredictSections.Config(
        run=folder, stack=place / stack, **({"mesh": Mesher.Config(), "features": (Given.Config(),)} | more)
    )


@pytest.fixture(scope="module")
def mapped(trained, tmp_path_factory):
    return run(asked(trained), tmp_path_factory.mktemp("mapped") / "out").path


def test_a_new_stack_gets_the_map_that_the_run_itself_would_give(trained, mapped):
    own = read_arrays(trained[1] / "tables" / "probabilities.safetensors")["three"]
    found = read_arrays(mapped / "tables" / "probabilities.safetensors")["three"]
    np.testing.assert_array_equal(found, own)
    metrics = json.loads((mapped / "metrics.json").read_text())
    theirs = json.loads((trained[1] / "metrics.json").read_text())
    assert metrics["judged_by"] == "the truth"
    assert metrics["test"]["accuracy"] > 0.6
    assert metrics["nodes"]["judged"] == theirs["nodes"]["test"]
    assert metrics["leakage"]["shared_patches"] == 0
    assert metrics["reconstruction"]["distance_mm_mean"] == 0.5


def test_the_runs_own_baselines_stand_beside_the_map(trained, mapped, tmp_path):
    place, folder = trained
    graphs = [load_graph(folder / "brains" / name / "features") for name in NUMBERS]
    assert list(NUMBERS)[2] == "three"  # the last rows of the run's own arrays
    rows = slice(sum(graph.n_nodes for graph in graphs[:2]), None)
    theirs = read_arrays(folder / "tables" / "baselines.safetensors")
    own = read_arrays(mapped / "tables" / "baselines.safetensors")
    assert set(own) == {"position_prior", "lda", "prior_lda", "adapted_prior_lda"}
    for name, votes in own.items():
        np.testing.assert_allclose(votes, theirs[f"{name}/0"][rows], atol=1e-5)
    metrics = json.loads((mapped / "metrics.json").read_text())
    scored = json.loads((folder / "metrics.json").read_text())["baselines"]
    for name, one in metrics["baselines"].items():
        assert one["macro_f1"] == pytest.approx(scored[name]["macro_f1"], abs=1e-3)
        gap = metrics["test"]["macro_f1"] - one["macro_f1"]
        assert metrics["ours_minus"][name]["difference"] == pytest.approx(gap, abs=1e-6)
    # A run from before is read as it is, and says what is missing.
    old = shutil.copytree(folder, tmp_path / "old")
    (old / "tables" / "stored_baselines.safetensors").unlink()
    done = run(asked((place, old)), tmp_path / "out").path
    metrics = json.loads((done / "metrics.json").read_text())
    assert metrics["baselines"] == {}
    assert "kept none" in metrics["not_run"]["baselines"]


def test_it_writes_what_a_section_run_writes_and_exports(mapped, tmp_path):
    from meshgnn.export.command import entry as export

    label = nibabel.load(mapped / "predictions" / "sub-three_hemi-L_atlas-predicted_dseg.label.gii")
    assert {"A1", "A4"} <= set(label.labeltable.get_labels_as_dict().values())
    assert (mapped / "predictions" / "three.csv").is_file()
    assert len(list((mapped / "export" / "three" / "sections").glob("*_areas.geojson"))) == len(POSITIONS)
    assert (mapped / "export" / "three" / "three.html").stat().st_size > 1e5
    assert read_area_maps(mapped)["three"].annotated == (1, 4, 7, 10, 13)
    assert export([str(mapped), "--format", "ply,glb", "--out", str(tmp_path / "files")]) == 0
    provenance = json.loads((mapped / "provenance.json").read_text())["inputs"]
    for name in ("model.safetensors", "model.json", "encoder/learnt.json", "config.json"):
        assert any(path.endswith(f"run/{name}") for path in provenance), name
    assert any(path.endswith("three/s00.tif") for path in provenance)


def test_annotations_and_truth_never_enter_the_map(trained, mapped, tmp_path):
    write_folder(tmp_path / "three", "three", annotate=0)
    place, folder = trained
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(place / name)
    bare = asked((tmp_path, folder), mesh=Mesher.Config(truth=False))
    done = run(bare, tmp_path / "out").path
    stored = [read_arrays(out / "tables" / "probabilities.safetensors")["three"] for out in (mapped, done)]
    np.testing.assert_array_equal(*stored)
    metrics = json.loads((done / "metrics.json").read_text())
    assert metrics["judged_by"] is None
    assert "test" not in metrics
    assert "three" in read_area_maps(done)


def test_annotations_judge_where_there_is_no_truth_and_strange_areas_are_told(trained, tmp_path, capsys):
    write_folder(tmp_path / "three", "three")
    areas = tmp_path / "three" / "annotations" / "areas.json"
    areas.write_text(areas.read_text().replace('"A4"', '"other"'))
    done = run(asked((tmp_path, trained[1]), mesh=Mesher.Config(truth=False)), tmp_path / "out").path
    metrics = json.loads((done / "metrics.json").read_text())
    assert metrics["judged_by"] == "a mapper's annotations"
    assert metrics["test"]["macro_f1"] > 0.4
    assert "1 of 4 annotated areas are not the model's and judge nothing: other" in capsys.readouterr().out


def test_a_stack_of_the_training_is_mapped_with_a_loud_warning(trained, tmp_path, capsys):
    done = run(asked(trained, stack="two"), tmp_path / "out").path
    told = capsys.readouterr().out
    assert f"warning: {len(POSITIONS)} sections of" in told
    assert told.rstrip().endswith("the score says nothing")
    metrics = json.loads((done / "metrics.json").read_text())
    assert metrics["leakage"]["shared_patches"] == len(POSITIONS)
    assert metrics["protocol"] != "strict"


def test_images_of_the_training_that_were_stored_anew_are_recognised(trained, tmp_path, capsys):
    place, folder = trained
    shutil.copytree(place / "two", tmp_path / "copy")
    for path in sorted((tmp_path / "copy").glob("*.tif")):
        with open_image(path) as image:
            pixels = image.read()
        write_tiff(path, pixels.astype(np.uint16) * 100 + 7, 500)
    out = RunFolder(tmp_path / "out")
    out.open()
    asked((tmp_path, folder), stack="copy").build()._images(out)
    assert json.loads((out / "tables" / "shared_images.json").read_text()) == list(range(len(POSITIONS)))
    assert "were part of the training" in capsys.readouterr().out


class Breaks(Given):
    """Stands in for a machine that dies during the features."""

    class Config(Given.Config):
        def build(self):
            return Breaks(self)

    def make(self, one, folder, progress):
        raise KeyboardInterrupt


def test_a_killed_prediction_goes_on_where_it_was(trained, mapped, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        run(asked(trained, features=(Breaks.Config(),)), tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.json").exists()
    capsys.readouterr()
    run(asked(trained), tmp_path / "out", resume=True)
    assert "mesh: unchanged, kept" in capsys.readouterr().out
    stored = [read_arrays(out / "tables" / "probabilities.safetensors")["three"] for out in (mapped, tmp_path / "out")]
    np.testing.assert_array_equal(*stored)


def copied(trained, tmp_path):
    place, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    return place, tmp_path / "run"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("model.safetensors", "model.safetensors: is missing"),
        ("encoder/learnt.json", "learnt.json: is missing"),
        ("stages/train.json", "stage 'train' of this run is not finished"),
        ("stages/encoder.json", "stage 'encoder' of this run is not finished"),
        ("config.json", "not a run folder"),
        ("provenance.json", "provenance.json: cannot be read"),
    ],
)
def test_half_a_run_is_refused_before_anything_is_written(trained, tmp_path, damage, words):
    half = copied(trained, tmp_path)
    (half[1] / damage).unlink()
    with pytest.raises(InputError, match=words):
        run(asked(half), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_edited_model_is_refused(trained, tmp_path):
    edited = copied(trained, tmp_path)
    path = edited[1] / "model.json"
    path.write_text(path.read_text().replace('"A1"', '"B1"'))
    with pytest.raises(InputError, match="is not the file that the run wrote"):
        run(asked(edited), tmp_path / "out")


def refused(capsys, tmp_path, *settings):
    words = [word for setting in settings for word in ("--set", setting)]
    assert entry(["predict:sections", "--out", str(tmp_path / "o"), *words]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    assert not (tmp_path / "o").exists()
    return told


def test_wrong_input_on_the_command_line_is_told_in_one_line(trained, tmp_path, capsys):
    place, folder = trained
    stack = f"stack={place / 'three'}"
    assert "run=RUN" in refused(capsys, tmp_path, stack)
    assert "stack=STACK" in refused(capsys, tmp_path, f"run={folder}")
    assert "no such folder" in refused(capsys, tmp_path, f"run={tmp_path / 'no'}", stack)
    assert "not a run folder" in refused(capsys, tmp_path, f"run={place / 'three'}", stack)
    assert "started from Python" in refused(capsys, tmp_path, f"run={folder}", stack)

    def described(**changes):
        other = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, other)
        stored = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(stored | changes))
        return f"run={other}"

    stored = json.loads((folder / "config.json").read_text())["config"]
    assert "shipped experiment" in refused(capsys, tmp_path, described(experiment="os.system"), stack)
    assert "cannot be read by this version" in refused(capsys, tmp_path, described(experiment="virtual_brain"), stack)
    told = refused(capsys, tmp_path, described(config={"_": "AreaMapping"}, experiment="surface"), stack)
    assert "experiment `predict`" in told
    surface = described(experiment="surface", config=stored)
    assert "not the experiment of its settings" in refused(capsys, tmp_path, surface, stack)


def test_wrong_stacks_are_told_before_anything_is_written(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "torn", "three")
    (tmp_path / "torn" / "annotations" / "areas.json").write_text("[")
    write_folder(tmp_path / "strange", "three")
    write_tiff(tmp_path / "strange" / "annotations" / "s04.tif", np.full((140, 280), 99, np.uint8), 500)
    for name, words in (
        ("empty", "sections.csv"),
        ("nowhere", "sections.csv"),
        ("torn", "areas.json"),
        ("strange", r"s04\.tif: key 99"),
    ):
        with pytest.raises(InputError, match=words):
            run(asked((tmp_path, trained[1]), stack=name), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_settings_of_the_mesh_maker_can_differ_from_the_run(trained):
    built = asked(trained, mesh_settings=("truth=false",)).build()
    assert built.mesh.truth is False
    with pytest.raises(InputError, match="truht"):
        asked(trained, mesh_settings=("truht=false",)).build()


def test_unseen_brains_of_a_run_are_no_leak(trained):
    assert {name.split(",")[0] for name in asked(trained).build().trained.trained_on.values()} == {"one", "two"}


def test_stored_baselines_that_are_damaged_are_refused(trained, tmp_path):
    place, folder = trained
    copy = shutil.copytree(folder, tmp_path / "run")
    path = copy / "tables" / "stored_baselines.safetensors"
    arrays = read_arrays(path)
    write_arrays(path, arrays | {"labels": arrays["labels"] + 99})
    with pytest.raises(InputError, match="is not the file that the run wrote"):
        asked((place, copy)).build()
    with pytest.raises(InputError, match="does not hold the baselines of a run"):
        StoredBaselines.load(path)
    assert path.stat().st_size < 1e6
