"""A registration that exists: the stack where it puts the sections, and from there the alignment's start."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.bend import Bend
from meshgnn.source.poses import Placed, Registration, place, read_registration, table_affines
from meshgnn.source.sections import AXES, TABLE, Section, SectionStack, read_stack
from reconstruct.records import Alignment, TissueStack
from reconstruct.sources import SectionFolder

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """Where sections lie by a registration, as `AlignSections` takes it.

    Args:
        to_section: [N, 2, 3] (row, column) in mm of the common frame -> (row, column) in mm of the image.
        frame_mm: [2, 2] lowest and highest (row, column) of tissue in the common frame.
        keep: take them as they are; else they are where the alignment starts.
        bends: of those that have markers, by their place among the N, all with the same knots.
    """

    to_section: Floats
    frame_mm: Floats
    keep: bool
    bends: dict[int, Bend] = field(default_factory=dict)

    def bent(self, alignment: Alignment) -> Alignment:
        """The alignment with these bends, those of other sections 0."""
        if not self.bends:
            return alignment
        one = next(iter(self.bends.values()))
        knots = np.zeros((len(self.to_section), *one.knots.shape), np.float32)
        for k, bend in self.bends.items():
            knots[k] = bend.knots
        return replace(alignment, knots=knots, knots_corner_mm=one.corner_mm, knots_spacing_mm=one.spacing_mm)


def read_placed(source: SectionFolder.Config) -> tuple[SectionStack, Placed | None]:
    """The stack of a source, and where a registration put it: None if there is none, or it is to be ignored.

    Raises:
        InputError: see `read_stack`, `read_registration` and `place`.
    """
    if source.path is None:
        raise InputError("no sections given; add --set source.path=DIR")
    stack = read_stack(source.path, space=source.space, stain=source.stain)
    if source.poses == "ignore":
        return stack, None
    if source.registration is None:
        registration, where = Registration(matrices=table_affines(stack)), f"{source.path / TABLE}, column affine"
        if not registration.matrices:
            return stack, None
    else:
        registration = read_registration(
            source.registration, stack, voxel_um=source.voxel_um, section_is=source.section_is
        )
        where = str(source.registration)
        if registration.warps and source.poses != "keep":
            count = len(registration.warps)
            told = f"{where}: markers of {count} sections are used by --set source.poses=keep alone"
            registration = replace(registration, warps={}, remarks=(*registration.remarks, told))
    placed = place(stack, registration, where)
    return placed.stack, placed


def start_of(stack: SectionStack, section: Section) -> Floats:
    """[2, 3] (row, column) in mm of the common frame -> mm of the section's image, as the stack says it lies."""
    column, row, _ = AXES[stack.plane]
    frame = np.stack([row, column])
    pose, step = section.to_space, section.pixel_um / 1000
    back = np.linalg.inv(frame @ np.column_stack([pose[:, 1], pose[:, 0]]) / step)
    return np.column_stack([back, -back @ (frame @ pose[:, 2])])


def given_start(stack: SectionStack, tissue: TissueStack, *, keep: bool) -> Given:
    """The placed stack's poses for the sections that hold tissue; of slabs, those in which they were averaged."""
    matrices, low, high = [], np.full(2, np.inf), np.full(2, -np.inf)
    for k, index in enumerate(tissue.index):
        matrix: Floats = start_of(stack, stack.at(int(index)))
        if tissue.dense:
            inside = tissue.on_image(k)
            own = np.linalg.inv(inside[:, :2])
            matrix = np.column_stack([own @ matrix[:, :2], own @ (matrix[:, 2] - inside[:, 2])])
        matrices.append(matrix)
        places = np.argwhere(tissue.outer[k] < 0)
        if len(places):
            ends = np.array([places.min(0), places.max(0)]) * tissue.pixel_mm + tissue.origin_mm[k]
            corners = np.array([[a, b] for a in ends[:, 0] for b in ends[:, 1]]) - matrix[:, 2]
            corners = np.asarray(np.linalg.solve(matrix[:, :2], corners.T).T)
            low, high = np.minimum(low, corners.min(0)), np.maximum(high, corners.max(0))
    known = [] if tissue.dense else [stack.at(int(index)).bend for index in tissue.index]
    bends = {k: bend for k, bend in enumerate(known) if bend is not None}
    return Given(to_section=np.stack(matrices), frame_mm=np.stack([low, high]), keep=keep, bends=bends)
