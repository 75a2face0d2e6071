"""GIfTI files read with care: no entities, no external files, no data larger than declared. Parsing is nibabel's."""

import base64
import binascii
import zlib
from pathlib import Path
from xml.parsers import expat

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.limits import LIMIT_BYTES, check_declared
from meshgnn.source.socket import LabelTable

# nibabel takes further spellings ("B64GZ", "3"); what is not spelt as the standard spells it is refused.
_ENCODINGS = ("ASCII", "Base64Binary", "GZipBase64Binary")
# deflate makes at most 1032 bytes out of one, base64 takes four bytes for three.
_PACKING = {"ASCII": 8, "Base64Binary": 1, "GZipBase64Binary": 1032}
_BLOCK = 1 << 20
# The standard knows the first three; tools write the others too.
_ITEM_BYTES = {
    "NIFTI_TYPE_UINT8": 1, "NIFTI_TYPE_INT32": 4, "NIFTI_TYPE_FLOAT32": 4, "NIFTI_TYPE_FLOAT64": 8,
    "NIFTI_TYPE_INT8": 1, "NIFTI_TYPE_INT16": 2, "NIFTI_TYPE_UINT16": 2, "NIFTI_TYPE_UINT32": 4,
    "NIFTI_TYPE_INT64": 8, "NIFTI_TYPE_UINT64": 8,
}  # fmt: skip


class _Guard:
    """One pass over the XML that refuses what nibabel would trust."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self.length = length
        self.declared = 0
        self.total = 0
        self.encoding = ""
        self.text: list[str] | None = None

    def refuse(self, why: str) -> None:
        raise InputError(f"{self.path}: {why}")

    def entity(self, name: str, *_: object) -> None:
        self.refuse(f"declares the XML entity {name!r}, which a GIfTI file never needs; refused")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "DataArray":
            self.encoding = attributes.get("Encoding", "")
            if self.encoding.startswith("ExternalFile"):
                self.refuse("keeps its data in another file; write it with the data inside (Encoding=GZipBase64Binary)")
            if self.encoding not in _ENCODINGS:
                self.refuse(f"its encoding {self.encoding!r} is not one of {', '.join(_ENCODINGS)}")
            try:
                shape = [int(attributes[f"Dim{k}"]) for k in range(int(attributes.get("Dimensionality", "1")))]
            except (KeyError, ValueError):
                self.refuse("has a data array without dimensions")
            if any(size < 0 for size in shape):
                self.refuse("declares a negative array size")
            self.declared = int(np.prod(shape, dtype=object)) * self._item_bytes(attributes.get("DataType", ""))
            self.total += self.declared
            check_declared(self.path, self.total, self.length, packing=_PACKING[self.encoding])
        elif tag == "Data" and "Base64" in self.encoding:
            self.text = []

    def _item_bytes(self, kind: str) -> int:
        if kind not in _ITEM_BYTES:
            self.refuse(f"its data type {kind!r} is not one of {', '.join(_ITEM_BYTES)}")
        return _ITEM_BYTES[kind]

    def data(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def end(self, tag: str) -> None:
        if tag != "Data" or self.text is None:
            return
        try:
            raw = base64.b64decode("".join(self.text), validate=False)
            size = self._unpacked(raw) if self.encoding.startswith("GZip") else len(raw)
        except (binascii.Error, zlib.error) as error:
            self.refuse(f"holds damaged data ({error}); copy or write it again")
        self.text = None
        if size != self.declared:
            self.refuse(f"declares {self.declared} bytes of data but holds {'more' if size > self.declared else size}")

    def _unpacked(self, raw: bytes) -> int:
        """Bytes that `raw` unpacks to, counted block by block, no further than one block past what is declared."""
        decoder, size = zlib.decompressobj(), 0
        while not decoder.eof and size <= self.declared:
            block = decoder.decompress(raw, _BLOCK)
            raw = decoder.unconsumed_tail
            size += len(block)
            if not block and not raw and not decoder.eof:
                self.refuse("ends in the middle of a data array (truncated?); copy or write it again")
        return size


def read_gifti(path: Path) -> nib.GiftiImage:
    """A GIfTI image.

    Raises:
        InputError: missing, not GIfTI, truncated, with XML entities, with data in other files, with more data than
            it declares, or more than `LIMIT_BYTES`.
    """
    path = Path(path)
    try:
        if path.stat().st_size > 2 * LIMIT_BYTES:
            raise InputError(f"{path}: is larger than {2 * LIMIT_BYTES / 2**30:.0f} GiB; no surface file is")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not content.strip():
        raise InputError(f"{path}: the file is empty")
    guard = _Guard(path, len(content))
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = guard.entity
    parser.UnparsedEntityDeclHandler = guard.entity
    parser.StartElementHandler = guard.start
    parser.EndElementHandler = guard.end
    parser.CharacterDataHandler = guard.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise InputError(f"{path}: not a complete GIfTI file ({error}); copy or write it again") from None
    except (LookupError, ValueError) as error:  # an XML encoding that Python does not know
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable GIfTI file ({error})") from None
    try:
        image = nib.GiftiImage.from_bytes(content)
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise InputError(f"{path}: not a readable GIfTI file ({type(error).__name__}: {error})") from None
    if not isinstance(image, nib.GiftiImage):  # XML of another kind
        raise InputError(f"{path}: not a GIfTI file; copy or download it again")
    if not image.darrays:
        raise InputError(f"{path}: holds no data array")
    if any(array.data is None for array in image.darrays):
        raise InputError(f"{path}: has a data array without data")
    return image


def _whole(path: Path, values: NDArray[np.generic], what: str) -> NDArray[np.int32]:
    """`values` as int32. Raises InputError for fractions and for numbers beyond 32 bits."""
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        raise InputError(f"{path}: {what} must be whole numbers")
    if np.abs(numbers).max(initial=0) > np.iinfo(np.int32).max:
        raise InputError(f"{path}: {what} must not exceed 2147483647 (32 bits)")
    return values.astype(np.int32)


def read_surface(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices [V, 3] in mm and faces [F, 3] of a `.surf.gii`."""
    image = read_gifti(path)
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    triangles = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if not points or not triangles:
        raise InputError(f"{path}: not a surface (needs one point set and one triangle array)")
    vertices = np.asarray(points[0].data)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or triangles[0].data.ndim != 2 or triangles[0].data.shape[1] != 3:
        raise InputError(
            f"{path}: not a surface (points {vertices.shape} and triangles {triangles[0].data.shape}, needs [V, 3] and "
            "[F, 3])"
        )
    return vertices.astype(np.float32), _whole(path, triangles[0].data, "triangles")


