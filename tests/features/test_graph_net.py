"""Meshes as one more input of subjects: what is read, the graph network on it, and both beside a volume network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.graph_net import GraphNet
from features.encoders.table_net import TableNet
from features.fusion.model_files import load_network, save_network
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.samplers.epochs import EpochBatches
from features.standard_mesh import standard_mesh
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.subject_data.meshes import SubjectMeshes
from features.subject_data.volumes import SubjectVolumes
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput, TraitItems
from features.traits.linear import linear_tables, sees
from features.traits.pooled import joined_late
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.errors import InputError
from meshgnn.experiment.runner import run
from meshgnn.nn import MLP, GraphSAGE
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.images_folder import write_images, write_nodes
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_json
from meshgnn.testing import assert_encoder, assert_subject_data

PEOPLE = VirtualSubjects.Config(subjects=12, sites=3)
SMALL = GraphNet.Config(trunk=GraphSAGE.Config(hidden=8, layers=1, propagation=0), parcels=12, out_channels=4)
VOLUMES = BiobankCNN.Config(channels=(4,), out_channels=4)
NODES = 324


def items(count, seed=0):
    """[B, V, 3] with a tenth of the nodes outside the mask."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, NODES, 3)).astype(np.float32)
    values[..., -1] = rng.random((count, NODES)) > 0.1
    return torch.from_numpy(np.where(values[..., -1:] > 0, values, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("meshes")
    write_images(VirtualImages.Config(people=PEOPLE, size=16, meshes=True).build(), place)
    return place


def people_of(folder):
    return ParticipantTable.Config(folder=folder, targets=("sex",)).build().read()


def test_neighbours_of_a_standard_mesh_are_those_of_the_virtual_subjects():
    graph = VirtualSubjects.Config(subjects=4, sites=2).build().read().subjects[0].graph
    mesh = standard_mesh(NODES)
    wanted = {tuple(edge) for edge in graph.edges.T.tolist()}
    assert {tuple(edge) for edge in mesh.edges.T.tolist()} == wanted
    assert mesh.edges.shape[1] == 2 * 2 * (3 * 162 - 6)
    parcel = mesh.parcels(12)
    assert parcel[:12].tolist() == list(range(12))
    assert parcel[162:174].tolist() == list(range(12, 24))
    assert np.bincount(parcel, minlength=24).min() >= 6
    with pytest.raises(InputError, match="300 nodes are no mesh"):
        standard_mesh(300)


def test_the_encoder_keeps_the_laws_of_encoders():
    for config in (SMALL, GraphNet.Config(parcels=0, trunk=MLP.Config(hidden=8, layers=1, propagation=0))):
        torch.manual_seed(0)
        assert_encoder(config.build((NODES, 3)), items(5))


def test_neighbours_matter_and_nodes_outside_the_mask_are_not_pooled():
    torch.manual_seed(0)
    graph, alone = (
        GraphNet.Config(trunk=kind.Config(hidden=8, layers=1, propagation=0, dropout=0.0), parcels=0).build((NODES, 3))
        for kind in (GraphSAGE, MLP)
    )
    one = items(1)
    outside = int((one[0, :, 2] == 0).nonzero()[0])
    other = one.clone()
    other[0, outside, 0] = 5.0  # no value that a mesh gives: only neighbours may see it
    with torch.no_grad():
        assert torch.equal(alone.eval()(one), alone(other))
        assert not torch.equal(graph.eval()(one), graph(other))


def test_a_rank_without_a_mesh_gives_gradients_of_zero():
    encoder = SMALL.build((NODES, 3))
    assert encoder(items(3)[:0]).shape == (0, 4)
    encoder(items(3)[:0]).sum().backward()
    assert all(one.grad is not None and float(one.grad.abs().max()) == 0 for one in encoder.parameters())


def test_in_a_network_of_several_inputs_it_is_kept_on_disk_and_runs_for_those_who_have_it(tmp_path):
    torch.manual_seed(0)
    blocks = (InputBlock(name="mesh", encoder=SMALL), InputBlock(name="table", encoder=TableNet.Config(widths=(4,))))
    network = MultiInputNet.Config(blocks=blocks, head=TraitHead.Config(widths=())).build(
        {"mesh": (NODES, 3), "table": (5,)}, (2, 0)
    )
    present = torch.tensor([[True, True], [False, True], [True, False]])
    batch = {"mesh": items(2), "table": torch.randn(2, 5)}
    said = network.eval()(batch, present)
    said[1].sum().backward()
    assert all(one.grad is None or float(one.grad.abs().max()) == 0 for one in network.encoders[0].parameters())
    save_network(tmp_path, network, {})
    assert torch.equal(load_network(tmp_path)(batch, present), said)


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (SMALL, (7,), "encodes nodes"),
        (SMALL, (90, 3), "90 nodes are no mesh"),
        (GraphNet.Config(parcels=162), (84, 3), "parcels=162 of a hemisphere of 42"),
    ],
)
def test_other_items_are_refused(config, shape, words):
    with pytest.raises(InputError, match=words):
        config.build(shape)


