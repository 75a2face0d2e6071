"""Networks of volumes, connectivity and tables: published parameter counts row by row, laws, any size and channels."""

import pytest
import torch
from torch import nn

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.item_encoder import ItemEncoder
from features.encoders.naive_cnn import NaiveCNN
from features.encoders.resnet2d_slices import ResNet2DSlices
from features.encoders.resnet3d import ResNet3D
from features.encoders.table_net import TableNet
from features.fusion.concatenation import Concatenation
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.model_files import load_encoder, new_encoder, save_encoder
from features.node_data.volume_patches import VolumePatches
from features.pretrain import PretrainConfig
from meshgnn.errors import InputError
from meshgnn.override import override
from meshgnn.sockets import Encoder
from meshgnn.testing import assert_encoder

PAIRS = 360 * 359 // 2
LINEAR = TraitHead.Config(widths=())
BIOBANK_128 = BiobankCNN.Config(channels=(32, 64, 128, 256, 256, 256), out_channels=256)


def count(*modules: nn.Module) -> int:
    return sum(weights.numel() for module in modules for weights in module.parameters())


def built(config, shape):
    with torch.device("meta"):
        return config.build(shape)


def whole(shapes, classes=(0,), head=LINEAR, **encoders) -> MultiInputNet:
    """A network on the meta device: these encoders, their features side by side, a head."""
    blocks = tuple(InputBlock(name=name, encoder=encoder) for name, encoder in encoders.items())
    config = MultiInputNet.Config(blocks=blocks, fusion=Concatenation.Config(), head=head)
    with torch.device("meta"):
        return config.build(shapes, classes)


def cube(side: int, channels: int = 1) -> tuple[int, int, int, int]:
    return (channels, side, side, side)


def test_naive_cnn_layer_by_layer():
    encoder = built(NaiveCNN.Config(unused_batch_norm=True), cube(240))
    *first, last = encoder.convolutions
    assert [count(stage) for stage in first] == [1260, 25020, 172840]
    assert [count(part) for part in last] == [400080, 160]
    assert [count(stage) for stage in encoder.linear] == [515368040, 11715220]
    assert count(encoder.unused_norm) == 9680
    maps, sides = torch.zeros(1, *cube(240), device="meta"), []
    for stage in encoder.convolutions:
        maps = stage(maps)
        sides.append(tuple(maps.shape[1:3]))
    assert sides == [(10, 118), (20, 57), (40, 26), (80, 11)]
    assert not any(isinstance(part, nn.ReLU) for stage in encoder.linear for part in stage)
    dropped = [part.p for part in encoder.modules() if isinstance(part, nn.Dropout3d | nn.Dropout)]
    assert dropped == [0.5] * 5


@pytest.mark.parametrize(
    ("side", "settings", "total"),
    [
        (240, {"unused_batch_norm": True}, 527_694_721),
        (240, {}, 527_685_041),
        (255, {}, 527_685_041),
        (80, {}, 12_709_041),
        (95, {}, 12_709_041),
        (80, {"unused_batch_norm": True}, 12_718_721),
        (240, {"linear": (2420, 1210)}, 261_214_001),
        (240, {"linear": (2420, 1210), "unused_batch_norm": True}, 261_218_841),
        (112, {}, 22_776_241),
        (127, {"unused_batch_norm": True}, 22_785_921),
    ],
)
def test_naive_cnn_with_its_output(side, settings, total):
    assert count(whole({"t1": cube(side)}, t1=NaiveCNN.Config(**settings))) == total


def test_naive_cnn_bears_any_size_that_leaves_something():
    assert built(NaiveCNN.Config(), cube(256)).linear[0][1].in_features == 80 * 12**3
    assert built(NaiveCNN.Config(), (2, 96, 112, 80)).linear[0][1].in_features == 80 * 2 * 3 * 1
    with pytest.raises(InputError, match="79 x 79 x 79 voxels shrink to nothing"):
        built(NaiveCNN.Config(), cube(79))


