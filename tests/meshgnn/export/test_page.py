"""The page: one file, nothing outside it, the right values in it."""

import json
import re

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.page import write_page
from meshgnn.export.page.arrays import read_page_arrays
from meshgnn.export.page.page import page_html
from meshgnn.export.page.pictures import plane_maps, terms
from meshgnn.export.page.worklist import annotated_distance, worklist
from meshgnn.graph import MeshGraph
from meshgnn.mesh.inflate import inflate
from meshgnn.mesh.metric import face_areas, mean_curvature, vertex_areas
from meshgnn.mesh.topology import components
from tests.meshgnn.export import page_samples as samples
from tests.synthetic import sphere

NAMESPACES = ("http://www.w3.org/",)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    sections = samples.stack(folder / "stack")
    made = samples.located(samples.area_map(), sections)
    html = page_html(made, stack=sections, profiles=samples.profiles(made), annotated=(11, 14), title="A brain")
    return made, sections, html


def test_a_page_names_no_address_and_loads_no_file(full):
    html = full[2]
    addresses = re.findall(r"(?:https?|wss?|ftp)://[\w.]+[^\s\"'`]*", html)
    assert [found for found in addresses if not found.startswith(NAMESPACES)] == []
    outside = re.findall(r"<(?:link|script|img|iframe)[^>]*(?:src|href)=[\"']?(?!data:)([^\"' >]+)", html)
    assert outside == []
    assert "default-src 'none'" in html
    assert "MIT License" in html


