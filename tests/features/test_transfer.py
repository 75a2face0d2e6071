"""Weights learnt elsewhere: responses are kept, hashes are checked, what is frozen does not move."""

from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.resnet2d_slices import ResNet2DSlices
from features.encoders.resnet3d import ResNet3D
from features.encoders.table_net import TableNet
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.transfer.optimiser import Optimiser
from features.transfer.pretrained import Pretrained
from features.transfer.reshape import inflated, with_channels
from features.transfer.schedule import TransferSchedule
from meshgnn.errors import InputError

IMAGES = ResNet2DSlices.Config(planes=("axial",))  # a plain two-dimensional network of its channels


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in eval mode with statistics of batch norms as if it had been trained."""
    drawn = torch.Generator().manual_seed(seed)
    for name, value in module.named_buffers():
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=drawn) * 0.1)
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=drawn) + 0.5)
    return module.eval()


def kept(folder, weights) -> Pretrained.Config:
    """Weights as a file, and how it is named."""
    path = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    return Pretrained.Config(file=path, sha256=sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("fill", ["mean", "centre"])
def test_an_inflated_kernel_answers_a_constant_axis_as_the_image(fill):
    torch.manual_seed(0)
    weight, image = torch.randn(4, 3, 5, 5), torch.randn(2, 3, 9, 8)
    volume = image[:, :, None].expand(-1, -1, 11, -1, -1)
    answer = F.conv3d(volume, inflated(weight, 5, fill), padding=2)
    wanted = F.conv2d(image, weight, padding=2)[:, :, None].expand_as(answer)
    inside = slice(2, -2) if fill == "mean" else slice(None)
    torch.testing.assert_close(answer[:, :, inside], wanted[:, :, inside], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fill", ["mean", "centre"])
def test_an_inflated_network_answers_a_constant_axis_as_the_image(fill, tmp_path):
    torch.manual_seed(0)
    flat = stirred(IMAGES.build((3, 24, 24, 1)))
    deep = ResNet3D.Config(depth=18, stem="image").build((1, 8, 24, 24)).eval()
    config = kept(tmp_path, flat.backbone.state_dict())
    done = Pretrained.Config(file=config.file, sha256=config.sha256, fill=fill).build().into(deep)
    convolutions = [name for name, weight in deep.named_parameters() if weight.ndim == 5]
    assert sorted(done.changed) == sorted(convolutions)
    assert (done.kept, done.unused) == ((), ())
    if fill == "mean":  # borders repeated, so that the axis is constant for every layer
        for network in (flat, deep):
            for part in network.modules():
                if isinstance(part, nn.Conv2d | nn.Conv3d):
                    part.padding_mode = "replicate"
    image = torch.randn(2, 1, 24, 24)
    with torch.no_grad():
        wanted = flat(image.expand(-1, 3, -1, -1)[..., None])
        found = deep(image[:, :, None].expand(-1, -1, 8, -1, -1).contiguous())
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_channel_answers_as_the_input_repeated_on_three(tmp_path):
    torch.manual_seed(0)
    three, one = stirred(IMAGES.build((3, 16, 16, 1))), IMAGES.build((1, 16, 16, 1)).eval()
    done = kept(tmp_path, three.backbone.state_dict()).build().into(one)
    assert done.changed == ("backbone.conv1.weight",)
    item = torch.randn(2, 1, 16, 16, 1)
    with torch.no_grad():
        torch.testing.assert_close(one(item), three(item.expand(-1, 3, -1, -1, -1)), rtol=1e-4, atol=1e-4)


def test_several_equal_channels_answer_as_one():
    torch.manual_seed(0)
    weight, image = torch.randn(4, 3, 3, 3), torch.randn(2, 1, 6, 6)
    wanted = F.conv2d(image.expand(-1, 3, -1, -1), weight)
    for channels in (1, 2, 5):
        found = F.conv2d(image.expand(-1, channels, -1, -1), with_channels(weight, channels))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_names_of_torchvision_are_known(tmp_path):
    """A file laid out as torchvision lays out a network of images, or of videos, with its last layer."""
    torch.manual_seed(0)
    images = stirred(IMAGES.build((3, 8, 8, 1)))
    found = IMAGES.build((3, 8, 8, 1))
    weights = {**images.backbone.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    done = kept(tmp_path, weights).build().into(found)
    assert done.unused == ("fc.bias", "fc.weight")
    assert found.identity()["weights"] == images.identity()["weights"]

    videos = stirred(ResNet3D.Config(depth=18).build((3, 4, 8, 8)))
    weights = {}
    for name, value in videos.backbone.state_dict().items():
        first, _, rest = name.partition(".")
        if first in ("conv1", "bn1"):
            name = f"stem.{int(first == 'bn1')}.{rest}"
        else:
            for number in "12":
                name = name.replace(f".conv{number}.", f".conv{number}.0.").replace(
                    f".bn{number}.", f".conv{number}.1."
                )
        weights[name] = value.clone()
    assert "layer1.0.conv1.1.running_mean" in weights
    wanted = videos.identity()
    for value in videos.state_dict().values():
        value.zero_()
    kept(tmp_path, weights).build().into(videos)
    assert videos.identity() == wanted


def test_an_encoder_of_our_own_goes_into_another(tmp_path):
    torch.manual_seed(0)
    first = stirred(ResNet2DSlices.Config(mode="multi", slices=2).build((1, 8, 8, 8)))
    second = ResNet2DSlices.Config(mode="multi", slices=3).build((1, 16, 8, 8))
    done = kept(tmp_path, first.state_dict()).build().into(second)
    assert set(done.kept) == {
        f"pool.{name}" for name in ("position", "score.0.weight", "score.0.bias", "score.2.weight")
    }
    assert set(done.unused) == set(done.kept)
    assert all(
        torch.equal(value, first.backbone.state_dict()[name]) for name, value in second.backbone.state_dict().items()
    )
    table, other = (TableNet.Config(widths=(4,)).build((3,)) for _ in range(2))
    kept(tmp_path, table.state_dict()).build().into(other)
    assert other.identity() == table.identity()


def test_wrong_files_are_refused_and_change_nothing(tmp_path):
    network = IMAGES.build((1, 8, 8, 1))
    before = network.identity()
    right = kept(tmp_path, network.backbone.state_dict())
    with pytest.raises(InputError, match="not 0000"):
        Pretrained.Config(file=right.file, sha256="0" * 64).build()
    with pytest.raises(InputError, match="sha256 must be the 64"):
        Pretrained.Config(file=right.file, sha256=right.sha256[:16])
    with pytest.raises(InputError, match="file is not named"):
        Pretrained.Config().build()
    with pytest.raises(InputError, match="cannot be read"):
        Pretrained.Config(file=tmp_path / "none.safetensors", sha256="0" * 64).build()
    (tmp_path / "old.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="pickle"):
        Pretrained.Config(file=tmp_path / "old.pth", sha256="0" * 64).build()
    state = {name: value + 1 for name, value in network.backbone.state_dict().items()}
    for weights, match in (
        (
            {name: value for name, value in state.items() if "layer4.1.bn2.bias" not in name},
            "has no weight 'layer4.1.bn2",
        ),
        ({**state, "layer4.1.conv2.weight": torch.zeros(512, 512, 5, 5)}, "cannot become"),
        ({**state, "layer2.0.conv1.weight": torch.zeros(128, 32, 3, 3)}, "cannot become"),
    ):
        with pytest.raises(InputError, match=match):
            kept(tmp_path, weights).build().into(network)
    assert network.identity() == before
    with pytest.raises(InputError, match="no middle plane"):
        inflated(torch.zeros(1, 1, 3, 3), 4, "centre")
    with pytest.raises(InputError, match="only kernels"):
        inflated(torch.zeros(1, 3), 3)
    with pytest.raises(InputError, match="no channels"):
        with_channels(torch.zeros(1, 3), 1)


SHAPES = {"t1": (1, 8, 8, 8), "table": (4,)}


def network() -> MultiInputNet:
    torch.manual_seed(0)
    blocks = (
        InputBlock(name="t1", encoder=BiobankCNN.Config(channels=(4, 4), out_channels=5, dropout=0)),
        InputBlock(name="table", encoder=TableNet.Config(widths=(6,), dropout=0)),
    )
    return MultiInputNet.Config(blocks=blocks, head=TraitHead.Config(widths=(8,))).build(SHAPES, (0, 2))


def steps(net, optimiser, count=1):
    for _ in range(count):
        optimiser.zero_grad()
        net(
            {name: torch.randn(5, *shape) for name, shape in SHAPES.items()}, torch.ones(5, 2) > 0
        ).square().sum().backward()
        optimiser.step()


def moved(net, before) -> set[str]:
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def names_in(net, modules) -> set[str]:
    held = {id(value) for module in modules for value in (*module.parameters(), *module.buffers())}
    named = [*net.named_parameters(), *net.named_buffers()]
    return {name for name, value in named if id(value) in held}


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    ("mode", "epoch", "thawed"),
    [("head", 3, 0), ("full", 0, 3), ("gradual", 0, 0), ("gradual", 1, 0), ("gradual", 2, 1), ("gradual", 9, 3)],
)
def test_what_is_frozen_is_bit_identical_after_steps(kind, mode, epoch, thawed):
    net = network()
    schedule = TransferSchedule.Config(mode=mode, epochs_per_stage=2, decay=0.5).build(net)
    optimiser = Optimiser.Config(kind=kind, weight_decay=0.1).build(schedule.groups(0.01))
    assert schedule.thawed(epoch) == thawed
    schedule.begin(epoch)
    net.train()  # whoever calls it again does not thaw a statistic
    before = {name: value.clone() for name, value in net.state_dict().items()}
    steps(net, optimiser, 2)
    free = names_in(net, [*net.stages()[len(net.stages()) - thawed :], *net.head_modules()])
    assert moved(net, before) == free
    assert free != set(before) or thawed == 3


def test_stages_thaw_from_the_output_and_stay_thawed():
    net = network()
    schedule = TransferSchedule.Config(mode="gradual").build(net)
    optimiser = Optimiser.Config(learning_rate=0.1).build(schedule.groups(0.1))
    free = []
    for epoch in range(5):
        schedule.begin(epoch)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        steps(net, optimiser)
        free.append(moved(net, before))
        net.eval()
    assert free[0] < free[1] < free[2] < free[3] == free[4] == set(net.state_dict())
    assert not any(name.startswith("encoders") for name in free[0])
    assert any(name.startswith("encoders.1") for name in free[1])  # the table's only stage is its last one


def test_after_validation_the_network_trains_and_its_statistics_move_in_every_epoch():
    net = network()
    schedule = TransferSchedule.Config().build(net)
    optimiser = Optimiser.Config().build(schedule.groups(1e-3))
    for epoch in range(3):
        schedule.begin(epoch)
        assert all(part.training for part in net.modules())
        before = {name: value.clone() for name, value in net.named_buffers()}
        steps(net, optimiser)
        assert all(not torch.equal(value, before[name]) for name, value in net.named_buffers())
        before = {name: value.clone() for name, value in net.named_buffers()}
        with torch.no_grad():
            net.eval()({name: torch.randn(5, *shape) for name, shape in SHAPES.items()}, torch.ones(5, 2) > 0)
        assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


@pytest.mark.parametrize(
    "config",
    [
        Optimiser.Config(kind="sgd", learning_rate=0.01, momentum=0.5, weight_decay=0.001),
        Optimiser.Config(kind="adam", learning_rate=0.001, weight_decay=0.002),
        Optimiser.Config(kind="adamw", learning_rate=0.003, weight_decay=0.01),
    ],
)
def test_groups_of_every_optimiser_equal_the_settings(config):
    net = network()
    plain = config.build([{"params": net.parameters()}])
    assert len(plain.param_groups) == 1
    layered = config.build(TransferSchedule.Config(decay=0.5).build(net).groups(0.1))
    assert [group["name"] for group in layered.param_groups] == ["head", "stage 2", "stage 1", "stage 0"]
    assert [group["lr"] for group in layered.param_groups] == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    for group, stage in zip(layered.param_groups[1:], reversed(net.stages())):
        assert {id(weights) for weights in group["params"]} == {id(weights) for weights in stage.parameters()}
    for optimiser in (plain, layered):
        for group in optimiser.param_groups:
            assert group["weight_decay"] == config.weight_decay
            assert group.get("momentum", 0.0) == config.momentum
    assert plain.param_groups[0]["lr"] == config.learning_rate
    held = [id(weights) for group in layered.param_groups for weights in group["params"]]
    assert sorted(held) == sorted(id(weights) for weights in net.parameters())
    assert {type(plain)} == {
        {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.kind]
    }
    # And they act: with no gradient from the loss, decay alone moves a weight.
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.zeros(1)
    config.build([{"params": [weight]}]).step()
    assert float(weight.detach()) < 1


def test_settings_that_would_be_ignored_are_refused():
    for settings, match in (
        ({"kind": "adam", "momentum": 0.5}, "momentum is a setting of sgd"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
    ):
        with pytest.raises(InputError, match=match):
            Optimiser.Config(**settings)
    with pytest.raises(InputError, match="no parameter"):
        Optimiser.Config().build([{"params": []}])
    with pytest.raises(InputError, match="decay"):
        TransferSchedule.Config(decay=0.0)
    with pytest.raises(InputError, match="epochs_per_stage"):
        TransferSchedule.Config(epochs_per_stage=0)


def test_layers_behind_pretrained_ones_are_trained_with_the_head():
    with torch.device("meta"):
        blocks = (
            InputBlock(name="t1", encoder=ResNet3D.Config()),
            InputBlock(name="slices", encoder=ResNet2DSlices.Config(mode="multi")),
        )
        net = MultiInputNet.Config(blocks=blocks).build({"t1": (1, 8, 8, 8), "slices": (1, 8, 8, 8)}, (0,))
    head = names_in(net, net.head_modules())
    assert {"encoders.0.linear.0.weight", "encoders.1.pool.position", "encoders.1.pool.score.0.weight"} <= head
    stages = names_in(net, net.stages())
    assert {name for name, _ in net.named_parameters()} <= stages | head
    assert not stages & head
    assert all(".backbone." in name for name in stages)


def test_batch_norms_of_other_people_are_frozen_too():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
            self.head = nn.Linear(4, 1)

        def stages(self):
            return (self.body,)

        def head_modules(self):
            return (self.head,)

        def forward(self, x):
            return self.head(self.body(x))

    net = Other()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    schedule = TransferSchedule.Config(mode="head").build(net)
    schedule.begin(0)
    net.train()
    optimiser = Optimiser.Config(learning_rate=0.1).build(schedule.groups(0.1))
    net(torch.randn(6, 3)).sum().backward()
    optimiser.step()
    assert moved(net, before) == {"head.weight", "head.bias"}