def read_values(path: Path) -> tuple[NDArray[np.float32], list[str]]:
    """Values [V, C] of a `.shape.gii` or `.func.gii`, and the name each array carries ("" if none)."""
    image = read_gifti(path)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is no value
        columns = [np.asarray(array.data, np.float32) for array in image.darrays]
    if any(column.ndim == 0 for column in columns):
        raise InputError(f"{path}: holds a single number, needs one per vertex")
    columns = [column.reshape(len(column), -1) for column in columns]
    if len({len(column) for column in columns}) != 1:
        raise InputError(f"{path}: its arrays have different lengths")
    names = [str((array.meta or {}).get("Name", "") or "") for array in image.darrays]
    if any(column.shape[1] != 1 for column in columns):
        names = [""] * sum(column.shape[1] for column in columns)
    return np.concatenate(columns, axis=1), names


def read_labels(path: Path) -> tuple[NDArray[np.int32], LabelTable]:
    """Keys [V] of the first map of a `.label.gii` and its table: key -> (name, RGBA)."""
    image = read_gifti(path)
    keys = np.asarray(image.darrays[0].data)
    keys = keys[:, 0] if keys.ndim == 2 and keys.shape[1] == 1 else keys
    if keys.ndim != 1:
        raise InputError(f"{path}: label array has shape {keys.shape}, needs one key per vertex")
    table = {}
    for label in image.labeltable.labels:
        rgba = tuple(
            1.0 if value is None else float(value) for value in (label.red, label.green, label.blue, label.alpha)
        )
        # nibabel gives a label without text no attribute at all.
        table[int(label.key)] = (str(getattr(label, "label", "") or "").strip(), rgba)
    return _whole(path, keys, "label keys"), table