@pytest.mark.parametrize(
    ("config", "channels", "total"),
    [
        (ResNet3D.Config(depth=50), 1, 47_204_673),
        (ResNet3D.Config(depth=101), 1, 86_250_817),
        (ResNet3D.Config(depth=152), 1, 118_409_537),
        (ResNet3D.Config(depth=18), 3, 33_166_785),
        (ResNet3D.Config(depth=18), 1, 33_147_969),
        (ResNet2DSlices.Config(), 1, 11_177_025),
        (ResNet2DSlices.Config(planes=("axial",)), 1, 11_170_753),
        (ResNet2DSlices.Config(planes=("axial",)), 3, 11_177_025),
    ],
)
def test_residual_networks_with_one_output(config, channels, total):
    assert count(whole({"t1": cube(64, channels)}, t1=config)) == total


def test_residual_networks_stage_by_stage():
    def stages(config, channels):
        return [count(stage) for stage in built(config, cube(64, channels)).stages()]

    assert stages(ResNet3D.Config(), 1) == [22080, 436992, 2399232, 14176256, 29120512, 1049088]
    assert stages(ResNet3D.Config(depth=18), 3) == [28352, 442880, 1557760, 6228480, 24908800, 0]
    assert stages(ResNet3D.Config(depth=18), 1)[0] == 9536
    assert stages(ResNet2DSlices.Config(), 1) == [9536, 147968, 525568, 2099712, 8393728, 0]
    assert stages(ResNet2DSlices.Config(planes=("axial",)), 1)[0] == 3264
    assert count(whole({"t1": cube(64, 3)}, (400,), t1=ResNet3D.Config(depth=18))) == 33_371_472
    assert count(whole({"t1": cube(64)}, (1000,), t1=ResNet2DSlices.Config())) == 11_689_512


def test_resnet50_halves_as_published():
    encoder = built(ResNet3D.Config(), cube(240))
    maps, sides = torch.zeros(1, *cube(240), device="meta"), []
    for stage in encoder.stages()[:5]:
        maps = stage(maps)
        sides.append(tuple(maps.shape[1:3]))
    assert sides == [(64, 120), (256, 60), (512, 30), (1024, 15), (2048, 8)]


def test_blocks_of_the_biobank_study():
    small, large = built(BiobankCNN.Config(), cube(64, 3)), built(BIOBANK_128, cube(128, 3))
    assert [count(stage) for stage in small.stages()] == [30496, 168256, 672384, 2688256, 3605760, 262528]
    assert [count(stage) for stage in large.stages()][-2:] == [3605760, 525056]
    assert (count(small), count(large)) == (7_427_680, 11_295_968)
    assert count(built(ConnectivityNet.Config(), (PAIRS,))) == 8_288_512
    assert count(built(ConnectivityNet.Config(), (360, 360))) == 8_288_512
    assert count(built(TableNet.Config(), (24,))) == 13_984


@pytest.mark.parametrize(
    ("side", "classes", "head", "total"),
    [
        (64, 2, 141_314, 15_871_490),
        (64, 0, 141_057, 15_871_233),
        (128, 2, 174_082, 19_772_546),
        (128, 0, 173_825, 19_772_289),
    ],
)
def test_whole_networks_of_the_biobank_study(side, classes, head, total):
    shapes = {"connectivity": (PAIRS,), "table": (24,), "images": cube(side, 3)}
    images = BiobankCNN.Config() if side == 64 else BIOBANK_128
    network = whole(
        shapes, (classes,), TraitHead.Config(), connectivity=ConnectivityNet.Config(), table=TableNet.Config(),
        images=images,
    )  # fmt: skip
    assert (count(network.head), count(network)) == (head, total)


