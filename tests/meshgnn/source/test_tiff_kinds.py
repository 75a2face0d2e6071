"""What the numbers of a TIFF mean is read from its header; what is not known is refused by name."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from meshgnn.errors import InputError
from meshgnn.source.sections import Section, SectionStack, open_image

IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90)).astype(np.uint8)


def written(path: Path, image: np.ndarray[Any, Any] = IMAGE, **how: Any) -> Path:
    tifffile.imwrite(path, image, **{"tile": (32, 32), **how})
    return path


def set_tag(path: Path, code: int, value: int) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[code].overwrite(value)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_white_is_zero_is_turned_round(tmp_path: Path, dtype: type, top: int) -> None:
    path = written(tmp_path / "a.tif", IMAGE.astype(dtype), photometric="miniswhite")
    with open_image(path) as image:
        assert image.dtype == dtype
        np.testing.assert_array_equal(image.read(), top - IMAGE.astype(dtype))
    with open_image(path, stored=True) as image:
        np.testing.assert_array_equal(image.read(), IMAGE)


def test_a_palette_becomes_luminance_and_labels_stay_numbers(tmp_path: Path) -> None:
    palette = np.zeros((3, 256), np.uint16)
    palette[1] = (255 - np.arange(256)) * 257  # greens, brightest first
    path = written(tmp_path / "a.tif", photometric="palette", colormap=palette)
    with open_image(path) as image:
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image.read(), np.round(0.587 * (255.0 - IMAGE)))
        np.testing.assert_array_equal(image.window(-5, 3, 20, 20, fill=7)[:5], 7)
    with open_image(path, stored=True) as image:
        np.testing.assert_array_equal(image.read(), IMAGE)


def test_jpeg_colours_are_read(tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 120, np.uint8)
    path = written(tmp_path / "a.tif", grey, photometric="ycbcr", compression="jpeg")
    with open_image(path, stain="luminance") as image:
        assert np.abs(image.read().astype(int) - 120).max() <= 2


def test_what_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    colour = np.stack([IMAGE] * 3, axis=-1)
    cases: dict[str, tuple[Path, str]] = {
        "planes": (
            written(tmp_path / "p.tif", colour.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
            "planes stored apart",
        ),
        "cmyk": (
            written(tmp_path / "c.tif", np.stack([IMAGE] * 4, axis=-1), photometric="separated"), "SEPARATED",
        ),
        "lab": (written(tmp_path / "l.tif", colour, photometric="cielab"), "CIELAB"),
        "bits": (written(tmp_path / "b.tif", IMAGE > 9), "1 bit per sample"),
    }  # fmt: skip
    for path, words in cases.values():
        with pytest.raises(InputError, match=words) as told:
            open_image(path)
        assert str(path) in str(told.value)
    with pytest.raises(InputError, match="labels need one whole number"):
        open_image(written(tmp_path / "rgb.tif", colour, photometric="rgb"), stored=True)


@pytest.mark.parametrize(("value", "words"), [(3, "180"), (6, "90"), (2, "mirrored"), (77, "orientation 77")])
def test_an_image_that_is_to_be_turned_is_refused(tmp_path: Path, value: int, words: str) -> None:
    path = written(tmp_path / "a.tif", extratags=[(274, "H", 1, value, True)])
    with pytest.raises(InputError, match=words):
        open_image(path)
    open_image(written(tmp_path / "upright.tif", extratags=[(274, "H", 1, 1, True)])).close()


def test_headers_that_ask_for_too_much_are_refused(tmp_path: Path) -> None:
    huge, tile, few = (written(tmp_path / f"{name}.tif") for name in ("huge", "tile", "few"))
    for code in (256, 257):
        set_tag(huge, code, 1 << 20 if code == 256 else 1 << 24)
    set_tag(tile, 322, 1 << 16)
    set_tag(tile, 323, 1 << 16)
    set_tag(few, 257, 70 + 64)
    for path, words in ((huge, "its header asks for"), (tile, "its header asks for"), (few, "lists 9 of its 15 tiles")):
        with pytest.raises(InputError, match=words):
            open_image(path)
    (tmp_path / "odd.tif").write_bytes(b"II*\x00" + struct.pack("<I", 8) + struct.pack("<H", 9999) + b"\x01" * 40)
    with pytest.raises(InputError, match=r"odd\.tif"):
        open_image(tmp_path / "odd.tif")


def section(**what: Any) -> Section:
    given = {"path": Path("a.tif"), "index": 1, "position_mm": 0, "pixel_um": 50, "thickness_um": 20, "shape": (9, 9)}
    return Section(**{**given, **what})


@pytest.mark.parametrize("index", [2**32 + 5, 2**31, -1])
def test_section_numbers_that_would_wrap_are_refused(index: int) -> None:
    with pytest.raises(InputError, match="index must lie between"):
        section(index=index)


def test_positions_in_micrometres_are_told() -> None:
    with pytest.raises(InputError, match="give millimetres"):
        SectionStack(sections=tuple(section(index=k, position_mm=2000 * k) for k in range(3)), space="x")
    with pytest.raises(InputError, match="pixel_um is"):
        section(pixel_um=1e9)
