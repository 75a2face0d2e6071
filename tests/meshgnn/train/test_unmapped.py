"""Nodes unlike anything annotated are told at the level asked for; nothing is said where nothing can be."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.tables import write_csv
from meshgnn.store import read_arrays, write_arrays
from meshgnn.train.adaptation import Adaptation
from meshgnn.train.stored_baselines import StoredBaselines
from meshgnn.train.unmapped import LEVEL, Unmapped, nearest_distance, unlikeness
from tests.synthetic import brain

CLASSES, COLUMNS, NODES = 3, 6, 1500
CENTRES = 3 * np.random.default_rng(7).standard_normal((CLASSES, COLUMNS))
NO_EDGES = np.zeros((2, 0), np.int32)


def drawn(seed, count=NODES, stretch=1.0):
    """Features, labels and starts of one brain; `stretch`: how another staining scatters them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    features = CENTRES[labels] + stretch * rng.standard_normal((count, COLUMNS))
    start = np.log(np.where(np.eye(CLASSES)[labels] > 0, 0.8, 0.1))
    return features.astype(np.float32), labels, start.astype(np.float32)


def fitted(*seeds):
    parts = [drawn(seed) for seed in seeds]
    number = np.repeat(seeds, NODES)
    return Adaptation.fit(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), number)


def scored(model, features, start):
    return unlikeness(model, features, start, 0.5, NO_EDGES)


@pytest.mark.parametrize("kind", ["far", "blurred"])
@pytest.mark.parametrize("stretch", [1.0, 1.5])
def test_planted_nodes_are_found_and_sound_ones_of_another_staining_are_not(stretch, kind):
    known = Unmapped.of(
        [scored(fitted(2, 3), drawn(1)[0], drawn(1)[2]), scored(fitted(1, 3), drawn(2)[0], drawn(2)[2])]
    )
    features, _, start = drawn(9, stretch=stretch)
    strange = np.arange(NODES) % 25 == 0
    features[strange] = features[strange] + 12 * stretch if kind == "far" else CENTRES[0]
    p = known.p_values(scored(fitted(1, 2, 3), features, start))
    assert np.isfinite(p).all()
    assert (p[strange] <= LEVEL).mean() > 0.95
    assert (p[~strange] <= LEVEL).mean() <= 2 * LEVEL


def test_p_values_are_those_of_the_definition():
    known = Unmapped.of([np.array([1.0, 3.0]), np.array([2.0])])
    np.testing.assert_allclose(known.p_values(np.array([0.5, 2.0, 9.0])), [4 / 4, 3 / 4, 1 / 4])


def test_distance_is_to_the_nearest_mean():
    points, means = np.array([[0, 3], [4, 0]], np.float32), np.array([[0, 0], [5, 0]], np.float32)
    np.testing.assert_allclose(nearest_distance(points, means), [9, 1])


@pytest.mark.parametrize("count", [0, 1])
def test_no_node_and_one_node_have_finite_scores(count):
    features, _, start = drawn(4, count=count)
    found = scored(fitted(1, 2), features, start)
    assert found.shape == (count,)
    assert np.isfinite(found).all()


def test_a_level_needs_as_many_annotated_nodes_as_its_p_value():
    assert not Unmapped.of([np.ones(98)]).reaches(0.01)
    assert Unmapped.of([np.ones(99)]).reaches(0.01)
    assert not Unmapped.of([]).reaches()
    with pytest.raises(ValueError, match="finite"):
        Unmapped(scores=np.array([np.nan], np.float32))


def kept(count):
    features, labels, _ = drawn(1)
    return StoredBaselines(
        points=features[:, :3], labels=labels.astype(np.int32), prior=np.full(CLASSES, 1 / CLASSES, np.float32),
        discriminant=None, weight=0.0, calibrations={}, adaptation=fitted(1, 2), adapted_weight=0.5,
        unmapped=Unmapped.of([np.linspace(0, 2, count)]),
    )  # fmt: skip


def test_stored_scores_say_again_what_they_said_and_old_files_say_nothing(tmp_path):
    features, _, _ = drawn(5)
    features[:3] = 0  # outside cortex
    model, path = kept(500), tmp_path / "s.safetensors"
    model.save(path)
    again = StoredBaselines.load(path)
    p = model.unmapped_p(features, features[:, :3], NO_EDGES)
    np.testing.assert_array_equal(again.unmapped_p(features, features[:, :3], NO_EDGES), p)
    assert (p[:3] == 1).all()
    assert (p[3:] < 1).any()
    assert again.no_unmapped() == ""
    arrays = read_arrays(path)
    write_arrays(path, {name: values for name, values in arrays.items() if name != "unmapped.scores"})
    old = StoredBaselines.load(path)
    assert old.unmapped_p(features, features[:, :3], NO_EDGES) is None
    assert "kept nothing" in old.no_unmapped()
    write_arrays(path, arrays | {"unmapped.scores": np.full(500, np.nan, np.float32)})
    with pytest.raises(InputError, match="finite"):
        StoredBaselines.load(path)


def test_too_few_annotated_nodes_give_no_flag_and_one_line():
    features, _, _ = drawn(5)
    model = kept(20)
    assert model.unmapped_p(features, features[:, :3], NO_EDGES) is None
    assert "20 annotated nodes" in model.no_unmapped()
    assert "\n" not in model.no_unmapped()


def test_the_table_names_the_area_of_a_flagged_node_all_the_same(tmp_path):
    graph = brain()
    votes = np.full((graph.n_nodes, len(graph.areas)), 1 / len(graph.areas), np.float32)
    p = np.where(np.arange(graph.n_nodes) % 2 == 0, 0.001, 0.5).astype(np.float32)
    plain = AreaMap(graph=graph, probabilities=votes)
    rows = {}
    for name, one in (("without", plain), ("with", replace(plain, unmapped_p=p))):
        write_csv(tmp_path / f"{name}.csv", one)
        with (tmp_path / f"{name}.csv").open(encoding="utf-8") as handle:
            rows[name] = list(csv.DictReader(handle))
    assert "unmapped" not in rows["without"][0]
    for before, now, low, inside in zip(rows["without"], rows["with"], p < LEVEL, graph.cortex):
        assert now["unmapped"] == str(int(low and inside))
        assert {key: now[key] for key in before} == before
    with pytest.raises(InputError, match="p-values"):
        replace(plain, unmapped_p=p[:5])
