"""A virtual brain in memory, as the pipeline would meet it on disk: its sections, its truth, its nodes' true places."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.graph import MeshGraph, NodeLocations
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.sections import AXES, Section, SectionStack
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.brain import Brain
from meshgnn.source.virtual.fields import Floats
from meshgnn.source.virtual.truth import TrueSection, Truth, node_labels


@dataclass(frozen=True, eq=False)
class ImageInMemory:
    """A section image [rows, columns] with the windows of `SectionImage`."""

    image: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def window(self, row: int, column: int, height: int, width: int, fill: float = 0) -> npt.NDArray[Any]:
        out = np.full((height, width), fill, self.image.dtype)
        r0, r1 = max(row, 0), min(row + height, self.shape[0])
        c0, c1 = max(column, 0), min(column + width, self.shape[1])
        if r1 > r0 and c1 > c0:
            out[r0 - row : r1 - row, c0 - column : c1 - column] = self.image[r0:r1, c0:c1]
        return out

    def close(self) -> None:
        pass


def stack_of(brain: Brain) -> SectionStack:
    """The sections that would be written, none of them on disk: pictures come from `brain.picture`."""
    settings = brain.settings
    return SectionStack(
        sections=tuple(
            Section(
                path=Path(f"section_{one.index:04d}"),
                index=one.index,
                position_mm=one.noted_mm,
                pixel_um=settings.pixel_um,
                thickness_um=settings.thickness_um,
                shape=brain.shape,
                plane=settings.plane,
                usable=one.fate == "good",
            )
            for one in brain.cuts
            if one.fate != "missing"
        ),
        space=brain.space,
    )


def truth_of(brain: Brain) -> Truth:
    """The truth as `read_truth` would read it from the stack folder, for sections without artefacts."""
    surfaces: dict[str, dict[str, SurfaceMesh]] = {}
    for cortex in brain.hemispheres:
        hemi = cortex.hemisphere
        points = {"white": hemi.white_mm, "pial": hemi.pial_mm, "midthickness": (hemi.white_mm + hemi.pial_mm) / 2}
        surfaces[hemi.name] = {
            kind: SurfaceMesh(
                vertices_mm=array.astype(np.float32),
                faces=hemi.faces,
                hemisphere=hemi.name,  # type: ignore[arg-type]  # L or R
                space=brain.space,
            )
            for kind, array in points.items()
        }
    return Truth(
        space=brain.space,
        plane=brain.settings.plane,
        pixel_um=brain.settings.pixel_um,
        shape=brain.shape,
        surfaces=surfaces,
        labels=node_labels(brain),
        layer_shares={cortex.hemisphere.name: cortex.layer_shares().astype(np.float32) for cortex in brain.hemispheres},
        areas=isocortical_areas(),
        sections={
            one.index: TrueSection(
                index=one.index, position_mm=one.position_mm, fate=one.fate, warp=one.warp, blemishes=()
            )
            for one in brain.cuts
        },
        faults=(),
    )


def true_graph(truth: Truth, sections: Collection[int] | None = None, within_mm: float | None = None) -> MeshGraph:
    """The true midthickness with its labels, and where each node lies on the nearest of the sections.

    Args:
        truth: of a brain.
        sections: indices to choose from; the good ones if None.
        within_mm: a node is observed if a section lies this near; None = half the median spacing.
    """
    sides = sorted(truth.surfaces)
    joined = {
        kind: np.concatenate([truth.surfaces[side][kind].vertices_mm for side in sides]).astype(np.float64)
        for kind in ("white", "pial", "midthickness")
    }
    labels = np.concatenate([truth.labels[side] for side in sides])
    if sections is None:
        sections = [index for index, one in truth.sections.items() if one.fate == "good"]
    return MeshGraph(
        brain=truth.space,
        meshes=tuple(truth.surfaces[side]["midthickness"] for side in sides),
        cortex=labels >= 0,
        labels=labels,
        areas=truth.areas,
        surfaces={kind: joined[kind].astype(np.float32) for kind in ("pial", "white")},
        locations=_locate(truth, joined["midthickness"], joined["pial"] - joined["white"], sorted(sections), within_mm),
    )


def _locate(
    truth: Truth, points: Floats, across: Floats, sections: list[int], within_mm: float | None
) -> NodeLocations:
    axes = AXES[truth.plane]
    normals = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    position = points @ axes[2]
    order = np.array(sorted(sections, key=lambda index: truth.sections[index].position_mm))
    at = np.array([truth.sections[index].position_mm for index in order])
    near = order[np.searchsorted((at[1:] + at[:-1]) / 2, position)]
    within = float(np.median(np.diff(at))) / 2 if within_mm is None else within_mm
    flat = normals - (normals @ axes[2])[:, None] * axes[2]
    place, ahead, residual = np.zeros((len(points), 2)), np.zeros((len(points), 2)), np.zeros(len(points))
    for index in np.unique(near):
        here = near == index
        row, column, off = truth.to_section(int(index), points[here])
        row_on, column_on, _ = truth.to_section(int(index), points[here] + 0.1 * flat[here])
        place[here] = np.stack([row, column], axis=1)
        ahead[here] = np.stack([row_on - row, column_on - column], axis=1)
        residual[here] = np.abs(off)
    inside = ((place >= 0) & (place <= np.array(truth.shape) - 1)).all(1)
    observed = (residual <= within) & inside
    return NodeLocations(
        section=np.where(observed, near, -1).astype(np.int32),
        row_px=place[:, 0],
        column_px=place[:, 1],
        normal_angle_deg=np.degrees(np.arctan2(ahead[:, 0], ahead[:, 1])).astype(np.float32),
        obliqueness_deg=np.degrees(np.arcsin(np.clip(np.abs(normals @ axes[2]), 0, 1))).astype(np.float32),
        residual_mm=residual.astype(np.float32),
        observed=observed,
    )
