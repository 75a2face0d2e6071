"""Traits from resting runs in three phases, as a whole experiment on a tiny cohort; what it looks at."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.fmri_sex import fmri_sex, folder, quick
from features.encoders.attention_layers import AttentionLayers
from features.encoders.frame_encoder import FrameEncoder
from features.encoders.run_transformer import RunTransformer
from features.encoders.token_sequence import TokenSequence
from features.explain.attribution import Methods
from features.explain.experiment import TraitExplanation
from features.fmri.model_files import read_phase
from features.fmri.phase import PhaseTraining
from features.samplers.epochs import EpochBatches
from features.traits.experiment import STORES, TraitPrediction
from features.traits.pooled import scaled
from meshgnn.data.target_transform import ScoreTarget
from meshgnn.errors import SettingError
from meshgnn.experiment.runner import run
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_json

ENCODER = RunTransformer.Config(
    frames=FrameEncoder.Config(channels=(4, 8), blocks=(1, 1), features=16),
    sequence=TokenSequence.Config(
        layers=AttentionLayers.Config(depth=1, heads=2, feed_forward=16),
        pool="correlation",
        combined=4,
        standardised=True,
    ),
)


def tiny(**changes):
    base = fmri_sex()
    named = {one.name: one for one in base.inputs}
    runs = replace(named["bold"].data, frames=8)
    inputs = (
        replace(named["bold"], data=runs, encoder=ENCODER),
        replace(named["bold_from_scratch"], data=runs, encoder=ENCODER),
        named["connectivity"],
    )
    return replace(
        base,
        cohort=VirtualRuns.Config(people=VirtualSubjects.Config(subjects=18, sites=2), size=16, frames=24),
        inputs=inputs,
        targets=("sex",),
        phases=tuple(replace(phase, steps=2, windows=1) for phase in base.phases),
        split=replace(base.split, parts=3, alike=()),
        trainer=replace(base.trainer, folds=2, epochs=1, sampler=EpochBatches.Config(size=4)),
        **changes,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tiny(), tmp_path_factory.mktemp("fmri") / "run").path


def test_every_phase_hands_its_weights_on_and_sees_training_subjects_alone(finished):
    first, second = (read_phase(finished / "phases" / name / "division0") for name in ("autoencoder", "transformer"))
    assert second.started_from["sha256"] == first.sha256
    assert any(name.startswith("frames.") for name in second.started_from["carried"])
    assert all(name.startswith("sequence.") for name in second.started_from["new"])
    experiment = tiny().build()
    train = experiment._divisions[0].part.train
    rows, judged = experiment._sides(0, np.ones(len(train), bool))
    assert train[rows].all()
    assert train[judged].all()
    assert not set(rows) & set(judged)
    assert set(rows) | set(judged) == set(np.flatnonzero(train))


def test_the_third_phase_starts_from_the_second_and_the_other_network_from_scratch(finished):
    from meshgnn.experiment.run_folder import RunFolder

    experiment, folder_ = tiny().build(), RunFolder(finished)
    starts = experiment.starts(folder_, 0)
    assert list(starts) == ["bold"]
    members = {one.network: one.member for one in experiment._members(folder_, 0, experiment._values(folder_, 0))}
    learnt = load_file(finished / "phases" / "transformer" / "division0" / "network.safetensors")
    name = next(one for one in learnt if one.startswith("frames.") and learnt[one].ndim == 5)
    mine = members["main"].build().encoders[0].state_dict()[name].numpy()
    other = members["bold_from_scratch_alone"].build().encoders[0].state_dict()[name].numpy()
    assert np.array_equal(mine, learnt[name])
    assert not np.array_equal(other, learnt[name])
    # No objective of the second phase looks at the vector of a window: its pooling is left to the third.
    assert not any(one.startswith("sequence.pool.") for one in learnt)
    assert {one.split(".")[1] for one in starts["bold"].fresh} == {"pool"}


def test_numbers_of_test_subjects_decide_nothing_that_is_learnt():
    experiment = replace(tiny(), targets=("sex", "age")).build()
    people, division = experiment._people, experiment._divisions[0]
    values, changed = np.array(people.values), np.array(people.values)
    changed[~division.part.train, 1] = 1e6
    found = [scaled(people.targets, one, division.part.train, ScoreTarget.Config()) for one in (values, changed)]
    np.testing.assert_array_equal(found[0][0][:, 1], found[1][0][:, 1])
    learnt = found[0][0][division.part.train, 1]
    assert np.nanmean(learnt) == pytest.approx(0, abs=1e-9)
    assert np.nanstd(learnt) == pytest.approx(1, abs=1e-9)
    assert np.isnan(found[0][0][~division.part.train, 1]).all()
    assert found[0][1][1].score == found[1][1][1].score


def test_all_rows_stand_in_one_table_and_equal_data_are_one_linear_row(finished):
    metrics = read_json(finished / "metrics.json")
    rows = set(metrics["targets"]["sex"]["baselines"])
    assert {
        "bold_from_scratch_alone",
        "connectivity_alone",
        "late_fusion",
        "linear_bold",
        "linear_connectivity",
    } <= rows
    assert "linear_bold_from_scratch" not in rows
    assert metrics["model"] == "bold_alone"
    assert (finished / STORES / "runs" / "store.json").is_file()


def test_a_finished_run_is_kept(finished):
    before = (finished / "phases" / "transformer" / "division0" / "network.safetensors").stat().st_mtime_ns
    run(tiny(), finished, resume=True)
    assert (finished / "phases" / "transformer" / "division0" / "network.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("method", ["saliency", pytest.param("occlusion", marks=pytest.mark.slow)])
def test_attributions_of_runs_lie_on_the_mesh(method, finished, tmp_path):
    config = TraitExplanation.Config(run=finished, subjects=1, batch=4, methods=Methods(names=(method,), window_mm=48))
    done = run(config, tmp_path / "explained").path
    maps = read_json(done / "metrics.json")["maps"]
    assert [(one["input"], one["method"]) for one in maps] == [("bold", method)]
    assert all(any(area["planted"] for area in one["areas"]) for one in maps)
    assert all(np.isfinite([area["magnitude"] for area in one["areas"]]).all() for one in maps)


def test_runs_of_different_stores_are_refused_and_bad_items_are_named(finished, tmp_path):
    lines = (finished / "tables" / "bad_items.tsv").read_text().splitlines()
    assert lines == ["input\tparticipant_id\treason\tfile\tdetail"]
    base = tiny()
    store = finished / STORES / "runs"
    apart = replace(base.inputs[0], data=replace(base.inputs[0].data, store=store))
    with pytest.raises(SettingError, match="different stores"):
        run(replace(base, inputs=(apart, *base.inputs[1:])), tmp_path / "apart")
    long = tuple(
        replace(one, data=replace(one.data, frames=12, store=store)) if one.name != "connectivity" else one
        for one in base.inputs
    )
    cohort = ParticipantTable.Config(folder=finished / "cohort", targets=("sex",))
    experiment = replace(base, inputs=long, cohort=cohort, targets=(), phases=(), pretrained="").build()
    tsv = sorted((finished / "cohort").glob("sub-*/func/*timeseries.tsv"))
    assert set(map(str, tsv)) <= {*experiment.input_files(), *(str(one) for one in tsv if "confounds" in one.name)}
    asked = replace(experiment.config, inputs=base.inputs, runs=replace(base.runs, confounds=("trans_x",)))
    files = asked.build().input_files()
    assert sum("desc-confounds" in name for name in files) == 18, "a changed table of confounds redoes the conversion"
    assert sum(name.endswith("_bold.json") for name in files) == 18


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pretrained": ""}, "go together"),
        ({"phases": ()}, "go together"),
        ({"pretrained": "nobody"}, "there are bold"),
        ({"pretrained": "connectivity"}, "RunTransformer"),
        ({"phases": (PhaseTraining.Config(), PhaseTraining.Config())}, "autoencoder, then transformer"),
        ({"main": ("nobody",)}, "there are bold"),
    ],
)
def test_settings_that_do_not_fit_are_told(changes, words):
    with pytest.raises(SettingError, match=words):
        replace(tiny(), **changes)


def test_the_shipped_configs_build_their_networks():
    for config in (fmri_sex(), quick()):
        assert isinstance(config.build(), TraitPrediction)
    assert folder().phases == fmri_sex().phases
