"""Traits from several inputs: the training of a member, what is predicted for whom, and the whole experiment."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from features.augment_head import HeadAugment
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.naive_cnn import NaiveCNN
from features.encoders.table_net import TableNet
from features.encoders.volume_cnn import VolumeCNN
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.parallel.batches import window_draws
from features.samplers.epochs import EpochBatches
from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.subject_data.table import SubjectTable
from features.subject_data.volumes import SubjectVolumes
from features.traits import training
from features.traits.cohort import participants_of, placed
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput, TraitItems
from features.traits.linear import linear_tables, sees
from features.traits.training import TraitMember, TraitTrainer, predict, train_member
from features.transfer.optimiser import Optimiser
from features.transfer.rates import Constant, WarmUpCosine
from meshgnn.data.residualizer import Residualizer
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.errors import InputError
from meshgnn.experiment.runner import run
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_arrays, read_json
from meshgnn.train.loss import Loss
from meshgnn.train.target_costs import TargetCosts

TRAINER = TraitTrainer(
    folds=2, epochs=6, patience=6, sampler=EpochBatches.Config(size=8),
    optimiser=Optimiser.Config(learning_rate=1e-2, weight_decay=0.0),
)  # fmt: skip
NETWORK = MultiInputNet.Config(
    blocks=(
        InputBlock(name="one", encoder=TableNet.Config(widths=(8,), dropout=0.1)),
        InputBlock(name="two", encoder=TableNet.Config(widths=(8,), dropout=0.1)),
    ),
    head=TraitHead.Config(widths=(8,)),
    input_dropout=0.2,
)


class Rows:
    """Items [G, P] in memory; NaN rows are subjects without them."""

    def __init__(self, values):
        self.values = np.asarray(values, np.float32)
        self.observed = np.isfinite(self.values).all(1)
        self.groups = np.arange(len(values), dtype=np.int32)

    @property
    def shape(self):
        return self.values.shape[1:]

    def read(self, subjects):
        assert self.observed[subjects].all(), "somebody was asked for who has no item"
        return self.values[subjects]

    def key(self):
        return str(self.values.tolist())


def small(subjects=40, lack=0.3, seed=0):
    """Two inputs of which the first tells the class and the second the number; everybody has one of them."""
    rng = np.random.default_rng(seed)
    sex, age = rng.integers(0, 2, subjects), rng.standard_normal(subjects)
    one, two = rng.standard_normal((subjects, 4)), rng.standard_normal((subjects, 3))
    one[:, 0] += 4 * sex - 2
    two[:, 1] = age + 0.1 * rng.standard_normal(subjects)
    without = rng.random(subjects) < lack
    one[without & (np.arange(subjects) % 2 == 0)] = np.nan
    two[without & (np.arange(subjects) % 2 == 1)] = np.nan
    train = np.arange(subjects) < subjects * 3 // 4
    return TraitMember(
        network=NETWORK, items=TraitItems({"one": Rows(one), "two": Rows(two)}),
        values=np.stack([sex, age], axis=1).astype(float), classes=(2, 0), train=train, validation=~train, seed=3,
    )  # fmt: skip


def test_a_member_learns_and_a_finished_one_is_not_trained_again(tmp_path):
    member, trainer = small(), replace(TRAINER, epochs=25, patience=25)
    network, history = train_member(member, trainer, tmp_path)
    rows = member.rows(member.validation)
    votes = predict(network, member.items, rows)
    tells = member.items.present[rows]
    assert (votes[tells[:, 0], :2].argmax(1) == member.values[rows, 0][tells[:, 0]]).mean() > 0.9
    assert np.corrcoef(votes[tells[:, 1], 2], member.values[rows, 1][tells[:, 1]])[0, 1] > 0.7
    assert max(row["validation_skill"] for row in history) > 0.4
    before = (tmp_path / "network.safetensors").stat().st_mtime_ns
    again, kept = train_member(member, trainer, tmp_path)
    assert kept == history
    assert (tmp_path / "network.safetensors").stat().st_mtime_ns == before
    assert np.array_equal(predict(again, member.items, rows), votes)
    other, _ = train_member(replace(member, seed=4), trainer, tmp_path)
    assert not np.array_equal(predict(other, member.items, rows), votes)


@pytest.mark.parametrize("rate", [Constant(), WarmUpCosine(period=7)])
def test_a_killed_member_ends_with_the_same_weights_and_the_same_best_epoch(rate, tmp_path):
    trainer = replace(TRAINER, rate=rate)

    def killed(step, done, total, figures=None):
        if done == 3:
            raise KeyboardInterrupt

    whole, history = train_member(small(), trainer, tmp_path / "whole")
    with pytest.raises(BaseException):  # noqa: B017, PT011 (Lightning turns the interrupt into its own)
        train_member(small(), trainer, tmp_path / "cut", killed)
    assert list((tmp_path / "cut").glob("last-*"))
    resumed, again = train_member(small(), trainer, tmp_path / "cut")
    assert again == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not list((tmp_path / "cut").glob("last-*"))


def test_the_rate_of_every_step_is_that_of_the_schedule(tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, closure=None: (closure(), rates.append(self.param_groups[0]["lr"]))
    )
    trainer = replace(TRAINER, epochs=3, patience=3, rate=WarmUpCosine(warm_up=0.25))
    train_member(small(), trainer, tmp_path)
    assert len(rates) == 9  # three batches of 8 of 30 subjects an epoch
    assert rates == pytest.approx([trainer.rate.at(step, 9, 1e-2) for step in range(9)])
    assert max(rates) == rates[2] == 1e-2


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path, monkeypatch):
    skills = iter([0.1, 0.5, 0.2, 0.3, 0.1, 0.0])
    monkeypatch.setattr(training._Module, "_validated", lambda self: next(skills))
    _, history = train_member(small(), replace(TRAINER, patience=2), tmp_path)
    assert [row["validation_skill"] for row in history] == [0.1, 0.5, 0.2, 0.3]
    assert read_json(tmp_path / "network.json")["training"]["history"] == history


def test_after_validation_the_network_trains_again_and_its_statistics_move(tmp_path, monkeypatch):
    seen = []
    begun = training._Module.training_step

    def step(self, batch, index):
        moved = [value.clone() for name, value in self.network.state_dict().items() if name.endswith("running_mean")]
        seen.append((self.current_epoch, self.network.training, moved))
        return begun(self, batch, index)

    monkeypatch.setattr(training._Module, "training_step", step)
    train_member(small(), replace(TRAINER, epochs=3), tmp_path)
    assert all(mode for _, mode, _ in seen)
    firsts = [next(moved for epoch, _, moved in seen if epoch == wanted) for wanted in range(3)]
    assert firsts[0]
    assert all(not torch.equal(a, b) for a, b in zip(firsts[1], firsts[2]))


def test_the_reported_loss_holds_no_penalty(tmp_path):
    trainer = replace(TRAINER, epochs=1, optimiser=replace(TRAINER.optimiser, kind="adam", learning_rate=1e-9))
    plain = train_member(small(), trainer, tmp_path / "plain")[1]
    heavy = replace(trainer, optimiser=replace(trainer.optimiser, weight_decay=100.0))
    penalised = train_member(small(), heavy, tmp_path / "heavy")[1]
    assert plain[0]["loss"] == pytest.approx(penalised[0]["loss"], abs=1e-6)


def test_a_target_that_nobody_of_a_batch_has_costs_nothing():
    costs = TargetCosts(torch.tensor([[0.0, 1.0], [1.0, 2.0], [1.0, 4.0]]), (2, 0), Loss())
    outputs = torch.zeros(2, 3, requires_grad=True)
    costs.loss(outputs, torch.tensor([[0.0, np.nan], [1.0, np.nan]])).backward()
    assert outputs.grad[:, 2].abs().max() == 0
    assert outputs.grad[:, :2].abs().min() > 0


def test_nobody_to_validate_on_is_told(tmp_path):
    member = small()
    with pytest.raises(InputError, match="0 to validate on"):
        train_member(replace(member, validation=np.zeros(40, bool)), TRAINER, tmp_path)


def test_linear_tables_average_volumes_and_say_who_lacks_an_input():
    items = TraitItems({"one": Rows([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]]), "two": Rows([[5.0], [6.0], [np.nan]])})
    found = linear_tables(items)
    assert list(found) == ["linear_one", "linear_two", "linear"]
    assert np.array_equal(found["linear"], [[1, 2, 5], [np.nan, np.nan, 6], [3, 4, np.nan]], equal_nan=True)

    class Ramp(Rows):
        shape = (1, 10, 8, 8)

        def read(self, subjects):
            one = np.broadcast_to(np.arange(10.0)[:, None, None], self.shape)
            return np.stack([one * k for k in subjects]).astype(np.float32)

    table = linear_tables(TraitItems({"t1": Ramp(np.zeros((3, 1)))}))["linear_t1"]
    assert table.shape == (3, 512)
    assert table[2].reshape(8, 8, 8)[:, 0, 0] == pytest.approx([0, 2, 4, 7, 10, 12, 14, 17])


def config(**changes):
    settings = {
        "cohort": VirtualImages.Config(people=VirtualSubjects.Config(subjects=36, sites=3), size=16, absent=0.3),
        "targets": ("sex", "age"),
        "inputs": (
            TraitInput(name="T1w", data=SubjectVolumes.Config(), encoder=VolumeCNN.Config(widths=(8,), out_channels=8)),
            TraitInput(
                name="connectivity", data=SubjectConnectivity.Config(), encoder=ConnectivityNet.Config(widths=(8,))
            ),
            TraitInput(
                name="table",
                data=SubjectTable.Config(unseen="other"),
                encoder=TableNet.Config(widths=(8,), missing=True),
            ),
        ),
        "conversion": VolumeConversion.Config(cube=Cube.Config(size=16)),
        "head": TraitHead.Config(widths=()),
        "split": SubjectSplit.Config(parts=2, cross=False, keep=("family",)),
        "trainer": replace(TRAINER, epochs=2),
    }
    return TraitPrediction.Config(**{**settings, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("traits") / "run"
    return run(config(confounds=Residualizer.Config(confounds=("site",), categorical=("site",))), out).path


def test_every_tested_subject_is_predicted_and_every_input_has_its_rows(done):
    metrics = read_json(done / "metrics.json")
    table = (done / "predictions" / "subjects.tsv").read_text().splitlines()
    assert len(table) == 37
    for name in ("sex", "age"):
        found = metrics["targets"][name]["baselines"]
        assert {"constant", "linear", "linear_T1w", "T1w_alone", "connectivity_alone", "table_alone"} <= set(found)
        assert found["T1w_alone"]["fits"] == 2
    assert metrics["leakage"] | {"shared_sites": 0} == {
        "shared_subjects": 0, "shared_families": 0, "shared_sites": 0
    }  # fmt: skip
    tested = [dict(zip(table[0].split("\t"), row.split("\t"))) for row in table[1:]]
    tested = [row for row in tested if row["division"] == "1"]
    assert tested
    assert all(row["sex_predicted"] in "FM" and row["age_predicted"] != "n/a" for row in tested)
    text = (done / "report.html").read_text()
    assert "linear_connectivity" in text
    assert "T1w_alone" in text


def test_confounds_are_fitted_on_training_subjects_and_what_is_judged_is_what_is_left(done):
    fitted = Residualizer.load(done / "tables" / "confounds-0.json")
    split = read_json(done / "tables" / "split.json")["parts"][0]
    assert fitted.subjects == len(split["train"])
    rows = [line.split("\t") for line in (done / "predictions" / "subjects.tsv").read_text().splitlines()]
    asked = [line.split("\t") for line in (done / "cohort" / "participants.tsv").read_text().splitlines()]
    age = {row[0]: row[asked[0].index("age")] for row in asked}
    left = {row[0]: row for row in rows}
    site = {row[0]: row[2] for row in rows}
    name = next(one for one in split["test"] if age[one] != "n/a")
    said = fitted.explained({"site": [site[name]]})[0, 0]
    assert float(left[name][rows[0].index("age")]) == pytest.approx(float(age[name]) - said, abs=1e-3)


def test_columns_of_a_targets_own_domain_are_no_inputs(done):
    table = config().inputs[2]
    for targets, absent in ((("score",), {"mood_a", "mood_b", "mood_c"}), (("sex",), set())):
        data = placed(table, done / "cohort", done / "stores", targets)
        found = data.build(participants_of(config().cohort, targets), np.ones(36, bool))
        assert absent <= set(found.left_out)
        assert ({"mood_a"} <= set(found.left_out)) == bool(absent)


def test_a_resumed_run_keeps_everything_and_other_weights_are_not_taken(done, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    confounds = Residualizer.Config(confounds=("site",), categorical=("site",))
    before = read_arrays(copy / "tables" / "predictions.safetensors")
    run(config(confounds=confounds), copy, resume=True)
    assert "train: unchanged, kept" in (copy / "log.txt").read_text()
    after = read_arrays(copy / "tables" / "predictions.safetensors")
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)
    about = json.loads((copy / "networks" / "main" / "division0" / "seed0-fold0" / "network.json").read_text())
    assert {block["name"] for block in about["config"]["blocks"]} == {"T1w", "connectivity", "table"}


def test_an_encoder_that_does_not_take_the_items_is_told_before_training(tmp_path):
    small = TraitInput(name="T1w", data=SubjectVolumes.Config(), encoder=NaiveCNN.Config())
    with pytest.raises(InputError, match="shrink to nothing"):
        run(config(inputs=(small,)), tmp_path / "run")
    assert "train" not in [path.stem for path in (tmp_path / "run" / "stages").glob("*.json")]


def test_augmented_volumes_train_in_mixed_precision(tmp_path):
    pytest.importorskip("monai")
    cohort = VirtualImages.Config(people=VirtualSubjects.Config(subjects=24), size=16)
    trainer = replace(TRAINER, epochs=1, augment=HeadAugment.Config(chance=1.0), precision="bf16")
    volumes = config(cohort=cohort, inputs=config().inputs[:1], trainer=trainer)
    metrics = read_json(run(volumes, tmp_path / "run").path / "metrics.json")
    assert np.isfinite(metrics["targets"]["age"]["test"]["mae"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ("height",)}, "there is no target 'height'"),
        ({"inputs": ()}, "one or more"),
        ({"confounds": Residualizer.Config(confounds=("age",))}, "'age' is a target"),
        ({"confounds": Residualizer.Config(confounds=("height",))}, "'height' is not a column"),
        ({"targets": ("sex",), "confounds": Residualizer.Config(confounds=("site",))}, "no target is a number"),
        ({"split": SubjectSplit.Config(parts=30)}, "parts need at least 30"),
        (
            {
                "inputs": (
                    TraitInput(name="a", data=SubjectTable.Config(), encoder=TableNet.Config()),
                    TraitInput(name="a", data=SubjectTable.Config(), encoder=TableNet.Config()),
                )
            },
            "different names",
        ),
    ],
)
def test_what_is_wrong_is_told_before_the_first_stage(changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        run(config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Frames(Rows):
    """Items [P] that are frames of runs [G, T, P], of a length of each subject's own; evaluation reads all of them."""

    def __init__(self, runs, lengths):
        super().__init__(runs[:, 0])
        self.runs, self.lengths = np.asarray(runs, np.float32), np.asarray(lengths)
        self.last_start = self.lengths - 1

    def starts(self, row):
        return np.arange(self.lengths[row])

    def read_at(self, rows, starts):
        assert (starts <= self.last_start[rows]).all()
        assert (starts >= 0).all()
        return self.runs[rows, starts]