SMALL = {
    "naive": (NaiveCNN.Config(channels=(4, 6), kernels=(3, 2), linear=(8, 5), activation="gelu"), (2, 13, 11, 12)),
    "resnet3d18": (ResNet3D.Config(depth=18), (1, 5, 8, 6)),
    "resnet3d50": (ResNet3D.Config(linear=()), (2, 5, 6, 7)),
    "triplet": (ResNet2DSlices.Config(), (1, 20, 16, 12)),
    "slices": (ResNet2DSlices.Config(mode="multi", slices=2, planes=("axial", "coronal")), (2, 20, 16, 12)),
    "mean of slices": (ResNet2DSlices.Config(mode="multi", slices=2, pool="mean", level="node"), (1, 16, 16, 16)),
    "biobank": (BiobankCNN.Config(channels=(4, 8), out_channels=6), (3, 9, 8, 4)),
    "connectivity": (ConnectivityNet.Config(widths=(6, 5)), (7, 7)),
    "table": (TableNet.Config(widths=(6, 5), missing=True), (4,)),
}


@pytest.mark.parametrize("name", SMALL)
def test_encoders_keep_their_laws_and_bear_a_single_item(name):
    config, shape = SMALL[name]
    torch.manual_seed(0)
    encoder = config.build(shape)
    assert isinstance(encoder, Encoder)
    assert encoder.level == config.level
    items = torch.randn(3, *shape)
    assert_encoder(encoder, items)
    assert encoder.train()(items[:1]).isfinite().all()  # batch norm of a single value per channel
    parts = [id(weights) for stage in encoder.stages() for weights in stage.parameters()]
    assert len(parts) == len(set(parts))
    assert set(parts) == {id(weights) for weights in encoder.parameters()}
    with pytest.raises(InputError, match="takes items"):
        encoder(torch.randn(2, *shape[:-1], shape[-1] + 1))
    with pytest.raises(InputError, match="choose another"):
        config.build((1, 2, 3))
    assert encoder.identity() == encoder.identity()
    assert issubclass(type(encoder), ItemEncoder)


@pytest.mark.parametrize(
    "config",
    [
        BiobankCNN.Config(channels=(4, 8), out_channels=3, dropout=0.0),
        NaiveCNN.Config(channels=(4, 8), kernels=(3, 3), linear=(3,), dropout=0.0),
    ],
)
def test_convolutions_find_channels_last_and_compute_the_same(config, monkeypatch):
    encoder, x = config.build(cube(12, channels=1)), torch.randn(3, *cube(12))
    seen = []
    for part in encoder.modules():
        if isinstance(part, nn.Conv3d):
            part.register_forward_pre_hook(lambda _, given: seen.append(given[0].stride(1)))
    out = encoder(x)
    out.square().mean().backward()
    gradients = [one.grad.clone() for one in encoder.parameters()]
    assert seen
    assert set(seen) == {1}
    for module in ("biobank_cnn", "naive_cnn"):
        monkeypatch.setattr(f"features.encoders.{module}.channels_last", lambda volumes: volumes)
    encoder.zero_grad()
    usual = encoder(x)
    usual.square().mean().backward()
    torch.testing.assert_close(out, usual)
    for one, gradient in zip(encoder.parameters(), gradients):
        torch.testing.assert_close(one.grad, gradient, rtol=1e-4, atol=1e-5)


def test_one_value_per_channel_leaves_running_statistics_where_they_are():
    encoder = TableNet.Config(widths=(4,), dropout=0).build((3,)).train()
    norm = encoder.layers[0][1]
    encoder(torch.randn(5, 3))
    before = {name: value.clone() for name, value in norm.named_buffers()}
    row = torch.randn(1, 3)
    alone = encoder(row)
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers())
    assert torch.equal(alone, encoder.eval()(row))
    encoder.train()(torch.randn(5, 3))
    assert not torch.equal(norm.running_mean, before["running_mean"])


