from pathlib import Path

import numpy as np
import pytest

from reconstruct import Reconstruction
from tests.reconstruct.phantom import config, write_stack


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sections of the phantom that lie right, two of them missing."""
    folder = tmp_path_factory.mktemp("stacks") / "straight"
    write_stack(folder, missing=(9, 10))
    return folder


@pytest.fixture(scope="session")
def finished(straight: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reconstruction]:
    """The run folder of their reconstruction, and the result."""
    out = tmp_path_factory.mktemp("out")
    return out, config(straight).build().run(out)


@pytest.fixture(scope="session")
def result(finished: tuple[Path, Reconstruction]) -> Reconstruction:
    return finished[1]
