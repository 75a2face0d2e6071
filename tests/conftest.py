"""Fixtures: synthetic brains by default; real data only where they lie beside the project."""

from pathlib import Path

import pytest

from meshgnn.export.gifti import write_surface_folder
from tests.synthetic import brain

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def graph():
    return brain()


@pytest.fixture
def folder(tmp_path):
    """A surface folder of the synthetic brain."""
    write_surface_folder(tmp_path / "ball", brain(), "Planted")
    return tmp_path / "ball"


@pytest.fixture
def real_data():
    """Real data beside the checkout; the test is skipped where they are not."""
    if not SHARED.is_dir():
        pytest.skip("the real data folder ../shared/data is not there")
    return SHARED
