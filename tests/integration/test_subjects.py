"""Subject tasks through the command line: virtual subjects and folders, kept figures, hostile input, resume."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.subjects import subjects
from meshgnn.errors import InputError
from meshgnn.experiment.cli import main
from meshgnn.experiment.runner import run
from meshgnn.override import override
from meshgnn.store import read_json
from tests.cohort import cohort, write_cohort

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["trainer.epochs=10", "trainer.folds=2", "trainer.workers=1", "seeds=0,1", "model.hidden=4"]
SMALL = [*SHORT, "cohort.subjects=18", "cohort.sites=6"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("subjects") / "run"
    return run(override(subjects(), SMALL), out)


def test_the_record_holds_what_it_should(finished):
    metrics = read_json(finished / "metrics.json")
    assert metrics["protocol"] == "strict"
    assert metrics["leakage"] == {"shared_subjects": 0, "shared_families": 0, "shared_sites": 0}
    assert metrics["subjects"]["test"] == 18
    assert set(metrics["timing_s"]) == {"read", "baselines", "train", "evaluate", "export"}
    age, sex = metrics["targets"]["age"], metrics["targets"]["sex"]
    assert age["kind"] == "regression"
    assert sex["kind"] == "classification"
    names = {"constant", "graph_means", "parcel_means", "same_inputs_mlp", "shuffled_edges"}
    for target, scores in ((age, {"mae", "mse", "r2", "r"}), (sex, {"balanced_accuracy", "auroc", "accuracy"})):
        assert set(target["baselines"]) == names == set(target["ours_minus"])
        assert target["chance_interval"][0] < target["chance_interval"][1]
        for row in (target["test"], *target["baselines"].values()):
            assert scores <= set(row)
            assert set(row["intervals"]) == scores
    assert sex["baselines"]["constant"]["auroc"] == 0.5


def test_no_member_ever_saw_a_test_subject(finished):
    from meshgnn.train.graph_targets import GraphTargets

    table = [line.split("\t") for line in (finished / "tables" / "subjects.tsv").read_text().splitlines()[1:]]
    for number in range(3):
        task = GraphTargets.load(finished / "tables" / f"task-{number}.safetensors")
        assert len(task.brains) == sum(row[3] != str(number + 1) for row in table)


def test_the_report_and_the_predictions_are_there(finished):
    page = (finished / "report.html").read_text()
    assert "linear model on means of every area" in page
    assert "Leaks: shared subjects 0" in " ".join(page.split())
    assert "<script" not in page
    lines = (finished / "predictions" / "subjects.tsv").read_text().splitlines()
    assert lines[0].split("\t")[4:] == ["age", "age_predicted", "sex", "sex_predicted", "sex_probability_F",
                                       "sex_probability_M"]  # fmt: skip
    assert len(lines) == 19


@pytest.mark.slow
def test_a_resumed_run_keeps_what_is_there_and_gives_the_same(finished, tmp_path):
    again = shutil.copytree(finished.path, tmp_path / "again")
    (again / "tables" / "predictions.safetensors").unlink()
    (again / "metrics.json").unlink()
    run(override(subjects(), SMALL), again, resume=True)
    assert read_json(again / "metrics.json")["targets"] == read_json(finished / "metrics.json")["targets"]
    log = (again / "log.txt").read_text()
    assert "[3/5] train: unchanged, kept" in log
    # With a member lost and the training's record gone, that member alone is trained again, to the same weights.
    lost = again / "checkpoints" / "division1" / "seed1-fold0" / "member.safetensors"
    weights = (again / "model.safetensors").read_bytes()
    lost.unlink()
    (again / "stages" / "train.json").unlink()
    run(override(subjects(), SMALL), again, resume=True)
    assert (again / "model.safetensors").read_bytes() == weights


def test_a_folder_of_subjects_runs_from_the_command_line(tmp_path):
    folder = write_cohort(tmp_path / "cohort", cohort(12, 4))
    settings = [
        *SHORT, f"cohort.folder={folder}", "cohort.targets=age,group", "cohort.covariates=icv", "controls=false",
        "seeds=0", "split.keep=family", "head.pooling=attention",
    ]  # fmt: skip
    sets = [part for one in settings for part in ("--set", one)]
    assert main(["subjects:folders", *sets, "--out", str(tmp_path / "run")]) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["protocol"] == "sites shared"
    assert metrics["leakage"]["shared_sites"] > 0
    assert "site" in metrics["targets"]["age"]["baselines"]
    assert set(metrics["targets"]["group"]["classes"]) == {"x", "y"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["cohort.subjects=5", "cohort.sites=1"], "1 group that share no family and no site"),
        (["cohort.subjects=6", "cohort.sites=6", "split.parts=3", "cohort.missing=0.9"], "target"),
        (["inputs.only=nose"], "inputs.only: there is no feature 'nose'"),
        (["split.parts=1"], "split.parts"),
        (["head.pooling=each", "head.units=nodes"], "head.pooling"),
        (["seeds=1,1"], "seeds"),
        (["trainer.folds=40"], "lower trainer.folds"),
    ],
)
def test_hostile_settings_end_in_one_line_and_leave_nothing(tmp_path, settings, told):
    out = tmp_path / "run"
    with pytest.raises(InputError, match=told) as caught:
        run(override(subjects(), [*SMALL, *settings]), out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.slow
def test_a_folder_without_a_parcellation_says_what_to_do(tmp_path):
    folder = write_cohort(tmp_path / "cohort", cohort(8, 4))
    for path in folder.glob("sub-*/*dseg.label.gii"):
        path.unlink()
    given = [*SHORT, f"cohort.folder={folder}", "cohort.targets=age"]
    told = [part for one in given for part in ("--set", one)]
    command = [sys.executable, "-m", "meshgnn.experiment", "subjects:folders", *told, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "head.units=nodes" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_brains_with_different_features_are_refused(tmp_path):
    folder = write_cohort(tmp_path / "cohort", cohort(8, 4))
    for path in folder.glob("sub-02/*desc-b.shape.gii"):
        path.unlink()
    with pytest.raises(InputError, match="sub-02 has no feature 'b'"):
        main(["subjects:folders", "--set", f"cohort.folder={folder}", "--set", "cohort.targets=age",
              "--out", str(tmp_path / "run")])  # fmt: skip
    assert not (tmp_path / "run").exists()
