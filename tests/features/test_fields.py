"""Fields of single cells: what a patch shows, what is refused, and the commands that learn from them."""

import numpy as np
import pytest
import torch

from features import extract, judge, pretrain
from features.augment import PatchAugment
from features.encoders.section_cnn import SectionCNN
from features.fields import areas_of, read_fields
from features.judging.field_profiles import DEPTHS, field_profiles
from features.node_data.field_patches import FieldPatches
from features.node_sets import TrainingItems, field_sets
from features.samplers.distance_pairs import DistancePairs
from meshgnn.errors import InputError, SettingError
from meshgnn.source.sections import write_tiff
from meshgnn.store import load_table, read_json
from tests.features.fields import GAP, TALL, WIDE, write_fields
from tests.features.sections import write_stack

SMALL = (
    "encoder.widths=8,16", "encoder.stem_stride=2,2", "data.size_px=64,24", "epochs=1", "epoch_steps=80", "threads=1",
    "learning_rate=0.01", "objective=CrossEntropy", "sampler.classes=2", "sampler.patches=8",
)  # fmt: skip


def one_field(folder, image, **more):
    """A folder with a single image that is one field."""
    write_stack(folder, [image], 2.0)
    tall, wide = image.shape
    row = {"index": 0, "row_px": tall / 2, "column_px": (wide - 1) / 2, "width_px": wide, "height_px": tall,
           "thickness_um": 2 * tall, "x_mm": 1, "y_mm": 2, "z_mm": 3, **more}  # fmt: skip
    (folder / "fields.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    return folder


def arguments(words, out):
    return [part for word in words for part in ("--set", word)] + ["--out", str(out)]


def test_a_patch_is_upright_centred_on_the_cortex_and_shows_nothing_beyond_its_field(tmp_path):
    fields = read_fields(write_fields(tmp_path / "brain" / "cells"))
    assert fields.brain == "brain-cells"
    assert len(fields) == 24
    assert areas_of([fields]) == ("dense", "sparse")
    assert fields.labels(("dense", "sparse")).tolist()[:4] == [1, 0, 1, 0]
    config = FieldPatches.Config(size_px=(TALL + 30, WIDE + 20), values="grey")
    patch = FieldPatches(config, fields).read([1])[0]
    strip = fields.stack.at(0).path
    assert strip.name == "s0.tif"
    glass = 240 / 255
    rows, columns = 10 + (TALL - 10) / 2 - (TALL + 29) / 2, WIDE + GAP + (WIDE - 1) / 2 - (WIDE + 19) / 2
    first = round(-rows)  # the field's first row in the patch
    assert np.allclose(patch[:, :10], glass)  # the field beside it begins 6 px away, and is not seen
    assert np.allclose(patch[:, 10 + WIDE :], glass)
    assert np.allclose(patch[: first + 10], glass)
    assert columns == int(columns)
    from features.open_sections import OpenSections

    with OpenSections().image(fields.stack.at(0)) as image:
        whole = image.window(10, WIDE + GAP, TALL - 10, WIDE)
    assert np.allclose(patch[first + 10 : first + TALL, 10 : 10 + WIDE], whole / 255)


def test_patches_are_averaged_to_whole_multiples_of_the_pixels_and_stand_along_the_cortex(tmp_path):
    image = np.tile(np.repeat(np.arange(20, 220, 10, dtype=np.uint8), 2), (32, 1))  # 32 x 40, brighter to the right
    fields = read_fields(one_field(tmp_path / "a", image))
    config = FieldPatches.Config(size_px=(4, 4), pixel_um=4.0, across=3, values="grey")
    left, middle, right = FieldPatches(config, fields).read([0, 1, 2])
    assert np.allclose(left[0] * 255, [20, 30, 40, 50])
    assert np.allclose(middle[0] * 255, [100, 110, 120, 130])
    assert np.allclose(right[0] * 255, [180, 190, 200, 210])
    for pixel_um in (1.0, 3.0):
        with pytest.raises(SettingError, match="whole multiple"):
            FieldPatches.Config(pixel_um=pixel_um).build(fields)


def test_depth_profiles_follow_the_cortex_from_pial_to_white(tmp_path):
    image = np.repeat(np.linspace(50, 200, 64).astype(np.uint8)[:, None], 40, axis=1)
    fields = read_fields(one_field(tmp_path / "a", image))
    config = FieldPatches.Config(size_px=(96, 16), values="grey")
    found = field_profiles(FieldPatches(config, fields).read([0]), fields.thickness_um, config)
    assert np.allclose(found[0, :DEPTHS] * 255, np.linspace(50, 200, DEPTHS), atol=4)
    assert np.allclose(found[0, DEPTHS:-1], 0, atol=1e-6)
    assert found[0, -1] == pytest.approx(0.128)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"index": 7}, "section 7 is not in"),
        ({"column_px": 30}, "leave the image"),
        ({"height_px": 99}, "leave the image"),
        ({"row_px": 70}, "lies outside the field"),
        ({"x_mm": "nan"}, "not finite"),
        ({"thickness_um": "thick"}, "not a number"),
        ({"width_px": 0}, "above 0"),
        ({"hemisphere": "left"}, "L or R"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, change, said):
    folder = one_field(tmp_path / "a", np.full((64, 40), 120, np.uint8), **change)
    with pytest.raises(InputError, match=said) as caught:
        read_fields(folder)
    assert "line 2" in str(caught.value)


