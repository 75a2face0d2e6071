"""Uneven light is told by the glass around the tissue, and taken off."""

from pathlib import Path

import numpy as np
import pytest

from meshgnn.source.sections import open_section, read_stack, write_tiff
from reconstruct.evened import light_field
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import write_stack

Y, X = np.meshgrid(np.linspace(-1, 1, 160), np.linspace(-1, 1, 200), indexing="ij")
FALLS = {
    "even": 0 * X,
    "to one side": np.log(0.85) - np.log(1 - 0.3 * (1 - X) / 2),  # against the middle of the frame
    "to the corners": -np.log(1 - 0.2 * (X**2 + Y**2) / 2),
    "brighter than the frame": np.log(1 - 0.2 * (X**2 + Y**2) / 2),
}


def section(rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    """Density of a round piece of white matter in grey matter, with dirt on the glass."""
    radius = np.hypot(X, Y)
    density = np.where(radius < 0.45, 0.2, np.where(radius < 0.65, 0.55, 0.0)) + 0.01 * rng.standard_normal(X.shape)
    density[rng.random(X.shape) < 0.01] = 0.4
    return density.astype(np.float32)


@pytest.mark.parametrize("kind", list(FALLS))
def test_the_field_of_light_is_found(kind: str) -> None:
    wanted = FALLS[kind]
    found = light_field((section(np.random.default_rng(1)) + wanted).astype(np.float32))
    assert np.abs(found - wanted).max() < 0.02
    inner = np.hypot(X, Y) < 0.65  # where tissue hides the glass
    assert np.abs(found - wanted)[inner].mean() < 0.01


def test_without_glass_on_all_sides_nothing_is_taken_off() -> None:
    density = section(np.random.default_rng(1))
    assert not light_field(density[40:120, :100]).any()  # cut through the tissue
    assert not light_field(np.full((100, 100), 0.5, np.float32)).any()
    assert light_field(np.zeros((1, 1), np.float32)).shape == (1, 1)


def test_tissue_under_uneven_light_is_that_under_even_light(tmp_path: Path) -> None:
    write_stack(tmp_path / "stack", pixel_um=400, spacing_mm=6)
    stack = read_stack(tmp_path / "stack")
    wanted = ClassifyTissue.Config().build()(stack)
    for one in stack:
        with open_section(one) as image:
            grey = image.read().astype(np.float64)
        light = 1 - 0.25 * np.linspace(0, 1, grey.shape[1])
        write_tiff(one.path, np.round(grey * light).astype(np.uint8), one.pixel_um)
    shares = []
    for even_light in (False, True):
        found = ClassifyTissue.Config(even_light=even_light).build()(read_stack(tmp_path / "stack"))
        same = found.index.tolist() == wanted.index.tolist()
        shares.append(((found.outer < 0) == (wanted.outer < 0)).mean() if same else 0.0)
    assert shares[0] < 0.97 < 0.995 < shares[1]
