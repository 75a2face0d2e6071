"""Surface folders: what is read, in every format, and what is refused in one line."""

import base64
import gzip
import shutil
import zlib

import nibabel as nib
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.gifti import write_labels, write_scalars, write_surface, write_surface_folder
from meshgnn.graph import Areas
from meshgnn.source import gifti
from meshgnn.source.surface_folder import SurfaceFolder
from tests.synthetic import brain, sphere


def read(folder, **settings):
    return SurfaceFolder.Config(folder=folder, **settings).build().read()


def test_a_folder_that_we_wrote_comes_back(folder):
    graph, back = brain(), read(folder)
    assert back.graph.brain == "Ball"
    assert back.atlas == "Planted"
    assert back.warnings == ()
    np.testing.assert_array_equal(back.graph.labels, graph.labels)
    np.testing.assert_array_equal(back.graph.cortex, graph.cortex)
    np.testing.assert_array_equal(back.graph.vertices_mm, graph.vertices_mm)
    assert back.graph.areas.names == graph.areas.names
    np.testing.assert_allclose(back.graph.areas.colours, graph.areas.colours)
    table = back.graph.tables["surface"]
    assert table.columns == ("a", "b", "c", "junk")
    inside = graph.cortex
    np.testing.assert_array_equal(table.values[inside], graph.tables["surface"].values[inside])
    assert set(back.graph.surfaces) == {"pial", "white"}


def test_midthickness_is_the_mean_of_pial_and_white_where_absent(folder):
    for path in folder.glob("*midthickness*"):
        path.unlink()
    graph = read(folder).graph
    np.testing.assert_allclose(graph.vertices_mm, brain().vertices_mm, atol=1e-4)


def test_nan_outside_the_mask_is_ignored_inside_it_is_masked_and_counted(folder):
    graph = brain()
    mesh = graph.meshes[0]
    values = graph.tables["surface"].values[: mesh.n_vertices, :1].copy()
    inside = np.flatnonzero(graph.cortex[: mesh.n_vertices])
    values[~graph.cortex[: mesh.n_vertices]] = np.nan
    write_scalars(folder / "sub-Ball_hemi-L_desc-a.shape.gii", mesh, values, ["a"])
    assert read(folder).warnings == ()
    values[inside[:7]] = np.nan
    write_scalars(folder / "sub-Ball_hemi-L_desc-a.shape.gii", mesh, values, ["a"])
    reading = read(folder)
    assert any("7 vertices" in warning for warning in reading.warnings)
    tables = reading.graph.tables
    assert not tables["surface a"].mask[inside[:7]].any()
    assert tables["surface"].columns == ("b", "c", "junk")  # the gaps of a feature are its own: it can be left out
    assert tables["surface"].mask[graph.cortex].all()
    values[:] = np.nan
    write_scalars(folder / "sub-Ball_hemi-L_desc-a.shape.gii", mesh, values, ["a"])
    reading = read(folder)
    assert "feature 'a' has no value in 100% of the cortex of hemisphere L; left out" in reading.warnings
    assert list(reading.graph.tables) == ["surface"]


def test_freesurfer_files_are_read(tmp_path):
    graph = brain()
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        side = f"{mesh.hemisphere.lower()}h"
        (tmp_path / "surf").mkdir(exist_ok=True)
        (tmp_path / "label").mkdir(exist_ok=True)
        for name in ("pial", "white"):
            points = graph.surfaces[name][place].astype(float)
            nib.freesurfer.write_geometry(str(tmp_path / "surf" / f"{side}.{name}"), points, mesh.faces)
        nib.freesurfer.write_geometry(str(tmp_path / "surf" / f"{side}.sphere"), mesh.vertices_mm, mesh.faces)
        values = graph.tables["surface"].values[place]
        nib.freesurfer.write_morph_data(str(tmp_path / "surf" / f"{side}.thickness"), values[:, 0])
        nib.freesurfer.write_morph_data(str(tmp_path / "surf" / f"{side}.curv"), values[:, 1])
        colours = np.array([[k * 20, 10, 200, 0, 0] for k in range(5)])
        names = ["unknown", "A1", "A2", "A3", "A4"]
        nib.freesurfer.write_annot(
            str(tmp_path / "label" / f"{side}.planted.annot"), graph.labels[place] + 1, colours, names, fill_ctab=True
        )
        cortex = np.flatnonzero(graph.cortex[place])
        with (tmp_path / "label" / f"{side}.cortex.label").open("w") as handle:
            handle.write(f"#!ascii label\n{len(cortex)}\n")
            handle.writelines(f"{vertex} 0.0 0.0 0.0 0.0\n" for vertex in cortex)
    reading = read(tmp_path)
    np.testing.assert_array_equal(reading.graph.labels, graph.labels)
    np.testing.assert_array_equal(reading.graph.cortex, graph.cortex)
    np.testing.assert_allclose(reading.graph.vertices_mm, graph.vertices_mm, atol=1e-3)
    assert reading.graph.areas.names == ("A1", "A2", "A3", "A4")
    assert set(reading.graph.tables["surface"].columns) == {"thickness", "curv"}


