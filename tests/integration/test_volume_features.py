"""Features of the MNI152 T1 that nilearn ships, as one more table of the `surface` experiment."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.volume_features import VolumeFeatures
from meshgnn.experiment.cli import entry
from meshgnn.export.gifti import write_surface_folder
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.optional import data_folder
from meshgnn.override import override
from meshgnn.sockets import Brain
from meshgnn.source.gifti import read_surface
from meshgnn.store import load_table
from meshgnn.testing import assert_node_data
from tests.synthetic import brain

CUBES = ("pretrain.encoder.widths=8,16", "pretrain.encoder.out_channels=4", "pretrain.data.size=5",
         "pretrain.sampler.size=32", "pretrain.epochs=2", "pretrain.epoch_steps=5", "pretrain.threads=1",
         "extract.threads=1")  # fmt: skip
TINY = ("trainer.epochs=20", "trainer.folds=2", "trainer.validate_every=10", "validation.blocks=3", "seeds=0",
        "inputs.rounds=2", "inputs.rim=false", "validation.buffer_mm=3", "trainer.workers=1",
        "controls=false")  # fmt: skip


def in_space(folder: Path, graph: MeshGraph, space: str) -> Path:
    """A surface folder whose files name their space."""
    write_surface_folder(folder, graph, "Planted")
    for path in sorted(folder.glob("sub-*")):
        path.rename(path.with_name(path.name.replace("_hemi-", f"_space-{space}_hemi-", 1)))
    return folder


def command(name: str, out: Path, *settings: str) -> int:
    return entry([name, "--out", str(out), *(word for one in settings for word in ("--set", one))])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("volume")
    folder = in_space(place / "ball", brain(), "fsaverage")
    settings = (f"source.folder={folder}", *TINY, "features=[Geometry,VolumeFeatures]", "features.0.measures=curvature",
                *(f"features.VolumeFeatures.{one}" for one in CUBES))  # fmt: skip
    assert command("surface", place / "out", *settings) == 0
    return folder, place / "out"


def test_a_volume_is_one_more_table_of_the_surface_experiment(finished: tuple[Path, Path]):
    _, out = finished
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"volume_0", "volume_3", "curvature", "a"} <= set(metrics["features"])
    assert metrics["computed_features"] == ["curvature", "volume_0", "volume_1", "volume_2", "volume_3"]
    table = load_table(out / "features" / "volume" / "table")
    assert table.mask.all()
    assert table.values.std(0).min() > 0
    assert table.encoder["data"]["spacing_mm"] == [1.0, 2.0, 4.0]
    inputs = json.loads((out / "provenance.json").read_text())["inputs"]
    assert any("mni_icbm152_t1" in name for name in inputs)
    assert (out / "features" / "volume" / "encoder.safetensors").is_file()


def test_another_brain_is_mapped_with_what_the_run_learnt(finished: tuple[Path, Path], tmp_path: Path, capsys):
    folder, out = finished
    assert entry(["--out", str(out), "--resume"]) == 0
    assert capsys.readouterr().out.count("unchanged, kept") == 6
    assert command("predict", tmp_path / "map", f"run={out}", f"source.folder={folder}") == 0
    assert json.loads((tmp_path / "map" / "metrics.json").read_text())["test"]["accuracy"] > 0.5
    shutil.copytree(out, tmp_path / "half")
    (tmp_path / "half" / "features" / "volume" / "encoder.safetensors").unlink()
    assert command("predict", tmp_path / "no", f"run={tmp_path / 'half'}", f"source.folder={folder}") == 2
    assert not (tmp_path / "no").exists()
    assert "encoder.safetensors" in capsys.readouterr().err
    stored = json.loads((out / "config.json").read_text())
    stored["config"]["features"][1]["pretrain"]["data"]["source"] = {"_": "NiftiVolume", "path": "T1.nii", "space": ""}
    (tmp_path / "half" / "config.json").write_text(json.dumps(stored))
    assert command("predict", tmp_path / "no", f"run={tmp_path / 'half'}", f"source.folder={folder}") == 2
    assert "read T1.nii, which belongs to the brain that it was trained on" in capsys.readouterr().err
    other = ("features=VolumeFeatures", "features.0.pretrain.data.size=6")
    words = (f"run={tmp_path / 'half'}", f"source.folder={folder}", *other)
    (tmp_path / "half" / "features" / "volume" / "encoder.safetensors").write_bytes(
        (out / "features" / "volume" / "encoder.safetensors").read_bytes()
    )
    assert command("predict", tmp_path / "no", *words) == 2
    assert "trained on items with size=5, not 6" in capsys.readouterr().err
    assert command("predict", tmp_path / "yes", *words[:-1], "features.0.pretrain.data.size=5") == 0


def test_surfaces_of_another_space_are_refused_before_anything_is_written(tmp_path: Path, capsys):
    folder = in_space(tmp_path / "ball", brain(2), "native")
    assert command("surface:with_volume", tmp_path / "out", f"source.folder={folder}", *TINY) == 2
    told = capsys.readouterr().err
    assert "no transform between them is known" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def fsaverage5(place: Path) -> MeshGraph:
    """The surfaces in nilearn's package data, with areas made up from where a node lies."""
    folder, meshes = data_folder("nilearn") / "datasets" / "data" / "fsaverage5", []
    surfaces: dict[str, list[np.ndarray]] = {"pial": [], "white": []}
    for side in ("left", "right"):
        for name, parts in surfaces.items():
            unpacked = place / f"{name}.{side}.surf.gii"
            unpacked.write_bytes(gzip.decompress((folder / f"{name}.{side}.gii.gz").read_bytes()))
            points, faces = read_surface(unpacked)
            parts.append(points)
        middle = (surfaces["pial"][-1] + surfaces["white"][-1]) / 2
        meshes.append(SurfaceMesh(vertices_mm=middle, faces=faces, hemisphere=side[0].upper(), space="fsaverage5"))
    points = np.concatenate([mesh.vertices_mm for mesh in meshes])
    labels = (points[:, 1] > -20).astype(np.int32) + 2 * (points[:, 2] > 15)
    return MeshGraph(
        brain="fsaverage5", meshes=tuple(meshes), labels=labels, areas=Areas(names=("A1", "A2", "A3", "A4")),
        surfaces={name: np.concatenate(parts) for name, parts in surfaces.items()},
    )  # fmt: skip


