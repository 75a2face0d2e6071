"""Folders as FreeSurfer, fMRIPrep and the Human Connectome Project write them."""

import nibabel as nib
import numpy as np
import pytest

from features.geometry import Geometry
from meshgnn.data.derived import with_computed
from meshgnn.errors import InputError
from meshgnn.export.gifti import write_labels, write_scalars, write_surface, write_surface_folder
from meshgnn.graph import Areas
from meshgnn.progress import silent
from meshgnn.sockets import Brain
from meshgnn.source.cifti import read_labels
from meshgnn.source.surface_folder import SurfaceFolder
from tests.synthetic import brain, sphere


def read(folder, **settings):
    return SurfaceFolder.Config(folder=folder, **settings).build().read()


def on_a_sphere(points, side):
    """A registered sphere: radius 100 mm about the origin."""
    away = points - points.mean(0)
    return (100 * away / np.linalg.norm(away, axis=1, keepdims=True) * [side, 1, 1]).astype(np.float32)


@pytest.fixture
def subject(tmp_path):
    """A FreeSurfer subject with the files that recon-all leaves."""
    graph = brain()
    for name in ("surf", "label", "mri"):
        (tmp_path / name).mkdir()
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        surf, side = tmp_path / "surf", f"{mesh.hemisphere.lower()}h"

        def surface(name, points, faces=mesh.faces):
            nib.freesurfer.write_geometry(str(surf / f"{side}.{name}"), points.astype(float), faces)  # noqa: B023

        for name in ("pial", "white"):
            surface(name, graph.surfaces[name][place])
        for name in ("smoothwm", "inflated", "sphere"):
            surface(name, mesh.vertices_mm)
        surface("sphere.reg", on_a_sphere(mesh.vertices_mm, 1))
        unfixed = sphere(2)
        surface("orig", unfixed.vertices_mm, unfixed.faces)
        surface("orig.nofix", unfixed.vertices_mm, unfixed.faces)
        values = graph.tables["surface"].values[place]
        for k, name in enumerate(("thickness", "curv", "sulc")):
            nib.freesurfer.write_morph_data(str(surf / f"{side}.{name}"), values[:, k])
        nib.freesurfer.write_morph_data(str(surf / f"{side}.white.H"), values[:, 3])
        for name in ("defect_labels", "defect_borders"):
            nib.freesurfer.write_morph_data(str(surf / f"{side}.{name}"), np.zeros(unfixed.n_vertices, np.float32))
        colours = np.array([[k * 20, 10, 200, 0, 0] for k in range(5)])
        names = ["unknown", "A1", "A2", "A3", "A4"]
        nib.freesurfer.write_annot(
            str(tmp_path / "label" / f"{side}.aparc.annot"), graph.labels[place] + 1, colours, names, fill_ctab=True
        )
        (tmp_path / "label" / f"{side}.V1_exvivo.label").write_text("#!ascii label\n0\n")
    return tmp_path


def test_a_freesurfer_subject(subject):
    reading = read(subject)
    assert reading.graph.areas.names == ("A1", "A2", "A3", "A4")
    assert set(reading.graph.tables["surface"].columns) == {"thickness", "curv", "sulc", "white.H"}
    assert any("lh.defect_labels: 162 values, so it is of another mesh" in warning for warning in reading.warnings)
    assert any("lh.orig: left out" in warning for warning in reading.warnings)
    registered = reading.graph.surfaces["sphere_reg"]
    np.testing.assert_allclose(np.linalg.norm(registered, axis=1), 100, atol=0.01)
    np.testing.assert_allclose(registered[:642], on_a_sphere(brain().meshes[0].vertices_mm, 1), atol=1e-3)


def test_geometry_beside_measured_thickness(subject, tmp_path):
    graph = read(subject).graph
    with_it, told = with_computed(graph, Geometry.Config().build().make(Brain(graph=graph), tmp_path, silent))
    assert with_it.tables["geometry"].columns == ("curvature", "areaRatio")
    assert told == ["thickness: a file brings it, so it is not computed from the surfaces"]


def test_a_known_file_of_another_mesh_is_refused(subject):
    nib.freesurfer.write_morph_data(str(subject / "surf" / "lh.thickness"), np.zeros(162, np.float32))
    with pytest.raises(InputError, match=r"lh\.thickness: has 162 values"):
        read(subject)


