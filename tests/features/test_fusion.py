"""Several inputs of a subject: absent blocks are not run, get no gradient, and move no statistics."""

import json
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import nn

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.resnet3d import ResNet3D
from features.encoders.table_net import TableNet
from features.encoders.volume_cnn import VolumeCNN
from features.fusion.attention import Attention
from features.fusion.concatenation import Concatenation
from features.fusion.gated import Gated
from features.fusion.model_files import ABOUT, WEIGHTS, load_network, save_network
from features.fusion.multi_input_net import InputBlock, MultiInputNet, left_in
from features.fusion.trait_head import TraitHead
from features.transfer.optimiser import Optimiser
from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.override import override
from meshgnn.train.target_costs import outputs_by_target

SHAPES = {"t1": (1, 8, 8, 8), "rsfmri": (10,), "table": (4,), "mesh": (6,)}
CONFIG = MultiInputNet.Config(
    blocks=(
        InputBlock(name="t1", encoder=BiobankCNN.Config(channels=(4, 4), out_channels=5)),
        InputBlock(name="rsfmri", encoder=ConnectivityNet.Config(widths=(6, 5))),
        InputBlock(name="table", encoder=TableNet.Config(widths=(6,))),
        InputBlock(name="mesh", encoder=TableNet.Config(widths=(7,))),  # the embedding of a graph network
    ),
    head=TraitHead.Config(widths=(8,)),
)
FUSIONS = {
    "concatenation": Concatenation.Config(),
    "concatenation and presence": Concatenation.Config(say_present=True),
    "gated": Gated.Config(hidden=8),
    "attention": Attention.Config(hidden=8, heads=2),
}
CLASSES = (0, 3, 2)
NAMES = tuple(SHAPES)


def network(fusion="concatenation", seed=0, **settings) -> MultiInputNet:
    torch.manual_seed(seed)
    return replace(CONFIG, fusion=FUSIONS[fusion], **settings).build(SHAPES, CLASSES)


def subjects(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, *shape, generator=drawn) for name, shape in SHAPES.items()}


def of(everything, present):
    """The items of those who have them."""
    items = {name: everything[name][present[:, k]] for k, name in enumerate(NAMES)}
    return {name: values for name, values in items.items() if len(values)}


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_subset_of_blocks_runs(fusion):
    net = network(fusion)
    everything = subjects(3)
    for size in range(1, len(NAMES) + 1):
        for chosen in combinations(range(len(NAMES)), size):
            present = torch.zeros(3, len(NAMES), dtype=torch.bool)
            present[:, list(chosen)] = True
            for mode in (True, False):
                outputs = net.train(mode)(of(everything, present), present)
                assert outputs.shape == (3, 6)
                assert outputs.isfinite().all()
            alone = CONFIG.only([NAMES[k] for k in chosen]).build(SHAPES, CLASSES)
            assert alone.names == tuple(NAMES[k] for k in chosen)
            outputs = alone(of(everything, present), present[:, list(chosen)])
            assert outputs.shape == (3, 6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_mixed_batch_is_its_rows_run_apart(fusion):
    net = network(fusion).eval()
    everything = subjects(6)
    present = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1]]).bool()
    with torch.no_grad():
        joint = net(of(everything, present), present)
        for rows in (slice(0, 3), slice(3, 6), slice(2, 3)):
            some = {name: values[rows] for name, values in everything.items()}
            apart = net(of(some, present[rows]), present[rows])
            torch.testing.assert_close(apart, joint[rows], rtol=1e-5, atol=1e-6)
        changed = {name: values.clone() for name, values in everything.items()}
        changed["t1"][0] += 1
        other = net(of(changed, present), present)
    assert torch.equal(other[1:], joint[1:])
    assert not torch.allclose(other[0], joint[0])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_subject_gives_no_gradient_to_a_block_that_it_lacks(fusion):
    net = network(fusion, head=TraitHead.Config(widths=(8,), norm=False)).train()
    everything = subjects(4)
    present = torch.ones(4, len(NAMES), dtype=torch.bool)
    present[0, 0] = False
    net(of(everything, present), present)[0].square().sum().backward()
    assert all(bool((weights.grad == 0).all()) for weights in net.encoders[0].parameters())
    for number in (1, 2, 3):
        assert any(bool((weights.grad != 0).any()) for weights in net.encoders[number].parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_block_that_nobody_has_is_left_as_it_is(fusion, kind):
    net = network(fusion).train()
    optimiser = Optimiser.Config(kind=kind, learning_rate=0.1, weight_decay=0.1).build([{"params": net.parameters()}])
    before = [state(encoder) for encoder in net.encoders]
    called = []
    net.encoders[1].register_forward_pre_hook(lambda module, inputs: called.append(1))
    everything, present = subjects(4), torch.ones(4, len(NAMES), dtype=torch.bool)
    present[:, 1] = False
    net(of(everything, present), present).square().sum().backward()
    optimiser.step()
    assert called == []
    assert all(weights.grad is None for weights in net.encoders[1].parameters())
    assert [same(encoder, kept) for encoder, kept in zip(net.encoders, before)] == [False, True, False, False]


def test_statistics_are_those_of_the_subjects_who_have_the_block():
    everything = subjects(6)
    present = torch.ones(6, len(NAMES), dtype=torch.bool)
    present[3:, 1] = False
    mixed, alone = network().train(), network().train()
    mixed(of(everything, present), present)
    alone.encoders[1](everything["rsfmri"][:3])
    norms = [(name, value) for name, value in mixed.encoders[1].named_buffers() if name.startswith("layers.0")]
    for name, value in norms:
        assert torch.equal(value, alone.encoders[1].get_buffer(name))
    assert len(norms) == 3


def test_a_single_subject_with_a_block_trains_and_moves_no_statistics():
    net = network().train()
    everything, present = subjects(3), torch.ones(3, len(NAMES), dtype=torch.bool)
    present[1:, 2] = False
    before = {name: value.clone() for name, value in net.encoders[2].named_buffers()}
    net(of(everything, present), present).square().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.encoders[2].named_buffers())
    assert any(bool((weights.grad != 0).any()) for weights in net.encoders[2].parameters())
    single = torch.ones(1, len(NAMES), dtype=torch.bool)
    assert net(subjects(1), single).isfinite().all()  # the head's batch norm as well


