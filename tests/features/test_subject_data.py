"""Items of subjects: joined by name, standardised by training subjects alone, absent rather than zero."""

import numpy as np
import pytest

from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.convert import VolumeConversion
from features.subject_data.find_images import ImageFiles
from features.subject_data.grid import Cube
from features.subject_data.matrix_files import read_matrix
from features.subject_data.table import SubjectTable
from features.subject_data.volumes import SubjectVolumes
from meshgnn.errors import InputError, SettingError
from meshgnn.override import override
from meshgnn.source.participant_table import Participants
from meshgnn.testing import assert_subject_data
from tests.features.volumes import image_path, phantom, write_image, write_people, write_phantoms

COUNT, REGIONS = 8, 5
NAMES = tuple(f"sub-{k:02d}" for k in range(COUNT))
PEOPLE = Participants(ids=NAMES, family=tuple(f"f{k // 2}" for k in range(COUNT)))
TRAIN = np.arange(COUNT) < 5


def matrix(seed: int, regions: int = REGIONS) -> np.ndarray:
    values = np.tanh(np.random.default_rng(seed).normal(0, 0.5, (regions, regions)))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1)
    return values.astype(np.float32)


def matrix_path(folder, name, suffix=".npy"):
    path = folder / name / "connectivity" / f"{name}_relmat{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def folder(tmp_path):
    """Volumes of all but sub-03, matrices of all but sub-04, table rows of all but sub-06."""
    write_phantoms(tmp_path, COUNT)
    image_path(tmp_path, "sub-03").unlink()
    for k, name in enumerate(NAMES):
        if k != 4:
            np.save(matrix_path(tmp_path, name), matrix(k))
    (tmp_path / "phenotype").mkdir()
    rows = ["participant_id\tgrip\tmood\tworry\tsmoking\tcode\tempty"]
    for k in reversed(range(COUNT)):  # another order than the participants'
        if k != 6:
            grip = "n/a" if k == 1 else f"{10 + k}"
            rows.append(f"{k:02d}\t{grip}\t{k * k}\t{-k}\t{('never', 'former')[k % 2]}\t{k % 3}\tn/a")
    (tmp_path / "phenotype" / "measures.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "phenotype" / "measures.json").write_text(
        '{"mood": {"Domain": "psychology"}, "worry": {"Domain": "psychology"}, "code": {"Levels": {"0": "a"}}}'
    )
    conversion = VolumeConversion.Config(
        images=ImageFiles.Config(folder=tmp_path), cube=Cube.Config(size=8, fit="stretch")
    )
    conversion.build().run(tmp_path / "store")
    return tmp_path


def made(folder, people=PEOPLE, train=TRAIN):
    return {
        "volume": SubjectVolumes.Config(stores=(folder / "store",)).build(people, train),
        "connectivity": SubjectConnectivity.Config(folder=folder).build(people, train),
        "table": SubjectTable.Config(path=folder / "phenotype" / "measures.tsv").build(people, train),
    }


def test_all_three_keep_the_laws_of_the_socket(folder):
    for name, absent in (("volume", 3), ("connectivity", 4), ("table", 6)):
        data = made(folder)[name]
        assert_subject_data(data)
        assert np.flatnonzero(~data.observed).tolist() == [absent]
        assert data.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_rows_are_joined_by_name_and_never_by_order(folder):
    order = np.random.default_rng(0).permutation(COUNT)
    whole, mixed = made(folder), made(folder, PEOPLE.kept(order), TRAIN[order])
    for name, data in whole.items():
        place = np.argsort(order)
        here = np.flatnonzero(data.observed)
        np.testing.assert_array_equal(mixed[name].observed[place], data.observed)
        np.testing.assert_allclose(mixed[name].read(place[here]), data.read(here), atol=1e-6)
        assert mixed[name].key() != data.key()


