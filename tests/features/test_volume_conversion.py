"""From a folder of images to a store: images land where they belong, and whoever cannot be used is named."""

import csv
import gzip
import os

import nibabel as nib
import numpy as np
import pytest

from features.subject_data.convert import VolumeConversion
from features.subject_data.find_images import ImageFiles
from features.subject_data.grid import Cube, clamped
from features.subject_data.volume_store import VolumeStore
from features.volumes import main
from meshgnn.errors import InputError, SettingError
from tests.features.volumes import (
    AFFINE,
    SHAPE,
    centre_of_mass_mm,
    image_path,
    phantom,
    write_image,
    write_people,
    write_phantoms,
)


def conversion(folder, **settings) -> VolumeConversion:
    images = settings.pop("images", ImageFiles.Config(folder=folder))
    cube = settings.pop("cube", Cube.Config(size=16))
    return VolumeConversion.Config(images=images, cube=cube, **settings).build()


def report(out) -> dict[str, str]:
    with (out / "bad_subjects.tsv").open() as handle:
        return {row["participant_id"]: row["reason"] for row in csv.DictReader(handle, delimiter="\t")}


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("fit", "spacing"), [("keep", 0.0), ("stretch", 0.0), ("crop", 0.0), ("crop", 3.0)])
def test_a_resampled_phantom_keeps_its_centre_of_mass(fit, spacing, order):
    cube = Cube.Config(size=22, fit=fit, spacing_mm=spacing, order=order).build()
    values = phantom(3)
    shape, affine = cube.target(SHAPE, AFFINE)
    found = cube.resample(values, AFFINE, shape, affine)
    assert shape == (22, 22, 22) == found.shape
    np.testing.assert_allclose(centre_of_mass_mm(found, affine), centre_of_mass_mm(values, AFFINE), atol=0.1)
    # It is the same thing at another spacing: as much of it, not tiles of it.
    volume = abs(np.linalg.det(affine[:3, :3])) * found.sum(), abs(np.linalg.det(AFFINE[:3, :3])) * values.sum()
    assert volume[0] == pytest.approx(volume[1], rel=0.05)


def test_whole_voxels_are_moved_without_interpolation():
    cube = Cube.Config(size=24, fit="crop").build()
    shape, affine = cube.target(SHAPE, AFFINE)
    found = cube.resample(phantom(1), AFFINE, shape, affine)
    assert set(np.unique(found)) == set(np.unique(phantom(1)))
    back = Cube.Config(size=0).build()
    np.testing.assert_array_equal(back.resample(found, affine, SHAPE, AFFINE), phantom(1))


def test_fine_structure_does_not_come_back_as_coarse():
    stripes = np.indices((32, 32, 32))[0] % 2 * 100.0
    cube = Cube.Config(size=8, fit="stretch").build()
    shape, affine = cube.target((32, 32, 32), np.eye(4))
    inside = cube.resample(stripes.astype(np.float32), np.eye(4), shape, affine)[2:-2, 2:-2, 2:-2]
    assert inside.std() < 5
    assert abs(inside.mean() - 50) < 5


def test_images_of_any_orientation_become_ras(tmp_path):
    names = write_phantoms(tmp_path, 4)
    straight, _ = conversion(tmp_path).run(tmp_path / "straight")
    for code in ("LAS", "PIR"):
        for name in names[1:]:  # the first one decides the grid
            image = nib.load(image_path(tmp_path, name))
            turn = nib.orientations.ornt_transform(
                nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(code)
            )
            image.as_reoriented(turn).to_filename(image_path(tmp_path, name))
        turned, bad = conversion(tmp_path).run(tmp_path / code)
        assert not bad
        assert nib.aff2axcodes(turned.grid.affine) == ("R", "A", "S")
        np.testing.assert_allclose(turned.read(range(4)), straight.read(range(4)), atol=0.5)


def test_images_of_other_sizes_are_bad_or_resampled_in_mm(tmp_path):
    write_phantoms(tmp_path, 5)
    other = AFFINE @ np.diag([1.25, 1, 0.8, 1])
    shape = (16, 24, 24)
    write_image(image_path(tmp_path, "sub-02"), phantom(2, shape, other), other)
    store, _ = conversion(tmp_path).run(tmp_path / "same")
    assert report(tmp_path / "same") == {"sub-02": "other_size"}
    assert len(store) == 4
    store, bad = conversion(tmp_path, sizes="any").run(tmp_path / "any")
    assert not bad
    found = store.read([store.row_of["sub-02"]])[0]
    np.testing.assert_allclose(
        centre_of_mass_mm(found, store.grid.affine), centre_of_mass_mm(phantom(2), AFFINE), atol=0.4
    )