def test_every_window_of_a_subject_counts_once():
    runs = np.arange(4 * 3 * 2, dtype=float).reshape(4, 3, 2)
    runs[2] = np.nan
    items = TraitItems({"run": Frames(runs, [3, 1, 2, 2]), "one": Rows(np.arange(4.0)[:, None])})
    subjects = np.array([3, 0, 2, 1])
    codes = items.passes(subjects)
    assert sorted(codes % 4) == [0, 0, 0, 1, 2, 3, 3]
    read, present = items.read_pass(codes)
    rows = present[:, 0].numpy()
    outputs = np.zeros((len(codes), 2), np.float32)
    outputs[rows] = read["run"].numpy()
    outputs[~rows] = read["one"].numpy()[~rows]
    means = items.averaged(outputs, codes, subjects)
    assert np.array_equal(means, [runs[3, :2].mean(0), runs[0].mean(0), [2, 2], runs[1, 0]])
    few = items.passes(np.array([0, 2]), most=2)
    assert (few % 4).tolist() == [0, 0, 2]
    assert items.read_pass(few)[0]["run"][1].tolist() == runs[0, 2].tolist(), "the last of three, evenly spread"
    reversed_order = items.averaged(outputs[::-1], codes[::-1], subjects)
    assert np.array_equal(reversed_order, means)


