"""A whole experiment under torchrun: rank 0 runs it, the others help where it is shared out."""

import subprocess
import sys

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import Experiment, Stage, run_experiment
from meshgnn.store import read_arrays

SMALL = (
    "traits", "--set", "cohort.people.subjects=24", "--set", "cohort.size=16", "--set", "conversion.cube.size=16",
    "--set", "targets=sex", "--set", "trainer.epochs=2", "--set", "trainer.sampler.size=8", "--set", "alone=false",
    "--set", "input_dropout=0",
)  # fmt: skip


def started(*arguments, ranks=0):
    alone = [sys.executable, "-m", "meshgnn.experiment"]
    together = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "-m", alone[-1]]
    command = [*(together if ranks else alone), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_an_experiment_on_two_ranks_predicts_for_the_subjects_of_one_process_and_goes_on(tmp_path):
    one = started(*SMALL, "--out", str(tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    two = started(*SMALL, "--set", "trainer.parallel.mode=data", "--out", str(tmp_path / "two"), ranks=2)
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("[2/7] convert:") == 1, "rank 0 alone runs the stages"
    kept = [read_arrays(tmp_path / name / "tables" / "predictions.safetensors") for name in ("one", "two")]
    assert kept[0].keys() == kept[1].keys()
    for name, values in kept[0].items():
        assert np.array_equal(np.isfinite(values), np.isfinite(kept[1][name]))
        assert np.nan_to_num(kept[1][name]).any()
    again = started("--resume", "--out", str(tmp_path / "two"), ranks=2)
    assert again.returncode == 0, again.stderr
    assert "train: unchanged, kept" in again.stdout


@pytest.mark.slow
def test_all_three_phases_of_runs_on_two_ranks(tmp_path):
    small = (
        "fmri_sex:quick", "--set", "cohort.people.subjects=24", "--set", "cohort.frames=30", "--set", "targets=sex",
        "--set", "inputs=bold,bold_swin", "--set", "inputs.bold.data.frames=8",
        "--set", "inputs.bold_swin.data.frames=8",
        "--set", "phases.autoencoder.steps=2", "--set", "phases.transformer.steps=2", "--set", "trainer.epochs=1",
        "--set", "trainer.parallel.mode=data",
    )  # fmt: skip
    done = started(*small, "--out", str(tmp_path / "run"), ranks=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("weights carried") == 1
    assert (tmp_path / "run" / "metrics.json").is_file()
    again = started("--resume", "--out", str(tmp_path / "run"), ranks=2)
    assert "phase-transformer: unchanged, kept" in again.stdout


STORED = {"experiment": None, "overrides": [], "config": {}}


class Told:
    """A team of two in one process: what rank 0 says is what the other hears."""

    def __init__(self, rank, said=()):
        self.rank, self.said, self.left = rank, list(said), False

    def agreed(self, *values):
        if self.rank:
            return (self.said.pop(0),)
        self.said.append(float(values[0]))
        return values

    def leave(self):
        self.left = True


class Shared(Experiment):
    def __init__(self, team, log):
        self.own, self.log = team, log

    def team(self):
        return self.own

    def stages(self):
        def work(name):
            def do(run):
                self.log.append(name)
                (run / name).touch()
                return [name]

            return do

        return [
            Stage(name="draw", run=work("draw"), after=()),
            Stage(name="train", run=work("train"), after=("draw",), follow=lambda run: self.log.append("help")),
        ]


def test_rank_0_runs_all_stages_and_the_others_help_where_they_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    first, log = Told(0), []
    run_experiment(Shared(first, log), STORED, RunFolder(tmp_path), resume=False, only="")
    assert log == ["draw", "train"]
    assert first.said == [1, -1]
    assert first.left
    second, log = Told(1, first.said), []
    run_experiment(Shared(second, log), STORED, RunFolder(tmp_path), resume=False, only="")
    assert log == ["help"]
    assert second.left
    third, log = Told(0), []
    run_experiment(Shared(third, log), STORED, RunFolder(tmp_path), resume=True, only="")
    assert log == []
    assert third.said == [-1], "a finished stage is not shared out again"


def test_several_ranks_for_an_experiment_that_shares_nothing_out_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="start it alone"):
        run_experiment(Experiment(), {}, RunFolder(tmp_path / "run"), resume=False, only="")
    assert not (tmp_path / "run").exists()
