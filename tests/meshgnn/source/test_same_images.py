"""Images that stand in two stacks are found however they were stored again; alike ones are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from meshgnn.source.same_images import fine_structure, same_in_stack, shared_images
from meshgnn.source.sections import Section, SectionStack, read_stack, write_tiff
from meshgnn.source.virtual import VirtualBrain

SMALL = {"preset": "quick", "pixel_um": 250.0, "spacing_mm": 8.0, "subdivisions": 0, "hemispheres": "L"}


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> list[SectionStack]:
    """Sections of two brains."""
    root = tmp_path_factory.mktemp("same")
    for name, seed in (("one", 3), ("two", 4)):
        VirtualBrain.Config(seed=seed, **SMALL).build().write(root / name)  # type: ignore[arg-type]
    return [read_stack(root / name) for name in ("one", "two")]


def likeness(a: Section, b: Section) -> float:
    return float((of_section(a) * of_section(b)).sum())


def of_section(section: Section) -> np.ndarray[Any, Any]:
    return fine_structure(tifffile.imread(section.path))


def stored(path: Path, image: np.ndarray[Any, Any], index: int, **how: Any) -> Section:
    tifffile.imwrite(path, image, **how)
    return Section(path=path, index=index, position_mm=index, pixel_um=250, thickness_um=20, shape=image.shape)


def halved(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows, columns = (size // 2 for size in image.shape)
    return image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean((1, 3)).astype(np.uint8)


COPIES: dict[str, Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], dict[str, Any]]]] = {
    "jpeg": lambda image: (image, {"compression": "jpeg", "compressionargs": {"level": 60}}),
    "strips": lambda image: (image, {"compression": "zlib", "rowsperstrip": 7}),
    "16 bit": lambda image: (image.astype(np.uint16) * 180 + 900, {}),
    "float": lambda image: (image.astype(np.float32) / 255, {}),
    "paler": lambda image: ((image * 0.6 + 70).astype(np.uint8), {}),
    "inverted": lambda image: (255 - image, {}),
    "mirrored": lambda image: (np.ascontiguousarray(image[:, ::-1]), {}),
    "turned": lambda image: (np.ascontiguousarray(np.rot90(image)), {}),
    "half": lambda image: (halved(image), {}),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_found(how: str, brains: list[SectionStack], tmp_path: Path) -> None:
    one, two = brains
    section = one.sections[len(one) // 2]
    image, options = COPIES[how](tifffile.imread(section.path))
    copy = stored(tmp_path / "copy.tif", image, 900, **options)
    unseen = SectionStack(sections=(*two.sections, copy), space="other")
    told: list[tuple[str, int, int]] = []
    found = shared_images({"one": one}, {"two": unseen}, lambda *now: told.append(now))
    assert found == [(f"one/{section.index}", "two/900")]
    assert told[-1] == ("images", len(one) + len(unseen), len(one) + len(unseen))


def test_neighbours_and_other_brains_are_not_the_same(brains: list[SectionStack]) -> None:
    one, two = brains
    assert shared_images({"one": one}, {"two": two}) == []
    assert shared_images({}, {"two": two}) == []
    same_place = [likeness(a, b) for a, b in zip(one, two)]
    assert max(same_place) < 0.4
    beside = [likeness(a, b) for a, b in zip(one.sections, one.sections[1:])]
    assert max(beside) < 0.6


def test_a_copy_within_a_stack_is_found_and_near_sections_are_passed_over(brains: list[SectionStack]) -> None:
    one = brains[0]
    images = [tifffile.imread(section.path) for section in one]
    images[7] = (np.rot90(images[2]) * 0.6 + 70).astype(np.uint8)
    fine = np.stack([fine_structure(image) for image in images])
    assert same_in_stack(fine, one.positions_mm) == [(2, 7)]
    assert same_in_stack(fine, one.positions_mm / 1000) == []
    assert same_in_stack(np.zeros((3, 0, 0), np.float32), np.arange(3.0)) == []


def test_images_that_show_nothing_are_not_the_same(tmp_path: Path) -> None:
    for name, value in (("a", 200), ("b", 201)):
        write_tiff(tmp_path / f"{name}.tif", np.full((40, 50), value, np.uint8), 250)
    stacks = [
        SectionStack(
            sections=(Section(path=tmp_path / f"{name}.tif", index=1, position_mm=0, pixel_um=250, thickness_um=20,
                              shape=(40, 50)),),
            space=name,
        )
        for name in "ab"
    ]  # fmt: skip
    assert shared_images({"a": stacks[0]}, {"b": stacks[1]}) == []
