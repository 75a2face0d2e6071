"""Targets of whole brains: missing ones take no part, members resume, scores agree with sklearn, models come back."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, r2_score, roc_auc_score

from meshgnn.data.subject_inputs import SubjectInputs
from meshgnn.errors import InputError
from meshgnn.nn import MLP, CoordinateEncoder, GraphHead, GraphSAGE
from meshgnn.source.subjects import Target
from meshgnn.store import read_arrays, write_arrays
from meshgnn.train.augment import Augment
from meshgnn.train.checkpoint import load_tree
from meshgnn.train.fit import TrainerConfig, train_member
from meshgnn.train.graph_targets import GraphTargets
from meshgnn.train.loss import Loss
from meshgnn.train.subject_baselines import baselines, feature_tables
from meshgnn.train.subject_ensemble import SubjectEnsemble
from meshgnn.train.target_scores import (
    chance_interval,
    classification_scores,
    differences,
    judged,
    mean_scores,
    regression_scores,
    resampled,
)
from tests.cohort import cohort

TRUNK = GraphSAGE.Config(hidden=8, layers=1)
TRAINER = TrainerConfig(folds=2, epochs=20, validate_every=5, workers=1, augment=Augment.Config(warp_mm=0.0))
AGE, GROUP = Target(name="age"), Target(name="group", classes=("x", "y"))


def task(**changes):
    subjects = cohort()
    maker = SubjectInputs.Config().build()
    read = maker.read(subjects)
    made, unit_mm = maker.fit(subjects, read, np.ones(12, bool))
    judging = np.arange(12) < 4
    given = {
        "brains": tuple(made), "values": ((subjects.values - [50, 0]) / [10, 1]).astype(np.float32), "classes": (0, 2),
        "train": ~judging[None], "validation": judging[None], "head": GraphHead.Config(), "n_units": len(read.units),
        "unit_mm": unit_mm, "batch": 5,
    }  # fmt: skip
    return GraphTargets(**{**given, **changes})


def test_a_task_comes_back_from_disk(tmp_path):
    wanted = task(head=GraphHead.Config(pooling="each", channels=2))
    wanted.save(tmp_path / "t.safetensors")
    found = GraphTargets.load(tmp_path / "t.safetensors")
    for name in ("classes", "head", "n_units", "unit_mm", "batch"):
        assert getattr(found, name) == getattr(wanted, name)
    np.testing.assert_array_equal(found.values, wanted.values)
    for one, two in zip(found.brains, wanted.brains):
        for name in one.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    (tmp_path / "t.safetensors").write_bytes((tmp_path / "t.safetensors").read_bytes()[:999])
    with pytest.raises(InputError):
        GraphTargets.load(tmp_path / "t.safetensors")


def gradient(one, values):
    """Of the loss of one full-batch step."""
    made = replace(one, values=values, batch=0)
    torch.manual_seed(0)
    model = made.model(TRUNK, CoordinateEncoder.Config(channels=4)).eval()
    quiet = Augment.Config(noise=0.0, drop=0.0, jitter_mm=0.0, affine=0.0, warp_mm=0.0).build()
    loss = made.objective(0, Loss()).loss(model, quiet)
    loss.backward()
    return float(loss), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_missing_targets_take_no_part_in_the_loss():
    one = task()
    values = one.values.copy()
    values[4:, 1] = np.nan
    values[4, 0] = np.nan
    alone, _ = gradient(one, values)
    assert np.isfinite(alone)
    # The outputs of a target that nobody has get no gradient.
    _, found = gradient(one, values)
    assert (found["head.linear.weight"][1:] == 0).all()
    assert (found["head.linear.weight"][0] != 0).any()
    # A subject of whom nothing is known does not matter, whatever its number would have been.
    less = replace(one, train=one.train & (np.arange(12) != 4)[None])
    kept = one.values.copy()
    kept[4] = np.nan
    first, second = gradient(one, kept), gradient(less, one.values)
    assert first[0] == pytest.approx(second[0], rel=1e-5)
    for name, value in first[1].items():
        torch.testing.assert_close(value, second[1][name], rtol=1e-3, atol=1e-6)


def test_skill_is_0_for_the_constant_prediction():
    one = task()

    class Constant(torch.nn.Module):
        def forward(self, batch):
            known = one.values[4:, 0]
            outputs = torch.zeros(len(batch), 3)
            outputs[:, 0] = float(np.nanmean(known))
            return outputs

    everybody = replace(one, validation=one.train)
    scores = everybody.objective(0, Loss()).validate(Constant())
    assert scores["validation_skill"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("trunk", [TRUNK, MLP.Config(hidden=8)])
def test_a_killed_member_goes_on_and_ends_as_if_nothing_had_happened(tmp_path, trunk):
    class Killed(Exception):
        pass

    def kill(news):
        if news["epoch"] == 10:
            raise Killed

    def train(folder, report=lambda news: None):
        train_member(task(), trunk, TRAINER, member=0, seed=3, fold=0, folder=folder, key="k", report=report)
        return load_tree(folder / "member.safetensors")

    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "cut", kill)
    resumed = train(tmp_path / "cut")
    assert whole["history"] == resumed["history"]
    assert all(torch.equal(value, resumed["weights"][name]) for name, value in whole["weights"].items())


def test_a_planted_trait_is_learnt(tmp_path):
    subjects = cohort(40)
    maker = SubjectInputs.Config(coordinates=False).build()
    read = maker.read(subjects)
    made, unit_mm = maker.fit(subjects, read, np.ones(40, bool))
    judging = np.arange(40) % 4 == 0
    one = task(
        brains=tuple(made), values=((subjects.values - [50, 0]) / [10, 1]).astype(np.float32)[:, :1], classes=(0,),
        train=~judging[None], validation=judging[None], unit_mm=unit_mm, head=GraphHead.Config(pooling="each"), batch=0,
    )  # fmt: skip
    trainer = replace(TRAINER, epochs=60, learning_rate=1e-2, ema=0.9)
    train_member(one, TRUNK, trainer, member=0, seed=0, fold=0, folder=tmp_path, key="k", report=lambda news: None)
    history = load_tree(tmp_path / "member.safetensors")["history"]
    assert max(entry["validation_skill"] for entry in history) > 0.4


def test_scores_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 50)
    votes = rng.dirichlet(np.ones(3), 50)
    found = classification_scores(true, votes)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, votes.argmax(1)))
    assert found["auroc"] == pytest.approx(roc_auc_score(true, votes, multi_class="ovr"))
    two, chances = true > 0, np.round(rng.random(50), 1)  # ties
    found = classification_scores(two.astype(int), np.c_[1 - chances, chances])
    assert found["auroc"] == pytest.approx(roc_auc_score(two, chances))
    x, y = rng.normal(size=50), rng.normal(size=50)
    told = regression_scores(x, y)
    assert told["mae"] == pytest.approx(mean_absolute_error(x, y))
    assert told["r2"] == pytest.approx(r2_score(x, y))
    assert told["r"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert regression_scores(x, np.ones(50))["r"] == 0


def test_divisions_are_judged_apart():
    division = np.repeat([0, 1], 20)
    true = np.tile([0.0, 1.0], 20)
    # A constant that differs between the divisions tells nothing, though pooled it would rank subjects.
    true[:5], true[20:25] = 1, 0
    votes = np.where(division == 0, 0.4, 0.6)[:, None] * [-1, 1] + [1, 0]
    found = mean_scores(GROUP, true, [votes], division)
    assert found["balanced_accuracy"] == 0.5
    assert found["auroc"] == 0.5


def test_intervals_hold_the_score_and_chance_holds_noise():
    rng = np.random.default_rng(1)
    true = rng.normal(size=40)
    good, noise = (true + 0.3 * rng.normal(size=40))[:, None], rng.normal(size=(40, 1))
    division = np.arange(40) % 2
    samples = resampled([f"f{k // 2}" for k in range(40)], draws=200)
    ours, theirs = (judged(AGE, true, [votes], division, samples) for votes in (good, noise))
    low, high = ours[0]["intervals"]["r"]
    assert low < ours[0]["r"] < high
    assert ours[0]["r"] > 0.9
    low, high = chance_interval(AGE, true, [good], division)
    assert low < 0 < high < ours[0]["r"]
    assert differences(ours, theirs)["r"]["low"] > 0
    for sample in samples[:5]:  # families come whole
        counts = np.bincount(sample, minlength=40).reshape(20, 2)
        assert (counts[:, 0] == counts[:, 1]).all()


def test_baselines_learn_the_planted_trait_and_know_nothing_of_the_test_part():
    subjects = cohort(40)
    read = SubjectInputs.Config().build().read(subjects)
    train = np.arange(40) < 28
    folds = np.stack([train & (np.arange(40) // 2 % 3 == k) for k in range(3)])
    tables = feature_tables(read, np.zeros((40, 0)))
    found = baselines(subjects.targets, subjects.values, tables, train, folds, subjects.groups("site"))
    judging = ~train & np.isfinite(subjects.values[:, 0])
    told = {name: regression_scores(subjects.values[judging, 0], own[0][judging, 0]) for name, own in found.items()}
    assert told["parcel_means"]["r2"] > 0.8 > told["constant"]["r2"]
    assert set(found) == {"constant", "site", "graph_means", "parcel_means"}
    hidden = subjects.values.copy()
    hidden[~train] = np.nan
    again = baselines(subjects.targets, hidden, tables, train, folds, subjects.groups("site"))
    for name, own in found.items():
        for one, two in zip(own, again[name]):
            np.testing.assert_array_equal(one, two)
            assert one.shape[0] == 40


@pytest.fixture
def saved(tmp_path):
    one = task()
    model = one.model(TRUNK, CoordinateEncoder.Config(channels=4))
    first = one.brains[0]
    SubjectEnsemble(
        network=TRUNK, coordinates=CoordinateEncoder.Config(channels=4), head=one.head, targets=(AGE, GROUP),
        scale=np.array([[[50.0, 10.0], [0.0, 1.0]]]), n_features=first.features.shape[1] + len(first.whole),
        n_coordinates=3, n_units=one.n_units, features=("a", "b"), weights={0: {7: [model.state_dict()]}},
    ).save(tmp_path)  # fmt: skip
    return tmp_path, one, model


def test_a_model_comes_back_and_says_the_same(saved):
    folder, one, model = saved
    (ages, groups) = SubjectEnsemble.load(folder).predict(one.brains, 0)[7]
    objective = replace(one, validation=np.ones((1, 12), bool)).objective(0, Loss())
    with torch.no_grad():
        outputs = model.eval()(objective.judged)
    np.testing.assert_allclose(ages[:, 0], outputs[:, 0] * 10 + 50, rtol=1e-5)
    np.testing.assert_allclose(groups, torch.softmax(outputs[:, 1:], 1), atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "Ensemble"), ("format", 9), ("network", {"_": "Pickle"}), ("head", 3), ("n_features", 5),
        ("n_units", 10**12), ("members", [[0, 7, 2]]), ("members", "x"), ("targets", []), ("scale", None),
    ],
)  # fmt: skip
def test_edited_models_are_refused(saved, key, value):
    folder = saved[0]
    if key == "scale":
        arrays = read_arrays(folder / "model.safetensors")
        write_arrays(folder / "model.safetensors", {**arrays, "scale": arrays["scale"] * np.nan})
    else:
        about = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({**about, key: value}))
    with pytest.raises(InputError, match=r"model\.json") as caught:
        SubjectEnsemble.load(folder)
    assert "\n" not in str(caught.value)
