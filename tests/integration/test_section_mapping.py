"""From stacks to area maps, with made-up meshes and features: stages, protocols, leaks, files."""

import csv
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from experiments.virtual_brain import virtual_brain
from meshgnn.config import Config
from meshgnn.data.inputs import NodeInputs
from meshgnn.errors import InputError, LeakError
from meshgnn.experiment.runner import run, stage_keys
from meshgnn.experiment.section_mapping import SectionMapping
from meshgnn.graph import FeatureTable, NodeLocations
from meshgnn.override import override
from meshgnn.sockets import Truth
from meshgnn.source.cohort import StackFolders, VirtualCohort
from meshgnn.source.sections import read_stack, write_tiff
from meshgnn.store import load_graph, read_arrays, write_json
from meshgnn.train.fit import TrainerConfig
from tests.figures import compare
from tests.synthetic import brain

POSITIONS = np.arange(-28.0, 28.1, 4.0)
NUMBERS = {"one": 1, "two": 2, "three": 3}


def made_up(name, space):
    """A brain of a seed, its nodes located on the nearest section of its stack."""
    graph = brain(seed=0, noise=0.4)
    rng = np.random.default_rng(NUMBERS.get(name, 9))
    table = graph.tables["surface"]
    noisy = table.values + 0.3 * rng.normal(size=table.values.shape).astype(np.float32)
    meshes = tuple(replace(mesh, space=space) for mesh in graph.meshes)
    graph = graph._replace(brain=name, meshes=meshes, tables={})
    points = graph.vertices_mm
    nearest = np.abs(points[:, 1, None] - POSITIONS).argmin(1)
    residual = np.abs(points[:, 1] - POSITIONS[nearest])
    locations = NodeLocations(
        section=nearest, row_px=(69.5 - points[:, 2] * 2), column_px=(139.5 + points[:, 0] * 2),
        normal_angle_deg=np.zeros(len(points)), obliqueness_deg=np.abs(points[:, 1]) * 3, residual_mm=residual,
        observed=residual <= 2.2,
    )  # fmt: skip
    return graph._replace(locations=locations), noisy


def write_folder(folder, name, annotate=3):
    graph, _ = made_up(name, name)
    (folder / "annotations").mkdir(parents=True)
    rows, drawn = [["file", "index", "position_mm", "pixel_um", "thickness_um", "usable"]], [["index", "labels"]]
    rng = np.random.default_rng(NUMBERS.get(name, 9))
    row, column = np.mgrid[0:140, 0:280]
    for index, position in enumerate(POSITIONS):
        image = rng.integers(150, 200, (140, 280)).astype(np.uint8)
        write_tiff(folder / f"s{index:02d}.tif", image, 500)
        rows.append([f"s{index:02d}.tif", index, position, 500, 20, 1])
        if annotate and index % annotate == 1:
            near = np.abs(graph.vertices_mm[:, 1] - position) < 3
            pixels = np.stack([graph.locations.row_px[near], graph.locations.column_px[near]], 1)
            away = np.hypot(row[..., None] - pixels[:, 0], column[..., None] - pixels[:, 1])
            keys = np.where(away.min(-1) < 8, graph.labels[near][away.argmin(-1)] + 1, 0)
            write_tiff(folder / "annotations" / f"s{index:02d}.tif", keys.astype(np.uint8), 500)
            drawn.append([index, f"s{index:02d}.tif"])
    for path, table in ((folder / "sections.csv", rows), (folder / "annotations" / "annotations.csv", drawn)):
        with path.open("w", newline="") as handle:
            csv.writer(handle).writerows(table)
    areas = [{"key": k + 1, "name": f"A{k + 1}", "colour": [0.2 * k, 0.5, 1 - 0.2 * k, 1]} for k in range(4)]
    (folder / "annotations" / "areas.json").write_text(json.dumps(areas))
    if not annotate:
        for path in sorted((folder / "annotations").iterdir()):
            path.unlink()
        (folder / "annotations").rmdir()
    return folder