def test_cifti_scalars_and_labels_are_read(folder):
    graph = brain()
    models = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        name = {"L": "left", "R": "right"}[mesh.hemisphere]
        models.append(nib.cifti2.BrainModelAxis.from_mask(graph.cortex[place], name=f"cortex_{name}"))
    axis = models[0] + models[1]
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, len(axis))).astype(np.float32)
    scalar = nib.Cifti2Image(values, (nib.cifti2.ScalarAxis(["myelin", "flat"]), axis))
    nib.save(scalar, folder / "sub-Ball_desc-maps.dscalar.nii")
    table = {0: ("???", (0, 0, 0, 0)), 3: ("P", (1, 0, 0, 1)), 9: ("Q", (0, 1, 0, 1))}
    keys = rng.choice([0, 3, 9], size=(1, len(axis))).astype(np.float32)
    nib.save(
        nib.Cifti2Image(keys, (nib.cifti2.LabelAxis(["two"], [table]), axis)), folder / "sub-Ball_atlas-Two.dlabel.nii"
    )
    reading = read(folder, atlas="Two")
    columns = reading.graph.tables["surface"].columns
    assert "maps_myelin" in columns
    column = reading.graph.tables["surface"].values[:, columns.index("maps_myelin")]
    np.testing.assert_allclose(column[graph.cortex], values[0])
    assert reading.graph.areas.names == ("P", "Q")
    assert reading.graph.areas.keys == (3, 9)
    np.testing.assert_array_equal(reading.graph.labels[graph.cortex] == 1, keys[0] == 9)


def test_areas_named_by_side_are_one_area(tmp_path):
    graph = brain()
    write_surface_folder(tmp_path, graph._replace(labels=np.full(graph.n_nodes, -1), areas=Areas(names=())), "none")
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        side = mesh.hemisphere
        start = 1 if side == "L" else 181
        areas = Areas(names=tuple(f"{side}_V{k}" for k in range(4)), keys=tuple(start + k for k in range(4)))
        write_labels(tmp_path / f"sub-Ball_hemi-{side}_atlas-X_dseg.label.gii", mesh, graph.labels[place], areas)
    back = read(tmp_path).graph
    assert back.areas.names == ("V0", "V1", "V2", "V3")
    np.testing.assert_array_equal(back.labels, graph.labels)


def test_real_folders(real_data):
    big = read(real_data / "bigbrain")
    assert int((big.graph.labels >= 0).sum()) == 9705 + 9675
    assert big.graph.areas.names == ("KO", "EU3", "EU2", "EU1", "DG", "AG", "ALO")
    conte = read(real_data / "conte69", atlas="Economo5")
    assert conte.warnings == ()  # its 6,426 NaN vertices all lie outside the mask
    assert int(conte.graph.cortex.sum()) == 29098 + 29063


# -- bad input -----------------------------------------------------------------------------------------------------


def refused(folder, message, **settings):
    with pytest.raises(InputError, match=message) as caught:
        read(folder, **settings)
    assert "\n" not in str(caught.value)


