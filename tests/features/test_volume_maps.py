"""Maps of a whole volume at nodes: where they lie is known exactly, and what they say in closed form."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.naive_cnn import NaiveCNN
from features.encoders.resnet3d import ResNet3D
from features.encoders.volume_cnn import VolumeCNN
from features.maps.derivatives import COLUMNS, DerivativeBank
from features.maps.lattice import Lattice, placed_maps
from features.maps.network import NetworkMaps, map_stages
from features.node_data.trilinear import sampled
from features.node_data.volume_patches import Mni152T1, OwnVolume
from features.transfer.pretrained import Pretrained
from features.volume_maps import VolumeMaps
from features.weight_files import write_weights
from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.graph import MeshGraph
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.progress import silent
from meshgnn.sockets import Brain
from meshgnn.source.virtual.surfaces import read_template
from meshgnn.source.volume import Volume, between_spaces
from meshgnn.store import load_table
from meshgnn.testing import assert_feature_maker
from tests.integration.test_volume_features import TINY, in_space
from tests.synthetic import brain


class Mean(nn.Conv3d):
    """The mean over every window: it gives a linear function back at the middle of the window."""

    def __init__(self, kernel, stride=1, padding=0, dilation=1):
        super().__init__(1, 1, kernel, stride, padding, dilation, bias=False)
        nn.init.constant_(self.weight, 1 / np.prod(self.kernel_size))


class Residual(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return sum(branch(x) for branch in self.branches) / len(self.branches)


STAGES = (
    nn.Sequential(Mean(5), nn.ReLU(), nn.AvgPool3d(2)),
    Residual(Mean((2, 4, 6), stride=2, padding=1, dilation=(1, 1, 1)), Mean((2, 4, 6), stride=2, padding=1)),
    nn.Sequential(Mean(3, dilation=2), nn.Identity(), Mean((1, 3, 1), (1, 1, 2), (0, 1, 0))),
)


def ramp(shape, slope, offset=10.0):
    return (np.tensordot(slope, np.indices(shape), 1) + offset).astype(np.float32)


def test_every_stage_gives_a_linear_volume_back_where_its_lattice_says():
    shape, slope = (60, 64, 68), (0.3, 0.5, 0.7)
    values = torch.from_numpy(ramp(shape, slope))
    maps = placed_maps(STAGES, values[None])
    assert len(maps) == 3
    assert maps[0].lattice == Lattice(step=(2, 2, 2), start=(2.5, 2.5, 2.5))
    # Kernel 2 with padding 1 begins half a place before the first, kernel 4 half a place behind it: x 2 + 2.5.
    assert maps[1].lattice == Lattice(step=(4, 4, 4), start=(1.5, 3.5, 5.5))
    for one in maps:
        j = np.indices(one.values.shape[1:])
        places = [s + d * j[axis] for axis, (s, d) in enumerate(zip(one.lattice.start, one.lattice.step))]
        wanted = sum(a * x for a, x in zip(slope, places)) + 10
        inner = (slice(3, -3),) * 3
        assert one.values[0].numpy()[inner] == pytest.approx(wanted[inner], abs=1e-3)


def test_maps_that_do_not_lie_on_one_lattice_are_refused_and_an_average_over_space_ends_them():
    volume = torch.zeros(1, 16, 16, 16)
    with pytest.raises(InputError, match="one lattice"):
        placed_maps((Residual(Mean(3, 2, 1), nn.AvgPool3d(2)),), volume)
    assert len(placed_maps((Mean(3), nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())), volume)) == 1
    with pytest.raises(InputError, match="no stage"):
        placed_maps((nn.Upsample(scale_factor=2),), volume)
    with pytest.raises(InputError, match="too small"):
        placed_maps((Mean(20),), volume)


@pytest.mark.parametrize(
    ("config", "steps", "starts"),
    [
        # Padded by 3 of 7, pooled by 3 with padding 1: centres stay on every second voxel.
        (ResNet3D.Config(depth=18, stem="image"), [2, 4, 8, 16, 32], [0] * 5),
        (BiobankCNN.Config(channels=(4, 4), out_channels=2), [2, 4], [0.5, 1.5]),
        # Unpadded 5, pooled by 2: (5 - 1) / 2 + 1 / 2, then 2 x (2 + 0.5) more.
        (NaiveCNN.Config(channels=(2, 2), kernels=(5, 5), linear=(2,)), [2, 4], [2.5, 7.5]),
        (VolumeCNN.Config(widths=(8, 8), out_channels=2), [1, 2], [0, 0]),
    ],
)
def test_the_lattices_of_our_encoders(config, steps, starts):
    encoder = config.build((1, 32, 32, 32)).eval()
    maps = placed_maps(map_stages(encoder), torch.zeros(1, 32, 32, 32))
    assert [one.lattice.step[2] for one in maps] == steps
    assert [one.lattice.start[2] for one in maps] == starts


def test_a_node_reads_what_lies_at_its_millimetres(tmp_path):
    """A linear volume on a turned grid, a trained-looking network of one averaging kernel, nodes anywhere."""
    weights = tmp_path / "weights.safetensors"
    config = NaiveCNN.Config(channels=(1, 1), kernels=(5, 3), linear=(1,), dropout=0.0)
    encoder = config.build((1, 32, 32, 32))
    with torch.no_grad():
        for stage in encoder.convolutions:
            convolution = next(one for one in stage.modules() if isinstance(one, nn.Conv3d))
            convolution.weight.fill_(1 / convolution.weight.numel())
            convolution.bias.zero_()
    write_weights(weights, encoder)
    maps = NetworkMaps.Config(
        encoder=config, size=32, stages=(0,),
        pretrained=Pretrained.Config(file=weights, sha256=sha256(weights.read_bytes()).hexdigest()),
    ).build()  # fmt: skip
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = 1.5 * turn, (3, -4, 5)
    values, slope = ramp((30, 34, 38), (0.1, 0.2, -0.15), 30), np.array([0.1, 0.2, -0.15])
    voxels = np.random.default_rng(1).uniform(8, 22, (50, 3))
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    found, names = maps.at(values, affine, points, np.zeros((50, 3)), silent)
    assert names == ("stage0_0",)
    # Max-pooling of a linear function takes the window's largest corner: half the sum of |slope| more.
    assert found[:, 0] == pytest.approx(voxels @ slope + 30 + np.abs(slope).sum() / 2, abs=1e-3)


def test_derivatives_of_a_quadratic_volume_are_known():
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = 2 * turn, (-40, 10, 5)
    q, b = np.diag([0.02, -0.01, 0.03]) + 0.004, np.array([0.3, -0.2, 0.5])
    places = np.stack(np.indices((48, 48, 48)), -1) @ affine[:3, :3].T + affine[:3, 3]
    values = (np.einsum("...i,ij,...j->...", places, q, places) + places @ b).astype(np.float32)
    points = np.random.default_rng(1).uniform(20, 28, (20, 3)) @ affine[:3, :3].T + affine[:3, 3]
    normals = np.random.default_rng(2).standard_normal((20, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    bank = DerivativeBank.Config(scales_mm=(3.0, 6.0)).build()
    found, names = bank.at(values, affine, points, normals, silent)
    assert names[:7] == tuple(f"{name}_3mm" for name in COLUMNS)
    exact = np.einsum("vi,ij,vj->v", points, q, points) + points @ b
    slope, curve = points @ (2 * q) + b, np.einsum("vi,ij,vj->v", normals, 2 * q, normals)
    for k, scale in enumerate((3.0, 6.0)):
        own = dict(zip(COLUMNS, found[:, 7 * k : 7 * k + 7].T))
        # Smoothing adds s^2 tr Q; interpolating a quadratic between voxels of h mm at most h^2 / 8 of its curvature.
        assert own["value"] == pytest.approx(exact + scale**2 * np.trace(q), abs=0.1)
        assert own["gradient"] == pytest.approx(scale * np.linalg.norm(slope, axis=1), rel=0.01)
        assert own["normal"] == pytest.approx(scale * (slope * normals).sum(1), abs=0.05)
        assert own["normal2"] == pytest.approx(scale**2 * curve, rel=0.02, abs=0.01)
        assert np.c_[own["hessian1"], own["hessian2"], own["hessian3"]] == pytest.approx(
            np.tile(scale**2 * np.linalg.eigvalsh(2 * q), (20, 1)), rel=0.02, abs=0.01
        )


def own_brain(seed=0):
    """A small brain in a volume of its own."""
    graph = brain(2, seed=seed)
    low, high = graph.vertices_mm.min(0) - 12, graph.vertices_mm.max(0) + 12
    affine = np.eye(4)
    affine[:3, 3] = low
    shape = tuple(np.ceil(high - low).astype(int).tolist())
    values = np.random.default_rng(seed).random(shape).astype(np.float32) + 1
    volume = Volume(values=values, affine=affine, space=graph.space)
    count = graph.n_nodes
    return Brain(graph=graph, volumes={"T1w": volume}, train=np.arange(count) % 2 == 0, fold=np.full(count, -1))


SMALL = NetworkMaps.Config(encoder=VolumeCNN.Config(widths=(8, 8), out_channels=2), size=8)


@pytest.mark.parametrize("maps", [DerivativeBank.Config(scales_mm=(2.0,)), SMALL])
@pytest.mark.parametrize("components", [0, 3])
def test_the_maker_keeps_the_laws_of_makers(maps, components, tmp_path):
    config = VolumeMaps.Config(source=OwnVolume.Config(), maps=maps, components=components, spacing_mm=3.0)
    assert_feature_maker(config.build(), [own_brain()], tmp_path)


def test_components_are_those_of_training_nodes_and_carry_over_to_another_brain(tmp_path):
    one, other = own_brain(0), own_brain(1)
    config = VolumeMaps.Config(source=OwnVolume.Config(), maps=SMALL, components=3, spacing_mm=3.0)
    maker = config.build()
    assert maker.fit([one], tmp_path, silent) == ["components.safetensors"]
    table = maker.make(one, tmp_path, silent)
    here = one.train & one.graph.cortex & table.mask
    assert np.cov(table.values[here].T) == pytest.approx(np.diag(table.values[here].var(0, ddof=1)), abs=1e-4)
    assert table.values[here].mean(0) == pytest.approx(0, abs=1e-4)
    assert maker.make(other, tmp_path, silent).columns == table.columns
    more = VolumeMaps.Config(source=OwnVolume.Config(), maps=SMALL, components=99, spacing_mm=3.0).build()
    with pytest.raises(InputError, match="components=99: there are 16 columns"):
        more.fit([one], tmp_path, silent)


def test_a_stage_that_is_not_there_is_told():
    far = VolumeMaps.Config(source=OwnVolume.Config(), maps=NetworkMaps.Config(encoder=SMALL.encoder, stages=(7,)))
    with pytest.raises(InputError, match=r"maps\.stages names 7; the stages with maps are 0 to 1"):
        far.build().make(own_brain(), Path(), silent)


@pytest.mark.slow
def test_the_mni152_t1_at_the_nodes_of_fsaverage5(tmp_path):
    """What T1 must show there: grey matter between bright white matter and dark fluid."""
    try:
        sides = [read_template(None, side) for side in "LR"]
        Mni152T1.Config().files(own_brain())[0].stat()
    except (InputError, OSError) as error:
        pytest.skip(f"this nilearn ships no fsaverage5 or no MNI152 T1: {error}")
    meshes = tuple(
        SurfaceMesh(
            vertices_mm=((one.white_mm + one.pial_mm) / 2).astype(np.float32), faces=one.faces, hemisphere=one.name,
            space="fsaverage",
        )
        for one in sides
    )  # fmt: skip
    surfaces = {kind: np.concatenate([getattr(one, f"{kind}_mm") for one in sides]) for kind in ("white", "pial")}
    thick = np.linalg.norm(surfaces["pial"] - surfaces["white"], axis=1) > 0.5
    graph = MeshGraph(brain="fsaverage5", meshes=meshes, cortex=thick, surfaces=surfaces)
    maker = VolumeMaps.Config(maps=DerivativeBank.Config(scales_mm=(2.0, 8.0)), spacing_mm=3.0).build()
    table = maker.make(Brain(graph=graph), tmp_path, silent)
    assert len(table.values) == 20484
    assert table.mask.all()
    own = dict(zip(table.columns, table.values[thick].T))
    assert (own["normal_2mm"] < 0).mean() > 0.85  # towards pial it grows dark
    t1 = Mni152T1.Config().volume(Brain(graph=graph))
    there, back = between_spaces("fsaverage", t1.space), np.linalg.inv(t1.affine)
    at = {}
    for kind, points in surfaces.items():
        mm = points @ there[:3, :3].T + there[:3, 3]
        at[kind] = sampled(t1.values, mm @ back[:3, :3].T + back[:3, 3])[0][thick]
    assert np.corrcoef(own["normal_2mm"], at["pial"] - at["white"])[0, 1] > 0.4
    assert np.corrcoef(own["value_2mm"], at["pial"] + at["white"])[0, 1] > 0.5


@pytest.mark.slow  # a run of its own
def test_maps_are_one_more_table_of_the_surface_experiment(tmp_path):
    folder = in_space(tmp_path / "ball", brain(), "fsaverage")
    settings = (f"source.folder={folder}", *TINY, "features.VolumeMaps.spacing_mm=4",
                "features.VolumeMaps.maps.scales_mm=4", "features.VolumeMaps.components=3",
                "trainer.epochs=5")  # fmt: skip
    words = [word for one in settings for word in ("--set", one)]
    assert entry(["surface:with_volume_maps", "--out", str(tmp_path / "out"), *words]) == 0
    table = load_table(tmp_path / "out" / "features" / "maps" / "table")
    assert table.columns == ("maps_0", "maps_1", "maps_2")
    words = ["--set", f"run={tmp_path / 'out'}", "--set", f"source.folder={folder}"]
    assert entry(["predict", "--out", str(tmp_path / "map"), *words]) == 0
