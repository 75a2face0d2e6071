"""The sweep over numbers of subjects: nested subsets, curves, the surrogates, a whole run."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from experiments import transfer_sweep
from features.encoders.biobank_cnn import BiobankCNN
from features.fusion.model_files import load_network
from features.samplers.epochs import EpochBatches
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.sweep.curves import equivalent_subjects, mean_gap
from features.sweep.judging import judged_sweep
from features.sweep.shapes import CLASSES, Shapes
from features.sweep.subsets import nested
from features.sweep.surrogate import OtherSubjects
from features.traits.training import TraitTrainer
from features.weight_files import read_weights
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.runner import run
from meshgnn.source.subjects import Target
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_json
from meshgnn.testing import assert_subject_data


def test_subsets_are_nested_and_families_stay_on_one_side():
    rng = np.random.default_rng(0)
    families = [f"family{k // 2}" for k in range(100)]
    usable, labels = rng.random(100) < 0.8, rng.integers(0, 2, 100).astype(float)
    subsets = nested(usable, families, labels, (16, 32, 0), 5)
    assert [subset.size for subset in subsets] == [16, 32, int(usable.sum())]
    for few, more in pairwise(subsets):
        assert not (few.fit & ~more.fit).any()
        assert not (few.judged & ~more.judged).any()
    for subset in subsets:
        assert subset.chosen.sum() == subset.size
        assert not (subset.chosen & ~usable).any()
        sides = [{families[row] for row in np.flatnonzero(side)} for side in (subset.fit, subset.judged)]
        assert not sides[0] & sides[1]
        assert all(len(np.unique(labels[side])) == 2 for side in (subset.fit, subset.judged))
    again = nested(usable, families, labels, (16, 32, 0), 5)
    assert all(np.array_equal(a.fit, b.fit) for a, b in zip(subsets, again))
    assert not np.array_equal(nested(usable, families, labels, (16,), 6)[0].fit, subsets[0].fit)
    with pytest.raises(InputError, match="training part has"):
        nested(usable, families, labels, (99,), 0)
    with pytest.raises(InputError, match="two values"):
        nested(usable, families, np.zeros(100), (16,), 0)


def test_a_score_is_worth_the_subjects_that_reach_it():
    sizes, scores = (16, 32, 64, 128), np.array([0.5, 0.6, 0.7, 0.8])  # a tenth for every doubling
    assert equivalent_subjects(sizes, scores, 0.65) == pytest.approx(2**5.5)
    assert equivalent_subjects(sizes, scores, 0.7) == pytest.approx(64)
    assert equivalent_subjects(sizes, scores, 0.4) == 16
    assert equivalent_subjects(sizes, scores, 0.9) == 128
    assert equivalent_subjects(sizes, np.array([0.5, 0.7, 0.6, 0.8]), 0.65) == pytest.approx(32)  # made to ascend
    assert mean_gap(sizes, scores + 0.1, scores) == pytest.approx(0.1)
    assert mean_gap(sizes, scores + np.array([0.2, 0.1, 0, 0]), scores) == pytest.approx((0.15 + 0.05) / 3)


def test_a_sweep_with_a_known_outcome_is_judged_so():
    rng = np.random.default_rng(1)
    true, seeds, sizes = rng.standard_normal(300), (0, 1), (16, 32, 64)
    noise = {"scratch": (2.0, 1.0, 0.5), "pretrained_full": (1.0, 0.5, 0.25)}  # one doubling ahead
    predicted = {
        f"{name}/{size}/{seed}": (true + sd * rng.standard_normal(300))[:, None]
        for name, own in noise.items()
        for size, sd in zip(sizes, own)
        for seed in seeds
    }
    found = judged_sweep(
        Target(name="age"), true, [str(k) for k in range(300)], predicted, methods=tuple(noise), sizes=sizes,
        seeds=seeds, skill=None, whole=400,
    )  # fmt: skip
    points = {(point.method, point.subjects): point for point in found.points}
    first = points["pretrained_full", 16]
    assert first.worth == pytest.approx(32, rel=0.15)
    assert first.worth_low < 32 < first.worth_high
    assert first.minus_scratch_low > 0
    assert points["pretrained_full", 64].worth == 64  # not known beyond the curve
    assert points["scratch", 64].score == pytest.approx(0.75, abs=0.05)
    assert points["scratch", 16].worth is None
    assert found.mean_gap["pretrained_full"][1] > 0


def test_shapes_are_the_same_whenever_drawn_and_differ_by_class():
    data = Shapes.Config(count=60).build((1, 12, 12, 12))
    assert_subject_data(data)
    assert np.array_equal(data.read(np.array([7, 3]))[1], data.read(np.array([3]))[0])
    assert data.labels[:7].tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert len(CLASSES) == 6
    clean = Shapes.Config(count=60, noise=0.0).build((1, 24, 24, 24))
    balls, shells = (np.abs(clean.read(np.arange(kind, 60, 6))).astype(float) for kind in (0, 1))
    assert balls.std() > 0
    assert not np.allclose(balls.mean(), shells.mean(), atol=1e-4)
    with pytest.raises(SettingError, match="volumes"):
        Shapes.Config().build((7,))


def tiny(**changes):
    base = transfer_sweep.quick()
    trainer = TraitTrainer(epochs=2, patience=2, sampler=EpochBatches.Config(size=8))
    settings = {
        "cohort": VirtualImages.Config(people=VirtualSubjects.Config(subjects=60, sites=2), size=16),
        "input": replace(base.input, encoder=BiobankCNN.Config(channels=(4, 4), out_channels=4, dropout=0.0)),
        "conversion": VolumeConversion.Config(cube=Cube.Config(size=16)), "surrogate": Shapes.Config(count=60),
        "modes": ("full", "head"), "sizes": (16, 24), "seeds": (0,), "pretraining": trainer, "trainer": trainer,
    }  # fmt: skip
    return replace(base, **{**settings, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run(tiny(), tmp_path_factory.mktemp("sweep") / "run").path


def test_every_method_has_a_point_at_every_size(done):
    metrics = read_json(done / "metrics.json")
    methods = ("scratch", "pretrained_full", "pretrained_head", "random_head", "linear", "constant")
    found = [(one["method"], one["subjects"]) for one in metrics["points"]]
    assert found == [(method, size) for method in methods for size in (16, 24)]
    assert all(one["score"] == 0.5 for one in metrics["points"] if one["method"] == "constant")
    assert metrics["pretraining_skill"] is not None
    text = (done / "report.html").read_text()
    assert "data:image/svg+xml" in text
    assert "worth so many from scratch" in text
    assert len((done / "curves.tsv").read_text().splitlines()) == 13


def test_a_frozen_encoder_is_the_pretrained_one_to_the_bit_and_scratch_is_not(done):
    weights, _ = read_weights(done / "pretrained" / "encoder.safetensors")

    def encoder(method):
        return load_network(done / "networks" / method / "subjects16-seed0").encoders[0].state_dict()

    same = {method: all(torch.equal(encoder(method)[name], weight) for name, weight in weights.items())
            for method in ("pretrained_head", "pretrained_full", "scratch", "random_head")}  # fmt: skip
    assert same == {"pretrained_head": True, "pretrained_full": False, "scratch": False, "random_head": False}


def test_a_resumed_sweep_trains_nothing_again(done, monkeypatch):
    before = (done / "networks" / "scratch" / "subjects16-seed0" / "network.safetensors").stat().st_mtime_ns
    run(tiny(), done, resume=True)
    assert (done / "networks" / "scratch" / "subjects16-seed0" / "network.safetensors").stat().st_mtime_ns == before
    assert "train: unchanged, kept" in (done / "log.txt").read_text()


@pytest.mark.slow
def test_other_subjects_are_none_of_the_cohort(tmp_path):
    others = VirtualImages.Config(people=VirtualSubjects.Config(subjects=30, seed=77), size=16)
    done = run(tiny(surrogate=OtherSubjects.Config(cohort=others), modes=("head",), seeds=(0,)), tmp_path / "run").path
    ages = [(done / place / "participants.tsv").read_text() for place in ("cohort", "others")]
    assert not set(ages[0].splitlines()[1:]) & set(ages[1].splitlines()[1:])
    assert (done / "stores" / "others" / "store.json").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": (24, 16)}, "ascend"),
        ({"sizes": (0, 16)}, "ascend"),
        ({"seeds": (1, 1)}, "different"),
        ({"sizes": (16, 4000)}, "asks for 4000"),
        ({"target": "height"}, "height"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_stage(changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        run(tiny(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