def test_zeros_stand_for_what_is_absent_and_presence_can_be_said():
    everything = subjects(2)
    present = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]]).bool()
    plain, said = network().eval(), network("concatenation and presence").eval()
    with torch.no_grad():
        fused = plain.fused(of(everything, present), present)
        told = said.fused(of(everything, present), present)
    assert fused.shape == (2, 5 + 5 + 6 + 7)
    assert bool((fused[1, 5:10] == 0).all())
    assert bool((fused[0, 5:10] != 0).any())
    assert torch.equal(told[:, -4:], present.float())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_half_precision_runs_and_stays_near(fusion):
    net = network(fusion).eval()
    everything = subjects(3)
    present = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [0, 1, 0, 1]]).bool()
    wanted = net(of(everything, present), present)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(of(everything, present), present)
    found.float().square().sum().backward()
    torch.testing.assert_close(found.float(), wanted, rtol=0.1, atol=0.05)
    assert all(weights.grad is None or bool(weights.grad.isfinite().all()) for weights in net.parameters())


def test_settings_from_the_command_line():
    config = override(
        CONFIG,
        ["blocks.0.encoder=ResNet3D", "blocks.0.encoder.depth=18", "blocks.1.encoder.widths=3,4", "fusion=Attention",
         "fusion.heads=2", "head.widths=()", "input_dropout=0.25"],
    )  # fmt: skip
    assert config.blocks[0] == InputBlock(name="t1", encoder=ResNet3D.Config(depth=18))
    assert config.blocks[1].encoder == ConnectivityNet.Config(widths=(3, 4))
    assert (config.fusion, config.head.widths, config.input_dropout) == (Attention.Config(heads=2), (), 0.25)
    assert from_plain(MultiInputNet.Config, json.loads(json.dumps(to_plain(config)))) == config
    off = override(CONFIG, ["fusion.say_present=False"])
    assert off.fusion.say_present is False
    for wrong, match in (
        ("fusion.say_present=maybe", "is not true or false"),
        ("fusion=Popen", "is not one of Concatenation, Gated, Attention"),
        ("blocks.0.encoder=Popen", "is not one of"),
    ):
        with pytest.raises(InputError, match=match):
            override(CONFIG, [wrong])


