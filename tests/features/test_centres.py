"""Nodes beside their section: patches are centred where the section meets the midsurface; stacks told apart."""

import os
from pathlib import Path

import numpy as np
import pytest

from features import extract as extraction
from features import pretrain as pretraining
from features.content import image_key, nodes_key
from features.encoders.section_cnn import SectionCNN
from features.locations import centres
from features.model_files import new_encoder, save_encoder
from features.node_data.section_patches import SectionPatches
from features.section_brain import read_reconstruction
from meshgnn.errors import InputError
from meshgnn.export.gifti import write_surface
from meshgnn.sockets import Brain
from meshgnn.source.aligned import write_aligned
from meshgnn.source.sections import read_stack
from tests.features.sections import annotated_brain, write_locations
from tests.features.test_profiles import normal, slab

PATCHES = SectionPatches.Config(size_px=24, pixel_um=100.0)


@pytest.mark.parametrize("oblique", [-45, 0, 45])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_node_beside_its_section_shows_the_cortex_that_it_lies_in(tmp_path: Path, oblique: int, mirrored: bool):
    (tmp_path / "in").mkdir()
    (tmp_path / "beside").mkdir()
    graph, stack = slab(tmp_path / "in", normal(-70, oblique), mirrored=mirrored)
    inside = SectionPatches(PATCHES, stack, graph.locations).read(range(graph.n_nodes)).mean(axis=(0, 2))
    graph, stack = slab(tmp_path / "beside", normal(-70, oblique), beside_mm=1.0, mirrored=mirrored)
    places = np.arange(graph.n_nodes)
    met = PATCHES.build(Brain(graph=graph, sections=stack)).read(places).mean(axis=(0, 2))
    np.testing.assert_allclose(met, inside, atol=0.03)
    if oblique:
        projected = SectionPatches(PATCHES, stack, graph.locations).read(places).mean(axis=(0, 2))
        assert np.abs(projected - inside).max() > 0.2


def test_a_section_along_the_surface_does_not_throw_its_patches_away(tmp_path: Path):
    graph, stack = slab(tmp_path, normal(-70, 85), beside_mm=1.0)
    found = centres(graph, stack)
    moved = np.hypot(found.row_px - graph.locations.row_px, found.column_px - graph.locations.column_px) * 0.05
    assert 1.5 < moved.min() <= moved.max() < 2


def test_a_reconstruction_on_disk_gives_the_same_centres(tmp_path: Path):
    graph, stack = slab(tmp_path, normal(-70, 45), beside_mm=1.0)
    out = write_locations(tmp_path / "r", graph.locations)
    for name in ("midthickness", "pial", "white"):
        mesh = graph.meshes[0].with_vertices(graph.surfaces.get(name, graph.vertices_mm))
        write_surface(out / f"sub-x_hemi-L_{name}.surf.gii", mesh)
    expected, found = centres(graph, stack), centres(read_reconstruction(out, stack.space), stack)
    np.testing.assert_allclose(found.row_px, expected.row_px, atol=1e-3)
    np.testing.assert_allclose(found.column_px, expected.column_px, atol=1e-3)
    (out / "sub-x_hemi-L_pial.surf.gii").unlink()
    with pytest.raises(InputError, match="pial"):
        read_reconstruction(out, stack.space)


def test_a_reconstruction_of_another_stack_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stack, reconstruction = annotated_brain(tmp_path / "a")
    image = stack / "s1.tif"
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)

    def told(main, *options: str) -> str:
        words = [word for one in options for word in ("--set", one)]
        assert main([*words, "--out", str(tmp_path / "o")]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    data = SectionPatches.Config(size_px=16, pixel_um=100.0)
    save_encoder(
        tmp_path / "e",
        new_encoder(SectionCNN.Config(widths=(8, 16), out_channels=8, depth_bands=2), data, (16, 16)),
        {},
    )
    places = (f"reconstruction={reconstruction}", f"stack={stack}")
    extract = (extraction.main, *places, f"encoder={tmp_path / 'e'}")
    pretrain = (pretraining.main, f"reconstructions={reconstruction}", f"stacks={stack}", "epochs=1", "epoch_steps=1")
    for command in (extract, pretrain):
        assert "s1.tif: not the image of section 1" in told(*command)
    write_aligned(reconstruction, read_stack(stack))
    assert "encoder.json" in told(extraction.main, *places, f"encoder={tmp_path}")
    (reconstruction / "sections.json").write_text('{"sections": [{"index": 0}]}')
    assert "reconstruct the stack again" in told(*pretrain)
    (reconstruction / "sections.json").write_text('{"sections": [{"index": 9, "image": "", "pixel_um": 100}]}')
    assert "no section 9" in told(*extract)


def test_images_are_told_apart_by_content(tmp_path: Path):
    stack, reconstruction = annotated_brain(tmp_path / "a")
    sections = read_stack(stack)
    where = centres(read_reconstruction(reconstruction, sections.space), sections)
    before, image = nodes_key(sections, where), sections.sections[1].path
    assert nodes_key(sections, where) == before
    content, about = bytearray(image.read_bytes()), image.stat()
    content[-1] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert image.stat().st_size == about.st_size
    assert nodes_key(sections, where) != before
    assert image_key(sections.sections[1].path) != image_key(sections.sections[2].path)
