"""Tiles show the image as it is stored, whatever they are made from."""

import threading
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile

from meshgnn.errors import InputError
from meshgnn.mapping.pictures import TILE, Pictures, tiles
from meshgnn.mapping.pictures.pyramid import Window, halved, shapes_below, window_of, write_pyramid
from meshgnn.mapping.pictures.tiles import NotReady
from meshgnn.source.sections import SectionStack, open_image, read_stack, write_tiff


def smooth(rows: int, columns: int, top: float = 255) -> np.ndarray:
    """A picture whose parts all differ, and that JPEG keeps nearly as it is."""
    y, x = np.mgrid[:rows, :columns]
    return (top * (0.5 + 0.3 * np.sin(x / 97 + 1) + 0.2 * np.cos(y / 61))).round()


def stack_of(folder, image: np.ndarray, **fields) -> SectionStack:
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", image, tile=(256, 256), photometric="rgb" if image.ndim == 3 else "minisblack")
    (folder / "sections.csv").write_text(
        "file,index,position_mm,pixel_um,thickness_um,usable\na.tif,5,0,10,20,1\n", encoding="utf-8"
    )
    stack = read_stack(folder, minimum=1)
    return replace(stack, sections=tuple(replace(one, **fields) for one in stack))


def whole(pictures: Pictures, level: int) -> np.ndarray:
    """A level put together from its tiles."""
    one = pictures.shown[5]
    out = np.zeros(one.levels[level].shape, np.uint8)
    rows, columns = one.tiles(level)
    for row in range(rows):
        for column in range(columns):
            tile = np.asarray(imagecodecs.jpeg8_decode(pictures.tile(5, level, row, column)))
            place = out[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            assert tile.shape == place.shape  # smaller at the rim
            place[:] = tile
    return out


def off(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).max())


@pytest.mark.parametrize(("small", "made"), [(1 << 24, "held"), (0, "made")])
def test_tiles_of_all_levels_show_means_of_the_image(tmp_path, monkeypatch, small, made):
    monkeypatch.setattr(tiles, "SMALL", small)
    image = smooth(1301, 2567).astype(np.uint8)
    pictures = Pictures(stack_of(tmp_path / "s", image), tmp_path / "pyramids")
    assert pictures.shown[5].made == made
    pictures.prepare()
    assert [level.shape for level in pictures.shown[5].levels] == shapes_below(image.shape)
    assert shapes_below(image.shape)[-1] == (163, 321)
    assert off(whole(pictures, 0), image) <= 6
    assert off(whole(pictures, 1), halved(image)) <= 6
    assert off(whole(pictures, 2), halved(halved(image))) <= 6
    grey, factor = pictures.grey(5, 700)
    assert (grey.shape, factor) == ((326, 642), 4)
    assert max(np.asarray(imagecodecs.jpeg8_decode(pictures.thumbnail(5))).shape) == tiles.THUMBNAIL
    with pytest.raises(KeyError):
        pictures.tile(5, 0, 6, 0)
    pictures.close()


def test_halves_are_means_of_what_there_is():
    image = np.array([[0, 2, 10], [4, 6, 20], [8, 8, 30]], np.uint8)
    assert halved(image).tolist() == [[3, 15], [8, 30]]
    assert halved(np.full((2051, 3), 7, np.uint8)).tolist() == [[7, 7]] * 1026


@pytest.mark.parametrize("held", [1 << 29, 30_000])
def test_levels_that_memory_does_not_hold_are_made_from_the_image(tmp_path, monkeypatch, held):
    from meshgnn.mapping.pictures import pyramid

    monkeypatch.setattr(pyramid, "_HELD", held)
    image = smooth(1500, 1100).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(256, 256))
    with open_image(tmp_path / "a.tif") as opened:
        write_pyramid(tmp_path / "p.tif", opened, window_of(opened), 1, {"etag": "x"})
    with pyramid.PyramidFile(tmp_path / "p.tif") as file:
        assert file.shapes == shapes_below(image.shape)[1:]
        assert file.about == {"etag": "x"}
        assert off(file.read(0), halved(image)) <= 6
        assert off(file.read(1), halved(halved(image))) <= 6
    assert tifffile.imread(tmp_path / "p.tif", key=0).shape == (750, 550)  # other programs read it too


def test_sixteen_bit_and_float_are_shown_in_their_own_window(tmp_path):
    image = (1000 + smooth(300, 400, 500)).astype(np.uint16)
    image[0, 0] = 65535  # a hot pixel does not make all else black
    for name, one in (("u", image), ("f", np.where(image > 60000, np.nan, image / 1e4).astype(np.float32))):
        pictures = Pictures(stack_of(tmp_path / name, one), tmp_path / "pyramids")
        shown = whole(pictures, 0)
        assert shown.min() < 15
        assert np.quantile(shown, 0.99) > 240
        pictures.close()
    assert Window(low=0, high=1).shown(np.full((2, 2), np.nan, np.float32)).tolist() == [[0, 0], [0, 0]]
    flat = Pictures(stack_of(tmp_path / "flat", np.full((300, 300), 7, np.uint16)), tmp_path / "pyramids")
    assert whole(flat, 0).shape == (300, 300)


