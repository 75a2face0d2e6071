"""Extraction: shards with checksums, joined with proof, after any kill, by any number of ranks; damage is counted."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import torch

from features.encoders.section_cnn import SectionCNN
from features.extract import ExtractConfig, extract
from features.model_files import new_encoder
from features.node_data.section_patches import SectionPatches
from features.shards import Shard, ShardFolder, joined
from meshgnn.errors import InputError
from meshgnn.source.sections import read_stack
from tests.features.sections import locations, write_stack

PATCHES = SectionPatches.Config(size_px=16, pixel_um=100.0)
CONFIG = ExtractConfig(batch=8, shard=16, threads=1, device="cpu")


def brain(folder, *, damaged="refuse", images=3):
    """Patches of three noisy sections, 60 nodes; and an encoder."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(60, 240, (120, 160)).astype(np.uint8) for _ in range(images)]
    stack = folder / "stack"
    if not stack.is_dir():
        write_stack(stack, pictures)
    rows, columns = rng.uniform([20, 20], [100, 140], (60, 2)).T
    where = locations(np.arange(60) % images, rows, columns, rng.uniform(-180, 180, 60).astype(np.float32))
    config = SectionPatches.Config(size_px=16, pixel_um=100.0, damaged=damaged)
    data = SectionPatches(config, read_stack(stack, minimum=1), where)
    torch.manual_seed(0)
    return new_encoder(SectionCNN.Config(widths=(8, 16), depth_bands=2), PATCHES, (16, 16)), data


