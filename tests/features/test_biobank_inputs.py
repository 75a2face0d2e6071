"""Studies of many networks: what is combined, what a network gets, one row each, and going on after a kill."""

import csv
import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from experiments import biobank_inputs
from features.augment_head import HeadAugment
from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.table_net import TableNet
from features.fusion.trait_head import TraitHead
from features.subject_data.labels import TargetLabels
from features.subject_data.table import SubjectTable
from features.traits import biobank
from features.traits.biobank_options import BiobankOptions
from features.traits.combinations import BIOBANK, Combination, Study, enumerate_runs
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.runner import run
from meshgnn.override import override
from meshgnn.results import ModelTable
from meshgnn.slurm_jobs import SlurmJobs
from meshgnn.source.participant_table import Participants, ParticipantTable
from meshgnn.source.subjects import Target
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.images_folder import write_images
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_json
from meshgnn.testing import assert_subject_data


def test_the_published_study_is_seven_hundred_networks():
    found = enumerate_runs("published")
    assert len(found) == len({one.name for one in found}) == len(set(found)) == 700
    assert sorted(Counter(Counter(one.target for one in found).values()).items()) == [(7, 4), (32, 21)]
    imaging = {frozenset(one.inputs) - {"connectivity"} for one in found}
    assert imaging == {frozenset(), frozenset({"dwi"}), frozenset({"flair", "t1"}), frozenset({"dwi", "flair", "t1"})}
    for one in found:
        own = BIOBANK.targets[one.target]
        assert own not in one.domains
        assert ("constitutional" in one.domains) == (own != "constitutional")
        assert one.inputs or one.domains
    serology = {one.domains for one in found if one.target == "LDL"}
    assert serology == {
        ("constitutional",), ("constitutional", "psychology"), ("constitutional", "disease"),
        ("constitutional", "psychology", "disease"),
    }  # fmt: skip


def test_the_full_study_adds_networks_of_images_and_connectivity_alone():
    published, full = set(enumerate_runs("published")), enumerate_runs("full")
    added = [one for one in full if one not in published]
    assert published <= set(full)
    assert len(added) == 21 * 7
    assert all(not one.domains and BIOBANK.targets[one.target] != "constitutional" for one in added)


def test_every_combination_leaves_own_domains_out():
    study = Study(targets={"a": "x", "b": ""}, domains=("x", "y"), inputs=("t1", "fc"), always="x")
    found = enumerate_runs("every", study)
    assert len([one for one in found if one.target == "a"]) == 4 * 2 - 1
    assert len([one for one in found if one.target == "b"]) == 4 * 4 - 1
    assert {one.domains for one in found if one.target == "a"} == {(), ("y",)}
    with pytest.raises(SettingError, match="together"):
        Study(targets={"a": ""}, inputs=("t1",), together=(("t1", "dwi"),))


def test_options_have_the_documented_defaults_and_are_typed():
    options = BiobankOptions()
    assert (options.target, options.epochs, options.batch_size, options.lr) == ("sex", 999999, 64, 1e-4)
    assert (options.patience, options.augs_probability, options.data_size) == (30, 0.05, 999999999)
    assert options.inputs == ("flair", "t1", "dwi", "metadata", "connectivity")
    assert set(options.metadata_blocks) == {"constitutional", "serology", "psychology", "disease"}
    assert (options.resize, options.veto_transformations, options.diagnostic) == (True, True, False)
    assert (options.voxels, replace(options, resize=False).voxels) == (64, 128)
    base = biobank_inputs.folder()
    assert override(base, ["options.resize=False"]).options.resize is False
    with pytest.raises(InputError, match="resize"):
        override(base, ["options.resize=maybe"])
    with pytest.raises(InputError, match=r"options\.inputs"):
        override(base, ["options.inputs=pet"])


