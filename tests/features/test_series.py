"""Series of regions and their connectivity: laws, padding that is told, and whoever cannot be used by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.subject_data.functional_connectivity import FunctionalConnectivity, fisher, partial_correlation
from features.subject_data.series import SubjectSeries
from features.subject_data.series_files import BadSeries, Series, read_series
from meshgnn.errors import InputError, SettingError
from meshgnn.sockets import WindowedItems
from meshgnn.source.participant_table import Participants
from meshgnn.testing import assert_subject_data

IDS = tuple(f"sub-{k}" for k in range(7))
LENGTHS = (60, 60, 45, 80, 60, 60, 60)
REGIONS = 7
NAMES = tuple(f"area{k}" for k in range(REGIONS))
PEOPLE = Participants(ids=IDS)
TRAIN = np.array([True, True, True, False, False, True, False])


def drawn(seed: int, frames: int = 60, regions: int = REGIONS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100 + rng.normal(size=(frames, regions)) @ rng.normal(size=(regions, regions))


def write(folder: Path, name: str, values: np.ndarray, names: tuple[str, ...] = NAMES, tr_s: float = 2.0) -> Path:
    path = folder / name / "func" / f"{name}_task-rest_atlas-x_timeseries.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(names)] if names else []
    path.write_text("\n".join([*lines, *("\t".join(f"{cell!r}" for cell in row) for row in values.tolist())]))
    path.with_suffix(".json").write_text(json.dumps({"RepetitionTime": tr_s}))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    for k, (name, length) in enumerate(zip(IDS, LENGTHS)):
        write(tmp_path, name, drawn(k, length))
    return tmp_path


def test_whole_runs_are_padded_and_the_last_row_tells_it(folder):
    data = SubjectSeries.Config(folder=folder).build(PEOPLE, TRAIN)
    assert isinstance(data, WindowedItems)
    assert_subject_data(data)
    assert data.shape == (REGIONS + 1, 80)
    assert data.regions == NAMES
    items = data.read(np.arange(7))
    for k, length in enumerate(LENGTHS):
        values = drawn(k, length)
        np.testing.assert_allclose(items[k, :-1, :length], ((values - values.mean(0)) / values.std(0)).T, atol=1e-4)
        assert (items[k, :-1, length:] == 0).all()
        assert items[k, -1].tolist() == [1.0] * length + [0.0] * (80 - length)
        assert data.starts(k).tolist() == [0]
    assert (data.last_start == 0).all()


def test_windows_are_cut_out_of_the_standardised_run(folder):
    data = SubjectSeries.Config(folder=folder, frames=20, stride=20).build(PEOPLE, TRAIN)
    assert_subject_data(data)
    assert [len(data.starts(k)) for k in range(7)] == [3, 3, 2, 4, 3, 3, 3]
    assert data.last_start.tolist() == [40, 40, 25, 60, 40, 40, 40]
    whole = SubjectSeries.Config(folder=folder).build(PEOPLE, TRAIN).read(np.array([3]))
    item = data.read_at(np.array([3]), np.array([33]))
    np.testing.assert_array_equal(item, whole[:, :, 33:53])
    assert (item[:, -1] == 1).all()
    with pytest.raises(InputError, match="starts at 25"):
        data.read_at(np.array([2]), np.array([26]))
    short = SubjectSeries.Config(folder=folder, frames=50).build(PEOPLE, TRAIN)
    assert [(one.name, one.reason) for one in short.bad] == [("sub-2", "too_short")]
    with pytest.raises(InputError, match="has no series"):
        short.read(np.array([2]))
    assert short.starts(2).tolist() == []


def test_a_region_that_does_not_change_is_0_and_frames_can_be_dropped(tmp_path):
    values = drawn(0)
    values[:, 2] = 7.0
    for name in IDS[:2]:
        write(tmp_path, name, values, names=())
    item = SubjectSeries.Config(folder=tmp_path, drop=4).build(PEOPLE, TRAIN).read(np.array([0]))[0]
    assert item.shape == (REGIONS + 1, 56)
    assert (item[2] == 0).all()
    np.testing.assert_allclose(item[:-1].std(1), [1, 1, 0, 1, 1, 1, 1], atol=1e-4)
    found = FunctionalConnectivity.Config(folder=tmp_path, standardise=False).build(PEOPLE, TRAIN).read(np.array([0]))
    rows, columns = np.triu_indices(REGIONS, 1)
    assert (found[0][(rows == 2) | (columns == 2)] == 0).all()


def test_series_are_cleaned_as_runs_are(tmp_path):
    rng = np.random.default_rng(1)
    frames, seconds = 200, 2.0 * np.arange(200)
    motion = rng.normal(size=frames)
    signal = np.sin(2 * np.pi * 0.05 * seconds)[:, None] + 0.1 * rng.normal(size=(frames, REGIONS))
    drift = 5 * np.sin(2 * np.pi * 0.003 * seconds)[:, None] + 0.02 * np.arange(frames)[:, None]
    for name in IDS:
        path = write(tmp_path, name, 100 + signal + drift + 3 * motion[:, None])
        table = path.with_name(f"{name}_task-rest_desc-confounds_timeseries.tsv")
        table.write_text("\n".join(["trans_x", *map(repr, motion.tolist())]))
    wanted = {"high_pass_hz": 0.01, "detrend": True, "confounds": ("trans_x",)}

    def alike(**settings) -> float:
        config = SubjectSeries.Config(folder=tmp_path, **settings)
        first = config.build(PEOPLE, TRAIN).read(np.array([0]))[0, 0]
        return float(np.corrcoef(first, signal[:, 0])[0, 1])

    assert alike() < 0.4
    assert alike(**wanted) > 0.95
    assert alike(**{**wanted, "confounds": ()}) < 0.5
    assert len(SubjectSeries.Config(folder=tmp_path, **wanted).files()) == 3 * len(IDS)  # series, JSON, confounds
    dropped = SubjectSeries.Config(folder=tmp_path, drop=20, **wanted).build(PEOPLE, TRAIN)
    assert dropped.shape == (REGIONS + 1, 180)
    plain, own = SubjectSeries.Config(), SubjectSeries.Config(high_pass_hz=0.01)
    assert plain.item_format() != own.item_format()
    whole = FunctionalConnectivity.Config(folder=tmp_path, standardise=False)
    assert replace(whole, **wanted).build(PEOPLE, TRAIN).key() != whole.build(PEOPLE, TRAIN).key()


def test_whoever_cannot_be_cleaned_is_named(folder):
    (folder / IDS[0] / "func" / f"{IDS[0]}_task-rest_atlas-x_timeseries.json").unlink()
    band = SubjectSeries.Config(folder=folder, high_pass_hz=0.01).build(PEOPLE, TRAIN)
    assert [(one.name, one.reason) for one in band.bad] == [(IDS[0], "no_tr")]
    with pytest.raises(InputError, match="usable series"):
        SubjectSeries.Config(folder=folder, confounds=("trans_x",)).build(PEOPLE, TRAIN)
    with pytest.raises(SettingError, match="must lie below low_pass_hz"):
        SubjectSeries.Config(folder=folder, high_pass_hz=0.1, low_pass_hz=0.01)


def test_whoever_cannot_be_used_is_named(folder):
    write(folder, "sub-0", drawn(0, regions=9), names=())
    write(folder, "sub-1", drawn(1), names=("V1", *NAMES[1:]))
    write(folder, "sub-2", drawn(2), tr_s=0.72)
    values = drawn(3)
    values[4, 4] = np.nan
    write(folder, "sub-3", values)
    (folder / "sub-4" / "func" / "sub-4_task-faces_atlas-x_timeseries.tsv").write_text("1\t2\n3\t4\n")
    data = SubjectSeries.Config(folder=folder).build(PEOPLE, TRAIN)
    assert {one.name: one.reason for one in data.bad} == {
        "sub-0": "other_atlas", "sub-1": "other_atlas", "sub-2": "other_tr", "sub-3": "not_finite",
        "sub-4": "several_images",
    }  # fmt: skip
    assert data.observed.tolist() == [False] * 5 + [True] * 2
    with pytest.raises(InputError, match="5 bad subjects"):
        SubjectSeries.Config(folder=folder, bad="refuse").build(PEOPLE, TRAIN)
    kept = SubjectSeries.Config(folder=folder, same_tr=False).build(PEOPLE, TRAIN)
    assert kept.observed.tolist() == [False, False, True, False, False, True, True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a\tb\n1\t2\n3\n", "damaged"), ("a\tb\n1\t2\n", "too_short"), ("1\n2\n3\n", "other_atlas"),
     ("1,2\n1,2\n1,2\n", "constant"), ("", "damaged"), ("a\tb\n1\tx\n2\t3\n", "not_finite")],
)  # fmt: skip
def test_files_that_are_no_series_say_why(tmp_path, text, reason):
    path = tmp_path / "x.tsv"
    path.write_text(text)
    with pytest.raises(BadSeries) as error:
        read_series(path)
    assert error.value.reason == reason
    assert str(path) in str(error.value)


def test_names_of_regions_may_look_like_numbers(tmp_path):
    values = drawn(0, 12, 4)
    for names in (("4", "24.1", "V1", "3b", "MT"), ("1", "2", "3", "4")):
        own = values[:, [0, 1, 2, 3, 0][: len(names)]]
        found = read_series(write(tmp_path, "sub-1", own, names=names))
        assert found.names == names
        np.testing.assert_array_equal(found.values, own)
    path = write(tmp_path, "sub-1", values, names=())
    assert len(read_series(path).values) == 12
    path.write_text(path.read_text().replace("\t", "\tx", 1))
    with pytest.raises(BadSeries, match=r"row 1: column 2 is 'x"):
        read_series(path)


def test_commas_and_blanks_part_cells_too(tmp_path):
    values = drawn(0, 12)
    for sign in (",", " ", ";", "\t"):
        np.savetxt(tmp_path / "x.txt", values, delimiter=sign)
        np.testing.assert_allclose(read_series(tmp_path / "x.txt").values, values)


@pytest.mark.parametrize("kind", ["pearson", "partial"])
def test_scaling_a_region_changes_no_connectivity_and_it_is_symmetric(kind):
    values = drawn(4)
    scaled = (values - 30) * np.array([1, 1e4, 1, 1e-3, 1, 1, 7])
    found, again = (fisher(Series(values=one, names=(), tr_s=0), kind) for one in (values, scaled))
    np.testing.assert_allclose(found, again, atol=1e-8)
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 0).all()
    flipped = fisher(Series(values=values * np.array([-1, *[1] * 6]), names=(), tr_s=0), kind)
    np.testing.assert_allclose(flipped[0, 1:], -found[0, 1:], atol=1e-8)


def test_connectivity_is_that_of_its_definition():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(4000, REGIONS)) + 0.6 * rng.normal(size=(4000, 1))
    found = np.tanh(fisher(Series(values=values, names=(), tr_s=0), "pearson"))
    np.testing.assert_allclose(found + np.eye(REGIONS), np.corrcoef(values.T), atol=1e-8)
    # Partial correlation of two regions is that of what regressions on all others leave of them.
    centred = (values - values.mean(0)) / values.std(0)
    rest = centred[:, 2:]
    left = centred[:, :2] - rest @ np.linalg.lstsq(rest, centred[:, :2], rcond=None)[0]
    assert partial_correlation(centred)[0, 1] == pytest.approx(np.corrcoef(left.T)[0, 1], abs=0.02)


@pytest.mark.parametrize("kind", ["pearson", "partial"])
def test_items_are_finite_with_fewer_frames_than_regions_and_standardised_by_training_subjects(tmp_path, kind):
    for k, name in enumerate(IDS):
        write(tmp_path, name, drawn(k, 12, 30), names=())
    data = FunctionalConnectivity.Config(folder=tmp_path, correlation=kind).build(PEOPLE, TRAIN)
    assert_subject_data(data)
    assert data.shape == (30 * 29 // 2,)
    train = data.read(np.flatnonzero(TRAIN))
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-4)
    other = FunctionalConnectivity.Config(folder=tmp_path, correlation=kind).build(PEOPLE, ~TRAIN)
    assert np.abs(other.read(np.arange(6)) - data.read(np.arange(6))).max() > 0.1
    assert other.key() != data.key()
    write(tmp_path, "sub-4", drawn(40, 12, 30), names=())  # not of a training subject
    again = FunctionalConnectivity.Config(folder=tmp_path, correlation=kind).build(PEOPLE, TRAIN)
    np.testing.assert_array_equal(again.read(np.arange(4)), data.read(np.arange(4)))


def test_settings_that_cannot_be_are_refused(tmp_path):
    for wrong in ({"pattern": "x.tsv"}, {"stride": 5}, {"drop": -1}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            SubjectSeries.Config(**wrong)
    with pytest.raises(SettingError, match="fewest"):
        FunctionalConnectivity.Config(fewest=2)
    with pytest.raises(InputError, match="no participant has a usable series"):
        SubjectSeries.Config(folder=tmp_path).build(PEOPLE, TRAIN)
    assert SubjectSeries.Config(folder=tmp_path).files() == ()
