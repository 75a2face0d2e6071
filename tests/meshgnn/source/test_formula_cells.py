"""Texts that a spreadsheet would run: written so that none does, read again as they were."""

import csv

import pytest

from meshgnn.source.text_table import read_text_table, write_text_table

TEXTS = (
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "'=1", "''@x", "＝1+1", '=HYPERLINK("http://x","a")',
    "V1", "-1.5", "+3e-7", "-", "'quoted'", "a=b", "",
)  # fmt: skip


def cells(path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as handle:
        return [row[1] for row in csv.reader(handle)][1:]


def test_no_cell_begins_as_a_formula_and_all_come_back(tmp_path):
    path = tmp_path / "table.csv"
    write_text_table(path, [["number", "text"], *([k, text] for k, text in enumerate(TEXTS))])
    assert [one for one in cells(path) if one[:1] in tuple("=+-@\t\r＝")] == ["-1.5", "+3e-7"]
    _, rows = read_text_table(path, ["number", "text"])
    assert [row["text"] for _, row in rows] == list(TEXTS)


def test_numbers_stay_numbers(tmp_path):
    path = tmp_path / "table.csv"
    write_text_table(path, [["a", "b", "c"], [-1.5, "-0.25", None], [3, "-1e-07", "x"]])
    assert path.read_text().split() == ["a,b,c", "-1.5,-0.25,", "3,-1e-07,x"]


@pytest.mark.parametrize("name", ["=1+1", "@x", "-area", "+area"])
def test_area_names_in_the_tables_of_the_export(tmp_path, name):
    import numpy as np

    from meshgnn.export.area_map import AreaMap
    from meshgnn.export.area_statistics import area_sizes, write_areas
    from meshgnn.export.tables import write_csv
    from meshgnn.graph import Areas
    from tests.synthetic import brain

    graph = brain(2)
    names = (name, *graph.areas.names[1:])
    graph = graph.relabelled(graph.labels, Areas(names=names, keys=graph.areas.keys, colours=graph.areas.colours))
    shares = np.eye(len(names), dtype=np.float32)[np.maximum(graph.labels, 0)]
    area_map = AreaMap(graph=graph, probabilities=shares)
    write_areas(tmp_path / "areas.csv", area_sizes(area_map))
    write_csv(tmp_path / "nodes.csv", area_map)
    for file, column in (("areas.csv", "area"), ("nodes.csv", "predicted")):
        assert f"\n{name}," not in (tmp_path / file).read_text()
        assert f",{name}," not in (tmp_path / file).read_text()
        _, rows = read_text_table(tmp_path / file, [column])
        assert name in {row[column] for _, row in rows}
