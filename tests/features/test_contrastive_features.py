"""Contrastive features of whole brains: one encoder for each fold, in one space, that goes on where it was killed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features import extract as extraction
from features.contrastive_features import ContrastiveFeatures, common_nodes
from features.encoders.section_cnn import SectionCNN
from features.extract import ExtractConfig
from features.node_data.section_patches import SectionPatches
from features.pretrain import PretrainConfig
from features.section_brain import read_annotated_brain
from features.shared_space import affine_map, load_fitted
from meshgnn.errors import InputError
from meshgnn.progress import silent
from meshgnn.sockets import Brain, FeatureMaker, NodeData
from meshgnn.source.sections import read_stack
from meshgnn.store import load_table
from tests.features.sections import annotated_brain

TINY = ContrastiveFeatures.Config(
    pretrain=PretrainConfig(
        encoder=SectionCNN.Config(widths=(8, 16), out_channels=8, depth_bands=2),
        data=SectionPatches.Config(size_px=16), epochs=4, epoch_steps=3, threads=1, held_out=0,
    ),
    extract=ExtractConfig(batch=16, shard=64, threads=1),
    effort=1.0,
)  # fmt: skip
DRAWN = (0, 1, 2, 3)


def brain(folder: Path, fold_of_section=(0, 0, 1, 1, 1, 0)) -> Brain:
    """Six sections of which the first four are annotated; a fold for each section, -1 for all if there are none."""
    if not (folder / "reconstruction").is_dir():
        annotated_brain(folder, sections=6, annotated=DRAWN)
    found = read_annotated_brain(read_stack(folder / f"stack-{folder.name}"), folder / "reconstruction")
    graph = found.graph._replace(brain=folder.name)
    fold = np.array(fold_of_section)[graph.locations.section] if fold_of_section else np.zeros(0)
    return Brain(graph=graph, sections=found.sections, annotated=DRAWN, fold=fold)


def items(mine: Brain) -> NodeData:
    return TINY.pretrain.data.build(mine)


def weights(folder: Path, fold: int) -> str:
    return str(json.loads((folder / f"fold-{fold}" / "encoder.json").read_text())["weights"])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Brain, Path, list[str], list[tuple[int, int]]]:
    """A brain in two folds, the folder of its encoders, the files, and what was told of the progress."""
    folder, told = tmp_path_factory.mktemp("crossfit"), []
    mine = brain(folder / "a")
    files = TINY.build().fit(
        [mine], folder / "encoder", lambda _, done, total, figures=None: told.append((done, total))
    )
    return mine, folder / "encoder", files, told


def test_each_fold_is_encoded_by_the_encoder_that_has_not_seen_it(fitted, tmp_path: Path):
    mine, folder, files, told = fitted
    assert isinstance(TINY.build(), FeatureMaker)
    assert sorted(files) == sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*.*")
        if path.suffix != ".csv" and path.name != "stage.json"
    )
    assert told == [(3, 12), (6, 12), (9, 12), (12, 12)]  # two encoders share the steps of one
    table = TINY.build().make(mine, folder, silent)
    encoders = load_fitted(folder)
    seen = mine.graph.locations.observed
    np.testing.assert_array_equal(table.mask, seen)
    for fold in (0, 1):
        alone = extraction.extract(encoders.left_out[fold], items(mine), TINY.extract)
        here = seen & (mine.fold == fold)
        np.testing.assert_allclose(table.values[here], alone.values[here], atol=1e-5)
        assert np.abs(table.values[seen & ~here] - alone.values[seen & ~here]).max() > 1e-3
    # What a mapper drew in a fold decides nothing about the encoder of that fold, and something about the other.
    labels = np.where((mine.fold == 0) & (mine.graph.labels >= 0), 2 - mine.graph.labels, mine.graph.labels)
    other = replace(mine, graph=mine.graph.relabelled(labels, mine.graph.areas))
    TINY.build().fit([other], tmp_path / "e", silent)
    assert weights(tmp_path / "e", 0) == weights(folder, 0)
    assert weights(tmp_path / "e", 1) != weights(folder, 1)


def test_a_brain_in_no_fold_gets_the_mean_of_all_encoders(fitted, tmp_path: Path):
    mine, folder, _, _ = fitted
    unseen = brain(folder.parent / "a", fold_of_section=())
    table = TINY.build().make(unseen, folder, silent)
    encoders = load_fitted(folder)
    parts = [extraction.extract(encoders.left_out[k], items(mine), TINY.extract).values for k in (0, 1)]
    np.testing.assert_allclose(table.values, (parts[0] + parts[1]) / 2, atol=1e-5)
    command = [
        "--set",
        f"stack={mine.sections.folder}",
        "--set",
        f"reconstruction={folder.parent / 'a/reconstruction'}",
    ]
    command += ["--set", f"encoder={folder}", "--set", "batch=16", "--set", "shard=64", "--out", str(tmp_path / "t")]
    assert extraction.main([*command, "--set", "threads=1"]) == 0
    np.testing.assert_allclose(load_table(tmp_path / "t" / "cyto").values, table.values, atol=1e-5)


def test_one_fold_or_none_makes_one_encoder(fitted, tmp_path: Path):
    _, folder, _, _ = fitted
    place = folder.parent / "a"
    shutil.copytree(folder, tmp_path / "e")
    for folds in ((), (3,) * 6):
        mine = brain(place, fold_of_section=folds)
        files = TINY.build().fit([mine], tmp_path / "e", silent)
        assert sorted(files) == ["encoder.json", "encoder.safetensors"]
        table = TINY.build().make(mine, tmp_path / "e", silent)
        again = TINY.build().make(brain(place), tmp_path / "e", silent)
        np.testing.assert_allclose(again.values, table.values, atol=1e-5)
    assert load_fitted(tmp_path / "e").left_out == {}


def test_a_killed_fit_goes_on_with_the_encoder_it_was_at(fitted, tmp_path: Path):
    mine, folder, files, _ = fitted

    def stop(_: str, done: int, total: int, figures=None) -> None:
        if done == 12:  # before the last checkpoint is written
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TINY.build().fit([mine], tmp_path, stop)
    assert (tmp_path / "fold-0" / "encoder.json").is_file()
    assert not (tmp_path / "fold-1" / "encoder.json").exists()
    assert not (tmp_path / "space.json").exists()
    with pytest.raises(InputError):  # nothing that could be taken for a finished encoder
        TINY.build().make(mine, tmp_path, silent)
    told = []
    assert TINY.build().fit([mine], tmp_path, lambda _, done, total, figures=None: told.append(done)) == files
    assert told == [12]
    for name in files:
        if name.endswith(".safetensors"):
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_maps_of_other_encoders_are_refused(fitted, tmp_path: Path):
    _, folder, _, _ = fitted
    for damage, message in (
        (lambda e: shutil.copytree(e / "fold-0", e / "fold-1", dirs_exist_ok=True), "not the encoder"),
        (lambda e: shutil.rmtree(e / "fold-1"), "fold-1"),
        (lambda e: (e / "space.safetensors").write_bytes(b""), "space.safetensors"),
        (lambda e: (e / "space.json").write_text("{}"), "not a space"),
    ):
        shutil.copytree(folder, tmp_path / "e")
        damage(tmp_path / "e")
        with pytest.raises(InputError, match=message):
            load_fitted(tmp_path / "e")
        shutil.rmtree(tmp_path / "e")


def test_spaces_are_brought_together_on_patches_that_no_encoder_has_seen(fitted):
    mine, _, _, _ = fitted
    (nodes,) = common_nodes([mine], [items(mine)], 50)
    assert len(nodes) == 50
    assert set(mine.graph.locations.section[nodes]) == {4, 5}
    both = common_nodes([mine, mine], [items(mine)] * 2, 10**6)
    assert [len(part) for part in both] == [66, 66]
    everywhere = replace(mine, annotated=(0, 1, 2, 3, 4, 5))
    (nodes,) = common_nodes([everywhere], [items(mine)], 10**6)
    assert len(nodes) == mine.graph.locations.observed.sum()


def test_the_map_finds_a_turned_and_stretched_space():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(8, 8))
    features = rng.normal(size=(500, 8)) + 3
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    matrix, offset = affine_map(features, 2 * features @ turn + 1)
    np.testing.assert_allclose(features @ matrix + offset, 2 * features @ turn + 1, atol=1e-2)
    noisy = features @ spread + rng.normal(size=features.shape)
    matrix, offset = affine_map(noisy, features)
    mapped = noisy @ matrix + offset
    np.testing.assert_allclose(np.cov(mapped.T), np.cov(features.T), atol=1e-2)
    np.testing.assert_allclose(mapped.mean(0), features.mean(0), atol=1e-6)
    assert np.corrcoef(mapped.ravel(), features.ravel())[0, 1] > 0.7
    assert np.isfinite(affine_map(features * [1, 0, 1, 1, 1, 1, 1, 1], features)[0]).all()
