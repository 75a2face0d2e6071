"""Sections where a registration put them: one matrix each, from pixels to mm, checked before anything is built on it.

Matrices [4, 4] map (column, row, 0, 1) of pixel centres of the image as it is stored to mm, RAS. Read from

    sections.csv, column `affine`   12 or 16 numbers parted by blanks, the rows of that matrix
    a JSON, XML or .waln file       QuickNII, VisuAlign, DeepSlice, WebAlign (`poses.quint`, `poses.markers`)
    a folder                        one ITK or elastix transform per section, named like its image (`poses.itk`)

Transforms in the plane lie in the plane of the cut: x along the columns, y down the rows, in mm from the first pixel's
centre, the section's position along the axis. Those in space take the image for a volume of one slice with its first
pixel's centre at 0, in ITK's axes (x to the left, y to the back).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.poses.itk import read_transform
from meshgnn.source.poses.markers import Warp, bends_of
from meshgnn.source.poses.quint import pixel_matrix, read_anchorings, stem
from meshgnn.source.sections import AXES, NEEDED, TABLE, Section, SectionStack
from meshgnn.source.text_table import read_text_table

Floats = NDArray[np.float64]
_TILT_DEG = 12.0  # a section cut at a greater angle to its plane is refused
_SCALE = (0.5, 2.0)  # mm of the registration per mm of the image
_STRETCH = 2.0  # of one direction against the other


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A stack with its sections where a registration put them, reduced to parallel planes.

    Args:
        stack: `position_mm`, `to_space` and `bend` of the usable sections are those of the registration.
        index: of the sections that it placed; the others lie between their neighbours.
        tilt_deg: largest angle between a section and the plane of the cut, before it was reduced.
        residual_mm: how far, at most, a corner of an image lay in front of or behind the plane it was reduced to.
        remarks: what a report should say.
    """

    stack: SectionStack
    index: tuple[int, ...]
    tilt_deg: float
    residual_mm: float
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """What a registration says of the sections of a stack.

    Args:
        matrices: [4, 4] by section number.
        warps: markers on top of that, by section number.
        remarks: what a report should say.
    """

    matrices: dict[int, Floats]
    warps: dict[int, Warp] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def parse_affine(text: str, where: str) -> Floats:
    """[4, 4] of 12 or 16 numbers. Raises InputError that begins with `where`."""
    try:
        values = np.array([float(word) for word in text.replace(";", " ").replace(",", " ").split()])
    except ValueError:
        raise InputError(f"{where}: affine is {text!r}; write 12 or 16 numbers parted by blanks") from None
    if values.size not in (12, 16):
        raise InputError(f"{where}: affine holds {values.size} numbers; write 12 or 16, the rows of a 4 x 4 matrix")
    if not np.isfinite(values).all():
        raise InputError(f"{where}: affine holds numbers that are not finite")
    result = np.eye(4)
    result[: values.size // 4] = values.reshape(-1, 4)
    if not np.allclose(result[3], [0, 0, 0, 1]):
        raise InputError(f"{where}: the last row of affine is {result[3]}, not 0 0 0 1")
    return result


def table_affines(stack: SectionStack) -> dict[int, Floats]:
    """Matrices [4, 4] by section number, of the column `affine` of the stack's table; empty where there is none.

    Raises:
        InputError: a cell that does not hold 12 or 16 finite numbers.
    """
    table = (stack.folder or Path()) / TABLE
    _, rows = read_text_table(table, NEEDED)
    return {
        int(row["index"]): parse_affine(row["affine"], f"{table}, line {line}")
        for line, row in rows
        if row.get("affine")
    }


def read_registration(
    path: Path, stack: SectionStack, *, voxel_um: float = 0.0, section_is: Literal["moving", "fixed"] = "moving"
) -> Registration:
    """What the files of other programs say of the sections.

    Args:
        path: a JSON, XML or .waln file, or a folder of transforms.
        stack: whose sections the file names.
        voxel_um: side of the atlas' voxels, where the file does not tell it.
        section_is: of a transform of ITK or elastix, which of the two images the section was.

    Raises:
        InputError: not found, damaged, or of no section of the stack.
    """
    if path.is_dir():
        return Registration(matrices=_transforms(path, stack, section_is))
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; name a registration of QuickNII or a folder of transforms")
    pictures, told_um, without = read_anchorings(path)
    side = voxel_um or told_um
    if not side:
        raise InputError(f"{path}: does not tell the size of the atlas' voxels; add --set source.voxel_um=UM")
    by_name = {stem(section.path.name): section for section in stack}
    by_number = {section.index: section for section in stack}
    found, warps, unknown = {}, {}, []
    for one in pictures:
        section = by_name.get(stem(one.file)) or by_number.get(one.number)
        if section is None:
            unknown.append(one.file)
            continue
        if section.index in found:
            raise InputError(f"{path}: two anchorings for section {section.index} ({section.path.name}); keep one")
        found[section.index] = pixel_matrix(path, one, section, side / 1000)
        if len(one.markers):
            warp = Warp.of(one.markers, one.width, one.height)
            warps[section.index] = warp.mirrored() if section.mirrored else warp
    if not found:
        raise InputError(
            f"{path}: none of its {len(unknown)} files ({unknown[0]}, ...) is in {stack.folder}; rename them"
        )
    remarks = []
    if unknown:
        remarks.append(f"{path.name}: {len(unknown)} of {len(pictures)} files are not in the stack ({unknown[0]}, ...)")
    if without:
        remarks.append(f"{path.name}: {without} slices without an anchoring")
    return Registration(matrices=found, warps=warps, remarks=tuple(remarks))


def _transforms(folder: Path, stack: SectionStack, section_is: str) -> dict[int, Floats]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".tfm", ".txt") and path.is_file())
    found = {}
    for section in stack:
        name = stem(section.path.name)
        own = [path for path in files if name in (path.stem, *path.name.split("."), *path.stem.split("_Transform"))]
        if len(own) > 1:
            raise InputError(f"{folder}: {own[0].name} and {own[1].name} are both of section {section.index}; keep one")
        if own:
            found[section.index] = _pixels_to_mm(own[0], section, section_is)
    if not found:
        raise InputError(
            f"{folder}: none of its {len(files)} transforms (.tfm, .txt) is named like an image of {stack.folder}"
        )
    return found


