"""From a folder of runs to a store: frames come back, whoever cannot be used is named, and nuisance is taken out."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from nilearn.signal import clean

from features.runs import main
from features.subject_data.find_images import ImageFiles
from features.subject_data.run_conversion import RunConversion
from features.subject_data.run_store import RunStore
from meshgnn.errors import InputError, SettingError
from tests.features.runs import moving, run_path, write_moving, write_run
from tests.features.volumes import SHAPE, write_image, write_people


def config(folder, **settings) -> RunConversion.Config:
    images = settings.pop("images", ImageFiles.Config(folder=folder, suffix="bold", place="func"))
    return RunConversion.Config(images=images, **settings)


def report(out) -> dict[str, str]:
    with (out / "bad_subjects.tsv").open() as handle:
        return {row["participant_id"]: row["reason"] for row in csv.DictReader(handle, delimiter="\t")}


def test_frames_come_back_and_there_is_one_file_per_run(tmp_path):
    names = write_moving(tmp_path, frames=137)
    store, bad = config(tmp_path).build().run(tmp_path / "store")
    assert not bad
    assert sorted(path.name for path in (tmp_path / "store").rglob("*") if path.is_file()) == sorted(
        ["bad_subjects.tsv", "store.json", *(f"{name}.run" for name in names)]
    )
    for row in range(4):
        values = moving(row, 137)
        inside = (values != 0).any(-1)
        np.testing.assert_array_equal(store.mask(row), inside)
        mean, spread = store.voxel_moments(row)
        np.testing.assert_allclose(mean, values[inside].mean(1), rtol=1e-5)
        np.testing.assert_allclose(spread, values[inside].std(1), rtol=1e-3)
        found = store.read(row, 93, 20)
        # A deviation from the voxel's mean keeps 11 bits, whatever the mean.
        limit = 2.0**-11 * np.abs(values[inside] - mean[:, None]).max() + 1e-4
        assert np.abs(found[inside] - values[inside][:, 93:113]).max() < limit
        assert (found[~inside] == np.float32(values[inside].min())).all()
        assert store.mean[row] == pytest.approx(values[inside].mean(), rel=1e-5)
        assert store.sd[row] == pytest.approx(values[inside].std(), rel=1e-4)
    assert set(store.tr_s) == {1.5}


def test_a_killed_conversion_goes_on_and_damage_is_made_good(tmp_path):
    names = write_moving(tmp_path)
    job, out = config(tmp_path).build(), tmp_path / "store"

    def killed(step, done, total, figures=None):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(out, killed)
    with pytest.raises(InputError, match="is not finished; the same command goes on"):
        RunStore(out)
    before = {name: (out / "runs" / f"{name}.run").stat().st_mtime_ns for name in names[:2]}
    store, _ = job.run(out)
    assert {name: (out / "runs" / f"{name}.run").stat().st_mtime_ns for name in names[:2]} == before
    key = store.key()
    path = out / "runs" / f"{names[1]}.run"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        RunStore(out).read(1, 17, 20)
    RunStore(out).read(1, 0, 20)  # other chunks of the run are as they were
    store, _ = job.run(out)
    store.read(1, 17, 20)
    assert store.key() == key


def test_whoever_cannot_be_used_is_named(tmp_path):
    names = write_moving(tmp_path, 12)
    short, slow, odd, flat, still, gap, other, cut, twin = names[2:11]
    write_run(run_path(tmp_path, short), moving(0, 12))
    write_run(run_path(tmp_path, slow), moving(1), tr_s=2.0)
    values = moving(2)
    values[5, 5, 5, 9] = np.nan
    write_run(run_path(tmp_path, odd), values)
    write_run(run_path(tmp_path, flat), moving(3)[..., 0])
    write_run(run_path(tmp_path, still), np.repeat(moving(4)[..., :1], 37, axis=3))
    values = moving(5)
    values[..., 20] = 0
    write_run(run_path(tmp_path, gap), values)
    write_run(run_path(tmp_path, other), moving(6, shape=(18, 24, 18)))
    path = run_path(tmp_path, cut)
    path.write_bytes(path.read_bytes()[:-2000])
    run_path(tmp_path, twin).write_bytes(run_path(tmp_path, names[0]).read_bytes())
    run_path(tmp_path, names[11]).unlink()
    store, bad = config(tmp_path, fewest=20).build().run(tmp_path / "store")
    assert store.ids == (names[1],)
    expected = {
        names[0]: "duplicate_image", short: "too_short", slow: "other_tr", odd: "not_finite", flat: "three_dimensional",
        still: "constant", gap: "all_zero", other: "other_size", cut: "damaged", twin: "duplicate_image",
        names[11]: "no_image",
    }  # fmt: skip
    assert report(tmp_path / "store") == expected == {one.name: one.reason for one in bad}
    # Before anything is read but headers.
    with pytest.raises(InputError, match=r"5 bad subjects .*bad=leave_out"):
        config(tmp_path, fewest=20, bad="refuse").build().run(tmp_path / "other")


def test_runs_of_two_trs_are_kept_together_only_on_demand(tmp_path):
    names = write_moving(tmp_path, 3)
    path = run_path(tmp_path, names[2])
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": 0.72}))
    store, bad = config(tmp_path).build().run(tmp_path / "one")
    assert [one.reason for one in bad] == ["other_tr"]
    assert len(store) == 2
    store, bad = config(tmp_path, same_tr=False).build().run(tmp_path / "all")
    assert not bad
    assert store.tr_s.tolist() == [1.5, 1.5, 0.72]
    store, bad = config(tmp_path, tr_s=2.2).build().run(tmp_path / "given")
    assert store.tr_s.tolist() == [2.2] * 3


def test_masks_are_taken_given_or_computed_and_empty_ones_named(tmp_path):
    names = write_moving(tmp_path, 3)
    masks = ImageFiles.Config(folder=tmp_path, suffix="bold", place="func", mask="desc-brain_mask")
    cube = np.zeros(SHAPE, np.uint8)
    cube[8:12, 9:14, 7:11] = 1
    far = np.zeros(SHAPE, np.uint8)
    far[0, 0, 0] = 1
    for name, mask in zip(names, (cube, far, cube)):
        write_image(tmp_path / name / "func" / f"{name}_task-rest_desc-brain_mask.nii.gz", mask)
    store, bad = config(tmp_path, images=masks).build().run(tmp_path / "given")
    assert [(one.name, one.reason) for one in bad] == [(names[1], "empty_mask")]
    np.testing.assert_array_equal(store.mask(0), cube > 0)
    for k, name in enumerate(names):  # a scanner's noise is nowhere 0
        values = moving(k)
        write_run(run_path(tmp_path, name), values + np.random.default_rng(k).uniform(0.1, 1, values.shape))
    epi, _ = config(tmp_path, mask="epi").build().run(tmp_path / "epi")
    plain, _ = config(tmp_path).build().run(tmp_path / "plain")
    assert plain.mask(0).all()
    blob = moving(0).mean(-1) > 20
    assert epi.mask(0)[blob].mean() > 0.9
    assert epi.mask(0).mean() < 0.5


def nuisance_of(frames: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(frames, 2)).cumsum(0)


def write_table(path, values, columns=("trans_x", "rot_z")) -> None:
    lines = ["\t".join(columns), "\t".join(["n/a", f"{values[0, 1]:.9g}"])]  # as of a derivative
    lines += ["\t".join(f"{cell:.9g}" for cell in row) for row in values[1:]]
    path.with_name(path.name.replace("_bold.nii.gz", "_desc-confounds_timeseries.tsv")).write_text("\n".join(lines))


def test_confounds_and_band_are_taken_out_as_nilearn_does(tmp_path):
    (name,) = write_moving(tmp_path, 1)
    frames, drop = 90, 4
    nuisance = nuisance_of(frames)
    values = moving(0, frames)
    values *= 1 + 0.05 * nuisance[:, 0] / np.abs(nuisance[:, 0]).max()
    path = write_run(run_path(tmp_path, name), values)
    write_table(path, nuisance)
    band = {"high_pass_hz": 0.01, "low_pass_hz": 0.1}
    job = config(tmp_path, confounds=("trans_x", "rot_z"), drop=drop, detrend=True, **band)
    store, bad = job.build().run(tmp_path / "store")
    assert not bad
    known = nuisance.copy()
    known[0, 0] = known[1, 0]
    inside = store.mask(0)
    raw, found = values[inside][:60, drop:].T, store.read(0, 0, frames - drop)[inside][:60].T
    wanted = clean(raw, confounds=known[drop:], t_r=1.5, high_pass=0.01, low_pass=0.1, detrend=True, standardize=None)
    wanted -= wanted.mean(0)
    np.testing.assert_allclose(found.mean(0), raw.mean(0), rtol=1e-3)  # every voxel keeps its mean
    assert np.abs(found - raw.mean(0) - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_nothing_is_left_of_a_confound(tmp_path):
    (name,) = write_moving(tmp_path, 1)
    nuisance = nuisance_of(60)
    values = moving(0, 60) * (1 + 0.1 * nuisance[:, 1] / np.abs(nuisance[:, 1]).max()).astype(np.float32)
    write_table(write_run(run_path(tmp_path, name), values), nuisance)
    left = []
    for confounds in ((), ("rot_z",)):
        store, _ = config(tmp_path, confounds=confounds).build().run(tmp_path / f"store{len(confounds)}")
        series = store.read(0, 0, 60)[store.mask(0)]
        left.append(np.abs(np.corrcoef(np.concatenate([series, nuisance[:, 1][None]]))[-1, :-1]))
    assert left[0].min() > 0.5
    assert left[1].max() < 5e-3


def test_tables_of_confounds_that_do_not_fit_are_named(tmp_path):
    names = write_moving(tmp_path, 4)
    for k, name in enumerate(names[:3]):
        write_table(run_path(tmp_path, name), nuisance_of(37 - (k == 1)), ("trans_x", "rot_y" if k == 2 else "rot_z"))
    store, bad = config(tmp_path, confounds=("trans_x", "rot_z")).build().run(tmp_path / "store")
    assert store.ids == (names[0],)
    assert {one.name: one.reason for one in bad} == {
        names[1]: "bad_confounds", names[2]: "bad_confounds", names[3]: "no_confounds",
    }  # fmt: skip
    with pytest.raises(InputError, match="no usable bold run"):
        config(tmp_path, low_pass_hz=0.4).build().run(tmp_path / "fast")
    assert set(report(tmp_path / "fast").values()) == {"other_tr"}


def test_runs_are_resampled_to_other_voxels_by_choice(tmp_path):
    write_moving(tmp_path, 2)
    fine, _ = config(tmp_path).build().run(tmp_path / "fine")
    coarse, bad = config(tmp_path, voxel_mm=4.0).build().run(tmp_path / "coarse")
    assert not bad
    assert coarse.grid.spacing_mm == pytest.approx((4, 4, 4))
    assert coarse.grid.shape == (10, 12, 9)
    peaks = [np.unravel_index(store.read(0, 0, 37).mean(-1).argmax(), store.grid.shape) for store in (fine, coarse)]
    places = [s.grid.affine[:3, :3] @ peak + s.grid.affine[:3, 3] for s, peak in zip((fine, coarse), peaks)]
    assert np.abs(places[0] - places[1]).max() <= 4


def test_writer_and_reader_share_one_schema(tmp_path):
    write_moving(tmp_path, 2)
    config(tmp_path).build().run(tmp_path / "store")
    path = tmp_path / "store" / "store.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(InputError, match="is of schema 2, this reads 1"):
        RunStore(tmp_path / "store")


def test_the_command_tells_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main(["--set", f"images.folder={tmp_path}", "--out", str(tmp_path / "store")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    names = write_moving(tmp_path, 3)
    run_path(tmp_path, names[0]).unlink()
    words = ["--set", f"images.folder={tmp_path}", "--out", str(tmp_path / "store")]
    assert main(words) == 0
    assert "2 runs of 37 frames of 20 x 24 x 18" in capsys.readouterr().out
    assert main([*words, "--set", "bad=refuse"]) == 2
    assert f"the first is {names[0]}" in capsys.readouterr().err
    for wrong in ("high_pass_hz=0.2", "drop=-1"):
        assert main([*words, "--set", wrong, "--set", "low_pass_hz=0.1"]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"fewest": 1}, {"chunk": 0}, {"voxel_mm": -1.0}, {"table": "a/b"}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            replace(RunConversion.Config(), **wrong)


def test_nobody_is_taken_from_two_runs(tmp_path):
    write_people(tmp_path, ["sub-1"])
    for task in ("rest", "faces"):
        write_run(tmp_path / "sub-1" / "func" / f"sub-1_task-{task}_bold.nii.gz", moving(0))
    with pytest.raises(InputError, match="no usable bold run"):
        config(tmp_path).build().run(tmp_path / "store")
    assert report(tmp_path / "store") == {"sub-1": "several_images"}
    images = ImageFiles.Config(folder=tmp_path, suffix="bold", place="func", contains="task-rest")
    assert len(config(tmp_path, images=images).build().run(tmp_path / "one")[0]) == 1