class Mesher:
    """Stands in for the reconstruction; the truth is known."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        truth: bool = True

        def build(self):
            return Mesher(self)

    def __init__(self, config):
        self.config = config

    def make(self, name, stack, out, progress):
        write_json(out / "made.json", {"brain": name})
        progress("mesh", 1, 1)
        return ["made.json"]

    def load(self, stack, out):
        name = json.loads((out / "made.json").read_text())["brain"]
        return made_up(name, name)[0], read_stack(stack, space=name)

    def truth(self, stack, out):
        graph, _ = self.load(stack, out)
        nothing = np.zeros(graph.n_nodes, bool)
        nothing[:5] = graph.cortex[:5]
        labels = np.where(nothing, -1, graph.labels)
        return (
            Truth(labels=labels, areas=graph.areas, unmatched=nothing, missed=np.ones(4)) if self.config.truth else None
        )

    def check(self, stack):
        pass

    def true_areas(self, stack):
        return made_up("one", "one")[0].areas if self.config.truth else None

    def judged(self, stack, out):
        told = stack / "truth" / "brain.json"
        return json.loads(told.read_text()) if told.is_file() else {"distance_mm_mean": 0.5}

    def measures(self, out):
        return {"euler_L": 2}


class Given:
    """Stands in for a maker of features."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        noise: float = 0.0
        name: str = "given"

        def build(self):
            return Given(self)

    def __init__(self, config):
        self.config, self.name = config, config.name

    def inputs(self, one):
        return []

    def fit(self, brains, folder, progress):
        assert all((one.graph.labels >= 0).any() for one in brains)
        write_json(folder / "learnt.json", [one.graph.brain for one in brains])
        return ["learnt.json"]

    def make(self, one, folder, progress):
        assert one.graph.brain in NUMBERS
        _, values = made_up(one.graph.brain, "x")
        values = values + self.config.noise * np.random.default_rng(5).normal(size=values.shape)
        mask = one.graph.locations.observed
        return FeatureTable(
            name=self.name, values=np.where(mask[:, None], values, 0), mask=mask,
            columns=tuple(f"{self.name}{k}" for k in range(values.shape[1])),
        )  # fmt: skip


