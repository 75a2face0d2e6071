"""benchmarks/feature_judging.py: depths within the outline, nothing drawn is seen, painted layers not scored."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meshgnn.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])  # importing it sets the first one
    return importlib.import_module("benchmarks.feature_judging")


def outlined() -> np.ndarray:
    """Grain between a yellow pial line at row 40 and a yellow white line at row 540."""
    image = np.random.default_rng(0).integers(90, 200, (676, 845, 1)).repeat(3, 2)
    image[40:42, 250:590] = image[540:542, 250:590] = (255, 255, 0)
    return image


def test_depth_runs_from_pial_to_white_and_no_patch_touches_what_is_drawn(bench):
    row, column, depth = bench.depths_of(outlined(), 5)
    np.testing.assert_allclose(depth, (row - 40.5) / 500, atol=1e-6)
    assert 0.04 < depth.min() < 0.07
    assert 0.93 < depth.max() < 0.96
    reach = bench.SIZE_PX * bench.RAT_STEP / 2
    for top, bottom, left, right in bench.TAGS:
        away = (row + reach < top) | (row - reach >= bottom) | (column + reach < left) | (column - reach >= right)
        assert away.all()


def test_an_image_without_an_outline_is_refused(bench):
    image = np.random.default_rng(0).integers(90, 200, (676, 845, 1)).repeat(3, 2)
    with pytest.raises(InputError, match="outline"):
        bench.outline(image)


def test_a_panel_whose_layers_are_painted_is_not_scored(bench, tmp_path):
    layers = np.repeat([0, 1, 2, 0], 30)[:, None].repeat(80, 1).astype(np.uint8)
    grain = np.random.default_rng(0).integers(0, 255, (120, 80, 3)).astype(np.uint8)
    painted = np.where(layers[..., None] > 0, layers[..., None] * np.uint8(60), grain)
    for name, image in zip("ABC", (painted, grain, painted)):
        Image.fromarray(image).save(tmp_path / f"bigbrain_layers_{name}.png")
        Image.fromarray(layers).save(tmp_path / f"bigbrain_layers_{name}_mask.png")
    assert [row["scored"] for row in bench.panel_rows(tmp_path)] == [False, True, False]
    (tmp_path / "bigbrain_layers_B.png").unlink()
    with pytest.raises(InputError, match=r"bigbrain_layers_B\.png: no such image"):
        bench.panel_rows(tmp_path)


def test_the_penalty_and_the_fit_see_one_side_alone(bench):
    rng = np.random.default_rng(0)
    values, column = rng.normal(size=(300, 4)), np.arange(300.0)
    depth, fitted = values[:, 0] * 0.2 + 0.5, column < 150
    before, _ = bench.ridge(values, depth, fitted, column)
    after, _ = bench.ridge(values, np.where(fitted, depth, 9.0), fitted, column)
    np.testing.assert_array_equal(before, after)
    assert np.abs(before - depth)[~fitted].mean() < 0.02


@pytest.mark.slow
def test_real_sections(real_data, tmp_path):
    folder = real_data / "histology"
    if not folder.is_dir():
        pytest.skip("the folder histology is not there")
    kept = tmp_path / "rows.json"
    words = [sys.executable, str(ROOT / "benchmarks/feature_judging.py"), str(folder), "--quick", "--json", str(kept)]
    subprocess.run(words, check=True, cwd=ROOT)
    rows = json.loads(kept.read_text())
    assert not any(row["scored"] for row in rows if row["name"] == "panel")
    error = {(row["features"], row["tested"]): row["mae"] for row in rows if row["name"] == "depth"}
    for side in ("left", "right"):
        assert error["grey", side] < error["constant", side]
        assert error["pixel components", side] < error["constant", side]
