"""Attributions of trained networks: exact on networks that are known, on the planted region on those that learnt."""

import csv
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.table_net import TableNet
from features.explain.areas import likeness, map_record
from features.explain.attribution import Methods, attributions, output_of
from features.explain.experiment import TraitExplanation
from features.explain.finished import FinishedRun
from features.fusion.model_files import load_network
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.node_data.trilinear import sampled
from features.samplers.epochs import EpochBatches
from features.subject_data.convert import VolumeConversion
from features.subject_data.grid import Cube
from features.subject_data.volumes import SubjectVolumes
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.experiment.runner import run
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.middle import middle_brain
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_json
from tests.integration.test_volume_features import in_space

SPACING = (12.0, 12.0, 12.0)
BLOCKS = (
    InputBlock(name="t1", encoder=BiobankCNN.Config(channels=(4,), out_channels=4)),
    InputBlock(name="table", encoder=TableNet.Config(widths=(4,))),
)


class Linear(torch.nn.Module):
    """One number and two classes: w . volume, and logits (0, -2 w . volume)."""

    names, classes = ("t1",), (0, 2)

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.Parameter(weights)

    def forward(self, items, present):
        dot = (items["t1"] * self.weights).flatten(1).sum(1)
        return torch.stack([dot, torch.zeros_like(dot), -2 * dot], 1)


@pytest.mark.parametrize("target", [0, 1])
def test_attributions_of_a_linear_network_are_known_in_closed_form(target):
    torch.manual_seed(0)
    weights, reference = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    volumes, there = torch.randn(3, 2, 4, 4, 4), torch.ones(3, 1, dtype=torch.bool)
    slope, parts = weights * (1, -2)[target], {}
    for method in ("saliency", "integrated_gradients", "occlusion"):
        parts[method] = attributions(
            Linear(weights), target, "t1", {"t1": volumes}, there, reference, method, Methods(window_mm=24), SPACING
        )
    own = slope * (volumes - reference)
    assert torch.allclose(parts["saliency"], slope.expand(3, -1, -1, -1, -1))
    assert torch.allclose(parts["integrated_gradients"], own, atol=1e-5)
    cubes = own.reshape(3, 2, 2, 2, 2, 2, 2, 2).sum((1, 3, 5, 7), keepdim=True)  # 24 mm are two voxels; all channels
    assert torch.allclose(parts["occlusion"], cubes.expand(3, 2, 2, 2, 2, 2, 2, 2).reshape(own.shape), atol=1e-4)


def test_what_does_not_differ_from_the_reference_is_not_occluded():
    class Counting(Linear):
        rows = 0

        def forward(self, items, present):
            self.rows += len(items["t1"])
            return super().forward(items, present)

    network, volumes = Counting(torch.ones(1, 8, 8, 8)), torch.zeros(1, 1, 8, 8, 8)
    volumes[..., :2, :2, :2] = 1
    found = attributions(
        network, 0, "t1", {"t1": volumes}, torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 8, 8, 8), "occlusion",
        Methods(window_mm=24), SPACING,
    )  # fmt: skip
    assert network.rows <= 4
    assert float(found[..., :2, :2, :2].min()) == 8
    assert float(found.sum()) == 64


def test_integrated_gradients_add_up_and_who_lacks_another_input_is_explained_alone():
    torch.manual_seed(1)
    network = MultiInputNet.Config(blocks=BLOCKS, head=TraitHead.Config(widths=(4,))).build(
        {"t1": (1, 8, 8, 8), "table": (3,)}, (2, 0)
    )
    network.eval()
    volumes, reference = torch.randn(3, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8)
    present = torch.tensor([[True, True], [True, False], [True, True]])
    items = {"t1": volumes, "table": torch.randn(2, 3)}
    found = attributions(
        network, 1, "t1", items, present, reference, "integrated_gradients", Methods(steps=64), SPACING
    )
    score = output_of((2, 0), 1)
    gained = score(network(items, present)) - score(network({**items, "t1": torch.zeros_like(volumes)}, present))
    assert torch.allclose(found.flatten(1).sum(1), gained, atol=1e-3)
    alone = attributions(
        network, 1, "t1", {"t1": volumes[1:2]}, present[1:2], reference, "integrated_gradients", Methods(steps=64),
        SPACING,
    )  # fmt: skip
    assert torch.allclose(alone, found[1:2], atol=1e-6)


