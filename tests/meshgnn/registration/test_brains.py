"""Whole brains: the command, what it writes and refuses, the stage of an experiment, registered coordinates."""

import json
from dataclasses import replace

import numpy as np
import pytest

from meshgnn.data.inputs import NodeInputs
from meshgnn.errors import InputError
from meshgnn.experiment import registering
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.export.gifti import write_surface_folder
from meshgnn.graph import Areas, MeshGraph
from meshgnn.registration import register_brain, register_hemispheres
from meshgnn.registration.command import entry
from meshgnn.registration.icosphere import icosphere
from meshgnn.source.surface_folder import SurfaceFolder
from tests.meshgnn.registration.shapes import SMALL, folded, mesh, mirror_image, surface, warp
from tests.synthetic import brain as ball

FEW = ("scales_mm=40,20", "grids=3,3", "bending=0.03,0.03", "steps=15", "sphere.steps=15")
SETS = [word for one in FEW for word in ("--set", one)]


def brain(name="Folds", seed=7) -> MeshGraph:
    """Left: the folded surface. Right: its mirror image, every fold in another place; areas lie on the folds."""
    points = icosphere(3).points
    true = warp(points, seed=seed)
    left, right = folded(3), mirror_image(mesh(surface(true), 3))
    labels = [np.digitize(place[:, 1], [-0.5, 0, 0.5]) for place in (points, true)]
    wall = np.concatenate([points[:, 0] > 0.9, true[:, 0] > 0.9])
    return MeshGraph(
        brain=name, meshes=(left, right), cortex=~wall, areas=Areas(names=("a", "b", "c", "d")),
        labels=np.where(wall, -1, np.concatenate(labels)).astype(np.int32),
        surfaces={"sphere": np.concatenate([points, points * [-1, 1, 1]]) * 100},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("brain")
    write_surface_folder(place, brain(), "Planted")
    return place


def test_the_command_writes_spheres_that_the_reader_finds_and_nothing_that_it_takes_for_features(folder, capsys):
    before = SurfaceFolder.Config(folder=folder).build().read().graph
    assert entry([str(folder), "--out", str(folder), *SETS]) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 2
    graph = SurfaceFolder.Config(folder=folder).build().read().graph
    assert set(graph.tables) == set(before.tables)
    sphere = graph.surfaces["sphere_reg"]
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=1), 100, rtol=1e-5)
    figures = json.loads((folder / "registration" / "sub-Folds.json").read_text())
    assert list(figures) == ["R"]
    assert figures["R"]["folded_triangles"] == 0
    assert (folder / "registration" / "sub-Folds_hemi-R_desc-unsure.shape.gii").is_file()
    # The right hemisphere, mirrored, lies where its folds lie on the left one.
    left, right = (sphere[place] for place in graph.slices().values())
    true = warp(icosphere(3).points)
    places = (right * [-1, 1, 1] / 100, icosphere(3).points)
    off = [np.linalg.norm(place - true, axis=1).mean() for place in places]
    assert off[0] < 0.6 * off[1]
    np.testing.assert_allclose(left, icosphere(3).points * 100, atol=1e-3)


