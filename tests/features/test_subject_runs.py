"""Windows of runs as items: how many there are, what stands in them, and the same in every evaluation."""

import numpy as np
import pytest

from features.subject_data.find_images import ImageFiles
from features.subject_data.run_conversion import RunConversion
from features.subject_data.run_store import margins
from features.subject_data.runs import SubjectRuns
from features.subject_data.series import SubjectSeries
from features.subject_data.windows import Windows
from meshgnn.errors import InputError, SettingError
from meshgnn.sockets import WindowedItems
from meshgnn.source.participant_table import Participants, ParticipantTable
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.runs_folder import write_runs
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.source.virtual.time_courses import MOTION
from meshgnn.testing import assert_subject_data
from tests.features.runs import moving, run_path, write_moving, write_run
from tests.features.volumes import SHAPE

FRAMES = (37, 37, 45, 60, 12)
ALL = np.ones(5, bool)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple:
    """A store of five runs, the last one short, and its participants; voxel (9, 11, 9) of the first never changes."""
    folder = tmp_path_factory.mktemp("runs")
    names = write_moving(folder, 5)
    for k, (name, frames) in enumerate(zip(names, FRAMES)):
        values = moving(k, frames)
        values[9, 11, 9] = 90
        write_run(run_path(folder, name), values)
    images = ImageFiles.Config(folder=folder, suffix="bold", place="func")
    RunConversion.Config(images=images).build().run(folder / "store")
    return folder / "store", ParticipantTable.Config(folder=folder).build().read()


def runs(cohort, **settings) -> SubjectRuns:
    return SubjectRuns.Config(store=cohort[0], **settings).build(cohort[1], ALL)


def truth(row: int) -> tuple[np.ndarray, np.ndarray]:
    values = moving(row, FRAMES[row]).astype(np.float64)
    values[9, 11, 9] = 90
    return values, (values != 0).any(-1)


def test_the_number_of_windows():
    assert Windows(frames=20, stride=20).count(1180) == 59
    assert Windows(frames=20, stride=20).starts(1180)[-1] == 1160
    assert Windows(frames=20, stride=10).count(59) == 4
    assert Windows(frames=20, stride=20).count(19) == 0
    with pytest.raises(SettingError, match="stride"):
        Windows(frames=20, stride=0)


@pytest.mark.parametrize(
    ("old", "new", "sides"),
    [(75, 96, (11, 10)), (93, 96, (2, 1)), (81, 96, (8, 7)), (79, 96, (9, 8)), (85, 96, (6, 5))],
)
def test_margins_are_those_published_and_undo_each_other(old, new, sides):
    assert margins(old, new) == sides
    assert margins(new, old) == (-sides[0], -sides[1])


def test_both_channels_are_z_scores_of_the_run_itself(cohort):
    data = runs(cohort, stride=5)
    assert isinstance(data, WindowedItems)
    assert_subject_data(data)
    assert data.shape == (2, *SHAPE, 20)
    values, inside = truth(0)
    item = data.read_at(np.array([0]), np.array([13]))[0]
    window = values[..., 13:33]
    scaled = (window - values[inside].mean()) / values[inside].std()
    np.testing.assert_allclose(item[0][inside], scaled[inside], atol=2e-3)
    # Outside the mask stands the smallest value of the run, not of the window.
    smallest = (values[inside].min() - values[inside].mean()) / values[inside].std()
    np.testing.assert_allclose(item[0][~inside], smallest, atol=1e-5)
    assert (item[1][9, 11, 9] == 0).all()
    assert (item[1][~inside] == 0).all()
    changing = inside.copy()
    changing[9, 11, 9] = False
    own = (window - values.mean(-1, keepdims=True))[changing] / values.std(-1, keepdims=True)[changing]
    np.testing.assert_allclose(item[1][changing], own, atol=2e-3)


def test_padding_keeps_the_background_and_cutting_undoes_it(cohort):
    plain, large = runs(cohort), runs(cohort, size=(33, 24, 21))
    small = runs(cohort, size=(13, 11, 18), channels=1)
    whole = plain.read(np.array([0, 1]))
    padded = large.read(np.array([0, 1]))
    before = [margins(old, new)[0] for old, new in zip(SHAPE, (33, 24, 21))]
    place = tuple(slice(start, start + side) for start, side in zip(before, SHAPE))
    np.testing.assert_array_equal(padded[:, :, *place], whole)
    outside = np.ones((33, 24, 21), bool)
    outside[place] = False
    for k in range(2):
        assert (padded[k, 0][outside] == whole[k, 0].min()).all()
        assert (padded[k, 1][outside] == 0).all()
    before = [-margins(old, new)[0] for old, new in zip(SHAPE, (13, 11, 18))]
    place = tuple(slice(start, start + side) for start, side in zip(before, (13, 11, 18)))
    np.testing.assert_array_equal(small.read(np.array([0, 1]))[:, 0], whole[:, 0][:, *place])
    assert (large.cut_off() == 0).all()
    assert 0 < small.cut_off()[0] < 1


