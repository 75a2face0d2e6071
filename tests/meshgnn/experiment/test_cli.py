"""The command line: keys in errors and in --help, choices of classes, refusals that leave nothing behind."""

import json

import pytest

from features import extract, pretrain
from meshgnn.config import override
from meshgnn.experiment.cli import entry, load, resolve, shipped
from meshgnn.keys import keys_of


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
            "encoder.pretrain.encoder.widths must be multiples of 8",
        ),
        ("virtual_brain", "encoder.extract.batch=5000", "encoder.extract.shard at least encoder.extract.batch"),
        ("virtual_brain", "encoder.pretrain.batches.classes=1", "encoder.pretrain.batches.classes and"),
        ("virtual_brain", "other.depths=1", "other.depths must be at least 2"),
        ("virtual_brain", "cohort.brain.pixel_um=-1", "cohort.brain.pixel_um must be above 0"),
        ("virtual_brain", "cohort.seeds=1,-2", "cohort.seeds must be different numbers from 0"),
        ("virtual_brain", "mesh.midsurface.edge_mm=90", "mesh.midsurface.edge_mm must lie between"),
        ("virtual_brain", "trainer.loss.smoothing=3", "trainer.loss.smoothing must lie in"),
        ("virtual_brain", "model.hidden=0", "model.hidden must be at least 1"),
        ("surface", "features.rounds=0", "features.rounds must ascend"),
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
    assert told["encoder"]["_"] == "ProfileFeatures"
    assert told["encoder"]["depths"] == 12
    assert told["other"] is None
    assert "not one of ContrastiveFeatures, ProfileFeatures" in refused(capsys, *words[:1], "--set", "encoder=os")
    assert resolve("surface", ["source=HcpUtils", "source.atlas=yeo7"]).source.atlas == "yeo7"
    assert resolve("surface_demo", ["geometry=NoTables"]).geometry.build() is None
    assert resolve("predict", ["geometry=none"]).geometry is None


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
