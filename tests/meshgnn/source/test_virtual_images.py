"""The virtual cohort of volumes: deterministic, folded nowhere, what is planted is found and what is not is not."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict

from meshgnn.data.residualizer import Residualizer
from meshgnn.errors import SettingError
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.head import KNOTS, SIDE_MM, Head
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.images_folder import write_images
from meshgnn.source.virtual.subjects import VirtualSubjects

PEOPLE = VirtualSubjects.Config(subjects=160, sites=4, missing=0.0)
CONFIG = VirtualImages.Config(people=PEOPLE, size=24, absent=0.3)


@pytest.fixture(scope="module")
def cohort() -> VirtualImages:
    return CONFIG.build()


@pytest.fixture(scope="module")
def blocks(cohort) -> np.ndarray:
    """[G, P] means of blocks of 2^3 voxels of the brain, each volume by its own mean."""
    found = []
    for number in range(PEOPLE.subjects):
        values = cohort.volume(number).values
        found.append(values.reshape(12, 2, 12, 2, 12, 2).mean(axis=(1, 3, 5)).ravel() / values[values > 0].mean())
    table = np.stack(found)
    table = table[:, table.mean(0) > 0.2]
    return (table - table.mean(0)) / table.std(0)


def edges_of(cohort) -> np.ndarray:
    upper = np.triu_indices(CONFIG.regions, 1)
    return np.stack([np.arctanh(cohort.connectivity(k)[upper]) for k in range(PEOPLE.subjects)])


def columns_of(cohort) -> np.ndarray:
    table = {name: cells for name, cells in cohort.table().items() if name != "smoking"}
    return stats.zscore(np.array([[float(cell) for cell in cells] for cells in table.values()]).T)


def accuracy(features: np.ndarray, label: np.ndarray, penalty: float = 1e-3) -> float:
    """Balanced accuracy of a cross-validated logistic regression."""
    model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=500)
    told = cross_val_predict(model, features, label, cv=4)
    return float(np.mean([(told[label == one] == one).mean() for one in (0, 1)]))


def correlation(features: np.ndarray, values: np.ndarray, penalty: float = 300.0) -> float:
    return float(np.corrcoef(cross_val_predict(Ridge(penalty), features, values, cv=4), values)[0, 1])


# Balanced accuracy of guessing among 160 subjects has a standard deviation of 0.04.
CHANCE = (0.38, 0.62)


def test_the_planted_traits_are_found_in_volumes_and_the_null_target_is_not(cohort, blocks):
    people, traits = cohort.traits.people, cohort.traits
    assert accuracy(blocks, people.sex) >= 0.95
    assert correlation(blocks, people.age) > 0.6
    assert correlation(blocks, traits.ability) > 0.4
    assert CHANCE[0] < accuracy(blocks, traits.null) < CHANCE[1]


def test_the_planted_traits_are_found_in_connectivity_and_table(cohort):
    people, traits = cohort.traits.people, cohort.traits
    for features, least in ((edges_of(cohort), 0.95), (columns_of(cohort), 0.9)):
        assert accuracy(features, people.sex, 0.1) >= least
        assert correlation(features, traits.ability, 10.0) > 0.4
        assert CHANCE[0] < accuracy(features, traits.null, 0.1) < CHANCE[1]


def test_effects_lie_where_they_were_planted(cohort):
    assert CONFIG.areas[0] == "V1"
    weights = cohort.planted.weights["sex"]
    places = np.argwhere(weights > 0.5) @ cohort.head.affine[:3, :3].T + cohort.head.affine[:3, 3]
    assert places[:, 1].max() < -45  # the back of the brain
    assert {bool(side) for side in places[:, 0] > 0} == {True, False}
    values = np.stack([cohort.volume(k).values for k in range(80)])
    values = ndimage.gaussian_filter(values, (0, 0.7, 0.7, 0.7))
    sex = cohort.traits.people.sex[:80]
    t = np.abs(stats.ttest_ind(values[sex == 1], values[sex == 0], axis=0).statistic)
    inside = cohort.head.t1 > 0.3
    assert t[weights > 0.7].mean() > 4 * t[inside & (weights < 0.01)].mean()
    edges = edges_of(cohort)
    sex = cohort.traits.people.sex
    gap = np.abs(edges[sex == 1].mean(0) - edges[sex == 0].mean(0))
    mine = cohort.planted.edges["sex"]
    assert mine.sum() == 15
    assert gap[mine].min() > gap[~mine].max()
    assert not (cohort.planted.edges["sex"] & cohort.planted.edges["score"]).any()


def test_confounds_are_there_and_are_removed(cohort):
    people, traits = cohort.traits.people, cohort.traits
    table = {"site": [f"s{k}" for k in people.site], "age": [f"{one:.4f}" for one in people.age]}
    train = np.arange(PEOPLE.subjects) < 110
    config = Residualizer.Config(confounds=("site", "age"), categorical=("site",))
    left = config.build(table, traits.score[:, None], train).apply(table, traits.score[:, None])[:, 0]
    test = ~train

    def told_by_site(values: np.ndarray) -> float:
        groups = [values[test & (people.site == k)] for k in range(4)]
        return float(stats.f_oneway(*groups).pvalue)

    assert told_by_site(traits.score) < 1e-4
    assert told_by_site(left) > 0.05
    before = np.corrcoef(traits.score[test], traits.ability[test])[0, 1]
    assert np.corrcoef(left[test], traits.ability[test])[0, 1] > before + 0.05
    # The scanner's gain is a confound of the volumes themselves.
    brain = np.array([(v := cohort.volume(k).values)[v > 0].mean() for k in range(60)])
    assert stats.f_oneway(*[brain[people.site[:60] == k] for k in range(4)]).pvalue < 1e-6


def test_the_same_subject_is_the_same_whatever_else_is_drawn(cohort):
    again = CONFIG.build()
    np.testing.assert_array_equal(again.volume(7).values, cohort.volume(7).values)
    np.testing.assert_array_equal(again.connectivity(7), cohort.connectivity(7))
    other = replace(CONFIG, people=replace(PEOPLE, seed=2)).build()
    assert np.abs(other.volume(7).values - cohort.volume(7).values).max() > 0.01
    assert cohort.connectivity(3).shape == (40, 40)
    np.testing.assert_array_equal(cohort.connectivity(3), cohort.connectivity(3).T)


def test_relatives_are_more_alike_than_strangers():
    quiet = replace(CONFIG, noise=0.0, gain=0.0, sex_effect=0.0, age_effect=0.0, score_effect=0.0).build()
    family = quiet.traits.people.family[:60]
    flat = np.stack([quiet.volume(k).values.ravel() for k in range(60)])
    flat = np.corrcoef(flat - flat.mean(0))
    same = family[:, None] == family[None]
    np.fill_diagonal(same, False)
    assert flat[same].mean() > flat[~same & ~np.eye(60, dtype=bool)].mean() + 0.2


def test_deformations_never_fold():
    head = Head.of_size(32)
    rng = np.random.default_rng(0)
    for strength in (4.0, 100.0):  # as drawn, and far beyond: it is held back
        moved = head.displacement(strength * rng.standard_normal((KNOTS, KNOTS, KNOTS, 3)))
        step = SIDE_MM / 32
        jacobian = np.stack([np.stack(np.gradient(part, step), -1) for part in moved], -2) + np.eye(3)
        assert np.linalg.det(jacobian).min() > 0
    assert np.abs(head.displacement(np.ones((KNOTS, KNOTS, KNOTS, 3))) - 1).max() < 1e-5


def test_volumes_and_mesh_graphs_are_of_the_same_subjects():
    few = VirtualSubjects.Config(subjects=16, sites=3, missing=0.2)
    graphs, images = few.build().read(), VirtualImages.Config(people=few).build().participants()
    assert images.ids == graphs.ids
    assert images.family == graphs.family
    assert images.site == graphs.site
    names = [target.name for target in images.targets]
    for column, target in enumerate(graphs.targets):
        np.testing.assert_array_equal(images.values[:, names.index(target.name)], graphs.values[:, column])


def test_missing_inputs_are_as_many_as_asked_for_and_nobody_lacks_all(cohort):
    present = cohort.traits.present
    assert present.any(1).all()
    assert (np.abs((~present).mean(0) - 0.28) < 0.1).all()


def test_the_folder_holds_what_was_drawn(tmp_path):
    config = VirtualImages.Config(people=VirtualSubjects.Config(subjects=8, sites=2), size=16, absent=0.3)
    drawn = config.build()
    write_images(drawn, tmp_path)
    targets = ("sex", "age", "score", "null")
    found = ParticipantTable.Config(folder=tmp_path, targets=targets, numeric=("age",)).build().read()
    wanted = drawn.participants()
    assert found.ids == wanted.ids
    assert [target.kind for target in found.targets] == [target.kind for target in wanted.targets]
    np.testing.assert_allclose(found.values, wanted.values)
    for number, name in enumerate(found.ids):
        path = tmp_path / name / "anat" / f"{name}_T1w.nii.gz"
        assert path.is_file() == drawn.traits.present[number, 0]
        if path.is_file():
            image = nib.load(path)
            np.testing.assert_allclose(np.asarray(image.dataobj) / 1000, drawn.volume(number).values, atol=6e-4)
            np.testing.assert_allclose(image.affine, drawn.head.affine)
        assert (tmp_path / name / "connectivity" / f"{name}_relmat.npy").is_file() == drawn.traits.present[number, 1]
    notes = json.loads((tmp_path / "phenotype" / "measures.json").read_text())
    assert notes["mood_a"]["Domain"] == "psychology"
    truth = json.loads((tmp_path / "truth" / "planted.json").read_text())
    assert truth["planted"]["sex"]["areas"] == ["V1"]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_images(config.build(), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"areas": ("V1", "46", "nowhere")}, {"size": 8}, {"absent": 1.0}, {"regions": 4}):
        with pytest.raises(SettingError):
            VirtualImages.Config(**wrong)