def test_folders_that_are_no_folders_of_fields_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no fields\.csv here"):
        read_fields(tmp_path)
    folder = one_field(tmp_path / "a", np.full((64, 40), 120, np.uint8))
    table = folder / "fields.csv"
    table.write_text(table.read_text().replace("thickness_um", "thick"))
    with pytest.raises(InputError, match="'thickness_um' is missing"):
        read_fields(folder)
    table.write_text(table.read_text().replace("thick", "thickness_um").splitlines()[0] + "\n")
    with pytest.raises(InputError, match="no field on a usable section"):
        read_fields(folder)


def test_an_unreadable_image_stops_the_work_or_is_left_out_and_counted(tmp_path):
    fields = read_fields(write_fields(tmp_path / "cells", sections=2))
    path = fields.stack.at(1).path
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError):
        FieldPatches.Config(size_px=(64, 24)).build(fields).read([0, 5])
    source = FieldPatches.Config(size_px=(64, 24), damaged="skip").build(fields)
    _, good = source.read_checked([0, 5])
    assert good.tolist() == [True, False]
    assert source.damage.report()["damaged"] == 1


def test_places_of_fields_serve_samplers_and_no_distance_along_the_cortex_is_made_up(tmp_path):
    sources = field_sets([write_fields(tmp_path / "cells")], FieldPatches.Config(size_px=(64, 24), across=2))
    assert len(sources[0].labels) == 48
    items = TrainingItems(sources, labelled=False, held_out=0, memory_mb=100, needs=("place",))
    pool = items.pool()
    assert pool.placed().shape == (48,)
    assert pool.places_mm[2].tolist() == [5.0, 0.0, 1.0]
    DistancePairs.Config(pairs=4).build(pool, 0).draw(0)
    with pytest.raises(InputError, match="geodesic"):
        DistancePairs.Config(pairs=4, metric="geodesic").build(pool, 0)
    with pytest.raises(InputError, match="distance along the cortex"):
        TrainingItems(sources, labelled=False, held_out=0, memory_mb=1, needs=("place", "geodesic"))


def test_a_high_patch_is_turned_like_the_square_that_holds_it():
    torch.manual_seed(0)
    square = torch.nn.functional.interpolate(torch.rand(3, 1, 12, 12), (96, 96), mode="bicubic")[:, 0] + 0.5
    change = PatchAugment.Config(rotation_deg=8, scale=0.1, shift=0, gradient=0, blur=0).build()
    draw = {"seed": 1, "step": 0, "places": slice(0, 3), "batch": 3}
    whole, high = change(square, **draw), change(square[:, :, 32:64], **draw)
    middle = whole[:, :, 32:64]
    # The ends of a turned strip come from beyond it; its middle third does not.
    assert torch.allclose(high[:, 36:60, 8:24], middle[:, 36:60, 8:24], atol=1e-4)