def test_evaluation_reads_the_same_windows_every_time(cohort):
    data, again = runs(cohort), runs(cohort)
    assert [data.starts(row).tolist() for row in range(5)] == [[0], [0], [0, 20], [0, 20, 40], []]
    assert data.last_start.tolist() == [17, 17, 25, 40, 0]
    for row in range(4):
        starts = data.starts(row)
        items = data.read_at(np.full(len(starts), row), starts)
        np.testing.assert_array_equal(items, again.read_at(np.full(len(starts), row), again.starts(row)))
        frames = np.concatenate([np.arange(start, start + 20) for start in starts])
        assert len(set(frames.tolist())) == len(frames)  # every frame once
    assert data.key() == again.key() != runs(cohort, stride=10).key()


def test_a_window_at_any_start_is_cut_out_of_the_whole_run(cohort):
    whole = runs(cohort, frames=60).read(np.array([3]))
    rng = np.random.default_rng(0)
    for frames in (1, 7, 20):
        data = runs(cohort, frames=frames)
        for start in rng.integers(0, 60 - frames + 1, 5).tolist():
            item = data.read_at(np.array([3]), np.array([start]))
            np.testing.assert_array_equal(item, whole[..., start : start + frames])


def test_starts_beyond_the_last_and_subjects_without_a_run_are_refused(cohort):
    data = runs(cohort)
    for start in (-1, 18):
        with pytest.raises(InputError, match="starts at 17"):
            data.read_at(np.array([0]), np.array([start]))
    with pytest.raises(InputError, match="has no run"):
        data.read(np.array([4]))
    with pytest.raises(InputError, match="with starts"):
        data.read_at(np.array([0, 1]), np.array([0]))


def test_short_runs_are_left_out_by_name_or_refused(cohort):
    data = runs(cohort)
    assert [(one.name, one.reason) for one in data.bad] == [("sub-04", "too_short")]
    assert data.observed.tolist() == [True] * 4 + [False]
    with pytest.raises(InputError, match="12 frames, a window needs 20"):
        runs(cohort, bad="refuse")
    with pytest.raises(InputError, match="no participant has a usable run"):
        runs(cohort, frames=100)


def test_other_subjects_and_their_order_change_nothing(cohort):
    store, _ = cohort
    some = Participants(ids=("sub-03", "sub-77", "sub-00"))
    data = SubjectRuns.Config(store=store).build(some, np.array([True, False, False]))
    assert data.observed.tolist() == [True, False, True]
    np.testing.assert_array_equal(data.read(np.array([2, 0])), runs(cohort).read(np.array([0, 3])))


def test_threads_read_the_same(cohort):
    rows, starts = np.array([0, 3, 2, 3, 1]), np.array([3, 11, 0, 40, 17])
    np.testing.assert_array_equal(runs(cohort, threads=3).read_at(rows, starts), runs(cohort).read_at(rows, starts))


def test_a_virtual_cohort_becomes_windows_and_series_of_the_same_subjects(tmp_path):
    people = VirtualSubjects.Config(subjects=5, sites=2)
    drawn = VirtualRuns.Config(people=people, size=16, frames=40).build()
    write_runs(drawn, tmp_path)
    images = ImageFiles.Config(folder=tmp_path, suffix="bold", place="func")
    _, bad = RunConversion.Config(images=images, confounds=MOTION, detrend=True).build().run(tmp_path / "store")
    assert not bad
    who = drawn.participants()
    data = SubjectRuns.Config(store=tmp_path / "store").build(who, ALL)
    assert_subject_data(data)
    assert data.shape == (2, 16, 16, 16, 20)
    assert data.tr_s == 2.0
    series = SubjectSeries.Config(folder=tmp_path).build(who, ALL)
    assert_subject_data(series)
    assert series.regions == drawn.regions.names
    assert series.shape == (len(drawn.regions) + 1, 40)