def test_items_are_the_features_of_the_virtual_subjects_standardised_by_training_subjects(folder):
    people, train = people_of(folder), np.arange(12) < 8
    data = SubjectMeshes.Config(folder=folder).build(people, train)
    assert_subject_data(data)
    assert data.shape == (NODES, 7)
    assert data.features == ("profileMean", "profileSkewness", "thickness")
    values = data.read(np.arange(12))
    known = values[0, :, -1] == 1
    assert values[:, ~known].any() == 0
    inside = values[:8][:, known]
    clipped = np.abs(inside[..., :6]) >= 5
    assert not clipped.any()
    assert inside[..., :6].mean(0) == pytest.approx(0, abs=1e-5)
    assert inside[..., :6].std(0) == pytest.approx(1, abs=1e-4)
    assert np.ptp(inside[..., 3:6], axis=1).max() < 1e-6  # of the whole brain: the same at all nodes
    graphs = [one.graph for one in PEOPLE.build().read().subjects]
    plain = SubjectMeshes.Config(folder=folder, relative=False).build(people, train).read(np.arange(12))
    assert plain.shape == (12, NODES, 4)
    thick = np.stack([graph.tables["surface"].values[:, 0] for graph in graphs])[:, known]
    wanted = (thick - thick[:8].mean(0)) / thick[:8].std(0)
    assert plain[:, known, 2] == pytest.approx(np.clip(wanted, -5, 5), abs=1e-3)


def test_meshes_leave_the_other_inputs_as_they_were():
    plain, more = (VirtualImages.Config(people=PEOPLE, size=16, absent=0.3, meshes=one).build() for one in (0, 1))
    assert np.array_equal(plain.traits.present, more.traits.present)
    assert np.array_equal(plain.volume(3).values, more.volume(3).values)
    assert plain.mesh(0) is None
    assert 0 < sum(more.mesh(k) is None for k in range(12)) < 12


def test_bad_meshes_are_named_and_left_out(folder, tmp_path):
    people, cohort = people_of(folder), VirtualImages.Config(people=PEOPLE, size=16, meshes=True).build()
    for number, name in enumerate(people.ids[:6]):
        write_nodes(tmp_path / name / "surf", name, cohort.mesh(number))
    names = [tmp_path / name / "surf" / f"{name}_hemi-L_thickness.shape.gii" for name in people.ids]
    names[0].unlink()
    names[1].write_text("no image")
    coarse = VirtualImages.Config(
        people=VirtualSubjects.Config(subjects=12, sites=3, nodes=642), size=16, meshes=True
    ).build()
    write_nodes(names[2].parent, people.ids[2], coarse.mesh(2))
    config = SubjectMeshes.Config(folder=tmp_path)
    data = config.build(people, np.ones(12, bool))
    assert {bad.name: bad.reason for bad in data.bad} == dict(
        zip(people.ids, ("incomplete", "damaged", "other_size"))
    )  # fmt: skip
    assert data.observed.tolist() == [False] * 3 + [True] * 3 + [False] * 6
    with pytest.raises(InputError, match=r"refuse|the first is"):
        SubjectMeshes.Config(folder=tmp_path, bad="refuse").build(people, np.ones(12, bool))
    with pytest.raises(InputError, match="no participant has features of nodes"):
        SubjectMeshes.Config(folder=tmp_path / "nowhere").build(people, np.ones(12, bool))