def test_folders_that_are_not_there(tmp_path, folder):
    refused(tmp_path / "nowhere", "no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no surface files found")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is a file")
    refused(folder, "no atlas 'Nope'; there is Planted", atlas="Nope")
    refused(folder, "no brain 'X'; there is Ball", brain="X")
    for path in folder.glob("*hemi-R*"):
        path.unlink()
    refused(folder, "no surface of hemisphere R", hemispheres=("L", "R"))
    assert len(read(folder).graph.meshes) == 1


def test_two_brains_need_a_choice(folder):
    for path in list(folder.glob("sub-Ball_hemi-L*")):
        shutil.copy(path, folder / path.name.replace("Ball", "Other"))
    refused(folder, "choose one with --set source.brain=Ball")


def test_files_of_another_mesh(folder):
    small = sphere(2)
    write_scalars(folder / "sub-Ball_hemi-L_desc-a.shape.gii", small, np.zeros((small.n_vertices, 1)), ["a"])
    refused(folder, r"desc-a\.shape\.gii: has 162 values, but the mesh of hemisphere L has 642")
    (folder / "sub-Ball_hemi-L_desc-a.shape.gii").unlink()
    write_labels(
        folder / "sub-Ball_hemi-R_atlas-Planted_dseg.label.gii",
        small,
        np.zeros(small.n_vertices, int),
        Areas(names=("a",)),
    )
    refused(folder, "atlas-Planted.*another mesh")
    write_surface(folder / "sub-Ball_hemi-L_pial.surf.gii", small)
    refused(folder, r"pial\.surf\.gii")


@pytest.mark.parametrize("cut", [0, 10, 500, 2000, -30])
def test_truncated_gifti(folder, cut):
    path = folder / "sub-Ball_hemi-L_midthickness.surf.gii"
    path.write_bytes(path.read_bytes()[:cut])
    refused(folder, r"midthickness\.surf\.gii: ")


def test_noise_instead_of_files(folder):
    rng = np.random.default_rng(0)
    for name in ("desc-a.shape.gii", "midthickness.surf.gii", "atlas-Planted_dseg.label.gii"):
        kept = (folder / f"sub-Ball_hemi-L_{name}").read_bytes()
        (folder / f"sub-Ball_hemi-L_{name}").write_bytes(rng.bytes(3000))
        refused(folder, name.split("_")[0])
        (folder / f"sub-Ball_hemi-L_{name}").write_bytes(kept)
    (folder / "lh.thickness").write_bytes(b"\xff\xff\xff" + rng.bytes(5))
    refused(folder, r"lh\.thickness: ")
    (folder / "lh.thickness").unlink()
    (folder / "sub-Ball_desc-x.dscalar.nii").write_bytes(rng.bytes(4000))
    refused(folder, "not a readable CIFTI-2")


def test_xml_entities_are_refused(folder):
    path = folder / "sub-Ball_hemi-L_desc-a.shape.gii"
    text = path.read_text()
    bomb = '<!DOCTYPE GIFTI [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    start = text.index("<!DOCTYPE")
    path.write_text(text[:start] + bomb + text[text.index(">", start) + 1 :])
    refused(folder, "XML entity")
    outside = '<!DOCTYPE GIFTI [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    path.write_text(text[:start] + outside + text[text.index(">", start) + 1 :])
    refused(folder, "XML entity")


def test_more_data_than_declared_is_refused(tmp_path):
    mesh = sphere(1)
    path = tmp_path / "x.shape.gii"
    write_scalars(path, mesh, np.zeros((mesh.n_vertices, 1)), ["a"])
    text = path.read_text()
    start, end = text.index("<Data>") + 6, text.index("</Data>")
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    path.write_text(text[:start] + bomb + text[end:])
    with pytest.raises(InputError, match="holds more"):
        gifti.read_gifti(path)
    path.write_text(text.replace("GZipBase64Binary", "ExternalFileBinary"))
    with pytest.raises(InputError, match="another file"):
        gifti.read_gifti(path)
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InputError, match="not a complete GIfTI"):
        gifti.read_gifti(path)


def test_a_key_without_a_name_is_refused(folder):
    path = folder / "sub-Ball_hemi-L_atlas-Planted_dseg.label.gii"
    image = nib.load(path)
    image.labeltable.labels = [label for label in image.labeltable.labels if label.key != 2]
    nib.save(image, path)
    refused(folder, "key 2 is used but not in its label table")
