"""Headers that declare more than the file holds, or more than a stated limit: refused before memory is taken."""

import base64
import resource
import struct
import zlib

import nibabel as nib
import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.gifti import write_scalars
from meshgnn.source import cifti, freesurfer, gifti
from tests.synthetic import sphere

MIB = 1 << 20


@pytest.fixture
def little_memory():
    """1.5 GiB of address space beyond what is taken: nothing may ask for what a header claims."""
    with open("/proc/self/statm") as handle:
        taken = int(handle.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 1536 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(read, path, message):
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.fixture
def shape(tmp_path):
    """A small .shape.gii as text that can be edited."""
    mesh = sphere(1)
    path = tmp_path / "x.shape.gii"
    write_scalars(path, mesh, np.zeros((mesh.n_vertices, 1)), ["a"])
    text = path.read_text()
    start, end = text.index("<Data>") + 6, text.index("</Data>")
    return path, lambda data, **edits: path.write_text(
        _edit(text[:start], edits) + data + text[end:] if data else _edit(text, edits)
    )


def _edit(text, edits):
    for old, new in edits.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def bomb(size):
    """Zeros that unpack to `size` bytes: one packed block, repeated."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return base64.b64encode(b"\x78\xda" + block * (size // MIB)).decode()


def test_a_zip_bomb_stays_small(shape, little_memory):
    path, write = shape
    data = bomb(2048 * MIB)
    write(data)
    refused(gifti.read_values, path, "holds more")
    for alias in ("B64GZ", "3", "GIFTI_ENCODING_B64GZ"):
        write(data, GZipBase64Binary=alias)
        refused(gifti.read_values, path, "encoding")
    write(data, **{'Dim0="42"': f'Dim0="{512 * MIB}"'})  # an honest bomb
    refused(gifti.read_values, path, "declares 2.0 GiB of data")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({'Dim0="42"': 'Dim0="1000000000000"'}, "header declares 4000000000000 bytes"),
        ({'Dim0="42"': 'Dim0="-1"'}, "negative"),
        ({'Dim0="42"': 'Dim0="x"'}, "dimensions"),
        ({'Dim0="42"': 'Dim0="43"'}, "declares 172 bytes"),
        ({'Dimensionality="1"': 'Dimensionality="2"'}, "dimensions"),
        ({"NIFTI_TYPE_FLOAT32": "NIFTI_TYPE_RGB24"}, "data type"),
        ({"NIFTI_TYPE_FLOAT32": "NIFTI_TYPE_COMPLEX64"}, "data type"),
        ({"GZipBase64Binary": "Zstd"}, "encoding"),
        ({"GZipBase64Binary": "Base64Binary"}, "declares 168 bytes"),
    ],
)
def test_gifti_headers(shape, edit, message):
    path, write = shape
    write("", **edit)
    refused(gifti.read_values, path, message)


def test_a_truncated_gzip_in_gifti(shape):
    path, write = shape
    write(base64.b64encode(zlib.compress(np.random.default_rng(0).bytes(168))[:-30]).decode())
    refused(gifti.read_values, path, "ends in the middle of a data array")


def test_text_in_one_line_is_read(shape):
    path, write = shape
    write(" ".join(str(k) for k in range(42)), GZipBase64Binary="ASCII")
    np.testing.assert_array_equal(gifti.read_values(path)[0][:, 0], np.arange(42))
    write("1 2 3", GZipBase64Binary="ASCII")
    refused(gifti.read_values, path, "cannot reshape array of size 3")


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        (freesurfer.read_surface, b"\xff\xff\xfemade\n\n" + struct.pack(">2i", 2**31 - 1, 2**31 - 1)),
        (freesurfer.read_surface, b"\xff\xff\xfemade\n\n" + struct.pack(">2i", -5, 10)),
        (freesurfer.read_surface, b"\xff\xff\xfemade"),
        (freesurfer.read_surface, b"\xff\xff\xff" + b"\xff\xff\xff" * 2),
        (freesurfer.read_values, b"\xff\xff\xff" + struct.pack(">3i", 2**31 - 1, 0, 1) + bytes(100)),
        (freesurfer.read_values, b"\xff\xff\xff" + struct.pack(">3i", 4, 0, 1) + bytes(15)),
        (freesurfer.read_values, b"\xff\xff\xff" + struct.pack(">3i", 4, 0, 3) + bytes(48)),
        (freesurfer.read_values, b"\xff\xff\xfe\x00\x00\x00" + bytes(100)),
        (freesurfer.read_annotation, struct.pack(">i", 2**31 - 1) + bytes(100)),
        (freesurfer.read_annotation, struct.pack(">5i", 1, 0, 0, 1, 2**31 - 1) + bytes(100)),
        (freesurfer.read_annotation, struct.pack(">6i", 1, 0, 0, 1, -2, 2**31 - 1) + bytes(100)),
        (freesurfer.read_annotation, b""),
        (freesurfer.read_vertex_list, b"#!ascii label\n1\n-4 0 0 0 0\n"),
        (freesurfer.read_vertex_list, b"#!ascii label\n1\nnose 0 0 0 0\n"),
    ],
)
def test_freesurfer_headers(tmp_path, little_memory, reader, content):
    path = tmp_path / "lh.file"
    path.write_bytes(content)
    refused(reader, path, "lh.file")


def test_cifti_headers(tmp_path, little_memory, capfd):
    axis = nib.cifti2.BrainModelAxis.from_mask(np.ones(50, bool), name="cortex_left")
    path = tmp_path / "x.dscalar.nii"
    nib.save(nib.Cifti2Image(np.zeros((1, 50), np.float32), (nib.cifti2.ScalarAxis(["a"]), axis)), path)
    whole = path.read_bytes()
    assert cifti.read_scalars(path, "L")[0].shape == (50, 1)
    assert cifti.read_scalars(path, "R") is None
    header = bytearray(whole)
    header[16 + 8 * 6 : 16 + 8 * 7] = struct.pack("<q", 10**12)  # dim[6] of NIfTI-2: vertices
    path.write_bytes(header)
    refused(lambda p: cifti.read_scalars(p, "L"), path, "declares 4000000000000 bytes|not a readable")
    path.write_bytes(whole[:-20])
    refused(lambda p: cifti.read_scalars(p, "L"), path, "truncated")
    path.write_bytes(whole.replace(b'SurfaceNumberOfVertices="50"', b'SurfaceNumberOfVertices="9999999999999"'))
    refused(lambda p: cifti.read_scalars(p, "L"), path, "not a readable|no surface file is that large")
    header = bytearray(whole)
    header[508:512] = struct.pack("<i", 77)  # sform_code
    path.write_bytes(header[:-20])
    refused(lambda p: cifti.read_scalars(p, "L"), path, "truncated")
    assert capfd.readouterr().err == ""  # one line, told by us