def test_strangers_are_never_matched_by_chance(folder):
    others = Participants(ids=tuple(f"sub-x{k}" for k in range(COUNT)))
    for config in (
        SubjectVolumes.Config(stores=(folder / "store",)),
        SubjectConnectivity.Config(folder=folder),
        SubjectTable.Config(path=folder / "phenotype" / "measures.tsv"),
    ):
        with pytest.raises(InputError, match=r"none of the participants|no participant"):
            config.build(others, TRAIN)
        with pytest.raises(InputError, match="no training subject"):
            config.build(PEOPLE, np.zeros(COUNT, bool))
        with pytest.raises(InputError, match="true or false"):
            config.build(PEOPLE, TRAIN[:3])


def test_everything_is_standardised_by_training_subjects_alone(folder):
    before = {name: data.read(np.flatnonzero(TRAIN & data.observed)) for name, data in made(folder).items()}
    assert abs(before["volume"].mean()) < 1e-5
    assert before["volume"].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(before["connectivity"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(before["connectivity"].std(0), 1, atol=1e-4)
    write_image(image_path(folder, "sub-07"), phantom(7) * 50)
    np.save(matrix_path(folder, "sub-07"), np.where(np.eye(REGIONS), 1, 0.9).astype(np.float32))
    path = folder / "phenotype" / "measures.tsv"
    path.write_text(path.read_text().replace("07\t17", "07\t99999"))
    conversion = VolumeConversion.Config(
        images=ImageFiles.Config(folder=folder), cube=Cube.Config(size=8, fit="stretch")
    )
    conversion.build().run(folder / "store")
    for name, data in made(folder).items():
        np.testing.assert_array_equal(data.read(np.flatnonzero(TRAIN & data.observed)), before[name])


@pytest.mark.parametrize("scale", ["train", "own", "range", "none"])
def test_scales_of_volumes(folder, scale):
    data = SubjectVolumes.Config(stores=(folder / "store",), scale=scale).build(PEOPLE, TRAIN)
    items = data.read(np.array([0, 1, 7]))
    if scale == "own":
        np.testing.assert_allclose(items.mean(axis=(1, 2, 3, 4)), 0, atol=1e-5)
        np.testing.assert_allclose(items.std(axis=(1, 2, 3, 4)), 1, atol=1e-5)
    if scale == "range":
        np.testing.assert_allclose(items.min(axis=(1, 2, 3, 4)), -1, atol=1e-5)
        np.testing.assert_allclose(items.max(axis=(1, 2, 3, 4)), 1, atol=1e-5)
    if scale == "none":
        assert items.min() == 0
    with pytest.raises(InputError, match="keeps no mean"):
        SubjectVolumes.Config(stores=(folder / "store",), scale="stored").build(PEOPLE, TRAIN)
    clipped = SubjectVolumes.Config(stores=(folder / "store",), clip=0.5).build(PEOPLE, TRAIN)
    assert np.abs(clipped.read(np.array([0]))).max() <= 0.5


def test_channels_of_several_stores(folder):
    for k, name in enumerate(NAMES[:6]):
        write_image(image_path(folder, name, "FLAIR"), phantom(k + 100))
    images = ImageFiles.Config(folder=folder, suffix="FLAIR")
    VolumeConversion.Config(images=images, like=folder / "store").build().run(folder / "flair")
    stores = (folder / "store", folder / "flair")
    both = SubjectVolumes.Config(stores=stores).build(PEOPLE, TRAIN)
    assert both.shape == (2, 8, 8, 8)
    assert np.flatnonzero(~both.observed).tolist() == [3, 6, 7]
    assert_subject_data(both)
    some = SubjectVolumes.Config(stores=stores, absent="zero").build(PEOPLE, TRAIN)
    assert some.observed.all()
    assert (some.read(np.array([3]))[0, 0] == 0).all()
    np.testing.assert_array_equal(some.read(np.array([0, 5])), both.read(np.array([0, 5])))
    VolumeConversion.Config(images=images, cube=Cube.Config(size=9)).build().run(folder / "other")
    with pytest.raises(InputError, match="another grid"):
        SubjectVolumes.Config(stores=(folder / "store", folder / "other")).build(PEOPLE, TRAIN)


def test_connectivity_is_the_upper_triangle_and_its_width_that_of_the_files(folder):
    data = SubjectConnectivity.Config(folder=folder, standardise=False).build(PEOPLE, TRAIN)
    assert data.shape == (REGIONS * (REGIONS - 1) // 2,)
    np.testing.assert_array_equal(data.read(np.array([2]))[0], matrix(2)[np.triu_indices(REGIONS, 1)])
    fisher = SubjectConnectivity.Config(folder=folder, standardise=False, fisher=True).build(PEOPLE, TRAIN)
    np.testing.assert_allclose(np.tanh(fisher.read(np.array([2]))), data.read(np.array([2])), atol=1e-6)


def test_a_stack_of_matrices_is_joined_by_its_ids(folder, tmp_path):
    order = [5, 2, 7, 0]
    np.save(tmp_path / "all.npy", np.stack([matrix(k) for k in order]))
    (tmp_path / "all.txt").write_text("\n".join(f"{k:02d}" for k in order) + "\n")
    settings = {"stack": tmp_path / "all.npy", "standardise": False}
    data = SubjectConnectivity.Config(**settings).build(PEOPLE, TRAIN)
    assert np.flatnonzero(data.observed).tolist() == sorted(order)
    np.testing.assert_array_equal(data.read(np.array([5]))[0], matrix(5)[np.triu_indices(REGIONS, 1)])
    (tmp_path / "all.txt").write_text("05\n02\n07\n")
    with pytest.raises(InputError, match="3 ids"):
        SubjectConnectivity.Config(**settings).build(PEOPLE, TRAIN)
    (tmp_path / "all.txt").write_text("05\n02\n02\n00\n")
    with pytest.raises(InputError, match="sub-02 stands twice"):
        SubjectConnectivity.Config(**settings).build(PEOPLE, TRAIN)


def test_bad_matrices_are_named_and_left_out_or_refused(folder):
    values = {
        "sub-00": (matrix(0, REGIONS + 1), "other_size"),
        "sub-01": (np.where(matrix(1) > 0.2, np.nan, matrix(1)), "damaged"),
        "sub-02": (np.triu(matrix(2)), "damaged"),
        "sub-07": (np.zeros((3, 4)), "damaged"),
    }
    for name, (one, _) in values.items():
        np.save(matrix_path(folder, name), one)
    path = matrix_path(folder, "sub-06")
    path.write_bytes(path.read_bytes()[:-8])
    wanted = {name: reason for name, (_, reason) in values.items()} | {"sub-06": "damaged"}
    data = SubjectConnectivity.Config(folder=folder).build(PEOPLE, TRAIN)
    assert {one.name: one.reason for one in data.bad} == wanted
    assert np.flatnonzero(data.observed).tolist() == [3, 5]
    with pytest.raises(InputError, match="5 bad subjects"):
        SubjectConnectivity.Config(folder=folder, bad="refuse").build(PEOPLE, TRAIN)


def test_a_matrix_of_objects_is_never_unpickled(tmp_path):
    harm = np.empty((2, 2), object)
    harm[:] = 1.0
    np.save(tmp_path / "m.npy", harm)
    with pytest.raises(InputError, match="unpickled, which is refused"):
        read_matrix(tmp_path / "m.npy")
    (tmp_path / "m.npy").write_bytes(b"\x80\x04N.")
    with pytest.raises(InputError, match=r"is not a \.npy file"):
        read_matrix(tmp_path / "m.npy")


def test_text_matrices_with_and_without_names(tmp_path):
    rows = ["\t".join(f"{value:.6f}" for value in row) for row in matrix(1)]
    (tmp_path / "m.tsv").write_text("\n".join(rows))
    (tmp_path / "n.tsv").write_text("\n".join(["a\tb\tc\td\te", *rows]))
    for name in ("m.tsv", "n.tsv"):
        np.testing.assert_allclose(read_matrix(tmp_path / name) + np.eye(REGIONS), matrix(1), atol=1e-5)


def test_the_table_drops_the_domain_of_the_target(folder):
    path = folder / "phenotype" / "measures.tsv"
    data = SubjectTable.Config(path=path, targets=("mood",)).build(PEOPLE, TRAIN)
    assert set(data.left_out) == {"mood", "worry"}
    assert not any(name.startswith(("mood", "worry")) for name in data.names)
    own = SubjectTable.Config(path=path, targets=("mood",), domains=("grip=psychology",)).build(PEOPLE, TRAIN)
    assert set(own.left_out) == {"grip", "mood", "worry"}
    free = SubjectTable.Config(path=path).build(PEOPLE, TRAIN)
    assert {"mood", "worry"} <= set(free.names)
    with pytest.raises(SettingError, match="given away"):
        SubjectTable.Config(path=path, targets=("mood",), columns=("mood", "grip")).build(PEOPLE, TRAIN)


def test_numbers_categories_and_gaps_of_the_table(folder):
    data = SubjectTable.Config(path=folder / "phenotype" / "measures.tsv", drop=("mood", "worry")).build(PEOPLE, TRAIN)
    assert data.names == (
        "grip", "grip=missing", "smoking=former", "smoking=never", "code=0", "code=1", "code=2"
    )  # fmt: skip
    items = data.read(np.array([0, 1, 2, 7]))
    assert items[1, :2].tolist() == [0, 1]  # the mean, and a column that says so
    known = np.array([10.0, 12, 13, 14])  # of training subjects 0, 2, 3, 4
    np.testing.assert_allclose(items[[0, 2, 3], 0], (np.array([10, 12, 17]) - known.mean()) / known.std(), rtol=1e-5)
    np.testing.assert_array_equal(items[:, 2:4], [[0, 1], [1, 0], [0, 1], [1, 0]])


def test_a_category_that_nobody_trained_on(folder):
    path = folder / "phenotype" / "measures.tsv"
    path.write_text(path.read_text().replace("07\t17\t49\t-7\tformer", "07\t17\t49\t-7\tcurrent"))
    with pytest.raises(InputError, match="no training subject has 'current'"):
        SubjectTable.Config(path=path).build(PEOPLE, TRAIN)
    data = SubjectTable.Config(path=path, unseen="other").build(PEOPLE, TRAIN)
    row = data.read(np.array([7]))[0]
    shares = row[[data.names.index(f"smoking={one}") for one in ("former", "never")]]
    np.testing.assert_allclose(shares, [0.4, 0.6], atol=1e-6)


def test_tables_that_cannot_be_joined_are_refused(tmp_path):
    write_people(tmp_path, ["00", "00", "01"], {"grip": ["1", "2", "3"]})
    with pytest.raises(InputError, match=r"'sub-00' stands twice \(lines 2, 3\)"):
        SubjectTable.Config(path=tmp_path).build(PEOPLE, TRAIN)
    write_people(tmp_path, ["00", "01"], {"site": ["a", "b"]})
    with pytest.raises(InputError, match="no column is left"):
        SubjectTable.Config(path=tmp_path).build(PEOPLE, TRAIN)
    with pytest.raises(InputError, match="column 'iq' is missing"):
        SubjectTable.Config(path=tmp_path, columns=("iq",)).build(PEOPLE, TRAIN)


def test_switches_are_true_booleans():
    config = SubjectConnectivity.Config()
    assert override(config, ["fisher=False"]).fisher is False
    assert override(config, ["fisher=true"]).fisher is True
    with pytest.raises(InputError, match="is not true or false"):
        override(config, ["fisher=maybe"])