def test_drawn_windows_reach_the_last_start_and_no_further():
    runs = np.zeros((2, 6, 1)) + np.arange(6)[:, None]
    items = TraitItems({"run": Frames(runs, [6, 2])})
    draws = np.linspace(0, 1, 60, endpoint=False)
    read, _ = items.read(np.zeros(60, int), draws)
    assert set(read["run"].ravel().tolist()) == {0, 1, 2, 3, 4, 5}
    read, _ = items.read(np.ones(60, int), draws)
    assert set(read["run"].ravel().tolist()) == {0, 1}
    assert items.read(np.array([0]))[0]["run"].item() == 0


def test_windows_in_training_are_drawn_anew_and_depend_on_seed_and_step_alone():
    assert np.array_equal(window_draws(3, 7, 5), window_draws(3, 7, 5))
    assert not np.array_equal(window_draws(3, 7, 5), window_draws(3, 8, 5))
    assert not np.array_equal(window_draws(3, 7, 5), window_draws(4, 7, 5))


def test_linear_tables_of_runs_hold_change_over_time_and_of_series_their_connectivity():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((3, 3, 40)).astype(np.float32)
    series[:, 1] = series[:, 0] + 0.1 * series[:, 1]
    series = np.concatenate([series, np.ones((3, 1, 40), np.float32)], axis=1)
    series[:, -1, 30:], series[:, :-1, 30:] = 0, 100  # padding is not looked at
    voxels = rng.standard_normal((3, 1, 8, 8, 8, 20)).astype(np.float32)
    voxels[:, :, 4:] *= 5
    voxels[0, :, 6:] = voxels[0, :, :2]  # corners of the grid change together in one subject

    class Runs(Frames):
        def __init__(self, windows):
            super().__init__(np.zeros((3, 1, 1)), [1, 1, 1])
            self.windows = windows

        @property
        def shape(self):
            return self.windows.shape[1:]

        def read_at(self, rows, starts):
            return self.windows[rows]

        def key(self):
            return str(self.windows.shape)

    items = TraitItems({"series": Runs(series), "bold": Runs(voxels)})
    found = linear_tables(items)
    wanted = np.arctanh(np.corrcoef(series[1, :3, :30])[np.triu_indices(3, 1)])
    assert found["linear_series"][1] == pytest.approx(wanted, abs=1e-4)
    assert found["linear_series"][1, 0] > 2
    parts = np.linspace(0, 8, 6).astype(int)
    cells = np.add.reduceat(np.add.reduceat(np.add.reduceat(voxels[:, 0], parts[:-1], 1), parts[:-1], 2), parts[:-1], 3)
    cells = cells.reshape(3, 125, 20)
    for subject in range(3):
        wanted = np.arctanh(np.clip(np.corrcoef(cells[subject])[np.triu_indices(125, 1)], -0.999, 0.999))
        assert found["linear_bold"][subject, 512:] == pytest.approx(wanted, abs=1e-3)
    change = found["linear_bold"][2, :512].reshape(8, 64)
    assert change[4:].mean() - change[:4].mean() == pytest.approx(np.log(5), abs=0.1)
    assert sees(items)["linear_series"] == "series, functional connectivity"
    assert "change over time" in sees(items)["linear_bold"]
