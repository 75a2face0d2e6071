"""How far a map is to be believed: kept beside it, shown in the table, in GIfTI and on the page."""

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.tables import write_csv
from meshgnn.export.trust import Trust, load_trust, save_trust
from meshgnn.graph import MeshGraph
from meshgnn.store import write_arrays
from tests.meshgnn.mapping.ball import brain


@pytest.fixture
def graph() -> MeshGraph:
    return brain()


def chances(graph: MeshGraph) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(len(graph.areas)), graph.n_nodes).astype(np.float32)


def nothing(trust: Trust) -> bool:
    return trust.unmapped_p is None and trust.set_least is None


def test_what_was_kept_comes_back_and_old_runs_kept_nothing(tmp_path: Path) -> None:
    path, p = tmp_path / "trust.safetensors", np.linspace(0, 1, 5, dtype=np.float32)
    assert nothing(load_trust(path, "a"))
    save_trust(path, {"a": Trust(unmapped_p=p, set_least=0.25), "b": Trust()})
    found = load_trust(path, "a")
    assert found.set_least == 0.25
    np.testing.assert_array_equal(found.unmapped_p, p)
    assert nothing(load_trust(path, "b"))
    write_arrays(path, {"a.set_least": np.array([np.nan], np.float32)})
    with pytest.raises(InputError, match="does not hold a probability"):
        load_trust(path, "a")


def test_the_table_lists_the_areas_of_a_set_the_likeliest_first(tmp_path: Path, graph: MeshGraph) -> None:
    votes = chances(graph)
    area_map = Trust(set_least=0.3).of(AreaMap(graph=graph, probabilities=votes))
    write_csv(tmp_path / "nodes.csv", area_map)
    with (tmp_path / "nodes.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert "unmapped_p" not in rows[0]
    for row, own, inside in zip(rows, votes, graph.cortex):
        best = [k for k in np.argsort(-own, kind="stable") if own[k] >= 0.3 or k == own.argmax()]
        assert row["set"] == (";".join(graph.areas.names[k] for k in best) if inside else "")
        assert row["set_size"] == str(len(best) if inside else 0)


def test_gifti_holds_both_and_nothing_of_what_is_not_known(tmp_path: Path, graph: MeshGraph) -> None:
    plain = AreaMap(graph=graph, probabilities=chances(graph))
    names = {path.name for path in write_area_map(tmp_path / "plain", plain)}
    p = np.linspace(0, 1, graph.n_nodes, dtype=np.float32)
    known = Trust(unmapped_p=p, set_least=0.3).of(plain)
    written = {path.name: path for path in write_area_map(tmp_path / "known", known)}
    more = set(written) - names
    assert {name.split("_desc-")[1] for name in more} == {"unmapped.shape.gii", "setSize.shape.gii"}
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        assert known.likely is not None
        for kind, wanted in (("unmapped", p[place]), ("setSize", known.likely.sum(1)[place])):
            path = next(written[name] for name in more if f"hemi-{mesh.hemisphere}_desc-{kind}" in name)
            np.testing.assert_array_equal(nib.load(path).darrays[0].data, wanted)


def test_a_set_always_holds_the_predicted_area_and_none_lies_outside_cortex(graph: MeshGraph) -> None:
    area_map = AreaMap(graph=graph, probabilities=chances(graph), set_least=1.0)
    likely = area_map.likely
    assert likely is not None
    np.testing.assert_array_equal(likely.sum(1), graph.cortex.astype(int))
    assert replace(area_map, set_least=None).likely is None
    every = replace(area_map, set_least=0.0).likely
    assert every is not None
    np.testing.assert_array_equal(every.all(1), graph.cortex)