def test_sections_that_are_marked_as_mirrored_are_shown_as_stored(tmp_path):
    image = smooth(300, 400).astype(np.uint8)
    pictures = Pictures(stack_of(tmp_path / "s", image, mirrored=True), tmp_path / "pyramids")
    assert off(whole(pictures, 0), image) <= 6


def test_colour_is_shown_as_its_stain(tmp_path):
    image = np.zeros((300, 300, 3), np.uint8)
    image[..., 0] = smooth(300, 300)
    pictures = Pictures(stack_of(tmp_path / "s", image, stain="red"), tmp_path / "pyramids")
    assert off(whole(pictures, 0), image[..., 0]) <= 6


def test_a_pyramid_of_the_image_itself_is_used(tmp_path):
    image = smooth(2400, 3000).astype(np.uint8)
    stack = stack_of(tmp_path / "s", image)
    with tifffile.TiffWriter(tmp_path / "s" / "a.tif") as out:
        for level, step in enumerate((1, 4, 8)):
            out.write(image[::step, ::step], tile=(256, 256), subfiletype=int(level > 0), photometric="minisblack")
    pictures = Pictures(stack, tmp_path / "pyramids")
    assert pictures.shown[5].made == "own"
    assert [level.shape for level in pictures.shown[5].levels] == [(2400, 3000), (600, 750), (300, 375)]
    assert off(whole(pictures, 1), image[::4, ::4]) <= 6
    assert pictures.missing() == []


def test_a_pyramid_is_made_once_and_anew_for_another_image(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "SMALL", 0)
    folder, stack = tmp_path / "pyramids", stack_of(tmp_path / "s", smooth(1400, 2400).astype(np.uint8))
    pictures = Pictures(stack, folder)
    with pytest.raises(NotReady):
        pictures.tile(5, 1, 0, 0)
    assert pictures.tile(5, 0, 0, 0)  # the full resolution is there at once
    pictures.prepare()
    assert pictures.ready(5)
    path = folder / "section_00005.tif"
    before = path.stat().st_mtime_ns
    assert Pictures(stack, folder).missing() == []
    (tmp_path / "s" / "a.tif").touch()  # the same image
    assert Pictures(stack, folder).missing() == []
    assert path.stat().st_mtime_ns == before
    other = 255 - smooth(1400, 2400).astype(np.uint8)
    tifffile.imwrite(tmp_path / "s" / "a.tif", other, tile=(256, 256), photometric="minisblack")
    again = Pictures(stack, folder)
    assert again.missing() == [5]
    again.prepare()
    assert off(whole(again, 1), halved(other)) <= 6
    path.write_bytes(path.read_bytes()[:2000])
    assert Pictures(stack, folder).missing() == [5]


def test_what_was_interrupted_leaves_no_pyramid(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "SMALL", 0)
    pictures = Pictures(stack_of(tmp_path / "s", smooth(1400, 2400).astype(np.uint8)), tmp_path / "pyramids")
    pictures.close()
    pictures._ending = False
    with monkeypatch.context() as patched:
        patched.setattr(tiles, "write_pyramid", lambda *a, **k: write_pyramid(*a, **{**k, "stopped": lambda: True}))
        pictures.prepare()
    assert list((tmp_path / "pyramids").iterdir()) == []
    assert not pictures.ready(5)


def test_a_damaged_image_is_told_of_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "SMALL", 0)
    folder = tmp_path / "s"
    stack = stack_of(folder, smooth(1400, 2400).astype(np.uint8))
    write_tiff(folder / "a.tif", smooth(1400, 2400).astype(np.uint8), 10)
    data = bytearray((folder / "a.tif").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    pictures = Pictures(stack, tmp_path / "pyramids")
    (folder / "a.tif").write_bytes(data)
    pictures.prepare()
    with pytest.raises(InputError, match=r"a\.tif"):
        pictures.tile(5, 1, 0, 0)


def test_many_threads_may_ask_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "_OPEN", 1)
    folder = tmp_path / "s"
    folder.mkdir()
    rows = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for k in range(4):
        write_tiff(folder / f"{k}.tif", np.full((600, 600), 40 * k, np.uint8), 10)
        rows.append(f"{k}.tif,{k},{k},10,20,1")
    (folder / "sections.csv").write_text("\n".join(rows) + "\n")
    pictures = Pictures(read_stack(folder), tmp_path / "pyramids")
    wrong: list[object] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            k, row, column = (int(v) for v in (rng.integers(4), rng.integers(3), rng.integers(3)))
            try:
                pixels = np.asarray(imagecodecs.jpeg8_decode(pictures._tile(pictures.shown[k], 0, row, column)))
                if abs(int(pixels.mean()) - 40 * k) > 2:
                    wrong.append((k, pixels.mean()))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
