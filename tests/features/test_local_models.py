"""Local models and interpolated contours between drawn sections: laws, the queue, and a whole small filling."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from features.local_models.engine import LocalModels
from features.local_models.hints import GraphHints
from features.local_models.job import _batch, _coarse, _crop, _drawn, run_job
from features.local_models.network import APART, HintedUNet, TwoScaleUNet, segmentation_loss
from features.local_models.queue import run_jobs
from features.local_models.settings import DONE, HINTS, ModelSettings
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import NodeLocations
from meshgnn.mapping.engines.contours import Contours, intervals
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.pixel_filling import PixelFilling, SectionGrid, signed_mm
from meshgnn.mapping.socket import Situation
from meshgnn.progress import silent
from meshgnn.sockets import Brain
from meshgnn.source.annotations import read_annotations
from meshgnn.source.polygons import paint
from meshgnn.source.sections import read_stack, write_tiff
from meshgnn.store import read_arrays, write_arrays
from tests.meshgnn.borders.test_borders import ball, write_ball

SIZE, PIXEL_UM = 160, 200.0
TINY = ModelSettings(fine_um=200.0, crop=32, width=4, steps=110, batch=4)


def disc(at: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance (mm) of pixels from the middle of a disc of tissue whose area `A` moves and grows with the position."""
    y, x = np.meshgrid(*[(np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL_UM / 1000] * 2, indexing="ij")
    return np.hypot(x, y), np.hypot(x - 2 - 0.5 * at, y)


def write_discs(folder, drawn=(0, 5), mirrored=False):
    """Six sections 1 mm apart; `A` is darker than the tissue around it, radius 4 mm + 0.2 per mm."""
    (folder / "annotations").mkdir(parents=True)
    rows, lines = [["file", "index", "position_mm", "pixel_um", "thickness_um", "usable", "mirrored"]], ["index,labels"]
    for index in range(6):
        rng = np.random.default_rng(index)
        whole, area = disc(index)
        inside = area < 4 + 0.2 * index
        grey = np.where(whole < 14, np.where(inside, 90, 160), 240) + rng.normal(0, 4, whole.shape)
        labels = inside.astype(np.uint16)
        if mirrored:
            grey, labels = grey[:, ::-1], labels[:, ::-1]
        tifffile.imwrite(folder / f"s{index}.tif", grey.clip(0, 255).astype(np.uint8))
        rows.append([f"s{index}.tif", index, index, PIXEL_UM, 20, 1, int(mirrored)])
        if index in drawn:
            write_tiff(folder / "annotations" / f"{index}.tif", np.ascontiguousarray(labels), PIXEL_UM)
            lines.append(f"{index},{index}.tif")
    (folder / "sections.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    (folder / "annotations" / "annotations.csv").write_text("\n".join(lines) + "\n")
    (folder / "annotations" / "areas.json").write_text(
        '[{"key": 1, "name": "A", "colour": [1, 0, 0, 1]}, {"key": 2, "name": "B", "colour": [0, 1, 0, 1]}]'
    )
    return Situation(stack=read_stack(folder), brain=None, drawn=read_annotations(folder))


def dice(filling, situation: Situation, index: int, mirrored=False) -> float:
    painted = paint([(one.area, one.polygons) for one in filling.on(index)], (SIZE, SIZE)) == 0
    true = disc(index)[1] < 4 + 0.2 * index
    true = true[:, ::-1] if mirrored else true
    return 2 * (painted & true).sum() / (painted.sum() + true.sum())


def banded_ball(tmp_path):
    """Sections through a ball 3 mm thick, area B where x is above 3 mm, drawn on the first and the last of three."""
    folder = write_ball(tmp_path / "stack")
    (folder / "annotations").mkdir()
    labels = np.where(np.arange(480)[None] * 0.1 - 23.95 > 3, 2, 1) * np.ones((480, 1), int)
    for index in (0, 2):
        write_tiff(folder / "annotations" / f"{index}.tif", labels.astype(np.uint16), 100.0)
    (folder / "annotations" / "annotations.csv").write_text("index,labels\n0,0.tif\n2,2.tif\n")
    (folder / "annotations" / "areas.json").write_text(
        '[{"key": 1, "name": "A", "colour": [1, 0, 0, 1]}, {"key": 2, "name": "B", "colour": [0, 1, 0, 1]}]'
    )
    stack, graph = read_stack(folder, space="ball"), ball()
    across = np.stack([np.abs(section.mm_to_pixel(graph.vertices_mm)[2]) for section in stack])
    row, column, _ = stack.at(1).mm_to_pixel(graph.vertices_mm)
    near, zero = across.min(0) < 1, np.zeros(graph.n_nodes)
    places = NodeLocations(
        section=np.where(near, across.argmin(0), -1), row_px=row, column_px=column, normal_angle_deg=zero,
        obliqueness_deg=zero, residual_mm=across.min(0), observed=near,
    )  # fmt: skip
    graph = graph._replace(locations=places)
    return Situation(stack=stack, brain=Brain(graph=graph, sections=stack), drawn=read_annotations(folder))


def place(tmp_path):
    return tmp_path / "state" / "rounds" / "0001" / "engine"


# -- contours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True])
def test_contours_move_and_grow_evenly_between_two_drawn_sections(tmp_path, mirrored):
    situation = write_discs(tmp_path / "stack", mirrored=mirrored)
    filling = Contours.Config().build().fill(situation, place(tmp_path), silent, lambda: False)
    assert filling.sections == (1, 2, 3, 4)
    for index in filling.sections:
        assert dice(filling, situation, index, mirrored) > 0.97
        assert [one.area for one in filling.on(index)] == [0]
        assert 0.5 < filling.on(index)[0].probability <= 1
    assert filling.on(0) == []
    assert filling.probabilities is None
    again = PixelFilling(place(tmp_path))
    assert again.figures["sections"] == 4
    assert again.engine == "contours"
    np.testing.assert_array_equal(again.on(2)[0].polygons[0][0], filling.on(2)[0].polygons[0][0])


def test_what_was_rejected_is_not_shown(tmp_path):
    situation = replace(write_discs(tmp_path / "stack"), rejected=((2, 0),))
    filling = Contours.Config().build().fill(situation, place(tmp_path), silent, lambda: False)
    assert filling.on(2) == []
    assert len(filling.on(3)) == 1


def test_intervals_are_those_between_neighbouring_sections_of_an_area(tmp_path):
    situation = write_discs(tmp_path / "stack", drawn=(0, 2, 5))
    assert [(one.first, one.last, one.between) for one in intervals(situation)] == [(0, 2, (1,)), (2, 5, (3, 4))]
    for engine in (Contours.Config().build(), LocalModels.Config().build()):
        with pytest.raises(InputError, match="two"):
            engine.check(write_discs(tmp_path / f"one-{engine.name}", drawn=(3,)))
        with pytest.raises(InputError, match="two"):
            engine.check(write_discs(tmp_path / f"next-{engine.name}", drawn=(2, 3)))


def test_signed_distances_are_positive_inside_and_zero_on_the_outline():
    inside = np.zeros((40, 40), bool)
    inside[10:30, 10:30] = True
    found = signed_mm(inside, 0.5, 20)
    assert found[20, 10] == pytest.approx(0.25)
    assert found[20, 9] == pytest.approx(-0.25)
    assert ((found > 0) == inside).all()
    assert (signed_mm(~inside & False, 0.5, 20) == -20).all()


def test_a_grid_maps_to_space_and_back(tmp_path):
    for mirrored in (False, True):
        section = write_discs(tmp_path / f"s{mirrored}", mirrored=mirrored).stack.at(2)
        grid = SectionGrid.of(section, 400)
        assert grid.block == 2
        row, column = grid.from_space(grid.to_space(np.array([3.0, 70]), np.array([5.0, 20])))
        np.testing.assert_allclose([row, column], [[3, 70], [5, 20]], atol=1e-9)


def test_with_a_mesh_cortex_alone_is_filled_in_and_its_nodes_get_probabilities(tmp_path):
    situation = banded_ball(tmp_path)
    stack, graph = situation.stack, situation.brain.graph
    near = graph.locations.section == 1
    tiny = LocalModels.Config(model=replace(TINY, steps=2), workers=1)
    for engine in (Contours.Config().build(), tiny.build()):
        filling = engine.fill(situation, tmp_path / engine.name / "rounds" / "1" / "x", silent, lambda: False)
        assert filling.probabilities.shape == (graph.n_nodes, 2)
        assert filling.probabilities[near].any()
        assert not filling.probabilities[~near].any()
        assert filling.area_map().graph.areas.names[-1] == "none of the drawn areas"
        assert engine.read(filling.folder, stack, situation.brain).sections == (1,)
        if engine.name == "contours":
            best = filling.probabilities[near].argmax(1)
            sure = np.abs(graph.vertices_mm[near, 0] - 3) > 1
            assert (best == (graph.vertices_mm[near, 0] > 3))[sure].all()
            painted = paint([(one.area, one.polygons) for one in filling.on(1)], (480, 480)) >= 0
            assert not painted[240, 200:280].any()  # the middle of the ball is white matter
            assert painted[240, 440 - 5]
        with pytest.raises(InputError, match="another mesh"):
            engine.read(filling.folder, stack, Brain(graph=graph._replace(cortex=~near), sections=stack))


def test_with_the_graph_its_map_is_refined_and_drawn_sections_have_the_map_that_knows_them(tmp_path):
    situation, kept = banded_ball(tmp_path), tmp_path / "kept" / "local-models"
    graph = GraphEngine.Config(judge=False)
    engine = LocalModels.Config(model=replace(TINY, steps=2, fine_um=100.0), workers=1, graph=graph).build()
    filling = engine.fill(situation, tmp_path / "rounds" / "1" / "x", silent, lambda: False)
    assert filling.sections == (1,)
    assert filling.figures["failed"] == []
    names = [PixelFilling(filling.folder).areas.names[one.area] for one in filling.on(1)]
    assert sorted(names) == ["A", "B"]
    [job] = engine.jobs(situation, kept, silent, lambda: False)
    assert (job.folder / DONE).is_file()  # the same hints, the same model
    hints = read_arrays(job.folder / HINTS)
    inside = hints["ribbon_0"] > 0
    assert inside.any()
    assert not hints["hint_0"][:, ~inside].any()
    # Redrawn, section 0 has another hint, which says what is drawn there now.
    labels = np.full((480, 480), 1, np.uint16)
    write_tiff(tmp_path / "stack" / "annotations" / "0.tif", labels, 100.0)
    again = replace(situation, drawn=read_annotations(tmp_path / "stack"))
    maker = GraphHints(graph.build(), again, tmp_path / "kept", 100.0, silent, lambda: False)
    own = maker.of(SectionGrid.of(again.stack.at(0), 100.0), (0, 1))
    assert (own["hint_0"][0, inside] > 127).all()
    assert (hints["hint_0"][1, inside] > 127).mean() > 0.2
    # A drawn section that the mesh does not reach is named.
    write_arrays(job.folder / HINTS, {**hints, "ribbon_0": 0 * hints["ribbon_0"]})
    (job.folder / DONE).unlink()
    with pytest.raises(InputError, match="section 0 does not meet the mesh"):
        run_job(job.folder)


# -- network and crops ---------------------------------------------------------------------------------------------


def test_the_network_names_every_pixel_and_a_row_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    network = TwoScaleUNet(3, 5, width=4).eval()
    fine, coarse = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    both = network(fine, coarse)
    assert both.shape == (2, 5, 32, 32)
    torch.testing.assert_close(network(fine[:1], coarse[:1]), both[:1], rtol=1e-4, atol=1e-5)
    moved = coarse.clone()
    moved[..., 16, 16] += 100  # the coarse image is seen
    assert not torch.equal(network(fine, moved), both)


def test_the_loss_falls_to_nothing_where_all_is_right_and_leaves_out_unknown_pixels():
    target = torch.randint(0, 3, (2, 8, 8))
    right = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) * 40.0
    assert float(segmentation_loss(right, target)) == pytest.approx(0, abs=0.02)
    assert float(segmentation_loss(-right, target)) > 1
    hidden = target.clone()
    hidden[0] = -1
    wrong = right.clone()
    wrong[0] = -right[0]
    assert float(segmentation_loss(wrong, hidden)) == pytest.approx(0, abs=0.03)
    assert torch.isfinite(segmentation_loss(right, torch.full_like(target, -1)).nan_to_num(0))


def test_fine_and_coarse_crops_have_one_centre(tmp_path):
    image = np.random.default_rng(0).normal(size=(2, 64, 48)).astype(np.float32)
    coarse = _coarse(image)
    assert coarse.shape == (2, 16, 12)
    assert coarse[1, 3, 2] == pytest.approx(image[1, 12:16, 8:12].mean(), abs=1e-6)
    row, column, size = 32, 24, 16
    near = _crop(image, row - 8, column - 8, size)
    far = _crop(coarse, (row - 32) // APART, (column - 32) // APART, size)
    np.testing.assert_allclose(_coarse(near), far[:, 6:10, 6:10], atol=1e-6)
    beyond = _crop(np.zeros((1, 4, 4), np.int64), -2, 2, 4)[0]
    assert (beyond[:2] == -1).all()
    assert (beyond[:, 2:] == -1).all()
    assert (beyond[2:, :2] == 0).all()


def test_an_untrained_network_with_a_hint_answers_with_the_hint():
    network = HintedUNet(5, 2, width=4).eval()
    share = torch.rand(1, 2, 32, 32) * 0.5
    fine = torch.cat([torch.randn(1, 3, 32, 32), 2 * share - 1], 1)
    found = network(fine, torch.randn(1, 5, 32, 32)).softmax(1)
    torch.testing.assert_close(found[:, 3:], share, atol=0.01, rtol=0.05)
    assert float(found[:, :2].detach().max()) < 0.01


def test_a_hint_keeps_the_order_of_its_areas_and_trust_is_how_much_of_them_the_image_may_move():
    torch.manual_seed(0)
    network = HintedUNet(5, 2, width=4).eval()
    torch.nn.init.normal_(network.image.last.weight)
    share = torch.rand(1, 2, 32, 32) * 0.5
    fine, coarse = torch.cat([torch.randn(1, 3, 32, 32), 2 * share - 1], 1), torch.randn(1, 5, 32, 32)
    found = network(fine, coarse).detach()
    odds = (share[:, 1] / share[:, 0].clamp(1e-3)).clamp(1e-3, 1e3).log()
    sure = share.min(1).values > 0.01
    torch.testing.assert_close((found[:, 4] - found[:, 3])[sure], odds[sure], atol=1e-4, rtol=1e-4)
    assert float((found.softmax(1)[:, 3:] - share).abs().max()) > 0.02
    network.trust = 0.0
    torch.testing.assert_close(network(fine, coarse).softmax(1)[:, 3:], share, atol=0.01, rtol=0.05)
    assert not torch.equal(network.train()(fine, coarse), found)  # batch norm and the whole weight


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"trust": -1}, {"crop": 20}, {"fine_um": 0}, {"steps": 0}, {"width": 6}, {"learning_rate": 0}):
        with pytest.raises(SettingError):
            ModelSettings(**wrong)
    with pytest.raises(SettingError):
        LocalModels.Config(workers=0)


