"""The whole way with the wings of the demo - reconstruction with pictures, contrastive features - on tiny stacks.

Sections of one hemisphere, 0.3 mm per pixel and 6 mm apart, on a coarse mesh: enough to go wrong everywhere, far too
little to score well.
"""

import json
import shutil

import numpy as np
import pytest

from features.node_data.section_patches import SectionPatches
from meshgnn.config import to_plain
from meshgnn.experiment.cli import entry
from meshgnn.experiment.trained_run import read_trained_run
from meshgnn.override import override
from meshgnn.source.virtual import VirtualBrain
from meshgnn.store import read_arrays, read_json
from tests.figures import compare

STACK = ("preset=quick", "hemispheres=L", "pixel_um=300", "spacing_mm=6", "annotate_every=2", "subdivisions=0")
MESH = ("hemispheres.sides=L", "stack.voxel_mm=1.2", "midsurface.edge_mm=4", "workers=1", "judge=false")
ENCODER = ("patches.pixel_um=300", "patches.size_px=32", "epochs=1", "epoch_steps=3", "batches.patches=2",
           "batches.classes=8", "held_out=0", "threads=1")  # fmt: skip
LEARNING = (
    "seeds=0",
    "trainer.folds=2",
    "trainer.epochs=2",
    "trainer.workers=1",
    "without_coordinates=false",
    "controls=false",
)


def words(name, out, settings):
    return [name, "--out", str(out), *(part for setting in settings for part in ("--set", setting))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of two stacks, and a finished run of the command: one stack trained on, one unseen."""
    place = tmp_path_factory.mktemp("wings")
    for number, name in ((1, "known"), (2, "new")):
        override(VirtualBrain.Config(seed=number), STACK).build().write(place / name)
    settings = (
        f"cohort.train={place / 'known'}", f"cohort.unseen={place / 'new'}", *LEARNING,
        *(f"mesh.{one}" for one in MESH), *(f"encoder.pretrain.{one}" for one in ENCODER),
    )  # fmt: skip
    assert entry(words("virtual_brain:sections", place / "run", settings)) == 0
    return place, place / "run"


def test_sections_become_judged_maps_with_pictures(trained):
    _, run = trained
    metrics = read_json(run / "metrics.json")
    assert metrics["leakage"]["shared_patches"] == 0
    assert metrics["nodes"]["test"] > 300
    # Two steps of training name nothing; position and features say whether all lies where it belongs.
    assert metrics["baselines"]["coordinates_knn"]["accuracy"] > 0.3
    assert metrics["baselines"]["features_smoothed"]["accuracy"] > 0.15
    for name in ("known", "new"):
        assert metrics["reconstruction"]["brains"][name]["euler_L"] == 2
        for picture in ("volume", "thickness", "sections"):
            assert (run / "brains" / name / "mesh" / "qc" / f"{picture}.png").stat().st_size > 10_000
        assert (run / "export" / name / f"{name}.html").stat().st_size > 1e5
        assert list((run / "export" / name / "sections").glob("*_areas.geojson"))
    assert "<html" in (run / "report.html").read_text()


def test_a_run_scores_what_it_scored_before(trained):
    compare("wings", read_json(trained[1] / "metrics.json"))


def test_the_run_maps_its_unseen_stack_again_without_training(trained, tmp_path):
    place, run = trained
    settings = (f"run={run}", f"stack={place / 'new'}", "mesh_settings=pictures=false")
    assert entry(words("predict:sections", tmp_path / "map", settings)) == 0
    own = read_arrays(run / "tables" / "probabilities.safetensors")["new"]
    found = read_arrays(tmp_path / "map" / "tables" / "probabilities.safetensors")["new"]
    np.testing.assert_array_equal(found, own)
    metrics = json.loads((tmp_path / "map" / "metrics.json").read_text())
    assert metrics["judged_by"] == "a mapper's annotations"
    assert metrics["test"]["macro_f1"] == read_json(run / "metrics.json")["test"]["macro_f1"]


def test_a_run_of_before_the_keys_moved_is_understood(trained, tmp_path):
    """config.json as it was written when a run held one encoder, whose items were patches of sections."""
    _, run = trained
    older, newer = (
        shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("export", "qc")) for name in ("old", "new")
    )
    stored = json.loads((run / "config.json").read_text())
    config = stored["config"]
    squares = to_plain(SectionPatches.Config(size_px=32, pixel_um=300.0))
    config["features"][0]["pretrain"]["data"] = squares
    (newer / "config.json").write_text(json.dumps(stored))
    (encoder,), config["other"] = config.pop("features"), (config.pop("compared") or [None])[0]
    recipe = encoder["pretrain"]
    recipe["patches"], recipe["batches"] = {**recipe.pop("data"), "_": "PatchSampler"}, recipe.pop("sampler")
    recipe["augment"] = recipe["patches"].pop("augment")
    del recipe["objective"]["views"]
    config["encoder"] = encoder
    (older / "config.json").write_text(json.dumps(stored))
    new, old = read_trained_run(newer), read_trained_run(older)
    assert old.features == new.features
    assert old.features[0].pretrain.data.size_px == 32
    assert old.mesh == new.mesh
