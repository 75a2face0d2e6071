"""Stages and their keys, run folders, provenance: with stages that only write a word."""

import json
import threading
from dataclasses import dataclass
from functools import partial

import pytest

from meshgnn.config import Config
from meshgnn.errors import InputError
from meshgnn.experiment import run_folder, runner
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import Experiment, Stage, run, run_experiment, stage_keys
from meshgnn.source.cohort import StackFolders
from meshgnn.store import write_json


class Words(Experiment):
    """One chain of stages per brain, joined by a last one; counts what is run."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        brains: tuple[str, ...] = ("one", "two")
        word: str = "x"
        version: int = 1

        def build(self):
            return Words(self)

    def __init__(self, config):
        self.config, self.done = config, []

    def input_files(self):
        return {name: name for name in self.config.brains}

    def seeds(self):
        return [0]

    def stages(self):
        c = self.config
        first = [
            Stage(name=f"a-{name}", run=partial(self._write, f"a-{name}"), depends=name, after=()) for name in c.brains
        ]
        second = [
            Stage(name=f"b-{name}", run=partial(self._write, f"b-{name}"), depends=c.word, after=(f"a-{name}",),
                  version=c.version)
            for name in c.brains
        ]  # fmt: skip
        return [
            *first,
            *second,
            Stage(name="all", run=partial(self._write, "all"), after=tuple(stage.name for stage in second)),
        ]

    def _write(self, name, run):
        self.done.append(name)
        write_json(run / f"{name}.json", name)
        return [f"{name}.json"]

    def summary(self, run):
        return "done"


class Others(Words):
    @dataclass(frozen=True, kw_only=True)
    class Config(Words.Config):
        def build(self):
            return Others(self)


def go(out, *, resume=True, experiment="words", **settings):
    config = Words.Config(**settings)
    built = config.build()
    stored = {"experiment": experiment, "overrides": [], "config": {"_": "Words"}}
    run_experiment(built, stored, RunFolder(out), resume=resume, only="")
    return built.done


def test_one_more_brain_redoes_nothing_of_the_others(tmp_path):
    assert go(tmp_path, resume=False) == ["a-one", "a-two", "b-one", "b-two", "all"]
    assert go(tmp_path) == []
    assert go(tmp_path, brains=("one", "new", "two")) == ["a-new", "b-new", "all"]
    assert go(tmp_path, brains=("one", "new", "two"), word="y") == ["b-one", "b-new", "b-two", "all"]


def test_versions_of_stage_and_package_are_in_the_key(tmp_path, monkeypatch):
    go(tmp_path, resume=False)
    assert go(tmp_path, version=2) == ["b-one", "b-two", "all"]
    monkeypatch.setattr(runner, "__version__", "99")
    assert len(go(tmp_path, version=2)) == 5


def test_what_a_stage_reads_itself_is_in_its_key_and_in_those_after_it():
    def keys(digest):
        first = Stage(name="a", run=lambda _: [], after=(), files={"image.tif": digest})
        other = Stage(name="b", run=lambda _: [], after=())
        return stage_keys([first, other, Stage(name="c", run=lambda _: [], after=("a",))])

    one, two = keys("1"), keys("2")
    assert {name for name in one if one[name] != two[name]} == {"a", "c"}


def test_an_experiment_says_only_what_is_its_own(tmp_path):
    class Wrong(Words):
        def check(self):
            raise InputError("wrong from the start")

    bare = Experiment()
    assert (bare.answer(), bare.input_files(), bare.seeds(), bare.stages()) == (None, {}, [], [])
    bare.check()
    with pytest.raises(InputError, match="wrong from the start"):
        run_experiment(Wrong(Words.Config()), {}, RunFolder(tmp_path / "out"), resume=False, only="")
    assert not (tmp_path / "out").exists()


def test_a_stage_cannot_come_after_one_that_is_not_there():
    with pytest.raises(ValueError, match="before"):
        stage_keys([Stage(name="a", run=lambda _: [], after=("b",))])


def test_the_order_of_what_a_stage_reads_counts():
    def keys(*order):
        stages = [Stage(name=name, run=lambda _: [], after=()) for name in "ab"]
        return stage_keys([*stages, Stage(name="c", run=lambda _: [], after=order)])

    assert keys("a", "b")["c"] != keys("b", "a")["c"]
    assert keys("a", "b")["a"] == keys("b", "a")["a"]


def test_provenance_is_that_of_each_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "_commit", lambda: "first")
    monkeypatch.setattr("sys.argv", ["x", "first command"])
    go(tmp_path, resume=False)
    before = (tmp_path / "provenance.json").read_bytes()
    monkeypatch.setattr(run_folder, "_commit", lambda: "second")
    monkeypatch.setattr("sys.argv", ["x", "second command"])
    go(tmp_path)
    assert (tmp_path / "provenance.json").read_bytes() == before  # nothing was done
    go(tmp_path, word="y")
    told = json.loads((tmp_path / "provenance.json").read_text())
    assert told["commit"] == "second"
    assert {name: stage["commit"] for name, stage in told["stages"].items()} == {
        "a-one": "first", "a-two": "first", "b-one": "second", "b-two": "second", "all": "second",
    }  # fmt: skip
    assert told["stages"]["a-one"]["command"] == ["first command"]
    assert {"versions", "started", "threads", "ranks"} <= set(told["stages"]["all"])


def test_a_run_of_another_experiment_is_not_overwritten(tmp_path):
    go(tmp_path / "out", resume=False)
    before = sorted((path, path.read_bytes()) for path in (tmp_path / "out").rglob("*") if path.is_file())
    with pytest.raises(InputError, match="holds a run of words"):
        go(tmp_path / "out", experiment="other")
    with pytest.raises(InputError, match="holds a run of words, which Others would"):
        run(Others.Config(), tmp_path / "out", resume=True)
    assert before == sorted((path, path.read_bytes()) for path in (tmp_path / "out").rglob("*") if path.is_file())
    run(Words.Config(word="z"), tmp_path / "out", resume=True)  # the same from Python, with other settings


@pytest.mark.parametrize("record", ["[]", "{", '{"key": 1, "outputs": 3}', "null"])
def test_an_edited_stage_record_is_one_that_is_not_done(tmp_path, record):
    go(tmp_path, resume=False)
    (tmp_path / "stages" / "b-two.json").write_text(record)
    assert go(tmp_path) == ["b-two"]


def stack(folder):
    import numpy as np

    from meshgnn.source.sections import write_tiff

    folder.mkdir(parents=True)
    for k in range(2):
        write_tiff(folder / f"s{k}.tif", np.full((8, 8), 100 + k, np.uint8), 500)
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable", "s0.tif,0,0,500,20,1", "s1.tif,1,1,500,20,1"]
    (folder / "sections.csv").write_text("\n".join(lines))
    return folder


def test_stacks_whose_names_clean_alike_are_refused(tmp_path):
    for other in ("Case1.1", "case1-1", "sub/case1_1"):
        with pytest.raises(InputError, match="rename one"):
            StackFolders(StackFolders.Config(train=(tmp_path / "case1_1",), unseen=(tmp_path / other,)))
    both = StackFolders(StackFolders.Config(train=(tmp_path / "case1_1",), unseen=(tmp_path / "case11",)))
    assert list(both.folders) == ["case1-1", "case11"]  # exports give their files names of their own


def test_a_stack_is_hashed_whole_but_for_hidden_files(tmp_path):
    folder = stack(tmp_path / "truth" / "brain")
    outside = tmp_path / "elsewhere.tif"
    (folder / "s1.tif").rename(outside)
    table = (folder / "sections.csv").read_text()
    (folder / "sections.csv").write_text(table.replace("s1.tif", "../../elsewhere.tif"))

    def hashes():
        return StackFolders(StackFolders.Config(train=(folder,))).members()[0].depends

    before = hashes()
    assert set(before) == {"s0.tif", "sections.csv", "../../elsewhere.tif"}
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x").write_bytes(b"x")
    assert hashes() == before
    outside.write_bytes((folder / "s0.tif").read_bytes())
    assert hashes() != before


STORED = {"experiment": "pairs", "overrides": [], "config": {"_": "Pairs"}}


class Pairs(Experiment):
    """Two brains side by side: `first` of each, which wait for each other, then `second` of each, then `all`."""

    def __init__(self, wrong=""):
        self.wrong, self.meet, self.log = wrong, threading.Barrier(2, timeout=30), []

    def _first(self, name, run):
        self.meet.wait()
        if name == self.wrong:
            raise InputError(f"{name} is wrong")
        return self._write(f"first-{name}", run)

    def _write(self, name, run):
        self.log.append(name)
        write_json(run / f"{name}.json", name)
        return [f"{name}.json"]

    def stages(self):
        first = [
            Stage(name=f"first-{name}", run=partial(self._first, name), after=(), beside=True)
            for name in ("one", "two")
        ]
        second = [
            Stage(name=f"second-{name}", run=partial(self._write, f"second-{name}"), after=(f"first-{name}",),
                  beside=True)
            for name in ("one", "two")
        ]  # fmt: skip
        last = Stage(name="all", run=partial(self._write, "all"), after=("second-one", "second-two"))
        return [*first, *second, last]


def test_stages_that_allow_it_run_side_by_side_each_after_its_own(tmp_path):
    experiment, run = Pairs(), RunFolder(tmp_path)
    run_experiment(experiment, STORED, run, resume=False, only="")
    for name in ("one", "two"):
        assert experiment.log.index(f"first-{name}") < experiment.log.index(f"second-{name}")
    assert experiment.log[-1] == "all"
    told = json.loads((tmp_path / "provenance.json").read_text())
    assert sorted(told["stages"]) == ["all", "first-one", "first-two", "second-one", "second-two"]
    again = Pairs()
    run_experiment(again, STORED, run, resume=True, only="")
    assert again.log == []


def test_what_runs_beside_a_stage_that_fails_is_finished_and_kept(tmp_path):
    experiment, run = Pairs(wrong="one"), RunFolder(tmp_path)
    with pytest.raises(InputError, match="one is wrong"):
        run_experiment(experiment, STORED, run, resume=False, only="")
    keys = stage_keys(experiment.stages())
    assert run.stage_done("first-two", keys["first-two"])
    assert not {"all", "second-one"} & set(experiment.log)
