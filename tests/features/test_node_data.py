"""Items at the nodes, kind by kind: the laws, known values, masks, spaces, and what is refused."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from features.augment_signal import SignalAugment
from features.augment_volume import VolumeAugment
from features.encoders.signal_cnn import SignalCNN
from features.encoders.volume_cnn import VolumeCNN
from features.node_data.section_profiles import SectionProfiles
from features.node_data.vertex_series import VertexSeries
from features.node_data.volume_patches import NiftiVolume, OwnVolume, VolumePatches
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.sockets import Brain
from meshgnn.source.volume import MNI305_TO_MNI152, Volume, between_spaces, read_volume
from meshgnn.testing import assert_encoder, assert_node_data
from tests.features.test_profiles import normal, slab
from tests.synthetic import brain

OWN = VolumePatches.Config(source=OwnVolume.Config(name="ramp"), size=4, spacing_mm=(1.0, 2.0))


def moved(graph: MeshGraph, space: str) -> MeshGraph:
    return graph._replace(meshes=tuple(replace(mesh, space=space) for mesh in graph.meshes))


def ramp(graph: MeshGraph, direction: np.ndarray, voxel_mm: float = 1.5) -> Volume:
    """A volume around the brain whose value is the place along `direction` in mm, plus 100; oblique to its grid."""
    turn = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.1, 1.0, 0.2], [0.05, -0.2, 1.0]]))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * voxel_mm
    low, high = graph.vertices_mm.min(0) - 30, graph.vertices_mm.max(0) + 30
    middle, side = (low + high) / 2, int(np.linalg.norm(high - low) / voxel_mm)
    affine[:3, 3] = middle - affine[:3, :3] @ np.full(3, (side - 1) / 2)
    voxels = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    return Volume(values=(places @ direction + 100).astype(np.float32), affine=affine, space=graph.space)


def test_cubes_of_a_ramp_are_upright_at_every_scale():
    graph = brain(2)
    along = np.array([0.3, -0.5, 0.8])
    volume = ramp(graph, along)
    data = OWN.build(Brain(graph=graph, volumes={"ramp": volume}))
    assert_node_data(data)
    assert data.shape == (2, 4, 4, 4)
    assert data.observed.all()
    nodes = np.arange(0, graph.n_nodes, 7)
    cubes, inside = data.read_masked(nodes)
    assert inside.all()
    low, middle, high = np.percentile(volume.values[volume.values != 0], [25, 50, 75])
    unit = (high - low) / 1.349
    centre = (graph.vertices_mm[nodes] @ along + 100 - middle) / unit
    np.testing.assert_allclose(cubes.mean((1, 2, 3, 4)), centre, atol=2e-3)
    up = graph.surfaces["pial"] - graph.surfaces["white"]
    slope = (up / np.linalg.norm(up, axis=1, keepdims=True))[nodes] @ along / unit
    for scale, spacing in enumerate(OWN.spacing_mm):  # the first axis is the normal, steps are mm
        steps = np.diff(cubes[:, scale], axis=1)
        np.testing.assert_allclose(steps, np.broadcast_to(slope[:, None, None, None], steps.shape) * spacing, atol=2e-3)
    lying = replace(OWN, upright=False).build(Brain(graph=graph, volumes={"ramp": volume})).read(nodes)
    np.testing.assert_allclose(np.diff(lying[:, 0], axis=2), along[1] / unit, atol=2e-3)


def test_coarse_scales_are_smoothed_and_what_lies_outside_is_masked():
    graph = brain(2)
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[:3, 3] = graph.vertices_mm.min(0) - 2
    shape = tuple((np.ptp(graph.vertices_mm, axis=0) * 0.8).astype(int))
    volume = Volume(values=rng.normal(100, 10, shape).astype(np.float32), affine=affine, space=graph.space)
    data = replace(OWN, spacing_mm=(1.0, 8.0)).build(Brain(graph=graph, volumes={"ramp": volume}))
    assert 0.3 < data.observed.mean() < 1
    cubes, inside = data.read_masked(np.flatnonzero(data.observed))
    assert not inside[:, 1].all()
    assert (cubes[~inside] == 0).all()
    assert cubes[:, 1][inside[:, 1]].std() < 0.1 * cubes[:, 0][inside[:, 0]].std()
    assert len(np.unique(data.groups)) > 4


def test_volumes_and_surfaces_meet_in_known_spaces_only(tmp_path: Path):
    graph = moved(brain(2), "fsaverage5")
    along = np.array([0.0, 0.0, 1.0])
    volume = replace(ramp(graph, along), space="MNI152NLin2009aSym")
    point = MNI305_TO_MNI152 @ [10, -20, 35, 1]
    np.testing.assert_allclose(point[:3], [10.695, -18.409, 36.137], atol=0.01)  # FreeSurfer's own example
    np.testing.assert_allclose(between_spaces("MNI152", "fsaverage") @ MNI305_TO_MNI152, np.eye(4), atol=1e-9)
    data = OWN.build(Brain(graph=graph, volumes={"ramp": volume}))
    low, middle, high = np.percentile(volume.values[volume.values != 0], [25, 50, 75])
    there = graph.vertices_mm @ MNI305_TO_MNI152[2, :3] + MNI305_TO_MNI152[2, 3] + 100
    found = data.read(np.arange(graph.n_nodes)).mean((1, 2, 3, 4))
    np.testing.assert_allclose(found, (there - middle) / ((high - low) / 1.349), atol=5e-3)
    strange = Brain(graph=moved(graph, "native"), volumes={"ramp": volume})
    with pytest.raises(InputError, match="no transform between them is known"):
        OWN.files(strange)
    with pytest.raises(InputError, match="has no volume 'ramp'; it has none"):
        OWN.build(Brain(graph=graph))
    with pytest.raises(InputError, match="is no file"):
        NiftiVolume.Config(path=tmp_path / "no.nii").files(Brain(graph=graph))
    nibabel.save(nibabel.Nifti1Image(volume.values, volume.affine), tmp_path / "v.nii.gz")
    back = read_volume(tmp_path / "v.nii.gz", "MNI152")
    np.testing.assert_array_equal(back.values, volume.values)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-4)
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), np.float32), np.eye(4)), tmp_path / "f.nii")
    (tmp_path / "x.nii").write_bytes(b"no image")
    for name, told in (("f.nii", "one volume"), ("x.nii", "NIfTI"), ("none.nii", "NIfTI")):
        with pytest.raises(InputError, match=told):
            read_volume(tmp_path / name, "MNI152")


def test_series_are_standardised_and_flat_ones_are_not_observed():
    graph = brain(2)
    rng = np.random.default_rng(0)
    values = rng.normal(5, 3, (graph.n_nodes, 40)).astype(np.float32)
    values[3], values[4, 7] = 2.0, np.nan
    config = VertexSeries.Config(series="rest", length=32)
    data = config.build(Brain(graph=graph, series={"rest": values}))
    assert_node_data(data)
    assert np.flatnonzero(~data.observed).tolist() == [3, 4]
    items = data.read(np.array([0, 9]))
    np.testing.assert_allclose(items.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(items.std(1), 1, atol=1e-5)
    with pytest.raises(InputError, match="has no series 'bold'; it has rest"):
        VertexSeries.Config().build(Brain(graph=graph, series={"rest": values}))


def test_profiles_as_items(tmp_path: Path):
    graph, stack = slab(tmp_path, normal(-70))
    data = SectionProfiles.Config(depths=12).build(Brain(graph=graph, sections=stack))
    assert_node_data(data)
    assert data.shape == (12,)
    with pytest.raises(InputError, match="has no sections"):
        SectionProfiles.Config().files(Brain(graph=graph._replace(locations=None)))


def test_the_small_encoders_keep_the_laws():
    for network, shape in (
        (VolumeCNN.Config(widths=(8, 16), out_channels=5).build((3, 6, 6, 6)), (3, 6, 6, 6)),
        (SignalCNN.Config(bands=2).build((32,)), (32,)),
    ):
        assert_encoder(network, torch.randn(4, *shape))
        with pytest.raises(InputError, match="takes"):
            network(torch.randn(4, *(size + 1 for size in shape)))
    for config, shape, told in (
        (VolumeCNN.Config(), (48, 48), "choose another encoder"),
        (VolumeCNN.Config(), (1, 2, 2, 2), "shrink to nothing"),
        (SignalCNN.Config(), (3, 8, 8, 8), "choose another encoder"),
        (SignalCNN.Config(), (3,), "too short"),
    ):
        with pytest.raises(InputError, match=told):
            config.build(shape)


@pytest.mark.parametrize("config", [SignalAugment.Config(), VolumeAugment.Config()])
def test_augmentation_repeats_differs_from_view_to_view_and_does_not_know_the_ranks(config):
    items = torch.randn(9, 24) if isinstance(config, SignalAugment.Config) else torch.randn(9, 2, 4, 4, 4)
    augment = config.build()
    whole = augment(items, seed=3, step=5, places=slice(None), batch=9)
    assert torch.equal(whole, augment(items, seed=3, step=5, places=slice(None), batch=9))
    assert not torch.equal(whole, augment(items, seed=3, step=5, places=slice(None), batch=9, view=1))
    for rank in range(2):
        part = slice(rank, None, 2)
        torch.testing.assert_close(augment(items[part], seed=3, step=5, places=part, batch=9), whole[part])
    off = replace(config, **{one: 0.0 for one in ("gain", "offset", "noise", "drop") if hasattr(config, one)})
    still = off.build()(items, seed=3, step=5, places=slice(None), batch=9)
    torch.testing.assert_close(still.flatten(1).sort(1).values, items.flatten(1).sort(1).values)
