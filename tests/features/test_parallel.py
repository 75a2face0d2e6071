"""Cuts, pieces, settings and recomputation of the parallel modes, in one process; tests/distributed has the ranks."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from features.encoders.batch_norm import BatchNorm
from features.encoders.naive_cnn import NaiveCNN
from features.encoders.resnet3d import ResNet3D
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.parallel.chain import Chain, Piece
from features.parallel.cuts import PUBLISHED, bubble, even_cuts
from features.parallel.of_stages import link_seconds
from features.parallel.ranks import joined
from features.parallel.settings import Parallel
from features.traits.training import train_member
from meshgnn.errors import InputError, SettingError
from meshgnn.ranks import adopt_launcher, first_node
from meshgnn.train.loss import Loss
from meshgnn.train.target_costs import TargetCosts
from tests.distributed import parallel_cases as cases
from tests.distributed.test_contrastive import free_port


def batch():
    whole = cases.source()
    return [whole.read(np.arange(cases.SUBJECTS)[part]) for part in (slice(None), slice(0, 5))]


@pytest.mark.parametrize(
    ("costs", "pieces", "cuts"),
    [([1, 1, 1, 1], 2, (2,)), ([9, 1, 1, 1], 2, (1,)), ([1, 1, 1, 9], 2, (3,)), ([1, 2, 3, 4, 5], 3, (3, 4)),
     ([5], 1, ()), ([0, 0, 7], 3, (1, 2))],
)  # fmt: skip
def test_the_dearest_piece_is_as_cheap_as_can_be(costs, pieces, cuts):
    assert even_cuts(costs, pieces) == cuts


def test_no_other_cut_of_a_random_chain_is_better():
    rng = np.random.default_rng(0)
    for _ in range(20):
        costs = rng.uniform(0, 1, 7).tolist()

        def dearest(cuts, costs=costs):
            edges = (0, *cuts, 7)
            return max(sum(costs[a:b]) for a, b in pairwise(edges))

        others = [(a, b) for a in range(1, 6) for b in range(a + 1, 7)]
        assert dearest(even_cuts(costs, 3)) == pytest.approx(min(map(dearest, others)))


def test_the_bubble_of_four_pieces_is_the_published_one():
    assert [round(bubble(4, m), 3) for m in (1, 4, 8, 32)] == [0.75, 0.429, 0.273, 0.086]


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (3,), (1, 2), (1, 2, 3)])
@pytest.mark.parametrize("precision", ["float", "bf16"])
def test_pieces_one_after_another_are_the_network(cuts, precision):
    network = cases.network_and_costs()[0].eval()
    if precision == "bf16":
        network = network.float()
    like = next(network.parameters()).dtype
    chain = Chain(network)
    assert len(chain) == 4
    for items, present in batch():
        items = {name: one.to(like) for name, one in items.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            expected = network(items, present)
        dense = {name: torch.zeros(len(present) + 1, *cases.SHAPES[name], dtype=like) for name in cases.SHAPES}
        for number, name in enumerate(cases.SHAPES):
            if name in items:
                dense[name][present[:, number].nonzero().ravel()] = items[name]
        there = torch.cat([present, torch.zeros(1, 3, dtype=torch.bool)])  # and a row that is nobody
        table, edges = torch.zeros(len(there), 0, dtype=like), (0, *cuts, len(chain))
        for first, last in pairwise(edges):
            piece = Piece(chain, first, last)
            piece.precision = precision
            assert table.shape[1] == piece.width_in
            table = piece(table, there, {name: dense[name] for name in piece.reads})
            assert table.shape[1] == piece.width_out
        torch.testing.assert_close(table[:-1], expected.to(like))
        assert not table[-1].any()


def test_the_published_cut_of_resnet50_has_the_published_counts():
    config = MultiInputNet.Config(
        blocks=(InputBlock(name="t1", encoder=ResNet3D.Config(depth=50)),), head=TraitHead.Config(widths=())
    )
    with torch.device("meta"):
        chain = Chain(config.build({"t1": (1, 240, 240, 240)}, (0,)))
    edges = (0, *PUBLISHED, len(chain))
    counts = [sum(chain.parameters_of(k) for k in range(a, b)) for a, b in pairwise(edges)]
    assert counts == [22_080, 436_992, 2_399_232 + 14_176_256 + 29_120_512, 1_049_088 + 513]
    assert chain.shapes()[1][0] == (64, 120, 120, 120)
    assert chain.shapes()[-1][0] == (512,)


def test_naive_cnn_and_resnet_are_cut_everywhere_and_timed():
    for encoder in (NaiveCNN.Config(channels=(2, 3), kernels=(3, 3), linear=(6, 4)), ResNet3D.Config(depth=18)):
        config = MultiInputNet.Config(
            blocks=(InputBlock(name="t1", encoder=encoder),), head=TraitHead.Config(widths=())
        )
        network = config.build({"t1": (1, 16, 16, 16)}, (0,)).eval()
        chain, x = Chain(network), torch.randn(2, 1, 16, 16, 16)
        table, there = torch.zeros(2, 0), torch.ones(2, 1, dtype=torch.bool)
        for k in range(len(chain)):
            table = Piece(chain, k, k + 1)(table, there, {"t1": x} if k == 0 else {})
        torch.testing.assert_close(table, network({"t1": x}, there))
        seconds = link_seconds(chain, 1)
        assert len(seconds) == len(chain)
        assert min(seconds) > 0
        assert all(one.grad is None for one in network.parameters())


@pytest.mark.parametrize(
    ("changes", "world", "words"),
    [
        ({"mode": "one"}, 2, "mode=one, but 2 ranks"),
        ({"mode": "data_model", "pieces": 3}, 4, "not a multiple of pieces=3"),
        ({"mode": "pipeline", "cuts": (1, 2)}, 2, "names 3 pieces"),
        ({"mode": "pipeline", "cut": "published"}, 2, "into 4 pieces"),
        ({"mode": "pipeline", "schedule": "1f1b", "micro_batches": 2}, 4, "at least 4"),
        ({"mode": "pipeline", "batch_norm": "joint"}, 4, "use own or frozen"),
        ({"mode": "model", "cuts": (2, 2)}, 3, "must be above 0 and rise"),
        ({"mode": "data", "micro_batches": 0}, 2, "micro_batches must"),
    ],
)
def test_a_setting_that_does_not_fit_the_ranks_is_told(changes, world, words):
    with pytest.raises(SettingError, match=words):
        Parallel(**changes).pieces_of(world)


def test_a_mode_without_ranks_is_told(tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="torchrun"):
        joined()
    member, trainer = cases.member_and_trainer()
    with pytest.raises(InputError, match="torchrun"):
        train_member(member, replace(trainer, parallel=Parallel(mode="data")), tmp_path)


def test_what_srun_says_is_read_as_what_torchrun_says():
    said = {
        "SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "123456",
        "SLURM_STEP_NODELIST": "node[003-004,9]", "SLURM_STEP_TASKS_PER_NODE": "3(x2)",
    }  # fmt: skip
    adopt_launcher(said)
    found = {name: said[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")}
    assert list(found.values()) == ["4", "6", "1", "3", "node003"]
    assert 1024 < int(said["MASTER_PORT"]) < 65536
    batch_script = {"SLURM_NTASKS": "6", "SLURM_PROCID": "0"}
    adopt_launcher(batch_script)
    assert "RANK" not in batch_script
    assert [first_node(one) for one in ("a1,a2", "gpu[7,9]-x", "login")] == ["a1", "gpu7-x", "login"]


@pytest.mark.parametrize(
    "said",
    [
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
         "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
        {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
        {"PMI_RANK": "1", "PMI_SIZE": "2", "PALS_LOCAL_RANKID": "1", "PALS_LOCAL_SIZE": "2"},
    ],
)  # fmt: skip
def test_what_mpiexec_says_is_read_before_what_its_daemons_inherited_from_srun(said):
    found = dict(said)
    adopt_launcher(found)
    assert [found[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")] == ["1", "2", "1", "localhost"]
    slurm = {"SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "4", "SLURM_STEP_NODELIST": "a1"}
    for first, rank in ((slurm, "1"), ({"RANK": "7", **slurm}, "7")):
        found = {**said, **first}
        adopt_launcher(found)
        assert found["RANK"] == rank
    far = {name: "4" if name.endswith("_SIZE") and "LOCAL" not in name else value for name, value in said.items()}
    with pytest.raises(InputError, match="MASTER_ADDR"):
        adopt_launcher(dict(far))
    far["MASTER_ADDR"] = "node1"
    adopt_launcher(far)
    assert (far["WORLD_SIZE"], far["MASTER_ADDR"]) == ("4", "node1")
    alone = {}
    adopt_launcher(alone)
    assert alone == {}


def test_losses_of_parts_add_up_to_that_of_the_batch():
    values = torch.tensor([[0.0, 1.0], [1.0, np.nan], [np.nan, 3.0], [1.0, 0.5], [np.nan, np.nan]])
    costs = TargetCosts(values, (2, 0), Loss())
    outputs = torch.randn(5, 3, generator=torch.manual_seed(0))
    parts = [costs.loss(outputs[part], values[part], (3, 3)) for part in (slice(0, 2), slice(2, 4), slice(4, 5))]
    torch.testing.assert_close(torch.stack(parts).sum(), costs.loss(outputs, values))


@pytest.fixture
def one_rank(monkeypatch):
    """This process as the only rank; its environment and its threads are put back."""
    threads = torch.get_num_threads()
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with cases.met(0, 1, free_port()):
        yield
    torch.set_num_threads(threads)


def test_absolute_errors_are_trained_on_in_other_modes_too(tmp_path, one_rank):
    member, trainer = cases.member_and_trainer()
    trainer = replace(trainer, epochs=2)
    _, squared = train_member(member, trainer, tmp_path / "squared")
    trainer = replace(trainer, numbers="absolute")
    _, absolute = train_member(member, trainer, tmp_path / "one")
    _, found = train_member(member, replace(trainer, parallel=Parallel(mode="data")), tmp_path / "ranks")
    for row, same, other in zip(found, absolute, squared):
        assert row["loss"] == pytest.approx(same["loss"], abs=1e-5)
        assert row["loss"] != pytest.approx(other["loss"], abs=1e-2)


def test_recomputed_activations_change_nothing_but_memory(tmp_path):
    """Dropout draws the same, and running statistics move once."""
    member, trainer = cases.member_and_trainer()
    blocks = tuple(replace(one, encoder=replace(one.encoder, dropout=0.3)) for one in member.network.blocks)
    member = replace(member, network=replace(member.network, blocks=blocks))
    plain, history = train_member(member, replace(trainer, epochs=2), tmp_path / "plain")
    again, same = train_member(member, replace(trainer, epochs=2, recompute=True), tmp_path / "again")
    assert history == same
    assert any(name.endswith("running_mean") for name in plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_recomputation_runs_a_stage_twice():
    network, _ = cases.network_and_costs()
    calls = []
    network.encoders[0].units[0].register_forward_pre_hook(lambda *_: calls.append(1))
    items, present = batch()[0]
    items = {name: one.double() for name, one in items.items()}
    network.encoders[0].recompute = True
    network(items, present).sum().backward()
    assert len(calls) == 2


def test_batch_norm_of_no_subject_is_empty_and_moves_nothing():
    norm = BatchNorm(3)
    assert norm(torch.zeros(0, 3, 2, 2, 2)).shape == (0, 3, 2, 2, 2)
    assert int(norm.num_batches_tracked) == 0
    assert not norm.running_mean.any()


def test_bf16_and_accumulation_train(tmp_path):
    member, trainer = cases.member_and_trainer()
    _, history = train_member(member, replace(trainer, precision="bf16", recompute=True), tmp_path)
    assert history[-1]["loss"] < history[0]["loss"]
