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
from meshgnn.source.socket import LabelTable

_ITEM_BYTES = {"NIFTI_TYPE_UINT8": 1, "NIFTI_TYPE_INT32": 4, "NIFTI_TYPE_FLOAT32": 4, "NIFTI_TYPE_FLOAT64": 8}


class _Guard:
    """One pass over the XML that refuses what nibabel would trust."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.declared = 0
        self.encoding = ""
        self.text: list[str] | None = None
        self.arrays = 0

    def refuse(self, why: str) -> None:
        raise InputError(f"{self.path}: {why}")

    def entity(self, name: str, *_: object) -> None:
        self.refuse(f"declares the XML entity {name!r}, which a GIfTI file never needs; refused")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "DataArray":
            self.arrays += 1
            self.encoding = attributes.get("Encoding", "")
            if self.encoding.startswith("ExternalFile"):
                self.refuse("keeps its data in another file; write it with the data inside (Encoding=GZipBase64Binary)")
            try:
                shape = [int(attributes[f"Dim{k}"]) for k in range(int(attributes.get("Dimensionality", "1")))]
            except (KeyError, ValueError):
                self.refuse("has a data array without dimensions")
            if any(size < 0 or size > 10**9 for size in shape):
                self.refuse("declares an impossible array size")
            self.declared = int(np.prod(shape, dtype=object)) * _ITEM_BYTES.get(attributes.get("DataType", ""), 8)
        elif tag == "Data" and "Base64" in self.encoding:
            self.text = []

    def data(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def end(self, tag: str) -> None:
        if tag != "Data" or self.text is None:
            return
        try:
            raw = base64.b64decode("".join(self.text), validate=False)
            if self.encoding.startswith("GZip"):
                decoder = zlib.decompressobj()
                raw = decoder.decompress(raw, self.declared + 1)
                if not decoder.eof and len(raw) <= self.declared:
                    self.refuse("ends in the middle of a data array (truncated?); copy or write it again")
        except (binascii.Error, zlib.error) as error:
            self.refuse(f"holds damaged data ({error}); copy or write it again")
        self.text = None
        if len(raw) != self.declared:
            self.refuse(
                f"declares {self.declared} bytes of data but holds {'more' if len(raw) > self.declared else len(raw)}"
            )


def read_gifti(path: Path) -> nib.GiftiImage:
    """A GIfTI image.

    Raises:
        InputError: missing, not GIfTI, truncated, with XML entities, with data in other files, or with more data than
            it declares.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not content.strip():
        raise InputError(f"{path}: the file is empty")
    guard = _Guard(path)
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
    try:
        image = nib.GiftiImage.from_bytes(content)
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise InputError(f"{path}: not a readable GIfTI file ({type(error).__name__}: {error})") from None
    if not image.darrays:
        raise InputError(f"{path}: holds no data array")
    return image


def read_surface(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices [V, 3] in mm and faces [F, 3] of a `.surf.gii`."""
    image = read_gifti(path)
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    triangles = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if not points or not triangles:
        raise InputError(f"{path}: not a surface (needs one point set and one triangle array)")
    return np.asarray(points[0].data, np.float32), np.asarray(triangles[0].data, np.int64).astype(np.int32)


def read_values(path: Path) -> tuple[NDArray[np.float32], list[str]]:
    """Values [V, C] of a `.shape.gii` or `.func.gii`, and the name each array carries ("" if none)."""
    image = read_gifti(path)
    columns = [np.asarray(array.data, np.float32) for array in image.darrays]
    columns = [column.reshape(len(column), -1) for column in columns]
    if len({len(column) for column in columns}) != 1:
        raise InputError(f"{path}: its arrays have different lengths")
    names = [str(array.meta.get("Name", "")) for array in image.darrays for _ in range(1)]
    if any(column.shape[1] != 1 for column in columns):
        names = [""] * sum(column.shape[1] for column in columns)
    return np.concatenate(columns, axis=1), names


def read_labels(path: Path) -> tuple[NDArray[np.int32], LabelTable]:
    """Keys [V] of a `.label.gii` and its table: key -> (name, RGBA)."""
    image = read_gifti(path)
    keys = np.asarray(image.darrays[0].data)
    if keys.ndim != 1:
        raise InputError(f"{path}: label array has shape {keys.shape}, needs one key per vertex")
    if not np.isfinite(keys).all() or (keys != np.round(keys)).any():
        raise InputError(f"{path}: label keys must be whole numbers")
    if np.abs(keys.astype(np.float64)).max(initial=0) > np.iinfo(np.int32).max:
        raise InputError(f"{path}: a label key is larger than a 32-bit number")
    table = {}
    for label in image.labeltable.labels:
        rgba = tuple(
            1.0 if value is None else float(value) for value in (label.red, label.green, label.blue, label.alpha)
        )
        table[int(label.key)] = (str(label.label or "").strip(), rgba)
    return keys.astype(np.int32), table