def bad_folder(folder) -> dict[str, str]:
    """Eight good subjects, and one for every reason to be left out."""
    write_phantoms(folder, 8)
    good = phantom(50)
    wanted = {}
    names = [f"sub-{k:02d}" for k in range(8)]

    def bad(name: str, reason: str, values=None, affine=AFFINE) -> None:
        wanted[name] = reason
        names.append(name)
        if values is not None:
            write_image(image_path(folder, name), values, affine)

    bad("sub-4d", "four_dimensional", np.stack([good] * 2, axis=-1))
    bad("sub-nan", "not_finite", np.where(good > 50, np.nan, good))
    bad("sub-inf", "not_finite", np.where(good > 50, np.inf, good))
    bad("sub-zero", "all_zero", np.zeros_like(good))
    bad("sub-flat", "constant", np.ones_like(good))
    bad("sub-small", "other_size", good[:10])
    bad("sub-none", "no_image")
    bad("sub-twin1", "duplicate_image", good * 1.5)
    bad("sub-twin2", "duplicate_image", good * 1.5)
    bad("sub-away", "outside_grid", good * 1.2, AFFINE + np.array([[0, 0, 0, 900], *np.zeros((3, 4))]))
    bad("sub-cut", "damaged", phantom(51))
    bad("sub-bit", "damaged", phantom(52))
    bad("sub-crc", "damaged", phantom(53))
    bad("sub-text", "damaged")
    bad("sub-two", "several_images", phantom(54))
    write_image(image_path(folder, "sub-two").with_name("sub-two_acq-b_T1w.nii.gz"), phantom(55))
    names.append("sub-two2")
    names.append("sub-two2")
    wanted["sub-two2"] = "duplicate_row"
    write_image(image_path(folder, "sub-two2"), phantom(56))
    wanted["sub-stray"] = "no_row"
    write_image(image_path(folder, "sub-stray"), phantom(57))
    write_people(folder, names)
    cut = image_path(folder, "sub-cut")
    cut.write_bytes(cut.read_bytes()[:-2000])
    bit = image_path(folder, "sub-bit")
    bit.write_bytes(bytes([*bit.read_bytes()[:3000], 255, 0, 255, *bit.read_bytes()[3003:]]))
    crc = image_path(folder, "sub-crc")  # all data there, and other ones than were packed
    crc.write_bytes(bytes([*crc.read_bytes()[:-8], 1, 2, 3, 4, *crc.read_bytes()[-4:]]))
    image_path(folder, "sub-text").parent.mkdir(parents=True)
    image_path(folder, "sub-text").write_text("no image at all")
    return wanted


def test_every_bad_subject_is_named_with_its_reason_and_nobody_else(tmp_path):
    wanted = bad_folder(tmp_path)
    store, bad = conversion(tmp_path).run(tmp_path / "out")
    assert report(tmp_path / "out") == wanted
    assert {one.name for one in bad} == set(wanted)
    assert all(one.detail for one in bad)
    assert store.ids == tuple(f"sub-{k:02d}" for k in range(8))


def test_refuse_ends_the_command_with_2_and_one_line(tmp_path, capsys):
    wanted = bad_folder(tmp_path / "in")
    words = ["--set", f"images.folder={tmp_path / 'in'}", "--set", "cube.size=16", "--out", str(tmp_path / "out")]
    assert main([*words, "--set", "bad=refuse"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "bad subjects" in told
    assert "bad_subjects.tsv" in told
    assert not (tmp_path / "out" / "store.json").exists()
    assert main(words) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert "8 T1w volumes of 16 x 16 x 16 as uint8" in told
    assert f"{len(wanted)} bad subjects" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["images.folder=nowhere"], "participants.tsv: cannot be read"),
        ([], "images.folder"),
        (["cube.size=big"], "not a whole number"),
        (["sizes=False"], "not one of same, any"),
        (["kind=float64"], "not one of uint8, float16"),
        (["normalise=zscore"], "needs either train"),
        (["clamp=90,10"], "lower one first"),
        (["images.suffix=../x"], "without / and wildcards"),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path, capsys, words, told):
    assert main([*(word for one in words for word in ("--set", one)), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_header_that_declares_too_much_takes_no_memory(tmp_path):
    write_phantoms(tmp_path, 5)
    header = bytearray(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), AFFINE).to_bytes())
    header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    image_path(tmp_path, "sub-01").write_bytes(gzip.compress(bytes(header)))
    header[42:48] = np.array([1000, 1000, 1000], "<i2").tobytes()
    image_path(tmp_path, "sub-02").write_bytes(gzip.compress(bytes(header) + bytes(4_000_000)))
    conversion(tmp_path, sizes="any").run(tmp_path / "out")
    assert report(tmp_path / "out") == {"sub-01": "too_large", "sub-02": "too_large"}


def test_a_killed_conversion_goes_on_and_does_only_what_is_left(tmp_path):
    names = write_phantoms(tmp_path / "in", 6)
    whole, _ = conversion(tmp_path / "in").run(tmp_path / "whole")

    def kill(step, done, total, figures=None):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conversion(tmp_path / "in").run(tmp_path / "out", kill)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "volumes").glob("*.vol")}
    assert len(kept) == 3
    (tmp_path / "out" / "volumes" / "sub-01.vol").write_bytes(b"MESHVOL1 half written")
    os.utime(tmp_path / "out" / "volumes" / "sub-01.vol", ns=(1, 1))
    write_image(image_path(tmp_path / "in", "sub-02"), phantom(77))  # another image than was converted
    store, _ = conversion(tmp_path / "in").run(tmp_path / "out")
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "volumes").glob("*.vol")}
    assert now["sub-00.vol"] == kept["sub-00.vol"]
    assert now["sub-01.vol"] != 1
    assert now["sub-02.vol"] != kept["sub-02.vol"]
    assert store.ids == tuple(names)
    rows = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(store.read(rows), whole.read(rows))
    assert np.abs(store.read([2]) - whole.read([2])).max() > 1