def as_rank(monkeypatch, rank, world):
    for name, value in (("RANK", rank), ("WORLD_SIZE", world), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", world)):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_that_share_a_folder_and_nothing_else_give_the_table_of_one(tmp_path, monkeypatch, world):
    encoder, data = brain(tmp_path)
    alone = extract(encoder, data, CONFIG)
    out = tmp_path / "out"
    monkeypatch.setattr("features.extract._EVERY_S", 0.01)
    impatient = ExtractConfig(batch=8, shard=16, threads=1, device="cpu", patience_s=0)
    for rank in range(world - 1, 0, -1):  # none of them waits: rank 0 has not come yet
        as_rank(monkeypatch, rank, world)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("features.extract._Work.all", stop)
            with pytest.raises(Stopped):
                extract(encoder, data, impatient, out)
    shards = sorted((out / next(out.glob("shards-*")).name).glob("*.safetensors"))
    assert [int(path.stem) for path in shards] == [k for k in range(4) if k % world]
    as_rank(monkeypatch, 0, world)
    table = extract(encoder, data, impatient, out)
    np.testing.assert_array_equal(table.values, alone.values)
    np.testing.assert_array_equal(table.mask, alone.mask)
    assert not list(out.glob("shards-*"))
    as_rank(monkeypatch, 1, world)
    np.testing.assert_array_equal(extract(encoder, data, impatient, out).values, alone.values)


class Stopped(Exception):
    pass


def stop(*_):
    raise Stopped


@pytest.mark.parametrize("harm", ["flip", "cut", "swap", "gone"])
def test_a_damaged_shard_is_found_and_done_again(tmp_path, monkeypatch, harm):
    encoder, data = brain(tmp_path)
    alone = extract(encoder, data, CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.extract._Work.all", stop)
        with pytest.raises(Stopped):
            extract(encoder, data, CONFIG, tmp_path / "out")
    first, second = sorted((tmp_path / "out").glob("shards-*/*.safetensors"))[:2]
    content = bytearray(first.read_bytes())
    if harm == "flip":
        content[-5] ^= 1
    first.write_bytes(content[:-9] if harm == "cut" else second.read_bytes() if harm == "swap" else content)
    if harm == "gone":
        first.unlink()
    calls = []
    monkeypatch.setattr(
        data, "read_checked", lambda rows: calls.append(len(rows)) or type(data).read_checked(data, rows)
    )
    table = extract(encoder, data, CONFIG, tmp_path / "out")
    np.testing.assert_array_equal(table.values, alone.values)
    assert sum(calls) == 16  # that shard, and no other
    report = json.loads((tmp_path / "out" / "cyto_report.json").read_text())
    assert report["shards_redone"] == (harm != "gone")


def test_a_node_in_two_shards_or_in_none_is_no_table(tmp_path):
    def shard(*nodes):
        return Shard(nodes=np.array(nodes), values=np.ones((len(nodes), 2), np.float32), good=np.ones(len(nodes), bool))

    wanted = np.array([True, True, False, True])
    values, mask = joined([shard(3, 0), shard(1)], wanted, 2)
    np.testing.assert_array_equal(mask, wanted)
    assert values[2].tolist() == [0, 0]
    for parts in ([shard(0, 1)], [shard(0, 1), shard(1, 3)], [shard(0, 1), shard(2), shard(3)]):
        with pytest.raises(RuntimeError, match="twice or not at all"):
            joined(parts, wanted, 2)
    folder = ShardFolder(tmp_path, [np.array([0, 1])], 3)
    folder.write(0, shard(0, 1))
    assert folder.read(0) is None  # of another number of columns


def test_unreadable_tiles_lost_sections_and_nan_are_refused_or_counted(tmp_path):
    encoder, data = brain(tmp_path)
    whole = extract(encoder, data, CONFIG)
    path = tmp_path / "stack" / "s1.tif"
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        first = file.pages[0].dataoffsets[7]
    content[first : first + 20] = b"\xff" * 20
    path.write_bytes(content)
    encoder, refused = brain(tmp_path)
    with pytest.raises(InputError, match=r"s1\.tif: tile \d+ .*cannot be decoded"):
        extract(encoder, refused, CONFIG, tmp_path / "out")
    encoder, skipped = brain(tmp_path, damaged="skip")
    (tmp_path / "stack" / "s2.tif").unlink()  # in the middle of the work
    skipped.key = lambda: "k"
    table = extract(encoder, skipped, CONFIG, tmp_path / "out")
    lost = data.observed & ~table.mask
    assert lost[data.groups == 2].all()
    assert 0 < lost[data.groups == 1].sum() < (data.groups == 1).sum()
    assert not lost[data.groups == 0].any()
    assert (table.values[lost] == 0).all()
    np.testing.assert_array_equal(table.values[data.groups == 0], whole.values[data.groups == 0])
    report = json.loads((tmp_path / "out" / "cyto_report.json").read_text())
    assert report["unreadable"] == lost.sum() == report["seen_here"]["damaged"]
    assert report["unreadable_by_section"]["2"] == 20
    assert {one["section"] for one in report["seen_here"]["sections"]} == {"1 (s1.tif)", "2 (s2.tif)"}


def test_patches_that_are_not_finite_or_show_no_tissue_are_told(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.uniform(100, 200, (120, 160)).astype(np.float32)
    image[:, 100:] = 240
    image[60, 30] = np.nan
    write_stack(tmp_path / "stack", [image])
    where = locations(0, [60.0, 20.0, 60.0], [32.0, 40.0, 140.0])
    stack = read_stack(tmp_path / "stack", minimum=1)
    with pytest.raises(InputError, match=r"section 0 \(s0\.tif\): the patch of node 0 is not finite"):
        SectionPatches(PATCHES, stack, where).read([1, 0, 2])
    data = SectionPatches(SectionPatches.Config(size_px=16, pixel_um=100.0, damaged="skip"), stack, where)
    patches, good = data.read_checked([1, 0, 2])
    assert good.tolist() == [True, False, True]
    assert np.isfinite(patches).all()
    found = data.damage.report()
    assert (found["damaged"], found["without_tissue"]) == (1, 1)


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, monkeypatch):
    encoder, data = brain(tmp_path)
    alone = extract(encoder, data, CONFIG)
    real, calls = os.fsync, []

    def full(handle):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr("meshgnn.store.os.fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        extract(encoder, data, CONFIG, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("shards-*/*"))) == 2
    np.testing.assert_array_equal(extract(encoder, data, CONFIG, tmp_path / "out").values, alone.values)


@pytest.mark.slow
def test_a_killed_extraction_goes_on_to_the_same_table(tmp_path):
    encoder, data = brain(tmp_path)
    alone = extract(encoder, data, CONFIG)
    code = (
        "import sys, time, pathlib\nfrom tests.features import test_extraction as t\n"
        "import features.shards as s\nreal = s.ShardFolder.write\n"
        "s.ShardFolder.write = lambda *a: (time.sleep(0.3), real(*a), time.sleep(0.3))\n"
        "e, d = t.brain(pathlib.Path(sys.argv[1]))\nprint('ready', flush=True)\n"
        "t.extract(e, d, t.CONFIG, pathlib.Path(sys.argv[1]) / 'out')\n"
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(rng.uniform(0.1, 1.5))
        child.send_signal(signal.SIGKILL)
        child.wait()
    table = extract(encoder, data, CONFIG, tmp_path / "out")
    np.testing.assert_array_equal(table.values, alone.values)