def config(tmp_path, **more):
    base = SectionMapping.Config(
        cohort=StackFolders.Config(train=(tmp_path / "one", tmp_path / "two"), unseen=(tmp_path / "three",)),
        mesh=Mesher.Config(), features=(Given.Config(),), compared=(Given.Config(noise=3.0, name="noisy"),),
        inputs=NodeInputs.Config(rounds=(2,), rim=False, check=False), seeds=(0, 1),
        trainer=TrainerConfig(folds=2, epochs=20, validate_every=5, workers=2), controls=False,
    )  # fmt: skip
    return replace(base, **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("stacks")
    for name in NUMBERS:
        write_folder(place / name, name)
    done = run(config(place, controls=True), place / "out")
    return place, done.path, json.loads((done.path / "metrics.json").read_text())


def test_a_run_scores_what_it_scored_before(finished):
    compare("sections", finished[2])


def test_both_protocols_are_judged_beside_their_baselines(finished):
    _, _, metrics = finished
    assert metrics["brains"] == {"training": ["one", "two"], "unseen": ["three"]}
    assert set(metrics["leakage"].values()) == {0}
    assert metrics["test"]["macro_f1"] > 0.6
    assert metrics["test"]["macro_f1"] > metrics["baselines"]["majority"]["macro_f1"] + 0.3
    assert set(metrics["variants"]) == {"without_coordinates", "other_features", "not_adapted"}
    assert metrics["test"]["macro_f1"] != metrics["variants"]["not_adapted"]["macro_f1"]
    assert "not_adapted" not in metrics["gap_filling"]["variants"]
    # Whatever sees positions is adapted to the brain, by what it sees itself.
    adapted = {name for name, row in metrics["variants"].items() if "whole brains at once" in row["sees"]}
    assert adapted == {"other_features"}
    gaps = metrics["gap_filling"]
    rows = metrics["baselines"]
    assert {
        "position_knn", "position_prior", "lda", "prior_lda", "adapted_prior_lda", "same_features_trees",
        "same_inputs_trees", "same_inputs_mlp", "shuffled_edges",
    } <= set(rows)  # fmt: skip
    assert set(metrics["not_run"]) == {"registered_prior"}
    assert (rows["lda"]["fits"], rows["same_inputs_mlp"]["fits"], metrics["test"]["fits"]) == (1, 2, 2)
    assert rows["prior_lda"]["sees"] == "the network's inputs"
    assert {"nearest_annotation", "label_propagation", "contour_interpolation"} <= set(gaps["baselines"])
    assert {"prior_lda_and_annotations", "same_inputs_trees_and_annotations"} <= set(gaps["baselines"])
    assert {"network_alone", "without_coordinates"} <= set(gaps["variants"])
    assert gaps["judged_by"] == "the truth"
    assert gaps["distance_to_annotation_mm"]["judged"] > 0
    assert metrics["left_out"] == {"unmatched_nodes": 5, "missed_nodes": 4.0}
    assert metrics["test"]["macro_f1_all_cortex"] < metrics["test"]["macro_f1"]
    assert set(metrics["test"]["macro_f1_by_brain"]) == {"three"}
    joined = gaps["annotations"]
    assert joined["weight"] in [float(weight) for weight in joined["hidden_sections_macro_f1"]]
    interval = metrics["ours_minus"]["majority"]
    assert 0 < interval["low"] <= interval["difference"] <= interval["high"]
    assert interval["over"] == "blocks"
    ours = metrics["test"]["macro_f1"] - rows["majority"]["macro_f1"]
    assert interval["difference"] == pytest.approx(ours)  # the same means of seeds as in the table
    assert metrics["reconstruction"]["brains"]["two"]["euler_L"] == 2
    assert sum(row["nodes"] for row in metrics["by_obliqueness_deg"]["main"].values()) <= metrics["nodes"]["test"]


def test_several_features_are_also_compared_with_the_first_alone(tmp_path):
    for name in NUMBERS:
        write_folder(tmp_path / name, name)
    both = (Given.Config(), Given.Config(noise=3.0, name="noisy"))
    names = {"main": ("given", "noisy"), "without_coordinates": ("given", "noisy"), "first_alone": ("given",)}
    several = config(tmp_path, features=both, compared=())
    assert {name: tables for name, (tables, _) in several.build().variants.items()} == names
    assert set(replace(several, first_alone=False).build().variants) == {"main", "without_coordinates"}
    assert set(replace(several, features=both[:1]).build().variants) == {"main", "without_coordinates"}


def test_every_brain_gets_its_files(finished):
    _, out, _ = finished
    for name in NUMBERS:
        label = nibabel.load(out / "predictions" / f"sub-{name}_hemi-L_atlas-predicted_dseg.label.gii")
        assert {"A1", "A4"} <= set(label.labeltable.get_labels_as_dict().values())
        assert (out / "export" / name / f"{name}.html").stat().st_size > 1e5
        assert len(list((out / "export" / name / "sections").glob("*_areas.geojson"))) == len(POSITIONS)
        assert (out / "export" / name / "graph.graphml").is_file()
    report = (out / "report.html").read_text()
    assert "Between annotated sections" in report
    assert "Oblique cuts" in report


def test_a_finished_run_is_kept_and_a_damaged_stage_done_again(finished, capsys):
    place, out, metrics = finished
    run(config(place, controls=True), out, resume=True)
    assert "unchanged, kept" in capsys.readouterr().out
    (out / "brains" / "two" / "features.safetensors").write_bytes(b"")
    run(config(place, controls=True), out, resume=True)
    told = capsys.readouterr().out
    assert "mesh-two: unchanged, kept" in told
    assert "features-two: unchanged" not in told
    again = json.loads((out / "metrics.json").read_text())
    assert again["test"] == metrics["test"]


def test_a_brain_more_redoes_only_what_reads_it(tmp_path):
    for name in (*NUMBERS, "four"):
        write_folder(tmp_path / name, name)

    def keys(train=("one", "two"), unseen=("three",), **more):
        cohort = StackFolders.Config(
            train=tuple(tmp_path / name for name in train), unseen=tuple(tmp_path / name for name in unseen)
        )
        experiment = config(tmp_path, cohort=cohort, **more).build()
        return stage_keys(experiment.stages())

    def redone(new):
        return {name for name, key in new.items() if before.get(name) != key}

    before = keys()
    own = {"sections-four", "mesh-four", "truth-four", "features-four"}
    assert redone(keys(unseen=("three", "four"))) == {*own, "baselines", "borders", "evaluate", "export"}
    assert redone(keys(train=("one", "two", "four"))) == set(keys(train=("one", "two", "four"))) - {
        f"{kind}-{name}" for kind in ("sections", "mesh", "truth") for name in NUMBERS
    } - {"borders"}  # fmt: skip
    assert {"mesh-two", "encoder", "train"} <= redone(keys(train=("one",), unseen=("two", "three")))
    (tmp_path / "three" / ".DS_Store").write_bytes(b"x")
    assert redone(keys()) == set()
    (tmp_path / "three" / "s01.tif").write_bytes((tmp_path / "three" / "s02.tif").read_bytes())
    own = {f"{kind}-three" for kind in ("sections", "mesh", "truth", "features")}
    assert redone(keys()) == {*own, "baselines", "borders", "evaluate", "export"}


@pytest.mark.slow  # a run of its own
def test_a_truth_that_changes_is_judged_by_anew_and_nothing_is_learnt_again(tmp_path, capsys):
    for name in NUMBERS:
        write_folder(tmp_path / name, name)

    def put(distance):
        (tmp_path / "three" / "truth").mkdir(exist_ok=True)
        write_json(tmp_path / "three" / "truth" / "brain.json", {"distance_mm_mean": distance})

    settings = config(tmp_path, compared=(), without_coordinates=False, seeds=(0,))
    put(0.5)
    run(settings, tmp_path / "out")
    put(0.9)
    capsys.readouterr()
    done = run(settings, tmp_path / "out", resume=True)
    kept = set(re.findall(r"] ([\w-]+): unchanged, kept", capsys.readouterr().out))
    anew = {"truth-three", "borders", "evaluate", "export"}
    assert {stage.name for stage in settings.build().stages()} - kept == anew
    told = json.loads((done.path / "metrics.json").read_text())["reconstruction"]["brains"]
    assert (told["two"]["distance_mm_mean"], told["three"]["distance_mm_mean"]) == (0.5, 0.9)
    # A truth that is gone judges no longer: annotated sections are hidden instead, where there are any.
    before = stage_keys(settings.build().stages())
    shutil.rmtree(tmp_path / "three" / "truth")
    after = stage_keys(settings.build().stages())
    assert before["mesh-three"] != after["mesh-three"]


def test_a_section_in_two_stacks_ends_the_run(finished, tmp_path):
    place, *_ = finished
    for name in NUMBERS:
        write_folder(tmp_path / name, name)
    (tmp_path / "three" / "s03.tif").write_bytes((place / "one" / "s05.tif").read_bytes())
    with pytest.raises(LeakError, match="unseen stack"):
        run(config(tmp_path), tmp_path / "out")


def test_wrong_cohorts_are_told_before_anything_is_written(tmp_path):
    write_folder(tmp_path / "one", "one")
    write_folder(tmp_path / "two", "two", annotate=0)
    write_folder(tmp_path / "three", "three")
    one = tmp_path / "one"
    for wrong, words in (
        (config(tmp_path), "annotations.csv"),
        (config(tmp_path, cohort=StackFolders.Config(train=(tmp_path / "nowhere",))), "sections.csv"),
        (config(tmp_path, cohort=StackFolders.Config()), "cohort.train"),
        (
            config(tmp_path, cohort=StackFolders.Config(train=(one, one))),
            "named by its folder",
        ),
        (config(tmp_path, cohort=VirtualCohort.Config(seeds=(1,), unseen=(1,))), "no brain to train on"),
        (config(tmp_path, cohort=VirtualCohort.Config(seeds=(1, 2), unseen=(3,))), "cohort.unseen"),
    ):
        with pytest.raises(InputError, match=words):
            run(wrong, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert override(
        config(tmp_path), ["cohort=VirtualCohort", "cohort.seeds=5,6", "cohort.unseen=6"]
    ).cohort.unseen == (6,)


def test_wrong_stacks_are_told_before_anything_is_written(tmp_path):
    for name in NUMBERS:
        write_folder(tmp_path / "right" / name, name)

    def wrong(name, change, words):
        place = shutil.copytree(tmp_path / "right", tmp_path / name)
        change(place / "two")
        with pytest.raises(InputError, match=words) as caught:
            run(config(place), place / "out")
        assert "two" in str(caught.value)
        assert not (place / "out").exists()

    def labels(stack, image):
        write_tiff(stack / "annotations" / "s04.tif", image, 500)

    def areas(stack):
        path = stack / "annotations" / "areas.json"
        path.write_text(path.read_text().replace('"A2"', '"B2"'))

    def leak(stack):
        (stack / "s03.tif").write_bytes((stack.parent / "three" / "s05.tif").read_bytes())

    def cut(stack):
        (stack / "s03.tif").write_bytes((stack / "s03.tif").read_bytes()[:-500])

    wrong("key", lambda stack: labels(stack, np.full((140, 280), 77, np.uint8)), "key 77 is not in areas.json")
    wrong("size", lambda stack: labels(stack, np.ones((14, 28), np.uint8)), "14 x 28")
    wrong("kind", lambda stack: labels(stack, np.ones((140, 280), np.float32)), "whole numbers")
    wrong("areas", areas, "the same areas.json")
    wrong("leak", leak, "unseen stack")
    wrong("cut", cut, "s03.tif")


def test_what_mesh_maker_and_encoder_cannot_take_is_told_before_anything_is_written(tmp_path):
    for name in NUMBERS:
        write_folder(tmp_path / name, name)
    wings = virtual_brain()  # patches of 100 um; these sections have pixels of 500
    coarse = r"one: sections of 500 um per px .* set features.0.pretrain.data.pixel_um=500"
    with pytest.raises(InputError, match=coarse):
        run(config(tmp_path, features=wings.features), tmp_path / "out")
    drawn = replace(wings.cohort, brain=replace(wings.cohort.brain, pixel_um=250.0))
    with pytest.raises(InputError, match="virtual brains: sections of 250 um"):
        run(replace(wings, cohort=drawn), tmp_path / "out")
    table = tmp_path / "three" / "sections.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:4]))
    shutil.rmtree(tmp_path / "three" / "annotations")
    with pytest.raises(InputError, match="three: 3 of 3 sections are usable; at least 4"):
        run(config(tmp_path, mesh=wings.mesh), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unseen_stack_without_annotations_is_mapped_and_not_judged(finished, tmp_path):
    for name in ("one", "two"):
        write_folder(tmp_path / name, name)
    write_folder(tmp_path / "three", "three", annotate=0)
    done = run(
        config(tmp_path, mesh=Mesher.Config(truth=False), compared=(), without_coordinates=False, seeds=(0,), hide=0),
        tmp_path / "out",
    )
    metrics = json.loads((done.path / "metrics.json").read_text())
    assert "test" not in metrics
    assert (done.path / "predictions" / "three.csv").is_file()
    assert "Nothing to judge by" in (done.path / "report.html").read_text()
    assert Path(done.path / "export" / "three" / "three.html").is_file()


def test_a_real_stack_without_truth_is_judged_on_hidden_annotated_sections(tmp_path):
    for name in ("one", "two"):
        write_folder(tmp_path / name, name, annotate=2)
    settings = config(
        tmp_path, mesh=Mesher.Config(truth=False), compared=(), without_coordinates=False, seeds=(0,), hide=3,
        controls=False, cohort=StackFolders.Config(train=(tmp_path / "one", tmp_path / "two")),
    )  # fmt: skip
    done = run(settings, tmp_path / "out")
    metrics = json.loads((done.path / "metrics.json").read_text())
    gaps = metrics["gap_filling"]
    assert gaps["judged_by"] == "hidden annotated sections"
    assert gaps["test"]["macro_f1"] > 0.4
    assert gaps["distance_to_annotation_mm"]["judged"] > gaps["distance_to_annotation_mm"]["all"]  # told, not hidden
    folder = done.path / "brains" / "one"
    hidden = read_arrays(folder / "hidden.safetensors")["labels"]
    graph = load_graph(folder / "graph")
    sections = graph.locations.section
    drawn_on = np.unique(sections[graph.labels >= 0])
    for number in np.unique(sections[hidden >= 0]):
        assert not (graph.labels[sections == number] >= 0).any()
        assert drawn_on.min() < number < drawn_on.max()  # annotated neighbours on both sides stay
    # The map itself shows all that was drawn.
    shown = list(csv.DictReader((done.path / "predictions" / "one.csv").open()))
    assert any(shown[k]["area"] for k in np.flatnonzero(hidden >= 0))
