"""What the steps of a reconstruction hand to each other. N sections, V nodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import NodeLocations
from meshgnn.mesh.record import Hemisphere, SurfaceMesh, frozen
from meshgnn.source.bend import Bend


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TissueStack:
    """Sections as level images of the two boundaries, on one pixel grid, in cutting order.

    Args:
        outer: [N, H, W] float32, signed distance in mm to the tissue boundary, negative in tissue.
        white: [N, H, W] float32, signed distance in mm to the boundary of white matter, negative in it.
        pixel_mm: side of a pixel.
        origin_mm: [N, 2] position (row, column) in mm of the centre of pixel (0, 0), in the section image's own frame
            (its first pixel's centre is 0, 0).
        centre_mm: [N, 2] (row, column) in mm of the middle of the section image, in its own frame. Images of different
            size lie on one grid, the smaller ones in its corner; before alignment their middles lie over each other.
        position_mm: [N] along the cutting axis, ascending.
        thickness_mm: [N].
        index: [N] number of the section in its stack (the row order of the sections file sorted by position).
        image_px_mm: [N] pixel side of the section image on disk.
        weight: [N] in [0, 1], how far the section is to be trusted.
        falloff: [N] how much darker the glass is at one edge of the image than at the opposite one, as a share.
        fine: [N, S, S] float32, fine structure of every image, by which copies are recognised
            (`meshgnn.source.same_images`); S may be 0.
        bridges: [B, 4] strands that were cut: place of the section (0..N-1), row and column in mm of its image, mm^2.
        part_slab: [M] of a dense series, whose N sections are slabs of averaged ones (`reconstruct.slabs`): in which
            slab each section lies. `index` then names the section that stands for the slab, and the slab's image is
            its level image. Empty otherwise, and so is the rest.
        part_index, part_position_mm, part_px_mm: [M] of these sections.
        part_to_image: [M, 2, 3] (row, column) in mm of the slab's image -> mm of the section's image.
        odd: numbers of sections that do not fit their slab and were left out.
    """

    outer: NDArray[np.float32]
    white: NDArray[np.float32]
    pixel_mm: float
    origin_mm: NDArray[np.float64]
    centre_mm: NDArray[np.float64]
    position_mm: NDArray[np.float64]
    thickness_mm: NDArray[np.float64]
    index: NDArray[np.int64]
    image_px_mm: NDArray[np.float64]
    weight: NDArray[np.float64]
    falloff: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    fine: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    bridges: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    part_slab: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    part_index: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    part_position_mm: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    part_px_mm: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    part_to_image: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2, 3)))
    odd: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not np.size(self.falloff):
            object.__setattr__(self, "falloff", np.zeros(len(self.outer)))
        if not np.size(self.fine):
            object.__setattr__(self, "fine", np.zeros((len(self.outer), 0, 0)))
        for name in ("outer", "white", "fine"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.float32))
        count = len(self.outer)
        if len(self.fine) != count:
            raise InputError(f"{len(self.fine)} images' fine structure for {count} sections")
        if self.outer.ndim != 3 or self.white.shape != self.outer.shape:
            raise InputError(f"level images {self.outer.shape} and {self.white.shape} must be [N, H, W] alike")
        shapes = {"origin_mm": (count, 2), "centre_mm": (count, 2)}
        kinds: dict[str, Any] = {"index": np.int64}
        for name in (
            "origin_mm", "centre_mm", "position_mm", "thickness_mm", "index", "image_px_mm", "weight", "falloff",
        ):  # fmt: skip
            array = frozen(getattr(self, name), kinds.get(name, np.float64))
            if array.shape != shapes.get(name, (count,)):
                raise InputError(f"{name} has shape {array.shape} for {count} sections")
            object.__setattr__(self, name, array)
        object.__setattr__(self, "bridges", frozen(np.reshape(self.bridges, (-1, 4)), np.float64))
        for name in ("part_slab", "part_index", "part_position_mm", "part_px_mm", "part_to_image", "odd"):
            whole = name in ("part_slab", "part_index", "odd")
            object.__setattr__(self, name, frozen(getattr(self, name), np.int64 if whole else np.float64))
        if (np.diff(self.position_mm) <= 0).any():
            raise InputError("section positions must ascend, each different from the next")

    @property
    def dense(self) -> bool:
        """Whether its sections are slabs of averaged ones."""
        return len(self.part_slab) > 0

    def on_image(self, k: int) -> NDArray[np.float64]:
        """[2, 3] (row, column) in mm of level image k -> mm in the image of section `index[k]`."""
        if not self.dense:
            return np.eye(2, 3)
        place = np.flatnonzero((self.part_slab == k) & (self.part_index == self.index[k]))
        return np.asarray(self.part_to_image[int(place[0])], np.float64)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Alignment:
    """Where every section lies in the common frame.

    Args:
        to_section: [N, 2, 3] float64: (row, column) in mm of the common frame -> (row, column) in mm of the section
            image, `to_section[k] @ [row, column, 1]`.
        overlap: [N] float64, Dice overlap of each section's tissue with its neighbours' after alignment.
        quality: in [0, 1], of the whole stack: how much better neighbours fit together than sections further apart.
        frame_mm: [2, 2], lowest and highest (row, column) of the common frame where tissue lies; empty where the frame
            has the middle of the images at 0, 0.
        unsure_mm: [N] standard deviation of where each section lies (shift, and turn at 40 mm), given the neighbours
            and the glass: what images alone leave open. Zeros where poses were kept as given.
        glass_mm: standard deviations of places on the glass, as estimated: shift per direction, turn, stretch (the way
            at 40 mm). Empty where nothing was moved.
        reference: Dice overlap of the outlines with a reference volume's; 0 where there is none.
        knots: [N, 2, R, C] float32, what every section's tissue did on the glass beside that: coefficients of the
            `Bend` of the common frame that comes before `to_section`. Empty: no bends.
        knots_corner_mm, knots_spacing_mm: of the bends.
        bend_mm: standard deviation of a bend, as estimated.
    """

    to_section: NDArray[np.float64]
    overlap: NDArray[np.float64]
    quality: float
    frame_mm: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    unsure_mm: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    glass_mm: tuple[float, ...] = ()
    reference: float = 0.0
    knots: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2, 0, 0), np.float32))
    knots_corner_mm: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    knots_spacing_mm: float = 0.0
    bend_mm: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", frozen(self.knots, np.float32))
        object.__setattr__(self, "knots_corner_mm", frozen(self.knots_corner_mm, np.float64))
        object.__setattr__(self, "unsure_mm", frozen(self.unsure_mm, np.float64))
        object.__setattr__(self, "frame_mm", frozen(self.frame_mm, np.float64))
        object.__setattr__(self, "to_section", frozen(self.to_section, np.float64))
        object.__setattr__(self, "overlap", frozen(self.overlap, np.float64))
        if self.to_section.ndim != 3 or self.to_section.shape[1:] != (2, 3):
            raise InputError(f"section transforms must be [N, 2, 3], got {self.to_section.shape}")

    def map(self, section: int, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points [..., 2] (row, column) in mm of the common frame -> mm in the image of section number `section`."""
        matrix, bend = self.to_section[section], self.bend(section)
        flat = points_mm if bend is None else points_mm + bend.at(points_mm)
        return np.asarray(flat @ matrix[:, :2].T + matrix[:, 2])

    def back(self, section: int, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points [..., 2] (row, column) in mm in the image of section number `section` -> mm of the common frame."""
        matrix, bend = self.to_section[section], self.bend(section)
        flat = np.asarray((points_mm - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T, np.float64)
        return flat if bend is None else bend.back(flat)

    def bend(self, section: int) -> Bend | None:
        """Of section number `section`."""
        if not len(self.knots):
            return None
        return Bend(knots=self.knots[section], corner_mm=self.knots_corner_mm, spacing_mm=self.knots_spacing_mm)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SectionPlaces:
    """Where every section in use lies, those of slabs each by itself. S sections in cutting order.

    Args:
        index: [S] number of the section in its stack.
        position_mm: [S] along the cutting axis, ascending.
        image_px_mm: [S] pixel side of its image on disk.
        to_section: [S, 2, 3] (row, column) in mm of the common frame -> (row, column) in mm of its image.
        entry: [S] of the tissue stack and the alignment: that of the section, or of its slab.
        bends: of every entry, each a map of the common frame that comes before `to_section`; empty: none.
    """

    index: NDArray[np.int64]
    position_mm: NDArray[np.float64]
    image_px_mm: NDArray[np.float64]
    to_section: NDArray[np.float64]
    entry: NDArray[np.int64]
    bends: tuple[Bend, ...] = ()

    @staticmethod
    def of(tissue: TissueStack, alignment: Alignment) -> "SectionPlaces":
        bends = tuple(bend for k in range(len(alignment.knots)) if (bend := alignment.bend(k)) is not None)
        if not tissue.dense:
            return SectionPlaces(
                index=tissue.index, position_mm=tissue.position_mm, image_px_mm=tissue.image_px_mm,
                to_section=alignment.to_section, entry=np.arange(len(tissue.index)), bends=bends,
            )  # fmt: skip
        own, whole = tissue.part_to_image, alignment.to_section[tissue.part_slab]
        joined = own[:, :, :2] @ whole
        joined[:, :, 2] += own[:, :, 2]
        return SectionPlaces(
            index=tissue.part_index, position_mm=tissue.part_position_mm, image_px_mm=tissue.part_px_mm,
            to_section=joined, entry=tissue.part_slab, bends=bends,
        )  # fmt: skip

    def pixels(self, place: int, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points [..., 2] (row, column) in mm of the common frame -> pixels of the section's image."""
        matrix = self.to_section[place]
        if self.bends:
            points_mm = points_mm + self.bends[self.entry[place]].at(points_mm)
        return np.asarray((points_mm @ matrix[:, :2].T + matrix[:, 2]) / self.image_px_mm[place], np.float64)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Mounting:
    """How sections lie on the glass, by how they fit their neighbours.

    Args:
        fit: [N, 3, 4] mean difference in mm of the level images of section k and of k + 1, k + 2, k + 3, brought onto
            each other as they lie on the glass, one turned by 180 degrees, one mirrored, both; nan where unknown.
        way: [N] how the section lies on the glass, to most others: 0 alike, 1 turned by 180 degrees, 2 mirrored (its
            columns), 3 both.
        sure: [N] how much worse the sections fit in all (sum of the logarithms of differences) if it lay otherwise.
        like: [N] place of the most alike section of all, looked for where the neighbours are more alike than it is to
            them; -1 elsewhere.
        gain: [N] difference from the more alike neighbour over that from `like`; 1 elsewhere.
    """

    fit: NDArray[np.float64]
    way: NDArray[np.int64]
    sure: NDArray[np.float64]
    like: NDArray[np.int64]
    gain: NDArray[np.float64]

    def __post_init__(self) -> None:
        kinds = {"fit": np.float64, "way": np.int64, "sure": np.float64, "like": np.int64, "gain": np.float64}
        for name, kind in kinds.items():
            object.__setattr__(self, name, frozen(getattr(self, name), kind))
        if self.fit.shape[1:] != (3, 4) or len({len(getattr(self, name)) for name in kinds}) > 1:
            raise InputError(f"fits of sections must be [N, 3, 4], got {self.fit.shape} for {len(self.way)} ways")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Ribbon:
    """The cortical ribbon in a volume: level functions of its two surfaces.

    Args:
        pial, white: [X, Y, Z] float32, negative inside the surface, near it the signed distance in mm (or any function
            of the same zero set).
        affine: [4, 4] voxel -> mm (RAS); its voxels are cubes.
        space: name of the coordinate space.
        hemisphere: None while both are in one volume.
    """

    pial: NDArray[np.float32]
    white: NDArray[np.float32]
    affine: NDArray[np.float64]
    space: str
    hemisphere: Hemisphere | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pial", frozen(self.pial, np.float32))
        object.__setattr__(self, "white", frozen(self.white, np.float32))
        object.__setattr__(self, "affine", frozen(self.affine, np.float64))
        if self.pial.ndim != 3 or self.pial.shape != self.white.shape or self.affine.shape != (4, 4):
            raise InputError(f"a ribbon needs two [X, Y, Z] fields and a [4, 4] affine, got {self.pial.shape}")

    @property
    def voxel_mm(self) -> float:
        return float(np.linalg.norm(self.affine[:3, 0]))

    def to_mm(self, voxels: NDArray[np.floating]) -> NDArray[np.float64]:
        """[..., 3] voxel coordinates -> mm."""
        return voxels @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxels(self, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """[..., 3] mm -> voxel coordinates."""
        inverse = np.linalg.inv(self.affine)
        return points_mm @ inverse[:3, :3].T + inverse[:3, 3]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Midsurface:
    """The result for one hemisphere.

    Args:
        mesh: at u = 0.5.
        cortex: [V] bool, False where there is no grey ribbon (medial wall).
        normals: [V, 3] float32 unit vectors towards the pial surface, from the gradient of u.
        thickness_mm: [V] float32, length of the line of the depth field's gradient through the node (0 outside cortex).
        pial_mm, white_mm: [V, 3] float32, where that line ends (u = 0, u = 1); the node itself outside cortex.
        repairs: topology repairs: where ("white", "pial", "midsurface"), kind, handles, position_mm [3], volume_mm3.
        report: counts and measures.
    """

    mesh: SurfaceMesh
    cortex: NDArray[np.bool_]
    normals: NDArray[np.float32]
    thickness_mm: NDArray[np.float32]
    pial_mm: NDArray[np.float32]
    white_mm: NDArray[np.float32]
    repairs: tuple[Mapping[str, Any], ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = self.mesh.n_vertices
        shapes = {"cortex": (count,), "thickness_mm": (count,)}
        for name in ("cortex", "normals", "thickness_mm", "pial_mm", "white_mm"):
            array = frozen(getattr(self, name), bool if name == "cortex" else np.float32)
            if array.shape != shapes.get(name, (count, 3)):
                raise InputError(f"{name} has shape {array.shape} for {count} nodes")
            object.__setattr__(self, name, array)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstruction:
    """The result of a whole reconstruction.

    Args:
        midsurfaces: one per hemisphere.
        locations: where their nodes lie on the sections; empty for a volume.
        report: counts, measures, judgement if there is a truth, seconds per step.
        brain: name in the file names.
    """

    midsurfaces: tuple[Midsurface, ...]
    locations: tuple[NodeLocations, ...]
    report: Mapping[str, Any]
    brain: str
