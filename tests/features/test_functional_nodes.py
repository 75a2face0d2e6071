"""Runs at the nodes of a mesh: a virtual brain at rest, smoothing on the surface, components as features."""

from dataclasses import replace

import numpy as np
import pytest

from features.functional_components import FunctionalComponents
from features.node_data.vertex_series import VertexSeries
from features.series_features import SeriesFeatures
from meshgnn.errors import InputError, SettingError
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
