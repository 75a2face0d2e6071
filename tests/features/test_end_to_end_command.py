"""Features of joint training as a maker and as a command; a training that is killed outright."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features import extract as extraction
from features.end_to_end import command
from features.end_to_end.maker import EndToEndFeatures, load_members
from features.shared_space import load_fitted
from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.progress import silent
from meshgnn.sockets import FeatureMaker
from meshgnn.source.cohort import Member
from meshgnn.store import file_hash, load_table, save_graph
from meshgnn.testing import assert_feature_maker
from tests.features.test_contrastive_features import TINY as FEATURES
from tests.features.test_contrastive_features import brain
from tests.features.test_end_to_end import PATCHES, encoder, fit
from tests.features.test_end_to_end import TINY as JOINT

MAKER = EndToEndFeatures.Config(
    pretrain=FEATURES.pretrain, extract=FEATURES.extract, effort=1.0, joint=replace(JOINT, epochs=1)
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory):
    """A brain, the folder of its encoders and networks, and the files that the maker named."""
    folder = tmp_path_factory.mktemp("endtoend")
    mine = brain(folder / "a")
    return mine, folder / "e", MAKER.build().fit([mine], folder / "e", silent)


def test_two_brains_one_of_them_without_a_label(fitted, tmp_path: Path):
    mine, _, _ = fitted
    bare = mine.graph._replace(brain="bare", labels=np.full(mine.graph.n_nodes, -1))
    second = replace(mine, graph=bare, annotated=(), fold=np.zeros(0))
    assert_feature_maker(MAKER.build(), [mine, second], tmp_path / "f")
    assert MAKER.build().map(second, tmp_path / "f").shape == (mine.graph.n_nodes, 3)


def test_it_is_a_maker_whose_folder_serves_wherever_encoders_do(fitted, tmp_path: Path):
    mine, folder, files = fitted
    maker = MAKER.build()
    assert isinstance(maker, FeatureMaker)
    assert {"space.json", "fold-0/network.safetensors", "fold-1/encoder.safetensors"} < set(files)
    assert all((folder / name).is_file() for name in files)
    table = maker.make(mine, folder, silent)
    np.testing.assert_array_equal(table.mask, mine.graph.locations.observed)
    encoders = load_fitted(folder)
    for fold in (0, 1):  # a node of a fold is encoded by the encoder that never saw it
        alone = extraction.extract(encoders.left_out[fold], PATCHES.build(mine), FEATURES.extract).values
        here = table.mask & (mine.fold == fold)
        np.testing.assert_allclose(table.values[here], alone[here], atol=1e-5)
    before = load_fitted(folder / "pretrained").left_out[0].state_dict()
    assert any(bool((before[name] != value).any()) for name, value in encoders.left_out[0].state_dict().items())


def test_a_new_brain_is_encoded_afresh_and_its_labels_decide_nothing(fitted):
    mine, folder, _ = fitted
    maker = MAKER.build()
    bare = mine.graph.relabelled(np.full(mine.graph.n_nodes, -1), mine.graph.areas)
    new = replace(mine, graph=bare, fold=np.zeros(0), annotated=())
    again = replace(mine, fold=np.zeros(0))
    np.testing.assert_array_equal(maker.map(new, folder), maker.map(again, folder))
    members = load_members(folder)
    assert sorted(members) == [0, 1]
    own = maker.map(mine, folder)
    assert np.abs(own - maker.map(new, folder)).max() > 0  # a node of a fold hears its own network alone


def test_one_fold_leaves_nothing_to_validate_on(fitted, tmp_path: Path):
    mine, _, _ = fitted
    whole = replace(mine, fold=np.zeros(mine.graph.n_nodes))
    with pytest.raises(InputError, match="a single encoder, which has seen every label"):
        MAKER.build().fit([whole], tmp_path, silent)


def test_encoders_of_other_folds_are_refused(fitted, tmp_path: Path):
    mine, folder, _ = fitted
    other = replace(mine, fold=mine.fold + 2)
    with pytest.raises(InputError, match=r"encoders of folds \[0, 1\]"):
        MAKER.build().train([other], folder / "pretrained", tmp_path, silent)


def test_a_training_that_is_killed_outright_goes_on_exactly(tmp_path: Path):
    mine = brain(tmp_path / "a")
    longer = replace(JOINT, epochs=4, checkpoint_steps=1)
    fit(mine, tmp_path / "whole", longer)
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from tests.features.test_end_to_end import TINY, brain, fit\n"
        "place = Path(sys.argv[1])\n"
        "fit(brain(place / 'a'), place / 'cut', replace(TINY, epochs=4, checkpoint_steps=1))\n"
    )
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=there, cwd=ROOT)
    until = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("checkpoints/last-*.safetensors")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "cut").glob("checkpoints/last-*.safetensors"))
    assert not (tmp_path / "cut" / "encoder.json").exists()
    fit(mine, tmp_path / "cut", longer)
    for name in ("encoder.safetensors", "network.safetensors", "metrics.csv"):
        assert file_hash(tmp_path / "cut" / name) == file_hash(tmp_path / "whole" / name)


# -- the command ------------------------------------------------------------------------------------------------------


class Prepared:
    """What the command asks of a run: two brains, one of them never trained on."""

    def __init__(self, mine, run: Path) -> None:
        self.members = tuple(Member(name=name, unseen=name == "new", depends={}) for name in ("a", "new"))
        self.brains, self.mine, self.run = self, mine, run
        for one in self.members:
            (run / "stages").mkdir(parents=True, exist_ok=True)
            (run / f"stages/mesh-{one.name}.json").write_text("{}")
            self.folder(RunFolder(run), one).mkdir(parents=True)

    def folder(self, run: RunFolder, member: Member) -> Path:
        return run / "brains" / member.name

    def brain(self, run: RunFolder, member: Member):
        if not member.unseen:
            return self.mine
        graph = self.mine.graph._replace(brain="new")
        save_graph(graph, self.folder(run, member) / "graph")
        return replace(self.mine, graph=graph, fold=np.zeros(0), annotated=())


SETTINGS = [
    "network.hidden=8", "network.layers=1", "rounds=1", "epochs=1", "before=1", "after=0", "epoch_steps=2", "threads=1",
    "buffer_mm=0", "encode=32", "sampler.classes=3", "sampler.patches=3",
]  # fmt: skip


def test_the_command_leaves_tables_maps_and_scores(fitted, tmp_path: Path, monkeypatch, capsys):
    mine, folder, _ = fitted
    prepared = Prepared(mine, tmp_path / "run")
    monkeypatch.setattr(command, "read_run", lambda _: prepared)
    words = [f"run={tmp_path / 'run'}", f"encoder={folder / 'pretrained'}", *SETTINGS]
    options = [word for one in words for word in ("--set", one)]
    assert command.main([*options, "--out", str(tmp_path / "out")]) == 0
    assert "new: macro-F1" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert found["unseen"]["new"]["judged_by"] == "a mapper's annotations"
    assert [row["step"] for row in found["folds"]["0"]] == [2, 4]
    assert {"age", "staleness", "batch_staleness"} <= set(found["folds"]["0"][1])
    for name in ("a", "new"):
        assert load_table(tmp_path / "out/tables" / name).mask.any()
    assert list((tmp_path / "out/predictions").glob("sub-new_hemi-L_atlas-predicted_dseg.label.gii"))
    assert not list((tmp_path / "out/predictions").glob("sub-a_*"))
    assert command.main([*options, "--out", str(tmp_path / "out")]) == 0  # done: read back


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no run named"),
        (["run=nowhere"], "is not a run folder"),
        (["run=nowhere", "epochs=-1"], "must not be negative"),
        (["run=nowhere", "objective=Nothing"], "objective"),
    ],
)
def test_wrong_words_are_told_in_one_line(tmp_path: Path, capsys, words, message):
    options = [word for one in words for word in ("--set", one)]
    assert command.main([*options, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_runs_that_are_not_ready_are_named(fitted, tmp_path: Path, monkeypatch, capsys):
    mine, folder, _ = fitted
    prepared = Prepared(mine, tmp_path / "run")
    monkeypatch.setattr(command, "read_run", lambda _: prepared)
    options = ["--set", f"run={tmp_path / 'run'}", "--out", str(tmp_path / "out")]
    assert command.main(options) == 2
    assert "holds no encoders" in capsys.readouterr().err
    (tmp_path / "run/stages/mesh-new.json").unlink()
    assert command.main([*options, "--set", f"encoder={folder / 'pretrained'}"]) == 2
    assert "new has no mesh yet" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"experiment": "surface", "overrides": ["source.folder=DIR"]}))
    monkeypatch.undo()
    assert command.main(["--set", f"run={other}", "--out", str(tmp_path / "out")]) == 2
    assert "from sections" in capsys.readouterr().err


def test_an_encoder_of_other_patches_is_refused(fitted, tmp_path: Path):
    mine, _, _ = fitted
    with pytest.raises(InputError, match="pretrained on such patches"):
        fit(mine, tmp_path, start=encoder(size=32))