def _pixels_to_mm(path: Path, section: Section, section_is: str) -> Floats:
    matrix: Floats = read_transform(path)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise InputError(f"{path}: its matrix is singular or not finite; register section {section.index} again")
    if section_is == "moving":
        matrix = np.linalg.inv(matrix).astype(np.float64)
    step = section.pixel_um / 1000
    if len(matrix) == 4:
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix @ np.diag([step, step, step, 1.0])
    column, row, along = AXES[section.plane]
    result = np.eye(4)
    frame = np.stack([column, row], axis=1)
    result[:3, :2], result[:3, 2] = frame @ matrix[:2, :2] * step, along * step
    result[:3, 3] = frame @ matrix[:2, 2] + along * section.position_mm
    return result


def place(stack: SectionStack, registration: Registration, where: str) -> Placed:
    """The stack with its sections where a registration puts them; usable ones without a matrix lie between neighbours.

    Raises:
        InputError: a matrix that is singular, not finite, mirrors its section, changes its size more than twofold, or
            tilts it out of the plane of the cut; most usable sections without one; positions that do not increase.
    """
    wrong: dict[str, list[int]] = {}
    matrices, poses = registration.matrices, dict[int, Floats]()
    tilts, residuals = [0.0], [0.0]
    for section in stack:
        if section.index not in matrices:
            continue
        pose = matrices[section.index][:3, [0, 1, 3]]
        if section.mirrored:  # the registration saw the image as it is stored
            pose = np.column_stack([-pose[:, 0], pose[:, 1], pose[:, 2] + pose[:, 0] * (section.shape[1] - 1)])
        fault, tilt, residual = _fault(section, pose)
        if fault:
            wrong.setdefault(fault, []).append(section.index)
            continue
        poses[section.index] = pose
        tilts.append(tilt)
        residuals.append(residual)
    for fault, numbers in wrong.items():
        raise InputError(f"{where}: {fault} ({len(numbers)} of {len(matrices)} sections: {_few(numbers)})")
    usable = [section.index for section in stack if section.usable]
    lost = [index for index in usable if index not in poses]
    if 2 * len(lost) > len(usable) or len(poses) < 2:
        raise InputError(
            f"{where}: {len(lost)} of {len(usable)} usable sections have no place in it ({_few(lost)}); register them, "
            "or mark them as not usable"
        )
    placed = _reduced(stack, poses)
    remarks = list(registration.remarks)
    by_number = {section.index: section for section in placed}
    bends, left_out = bends_of(by_number, registration.warps)
    if bends:
        bent = tuple(replace(section, bend=bends.get(section.index)) for section in placed)
        placed = replace(placed, sections=bent)
    for index, why in left_out.items():
        remarks.append(f"{where}: section {index} has {why}; its linear part is used alone")
    if lost:
        remarks.append(f"{where}: {len(lost)} sections without a place lie between their neighbours ({_few(lost)})")
    if max(residuals) > 0.05:
        remarks.append(
            f"{where}: sections are tilted by up to {max(tilts):.1f} degrees; laid flat, their corners move by up to "
            f"{max(residuals):.2f} mm"
        )
    return Placed(
        stack=placed, index=tuple(sorted(poses)), tilt_deg=max(tilts), residual_mm=max(residuals),
        remarks=tuple(remarks),
    )  # fmt: skip


