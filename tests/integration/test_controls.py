"""The controls of the virtual brain run from the command line, and come out as stated."""

import json

import pytest

from experiments.controls import controls
from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.experiment.controls import Controls, Outcome

COARSE = (
    "brain.pixel_um=500", "brain.spacing_mm=12", "brain.hemispheres=L", "train=1", "test=2", "fits=1", "population=1,2",
)  # fmt: skip


def words(name, out, *settings):
    return [name, "--out", str(out), *(part for setting in settings for part in ("--set", setting))]


def test_a_control_leaves_its_outcomes_beside_their_bounds(tmp_path, capsys):
    assert entry(words("controls:masked", tmp_path / "a", *COARSE)) == 0
    assert "as stated" in capsys.readouterr().out
    told = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert told["seeds"] == [1, 2]
    assert {row["control"] for row in told["controls"]["outcomes"]} == {"masked"}
    for row in told["controls"]["outcomes"]:
        assert row["passed"] == (row["low"] <= row["measured"] <= row["high"])
    assert entry(words("controls:masked", tmp_path / "b", *COARSE, "workers=1")) == 0
    assert json.loads((tmp_path / "b" / "metrics.json").read_text())["controls"] == told["controls"]
    assert entry(["--out", str(tmp_path / "a"), "--resume"]) == 0
    assert "unchanged, kept" in capsys.readouterr().out


def test_position_and_calibration_need_no_image(tmp_path):
    assert entry(words("controls:coordinates", tmp_path / "a", *COARSE, "names=coordinates,calibration")) == 0
    assert not (tmp_path / "a" / "tables" / "plain-1.safetensors").exists()
    found = json.loads((tmp_path / "a" / "metrics.json").read_text())["controls"]
    assert len(found["population"]["eta_squared"]) == 6
    assert len(found["outcomes"]) == 9


def test_the_shape_of_folds_is_judged_without_images(tmp_path):
    assert entry(words("controls:folds", tmp_path / "a", *COARSE, "train=1,3")) == 0
    found = json.loads((tmp_path / "a" / "metrics.json").read_text())["controls"]["outcomes"]
    assert [row["control"] for row in found] == ["folds", "folds"]
    assert 0 < found[0]["measured"] < found[1]["measured"] < 0.4


def test_wrong_settings_are_told():
    with pytest.raises(InputError, match="not among them"):
        Controls.Config(train=(1, 2), test=2)
    with pytest.raises(InputError, match="colour"):
        Controls.Config(names=("colour",))
    with pytest.raises(InputError, match="profiles"):
        Controls.Config().build().check()
    assert not Outcome(control="x", expect="", measured=0.6, high=0.5).passed


@pytest.mark.slow
def test_every_control_comes_out_as_stated(tmp_path):
    from meshgnn.experiment.runner import run

    run(controls(), tmp_path / "controls")
    found = json.loads((tmp_path / "controls" / "metrics.json").read_text())["controls"]
    assert [row for row in found["outcomes"] if not row["passed"]] == []
    assert {row["control"] for row in found["outcomes"]} == set(Controls.Config().names)
