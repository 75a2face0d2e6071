"""The virtual brain keeps its promises: same seed, same bytes; image, annotations and truth agree."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.override import override
from meshgnn.source.polygons import paint, read_geojson
from meshgnn.source.sections import open_image, read_stack
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.annotate import KEYS, NOT_ISOCORTEX, area_table, choose_sections, polygons, write_polygons
from meshgnn.source.virtual.areas import LAYOUT, isocortical_areas, lay_out
from meshgnn.source.virtual.cells import BETZ
from meshgnn.source.virtual.crossings import crossings
from meshgnn.source.virtual.cut import OUTSIDE, WHITE
from meshgnn.source.virtual.highres import HighRes, describe
from meshgnn.source.virtual.prototypes import PROTOTYPES
from meshgnn.source.virtual.surfaces import read_template
from meshgnn.source.virtual.truth import Truth, read_truth

COARSE = {"preset": "quick", "pixel_um": 250.0, "spacing_mm": 4.0, "subdivisions": 0}


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def brain() -> VirtualBrain:
    return VirtualBrain.Config(seed=3, annotation_mm=0.0, **COARSE).build()


@pytest.fixture(scope="module")
def folder(brain: VirtualBrain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    told: list[tuple[int, int]] = []
    path = brain.write(
        tmp_path_factory.mktemp("virtual") / "brain", lambda _, done, total, figures=None: told.append((done, total))
    )
    assert told[-1][0] == told[-1][1] == len([cut for cut in brain.cuts if cut.fate != "missing"])
    return path


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return read_truth(folder)


def test_same_seed_same_bytes_at_any_worker_count(brain: VirtualBrain, folder: Path, tmp_path: Path) -> None:
    again = VirtualBrain.Config(seed=3, annotation_mm=0.0, **COARSE).build()
    assert fingerprint(again.write(tmp_path / "again", workers=1)) == fingerprint(folder)


def test_other_seed_other_brain(brain: VirtualBrain) -> None:
    other = VirtualBrain.Config(seed=4, **COARSE).build()
    for one, two in zip(brain.hemispheres, other.hemispheres):
        assert np.abs(one.hemisphere.pial_mm - two.hemisphere.pial_mm).mean() > 1
        assert (one.labels() != two.labels()).mean() > 0.1


def test_stack_is_read_like_any_other(folder: Path, brain: VirtualBrain) -> None:
    stack = read_stack(folder, space=brain.space)
    assert len(stack) == len([cut for cut in brain.cuts if cut.fate != "missing"])
    assert stack.pixel_um == 250
    assert {section.shape for section in stack} == {brain.shape}


def test_texture_lies_in_tissue_only(brain: VirtualBrain) -> None:
    cut = brain.cuts[len(brain.cuts) // 2]
    picture = brain.picture(cut)
    glass = picture.canvas.label == OUTSIDE
    values = np.unique(picture.image[glass])
    assert len(values) == 1
    assert abs(int(values[0]) - cut.stain.background) <= 0.5
    assert picture.image[picture.canvas.depth >= 0].std() > 5


def test_cortex_is_darker_than_white_matter(brain: VirtualBrain) -> None:
    picture = brain.picture(brain.cuts[len(brain.cuts) // 2])
    white = picture.image[picture.canvas.label == WHITE].mean()
    middle = picture.image[(picture.canvas.depth > 0.3) & (picture.canvas.depth < 0.7)].mean()
    assert middle + 15 < white < brain.cuts[0].stain.background - 10


def test_truth_maps_pixels_both_ways(truth: Truth) -> None:
    index = sorted(truth.sections)[5]
    row, column = np.array([100.0, 250.5]), np.array([120.0, 300.25])
    points = truth.to_space(index, row, column)
    r, c, off = truth.to_section(index, points)
    assert np.allclose(r, row, atol=1e-4)
    assert np.allclose(c, column, atol=1e-4)
    assert np.allclose(off, 0, atol=1e-9)


def test_annotations_equal_the_truth(folder: Path, truth: Truth) -> None:
    """Label images without a mapper's error against the areas of the nearest true node, through the section's warp."""
    rows = (folder / "annotations" / "annotations.csv").read_text().splitlines()[1:]
    agree, total = 0, 0
    for line in rows[:: max(1, len(rows) // 4)]:
        index, file = int(line.split(",")[0]), line.split(",")[1]
        with open_image(folder / "annotations" / file) as image:
            labels = image.read()
        row, column = np.nonzero((labels > 0) & (labels != NOT_ISOCORTEX))
        pick = np.random.default_rng(0).choice(len(row), min(600, len(row)), replace=False)
        points = truth.to_space(index, row[pick], column[pick])
        left = points[:, 0] < 0
        found = np.where(left, truth.labels_at(points, "L"), truth.labels_at(points, "R")) + 1
        agree += int((found == labels[row[pick], column[pick]]).sum())
        total += len(pick)
    assert agree / total > 0.85  # nodes are 3 mm apart here, and prisms lean


def test_every_area_crosses_two_annotated_sections(folder: Path, truth: Truth) -> None:
    crossed = dict.fromkeys(isocortical_areas().keys, 0)
    for path in (folder / "annotations").glob("*.tif"):
        with open_image(path) as image:
            for key in np.unique(image.read()):
                if int(key) in crossed:
                    crossed[int(key)] += 1
    assert min(crossed.values()) >= 2


def test_annotated_sections_look_like_the_others(brain: VirtualBrain) -> None:
    """Nothing in a picture depends on whether it will be annotated: pictures know no annotation at all."""
    cut = brain.cuts[10]
    one = brain.picture(cut).image
    sparse = VirtualBrain.Config(seed=3, annotation_mm=2.0, annotate_every=2, **COARSE).build()
    assert np.array_equal(one, sparse.picture(sparse.cuts[10]).image)


def test_truth_is_a_surface_folder(folder: Path, truth: Truth) -> None:
    assert set(truth.surfaces) == {"L", "R"}
    for side, surfaces in truth.surfaces.items():
        count = surfaces["white"].n_vertices
        assert truth.labels[side].shape == (count,)
        assert truth.layer_shares[side].shape == (count, 6)
        assert np.allclose(truth.layer_shares[side].sum(1), 1, atol=1e-5)
        assert truth.labels[side].max() == len(truth.areas) - 1
        assert (truth.labels[side] == -1).any()
    record = json.loads((folder / "truth" / "brain.json").read_text())
    assert record["space"] == "virtual-03"
    assert (folder / "annotations" / "areas.json").is_file()


def test_polygons_hold_their_pixels(tmp_path: Path) -> None:
    labels = np.zeros((80, 90), np.uint8)
    labels[10:50, 20:60] = 3
    labels[24:36, 32:48] = 0  # a hole
    labels[60:76, 4:28] = 5
    table = [{"key": 3, "name": "a", "colour": [1, 0, 0, 1]}, {"key": 5, "name": "b", "colour": [0, 1, 0, 1]}]
    write_polygons(tmp_path / "drawn.geojson", polygons(labels, table, coarse=2))
    drawn = [({"a": 3, "b": 5}[name], shapes) for name, shapes in read_geojson(tmp_path / "drawn.geojson")]
    np.testing.assert_array_equal(paint(drawn, labels.shape), np.where(labels > 0, labels.astype(int), -1))


def test_choice_adds_sections_for_small_areas() -> None:
    shown = np.zeros((20, 2))
    shown[:, 0] = 5
    shown[7:10, 1] = 5
    usable = np.ones(20, bool)
    chosen = choose_sections(shown, usable, 5, ["wide", "small"])
    assert ((shown[chosen] >= 1).sum(0) >= 2).all()
    assert len(chosen) <= 6
    with pytest.raises(InputError, match="small"):
        choose_sections(shown[:8], usable[:8], 5, ["wide", "small"])


def test_layout_is_large_enough() -> None:
    assert len(isocortical_areas()) >= 20
    assert len({spec.prototype for spec in LAYOUT}) >= 10
    assert all(abs(sum(p.share) - 100) <= 2 for p in PROTOTYPES.values())
    table = area_table()
    assert [row["key"] for row in table] == list(range(1, len(table) + 1))
    assert KEYS[WHITE] == KEYS[OUTSIDE] == 0


def test_high_resolution_shows_the_profile(brain: VirtualBrain) -> None:
    striate = HighRes.Config(area="V1", width_mm=0.8).build().field(brain)
    motor = HighRes.Config(area="4", width_mm=0.8).build().field(brain)
    assert np.array_equal(HighRes.Config(area="V1", width_mm=0.8).build().field(brain).image, striate.image)
    v1, m1 = describe(striate), describe(motor)
    assert v1[4]["neurons_per_mm2"] > 1.4 * m1[4]["neurons_per_mm2"]
    assert v1[1]["neurons_per_mm2"] < 0.6 * v1[2]["neurons_per_mm2"]
    assert m1[5]["size_um2"] > 1.15 * v1[5]["size_um2"]
    share = [(field.layers == 4).sum() / ((field.layers > 0) & (field.layers < 7)).sum() for field in (striate, motor)]
    assert share[0] > 0.2 > 0.06 > share[1]
    assert not (striate.cells[:, 4] == BETZ).any()


def test_planted_bridges_cross_a_sulcus(brain: VirtualBrain) -> None:
    assert len(brain.faults) == brain.settings.faults
    bare = VirtualBrain.Config(seed=3, annotation_mm=0.0, faults=0, **COARSE).build()
    for bridge in brain.faults:
        ends = np.array([bridge.start_mm, bridge.end_mm])
        cut = min(brain.cuts, key=lambda one: abs(one.position_mm - ends[:, 1].mean()))
        with_bridge, without = (b.paint(cut, b.slices(cut)) for b in (brain, bare))
        changed = with_bridge.label != without.label
        assert changed.any()
        assert (without.label[changed] == OUTSIDE).all()
        assert KEYS[with_bridge.label[changed]].max() == 0


def test_deep_grey_lies_in_white_matter(brain: VirtualBrain) -> None:
    grey = VirtualBrain.Config(seed=3, deep_grey=True, **COARSE).build()
    cut = min(grey.cuts, key=lambda one: abs(one.position_mm - grey.nuclei_mm[0, 1]))
    one, two = (b.paint(cut, b.slices(cut)).label for b in (grey, brain))
    assert (one != two).any()
    assert (two[one != two] == WHITE).all()


@pytest.mark.parametrize("plane", ["sagittal", "horizontal"])
def test_other_planes(plane: str) -> None:
    brain = VirtualBrain.Config(seed=3, plane=plane, hemispheres="L", tilt_deg=(5.0, 0.0, 5.0), **COARSE).build()
    cut = brain.cuts[len(brain.cuts) // 2]
    canvas = brain.picture(cut).canvas
    assert (canvas.depth >= 0).sum() > 500
    assert (canvas.label == WHITE).sum() > 500


def test_no_area_dies_out() -> None:
    template = read_template(None, "L")
    for seed in range(6):
        fields = lay_out(seed, "L", template.pial_mm, template.sphere, warp_mm=18, size_mm=8)
        held = np.bincount(fields.scores_mm(template.sphere).argmax(1), minlength=len(LAYOUT))
        assert held.min() >= 0.004 * len(template.sphere)


def test_shuffled_areas_lie_elsewhere(brain: VirtualBrain) -> None:
    shuffled = VirtualBrain.Config(seed=3, shuffle=True, **COARSE).build()
    for one, two in zip(brain.hemispheres, shuffled.hemispheres):
        # The folds stay; cortex is a little thicker or thinner where another area lies now.
        assert np.abs(one.hemisphere.pial_mm - two.hemisphere.pial_mm).max() < 1.0
        assert (one.labels() == two.labels())[one.labels() < 30].mean() < 0.25
        assert set(np.unique(one.labels())) == set(np.unique(two.labels()))


def test_uniform_brain_has_one_profile() -> None:
    plain = VirtualBrain.Config(seed=3, uniform=True, **COARSE).build()
    cortex = plain.hemispheres[0]
    profiles = cortex.profiles
    assert np.ptp(profiles.density[:30], axis=0).max() == 0
    assert np.ptp(profiles.share[:30], axis=0).max() == 0
    # What is drawn, not only what it is drawn from: no stria of Gennari, no Betz cells either.
    own = [spec.isocortex for spec in LAYOUT]
    assert np.ptp(cortex.density[own], axis=0).max() == 0
    assert np.ptp(cortex.size_um2[own], axis=0).max() == 0
    field = HighRes.Config(area="4", width_mm=0.8).build().field(plain)
    assert not (field.cells[:, 4] == BETZ).any()


def test_masked_cortex_shows_nothing_of_its_layers_and_the_rest_stays() -> None:
    plain = VirtualBrain.Config(seed=3, area_thickness=0.0, **COARSE)
    shown = plain.build()
    blank = replace(plain, masked=True).build()
    others = {"contrast": 0.0, "layer_noise": 0.0, "profile_effect": 3.0, "brain_effect": 0.3, "uniform": True}
    other = replace(plain, masked=True, **others).build()
    cut = shown.cuts[20]
    here, there, elsewhere = shown.picture(cut), blank.picture(cut), other.picture(cut)
    # The same picture from entirely different profiles: nothing of them is left.
    assert (there.image == elsewhere.image).all()
    assert (here.image != there.image).mean() > 0.1
    # Outlines, and whatever lies more than a pixel's blur from cortex, are those of the plain brain.
    assert (here.canvas.label == there.canvas.label).all()
    far = ndimage.distance_transform_edt(here.canvas.depth < 0) > 3
    assert (here.image[far] == there.image[far]).all()
    assert (far & (here.canvas.label == WHITE)).any()
    # Grey matter stays as dark as it is on average, so that tissue is told as before.
    ribbon = here.canvas.depth >= 0
    assert abs(here.image[ribbon].mean() - there.image[ribbon].mean()) < 3


def test_depth_in_the_picture_is_depth_in_space(brain: VirtualBrain, truth: Truth) -> None:
    from scipy.spatial import cKDTree

    cut = brain.cuts[20]
    canvas = brain.paint(cut, brain.slices(cut))
    for kind, low, high in (("pial", 0.0, 0.1), ("white", 0.9, 1.0)):
        row, column = np.nonzero((canvas.depth >= low) & (canvas.depth <= high) & (canvas.label < 33))
        points = truth.to_space(cut.index, row, column)
        nodes = np.concatenate([truth.surfaces[side][kind].vertices_mm for side in "LR"])
        other = np.concatenate(
            [truth.surfaces[side]["pial" if kind == "white" else "white"].vertices_mm for side in "LR"]
        )
        near, far = cKDTree(nodes).query(points)[0], cKDTree(other).query(points)[0]
        assert np.median(near) < 1.6  # nodes are 3 mm apart
        assert (near < far).mean() > 0.8


def test_without_severity_the_nominal_place_is_the_true_one(tmp_path: Path) -> None:
    still = VirtualBrain.Config(seed=3, severity=0.0, hemispheres="R", faults=0, **COARSE).build()
    stack = read_stack(still.write(tmp_path / "still"), space="virtual-03")
    truth = read_truth(tmp_path / "still")
    for section in stack.sections[::5]:
        row, column = np.array([0.0, 57.0, 300.0]), np.array([3.0, 200.0, 11.0])
        nominal = section.pixel_to_mm(row, column)
        assert np.allclose(nominal, truth.to_space(section.index, row, column), atol=2e-4)


def test_bad_configs_are_told() -> None:
    with pytest.raises(InputError, match="pixel_um"):
        VirtualBrain.Config(pixel_um=0.0)
    with pytest.raises(InputError, match="annotate_every"):
        VirtualBrain.Config(annotate_every=0)
    with pytest.raises(InputError, match="preset"):
        VirtualBrain.Config(preset="huge")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no area is named 'V9'"):
        HighRes.Config(area="V9")


def test_a_full_folder_is_left_alone(brain: VirtualBrain, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        brain.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_half_written_stays(brain: VirtualBrain, tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int, figures: object = None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        brain.write(tmp_path / "brain", stop)
    assert list(tmp_path.iterdir()) == []


def test_template_by_path_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no white_left\.gii"):
        VirtualBrain.Config(template=tmp_path).build()


@pytest.mark.slow
def test_coordinates_alone_do_not_solve_an_unseen_brain() -> None:
    from meshgnn.source.virtual.calibrate import calibration

    figures = calibration("default", seeds=tuple(range(1, 9)))  # of fewer, layer V scatters beyond the range
    assert figures["coordinates_knn_macro_f1"] <= 0.5
    assert figures["coordinates_all_others_macro_f1"] <= 0.5
    assert 0.43 <= figures["eta_squared"][3] <= 0.63
    assert all(0.07 <= value <= 0.18 for k, value in enumerate(figures["eta_squared"]) if k != 3)
    shuffled = calibration("default", seeds=(1, 2), shuffle=True)
    assert shuffled["coordinates_knn_macro_f1"] < 0.1


def test_the_crossing_count_sees_a_crossing() -> None:
    points = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0], [1, 1, -1], [1, 1, 1], [5, 5, 5.0]])
    assert crossings(points, np.array([[0, 1, 2], [3, 4, 5]])) == 2
    assert crossings(points, np.array([[0, 1, 2]])) == 0


def test_folds_are_the_brains_own_and_cross_nothing() -> None:
    from meshgnn.mesh.record import SurfaceMesh
    from meshgnn.mesh.topology import euler_number

    brain, plain = (
        VirtualBrain.Config(seed=3, preset="quick", hemispheres="L", refold_mm=depth).build() for depth in (None, 0.0)
    )
    for one, two in zip(brain.hemispheres, plain.hemispheres):
        here, there = one.hemisphere, two.hemisphere
        assert np.linalg.norm(here.pial_mm - there.pial_mm, axis=1).mean() > 2
        for points in (here.white_mm, here.pial_mm):
            mesh = SurfaceMesh(vertices_mm=points.astype(np.float32), faces=here.faces, hemisphere="L", space="test")
            assert euler_number(mesh) == 2
            assert crossings(points, here.faces) == 0
        thick = np.linalg.norm(here.pial_mm - here.white_mm, axis=1)[here.cortex]
        assert 1.8 < np.median(thick) < 3.2
        assert np.quantile(thick, 0.01) > 0.6


def test_v1_keeps_its_place_better_than_44() -> None:
    """Dice of an area between brains on the template's nodes: V1 varies little, 44 much."""
    template = read_template(None, "L")
    label = [
        lay_out(seed, "L", template.pial_mm, template.sphere, warp_mm=19, size_mm=5)
        .scores_mm(template.sphere)
        .argmax(1)
        for seed in range(8)
    ]

    def dice(name: str) -> float:
        held = [one == [spec.name for spec in LAYOUT].index(name) for one in label]
        pairs = [(a, b) for k, a in enumerate(held) for b in held[:k]]
        return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))

    assert dice("V1") > dice("4") > dice("44")
    assert dice("V1") > dice("44") + 0.2


