"""Precomputed volumes: where they lie, what is read of them, and what is said when they cannot be."""

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source import precomputed
from meshgnn.source.precomputed import PrecomputedVolume, Scale, plain_address, read_info
from tests.precomputed import served, write_volume

pytest.importorskip("tensorstore", reason="tensorstore is an extra")

NM = (21166.6666, 20000.0, 21166.6666)
TRANSFORM = np.array([[1.0, 0, 0, -700000], [0, 1, 0, -500000], [0, 0, 1, 300000], [0, 0, 0, 1]])


@pytest.fixture
def volume(tmp_path: Path) -> tuple[Path, np.ndarray]:
    data = np.random.default_rng(0).integers(1, 250, (40, 21, 35)).astype(np.uint8)
    write_volume(tmp_path / "vol", data, NM, transform=TRANSFORM, start=(4, 0, 8), coarser=2)
    return tmp_path / "vol", data


def test_a_server_and_a_folder_give_the_same_voxels_at_the_same_places(volume: tuple[Path, np.ndarray]) -> None:
    folder, data = volume
    with served(folder.parent) as (address, asked):
        for where in (f"precomputed://{address}/vol/", str(folder), f"file://{folder}"):
            one = PrecomputedVolume(where, timeout_s=10)
            scale = one.scale_for(0.03)
            assert scale.key == "scale0"
            low, high = one.box(scale, ())
            assert (low == [4, 0, 8]).all()
            assert np.array_equal(one.reader(scale)(low, high), data)
            # The corner of voxel (4, 0, 8) is at T (4, 0, 8) res; its centre half a voxel further.
            expected = (TRANSFORM[:3, 3] + np.array(NM) * [4.5, 0.5, 8.5]) / 1e6
            assert np.allclose(one.affine(scale)[:3, 3], expected)
            coarse = one.scale_for(0.05)
            assert coarse.key == "scale1"
            # A scale has an origin of its own: its first voxel's corner lies where that of the finer one does.
            corners = [one.affine(s)[:3, 3] - one.affine(s)[:3, :3] @ np.full(3, 0.5) for s in (scale, coarse)]
            assert np.allclose(corners[0], corners[1])
            assert one.scale_for(0.001).key == "scale0"  # none is so fine
        asked.clear()
        low = np.array([4, 0, 8])
        one = PrecomputedVolume(f"{address}/vol", timeout_s=10)
        assert np.array_equal(one.reader(one.scales[0])(low, low + 3), data[:3, :3, :3])
        assert sum("/scale0/" in path for path in asked) == 1  # the one chunk that is needed


def test_every_encoding_is_read(tmp_path: Path) -> None:
    import tensorstore

    labels = (np.indices((20, 18, 17)).sum(0) // 7).astype(np.uint32)
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1", "hash": "murmurhash3_x86_128", "preshift_bits": 1,
        "minishard_bits": 1, "shard_bits": 1, "data_encoding": "gzip", "minishard_index_encoding": "gzip",
    }  # fmt: skip
    for name, more in (
        ("raw", {"encoding": "raw"}),
        ("segmentation", {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}),
        ("sharded", {"encoding": "raw", "sharding": sharding}),
    ):
        spec = {
            "driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{tmp_path / name}/"},
            "multiscale_metadata": {"type": "segmentation", "data_type": "uint32", "num_channels": 1},
            "scale_metadata": {"key": "s", "resolution": [1e6] * 3, "size": [20, 18, 17], "chunk_size": [8] * 3} | more,
        }  # fmt: skip
        tensorstore.open(spec, create=True).result()[..., 0].write(labels).result()
        one = PrecomputedVolume(str(tmp_path / name))
        low, high = one.box(one.scales[0], ())
        assert np.array_equal(one.reader(one.scales[0])(low, high), labels), name


def test_a_box_in_mm_is_what_is_read_of(volume: tuple[Path, np.ndarray]) -> None:
    one = PrecomputedVolume(str(volume[0]))
    scale = one.scales[0]
    centre = one.affine(scale) @ [10, 5, 7, 1]
    low, high = one.box(scale, (*(centre[:3] - 0.001), *(centre[:3] + 0.001)))
    assert (low == [14, 5, 15]).all()
    assert (high - low <= 2).all()
    assert (one.box(scale, (-9, -9, -9, 9, 9, 9))[1] == [44, 21, 43]).all()
    with pytest.raises(InputError, match="outside"):
        one.box(scale, (5, 5, 5, 6, 6, 6))


def test_blocks_tile_a_box_without_gap_or_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precomputed, "_BLOCK", 2000)
    write_volume(tmp_path / "v", np.zeros((3, 3, 3), np.uint8), (1e6,) * 3)
    volume = PrecomputedVolume(str(tmp_path / "v"))
    rng = np.random.default_rng(1)
    for _ in range(20):
        start, size, chunk, step = (rng.integers(a, b, 3) for a, b in ((-5, 9), (20, 70), (3, 16), (1, 4)))
        scale = Scale(number=0, key="s", size=size, start=start, voxel_nm=np.ones(3), chunk=chunk)
        low = start + rng.integers(0, 5, 3)
        high = low + (start + size - low) // step * step
        seen = np.zeros(size + 9, int)
        for first, last in volume.reader(volume.scales[0]).__class__(volume, scale, None).blocks(low, high, step):
            assert ((last - first) % step == 0).all()
            seen[tuple(slice(a, b) for a, b in zip(first - start, last - start))] += 1
        inside = np.zeros_like(seen)
        inside[tuple(slice(a, b) for a, b in zip(low - start, high - start))] = 1
        assert np.array_equal(seen, inside)