def test_of_many_classes_the_predicted_one_is_explained():
    outputs = torch.tensor([[9.0, 1.0, 4.0, 1.0]])
    assert float(output_of((0, 3), 1)(outputs)[0]) == pytest.approx(4 - 1)


def test_a_node_is_found_where_the_deformation_took_it():
    cohort = VirtualImages.Config(people=VirtualSubjects.Config(subjects=4, sites=2), size=32, deform_mm=6.0).build()
    head, points = cohort.head, np.array([[0.0, -80.0, 10.0], [40.0, 0.0, 20.0], [-30.0, 20.0, 0.0]])
    there = cohort.individual_mm(1, points)
    assert np.linalg.norm(there - points, axis=1).max() > 1
    back = np.linalg.inv(head.affine)
    for axis, ramp in enumerate(np.indices(head.t1.shape, np.float32)):
        moved = head.deformed(ramp, cohort._displacement(1))
        said, _ = sampled(moved, there @ back[:3, :3].T + back[:3, 3])
        assert said == pytest.approx((points @ back[:3, :3].T + back[:3, 3])[:, axis], abs=0.03)


def test_a_map_that_random_weights_give_too_has_failed():
    rng, areas = np.random.default_rng(0), {"a": (np.arange(20), np.arange(0)), "b": (np.arange(20, 40), np.arange(0))}
    size = rng.random((5, 40)).astype(np.float32)
    size[:, 20:] += 1
    size[0, :3] = np.nan
    other = rng.random((5, 40)).astype(np.float32)
    third = other + 0.01 * rng.random((5, 40)).astype(np.float32)
    for random, among, passed in ((size * 3, size + 1, False), (other, third, True)):
        values = {
            "trained/magnitude": size,
            "trained/signed": -size,
            "random/magnitude": random,
            "other/magnitude": among,
        }
        found = map_record("sex", "T1w", "saliency", values, areas, ("b",), 0.8, True)
        assert found.passed is passed
        assert [area.area for area in found.areas] == ["b", "a"]
        assert found.planted_rank == 1
        assert found.areas[0].right is None
    assert likeness(np.ones(9), np.arange(9.0)) == 1


def trained(**changes):
    settings = {
        "cohort": VirtualImages.Config(
            people=VirtualSubjects.Config(subjects=48, sites=3, missing=0.0), size=16, sex_effect=0.8
        ),
        "targets": ("sex",),
        "inputs": (
            TraitInput(
                name="T1w",
                data=SubjectVolumes.Config(),
                encoder=BiobankCNN.Config(channels=(8, 16), out_channels=16, dropout=0.0),
            ),
        ),
        "conversion": VolumeConversion.Config(cube=Cube.Config(size=16)),
        "head": TraitHead.Config(widths=()),
        "split": SubjectSplit.Config(parts=4, cross=False, keep=("family",)),
        "trainer": TraitTrainer(
            folds=2, epochs=30, patience=30, sampler=EpochBatches.Config(size=16),
            optimiser=Optimiser.Config(learning_rate=3e-3, weight_decay=0.05),
        ),
    }  # fmt: skip
    return TraitPrediction.Config(**{**settings, **changes})


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    run(trained(), folder / "run")
    config = TraitExplanation.Config(run=folder / "run", subjects=4, methods=Methods(steps=8, window_mm=36))
    return config, run(config, folder / "out").path


