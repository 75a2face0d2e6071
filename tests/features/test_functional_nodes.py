"""Runs at the nodes of a mesh: a virtual brain at rest, smoothing on the surface, components as features."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.fmri_nodes import connected
from features.functional_components import FunctionalComponents
from features.node_data.vertex_series import VertexSeries
from features.series_features import SeriesFeatures
from meshgnn.data.functional_edges import FunctionalEdges
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.predict import Predict
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import run
from meshgnn.override import override
from meshgnn.progress import silent
from meshgnn.sockets import Brain
from meshgnn.source.virtual.resting_brain import VirtualRestingBrain
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.testing import assert_feature_maker

SMALL = VirtualRestingBrain.Config(people=VirtualSubjects.Config(subjects=4, sites=2, nodes=162), frames=64)


@pytest.fixture(scope="module")
def brain():
    reading = SMALL.build().read()
    return Brain(graph=reading.graph, series=reading.series)


def test_the_resting_brain_is_the_same_by_seed_and_its_areas_have_courses_of_their_own(brain):
    again = SMALL.build().read()
    assert np.array_equal(again.series["bold"], brain.series["bold"])
    quiet = replace(SMALL, smooth=0.0, noise=0.0).build().read()
    labels, side = quiet.graph.labels, quiet.graph.hemisphere
    series = quiet.series["bold"]
    one = int(np.bincount(labels[labels >= 0]).argmax())
    left, right = (series[(labels == one) & (side == name)] for name in ("L", "R"))
    assert np.ptp(left, axis=0).max() == 0, "without noise all nodes of an area follow one course"
    assert np.corrcoef(left[0], right[0])[0, 1] > 0.4, "homotopic areas are alike"
    assert not np.allclose(left[0], right[0])


def test_smoothing_on_the_surface_averages_neighbours_of_cortex_only(brain):
    plain, smooth = VertexSeries.Config().build(brain), VertexSeries.Config(rounds=2).build(brain)
    cortex = np.flatnonzero(brain.graph.cortex)
    assert np.array_equal(smooth.observed[cortex], plain.observed[cortex])
    edges = brain.graph.edges[:, brain.graph.cortex[brain.graph.edges].all(0)]
    alike = [
        np.mean([np.corrcoef(data.read(edges[:1, k])[0], data.read(edges[1:, k])[0])[0, 1] for k in range(0, 400, 7)])
        for data in (plain, smooth)
    ]
    assert alike[1] > alike[0] + 0.2
    assert plain.key() != smooth.key()
    with pytest.raises(SettingError, match="rounds"):
        VertexSeries.Config(rounds=-1)


def test_components_obey_the_laws_of_a_maker_and_tell_areas_apart(brain, tmp_path):
    maker = FunctionalComponents.Config(components=8, data=VertexSeries.Config(rounds=1)).build()
    assert_feature_maker(maker, [brain], tmp_path)
    table = maker.make(brain, tmp_path, silent)
    seen = table.mask
    assert np.allclose(table.values[seen].std(0), 1, atol=1e-3)
    assert np.abs(np.corrcoef(table.values[seen].T) - np.eye(8)).max() < 1e-3
    labels = brain.graph.labels
    known = seen & (labels >= 0)
    middle = {k: table.values[known & (labels == k)].mean(0) for k in np.unique(labels[known])}
    within = np.mean([np.sum((table.values[v] - middle[labels[v]]) ** 2) for v in np.flatnonzero(known)])
    assert within < 0.75 * np.sum(table.values[known].var(0)), "areas hold much of what differs between nodes"


def test_brains_without_a_run_and_runs_too_short_are_told(brain, tmp_path):
    maker = FunctionalComponents.Config().build()
    bare = Brain(graph=brain.graph)
    for one in (maker, SeriesFeatures.Config().build()):
        with pytest.raises(InputError, match="has no series 'bold'"):
            one.inputs(bare)
    short = Brain(graph=brain.graph, series={"bold": brain.series["bold"][:, :10]})
    with pytest.raises(InputError, match="lower the number"):
        maker.make(short, tmp_path, silent)
    with pytest.raises(SettingError, match="components"):
        FunctionalComponents.Config(components=0)


@pytest.mark.parametrize(
    "wrong",
    [{"number": 4}, {"frames": 8}, {"highest_hz": 0.3}, {"homotopic": 1.5}, {"noise": -1.0}],
)
def test_a_resting_brain_that_cannot_be_is_told(wrong):
    with pytest.raises(SettingError):
        replace(SMALL, **wrong)


def test_functional_edges_join_distant_nodes_that_are_alike_and_stay_within_a_part(brain):
    graph = brain.graph
    part = np.where(graph.hemisphere == "L", 0, 1)
    part[:10] = -1
    maker = FunctionalEdges.Config(nearest=3, apart_mm=25, rounds=1).build()
    edges = maker.edges(graph, brain.series, part, graph.edges)
    a, b = edges
    assert (part[a] == part[b]).all()
    assert (part[a] >= 0).all()
    assert graph.cortex[edges].all()
    assert np.linalg.norm(graph.vertices_mm[a] - graph.vertices_mm[b], axis=1).min() >= 25
    assert {(i, j) for i, j in edges.T.tolist()} == {(j, i) for i, j in edges.T.tolist()}
    assert len(np.unique(edges, axis=1).T) == edges.shape[1]
    degree = np.bincount(a, minlength=graph.n_nodes)[graph.cortex & (part >= 0)]
    assert degree.min() >= 3
    series = brain.series["bold"]
    strength = np.mean([np.corrcoef(series[i], series[j])[0, 1] for i, j in edges.T[::20]])
    rng = np.random.default_rng(0)
    nodes = np.flatnonzero(graph.cortex)
    other = np.mean([np.corrcoef(series[i], series[j])[0, 1] for i, j in rng.choice(nodes, (200, 2))])
    assert strength > other + 0.05
    with pytest.raises(InputError, match="has no series 'rest'"):
        FunctionalEdges.Config(series="rest").build().edges(graph, brain.series, part, graph.edges)
    with pytest.raises(SettingError, match="nearest"):
        FunctionalEdges.Config(nearest=0)


@pytest.mark.slow  # a run of its own
def test_a_run_with_functional_edges_trains_and_maps_no_other_brain(tmp_path):
    config = override(
        connected(),
        ["source.people.nodes=162", "source.frames=64", "features=FunctionalComponents", "seeds=0", "controls=false",
         "features.0.components=4", "trainer.folds=2", "trainer.epochs=3"],
        connected.choices,
    )  # fmt: skip
    done = run(config, tmp_path / "run").path
    experiment = config.build()
    plain = replace(config, connect=None).build()
    found = [one._models(RunFolder(done), "mirror")[0].edges.shape[1] for one in (experiment, plain)]
    assert found[0] > found[1]
    with pytest.raises(InputError, match="maps no other brain"):
        Predict.Config(run=done).build()
