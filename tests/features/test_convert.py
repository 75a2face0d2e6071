"""Conversion: the same pixels in both formats, read by other libraries too; pyramids of means; kills and damage."""

import json

import numpy as np
import pytest
import tifffile

from features import convert as conversion
from features.convert import main
from meshgnn.errors import InputError
from meshgnn.source.images import open_image
from meshgnn.source.images.ome_zarr import OmeZarrImage
from meshgnn.source.sections import read_stack
from tests import image_formats
from tests.features.sections import write_stack

KINDS = {"tiff": ".tif", "zarr": ".ome.zarr"}


def picture(kind=np.uint8, shape=(301, 437)):
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)


def run(out, *settings):
    return main([word for one in settings for word in ("--set", one)] + ["--out", str(out)])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("form", ["tiff", "zarr"])
def test_pixels_and_pyramid_are_those_of_the_image(tmp_path, form, kind):
    image = picture(kind)
    image_formats.png(tmp_path / "a.png", image, 2.0)
    assert run(tmp_path / "out", f"images={tmp_path / 'a.png'}", f"format={form}", "tile=32") == 0
    with open_image(tmp_path / "out" / f"a{KINDS[form]}") as found:
        assert found.dtype == kind
        assert found.pixel_um == pytest.approx((2.0, 2.0), rel=1e-3)
        np.testing.assert_array_equal(found.read(), image)
        assert [level.shape for level in found.levels] == [(301, 437), (151, 219), (76, 110), (38, 55), (19, 28)]
        below = image
        for number in range(1, len(found.levels)):
            below = image_formats.half(below)
            assert np.abs(found.read(number).astype(int) - below).max() <= 1
            below = found.read(number)
        np.testing.assert_array_equal(found.window(100, 200, 90, 150), image[100:190, 200:350])
        assert found.levels[1].origin == (0.5, 0.5)