def test_slices_are_cut_where_they_should_be():
    volume = torch.arange(6 * 4 * 8, dtype=torch.float32).reshape(1, 1, 6, 4, 8)
    cut = built(ResNet2DSlices.Config(), (1, 6, 4, 8)).cut(volume)
    assert cut.shape == (1, 3, 8, 8)
    assert torch.equal(cut[0, 0, 1:7, 2:6], volume[0, 0, :, :, 4])  # axial
    assert torch.equal(cut[0, 1, 1:7], volume[0, 0, :, 2])  # coronal
    assert torch.equal(cut[0, 2, 2:6], volume[0, 0, 3])  # sagittal
    assert torch.equal(cut[0, 1, 0], cut[0, 1, 1])  # the border, repeated
    config = ResNet2DSlices.Config(mode="multi", slices=2, planes=("sagittal",), coverage=1.0)
    many = built(config, (1, 6, 4, 8)).cut(volume)
    assert many.shape == (2, 1, 8, 8)
    assert torch.equal(many[:, 0, 2:6], volume[0, 0, [1, 4]])


def test_a_mean_of_slices_forgets_their_order_and_attention_does_not():
    torch.manual_seed(0)
    shape = (1, 4, 4, 4)
    volumes = torch.randn(2, *shape)
    for pool, forgets in (("mean", True), ("attention", False)):
        config = ResNet2DSlices.Config(mode="multi", planes=("sagittal",), slices=4, coverage=1.0, pool=pool)
        encoder = config.build(shape).eval()
        with torch.no_grad():
            same = torch.allclose(encoder(volumes), encoder(volumes.flip(2)), atol=1e-5)
        assert same == forgets


def test_matrices_are_read_above_the_diagonal():
    torch.manual_seed(0)
    vectors = ConnectivityNet.Config(widths=(3,)).build((6,)).eval()
    matrices = ConnectivityNet.Config(widths=(3,)).build((4, 4)).eval()
    matrices.load_state_dict(vectors.state_dict())
    matrix = torch.randn(2, 4, 4)
    listed = torch.stack([matrix[:, i, j] for i in range(4) for j in range(i + 1, 4)], 1)
    assert torch.equal(vectors(listed), matrices(matrix))
    # The width is that of the data: nothing stands for an input that a run does not have.
    assert count(built(ConnectivityNet.Config(), (45,))) == 45 * 128 + 128 + 256 + 16384 + 128 + 256


def test_tables_tell_missing_from_zero_or_refuse_it():
    row = torch.tensor([[0.0, 1.0], [float("nan"), 1.0]])
    with pytest.raises(InputError, match="column 0 of the table has missing values"):
        TableNet.Config().build((2,))(row)
    torch.manual_seed(0)
    found = TableNet.Config(missing=True).build((2,)).eval()(row)
    assert found.isfinite().all()
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (["NaiveCNN", "channels=4", "kernels=3", "linear=6,5"], (2, 8, 8, 8)),
        (["BiobankCNN", "channels=4,8", "out_channels=5"], (2, 8, 8, 8)),
        (["TableNet", "widths=6,5", "missing=yes"], (7,)),
    ],
)
def test_as_encoders_of_nodes_they_are_chosen_by_name_and_kept(settings, shape, tmp_path):
    chosen, *others = settings
    words = [f"encoder={chosen}", *(f"encoder.{word}" for word in others), "encoder.level=node"]
    config = override(PretrainConfig(), words).encoder
    assert config.level == "node"
    made = new_encoder(config, VolumePatches.Config(), shape)
    save_encoder(tmp_path, made, {})
    found = load_encoder(tmp_path)
    assert found.identity() == made.identity()
    items = torch.randn(3, *shape)
    assert torch.equal(found(items), made.eval()(items))


def test_wrong_settings_name_their_field():
    for config, settings, field in (
        (NaiveCNN, {"kernels": (5,)}, "kernels"),
        (NaiveCNN, {"dropout": 1.0}, "dropout"),
        (ResNet3D, {"linear": (0,)}, "linear"),
        (ResNet2DSlices, {"planes": ("axial", "axial")}, "planes"),
        (ResNet2DSlices, {"coverage": 0.0}, "coverage"),
        (BiobankCNN, {"channels": ()}, "channels"),
        (TableNet, {"widths": ()}, "widths"),
    ):
        with pytest.raises(InputError, match=field):
            config.Config(**settings)
    with pytest.raises(InputError, match="shrink to nothing in 5 units"):
        BiobankCNN.Config().build(cube(31))
