"""A map laid back onto sections: rings where a sphere's cortex is cut, in the right colours, at the right place."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.on_sections import stems, write_on_sections
from meshgnn.source.annotations import read_annotations
from meshgnn.source.polygons import paint, read_geojson, signed_area
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
    assert {f["properties"]["classification"]["name"] for f in lines["features"]} <= set(graph.areas.names)
    drawn = read_geojson(tmp_path / "o" / "s1_areas.geojson")
    back = paint([(graph.areas.names.index(name) + 1, shapes) for name, shapes in drawn], section.shape)
    np.testing.assert_array_equal(back + (back < 0), np.kron(labels, np.ones((2, 2), int)))  # holes are holes
    assert json.loads((tmp_path / "o" / "areas.json").read_text())[0]["name"] == "A1"


def test_a_ring_of_one_area_is_a_polygon_with_a_hole(stack, tmp_path):
    graph = brain(subdivisions=4, n_areas=1, medial_wall=False)
    made = AreaMap(graph=graph, probabilities=np.ones((graph.n_nodes, 1), np.float32))
    write_on_sections(tmp_path / "o", made, stack, pixel_um=1000)
    ((name, shapes),) = read_geojson(tmp_path / "o" / "s1_areas.geojson")
    assert name == "A1"
    holes = [-signed_area(ring) for polygon in shapes for ring in polygon[1:]]
    inside = [area for area in holes if area > 1000]  # the rings of the hemispheres touch in the midline
    np.testing.assert_allclose(inside, np.pi * (2 * 28) ** 2, rtol=0.1)
    assert len(inside) == 2
    assert not np.asarray(shapes[0][0] % 2).any()  # edges of pixels of 2 x 2


def test_the_folder_can_be_handed_back_as_annotations(stack, tmp_path):
    graph = brain(subdivisions=4)
    colours = [[0.2, 0.4, 0.6, 1]] * 4
    graph = graph.relabelled(graph.labels, replace(graph.areas, keys=(7, 70_000, 3, 2**31 - 1), colours=colours))
    votes = np.eye(len(graph.areas), dtype=np.float32)[graph.labels]
    write_on_sections(tmp_path / "annotations", AreaMap(graph=graph, probabilities=votes), stack, pixel_um=1000)
    labels = tifffile.imread(tmp_path / "annotations" / "s1_areas.tif")
    assert labels.dtype == np.uint32  # a key above 65535
    assert set(np.unique(labels)) <= {0, *graph.areas.keys}
    read = read_annotations(tmp_path)
    assert read.sections == (0, 1)
    wanted = np.kron(labels, np.ones((2, 2), np.uint32))
    assert read.areas.keys == (3, 7, 70_000, 2**31 - 1)  # in key order
    np.testing.assert_array_equal(np.array([*read.areas.keys, 0])[read.read(1)], wanted)
    np.testing.assert_allclose(read.areas.colours, colours, atol=1e-4)


def test_images_of_one_name_in_two_folders_get_files_of_their_own(stack, tmp_path):
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    for index, name in enumerate(("a/s.tif", "b/S.tif", "c.tif", "c.tiff", "d.tif")):
        (tmp_path / "again" / name).parent.mkdir(parents=True, exist_ok=True)
        write_tiff(tmp_path / "again" / name, np.full((140, 280), 200, np.uint8), 500)
        lines.append(f"{name},{index},{4 * index - 8},500,20,1")
    (tmp_path / "again" / "sections.csv").write_text("\n".join(lines))
    other = read_stack(tmp_path / "again", space="test")
    graph = brain()
    votes = np.eye(len(graph.areas), dtype=np.float32)[graph.labels]
    written = write_on_sections(tmp_path / "o", AreaMap(graph=graph, probabilities=votes), other)
    assert len({str(path).casefold() for path in written}) == len(written) == 2 * 5 + 2
    assert (tmp_path / "o" / "s_section-0_areas.tif").is_file()
    assert (tmp_path / "o" / "d_areas.tif").is_file()
    one, two = (replace(other.sections[k], path=other.folder / name) for k, name in ((0, "s_section-1"), (1, "x/s")))
    third = replace(other.sections[2], path=other.folder / "s.tif")
    assert len(set(stems(replace(other, sections=(one, two, third))).values())) == 3


def test_another_space_is_refused(stack, tmp_path):
    graph = brain()
    votes = np.full((graph.n_nodes, len(graph.areas)), 0.25, np.float32)
    other = read_stack(stack.folder, space="elsewhere")
    with pytest.raises(InputError, match="elsewhere"):
        write_on_sections(tmp_path / "o", AreaMap(graph=graph, probabilities=votes), other)