def test_what_moves_nothing_interpolates_nothing():
    patches = torch.rand(4, 20, 8) + 0.5
    still = PatchAugment.Config(rotation_deg=0, scale=0, shift=0, blur=0, stain=0, gamma=0, gradient=0)
    found = still.build()(patches, seed=0, step=0, places=slice(0, 4), batch=4)
    flipped = [bool(torch.equal(one, other.flip(1))) for one, other in zip(found, patches)]
    same = [bool(torch.equal(one, other)) for one, other in zip(found, patches)]
    assert all(a != b for a, b in zip(flipped, same))
    assert any(flipped)


def test_section_cnn_takes_high_patches_and_refuses_other_shapes():
    encoder = SectionCNN.Config(widths=(8, 16), stem_stride=(2, 2)).build((64, 24))
    assert encoder(torch.rand(2, 64, 24)).shape == (2, 64)
    assert encoder.identity()["size_px"] == [64, 24]
    with pytest.raises(InputError, match=r"\[B, 64, 24\]"):
        encoder(torch.rand(2, 24, 64))
    with pytest.raises(SettingError, match="shrink to nothing"):
        SectionCNN.Config(stem_stride=(2, 4)).build((64, 24))


def test_the_commands_learn_extract_and_judge(tmp_path, capsys):
    one, other = (write_fields(tmp_path / name / "cells", seed=k) for k, name in enumerate(("one", "other")))
    words = [f"fields={one},{other}", "data=FieldPatches", *SMALL]
    assert pretrain.main(arguments(words, tmp_path / "encoder")) == 0
    about = read_json(tmp_path / "encoder" / "encoder.json")
    assert about["shape"] == [64, 24]
    assert about["training"]["items"]["areas"] == ["dense", "sparse"]
    assert about["training"]["history"][-1]["knn_macro_f1"] > 0.9
    assert extract.main(arguments([f"fields={one}", f"encoder={tmp_path / 'encoder'}"], tmp_path / "table")) == 0
    assert load_table(tmp_path / "table" / "cyto").values.shape == (24, 64)
    judged = [f"fields={one},{other}", "shares=0.5,1", "seeds=0"]
    assert judge.main(arguments([*judged, f"encoder={tmp_path / 'encoder'}"], tmp_path / "judged")) == 0
    judging = read_json(tmp_path / "judged" / "metrics.json")["judging"]
    rows = {row["method"]: row["mean"] for row in judging["curves"]
            if row["score"] == "linear" and row["share"] == 1 and not row["minus"]}  # fmt: skip
    assert set(rows) == {"encoder", "profiles", "pca", "untrained"}
    assert rows["encoder"] > 0.9
    capsys.readouterr()
    for main, bad, said in (
        (pretrain.main, [f"fields={one}"], "FieldPatches"),
        (pretrain.main, [f"fields={one}", f"stacks={one}"], "both named"),
        (pretrain.main, [f"fields={tmp_path}", "data=FieldPatches"], "no fields.csv"),
        (pretrain.main, [f"fields={one}", "data=FieldPatches", "data.pixel_um=3"], "whole multiple"),
        (extract.main, [f"fields={one}", f"stack={one}", f"encoder={tmp_path / 'encoder'}"], "both named"),
        (extract.main, [f"stack={one}", f"reconstruction={one}", f"encoder={tmp_path / 'encoder'}"], "fields=DIR"),
        (judge.main, [*judged, f"tables={tmp_path / 'table' / 'cyto'}"], "name one for each"),
        (judge.main, [*judged, "tables=a,b"], "FieldPatches"),
    ):
        assert main(arguments(bad, tmp_path / "bad")) == 2
        told = capsys.readouterr().err
        assert said in told, told
        assert told.count("\n") == 1


def test_a_field_of_another_resolution_is_refused(tmp_path):
    folder = write_fields(tmp_path / "cells", pixel_um=5.0)
    with pytest.raises(SettingError, match="5 um per px"):
        field_sets([folder], FieldPatches.Config())
    write_tiff(folder / "s0.tif", np.full((30, 30), 100, np.uint8), 2.0, tile=32)
    with pytest.raises(InputError, match="leave the image"):
        read_fields(folder)
