"""The command line: keys in errors and in --help, choices of classes, refusals that leave nothing behind."""

import json

import pytest

from features import extract, pretrain
from meshgnn.experiment.cli import entry, load, resolve, shipped
from meshgnn.keys import keys_of
from meshgnn.override import override


def refused(capsys, *words):
    assert entry(list(words)) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    return told.removeprefix("error: ")


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("virtual_brain", "inputs.rounds=5,2", "inputs.rounds must ascend"),
        (
            "virtual_brain",
            "encoder.pretrain.encoder.widths=7",
            "features.0.pretrain.encoder.widths must be multiples of 8",
        ),
        ("virtual_brain", "encoder.extract.batch=5000", "features.0.extract.shard at least features.0.extract.batch"),
        ("virtual_brain", "encoder.pretrain.batches.classes=1", "features.0.pretrain.sampler.classes and"),
        ("virtual_brain:protocol", "other.depths=1", "compared.0.depths must be at least 2"),
        ("virtual_brain", "cohort.brain.pixel_um=-1", "cohort.brain.pixel_um must be above 0"),
        ("virtual_brain", "cohort.seeds=1,-2", "cohort.seeds must be different numbers from 0"),
        ("virtual_brain", "mesh.midsurface.edge_mm=90", "mesh.midsurface.edge_mm must lie between"),
        ("virtual_brain", "trainer.loss.smoothing=3", "trainer.loss.smoothing must lie in"),
        ("virtual_brain", "model.hidden=0", "model.hidden must be at least 1"),
        ("surface", "features.rounds=0", "inputs.rounds must ascend"),
        ("surface:with_geometry", "features.0.measures=", "features.0.measures is empty"),
        ("surface", "validation.blocks=-1", "validation.buffer_mm and validation.blocks must"),
        ("surface", "split.test=L", "split.train and split.test are both L"),
        ("controls", "profiles.lines=0", "profiles.lines at least 1"),
        ("virtual_sections", "source.fold_mm=9", "source.fold_mm above 8"),
    ],
)
def test_errors_name_keys_as_they_are_typed(capsys, name, setting, words):
    assert words in refused(capsys, name, "--set", setting)


def test_settings_are_checked_together():
    sets = ["encoder.extract.batch=5000", "encoder.extract.shard=9000"]
    assert resolve("virtual_brain", sets) == resolve("virtual_brain", sets[::-1])


def test_features_are_chosen_by_name(capsys):
    words = ["virtual_brain", "--set", "encoder=ProfileFeatures", "--set", "encoder.depths=12", "--set", "other=null"]
    assert entry([*words, "--print-config"]) == 0
    told = json.loads(capsys.readouterr().out)
    (chosen,) = told["features"]
    assert chosen["_"] == "ProfileFeatures"
    assert chosen["depths"] == 12
    assert told["compared"] == []
    assert "not one of ContrastiveFeatures, ProfileFeatures" in refused(capsys, *words[:1], "--set", "encoder=os")
    assert resolve("surface", ["source=HcpUtils", "source.atlas=yeo7"]).source.atlas == "yeo7"
    assert resolve("predict", ["geometry=none"]).features == ()


def test_keys_that_moved_keep_their_old_names():
    """What README and the guide named before the features of all experiments became one list."""
    names = ["features.rounds=2,5", "features.rim=false", "features.exclude=a", "geometry=Geometry"]
    old = resolve("surface", [*names, "geometry.measures=curvature"])
    names = ["inputs.rounds=2,5", "inputs.rim=false", "inputs.exclude=a", "features=[Geometry]"]
    new = resolve("surface", [*names, "features.0.measures=curvature"])
    assert old == new
    assert new.features[0].measures == ("curvature",)
    assert new.inputs.rounds == (2, 5)
    assert resolve("surface_demo", ["geometry=NoTables"]).features == ()
    patches = ["size_px=64", "pixel_um=50"]
    old = resolve(
        "virtual_brain",
        [*(f"encoder.pretrain.patches.{one}" for one in patches), "encoder.pretrain.augment.flip=no", "other=none",
         "encoder.pretrain.batches.classes=9", "encoder.effort=2"],
    )  # fmt: skip
    new = resolve(
        "virtual_brain",
        [*(f"features.0.pretrain.data.{one}" for one in patches), "features.0.pretrain.data.augment.flip=no",
         "compared=none", "features.ContrastiveFeatures.pretrain.sampler.classes=9", "features.0.effort=2"],
    )  # fmt: skip
    assert old == new
    assert new.features[0].pretrain.data.size_px == (64, 64)
    assert resolve("virtual_brain", ["other=ContrastiveFeatures", "other.effort=3"]).compared[0].effort == 3


def test_several_features_stand_side_by_side(capsys):
    config = resolve("surface", ["features=[Geometry,VolumeFeatures]", "features.VolumeFeatures.pretrain.epochs=1"])
    assert [type(one).__qualname__ for one in config.features] == ["Geometry.Config", "VolumeFeatures.Config"]
    assert config.features[1].pretrain.epochs == 1
    assert "there is 0 Geometry" in refused(
        capsys, "surface:with_geometry", "--set", "features.VolumeFeatures.effort=1"
    )


@pytest.mark.parametrize("name", sorted(shipped()))
def test_help_lists_every_key_and_every_key_can_be_set(capsys, name):
    assert entry([name, "--help"]) == 0
    told = capsys.readouterr().out
    maker = load(name)
    allowed = getattr(maker, "choices", {})
    keys = list(keys_of(maker(), allowed))
    assert keys
    assert len({key.path for key in keys}) == len(keys)
    for key in keys:
        assert f"  {key.path}={key.default}\n" in told
        if key.kind != "its fields":
            override(maker(), [f"{key.path}={key.default}"], allowed)


def test_help_without_a_name_tells_the_options(capsys):
    assert entry(["--help"]) == 0
    assert "--resume" in capsys.readouterr().out
    assert refused(capsys, "surfaec", "--help").startswith("there is no experiment 'surfaec'")


@pytest.mark.parametrize(("module", "key"), [(pretrain, "encoder.widths=24,48,96,192"), (extract, "stack=none")])
def test_help_of_the_feature_commands_lists_keys(capsys, module, key):
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0
    assert f"  {key}\n" in capsys.readouterr().out