def test_what_cannot_be_read_is_told_in_one_line(
    volume: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = {"max_retries": 1, "initial_delay": "10ms", "max_delay": "10ms"}
    monkeypatch.setitem(precomputed._PATIENCE, "http_request_retries", impatient)
    folder, _ = volume
    with served(folder.parent) as (address, _):
        one = PrecomputedVolume(f"{address}/vol", timeout_s=10)
        scale = one.scales[0]
        low, high = one.box(scale, ())
        chunks = sorted((folder / "scale0").iterdir())
        whole = chunks[0].read_bytes()
        chunks[0].write_bytes(whole[:50])
        with pytest.raises(InputError, match=r"damaged.*50 bytes"):
            one.reader(scale)(low, high)
        chunks[0].unlink()
        with pytest.raises(InputError, match=f"{chunks[0].name} is missing; set source.missing=zero"):
            one.reader(scale)(low, high)
        zero = PrecomputedVolume(f"{address}/vol", missing="zero").reader(scale)(low, high)
        assert (zero == 0).sum() == len(whole)
        with pytest.raises(InputError, match="no volume"):
            PrecomputedVolume(f"{address}/elsewhere")
    with pytest.raises(InputError, match=r"does not answer.*needs a network"):
        PrecomputedVolume(f"{address}/vol")  # the server is gone
    with pytest.raises(InputError, match=r"does not answer.*needs a network"):
        PrecomputedVolume("http://nowhere.invalid/vol")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(InputError, match=r"no answer within 0\.5 s"):
            PrecomputedVolume(f"http://127.0.0.1:{silent.getsockname()[1]}/vol", timeout_s=0.5)


GOOD = {
    "data_type": "uint8", "num_channels": 1, "type": "image",
    "scales": [{"key": "s", "size": [4, 4, 4], "resolution": [1, 1, 1], "chunk_sizes": [[4, 4, 4]], "encoding": "raw"}],
}  # fmt: skip


def _scale(**change: object) -> dict[str, object]:
    return {**GOOD, "scales": [{**GOOD["scales"][0], **change}]}  # type: ignore[index]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("<html>", "not that of a precomputed volume"),
        ([1], "not that of a precomputed volume"),
        ({"scales": []}, "data_type"),
        ({**GOOD, "scales": []}, "0 scales"),
        ({**GOOD, "num_channels": 3}, "3 channels"),
        ({**GOOD, "data_type": "object"}, "object"),
        (_scale(size=[4, 4]), "three numbers"),
        (_scale(size=[0, 4, 4]), "damaged"),
        (_scale(size=[1 << 40, 4, 4]), "damaged"),
        (_scale(resolution=[0, 1, 1]), "damaged"),
        (_scale(resolution=[float("nan"), 1, 1]), "damaged"),
        (_scale(chunk_sizes=[[0, 1, 1]]), "damaged"),
    ],
)
def test_a_wrong_info_file_is_named(info: object, words: str) -> None:
    text = info if isinstance(info, str) else json.dumps(info)
    with pytest.raises(InputError, match=words) as found:
        read_info(text.encode(), "http://x/vol")
    assert str(found.value).startswith("http://x/vol")
    assert read_info(json.dumps(GOOD).encode(), "x")[0][0].size.tolist() == [4, 4, 4]


def test_addresses(tmp_path: Path) -> None:
    assert plain_address("precomputed://https://a.b/c/") == "https://a.b/c"
    assert plain_address(f"precomputed://file://{tmp_path}") == str(tmp_path)
    for text, words in (("gs://a/b", "only http"), ("", "empty"), (str(tmp_path / "none"), "no such folder")):
        with pytest.raises(InputError, match=words):
            plain_address(text)


def test_scales_come_finest_first(volume: tuple[Path, np.ndarray]) -> None:
    info = json.loads((volume[0] / "info").read_text())
    info["scales"].reverse()
    (volume[0] / "info").write_text(json.dumps(info))
    one = PrecomputedVolume(str(volume[0]))
    assert all(a.voxel_nm.max() <= b.voxel_nm.max() for a, b in pairwise(one.scales))
    low, high = one.box(one.scales[0], ())
    assert np.array_equal(one.reader(one.scales[0])(low, high), volume[1])


@pytest.mark.parametrize(
    ("code", "words"), [(403, "refuses"), (404, "no volume"), (410, "no volume"), (503, "try later")]
)
def test_what_a_server_says_is_passed_on(code: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"}
    monkeypatch.setitem(precomputed._PATIENCE, "http_request_retries", impatient)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(InputError, match=words):
        PrecomputedVolume(f"http://127.0.0.1:{server.server_address[1]}/vol", timeout_s=5)
    server.shutdown()
    server.server_close()


def test_without_tensorstore_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "v", np.zeros((3, 3, 3), np.uint8), (1e6,) * 3)
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(InputError, match=r"pip install meshgnn\[precomputed\]"):
        PrecomputedVolume(str(tmp_path / "v"))
