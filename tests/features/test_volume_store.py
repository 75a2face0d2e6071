"""The store of volumes: what is read is what was written, damage is seen, moments are those of the values."""

import json

import numpy as np
import pytest

from features.subject_data.chunks import CHUNK_BYTES, rows_of
from features.subject_data.volume_store import Grid, VolumeStore, VolumeWriter
from meshgnn.errors import InputError
from tests.features.volumes import AFFINE, SHAPE, phantom

NAMES = ("sub-b", "sub-a", "sub-c")


def volumes() -> np.ndarray:
    return np.stack([phantom(k) * (k + 1) for k in range(len(NAMES))])


def written(folder, kind="uint8", values=None) -> VolumeStore:
    writer = VolumeWriter(folder, Grid(shape=SHAPE, affine=AFFINE, kind=kind), {"made": "by a test"})
    for name, one in zip(NAMES, volumes() if values is None else values):
        writer.add(name, one, f"key of {name}", content=f"image of {name}")
    return writer.finish(NAMES)


@pytest.mark.parametrize(("kind", "error"), [("uint8", 0.5 / 255), ("float16", 2.0**-11)])
def test_what_is_read_is_what_was_written(tmp_path, kind, error):
    store, values = written(tmp_path, kind), volumes()
    found = store.read([0, 1, 2])
    most = values.max(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(found - values) <= error * most * 1.001).all()
    assert (found[values == 0] == 0).all()  # background stays background
    assert store.ids == NAMES
    assert store.contents[0] == "image of sub-b"
    assert store.grid.spacing_mm == (2.0, 2.0, 2.0)
    assert store.settings == {"made": "by a test"}


def test_half_floats_are_read_to_the_last_bit(tmp_path):
    # All finite values of two bytes, subnormal ones and both signs among them.
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    values = np.where(np.isfinite(bits), bits, 0).astype(np.float32).reshape(16, 64, 64)
    values /= np.abs(values).max()
    writer = VolumeWriter(tmp_path, Grid(shape=values.shape, affine=AFFINE, kind="float16"), {})
    writer.add("sub-1", values, "k")
    np.testing.assert_array_equal(writer.finish(["sub-1"]).read([0])[0], values.astype(np.float16).astype(np.float32))


def test_rows_threads_and_buffers_do_not_change_what_is_read(tmp_path):
    store = written(tmp_path)
    whole = store.read([0, 1, 2])
    out = np.full((2, *SHAPE), np.nan, np.float32)
    assert store.read([2, 0], out=out, threads=2) is out
    np.testing.assert_array_equal(out, whole[[2, 0]])
    scaled = store.read([1, 2], centre=np.array([5.0, 3.0]), spread=2.0)
    np.testing.assert_allclose(
        scaled, (whole[[1, 2]] - np.array([5, 3])[:, None, None, None]) / 2, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_numbers_as_stored_give_the_same_values(tmp_path, kind):
    store = written(tmp_path, kind)
    numbers, factor, offset = store.read_numbers([2, 0], threads=2)
    assert numbers.dtype == kind
    values = numbers * factor[:, None, None, None] + offset[:, None, None, None]
    np.testing.assert_allclose(values, store.read([2, 0]), rtol=1e-5, atol=1e-4)


def test_pooled_moments_are_those_of_all_voxels_together(tmp_path):
    store = written(tmp_path)
    values = store.read([0, 2]).astype(np.float64)
    for voxels, counted in (("all", values), ("brain", values[values != 0])):
        found = store.pooled(np.array([0, 2]), voxels)
        assert found.mean == pytest.approx(counted.mean(), rel=1e-6)
        assert found.sd == pytest.approx(counted.std(), rel=1e-6)
        assert found.subjects == 2


def test_large_volumes_are_cut_into_chunks_that_cover_them():
    rows = rows_of((240, 240, 240), "float16")
    assert len(rows) > 1
    assert [k for part in rows for k in range(part.start, part.stop)] == list(range(240))
    assert all((part.stop - part.start) * 240 * 240 * 2 <= CHUNK_BYTES for part in rows)


def test_a_volume_of_several_chunks_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("features.subject_data.chunks.CHUNK_BYTES", 5 * SHAPE[1] * SHAPE[2])
    store = written(tmp_path)
    assert store._index["sizes"].shape == (3, 4)
    assert np.abs(store.read([0])[0] - volumes()[0]).max() < 1


@pytest.mark.parametrize("harm", ["bit", "cut", "gone"])
def test_damage_is_seen_and_named(tmp_path, harm):
    store = written(tmp_path)
    path = tmp_path / "volumes" / "sub-a.vol"
    data = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    else:
        data[-20] ^= 4
        path.write_bytes(data[:-30] if harm == "cut" else data)
    with pytest.raises(InputError, match=r"sub-a\.vol") as caught:
        store.read([0, 1, 2])
    assert "\n" not in str(caught.value)
    assert store.read([0, 2]).shape == (2, *SHAPE)
    writer = VolumeWriter(tmp_path, store.grid, {})
    assert not writer.has("sub-a", "key of sub-a")
    assert writer.has("sub-b", "key of sub-b")
    assert not writer.has("sub-b", "another key")


def test_a_store_that_is_not_finished_cannot_be_opened(tmp_path):
    writer = VolumeWriter(tmp_path, Grid(shape=SHAPE, affine=AFFINE), {})
    with pytest.raises(InputError, match="no store of volumes"):
        VolumeStore(tmp_path)
    writer.add("sub-a", phantom(1), "k")
    with pytest.raises(InputError, match="not finished; the same command goes on"):
        VolumeStore(tmp_path)
    writer.finish(["sub-a"])
    writer.add("sub-b", phantom(2), "k")  # what the index says is true no longer
    with pytest.raises(InputError, match="not finished"):
        VolumeStore(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"record": "FeatureTable"}, "not a store of volumes"),
        ({"ids": ["sub-a", "sub-a", "sub-b"]}, "do not fit together"),
        ({"ids": ["sub-a", "../sub-b", "sub-c"]}, "do not fit together"),
        ({"shape": [20, 24]}, "1 to 1024 voxels"),
        ({"shape": [20, 24, 10**9]}, "1 to 1024 voxels"),
        ({"kind": "object"}, "not 'object'"),
        ({"affine": [[0] * 4] * 4}, "inverted"),
    ],
)
def test_an_index_that_was_edited_is_refused(tmp_path, change, told):
    written(tmp_path)
    path = tmp_path / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=told):
        VolumeStore(tmp_path)


def test_values_that_are_no_volume_are_refused(tmp_path):
    writer = VolumeWriter(tmp_path, Grid(shape=SHAPE, affine=AFFINE), {})
    for values in (np.zeros((2, 2, 2)), np.full(SHAPE, np.nan)):
        with pytest.raises(InputError, match="needs finite values"):
            writer.add("sub-a", values, "k")
    with pytest.raises(InputError, match="each once"):
        writer.finish([])


def test_the_key_follows_the_values(tmp_path):
    one, other = written(tmp_path / "a"), written(tmp_path / "b", values=volumes() * 1.5)
    assert one.key() == written(tmp_path / "c").key() != other.key()
