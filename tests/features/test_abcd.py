"""The intelligence experiment: published sizes, losses of numbers, baselines of residuals, pretrained starts."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from experiments import abcd_intelligence
from features.encoders.naive_cnn import NaiveCNN
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.traits.experiment import TraitPrediction
from features.traits.pooled import NumberScale
from features.transfer.pretrained import Pretrained
from meshgnn.data.residualizer import Residualizer
from meshgnn.data.target_transform import LogTarget, RangeTarget
from meshgnn.errors import InputError
from meshgnn.experiment.runner import run
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_json
from meshgnn.train.loss import Loss
from meshgnn.train.target_costs import TargetCosts
from meshgnn.train.target_scores import regression_scores
from tests.features.test_traits import small


@pytest.mark.parametrize(
    ("config", "side", "count"),
    [
        (abcd_intelligence.folder(), 240, 527_685_041),
        (abcd_intelligence.resnet(), 240, 47_204_673),
        (abcd_intelligence.abcd_intelligence(), 80, 12_709_041),
    ],
)
def test_networks_have_the_published_sizes(config, side, count):
    with torch.device("meta"):
        network = config.network(("T1w",)).build({"T1w": (1, side, side, side)}, (0,))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def tiny(**changes) -> TraitPrediction.Config:
    base = abcd_intelligence.quick()
    small_net = NaiveCNN.Config(channels=(4, 4), kernels=(3, 3), linear=(8, 4), dropout=0.0)
    settings = {
        "cohort": VirtualImages.Config(people=VirtualSubjects.Config(subjects=40, sites=3), size=16, score_effect=0.3),
        "inputs": (replace(base.inputs[0], encoder=small_net),),
        "conversion": VolumeConversion.Config(cube=Cube.Config(size=16)),
        "split": replace(base.split, parts=2),
        "trainer": replace(base.trainer, epochs=2, patience=2),
    }
    return replace(base, **{**settings, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run(tiny(), tmp_path_factory.mktemp("abcd") / "run").path


def test_both_constants_ridge_and_squared_error_are_always_there(done):
    own = read_json(done / "metrics.json")["targets"]["score"]
    assert {"constant", "zero", "linear_T1w"} <= set(own["baselines"])
    rows = [line.split("\t") for line in (done / "predictions" / "subjects.tsv").read_text().splitlines()]
    column = rows[0].index("score")
    left = np.array([float(row[column]) for row in rows[1:] if row[3] == "1"])
    assert own["baselines"]["zero"]["mse"] == pytest.approx((left**2).mean(), rel=1e-4)
    assert own["baselines"]["constant"]["mse"] == pytest.approx(own["baselines"]["zero"]["mse"], rel=1e-6)
    assert own["test"]["intervals"]["mse"][0] <= own["test"]["mse"] <= own["test"]["intervals"]["mse"][1]
    text = (done / "report.html").read_text()
    assert "mean squared error" in text


def test_site_sex_and_age_are_taken_out_by_training_subjects(done):
    fitted = Residualizer.load(done / "tables" / "confounds-0.json")
    assert fitted.subjects == len(read_json(done / "tables" / "split.json")["parts"][0]["train"])
    table = {"site": ["site1", "site2", "site1", "site1"], "sex": ["F", "F", "M", "F"], "age": ["40", "40", "40", "60"]}
    said = fitted.explained(table)[:, 0]
    assert all(abs(said[k] - said[0]) > 1e-3 for k in (1, 2, 3))


def test_the_loss_of_numbers_is_a_setting():
    values = torch.tensor([[0.0], [1.0], [5.0]])
    squared = TargetCosts(values, (0,), Loss())
    absolute = TargetCosts(values, (0,), Loss(), "absolute")
    assert float(squared.loss(torch.full((3, 1), 2.0), values)) == pytest.approx(1)  # the mean
    assert float(absolute.loss(torch.full((3, 1), 1.0), values)) == pytest.approx(1)  # the median
    assert float(absolute.loss(torch.full((3, 1), 2.0), values)) > 1
    guess = torch.zeros((1, 1), requires_grad=True)
    absolute.loss(guess.expand(3, 1), values).backward()
    assert float(guess.grad) == pytest.approx(-2 / 3 / (5 / 3))
    assert absolute.skill(torch.full((3, 1), 2.0), values) == pytest.approx(0)


def test_squared_error_is_that_of_the_unit():
    found = regression_scores(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 1.0]))
    assert found["mse"] == pytest.approx(13 / 3)
    assert found["mae"] == pytest.approx(5 / 3)


@pytest.mark.parametrize("config", [LogTarget.Config(), LogTarget.Config(offset=40), RangeTarget.Config()])
def test_numbers_reach_networks_standardised_and_come_back_exactly(config):
    y = np.random.default_rng(0).normal(0, 8, 200)
    scale = NumberScale.of(config, y)
    seen = scale.apply(y)
    assert abs(seen.mean()) < 1e-9
    assert seen.std() == pytest.approx(1)
    inside = np.abs(y) < 15  # beyond the percentiles a range is clamped
    np.testing.assert_allclose(scale.invert(seen)[inside], y[inside], atol=1e-9)


def test_a_pretrained_block_starts_from_its_file_and_the_others_from_their_draw(tmp_path):
    member = small()
    other = replace(member, seed=99).build().encoders[0]
    path = tmp_path / "one.safetensors"
    save_file({name: value.contiguous() for name, value in other.state_dict().items()}, path)
    start = Pretrained.Config(file=path, sha256=sha256(path.read_bytes()).hexdigest())
    begun = replace(member, pretrained={"one": start})
    for name, value in begun.build().encoders[0].state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    drawn = member.build().encoders[1].state_dict()
    assert all(torch.equal(value, drawn[name]) for name, value in begun.build().encoders[1].state_dict().items())
    trainer = abcd_intelligence.TRAINER
    assert begun.key(trainer) != member.key(trainer)
    with pytest.raises(InputError, match="SHA-256"):
        replace(member, pretrained={"one": replace(start, sha256="0" * 64)}).build()


def test_fewer_subjects_are_some_of_the_more():
    few, more = (tiny(most_subjects=count).build()._people.ids for count in (10, 25))
    assert len(few) == 10
    assert set(few) < set(more)
    assert len(tiny(most_subjects=500).build()._people) == 40