# -- jobs and the whole --------------------------------------------------------------------------------------------


def test_a_model_fills_in_the_sections_between_and_is_kept(tmp_path):
    situation = write_discs(tmp_path / "stack")
    engine = LocalModels.Config(model=TINY, workers=1).build()
    filling = engine.fill(situation, place(tmp_path), silent, lambda: False)
    assert filling.figures["models"] == filling.figures["trained_now"] == 1
    assert filling.figures["failed"] == []
    assert filling.sections == (1, 2, 3, 4)
    assert min(dice(filling, situation, index) for index in filling.sections) > 0.9
    again = engine.fill(situation, tmp_path / "state" / "rounds" / "0002" / "local", silent, lambda: False)
    assert again.figures["trained_now"] == 0
    np.testing.assert_array_equal(again.on(2)[0].polygons[0][0], filling.on(2)[0].polygons[0][0])


def test_crops_are_drawn_by_seed_and_step_and_half_of_them_show_the_area(tmp_path):
    situation = write_discs(tmp_path / "stack")
    engine = LocalModels.Config(model=TINY).build()
    [job] = engine.jobs(situation, tmp_path / "kept", silent, lambda: False)
    grids = {k: SectionGrid.of(situation.stack.at(k), 200) for k in range(6)}
    about = json.loads((job.folder / "job.json").read_text())
    files = {int(k): Path(file) for k, file in about["files"].items()}
    drawn = [_drawn(k, grids, files, [0], (0, 5), {}) for k in (0, 5)]
    one, two, other = (_batch(TINY, drawn, step, 1) for step in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert not torch.equal(one[0], other[0])
    assert one[0].shape == (4, 2, 32, 32)
    assert one[2].max() == 3
    target, border, elsewhere = drawn[0].centres
    classes = drawn[0].classes
    assert (classes[tuple(target.T)] == 3).all()
    assert (classes[tuple(elsewhere.T)] != 3).all()
    assert len(border) > 0
    # A drawn section sees the other one's outline as a hint, never its own.
    assert np.abs(drawn[0].fine[-1] - drawn[1].fine[-1]).max() > 0.1


def test_a_broken_job_fails_alone_and_the_others_go_on(tmp_path):
    situation = write_discs(tmp_path / "stack", drawn=(0, 2, 5))
    engine = LocalModels.Config(model=replace(TINY, steps=2), workers=1).build()
    jobs = engine.jobs(situation, tmp_path / "kept", silent, lambda: False)
    assert len(jobs) == 2
    (jobs[0].folder / "job.json").write_text("{}")
    failed = run_jobs([job.folder for job in jobs], 1, None, silent, lambda: False)
    assert len(failed) == 1
    assert "damaged" in failed[0]
    assert not (jobs[0].folder / DONE).exists()
    assert (jobs[1].folder / DONE).is_file()
    before = (jobs[1].folder / DONE).stat().st_mtime_ns
    run_job(jobs[1].folder)
    assert (jobs[1].folder / DONE).stat().st_mtime_ns == before
