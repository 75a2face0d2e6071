"""A map laid back onto sections: rings where a sphere's cortex is cut, in the right colours, at the right place."""

import json

import numpy as np
import pytest
import tifffile

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.on_sections import write_on_sections
from meshgnn.source.sections import read_stack, write_tiff
from tests.synthetic import brain


@pytest.fixture
def stack(tmp_path):
    rows = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for index, position in enumerate((-10.0, 0.0, 10.0)):
        write_tiff(tmp_path / f"s{index}.tif", np.full((140, 280), 200, np.uint8), 500)
        rows.append(f"s{index}.tif,{index},{position},500,20,{int(index != 2)}")
    (tmp_path / "sections.csv").write_text("\n".join(rows))
    return read_stack(tmp_path, space="test")


def test_sections_show_the_cut_cortex(stack, tmp_path):
    graph = brain(subdivisions=4)
    votes = np.eye(len(graph.areas), dtype=np.float32)[graph.labels]
    written = write_on_sections(tmp_path / "o", AreaMap(graph=graph, probabilities=votes), stack, pixel_um=1000)
    assert len([path for path in written if path.suffix == ".tif"]) == 2  # unusable sections are left out
    labels = tifffile.imread(tmp_path / "o" / "s1_areas.tif")
    assert labels.shape == (70, 140)
    section = stack.at(1)
    row, column = np.nonzero(labels)
    points = section.pixel_to_mm((row + 0.5) * 2 - 0.5, (column + 0.5) * 2 - 0.5)
    radius = np.minimum(*(np.linalg.norm(points - [x, 0, 0], axis=1) for x in (-32, 32)))
    assert 27 < radius.min() <= radius.max() < 33
    truth = graph.labels[np.linalg.norm(graph.vertices_mm[:, None] - points[None, ::7], axis=2).argmin(0)]
    assert (labels[row, column][::7] == truth + 1).mean() > 0.97
    lines = json.loads((tmp_path / "o" / "s1_areas.geojson").read_text())
    ring = np.concatenate([np.array(f["geometry"]["coordinates"][0]) for f in lines["features"]])
    assert {f["properties"]["classification"]["name"] for f in lines["features"]} <= set(graph.areas.names)
    assert ring[:, 0].min() > (140 - 2 * 66)
    assert ring[:, 0].max() < (140 + 2 * 66)
    assert json.loads((tmp_path / "o" / "areas.json").read_text())[0]["name"] == "A1"


def test_another_space_is_refused(stack, tmp_path):
    graph = brain()
    votes = np.full((graph.n_nodes, len(graph.areas)), 0.25, np.float32)
    other = read_stack(stack.folder, space="elsewhere")
    with pytest.raises(InputError, match="elsewhere"):
        write_on_sections(tmp_path / "o", AreaMap(graph=graph, probabilities=votes), other)
