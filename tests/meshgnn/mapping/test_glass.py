"""Predicted outlines end where the image shows glass, if the image can be believed."""

from dataclasses import replace

import numpy as np
import pytest

from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.glass import kept_tissue, on_tissue, tissue
from meshgnn.mapping.ribbon import Ribbons
from meshgnn.progress import silent
from meshgnn.source.sections import SectionStack, write_tiff
from tests.meshgnn.mapping.ball import PIXEL_UM, SHAPE, drawings, located, situation, stack_of

TORN = 80  # rows above this one are glass: the tissue is torn off there


def images(folder, mirrored=(), *, grey=100, glass=230, torn=TORN) -> SectionStack:
    """The ball's sections with images: tissue as wide as the image allows below row `torn`, glass above and around."""
    stack, sections = stack_of(mirrored=mirrored), []
    image = np.full(SHAPE, grey, np.uint8)
    image[:torn] = glass
    image[:, :3] = image[:, -3:] = image[-3:] = glass
    image[torn + 20 : torn + 60, 200:210] = glass  # a crack, right of the middle
    for section in stack:
        path = folder / section.path.name
        write_tiff(path, image, PIXEL_UM)
        sections.append(replace(section, path=path))
    return SectionStack(sections=tuple(sections), space=stack.space)


def filled(stack, tmp_path):
    one, labels = located(stack, 4)
    seen = situation(drawings(stack, one, labels, (12, 14, 16, 18)), stack, one, tmp_path)
    engine = GraphEngine.Config(judge=False).build()
    return engine.fill(seen, tmp_path / "rounds" / "0001" / "graph", silent, lambda: False)


def lowest_row(filling, section) -> float:
    return min(ring[:, 1].min() for area in filling.on(section) for polygon in area.polygons for ring in polygon)


def test_outlines_end_at_glass_and_as_before_once_the_mask_is_deleted(tmp_path):
    found = filled(images(tmp_path), tmp_path)
    assert lowest_row(found, 15) == pytest.approx(TORN, abs=3)
    for path in (tmp_path / "kept" / "tissue").iterdir():
        path.unlink()
    assert lowest_row(found, 15) < TORN - 40


def test_a_mask_lies_on_the_image_as_stored(tmp_path):
    for mirrored in ((), (15,)):
        folder = tmp_path / f"{len(mirrored)}"
        folder.mkdir()
        stack = images(folder, mirrored)
        mask = tissue(stack.at(15))
        assert mask.shape == SHAPE
        crack = mask[TORN + 40]
        assert not crack[202:208].any()
        assert crack[[150, 157, 190, 220]].all()


@pytest.mark.parametrize("look", [{"grey": 200, "glass": 10}, {"torn": 190}, {"grey": 230}])
def test_an_image_that_is_not_dark_tissue_on_glass_cuts_nothing_off(tmp_path, look):
    """Fluorescence; a section of which nearly all is lost; a blank one."""
    stack = images(tmp_path, **look)
    with_images = lowest_row(filled(stack, tmp_path), 15)
    assert with_images < TORN - 40


def test_images_that_cannot_be_read_and_an_ended_filling_leave_masks_out(tmp_path):
    assert kept_tissue(stack_of(), tmp_path, silent, lambda: False) == {}
    stack = images(tmp_path)
    asked = iter([False, False, True])
    keys = kept_tissue(stack, tmp_path, silent, lambda: next(asked))
    assert list(keys) == [10, 11]
    ribbon = Ribbons(located(stack)[0].graph).of(stack.at(14))
    every = np.ones(len(ribbon.pixel), bool)
    cut = on_tissue(ribbon, tmp_path, keys[10], every)
    assert 0.5 < cut.mean() < 1
    (tmp_path / "tissue" / f"{keys[10]}.safetensors").write_bytes(b"damaged")
    assert on_tissue(ribbon, tmp_path, keys[10], every).all()
    assert on_tissue(ribbon, tmp_path, "../../etc/passwd", every).all()