def test_a_brain_is_registered_to_another_in_the_space_that_the_other_brings(folder, tmp_path):
    fixed = register_hemispheres(brain(), SMALL).of(brain())
    found = register_brain(brain("Other", seed=11), fixed, SMALL)
    assert set(found.figures) == {"L", "R"}
    assert not found.sphere_mm.flags.writeable
    np.testing.assert_allclose(np.linalg.norm(found.sphere_mm, axis=1), 100, rtol=1e-5)
    assert all(figures["folded_triangles"] == 0 for figures in found.figures.values())
    # Left of the other is the same surface with the same sphere: it stays. Right lies where its folds are.
    np.testing.assert_allclose(found.sphere_mm[:642], icosphere(3).points * 100, atol=1.5)
    true = warp(icosphere(3).points, seed=11)
    off = np.linalg.norm(found.sphere_mm[642:] * [-1, 1, 1] / 100 - true, axis=1).mean()
    assert off < 0.6 * np.linalg.norm(icosphere(3).points - true, axis=1).mean()
    # A fixed brain of one hemisphere takes both, the other one mirrored.
    half = MeshGraph(brain="Half", meshes=(folded(3),), surfaces={"sphere": icosphere(3).points * 100})
    both = register_brain(brain(), half, SMALL)
    off = np.linalg.norm(both.sphere_mm[642:] * [-1, 1, 1] / 100 - warp(icosphere(3).points), axis=1).mean()
    assert off < 0.6 * np.linalg.norm(icosphere(3).points - warp(icosphere(3).points), axis=1).mean()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{none}", "--out", "{out}"], "no such folder"),
        (["{folder}", "{none}", "--out", "{out}"], "no such folder"),
        (["{folder}", "--out", "{file}"], "is a file"),
        (["{folder}", "--out", "{out}", "--set", "steps=-1"], "steps"),
        (["{folder}", "--out", "{out}", "--set", "features=thickness", *SETS], "no feature 'thickness'"),
        (["{ball}", "--out", "{out}"], "nothing to match"),
        (["{open}", "--out", "{out}"], "holes"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, told, folder, tmp_path, capsys):
    places = {"folder": folder, "none": tmp_path / "none", "out": tmp_path / "out", "file": tmp_path / "file"}
    places |= {"ball": tmp_path / "ball", "open": tmp_path / "open"}
    places["file"].write_text("")
    write_surface_folder(places["ball"], ball(2), "Planted")
    cut = brain()
    meshes = tuple(replace(one, faces=one.faces[3:]) for one in cut.meshes)
    write_surface_folder(places["open"], cut._replace(meshes=meshes), "Planted")
    assert entry([word.format(**places) for word in words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert told in error


def test_an_experiment_registers_a_brain_that_brings_no_sphere(folder, tmp_path):
    bare = tmp_path / "bare"
    write_surface_folder(bare, brain(), "Planted")
    config = AreaMapping.Config(source=SurfaceFolder.Config(folder=bare), register=SMALL,
                                inputs=NodeInputs.Config(align="registered"))  # fmt: skip
    experiment = config.build()
    stages = experiment.stages()
    assert [stage.name for stage in stages][:2] == ["register", "read"]
    assert stages[1].after == ("register",)
    assert "sphere_reg" not in experiment._prepare(None).graph.surfaces
    (tmp_path / "run").mkdir()
    run = RunFolder(tmp_path / "run")
    assert stages[0].run(run) == [registering.SPHERE, registering.FIGURES]
    graph = experiment._prepare(run).graph
    frame = config.inputs.build().frame(graph, graph.hemisphere == "L")
    places = frame.coordinates_mm(graph, "registered")
    np.testing.assert_allclose(places[:642], icosphere(3).points * 100, atol=1e-3)
    np.testing.assert_allclose(places[642:], graph.surfaces["sphere_reg"][642:] * [-1, 1, 1], atol=1e-3)
    assert np.abs(frame.scaled(places)).max() < 4


def test_an_experiment_uses_the_sphere_that_a_brain_brings_and_says_what_is_missing(folder, tmp_path):
    bare = tmp_path / "bare"
    write_surface_folder(bare, brain(), "Planted")
    source, inputs = SurfaceFolder.Config(folder=bare), NodeInputs.Config(align="registered")
    with pytest.raises(InputError, match="register=Registration"):
        AreaMapping.Config(source=source, inputs=inputs).build().check()
    cut = tuple(replace(one, faces=one.faces[3:]) for one in brain().meshes)
    write_surface_folder(bare, brain()._replace(meshes=cut), "Planted")
    with pytest.raises(InputError, match=r"holes.*register=none"):
        AreaMapping.Config(source=source, register=SMALL).build().check()
    write_surface_folder(bare, register_hemispheres(brain(), SMALL).of(brain()), "Planted")
    experiment = AreaMapping.Config(source=source, register=SMALL, inputs=inputs).build()
    assert experiment.stages()[0].name == "read"
    assert "sphere_reg" in experiment._prepare(None).graph.surfaces
    with pytest.raises(InputError, match="one hemisphere only"):
        register_hemispheres(MeshGraph(brain="half", meshes=(folded(3),)), SMALL)
