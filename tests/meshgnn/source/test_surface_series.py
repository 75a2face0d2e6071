"""Runs on surfaces: a folder's series become `Brain.series`, with the checks that other surface files get."""

import nibabel as nib
import numpy as np
import pytest
from nibabel import gifti
from nibabel.freesurfer import MGHImage

from features.node_data.vertex_series import VertexSeries
from meshgnn.errors import InputError
from meshgnn.sockets import Brain
from meshgnn.source.surface_folder import SurfaceFolder

TIME = "NIFTI_INTENT_TIME_SERIES"


def read(folder, **settings):
    return SurfaceFolder.Config(folder=folder, **settings).build().read()


def nodes(folder) -> dict[str, int]:
    return {mesh.hemisphere: mesh.n_vertices for mesh in read(folder).graph.meshes}


def drawn(count: int, frames: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, frames)).astype(np.float32)


def write(folder, side: str, values: np.ndarray, *, together=False, name="task-rest_bold", intent=TIME):
    """One array per frame, or one [V, T]."""
    frames = [values] if together else list(values.T)
    arrays = [gifti.GiftiDataArray(frame, intent, "NIFTI_TYPE_FLOAT32") for frame in frames]
    path = folder / f"sub-Ball_hemi-{side}_{name}.func.gii"
    nib.save(gifti.GiftiImage(darrays=arrays), path)
    return path


@pytest.mark.parametrize("together", [False, True])
def test_a_run_of_both_hemispheres_becomes_a_series_and_no_feature(folder, together):
    before = read(folder).graph.tables["surface"].columns
    wanted = []
    for k, (side, count) in enumerate(nodes(folder).items()):
        wanted.append(drawn(count, seed=k))
        path = write(folder, side, wanted[-1], together=together)
    reading = read(folder)
    assert set(reading.series) == {"bold"}
    np.testing.assert_array_equal(reading.series["bold"], np.concatenate(wanted))
    assert reading.graph.tables["surface"].columns == before
    assert path in reading.files
    assert not reading.warnings
    data = VertexSeries.Config().build(Brain(graph=reading.graph, series=reading.series))
    assert data.shape == (30,)
    assert data.observed.all()


@pytest.mark.parametrize("ending", ["mgh", "mgz"])
def test_freesurfer_runs_are_read_and_single_maps_are_not(folder, ending):
    wanted = []
    for side, count in nodes(folder).items():
        wanted.append(drawn(count))
        for name, frames in (("rest", 30), ("map", 1)):
            values = wanted[-1][:, :frames].reshape(count, 1, 1, frames)
            image = MGHImage(values if frames > 1 else values[..., 0], np.eye(4))
            image.to_filename(folder / f"{side.lower()}h.{name}.{ending}")
    reading = read(folder)
    assert set(reading.series) == {"rest"}
    np.testing.assert_array_equal(reading.series["rest"], np.concatenate(wanted))


@pytest.mark.parametrize("name", ["sub-Ball_task-rest_space-Ball_bold.dtseries.nii", "Ball.bold.dtseries.nii"])
def test_a_cifti_file_holds_the_series_of_both_hemispheres_without_the_medial_wall(folder, name):
    graph = read(folder).graph
    models = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        title = {"L": "cortex_left", "R": "cortex_right"}[mesh.hemisphere]
        models.append(nib.cifti2.BrainModelAxis.from_mask(graph.cortex[place], name=title))
    axis = models[0] + models[1]
    values = drawn(len(axis)).T
    time = nib.cifti2.SeriesAxis(start=0, step=0.72, size=len(values))
    nib.save(nib.Cifti2Image(values, (time, axis)), folder / name)
    reading = read(folder)
    assert set(reading.series) == {"bold"}
    np.testing.assert_array_equal(reading.series["bold"][graph.cortex], values.T)
    assert np.isnan(reading.series["bold"][~graph.cortex]).all()
    assert not any("without a value" in warning for warning in reading.warnings)
    data = VertexSeries.Config().build(Brain(graph=reading.graph, series=reading.series))
    np.testing.assert_array_equal(data.observed, graph.cortex)
    (folder / name).write_bytes((folder / name).read_bytes()[:900])
    with pytest.raises(InputError, match="not a readable CIFTI-2 file"):
        read(folder)


def test_maps_without_the_intent_of_a_series_stay_features(folder):
    for side, count in nodes(folder).items():
        write(folder, side, drawn(count, 2), name="bold", intent="NIFTI_INTENT_NONE")
        write(folder, side, drawn(count, 1), name="desc-one_bold")
    reading = read(folder)
    assert not reading.series
    assert {"bold_0", "bold_1", "one_bold"} <= set(reading.graph.tables["surface"].columns)


def test_a_run_of_another_mesh_is_refused_by_name(folder):
    left, right = nodes(folder).values()
    write(folder, "L", drawn(left))
    path = write(folder, "R", drawn(right - 5))
    with pytest.raises(
        InputError, match=f"{path.name}: has {right - 5} values, but the mesh of hemisphere R has {right}"
    ):
        read(folder)
    image = MGHImage(drawn(right + 1).reshape(right + 1, 1, 1, -1), np.eye(4))
    path.unlink()
    image.to_filename(folder / "rh.rest.mgz")
    with pytest.raises(InputError, match=r"rh\.rest\.mgz: has .* it belongs to another mesh"):
        read(folder)


def test_runs_that_do_not_fit_together_are_refused_or_left_out(folder):
    left, right = nodes(folder).values()
    first = write(folder, "L", drawn(left))
    reading = read(folder)
    assert not reading.series
    assert any("series 'bold' is missing in hemisphere R" in warning for warning in reading.warnings)
    second = write(folder, "R", drawn(right, 20))
    with pytest.raises(InputError, match=f"{second.name}: has 20 frames, .*{first.name} has 30"):
        read(folder)
    write(folder, "R", drawn(right))
    write(folder, "L", drawn(left), name="task-faces_bold")
    with pytest.raises(InputError, match="a second series 'bold'"):
        read(folder)


def test_vertices_with_gaps_are_told_and_not_observed(folder):
    for side, count in nodes(folder).items():
        values = drawn(count)
        values[7, 3], values[9, 0] = np.nan, 3e38
        write(folder, side, values)
    reading = read(folder)
    assert sum("2 vertices have frames without a value" in warning for warning in reading.warnings) == 2
    data = VertexSeries.Config().build(Brain(graph=reading.graph, series=reading.series))
    assert (~data.observed).sum() == 4
    assert not data.observed[[7, 9]].any()


def test_damaged_files_are_named(folder):
    side, count = next(iter(nodes(folder).items()))
    path = folder / f"{side.lower()}h.rest.mgz"
    MGHImage(drawn(count).reshape(count, 1, 1, -1), np.eye(4)).to_filename(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"lh\.rest\.mgz"):
        read(folder)
    path.unlink()
    path = folder / f"{side.lower()}h.rest.mgh"
    MGHImage(drawn(count).reshape(count, 1, 1, -1), np.eye(4)).to_filename(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"lh\.rest\.mgh: its header declares .* truncated or damaged"):
        read(folder)