def test_linear_models_see_means_of_parcels_within_the_mask():
    class Nodes:
        shape, observed, groups = (NODES, 3), np.ones(2, bool), np.zeros(2, np.int32)

        def read(self, subjects):
            return items(2).numpy()[subjects]

        def key(self):
            return ""

    found = TraitItems({"mesh": Nodes()})
    table = linear_tables(found)["linear_mesh"]
    assert table.shape == (2, 84 * 2)
    parcel, values = standard_mesh(NODES).parcels(42), items(2).numpy()[1]
    here = (parcel == 50) & (values[:, 2] > 0)
    assert table[1, 100:102] == pytest.approx(values[here, :2].mean(0), abs=1e-6)
    assert sees(found)["linear_mesh"] == "mesh, averaged over 84 parcels"


@pytest.mark.slow  # `python -m tests.install` runs it from the command line
def test_graph_volume_and_both_stand_in_one_table_of_the_same_subjects(tmp_path):
    config = TraitPrediction.Config(
        cohort=VirtualImages.Config(
            people=VirtualSubjects.Config(subjects=60, sites=3, missing=0.0, shift=8.0), size=16, meshes=True
        ),
        targets=("sex",),
        inputs=(
            TraitInput(name="T1w", data=SubjectVolumes.Config(), encoder=VOLUMES),
            TraitInput(name="mesh", data=SubjectMeshes.Config(), encoder=replace(SMALL, out_channels=8)),
        ),
        conversion=VolumeConversion.Config(cube=Cube.Config(size=16)),
        head=TraitHead.Config(widths=()),
        split=SubjectSplit.Config(parts=3, cross=False, keep=("family",)),
        trainer=TraitTrainer(
            folds=2, epochs=14, patience=14, sampler=EpochBatches.Config(size=8),
            optimiser=Optimiser.Config(learning_rate=1e-2, weight_decay=0.05),
        ),
    )  # fmt: skip
    metrics = read_json(run(config, tmp_path / "run").path / "metrics.json")["targets"]["sex"]
    rows = metrics["baselines"]
    assert {"T1w_alone", "mesh_alone", "linear_mesh", "linear_T1w", "linear"} <= set(rows)
    assert rows["mesh_alone"]["auroc"] > 0.85
    assert rows["mesh_alone"]["sees"] == "mesh"
    assert rows["late_fusion"]["fits"] == 4
    assert metrics["subjects"] > 10


def test_a_mesh_of_ours_is_a_mesh_of_freesurfers():
    """The first nodes of fsaverage5 are those of fsaverage4: what `parcels` rests on."""
    fine, rough = standard_mesh(2 * 642), standard_mesh(2 * 162)
    assert np.array_equal(fine.places[:162], rough.places[:162])


def test_late_fusion_averages_the_networks_of_the_inputs_that_a_subject_has():
    one, two = np.array([[0.2, 0.8], [np.nan, np.nan], [np.nan] * 2]), np.array([[0.6, 0.4], [0.1, 0.9], [np.nan] * 2])
    assert np.allclose(joined_late([one, two]), [[0.4, 0.6], [0.1, 0.9], [np.nan] * 2], equal_nan=True)