def test_arrays_come_back_within_their_rounding(full):
    made, sections, html = full
    meta, arrays = read_page_arrays(html)
    graph = made.graph
    scale = meta["arrays"]["surface.midthickness"]["scale"]
    assert scale < 0.01
    np.testing.assert_allclose(arrays["surface.midthickness"], graph.vertices_mm, atol=scale)
    np.testing.assert_allclose(arrays["surface.pial"], graph.surfaces["pial"], atol=scale)
    np.testing.assert_array_equal(arrays["label"], graph.labels)
    np.testing.assert_array_equal(arrays["predicted"], made.predicted)
    for mesh, hemi in zip(graph.meshes, meta["hemispheres"]):
        np.testing.assert_array_equal(arrays[f"faces.{mesh.hemisphere}"], mesh.faces)
        assert (hemi["count"], hemi["closed"]) == (mesh.n_vertices, True)
    best = np.argsort(-made.probabilities, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(arrays["top.area"], best)
    chance = np.take_along_axis(made.probabilities, best, axis=1)
    np.testing.assert_allclose(arrays["top.probability"], chance, atol=1 / 255)
    by_title = {scalar["title"]: arrays[scalar["array"]] for scalar in meta["scalars"]}
    table = graph.tables["surface"]
    for k, name in enumerate(table.columns):
        np.testing.assert_allclose(by_title[name][table.mask], table.values[table.mask, k], atol=2e-3)
        assert np.isnan(by_title[name][~table.mask]).all()
    places = graph.locations
    np.testing.assert_allclose(arrays["node.row_px"][places.observed], places.row_px[places.observed], atol=0.02)
    index = np.array([section.index for section in sections])
    np.testing.assert_array_equal(index[arrays["node.section"][places.observed]], places.section[places.observed])
    assert (arrays["node.section"][~places.observed] == -1).all()
    table = samples.profiles(made)
    clipped = np.clip(table.values, *np.percentile(table.values[table.mask], [0.2, 99.8]))[table.mask]
    np.testing.assert_allclose(arrays["profiles"][table.mask], clipped, atol=meta["arrays"]["profiles"]["scale"])
    assert np.isnan(arrays["profiles"][~table.mask]).all()


def test_nearest_annotated_section_and_its_distance(full):
    made, sections, html = full
    meta, arrays = read_page_arrays(html)
    number, distance = annotated_distance(made, sections, (11, 14))
    positions = {section.index: section.position_mm for section in sections}
    away = np.abs(made.graph.vertices_mm[:, 1:2] - [positions[11], positions[14]])
    np.testing.assert_allclose(distance, away.min(1), atol=1e-5)
    np.testing.assert_array_equal(number, np.array([11, 14])[away.argmin(1)])
    index = np.array([section.index for section in sections])
    np.testing.assert_array_equal(index[arrays["node.nearest"]], number)
    assert [s["annotated"] for s in meta["stack"]["sections"]] == [i in (11, 14) for i in index]


def test_a_page_is_the_same_bytes_again(full):
    made, sections, html = full
    again = page_html(made, stack=sections, profiles=samples.profiles(made), annotated=(11, 14), title="A brain")
    assert again == html


def test_names_cannot_break_out():
    html = page_html(samples.area_map(names=samples.HOSTILE), title="</title><script>alert(1)</script>")
    meta, _ = read_page_arrays(html)
    assert [area["name"] for area in meta["areas"]] == list(samples.HOSTILE)
    assert html.count("<script") == 3  # meta, arrays, program
    assert "<img src=x" not in html
    assert "<title>&lt;/title&gt;" in html


def test_a_page_stays_in_its_budget(tmp_path):
    sections = samples.stack(tmp_path / "stack", size=(500, 700), pixel_um=140)
    made = samples.located(samples.area_map(), sections)
    sizes = {}
    for budget in (1.2, 3.0):
        write_page(tmp_path / "p.html", made, stack=sections, budget_mb=budget)
        sizes[budget] = (tmp_path / "p.html").stat().st_size
        assert sizes[budget] <= budget * 1e6
    assert sizes[3.0] > sizes[1.2]
    with pytest.raises(InputError, match="budget"):
        write_page(tmp_path / "q.html", made, stack=sections, budget_mb=0.3)
    assert not (tmp_path / "q.html").exists()


def test_twenty_thousand_nodes_need_little_room():
    assert len(page_html(samples.area_map(5)).encode()) < 3e6


def test_a_brain_without_anything_but_a_mesh():
    graph = MeshGraph(brain="bare", meshes=(sphere(2),))
    meta, arrays = read_page_arrays(page_html(AreaMap(graph=graph, probabilities=np.zeros((graph.n_nodes, 0)))))
    assert meta["stack"] is None
    assert meta["regions"] == []
    assert set(meta["surfaces"]) == {"midthickness", "inflated"}
    assert "top.area" in arrays


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"annotated": (99,)}, "no section 99"),
        ({"stack": None, "annotated": (11,)}, "no stack"),
        ({"profiles": samples.profiles(samples.area_map(1))}, "profiles for"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(full, change, told):
    made, sections, _ = full
    with pytest.raises(InputError, match=told):
        page_html(made, **{"stack": sections, **change})


def test_locations_on_another_stack_are_refused(full, tmp_path):
    with pytest.raises(InputError, match="does not hold"):
        page_html(full[0], stack=samples.stack(tmp_path / "other", count=4))


def test_the_plane_is_mapped_to_pixels_as_the_nodes_lie(full):
    made, sections, _ = full
    frame, coefficients, held = plane_maps(made.graph, sections)
    assert held == [section.usable and held[k] for k, section in enumerate(sections)]
    points = made.graph.vertices_mm.astype(float)
    unit = (np.stack([points[:, 0], -points[:, 2]], axis=1) - frame["centre"]) / frame["scale"]
    places = made.graph.locations
    for k, section in enumerate(sections):
        here = places.observed & (places.section == section.index)
        found = terms(unit[here], 3) @ coefficients[k].T
        wanted = np.stack([places.column_px[here], places.row_px[here]], axis=1)
        np.testing.assert_allclose(found, wanted, atol=0.05)


def test_the_worklist_ranks_connected_regions(full):
    made, sections, _ = full
    regions = worklist(made, sections, (11, 14))
    graph = made.graph
    scores = [region.score for region in regions]
    assert len(regions) > 1
    assert scores == sorted(scores, reverse=True)
    size = np.concatenate([vertex_areas(mesh) for mesh in graph.meshes])
    for region in regions:
        inside = np.zeros(graph.n_nodes, bool)
        inside[region.nodes] = True
        kept = graph.edges[:, inside[graph.edges[0]] & inside[graph.edges[1]]]
        assert len(set(components(graph.n_nodes, kept)[region.nodes])) == 1
        assert region.area_mm2 == pytest.approx(size[region.nodes].sum())
        assert region.section not in (11, 14, 16)
        assert region.centre in region.nodes
        assert graph.cortex[region.nodes].all()


def test_a_certain_map_asks_for_nothing():
    made = samples.area_map()
    sure = np.eye(4, dtype=np.float32)[np.maximum(made.graph.labels, 0)]
    assert worklist(AreaMap(graph=made.graph, probabilities=sure)) == []


def test_inflation_keeps_area_and_loses_folds():
    ball = sphere(4)
    unit = (ball.vertices_mm - ball.vertices_mm.mean(0)) / 30
    folded = ball.with_vertices(ball.vertices_mm * (1 + 0.08 * np.sin(9 * unit[:, :1]) * np.sin(9 * unit[:, 1:2])))
    round_again = folded.with_vertices(inflate(folded, smoothness_mm=10))
    assert face_areas(round_again).sum() == pytest.approx(face_areas(folded).sum(), rel=1e-4)
    assert mean_curvature(round_again).std() < 0.2 * mean_curvature(folded).std()
    np.testing.assert_array_equal(inflate(folded), inflate(folded))


def test_the_json_in_a_page_is_strict(full):
    text = re.search(r'id="meta">(.*?)</script>', full[2], re.S).group(1)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the meta data"))
