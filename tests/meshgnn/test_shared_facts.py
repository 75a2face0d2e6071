"""What several packages need and one module says: macro-F1, the background's grey, ranks, columns of locations."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from meshgnn.confusion import macro_f1
from meshgnn.graph import LOCATION_COLUMNS
from meshgnn.ranks import rank_and_world, ranks_here
from meshgnn.source.background import background_grey, frame_of

ROOT = Path(__file__).resolve().parents[2]


def test_macro_f1_is_that_of_sklearn_over_the_classes_of_the_truth():
    rng = np.random.default_rng(0)
    true, called = rng.integers(1, 5, 300), rng.integers(0, 6, 300)
    wanted = f1_score(true, called, labels=np.unique(true), average="macro")
    assert macro_f1(true, called) == pytest.approx(wanted)
    assert macro_f1(true, called, 9) == pytest.approx(wanted)
    assert macro_f1(true[:0], called[:0]) == 0


def test_the_background_is_the_median_of_the_frame():
    grey = np.full((20, 30), 40, np.uint8)
    grey[0], grey[-1], grey[:, 0], grey[:, -1] = 240, 240, 240, 250
    assert background_grey(frame_of(grey)) == 240


def test_ranks_are_read_from_the_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (*rank_and_world(), ranks_here()) == (0, 1, 1)
    for name, value in {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert (*rank_and_world(), ranks_here()) == (3, 8, 4)


@pytest.mark.parametrize(
    "pattern", [r"def macro_f1\b", r"environ.*WORLD_SIZE", f'"{LOCATION_COLUMNS[1]}", "{LOCATION_COLUMNS[2]}", "normal']
)
def test_nothing_says_the_same_a_second_time(pattern):
    files = [
        path for name in ("meshgnn", "features", "reconstruct", "experiments") for path in (ROOT / name).rglob("*.py")
    ]
    found = [path.name for path in files if re.search(pattern, path.read_text(encoding="utf-8"))]
    assert len(found) <= 1, found