@pytest.mark.parametrize("fusion", ["gated", "attention"])
def test_an_absent_block_takes_no_weight(fusion):
    """With one block present its gate, or its attention, is 1: the output is in closed form."""
    net = network(fusion).eval()
    everything, present = subjects(3), torch.zeros(3, len(NAMES), dtype=torch.bool)
    present[:, 2] = True
    part = net.fusion
    with torch.no_grad():
        mapped = part.project[2](net.encoders[2](everything["table"]))
        if fusion == "gated":
            wanted = torch.tanh(mapped)
        else:
            value = part.attention.in_proj_weight[16:], part.attention.in_proj_bias[16:]
            token = part.norm_tokens(mapped + part.block[2])
            read = part.query[0] + part.attention.out_proj(nn.functional.linear(token, *value))
            wanted = read + part.layer(part.norm(read))
        found = net.fused({"table": everything["table"]}, present)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_input_dropout_leaves_one_at_least():
    torch.manual_seed(0)
    present = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]]).bool().repeat(2000, 1)
    kept = left_in(present, 0.5)
    assert not bool((kept & ~present).any())
    assert bool(kept.any(1).all())
    assert bool(kept[2::3].equal(present[2::3]))
    # Of two blocks: kept with 1/2, and half of the 1/4 that lose both keep this one.
    assert abs(float(kept[1::3, 1].float().mean()) - 0.625) < 0.05
    assert abs(float(kept[0::3].float().mean()) - (0.5 + 1 / 64)) < 0.03
    net = network(input_dropout=0.7)
    everything, all_there = subjects(5), torch.ones(5, len(NAMES), dtype=torch.bool)
    runs = []
    net.encoders[0].register_forward_pre_hook(lambda module, inputs: runs.append(len(inputs[0])))
    for _ in range(20):
        assert net.train()(everything, all_there).isfinite().all()
    assert 0 < sum(runs) < 70
    runs.clear()
    net.eval()(everything, all_there)
    assert runs == [5]


def test_dropped_subjects_are_the_right_ones():
    net = network(input_dropout=0.5, head=TraitHead.Config(widths=(), dropout=0)).train()
    for part in net.modules():  # the same features in training: what is not there is the only difference
        if hasattr(part, "frozen"):
            part.frozen = True
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    everything, present = subjects(6), torch.ones(6, len(NAMES), dtype=torch.bool)
    present[2, 3] = False
    torch.manual_seed(5)
    kept = left_in(present, 0.5)
    torch.manual_seed(5)
    with torch.no_grad():
        dropped = net(of(everything, present), present)
        wanted = net.eval()(of(everything, kept), kept)
    torch.testing.assert_close(dropped, wanted)


def test_every_target_has_a_head_of_its_own():
    net = network().eval()
    everything, present = subjects(5), torch.ones(5, len(NAMES), dtype=torch.bool)
    features = net.fused(everything, present).detach()
    found = outputs_by_target(net(everything, present), CLASSES)
    assert [tuple(part.shape) for part in found] == [(5, 1), (5, 3), (5, 2)]
    for number, part in enumerate(found):
        shared = net.head.shared(features)
        assert torch.allclose(part, net.head.targets[number](shared), atol=1e-6)
        net.zero_grad()
        part.sum().backward(retain_graph=True)
        moved = [any(weights.grad is not None and bool((weights.grad != 0).any()) for weights in head.parameters())
                 for head in net.head.targets]  # fmt: skip
        assert moved == [place == number for place in range(3)]
        assert any(bool((weights.grad != 0).any()) for weights in net.head.shared.parameters())


def test_gradients_reach_the_embedding_of_another_network():
    net = network("attention").train()
    everything, present = subjects(4), torch.ones(4, len(NAMES), dtype=torch.bool)
    present[1, 3] = False
    items = of(everything, present)
    items["mesh"].requires_grad_()
    net(items, present)[:, 0].square().sum().backward()
    assert items["mesh"].grad.shape == (3, 6)
    assert bool((items["mesh"].grad != 0).any(1).all())