@pytest.fixture
def hcp(tmp_path):
    """An HCP subject's folder fsaverage_LR32k, with and without MSMAll."""
    graph = brain()
    models, labels = [], []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        side = mesh.hemisphere
        for name in ("midthickness", "pial", "white"):
            points = mesh.vertices_mm if name == "midthickness" else graph.surfaces[name][place]
            write_surface(tmp_path / f"100307.{side}.{name}.32k_fs_LR.surf.gii", mesh.with_vertices(points))
            moved = mesh.with_vertices(points + np.float32(0.5))
            write_surface(tmp_path / f"100307.{side}.{name}_MSMAll.32k_fs_LR.surf.gii", moved)
        write_surface(
            tmp_path / f"100307.{side}.sphere.32k_fs_LR.surf.gii", mesh.with_vertices(on_a_sphere(mesh.vertices_mm, 1))
        )
        write_surface(tmp_path / f"100307.{side}.very_inflated.32k_fs_LR.surf.gii", mesh)
        name = {"L": "left", "R": "right"}[side]
        models.append(nib.cifti2.BrainModelAxis.from_mask(graph.cortex[place], name=f"cortex_{name}"))
        labels.append(graph.labels[place][graph.cortex[place]] + (1 if side == "L" else 5))
    axis = models[0] + models[1]
    inside = graph.tables["surface"].values[graph.cortex]
    for k, name in enumerate(("MyelinMap", "thickness")):
        for variant in ("", "_MSMAll"):
            image = nib.Cifti2Image(inside[:, k][None] + len(variant), (nib.cifti2.ScalarAxis([name]), axis))
            nib.save(image, tmp_path / f"100307.{name}{variant}.32k_fs_LR.dscalar.nii")
    table = {0: ("???", (0, 0, 0, 0))}
    table |= {side * 4 + k + 1: (f"{'LR'[side]}_A{k + 1}_ROI", (0.2 * k, 0, 1, 1)) for side in (0, 1) for k in range(4)}
    image = nib.Cifti2Image(
        np.concatenate(labels)[None].astype(np.float32), (nib.cifti2.LabelAxis(["a"], [table]), axis)
    )
    nib.save(image, tmp_path / "Q1-Q6_RelatedValidation210.CorticalAreas_dil.32k_fs_LR.dlabel.nii")
    return tmp_path


def test_an_hcp_subject(hcp):
    with pytest.raises(InputError, match="holds 2 of space: 32k_fs_LR, 32k_fs_LR_MSMAll; choose one"):
        read(hcp)
    graph = brain()
    for space, shift, added in (("32k_fs_LR", 0, 0), ("32k_fs_LR_MSMAll", 0.5, 7)):
        reading = read(hcp, space=space)
        made = reading.graph
        assert (made.brain, made.space) == ("100307", space)
        np.testing.assert_allclose(made.vertices_mm, graph.vertices_mm + np.float32(shift), atol=1e-5)
        np.testing.assert_array_equal(made.cortex, graph.cortex)
        assert any("no cortex mask" in warning for warning in reading.warnings)
        assert made.tables["surface"].columns == ("MyelinMap", "thickness")
        np.testing.assert_allclose(
            made.tables["surface"].values[graph.cortex, 0],
            graph.tables["surface"].values[graph.cortex, 0] + added, atol=1e-5,
        )  # fmt: skip
        assert [name.replace("_ROI", "") for name in made.areas.names] == ["A1", "A2", "A3", "A4"]
        np.testing.assert_array_equal(made.labels, graph.labels)
        assert "sphere_reg" in made.surfaces


def test_an_hcp_mask_and_gifti_labels(hcp):
    graph = brain()
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        stem = f"100307.{mesh.hemisphere}"
        write_scalars(hcp / f"{stem}.atlasroi.32k_fs_LR.shape.gii", mesh, graph.cortex[place][:, None] * 1.0, ["roi"])
        write_labels(hcp / f"{stem}.aparc.32k_fs_LR.label.gii", mesh, graph.labels[place], graph.areas)
    for space in ("32k_fs_LR", "32k_fs_LR_MSMAll"):
        reading = read(hcp, space=space, atlas="aparc")
        assert reading.warnings == ()
        np.testing.assert_array_equal(reading.graph.cortex, graph.cortex)
        np.testing.assert_array_equal(reading.graph.labels, graph.labels)


def test_an_fmriprep_subject(tmp_path):
    """Surfaces in the subject's own space beside what was sampled to templates."""
    graph, other = brain(), sphere(2)
    rng = np.random.default_rng(0)
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        stem = f"sub-01_hemi-{mesh.hemisphere}"
        write_surface(tmp_path / f"{stem}_pial.surf.gii", mesh.with_vertices(graph.surfaces["pial"][place]))
        write_surface(tmp_path / f"{stem}_white.surf.gii", mesh.with_vertices(graph.surfaces["white"][place]))
        sphere_mm = on_a_sphere(mesh.vertices_mm, 1)
        write_surface(tmp_path / f"{stem}_desc-reg_sphere.surf.gii", mesh.with_vertices(sphere_mm))
        write_scalars(tmp_path / f"{stem}_thickness.shape.gii", mesh, rng.normal(size=(642, 1)), ["thickness"])
        for space in ("fsaverage4", "fsaverage3"):
            values = rng.normal(size=(other.n_vertices, 2))
            write_scalars(tmp_path / f"{stem}_space-{space}_bold.func.gii", other, values, ["a", "b"])
    reading = read(tmp_path)
    assert (reading.graph.brain, reading.graph.space) == ("01", "01")
    assert reading.graph.tables["surface"].columns == ("thickness",)
    assert set(reading.graph.surfaces) == {"pial", "white", "sphere_reg"}
    assert sum("of another mesh; left out" in warning for warning in reading.warnings) == 4


