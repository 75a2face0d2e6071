"""Every format gives the same pixels, windows, levels and pixel size; what is damaged is named."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from meshgnn.errors import InputError
from meshgnn.source.images import image_hash, is_image, key, open_image
from meshgnn.source.section_image import level_of
from tests import image_formats as formats

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (203, 310)).astype(np.uint8)
_ROW, _COLUMN = np.indices((403, 610)).astype(np.float64)
RAMP = (3 * _ROW + 2 * _COLUMN).astype(np.uint16)
"""Its value tells the place: 3 x row + 2 x column."""


def made(name: str, folder: Path, image: Any = IMAGE, pixel_um: float = 50.0, **how: Any) -> Path:
    if name in formats.NEEDS:
        pytest.importorskip(formats.NEEDS[name], reason="the optional package is not installed")
    suffix, writer = formats.EXACT[name]
    return writer(folder / f"s001{suffix}", image, pixel_um, **how)


@pytest.mark.parametrize("name", formats.EXACT)
def test_every_format_gives_the_same_windows(name: str, tmp_path: Path) -> None:
    path = made(name, tmp_path)
    assert is_image(path)
    padded = np.pad(IMAGE, 40, constant_values=9)
    with open_image(path) as image:
        assert (image.shape, image.dtype, image.colour) == (IMAGE.shape, np.uint8, False)
        np.testing.assert_array_equal(image.read(), IMAGE)
        for row, column, height, width in [(-30, -20, 60, 50), (100, 150, 60, 60), (180, 290, 60, 60), (33, 47, 1, 2)]:
            expected = padded[row + 40 : row + 40 + height, column + 40 : column + 40 + width]
            np.testing.assert_array_equal(image.window(row, column, height, width, fill=9), expected)
        if name != "jpeg2000":
            assert image.pixel_um == pytest.approx((50, 50), rel=1e-3)
    with open_image(path, mirrored=True) as image:
        np.testing.assert_array_equal(image.window(3, 5, 40, 60), IMAGE[3:43, ::-1][:, 5:65])


@pytest.mark.parametrize("name", ["png", "jpeg2000", "nifti", "zarr05", "pyramid"])
def test_sixteen_bits_are_kept(name: str, tmp_path: Path) -> None:
    with open_image(made(name, tmp_path, RAMP)) as image:
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image.read(), RAMP)


@pytest.mark.parametrize("name", ["nifti", "zarr04", "pyramid"])
def test_floating_point_is_kept(name: str, tmp_path: Path) -> None:
    values = RNG.random((90, 70)).astype(np.float32)
    with open_image(made(name, tmp_path, values)) as image:
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image.read(), values)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("pyramid", {}), ("pyramid", {"steps": (3,)}), ("pages", {}), ("jpeg2000", {}),
        ("zarr04", {"steps": (2, 4)}), ("zarr05", {"steps": (4,), "said": False}),
    ],
)  # fmt: skip
def test_levels_lie_where_they_should(name: str, how: dict[str, Any], mirrored: bool, tmp_path: Path) -> None:
    """A ramp tells half a pixel: means of blocks from a level are those of the full image."""
    if name.startswith("zarr"):
        pytest.importorskip("zarr", reason="the optional package is not installed")
        path = formats.ome_zarr(tmp_path / "a.ome.zarr", RAMP, 50, version="0.4" if name == "zarr04" else "0.5", **how)
    else:
        path = made(name, tmp_path, RAMP, **how)
    whole = RAMP[:, ::-1] if mirrored else RAMP
    with open_image(path, mirrored=mirrored) as image:
        assert len(image.levels) > 1
        for block in (5, 8, 16):
            assert image.level_for(block) > 0
            rows, columns = whole.shape[0] // block, whole.shape[1] // block
            cut = whole[: rows * block, : columns * block].astype(np.float64)
            exact = cut.reshape(rows, block, columns, block).mean((1, 3))
            got = image.reduced(block)
            assert got.shape == exact.shape
            inner = (slice(1, -1), slice(1, -1))  # wavelets ring at the border
            assert np.abs(got - exact)[inner].max() < 0.9, block  # half a pixel would be 2.5


def test_a_pyramid_of_any_steps_is_measured_by_its_shapes() -> None:
    assert level_of((403, 610), (135, 204), (64, 64)).factor == (3, 3)
    assert level_of((1000, 1000), (300, 300), (64, 64)).factor == pytest.approx((3.3333, 3.3333), rel=1e-3)
    level = level_of((4096, 4096), (64, 64), (64, 64))
    assert level.factor == (64, 64)
    assert level.origin == (31.5, 31.5)


def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_image(made("pages", tmp_path, RAMP)) as image:
        assert [image.level_for(f) for f in (1, 3.9, 4, 15, 16, 100)] == [0, 0, 1, 1, 2, 2]
        read = []
        real = image.tile
        monkeypatch.setattr(image, "tile", lambda number, level=0: read.append(level) or real(number, level))
        image.reduced(20)
        assert set(read) == {2}


def test_a_label_behind_the_slide_is_no_level(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shape in ((200, 300), (100, 150), (90, 60), (50, 75)):
            file.write(np.full(shape, shape[0], np.uint8), metadata=None, photometric="minisblack")
    with open_image(tmp_path / "a.tif") as image:
        assert [level.shape for level in image.levels] == [(200, 300), (100, 150), (50, 75)]


def test_uncompressed_strips_are_read_where_they_lie(tmp_path: Path) -> None:
    for order in "<>":
        tifffile.imwrite(tmp_path / "a.tif", RAMP, rowsperstrip=403, byteorder=order, photometric="minisblack")
        with open_image(tmp_path / "a.tif") as image:
            np.testing.assert_array_equal(image.window(100, 7, 50, 60), RAMP[100:150, 7:67])
            np.testing.assert_array_equal(image.read(), RAMP)


def test_colour_becomes_the_stain_that_is_asked_for(tmp_path: Path) -> None:
    import skimage.color

    amount = np.zeros((40, 50, 3))
    amount[:20, :, 0] = np.linspace(0, 1.2, 50)  # hematoxylin above, eosin below
    amount[20:, :, 1] = np.linspace(0, 1.2, 50)
    density = amount @ skimage.color.rgb_from_hed
    rgb = np.round(255 * 10**-density).astype(np.uint8)
    for name in ("a.png", "a.tif"):
        if name == "a.png":
            Image.fromarray(rgb).save(tmp_path / name)
        else:
            tifffile.imwrite(tmp_path / name, rgb, photometric="rgb", tile=(16, 16))
        with open_image(tmp_path / name) as image:
            assert image.colour
            np.testing.assert_allclose(image.read(), 255 * 10 ** -density.mean(2), atol=2)
        with open_image(tmp_path / name, stain="hematoxylin") as image:
            grey = image.read()
            np.testing.assert_allclose(grey[:20], 255 * 10 ** -density[:20].mean(2), atol=4)
            assert grey[20:].min() > 245  # no eosin left
        with open_image(tmp_path / name, stain="red") as image:
            np.testing.assert_array_equal(image.read(), rgb[..., 0])
    with pytest.raises(InputError, match="stain is 'tartan'; write one of density"):
        open_image(tmp_path / "a.png", stain="tartan")


def test_what_is_transparent_is_glass(tmp_path: Path) -> None:
    """Programs cut sections out and leave black below what is transparent."""
    rgba = np.zeros((40, 50, 4), np.uint8)
    rgba[10:30, 10:40] = [100, 100, 100, 255]
    Image.fromarray(rgba).save(tmp_path / "a.png")
    grey = np.zeros((40, 50, 2), np.uint8)
    grey[10:30, 10:40] = [100, 255]
    Image.fromarray(grey, "LA").save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        with open_image(tmp_path / name) as image:
            read = image.read()
        assert (read[10:30, 10:40] == 100).all()
        assert (read[:10] == 255).all()


def test_a_picture_that_is_to_be_turned_is_refused(tmp_path: Path) -> None:
    about = Image.Exif()
    about[274] = 6
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", exif=about)
    with pytest.raises(InputError, match="is to be shown turned by 90 degrees"):
        open_image(tmp_path / "a.jpg")


def test_the_folder_of_a_mrxs_counts(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"index")
    before = image_hash(tmp_path / "a.mrxs")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0000.dat").write_bytes(b"pixels")
    assert image_hash(tmp_path / "a.mrxs") != before


def test_jpeg_is_read_in_its_smaller_sizes(tmp_path: Path) -> None:
    smooth = np.clip(RAMP // 10, 0, 255).astype(np.uint8)
    with open_image(formats.jpeg(tmp_path / "a.jpg", smooth, 50)) as image:
        assert [level.factor[0] for level in image.levels] == [1, 2, 4, 8]
        assert image.pixel_um == pytest.approx((50, 50), rel=1e-2)
        assert np.abs(image.read().astype(int) - smooth).max() <= 3
        got = image.reduced(8)
        assert np.abs(got - formats.half(smooth, 8)[: got.shape[0], : got.shape[1]]).max() < 2


def test_slides_are_read_at_their_levels(tmp_path: Path) -> None:
    pytest.importorskip("openslide", reason="the optional package is not installed")
    smooth = np.clip(RAMP // 10, 0, 255).astype(np.uint8)
    with open_image(formats.slide(tmp_path / "a.svs", smooth, 12.5)) as image:
        assert image.pixel_um == (12.5, 12.5)
        assert image.shape == smooth.shape
        assert [level.factor[0] for level in image.levels] == [1, 4]
        assert np.abs(image.read().astype(int) - smooth).max() <= 2
        np.testing.assert_allclose(image.window(300, 500, 50, 60), smooth[300:350, 500:560], atol=2)
        got = image.reduced(8)
        assert np.abs(got - formats.half(smooth, 8)[: got.shape[0], : got.shape[1]]).max() < 2


def test_a_format_whose_package_is_missing_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name in ("zarr", "openslide"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("meshgnn.optional.import_module", without)
    (tmp_path / "a.svs").write_bytes(b"x")
    (tmp_path / "a.zarr").mkdir()
    about = {"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "0"}]}]}
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps({"attributes": {"ome": about}}))
    with pytest.raises(InputError, match=r"pip install meshgnn\[slides\]"):
        open_image(tmp_path / "a.svs")
    with pytest.raises(InputError, match=r"pip install meshgnn\[zarr\]"):
        open_image(tmp_path / "a.zarr")


def test_pixel_sizes_that_nobody_set_are_not_believed(tmp_path: Path) -> None:
    for name, how in {
        "dpi": {"resolution": (72, 72), "resolutionunit": "INCH"},
        "one": {"resolution": (1, 1), "resolutionunit": "CENTIMETER"},
        "none": {"resolution": (100, 100), "resolutionunit": "NONE"},
    }.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", IMAGE, **how)
        with open_image(tmp_path / f"{name}.tif") as image:
            assert image.pixel_um is None, name
    tifffile.imwrite(tmp_path / "scan.tif", IMAGE, resolution=(1200, 1200), resolutionunit="INCH")
    with open_image(tmp_path / "scan.tif") as image:
        assert image.pixel_um == pytest.approx((21.1667, 21.1667), abs=1e-3)


@pytest.mark.parametrize("name", ["png", "jpeg2000", "nifti", "pyramid"])
def test_a_file_cut_short_is_named(name: str, tmp_path: Path) -> None:
    path = made(name, tmp_path)
    data = path.read_bytes()
    for share in (0.5, 0.0):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match=path.name), open_image(path) as image:
            image.read()


def test_a_level_of_nothing_is_named(tmp_path: Path) -> None:
    path = made("pyramid", tmp_path)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].pages[0].tags[256].overwrite(0)
    with pytest.raises(InputError, match="level 1 of its pyramid is empty"):
        open_image(path)


def test_a_level_of_nothing_in_a_zarr_is_named(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="the optional package is not installed")
    path = formats.ome_zarr(tmp_path / "a.zarr", IMAGE, 50, steps=(2,))
    shutil.rmtree(path / "1")
    zarr.open_group(str(path), mode="a").create_array("1", shape=(1, 0, 155), chunks=(1, 64, 64), dtype="u1")
    with pytest.raises(InputError, match="level 1 of its pyramid is empty"):
        open_image(path)


def test_a_damaged_tile_of_a_level_is_named(tmp_path: Path) -> None:
    path = made("pyramid", tmp_path)
    with tifffile.TiffFile(path) as file:
        level = file.pages[0].pages[0]
        offset, count = level.dataoffsets[2], level.databytecounts[2]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = b"\xff" * count
    path.write_bytes(bytes(data))
    with open_image(path) as image:
        image.read()
        with pytest.raises(InputError, match="tile 2 of level 1"):
            image.read(1)


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="the optional package is not installed")
    path = formats.ome_zarr(tmp_path / "a.zarr", IMAGE, 50, version="0.5")
    chunk = next(one for one in sorted((path / "0").rglob("*")) if one.is_file() and one.name != "zarr.json")
    chunk.write_bytes(b"\xff" * 40)
    with open_image(path) as image, pytest.raises(InputError, match="level 0 cannot be decoded"):
        image.read()


def test_what_is_no_section_is_refused(tmp_path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(InputError, match="5 x 6 x 7 is not one section"):
        open_image(tmp_path / "v.nii")
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(InputError, match="neither PNG"):
        open_image(tmp_path / "a.png")
    huge = bytearray(formats.png(tmp_path / "h.png", IMAGE, 50).read_bytes())
    huge[16:24] = struct.pack(">II", 100_000, 100_000)
    (tmp_path / "h.png").write_bytes(bytes(huge))
    with pytest.raises(InputError, match=r"h\.png"):
        open_image(tmp_path / "h.png")


@pytest.mark.parametrize(("shape", "affine", "expected"), [
    ((4, 1, 3), np.diag([1.0, 1, 1, 1]), "coronal"),
    ((4, 1, 3), np.diag([-1.0, 1, -1, 1]), "turned"),
])  # fmt: skip
def test_nifti_sections_lie_as_their_affine_says(
    shape: tuple[int, ...], affine: np.ndarray[Any, Any], expected: str, tmp_path: Path
) -> None:
    import nibabel

    values = np.arange(12, dtype=np.uint8).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii")
    flat = values[:, 0].T  # [Z, X]
    with open_image(tmp_path / "a.nii") as image:
        np.testing.assert_array_equal(image.read(), flat[::-1] if expected == "coronal" else flat[:, ::-1])


def test_large_files_are_sampled_and_small_ones_hashed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from meshgnn.store import file_hash

    path = tmp_path / "a.tif"
    path.write_bytes(RNG.integers(0, 256, 9_000_000, np.uint8).tobytes())
    assert image_hash(path) == file_hash(path)
    monkeypatch.setattr(key, "WHOLE_BYTES", 1 << 20)
    first = image_hash(path)
    assert first.startswith("sampled-")
    path.touch()
    assert image_hash(path) == first  # not the time of change
    with path.open("r+b") as handle:
        handle.seek(5)
        handle.write(b"\0\1\2")
    assert image_hash(path) != first
    with path.open("ab") as handle:
        handle.write(b"\0")
    assert image_hash(path) != first
    read = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: read.append(self) or real(self, *a, **k))
    assert len(b"".join(part or b"" for part in key.contents(path))) < 7_000_000
