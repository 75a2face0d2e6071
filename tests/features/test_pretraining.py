"""Batches, augmentation, encoder laws, pretraining that resumes, files that are refused, one-line errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from features import extract as extraction
from features import pretrain as pretraining
from features.augment import PatchAugment
from features.encoders.section_cnn import SectionCNN
from features.model_files import load_encoder, new_encoder, save_encoder
from features.node_data.section_patches import SectionPatches
from features.node_sets import NodeSet, TrainingItems, node_set
from features.objectives.cross_entropy import CrossEntropy
from features.probe import knn_classes
from features.samplers.balanced import BalancedBatches
from features.samplers.pool import Pool
from features.section_brain import read_annotated_brain
from meshgnn.confusion import macro_f1
from meshgnn.errors import InputError
from meshgnn.sockets import Encoder
from meshgnn.source.sections import read_stack
from meshgnn.testing import assert_encoder
from meshgnn.train.checkpoint import load_tree, save_tree
from tests.features.sections import annotated_brain

SMALL = pretraining.PretrainConfig(
    encoder=SectionCNN.Config(widths=(8, 16), out_channels=8, depth_bands=2),
    data=SectionPatches.Config(size_px=16), epochs=3, epoch_steps=2, threads=1, held_out=0,
)  # fmt: skip


def annotated(folder) -> NodeSet:
    stack, reconstruction = annotated_brain(folder)
    brain = read_annotated_brain(read_stack(stack), reconstruction)
    return node_set(brain, SMALL.data.build(brain))


def test_the_section_cnn_keeps_the_laws():
    patches = torch.rand(5, 48, 48)
    encoder = new_encoder(SectionCNN.Config(), SectionPatches.Config(), (48, 48))
    assert isinstance(encoder, Encoder)
    assert_encoder(encoder, patches)
    assert 5e5 < sum(value.numel() for value in encoder.parameters()) < 2e6
    encoder.train()
    torch.testing.assert_close(encoder(patches)[:2], encoder(patches[:2]), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="48, 48"):
        encoder(patches[:, :40, :40])
    with pytest.raises(InputError, match="shrink to nothing"):
        SectionCNN.Config().build((16, 16))


def test_batches_are_balanced_and_cross_sections():
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(-1, 6, 900), rng.integers(0, 7, 900)
    labels[labels == 5] = np.where(rng.random((labels == 5).sum()) < 0.9, -1, 5)
    groups[labels == 4] = 2
    pool = Pool(labels=labels, groups=groups, names=tuple("abcdef"))
    batches = BalancedBatches.Config(classes=4, patches=3).build(pool, seed=1)
    seen = set()
    for step in range(60):
        items = batches.draw(step)
        np.testing.assert_array_equal(items, batches.draw(step))
        classes, counts = np.unique(labels[items], return_counts=True)
        assert len(classes) == 4
        assert (counts == 3).all()
        assert len(set(items.tolist())) == 12
        seen |= set(classes.tolist())
        for one in set(classes.tolist()) - {4}:
            assert len(set(groups[items[labels[items] == one]].tolist())) == 3
    assert seen == {0, 1, 2, 3, 4, 5}
    labels[np.flatnonzero(labels == 3)[1:]] = -1
    with pytest.raises(InputError, match="area d is labelled at a single node"):
        BalancedBatches.Config().build(pool, seed=1)
    skipped = BalancedBatches.Config(rare="skip").build(pool, seed=1)
    assert 3 not in labels[skipped.draw(0)]


def test_augmentation_repeats_and_does_not_know_the_ranks():
    patches = torch.rand(9, 24, 24) + 0.5
    augment = PatchAugment.Config().build()
    whole = augment(patches, seed=3, step=5, places=slice(None), batch=9)
    assert torch.equal(whole, augment(patches, seed=3, step=5, places=slice(None), batch=9))
    for rank in range(2):
        part = slice(rank, None, 2)
        torch.testing.assert_close(augment(patches[part], seed=3, step=5, places=part, batch=9), whole[part])
    assert not torch.equal(whole, augment(patches, seed=3, step=6, places=slice(None), batch=9))
    assert whole.shape == patches.shape
    assert torch.isfinite(whole).all()
    off = PatchAugment.Config(
        rotation_deg=0, flip=False, scale=0, shift=0, stain=0, gamma=0, gradient=0, blur=0
    ).build()
    torch.testing.assert_close(off(patches, seed=0, step=0, places=slice(None), batch=9), patches)
    glass = torch.zeros(2, 24, 24)
    assert augment(glass, seed=0, step=0, places=slice(None), batch=2).max() < 0.01
    # Depth stays depth: pial above white in every changed patch.
    upright = torch.linspace(0, 1, 24)[None, :, None].expand(30, 24, 24) + 0.2
    changed = augment(upright.contiguous(), seed=0, step=0, places=slice(None), batch=30)
    assert (changed[:, -8:].mean((1, 2)) > changed[:, :8].mean((1, 2)) + 0.2).all()


def test_the_probe():
    known = np.repeat(np.eye(3), 10, axis=0) + np.random.default_rng(0).normal(0, 0.1, (30, 3))
    labels = np.repeat([0, 1, 2], 10)
    found = knn_classes(known, labels, np.eye(3) * 5, neighbours=5)
    np.testing.assert_array_equal(found, [0, 1, 2])
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1])) == pytest.approx(2 / 3)


def test_pretraining_learns_repeats_and_is_read_back(tmp_path):
    source = annotated(tmp_path / "a")
    told = []
    config = replace(SMALL, epochs=4, epoch_steps=10, held_out=3, learning_rate=5e-3)
    encoder = pretraining.pretrain(config, [source], tmp_path / "one", lambda *row: told.append(row))
    assert [row[1] for row in told] == [10, 20, 30, 40]
    lines = (tmp_path / "one" / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,loss,knn_macro_f1"
    assert told[-1][3]["knn_macro_f1"] > 0.9
    assert not list((tmp_path / "one" / "checkpoints").glob("*"))
    again = pretraining.pretrain(config, [source], tmp_path / "two")
    assert again.identity() == encoder.identity() == load_encoder(tmp_path / "one").identity()
    pretraining.pretrain(config, [source], tmp_path / "one", lambda *row: pytest.fail("trained twice"))
    other = pretraining.pretrain(replace(config, objective=CrossEntropy.Config(), epochs=1), [source], tmp_path / "ce")
    assert other.identity() != encoder.identity()
    about = json.loads((tmp_path / "one" / "encoder.json").read_text())
    assert about["training"]["items"]["held_out_groups"] == 1


def test_a_run_that_is_stopped_within_epochs_goes_on_to_the_same_weights(tmp_path):
    """Killed, asked to make room (SIGUSR1), and let run: nothing of it can be told afterwards."""
    stack, reconstruction = annotated_brain(tmp_path / "a")
    sets = [
        f"stacks={stack}", f"reconstructions={reconstruction}", "epochs=2", "epoch_steps=120", "patches.size_px=16",
        "encoder.widths=8,16", "encoder.depth_bands=2", "threads=1", "held_out=0", "checkpoint_steps=7",
    ]  # fmt: skip
    options = [word for one in sets for word in ("--set", one)]
    assert pretraining.main([*options, "--out", str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-m", "features.pretrain", *options, "--out", str(tmp_path / "cut")]
    environment, before = {**os.environ, "OMP_NUM_THREADS": "1"}, 0.0
    for number, code in ((signal.SIGKILL, -9), (signal.SIGUSR1, 75)):
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        while running.poll() is None:
            found = list((tmp_path / "cut" / "checkpoints").glob("last-*.safetensors"))
            if found and found[0].stat().st_mtime > before:
                break
            time.sleep(0.005)
        running.send_signal(number)
        _, errors = running.communicate(timeout=60)
        assert running.returncode == code, errors
        assert not (tmp_path / "cut" / "encoder.json").exists()
        if code > 0:
            name = signal.Signals(number).name
            assert re.fullmatch(rf"stopped by {name} after step \d+; the same command goes on\n", errors)
        before = next((tmp_path / "cut" / "checkpoints").glob("last-*.safetensors")).stat().st_mtime
    assert pretraining.main([*options, "--out", str(tmp_path / "cut")]) == 0
    whole, cut = (load_encoder(tmp_path / name).identity() for name in ("whole", "cut"))
    assert whole == cut
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]


def test_a_checkpoint_of_another_encoder_is_refused(tmp_path):
    source = annotated(tmp_path / "a")

    def stop(_, done, total, figures):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(SMALL, [source], tmp_path / "o", stop)
    (last,) = (tmp_path / "o" / "checkpoints").glob("last-*")
    state = load_tree(last)
    state["state_dict"]["encoder.network.stem.weight"] = torch.zeros(4, 1, 5, 9)
    save_tree(last, state)
    with pytest.raises(InputError, match=r"another encoder or objective \(encoder.network.stem.weight\); delete it"):
        pretraining.pretrain(SMALL, [source], tmp_path / "o")


def test_encoder_files_that_are_damaged_or_not_ours_are_refused(tmp_path):
    encoder = new_encoder(SMALL.encoder, SMALL.data, (16, 16))
    save_encoder(tmp_path / "e", encoder, {})
    loaded = load_encoder(tmp_path / "e")
    assert loaded.identity() == encoder.identity()
    with pytest.raises(InputError, match=r"trained on items with pixel_um=100\.0, not 50\.0"):
        loaded.refuse_other({"pixel_um": 50.0})
    about = json.loads((tmp_path / "e" / "encoder.json").read_text())
    for change, message in (
        ({"encoder": {"_": "os.system"}}, "may stand here"),
        ({"format": 99}, "not an encoder"),
        ({"weights": "0"}, "copy both files again"),
        ({"data": {**about["data"], "size_px": 2}}, "at least 4"),
    ):
        shutil.copytree(tmp_path / "e", tmp_path / "f", dirs_exist_ok=True)
        (tmp_path / "f" / "encoder.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(InputError, match=message):
            load_encoder(tmp_path / "f")
    older = {**about, "record": "PatchEncoder", "format": 1}  # as it was written when patches were all there was
    older["patches"] = {name: value for name, value in older.pop("data").items() if name != "augment"}
    older["patches"]["_"] = "PatchSampler"
    del older["shape"]
    shutil.copytree(tmp_path / "e", tmp_path / "f", dirs_exist_ok=True)
    (tmp_path / "f" / "encoder.json").write_text(json.dumps(older))
    assert load_encoder(tmp_path / "f").identity() == encoder.identity()
    torch.save({}, tmp_path / "e" / "encoder.safetensors")
    with pytest.raises(InputError, match="pickle"):
        load_encoder(tmp_path / "e")
    (tmp_path / "e" / "encoder.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"encoder\.safetensors"):
        load_encoder(tmp_path / "e")


def test_wrong_input_is_told_in_one_line(tmp_path, capsys):
    stack, reconstruction = annotated_brain(tmp_path / "a")
    good = ["--set", f"stacks={stack}", "--set", f"reconstructions={reconstruction}", "--out", str(tmp_path / "o")]

    def told(arguments, main=pretraining.main):
        assert main(arguments) == 2
        text = capsys.readouterr().err
        assert text.startswith("error: ")
        assert text.count("\n") == 1
        return text

    assert "--out" in told(good[:-2])
    assert "no stack named" in told(["--out", str(tmp_path)])
    assert "reconstructions" in told([*good, "--set", "reconstructions="])
    assert "epochz" in told([*good, "--set", "epochz=3"])
    assert "shrink to nothing" in told([*good, "--set", "patches.size_px=8"])
    assert "named twice" in told([*good, "--set", f"stacks={stack},{stack}", "--set",
                                  f"reconstructions={reconstruction},{reconstruction}"])  # fmt: skip
    assert "is not named" in told(["--out", str(tmp_path)], extraction.main)
    assert "encoder.json" in told(["--set", f"stack={stack}", "--set", f"reconstruction={reconstruction}", "--set",
                                   f"encoder={tmp_path}", "--out", str(tmp_path)], extraction.main)  # fmt: skip
    fine = ["--set", f"stack={stack}", "--set", f"reconstruction={reconstruction}", "--out", str(tmp_path / "t")]
    save_encoder(tmp_path / "e", new_encoder(SMALL.encoder, SMALL.data, (16, 16)), {})
    mine = [*fine, "--set", f"encoder={tmp_path / 'e'}"]
    assert "size_px=16, not 32" in told([*mine, "--set", "size_px=32"], extraction.main)
    sharp = replace(SMALL.data, pixel_um=20.0)
    save_encoder(tmp_path / "e", new_encoder(SMALL.encoder, sharp, (16, 16)), {})
    assert "100 um per px are too coarse" in told(mine, extraction.main)
    # Before the reconstruction is looked at, and images are compared with it.
    nowhere = ["--set", f"reconstruction={tmp_path / 'nowhere'}"]
    assert "too coarse" in told([*mine, *nowhere], extraction.main)
    nowhere = ["--set", f"reconstructions={tmp_path / 'nowhere'}", "--set", "patches.pixel_um=20"]
    assert "set data.pixel_um=100" in told([*good, *nowhere])
    shutil.rmtree(stack / "annotations")
    assert "annotations.csv" in told(good)
    assert not (tmp_path / "o" / "encoder.json").exists()


def test_areas_on_one_patch_and_brains_without_labels(tmp_path):
    source = annotated(tmp_path / "a")
    labels = source.labels.copy()
    labels[np.flatnonzero(labels == 2)[1:]] = -1
    few = NodeSet(brain="x", data=source.data, labels=labels, names=source.names)
    with pytest.raises(InputError, match="area three is labelled at a single node"):
        pretraining.pretrain(SMALL, [few], tmp_path / "o")
    none = NodeSet(brain="x", data=source.data, labels=labels * 0 - 1, names=source.names)
    with pytest.raises(InputError, match="needs annotations"):
        pretraining.pretrain(SMALL, [none], tmp_path / "o")
    other = NodeSet(brain="y", data=source.data, labels=labels, names=tuple("abc"))
    with pytest.raises(InputError, match="different areas"):
        pretraining.pretrain(SMALL, [few, other], tmp_path / "o")


def test_held_out_sections_are_never_drawn(tmp_path):
    source = annotated(tmp_path / "a")
    patches = TrainingItems([source], labelled=True, held_out=3, memory_mb=100)
    assert len(patches.held) == 33
    batches = BalancedBatches.Config(patches=2).build(patches.pool(), 0)
    drawn = np.concatenate([batches.draw(step) for step in range(50)])
    assert not np.intersect1d(drawn, patches.held).size
    streamed = TrainingItems([source], labelled=True, held_out=3, memory_mb=0)
    np.testing.assert_array_equal(streamed.read(drawn[:40]), patches.read(drawn[:40]))


def test_extraction_goes_on_from_its_shards(tmp_path, monkeypatch):
    source = annotated(tmp_path / "a")
    encoder = new_encoder(SMALL.encoder, SMALL.data, (16, 16))
    config = extraction.ExtractConfig(batch=8, shard=24, threads=1)
    whole = extraction.extract(encoder, source.data, config)
    assert whole.values.shape == (len(source.labels), 8)
    np.testing.assert_array_equal(whole.mask, source.data.observed)
    assert whole.encoder["data"]["size_px"] == 16

    def stop(_, done, total, figures=None):
        if done >= 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extraction.extract(encoder, source.data, config, tmp_path / "t", stop)
    first = sorted((tmp_path / "t").glob("shards-*/*"))
    assert len(first) == 2
    first[0].write_bytes(first[0].read_bytes()[:50])
    calls = []
    real = extraction.ShardFolder.write
    monkeypatch.setattr(extraction.ShardFolder, "write", lambda *a: calls.append(1) or real(*a))
    table = extraction.extract(encoder, source.data, config, tmp_path / "t")
    np.testing.assert_array_equal(table.values, whole.values)
    assert len(calls) == -(-int(whole.mask.sum()) // 24) - 1
    names = sorted(path.name for path in (tmp_path / "t").iterdir())
    assert names == ["cyto.json", "cyto.safetensors", "cyto_report.json"]
    extraction.extract(encoder, source.data, config, tmp_path / "t")
    assert len(calls) == -(-int(whole.mask.sum()) // 24) - 1


def test_stacks_without_annotations_teach_what_needs_none(tmp_path, capsys):
    one, two = annotated_brain(tmp_path / "a"), annotated_brain(tmp_path / "b")
    shutil.rmtree(two[0] / "annotations")
    small = ["epochs=1", "epoch_steps=2", "patches.size_px=16", "encoder.widths=8,16", "encoder.depth_bands=2"]
    sampler = ["sampler=SpatialPairs", "sampler.radius_um=4000", "sampler.pairs=8"]
    alone = [f"stacks={two[0]}", f"reconstructions={two[1]}", *small, *sampler]
    both = [f"stacks={two[0]},{one[0]}", f"reconstructions={two[1]},{one[1]}", *small, "held_out=0"]
    for name, sets in {
        "spatial": [*alone, "objective=SpatialContrast", "objective.sigma_mm=2"],
        "distance": [*alone[:-3], "objective=DistanceRegression", "sampler=DistancePairs"],
        "mixed": [*both, "objective=WeightedSum", "objective.parts=CrossEntropy,SpatialContrast",
                  "sampler=MixedBatches", "sampler.parts.1.radius_um=4000"],
    }.items():  # fmt: skip
        words = [word for one in sets for word in ("--set", one)]
        assert pretraining.main([*words, "--out", str(tmp_path / name)]) == 0, capsys.readouterr().err
    header = (tmp_path / "distance" / "metrics.csv").read_text().splitlines()[0]
    assert header.startswith("step,loss,spearman_")
    words = [word for one in [*alone[:-3]] for word in ("--set", one)]
    assert pretraining.main([*words, "--out", str(tmp_path / "o")]) == 2
    assert "annotations.csv" in capsys.readouterr().err
