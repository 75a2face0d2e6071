"""Subjects: the records refuse what cannot be learnt from, folders say what is wrong with them in one line."""

from dataclasses import replace

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.mesh.topology import edges_not_in_two_faces, euler_number
from meshgnn.source.participants import SubjectFolders
from meshgnn.source.subjects import Target, area_names, brain_hash
from meshgnn.source.virtual.subjects import AGE_AREAS, VirtualSubjects
from tests.cohort import cohort, subject_brain, write_cohort

SMALL = VirtualSubjects.Config(subjects=16, sites=3)


@pytest.fixture(scope="module")
def virtual():
    return SMALL.build().read()


def test_the_same_seed_draws_the_same_subjects_and_another_seed_others(virtual):
    again, other = SMALL.build().read(), replace(SMALL, seed=2).build().read()
    for one, two, three in zip(virtual.subjects, again.subjects, other.subjects):
        assert brain_hash(one.graph) == brain_hash(two.graph) != brain_hash(three.graph)
    np.testing.assert_array_equal(virtual.values, again.values)


def test_virtual_brains_are_closed_meshes_with_all_areas(virtual):
    for subject in virtual.subjects:
        for mesh in subject.graph.meshes:
            assert euler_number(mesh) == 2
            assert edges_not_in_two_faces(mesh) == 0
    assert set(AGE_AREAS) <= set(area_names(virtual))


def test_the_planted_traits_are_there_and_families_keep_to_one_site():
    # Without noise between subjects' sites and with a strong effect the area means tell the age.
    strong = VirtualSubjects.Config(subjects=24, thinning_mm=0.5, missing=0.0, site_mm=0.0)
    found = strong.build().read()
    thickness = []
    for subject in found.subjects:
        graph = subject.graph
        inside = np.isin(graph.labels, [graph.areas.names.index(name) for name in AGE_AREAS])
        thickness.append(graph.tables["surface"].values[inside, 0].mean())
    assert np.corrcoef(thickness, found.values[:, 0])[0, 1] < -0.9
    sites = {}
    for subject in found.subjects:
        sites.setdefault(subject.family, set()).add(subject.site)
    assert all(len(where) == 1 for where in sites.values())
    assert len(sites) < 24


def test_missing_targets_are_about_as_many_as_asked_for():
    many = VirtualSubjects.Config(subjects=60, missing=0.3).build().read()
    assert 0.15 < np.isnan(many.values).mean() < 0.45


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: {"subjects": c.subjects[:1], "values": c.values[:1]}, "1 subject: at least 4"),
        (lambda c: {"values": np.c_[c.values[:, 0], np.full(12, np.nan)]}, "'group' is missing for every subject"),
        (lambda c: {"values": np.c_[c.values[:, 0], np.ones(12)]}, "'group' is y for all 12 subjects"),
        (lambda c: {"values": np.c_[np.full(12, 3.0), c.values[:, 1]]}, "'age' is 3 for all"),
        (lambda c: {"values": np.c_[np.full(12, np.inf), c.values[:, 1]]}, "'age' is infinite for sub-00"),
        (lambda c: {"values": c.values + 5}, "numbers that are no class"),
        (lambda c: {"targets": (), "values": np.zeros((12, 0))}, "no target"),
        (lambda c: {"subjects": (*c.subjects[:11], replace(c.subjects[0]))}, "'sub-00' stands twice"),
        (lambda c: {"subjects": (*c.subjects[:11], replace(c.subjects[0], name="sub-99"))}, "exactly the same brain"),
        (lambda c: {"subjects": (replace(c.subjects[0], site=""), *c.subjects[1:])}, "sub-00 has no site"),
        (
            lambda c: {
                "subjects": (
                    replace(c.subjects[0], graph=c.subjects[0].graph.without_features(["b"])),
                    *c.subjects[1:],
                )
            },
            "sub-00 has no feature 'b'",
        ),
        (lambda c: {"values": c.values[:5]}, "12 subjects with 2 targets"),
    ],
)  # fmt: skip
def test_subjects_that_cannot_be_learnt_from_are_refused(change, told):
    with pytest.raises(InputError, match=told) as caught:
        cohort(**change(cohort()))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), cohort(6, 2))


def read(folder, **settings):
    given = {"targets": ("age", "group"), **settings}
    return SubjectFolders.Config(folder=folder, **given).build().read()