def test_four_terms_of_the_profiles() -> None:
    from meshgnn.source.virtual.areas import draw_profiles

    def shares(seed: int, side: str = "L", **knobs: float) -> np.ndarray:
        rows = draw_profiles(seed, side, **{"effect": 0.0, "brain_effect": 0.0, **knobs}).share  # type: ignore[arg-type]
        return np.log(rows)

    assert np.array_equal(shares(1), shares(2))  # area alone
    moved = shares(1, brain_effect=0.1) - shares(1)
    assert np.abs(moved - moved[:1]).max() < 0.05 < np.abs(moved).max()  # one factor for all areas of a brain
    both = np.std([shares(seed, effect=1.0) - shares(seed) for seed in range(20)])
    sides = np.std([shares(seed, "L", effect=1.0) - shares(seed, "R", effect=1.0) for seed in range(20)]) / np.sqrt(2)
    assert both > 1.7 * sides > 0.02  # hemispheres of a brain are more alike than brains


def test_surroundings_are_no_cortex(brain: VirtualBrain) -> None:
    from meshgnn.source.virtual.surroundings import CEREBELLUM, MENINX, STEM, VENTRICLE

    full = VirtualBrain.Config(
        seed=3, ventricles=True, cerebellum=True, brain_stem=True, meninges=0.5, light=0.1, seams=0.02, **COARSE
    ).build()
    seen = set()
    assert full.shape[0] > brain.shape[0]  # the frame holds the cerebellum
    for cut in full.cuts[::3]:
        canvas = full.paint(cut, full.slices(cut))
        seen |= set(np.unique(canvas.label).tolist())
        around = np.isin(canvas.label, [VENTRICLE, CEREBELLUM, STEM, MENINX])
        assert (canvas.depth[around] < 0).all()
        assert KEYS[canvas.label[around]].max(initial=0) == 0
        assert (canvas.density[canvas.label == VENTRICLE] == 0).all()
    assert {VENTRICLE, CEREBELLUM, STEM, MENINX} <= seen
    picture = full.picture(full.cuts[len(full.cuts) // 2])
    glass = picture.image[picture.canvas.label == OUTSIDE]
    assert len(np.unique(glass)) > 3  # the light is uneven


def test_a_mapper_may_draw_few_areas_and_be_wrong(tmp_path: Path) -> None:
    knobs = {"seed": 3, "hemispheres": "L", "areas_per_section": (1, 4), **COARSE}
    right = VirtualBrain.Config(**knobs).build().write(tmp_path / "right")  # type: ignore[arg-type]
    wrong = VirtualBrain.Config(mapper_errors=0.5, **knobs).build().write(tmp_path / "wrong")  # type: ignore[arg-type]
    names, other = sorted((right / "annotations").glob("*.tif")), 0
    for path in names:
        with open_image(path) as one, open_image(wrong / "annotations" / path.name) as two:
            labels, told = one.read(), two.read()
        assert 1 <= len(set(np.unique(labels)) - {0}) <= 4
        other += int((labels != told).any())
    assert other > len(names) / 3
    rows = json.loads((wrong / "truth" / "brain.json").read_text())
    assert rows["version"] >= 2
    kinds = {row["kind"] for section in rows["sections"] for row in section.get("mapper", {}).get("mistakes", [])}
    assert kinds == {"exchanged", "border moved"}
    assert not any(
        "mistakes" in s.get("mapper", {}) for s in json.loads((right / "truth/brain.json").read_text())["sections"]
    )


def test_impossible_mappers_and_lamps_are_refused() -> None:
    for knobs in ({"areas_per_section": (3, 2)}, {"areas_per_section": (0, 4)}, {"mapper_errors": 1.5}, {"light": 0.9}):
        with pytest.raises(InputError, match=next(iter(knobs))):
            VirtualBrain.Config(**knobs)  # type: ignore[arg-type]


def test_config_travels_as_plain_data() -> None:
    config = override(VirtualBrain.Config(), ["preset=hard", "tilt_deg=1,2,3", "pixel_um=100", "hemispheres=L"])
    assert config.resolve().tilt_deg == (1.0, 2.0, 3.0)
    assert config.resolve().severity == 2.0
    assert from_plain(VirtualBrain.Config, json.loads(json.dumps(to_plain(config)))) == config