def test_other_libraries_read_the_same(tmp_path):
    zarr = pytest.importorskip("zarr")
    image = picture(np.uint16)
    image_formats.png(tmp_path / "a.png", image, 2.0)
    for form in KINDS:
        assert run(tmp_path / "out", f"images={tmp_path / 'a.png'}", f"format={form}", "tile=32") == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), image)
    group = zarr.open_group(str(tmp_path / "out" / "a.ome.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][:], image)
    assert group["0"].shards == (256, 256)
    with open_image(tmp_path / "out" / "a.ome.zarr") as ours:
        np.testing.assert_array_equal(group["2"][:], ours.read(2))


@pytest.mark.parametrize("codec", ["zstd", "gzip", "blosc", "none", "chain"])
@pytest.mark.parametrize("sharded", [False, True])
def test_shards_of_other_programs_are_read_directly_or_by_zarr(tmp_path, monkeypatch, codec, sharded):
    zarr = pytest.importorskip("zarr")
    from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

    image = picture(np.uint16, (130, 200))
    image[:70, :70] = 0  # chunks that are not written
    codecs = {"zstd": [ZstdCodec()], "gzip": [GzipCodec()], "blosc": [BloscCodec()], "none": None}
    image_formats.ome_zarr(tmp_path / "a.ome.zarr", image, 2.0, version="0.5")
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="a")
    array = group.create_array(
        "0", shape=(1, *image.shape), chunks=(1, 32, 32), shards=(1, 64, 96) if sharded else None, dtype="uint16",
        compressors=codecs.get(codec, [ZstdCodec(), Crc32cCodec()]), overwrite=True,
    )  # fmt: skip
    array[:] = image[None]
    asked = []
    real = OmeZarrImage._by_zarr
    monkeypatch.setattr(OmeZarrImage, "_by_zarr", lambda *a: asked.append(1) or real(*a))
    with open_image(tmp_path / "a.ome.zarr") as found:
        np.testing.assert_array_equal(found.read(), image)
        np.testing.assert_array_equal(found.window(20, 30, 64, 65), image[20:84, 30:95])
        assert found.tile_shape == (32, 32)
    assert bool(asked) == (codec == "chain")


def test_a_damaged_shard_names_its_chunk(tmp_path):
    image_formats.png(tmp_path / "a.png", picture(), 2.0)
    assert run(tmp_path / "out", f"images={tmp_path / 'a.png'}", "format=zarr", "tile=32") == 0
    shard = tmp_path / "out" / "a.ome.zarr" / "0" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    for change in ((-8, "index"), (100, "chunk 0 of level 0")):
        damaged = bytearray(content)
        damaged[change[0]] ^= 0xFF
        shard.write_bytes(damaged)
        with open_image(tmp_path / "out" / "a.ome.zarr") as found:
            if change[0] < 0:
                with pytest.raises(InputError, match=change[1]):
                    found.read()
        assert run(tmp_path / "out", "verify=true") == 2
    shard.write_bytes(content[:50])
    with open_image(tmp_path / "out" / "a.ome.zarr") as found, pytest.raises(InputError, match="without a whole index"):
        found.read()


@pytest.mark.parametrize("form", ["tiff", "zarr"])
def test_a_stack_becomes_a_stack_and_a_killed_conversion_goes_on(tmp_path, monkeypatch, form, capsys):
    images = [picture(shape=(200, 300)) // (k + 1) for k in range(3)]
    write_stack(tmp_path / "stack", images, pixel_um=10.0)
    settings = (f"stack={tmp_path / 'stack'}", f"format={form}", "tile=32")
    name = "write_tiff_pyramid" if form == "tiff" else "write_zarr_pyramid"
    real, calls = getattr(conversion, name), []

    def dies(path, rows, *rest):
        calls.append(path.name)

        def later(first, last):
            if len(calls) == 2 and first:
                raise KeyboardInterrupt
            return rows(first, last)

        return real(path, later, *rest)

    monkeypatch.setattr(conversion, name, dies)
    assert run(tmp_path / "out", *settings, *(["tile=16"] if form == "zarr" else [])) != 0
    calls.clear()
    calls += ["", ""]
    assert run(tmp_path / "out", *settings, *(["tile=16"] if form == "zarr" else [])) == 0
    assert calls[2:] == [f"s1{KINDS[form]}", f"s2{KINDS[form]}"]  # not the first again
    stack = read_stack(tmp_path / "out")
    assert [section.pixel_um for section in stack] == [10.0] * 3
    for section, image in zip(stack, images):
        with open_image(section.path) as found:
            np.testing.assert_array_equal(found.read(), image)
    assert not list((tmp_path / "out").rglob(".*"))
    assert run(tmp_path / "out", "verify=true") == 0
    calls[2:] = []
    assert run(tmp_path / "out", *settings, *(["tile=16"] if form == "zarr" else [])) == 0
    assert len(calls) == 2
    file = next(path for path in sorted((tmp_path / "out").rglob("*")) if path.suffix == ".tif" or path.name == "0")
    file = file if file.is_file() else next(path for path in sorted(file.rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert run(tmp_path / "out", "verify=true") == 2
    assert "is not what was written (1 of 3" in capsys.readouterr().err


def test_what_cannot_be_converted_is_told_in_one_line(tmp_path, capsys):
    image_formats.jpeg2000(tmp_path / "a.jp2", picture(), 2.0)
    assert run(tmp_path / "out") == 2
    assert run(tmp_path / "out", f"images={tmp_path / 'a.jp2'}") == 2
    assert "does not tell the width of its pixels" in capsys.readouterr().err
    (tmp_path / "b").mkdir()
    image_formats.jpeg2000(tmp_path / "b" / "a.jp2", picture(), 2.0)
    both = f"images={tmp_path / 'a.jp2'},{tmp_path / 'b' / 'a.jp2'}"
    assert run(tmp_path / "out", both, "pixel_um=2") == 2
    assert "two images would be written as a.tif" in capsys.readouterr().err
    assert run(tmp_path / "out", "verify=true") == 2
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"a": 1}))
    assert run(tmp_path / "out", "verify=true") == 2
    assert "not a manifest" in capsys.readouterr().err
    assert run(tmp_path / "out", "tile=30") == 2


def test_real_sections_are_converted_and_read(tmp_path, real_data):
    from features.node_data.section_patches import SectionPatches
    from tests.features.sections import locations

    folder = real_data / "histology"
    if not folder.is_dir():
        pytest.skip("the folder histology is not there")
    for number, name in enumerate(("bigbrain_gyrus", "rat_s1hl_section", "mouse_coronal_section")):
        form = "zarr" if number % 2 else "tiff"
        out = tmp_path / name
        assert run(out, f"images={folder / name}.png", "pixel_um=5", f"format={form}", "tile=64") == 0
        assert run(out, "verify=true") == 0
        target = out / f"{name}{KINDS[form]}"
        with open_image(folder / f"{name}.png") as before, open_image(target) as after:
            np.testing.assert_array_equal(after.read(), before.read())
            rows, columns = after.shape
        line = f"{target.name},0,0,5,20,1"
        (out / "sections.csv").write_text(f"file,index,position_mm,pixel_um,thickness_um,usable\n{line}\n")
        where = locations(0, [rows / 2, rows / 3], [columns / 2, columns / 3], 30.0)
        stack = read_stack(out, minimum=1)
        patches = SectionPatches(SectionPatches.Config(size_px=32, pixel_um=10.0), stack, where).read([0, 1])
        assert np.isfinite(patches).all()
        assert patches.std() > 0.02