def test_a_folder_gives_back_what_was_written(folder):
    wanted, found = cohort(6, 2), read(folder, covariates=("icv",))
    assert [one.name for one in found.subjects] == [one.name for one in wanted.subjects]
    assert [(one.family, one.site) for one in found.subjects] == [(one.family, one.site) for one in wanted.subjects]
    assert found.targets == (Target(name="age"), Target(name="group", classes=("x", "y")))
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-3)
    assert np.isnan(found.whole[3, 0])
    assert found.whole[4, 0] == 1404
    np.testing.assert_allclose(
        found.subjects[2].graph.tables["surface"].values, wanted.subjects[2].graph.tables["surface"].values
    )


def test_numbers_of_few_kinds_are_classes_unless_told_otherwise(folder, tmp_path):
    table = ["participant_id\tage\tgroup", *(f"sub-{k:02d}\t{k % 3}\tx{k % 2}" for k in range(6))]
    write_cohort(tmp_path, cohort(6, 2), table)
    assert read(tmp_path).targets[0].classes == ("0", "1", "2")
    assert read(tmp_path, numeric=("age",)).targets[0].classes == ()


HEAD = "participant_id\tfamily_id\tsite\tage\tgroup"


@pytest.mark.parametrize(
    ("rows", "settings", "told"),
    [
        (["sub-00\tf\ts\t1\tx", "sub-00\tf\ts\t2\ty"], {}, r"'sub-00' stands twice \(lines 2, 3\)"),
        (["sub-00\tf\ts\t1\tx"], {}, "1 participant with a folder; at least 4"),
        (["sub-77\tf\ts\t1\tx"], {}, "no folder of a participant"),
        (["../etc\tf\ts\t1\tx"], {}, "line 2: '../etc' is not a participant id"),
        (
            ["sub-05\tf\ts\tinf\tx", *(f"sub-{k:02d}\tf\ts\t{k}.5\tx" for k in range(5))],
            {},
            "line 2: age is inf, not a finite number",
        ),
        (
            ["sub-05\tf\ts\told\tx", *(f"sub-{k:02d}\tf\ts\t{k}.5\tx" for k in range(5))],
            {"numeric": ("age",)},
            "line 2: age is 'old', not a number",
        ),
        ([f"sub-{k:02d}\tf\ts\t{k}.5\tx" for k in range(6)], {}, "group is 'x' for all"),
        ([f"sub-{k:02d}\tf\ts\tn/a\t{'xy'[k % 2]}" for k in range(6)], {}, "'age' is missing for every subject"),
        (["sub-00\tf\ts\t1\tx"], {"targets": ("iq",)}, "'iq' is not a column"),
        (["sub-00\tf\ts\t1\tx"], {"targets": ("site",)}, "'site' is not a column that can be used so"),
        (["sub-00\tf\ts\t1\tx"], {"targets": ()}, "say what to predict"),
        ([], {}, "holds no participant"),
    ],
)
def test_tables_that_are_wrong_are_told_in_one_line(folder, tmp_path, rows, settings, told):
    for source in folder.glob("sub-*"):
        (tmp_path / source.name).symlink_to(source)
    (tmp_path / "participants.tsv").write_text("\n".join([HEAD, *rows]) + "\n")
    with pytest.raises(InputError, match=told) as caught:
        read(tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_who_has_no_folder_or_no_row_is_left_out_with_a_warning(folder, tmp_path):
    for source in folder.glob("sub-*"):
        (tmp_path / source.name).symlink_to(source)
    rows = [f"sub-{k:02d}\tf{k}\ts{k}\t{k}.5\t{'xy'[k % 2]}" for k in (0, 1, 2, 3, 99)]
    (tmp_path / "participants.tsv").write_text("\n".join([HEAD, *rows]) + "\n")
    found = read(tmp_path, numeric=("age",))
    assert len(found) == 4
    assert any("sub-99" in warning for warning in found.warnings)
    assert any("sub-04, sub-05" in warning for warning in found.warnings)


def test_a_covariate_may_not_be_a_target():
    with pytest.raises(InputError, match="given away"):
        SubjectFolders.Config(targets=("age",), covariates=("age",))


def test_brains_of_other_sizes_are_welcome():
    sizes = {subject.graph.n_nodes for subject in cohort().subjects}
    assert len(sizes) == 2
    assert subject_brain(1).n_nodes in sizes
