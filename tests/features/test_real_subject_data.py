"""Real files where they are at hand: a table of 94 people, and volumes of several makers and shapes."""

from pathlib import Path

import numpy as np
import pytest

from features.subject_data.find_images import ImageFiles
from features.subject_data.functional_connectivity import FunctionalConnectivity
from features.subject_data.nifti import BadVolume, read_image
from features.subject_data.run_conversion import RunConversion
from features.subject_data.runs import SubjectRuns
from features.subject_data.series import SubjectSeries
from features.subject_data.table import SubjectTable
from meshgnn.source.participant_table import Participants, ParticipantTable, group_of, participant_names
from meshgnn.source.text_table import read_text_table
from meshgnn.testing import assert_subject_data

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "volumes"
TABLE = FOLDER / "phenotypes_brainomics_localizer.tsv"

pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason="shared/data/volumes is not here")


def test_phenotypes_of_94_people_become_items():
    _, rows = read_text_table(TABLE, ["participant_id", "family", "site"])
    people = Participants(
        ids=tuple(participant_names(TABLE, rows)),
        family=tuple(group_of(row, "family") for row in rows),
        site=tuple(group_of(row, "site") for row in rows),
    )
    train = np.arange(94) % 3 != 0
    config = SubjectTable.Config(path=TABLE, drop=("family", "site", "pseudo", "id"), targets=("sex",), unseen="other")
    data = config.build(people, train)
    assert_subject_data(data)
    assert data.observed.all()
    assert len(set(data.groups.tolist())) == 91
    assert not any(name.startswith("sex") for name in data.names)
    age = data.read(np.flatnonzero(train))[:, data.names.index("age")]
    assert abs(age.mean()) < 1e-6


def test_participants_need_their_own_name(tmp_path):
    (tmp_path / "participants.tsv").write_bytes(TABLE.read_bytes())
    found = ParticipantTable.Config(folder=tmp_path, targets=("sex", "age"), family="family").build().read()
    assert len(found) == 94
    assert found.targets[0].classes == ("F", "M")
    assert np.isnan(found.values[:, 1]).sum() == 4


def test_volumes_of_several_makers_are_read_or_named():
    found = {}
    for path in sorted(FOLDER.glob("*.nii.gz")):
        try:
            found[path.name] = read_image(path).values.shape
        except BadVolume as error:
            found[path.name] = error.reason
    assert found["tpl-Colin27_res-2_T1w.nii.gz"] == (90, 108, 90)
    assert found["sub-nibabel_desc-anatomical_3d.nii.gz"] == (33, 41, 25)
    assert found["sub-nibabelExample4d_desc-epi_4d.nii.gz"] == "four_dimensional"


def linked(folder: Path, files: dict[str, tuple[str, str]]) -> ImageFiles.Config:
    """A BIDS folder in which subject has (image, its name there), with the JSON file beside where there is one."""
    rows = ["participant_id"]
    for name, (source, target) in files.items():
        place = folder / name / "func"
        place.mkdir(parents=True)
        (place / target).symlink_to(FOLDER / source)
        beside = FOLDER / source.replace(".nii.gz", ".json").replace(".tsv", ".json")
        if beside.is_file():
            (place / beside.name.replace(source.split(".")[0], target.split(".")[0])).symlink_to(beside)
        rows.append(name)
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return ImageFiles.Config(folder=folder, suffix="bold", place="func")


def test_real_runs_become_windows_and_others_are_named(tmp_path):
    bold = "{}_task-x_bold.nii.gz"
    sources = [
        "sub-nitime_task-unspecified_run-1_bold.nii.gz", "sub-nitime_task-unspecified_run-2_bold.nii.gz",
        "sub-nibabel_task-unspecified_bold.nii.gz", "sub-nibabelExample4d_desc-epi_4d.nii.gz",
        "sub-nibabel_desc-anatomical_3d.nii.gz",
    ]  # fmt: skip
    files = {f"sub-{k}": (source, bold.format(f"sub-{k}")) for k, source in enumerate(sources)}
    store, bad = RunConversion.Config(images=linked(tmp_path, files), fewest=10).build().run(tmp_path / "store")
    assert store.ids == ("sub-0", "sub-1")
    assert {one.name: one.reason for one in bad} == {
        "sub-2": "other_size", "sub-3": "too_short", "sub-4": "three_dimensional",
    }  # fmt: skip
    assert store.tr_s.tolist() == [1.35, 1.35]
    assert store.frames.tolist() == [40, 40]
    people = Participants(ids=tuple(files))
    data = SubjectRuns.Config(store=tmp_path / "store", size=(16, 20, 12)).build(people, np.ones(5, bool))
    assert_subject_data(data)
    assert data.shape == (2, 16, 20, 12, 20)
    assert [len(data.starts(row)) for row in range(5)] == [2, 2, 0, 0, 0]
    voxel = data.read_at(np.array([0, 0]), np.array([0, 20]))[:, 1]
    inside = (voxel != 0).any(axis=(0, -1))
    both = np.concatenate([voxel[0], voxel[1]], axis=-1)[inside]
    np.testing.assert_allclose(both.mean(1), 0, atol=2e-3)
    np.testing.assert_allclose(both.std(1), 1, atol=5e-3)


def test_real_series_of_31_regions(tmp_path):
    source = "sub-nitime_desc-rois_timeseries.tsv"
    linked(tmp_path, {name: (source, f"{name}_atlas-x_timeseries.tsv") for name in ("sub-1", "sub-2")})
    people, train = Participants(ids=("sub-1", "sub-2")), np.array([True, True])
    series = SubjectSeries.Config(folder=tmp_path).build(people, train)
    assert_subject_data(series)
    assert series.shape == (32, 250)
    assert series.regions[2:4] == ("Brain", "LCau")
    for kind in ("pearson", "partial"):
        config = FunctionalConnectivity.Config(folder=tmp_path, correlation=kind, standardise=False)
        data = config.build(people, train)
        assert_subject_data(data)
        assert data.shape == (31 * 30 // 2,)