def test_cubes_of_the_template_at_fsaverage5_nodes_show_cortex(tmp_path: Path):
    graph = fsaverage5(tmp_path)
    config = override(VolumeFeatures.Config(), CUBES).pretrain.data
    data = config.build(Brain(graph=graph))
    assert_node_data(data)
    assert data.observed.all()
    nodes = np.arange(0, graph.n_nodes, 40)
    cubes, inside = data.read_masked(nodes)
    assert inside.mean() > 0.99
    # T1: white matter is bright, and the first axis runs from white matter to pial and what lies beyond.
    profile = cubes[:, 0].mean((0, 2, 3))
    assert (np.diff(profile) < 0).all()
    assert profile[0] - profile[-1] > 0.5


@pytest.mark.slow
def test_the_whole_experiment_runs_on_fsaverage5(tmp_path: Path):
    folder = in_space(tmp_path / "fs5", fsaverage5(tmp_path), "fsaverage5")
    settings = (f"source.folder={folder}", *TINY, *(f"features.0.{one}" for one in CUBES))
    assert command("surface:with_volume", tmp_path / "out", *settings) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["features"] == ["volume_0", "volume_1", "volume_2", "volume_3"]
    assert metrics["leakage"]["train_test_edges"] == 0
    table = load_table(tmp_path / "out" / "features" / "volume" / "table")
    assert table.mask.all()
    assert len(table.values) == 20484
