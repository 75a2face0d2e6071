"""Samplers that know where items lie, batches of several kinds, and the items that they are drawn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from features import pretrain as pretraining
from features.encoders.signal_cnn import SignalCNN
from features.node_data.vertex_series import VertexSeries
from features.node_sets import NodeSet, TrainingItems, node_set
from features.objectives.area_probabilities import AreaProbabilities
from features.objectives.contrastive import SupervisedContrastive
from features.objectives.distance_regression import DistanceRegression
from features.objectives.nt_xent import NTXent
from features.objectives.spatial_contrast import SpatialContrast
from features.objectives.weighted_sum import WeightedSum
from features.samplers.balanced import BalancedBatches
from features.samplers.distance_pairs import DistancePairs
from features.samplers.mixed import MixedBatches
from features.samplers.pool import Pool, apart, joined
from features.samplers.spatial_pairs import SpatialPairs
from features.training import BatchStream
from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable
from meshgnn.mesh.operators import geodesic_graph
from meshgnn.sockets import Brain
from tests.synthetic import brain


def half_labelled(seed: int = 1, soft: bool = False) -> Brain:
    """A brain whose nodes hum at a pitch that changes along y; a class on half of them, probabilities as a table."""
    graph = brain(2, seed=seed)
    rng = np.random.default_rng(seed)
    pitch = 0.2 + 0.15 * np.tanh(graph.vertices_mm[:, 1] / 15)
    labels = np.where(np.arange(graph.n_nodes) % 2 == 0, (graph.vertices_mm[:, 1] > 0).astype(int), -1)
    graph = graph.relabelled(np.where(graph.cortex, labels, -1), Areas(names=("back", "front")))
    if soft:
        front = 1 / (1 + np.exp(-graph.vertices_mm[:, 1] / 8))
        graph = graph.with_table(
            FeatureTable(
                name="maps", values=np.stack([1 - front, front], 1), mask=graph.cortex, columns=("back", "front")
            )
        )
    phase = rng.uniform(0, 2 * np.pi, graph.n_nodes)
    series = np.sin(pitch[:, None] * np.arange(48) * 2 + phase[:, None]) + 0.1 * rng.normal(size=(graph.n_nodes, 48))
    return Brain(graph=graph, series={"rest": series.astype(np.float32)})


def source(mine: Brain, **changes) -> NodeSet:
    return replace(node_set(mine, VertexSeries.Config(series="rest").build(mine)), **changes)


RECIPE = pretraining.PretrainConfig(
    encoder=SignalCNN.Config(widths=(8, 16), out_channels=8), data=VertexSeries.Config(series="rest"), epochs=4,
    epoch_steps=12, threads=1, learning_rate=5e-3, held_out=0,
)  # fmt: skip


def items(needs=("place",), labelled=False, **changes) -> TrainingItems:
    return TrainingItems(
        [source(half_labelled(), **changes), source(half_labelled(2), brain="other")], labelled=labelled, held_out=0,
        memory_mb=10, needs=needs,
    )  # fmt: skip


def test_pairs_in_space_are_near_on_other_sections_and_never_the_same():
    pool = items().pool()
    sampler = SpatialPairs.Config(pairs=40, radius_um=9000, sections=1).build(pool, seed=3)
    for step in range(20):
        drawn = sampler.draw(step)
        np.testing.assert_array_equal(drawn, sampler.draw(step))
        one, other = drawn.reshape(-1, 2).T
        assert len(np.unique(one)) == len(one) == 40
        assert (pool.parts[one] == pool.parts[other]).all()
        assert np.linalg.norm(pool.places_mm[one] - pool.places_mm[other], axis=1).max() <= 9.0
        assert (np.abs(pool.groups[one] - pool.groups[other]) == 1).all()
    with pytest.raises(InputError, match="within radius_um=1; make it larger"):
        SpatialPairs.Config(radius_um=1).build(pool, 0)
    with pytest.raises(InputError, match="known place on a mesh"):
        SpatialPairs.Config().build(Pool(labels=pool.labels, names=(), groups=pool.groups), 0)


@pytest.mark.parametrize("metric", ["euclidean", "geodesic"])
def test_distance_pairs_are_spread_over_distance_within_a_hemisphere(metric: str):
    found = items()
    pool = found.pool()
    sampler = DistancePairs.Config(pairs=50, metric=metric, anchors=30).build(pool, seed=1)
    apart_mm, pairs = [], []
    for step in range(10):
        drawn = sampler.draw(step)
        np.testing.assert_array_equal(drawn, sampler.draw(step))
        pairs.append(drawn.reshape(-1, 2))
        apart_mm.append(sampler.apart_mm(drawn)[::2])
    one, other = np.concatenate(pairs).T
    apart_mm = np.concatenate(apart_mm)
    assert (one != other).all()
    assert (pool.parts[one] == pool.parts[other]).all()
    assert len(np.unique(pool.parts[one])) == 4
    if metric == "euclidean":
        expected = np.linalg.norm(pool.places_mm[one].astype(float) - pool.places_mm[other], axis=1)
    else:
        expected = np.array([found.geodesic_mm(a[None], b[None])[0, 0] for a, b in zip(one, other)])
        straight = np.linalg.norm(pool.places_mm[one] - pool.places_mm[other], axis=1)
        assert (apart_mm >= straight * 0.999).all()
    np.testing.assert_allclose(apart_mm, expected, rtol=1e-5)
    counts, _ = np.histogram(np.log1p(apart_mm), 5)
    assert counts.min() > 0.4 * counts.mean()  # uniformly drawn pairs leave the nearest fifth nearly empty
    assert sampler.typical_mm().std() > 0


def test_geodesic_distances_are_those_of_the_mesh_and_end_at_hemispheres():
    found = items(use=np.arange(half_labelled().graph.n_nodes) % 3 == 0)
    pool = found.pool()
    mine = source(half_labelled(2))
    first = int((pool.parts < 2).sum())  # the items of the other brain follow
    nodes = np.flatnonzero(mine.use)
    right = int(mine.meshes[0].n_vertices)
    ones, others = np.flatnonzero(nodes >= right)[[0, 5, 5]], np.flatnonzero(nodes >= right)[::7]
    graph = geodesic_graph(mine.meshes[1])
    from scipy.sparse.csgraph import dijkstra

    expected = dijkstra(graph, indices=nodes[ones] - right)[:, nodes[others] - right]
    np.testing.assert_allclose(found.geodesic_mm(first + ones, first + others), expected, rtol=1e-5)
    near = found.geodesic_mm(first + ones, first + others, 20.0)
    np.testing.assert_array_equal(np.isfinite(near), expected <= 20)
    assert np.isinf(found.geodesic_mm(first + ones, np.arange(first))).all()
    assert np.isinf(found.geodesic_mm(first + ones, first + np.flatnonzero(nodes < right))).all()


def test_a_mixed_batch_holds_its_parts_and_who_stands_together():
    found = items(("label", "place", "any"), labelled=True)
    pool = found.pool()
    assert (pool.labels < 0).any()
    parts = (
        BalancedBatches.Config(patches=3),
        SpatialPairs.Config(pairs=5, radius_um=9000),
        DistancePairs.Config(pairs=4),
    )
    sampler = MixedBatches.Config(parts=parts).build(pool, 0)
    drawn = sampler.draw(2)
    assert len(drawn) == sampler.size == 6 + 10 + 8
    assert (pool.labels[drawn[:6]] >= 0).all()
    together = joined(sampler)
    assert len(np.unique(together)) == 6 + 5 + 4
    np.testing.assert_array_equal(together[6:].reshape(-1, 2)[:, 0], together[6:].reshape(-1, 2)[:, 1])
    known = apart(sampler, drawn)
    assert np.isnan(known[:16]).all()
    assert np.isfinite(known[16:]).all()
    stream = BatchStream(found.read, pool, sampler, 1, geodesic_mm=12.0)
    whole = stream.rows(drawn, slice(None))
    part = stream.rows(drawn, slice(1, None, 2))
    for name in ("label", "together", "item", "part", "seat", "geodesic_mm", "soft", "place_mm"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[1::2])
    assert whole.geodesic_mm.shape == (24, 24)


MIXED = WeightedSum.Config(parts=(SupervisedContrastive.Config(projection=8), NTXent.Config(projection=8, views=1)))
NEAR = SpatialPairs.Config(pairs=12, radius_um=9000)


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        (NTXent.Config(projection=8, views=1), NEAR),
        (SpatialContrast.Config(projection=8, sigma_mm=4.0), NEAR),
        (SpatialContrast.Config(projection=8, sigma_mm=4.0, metric="geodesic"), NEAR),
        (DistanceRegression.Config(), DistancePairs.Config(pairs=16)),
        (DistanceRegression.Config(), DistancePairs.Config(pairs=16, metric="geodesic", anchors=20)),
        (AreaProbabilities.Config(projection=8), BalancedBatches.Config(patches=12)),
        (MIXED, MixedBatches.Config(parts=(BalancedBatches.Config(patches=8), NEAR))),
    ],
)
def test_every_objective_trains_an_encoder(tmp_path, objective, sampler):
    config = replace(RECIPE, objective=objective, sampler=sampler)
    pretraining.pretrain(config, [source(half_labelled(soft=True))], tmp_path)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    losses = [float(row.split(",")[1]) for row in rows[1:]]
    assert losses[-1] < losses[0] - 0.01


def test_what_does_not_fit_together_is_told(tmp_path):
    mine = source(half_labelled())

    def told(match, source=mine, **changes):
        with pytest.raises(InputError, match=match):
            pretraining.pretrain(replace(RECIPE, **changes), [source], tmp_path)

    told("use sampler=DistancePairs", objective=DistanceRegression.Config(), sampler=NEAR)
    told("add a table whose columns are the areas", objective=AreaProbabilities.Config())
    nowhere = replace(mine, meshes=(), places_mm=np.zeros((0, 3)), sides=np.zeros(0, int))
    told("not known", source=nowhere, objective=SpatialContrast.Config(), sampler=NEAR)
    nothing = replace(mine, labels=np.full(len(mine.labels), -1))
    told("labels are needed", source=nothing, objective=MIXED)
    with pytest.raises(InputError, match="probabilities of areas must be finite"):
        replace(mine, soft=np.full((len(mine.labels), 2), np.nan))
    with pytest.raises(InputError, match=r"probabilities \(5, 2\)"):
        replace(mine, soft=np.ones((5, 2)))
