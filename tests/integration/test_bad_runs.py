"""Bad runs by the real commands: whoever cannot be used is named and left out, or refused in one line."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from features.runs import main as convert
from meshgnn.experiment.cli import entry
from meshgnn.export.gifti import write_surface_folder
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.runs_folder import write_runs
from meshgnn.source.virtual.subjects import VirtualSubjects
from tests.synthetic import brain

SHORT, SLOW, NAN, EMPTY, FLAT, ATLAS, UNKNOWN, NONE = (f"sub-{k:02d}" for k in range(1, 9))
SETS = (
    "cohort.targets=sex,age", "inputs=bold_from_scratch,connectivity", "main=bold_from_scratch", "phases=[]",
    "pretrained=", "inputs.bold_from_scratch.data.frames=8", "trainer.epochs=1", "trainer.folds=2",
    "runs.images.mask=desc-brain_mask",
)  # fmt: skip


def bold(folder: Path, name: str) -> Path:
    return folder / name / "func" / f"{name}_task-rest_bold.nii.gz"


def rewrite(path: Path, values: np.ndarray, like: nib.Nifti1Image) -> None:
    image = nib.Nifti1Image(values, like.affine)
    image.header.set_xyzt_units("mm", "sec")
    if values.ndim == 4:
        image.header.set_zooms(like.header.get_zooms())
    image.to_filename(path)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """34 subjects of whom eight have something wrong; named after it above."""
    folder = tmp_path_factory.mktemp("bad") / "in"
    write_runs(
        VirtualRuns.Config(people=VirtualSubjects.Config(subjects=34, sites=2), size=16, frames=24).build(), folder
    )
    for path in sorted(folder.glob("sub-*/func/*_bold.nii.gz")):
        image, name = nib.load(path), path.name[:6]
        values = np.asarray(image.dataobj, np.float32)
        mask = values.any(-1).astype(np.uint8) * (name != EMPTY)
        nib.Nifti1Image(mask, image.affine).to_filename(str(path).replace("_bold", "_desc-brain_mask"))
        if name == SHORT:
            rewrite(path, values[..., :6], image)
        elif name == NAN:
            values[8, 8, 8, 5] = np.nan
            rewrite(path, values, image)
        elif name == FLAT:
            rewrite(path, values[..., 0], image)
        elif name == NONE:
            path.unlink()
        elif name == SLOW:
            path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": 0.72}))
    table = next((folder / ATLAS / "func").glob("*_atlas-*_timeseries.tsv"))
    table.write_text("OTHER" + table.read_text()[table.read_text().index("\t") :])
    people = folder / "participants.tsv"
    rows = [line.split("\t") for line in people.read_text().splitlines()]
    lost = [rows[0].index(name) for name in ("sex", "age", "null")]
    for row in rows:
        row[:] = ["n/a" if row[0] == UNKNOWN and k in lost else cell for k, cell in enumerate(row)]
    people.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return folder


def words(cohort: Path, out: Path, *sets: str) -> list[str]:
    found = ["fmri_sex:folder", "--out", str(out)]
    for one in (f"cohort.folder={cohort}", *SETS, *sets):
        found += ["--set", one]
    return found


def reasons(path: Path) -> dict[str, str]:
    with path.open() as handle:
        return {row["participant_id"]: row["reason"] for row in csv.DictReader(handle, delimiter="\t")}


def test_a_cohort_with_all_that_can_be_wrong_is_judged_on_the_others(cohort, tmp_path, capsys):
    assert entry(words(cohort, tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "5 subjects' runs cannot be used" in said
    assert reasons(tmp_path / "out" / "stores" / "runs" / "bad_subjects.tsv") == {
        SLOW: "other_tr", NAN: "not_finite", EMPTY: "empty_mask", FLAT: "three_dimensional", NONE: "no_image",
    }  # fmt: skip
    with (tmp_path / "out" / "tables" / "bad_items.tsv").open() as handle:
        items = {(row["input"], row["participant_id"], row["reason"]) for row in csv.DictReader(handle, delimiter="\t")}
    assert items == {("bold_from_scratch", SHORT, "too_short"), ("connectivity", ATLAS, "other_atlas")}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    # Whoever has no target trains and tests nothing, and whoever has no run is judged by the constant.
    known = {row["participant_id"]: row for row in csv.DictReader((cohort / "participants.tsv").open(), delimiter="\t")}
    assert f"sex {sum(row['sex'] != 'n/a' for row in known.values())}" in said
    assert np.isfinite(metrics["targets"]["sex"]["test"]["auroc"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("inputs.bold_from_scratch.data.frames=50", "no participant has a usable run"),
        ("inputs.bold_from_scratch.data.bad=refuse", f"1 bad subject (1 too_short); the first is {SHORT}"),
        ("inputs.connectivity.data.bad=refuse", f"1 bad subject (1 other_atlas); the first is {ATLAS}"),
        ("runs.bad=refuse", f"the first is {SLOW}"),
        ("runs.images.mask=nothing", "no usable bold run"),
        ("cohort.targets=iq", "'iq' is not a column"),
    ],
)
def test_what_is_refused_is_refused_in_one_line(change, said, cohort, tmp_path, capsys):
    assert entry(words(cohort, tmp_path / "out", change)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_the_conversion_apart_names_the_same(cohort, tmp_path, capsys):
    sets = ["--set", f"images.folder={cohort}", "--set", "images.mask=desc-brain_mask", "--out", str(tmp_path / "out")]
    assert convert(sets) == 0
    assert "1 empty_mask" in capsys.readouterr().out
    assert convert([*sets, "--set", "bad=refuse"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_on_another_mesh_is_refused_in_one_line(tmp_path, capsys):
    write_surface_folder(tmp_path / "ball", brain(), "Planted")
    for side in "LR":
        frames = [nib.gifti.GiftiDataArray(np.arange(50, dtype="f4"), "NIFTI_INTENT_TIME_SERIES") for _ in range(9)]
        nib.save(nib.gifti.GiftiImage(darrays=frames), tmp_path / "ball" / f"sub-Ball_hemi-{side}_bold.func.gii")
    out = ["--out", str(tmp_path / "out"), "--set", f"source.folder={tmp_path / 'ball'}"]
    assert entry(["fmri_nodes:folder", *out]) == 2
    error = capsys.readouterr().err
    assert "has 50 values, but the mesh of hemisphere L has" in error
    assert error.count("\n") == 1
