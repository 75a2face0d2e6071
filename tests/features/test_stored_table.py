"""Tables on disk as features: a row per node, a row per brain, what is refused; one row stands for all nodes."""

from pathlib import Path

import numpy as np
import pytest

from features.stored_table import StoredTable
from meshgnn.data.derived import per_node
from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable
from meshgnn.progress import silent
from meshgnn.sockets import Brain
from meshgnn.store import save_table
from meshgnn.testing import assert_feature_maker
from tests.synthetic import brain

GRAPH = brain(1)


def maker(path: Path, name: str = "") -> StoredTable:
    return StoredTable.Config(path=path, name=name).build()


def test_a_row_per_node(tmp_path: Path):
    rows = ["x,y", *(f"{k},{k * k}" for k in range(GRAPH.n_nodes - 1)), "7,"]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    assert_feature_maker(maker(tmp_path / "mine.csv"), [Brain(graph=GRAPH)], tmp_path / "f")
    table = maker(tmp_path / "mine.csv").make(Brain(graph=GRAPH), tmp_path, silent)
    assert (table.name, table.columns) == ("mine", ("x", "y"))
    assert table.values[5].tolist() == [5, 25]
    assert np.flatnonzero(~table.mask).tolist() == [GRAPH.n_nodes - 1]
    save_table(table, tmp_path / "kept")
    again = maker(tmp_path / "kept.safetensors", "other")
    assert_feature_maker(again, [Brain(graph=GRAPH)], tmp_path / "g")
    np.testing.assert_array_equal(again.make(Brain(graph=GRAPH), tmp_path, silent).values, table.values)


def test_the_row_of_a_brain_stands_for_all_of_its_nodes(tmp_path: Path):
    (tmp_path / "subjects.tsv").write_text(f"brain\tage\tscore\n{GRAPH.brain}\t61\t2.5\nother\t20\t1\n")
    one = maker(tmp_path / "subjects.tsv")
    assert_feature_maker(one, [Brain(graph=GRAPH)], tmp_path / "f")
    table = per_node(one.make(Brain(graph=GRAPH), tmp_path, silent), GRAPH.n_nodes)
    np.testing.assert_array_equal(table.values, np.tile([61, 2.5], (GRAPH.n_nodes, 1)))
    assert table.mask.all()
    own = FeatureTable(name="age", values=np.full((1, 1), 61.0), mask=np.array([True]), columns=("years",))
    brought = Brain(graph=GRAPH, tables={"age": own})
    assert StoredTable.Config(name="age").build().make(brought, tmp_path, silent).values.tolist() == [[61]]
    with pytest.raises(InputError, match="has no table 'sex', it has age"):
        StoredTable.Config(name="sex").build().inputs(brought)
    unknown = FeatureTable(name="t", values=np.zeros((1, 1)), mask=np.array([False]), columns=("a",))
    assert not per_node(unknown, 4).mask.any()
    with pytest.raises(InputError, match="3 rows for 4 nodes"):
        per_node(FeatureTable(name="t", values=np.zeros((3, 1)), mask=np.ones(3, bool), columns=("a",)), 4)


def test_what_does_not_fit_is_told_before_anything_is_made(tmp_path: Path):
    here = Brain(graph=GRAPH)
    (tmp_path / "short.csv").write_text("x\n1\n2\n")
    (tmp_path / "word.csv").write_text("x\none\n")
    (tmp_path / "others.csv").write_text("brain,x\nA,1\nB,2\n")
    for name, words in (
        ("no.csv", "is no file"), ("short.csv", "2 rows for the"), ("word.csv", "line 2: x='one' is not a number"),
        ("others.csv", "0 rows of brain"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            maker(tmp_path / name).inputs(here)