@pytest.mark.parametrize("names", [("t1",), ("rsfmri", "table"), ("mesh", "t1"), NAMES])
def test_the_optimiser_holds_exactly_the_blocks_in_use(names):
    net = CONFIG.only(names).build(SHAPES, CLASSES)
    held = {
        id(weights)
        for group in Optimiser.Config().build([{"params": net.parameters()}]).param_groups
        for weights in group["params"]
    }
    by_block = {
        name: {id(weights) for weights in encoder.parameters()} for name, encoder in zip(net.names, net.encoders)
    }
    assert set(by_block) == set(names)
    rest = {id(weights) for part in (net.fusion, net.head) for weights in part.parameters()}
    assert held == set().union(rest, *by_block.values())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_network_is_kept_and_read_back(fusion, tmp_path):
    net = network(fusion).train()
    everything, present = subjects(4), torch.ones(4, len(NAMES), dtype=torch.bool)
    net(everything, present)  # moves statistics
    save_network(tmp_path, net, {"seed": 0})
    before = torch.get_rng_state()
    found = load_network(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    assert found.identity() == net.identity()
    assert not found.training
    with torch.no_grad():
        assert torch.equal(found(everything, present), net.eval()(everything, present))


def test_files_that_somebody_changed_are_refused(tmp_path):
    save_network(tmp_path, network(), {})
    about = json.loads((tmp_path / ABOUT).read_text())
    content = (tmp_path / WEIGHTS).read_bytes()

    def refused(match, **changes):
        (tmp_path / ABOUT).write_text(json.dumps({**about, **changes}))
        with pytest.raises(InputError, match=match) as told:
            load_network(tmp_path)
        assert "\n" not in str(told.value)

    config = about["config"]
    refused("not a network of format", record="NodeEncoder")
    refused("config", config=None)
    refused("fields", config={**config, "_": "Popen"})
    refused("may stand here", config={**config, "fusion": {"_": "Popen"}})
    refused("other shapes", classes=[0, 3, 3])
    refused("one of a single class|two classes", classes=[1])
    refused("impossible sizes|other shapes", shapes={**about["shapes"], "table": [10**15]})
    refused("shapes", shapes=[])
    refused("shapes", shapes={**about["shapes"], "table": [0]})
    refused("are not those that", weights="0")
    (tmp_path / ABOUT).write_text(json.dumps(about))
    for broken, match in ((content[:100], "safetensors"), (b"\x80\x04.", "pickle"), (b"", "safetensors")):
        (tmp_path / WEIGHTS).write_bytes(broken)
        with pytest.raises(InputError, match=match):
            load_network(tmp_path)


def test_batches_that_do_not_fit_are_refused():
    net = network()
    everything, present = subjects(3), torch.ones(3, len(NAMES), dtype=torch.bool)
    bare = present.clone()
    bare[1] = False
    for items, who, match in (
        (of(everything, bare), bare, "subject 1 of the batch has none of t1, rsfmri"),
        (everything, present[:, :2], "present must be"),
        (everything, present.long(), "present must be"),
        ({**everything, "table": everything["table"][:2]}, present, "2 items of 'table' for 3 subjects"),
        ({name: everything[name] for name in NAMES[:3]}, present, "0 items of 'mesh' for 3 subjects"),
        ({**everything, "flair": everything["t1"]}, present, "items of flair, but the blocks are"),
        ({**everything, "t1": everything["t1"][..., :7]}, present, "takes items"),
    ):
        with pytest.raises(InputError, match=match):
            net(items, who)


def test_wrong_settings_are_told():
    with pytest.raises(InputError, match="different names, got t1, t1"):
        MultiInputNet.Config(blocks=(InputBlock(), InputBlock()))
    with pytest.raises(InputError, match="input_dropout"):
        MultiInputNet.Config(input_dropout=1.0)
    with pytest.raises(InputError, match="there is no 'pet'"):
        CONFIG.only(["pet"])
    with pytest.raises(InputError, match="block 'mesh' has no items"):
        CONFIG.build({name: SHAPES[name] for name in NAMES[:3]}, CLASSES)
    for classes in ((), (1,), (-2,)):
        with pytest.raises(InputError, match="two classes or more"):
            CONFIG.build(SHAPES, classes)
    with pytest.raises(InputError, match="multiple of heads"):
        Attention.Config(hidden=10, heads=4)
    with pytest.raises(InputError, match="plain word"):
        InputBlock(name="t 1")


def test_stages_hold_every_weight_of_the_blocks_once():
    blocks = (*CONFIG.blocks, InputBlock(name="flair", encoder=VolumeCNN.Config(widths=(8,))))
    net = replace(CONFIG, blocks=blocks).build({**SHAPES, "flair": (1, 4, 4, 4)}, CLASSES)
    held = [id(weights) for stage in net.stages() for weights in stage.parameters()]
    assert sorted(held) == sorted(id(weights) for encoder in net.encoders for weights in encoder.parameters())
    last = {id(weights) for weights in net.stages()[-1].parameters()}
    assert {id(weights) for weights in net.encoders[0].features.parameters()} <= last
