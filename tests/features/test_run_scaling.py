"""Time and memory of learning from runs, measured and planned."""

from dataclasses import replace

import pytest

from features.encoders.swin4d import Swin4D
from features.fmri.scaling import Cohort, RunScaling
from meshgnn.errors import SettingError
from meshgnn.experiment.runner import run
from meshgnn.store import read_json

SMALL = RunScaling.Config(
    grids=(16,), networks=(Swin4D.Config(width=6, depths=(1,), heads=(1,), patch=(4, 4, 4)),), frames=4, repeats=1,
    cohorts=(Cohort(name="one", runs=10, frames=40, voxels=1000, grid=8192, epochs=2),),
)  # fmt: skip


def test_a_plan_is_the_product_of_what_was_measured(tmp_path):
    done = run(SMALL, tmp_path / "run")
    found = read_json(done / "metrics.json")
    (row,), (plan,) = found["measured"], found["plan"]
    own = row["networks"]["Swin4D"]
    assert 0.5 < row["bytes_per_voxel"] < 2.5, "float16, hardly compressible noise, two moments per voxel"
    assert plan["windows"] == 10 * 10
    assert plan["store_gb"] == pytest.approx(10 * 40 * 1000 * row["bytes_per_voxel"] / 1e9)
    assert plan["hours"] == pytest.approx(100 * 2 * own["seconds_per_window"] * 2 / 3600)
    assert own["gflop_per_window"] > 1e-3
    lines = (done.path / "plan.tsv").read_text().splitlines()
    assert lines[0].startswith("cohort\tnetwork")
    assert len(lines) == 2
    assert "hours of this device" in (done.path / "log.txt").read_text()


@pytest.mark.parametrize("wrong", [{"grids": ()}, {"grids": (24, 16)}, {"batch": 0}])
def test_settings_that_cannot_be_are_told(wrong):
    with pytest.raises(SettingError):
        replace(SMALL, **wrong)
    with pytest.raises(SettingError):
        Cohort(name="none", runs=0, frames=1, voxels=1, grid=1)
