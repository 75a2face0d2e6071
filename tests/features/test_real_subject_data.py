"""Real files where they are at hand: a table of 94 people, and volumes of several makers and shapes."""

from pathlib import Path

import numpy as np
import pytest

from features.subject_data.nifti import BadVolume, read_image
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