def test_threads_give_the_same_store(tmp_path):
    write_phantoms(tmp_path, 4)
    one, _ = conversion(tmp_path).run(tmp_path / "one")
    two, _ = conversion(tmp_path, threads=2).run(tmp_path / "two")
    assert one.key() == two.key()


def test_the_z_score_is_that_of_training_subjects_alone(tmp_path):
    names = write_phantoms(tmp_path / "in", 6)
    train = tmp_path / "train.tsv"
    train.write_text("participant_id\n" + "\n".join(names[:3]) + "\n")
    store, _ = conversion(tmp_path / "in", normalise="zscore", train=train).run(tmp_path / "a")
    values = store.read([0, 1, 2]).astype(np.float64)
    assert store.normalisation.mean == pytest.approx(values.mean(), rel=1e-6)
    assert store.normalisation.sd == pytest.approx(values.std(), rel=1e-6)
    write_image(image_path(tmp_path / "in", names[5]), phantom(5) * 40)
    again, _ = conversion(tmp_path / "in", normalise="zscore", train=train).run(tmp_path / "b")
    assert again.normalisation == store.normalisation
    given, _ = conversion(tmp_path / "in", normalise="zscore", mean=70.4099, sd=190.856).run(tmp_path / "c")
    assert (given.normalisation.mean, given.normalisation.sd, given.normalisation.subjects) == (70.4099, 190.856, 0)
    train.write_text("participant_id\nsub-unknown\n")
    with pytest.raises(InputError, match="sub-unknown is no participant"):
        conversion(tmp_path / "in", normalise="zscore", train=train).run(tmp_path / "d")


def test_a_brain_mask_strips_the_rest(tmp_path):
    names = write_phantoms(tmp_path, 4)
    inside = np.indices(SHAPE)[0] < 10
    for name in names[:3]:
        write_image(image_path(tmp_path, name, "desc-brain_mask"), inside.astype(np.uint8))
    images = ImageFiles.Config(folder=tmp_path, mask="desc-brain_mask")
    store, _ = conversion(tmp_path, images=images, cube=Cube.Config(size=0)).run(tmp_path / "out")
    assert report(tmp_path / "out") == {"sub-03": "no_mask"}
    found = store.read([0])[0]
    assert (found[~inside] == 0).all()
    assert (found[inside] > 0).any()


def test_clamping_cuts_outliers_and_keeps_background():
    values = np.concatenate([np.zeros(50), np.linspace(1, 100, 100), [5000]]).astype(np.float32)
    found = clamped(values, 0.5, 99.0)
    assert (found[:50] == 0).all()
    assert found.max() < 101
    assert found[50] > 1


def test_images_named_in_the_table_are_taken(tmp_path):
    write_image(tmp_path / "scans" / "a.nii.gz", phantom(1))
    write_image(tmp_path / "scans" / "b.nii.gz", phantom(2))
    write_people(tmp_path, ["a", "b", "c"], {"t1": ["scans/b.nii.gz", "scans/a.nii.gz", "n/a"]})
    images = ImageFiles.Config(folder=tmp_path, column="t1")
    store, _ = conversion(tmp_path, images=images, cube=Cube.Config(size=0), clamp=(0.0, 100.0)).run(tmp_path / "out")
    assert store.ids == ("sub-a", "sub-b")
    assert np.abs(store.read([0])[0] - phantom(2)).max() < 1
    assert report(tmp_path / "out") == {"sub-c": "no_image"}


def test_another_modality_takes_the_grid_of_the_first(tmp_path):
    names = write_phantoms(tmp_path, 3)
    other = AFFINE @ np.diag([1.5, 1.5, 1.5, 1])
    for k, name in enumerate(names):
        write_image(image_path(tmp_path, name, "FLAIR"), phantom(k, (14, 16, 12), other), other)
    first, _ = conversion(tmp_path).run(tmp_path / "t1")
    images = ImageFiles.Config(folder=tmp_path, suffix="FLAIR")
    second, _ = conversion(tmp_path, images=images, like=tmp_path / "t1").run(tmp_path / "flair")
    np.testing.assert_allclose(second.grid.affine, first.grid.affine)
    for row in range(3):
        one, two = (centre_of_mass_mm(store.read([row])[0], store.grid.affine) for store in (first, second))
        np.testing.assert_allclose(one, two, atol=0.7)
    assert VolumeStore(tmp_path / "flair").grid.modality == "FLAIR"


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(SettingError, match="go together"):
        VolumeConversion.Config(mean=1.0)
    with pytest.raises(SettingError, match="crop alone"):
        Cube.Config(spacing_mm=2.0)
