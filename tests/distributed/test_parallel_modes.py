"""Every parallel mode on 2 and 4 ranks gives the loss, gradient, steps, outputs and training of one process."""

import numpy as np
import pytest
import torch
from torch import multiprocessing

from features.fusion.model_files import load_network
from features.parallel.settings import Parallel
from features.traits.training import train_member
from meshgnn.store import read_json
from tests.distributed import parallel_cases as cases
from tests.distributed.phase_cases import compare_phases, run_phases
from tests.distributed.test_contrastive import free_port

# What runs on how many ranks. All of it in the same processes, since starting them takes most of the time.
ON = {
    4: ["data", "model", "gpipe", "1f1b", "sharded", "data_model"],
    2: ["data_joint", "sharded_recomputed", "pipeline_recomputed", "data_accumulated", "data_dropped", "data_head"],
}
ALL = [(name, world) for world, names in ON.items() for name in names]
REST = [(name, world) for world in (2, 4) for name in cases.CASES if (name, world) not in ALL]
TRAINED = [("data", 2), ("model", 2)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def told(out):
    plan = [(world, free_port(), names, [name for name, on in TRAINED if on == world]) for world, names in ON.items()]
    multiprocessing.spawn(cases.run_all, (plan, str(out), run_phases), nprocs=4)
    return out


@pytest.mark.parametrize(("name", "world"), ALL)
def test_ranks_compute_what_one_process_computes(told, name, world):
    compare(told, name, world)


def compare(out, name, world):
    many = [dict(np.load(out / f"{name}-{world}-{rank}.npz")) for rank in range(world)]
    one, (settings, _) = cases.one_process(name), cases.CASES[name]
    assert max(np.abs(value).max() for key, value in one.items() if key.startswith("gradient1")) > 1e-3
    for rank in many:
        for key, value in rank.items():
            if key in one:
                np.testing.assert_allclose(value, one[key], rtol=1e-5, atol=1e-5, err_msg=key)
            else:
                raise AssertionError(f"one process has no {key}")
    seen = set().union(*many)
    assert seen == set(one), "some gradient or weight is on no rank"
    for key in seen:
        holders = [rank[key] for rank in many if key in rank]
        assert all(np.array_equal(holders[0], other) for other in holders), f"ranks differ in {key}"
    if settings.mode in ("model", "pipeline"):
        weights = [{key for key in rank if key.startswith("weight0")} for rank in many]
        assert sum(map(len, weights)) == len(set().union(*weights)), "a weight lies on two ranks"
        assert all(weights), "a rank holds nothing"


@pytest.fixture(scope="module")
def alone(out):
    member, trainer = cases.member_and_trainer()
    return train_member(member, trainer, out / "one")


@pytest.mark.parametrize(("name", "world"), TRAINED)
def test_a_training_on_ranks_is_that_of_one_process(told, alone, name, world):
    check_training(told, alone, name, world)


def check_training(told, alone, name, world):
    network, history = alone
    found = load_network(told / f"{name}-{world}" / "whole")
    kept = read_json(told / f"{name}-{world}" / "whole" / "network.json")["training"]["history"]
    assert len(history) > 2
    assert [row["epoch"] for row in kept] == [row["epoch"] for row in history], "it stopped elsewhere"
    for row, other in zip(kept, history):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["validation_skill"] == pytest.approx(other["validation_skill"], abs=1e-5)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize(("name", "world"), TRAINED)
def test_a_training_that_was_cut_off_goes_on_as_if_it_had_not_been(told, name, world):
    check_resumed(told / f"{name}-{world}")


def check_resumed(folder):
    whole, cut = (load_network(folder / kind) for kind in ("whole", "cut"))
    about = [read_json(folder / kind / "network.json")["training"]["history"] for kind in ("whole", "cut")]
    assert about[0] == about[1]
    for key, value in whole.state_dict().items():
        assert torch.equal(cut.state_dict()[key], value), key
    assert not list((folder / "cut").glob("last-*")), "the checkpoint of a finished member is gone"
    assert {path.name for path in (folder / "cut").iterdir()} == {"network.safetensors", "network.json"}


def test_a_phase_on_two_ranks_is_that_of_one_process(told, tmp_path):
    compare_phases(told / "phases", tmp_path)


@pytest.mark.slow
def test_every_mode_on_2_and_on_4_ranks(tmp_path):
    plan = [
        (
            world,
            free_port(),
            [name for name, on in REST if on == world],
            ["data", "sharded", "data_model"] if world == 4 else ["sharded"],
        )
        for world in (4, 2)
    ]
    multiprocessing.spawn(cases.run_all, (plan, str(tmp_path)), nprocs=4)
    for name, world in REST:
        compare(tmp_path, name, world)
    for world, _, _, trainings in plan:
        for name in trainings:
            check_resumed(tmp_path / f"{name}-{world}")


def test_the_mode_is_part_of_what_decides_the_weights():
    member, trainer = cases.member_and_trainer()
    keys = {member.key(cases.replace(trainer, parallel=Parallel(mode=mode))) for mode in ("one", "data", "pipeline")}
    assert len(keys) == 3