def test_what_is_asked_for_is_what_the_network_gets(tmp_path):
    options = BiobankOptions(
        diagnostic=True, veto_transformations=False, augs_probability=0.3, batch_size=7, data_size=9
    )
    one = Combination(target="HDL", inputs=("t1", "connectivity"), domains=("disease",))
    cohort = ParticipantTable.Config(folder=tmp_path, targets=("HDL",))
    make = biobank_inputs.folder().split
    found = options.prediction(one, Target(name="HDL"), cohort, {"t1": tmp_path}, {"HDL": "serology"}, make, (0,))
    assert [given.name for given in found.inputs] == ["t1", "connectivity", "metadata", "diagnostic"]
    columns = found.inputs[2].data
    assert isinstance(columns, SubjectTable.Config)
    assert (columns.blocks, columns.domains) == (("disease",), ("HDL=serology",))
    assert found.trainer.augment == HeadAugment.Config(chance=0.3)
    assert (found.trainer.sampler.size, found.trainer.sampler.balance, found.most_subjects) == (7, "none", 9)
    sex = options.prediction(one, Target(name="sex", classes=("F", "M")), cohort, {"t1": tmp_path}, {}, make, (0,))
    assert sex.trainer.sampler.balance == "undersample"


def test_labels_are_items_of_those_whose_targets_are_known():
    people = Participants(
        ids=("sub-1", "sub-2", "sub-3", "sub-4"), targets=(Target(name="sex", classes=("F", "M")), Target(name="age")),
        values=np.array([[0, 10.0], [1, 20.0], [1, 60.0], [0, np.nan]]),
    )  # fmt: skip
    train = np.array([True, True, False, False])
    data = TargetLabels.Config().build(people, train)
    assert data.observed.tolist() == [True, True, True, False]
    assert data.read(np.array([0, 1, 2])).tolist() == [[0, -1], [1, 1], [1, 9]]
    assert_subject_data(data)