def test_the_planted_region_comes_out_on_top_and_random_weights_do_not_show_it(explained):
    _, out = explained
    maps = read_json(out / "metrics.json")["maps"]
    assert [one["method"] for one in maps] == ["saliency", "integrated_gradients", "occlusion"]
    for one in maps:
        assert one["areas"][0]["area"] == "V1", one["method"]
        assert one["areas"][0]["planted"]
        assert not any(area["planted"] for area in one["areas"][1:])
        assert one["passed"]
        assert one["random_r"] < 0.9 * max(one["random_among"], 0.25)
        assert one["tells"], "the network beats chance"
        assert one["subjects"] == 4
    with (out / "areas.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 3 * 33
    assert [row["rank"] for row in rows[:33]] == [str(k) for k in range(1, 34)]
    assert (out / "report.html").read_text().count("Planted in: V1 (rank 1)") == 3


def test_maps_are_files_that_workbench_reads(explained):
    _, out = explained
    graph = middle_brain()
    left = nibabel.load(out / "maps" / "template_hemi-L_desc-sexT1w_attribution.func.gii")
    assert [array.meta["Name"] for array in left.darrays][:2] == [
        "saliency trained/magnitude", "saliency trained/signed"
    ]  # fmt: skip
    values, labels = left.darrays[0].data, graph.labels[: len(left.darrays[0].data)]
    assert np.isnan(values[~graph.cortex[: len(values)]]).all()
    inside = np.isfinite(values)
    here = labels == graph.areas.names.index("V1")
    assert values[here & inside].mean() > 2 * values[~here & inside].mean()


@pytest.mark.slow
def test_an_atlas_of_ones_own_names_the_areas(explained, tmp_path):
    config, out = explained
    folder = in_space(tmp_path / "template", middle_brain(), "fsaverage")
    only = replace(config, mesh=SurfaceFolder.Config(folder=folder), methods=Methods(names=("saliency",)))
    (own,) = read_json(run(only, tmp_path / "out").path / "metrics.json")["maps"]
    first = read_json(out / "metrics.json")["maps"][0]
    assert [area["area"] for area in own["areas"]] == [area["area"] for area in first["areas"]]
    assert own["areas"][0]["magnitude"] == pytest.approx(first["areas"][0]["magnitude"], rel=1e-5)
    assert "planted" not in own["areas"][0]


@pytest.mark.slow
def test_other_thresholds_are_told_without_new_attributions_and_a_failed_map_is_named(explained, tmp_path):
    config, out = explained
    shutil.copytree(out, tmp_path / "out")
    again = run(replace(config, alike=1e-6), tmp_path / "out", resume=True).path
    log = (again / "log.txt").read_text()
    assert "saliency-sex: unchanged, kept" in log
    failed = [one for one in read_json(again / "metrics.json")["maps"] if not one["passed"]]
    assert failed
    assert "like the map of random weights" in log
    assert "FAILED" in (again / "report.html").read_text()


@pytest.mark.slow
def test_networks_that_learnt_nothing_fail_the_sanity_check(explained, tmp_path, monkeypatch):
    monkeypatch.setattr(FinishedRun, "members", lambda self, network, number: self.fresh(network, number, draw=7))
    real = load_network(explained[0].run / "networks" / "main" / "division0" / "seed0-fold0")

    def fresh(self, network, number, draw=0):
        torch.manual_seed(draw)
        return [real.config.build(real.shapes, real.classes).eval() for _ in range(2)]

    monkeypatch.setattr(FinishedRun, "fresh", fresh)
    only = replace(explained[0], methods=Methods(names=("saliency", "integrated_gradients"), steps=8))
    found = read_json(run(only, tmp_path / "out").path / "metrics.json")["maps"]
    assert [one["passed"] for one in found] == [False, False]
    assert "FAILED" in (tmp_path / "out" / "report.html").read_text()


def test_random_weights_are_not_those_that_training_started_from(explained):
    source = FinishedRun.read(explained[0].run)
    fresh = source.fresh("main", 0)
    start = trained().network(("T1w",))
    for seed in (0, 1):
        torch.manual_seed(seed)
        other = start.build({"T1w": (1, 16, 16, 16)}, (2,))
        assert all(not torch.equal(one.head.targets[0].weight, other.head.targets[0].weight) for one in fresh)
    assert not torch.equal(fresh[0].head.targets[0].weight, fresh[1].head.targets[0].weight)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ("age",)}, "targets: there is no 'age'"),
        ({"inputs": ("FLAIR",)}, "inputs: there is no 'FLAIR'"),
        ({"network": "T1w_alone"}, "network: the run has no 'T1w_alone'"),
        ({"mesh": SurfaceFolder.Config()}, "no surface folder"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_stage(explained, changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        run(replace(explained[0], **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_be_explained_are_refused_in_one_line(explained, tmp_path, capsys):
    def refused(folder):
        assert entry(["explain", "--set", f"run={folder}", "--out", str(tmp_path / "no")]) == 2
        told = capsys.readouterr().err.strip()
        assert "\n" not in told
        return told

    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "needed is one of traits" in refused(explained[1])
    copy = tmp_path / "run"
    shutil.copytree(explained[0].run, copy)
    (copy / "networks" / "main" / "division0" / "seed0-fold0" / "network.safetensors").unlink()
    assert "network.safetensors: is missing" in refused(copy)
    (copy / "metrics.json").unlink()
    assert "not finished" in refused(copy)
    assert entry(["explain", "--out", str(tmp_path / "no")]) == 2
    assert "--set run=RUN" in capsys.readouterr().err
