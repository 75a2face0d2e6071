"""Splits of participants without brains: families together, sites alike, stored by name, leaks counted."""

import json
from dataclasses import replace

import numpy as np
import pytest

from meshgnn.data.stored_split import load_split, save_split
from meshgnn.data.subject_split import SubjectPart, SubjectSplit, check_no_leak
from meshgnn.errors import InputError, LeakError, SettingError
from meshgnn.source.participant_table import Participants, ParticipantTable
from meshgnn.source.subjects import Target


def people(count: int = 60) -> Participants:
    rng = np.random.default_rng(0)
    return Participants(
        ids=tuple(f"sub-{k:03d}" for k in range(count)),
        family=tuple(f"f{k // 2}" for k in range(count)),
        site=tuple(f"s{k // 2 % 5}" for k in range(count)),
        targets=(Target(name="age"),),
        values=rng.normal(50, 10, (count, 1)),
    )


def test_families_stay_together_and_sites_are_alike():
    cohort = people()
    alike = SubjectSplit.Config(parts=3, keep=("family",), alike=("site",)).build().apply(cohort)
    worst = []
    for part in alike:
        assert check_no_leak(cohort, part, ("family",))["shared_families"] == 0
        shares = [np.mean([cohort.site[k] == site for k in np.flatnonzero(part.test)]) for site in set(cohort.site)]
        worst.append(max(abs(share - 0.2) for share in shares))
    assert max(worst) <= 0.11
    # Alternate rows, as the predecessor split, part every family.
    rows = np.arange(60) % 2 == 0
    with pytest.raises(LeakError, match="shared_families 30"):
        check_no_leak(cohort, SubjectPart(train=rows, test=~rows), ("family",))
    with pytest.raises(SettingError, match="alike"):
        SubjectSplit.Config(keep=("site",), alike=("site",))


def test_one_image_under_two_names_is_a_leak():
    cohort = replace(people(8), contents=("a", "b", "c", "d", "a", "", "", ""))
    part = SubjectPart(train=np.arange(8) < 4, test=np.arange(8) >= 4)
    with pytest.raises(LeakError, match="shared_subjects 1"):
        check_no_leak(cohort, part, ())
    assert check_no_leak(replace(cohort, contents=()), part, ()) == {
        "shared_subjects": 0, "shared_families": 0, "shared_sites": 0
    }  # fmt: skip


def test_a_stored_split_is_joined_by_name(tmp_path):
    cohort = people()
    parts = SubjectSplit.Config(parts=3, keep=("family",)).build().apply(cohort)
    save_split(tmp_path / "split.json", cohort, parts)
    order = np.random.default_rng(1).permutation(60)
    for one, found in zip(parts, load_split(tmp_path / "split.json", cohort.kept(order))):
        np.testing.assert_array_equal(found.test, one.test[order])
        np.testing.assert_array_equal(found.train, one.train[order])
    with pytest.raises(InputError, match="is none of the 50 subjects"):
        load_split(tmp_path / "split.json", cohort.kept(range(50)))
    about = json.loads((tmp_path / "split.json").read_text())
    about["parts"][0]["train"].append(about["parts"][0]["test"][0])
    (tmp_path / "split.json").write_text(json.dumps(about))
    with pytest.raises(LeakError, match="shared_subjects 1"):
        load_split(tmp_path / "split.json", cohort)
    about["parts"] = [{"train": about["parts"][0]["train"][:5], "test": ["sub-000"]}]
    (tmp_path / "split.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="says nothing of"):
        load_split(tmp_path / "split.json", cohort)


def test_a_table_of_participants_is_read(tmp_path):
    rows = ["participant_id\tfamily_id\tsite\tage\tgroup"]
    rows += [f"{k}\tf{k}\t{'ab'[k % 2]}\t{k}.5\t{'xy'[k % 2]}" for k in range(4)]
    rows.append("sub-9\tn/a\ta\tn/a\tx")
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    found = ParticipantTable.Config(folder=tmp_path, targets=("age", "group")).build().read()
    assert found.ids == ("sub-0", "sub-1", "sub-2", "sub-3", "sub-9")
    assert found.groups("family")[-1] == "only sub-9"
    assert found.group_numbers("site").tolist() == [0, 1, 0, 1, 0]
    assert found.targets[1].classes == ("x", "y")
    assert np.isnan(found.values[4, 0])
    assert found.rows(["sub-9", "sub-1"]).tolist() == [4, 1]
    with pytest.raises(InputError, match="sub-7 is not one of"):
        found.rows(["sub-7"])
    for column, told in (("age", "age is 3 for all"), ("group", "group is 'x' for all")):
        place = rows[0].split("\t").index(column)
        cells = [
            [*row.split("\t")[:place], "3.0" if column == "age" else "x", *row.split("\t")[place + 1 :]]
            for row in rows[1:]
        ]
        (tmp_path / "participants.tsv").write_text("\n".join([rows[0], *map("\t".join, cells)]) + "\n")
        with pytest.raises(InputError, match=told.replace("age is", "'age' is")):
            ParticipantTable.Config(
                folder=tmp_path, targets=(column,), numeric=("age",)[: column == "age"]
            ).build().read()
    with pytest.raises(InputError, match="'iq' is not a column"):
        ParticipantTable.Config(folder=tmp_path, targets=("iq",)).build().read()