SMALL = BiobankOptions(
    inputs=("metadata", "connectivity"), metadata_blocks=("constitutional", "psychology"), epochs=3, patience=3,
    batch_size=8, lr=1e-2, connectivity=ConnectivityNet.Config(widths=(8,)),
    table=TableNet.Config(widths=(8,), missing=True), head=TraitHead.Config(widths=(8,)),
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "in"
    cohort = VirtualImages.Config(people=VirtualSubjects.Config(subjects=40, sites=2), size=16, absent=0.2)
    write_images(cohort.build(), folder)
    return folder


def of(folder, *targets) -> ParticipantTable.Config:
    return ParticipantTable.Config(folder=folder, targets=targets)


def tiny(**changes) -> biobank.BiobankInputs.Config:
    settings = {
        "cohort": VirtualImages.Config(people=VirtualSubjects.Config(subjects=40, sites=2), size=16, absent=0.2),
        "targets": ("score",), "combinations": "every", "options": SMALL,
    }  # fmt: skip
    return biobank.BiobankInputs.Config(**{**settings, **changes})


def rows_of(place):
    with (place / "models.tsv").open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def test_a_killed_study_goes_on_and_trains_no_finished_network_again(drawn, tmp_path, monkeypatch):
    config = tiny(cohort=of(drawn, "score"), targets=())
    place, train = tmp_path / "run", biobank.train_one
    trained = []

    def stops(one, *others):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(one.name)
        return train(one, *others)

    monkeypatch.setattr(biobank, "train_one", stops)
    with pytest.raises(KeyboardInterrupt):
        run(config, place)
    before = rows_of(place)
    assert [row["name"] for row in before] == trained == ["score_connectivity", "score_metadata_constitutional"]
    later = []
    monkeypatch.setattr(biobank, "train_one", lambda one, *others: (later.append(one.name), train(one, *others))[1])
    run(config, place, resume=True)
    assert later == ["score_connectivity-metadata_constitutional"]
    rows = rows_of(place)
    assert rows[:2] == before
    assert all(float(row["seconds"]) > 0 and int(row["subjects"]) > 5 and row["score_name"] == "r2" for row in rows)
    assert rows[2]["inputs"] == "connectivity"
    assert rows[2]["metadata_blocks"] == "constitutional"
    table = ModelTable.from_json(read_json(place / "metrics.json"), "metrics.json")
    assert [row.name for row in table.rows] == [row["name"] for row in rows]
    one = read_json(place / "models" / "score_connectivity" / "metrics.json")["targets"]["score"]
    assert table.rows[0].score == one["test"]["r2"]
    assert table.rows[0].linear == one["baselines"]["linear_connectivity"]["r2"]
    assert "network minus linear" in (place / "report.html").read_text()
    # The score is of the domain of moods, and no network may get them.
    stored = read_json(place / "models" / "score_metadata_constitutional" / "config.json")["config"]
    assert stored["inputs"][0]["data"]["blocks"] == ["constitutional"]
    assert "score=psychology" in stored["inputs"][0]["data"]["domains"]
    # Another learning rate is another network.
    monkeypatch.setattr(biobank, "train_one", stops)
    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        run(replace(config, options=replace(SMALL, lr=2e-2)), place, resume=True)
    assert len(trained) == 2


def test_a_network_that_is_told_is_right_and_a_target_that_cannot_be_trained_is_named(drawn, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(drawn / "phenotype", folder / "phenotype")
    lines = (drawn / "participants.tsv").read_text().splitlines()
    rare = ["rare", *(["yes"] + ["no"] * (len(lines) - 2))]
    (folder / "participants.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in zip(lines, rare)) + "\n")
    options = replace(SMALL, inputs=("metadata",), metadata_blocks=("constitutional",), diagnostic=True, epochs=15,
                      patience=15)  # fmt: skip
    given = of(folder, "sex", "rare")
    done = run(tiny(cohort=given, targets=(), options=options, combinations="published"), tmp_path / "run").path
    (row,) = rows_of(done)
    assert (row["name"], row["diagnostic"]) == ("sex_metadata_constitutional", "yes")
    assert float(row["balanced_accuracy"]) > 0.9  # it was told
    left_out = read_json(done / "metrics.json")["not_trained"]
    assert list(left_out) == ["rare_metadata_constitutional"]
    assert "rare" in left_out["rare_metadata_constitutional"]
    assert "rare_metadata_constitutional" in (done / "report.html").read_text()


@pytest.mark.slow
def test_networks_side_by_side_on_a_cohort_that_is_drawn(tmp_path):
    cnn = BiobankCNN.Config(channels=(4, 4), out_channels=4)
    options = replace(SMALL, inputs=("t1", "connectivity"), side=16, images=cnn)
    done = run(tiny(options=options, workers=2), tmp_path / "run").path
    assert [row["name"] for row in rows_of(done)] == ["score_t1", "score_connectivity", "score_t1-connectivity"]


@pytest.mark.slow
def test_networks_as_jobs_of_their_own(tmp_path):
    pytest.importorskip("submitit")
    options = replace(SMALL, inputs=("connectivity", "metadata"), metadata_blocks=("psychology",))
    jobs = SlurmJobs.Config(cluster="local", minutes=5)
    done = run(tiny(options=options, jobs=jobs), tmp_path / "run").path
    alone = run(tiny(options=options), tmp_path / "alone").path
    assert [row["name"] for row in rows_of(done)] == [row["name"] for row in rows_of(alone)]
    assert (done / "jobs").is_dir()


def test_a_job_that_fails_is_told_and_the_others_count(tmp_path):
    pytest.importorskip("submitit")
    jobs = SlurmJobs.Config(cluster="local", minutes=5).build()
    found = dict(jobs.map(math.sqrt, [(4.0,), (-1.0,)], tmp_path / "jobs", every_s=0.1))
    assert found[0] == 2.0
    assert "failed" in found[1]
    with pytest.raises(SettingError, match="jobs cannot be submitted"):
        list(SlurmJobs.Config().build().map(math.sqrt, [(4.0,)], tmp_path / "none"))


def test_one_network_takes_all_that_is_asked_for():
    config = tiny(combinations="one", options=replace(SMALL, target="sex"))
    (only,) = config.build().combinations
    assert only == Combination(target="sex", inputs=("connectivity",), domains=("constitutional", "psychology"))
    config = tiny(targets=(), combinations="one", options=replace(SMALL, target="score"))
    assert config.build().combinations[0].domains == ("constitutional",)


def test_a_study_of_nothing_is_told_before_the_first_stage(tmp_path):
    options = replace(SMALL, inputs=("metadata",), metadata_blocks=("genetics",))
    with pytest.raises(InputError, match="name nothing that the cohort has"):
        run(tiny(options=options), tmp_path / "run")
    assert not (tmp_path / "run").exists()
