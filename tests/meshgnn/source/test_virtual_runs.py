"""The virtual cohort over time: deterministic, the same in both views; what is planted is found, what is not is not."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.virtual_runs import main
from meshgnn.errors import SettingError
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.text_table import read_text_table
from meshgnn.source.virtual.regions import Regions
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.runs_folder import write_runs
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.source.virtual.time_courses import MOTION, amplitudes, coloured, haemodynamic

PEOPLE = VirtualSubjects.Config(subjects=200, sites=4, missing=0.0)
CONFIG = VirtualRuns.Config(people=PEOPLE, size=16)


@pytest.fixture(scope="module")
def cohort() -> VirtualRuns:
    return CONFIG.build()


def cleaned(cohort, number: int) -> np.ndarray:
    """[T, R] series without line and motion."""
    series = cohort.series(number).astype(np.float64)
    nuisance = np.c_[np.ones(len(series)), np.linspace(-1, 1, len(series)), cohort.motion(number)]
    return series - nuisance @ np.linalg.lstsq(nuisance, series, rcond=None)[0]


def connectivity(series: np.ndarray) -> np.ndarray:
    upper = np.triu_indices(series.shape[1], 1)
    return np.arctanh(np.clip(np.corrcoef(series.T)[upper], -0.999, 0.999))


def power(series: np.ndarray) -> np.ndarray:
    """Log share of the power of every region in bands of 0.0125 Hz up to 0.2 Hz."""
    found = np.abs(np.fft.rfft(series, axis=0))[1:49] ** 2
    return np.log((found / found.sum(0)).reshape(16, 3, -1).sum(1).ravel() + 1e-4)


@pytest.fixture(scope="module")
def views(cohort) -> dict[str, np.ndarray]:
    series = [cleaned(cohort, number) for number in range(PEOPLE.subjects)]
    return {name: np.stack([make(one) for one in series]) for name, make in
            (("connectivity", connectivity), ("power", power))}  # fmt: skip


def auroc(features: np.ndarray, label: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=500))
    return float(roc_auc_score(label, cross_val_predict(model, features, label, cv=5, method="decision_function")))


@pytest.mark.parametrize("view", ["connectivity", "power"])
def test_sex_is_found_by_coupling_and_by_frequency_and_null_is_not(cohort, views, view):
    assert 0.88 < auroc(views[view], cohort.people.sex) < 0.99
    # Guessing among 200 subjects has a standard deviation of 0.04.
    assert 0.38 < auroc(views[view], cohort.null) < 0.62


def test_age_is_found_by_coupling(cohort, views):
    told = cross_val_predict(make_pipeline(StandardScaler(), Ridge(1000.0)), views["connectivity"], cohort.people.age)
    assert np.corrcoef(told, cohort.people.age)[0, 1] > 0.4


def test_the_effects_lie_where_they_are_planted(cohort, views):
    people, planted = cohort.people, cohort.planted
    male = people.sex == 1
    edges = views["connectivity"][male].mean(0) - views["connectivity"][~male].mean(0)
    assert edges[planted.edges["sex"]].mean() > 0.3
    assert np.abs(edges[~planted.edges["sex"]]).mean() < 0.1
    slope = np.polyfit(people.age - people.age.mean(), views["connectivity"], 1)[0] * 10
    assert slope[planted.edges["age"]].mean() < 4 * slope[~planted.edges["age"]].mean() - 0.03
    bands = (views["power"][male].mean(0) - views["power"][~male].mean(0)).reshape(16, -1)
    own = cohort.regions.network == 0
    assert bands[3:5, own].mean() > 0.15  # 0.0375 to 0.0625 Hz
    assert np.abs(bands[3:5, ~own].mean(0)).max() < 0.3
    assert {"V1", "V2", "46", "STG"} <= set(planted.areas["sex"])
    assert "23" in planted.areas["age"]


def test_nothing_is_found_where_nothing_is_planted():
    without = replace(CONFIG, frequency_effect_hz=0.0, coupling_effect=0.0, frames=60).build()
    features = np.stack([connectivity(cleaned(without, number)) for number in range(PEOPLE.subjects)])
    assert 0.38 < auroc(features, without.people.sex) < 0.62


def test_the_same_seed_draws_the_same_in_any_order(cohort):
    again = replace(CONFIG, people=replace(PEOPLE, subjects=200)).build()
    np.testing.assert_array_equal(again.run(7), cohort.run(7))
    np.testing.assert_array_equal(again.series(3), cohort.series(3))
    other = replace(CONFIG, people=replace(PEOPLE, seed=2)).build()
    assert np.abs(other.run(7) - cohort.run(7)).max() > 10


def test_series_are_means_of_the_very_run(cohort):
    run, series = cohort.run(5), cohort.series(5)
    maps = cohort.regions.maps(cohort.head).reshape(len(cohort.regions), -1)
    maps = np.where(cohort.head.t1.reshape(-1) > 0, maps, 0)
    means = run.reshape(-1, CONFIG.frames).T @ (maps / maps.sum(1, keepdims=True)).T
    np.testing.assert_allclose(series, means, rtol=1e-4)
    assert (run[cohort.head.t1 == 0] == 0).all()
    assert run[cohort.head.t1 > 0].min() >= 1


def test_regions_cover_the_areas_and_networks_are_of_one_size():
    regions = Regions.drawn(50, 8, ("V1", "46", "STG", "23"))
    assert len(set(regions.names)) == 50
    assert set(regions.area.tolist()) == set(range(33))
    sizes = [len(regions.areas_of([k])) for k in range(8)]
    assert sum(sizes) == 33
    assert max(sizes) <= 5
    assert min(sizes) >= 2
    assert [name in regions.areas_of([k]) for k, name in enumerate(("V1", "46", "STG", "23"))] == [True] * 4
    assert all(len(nodes) > 10 for nodes in regions.nodes_mm)


def test_time_courses_have_their_peak_and_variance():
    response = haemodynamic(0.1)
    assert response.sum() == pytest.approx(1)
    assert 4.5 < response.argmax() * 0.1 < 6
    signals = coloured(np.random.default_rng(0), amplitudes(np.array([0.03, 0.08] * 200), 240, 1.0, share=0.9), 240)
    assert signals.var(1).mean() == pytest.approx(1, abs=0.1)
    spectrum = np.abs(np.fft.rfft(signals, axis=1)) ** 2
    hz = np.fft.rfftfreq(240, 1.0)
    assert hz[spectrum[0::2].mean(0).argmax()] == pytest.approx(0.03, abs=0.005)
    assert hz[spectrum[1::2].mean(0).argmax()] == pytest.approx(0.08, abs=0.005)


def test_the_folder_is_one_of_a_study_with_its_truth_apart(tmp_path):
    few = replace(CONFIG, people=VirtualSubjects.Config(subjects=4, sites=2), frames=16).build()
    write_runs(few, tmp_path)
    people = ParticipantTable.Config(folder=tmp_path, targets=("sex", "age", "null"), categorical=("null",))
    assert people.build().read().ids == few.participants().ids
    name = few.participants().ids[2]
    place = tmp_path / name / "func"
    image = nib.load(place / f"{name}_task-rest_bold.nii.gz")
    assert image.shape == (16, 16, 16, 16)
    assert image.header.get_zooms()[3] == 2.0
    np.testing.assert_allclose(np.asarray(image.dataobj), few.run(2), atol=0.51)
    assert json.loads((place / f"{name}_task-rest_bold.json").read_text())["RepetitionTime"] == 2.0
    columns, rows = read_text_table(place / f"{name}_task-rest_desc-confounds_timeseries.tsv", MOTION)
    assert tuple(columns) == MOTION
    assert len(rows) == 16
    columns, rows = read_text_table(place / f"{name}_task-rest_atlas-virtual_timeseries.tsv", [])
    assert tuple(columns) == few.regions.names
    truth = json.loads((tmp_path / "truth" / "planted.json").read_text())
    assert truth["planted"]["null"] == []
    assert truth["planted"]["sex"][1]["area"] == ["46", "STG"]
    weights = np.asarray(nib.load(tmp_path / "truth" / "planted_sex.nii.gz").dataobj) / 1000
    np.testing.assert_allclose(weights, few.planted.weights["sex"], atol=1e-3)


def test_the_command(tmp_path, capsys):
    words = ["--set", "people.subjects=4", "--set", "people.sites=1", "--set", "size=16", "--set", "frames=16"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert "runs of 4 virtual subjects" in capsys.readouterr().out
    assert main([*words, "--set", "areas=V1,V1,46,23", "--out", str(tmp_path)]) == 2
    assert "areas names an area twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "key"), [({"regions": 20}, "regions"), ({"frames": 8}, "frames"), ({"peak_hz": 0.3}, "peak_hz"),
                       ({"areas": ("V1", "46", "STG", "X")}, "areas"), ({"noise": -1.0}, "noise")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong, key):
    with pytest.raises(SettingError, match=key):
        replace(CONFIG, **wrong)