def _fault(section: Section, pose: Floats) -> tuple[str, float, float]:
    """What is wrong with a pose [3, 3] (empty if nothing), its tilt in degrees, its residual in mm."""
    column, row, along = AXES[section.plane]
    across, down = pose[:, 0], pose[:, 1]
    area = float(np.linalg.norm(np.cross(across, down)))
    step = section.pixel_um / 1000
    if not np.isfinite(pose).all():
        return "matrices that are not finite", 0, 0
    if area < 1e-9 * max(float(across @ across), float(down @ down), 1e-30):
        return "singular matrices; register these sections again", 0, 0
    flat = np.array([[column @ across, column @ down], [row @ across, row @ down]])
    upright = float(np.linalg.det(flat))
    tilt = float(np.degrees(np.arccos(min(1.0, abs(upright) / area))))
    if tilt > _TILT_DEG:
        return f"sections tilted by more than {_TILT_DEG:g} degrees out of the {section.plane} plane", tilt, 0
    if upright < 0:
        return "matrices that mirror the section; mark it as mirrored in sections.csv, or register it again", tilt, 0
    sizes = np.linalg.svd(flat, compute_uv=False) / step
    if not _SCALE[0] < np.sqrt(sizes[0] * sizes[1]) < _SCALE[1] or sizes[0] > _STRETCH * sizes[1]:
        return (
            "matrices that change the size more than twofold; check pixel_um, and that the registration is in mm",
            0,
            0,
        )
    reach = abs(along @ across) * section.shape[1] / 2 + abs(along @ down) * section.shape[0] / 2
    return "", tilt, float(reach)


def _reduced(stack: SectionStack, poses: dict[int, Floats]) -> SectionStack:
    """Every section in the plane through its middle; those without a pose as lines between the nearest two have it."""
    known = [section for section in stack if section.index in poses]
    old = np.array([section.position_mm for section in known])
    flat = []
    for section in known:
        _, _, along = AXES[section.plane]
        pose = poses[section.index]
        middle = pose @ [(section.shape[1] - 1) / 2, (section.shape[0] - 1) / 2, 1.0]
        level = np.outer(along, along @ pose)
        kept = pose - level
        # Steps in mm per mm of the image, and the image's middle: what may be compared between sections.
        step = section.pixel_um / 1000
        flat.append(np.concatenate([(kept[:, :2] / step).ravel(), middle]))
    values = np.array(flat)
    placed = []
    for section in stack:
        own = np.array([_along(section.position_mm, old, values[:, k]) for k in range(values.shape[1])])
        if section.index in poses:
            own = values[next(k for k, one in enumerate(known) if one.index == section.index)]
        step = section.pixel_um / 1000
        linear, middle = own[:6].reshape(3, 2) * step, own[6:]
        half = np.array([(section.shape[1] - 1) / 2, (section.shape[0] - 1) / 2])
        position = float(AXES[section.plane][2] @ middle)
        to_space = np.column_stack([linear, middle - linear @ half])
        placed.append(replace(section, to_space=to_space, position_mm=position))
    return replace(stack, sections=tuple(placed))


def _along(x: float, known: Floats, values: Floats) -> float:
    """Linear interpolation, and extrapolation beyond the ends."""
    k = int(np.clip(np.searchsorted(known, x), 1, len(known) - 1))
    share = (x - known[k - 1]) / (known[k] - known[k - 1])
    return float(values[k - 1] + share * (values[k] - values[k - 1]))


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
