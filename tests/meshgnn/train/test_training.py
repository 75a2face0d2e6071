"""Training: resumed equals uninterrupted, worker count does not matter, models come back from disk, pickles do not."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from meshgnn.confusion import macro_f1
from meshgnn.data.inputs import NodeInputs, registered_points
from meshgnn.data.model_inputs import ModelInputs, edges_among
from meshgnn.data.single_brain import single_brain_inputs
from meshgnn.data.split import Folds, HemisphereSplit, validation_folds
from meshgnn.errors import InputError
from meshgnn.nn import GraphSAGE, NetworkConfig
from meshgnn.train.baselines import fixed_recipes
from meshgnn.train.calibration import Calibration
from meshgnn.train.checkpoint import load_tree, save_tree
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import TrainerConfig, ensemble_jobs, fit_members, member_done, member_name, train_member
from meshgnn.train.node_labels import NodeLabels
from meshgnn.train.same_inputs import SameInputs, smooth_warp
from meshgnn.train.stored_baselines import StoredBaselines
from tests.synthetic import brain

NETWORK: NetworkConfig = GraphSAGE.Config(hidden=16)
TRAINER = TrainerConfig(folds=2, epochs=20, validate_every=5, workers=1)


def small_task() -> NodeLabels:
    graph = brain()
    split = HemisphereSplit.Config().build().apply(graph)
    folds = validation_folds(graph, split, 2, Folds(blocks=3, buffer_mm=4.0), 0)
    labelled = split.train & (graph.labels >= 0)
    return NodeLabels(
        features=graph.tables["surface"].values,
        coordinates=(graph.vertices_mm / 30).astype(np.float32),
        unit_mm=30.0,
        edges=split.edges,
        labels=np.where(labelled, graph.labels, -1),
        n_classes=len(graph.areas),
        train=np.stack([fold.train & labelled for fold in folds]),
        validation=np.stack([fold.validation & labelled for fold in folds]),
    ).restricted_to(split.train)


def run_member(folder, config=TRAINER, report=lambda news: None):
    train_member(
        small_task(), NETWORK, config, member=0, seed=0, fold=0, folder=folder, key="k", report=report
    )  # fmt: skip
    return load_tree(folder / "member.safetensors")


def same_weights(a, b):
    return a["weights"].keys() == b["weights"].keys() and all(
        torch.equal(value, b["weights"][name]) for name, value in a["weights"].items()
    )


def test_a_task_holds_no_label_outside_the_training_part(tmp_path):
    task = small_task()
    task.save(tmp_path / "t.safetensors")
    back = NodeLabels.load(tmp_path / "t.safetensors")
    assert back.n_classes == task.n_classes
    np.testing.assert_array_equal(back.edges, task.edges)
    assert len(task.labels) == int(brain().cortex[: brain().meshes[0].n_vertices].sum())
    assert not (task.train & task.validation).any()


def test_a_killed_member_goes_on_and_ends_as_if_nothing_had_happened(tmp_path):
    whole = run_member(tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(news):
        if news["epoch"] == 15:
            raise Killed

    with pytest.raises(Killed):
        run_member(tmp_path / "cut", report=kill)
    assert (tmp_path / "cut" / "last-k.safetensors").is_file()
    assert not member_done(tmp_path / "cut", "k")
    heard = []
    resumed = run_member(tmp_path / "cut", report=lambda news: heard.append(news["epoch"]))
    assert 5 not in heard  # it went on, it did not start again
    assert heard[-1] == 20
    assert same_weights(whole, resumed)
    assert whole["history"] == resumed["history"]


def test_learning_works_and_early_stopping_keeps_the_best(tmp_path):
    member = run_member(tmp_path / "a", replace(TRAINER, epochs=60))
    scores = [entry["validation_macro_f1"] for entry in member["history"]]
    assert max(scores) > 0.5  # chance is 0.25
    assert len(run_member(tmp_path / "b", replace(TRAINER, epochs=500, validate_every=1, patience=2))["history"]) < 400


def test_worker_processes_give_what_one_process_gives(tmp_path):
    small_task().save(tmp_path / "task.safetensors")
    for count in (1, 2):
        heard = []
        place = tmp_path / str(count)
        jobs = ensemble_jobs(NodeLabels, tmp_path / "task.safetensors", NETWORK, TRAINER, (0,), place, "k")
        fit_members(jobs, count, heard.append)
        assert {news["member"] for news in heard if news.get("done")} == {"seed0-fold0", "seed0-fold1"}
    for fold in range(2):
        one, two = (load_tree(tmp_path / n / member_name(0, fold) / "member.safetensors") for n in "12")
        assert same_weights(one, two)


def test_checkpoints_keep_every_kind_of_value_and_refuse_pickles(tmp_path):
    tree = {"a": torch.arange(3), 5: {"b": [1, 2.5, None, "x", True], "c": (torch.ones(1),)}, "nan": float("inf")}
    save_tree(tmp_path / "t.safetensors", tree)
    back = load_tree(tmp_path / "t.safetensors")
    assert torch.equal(back["a"], tree["a"])
    assert back[5]["b"] == tree[5]["b"]
    assert isinstance(back[5]["c"], tuple)
    assert back["nan"] == float("inf")
    content = (tmp_path / "t.safetensors").read_bytes()
    (tmp_path / "t.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a complete checkpoint"):
        load_tree(tmp_path / "t.safetensors")
    (tmp_path / "t.safetensors").write_bytes(pickle.dumps(tree))
    with pytest.raises(InputError, match="pickle"):
        load_tree(tmp_path / "t.safetensors")
    with pytest.raises(TypeError, match="plain values"):
        save_tree(tmp_path / "t.safetensors", {"f": print})


def test_calibration_is_chosen_on_validation():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 3000)
    honest = np.log(np.where(np.eye(3)[labels] > 0, 0.7, 0.15))
    flipped = rng.random(3000) < 0.3
    honest[flipped] = honest[flipped][:, [1, 2, 0]]
    prior = np.full(3, 1 / 3)
    found = Calibration.fit(honest * 4, labels, prior)  # four times too sure
    assert found.temperature > 1.5
    p = found.apply(honest * 4, prior)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)


def seen(labels, coordinates=True, brains=1) -> ModelInputs:
    """The synthetic brain as every model sees it: train on the left, test on the right hemisphere."""
    graph = brain()
    split = HemisphereSplit.Config().build().apply(graph)
    folds = validation_folds(graph, split, 2, Folds(blocks=3, buffer_mm=4.0), 0)
    graph = graph.relabelled(labels, graph.areas)
    config = NodeInputs.Config(coordinates=coordinates, rounds=(2, 5))
    frame = config.build().frame(graph, split.train)
    found = single_brain_inputs(graph, split, frame, config, ("a", "b", "c", "junk"), "mirror", folds)
    return replace(found, brain=(np.arange(graph.n_nodes) % brains).astype(np.int32))


def test_every_baseline_gives_probabilities_and_looks_at_training_labels_only():
    graph = brain()
    split = HemisphereSplit.Config().build().apply(graph)

    def fit(labels):
        inputs = seen(labels)
        found = {name: recipe.run(0) for name, recipe in fixed_recipes(inputs).items()}
        return found | {name: row().probabilities for name, row in SameInputs(inputs, range(2), 0).rows()}

    found, blind = fit(graph.labels), fit(np.where(split.train, graph.labels, -1))
    assert set(found) == {
        "majority", "coordinates_knn", "features_mlp", "features_smoothed", "coordinates_features_mlp",
        "coordinates_features_trees", "position_knn", "position_prior", "lda", "prior_lda", "adapted_prior_lda",
        "same_features_trees", "same_inputs_trees",
    }  # fmt: skip
    for name, p in found.items():
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-4)
        np.testing.assert_allclose(p, blind[name], atol=1e-6)
    judged = split.test & (graph.labels >= 0)
    # The planted areas are mirror images: position must find them.
    assert macro_f1(graph.labels[judged], found["coordinates_knn"][judged].argmax(1), 4) > 0.9
    for name in ("position_knn", "position_prior", "prior_lda", "adapted_prior_lda"):
        assert macro_f1(graph.labels[judged], found[name][judged].argmax(1), 4) > 0.85


def test_models_on_the_same_inputs_see_no_more_than_the_network():
    labels = brain().labels
    assert {name for name, _ in SameInputs(seen(labels, coordinates=False), range(2), 0).rows()} == {
        "lda", "same_features_trees",
    }  # fmt: skip
    task, inputs = NodeLabels.of(seen(labels)), seen(labels)
    np.testing.assert_array_equal(task.features, inputs.features[inputs.part])
    np.testing.assert_array_equal(
        inputs.everything()[inputs.part], np.concatenate([task.features, task.coordinates], 1)
    )


@pytest.mark.parametrize(
    ("coordinates", "classes", "brains"), [(True, 4, 1), (False, 4, 1), (True, 2, 1), (True, 4, 2)]
)
def test_stored_baselines_say_again_what_they_said(tmp_path, coordinates, classes, brains):
    labels = brain().labels
    inputs = seen(np.where(labels >= 0, labels % classes, -1), coordinates)
    number = np.arange(len(labels)) * brains // inputs.part.sum()
    inputs = replace(inputs, brain=np.where(inputs.part, number % brains, brains).astype(np.int32))
    same = SameInputs(inputs, range(2), 0)
    names = ("position_prior", "lda", "prior_lda", "adapted_prior_lda") if coordinates else ("lda",)
    rows = dict(same.rows())
    fitted = {name: rows[name]() for name in names}
    StoredBaselines.of(same, fitted).save(tmp_path / "s.safetensors")
    other = ~inputs.part  # what is adapted is one brain, or one part of it
    stored = StoredBaselines.load(tmp_path / "s.safetensors")
    edges = edges_among(inputs.edges, other)
    found = stored.votes(inputs.features[other], inputs.coordinates[other], edges)
    if coordinates:
        assert stored.adaptation is not None
        assert stored.adaptation.field == (brains > 1)
    assert set(found) == set(names)
    for name, votes in found.items():
        np.testing.assert_allclose(votes, fitted[name].probabilities[other], atol=1e-5)
    assert stored.adapts == coordinates


def test_out_of_fold_votes_come_from_members_that_did_not_see_the_fold():
    labels = brain().labels
    inputs = seen(labels)
    rows = dict(SameInputs(inputs, range(2), 0).rows())
    before = rows["same_inputs_trees"]().out_of_fold
    hidden = inputs.validation[0]
    changed = replace(inputs, labels=np.where(hidden, (inputs.labels + 1) % 4, inputs.labels))
    # Only votes before calibration must agree: the calibration looks at all labels.
    one, other = (SameInputs(i, range(2), 0)._votes("trees").out_of_fold for i in (inputs, changed))
    np.testing.assert_array_equal(one[hidden[inputs.known]], other[hidden[inputs.known]])
    assert not np.array_equal(one, other)
    assert before.shape == (int(inputs.known.sum()), 4)


def test_with_several_brains_the_prior_of_a_labelled_node_comes_from_other_brains():
    inputs = seen(brain().labels, brains=2)
    votes = SameInputs(inputs, range(2), 0)._nearest(inputs.coordinates, 30.0, 1).out_of_fold
    places = np.flatnonzero(inputs.known)
    for place in (0, 57, 200):
        others = places[inputs.brain[places] != inputs.brain[places[place]]]
        away = np.linalg.norm(inputs.coordinates[others] - inputs.coordinates[places[place]], axis=1)
        assert votes[place].argmax() == inputs.labels[others[away.argmin()]]


def test_a_single_brains_prior_is_as_unsure_out_of_fold_as_a_warp_makes_it():
    inputs = seen(brain().labels)
    same = SameInputs(inputs, range(2), 0)
    known = inputs.labels[inputs.known]
    votes = same._nearest(inputs.coordinates, inputs.unit_mm, 5)
    right = [(p.argmax(1) == known).mean() for p in (votes.whole[inputs.known], votes.out_of_fold)]
    assert right[1] < right[0] - 0.02
    assert right[1] > 0.5
    moved = smooth_warp(inputs.coordinates, 6.0 / inputs.unit_mm, np.random.default_rng(0)) - inputs.coordinates
    assert 3.0 < np.sqrt((moved**2).mean()) * inputs.unit_mm < 9.0


def test_shuffled_edges_keep_degrees_and_parts_and_no_neighbourhood():
    inputs = seen(brain().labels)
    mixed = inputs.with_edges_shuffled(0)
    count = len(inputs.labels)
    np.testing.assert_array_equal(
        np.bincount(mixed.edges[0], minlength=count), np.bincount(inputs.edges[0], minlength=count)
    )
    keys, real = (set((one.edges[0].astype(int) * count + one.edges[1]).tolist()) for one in (mixed, inputs))
    assert len(keys) == inputs.edges.shape[1]
    assert len(keys & real) < 0.05 * len(real)
    np.testing.assert_array_equal(mixed.edges, inputs.with_edges_shuffled(0).edges)


def test_shuffled_edges_of_one_piece_do_not_depend_on_the_others():
    """Or a brain more would change what earlier ones were trained on."""
    both = seen(brain().labels)
    right = ~both.part
    alone = replace(both, edges=both.edges[:, right[both.edges[0]]]).with_edges_shuffled(0).edges
    mixed = both.with_edges_shuffled(0).edges
    assert sorted(alone.T.tolist()) == sorted(mixed[:, right[mixed[0]]].T.tolist())


def test_inputs_refuse_leaks():
    inputs = seen(brain().labels)
    with pytest.raises(InputError, match="leave the training part"):
        replace(inputs, labels=np.zeros(len(inputs.labels), np.int32))
    with pytest.raises(InputError, match="validates on nodes"):
        replace(inputs, validation=inputs.train)


def test_registered_spheres_give_a_prior_of_their_own():
    graph = brain()
    unit = np.concatenate([mesh.vertices_mm - mesh.vertices_mm.mean(0) for mesh in graph.meshes])
    graph = graph._replace(surfaces={**graph.surfaces, "sphere_reg": unit.astype(np.float32)})
    points = registered_points(graph, "L")
    left, right = points[graph.hemisphere == "L"], points[graph.hemisphere == "R"]
    np.testing.assert_allclose(left, right, atol=1e-5)  # mirror images correspond vertex by vertex
    inputs = replace(seen(graph.labels), registered=points)
    rows = dict(SameInputs(inputs, range(2), 0).rows())
    assert {"registered_prior", "registered_lda"} <= set(rows)
    judged = (graph.hemisphere == "R") & (graph.labels >= 0)
    votes = rows["registered_prior"]().probabilities
    assert macro_f1(graph.labels[judged], votes[judged].argmax(1), 4) > 0.9


def test_a_model_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no trained model"):
        Ensemble.load(tmp_path)
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="pickle"):
        Ensemble.load(tmp_path)
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match="pickle"):
        Ensemble.load(tmp_path)


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11])
def test_any_number_of_epochs_trains(tmp_path, epochs):
    member = run_member(tmp_path, replace(TRAINER, epochs=epochs, validate_every=1))
    assert len(member["history"]) == epochs
