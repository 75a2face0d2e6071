"""Families and sites stay together, leaks are counted, and inputs are standardised by the training part alone."""

from dataclasses import replace

import numpy as np
import pytest

from meshgnn.data.subject_inputs import SubjectInputs
from meshgnn.data.subject_split import SubjectPart, SubjectSplit, inner_folds, joint_groups, leak_counts
from meshgnn.errors import InputError
from tests.cohort import cohort


@pytest.fixture(scope="module")
def subjects():
    return cohort()


def test_every_subject_is_tested_once_and_nobody_is_parted(subjects):
    parts = SubjectSplit.Config(parts=3).build().apply(subjects)
    assert (np.sum([part.test for part in parts], axis=0) == 1).all()
    assert all((part.train ^ part.test).all() for part in parts)
    assert leak_counts(subjects, parts) == {"shared_subjects": 0, "shared_families": 0, "shared_sites": 0}


def test_families_alone_may_be_kept_and_shared_sites_are_counted(subjects):
    parts = SubjectSplit.Config(parts=3, keep=("family",)).build().apply(subjects)
    counts = leak_counts(subjects, parts)
    assert counts["shared_families"] == counts["shared_subjects"] == 0
    assert counts["shared_sites"] > 0


def test_leaks_are_found_wherever_they_are(subjects):
    train = np.arange(12) % 2 == 0  # parts every family, and so every site
    counts = leak_counts(subjects, [SubjectPart(train=train, test=~train)])
    assert counts == {"shared_subjects": 0, "shared_families": 6, "shared_sites": 4}
    overlap = SubjectPart(train=np.ones(12, bool), test=np.arange(12) < 2)
    assert leak_counts(subjects, [overlap])["shared_subjects"] == 2


def test_one_test_part_alone_is_possible(subjects):
    (part,) = SubjectSplit.Config(parts=4, cross=False).build().apply(subjects)
    assert 2 <= part.test.sum() <= 4


def test_a_family_at_two_sites_joins_them(subjects):
    moved = tuple(
        replace(one, site="s1") if one.family == "f0" and k == 0 else one for k, one in enumerate(subjects.subjects)
    )
    assert len(np.unique(joint_groups(replace(subjects, subjects=moved), ("family", "site")))) == 3
    everywhere = tuple(replace(one, family="f0") if k % 2 == 0 else one for k, one in enumerate(subjects.subjects))
    with pytest.raises(InputError, match=r"family f0 joins sites s0, s1.*split\.keep=family"):
        SubjectSplit.Config().build().apply(replace(subjects, subjects=everywhere))


def test_a_part_without_a_class_is_refused(subjects):
    values = np.c_[subjects.values[:, 0], np.arange(12) == 0]
    with pytest.raises(InputError, match="'group': the training part"):
        SubjectSplit.Config().build().apply(replace(subjects, values=values))


def test_folds_lie_inside_the_training_part_and_part_no_family(subjects):
    part = SubjectSplit.Config(parts=2).build().apply(subjects)[0]
    folds = inner_folds(subjects, part.train, 3, ("family", "site"), 0)
    assert (folds.sum(0) == part.train).all()
    for judged in folds:
        inside = SubjectPart(train=part.train & ~judged, test=judged)
        assert leak_counts(subjects, [inside])["shared_families"] == 0
    with pytest.raises(InputError, match="fewer groups"):
        inner_folds(subjects, part.train, 30, ("family",), 0)


def test_inputs_do_not_look_at_the_test_part(subjects):
    train = np.arange(12) < 8
    maker = SubjectInputs.Config().build()
    before, _ = maker.fit(subjects, maker.read(subjects), train)
    changed = list(subjects.subjects)
    for k in range(8, 12):
        graph = changed[k].graph
        table = graph.tables["surface"]
        changed[k] = replace(changed[k], graph=graph.with_table(replace(table, values=table.values * 7 + 3)))
    other = replace(subjects, subjects=tuple(changed), values=subjects.values)
    after, _ = maker.fit(other, maker.read(other), train)
    for k in range(8):
        np.testing.assert_array_equal(before[k].features, after[k].features)
        np.testing.assert_array_equal(before[k].whole, after[k].whole)
    assert not np.array_equal(before[9].features, after[9].features)


def test_a_missing_number_of_a_whole_brain_says_so(subjects):
    whole = np.arange(12.0)[:, None].copy()
    whole[5] = np.nan
    known = replace(subjects, covariates=("icv",), whole=whole)
    maker = SubjectInputs.Config(relative=False).build()
    made, _ = maker.fit(known, maker.read(known), np.arange(12) < 8)
    assert made[5].whole.tolist() == [0, 1]
    assert made[4].whole[1] == 0
    assert made[0].whole[0] < made[1].whole[0]


def test_a_feature_that_is_not_there_is_told(subjects):
    with pytest.raises(InputError, match=r"inputs\.only: there is no feature 'c'"):
        SubjectInputs.Config(only=("c",)).build().read(subjects)
    with pytest.raises(InputError, match="no feature left"):
        SubjectInputs.Config(exclude=("a", "b")).build().read(subjects)