# -- registered spheres ------------------------------------------------------------------------------------------------


def test_the_best_registered_sphere_is_read(folder):
    graph = brain()
    for mesh in graph.meshes:
        stem = f"sub-Ball_hemi-{mesh.hemisphere}"
        for name, turn in (("desc-reg", 1), ("space-fsLR_desc-reg", -1)):
            points = on_a_sphere(mesh.vertices_mm, turn)
            write_surface(folder / f"{stem}_{name}_sphere.surf.gii", mesh.with_vertices(points))
    reading = read(folder)
    assert reading.graph.space == "Ball"  # the sphere's own space is not the brain's
    assert any("several registered spheres; sub-Ball_hemi-L_space-fsLR" in warning for warning in reading.warnings)
    left = graph.meshes[0].vertices_mm
    registered = reading.graph.surfaces["sphere_reg"]
    np.testing.assert_allclose(registered[:642], on_a_sphere(left, -1), atol=1e-3)
    write_surface_folder(folder / "again", reading.graph, "Planted")
    np.testing.assert_array_equal(read(folder / "again").graph.surfaces["sphere_reg"], registered)


@pytest.mark.parametrize("broken", ["missing", "no sphere", "other mesh"])
def test_a_registered_sphere_that_cannot_be_used_is_left_out(folder, broken):
    left, right = brain().meshes
    write_surface(
        folder / "sub-Ball_hemi-L_desc-reg_sphere.surf.gii", left.with_vertices(on_a_sphere(left.vertices_mm, 1))
    )
    path = folder / "sub-Ball_hemi-R_desc-reg_sphere.surf.gii"
    if broken != "missing":
        write_surface(path, right if broken == "no sphere" else sphere(2, hemisphere="R"))
    reading = read(folder)
    assert "sphere_reg" not in reading.graph.surfaces
    assert any("sphere" in warning and "left out" in warning for warning in reading.warnings)


def test_a_native_space_is_the_brains_own(tmp_path):
    for mesh in brain().meshes:
        write_surface(tmp_path / f"100307.{mesh.hemisphere}.midthickness.native.surf.gii", mesh)
    assert read(tmp_path).graph.space == "100307native"


# -- labels ------------------------------------------------------------------------------------------------------------


def test_large_keys_and_empty_names(folder):
    graph = brain()
    areas = Areas(names=graph.areas.names, keys=(70_000, 5, 2**31 - 1, 9))
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        path = folder / f"sub-Ball_hemi-{mesh.hemisphere}_atlas-Planted_dseg.label.gii"
        write_labels(path, mesh, graph.labels[place], areas)
        path.write_text(path.read_text().replace("<![CDATA[A2]]>", "").replace(">A2<", "><"))
    back = read(folder).graph
    assert set(back.areas.names) == {"A1", "5", "A3", "A4"}  # a nameless area goes by its key
    assert set(back.areas.keys) == {70_000, 5, 2**31 - 1, 9}
    assert (back.labels >= 0).sum() == (graph.labels >= 0).sum()


def test_large_keys_of_cifti_labels(tmp_path):
    """Keys up to 2^31 - 1, whether the file stores whole numbers or, as is usual, single precision."""
    axis = nib.cifti2.BrainModelAxis.from_mask(np.ones(6, bool), name="cortex_left")

    def stored(dtype, *keys):
        table = {0: ("???", (0, 0, 0, 0))} | {key: (f"A{key}", (0, 1, 0, 1)) for key in keys}
        data = np.array([[0, *keys, *keys[:1], 0, 0, 0]])[:, :6].astype(dtype)
        image = nib.Cifti2Image(data, (nib.cifti2.LabelAxis(["a"], [table]), axis))
        image.nifti_header.set_data_dtype(dtype)
        path = tmp_path / "sub-A_atlas-B.dlabel.nii"
        nib.save(image, path)
        found, names = read_labels(path, "L")
        assert found.dtype == np.int32
        assert names[keys[0]][0] == f"A{keys[0]}"
        return found.tolist()

    close = (2**24 + 1, 2**24 + 2, 2**31 - 1)
    assert stored(np.int32, *close) == [0, *close, close[0], 0]
    apart = (2**24 + 1, 2**30 + 3)  # 2^24 and 2^30 in single precision
    assert stored(np.float32, *apart) == [0, *apart, apart[0], 0, 0]
    assert stored(np.float64, *close) == [0, *close, close[0], 0]
    with pytest.raises(InputError, match=r"keys 16777216 and 16777217 are one number; write them as int32"):
        stored(np.float32, 2**24, 2**24 + 1)
    with pytest.raises(InputError, match=r"up to 2147483647; number its areas anew"):
        stored(np.float64, 2**31)
