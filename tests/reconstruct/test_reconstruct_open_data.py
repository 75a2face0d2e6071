"""Sources on servers: the same mesh as from files, only what is needed, going on after a stop, one line when not."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.cli import entry
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.sections import read_stack
from reconstruct import BigBrain, Precomputed, Reconstruct, SectionFolder, VolumePair, open_data
from reconstruct.given import read_placed
from reconstruct.open_areas import area_labels
from reconstruct.plausibility import Plausible
from reconstruct.steps.cerebrum import KeepCerebrum
from tests.precomputed import served, write_volume
from tests.reconstruct.phantom import body
from tests.reconstruct.test_reconstruct_sections import write_maps

pytest.importorskip("tensorstore", reason="tensorstore is an extra")


def fetch(source: Precomputed.Config, folder: Path) -> VolumePair.Config:
    found = open_data.fetch(source, folder)
    assert isinstance(found, VolumePair.Config)
    return found


def maps_of(found: VolumePair.Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images: list[Any] = [nibabel.load(path) for path in (found.grey, found.white) if path is not None]
    return np.asarray(images[0].dataobj), np.asarray(images[1].dataobj), images[0].affine


def cortex(folder: Path) -> tuple[VolumePair.Config, np.ndarray]:
    """Two maps in `folder`, as NIfTI and as precomputed volumes of 16-voxel chunks under `served`."""
    grey, white, affine = write_maps(folder)
    step = np.linalg.norm(affine[:3, :3], axis=0)
    transform = np.eye(4)
    transform[:3, 3] = (affine[:3, 3] - step / 2) * 1e6
    for path in (grey, white):
        image: Any = nibabel.load(path)
        data = np.asarray(image.dataobj, np.float32)
        write_volume(folder / "served" / path.name.split(".")[0], data, step * 1e6, transform=transform, chunk=24)
    return VolumePair.Config(grey=grey, white=white, space="test"), affine


def test_maps_from_a_server_are_those_of_the_files(tmp_path: Path) -> None:
    pair, affine = cortex(tmp_path)
    with served(tmp_path / "served") as (address, asked):
        source = Precomputed.Config(grey=f"{address}/grey", white=f"{address}/white", voxel_mm=1)
        found = fetch(source, tmp_path / "out")
        count = len(asked)
        assert fetch(source, tmp_path / "out") == found
        assert len(asked) == count
    for one, other in zip(maps_of(pair), maps_of(found)):
        assert np.allclose(one, other, atol=1e-6)
    assert np.allclose(maps_of(found)[2], affine)


@pytest.mark.slow
def test_the_same_cortex_gives_the_same_mesh_from_files_and_from_a_server(tmp_path: Path) -> None:
    pair, affine = cortex(tmp_path)
    settings = Reconstruct.Config(
        source=pair, pictures=False, plausible=Plausible(refuse=False), cerebrum=KeepCerebrum.Config(find="none")
    )
    with served(tmp_path / "served") as (address, asked):
        source = Precomputed.Config(grey=f"{address}/grey", white=f"{address}/white", space="test", voxel_mm=1)
        remote = replace(settings, source=source).build().run(tmp_path / "remote")
    local = settings.build().run(tmp_path / "local")
    for one, other in zip(local.midsurfaces, remote.midsurfaces):
        assert np.array_equal(one.mesh.faces, other.mesh.faces)
        assert np.allclose(one.mesh.vertices_mm, other.mesh.vertices_mm, atol=1e-4)
    kept = tmp_path / "remote" / "steps" / "source"
    assert {path.name for path in kept.iterdir()} == {"grey.nii", "white.nii", "source.json"}
    assert np.allclose(nibabel.load(kept / "grey.nii").affine, affine)  # type: ignore[attr-defined]
    # Nobody is asked again: the server is gone.
    again = replace(settings, source=source).build().run(tmp_path / "remote")
    assert again.midsurfaces[0].mesh.content_hash() == remote.midsurfaces[0].mesh.content_hash()
    chunks = [path for path in asked if "scale0" in path]
    assert len(chunks) == len(set(chunks))


def classes(folder: Path, *, coarser: int = 1, chunk: int = 8) -> np.ndarray:
    labels = np.zeros((32, 24, 40), np.uint32)
    labels[4:28, 4:20, 6:34] = 100
    labels[8:24, 8:16, 12:28] = 200
    write_volume(folder, labels, (4e5,) * 3, coarser=coarser, chunk=chunk)
    return labels


def test_classes_become_maps_at_the_scale_that_is_fine_enough(tmp_path: Path) -> None:
    labels = classes(tmp_path / "vol", coarser=2)
    source = Precomputed.Config(labels=str(tmp_path / "vol"), grey_labels=(100,), white_labels=(200,), voxel_mm=0.4)
    grey, white, affine = maps_of(fetch(source, tmp_path / "a"))
    assert np.array_equal(grey, labels == 100)
    assert np.array_equal(white, labels == 200)
    assert np.allclose(affine[:3, 3], 0.2)  # centre of the first voxel
    _, white, affine = maps_of(fetch(replace(source, voxel_mm=0.8), tmp_path / "b"))
    assert np.array_equal(white, labels[::2, ::2, ::2] == 200)
    assert np.allclose(affine[:3], [[0.8, 0, 0, 0.4], [0, 0.8, 0, 0.4], [0, 0, 0.8, 0.4]])
    _, white, affine = maps_of(fetch(replace(source, voxel_mm=1.6), tmp_path / "c"))  # blocks of 2 voxels of 0.8 mm
    blocks = (labels[::2, ::2, ::2] == 200).reshape(8, 2, 6, 2, 10, 2).mean((1, 3, 5))
    assert np.allclose(white, blocks)
    assert np.allclose(affine[:3, 3], 0.8)
    box = replace(source, box_mm=(3.2, 3.2, 4.8, 9.6, 6.4, 11.2))
    _, white, affine = maps_of(fetch(box, tmp_path / "d"))
    part = (affine[:3, 3] / 0.4 - 0.5).round().astype(int)
    assert np.array_equal(white, (labels == 200)[tuple(slice(a, a + n) for a, n in zip(part, white.shape))])
    assert white.mean() > 0.5


def test_only_needed_chunks_are_asked_for_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshgnn.source import precomputed

    monkeypatch.setattr(precomputed, "_BLOCK", 600)
    labels = classes(tmp_path / "vol")
    with served(tmp_path) as (address, asked):
        source = Precomputed.Config(
            labels=f"{address}/vol", grey_labels=(100,), white_labels=(200,), voxel_mm=0.4, box_mm=(0, 0, 0, 3, 3, 16)
        )
        fetch(source, tmp_path / "part")
        assert sum("/scale0/" in path for path in asked) == 5  # of 60
        source = replace(source, box_mm=())
        broken = tmp_path / "vol" / "scale0" / "24-32_16-24_32-40"
        whole = broken.read_bytes()
        broken.unlink()
        with pytest.raises(InputError, match="24-32_16-24_32-40 is missing"):
            fetch(source, tmp_path / "all")
        assert not (tmp_path / "all" / "source.json").exists()
        broken.write_bytes(whole)
        asked.clear()
        seen: list[int] = []
        found = open_data.fetch(source, tmp_path / "all", lambda step, done, total, figures=None: seen.append(done))
        assert sum("/scale0/" in path for path in asked) == 1
        assert seen == sorted(seen)
        assert seen[-1] == 1000
    assert isinstance(found, VolumePair.Config)
    assert np.array_equal(maps_of(found)[1], labels == 200)
    assert not (tmp_path / "all" / "blocks").exists()


def test_another_volume_under_the_same_address_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from meshgnn.source import precomputed

    monkeypatch.setattr(precomputed, "_BLOCK", 600)
    classes(tmp_path / "vol")
    source = Precomputed.Config(labels=str(tmp_path / "vol"), grey_labels=(100,), white_labels=(200,), voxel_mm=0.4)
    last = tmp_path / "vol" / "scale0" / "24-32_16-24_32-40"
    last.unlink()
    with pytest.raises(InputError, match="missing"):
        fetch(source, tmp_path / "out")
    for path in sorted((tmp_path / "vol").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    data = np.full((32, 24, 40), 200, np.uint32)
    write_volume(tmp_path / "vol", data, (5e5,) * 3, chunk=8)
    _, white, _ = maps_of(fetch(replace(source, voxel_mm=0.5), tmp_path / "out"))
    assert white.all()


def test_too_much_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes(tmp_path / "vol")
    source = Precomputed.Config(labels=str(tmp_path / "vol"), grey_labels=(1,), white_labels=(2,), voxel_mm=0.4)
    with pytest.raises(InputError, match=r"GB would be read; raise source\.voxel_mm"):
        fetch(replace(source, largest_gb=1e-5), tmp_path / "out")
    info = json.loads((tmp_path / "vol" / "info").read_text())
    info["scales"][0]["size"] = [200_000] * 3
    (tmp_path / "vol" / "info").write_text(json.dumps(info))
    with pytest.raises(InputError, match="voxels are kept"):
        fetch(replace(source, largest_gb=1e9), tmp_path / "out")
    classes(tmp_path / "other")
    monkeypatch.setattr(open_data.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="make room"):
        fetch(replace(source, labels=str(tmp_path / "other")), tmp_path / "out")


def stain() -> np.ndarray:
    """Grey values of two bodies on white ground, voxels of 0.4 mm, x turned round against RAS."""
    axis = [np.arange(-44, 44.1, 0.4), np.arange(-26, 26.1, 0.4), np.arange(-30, 30.1, 0.4)]
    x, y, z = np.meshgrid(*axis, indexing="ij")
    outer, inner = body(x, y, z, 0.0), body(x, y, z, 3.0)
    density = np.where(inner < 0, 0.2, np.where(outer < 0, 0.55, 0.0))
    return np.round(240 * np.exp(-density)).astype(np.uint8)[::-1]


def stained(folder: Path) -> None:
    """The same as a volume."""
    transform = np.diag([-1.0, 1, 1, 1])
    transform[:3, 3] = [44.2e6, -26.2e6, -30.2e6]
    write_volume(folder, stain(), (4e5,) * 3, transform=transform, chunk=64)


def test_planes_of_a_stained_volume_become_sections_in_their_places(tmp_path: Path) -> None:
    stained(tmp_path / "vol")
    with served(tmp_path) as (address, asked):
        source = Precomputed.Config(image=f"{address}/vol", space="test", voxel_mm=0.4, every_mm=4)
        found = open_data.fetch(source, tmp_path / "out")
    assert isinstance(found, SectionFolder.Config)
    assert found.poses == "keep"
    chunks = [path for path in asked if "/scale0/" in path]
    assert len(chunks) == len(set(chunks))
    stack = read_stack(tmp_path / "out" / "sections", space="test")
    assert [section.index for section in stack] == list(range(1, 132, 10))
    assert np.allclose([section.position_mm for section in stack], np.arange(-26, 26.1, 4))


@pytest.mark.slow
def test_a_cortex_from_planes_of_a_stained_volume_lies_where_it_lies(tmp_path: Path) -> None:
    stained(tmp_path / "vol")
    source = Precomputed.Config(image=str(tmp_path / "vol"), space="test", voxel_mm=0.4, every_mm=2)
    settings = Reconstruct.Config(
        source=source, pictures=False, plausible=Plausible(refuse=False), cerebrum=KeepCerebrum.Config(find="none")
    )
    for item in settings.build().run(tmp_path / "out").midsurfaces:
        assert np.abs(body(*item.mesh.vertices_mm.astype(float).T, 1.5)).mean() < 0.4


def test_pixels_of_planes_lie_where_their_affine_says(tmp_path: Path) -> None:
    stained(tmp_path / "vol")
    for voxel_mm in (0.4, 1.2):  # as they are, and blocks of three
        out = tmp_path / f"out{voxel_mm}"
        found = open_data.fetch(Precomputed.Config(image=str(tmp_path / "vol"), voxel_mm=voxel_mm, every_mm=4), out)
        assert isinstance(found, SectionFolder.Config)
        stack, placed = read_placed(replace(found, space="test"))
        assert placed is not None
        assert placed.tilt_deg < 0.01
        for section in list(stack)[2:-2:3]:
            from meshgnn.source.sections import open_section

            with open_section(section) as image:
                grey = image.read()
            rows, columns = np.indices(grey.shape)
            points = section.pixel_to_mm(rows, columns)
            level = body(*np.moveaxis(points, -1, 0), 0.0)
            assert grey[level > 1.5 * voxel_mm].min() == 240
            assert grey[level < -1.5 * voxel_mm].max() < 210


def test_sections_with_volumes_of_their_own(tmp_path: Path) -> None:
    data = stain()
    for number in range(20, 120, 20):
        transform = np.diag([-1.0, 1, 1, 1])
        transform[:3, 3] = [44.2e6, -26.2e6 + number * 4e5, -30.2e6]
        write_volume(
            tmp_path / f"B_{number:04d}", data[:, number : number + 1], (4e5,) * 3, transform=transform, chunk=64
        )
    numbers = tuple(range(20, 120, 20))
    source = Precomputed.Config(image=f"{tmp_path}/B_{{number:04d}}", sections=numbers, voxel_mm=0.4)
    open_data.check(source)
    found = open_data.fetch(source, tmp_path / "out")
    assert isinstance(found, SectionFolder.Config)
    stack = read_stack(tmp_path / "out" / "sections", space="test")
    assert [section.index for section in stack] == list(numbers)
    assert np.allclose([section.position_mm for section in stack], [-26 + 0.4 * number for number in numbers])


def test_areas_of_volumes_label_the_nodes(tmp_path: Path) -> None:
    one, other = np.zeros((20, 20, 20), np.uint8), np.zeros((20, 20, 20), np.uint16)
    one[:10], other[8:], other[8:, 10:] = 1, 3, 7
    write_volume(tmp_path / "visual_left", one, (1e6,) * 3, chunk=8)
    write_volume(tmp_path / "motor", other, (1e6,) * 3, chunk=8)
    for path in (tmp_path / "motor" / "scale0").iterdir():
        if path.name.startswith("0-8"):
            path.unlink()  # empty ones are left out, as many volumes have it
    points = np.array([[4.5, 4.5, 4.5], [9.5, 4.5, 4.5], [12.5, 4.5, 4.5], [12.5, 15.5, 4.5], [25, 0, 0]], np.float32)
    mesh = SurfaceMesh(vertices_mm=points, faces=np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4]]), hemisphere="L", space="s")
    source = Precomputed.Config(areas=(str(tmp_path / "visual_left"), str(tmp_path / "motor")), voxel_mm=1)
    areas, (labels,) = area_labels(source, [mesh])
    named = [areas.names[k] if k >= 0 else "" for k in labels]
    assert named == ["visual", "visual", "motor 3", "motor 7", ""]


def test_bigbrain_needs_no_more_than_its_name() -> None:
    tissue = BigBrain.Config(areas=("area6d_6d1",)).volumes()
    assert tissue.labels.startswith("https://")
    assert tissue.labels.endswith("/classif")
    assert [one.rsplit("/", 1)[1] for one in tissue.areas] == ["area6d_6d1_left", "area6d_6d1_right"]
    open_data.check(tissue)
    planes = BigBrain.Config(read="sections").volumes()
    assert planes.image.endswith("/8bit")
    scans = BigBrain.Config(read="sections", sections=(47, 102)).volumes()
    assert [one.split("/")[-2] for one in open_data.section_addresses(scans)] == ["B20_0047", "B20_0102"]
    open_data.check(scans)


def test_bigbrain_is_read_from_a_server_that_speaks_its_format(tmp_path: Path) -> None:
    labels = np.zeros((20, 22, 20), np.uint8)
    labels[3:17, 3:19, 3:17], labels[6:14, 6:16, 6:14] = 100, 200
    transform = np.eye(4)
    transform[:3, 3] = [-70666600, -72910000, -58777700]
    write_volume(tmp_path / "classif", labels, (4e5,) * 3, transform=transform, chunk=64)
    with served(tmp_path) as (address, _):
        source = BigBrain.Config(root=address).volumes()
        grey, white, affine = maps_of(fetch(source, tmp_path / "out"))
    assert np.array_equal(grey, labels == 100)
    assert np.array_equal(white, labels == 200)
    assert np.allclose(affine[:3, 3], np.array([-70.6666, -72.91, -58.7777]) + 0.2)


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for values, word in (
        ({"box_mm": (1.0, 2.0)}, "six numbers"),
        ({"box_mm": (1.0, 1.0, 1.0, 0.0, 2.0, 2.0)}, "six numbers"),
        ({"voxel_mm": 0.0}, "voxel_mm"),
        ({"other_mm": (1.0,)}, "other_mm"),
    ):
        with pytest.raises(SettingError, match=word):
            Precomputed.Config(**values)  # type: ignore[arg-type]
    folder = str(tmp_path)
    for values, word in (
        ({}, "one kind"),
        ({"grey": folder}, "both maps"),
        ({"grey": folder, "white": folder, "image": folder}, "one kind"),
        ({"labels": folder}, "grey_labels"),
        ({"image": folder, "sections": (1, 2)}, "go together"),
        ({"image": folder + "/{number}{other}", "sections": (1, 2)}, "braces"),
        ({"image": folder + "/none"}, "no such folder"),
    ):
        with pytest.raises(InputError, match=word):
            open_data.check(Precomputed.Config(**values))  # type: ignore[arg-type]


def test_the_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshgnn.source import precomputed

    monkeypatch.setitem(
        precomputed._PATIENCE, "http_request_retries", {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"}
    )
    classes(tmp_path / "vol")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "info").write_text("{}")

    def refused(*settings: str) -> str:
        words = ["reconstruct", "--out", str(tmp_path / f"o{len(list(tmp_path.glob('o*')))}")]
        words += ["--set", "source=Precomputed"]
        words += [word for one in settings for word in ("--set", f"source.{one}")]
        assert entry(words) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert told[-1].startswith("error: ")
        assert sum("error" in line for line in told) == 1
        return told[-1]

    labels = ("grey_labels=100", "white_labels=200", "timeout_s=0.5")
    assert "one kind" in refused()
    with served(tmp_path) as (address, _):
        assert "no volume" in refused(f"labels={address}/none", *labels)
        assert "not that of a precomputed volume" in refused(f"labels={address}/wrong", *labels)
    assert "needs a network" in refused(f"labels={address}/vol", *labels)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = f"http://127.0.0.1:{silent.getsockname()[1]}/vol"
        assert "no answer within 0.5 s" in refused(f"labels={where}", *labels)
        code = f"from meshgnn.source.precomputed import *; PrecomputedVolume({where!r}, timeout_s=0.5)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert "no answer" in done.stderr  # and the process ends, though the server still holds the line
    assert not list(tmp_path.glob("o*/sub-*"))
