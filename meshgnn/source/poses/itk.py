"""Affine transforms of ITK (`.tfm`, `.txt`) and of elastix (`TransformParameters.txt`) as matrices.

Both write y = A (x - c) + c + t, which maps points of the fixed image to points of the moving one, in the physical
coordinates of the images (mm). The order of parameters is that of ITK's classes; a composite applies its last part
first; elastix applies the transform it started from first ("Compose").
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError

Floats = NDArray[np.float64]
_DEEPEST = 8  # files that refer to one another


def read_transform(path: Path) -> Floats:
    """[3, 3] (plane) or [4, 4] (space) homogeneous matrix of a transform file, fixed -> moving.

    Raises:
        InputError: it cannot be read, is no affine transform, or holds another count of numbers than its kind needs.
    """
    return _read(Path(path), 0)


def _read(path: Path, depth: int) -> Floats:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"{path}: cannot be read as a transform ({reason})") from None
    if depth > _DEEPEST:
        raise InputError(f"{path}: its initial transforms refer to one another in a circle")
    if re.search(r"^\s*\(Transform\s", text, re.MULTILINE):
        return _elastix(path, text, depth)
    if "Insight Transform File" in text or re.search(r"^Transform:", text, re.MULTILINE):
        return _itk(path, text)
    raise InputError(f"{path}: neither an ITK transform file nor elastix's TransformParameters; export it as text")


def _itk(path: Path, text: str) -> Floats:
    parts = []
    for name, rest in re.findall(r"^Transform:\s*(\S+)(.*?)(?=^Transform:|\Z)", text, re.MULTILINE | re.DOTALL):
        kind, _, sizes = name.partition("_")
        if kind == "CompositeTransform":
            continue
        found = re.search(r"(\d)_(\d)$", sizes)
        dimension = int(found.group(1)) if found else 0
        values, fixed = (_numbers(path, rest, key) for key in ("Parameters", "FixedParameters"))
        zyx = len(fixed) > 3 and fixed[3] != 0
        parts.append(_matrix(path, kind, dimension, values, fixed[:dimension], zyx))
    if not parts or len({part.shape for part in parts}) > 1:
        raise InputError(
            f"{path}: holds no transform, or some of planes and some of space; export one affine transform"
        )
    whole = parts[0]
    for part in parts[1:]:
        whole = whole @ part
    return whole


def _numbers(path: Path, text: str, key: str) -> list[float]:
    found = re.search(rf"^{key}:(.*)$", text, re.MULTILINE)
    try:
        return [float(word) for word in found.group(1).split()] if found else []
    except ValueError:
        raise InputError(f"{path}: {key} holds something that is no number; export the transform again") from None


def _elastix(path: Path, text: str, depth: int) -> Floats:
    fields = {key: rest.strip() for key, rest in re.findall(r"^\s*\((\w+)\s+(.*?)\)\s*$", text, re.MULTILINE)}

    def numbers(key: str) -> list[float]:
        try:
            return [float(word) for word in fields.get(key, "").split()]
        except ValueError:
            raise InputError(f"{path}: {key} holds something that is no number; export the transform again") from None

    dimension = int((numbers("FixedImageDimension") or [0])[0])
    kind = fields["Transform"].strip('"')
    zyx = fields.get("ComputeZYX", "").strip('"').lower() == "true"
    own = _matrix(path, kind, dimension, numbers("TransformParameters"), numbers("CenterOfRotationPoint"), zyx)
    first = fields.get("InitialTransformParameterFileName") or fields.get("InitialTransformParametersFileName") or ""
    first = first.strip('"')
    if first in ("", "NoInitialTransform"):
        return own
    if fields.get("HowToCombineTransforms", '"Compose"').strip('"') != "Compose":
        raise InputError(f"{path}: adds its transform to the one before (HowToCombineTransforms); only Compose is read")
    place = path.parent / Path(first).name if not (path.parent / first).is_file() else path.parent / first
    before = _read(place, depth + 1)
    if before.shape != own.shape:
        raise InputError(f"{path}: one of plane and space, its initial transform {place.name} is of the other")
    return own @ before


def _matrix(path: Path, kind: str, dimension: int, values: list[float], centre: list[float], zyx: bool) -> Floats:
    """Homogeneous matrix of one transform."""
    kind = kind.removesuffix("Transform").removesuffix("3D").removesuffix("2D").removesuffix("TransformBase")
    if dimension not in (2, 3):
        raise InputError(f"{path}: a transform in {dimension} dimensions; in the plane or in space it must be")
    plane = dimension == 2
    counts = {
        "Affine": dimension * (dimension + 1), "MatrixOffset": dimension * (dimension + 1),
        "Euler": 3 if plane else 6, "Rigid": 3 if plane else 12, "VersorRigid": 6, "Similarity": 4 if plane else 7,
        "Translation": dimension,
    }  # fmt: skip
    if kind not in counts:
        raise InputError(f"{path}: {kind} transforms are not read; export an affine or rigid one")
    if len(values) != counts[kind]:
        raise InputError(f"{path}: {kind} in {dimension}D has {counts[kind]} parameters, the file holds {len(values)}")
    numbers = np.array(values)
    linear, shift = np.eye(dimension), numbers[-dimension:]
    if kind in ("Affine", "MatrixOffset") or (kind == "Rigid" and not plane):
        linear = numbers[:-dimension].reshape(dimension, dimension)
    elif plane and kind in ("Euler", "Rigid"):
        linear = _turn(numbers[0])
    elif plane and kind == "Similarity":
        linear = numbers[0] * _turn(numbers[1])
    elif kind == "Euler":
        linear = _euler(numbers[:3], zyx)
    elif kind in ("VersorRigid", "Similarity"):
        linear = _versor(path, numbers[:3]) * (numbers[6] if kind == "Similarity" else 1.0)
        shift = numbers[3:6]
    about = np.array(centre) if centre else np.zeros(dimension)
    if len(about) != dimension:
        raise InputError(f"{path}: its centre of rotation has {len(about)} coordinates, not {dimension}")
    result = np.eye(dimension + 1)
    result[:-1, :-1], result[:-1, -1] = linear, shift + about - linear @ about
    return result


def _turn(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _euler(angles: Floats, zyx: bool) -> Floats:
    """Rotations about x, y, z (radians): Z X Y, or Z Y X."""
    turns = []
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one[i, i] = one[j, j] = c
        one[i, j], one[j, i] = -s, s
        turns.append(one)
    x, y, z = turns
    return z @ y @ x if zyx else z @ x @ y


def _versor(path: Path, part: Floats) -> Floats:
    """Rotation of a unit quaternion whose last, not negative component follows from the other three."""
    x, y, z = part
    rest = 1 - float(part @ part)
    if rest < -1e-6:
        raise InputError(f"{path}: its versor is longer than 1; export the transform again")
    w = np.sqrt(max(rest, 0.0))
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
